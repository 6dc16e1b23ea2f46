using System.Buffers;
using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Switchable normalization: mean and variance are learned mixtures of those of instance, layer and batch normalization.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = weight[c] * (x - mean[n,c]) / sqrt(variance[n,c] + epsilon) + bias[c], mean = sum of w[k] mean_k and variance = sum of u[k] variance_k over
/// k = IN (S values), LN (C*S values of the sample), BN (N*S values of the channel); w = softmax(mean_weight), u = softmax(var_weight).</para>
/// <para>Layer and batch moments are taken from the instances' in centered form, variance_ln = mean of variance_in + variance of mean_in over c,
/// never as E[x^2] - mean^2. All variances are population variances.</para>
/// <para>Gradient: exact, through all six statistics; in inference the batch's are the running ones and constant.</para>
/// <para>Shapes: mean_weight, var_weight (3) in the order IN, LN, BN, initially 1 (each a third); weight, bias, running_mean, running_var (C);
/// num_batches_tracked [].</para>
/// <para>Equivalences: logits (50, 0, 0) are instance normalization, (0, 50, 0) layer normalization with a weight by channel, (0, 0, 50) batch normalization.</para>
/// <para>Degenerate: (N, C) has no instance statistics and is refused, one position throws.</para>
/// <para>Source: Luo, Ren, Peng, Zhang and Li 2018, arXiv:1806.10779, equations 3 to 5. Differs from the authors' code, which takes sample variances
/// (NaN for one position), starts running_var at 0, calls the weight of the old value momentum, and mixes two statistics, not three, for (N, C).</para>
/// </remarks>
public sealed class SwitchableNorm<T> : Normalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Kinds = 3; // IN, LN, BN
    private readonly int _channels;
    private readonly RunningStatistics<T>? _running;
    private double[] _saved = [];
    private bool _savedRunning;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public SwitchableNorm(int channels, RunningStatisticsOptions? options = null)
        : base(options ?? new RunningStatisticsOptions())
    {
        options ??= new RunningStatisticsOptions();
        _channels = Guard.Channels(channels);
        if (options.SingleValue != SingleValuePolicy.Throw)
        {
            throw new ArgumentException(
                $"SwitchableNorm mixes three statistics, of which one value leaves some and not others; got SingleValuePolicy.{options.SingleValue}. Choose Throw.",
                nameof(options));
        }

        RunningStatisticsOptions.Validate(options);
        AddAffine(options, channels);
        MeanWeight = AddParameter("mean_weight", [Kinds], 1);
        VarianceWeight = AddParameter("var_weight", [Kinds], 1);
        if (options.TrackRunningStatistics)
        {
            _running = new RunningStatistics<T>(channels, options);
            AddBuffer(_running.Mean);
            AddBuffer(_running.Spread);
            AddBuffer(_running.Tracked);
        }
    }

    /// <summary>The logits of the means' shares, (3): IN, LN, BN.</summary>
    public Parameter<T> MeanWeight { get; }

    /// <summary>The logits of the variances' shares, (3): IN, LN, BN.</summary>
    public Parameter<T> VarianceWeight { get; }

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.BatchDependence;

    /// <inheritdoc/>
    public override bool MixesReductionSets => true;

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
                $"SwitchableNorm averages over spatial positions and (N, C) input {shape} has none. Add a spatial axis, or use LayerNorm or BatchNorm.");
        }
    }

    internal override void CheckBatch(ActivationShape shape)
    {
        if (shape.SpatialSize == 1 && shape.Count > 0)
        {
            throw new InvalidOperationException(
                $"SwitchableNorm needs more than 1 value per sample and channel (spatial positions) to take statistics, got input {shape} (batch size {shape.Samples}) with 1. " +
                "Give it more positions, or use LayerNorm or BatchNorm.");
        }
    }

    private protected override RunningStatistics<T>? Running => _running;

    // An output hangs on its whole channel and its whole sample, hence all of them on the tensor; with running statistics on the sample alone.
    internal override int TensorsReadTwice(ActivationShape shape, MemoryOrder order, bool backward, nint cacheBytes)
    {
        ReductionLayout samples = Layouts.PerSet(shape, MemoryOrder.ChannelsFirst, groups: 1);
        ReductionLayout sets = _running is not null && UsesRunning ? samples : samples with { Outer = 1, BlockLength = shape.Count, RunLength = shape.Count };
        return SecondReads.Of(sets, backward ? 2 : 1, 0, Unsafe.SizeOf<T>(), cacheBytes);
    }

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        bool usesRunning = _running is not null && UsesRunning;
        int size = Mixture.Size(shape);
        if (Training && _saved.Length < size)
        {
            _saved = new double[size];
        }

        double[] kept = Training ? _saved : ArrayPool<double>.Shared.Rent(size);
        fixed (double* memory = kept)
        fixed (T* weight = Weight?.Values, bias = Bias?.Values)
        {
            Pass pass = NewPass(shape, order, x, memory, usesRunning);
            pass.Y = y;
            pass.Weight = weight;
            pass.Bias = bias;
            pass.Slabs.Run(ref pass);
            RequireVariance(pass.Mixture);
            if (Training)
            {
                _savedRunning = usesRunning;
                Update(shape, order, pass.Mixture);
            }
        }

        if (!Training)
        {
            ArrayPool<double>.Shared.Return(kept);
        }
    }

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        bool usesRunning = Training ? _savedRunning : _running is not null && UsesRunning;
        double[] kept = Training ? _saved : ArrayPool<double>.Shared.Rent(Mixture.Size(shape));
        double[] rented = ArrayPool<double>.Shared.Rent(MixtureGradient.Size(shape));
        fixed (double* memory = kept, scratch = rented)
        fixed (T* weight = Weight?.Values)
        {
            var mixture = new Mixture(memory, shape);
            if (!Training)
            {
                Pass pass = NewPass(shape, order, x, memory, usesRunning);
                pass.Slabs.Run(ref pass);
            }

            ReductionLayout layout = Layouts.PerSampleAndChannel(shape, order);
            var gradient = new MixtureGradient(scratch, shape);
            Standardizer.GradientMeans(layout, x, g, mixture.Mixed, gradient.MeanGradient, gradient.MeanProduct);
            TakeGradient(mixture, gradient, weight, usesRunning);
            Standardizer.ApplyGradient(layout, x, g, dx, gradient.Lines);
            AddParameterGradients(gradient);
        }

        ArrayPool<double>.Shared.Return(rented);
        if (!Training)
        {
            ArrayPool<double>.Shared.Return(kept);
        }
    }

    // exp(logit) / sum, in double.
    private static unsafe void Softmax(Parameter<T> logits, double* shares)
    {
        double largest = double.NegativeInfinity;
        for (int k = 0; k < Kinds; k++)
        {
            shares[k] = double.CreateTruncating(logits.Values[k]);
            largest = Math.Max(largest, shares[k]);
        }

        double sum = 0;
        for (int k = 0; k < Kinds; k++)
        {
            shares[k] = Math.Exp(shares[k] - largest);
            sum += shares[k];
        }

        for (int k = 0; k < Kinds; k++)
        {
            shares[k] /= sum;
        }
    }

    // In the memory of its mixture, whose statistics of channels are known where the running ones are used, and whose shares are.
    private unsafe Pass NewPass(ActivationShape shape, MemoryOrder order, T* x, double* memory, bool usesRunning)
    {
        ReductionLayout layout = Layouts.PerSampleAndChannel(shape, order);
        var mixture = new Mixture(memory, shape);
        for (int c = 0; c < _channels && usesRunning; c++)
        {
            mixture.ChannelMean[c] = double.CreateTruncating(_running!.Mean.Values[c]);
            mixture.ChannelVariance[c] = double.CreateTruncating(_running!.Spread.Values[c]);
        }

        Softmax(MeanWeight, mixture.MeanShares);
        Softmax(VarianceWeight, mixture.VarianceShares);
        return new Pass
        {
            Layout = layout,
            Slabs = new Slabs(layout, whole: !usesRunning, CacheSizes.SecondLevel / 2 / sizeof(T)),
            Mixture = mixture,
            GivenChannels = usesRunning,
            X = x,
            Epsilon = Epsilon,
        };
    }

    // From the means of g and of g xhat by instance to the two lines of dx, and to the gradients of everything learned.
    private unsafe void TakeGradient(in Mixture mixture, in MixtureGradient gradient, T* weight, bool usesRunning)
    {
        nint slots = mixture.Samples * _channels;
        double* w = mixture.MeanShares;
        double* u = mixture.VarianceShares;
        new Span<double>(gradient.Totals, MixtureGradient.TotalsSize(_channels)).Clear();
        for (nint slot = 0; slot < slots; slot++)
        {
            nint n = slot / _channels;
            nint c = slot % _channels;
            double scale = weight == null ? 1 : Simd.Get(weight + c);
            double inverse = mixture.Mixed.InverseStd[slot];
            double sum = gradient.MeanGradient[slot] * mixture.Positions;
            double product = gradient.MeanProduct[slot] * mixture.Positions;
            double throughMean = -inverse * scale * sum;
            double throughVariance = -0.5 * inverse * inverse * scale * product;
            gradient.BiasGradient[c] += sum;
            gradient.WeightGradient[c] += product;
            gradient.ThroughMean[slot] = throughMean;
            gradient.ThroughVariance[slot] = throughVariance;
            gradient.LayerThroughMean[n] += throughMean;
            gradient.LayerThroughVariance[n] += throughVariance;
            gradient.ChannelThroughMean[c] += throughMean;
            gradient.ChannelThroughVariance[c] += throughVariance;

            // The softmax's derivative takes each statistic's distance from the mixture: the statistics themselves may be far from 0.
            for (int k = 0; k < Kinds; k++)
            {
                gradient.MeanWeightGradient[k] += w[k] * throughMean * (mixture.MeanOf(k, slot) - mixture.Mixed.Mean[slot]);
                gradient.VarianceWeightGradient[k] += u[k] * throughVariance * (mixture.VarianceOf(k, slot) - mixture.Mixed.PopulationVariance[slot]);
            }

            gradient.Lines.GradientSlope[slot] = scale * inverse;
        }

        double inSize = mixture.Positions;
        double layerSize = inSize * _channels;
        double batchSize = inSize * mixture.Samples;
        for (nint slot = 0; slot < slots; slot++)
        {
            nint n = slot / _channels;
            nint c = slot % _channels;
            double center = mixture.Instances.Mean[slot];
            double instance = 2 * u[0] * gradient.ThroughVariance[slot] / inSize;
            double layer = 2 * u[1] * gradient.LayerThroughVariance[n] / layerSize;
            double slope = instance + layer;
            double offset = (w[0] * gradient.ThroughMean[slot] / inSize) + (w[1] * gradient.LayerThroughMean[n] / layerSize)
                + (layer * (center - mixture.LayerMean[n]));
            if (!usesRunning)
            {
                double batch = 2 * u[2] * gradient.ChannelThroughVariance[c] / batchSize;
                slope += batch;
                offset += (w[2] * gradient.ChannelThroughMean[c] / batchSize) + (batch * (center - mixture.ChannelMean[c]));
            }

            gradient.Lines.Mean[slot] = center;
            gradient.Lines.Slope[slot] = slope;
            gradient.Lines.Offset[slot] = offset;
        }
    }

    private unsafe void AddParameterGradients(in MixtureGradient gradient)
    {
        if (!LearnParameters)
        {
            return;
        }

        Add(Weight, gradient.WeightGradient);
        Add(Bias, gradient.BiasGradient);
        Add(MeanWeight, gradient.MeanWeightGradient);
        Add(VarianceWeight, gradient.VarianceWeightGradient);

        static void Add(Parameter<T>? parameter, double* sums)
        {
            if (parameter is not null)
            {
                fixed (T* target = parameter.Gradient)
                {
                    Simd.AddTo(target, sums, parameter.Gradient.Length);
                }
            }
        }
    }

    private unsafe void RequireVariance(in Mixture mixture)
    {
        nint slots = mixture.Samples * _channels;
        for (nint slot = 0; slot < slots; slot++)
        {
            double variance = mixture.Mixed.PopulationVariance[slot];
            if (Epsilon == 0 && variance == 0)
            {
                throw new DivideByZeroException(
                    $"SwitchableNorm: with epsilon 0 every mixed variance must be above 0, but that of sample {slot / _channels}, channel {slot % _channels} is 0. Use an epsilon above 0.");
            }

            if (Training && NonFinite == NonFinitePolicy.Throw && !(Simd.Fits<T>(variance) && Simd.Fits<T>(mixture.Mixed.Mean[slot])))
            {
                throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                    $"SwitchableNorm: sample {slot / _channels}, channel {slot % _channels} has mixed mean {mixture.Mixed.Mean[slot]} and variance {variance}, which {ElementTypes.NameOf<T>()} cannot hold as finite numbers. Nothing was updated. Mend the input, or choose NonFinitePolicy.SkipUpdate."));
            }
        }
    }

    private unsafe void Update(ActivationShape shape, MemoryOrder order, in Mixture mixture)
    {
        if (_running is null || !UpdatesRunning)
        {
            return;
        }

        if (_savedRunning)
        {
            mixture.PoolBatch();
        }

        Refuse(_running.Update(
            shape, new ReadOnlySpan<double>(mixture.BatchMean, _channels), new ReadOnlySpan<double>(mixture.BatchVariance, _channels),
            [Layouts.PerChannel(shape, order)], sequential: false));
    }

    // The statistics of a batch and, where y is given, the output; a piece is a range of samples, whose passes over memory follow each other in cache.
    private unsafe struct Pass : IPieceJob
    {
        public ReductionLayout Layout;
        public Slabs Slabs; // one where the batch's own statistics are mixed in
        public Mixture Mixture;
        public bool GivenChannels; // whether the channels' statistics are known before
        public T* X;
        public T* Y; // null where nothing is written
        public T* Weight;
        public T* Bias;
        public double Epsilon;

        public readonly void Run(int piece)
        {
            (int start, int end) = Slabs[piece];
            ReductionLayout samples = Slabs.Cut(Layout, start, end);
            nint slot = Layout.Slots / Layout.Outer * start;
            Standardizer.Moments(samples, X, Mixture.Instances.From(slot), Epsilon);
            Mixture.PoolLayers(start, end);
            if (!GivenChannels)
            {
                Mixture.PoolBatch();
                Mixture.TakeBatch();
            }

            Mixture.Mix(start, end, Epsilon);
            if (Y != null)
            {
                Standardizer.Apply(samples, X, Y, Weight, Bias, Mixture.Mixed.From(slot), Slabs.Elements);
            }
        }
    }

    // The statistics of a batch, in the memory they are given; slots are sample * C + channel.
    private readonly unsafe struct Mixture
    {
        public readonly nint Samples;
        public readonly double Positions;
        public readonly Statistics Instances;
        public readonly Statistics Mixed;
        public readonly double* LayerMean; // by sample
        public readonly double* LayerVariance;
        public readonly double* BatchMean; // by channel: of this batch
        public readonly double* BatchVariance;
        public readonly double* ChannelMean; // by channel: what normalizes, the batch's or the running
        public readonly double* ChannelVariance;
        public readonly double* MeanShares;
        public readonly double* VarianceShares;
        private readonly nint _channels;

        public Mixture(double* memory, ActivationShape shape)
        {
            Samples = shape.Samples;
            Positions = shape.SpatialSize;
            _channels = shape.Channels;
            nint slots = Samples * _channels;
            Instances = new Statistics { Mean = memory, PopulationVariance = memory + slots, InverseStd = memory + (2 * slots) };
            memory += 3 * slots;
            Mixed = new Statistics { Mean = memory, PopulationVariance = memory + slots, InverseStd = memory + (2 * slots) };
            LayerMean = memory + (3 * slots);
            LayerVariance = LayerMean + Samples;
            BatchMean = LayerVariance + Samples;
            BatchVariance = BatchMean + _channels;
            ChannelMean = BatchVariance + _channels;
            ChannelVariance = ChannelMean + _channels;
            MeanShares = ChannelVariance + _channels;
            VarianceShares = MeanShares + Kinds;
        }

        public static int Size(ActivationShape shape) =>
            checked((int)((6 * shape.Samples * shape.Channels) + (2 * shape.Samples) + (4 * shape.Channels) + (2 * Kinds)));

        public readonly double MeanOf(int kind, nint slot) => kind switch
        {
            0 => Instances.Mean[slot],
            1 => LayerMean[slot / _channels],
            _ => ChannelMean[slot % _channels],
        };

        public readonly double VarianceOf(int kind, nint slot) => kind switch
        {
            0 => Instances.PopulationVariance[slot],
            1 => LayerVariance[slot / _channels],
            _ => ChannelVariance[slot % _channels],
        };

        public readonly void PoolLayers(nint start, nint end)
        {
            for (nint n = start; n < end; n++)
            {
                Pool(n * _channels, 1, _channels, LayerMean + n, LayerVariance + n);
            }
        }

        public readonly void PoolBatch()
        {
            for (nint c = 0; c < _channels; c++)
            {
                Pool(c, _channels, Samples, BatchMean + c, BatchVariance + c);
            }
        }

        // The batch's statistics are those that normalize.
        public readonly void TakeBatch()
        {
            new ReadOnlySpan<double>(BatchMean, checked((int)(2 * _channels))).CopyTo(new Span<double>(ChannelMean, checked((int)(2 * _channels))));
        }

        public readonly void Mix(nint start, nint end, double epsilon)
        {
            for (nint slot = start * _channels; slot < end * _channels; slot++)
            {
                // About the instance's mean, so that nothing is lost where all three are far from 0.
                double center = Instances.Mean[slot];
                double shift = (MeanShares[1] * (MeanOf(1, slot) - center)) + (MeanShares[2] * (MeanOf(2, slot) - center));
                double variance = 0;
                for (int k = 0; k < Kinds; k++)
                {
                    variance += VarianceShares[k] * VarianceOf(k, slot);
                }

                Mixed.Mean[slot] = center + shift;
                Mixed.PopulationVariance[slot] = variance;
                Mixed.InverseStd[slot] = Standardizer.InverseStd(variance, epsilon);
            }
        }

        // The moments of instances of one size: the mean of their means; the mean of their variances plus the variance of their means.
        private readonly void Pool(nint slot, nint stride, nint count, double* mean, double* variance)
        {
            double origin = Instances.Mean[slot];
            double shift = 0;
            for (nint i = 0; i < count; i++)
            {
                shift += Instances.Mean[slot + (i * stride)] - origin;
            }

            double pooled = origin + (shift / count);
            double squares = 0;
            for (nint i = 0; i < count; i++)
            {
                double delta = Instances.Mean[slot + (i * stride)] - pooled;
                squares += Instances.PopulationVariance[slot + (i * stride)] + (delta * delta);
            }

            *mean = pooled;
            *variance = squares / count;
        }
    }

    // What a backward pass works on.
    private readonly unsafe struct MixtureGradient
    {
        public readonly GradientLines Lines; // by slot
        public readonly double* MeanGradient;
        public readonly double* MeanProduct;
        public readonly double* ThroughMean; // dL/dmean of the mixed mean
        public readonly double* ThroughVariance;
        public readonly double* LayerThroughMean; // by sample: their sums
        public readonly double* LayerThroughVariance;
        public readonly double* Totals; // everything from here on
        public readonly double* ChannelThroughMean; // by channel: their sums
        public readonly double* ChannelThroughVariance;
        public readonly double* WeightGradient;
        public readonly double* BiasGradient;
        public readonly double* MeanWeightGradient;
        public readonly double* VarianceWeightGradient;

        public MixtureGradient(double* memory, ActivationShape shape)
        {
            nint slots = shape.Samples * shape.Channels;
            Lines = new GradientLines { Mean = memory, GradientSlope = memory + slots, Slope = memory + (2 * slots), Offset = memory + (3 * slots) };
            MeanGradient = memory + (4 * slots);
            MeanProduct = MeanGradient + slots;
            ThroughMean = MeanProduct + slots;
            ThroughVariance = ThroughMean + slots;
            LayerThroughMean = ThroughVariance + slots;
            LayerThroughVariance = LayerThroughMean + shape.Samples;
            new Span<double>(LayerThroughMean, checked((int)(2 * shape.Samples))).Clear();
            Totals = LayerThroughVariance + shape.Samples;
            ChannelThroughMean = Totals;
            ChannelThroughVariance = ChannelThroughMean + shape.Channels;
            WeightGradient = ChannelThroughVariance + shape.Channels;
            BiasGradient = WeightGradient + shape.Channels;
            MeanWeightGradient = BiasGradient + shape.Channels;
            VarianceWeightGradient = MeanWeightGradient + Kinds;
        }

        public static int Size(ActivationShape shape) =>
            checked((int)((8 * shape.Samples * shape.Channels) + (2 * shape.Samples)) + TotalsSize(shape.Channels));

        public static int TotalsSize(int channels) => (4 * channels) + (2 * Kinds);
    }
}

/// <summary>The catalog's view of <see cref="SwitchableNorm{T}"/>.</summary>
internal readonly struct SwitchableNormStrategy : IStrategy
{
    public static string Id => "switchable-norm";

    public static string Axes => "a learned mixture: each channel of each sample, each sample, each channel over all samples";

    public static IReadOnlyList<string> Tensors =>
        ["weight", "bias", "mean_weight", "var_weight", "running_mean", "running_var", "num_batches_tracked"];

    public static string Options(StrategySettings settings) => settings.Running();

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        SwitchableNorm<T>.RequirePositions(shape);
        return new SwitchableNorm<T>(shape.Channels, settings.ToRunningOptions(trackByDefault: true));
    }
}
