using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Batch normalization: one mean and variance for each channel, over all samples and positions.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>Training: y = weight[c] * (x - mean[c]) / sqrt(populationVariance[c] + epsilon) + bias[c], moments over N*S values; the running
/// variance stores the sample variance (divisor N*S - 1) unless told otherwise. Inference uses the running statistics.</para>
/// <para>Shapes: weight, bias, running_mean, running_var (C); num_batches_tracked [].</para>
/// <para>Degenerate: N*S = 1 in training follows <see cref="SingleValuePolicy"/>; a constant channel gives its bias.</para>
/// <para>Source: Ioffe and Szegedy 2015, arXiv:1502.03167, Algorithms 1 and 2. Same as PyTorch's BatchNorm1d, 2d and 3d.</para>
/// </remarks>
public sealed class BatchNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is PyTorch's defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public BatchNorm(int channels, RunningStatisticsOptions? options = null)
        : base(options ?? new RunningStatisticsOptions(), Guard.Channels(channels), channels) => _channels = channels;

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.BatchDependence;

    private protected override string SetName => "channel";

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => channel;

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerChannel(shape, order);
        return 1;
    }
}

/// <summary>The catalog's view of <see cref="BatchNorm{T}"/>.</summary>
internal readonly struct BatchNormStrategy : IStrategy
{
    public static string Id => "batch-norm";

    public static string Axes => "each channel, over all samples and positions";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

    public static string Options(StrategySettings settings) => settings.Running();

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new BatchNorm<T>(shape.Channels, settings.ToRunningOptions(trackByDefault: true));
}
