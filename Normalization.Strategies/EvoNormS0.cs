using System.Buffers;
using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="EvoNormS0{T}"/>.</summary>
public sealed record EvoNormS0Options : NormalizerOptions
{
    /// <summary>The defaults.</summary>
    public EvoNormS0Options()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy has.</param>
    public EvoNormS0Options(NormalizerOptions options)
        : base(options)
    {
    }

    /// <summary>Whether there is the nonlinearity, and with it the normalization; off leaves weight and bias. Default true.</summary>
    public bool Nonlinearity { get; init; } = true;
}

/// <summary>EvoNorm-S0: a sigmoid-gated x over the deviation of its sample's channel group; normalization and activation in one.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y = weight[c] * x * sigmoid(v[c] x) / s[n,j] + bias[c], s = sqrt(populationVariance[n,j] + epsilon) over the (C/G)*S values of group j of
/// sample n; group j is the channels [j C/G, (j + 1) C/G). No mean is subtracted.</para>
/// <para>Gradient: exact, through s too. With p = sigmoid(v x) and u = dy * weight: dx = u / s * (p + v x p (1 - p)) - (x - mean) / (m s^3) * sum of
/// u x p over the group; dv = sum of u / s * x^2 p (1 - p).</para>
/// <para>Shapes: v, weight, bias (C). No state; training and inference are the same.</para>
/// <para>Limits: v = 0 is x / (2 s); v to infinity is ReLU(x) / s.</para>
/// <para>Source: Liu, Brock, Simonyan and Le 2020, arXiv:2004.02967, Table 2. The authors' code lowers G silently until it divides C; here that throws.</para>
/// </remarks>
public sealed class EvoNormS0<T> : EvoNorm<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private double[] _statistics = [];

    /// <summary>A layer of G groups over C channels.</summary>
    /// <param name="groups">G, at least 1, a divisor of C; the authors use 32.</param>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">C is not a multiple of G, or an option is out of range.</exception>
    public EvoNormS0(int groups, int channels, EvoNormS0Options? options = null)
        : base(options ?? new EvoNormS0Options(), Guard.Channels(channels), (options ?? new EvoNormS0Options()).Nonlinearity)
    {
        if (groups < 1 || channels % groups != 0)
        {
            throw new ArgumentException(
                $"The number of channels (C) must be divisible by the number of groups (G), G at least 1; got C = {channels}, G = {groups}. Choose a G that divides C.", nameof(groups));
        }

        Groups = groups;
    }

    /// <summary>G, the number of channel groups.</summary>
    public int Groups { get; }

    /// <inheritdoc/>
    public override NormalizerClaims Claims => NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence;

    private protected override string SetName => "sample and group";

    internal override void CheckBatch(ActivationShape shape)
    {
        if (V is not null && shape.Count > 0)
        {
            RequireSetSize(shape, Channels / Groups * shape.SpatialSize);
        }
    }

    internal override int TensorsReadTwice(ActivationShape shape, MemoryOrder order, bool backward, nint cacheBytes) =>
        V is null ? 0 : SecondReads.Of(Layouts.PerSet(shape, order, Groups), backward ? 2 : 1, 0, Unsafe.SizeOf<T>(), cacheBytes);

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        if (V is null)
        {
            ApplyAffine(shape, order, x, y);
            return;
        }

        EvoNormS0Pass<T> pass = NewPass(shape, order, x, y);
        pass.TakesMoments = true;
        pass.Store = Standardizer.ForwardStore(pass.Channels, x, y);
        double[] kept = Training ? Saved(pass.Sets.Slots) : ArrayPool<double>.Shared.Rent((int)(3 * pass.Sets.Slots));
        Run(ref pass, kept);
        RequireVariances(kept.AsSpan((int)pass.Sets.Slots, (int)pass.Sets.Slots), SetName);
        if (!Training)
        {
            ArrayPool<double>.Shared.Return(kept);
        }
    }

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        if (V is null)
        {
            DifferentiateAffine(shape, order, x, g, dx);
            return;
        }

        EvoNormS0Pass<T> pass = NewPass(shape, order, x, dx);
        pass.G = g;
        pass.TakesMoments = !Training;
        pass.Store = Standardizer.BackwardStore(pass.Channels, g, dx);
        double[] kept = Training ? _statistics : ArrayPool<double>.Shared.Rent((int)(3 * pass.Sets.Slots));
        Run(ref pass, kept);
        if (!Training)
        {
            ArrayPool<double>.Shared.Return(kept);
        }
    }

    private unsafe EvoNormS0Pass<T> NewPass(ActivationShape shape, MemoryOrder order, T* x, T* result)
    {
        ReductionLayout channels = Layouts.PerSampleAndChannel(shape, order, Groups);
        return new EvoNormS0Pass<T>
        {
            Sets = Layouts.PerSet(shape, order, Groups),
            Channels = channels,
            Slabs = new Slabs(channels),
            ChannelCount = Channels,
            Width = Channels / Groups,
            X = x,
            Result = result,
            Epsilon = Epsilon,
        };
    }

    private double[] Saved(nint slots)
    {
        if (_statistics.Length < 3 * slots)
        {
            _statistics = new double[3 * slots];
        }

        return _statistics;
    }

    private unsafe void Run(ref EvoNormS0Pass<T> pass, double[] kept)
    {
        nint sets = pass.Sets.Slots;
        nint slots = pass.Channels.Slots;
        double[] rented = ArrayPool<double>.Shared.Rent(checked((int)(((EvoNormS0Pass<T>.Rows + EvoNormS0Pass<T>.Terms) * slots) + (3 * Channels))));
        fixed (double* statistics = kept, memory = rented)
        fixed (T* v = V!.Values, weight = Weight?.Values, bias = Bias?.Values)
        {
            pass.Statistics = new Statistics { Mean = statistics, PopulationVariance = statistics + sets, InverseStd = statistics + (2 * sets) };
            pass.Coefficients = memory;
            pass.Sums = memory + (EvoNormS0Pass<T>.Rows * slots);
            pass.V = v;
            pass.Weight = weight;
            pass.Bias = bias;
            pass.Slabs.Run(ref pass);
            if (pass.G != null && LearnParameters)
            {
                double* totals = pass.Sums + (EvoNormS0Pass<T>.Terms * slots);
                pass.CollectParameterSums(totals);
                AddGradient(Bias, totals);
                AddGradient(Weight, totals + Channels);
                AddGradient(V, totals + (2 * Channels));
            }
        }

        ArrayPool<double>.Shared.Return(rented);
    }
}

