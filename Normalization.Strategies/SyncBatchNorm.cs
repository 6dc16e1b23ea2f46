using System.Numerics;
using Normalization.Core;
using Normalization.Core.Collectives;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Synchronized batch normalization: batch normalization of a batch whose samples are spread over ranks (processes, machines, threads).</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>Every rank gives its own samples to an instance of its own. Training: each takes the mean and the sum of squared deviations of
/// its n[k] values a channel; all are gathered and merged in rank order (Chan's rule), to the same bits everywhere. Outputs, input
/// gradients and running statistics are those of <see cref="BatchNorm{T}"/> on all samples together. Gradients of weight and bias are
/// of this rank's samples alone: sum them over ranks as those of any other layer.</para>
/// <para>Parts may differ in size and be empty; an empty one is given as (0, C, ...) and takes part. Forward and Backward in training
/// are collectives: every rank calls them, in the same order. Each begins with the ranks showing each other their shapes; where
/// two disagree, or one refuses its part (it throws), all throw. Inference by running statistics exchanges nothing; inference by the
/// batch's (<see cref="StatisticsSource.Batch"/>, or none tracked) is a collective, and then belongs to one thread.</para>
/// <para>Shapes: weight, bias, running_mean, running_var (C); num_batches_tracked []. Equal parameters on all ranks are the caller's to keep.</para>
/// <para>Degenerate: one value a channel over all ranks in training follows <see cref="SingleValuePolicy"/>, on all ranks alike; one value on
/// a rank is none. With no sample on any rank nothing happens.</para>
/// <para>Source: Peng et al. 2018 (MegDet), arXiv:1711.07240; as PyTorch's SyncBatchNorm, which needs GPUs and in inference uses a rank's own statistics where none are tracked.</para>
/// </remarks>
public sealed class SyncBatchNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;
    private readonly bool _tracks;
    private readonly BatchPart _part;
    private PartCall _met; // the call that the ranks have met for; 0 between calls

    /// <summary>This rank's layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1, the same on every rank.</param>
    /// <param name="collective">The ranks; used by this layer during its calls only, so that all layers of a model may share one.</param>
    /// <param name="options">Null is PyTorch's defaults; the same on every rank.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public SyncBatchNorm(int channels, ICollective collective, RunningStatisticsOptions? options = null)
        : base(options ?? new RunningStatisticsOptions(), Guard.Channels(channels), channels)
    {
        ArgumentNullException.ThrowIfNull(collective);
        _channels = channels;
        _tracks = (options ?? new RunningStatisticsOptions()).TrackRunningStatistics;
        _part = new BatchPart(collective, channels);
    }

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.BatchDependence;

    private protected override string SetName => "channel over all ranks";

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => channel;

    internal override bool SpansRanks => Training || !(_tracks && UsesRunning);

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerChannel(shape, order);
        return 1;
    }

    // A matrix of as many rows as there are values on all ranks.
    internal override ReductionLayout Whole(in ReductionLayout layout) => _met == 0 ? layout : new()
    {
        Outer = 1,
        Inner = 1,
        Blocks = 1,
        BlockLength = _part.Count * _channels,
        Columns = _channels,
        ColumnsPerSet = 1,
    };

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        if (Meet(shape, PartCall.Forward))
        {
            base.ForwardDense(shape, order, x, y);
            _met = 0;
        }
    }

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        if (Meet(shape, PartCall.Backward))
        {
            base.BackwardDense(shape, order, x, g, dx);
            _met = 0;
        }
    }

    internal override void OnRefused(ReadOnlySpan<nint> lengths)
    {
        bool alike = _met != 0; // the ranks have met: what is wrong is wrong on all of them
        _met = 0;
        if (!alike)
        {
            _part.Meet(lengths, PartCall.Refused);
        }
    }

    internal override unsafe void MomentsOfSets(ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, Statistics statistics) =>
        _part.Moments(layout, x, statistics, Epsilon);

    internal override unsafe void StandardizeSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
    {
        _part.Moments(layout, x, statistics, Epsilon);
        if (shape.Count > 0)
        {
            Standardizer.Apply(Layouts.PerGivenChannel(shape, order), x, y, weight, bias, statistics);
        }
    }

    internal override unsafe void DifferentiateSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
    {
        _part.Gradients(shape, order, layout, x, g, dx, weight, statistics);
        BatchPart.AddParameterGradients(_part.OwnSums, weightGradient, biasGradient);
    }

    // False where there is nothing to do, on any rank.
    private bool Meet(ActivationShape shape, PartCall call)
    {
        if (!SpansRanks)
        {
            return true;
        }

        call |= Training ? PartCall.Training : 0;
        call |= _tracks && UsesRunning ? PartCall.RunningStatistics : 0;
        call |= _tracks && UpdatesRunning ? PartCall.Update : 0;
        Span<nint> lengths = stackalloc nint[ActivationShape.MaximumRank];
        _met = call;
        _part.Meet(shape.CopyTo(lengths), call);
        _met = _part.Count > 0 ? call : 0;
        return _met != 0;
    }
}

