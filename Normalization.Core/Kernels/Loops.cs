using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>The loops that every standardizing strategy shares, over one contiguous run (n) or one matrix (rows x n, rows pitch apart).</summary>
/// <remarks>
/// Sums are taken in double: runs reduce along memory into scalars, columns down the matrix into arrays. What is written element by
/// element, and weight gradients by element, take the arithmetic A. All are written once, over the storage T.
/// </remarks>
internal static unsafe class Loops
{
    /// <summary>Sum of x, in double.</summary>
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
    public static void CenteredSums<T>(T* x, nint n, double center, ref double first, ref double second)
        where T : unmanaged
    {
        Vector512<double> middle = Vector512.Create(center);
        Vector512<double> a1 = default, b1 = default, a2 = default, b2 = default;
        nint j = 0;
        for (; j <= n - (2 * Simd.Lanes); j += 2 * Simd.Lanes)
        {
            Vector512<double> p = Simd.Load(x + j) - middle;
            Vector512<double> q = Simd.Load(x + j + Simd.Lanes) - middle;
            a1 += p;
            b1 += q;
            a2 = Vector512.FusedMultiplyAdd(p, p, a2);
            b2 = Vector512.FusedMultiplyAdd(q, q, b2);
        }

        for (; j <= n - Simd.Lanes; j += Simd.Lanes)
        {
            Vector512<double> p = Simd.Load(x + j) - middle;
            a1 += p;
            a2 = Vector512.FusedMultiplyAdd(p, p, a2);
        }

        double sum1 = Simd.Sum(a1 + b1);
        double sum2 = Simd.Sum(a2 + b2);
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
    /// <remarks>With w = 1 these are the bias and weight gradients; with w = weight the two terms of the input gradient.</remarks>
    public static void GradientSums<T, TLine, TAffine>(T* x, T* g, nint n, TLine line, TAffine affine, ref double gradient, ref double product)
        where T : unmanaged
        where TLine : struct, ILine<double>
        where TAffine : struct, IAffine<double>
    {
        Vector512<double> a1 = default, b1 = default, a2 = default, b2 = default;
        nint j = 0;
        for (; j <= n - (2 * Simd.Lanes); j += 2 * Simd.Lanes)
        {
            nint k = j + Simd.Lanes;
            Vector512<double> p = affine.Scale(Simd.Load(g + j), j, Simd.Lanes);
            Vector512<double> q = affine.Scale(Simd.Load(g + k), k, Simd.Lanes);
            a1 += p;
            b1 += q;
            a2 = Vector512.FusedMultiplyAdd(p, line.At(Simd.Load(x + j), 0, j), a2);
            b2 = Vector512.FusedMultiplyAdd(q, line.At(Simd.Load(x + k), 0, k), b2);
        }

        for (; j < n; j += Simd.Lanes)
        {
            nint count = Math.Min(Simd.Lanes, n - j);
            bool whole = count == Simd.Lanes;
            Vector512<double> p = affine.Scale(whole ? Simd.Load(g + j) : Simd.LoadPart<T, double>(g + j, count, default), j, count);
            Vector512<double> value = whole ? Simd.Load(x + j) : Simd.LoadPart<T, double>(x + j, count, default);
            a1 += p;
            a2 = Vector512.FusedMultiplyAdd(p, line.At(value, 0, j), a2);
        }

        gradient += Simd.Sum(a1 + b1);
        product += Simd.Sum(a2 + b2);
    }

    /// <summary>Adds each column's sum to sums.</summary>
    public static void AddColumns<T>(T* x, nint rows, nint n, nint pitch, double* sums)
        where T : unmanaged
    {
        nint row = 0;
        for (; row <= rows - 4; row += 4, x += 4 * pitch)
        {
            nint j = 0;
            for (; j <= n - Simd.Lanes; j += Simd.Lanes)
            {
                Vector512<double> pair = Simd.Load(x + j) + Simd.Load(x + pitch + j);
                Vector512<double> next = Simd.Load(x + (2 * pitch) + j) + Simd.Load(x + (3 * pitch) + j);
                (Vector512.Load(sums + j) + (pair + next)).Store(sums + j);
            }

            for (; j < n; j++)
            {
                double pair = Simd.Get(x + j) + Simd.Get(x + pitch + j);
                double next = Simd.Get(x + (2 * pitch) + j) + Simd.Get(x + (3 * pitch) + j);
                sums[j] += pair + next;
            }
        }

        for (; row < rows; row++, x += pitch)
        {
            Simd.AddTo(sums, x, n);
        }
    }

    /// <summary>Adds each column's sum(x - center) to first and sum((x - center)^2) to second.</summary>
    public static void AddCenteredColumns<T>(T* x, nint rows, nint n, nint pitch, double* center, double* first, double* second)
        where T : unmanaged
    {
        for (nint row = 0; row < rows; row += 2, x += 2 * pitch)
        {
            // The last row of an odd number is paired with nothing.
            bool paired = row + 1 < rows;
            nint j = 0;
            for (; j <= n - Simd.Lanes; j += Simd.Lanes)
            {
                Vector512<double> middle = Vector512.Load(center + j);
                Vector512<double> p = Simd.Load(x + j) - middle;
                Vector512<double> q = paired ? Simd.Load(x + pitch + j) - middle : default;
                (Vector512.Load(first + j) + (p + q)).Store(first + j);
                Vector512.FusedMultiplyAdd(q, q, Vector512.FusedMultiplyAdd(p, p, Vector512.Load(second + j))).Store(second + j);
            }

            for (; j < n; j++)
            {
                double p = Simd.Get(x + j) - center[j];
                double q = paired ? Simd.Get(x + pitch + j) - center[j] : 0;
                first[j] += p + q;
                second[j] = Math.FusedMultiplyAdd(q, q, Math.FusedMultiplyAdd(p, p, second[j]));
            }
        }
    }

    /// <summary>Adds g * w to gradients[j] and g * w * line(x) to products[j], for each row; arrays padded to whole vectors.</summary>
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

    /// <summary>y = affine(line(x)) for each row.</summary>
    public static void Standardize<T, A, TLine, TAffine, TStore>(T* x, T* y, nint rows, nint n, nint pitch, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        for (nint row = 0; row < rows; row++, x += pitch, y += pitch)
        {
            nint j = Head<T, TStore>(y, n);
            if (TStore.Streams && j > 0)
            {
                Simd.StorePart(y, j, affine.Apply(line.At(Simd.LoadPart<T, A>(x, j, default), row, 0), 0, j));
            }

            for (; j <= n - lanes; j += lanes)
            {
                Vector512<A> result = affine.Apply(line.At(Simd.Load<T, A>(x + j), row, j), j, lanes);
                if (TStore.Streams)
                {
                    Simd.StoreStreaming(y + j, result);
                }
                else
                {
                    Simd.Store(y + j, result);
                }
            }

            if (j < n)
            {
                nint count = n - j;
                Simd.StorePart(y + j, count, affine.Apply(line.At(Simd.LoadPart<T, A>(x + j, count, default), row, j), j, count));
            }
        }
    }

    /// <summary>dx = (g * w - meanGradient) * r + line(x) for each row: the gradient line has center meanGradient and slope r.</summary>
    /// <remarks>
    /// Term 1 is the gradient itself, term 2 what flows through the mean, and line(x) = -r * xhat * mean(g * w * xhat) what flows through the
    /// variance. Term 1 is rounded as its mean was, not fused, so that a set of one value gives exactly 0.
    /// </remarks>
    public static void InputGradient<T, A, TLine, TAffine, TStore>(
        T* x, T* g, T* dx, nint rows, nint n, nint pitch, TLine gradientLine, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        for (nint row = 0; row < rows; row++, x += pitch, g += pitch, dx += pitch)
        {
            nint j = Head<T, TStore>(dx, n);
            if (TStore.Streams && j > 0)
            {
                Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g, j, default), 0, j);
                Simd.StorePart(dx, j, gradientLine.Plus(p, line.At(Simd.LoadPart<T, A>(x, j, default), row, 0), row, 0));
            }

            for (; j <= n - lanes; j += lanes)
            {
                Vector512<A> p = affine.Scale(Simd.Load<T, A>(g + j), j, lanes);
                Vector512<A> result = gradientLine.Plus(p, line.At(Simd.Load<T, A>(x + j), row, j), row, j);
                if (TStore.Streams)
                {
                    Simd.StoreStreaming(dx + j, result);
                }
                else
                {
                    Simd.Store(dx + j, result);
                }
            }

            if (j < n)
            {
                nint count = n - j;
                Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g + j, count, default), j, count);
                Simd.StorePart(dx + j, count, gradientLine.Plus(p, line.At(Simd.LoadPart<T, A>(x + j, count, default), row, j), row, j));
            }
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

    // Streaming stores want whole aligned vectors: the elements before the first.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint Head<T, TStore>(T* destination, nint n)
        where T : unmanaged
        where TStore : struct, IStore =>
        TStore.Streams ? Math.Min(n, (nint)((64 - ((nuint)destination & 63)) & 63) / sizeof(T)) : 0;
}
