using Normalization.Core;

namespace Normalization.Strategies;

/// <summary>The defaults of a framework as options of ours, for layers that must behave as a model's author expects.</summary>
/// <remarks>
/// The frameworks disagree on epsilon, on what momentum weighs, on the divisor of the stored variance and on whether instance norm
/// learns; docs/differences.md shows every difference as measured. Names of state are PyTorch's in all of them; <see cref="State"/>
/// reads and writes the framework's own.
/// </remarks>
public sealed record Preset
{
    private Preset(string name) => Name = name;

    /// <summary>The framework, with the version whose defaults these are.</summary>
    public string Name { get; }

    /// <summary>Batch norm. <see cref="RunningStatisticsOptions.Momentum"/> is the weight of the new batch, already converted.</summary>
    public required RunningStatisticsOptions BatchNorm { get; init; }

    /// <summary>Layer norm.</summary>
    public required NormalizerOptions LayerNorm { get; init; }

    /// <summary>Instance norm.</summary>
    public required RunningStatisticsOptions InstanceNorm { get; init; }

    /// <summary>Group norm.</summary>
    public required NormalizerOptions GroupNorm { get; init; }

    /// <summary>The default number of channel groups; null where the framework has none and asks.</summary>
    public int? Groups { get; init; }

    /// <summary>How the framework itself writes batch norm's momentum: the weight of the new batch, or of the old value.</summary>
    public required string MomentumAsWritten { get; init; }

    /// <summary>The framework's names of state, for <see cref="NormalizerState"/>, and the conversion of its momentum.</summary>
    public required StateConvention State { get; init; }

    /// <summary>PyTorch: epsilon 1e-5, momentum 0.1 for the new batch, sample variance stored, instance norm without weight and bias.</summary>
    public static Preset PyTorch { get; } = new("PyTorch 2")
    {
        BatchNorm = new() { Epsilon = 1e-5, Momentum = 0.1, RunningVariance = RunningVariance.Sample },
        LayerNorm = new() { Epsilon = 1e-5 },
        InstanceNorm = new() { Epsilon = 1e-5, Weight = false, Bias = false, TrackRunningStatistics = false },
        GroupNorm = new() { Epsilon = 1e-5 },
        MomentumAsWritten = "0.1, of the new batch",
        State = StateConvention.PyTorch,
    };

    /// <summary>Keras 3: epsilon 1e-3, momentum 0.99 for the old value, population variance stored, 32 groups.</summary>
    /// <remarks>Keras has no instance norm of its own: it is group norm with as many groups as channels.</remarks>
    public static Preset Keras { get; } = new("Keras 3")
    {
        BatchNorm = new() { Epsilon = 1e-3, Momentum = 0.01, RunningVariance = RunningVariance.Population },
        LayerNorm = new() { Epsilon = 1e-3 },
        InstanceNorm = new() { Epsilon = 1e-3, TrackRunningStatistics = false },
        GroupNorm = new() { Epsilon = 1e-3 },
        Groups = 32,
        MomentumAsWritten = "0.99, of the old value",
        State = StateConvention.Keras,
    };

    /// <summary>Flax nnx: epsilon 1e-5 for batch norm and 1e-6 for the others, momentum 0.99 for the old value, population variance stored, 32 groups.</summary>
    /// <remarks>Flax takes variance as E[x^2] - E[x]^2 in float unless told otherwise. Here sums are in double, and are taken about a value of the set where the mean is large.</remarks>
    public static Preset Flax { get; } = new("Flax nnx")
    {
        BatchNorm = new() { Epsilon = 1e-5, Momentum = 0.01, RunningVariance = RunningVariance.Population },
        LayerNorm = new() { Epsilon = 1e-6 },
        InstanceNorm = new() { Epsilon = 1e-6, TrackRunningStatistics = false },
        GroupNorm = new() { Epsilon = 1e-6 },
        Groups = 32,
        MomentumAsWritten = "0.99, of the old value",
        State = StateConvention.Flax,
    };

    /// <summary>ONNX operators (BatchNormalization 15, LayerNormalization 17, InstanceNormalization 6, GroupNormalization 21).</summary>
    /// <remarks>Epsilon 1e-5, momentum 0.9 for the old value, population variance stored; the number of groups is a required attribute.</remarks>
    public static Preset Onnx { get; } = new("ONNX")
    {
        BatchNorm = new() { Epsilon = 1e-5, Momentum = 0.1, RunningVariance = RunningVariance.Population },
        LayerNorm = new() { Epsilon = 1e-5 },
        InstanceNorm = new() { Epsilon = 1e-5, TrackRunningStatistics = false },
        GroupNorm = new() { Epsilon = 1e-5 },
        MomentumAsWritten = "0.9, of the old value",
        State = StateConvention.Onnx,
    };

    /// <summary>All presets, in the order of the table in docs/differences.md.</summary>
    public static IReadOnlyList<Preset> All { get; } = [PyTorch, Keras, Flax, Onnx];
}