/// <summary>Options of <see cref="InProcessSyncBatchNorm{T}"/>.</summary>
public sealed record InProcessSyncBatchNormOptions : RunningStatisticsOptions
{
    /// <summary>The defaults.</summary>
    public InProcessSyncBatchNormOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy with running statistics has.</param>
    public InProcessSyncBatchNormOptions(RunningStatisticsOptions options)
        : base(options)
    {
    }

    /// <summary>How many replicas, at least 1; the batch is cut into as many parts of nearly equal size. Default 2.</summary>
    public int Replicas { get; init; } = 2;

    /// <summary>Samples of each replica, at least 0 each, adding up to N in every training batch; null, the default, goes by <see cref="Replicas"/>.</summary>
    public IReadOnlyList<int>? Shards { get; init; }
}

/// <summary>Synchronized batch normalization within this process: cuts each training batch into shards, one for each replica on a thread of its own.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>Does what ranks with <see cref="SyncBatchNorm{T}"/> do, over <see cref="InProcessCollective"/>, behind one Forward and one
/// Backward of the whole batch; gradients of weight and bias are summed over shards. It equals <see cref="BatchNorm{T}"/> and is there to
/// be compared with it. Replica k takes the samples after those of replica k - 1. Inference is not cut.</para>
/// <para>Shapes: weight, bias, running_mean, running_var (C); num_batches_tracked [].</para>
/// <para>Threads are kept and lent to other instances between calls. The same bits in every run.</para>
/// </remarks>
public sealed class InProcessSyncBatchNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;
    private readonly InProcessSyncBatchNormOptions _options;
    private readonly Replicas _replicas;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public InProcessSyncBatchNorm(int channels, InProcessSyncBatchNormOptions? options = null)
        : base(options ?? new InProcessSyncBatchNormOptions(), Guard.Channels(channels), channels)
    {
        _channels = channels;
        _options = options ?? new InProcessSyncBatchNormOptions();
        if (_options.Replicas < 1)
        {
            throw new ArgumentException($"There must be at least 1 replica; got {_options.Replicas}.", nameof(options));
        }

        if (_options.Shards is { } shards && (shards.Count == 0 || shards.Any(size => size < 0)))
        {
            throw new ArgumentException($"There must be at least 1 shard, of at least 0 samples each; got {string.Join(",", shards)}.", nameof(options));
        }

        _replicas = new Replicas(_options.Shards?.Count ?? _options.Replicas, channels);
    }

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.BatchDependence;

    private protected override string SetName => "channel";

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => channel;

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override void CheckBatch(ActivationShape shape)
    {
        if (Training && shape.Samples > 0 && _options.Shards is { } shards)
        {
            long sum = 0;
            for (int i = 0; i < shards.Count; i++)
            {
                sum += shards[i];
            }

            if (sum != shape.Samples)
            {
                throw new ArgumentException(
                    $"The shards must add up to the batch size; got N = {shape.Samples} and shards {string.Join(",", shards)}, which make {sum}. Give other shards, or a number of replicas.");
            }
        }
    }

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerChannel(shape, order);
        return 1;
    }

    internal override unsafe void StandardizeSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
    {
        if (Training)
        {
            Cut(shape);
            _replicas.Forward(shape, order, new() { Input = x, Result = y, Weight = weight, Bias = bias, Statistics = statistics, Epsilon = Epsilon });
        }
        else
        {
            base.StandardizeSets(shape, order, layout, x, y, weight, bias, statistics);
        }
    }

    internal override unsafe void DifferentiateSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
    {
        if (Training)
        {
            Cut(shape);
            ReadOnlySpan<double> sums = _replicas.Backward(
                shape, order, new() { Input = x, OutputGradient = g, Result = dx, Weight = weight, Statistics = statistics, Epsilon = Epsilon });
            BatchPart.AddParameterGradients(sums, weightGradient, biasGradient);
        }
        else
        {
            base.DifferentiateSets(shape, order, layout, x, g, dx, weight, statistics, weightGradient, biasGradient);
        }
    }

    private void Cut(ActivationShape shape)
    {
        for (int k = 0; k < _replicas.Samples.Length; k++)
        {
            nint count = _replicas.Samples.Length;
            _replicas.Samples[k] = _options.Shards is { } shards ? shards[k] : (shape.Samples / count) + (k < shape.Samples % count ? 1 : 0);
        }
    }

    /// <summary>The tensors of one pass; a backward one has an output gradient.</summary>
    private unsafe struct Pass
    {
        public T* Input;
        public T* OutputGradient;
        public T* Result;
        public T* Weight;
        public T* Bias;
        public Statistics Statistics;
        public double Epsilon;
    }

    /// <summary>The replicas' parts and, during a pass, what they work on.</summary>
    private sealed unsafe class Replicas : IReplicaJob
    {
        private readonly int _channels;
        private readonly double[][] _statistics; // by replica: where it merges for itself; the first writes to the layer's own
        private IReadOnlyList<InProcessCollective> _ranks = [];
        private BatchPart[] _parts = [];
        private ActivationShape _shape;
        private MemoryOrder _order;
        private Pass _pass;

        public Replicas(int count, int channels)
        {
            _channels = channels;
            Samples = new nint[count];
            _statistics = [.. Enumerable.Range(0, count).Select(_ => new double[3 * channels])];
            Gather();
        }

        public nint[] Samples { get; }

        public void Forward(ActivationShape shape, MemoryOrder order, in Pass pass) => Begin(shape, order, pass);

        /// <summary>Returns the sums of g and of g * xhat by channel, over all replicas.</summary>
        public ReadOnlySpan<double> Backward(ActivationShape shape, MemoryOrder order, in Pass pass)
        {
            Begin(shape, order, pass);
            return _parts[0].Sums;
        }

        public void Run(int replica)
        {
            try
            {
                nint first = 0;
                for (int k = 0; k < replica; k++)
                {
                    first += Samples[k];
                }

                RunShard(replica, _shape.WithSamples(Samples[replica]), first * _shape.Channels * _shape.SpatialSize);
            }
            catch (Exception failure)
            {
                _ranks[replica].Leave(failure.Message);
                throw;
            }
        }

        private void Begin(ActivationShape shape, MemoryOrder order, in Pass pass)
        {
            (_shape, _order, _pass) = (shape, order, pass);
            try
            {
                ReplicaThreads.Run(this, Samples.Length, Samples.Length - Samples.AsSpan().Count((nint)0));
            }
            catch
            {
                Gather(); // the ranks that were left cannot meet again
                throw;
            }
        }

        private void Gather()
        {
            _ranks = InProcessCollective.CreateGroup(Samples.Length);
            _parts = [.. _ranks.Select(rank => new BatchPart(rank, _channels))];
        }

        private void RunShard(int replica, ActivationShape shape, nint offset)
        {
            BatchPart part = _parts[replica];
            ReductionLayout layout = Layouts.PerChannel(shape, _order);
            T* x = _pass.Input + offset;
            Span<nint> lengths = stackalloc nint[ActivationShape.MaximumRank];
            bool isForward = _pass.OutputGradient == null;
            part.Meet(shape.CopyTo(lengths), isForward ? PartCall.Forward : PartCall.Backward);
            if (!isForward)
            {
                part.Gradients(shape, _order, layout, x, _pass.OutputGradient + offset, _pass.Result + offset, _pass.Weight, _pass.Statistics);
                return;
            }

            fixed (double* own = _statistics[replica])
            {
                Statistics statistics = replica == 0
                    ? _pass.Statistics
                    : new() { Mean = own, PopulationVariance = own + _channels, InverseStd = own + (2 * _channels) };
                part.Moments(layout, x, statistics, _pass.Epsilon);
                if (shape.Count > 0)
                {
                    Standardizer.Apply(Layouts.PerGivenChannel(shape, _order), x, _pass.Result + offset, _pass.Weight, _pass.Bias, statistics);
                }
            }
        }
    }
}

