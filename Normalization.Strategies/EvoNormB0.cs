using System.Buffers;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="EvoNormB0{T}"/>.</summary>
public sealed record EvoNormB0Options : RunningStatisticsOptions
{
    /// <summary>The defaults.</summary>
    public EvoNormB0Options()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy with running statistics has.</param>
    public EvoNormB0Options(RunningStatisticsOptions options)
        : base(options)
    {
    }

    /// <summary>Whether there is the nonlinearity, and with it the normalization; off leaves weight and bias, and no state. Default true.</summary>
    public bool Nonlinearity { get; init; } = true;
}

/// <summary>EvoNorm-B0: x over the larger of the batch's deviation and a line through the instance's; normalization and activation in one.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = weight[c] * x / max(a[c], v[c] x + s[n,c]) + bias[c] with a = sqrt(batchVariance[c] + epsilon) over N*S values and
/// s = sqrt(instanceVariance[n,c] + epsilon) over S values, both population variances. No mean is subtracted.</para>
/// <para>Gradient: exact, through both deviations; at a tie the batch's is taken. Inference takes a from the running variance, as a constant, and s
/// from the input.</para>
/// <para>Shapes: v, weight, bias, running_var (C), running_var initially 1; num_batches_tracked []. There is no running mean.</para>
/// <para>Degenerate: (N, C) has no instance variance and is refused, one position throws.</para>
/// <para>Source: Liu, Brock, Simonyan and Le 2020, arXiv:2004.02967, Table 2. The authors store the population variance with a momentum of 0.1 for
/// the new batch; here <see cref="RunningStatisticsOptions.RunningVariance"/> is the sample variance by default, as in all strategies.</para>
/// </remarks>
public sealed class EvoNormB0<T> : EvoNorm<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly RunningStatistics<T>? _running;
    private double[] _statistics = [];
    private bool _savedRunning;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public EvoNormB0(int channels, EvoNormB0Options? options = null)
        : base(options ?? new EvoNormB0Options(), Guard.Channels(channels), (options ?? new EvoNormB0Options()).Nonlinearity)
    {
        options ??= new EvoNormB0Options();
        RunningStatisticsOptions.Validate(options);
        if (options.Nonlinearity && options.TrackRunningStatistics)
        {
            _running = new RunningStatistics<T>(channels, options);
            AddBuffer(_running.Spread);
            AddBuffer(_running.Tracked);
        }
    }

    /// <inheritdoc/>
    /// <remarks>
    /// The scale laws hold for positive factors: a maximum has no sign to give back. Dependence on the batch is not claimed, nor its absence: it
    /// is as large as the share of elements that divide by the batch's deviation, and of inputs far above 0 none do.
    /// </remarks>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ScaleInvariance | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.BatchPermutationEquivariance;

    private protected override string SetName => "sample and channel (spatial positions)";

    internal override void CheckShape(ActivationShape shape)
    {
        base.CheckShape(shape);
        RequirePositions(shape);
    }

    internal static void RequirePositions(ActivationShape shape)
    {
        if (shape.Rank == 2)
        {
            throw new ArgumentException(
                $"EvoNormB0 takes a variance over spatial positions and (N, C) input {shape} has none. Add a spatial axis, or use EvoNormS0 with groups of several channels.");
        }
    }

    internal override void CheckBatch(ActivationShape shape)
    {
        if (V is not null && shape.Count > 0)
        {
            RequireSetSize(shape, shape.SpatialSize);
        }
    }

    private protected override RunningStatistics<T>? Running => _running;

    // Instances lie within their channels; only where the channels' variances are kept from before do they decide.
    internal override int TensorsReadTwice(ActivationShape shape, MemoryOrder order, bool backward, nint cacheBytes)
    {
        ReductionLayout layout = _running is not null && UsesRunning ? Layouts.PerSampleAndChannel(shape, order) : Layouts.PerChannel(shape, order);
        return V is null ? 0 : SecondReads.Of(layout, backward ? 2 : 1, 0, Unsafe.SizeOf<T>(), cacheBytes);
    }

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        if (V is null)
        {
            ApplyAffine(shape, order, x, y);
            return;
        }

        EvoNormB0Pass<T> pass = NewPass(shape, order, x, y);
        pass.TakesMoments = true;
        pass.Store = Standardizer.ForwardStore(pass.Layout, x, y);
        bool usesRunning = _running is not null && UsesRunning;
        if (usesRunning)
        {
            RequireRunningVariances();
        }

        int size = pass.StatisticsSize;
        double[] kept = Training ? Saved(size) : ArrayPool<double>.Shared.Rent(size);
        Run(ref pass, kept, usesRunning);
        ReadOnlySpan<double> instances = kept.AsSpan((int)pass.Layout.Slots, (int)pass.Layout.Slots);
        RequireVariances(instances, SetName);
        if (!Training)
        {
            ArrayPool<double>.Shared.Return(kept);
            return;
        }

        _savedRunning = usesRunning;
        ReadOnlySpan<double> means = kept.AsSpan(3 * (int)pass.Layout.Slots, Channels);
        ReadOnlySpan<double> variances = kept.AsSpan((3 * (int)pass.Layout.Slots) + Channels, Channels);
        RequireVariances(variances, "channel");
        if (_running is not null && UpdatesRunning)
        {
            Refuse(_running.Update(shape, means, variances, [Layouts.PerChannel(shape, order)], sequential: false));
        }
    }

    private void RequireRunningVariances()
    {
        T[] variances = _running!.Spread.Values;
        for (int c = 0; Epsilon == 0 && c < variances.Length; c++)
        {
            if (T.IsZero(variances[c]))
            {
                throw RunningVarianceIsZero(c);
            }
        }
    }

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        if (V is null)
        {
            DifferentiateAffine(shape, order, x, g, dx);
            return;
        }

        EvoNormB0Pass<T> pass = NewPass(shape, order, x, dx);
        pass.G = g;
        pass.TakesMoments = !Training;
        pass.Store = Standardizer.BackwardStore(pass.Layout, g, dx);
        double[] kept = Training ? _statistics : ArrayPool<double>.Shared.Rent(pass.StatisticsSize);
        bool usesRunning = Training ? _savedRunning : _running is not null && UsesRunning;
        if (usesRunning && !Training)
        {
            RequireRunningVariances();
        }

        Run(ref pass, kept, usesRunning);
        if (!Training)
        {
            ArrayPool<double>.Shared.Return(kept);
        }
    }

    private unsafe EvoNormB0Pass<T> NewPass(ActivationShape shape, MemoryOrder order, T* x, T* result)
    {
        ReductionLayout layout = Layouts.PerChannelAndSample(shape, order);
        bool byColumns = layout.Columns > 1;
        return new EvoNormB0Pass<T>
        {
            Layout = layout,
            Slabs = new Slabs(layout, whole: byColumns),
            Samples = (int)shape.Samples,
            ChannelCount = Channels,
            Positions = shape.SpatialSize,
            SampleStride = byColumns ? Channels : 1,
            ChannelStride = byColumns ? 1 : shape.Samples,
            X = x,
            Result = result,
            Epsilon = Epsilon,
        };
    }

    private double[] Saved(int size)
    {
        if (_statistics.Length < size)
        {
            _statistics = new double[size];
        }

        return _statistics;
    }

    private unsafe void Run(ref EvoNormB0Pass<T> pass, double[] kept, bool usesRunning)
    {
        nint slots = pass.Layout.Slots;
        nint size = ((EvoNormB0Pass<T>.Rows + EvoNormB0Pass<T>.Terms) * slots) + (3 * Channels);
        double[] rented = ArrayPool<double>.Shared.Rent(checked((int)size));
        fixed (double* statistics = kept, memory = rented)
        fixed (T* v = V!.Values, weight = Weight?.Values, bias = Bias?.Values, running = usesRunning ? _running!.Spread.Values : null)
        {
            pass.Instances = new Statistics { Mean = statistics, PopulationVariance = statistics + slots, InverseStd = statistics + (2 * slots) };
            pass.BatchMean = statistics + (3 * slots);
            pass.BatchVariance = pass.BatchMean + Channels;
            pass.Coefficients = memory;
            pass.Sums = memory + (EvoNormB0Pass<T>.Rows * slots);
            pass.Totals = pass.Sums + (EvoNormB0Pass<T>.Terms * slots);
            pass.V = v;
            pass.Weight = weight;
            pass.Bias = bias;
            pass.RunningVariance = running;
            pass.Slabs.Run(ref pass);
            if (pass.G != null)
            {
                AddGradient(Bias, pass.Totals);
                AddGradient(Weight, pass.Totals + Channels);
                AddGradient(V, pass.Totals + (2 * Channels));
            }
        }

        ArrayPool<double>.Shared.Return(rented);
    }
}