/// <summary>A forward or backward pass of EvoNorm-S0; a piece is a range of sets, whose passes over memory follow each other in cache.</summary>
internal unsafe struct EvoNormS0Pass<T> : IPieceJob
    where T : unmanaged
{
    /// <summary>Coefficients of a slot.</summary>
    public const int Rows = 5;

    /// <summary>Sums of a slot.</summary>
    public const int Terms = 3;

    public ReductionLayout Sets; // slots of the statistics
    public ReductionLayout Channels; // slots of everything else: sample * C + channel
    public Slabs Slabs;
    public int ChannelCount;
    public int Width; // channels in a group
    public T* X;
    public T* G; // null in the forward pass
    public T* Result;
    public T* V;
    public T* Weight;
    public T* Bias;
    public Statistics Statistics;
    public double* Coefficients;
    public double* Sums;
    public bool TakesMoments;
    public double Epsilon;
    public StoreKind Store;

    public readonly void Run(int piece)
    {
        (int start, int end) = Slabs[piece];
        ReductionLayout sets = Slabs.Cut(Sets, start, end);
        ReductionLayout channels = Slabs.Cut(Channels, start, end);
        nint pitch = Channels.Slots;
        nint first = pitch / Channels.Outer * start;
        if (TakesMoments)
        {
            Standardizer.Moments(sets, X, Statistics.From(Sets.Slots / Sets.Outer * start), Epsilon);
        }

        double* coefficients = Coefficients + first;
        nint together = channels.Slots / channels.Outer; // channels of a group, or of a sample
        for (nint slot = first, c = first % ChannelCount; slot < first + channels.Slots; slot += together, c = (c + together) % ChannelCount)
        {
            WriteCoefficients(slot, c, together, pitch);
        }

        if (G == null)
        {
            Curves.Apply<T, Output>(channels, X, null, Result, coefficients, pitch, Store, Slabs.Ahead<T>(tensors: 1));
            return;
        }

        Curves.Sums<T, GradientTerms>(channels, X, G, coefficients, Sums + first, pitch);
        for (nint slot = first; slot < first + channels.Slots; slot += Width)
        {
            AddLines(slot, pitch);
        }

        Curves.Apply<T, InputGradient>(channels, X, G, Result, coefficients, pitch, Store, Slabs.Ahead<T>(tensors: 2));
    }

    /// <summary>The gradients of bias, weight and v, by channel.</summary>
    public readonly void CollectParameterSums(double* totals)
    {
        new Span<double>(totals, 3 * ChannelCount).Clear();
        nint pitch = Channels.Slots;
        for (nint slot = 0, c = 0; slot < pitch; slot += Width, c = c + Width == ChannelCount ? 0 : c + Width)
        {
            Vector512<double> inverse = Vector512.Create(Statistics.InverseStd[SetOf(slot)]);
            for (nint k = 0; k < Width; k += Simd.Lanes)
            {
                double* sums = Sums + slot + k;
                double* target = totals + c + k;
                nint lanes = Math.Min(Simd.Lanes, Width - k);
                Add(target, Part(sums), lanes);
                Add(target + ChannelCount, Part(sums + pitch) * inverse, lanes);
                Add(target + (2 * ChannelCount), Part(sums + (2 * pitch)) * Part(Coefficients + pitch + slot + k), lanes);

                Vector512<double> Part(double* values) => Simd.LoadPart<double, double>(values, lanes, default);
            }
        }

        static void Add(double* target, Vector512<double> terms, nint lanes) =>
            Simd.StorePart(target, lanes, Simd.LoadPart<double, double>(target, lanes, default) + terms);
    }

    // Those of slots that follow each other, the first of which is channel c of its sample: whole groups.
    private readonly void WriteCoefficients(nint slot, nint c, nint count, nint pitch)
    {
        double* v = Coefficients + slot;
        double* scale = v + pitch;
        double* bias = scale + pitch;
        for (nint group = 0; group < count; group += Width)
        {
            double inverse = Statistics.InverseStd[SetOf(slot + group)];
            for (nint k = group; k < group + Width; k++)
            {
                scale[k] = inverse;
            }
        }

        for (nint k = 0; k < count; k += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, count - k);
            Simd.StorePart(v + k, lanes, Simd.LoadPart<T, double>(V + c + k, lanes, default));
            Simd.StorePart(bias + k, lanes, Bias == null ? default : Simd.LoadPart<T, double>(Bias + c + k, lanes, default));
            if (Weight != null)
            {
                Simd.StorePart(scale + k, lanes, Simd.LoadPart<double, double>(scale + k, lanes, default) * Simd.LoadPart<T, double>(Weight + c + k, lanes, default));
            }
        }
    }

    // Where channels are columns, those of a group hold equal statistics.
    private readonly nint SetOf(nint slot) => Sets.Columns > 1 ? slot : slot / Width;

    // What flows through the deviation of the set whose channels begin at a slot: ds (x - mean) / (m s), about the mean rounded to T.
    private readonly void AddLines(nint first, nint pitch)
    {
        nint set = SetOf(first);
        double inverse = Statistics.InverseStd[set];
        double mean = Statistics.Mean[set];
        double center = Simd.Round<T>(mean);
        double sum = 0;
        for (nint slot = first; slot < first + Width; slot++)
        {
            sum += Coefficients[pitch + slot] * Sums[pitch + slot];
        }

        double slope = -(sum * inverse) * inverse / Sets.SetSize;
        for (nint slot = first; slot < first + Width; slot++)
        {
            Coefficients[(2 * pitch) + slot] = center;
            Coefficients[(3 * pitch) + slot] = slope;
            Coefficients[(4 * pitch) + slot] = (center - mean) * slope;
        }
    }

    /// <summary>x sigmoid(v x) * scale + bias; coefficients v, scale = weight / s, bias.</summary>
    internal readonly struct Output : ICurve
    {
        public static int Coefficients => 3;

        public static bool ReadsGradient => false;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<A> At<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch)
            where A : unmanaged
        {
            Exponential.Sigmoid(x, Vector512.Load(coefficients), out Vector512<A> p, out _);
            return Simd.MultiplyAdd(x, p * Vector512.Load(coefficients + pitch), Vector512.Load(coefficients + (2 * pitch)));
        }
    }

    /// <summary>g, g x p and g x^2 p (1 - p); coefficient v.</summary>
    internal readonly struct GradientTerms : ICurveSums
    {
        public static int Coefficients => 1;

        public static int Terms => EvoNormS0Pass<T>.Terms;

        // p (1 - p) is below float where |v x| is beyond 100.
        public static bool HoldsZero => false;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Write<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch, Vector512<A>* terms)
            where A : unmanaged
        {
            Exponential.Sigmoid(x, Vector512.Load(coefficients), out Vector512<A> p, out Vector512<A> q);
            terms[0] = gradient;
            terms[1] = gradient * (x * p);
            terms[2] = gradient * (x * (x * (p * q)));
        }
    }

    /// <summary>g * scale * (p + v x p (1 - p)) + the line through the deviation; coefficients v, scale, center, slope, offset.</summary>
    internal readonly struct InputGradient : ICurve
    {
        public static int Coefficients => Rows;

        public static bool ReadsGradient => true;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<A> At<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch)
            where A : unmanaged
        {
            Vector512<A> v = Vector512.Load(coefficients);
            Exponential.Sigmoid(x, v, out Vector512<A> p, out Vector512<A> q);
            Vector512<A> derivative = Simd.MultiplyAdd(x, v * (p * q), p);
            Vector512<A> line = Simd.MultiplyAdd(
                x - Vector512.Load(coefficients + (2 * pitch)), Vector512.Load(coefficients + (3 * pitch)), Vector512.Load(coefficients + (4 * pitch)));
            return Simd.MultiplyAdd(gradient * Vector512.Load(coefficients + pitch), derivative, line);
        }
    }
}

/// <summary>The catalog's view of <see cref="EvoNormS0{T}"/>.</summary>
internal readonly struct EvoNormS0Strategy : IStrategy
{
    public static string Id => "evonorm-s0";

    public static string Axes => "each group of channels of each sample, over its channels and positions; activation included";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "v"];

    // Without the nonlinearity there is no deviation to divide by.
    public static bool ReadsEpsilon(StrategySettings settings) => settings.Nonlinearity;

    public static string Options(StrategySettings settings) => string.Create(CultureInfo.InvariantCulture,
        $"{settings.Groups} groups, nonlinearity {(settings.Nonlinearity ? "on" : "off")}");

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new EvoNormS0<T>(settings.Groups, shape.Channels, new EvoNormS0Options(settings.ToOptions()) { Nonlinearity = settings.Nonlinearity });
}