/// <summary>The catalog's view of <see cref="InProcessSyncBatchNorm{T}"/>.</summary>
internal readonly struct SyncBatchNormStrategy : IStrategy
{
    public static string Id => "sync-batch-norm";

    public static string Axes => "each channel, over the samples and positions of all replicas";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

    public static string Options(StrategySettings settings) =>
        $"{(settings.Shards is { } shards ? $"shards {string.Join(",", shards)}" : $"{settings.Replicas} replicas")}, {settings.Running()}";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new InProcessSyncBatchNorm<T>(shape.Channels, new InProcessSyncBatchNormOptions(settings.ToRunningOptions(trackByDefault: true))
        {
            Replicas = settings.Replicas,
            Shards = settings.Shards,
        });
}

/// <content>Options of <see cref="InProcessSyncBatchNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>sync-batch-norm: replicas, each with a nearly equal part of the batch. Default 2.</summary>
    [Setting("--replicas", "sync-batch-norm: replicas with nearly equal parts of the batch. Default 2.", Placeholder = "K", Minimum = 1, Maximum = 256)]
    public int Replicas { get; init; } = 2;

    /// <summary>sync-batch-norm: samples of each replica, which add up to N; null goes by <see cref="Replicas"/>.</summary>
    [Setting("--shards", "sync-batch-norm: samples of each replica, such as 3,5,0; they add up to N. Default by --replicas.", Placeholder = "n,n")]
    public IReadOnlyList<int>? Shards { get; init; }
}