/// <summary>A forward or backward pass of EvoNorm-B0; a piece is a range of channels, or, where channels are columns of memory, all of them.</summary>
internal unsafe struct EvoNormB0Pass<T> : IPieceJob
    where T : unmanaged
{
    /// <summary>Coefficients of a slot.</summary>
    public const int Rows = 8;

    /// <summary>Sums of a slot.</summary>
    public const int Terms = 5;

    public ReductionLayout Layout; // a slot for each channel and sample: channel * ChannelStride + sample * SampleStride
    public Slabs Slabs;
    public int Samples;
    public int ChannelCount;
    public nint Positions;
    public nint SampleStride;
    public nint ChannelStride;
    public T* X;
    public T* G; // null in the forward pass
    public T* Result;
    public T* V;
    public T* Weight;
    public T* Bias;
    public T* RunningVariance; // null where the batch's normalizes
    public Statistics Instances;
    public double* BatchMean; // by channel
    public double* BatchVariance;
    public double* Coefficients;
    public double* Sums;
    public double* Totals; // gradients of bias, weight and v, by channel
    public bool TakesMoments;
    public double Epsilon;
    public StoreKind Store;

    /// <summary>Doubles that the statistics take.</summary>
    public readonly int StatisticsSize => checked((int)(3 * Layout.Slots) + (2 * ChannelCount));

    public readonly void Run(int piece)
    {
        (int start, int end) = Slabs[piece];
        ReductionLayout slab = Slabs.Cut(Layout, start, end);
        nint pitch = Layout.Slots;
        nint first = pitch / Layout.Outer * start;
        (int firstChannel, int endChannel) = Layout.Columns > 1 ? (0, ChannelCount) : (start, end);
        if (TakesMoments)
        {
            Standardizer.Moments(slab, X, Instances.From(first), Epsilon);
        }

        for (int c = firstChannel; c < endChannel; c++)
        {
            if (TakesMoments)
            {
                Combine(c);
            }

            SetDenominators(c, pitch);
        }

        double* coefficients = Coefficients + first;
        if (G == null)
        {
            Curves.Apply<T, Output>(slab, X, null, Result, coefficients, pitch, Store, Slabs.Ahead<T>(tensors: 1));
            return;
        }

        Curves.Sums<T, GradientTerms>(slab, X, G, coefficients, Sums + first, pitch);
        for (int c = firstChannel; c < endChannel; c++)
        {
            SetLines(c, pitch);
        }

        Curves.Apply<T, InputGradient>(slab, X, G, Result, coefficients, pitch, Store, Slabs.Ahead<T>(tensors: 2));
    }

    // The batch's moments from its instances': the mean of their variances and the variance of their means.
    private readonly void Combine(int c)
    {
        double mean = 0;
        for (nint n = 0; n < Samples; n++)
        {
            mean += Instances.Mean[Slot(n, c)];
        }

        mean /= Samples;
        double variance = 0;
        for (nint n = 0; n < Samples; n++)
        {
            double delta = Instances.Mean[Slot(n, c)] - mean;
            variance += Instances.PopulationVariance[Slot(n, c)] + (delta * delta);
        }

        BatchMean[c] = mean;
        BatchVariance[c] = variance / Samples;
    }

    // v, s, a, the threshold a - s that v x has to exceed, weight and bias. The threshold is not the difference of two roots, so that the choice
    // is right where epsilon is most of both.
    private readonly void SetDenominators(int c, nint pitch)
    {
        double batch = RunningVariance == null ? BatchVariance[c] : Simd.Get(RunningVariance + c);
        double a = Deviation(batch);
        for (nint n = 0; n < Samples; n++)
        {
            nint slot = Slot(n, c);
            double instance = Instances.PopulationVariance[slot];
            double s = Deviation(instance);
            Coefficients[slot] = Simd.Get(V + c);
            Coefficients[pitch + slot] = s;
            Coefficients[(2 * pitch) + slot] = double.IsNaN(s) ? s : a;
            Coefficients[(3 * pitch) + slot] = (batch - instance) / (a + s);
            Coefficients[(4 * pitch) + slot] = Weight == null ? 1 : Simd.Get(Weight + c);
            Coefficients[(5 * pitch) + slot] = Bias == null ? 0 : Simd.Get(Bias + c);
        }
    }

    // What flows through both deviations is a line in x, about the instance's mean rounded to T.
    private readonly void SetLines(int c, nint pitch)
    {
        double weight = Weight == null ? 1 : Simd.Get(Weight + c);
        double a = Deviation(RunningVariance == null ? BatchVariance[c] : Simd.Get(RunningVariance + c));
        double bias = 0;
        double throughBatch = 0;
        double throughInstances = 0;
        double throughLine = 0;
        for (nint n = 0; n < Samples; n++)
        {
            nint slot = Slot(n, c);
            bias += Sums[slot];
            throughBatch += Sums[pitch + slot];
            throughInstances += Sums[(2 * pitch) + slot];
            throughLine += Sums[(4 * pitch) + slot];
        }

        Totals[c] = bias;
        Totals[ChannelCount + c] = throughBatch + throughInstances;
        Totals[(2 * ChannelCount) + c] = -weight * throughLine;
        double batchSlope = RunningVariance == null ? -weight * throughBatch / (a * a) / Samples / Positions : 0;
        for (nint n = 0; n < Samples; n++)
        {
            nint slot = Slot(n, c);
            double mean = Instances.Mean[slot];
            double center = Simd.Round<T>(mean);
            double slope = -weight * Sums[(3 * pitch) + slot] / Coefficients[pitch + slot] / Positions;
            Coefficients[(5 * pitch) + slot] = center;
            Coefficients[(6 * pitch) + slot] = slope + batchSlope;
            Coefficients[(7 * pitch) + slot] = ((center - mean) * slope) + (RunningVariance == null ? (center - BatchMean[c]) * batchSlope : 0);
        }
    }

    private readonly nint Slot(nint sample, int channel) => (channel * ChannelStride) + (sample * SampleStride);

    private readonly double Deviation(double variance) => double.IsFinite(variance) ? Math.Sqrt(variance + Epsilon) : double.NaN;

    /// <summary>The denominator max(a, v x + s), and where the second is the larger; coefficients v, s, a, a - s.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> Denominator<A>(Vector512<A> x, A* coefficients, nint pitch, out Vector512<A> isLine)
        where A : unmanaged
    {
        Vector512<A> v = Vector512.Load(coefficients);
        isLine = Vector512.GreaterThan(v * x, Vector512.Load(coefficients + (3 * pitch)));
        return Vector512.ConditionalSelect(
            isLine, Simd.MultiplyAdd(v, x, Vector512.Load(coefficients + pitch)), Vector512.Load(coefficients + (2 * pitch)));
    }

    /// <summary>weight x / denominator + bias; coefficients v, s, a, a - s, weight, bias.</summary>
    internal readonly struct Output : ICurve
    {
        public static int Coefficients => 6;

        public static bool ReadsGradient => false;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<A> At<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch)
            where A : unmanaged =>
            Simd.MultiplyAdd(
                x, Vector512.Load(coefficients + (4 * pitch)) / Denominator(x, coefficients, pitch, out _), Vector512.Load(coefficients + (5 * pitch)));
    }

    /// <summary>With q = x / denominator: g; g q where the denominator is a; and where it is the line g q, g q / denominator and g q^2; coefficients v, s, a, a - s.</summary>
    internal readonly struct GradientTerms : ICurveSums
    {
        public static int Coefficients => 4;

        public static int Terms => EvoNormB0Pass<T>.Terms;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Write<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch, Vector512<A>* terms)
            where A : unmanaged
        {
            Vector512<A> inverse = Vector512<A>.One / Denominator(x, coefficients, pitch, out Vector512<A> isLine);
            Vector512<A> quotient = x * inverse;
            Vector512<A> product = gradient * quotient;
            Vector512<A> ofLine = product & isLine;
            terms[0] = gradient;
            terms[1] = Vector512.AndNot(product, isLine);
            terms[2] = ofLine;
            terms[3] = ofLine * inverse;
            terms[4] = ofLine * quotient;
        }
    }

    /// <summary>
    /// g weight / denominator, times s / denominator where that is the line, plus the line through the deviations; coefficients v, s, a, a - s,
    /// weight, center, slope, offset.
    /// </summary>
    internal readonly struct InputGradient : ICurve
    {
        public static int Coefficients => Rows;

        public static bool ReadsGradient => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<A> At<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch)
            where A : unmanaged
        {
            Vector512<A> inverse = Vector512<A>.One / Denominator(x, coefficients, pitch, out Vector512<A> isLine);
            Vector512<A> own = Vector512.ConditionalSelect(isLine, Vector512.Load(coefficients + pitch) * inverse, Vector512<A>.One);
            Vector512<A> line = Simd.MultiplyAdd(
                x - Vector512.Load(coefficients + (5 * pitch)), Vector512.Load(coefficients + (6 * pitch)), Vector512.Load(coefficients + (7 * pitch)));
            return Simd.MultiplyAdd(gradient * Vector512.Load(coefficients + (4 * pitch)), inverse * own, line);
        }
    }
}

/// <summary>The catalog's view of <see cref="EvoNormB0{T}"/>.</summary>
internal readonly struct EvoNormB0Strategy : IStrategy
{
    public static string Id => "evonorm-b0";

    public static string Axes => "each channel over all samples and positions, or of each sample over its positions, whichever divides by more; activation included";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "v", "running_var", "num_batches_tracked"];

    // Without the nonlinearity there is no deviation to divide by.
    public static bool ReadsEpsilon(StrategySettings settings) => settings.Nonlinearity;

    public static string Options(StrategySettings settings) => $"nonlinearity {(settings.Nonlinearity ? "on" : "off")}, {settings.Running()}";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        EvoNormB0<T>.RequirePositions(shape);
        return new EvoNormB0<T>(shape.Channels, new EvoNormB0Options(settings.ToRunningOptions(trackByDefault: true)) { Nonlinearity = settings.Nonlinearity });
    }
}
