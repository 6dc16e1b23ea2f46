using System.Diagnostics;
using Normalization.Core.Collectives;

namespace Normalization.Bench.Sync;

/// <summary>What one kind of collective cost on this rank.</summary>
/// <param name="Name">What it does, and for what.</param>
/// <param name="BytesSent">What a call gives of this rank.</param>
/// <param name="BytesReceived">What a call brings.</param>
internal sealed record CollectiveCost(string Name, long BytesSent, long BytesReceived)
{
    /// <summary>Of each call, the wait for slower ranks included.</summary>
    public List<double> Seconds { get; } = [];
}

/// <summary>A collective that keeps count of its calls, their bytes and their times.</summary>
internal sealed class MeasuredCollective(ICollective inner, Func<string, int, string> nameOf) : ICollective
{
    private readonly List<CollectiveCost> _costs = [];

    public int Rank => inner.Rank;

    public int Size => inner.Size;

    /// <summary>In the order of their first calls.</summary>
    public IReadOnlyList<CollectiveCost> Costs => _costs;

    public void AllReduceSum(Span<double> values)
    {
        long start = Stopwatch.GetTimestamp();
        inner.AllReduceSum(values);
        Note("all-reduce", values.Length, values.Length, start);
    }

    public void AllGather(ReadOnlySpan<double> values, Span<double> gathered)
    {
        long start = Stopwatch.GetTimestamp();
        inner.AllGather(values, gathered);
        Note("all-gather", values.Length, gathered.Length, start);
    }

    private void Note(string operation, int sent, int received, long start)
    {
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        string name = nameOf(operation, sent);
        CollectiveCost? cost = _costs.Find(each => each.Name == name && each.BytesSent == sent * sizeof(double));
        if (cost is null)
        {
            _costs.Add(cost = new CollectiveCost(name, sent * sizeof(double), received * sizeof(double)));
        }

        cost.Seconds.Add(seconds);
    }
}
