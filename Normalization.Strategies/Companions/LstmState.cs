namespace Normalization.Strategies.Companions;

/// <summary>What an LSTM carries from one step to the next: h and c, and how many steps were taken.</summary>
/// <typeparam name="T">float or double.</typeparam>
public sealed class LstmState<T>
    where T : unmanaged
{
    /// <summary>A state of zeros before the first step.</summary>
    /// <param name="samples">N.</param>
    /// <param name="hidden">H, the cell's hidden units.</param>
    public LstmState(int samples, int hidden)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(samples);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        (Samples, HiddenUnits) = (samples, hidden);
        Hidden = new T[checked(samples * hidden)];
        Cell = new T[Hidden.Length];
    }

    /// <summary>N.</summary>
    public int Samples { get; }

    /// <summary>H.</summary>
    public int HiddenUnits { get; }

    /// <summary>h, (N, H) row-major.</summary>
    public T[] Hidden { get; }

    /// <summary>c, (N, H) row-major.</summary>
    public T[] Cell { get; }

    /// <summary>The time step that comes next, from 0: batch normalization takes that step's statistics.</summary>
    public int Step { get; set; }
}
