namespace Normalization.Core;

/// <summary>How many threads the kernels of this process may use.</summary>
/// <remarks>Results are bit for bit the same for every value: work is cut by shape alone and combined in a fixed order.</remarks>
public static class KernelThreads
{
    private static int _count = Environment.ProcessorCount;

    /// <summary>The number of threads, at least 1; the processor count to begin with. More than there are processors is legal.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Less than 1 or more than 256.</exception>
    public static int Count
    {
        get => Volatile.Read(ref _count);
        set
        {
            if (value is < 1 or > 256)
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, $"The thread count must be 1 to 256; got {value}.");
            }

            Volatile.Write(ref _count, value);
        }
    }
}
