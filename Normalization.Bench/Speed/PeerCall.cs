namespace Normalization.Bench.Speed;

/// <summary>One way in which a peer makes the passes of a case.</summary>
internal sealed class PeerCall : IDisposable
{
    private readonly SpeedCase _case;
    private readonly IReadOnlyList<ITimedCall> _passes;

    private PeerCall(PeerSeat seat, SpeedCase planned, IReadOnlyList<ITimedCall> passes)
    {
        Seat = seat;
        _case = planned;
        _passes = passes;
    }

    /// <summary>The peer.</summary>
    public PeerSeat Seat { get; }

    /// <summary>The peer's version and how it makes the call.</summary>
    public string Name
    {
        get
        {
            string[] variants = [.. _passes.Select(pass => pass.Variant).Where(variant => variant.Length > 0).Distinct()];
            return string.Join(", ", variants.Prepend(Seat.Description));
        }
    }

    /// <summary>Readies every way in which a peer that has the case makes it.</summary>
    public static IReadOnlyList<PeerCall> Prepare(PeerSeat seat, SpeedCase planned, CellData data)
    {
        var passes = new List<IReadOnlyList<ITimedCall>>();
        try
        {
            foreach (Direction pass in planned.Passes)
            {
                passes.Add(seat.Peer!.Prepare(data.With(pass), planned.Threads));
            }
        }
        catch
        {
            passes.SelectMany(variants => variants).ToList().ForEach(call => call.Dispose());
            throw;
        }

        // Where one pass has fewer variants than the other, its last serves all of the other's.
        int count = passes.Max(variants => variants.Count);
        return [.. Enumerable.Range(0, count).Select(index => new PeerCall(seat, planned, [.. passes.Select(variants => variants[Math.Min(index, variants.Count - 1)])]))];
    }

    /// <summary>Whether every pass warms itself.</summary>
    public bool WarmsItself => _passes.All(pass => pass.WarmsItself);

    /// <summary>Seconds that a number of calls take, all passes together.</summary>
    public double Seconds(int calls) => _passes.Sum(pass => pass.Seconds(calls));

    /// <summary>The largest difference from our result in any pass, over our largest value; NaN where any pass's is.</summary>
    public double DifferenceFrom(OwnCall own) => _passes.Zip(_case.Passes, (call, pass) => own.DifferenceFrom(pass, call)).Aggregate(0.0, Math.Max);

    /// <summary>Frees what the calls hold.</summary>
    public void Dispose()
    {
        foreach (ITimedCall pass in _passes)
        {
            pass.Dispose();
        }
    }
}
