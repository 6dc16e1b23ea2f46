namespace Normalization.Bench.Speed;

/// <summary>A contestant's call on one cell, ready to be timed. Used by one thread at a time.</summary>
internal interface ITimedCall : IDisposable
{
    /// <summary>How the contestant makes the call, such as "fresh output" or "reused output"; empty where there is but one way.</summary>
    string Variant { get; }

    /// <summary>Whether the call is made for a while, unmeasured, each time before it is timed.</summary>
    bool WarmsItself { get; }

    /// <summary>Makes the call a number of times.</summary>
    /// <param name="calls">At least 1.</param>
    /// <returns>Seconds for all of them, by a monotonic clock read around the calls alone.</returns>
    double Seconds(int calls);

    /// <summary>Copies what the last call computed: the output, or the input gradient of a backward call.</summary>
    /// <param name="destination">N*C*S values in the cell's memory order.</param>
    void CopyResult(Span<float> destination);

    /// <summary>Copies the parameter gradients of one backward call (not the sum over calls).</summary>
    /// <param name="weight">As long as <see cref="CellData.Weight"/>, in its order.</param>
    /// <param name="bias">As long as <see cref="CellData.Bias"/>, in its order.</param>
    /// <exception cref="InvalidOperationException">The cell is not a backward pass.</exception>
    void CopyParameterGradients(Span<float> weight, Span<float> bias);
}
