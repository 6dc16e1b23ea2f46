using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Group normalization: one mean and variance for each group of neighbouring channels of each sample.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = weight[c] * (x - mean[n,g]) / sqrt(populationVariance[n,g] + epsilon) + bias[c], moments over (C/G)*S values; group g is the
/// channels [g C/G, (g + 1) C/G).</para>
/// <para>Shapes: weight, bias (C). No state; training and inference are the same.</para>
/// <para>Equivalences: G = C is instance normalization; G = 1 is layer normalization over (C, ...) before weight and bias, which differ in shape.</para>
/// <para>Source: Wu and He 2018, arXiv:1803.08494. Same as PyTorch; weight by channel as in ONNX opset 21, not 18.</para>
/// </remarks>
public sealed class GroupNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;

    /// <summary>A layer of G groups over C channels.</summary>
    /// <param name="groups">G, at least 1, a divisor of C; the paper uses 32.</param>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is PyTorch's defaults.</param>
    /// <exception cref="ArgumentException">C is not a multiple of G, or an option is out of range.</exception>
    public GroupNorm(int groups, int channels, NormalizerOptions? options = null)
        : base(options ?? new NormalizerOptions(), Guard.Channels(channels), channels)
    {
        if (groups < 1 || channels % groups != 0)
        {
            throw new ArgumentException(
                $"The number of channels (C) must be divisible by the number of groups (G), G at least 1; got C = {channels}, G = {groups}. Choose a G that divides C.", nameof(groups));
        }

        _channels = channels;
        Groups = groups;
    }

    /// <summary>G, the number of channel groups.</summary>
    public int Groups { get; }

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.SampleShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.SampleScaleInvariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence;

    private protected override string SetName => "sample and group";

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) =>
        ((long)sample * Groups) + (channel / (shape.Channels / Groups));

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerSampleAndGroup(shape, order, Groups);
        return 1;
    }
}

/// <summary>The catalog's view of <see cref="GroupNorm{T}"/>.</summary>
internal readonly struct GroupNormStrategy : IStrategy
{
    public static string Id => "group-norm";

    public static string Axes => "each group of channels of each sample, over its channels and positions";

    public static string Options(StrategySettings settings) => $"{settings.Groups} groups";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new GroupNorm<T>(settings.Groups, shape.Channels, settings.ToOptions());
}
