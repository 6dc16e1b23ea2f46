using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

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

    /// <summary>
    /// Contiguous grouping has torch.chunk's sizes: ghosts of ceil(N / K) samples, K = ceil(N / B), and the rest in the last, which may be much smaller (13 in
    /// ghosts of 4: 4, 4, 4, 1). Strided grouping has K ghosts whose sizes differ by at most one.
    /// </summary>
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

/// <summary>Options of <see cref="GhostBatchNorm{T}"/>.</summary>
public sealed record GhostBatchNormOptions : RunningStatisticsOptions
{
    /// <summary>The defaults.</summary>
    public GhostBatchNormOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy with running statistics has.</param>
    public GhostBatchNormOptions(RunningStatisticsOptions options)
        : base(options)
    {
    }

    /// <summary>How the batch is cut. Default contiguous.</summary>
    public GhostGrouping Grouping { get; init; }

    /// <summary>What happens when the ghost size does not divide N. Default throw.</summary>
    public GhostRemainder Remainder { get; init; }

    /// <summary>How running statistics are fed. Default averaged.</summary>
    public GhostRunning Running { get; init; }
}

/// <summary>Ghost batch normalization: batch normalization within sub-batches ("ghosts") that share weight and bias.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>Training cuts N into K ghosts of B samples: y = weight[c] * (x - mean[k,c]) / sqrt(populationVariance[k,c] + epsilon) + bias[c], moments over
/// B*S values. Inference by running statistics has no ghosts and is batch normalization's.</para>
/// <para>Shapes: weight, bias, running_mean, running_var (C); num_batches_tracked [].</para>
/// <para>Equivalences: B = N is batch normalization, B = 1 (S above 1) instance normalization.</para>
/// <para>Remainders: contiguous and balanced gives torch.chunk's sizes (N = 257, B = 128: 86, 86, 85). Strided ghosts are n mod K with
/// K = ceil(N / B) and differ by at most one sample, so that smaller-last and balanced agree there.</para>
/// <para>Source: Hoffer, Hubara and Soudry 2017, arXiv:1705.08741. The averaged running statistics are ours: one step a batch, weighted by ghost size.</para>
/// </remarks>
public sealed class GhostBatchNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;
    private readonly GhostBatchNormOptions _options;

    /// <summary>A layer of ghosts of B samples over C channels.</summary>
    /// <param name="ghostSize">B, at least 1.</param>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The ghost size is below 1, or an option is out of range.</exception>
    public GhostBatchNorm(int ghostSize, int channels, GhostBatchNormOptions? options = null)
        : base(options ?? new GhostBatchNormOptions(), Guard.Channels(channels), channels)
    {
        if (ghostSize < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(ghostSize), ghostSize, $"The ghost size must be at least 1 sample; got {ghostSize}.");
        }

        _channels = channels;
        _options = options ?? new GhostBatchNormOptions();
        GhostSize = ghostSize;
    }

    /// <summary>B, samples per ghost.</summary>
    public int GhostSize { get; }

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.BatchDependence;

    private protected override string SetName => "channel of a ghost";

    private protected override bool SequentialRunning => _options.Running == GhostRunning.Sequential;

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position)
    {
        (nint ghosts, nint size) = Cut(shape.Samples);
        nint ghost = _options.Grouping == GhostGrouping.Strided ? sample % ghosts : sample / size;
        return ((long)ghost * shape.Channels) + channel;
    }

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override void CheckBatch(ActivationShape shape)
    {
        bool cuts = !_options.TrackRunningStatistics || !UsesRunning || UpdatesRunning;
        if (cuts && _options.Remainder == GhostRemainder.Throw && shape.Samples % GhostSize != 0)
        {
            throw new ArgumentException(
                $"The ghost size must divide the batch size; got N = {shape.Samples}, ghost size {GhostSize}. " +
                "Choose another size, or GhostRemainder.SmallerLast or Balanced.");
        }
    }

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        nint n = shape.Samples;
        (nint ghosts, nint size) = Cut(n);
        if (_options.Grouping == GhostGrouping.Contiguous)
        {
            nint full = n / size;
            layouts[0] = Layouts.PerChannelOf(shape, order, 0, full, size, size, sampleStride: 1);
            layouts[1] = Layouts.PerChannelOf(shape, order, full * size, 1, 0, n - (full * size), sampleStride: 1);
            return full * size == n ? 1 : 2;
        }

        // Ghost k is k, k + K, k + 2K, ...: the first n mod K ghosts have one sample more.
        nint larger = n % ghosts;
        int count = 0;
        if (larger > 0)
        {
            layouts[count++] = Layouts.PerChannelOf(shape, order, 0, larger, 1, (n / ghosts) + 1, ghosts);
        }

        layouts[count++] = Layouts.PerChannelOf(shape, order, larger, ghosts - larger, 1, n / ghosts, ghosts);
        return count;
    }

    // How many ghosts, and the size of the contiguous ones but for the last.
    private (nint Ghosts, nint Size) Cut(nint n)
    {
        nint ghosts = Math.Max(1, (n + GhostSize - 1) / GhostSize);
        return (ghosts, _options.Remainder == GhostRemainder.Balanced ? Math.Max(1, (n + ghosts - 1) / ghosts) : Math.Min(GhostSize, Math.Max(1, n)));
    }
}

/// <summary>The catalog's view of <see cref="GhostBatchNorm{T}"/>.</summary>
internal readonly struct GhostBatchNormStrategy : IStrategy
{
    public static string Id => "ghost-batch-norm";

    public static string Axes => "each channel of each ghost (sub-batch), over its samples and positions";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

    public static string Options(StrategySettings settings) =>
        $"ghost size {settings.GhostSize}, {Words.Of(settings.GhostGrouping)}, remainder {Words.Of(settings.GhostRemainder)}, running {Words.Of(settings.GhostRunning)}, {settings.Running()}";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new GhostBatchNorm<T>(settings.GhostSize, shape.Channels, new GhostBatchNormOptions(settings.ToRunningOptions(trackByDefault: true))
        {
            Grouping = settings.GhostGrouping,
            Remainder = settings.GhostRemainder,
            Running = settings.GhostRunning,
        });
}

/// <content>Options of <see cref="GhostBatchNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>ghost-batch-norm: samples per ghost B. Default 32.</summary>
    [Setting("--ghost-size", "ghost-batch-norm: samples in a ghost. Default 32.", Placeholder = "B", Minimum = 1)]
    public int GhostSize { get; init; } = 32;

    /// <summary>ghost-batch-norm: how the batch is cut.</summary>
    [Setting("--ghost-grouping", "ghost-batch-norm: neighbours, or every K-th sample. Default contiguous.")]
    public GhostGrouping GhostGrouping { get; init; }

    /// <summary>ghost-batch-norm: what a remainder does.</summary>
    [Setting("--ghost-remainder", "ghost-batch-norm: what to do where B does not divide N. Default throw.")]
    public GhostRemainder GhostRemainder { get; init; }

    /// <summary>ghost-batch-norm: how running statistics are fed.</summary>
    [Setting("--ghost-running", "ghost-batch-norm: one update a batch or one a ghost. Default averaged.")]
    public GhostRunning GhostRunning { get; init; }
}
