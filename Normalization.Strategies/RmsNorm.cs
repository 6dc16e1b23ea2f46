using System.Buffers;
using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Where epsilon stands beside the root of the mean square.</summary>
public enum EpsilonPlacement
{
    /// <summary>x / sqrt(meanSquare + epsilon), as PyTorch and ONNX have it. The default.</summary>
    Inside,

    /// <summary>x / (sqrt(meanSquare) + epsilon), as the authors' code has it.</summary>
    Outside,
}

/// <summary>Options of <see cref="RmsNorm{T}"/>; there is no bias, and a set of one value is allowed, whether <see cref="NormalizerOptions.SingleValue"/> says to throw or not.</summary>
public sealed record RmsNormOptions : NormalizerOptions
{
    /// <summary>The defaults.</summary>
    public RmsNormOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy has.</param>
    public RmsNormOptions(NormalizerOptions options)
        : base(options)
    {
    }

    /// <summary>Where epsilon stands. Default inside the root.</summary>
    public EpsilonPlacement EpsilonPlacement { get; init; }

    /// <summary>P in (0, 1]: the mean square is that of the first floor(P d) of the d elements of a set, at least one. Default 1.</summary>
    public double Partial { get; init; } = 1;
}

/// <summary>Root mean square normalization: layer normalization that divides without subtracting the mean.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = weight * x / sqrt(meanSquare + epsilon), mean square over the trailing axes of each sample, or over the channels of each
/// position. With <see cref="RmsNormOptions.Partial"/> below 1 the mean square is that of the first elements of the set, in the order of
/// (C, ...).</para>
/// <para>dx = r * (dy * weight - xhat * mean(dy * weight * xhat)), r = 1 / sqrt(meanSquare + epsilon); with epsilon outside, q the root,
/// the second term is divided by q r. At q = 0, where that gradient is not defined, the second term is taken as 0.</para>
/// <para>Shapes: weight of the normalized axes; no bias. No state; training and inference are the same. A set of one value is x / sqrt(x^2 +
/// epsilon): little but its sign, of which the first training Forward warns.</para>
/// <para>Source: Zhang and Sennrich 2019, arXiv:1910.07467 (equation 4, and pRMSNorm). Same as PyTorch's RMSNorm but for the default
/// epsilon: machine epsilon there (1.2e-7 in float), 1e-5 here and in ONNX. The authors' code has 1e-8, outside.</para>
/// <para>Speed: epsilon outside and partial sums take one more pass over memory; partial sums over all axes of channels-last memory work
/// on a copy.</para>
/// </remarks>
public sealed class RmsNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly NormalizedAxes _axes;
    private readonly bool _outside;
    private readonly nint _counted; // elements of a set whose squares count

    /// <summary>A layer over the trailing axes.</summary>
    /// <param name="normalizedShape">Their lengths, one to four; all but the batch axis is the usual choice.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The shape is empty, too long or has a length below 1, or an option is out of range.</exception>
    public RmsNorm(ReadOnlySpan<nint> normalizedShape, RmsNormOptions? options = null)
        : this(NormalizedAxes.Trailing(normalizedShape), options ?? new RmsNormOptions())
    {
    }

    /// <summary>A layer over the last axis alone: of (B, T, D) each token.</summary>
    /// <param name="features">Its length D, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The length is below 1, or an option is out of range.</exception>
    public RmsNorm(int features, RmsNormOptions? options = null)
        : this([features], options)
    {
    }

    private RmsNorm(NormalizedAxes axes, RmsNormOptions options)
        : base(options with { Bias = false }, 1, axes.Lengths)
    {
        if (!(options.Partial is > 0 and <= 1))
        {
            throw new ArgumentException(
                $"The partial share of a set's elements must be in (0, 1]; got {options.Partial.ToString(CultureInfo.InvariantCulture)}. 1 counts all of them.", nameof(options));
        }

        _axes = axes;
        _outside = options.EpsilonPlacement == EpsilonPlacement.Outside;
        _counted = Math.Clamp((nint)Math.Floor(options.Partial * axes.Count), 1, axes.Count);
    }

    /// <summary>A layer over the channels of each position ("channels only", position-wise).</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    public static RmsNorm<T> OverChannels(int channels, RmsNormOptions? options = null) =>
        new(NormalizedAxes.OverChannels(channels), options ?? new RmsNormOptions()) { SpansChannels = true };

    /// <inheritdoc/>
    /// <remarks>
    /// Rotations keep the mean square where each set has all channels, as is known of <see cref="OverChannels"/> and of what the catalog
    /// makes. Scaling epsilon by the square of a factor undoes the factor only inside the root.
    /// </remarks>
    public override NormalizerClaims Claims =>
        NormalizerClaims.SampleScaleInvariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence
        | (_outside ? NormalizerClaims.None : NormalizerClaims.ScaleInvariance)
        | (SpansChannels && !IsPartial ? NormalizerClaims.RotationEquivariance : NormalizerClaims.None);

    /// <summary>Whether each set has all channels of a position, or of several.</summary>
    internal bool SpansChannels { get; init; }

    private protected override string SetName => _axes.SetName;

    private bool IsPartial => _counted < _axes.Count;

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
        layouts[0] = _axes.Layout(shape, order) with { Uncentered = true };
        return 1;
    }

    internal override bool NeedsTransposedAffine(ActivationShape shape, MemoryOrder order) => _axes.Transposes(shape, order);

    // The first elements of a set that spans channels and positions are no block of channels-last memory.
    internal override MemoryOrder WorkingOrder(ActivationShape shape, MemoryOrder present) =>
        IsPartial && _axes.Transposes(shape, present) ? MemoryOrder.ChannelsFirst : base.WorkingOrder(shape, present);

    private protected override void CheckSetSize(ActivationShape shape, nint smallest)
    {
        if (smallest == 1 && IsNews(NormalizerWarnings.SignOnly))
        {
            Warn(NormalizerWarnings.SignOnly,
                $"{Name} has 1 value per {SetName} in input {shape}: little but its sign is left, and hardly any gradient reaches the input.");
        }
    }

    internal override unsafe void StandardizeSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
    {
        if (!IsPartial && !_outside)
        {
            base.StandardizeSets(shape, order, layout, x, y, weight, bias, statistics);
            return;
        }

        MomentsOfSets(shape, order, layout, x, statistics);
        Standardizer.Apply(layout, x, y, weight, bias, statistics);
    }

    internal override unsafe void MomentsOfSets(ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, Statistics statistics)
    {
        Standardizer.Moments(layout with { BlockLength = _counted * layout.Columns }, x, statistics, Epsilon);
        for (nint slot = 0; slot < layout.Slots && _outside; slot++)
        {
            double meanSquare = statistics.PopulationVariance[slot];
            statistics.InverseStd[slot] = double.IsFinite(meanSquare) ? 1 / (Math.Sqrt(meanSquare) + Epsilon) : double.NaN;
        }
    }

    internal override unsafe void DifferentiateSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
    {
        if (!IsPartial && !_outside)
        {
            base.DifferentiateSets(shape, order, layout, x, g, dx, weight, statistics, weightGradient, biasGradient);
            return;
        }

        double[] factors = ArrayPool<double>.Shared.Rent(checked((int)layout.Slots));
        fixed (double* factor = factors)
        {
            for (nint slot = 0; slot < layout.Slots; slot++)
            {
                double root = Math.Sqrt(statistics.PopulationVariance[slot]);
                double placed = !_outside ? 1 : root == 0 ? 0 : 1 / (root * statistics.InverseStd[slot]);
                factor[slot] = placed * _axes.Count / _counted;
            }

            statistics.ProductFactor = factor;
            T[]? upstream = null;
            if (IsPartial && g == dx)
            {
                // What comes after the counted elements is written twice, from the same gradient.
                upstream = ArrayPool<T>.Shared.Rent(checked((int)layout.Elements));
                new ReadOnlySpan<T>(g, (int)layout.Elements).CopyTo(upstream);
            }

            fixed (T* copy = upstream)
            {
                base.DifferentiateSets(shape, order, layout, x, g, dx, weight, statistics, weightGradient, biasGradient);
                if (IsPartial)
                {
                    BackwardUncounted(layout, upstream is null ? g : copy, dx, weight, statistics);
                }
            }

            if (upstream is not null)
            {
                ArrayPool<T>.Shared.Return(upstream);
            }
        }

        ArrayPool<double>.Shared.Return(factors);
    }

    // Those elements change no mean square: dx = weight * r * dy.
    private unsafe void BackwardUncounted(in ReductionLayout layout, T* g, T* dx, T* weight, Statistics statistics)
    {
        nint counted = _counted * layout.Columns;
        ReductionLayout rest = layout with { Offset = layout.Offset + counted, BlockLength = layout.BlockLength - counted };
        Standardizer.Apply(rest, g, dx, weight == null ? null : weight + _counted, null, statistics);
    }
}

