using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>The loops that every standardizing strategy shares, over one contiguous run (n) or one matrix (rows x n, rows pitch apart).</summary>
/// <remarks>
/// Sums end in double: runs reduce along memory into scalars, columns down the matrix into arrays; those that take an arithmetic A add four
/// vectors in it first. What is written element by element, and weight gradients by element, take A throughout. All are written once, over the storage T.
/// </remarks>
internal static unsafe class Loops
{
    private const nint LongRun = 256;

    /// <summary>Sum of x, in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Sum<T>(T* x, nint n)
        where T : unmanaged
    {
        Vector512<double> a = default, b = default, c = default, d = default;
        nint j = 0;
        for (; j <= n - (4 * Simd.Lanes); j += 4 * Simd.Lanes)
        {
            a += Simd.Load(x + j);
            b += Simd.Load(x + j + Simd.Lanes);
            c += Simd.Load(x + j + (2 * Simd.Lanes));
            d += Simd.Load(x + j + (3 * Simd.Lanes));
        }

        for (; j <= n - Simd.Lanes; j += Simd.Lanes)
        {
            a += Simd.Load(x + j);
        }

        double sum = Simd.Sum((a + b) + (c + d));
        for (; j < n; j++)
        {
            sum += Simd.Get(x + j);
        }

        return sum;
    }

    /// <summary>Adds sum(x - center) to first and sum((x - center)^2) to second.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void CenteredSums<T>(T* x, nint n, double center, ref double first, ref double second)
        where T : unmanaged
    {
        const int L = Simd.Lanes;
        Vector512<double> middle = Vector512.Create(center);
        Vector512<double> a1 = default, b1 = default, c1 = default, d1 = default;
        Vector512<double> a2 = default, b2 = default, c2 = default, d2 = default;
        nint j = 0;
        for (; j <= n - (4 * L); j += 4 * L)
        {
            Vector512<double> p = Simd.Load(x + j) - middle;
            Vector512<double> q = Simd.Load(x + j + L) - middle;
            Vector512<double> r = Simd.Load(x + j + (2 * L)) - middle;
            Vector512<double> s = Simd.Load(x + j + (3 * L)) - middle;
            a1 += p;
            b1 += q;
            c1 += r;
            d1 += s;
            a2 = Vector512.FusedMultiplyAdd(p, p, a2);
            b2 = Vector512.FusedMultiplyAdd(q, q, b2);
            c2 = Vector512.FusedMultiplyAdd(r, r, c2);
            d2 = Vector512.FusedMultiplyAdd(s, s, d2);
        }

        for (; j <= n - L; j += L)
        {
            Vector512<double> p = Simd.Load(x + j) - middle;
            a1 += p;
            a2 = Vector512.FusedMultiplyAdd(p, p, a2);
        }

        double sum1 = Simd.Sum((a1 + b1) + (c1 + d1));
        double sum2 = Simd.Sum((a2 + b2) + (c2 + d2));
        for (; j < n; j++)
        {
            double p = Simd.Get(x + j) - center;
            sum1 += p;
            sum2 = Math.FusedMultiplyAdd(p, p, sum2);
        }

        first += sum1;
        second += sum2;
    }

    /// <summary>Adds sum(g * w) to gradient and sum(g * w * line(x)) to product, along a run.</summary>
    /// <remarks>
    /// With w = 1 these are the bias and weight gradients; with w = weight the two terms of the input gradient. Four vectors at a time are
    /// added in the arithmetic A, then in double.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void GradientSums<T, A, TLine, TAffine>(T* x, T* g, nint n, TLine line, TAffine affine, ref double gradient, ref double product)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
    {
        nint lanes = Simd.Count<A>();
        Vector512<double> sum1 = default, sum2 = default, other1 = default, other2 = default;
        nint i = 0;
        for (; i <= n - (4 * lanes); i += 4 * lanes)
        {
            nint j = i + lanes, k = j + lanes, l = k + lanes;
            Vector512<A> p = affine.Scale(Simd.Load<T, A>(g + i), i, lanes);
            Vector512<A> q = affine.Scale(Simd.Load<T, A>(g + j), j, lanes);
            Vector512<A> r = affine.Scale(Simd.Load<T, A>(g + k), k, lanes);
            Vector512<A> s = affine.Scale(Simd.Load<T, A>(g + l), l, lanes);
            Vector512<A> even = p * line.At(Simd.Load<T, A>(x + i), 0, i);
            Vector512<A> odd = q * line.At(Simd.Load<T, A>(x + j), 0, j);
            even = Simd.MultiplyAdd(r, line.At(Simd.Load<T, A>(x + k), 0, k), even);
            odd = Simd.MultiplyAdd(s, line.At(Simd.Load<T, A>(x + l), 0, l), odd);
            Simd.AddWidened((p + q) + (r + s), ref sum1, ref other1);
            Simd.AddWidened(even + odd, ref sum2, ref other2);
        }

        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> p = affine.Scale(Simd.Load<T, A>(g + i), i, lanes);
            Simd.AddWidened(p, ref sum1, ref other1);
            Simd.AddWidened(p * line.At(Simd.Load<T, A>(x + i), 0, i), ref sum2, ref other2);
        }

