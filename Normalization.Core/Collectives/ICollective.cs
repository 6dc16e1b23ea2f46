namespace Normalization.Core.Collectives;

/// <summary>What ranks, the processes or threads that share one batch, need to hear of each other: two collectives over doubles.</summary>
/// <remarks>
/// <para>Every rank calls the same collectives in the same order with spans of the same length; a call returns when its result is
/// there. An instance belongs to one rank and to one thread at a time. A warm call allocates nothing.</para>
/// <para>A rank that does not come makes the others throw <see cref="CollectiveException"/> (or ends them, see
/// <see cref="MpiCollective"/>) at the deadline of the implementation: no call waits forever unless it was told to.</para>
/// </remarks>
public interface ICollective
{
    /// <summary>This rank's number, 0 to <see cref="Size"/> - 1.</summary>
    int Rank { get; }

    /// <summary>How many ranks there are, at least 1.</summary>
    int Size { get; }

    /// <summary>Replaces every value by its sum over all ranks.</summary>
    /// <param name="values">This rank's terms; receives the sums. As long on every rank.</param>
    /// <exception cref="CollectiveException">A rank did not come, or came with another call.</exception>
    /// <exception cref="InvalidOperationException">The network failed.</exception>
    void AllReduceSum(Span<double> values);

    /// <summary>Gives every rank the values of all of them.</summary>
    /// <param name="values">This rank's values, as many on every rank.</param>
    /// <param name="gathered">Receives the values of rank 0, then of rank 1, and so on; <see cref="Size"/> times as long.</param>
    /// <exception cref="CollectiveException">A rank did not come, or came with another call.</exception>
    /// <exception cref="ArgumentException">The second span is not <see cref="Size"/> times as long as the first.</exception>
    void AllGather(ReadOnlySpan<double> values, Span<double> gathered);
}
