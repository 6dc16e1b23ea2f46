using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="FilterResponseNorm{T}"/>; a set of one value is allowed, whatever the shared options say.</summary>
public sealed record FilterResponseNormOptions : NormalizerOptions
{
    /// <summary>The defaults.</summary>
    public FilterResponseNormOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy has.</param>
    public FilterResponseNormOptions(NormalizerOptions options)
        : base(options)
    {
    }

    /// <summary>Whether the thresholded linear unit follows: no output is below the learnable <c>tau</c>. Default true.</summary>
    public bool Threshold { get; init; } = true;

    /// <summary>Whether |<c>eps</c>|, learnable, one number for the layer, is added to epsilon. Default false.</summary>
    public bool LearnedEpsilon { get; init; }
}

/// <summary>Filter response normalization and its thresholded linear unit: each channel of each sample over the root of its mean square.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = max(weight[c] * x / sqrt(meanSquare[n,c] + epsilon + |eps|) + bias[c], tau[c]), mean square over S positions, no mean
/// subtracted; tau and eps where they are asked for. The activation is part of the layer: none should follow it.</para>
/// <para>With u = dy where weight * xhat + bias is above tau and 0 elsewhere, r the inverse root: dx = weight r (u - xhat mean(u xhat)),
/// dtau = sum of dy - u, deps = sign(eps) * sum of -weight r^2 u xhat / 2. At a tie all of dy goes to tau, where PyTorch's maximum gives half.</para>
/// <para>Shapes: weight, bias, tau (C), starting at 1, 0, 0; eps (1), starting at 1e-4. No state; training and inference are the same.</para>
/// <para>Degenerate: S = 1, hence every (N, C) input, leaves x / sqrt(x^2 + epsilon), little but the sign. The paper lets eps be learned
/// there; without it the first training Forward warns.</para>
/// <para>Source: Singh and Krishnan 2019, arXiv:1911.09737. Their epsilon is 1e-6; ours is 1e-5, as everywhere.
/// Checkpoints of implementations that add |eps| alone are matched by epsilon 0.</para>
/// </remarks>
public sealed class FilterResponseNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const double InitialEpsilon = 1e-4;

    private readonly int _channels;
    private readonly Parameter<T>? _threshold;
    private readonly Parameter<T>? _epsilon;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public FilterResponseNorm(int channels, FilterResponseNormOptions? options = null)
        : base(options ?? new FilterResponseNormOptions(), Guard.Channels(channels), channels)
    {
        options ??= new FilterResponseNormOptions();
        _channels = channels;
        _threshold = options.Threshold ? AddParameter("tau", [channels], 0) : null;
        _epsilon = options.LearnedEpsilon ? AddParameter("eps", [1], InitialEpsilon) : null;
    }

    /// <inheritdoc/>
    /// <remarks>A learned epsilon does not follow the input's scale.</remarks>
    public override NormalizerClaims Claims =>
        NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence
        | (_epsilon is not null ? NormalizerClaims.None
            : NormalizerClaims.ScaleInvariance | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.SampleScaleInvariance);

    private protected override string SetName => "sample and channel (spatial positions)";

    private protected override double AddedEpsilon => Epsilon + (_epsilon is null ? 0 : Math.Abs(double.CreateTruncating(_epsilon.Values[0])));

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) =>
        ((long)sample * shape.Channels) + channel;

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerChannelOf(shape, order, 0, shape.Samples, 1, samples: 1, sampleStride: 1) with { Uncentered = true };
        return 1;
    }

    private protected override void CheckSetSize(ActivationShape shape, nint smallest)
    {
        if (smallest == 1 && _epsilon is null && IsNews(NormalizerWarnings.SignOnly))
        {
            Warn(NormalizerWarnings.SignOnly,
                $"{Name} has 1 value per {SetName} in input {shape}: little but its sign is left. Learn epsilon (LearnedEpsilon), or use RmsNorm or LayerNorm.");
        }
    }

    internal override unsafe void StandardizeSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
    {
        fixed (T* threshold = _threshold?.Values)
        {
            Standardizer.Forward(layout, x, y, weight, bias, statistics, AddedEpsilon, threshold);
        }
    }

    internal override unsafe void DifferentiateSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
    {
        fixed (T* bias = Bias?.Values, threshold = _threshold?.Values, thresholdGradient = LearnParameters ? _threshold?.Gradient : null)
        {
            var parameters = new FilterParameters<T>
            {
                Weight = weight,
                Bias = bias,
                Threshold = threshold,
                WeightGradient = weightGradient,
                BiasGradient = biasGradient,
                ThresholdGradient = thresholdGradient,
            };
            double toEpsilon = FilterResponse.Backward(layout, x, g, dx, parameters, statistics.InverseStd);
            if (LearnParameters && _epsilon is not null)
            {
                double sign = double.CreateTruncating(_epsilon.Values[0]);
                _epsilon.Gradient[0] += T.CreateTruncating((sign > 0 ? 1 : sign < 0 ? -1 : 0) * toEpsilon);
            }
        }
    }
}

/// <summary>The catalog's view of <see cref="FilterResponseNorm{T}"/>.</summary>
internal readonly struct FilterResponseNormStrategy : IStrategy
{
    public static string Id => "filter-response-norm";

    public static string Axes => "each channel of each sample, over its positions; no mean is subtracted";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "tau", "eps"];

    public static string Options(StrategySettings settings) =>
        $"{(settings.Threshold ? "with" : "no")} threshold, epsilon {(settings.LearnedEpsilon ? "learned" : "fixed")}";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new FilterResponseNorm<T>(shape.Channels, new FilterResponseNormOptions(settings.ToOptions())
        {
            Threshold = settings.Threshold,
            LearnedEpsilon = settings.LearnedEpsilon,
        });
}

/// <content>Options of <see cref="FilterResponseNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>filter-response-norm: whether the thresholded linear unit follows.</summary>
    [Setting("--threshold", "filter-response-norm: whether no output is below the learned tau. Default on.")]
    public bool Threshold { get; init; } = true;

    /// <summary>filter-response-norm: whether |eps| is learned and added to epsilon.</summary>
    [Setting("--learned-epsilon", "filter-response-norm: whether a learned eps is added to epsilon. Default off.")]
    public bool LearnedEpsilon { get; init; }
}
