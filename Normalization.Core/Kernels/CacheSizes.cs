using System.Globalization;

namespace Normalization.Core.Kernels;

/// <summary>The caches of this machine, as the system tells them (Linux).</summary>
internal static class CacheSizes
{
    private const string Folder = "/sys/devices/system/cpu/cpu0/cache";
    private const nint AssumedSecondLevel = 1 << 20;

    private static readonly nint? ToldSecondLevel = Read(Folder, 2);

    /// <summary>Bytes of a core's second-level cache, what a reduction set must fit to be read once: 1 MB where the system does not tell.</summary>
    public static nint SecondLevel => ToldSecondLevel ?? AssumedSecondLevel;

    /// <summary>Bytes of the third-level cache that the first core shares; null where the system does not tell, or there is none.</summary>
    public static nint? ThirdLevel { get; } = Read(Folder, 3);

    /// <summary>The second level's size and where it comes from, in words.</summary>
    public static string SecondLevelDescription => string.Create(CultureInfo.InvariantCulture, $"{SecondLevel >> 10} KB{(ToldSecondLevel is null ? ", assumed" : "")}");

    /// <summary>The bytes of the cache of a level among a processor's caches, each a folder with files level and size; null where there is none.</summary>
    /// <param name="folder">The folder of the caches' folders.</param>
    /// <param name="level">1, 2 or 3; of level 1 the first, for data or for instructions.</param>
    internal static nint? Read(string folder, int level)
    {
        try
        {
            foreach (string cache in Directory.EnumerateDirectories(folder, "index*"))
            {
                if (File.ReadAllText(Path.Combine(cache, "level")).Trim() == level.ToString(CultureInfo.InvariantCulture))
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
