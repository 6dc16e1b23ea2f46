using System.Globalization;
using Normalization.Core;

namespace Normalization.Strategies;

/// <summary>The options of every strategy of the catalog in one place, for the command line and for tables of settings.</summary>
/// <remarks>
/// A strategy reads those it has and ignores the rest; its own options type is the one to use in a model. Here are the options that
/// strategies share; each strategy's file adds its own.
/// </remarks>
public sealed partial record StrategySettings
{
    /// <summary>See <see cref="NormalizerOptions.Epsilon"/>.</summary>
    [Setting("--epsilon", "Added to the variance. Default 1e-5.", Placeholder = "e")]
    public double Epsilon { get; init; } = 1e-5;

    /// <summary>See <see cref="RunningStatisticsOptions.Momentum"/>.</summary>
    [Setting("--momentum", "Weight of the new batch in running statistics, as PyTorch counts it; none is the cumulative average. Default 0.1.", Placeholder = "m", Maximum = 1)]
    public double? Momentum { get; init; } = 0.1;

    /// <summary>See <see cref="NormalizerOptions.Weight"/>.</summary>
    public bool Weight { get; init; } = true;

    /// <summary>See <see cref="NormalizerOptions.Bias"/>.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Whether running statistics are kept; null is the strategy's own default (instance-norm: no, others: yes).</summary>
    [Setting("--running-stats", "Whether running statistics are kept. Default on; instance-norm: off.")]
    public bool? RunningStatistics { get; init; }

    /// <summary>See <see cref="RunningStatisticsOptions.RunningVariance"/>.</summary>
    [Setting("--running-variance", "The variance that is stored. Default sample, as in PyTorch.")]
    public RunningVariance RunningVariance { get; init; } = RunningVariance.Sample;

    /// <summary>group-norm, evonorm-s0: the number of channel groups G. Default 32, as in the papers.</summary>
    [Setting("--groups", "group-norm, evonorm-s0: channel groups. Default 32.", Placeholder = "G", Minimum = 1)]
    public int Groups { get; init; } = 32;

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