/// <summary>The catalog's view of <see cref="RmsNorm{T}"/>.</summary>
internal readonly struct RmsNormStrategy : IStrategy
{
    public static string Id => "rms-norm";

    public static string Axes => "each sample, over all its channels and positions (or over the trailing axes asked for); no mean is subtracted";

    public static IReadOnlyList<string> Tensors => ["weight"];

    public static string Options(StrategySettings settings) => string.Create(
        CultureInfo.InvariantCulture,
        $"{NormalizedAxes.Describe(settings)}, epsilon {Words.Of(settings.EpsilonPlacement)} the root, mean square of {(settings.Partial == 1 ? "all" : $"the first {settings.Partial} of the")} elements");

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new RmsNorm<T>(NormalizedAxes.Of(shape, settings, "RMS norm"), new RmsNormOptions(settings.ToOptions())
        {
            EpsilonPlacement = settings.EpsilonPlacement,
            Partial = settings.Partial,
        })
        {
            SpansChannels = (settings.NormalizedDimensions ?? shape.Rank - 1) == shape.Rank - 1,
        };
}

/// <content>Options of <see cref="RmsNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>rms-norm: where epsilon stands.</summary>
    [Setting("--epsilon-placement", "rms-norm: epsilon in the root, or added to it. Default inside.")]
    public EpsilonPlacement EpsilonPlacement { get; init; }

    /// <summary>rms-norm: the share of a set's elements whose squares count, in (0, 1].</summary>
    [Setting("--partial", "rms-norm: share of the elements, the first ones, whose squares count. Default 1.", Placeholder = "P", Maximum = 1)]
    public double Partial { get; init; } = 1;
}
