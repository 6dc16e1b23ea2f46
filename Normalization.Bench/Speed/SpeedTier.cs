using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;

namespace Normalization.Bench.Speed;

/// <summary>How much of the benchmark is run, and how long each case is timed.</summary>
internal sealed record SpeedTier
{
    private const string Zca = "zca-whitening";

    private static readonly ActivationShape Cached = new(8, 128, 28, 28);

    private static readonly ActivationShape Large = new(32, 64, 56, 56);

    private static readonly ActivationShape[] Shapes =
    [
        new(4096, 768), new(512, 4096), new(64, 128), new(256, 512),
        Large, new(32, 256, 14, 14), Cached, new(2, 64, 8, 8),
    ];

    private static readonly ActivationShape[] WhitenedShapes = [new(32, 16, 28, 28), new(32, 64, 28, 28), new(32, 256, 14, 14)];

    private static readonly string[] Standardizing = ["batch-norm", "layer-norm", "instance-norm", "group-norm", "ghost-batch-norm", "none"];

    // Timed on both passes together, so that they can be chosen between.
    private static readonly string[] Whitening = [.. new[] { "pca-whitening", "cholesky-whitening", "iter-norm" }.Where(StrategyCatalog.Ids.Contains)];

    // The rest of the catalog: held to the memory copy alone.
    private static readonly string[] OthersOfTheCatalog =
        [.. StrategyCatalog.Ids.Where(id => id != Zca && !Standardizing.Contains(id) && !Whitening.Contains(id))];

    // Those whose cost is shown to grow with the tensor alone.
    private static readonly string[] Growing = ["batch-norm", "layer-norm", "group-norm"];

    private static readonly string[] BothWays = [SpeedTensors.Forward, SpeedTensors.Backward];

    private static readonly string[] WhitenedDirections = [.. BothWays, SpeedCase.ForwardAndBackward];

    private static readonly bool[] ChannelsFirst = [false];

    private static readonly bool[] BothLayouts = [false, true];

    private static readonly string[] Directions = [SpeedTensors.Forward, SpeedTensors.Backward, SpeedTensors.Inference];

    /// <summary>A minute's look: one thread, three rounds.</summary>
    public static SpeedTier Dry { get; } = new()
    {
        Name = "dry",
        Brief = true,
        Threads = [1],
        Plan = new TimingPlan { LeastRounds = 3, MostRounds = 3, Budget = 0, ShortestSample = 0.2e-3 },
        WarmUpShare = 0.3,
        Exponents = [12, 17, 22],
        WhitenedChannels = [16, 64, 256],
    };

    /// <summary>10 to 15 minutes: figures to act on.</summary>
    public static SpeedTier Short { get; } = new()
    {
        Name = "short",
        Threads = [1, 2],
        Plan = new TimingPlan { LeastRounds = 7, MostRounds = 51, Budget = 0.4 },
        Exponents = [.. Enumerable.Range(12, 14)],
        WhitenedChannels = [16, 32, 64, 128, 256, 512],
        CrossChecks = true,
    };

    /// <summary>70 minutes: figures to publish.</summary>
    public static SpeedTier Full { get; } = new()
    {
        Name = "full",
        Threads = [1, 2],
        Plan = new TimingPlan { LeastRounds = 21, MostRounds = 301, Budget = 3, ShortestSample = 1e-3 },
        Exponents = [.. Enumerable.Range(12, 16)],
        WhitenedChannels = [16, 32, 64, 128, 256, 512],
        CrossChecks = true,
    };

    /// <summary>What BenchmarkDotNet times: tensors that lie in each level of the caches, and one that lies in none.</summary>
    public static IReadOnlyList<SpeedCase> CrossChecked { get; } =
    [
        new("layer-norm", new(64, 128), ChannelsLast: false, SpeedTensors.Forward, Threads: 1) { IsCrossCheck = true },
        new("batch-norm", new(8, 128, 28, 28), ChannelsLast: false, SpeedTensors.Forward, Threads: 1) { IsCrossCheck = true },
        new("batch-norm", new(8, 128, 28, 28), ChannelsLast: false, SpeedTensors.Backward, Threads: 1) { IsCrossCheck = true },
        new("layer-norm", new(4096, 768), ChannelsLast: false, SpeedTensors.Forward, Threads: 1) { IsCrossCheck = true },
        new("group-norm", new(32, 64, 56, 56), ChannelsLast: false, SpeedTensors.Forward, Threads: 1) { IsCrossCheck = true },
    ];

