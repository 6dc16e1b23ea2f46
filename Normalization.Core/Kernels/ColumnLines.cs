using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>The lines of a tile of columns, made from statistics in double and stored in arithmetic A.</summary>
/// <remarks>
/// Results are arrays of <see cref="Capacity"/> values, which repeat after the tile's columns for one vector more, so that a vector may run over the
/// end of a row into the next. Each returns false where a number does not suit float and A is float.
/// </remarks>
internal static unsafe class ColumnLines
{
    /// <summary>Values in a result: the columns of a tile, a vector to repeat, a vector to shift by, in whole vectors.</summary>
    public static nint Capacity(nint width) => ((width + 15) & ~(nint)15) + 32;

    /// <summary>Bytes that a number of results take, with room to align them.</summary>
    public static int Bytes<A>(int results, nint width)
        where A : unmanaged => checked((int)(results * Capacity(width) * sizeof(A)) + Simd.LineBytes);

    /// <summary>Where results must begin for those of the destination's first aligned vector to be aligned too.</summary>
    public static nint Shift<T, A>(T* destination)
        where T : unmanaged
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        return (lanes - (Simd.BeforeAligned<T, A>(destination) % lanes)) % lanes;
    }

    /// <summary>(x - mean) * inverse * weight + bias; null weight and bias are 1 and 0.</summary>
    public static bool Standardizing<T, A>(
        double* mean, double* inverse, T* weight, T* bias, nint width, A* centers, A* slopes, A* intercepts)
        where T : unmanaged
        where A : unmanaged
    {
        Vector512<long> unsuited = default;
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, width - j);
            Vector512<double> center = Part(mean + j, lanes);
            Vector512<double> root = Part(inverse + j, lanes);
            Vector512<double> slope = weight == null ? root : root * Part(weight + j, lanes);
            unsuited |= Unsuited(center, root, slope);
            Vector512<double> intercept = bias == null ? default : Part(bias + j, lanes);
            Store(center, slope, intercept, centers + j, slopes + j, intercepts + j);
        }

        Repeat(width, centers, slopes, intercepts);
        return typeof(A) == typeof(double) || !Vector512.AnyWhereAllBitsSet(unsuited);
    }

    /// <summary>(x - mean) * inverse, in double and exactly as the statistics are.</summary>
    public static void Normalizing(double* mean, double* inverse, nint width, double* centers, double* slopes, double* intercepts)
    {
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, width - j);
            Store(Part(mean + j, lanes), Part(inverse + j, lanes), default, centers + j, slopes + j, intercepts + j);
        }
    }

    /// <summary>The two lines of the input gradient: dx = (g * w - meanGradient) * r + (-r * xhat * meanProduct), times weight where it is folded in.</summary>
    public static bool Differentiating<T, A>(
        double* mean, double* inverse, double* meanGradient, double* meanProduct, T* weight, bool folded, nint width,
        A* gradientCenters, A* gradientSlopes, A* centers, A* slopes, A* intercepts)
        where T : unmanaged
        where A : unmanaged
    {
        Vector512<long> unsuited = default;
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, width - j);
            Vector512<double> center = Part(mean + j, lanes);
            Vector512<double> root = Part(inverse + j, lanes);
            Vector512<double> scale = folded ? root * Part(weight + j, lanes) : root;
            Vector512<double> middle = Part(meanGradient + j, lanes);
            Vector512<double> slope = -(root * scale) * Part(meanProduct + j, lanes);
            unsuited |= Unsuited(center, root, scale) | Beyond(slope) | Beyond(middle) | Vanishing(slope, root);
            Simd.Store(gradientCenters + j, middle);
            Simd.Store(gradientSlopes + j, scale);
            Vector512<double> left = folded ? Simd.Load(gradientCenters + j) - middle : default;
            Store(center, slope, left * scale, centers + j, slopes + j, intercepts + j);
        }

        Repeat(width, centers, slopes, intercepts);
        Repeat(gradientCenters, width);
        Repeat(gradientSlopes, width);

        return typeof(A) == typeof(double) || !Vector512.AnyWhereAllBitsSet(unsuited);
    }

    /// <summary>The two lines of <see cref="GradientLines"/>: g * gradientSlope, and (x - mean) * slope + offset.</summary>
    public static bool Combining<A>(
        double* mean, double* gradientSlope, double* slope, double* offset, nint width,
        A* gradientCenters, A* gradientSlopes, A* centers, A* slopes, A* intercepts)
        where A : unmanaged
    {
        Vector512<long> unsuited = default;
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, width - j);
            Vector512<double> center = Part(mean + j, lanes);
            Vector512<double> scale = Part(gradientSlope + j, lanes);
            Vector512<double> bend = Part(slope + j, lanes);
            Vector512<double> shift = Part(offset + j, lanes);
            unsuited |= Beyond(center) | OutOfRange(scale) | Beyond(shift) | Beyond(bend) | Vanishing(bend, default);
            Simd.Store(gradientCenters + j, default(Vector512<double>));
            Simd.Store(gradientSlopes + j, scale);
            Store(center, bend, shift, centers + j, slopes + j, intercepts + j);
        }

        Repeat(width, centers, slopes, intercepts);
        Repeat(gradientCenters, width);
        Repeat(gradientSlopes, width);
        return typeof(A) == typeof(double) || !Vector512.AnyWhereAllBitsSet(unsuited);
    }

    /// <summary>g * inverse * weight.</summary>
    public static bool Scaling<T, A>(double* inverse, T* weight, nint width, A* centers, A* slopes, A* intercepts)
        where T : unmanaged
        where A : unmanaged
    {
        Vector512<long> unsuited = default;
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, width - j);
            Vector512<double> slope = Part(inverse + j, lanes) * Part(weight + j, lanes);
            unsuited |= OutOfRange(slope);
            Store(default, slope, default, centers + j, slopes + j, intercepts + j);
        }

        Repeat(width, centers, slopes, intercepts);

        return typeof(A) == typeof(double) || !Vector512.AnyWhereAllBitsSet(unsuited);
    }

    /// <summary>Values of T in arithmetic A.</summary>
    public static void Copy<T, A>(T* values, nint width, A* copy)
        where T : unmanaged
        where A : unmanaged
    {
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            Simd.Store(copy + j, Part(values + j, Math.Min(Simd.Lanes, width - j)));
        }

        Repeat(copy, width);
    }

    private static void Repeat<A>(nint width, A* first, A* second, A* third)
        where A : unmanaged
    {
        Repeat(first, width);
        Repeat(second, width);
        Repeat(third, width);
    }

    internal static void Repeat<A>(A* values, nint width)
        where A : unmanaged
    {
        for (nint j = 0; j < Vector512<A>.Count; j++)
        {
            values[width + j] = values[j];
        }
    }

    private static Vector512<double> Part<T>(T* values, nint lanes)
        where T : unmanaged => lanes == Simd.Lanes ? Simd.Load(values) : Simd.LoadPart<T, double>(values, lanes, default);

    // The center is rounded to A; the intercept takes what that leaves.
    private static void Store<A>(Vector512<double> center, Vector512<double> slope, Vector512<double> intercept, A* centers, A* slopes, A* intercepts)
        where A : unmanaged
    {
        Simd.Store(centers, center);
        Simd.Store(slopes, slope);
        Simd.Store(intercepts, Vector512.FusedMultiplyAdd(Simd.Load(centers) - center, slope, intercept));
    }

    /// <summary>Lanes of lines that do not suit float.</summary>
    internal static Vector512<long> Unsuited(Vector512<double> center, Vector512<double> root, Vector512<double> slope) =>
        Beyond(center) | OutOfRange(root) | OutOfRange(slope);

    internal static Vector512<long> OutOfRange(Vector512<double> factor)
    {
        Vector512<double> size = Vector512.Abs(factor);
        return Beyond(factor, Simd.LargestSingle)
            | (Vector512.LessThan(size, Vector512.Create(Simd.SmallestSingle)) & Vector512.GreaterThan(size, Vector512<double>.Zero)).AsInt64();
    }

    // The slope of the term through the variance is subnormal while deviations are large: Simd.SlopesSingle.
    internal static Vector512<long> Vanishing(Vector512<double> slope, Vector512<double> root) =>
        (Vector512.LessThan(root, Vector512.Create(Simd.LargeDeviation))
            & Vector512.LessThan(Vector512.Abs(slope), Vector512.Create(Simd.SmallestSlope))
            & ~Vector512.IsZero(slope)).AsInt64();

    internal static Vector512<long> Beyond(Vector512<double> value, double limit = Simd.LargestCenter)
    {
        Vector512<double> size = Vector512.Abs(value);
        return (Vector512.GreaterThan(size, Vector512.Create(limit))
            & Vector512.LessThan(size, Vector512.Create(double.PositiveInfinity))).AsInt64();
    }
}
