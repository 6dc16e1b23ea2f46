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
    private readonly nint[] _normalizedShape;
    private readonly bool _overChannels;

    /// <summary>A layer over the trailing axes.</summary>
    /// <param name="normalizedShape">Their lengths, one to four; all but the batch axis is the usual choice.</param>
    /// <param name="options">Null is PyTorch's defaults.</param>
    /// <exception cref="ArgumentException">The shape is empty, too long or has a length below 1, or an option is out of range.</exception>
    public LayerNorm(ReadOnlySpan<nint> normalizedShape, NormalizerOptions? options = null)
        : this(CheckLengths(normalizedShape), options, overChannels: false)
    {
    }

    private LayerNorm(nint[] normalizedShape, NormalizerOptions? options, bool overChannels)
        : base(options ?? new NormalizerOptions(), 1, normalizedShape)
    {
        _normalizedShape = normalizedShape;
        _overChannels = overChannels;
    }

    /// <summary>A layer over the channels of each position ("channels only", position-wise).</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is PyTorch's defaults.</param>
    public static LayerNorm<T> OverChannels(int channels, NormalizerOptions? options = null) =>
        new([Guard.Channels(channels)], options, overChannels: true);

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.SampleShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.SampleScaleInvariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence;

    private protected override string SetName => _overChannels ? "sample and position" : "index of the leading axes";

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position)
    {
        if (_overChannels)
        {
            return ((long)sample * shape.SpatialSize) + position;
        }

        nint length = 1;
        foreach (nint axis in _normalizedShape)
        {
            length *= axis;
        }

        return ((((long)sample * shape.Channels) + channel) * shape.SpatialSize + position) / length;
    }

    internal override void CheckShape(ActivationShape shape)
    {
        if (_overChannels)
        {
            RequireChannels(shape, (int)_normalizedShape[0]);
            return;
        }

        int leading = shape.Rank - _normalizedShape.Length;
        bool matches = leading >= 1;
        for (int axis = 0; matches && axis < _normalizedShape.Length; axis++)
        {
            matches = shape[leading + axis] == _normalizedShape[axis];
        }

        if (!matches)
        {
            throw new ArgumentException(
                $"LayerNorm was made for inputs that end in {ActivationShape.Format(_normalizedShape)} after at least a batch axis; got {shape}.");
        }
    }

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = _overChannels ? Layouts.PerPosition(shape, order) : Layouts.Trailing(shape, order, _normalizedShape.Length);
        return 1;
    }

    internal override bool NeedsTransposedAffine(ActivationShape shape, MemoryOrder order) =>
        !_overChannels && order == MemoryOrder.ChannelsLast && _normalizedShape.Length == shape.Rank - 1;

    private static nint[] CheckLengths(ReadOnlySpan<nint> normalizedShape)
    {
        bool valid = normalizedShape.Length is >= 1 and < ActivationShape.MaximumRank;
        foreach (nint length in normalizedShape)
        {
            valid &= length >= 1;
        }

        return valid
            ? normalizedShape.ToArray()
            : throw new ArgumentException(
                $"A normalized shape has 1 to {ActivationShape.MaximumRank - 1} trailing lengths of at least 1; got {ActivationShape.Format(normalizedShape)}.",
                nameof(normalizedShape));
    }
}

/// <summary>The catalog's view of <see cref="LayerNorm{T}"/>.</summary>
internal readonly struct LayerNormStrategy : IStrategy
{
    public static string Id => "layer-norm";

    public static string Axes => "each sample, over all its channels and positions (or over the trailing axes asked for)";

    public static string Options(StrategySettings settings) =>
        settings.NormalizedDimensions is { } dimensions ? $"over the last {dimensions} axes" : "over all axes but the batch";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int dimensions = settings.NormalizedDimensions ?? shape.Rank - 1;
        if (dimensions < 1 || dimensions >= shape.Rank)
        {
            throw new ArgumentException(
                $"Layer norm normalizes the last 1 to {shape.Rank - 1} axes of a {shape} input (never the batch axis); got {dimensions}.", nameof(settings));
        }

        return new LayerNorm<T>(shape.ToArray().AsSpan(shape.Rank - dimensions), settings.ToOptions());
    }
}

/// <content>Options of <see cref="LayerNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>layer-norm: how many trailing axes are normalized together; null is all but the batch axis.</summary>
    [Setting("--normalized-dims", "layer-norm: how many trailing axes. Default all but the first.", Placeholder = "K", Minimum = 1, Maximum = 4)]
    public int? NormalizedDimensions { get; init; }
}