    /// <summary>The tiers, shortest first.</summary>
    public static IReadOnlyList<SpeedTier> All { get; } = [Dry, Short, Full];

    /// <summary>The name on the command line.</summary>
    public required string Name { get; init; }

    /// <summary>The thread counts that every cell is timed on.</summary>
    public required IReadOnlyList<int> Threads { get; init; }

    /// <summary>How long each case is timed.</summary>
    public required TimingPlan Plan { get; init; }

    /// <summary>How much of <see cref="SpeedBench.WarmUpSeconds"/> a contestant is called for before each sample on one thread.</summary>
    public double WarmUpShare { get; init; } = 1;

    /// <summary>The series over elements has tensors of two to these.</summary>
    public required IReadOnlyList<int> Exponents { get; init; }

    /// <summary>The series over channels whitens these many, at N*S fixed.</summary>
    public required IReadOnlyList<int> WhitenedChannels { get; init; }

    /// <summary>Whether strategies without peers are timed on one tensor alone.</summary>
    public bool Brief { get; init; }

    /// <summary>Whether BenchmarkDotNet times a few kernels as a cross-check.</summary>
    public bool CrossChecks { get; init; }

    /// <summary>Every case in the order they run: the cells tensor by tensor, the series, the cross-check.</summary>
    public IReadOnlyList<SpeedCase> Cases =>
    [
        .. Threads.SelectMany(CellsOn),
        .. from exponent in Exponents
           from strategy in Growing
           from direction in BothWays
           select new SpeedCase(strategy, Grown(exponent), ChannelsLast: false, direction, Threads[0]) { Scaling = "elements" },
        .. from channels in WhitenedChannels
           select new SpeedCase(Zca, new(32, channels, 14, 14), ChannelsLast: false, SpeedCase.ForwardAndBackward, Threads[0]) { Scaling = "channels" },
        .. CrossChecks ? CrossChecked.Where(planned => Threads.Contains(planned.Threads)) : [],
    ];

    private IEnumerable<SpeedCase> CellsOn(int threads) =>
    [
        .. from shape in Shapes
           from channelsLast in shape.Rank == 2 ? ChannelsFirst : BothLayouts
           from strategy in Standardizing
           from direction in Directions
           where Carries(strategy, shape, direction)
           select new SpeedCase(strategy, shape, channelsLast, direction, threads),
        .. from shape in WhitenedShapes
           from groupSize in shape == WhitenedShapes[^1] ? new int?[] { null, 16 } : [null]
           from direction in WhitenedDirections
           select new SpeedCase(Zca, shape, ChannelsLast: false, direction, threads) { GroupSize = groupSize },
        .. from shape in WhitenedShapes
           from strategy in Whitening
           select new SpeedCase(strategy, shape, ChannelsLast: false, SpeedCase.ForwardAndBackward, threads),
        .. from shape in Brief ? [Cached] : new[] { Large, Cached }
           from channelsLast in Brief ? ChannelsFirst : BothLayouts
           from strategy in OthersOfTheCatalog
           from direction in Brief ? BothWays : Directions
           select new SpeedCase(strategy, shape, channelsLast, direction, threads),
    ];

    // What the strategies refuse: instance norm without positions, ghosts that do not divide the batch, groups that do not divide the channels.
    private static bool Carries(string strategy, ActivationShape shape, string direction) => strategy switch
    {
        "instance-norm" => shape.Rank > 2,
        "group-norm" => shape.Channels % SpeedCell.Groups == 0,
        "ghost-batch-norm" => shape.Samples % SpeedCell.GhostSize == 0 || direction == SpeedTensors.Inference,
        _ => true,
    };

    // 64 channels of images that grow to 32 x 32, then batches that grow: what one layer sees.
    private static ActivationShape Grown(int exponent)
    {
        int positions = Math.Min(exponent - 6, 10);
        return new ActivationShape(1 << (exponent - 6 - positions), 64, 1 << (positions / 2), 1 << (positions - (positions / 2)));
    }
}
