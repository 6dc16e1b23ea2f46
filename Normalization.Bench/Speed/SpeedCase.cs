using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;

namespace Normalization.Bench.Speed;

/// <summary>One case of the benchmark: a strategy on a tensor, timed in one direction on a number of threads.</summary>
internal sealed record SpeedCase(string Strategy, ActivationShape Shape, bool ChannelsLast, string Direction, int Threads)
{
    /// <summary>The direction that times a forward and a backward pass one after the other.</summary>
    public const string ForwardAndBackward = "forward+backward";

    /// <summary>zca-whitening: channels whitened together; null is all of them.</summary>
    public int? GroupSize { get; init; }

    /// <summary>What grows along a series of cases, "elements" or "channels"; null for a cell of the comparison with peers.</summary>
    public string? Scaling { get; init; }

    /// <summary>Whether BenchmarkDotNet times the case, as a check on the time that the interleaved rounds give.</summary>
    public bool IsCrossCheck { get; init; }

    /// <summary>Whether peers are timed beside it.</summary>
    /// <remarks>
    /// ZCA whitening has peers on both passes together, and in groups is held to the full matrix; the scaling series and the strategies that
    /// no peer has (or has in one pass) are held to the copy alone.
    /// </remarks>
    public bool HasPeers => Scaling is null && GroupSize is null && !IsCrossCheck && Strategy switch
    {
        "batch-norm" or "layer-norm" or "instance-norm" or "group-norm" or "ghost-batch-norm" => true,
        "zca-whitening" => Direction == ForwardAndBackward,
        _ => false,
    };

    /// <summary>
    /// The permanent id: strategy/direction/shape/layout/threads, such as <c>batch-norm/forward/32x64x56x56/channels-first/1</c>; before it
    /// scaling/ or benchmarkdotnet/ for what is no cell of the comparison.
    /// </summary>
    public string Id
    {
        get
        {
            string strategy = GroupSize is { } size ? $"{Strategy}-in-groups-of-{size}" : Strategy;
            string id = $"{strategy}/{Direction}/{string.Join('x', Shape.ToArray())}/{Layout}/{Threads}";
            return IsCrossCheck ? $"benchmarkdotnet/{id}" : Scaling is null ? id : $"scaling/{id}";
        }
    }

    /// <summary>The passes that a call is made of.</summary>
    public IReadOnlyList<Direction> Passes => Direction switch
    {
        SpeedTensors.Forward => [Speed.Direction.Forward],
        SpeedTensors.Backward => [Speed.Direction.Backward],
        SpeedTensors.Inference => [Speed.Direction.Inference],
        ForwardAndBackward => [Speed.Direction.Forward, Speed.Direction.Backward],
        _ => throw new InvalidOperationException($"There is no direction '{Direction}'."),
    };

    /// <summary>What identifies the case's rows.</summary>
    public IReadOnlyDictionary<string, object> Parameters
    {
        get
        {
            var parameters = new Dictionary<string, object>(StringComparer.Ordinal)
            {
                ["shape"] = Shape.ToString(),
                ["layout"] = Layout,
                ["direction"] = Direction,
                ["threads"] = (long)Threads,
                ["engine"] = IsCrossCheck ? "benchmarkdotnet" : "interleaved",
            };
            if (GroupSize is { } size)
            {
                parameters["group_size"] = (long)size;
            }

            if (Scaling is not null)
            {
                parameters["scaling"] = Scaling;
            }

            return parameters;
        }
    }

    /// <summary>The options of every cell.</summary>
    public StrategySettings Settings => new() { Groups = SpeedCell.Groups, GhostSize = SpeedCell.GhostSize, GroupSize = GroupSize };

    private string Layout => ChannelsLast ? "channels-last" : "channels-first";

    /// <summary>The cell that peers are asked about.</summary>
    public SpeedCell Cell(Direction pass) => new(Strategy, Shape, ChannelsLast, pass);
}