        if (i < n)
        {
            nint count = n - i;
            Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g + i, count, default), i, count);
            Simd.AddWidened(p, ref sum1, ref other1);

            // Lanes beyond the run repeat a value of it: 0 might lie beyond what the line can hold, and 0 times that is no 0.
            Simd.AddWidened(p * line.At(Simd.LoadPart<T, A>(x + i, count, Simd.Create<A>(Simd.Get(x + i))), 0, i), ref sum2, ref other2);
        }

        gradient += Simd.Sum(sum1 + other1);
        product += Simd.Sum(sum2 + other2);
    }

    /// <summary>Adds each column's sum to sums.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddColumns<T>(T* x, nint rows, nint n, nint pitch, double* sums)
        where T : unmanaged
    {
        for (nint row = 0; row < rows; row++, x += pitch)
        {
            Simd.AddTo(sums, x, n);
        }
    }

    /// <summary>Adds each column's sum(x - center) to first and sum((x - center)^2) to second.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddCenteredColumns<T>(T* x, nint rows, nint n, nint pitch, double* center, double* first, double* second)
        where T : unmanaged
    {
        nint row = 0;
        nint ahead = Ahead<T>(pitch);
        for (; row <= rows - 4; row += 4, x += 4 * pitch)
        {
            nint j = 0;
            for (; j <= n - Simd.Lanes; j += Simd.Lanes)
            {
                PrefetchRows(x + ahead + j, pitch);
                Vector512<double> middle = Vector512.Load(center + j);
                Vector512<double> p = Simd.Load(x + j) - middle;
                Vector512<double> q = Simd.Load(x + pitch + j) - middle;
                Vector512<double> r = Simd.Load(x + (2 * pitch) + j) - middle;
                Vector512<double> s = Simd.Load(x + (3 * pitch) + j) - middle;
                (Vector512.Load(first + j) + ((p + q) + (r + s))).Store(first + j);
                Vector512<double> even = Vector512.FusedMultiplyAdd(r, r, p * p);
                Vector512<double> odd = Vector512.FusedMultiplyAdd(s, s, Vector512.FusedMultiplyAdd(q, q, Vector512.Load(second + j)));
                (even + odd).Store(second + j);
            }

            for (int i = 0; i < 4 && j < n; i++)
            {
                AddCentered(x + (i * pitch), j, n, center, first, second);
            }
        }

        for (; row < rows; row++, x += pitch)
        {
            AddCentered(x, 0, n, center, first, second);
        }
    }

    /// <summary>Adds g to gradients[j] and g * line(x) to products[j], for each row; arrays padded to whole vectors.</summary>
    /// <remarks>As <see cref="AddGradientColumns"/>, with sums in double: four rows at a time are added in the arithmetic A first.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddWideGradientColumns<T, A, TLine>(
        T* x, T* g, nint rows, nint n, nint pitch, TLine line, double* gradients, double* products)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        nint lanes = Simd.Count<A>();
        nint row = 0;
        nint ahead = Ahead<T>(pitch);
        for (; row <= rows - 4; row += 4, x += 4 * pitch, g += 4 * pitch)
        {
            nint j = 0;
            for (; j <= n - lanes; j += lanes)
            {
                PrefetchRows(x + ahead + j, pitch);
                PrefetchRows(g + ahead + j, pitch);
                Vector512<A> p = Simd.Load<T, A>(g + j), q = Simd.Load<T, A>(g + pitch + j);
                Vector512<A> r = Simd.Load<T, A>(g + (2 * pitch) + j), s = Simd.Load<T, A>(g + (3 * pitch) + j);
                Vector512<A> even = p * line.At(Simd.Load<T, A>(x + j), row, j);
                Vector512<A> odd = q * line.At(Simd.Load<T, A>(x + pitch + j), row + 1, j);
                even = Simd.MultiplyAdd(r, line.At(Simd.Load<T, A>(x + (2 * pitch) + j), row + 2, j), even);
                odd = Simd.MultiplyAdd(s, line.At(Simd.Load<T, A>(x + (3 * pitch) + j), row + 3, j), odd);
                Simd.AddWidened((p + q) + (r + s), gradients + j);
                Simd.AddWidened(even + odd, products + j);
            }

            for (int i = 0; i < 4 && j < n; i++)
            {
                Vector512<A> p = Simd.LoadPart<T, A>(g + (i * pitch) + j, n - j, default);
                Simd.AddWidened(p, gradients + j);
                Simd.AddWidened(p * line.At(Simd.LoadPart<T, A>(x + (i * pitch) + j, n - j, default), row + i, j), products + j);
            }
        }

        for (; row < rows; row++, x += pitch, g += pitch)
        {
            for (nint j = 0; j < n; j += lanes)
            {
                nint count = n - j;
                bool whole = count >= lanes;
                Vector512<A> p = whole ? Simd.Load<T, A>(g + j) : Simd.LoadPart<T, A>(g + j, count, default);
                Vector512<A> value = whole ? Simd.Load<T, A>(x + j) : Simd.LoadPart<T, A>(x + j, count, default);
                Simd.AddWidened(p, gradients + j);
                Simd.AddWidened(p * line.At(value, row, j), products + j);
            }
        }
    }

    /// <summary>Adds g * w to gradients[j] and g * w * line(x) to products[j], for each row; arrays padded to whole vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddGradientColumns<T, A, TLine>(
        T* x, T* g, nint rows, nint n, nint pitch, TLine line, double weight, A* gradients, A* products)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        nint lanes = Simd.Count<A>();
        Vector512<A> factor = Simd.Create<A>(weight);
        nint row = 0;
        for (; row <= rows - 4; row += 4, x += 4 * pitch, g += 4 * pitch)
        {
            nint j = 0;
            for (; j <= n - lanes; j += lanes)
            {
                Vector512<A> p = Simd.Load<T, A>(g + j), q = Simd.Load<T, A>(g + pitch + j);
                Vector512<A> r = Simd.Load<T, A>(g + (2 * pitch) + j), s = Simd.Load<T, A>(g + (3 * pitch) + j);
                Vector512<A> even = p * line.At(Simd.Load<T, A>(x + j), row, j);
                Vector512<A> odd = q * line.At(Simd.Load<T, A>(x + pitch + j), row + 1, j);
                even = Simd.MultiplyAdd(r, line.At(Simd.Load<T, A>(x + (2 * pitch) + j), row + 2, j), even);
                odd = Simd.MultiplyAdd(s, line.At(Simd.Load<T, A>(x + (3 * pitch) + j), row + 3, j), odd);
                Simd.MultiplyAdd((p + q) + (r + s), factor, Vector512.Load(gradients + j)).Store(gradients + j);
                Simd.MultiplyAdd(even + odd, factor, Vector512.Load(products + j)).Store(products + j);
            }

            for (int i = 0; i < 4 && j < n; i++)
            {
                AddGradientPart<T, A, TLine>(x + (i * pitch) + j, g + (i * pitch) + j, row + i, j, n - j, line, factor, gradients, products);
            }
        }

        for (; row < rows; row++, x += pitch, g += pitch)
        {
            nint j = 0;
            for (; j <= n - lanes; j += lanes)
            {
                Vector512<A> p = Simd.Load<T, A>(g + j) * factor;
                (Vector512.Load(gradients + j) + p).Store(gradients + j);
                Simd.MultiplyAdd(p, line.At(Simd.Load<T, A>(x + j), row, j), Vector512.Load(products + j)).Store(products + j);
            }

            if (j < n)
            {
                AddGradientPart<T, A, TLine>(x + j, g + j, row, j, n - j, line, factor, gradients, products);
            }
        }
    }

    /// <summary>y = affine(line(x)), element after element; coefficients repeat with the given period.</summary>
    /// <param name="x">Input.</param>
    /// <param name="y">Output.</param>
    /// <param name="n">Elements.</param>
    /// <param name="period">Columns in a row of the matrix these elements are; n where there is one row.</param>
    /// <param name="ahead">How far ahead to fetch what is read next, in elements; only by stores that fetch.</param>
    /// <param name="line">The standardization.</param>
    /// <param name="affine">Weight and bias.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Standardize<T, A, TLine, TAffine, TStore>(T* x, T* y, nint n, nint period, nint ahead, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        nint step = lanes < period ? lanes : lanes % period;
        nint i = Head<T, A, TStore>(y, n);
        nint j = i;
        if (i > 0)
        {
            Simd.StorePart(y, i, affine.Apply(line.At(Simd.LoadPart<T, A>(x, i, default), 0, 0), 0, i));
            j = i % period;
        }

        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> result = affine.Apply(line.At(Simd.Load<T, A>(x + i), 0, j), j, lanes);
            if (TStore.Fetches)
            {
                Prefetch(x + i + ahead);
            }

            if (TStore.Streams)
            {
                Simd.StoreStreaming(y + i, result);
            }
            else
            {
                Simd.Store(y + i, result);
            }

            j += step;
            j -= j >= period ? period : 0;
        }

        if (i < n)
        {
            nint count = n - i;
            Simd.StorePart(y + i, count, affine.Apply(line.At(Simd.LoadPart<T, A>(x + i, count, default), 0, j), j, count));
        }
    }

    /// <summary>dx = (g * w - meanGradient) * r + line(x): the gradient line has center meanGradient and slope r.</summary>
    /// <remarks>
    /// Term 1 is the gradient itself, term 2 what flows through the mean, and line(x) = -r * xhat * mean(g * w * xhat) what flows through the
    /// variance. Term 1 is rounded as its mean was, not fused, so that a set of one value gives exactly 0. Elements, period and ahead are
    /// those of <see cref="Standardize"/>.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void InputGradient<T, A, TLine, TAffine, TStore>(
        T* x, T* g, T* dx, nint n, nint period, nint ahead, TLine gradientLine, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        nint step = lanes < period ? lanes : lanes % period;
        nint i = Head<T, A, TStore>(dx, n);
        nint j = i;
        if (i > 0)
        {
            Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g, i, default), 0, i);
            Simd.StorePart(dx, i, gradientLine.Plus(p, line.At(Simd.LoadPart<T, A>(x, i, default), 0, 0), 0, 0));
            j = i % period;
        }

        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> p = affine.Scale(Simd.Load<T, A>(g + i), j, lanes);
            Vector512<A> result = gradientLine.Plus(p, line.At(Simd.Load<T, A>(x + i), 0, j), 0, j);
            if (TStore.Fetches)
            {
                Prefetch(x + i + ahead);
                Prefetch(g + i + ahead);
            }

            if (TStore.Streams)
            {
                Simd.StoreStreaming(dx + i, result);
            }
            else
            {
                Simd.Store(dx + i, result);
            }

            j += step;
            j -= j >= period ? period : 0;
        }

        if (i < n)
        {
            nint count = n - i;
            Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g + i, count, default), j, count);
            Simd.StorePart(dx + i, count, gradientLine.Plus(p, line.At(Simd.LoadPart<T, A>(x + i, count, default), 0, j), 0, j));
        }
    }

    private static void AddCentered<T>(T* x, nint j, nint n, double* center, double* first, double* second)
        where T : unmanaged
    {
        for (; j <= n - Simd.Lanes; j += Simd.Lanes)
        {
            Vector512<double> p = Simd.Load(x + j) - Vector512.Load(center + j);
            (Vector512.Load(first + j) + p).Store(first + j);
            Vector512.FusedMultiplyAdd(p, p, Vector512.Load(second + j)).Store(second + j);
        }

        for (; j < n; j++)
        {
            double p = Simd.Get(x + j) - center[j];
            first[j] += p;
            second[j] = Math.FusedMultiplyAdd(p, p, second[j]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddGradientPart<T, A, TLine>(
        T* x, T* g, nint row, nint j, nint count, TLine line, Vector512<A> factor, A* gradients, A* products)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        // What lies beyond the run belongs to others: it is neither read nor written.
        Vector512<A> p = Simd.LoadPart<T, A>(g, count, default) * factor;
        Vector512<A> gradient = Simd.LoadPart<A, A>(gradients + j, count, default);
        Vector512<A> product = Simd.LoadPart<A, A>(products + j, count, default);
        Simd.StorePart(gradients + j, count, gradient + p);
        Simd.StorePart(products + j, count, Simd.MultiplyAdd(p, line.At(Simd.LoadPart<T, A>(x, count, default), row, j), product));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchRows<T>(T* address, nint pitch)
        where T : unmanaged
    {
        Prefetch(address);
        Prefetch(address + pitch);
        Prefetch(address + (2 * pitch));
        Prefetch(address + (3 * pitch));
    }

    // Whole blocks of four rows, a few thousand bytes.
    private static nint Ahead<T>(nint pitch)
        where T : unmanaged => Math.Max(1, 4096 / (4 * pitch * sizeof(T))) * 4 * pitch;

    // A hint: an address beyond the tensor does no harm.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Prefetch<T>(T* address)
        where T : unmanaged
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch1(address);
        }
    }

    // The elements before the first aligned vector: streaming stores want those, and others gain where the run is long.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static nint Head<T, A, TStore>(T* destination, nint n)
        where T : unmanaged
        where TStore : struct, IStore => TStore.Streams || n >= LongRun ? Math.Min(n, Simd.BeforeAligned<T, A>(destination)) : 0;
}
