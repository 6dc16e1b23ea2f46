using System.Globalization;

namespace Normalization.Core.Kernels;

/// <summary>The second-level cache of a core: what a reduction set must fit to be read once.</summary>
internal static class SecondLevelCache
{
    private const nint AssumedBytes = 1 << 20;

    private static readonly nint? Told = Read("/sys/devices/system/cpu/cpu0/cache");

    /// <summary>Its size in bytes: the machine's own where the system tells it (Linux), else 1 MB.</summary>
    public static nint Bytes => Told ?? AssumedBytes;

    /// <summary>The size and where it comes from, in words.</summary>
    public static string Description => string.Create(CultureInfo.InvariantCulture, $"{Bytes >> 10} KB{(Told is null ? ", assumed" : "")}");

    /// <summary>The bytes of the level-2 cache among a processor's caches, each a folder with files level and size; null where there is none.</summary>
    /// <param name="folder">The folder of the caches' folders.</param>
    internal static nint? Read(string folder)
    {
        try
        {
            foreach (string cache in Directory.EnumerateDirectories(folder, "index*"))
            {
                if (File.ReadAllText(Path.Combine(cache, "level")).Trim() == "2")
                {
                    return Parse(File.ReadAllText(Path.Combine(cache, "size")).Trim());
                }
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Not every system tells.
        }

        return null;
    }

    // "1024K", or with M, or in bytes.
    private static nint? Parse(string size)
    {
        int shift = size.EndsWith('K') ? 10 : size.EndsWith('M') ? 20 : 0;
        return nint.TryParse(size.TrimEnd('K', 'M'), NumberStyles.None, CultureInfo.InvariantCulture, out nint number) && number > 0 ? number << shift : null;
    }
}
