using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Layer normalization: one mean and variance for each sample over the trailing axes, or for each position over the channels.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = weight * (x - mean) / sqrt(populationVariance + epsilon) + bias; over the trailing axes weight and bias have one value for
/// each element of them, over the channels alone one for each channel.</para>
/// <para>Shapes: weight, bias of the normalized axes. No state; training and inference are the same.</para>
/// <para>Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450. Same as PyTorch's LayerNorm; <see cref="OverChannels"/> is the
/// position-wise form of convolutional networks.</para>
/// </remarks>
public sealed class LayerNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly NormalizedAxes _axes;

    /// <summary>A layer over the trailing axes.</summary>
    /// <param name="normalizedShape">Their lengths, one to four; all but the batch axis is the usual choice.</param>
    /// <param name="options">Null is PyTorch's defaults.</param>
    /// <exception cref="ArgumentException">The shape is empty, too long or has a length below 1, or an option is out of range.</exception>
    public LayerNorm(ReadOnlySpan<nint> normalizedShape, NormalizerOptions? options = null)
        : this(NormalizedAxes.Trailing(normalizedShape), options)
    {
    }

    /// <summary>A layer over the last axis alone: of (B, T, D) each token.</summary>
    /// <param name="features">Its length D, at least 1.</param>
    /// <param name="options">Null is PyTorch's defaults.</param>
    /// <exception cref="ArgumentException">The length is below 1, or an option is out of range.</exception>
    public LayerNorm(int features, NormalizerOptions? options = null)
        : this([features], options)
    {
    }

    private LayerNorm(NormalizedAxes axes, NormalizerOptions? options)
        : base(options ?? new NormalizerOptions(), 1, axes.Lengths) => _axes = axes;

    /// <summary>A layer over the channels of each position ("channels only", position-wise).</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is PyTorch's defaults.</param>
    public static LayerNorm<T> OverChannels(int channels, NormalizerOptions? options = null) =>
        new(NormalizedAxes.OverChannels(channels), options);

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.SampleShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.SampleScaleInvariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence;

    private protected override string SetName => _axes.SetName;

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => _axes.SetOf(shape, sample, channel, position);

    internal override void CheckShape(ActivationShape shape)
    {
        if (!_axes.Fit(shape))
        {
            throw _axes.Misfit(shape, Name);
        }
    }

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = _axes.Layout(shape, order);
        return 1;
    }

    internal override bool NeedsTransposedAffine(ActivationShape shape, MemoryOrder order) => _axes.Transposes(shape, order);
}

/// <summary>The catalog's view of <see cref="LayerNorm{T}"/>.</summary>
internal readonly struct LayerNormStrategy : IStrategy
{
    public static string Id => "layer-norm";

    public static string Axes => "each sample, over all its channels and positions (or over the trailing axes asked for)";

    public static string Options(StrategySettings settings) => NormalizedAxes.Describe(settings);

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new LayerNorm<T>(NormalizedAxes.Of(shape, settings, "Layer norm"), settings.ToOptions());
}

/// <content>Options of <see cref="LayerNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>layer-norm, rms-norm: how many trailing axes are normalized together; null is all but the batch axis.</summary>
    [Setting("--normalized-dims", "layer-norm, rms-norm: how many trailing axes. Default all but the first.", Placeholder = "K", Minimum = 1, Maximum = 4)]
    public int? NormalizedDimensions { get; init; }
}
