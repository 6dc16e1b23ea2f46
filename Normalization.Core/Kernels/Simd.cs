using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>Vectors of 512 bits over storage of type T, computed in the arithmetic A: T itself, or double over float.</summary>
/// <remarks>
/// The width is fixed on every machine (narrower hardware runs an operation as two or four), and products are fused explicitly, so
/// sums have one order and results one set of bits whatever the hardware's vectors. The last, partial vector of a run is masked.
/// </remarks>
internal static unsafe class Simd
{
    /// <summary>Double lanes.</summary>
    public const int Lanes = 8;

    /// <summary>Bytes in a cache line, and in a vector.</summary>
    public const int LineBytes = 64;

    // Coefficients in between neither overflow nor lose digits where float multiplies two of them.
    public const double SmallestSingle = 1e-15;
    public const double LargestSingle = 1e15;
    public const double LargestCenter = 1e30;
    public const double SmallestSlope = 1e-30;
    public const double LargeDeviation = 1e-6;
    public const double SmallestProduct = 1e-28;

    /// <summary>The first whole cache line of a block: vectors that lie across two lines cost twice. The block has a line to spare.</summary>
    public static A* Aligned<A>(byte* block)
        where A : unmanaged => (A*)(((nuint)block + (LineBytes - 1)) & ~(nuint)(LineBytes - 1));

    /// <summary>Elements of T before the first that begins an aligned vector, as arithmetic A takes them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static nint BeforeAligned<T, A>(T* address)
        where T : unmanaged => (nint)((~(nuint)address + 1) & ((nuint)(Count<A>() * sizeof(T)) - 1)) / sizeof(T);

