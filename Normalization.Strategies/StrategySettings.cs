using System.Globalization;
using Normalization.Core;

namespace Normalization.Strategies;

/// <summary>How Ghost BN cuts a batch into ghosts.</summary>
public enum GhostGrouping
{
    /// <summary>Ghost k is the samples [k B, (k + 1) B). The default.</summary>
    Contiguous,

    /// <summary>Ghost k is the samples n with n mod K = k, K the number of ghosts.</summary>
    Strided,
}

/// <summary>What Ghost BN does when the ghost size does not divide N.</summary>
public enum GhostRemainder
{
    /// <summary>Throw. The default.</summary>
    Throw,

    /// <summary>Full ghosts first, then one smaller ghost.</summary>
    SmallerLast,

    /// <summary>ceil(N / B) ghosts of nearly equal size: for contiguous grouping torch.chunk's sizes.</summary>
    Balanced,
}

/// <summary>How Ghost BN feeds its running statistics.</summary>
public enum GhostRunning
{
    /// <summary>One step per batch with the ghosts' statistics averaged by ghost size. The default.</summary>
    Averaged,

    /// <summary>One step per ghost, in order, as TabNet's small forward passes do; the counter grows by the number of ghosts.</summary>
    Sequential,
}

/// <summary>What whitening keeps for inference.</summary>
public enum WhiteningRunning
{
    /// <summary>The running covariance, from which the inference matrix is computed. The default.</summary>
    Covariance,

    /// <summary>The running average of the whitening matrix itself, as the Decorrelated BN authors' code keeps; it over-whitens.</summary>
    WhiteningMatrix,
}

/// <summary>The options of every strategy of the catalog in one place, for the command line and for tables of settings.</summary>
/// <remarks>A strategy reads those it has and ignores the rest; its own options type is the one to use in a model.</remarks>
public sealed record StrategySettings
{
    /// <summary>See <see cref="NormalizerOptions.Epsilon"/>.</summary>
    public double Epsilon { get; init; } = 1e-5;

    /// <summary>See <see cref="RunningStatisticsOptions.Momentum"/>.</summary>
    public double? Momentum { get; init; } = 0.1;

    /// <summary>See <see cref="NormalizerOptions.Weight"/>.</summary>
    public bool Weight { get; init; } = true;

    /// <summary>See <see cref="NormalizerOptions.Bias"/>.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Whether running statistics are kept; null is the strategy's own default (instance-norm: no, others: yes).</summary>
    public bool? RunningStatistics { get; init; }

    /// <summary>See <see cref="RunningStatisticsOptions.RunningVariance"/>.</summary>
    public RunningVariance RunningVariance { get; init; } = RunningVariance.Sample;

    /// <summary>group-norm: the number of channel groups G. Default 32, as in the paper.</summary>
    public int Groups { get; init; } = 32;

    /// <summary>layer-norm: how many trailing axes are normalized together; null is all but the batch axis.</summary>
    public int? NormalizedDimensions { get; init; }

    /// <summary>ghost-batch-norm: samples per ghost B. Default 32.</summary>
    public int GhostSize { get; init; } = 32;

    /// <summary>ghost-batch-norm: how the batch is cut.</summary>
    public GhostGrouping GhostGrouping { get; init; }

    /// <summary>ghost-batch-norm: what a remainder does.</summary>
    public GhostRemainder GhostRemainder { get; init; }

    /// <summary>ghost-batch-norm: how running statistics are fed.</summary>
    public GhostRunning GhostRunning { get; init; }

    /// <summary>zca-whitening: channels per whitened group d; null whitens all C together.</summary>
    public int? GroupSize { get; init; }

    /// <summary>zca-whitening: alpha in [0, 1], how far the covariance is drawn toward a multiple of the identity.</summary>
    public double Shrinkage { get; init; }

    /// <summary>zca-whitening: what is kept for inference.</summary>
    public WhiteningRunning WhiteningRunning { get; init; }

    /// <summary>See <see cref="NormalizerOptions.SingleValue"/>.</summary>
    public SingleValuePolicy SingleValue { get; init; }

    /// <summary>See <see cref="NormalizerOptions.NonFinite"/>.</summary>
    public NonFinitePolicy NonFinite { get; init; }

    internal NormalizerOptions ToOptions() =>
        new() { Epsilon = Epsilon, Weight = Weight, Bias = Bias, SingleValue = SingleValue, NonFinite = NonFinite };

    internal RunningStatisticsOptions ToRunningOptions(bool trackByDefault) => new(ToOptions())
    {
        Momentum = Momentum,
        TrackRunningStatistics = RunningStatistics ?? trackByDefault,
        RunningVariance = RunningVariance,
    };

    internal string Running(bool trackByDefault = true) =>
        !(RunningStatistics ?? trackByDefault) ? "no running statistics"
        : Momentum is { } momentum ? string.Create(CultureInfo.InvariantCulture, $"momentum {momentum}, {Words.Of(RunningVariance)} variance stored")
        : $"cumulative average, {Words.Of(RunningVariance)} variance stored";
}
