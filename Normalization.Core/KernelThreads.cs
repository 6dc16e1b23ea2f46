namespace Normalization.Core;

/// <summary>How many threads the kernels of this process may use.</summary>
/// <remarks>Results are bit for bit the same for every value: what is summed is cut by shape alone and combined in a fixed order.</remarks>
public static class KernelThreads
{
    /// <summary>The largest count that can be asked for.</summary>
    public const int Maximum = 256;

    private static int _count = Default;

    /// <summary>The count to begin with: the processors, at most <see cref="Maximum"/>.</summary>
    public static int Default => Math.Min(Environment.ProcessorCount, Maximum);

    /// <summary>The number of threads, at least 1; the processor count to begin with. More than there are processors is legal.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Less than 1 or more than 256.</exception>
    public static int Count
    {
        get => Volatile.Read(ref _count);
        set
        {
            if (value is < 1 or > Maximum)
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, $"The thread count must be 1 to {Maximum}; got {value}.");
            }

            Volatile.Write(ref _count, value);
        }
    }
}
