using System.Numerics;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Strategies;

/// <summary>The list of strategies; tests, comparisons, the command line and reports iterate it.</summary>
public static class StrategyCatalog
{
    private static readonly Entry[] Entries =
    [
        Entry.Of<IdentityStrategy>(),
        Entry.Of<BatchNormStrategy>(),
        Entry.Of<SyncBatchNormStrategy>(),
        Entry.Of<GhostBatchNormStrategy>(),
        Entry.Of<AdaBatchNormStrategy>(),
        Entry.Of<BatchRenormStrategy>(),
        Entry.Of<LayerNormStrategy>(),
        Entry.Of<RmsNormStrategy>(),
        Entry.Of<InstanceNormStrategy>(),
        Entry.Of<GroupNormStrategy>(),
        Entry.Of<SwitchableNormStrategy>(),
        Entry.Of<EvoNormB0Strategy>(),
        Entry.Of<EvoNormS0Strategy>(),
        Entry.Of<FilterResponseNormStrategy>(),
        Entry.Of<LocalResponseNormStrategy>(),
        Entry.Of<ZcaWhiteningStrategy>(),
        Entry.Of<PcaWhiteningStrategy>(),
        Entry.Of<CholeskyWhiteningStrategy>(),
        Entry.Of<IterNormStrategy>(),
    ];

    /// <summary>The ids in the order they are reported.</summary>
    public static IReadOnlyList<string> Ids { get; } = Array.ConvertAll(Entries, entry => entry.Id);

    /// <summary>The names of every parameter and buffer that some strategy has.</summary>
    public static IReadOnlyList<string> TensorNames { get; } = [.. Entries.SelectMany(entry => entry.Tensors).Distinct()];

    /// <summary>What <c>compare</c> runs with: 4 groups, ghosts of 8 balanced, full whitening, epsilon 1e-5, weight and bias.</summary>
    public static StrategySettings ComparisonSettings { get; } =
        new() { Groups = 4, GhostSize = 8, GhostRemainder = GhostRemainder.Balanced };

    /// <summary>A fresh instance of a strategy, in training mode.</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <param name="id">One of <see cref="Ids"/>.</param>
    /// <param name="shape">The activations it will see.</param>
    /// <param name="settings">Options; those the strategy does not have are ignored.</param>
    /// <exception cref="ArgumentException">The id is unknown, an option is out of range or the strategy cannot carry the shape.</exception>
    public static INormalizer<T> Create<T>(string id, ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(settings);
        Entry entry = Find(id);
        object normalizer = typeof(T) == typeof(float) ? entry.CreateSingle(shape, settings)
            : typeof(T) == typeof(double) ? entry.CreateDouble(shape, settings)
            : throw new NotSupportedException($"Strategies come in float and double; got {ElementTypes.NameOf<T>()}.");
        return (INormalizer<T>)normalizer;
    }

    /// <summary>One strategy as a contestant of a comparison.</summary>
    /// <param name="id">One of <see cref="Ids"/>.</param>
    /// <param name="settings">Options; null is <see cref="ComparisonSettings"/>.</param>
    /// <exception cref="ArgumentException">The id is unknown.</exception>
    public static Contestant Contestant(string id, StrategySettings? settings = null)
    {
        Entry entry = Find(id);
        StrategySettings chosen = settings ?? ComparisonSettings;
        return new Contestant(
            entry.Id,
            (shape, epsilon) => entry.CreateSingle(shape, chosen with { Epsilon = epsilon }),
            (shape, epsilon) => entry.CreateDouble(shape, chosen with { Epsilon = epsilon }))
        {
            Axes = entry.Axes,
            Options = entry.Options(chosen),
        };
    }

    /// <summary>All strategies as contestants of a comparison.</summary>
    /// <param name="settings">Options for all of them; null is <see cref="ComparisonSettings"/>.</param>
    public static IReadOnlyList<Contestant> Contestants(StrategySettings? settings = null) =>
        [.. Ids.Select(id => Contestant(id, settings))];

    /// <summary>Whether a strategy reads any of the settings in which two differ.</summary>
    /// <param name="id">One of <see cref="Ids"/>.</param>
    /// <param name="first">Settings.</param>
    /// <param name="second">Others.</param>
    /// <exception cref="ArgumentException">The id is unknown.</exception>
    public static bool TellsApart(string id, StrategySettings first, StrategySettings second)
    {
        ArgumentNullException.ThrowIfNull(first);
        ArgumentNullException.ThrowIfNull(second);
        Entry entry = Find(id);
        return entry.Options(first) != entry.Options(second)
            || (first.Epsilon != second.Epsilon && (entry.ReadsEpsilon(first) || entry.ReadsEpsilon(second)))
            || (first.Weight != second.Weight && entry.Tensors.Contains("weight"))
            || (first.Bias != second.Bias && entry.Tensors.Contains("bias"));
    }

    private static Entry Find(string id) =>
        Array.Find(Entries, entry => entry.Id == id)
        ?? throw new ArgumentException($"There is no strategy '{id}'. The strategies are {string.Join(", ", Ids)}.", nameof(id));

    private sealed record Entry(
        string Id,
        string Axes,
        IReadOnlyList<string> Tensors,
        Func<StrategySettings, string> Options,
        Func<StrategySettings, bool> ReadsEpsilon,
        Func<ActivationShape, StrategySettings, INormalizer<float>> CreateSingle,
        Func<ActivationShape, StrategySettings, INormalizer<double>> CreateDouble)
    {
        public static Entry Of<TStrategy>()
            where TStrategy : IStrategy =>
            new(TStrategy.Id, TStrategy.Axes, TStrategy.Tensors, TStrategy.Options, TStrategy.ReadsEpsilon, TStrategy.Create<float>, TStrategy.Create<double>);
    }
}