    /// <summary>Elements that one vector of arithmetic A holds: 16 float or 8 double.</summary>
    public static int Count<A>() => Vector512<A>.Count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> Load<T>(T* source)
        where T : unmanaged => Load<T, double>(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<A> Load<T, A>(T* source)
        where T : unmanaged
        where A : unmanaged =>
        typeof(T) == typeof(A) ? Vector512.Load((A*)source) : Widen(Vector256.Load((float*)source)).As<double, A>();

    /// <summary>The first count lanes from memory, the others as given; reads nothing beyond.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<A> LoadPart<T, A>(T* source, nint count, Vector512<A> others)
        where T : unmanaged
        where A : unmanaged
    {
        if (typeof(T) != typeof(A) && Avx.IsSupported)
        {
            // Float in double arithmetic: half a vector of storage.
            Vector256<float> half = Avx.MaskLoad((float*)source, FirstSingles(count).GetLower());
            return Vector512.ConditionalSelect(First(count).As<long, A>(), Widen(half).As<double, A>(), others);
        }

        if (typeof(T) == typeof(float) && Avx512F.IsSupported)
        {
            return Avx512F.MaskLoad((float*)source, FirstSingles(count), others.AsSingle()).As<float, A>();
        }

        if (typeof(T) == typeof(double) && Avx512F.IsSupported)
        {
            return Avx512F.MaskLoad((double*)source, FirstDoubles(count), others.AsDouble()).As<double, A>();
        }

        if (typeof(T) == typeof(float) && Avx.IsSupported)
        {
            Vector512<float> mask = FirstSingles(count);
            Vector512<float> part = Vector512.Create(
                Avx.MaskLoad((float*)source, mask.GetLower()), Avx.MaskLoad((float*)source + 8, mask.GetUpper()));
            return Vector512.ConditionalSelect(mask, part, others.AsSingle()).As<float, A>();
        }

        if (typeof(T) == typeof(double) && Avx.IsSupported)
        {
            Vector512<double> mask = FirstDoubles(count);
            Vector512<double> part = Vector512.Create(
                Avx.MaskLoad((double*)source, mask.GetLower()), Avx.MaskLoad((double*)source + 4, mask.GetUpper()));
            return Vector512.ConditionalSelect(mask, part, others.AsDouble()).As<double, A>();
        }

        return LoadEach(source, count, others);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(T* destination, Vector512<double> value)
        where T : unmanaged => Store<T, double>(destination, value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T, A>(T* destination, Vector512<A> value)
        where T : unmanaged
        where A : unmanaged
    {
        if (typeof(T) == typeof(A))
        {
            value.Store((A*)destination);
        }
        else
        {
            Narrow(value.AsDouble()).Store((float*)destination);
        }
    }

    /// <summary>Stores past the caches; the destination is aligned to a vector of T.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreStreaming<T, A>(T* destination, Vector512<A> value)
        where T : unmanaged
        where A : unmanaged
    {
        if (typeof(T) == typeof(A))
        {
            value.StoreAlignedNonTemporal((A*)destination);
        }
        else
        {
            Narrow(value.AsDouble()).StoreAlignedNonTemporal((float*)destination);
        }
    }

    /// <summary>Stores the first count lanes; writes nothing beyond.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StorePart<T, A>(T* destination, nint count, Vector512<A> value)
        where T : unmanaged
        where A : unmanaged
    {
        if (typeof(T) != typeof(A) && Avx.IsSupported)
        {
            Avx.MaskStore((float*)destination, FirstSingles(count).GetLower(), Narrow(value.AsDouble()));
        }
        else if (typeof(T) == typeof(float) && Avx512F.IsSupported)
        {
            Avx512F.MaskStore((float*)destination, FirstSingles(count), value.AsSingle());
        }
        else if (typeof(T) == typeof(double) && Avx512F.IsSupported)
        {
            Avx512F.MaskStore((double*)destination, FirstDoubles(count), value.AsDouble());
        }
        else if (typeof(T) == typeof(float) && Avx.IsSupported)
        {
            Vector512<float> mask = FirstSingles(count);
            Avx.MaskStore((float*)destination, mask.GetLower(), value.AsSingle().GetLower());
            Avx.MaskStore((float*)destination + 8, mask.GetUpper(), value.AsSingle().GetUpper());
        }
        else if (typeof(T) == typeof(double) && Avx.IsSupported)
        {
            Vector512<double> mask = FirstDoubles(count);
            Avx.MaskStore((double*)destination, mask.GetLower(), value.AsDouble().GetLower());
            Avx.MaskStore((double*)destination + 4, mask.GetUpper(), value.AsDouble().GetUpper());
        }
        else
        {
            StoreEach(destination, count, value);
        }
    }

    /// <summary>a * b + c, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<A> MultiplyAdd<A>(Vector512<A> a, Vector512<A> b, Vector512<A> c)
    {
        if (typeof(A) == typeof(double))
        {
            return Vector512.FusedMultiplyAdd(a.AsDouble(), b.AsDouble(), c.AsDouble()).As<double, A>();
        }

        return Vector512.FusedMultiplyAdd(a.AsSingle(), b.AsSingle(), c.AsSingle()).As<float, A>();
    }

    /// <summary>The first count lanes of one vector, the others of another.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<T> FirstOf<T>(nint count, Vector512<T> first, Vector512<T> others) =>
        Vector512.ConditionalSelect(typeof(T) == typeof(float) ? FirstSingles(count).As<float, T>() : FirstDoubles(count).As<double, T>(), first, others);

    /// <summary>The value, rounded to A, in every lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<A> Create<A>(double value) =>
        typeof(A) == typeof(float) ? Vector512.Create((float)value).As<float, A>() : Vector512.Create(value).As<double, A>();

    /// <summary>The value as one of A.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static A Scalar<A>(double value)
        where A : unmanaged => typeof(A) == typeof(double) ? Unsafe.BitCast<double, A>(value) : Unsafe.BitCast<float, A>((float)value);

    /// <summary>The value rounded to A, in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Round<A>(double value) => typeof(A) == typeof(float) ? (float)value : value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Get<T>(T* source)
        where T : unmanaged => typeof(T) == typeof(double) ? *(double*)source : *(float*)source;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set<T>(T* destination, double value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            *(double*)destination = value;
        }
        else
        {
            *(float*)destination = (float)value;
        }
    }

    /// <summary>The eight lanes added in one fixed tree; Vector512.Sum promises no order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Sum(Vector512<double> lanes)
    {
        Vector256<double> four = lanes.GetLower() + lanes.GetUpper();
        Vector128<double> two = four.GetLower() + four.GetUpper();
        return two.GetElement(0) + two.GetElement(1);
    }

    /// <summary>The same of eight vectors that follow each other, one sum a lane, in the same tree.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> SumEach(double* vectors)
    {
        if (!Avx512F.IsSupported)
        {
            Vector512<double> sums = default;
            for (int k = 0; k < Lanes; k++)
            {
                sums = sums.WithElement(k, Sum(Vector512.Load(vectors + (k * Lanes))));
            }

            return sums;
        }

        // Halves of two vectors, then quarters of four; the even ones come first, as the last step takes turns.
        Vector512<double> even = Quarters(Halves(vectors, 0, 2), Halves(vectors, 4, 6));
        Vector512<double> odd = Quarters(Halves(vectors, 1, 3), Halves(vectors, 5, 7));
        return Avx512F.UnpackLow(even, odd) + Avx512F.UnpackHigh(even, odd);

        static Vector512<double> Halves(double* vectors, int one, int other)
        {
            Vector512<double> first = Vector512.Load(vectors + (one * Lanes)), second = Vector512.Load(vectors + (other * Lanes));
            return Vector512.Create(first.GetLower(), second.GetLower()) + Vector512.Create(first.GetUpper(), second.GetUpper());
        }

        static Vector512<double> Quarters(Vector512<double> one, Vector512<double> other) =>
            Avx512F.Shuffle4x128(one, other, 0b10_00_10_00) + Avx512F.Shuffle4x128(one, other, 0b11_01_11_01);
    }

    /// <summary>The sixteen lanes, likewise: halves, then in each quarter every other lane, and the quarters last.</summary>
    public static float Sum(Vector512<float> lanes)
    {
        Vector256<float> eight = lanes.GetLower() + lanes.GetUpper();
        return Quarter(eight.GetLower()) + Quarter(eight.GetUpper());

        static float Quarter(Vector128<float> four) => (four.GetElement(0) + four.GetElement(2)) + (four.GetElement(1) + four.GetElement(3));
    }

    /// <summary>Four floats as doubles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<double> Widen(Vector128<float> single) =>
        Avx.IsSupported ? Avx.ConvertToVector256Double(single) : Vector256.Create(Vector128.WidenLower(single), Vector128.WidenUpper(single));

    /// <summary>Lanes of A as eight double lanes: those of double, or of float the lower half and the upper added.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> Widened<A>(Vector512<A> lanes) => typeof(A) == typeof(float)
        ? Widen(lanes.AsSingle().GetLower()) + Widen(lanes.AsSingle().GetUpper())
        : lanes.AsDouble();

    /// <summary>Adds lanes of A to double lanes: the lower half to one, the upper, where A is float, to the other.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddWidened<A>(Vector512<A> lanes, ref Vector512<double> lower, ref Vector512<double> upper)
    {
        if (typeof(A) == typeof(float))
        {
            lower += Widen(lanes.AsSingle().GetLower());
            upper += Widen(lanes.AsSingle().GetUpper());
        }
        else
        {
            lower += lanes.AsDouble();
        }
    }

    /// <summary>Adds lanes of A to as many doubles in memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddWidened<A>(Vector512<A> lanes, double* sums)
    {
        if (typeof(A) == typeof(float))
        {
            (Vector512.Load(sums) + Widen(lanes.AsSingle().GetLower())).Store(sums);
            (Vector512.Load(sums + Lanes) + Widen(lanes.AsSingle().GetUpper())).Store(sums + Lanes);
        }
        else
        {
            (Vector512.Load(sums) + lanes.AsDouble()).Store(sums);
        }
    }

    /// <summary>Whether sums of float gradients and of their products may be trusted: neither overflowed nor made of subnormal products.</summary>
    /// <remarks>Products of nothing but zeros go with gradients that add up to 0.</remarks>
    public static bool HoldsSingle(double gradient, double product) =>
        double.IsFinite(gradient + product) && (product == 0 ? gradient == 0 : Math.Abs(product) >= SmallestProduct);

    /// <summary>The same for eight pairs of sums, as a mask.</summary>
    public static Vector512<double> HoldSingle(Vector512<double> gradients, Vector512<double> products) =>
        Vector512.IsFinite(gradients + products)
        & Vector512.ConditionalSelect(
            Vector512.IsZero(products), Vector512.IsZero(gradients),
            Vector512.GreaterThanOrEqual(Vector512.Abs(products), Vector512.Create(SmallestProduct)));

    /// <summary>Whether float holds the slope of the term through the variance; a tiny one matters only where deviations are large.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool SlopesSingle(double slope, double inverse) =>
        CentersSingle(slope) && !(inverse < LargeDeviation && Math.Abs(slope) < SmallestSlope && slope != 0);

    /// <summary>A count rounded up to whole vectors of double.</summary>
    public static nint Padded(nint count) => (count + Lanes - 1) / Lanes * Lanes;

    /// <summary>destination[i] += source[i], added in double.</summary>
    public static void AddTo<T, TSource>(T* destination, TSource* source, nint count)
        where T : unmanaged
        where TSource : unmanaged
    {
        nint i = 0;
        if (typeof(T) == typeof(TSource))
        {
            // The same bits: a sum of two floats rounds to what its double does.
            for (; i <= count - Count<T>(); i += Count<T>())
            {
                (Vector512.Load(destination + i) + Vector512.Load((T*)source + i)).Store(destination + i);
            }
        }

        for (; i <= count - Lanes; i += Lanes)
        {
            Store(destination + i, Load(destination + i) + Load(source + i));
        }

        for (; i < count; i++)
        {
            Set(destination + i, Get(destination + i) + Get(source + i));
        }
    }

    /// <summary>result[i] = values[i] / divisor.</summary>
    public static void Divide(double* values, double divisor, double* result, nint count)
    {
        nint i = 0;
        for (; i <= count - Lanes; i += Lanes)
        {
            (Vector512.Load(values + i) / Vector512.Create(divisor)).Store(result + i);
        }

        for (; i < count; i++)
        {
            result[i] = values[i] / divisor;
        }
    }

    /// <summary>sums[i] += share * factor * values[i]; false where a factor * values[i] does not fit T.</summary>
    public static bool AddFitting<T>(ReadOnlySpan<double> values, double factor, double share, Span<double> sums)
        where T : unmanaged
    {
        double limit = LargestFitting<T>();
        Vector512<double> fits = Vector512<double>.AllBitsSet;
        int i = 0;
        for (; i <= values.Length - Lanes; i += Lanes)
        {
            Vector512<double> value = Vector512.Create(values.Slice(i, Lanes)) * factor;
            fits &= Vector512.LessThanOrEqual(Vector512.Abs(value), Vector512.Create(limit));
            Vector512.FusedMultiplyAdd(value, Vector512.Create(share), Vector512.Create((ReadOnlySpan<double>)sums.Slice(i, Lanes))).CopyTo(sums[i..]);
        }

        bool all = !Vector512.AnyWhereAllBitsSet(~fits.AsInt64());
        for (; i < values.Length; i++)
        {
            double value = values[i] * factor;
            all &= Math.Abs(value) <= limit;
            sums[i] = Math.FusedMultiplyAdd(value, share, sums[i]);
        }

        return all;
    }

    /// <summary>Whether all values survive rounding to T as finite numbers.</summary>
    public static bool AllFit<T>(ReadOnlySpan<double> values)
        where T : unmanaged
    {
        double limit = LargestFitting<T>();
        Vector512<double> fits = Vector512<double>.AllBitsSet;
        int i = 0;
        for (; i <= values.Length - Lanes; i += Lanes)
        {
            fits &= Vector512.LessThanOrEqual(Vector512.Abs(Vector512.Create(values.Slice(i, Lanes))), Vector512.Create(limit));
        }

        bool all = !Vector512.AnyWhereAllBitsSet(~fits.AsInt64());
        for (; i < values.Length; i++)
        {
            all &= Math.Abs(values[i]) <= limit;
        }

        return all;
    }

    /// <summary>A mask of the first count double lanes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<long> First(nint count) => Vector512.LessThan(Vector512<long>.Indices, Vector512.Create((long)count));

    /// <summary>Whether a double survives rounding to T as a finite number.</summary>
    public static bool Fits<T>(double value)
        where T : unmanaged => typeof(T) == typeof(double) ? double.IsFinite(value) : float.IsFinite((float)value);

    /// <summary>Whether float arithmetic may use this factor: neither huge nor tiny. Zero may, and what is not finite spoils either way.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool SuitsSingle(double factor)
    {
        double size = Math.Abs(factor);
        return !(size > LargestSingle && size < double.PositiveInfinity) && !(size < SmallestSingle && size > 0);
    }

    /// <summary>Whether a float difference from this center keeps its digits: not huge.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool CentersSingle(double center)
    {
        double size = Math.Abs(center);
        return !(size > LargestCenter && size < double.PositiveInfinity);
    }

    /// <summary>Whether float deviations of this variance keep their digits: not so small that they are subnormal. Zero has none to keep.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool ReachesSingle(double variance) => !(variance < 1e-60 && variance > 0);

    // The largest double that rounds to a finite float lies just below half a step above the largest float.
    private static double LargestFitting<T>() => typeof(T) == typeof(double) ? double.MaxValue : 340282356779733623858607532500980858880.0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> FirstSingles(nint count) =>
        Vector512.LessThan(Vector512<int>.Indices, Vector512.Create((int)count)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> FirstDoubles(nint count) => First(count).AsDouble();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Widen(Vector256<float> single) =>
        Avx512F.IsSupported
            ? Avx512F.ConvertToVector512Double(single)
            : Vector512.Create(Vector256.WidenLower(single), Vector256.WidenUpper(single));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Narrow(Vector512<double> value) =>
        Avx512F.IsSupported ? Avx512F.ConvertToVector256Single(value) : Vector256.Narrow(value.GetLower(), value.GetUpper());

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Vector512<A> LoadEach<T, A>(T* source, nint count, Vector512<A> others)
        where T : unmanaged
        where A : unmanaged
    {
        A* lanes = stackalloc A[Vector512<A>.Count];
        others.Store(lanes);
        for (nint i = 0; i < count; i++)
        {
            Set(lanes + i, Get(source + i));
        }

        return Vector512.Load(lanes);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void StoreEach<T, A>(T* destination, nint count, Vector512<A> value)
        where T : unmanaged
        where A : unmanaged
    {
        A* lanes = stackalloc A[Vector512<A>.Count];
        value.Store(lanes);
        for (nint i = 0; i < count; i++)
        {
            Set(destination + i, Get(lanes + i));
        }
    }
}
