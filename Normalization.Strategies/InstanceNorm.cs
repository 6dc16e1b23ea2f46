using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Instance normalization: one mean and variance for each channel of each sample, over its positions.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = weight[c] * (x - mean[n,c]) / sqrt(populationVariance[n,c] + epsilon) + bias[c], moments over S values.</para>
/// <para>Shapes: weight, bias (C), off by default as in PyTorch. With running statistics (off by default) the batch's entry is the
/// mean over n of the instances' means and sample variances, and inference is then exactly batch normalization's.</para>
/// <para>Degenerate: S = 1 follows <see cref="SingleValuePolicy"/> whatever N is; (N, C) input, which has no positions, is refused.</para>
/// <para>Source: Ulyanov, Vedaldi and Lempitsky 2016, arXiv:1607.08022. Differs from PyTorch: (N, C) is never read as an unbatched (C, L).</para>
/// </remarks>
public sealed class InstanceNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is <see cref="DefaultOptions"/>.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public InstanceNorm(int channels, RunningStatisticsOptions? options = null)
        : base(options ?? DefaultOptions, Guard.Channels(channels), channels) => _channels = channels;

    /// <summary>PyTorch's defaults: no weight, no bias, no running statistics.</summary>
    public static RunningStatisticsOptions DefaultOptions { get; } = new() { Weight = false, Bias = false, TrackRunningStatistics = false };

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.SampleShiftInvariance
        | NormalizerClaims.ScaleInvariance | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.SampleScaleInvariance
        | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence;

    private protected override string SetName => "sample and channel (spatial positions)";

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) =>
        ((long)sample * shape.Channels) + channel;

    internal override void CheckShape(ActivationShape shape)
    {
        RequireChannels(shape, _channels);
        RequirePositions(shape);
    }

    internal static void RequirePositions(ActivationShape shape)
    {
        if (shape.Rank == 2)
        {
            throw new ArgumentException(
                $"InstanceNorm averages over spatial positions and (N, C) input {shape} has none. Add a spatial axis, or use LayerNorm or GroupNorm.");
        }
    }

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerSampleAndGroup(shape, order, shape.Channels);
        return 1;
    }
}

/// <summary>The catalog's view of <see cref="InstanceNorm{T}"/>.</summary>
internal readonly struct InstanceNormStrategy : IStrategy
{
    public static string Id => "instance-norm";

    public static string Axes => "each channel of each sample, over its positions";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

    public static string Options(StrategySettings settings) => settings.Running(trackByDefault: false);

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        InstanceNorm<T>.RequirePositions(shape);
        return new InstanceNorm<T>(shape.Channels, settings.ToRunningOptions(trackByDefault: false));
    }
}
