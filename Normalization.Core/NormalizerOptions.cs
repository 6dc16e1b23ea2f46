using System.Globalization;

namespace Normalization.Core;

/// <summary>Which divisor a stored running variance has; the batch itself is always normalized by its population variance.</summary>
public enum RunningVariance
{
    /// <summary>Divide by m - 1 (unbiased), as PyTorch and the BatchNorm paper (Algorithm 2) store it.</summary>
    Sample,

    /// <summary>Divide by m, as ONNX, Keras and Flax store it.</summary>
    Population,
}

/// <summary>Which statistics normalize the input.</summary>
public enum StatisticsSource
{
    /// <summary>The batch's while <see cref="INormalizer{T}.Training"/> is true, the running ones (where there are any) while it is false.</summary>
    FollowTraining,

    /// <summary>Always the batch's own.</summary>
    Batch,

    /// <summary>Always the running ones; gradients treat them as constants.</summary>
    Running,
}

/// <summary>What happens when statistics are taken of a reduction set of one value, whose normalized value would be 0 whatever it is.</summary>
public enum SingleValuePolicy
{
    /// <summary>Throw, naming the shape and the ways out. The default.</summary>
    Throw,

    /// <summary>Normalize this batch by the running statistics, which stay as they are.</summary>
    UseRunning,

    /// <summary>Output the bias, pass no gradient to the input; running statistics stay as they are. Needs an epsilon above 0.</summary>
    BiasOnly,
}

/// <summary>What happens in training when a batch statistic is NaN or infinite, or is too large for the storage type.</summary>
public enum NonFinitePolicy
{
    /// <summary>
    /// The output carries the NaN on the affected reduction set only; the whole layer's running update is skipped, counter
    /// included, and <c>SkippedUpdates</c> grows by one. The default.
    /// </summary>
    SkipUpdate,

    /// <summary>Throw, naming the statistic; no state changes.</summary>
    Throw,
}

/// <summary>Conditions worth a user's attention that are not errors; each is raised once in an instance's life.</summary>
[Flags]
public enum NormalizerWarnings
{
    /// <summary>Nothing to report.</summary>
    None = 0,

    /// <summary>A reduction set holds two values: both become +-1 and no gradient reaches the input.</summary>
    NoInputGradient = 1 << 0,

    /// <summary>Whitening had no more values than channels: the covariance is singular but for epsilon.</summary>
    RankDeficient = 1 << 1,

    /// <summary>A reduction set that is not centered holds one value: little but its sign is left.</summary>
    SignOnly = 1 << 2,
}

/// <summary>Options that every strategy has.</summary>
public record NormalizerOptions
{
    /// <summary>Added to the population variance under the root; finite, at least 0, in units of the input squared. Default 1e-5.</summary>
    /// <value>0 is legal only while every variance is above 0.</value>
    public double Epsilon { get; init; } = 1e-5;

    /// <summary>Whether there is a learnable <c>weight</c> (gamma). Default true.</summary>
    public bool Weight { get; init; } = true;

    /// <summary>Whether there is a learnable <c>bias</c> (beta). Default true.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>What a reduction set of one value does where the batch's own statistics would normalize it. Default <see cref="SingleValuePolicy.Throw"/>.</summary>
    public SingleValuePolicy SingleValue { get; init; } = SingleValuePolicy.Throw;

    /// <summary>What a non-finite batch statistic does in training. Default <see cref="NonFinitePolicy.SkipUpdate"/>.</summary>
    public NonFinitePolicy NonFinite { get; init; } = NonFinitePolicy.SkipUpdate;
}

/// <summary>Options of the strategies that keep running statistics.</summary>
public record RunningStatisticsOptions : NormalizerOptions
{
    /// <summary>The defaults.</summary>
    public RunningStatisticsOptions()
    {
    }

    /// <summary>The given options, with the defaults of running statistics.</summary>
    /// <param name="options">What every strategy has.</param>
    public RunningStatisticsOptions(NormalizerOptions options)
        : base(options)
    {
    }

    /// <summary>
    /// PyTorch's momentum, the weight of the new batch, in [0, 1]: running = (1 - momentum) * running + momentum * batch. Null
    /// is the cumulative average over batches. Default 0.1.
    /// </summary>
    /// <remarks>Keras, Flax and ONNX call the complement momentum: their 0.9 is 0.1 here.</remarks>
    public double? Momentum { get; init; } = 0.1;

    /// <summary>Whether running statistics are kept; without them inference uses the batch's own. Default true.</summary>
    public bool TrackRunningStatistics { get; init; } = true;

    /// <summary>The divisor of the stored variance. Default <see cref="RunningVariance.Sample"/>, as PyTorch.</summary>
    public RunningVariance RunningVariance { get; init; } = RunningVariance.Sample;

    internal static void Validate(RunningStatisticsOptions options)
    {
        if (options.Momentum is { } momentum && !(momentum is >= 0 and <= 1))
        {
            throw new ArgumentException(
                $"Momentum is the weight of the new batch and must be in [0, 1], or null for the cumulative average; got {momentum.ToString(CultureInfo.InvariantCulture)}. " +
                "A Keras or ONNX momentum of 0.9 is 0.1 here.", nameof(options));
        }
    }
}
