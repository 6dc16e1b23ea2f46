namespace Normalization.Core;

/// <summary>Writing files so that a reader finds the old one or the new one, never a part.</summary>
internal static class AtomicFile
{
    /// <summary>Writes to a temporary name in the same folder, flushes to the disk, and renames over <paramref name="path"/>.</summary>
    /// <param name="path">The file to make or to replace; its folder must exist.</param>
    /// <param name="write">Writes the whole content. What it throws passes through, and the old file stays as it was.</param>
    /// <exception cref="IOException">The folder is missing or full, or the path is a folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder is not writable.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string full = Path.GetFullPath(path);
        if (!Directory.Exists(Path.GetDirectoryName(full)))
        {
            throw new DirectoryNotFoundException($"There is no folder '{Path.GetDirectoryName(full)}' to write '{path}' into; make it first.");
        }

        string temporary = $"{full}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }
}
