using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>Both passes over reduction sets of a few elements that lie one after another, eight sets at a time.</summary>
/// <remarks>
/// Eight sets are transposed into a block in which each has a column, a lane of every vector: nothing is added across lanes, and the
/// root, the division and the calls are paid once for eight. All arithmetic is double, so every set suits it, and a lane's bits are a
/// matter of its set alone. Weights lie transposed too, in arrays by run and set within the sample that repeat for one vector more.
/// </remarks>
internal unsafe struct SmallSetsJob<T> : IPieceJob
    where T : unmanaged
{
    private const nint LongestSet = 48;
    private const nint Together = Simd.Lanes;
    private const int Tasks = 16;

    private ReductionLayout _layout;
    private Statistics _statistics;
    private T* _x;
    private T* _y; // the output, or the input gradient; null where only moments are wanted
    private T* _g; // null in a forward pass
    private double* _weights;
    private double* _biases;
    private double* _sums; // by task: gradients, then products, laid out as the weights are
    private double _epsilon;
    private nint _runs;
    private nint _runLength;
    private nint _pitch;
    private nint _setsPerTask;

    /// <summary>Whether a layout is made of such sets: a matter of one sample, never of how many there are.</summary>
    public static bool Takes(in ReductionLayout layout) =>
        !layout.Uncentered && layout.Columns == 1 && layout.Blocks == 1 && layout.BlockLength <= LongestSet && layout.SharingOuters == 0
        && (layout.Inner == 1 || layout.InnerStride == layout.BlockLength)
        && (layout.Outer == 1 || layout.OuterStride == layout.Inner * layout.BlockLength);

    /// <summary>Takes the moments of every set; writes the standardized output unless y is null.</summary>
    public static void Forward(in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics, double epsilon)
    {
        var job = new SmallSetsJob<T>(layout, x, y, statistics) { _epsilon = epsilon };
        nint table = job._runs * job._pitch;
        NativeScratch scratch = NativeScratch.Begin(2 * table * sizeof(double));
        job._weights = job.Transposed(scratch.Take<double>(table), weight, 1);
        job._biases = job.Transposed(scratch.Take<double>(table), bias, 0);
        job.RunAll(Standardizer.ItemsPerTask(layout.BlockLength));
    }

    /// <summary>Writes the input gradient and adds to the parameter gradients, summed in double; either of those may be null.</summary>
    public static void Backward(
        in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
    {
        var job = new SmallSetsJob<T>(layout, x, dx, statistics) { _g = g + layout.Offset };
        nint table = job._runs * job._pitch;

        // Each task has sums for all weights, which must not be more than its sets.
        nint setsPerTask = Math.Max(Math.Max(layout.Inner, layout.Panels / Tasks), Standardizer.ItemsPerTask(layout.BlockLength));
        nint tasks = (layout.Panels + setsPerTask - 1) / setsPerTask;
        NativeScratch scratch = NativeScratch.Begin((1 + (2 * tasks)) * table * sizeof(double));
        job._weights = job.Transposed(scratch.Take<double>(table), weight, 1);
        job._sums = scratch.Take<double>(2 * tasks * table);
        int pieces = job.RunAll(setsPerTask);
        job.Collect(biasGradient, job._sums, pieces);
        job.Collect(weightGradient, job._sums + table, pieces);
    }

    private SmallSetsJob(in ReductionLayout layout, T* x, T* y, Statistics statistics)
    {
        _layout = layout;
        _statistics = statistics;
        _x = x + layout.Offset;
        _y = y == null ? null : y + layout.Offset;
        _runLength = Math.Max(1, layout.RunLength);
        _runs = layout.BlockLength / _runLength;
        _pitch = Simd.Padded(layout.Inner + Together - 1);
    }

    public void Run(int piece)
    {
        nint start = piece * _setsPerTask;
        nint end = Math.Min(_layout.Panels, start + _setsPerTask);
        if (_g == null)
        {
            Forward(start, end);
        }
        else
        {
            Backward(start, end, _sums + (2 * piece * _runs * _pitch));
        }
    }

    private int RunAll(nint setsPerTask)
    {
        _setsPerTask = (setsPerTask + Together - 1) / Together * Together;
        int pieces = (int)((_layout.Panels + _setsPerTask - 1) / _setsPerTask);
        WorkTeam.Run(ref this, pieces, _layout.Elements);
        return pieces;
    }

    private readonly double* Transposed(double* table, T* values, double fill)
    {
        for (nint run = 0; run < _runs; run++)
        {
            for (nint column = 0, set = 0; column < _pitch; column++, set = set + 1 == _layout.Inner ? 0 : set + 1)
            {
                table[(run * _pitch) + column] = values == null ? fill : Simd.Get(values + (set * _layout.AffinePerInner) + run);
            }
        }

        return table;
    }

    private readonly void Collect(T* gradient, double* sums, int pieces)
    {
        for (nint run = 0; run < _runs && gradient != null; run++)
        {
            for (nint set = 0; set < _layout.Inner; set++)
            {
                double sum = 0;
                for (int piece = 0; piece < pieces; piece++)
                {
                    double* row = sums + (((2 * piece * _runs) + run) * _pitch);
                    for (nint column = set; column < _pitch; column += _layout.Inner)
                    {
                        sum += row[column];
                    }
                }

                T* target = gradient + (set * _layout.AffinePerInner) + run;
                Simd.Set(target, Simd.Get(target) + sum);
            }
        }
    }

    // One pass about each set's first value.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Forward(nint start, nint end)
    {
        byte* memory = stackalloc byte[((int)(LongestSet * Together) * sizeof(T)) + Simd.LineBytes];
        T* lanes = Simd.Aligned<T>(memory);
        nint length = _layout.BlockLength;
        double share = 1.0 / length;
        for (nint set = start; set < end; set += Together)
        {
            nint count = Math.Min(Together, end - set);
            Read(_x + (set * length), count, lanes);
            Vector512<double> center = Simd.Load(lanes);
            Vector512<double> even1 = default, even2 = default, odd1 = default, odd2 = default;
            nint element = 1;
            for (; element < length - 1; element += 2)
            {
                Vector512<double> p = Simd.Load(lanes + (element * Together)) - center;
                Vector512<double> q = Simd.Load(lanes + (element * Together) + Together) - center;
                even1 += p;
                odd1 += q;
                even2 = Vector512.FusedMultiplyAdd(p, p, even2);
                odd2 = Vector512.FusedMultiplyAdd(q, q, odd2);
            }

            if (element < length)
            {
                Vector512<double> p = Simd.Load(lanes + (element * Together)) - center;
                even1 += p;
                even2 = Vector512.FusedMultiplyAdd(p, p, even2);
            }

            Vector512<double> first = even1 + odd1;
            Vector512<double> shift = first * share;
            Vector512<double> mean = center + shift;
            Vector512<double> variance = (even2 + odd2 - (first * shift)) * share;
            Vector512<double> root = Vector512<double>.One / Vector512.Sqrt(variance + Vector512.Create(_epsilon));
            Vector512<double> inverse = Vector512.ConditionalSelect(Vector512.IsFinite(variance), root, Vector512.Create(double.NaN));
            Simd.StorePart(_statistics.Mean + set, count, mean);
            Simd.StorePart(_statistics.PopulationVariance + set, count, variance);
            Simd.StorePart(_statistics.InverseStd + set, count, inverse);
            if (_y != null)
            {
                Standardize(lanes, mean, inverse, set % _layout.Inner);
                Transposition.Copy(lanes, length, count, Together, _y + (set * length), length);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Standardize(T* lanes, Vector512<double> mean, Vector512<double> inverse, nint column)
    {
        for (nint run = 0; run < _runs; run++, column += _pitch)
        {
            Vector512<double> slope = inverse * Vector512.Load(_weights + column);
            Vector512<double> intercept = Vector512.Load(_biases + column);
            for (nint i = 0; i < _runLength; i++, lanes += Together)
            {
                Simd.Store(lanes, Vector512.FusedMultiplyAdd(Simd.Load(lanes) - mean, slope, intercept));
            }
        }
    }

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Backward(nint start, nint end, double* sums)
    {
        byte* memory = stackalloc byte[(2 * (int)(LongestSet * Together) * sizeof(T)) + Simd.LineBytes];
        T* lanes = Simd.Aligned<T>(memory);
        nint length = _layout.BlockLength;
        T* gradientLanes = lanes + (length * Together);
        nint table = _runs * _pitch;
        Vector512<double> size = Vector512.Create((double)length);
        new Span<double>(sums, checked((int)(2 * table))).Clear();
        for (nint set = start; set < end; set += Together)
        {
            nint count = Math.Min(Together, end - set);
            Read(_x + (set * length), count, lanes);
            Read(_g + (set * length), count, gradientLanes);
            Vector512<double> mean = Simd.LoadPart<double, double>(_statistics.Mean + set, count, default);
            Vector512<double> inverse = Simd.LoadPart<double, double>(_statistics.InverseStd + set, count, default);
            Vector512<double> gradient = default, product = default;
            T* x = lanes;
            T* g = gradientLanes;
            nint column = set % _layout.Inner;
            for (nint run = 0; run < _runs; run++, column += _pitch)
            {
                Vector512<double> p = default, q = default;
                for (nint i = 0; i < _runLength; i++, x += Together, g += Together)
                {
                    p += Simd.Load(g);
                    q = Vector512.FusedMultiplyAdd(Simd.Load(g), (Simd.Load(x) - mean) * inverse, q);
                }

                (Vector512.Load(sums + column) + p).Store(sums + column);
                (Vector512.Load(sums + table + column) + q).Store(sums + table + column);
                Vector512<double> weight = Vector512.Load(_weights + column);
                gradient = Vector512.FusedMultiplyAdd(weight, p, gradient);
                product = Vector512.FusedMultiplyAdd(weight, q, product);
            }

            Differentiate(lanes, gradientLanes, mean, inverse, gradient / size, product / size, set % _layout.Inner);
            Transposition.Copy(gradientLanes, length, count, Together, _y + (set * length), length);
        }
    }

    // dx = (g * w - meanGradient) * r - r * xhat * meanProduct, over g.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Differentiate(
        T* x, T* g, Vector512<double> mean, Vector512<double> inverse, Vector512<double> meanGradient, Vector512<double> meanProduct, nint column)
    {
        Vector512<double> slope = -(inverse * inverse) * meanProduct;
        for (nint run = 0; run < _runs; run++, column += _pitch)
        {
            Vector512<double> weight = Vector512.Load(_weights + column);
            for (nint i = 0; i < _runLength; i++, x += Together, g += Together)
            {
                Vector512<double> deviation = (Simd.Load(g) * weight) - meanGradient;
                Simd.Store(g, Vector512.FusedMultiplyAdd(deviation, inverse, (Simd.Load(x) - mean) * slope));
            }
        }
    }

    // Lanes without a set hold zeros, and add nothing.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Read(T* sets, nint count, T* lanes)
    {
        nint length = _layout.BlockLength;
        if (count < Together)
        {
            new Span<T>(lanes, (int)(length * Together)).Clear();
        }

        Transposition.Copy(sets, count, length, length, lanes, Together);
    }
}
