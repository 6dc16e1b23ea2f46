namespace Normalization.Bench.Speed;

/// <summary>A library that people use today, to be timed on the cells it has.</summary>
internal interface IPeer : IDisposable
{
    /// <summary>pytorch, onednn or tensorprimitives.</summary>
    string Id { get; }

    /// <summary>The name and version for people, such as "PyTorch 1.13.1".</summary>
    string Version { get; }

    /// <summary>Null where the peer has the cell; else why not, in a few words.</summary>
    string? Lacks(SpeedCell cell);

    /// <summary>Readies the calls on a cell that the peer does not lack; they are independent of each other and of later cells.</summary>
    /// <param name="data">The values.</param>
    /// <param name="threads">How many threads it may use, at least 1.</param>
    /// <returns>One call or, where there are several ways a user would write it, a few; the fastest counts.</returns>
    /// <exception cref="NotSupportedException">The peer lacks the cell.</exception>
    /// <exception cref="InvalidOperationException">The peer failed; the message carries what it said.</exception>
    IReadOnlyList<ITimedCall> Prepare(CellData data, int threads);
}
