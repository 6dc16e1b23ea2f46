using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>The loops that every standardizing strategy shares, over one contiguous run (n) or one contiguous matrix (rows x columns).</summary>
/// <remarks>
/// Rows reduce along the run into scalars; columns reduce down the matrix into arrays. Element-wise loops are written once for
/// statistics and affine values that are either constant along the run or given for each position.
/// </remarks>
internal static unsafe class Loops
{
    /// <summary>Sum of x.</summary>
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

    /// <summary>Adds each column's sum to sums; rows lie pitch apart.</summary>
    public static void AddColumns<T>(T* x, nint rows, nint columns, nint pitch, double* sums)
        where T : unmanaged
    {
        nint row = 0;
        for (; row <= rows - 4; row += 4, x += 4 * pitch)
        {
            nint j = 0;
            for (; j <= columns - Simd.Lanes; j += Simd.Lanes)
            {
                Vector512<double> pair = Simd.Load(x + j) + Simd.Load(x + pitch + j);
                Vector512<double> next = Simd.Load(x + (2 * pitch) + j) + Simd.Load(x + (3 * pitch) + j);
                (Vector512.Load(sums + j) + (pair + next)).Store(sums + j);
            }

            for (; j < columns; j++)
            {
                double pair = Simd.Get(x + j) + Simd.Get(x + pitch + j);
                double next = Simd.Get(x + (2 * pitch) + j) + Simd.Get(x + (3 * pitch) + j);
                sums[j] += pair + next;
            }
        }

        for (; row < rows; row++, x += pitch)
        {
            nint j = 0;
            for (; j <= columns - Simd.Lanes; j += Simd.Lanes)
            {
                (Vector512.Load(sums + j) + Simd.Load(x + j)).Store(sums + j);
            }

            for (; j < columns; j++)
            {
                sums[j] += Simd.Get(x + j);
            }
        }
    }

    /// <summary>Adds each column's sum(x - center) to first and sum((x - center)^2) to second; rows lie pitch apart.</summary>
    public static void AddCenteredColumns<T>(T* x, nint rows, nint columns, nint pitch, double* center, double* first, double* second)
        where T : unmanaged
    {
        for (nint row = 0; row < rows; row += 2, x += 2 * pitch)
        {
            // The last row of an odd number is paired with nothing.
            bool paired = row + 1 < rows;
            nint j = 0;
            for (; j <= columns - Simd.Lanes; j += Simd.Lanes)
            {
                Vector512<double> middle = Vector512.Load(center + j);
                Vector512<double> p = Simd.Load(x + j) - middle;
                Vector512<double> q = paired ? Simd.Load(x + pitch + j) - middle : default;
                (Vector512.Load(first + j) + (p + q)).Store(first + j);
                Vector512.FusedMultiplyAdd(q, q, Vector512.FusedMultiplyAdd(p, p, Vector512.Load(second + j))).Store(second + j);
            }

            for (; j < columns; j++)
            {
                double p = Simd.Get(x + j) - center[j];
                double q = paired ? Simd.Get(x + pitch + j) - center[j] : 0;
                first[j] += p + q;
                second[j] = Math.FusedMultiplyAdd(q, q, Math.FusedMultiplyAdd(p, p, second[j]));
            }
        }
    }

    /// <summary>y = (x - mean) * inverse * weight + bias, for each row.</summary>
    public static void Standardize<T, TStatistic, TAffine>(
        T* x, T* y, nint rows, nint n, TStatistic mean, TStatistic inverse, TAffine weight, TAffine bias)
        where T : unmanaged
        where TStatistic : struct, ICoefficient
        where TAffine : struct, ICoefficient
    {
        for (nint row = 0; row < rows; row++, x += n, y += n)
        {
            nint j = 0;
            for (; j <= n - Simd.Lanes; j += Simd.Lanes)
            {
                Vector512<double> normalized = (Simd.Load(x + j) - mean.Vector(j)) * inverse.Vector(j);
                Simd.Store(y + j, Vector512.FusedMultiplyAdd(normalized, weight.Vector(j), bias.Vector(j)));
            }

            for (; j < n; j++)
            {
                double normalized = (Simd.Get(x + j) - mean.Scalar(j)) * inverse.Scalar(j);
                Simd.Set(y + j, Math.FusedMultiplyAdd(normalized, weight.Scalar(j), bias.Scalar(j)));
            }
        }
    }

    /// <summary>Adds sum(g * w) to gradient and sum(g * w * (x - mean) * r) to product, along a run.</summary>
    /// <remarks>With w = 1 these are the bias and weight gradients; with w = weight the two terms of the input gradient.</remarks>
    public static void GradientSums<T, TStatistic, TAffine>(
        T* x, T* g, nint n, TStatistic mean, TStatistic inverse, TAffine weight, ref double gradient, ref double product)
        where T : unmanaged
        where TStatistic : struct, ICoefficient
        where TAffine : struct, ICoefficient
    {
        Vector512<double> a1 = default, b1 = default, a2 = default, b2 = default;
        nint j = 0;
        for (; j <= n - (2 * Simd.Lanes); j += 2 * Simd.Lanes)
        {
            nint k = j + Simd.Lanes;
            Vector512<double> p = Simd.Load(g + j) * weight.Vector(j);
            Vector512<double> q = Simd.Load(g + k) * weight.Vector(k);
            a1 += p;
            b1 += q;
            a2 = Vector512.FusedMultiplyAdd(p, (Simd.Load(x + j) - mean.Vector(j)) * inverse.Vector(j), a2);
            b2 = Vector512.FusedMultiplyAdd(q, (Simd.Load(x + k) - mean.Vector(k)) * inverse.Vector(k), b2);
        }

        for (; j <= n - Simd.Lanes; j += Simd.Lanes)
        {
            Vector512<double> p = Simd.Load(g + j) * weight.Vector(j);
            a1 += p;
            a2 = Vector512.FusedMultiplyAdd(p, (Simd.Load(x + j) - mean.Vector(j)) * inverse.Vector(j), a2);
        }

        double sum1 = Simd.Sum(a1 + b1);
        double sum2 = Simd.Sum(a2 + b2);
        for (; j < n; j++)
        {
            double p = Simd.Get(g + j) * weight.Scalar(j);
            sum1 += p;
            sum2 = Math.FusedMultiplyAdd(p, (Simd.Get(x + j) - mean.Scalar(j)) * inverse.Scalar(j), sum2);
        }

        gradient += sum1;
        product += sum2;
    }

    /// <summary>Adds g * w to gradients[j] and g * w * (x - mean) * r to products[j], for each row.</summary>
    public static void AddGradientColumns<T, TStatistic>(
        T* x, T* g, nint rows, nint n, TStatistic mean, TStatistic inverse, double weight, double* gradients, double* products)
        where T : unmanaged
        where TStatistic : struct, ICoefficient
    {
        Vector512<double> factor = Vector512.Create(weight);
        for (nint row = 0; row < rows; row++, x += n, g += n)
        {
            nint j = 0;
            for (; j <= n - Simd.Lanes; j += Simd.Lanes)
            {
                Vector512<double> p = Simd.Load(g + j) * factor;
                (Vector512.Load(gradients + j) + p).Store(gradients + j);
                Vector512<double> normalized = (Simd.Load(x + j) - mean.Vector(j)) * inverse.Vector(j);
                Vector512.FusedMultiplyAdd(p, normalized, Vector512.Load(products + j)).Store(products + j);
            }

            for (; j < n; j++)
            {
                double p = Simd.Get(g + j) * weight;
                gradients[j] += p;
                double normalized = (Simd.Get(x + j) - mean.Scalar(j)) * inverse.Scalar(j);
                products[j] = Math.FusedMultiplyAdd(p, normalized, products[j]);
            }
        }
    }

    /// <summary>dx = r * (g * w - meanGradient - xhat * meanProduct) for each row, with xhat = (x - mean) * r.</summary>
    /// <remarks>
    /// Term 1 is the gradient itself, term 2 what flows through the mean, term 3 what flows through the variance. Term 1 is rounded as its
    /// mean was, not fused, so that a set of one value gives exactly 0.
    /// </remarks>
    public static void InputGradient<T, TStatistic, TAffine>(
        T* x, T* g, T* dx, nint rows, nint n,
        TStatistic mean, TStatistic inverse, TStatistic meanGradient, TStatistic meanProduct, TAffine weight)
        where T : unmanaged
        where TStatistic : struct, ICoefficient
        where TAffine : struct, ICoefficient
    {
        for (nint row = 0; row < rows; row++, x += n, g += n, dx += n)
        {
            nint j = 0;
            for (; j <= n - Simd.Lanes; j += Simd.Lanes)
            {
                Vector512<double> r = inverse.Vector(j);
                Vector512<double> normalized = (Simd.Load(x + j) - mean.Vector(j)) * r;
                Vector512<double> centered = (Simd.Load(g + j) * weight.Vector(j)) - meanGradient.Vector(j);
                Simd.Store(dx + j, Vector512.FusedMultiplyAdd(-normalized, meanProduct.Vector(j), centered) * r);
            }

            for (; j < n; j++)
            {
                double r = inverse.Scalar(j);
                double normalized = (Simd.Get(x + j) - mean.Scalar(j)) * r;
                double centered = (Simd.Get(g + j) * weight.Scalar(j)) - meanGradient.Scalar(j);
                Simd.Set(dx + j, Math.FusedMultiplyAdd(-normalized, meanProduct.Scalar(j), centered) * r);
            }
        }
    }

    /// <summary>dx = g * w * r for each row: the input gradient where the statistics are constants.</summary>
    public static void ScaleGradient<T, TStatistic, TAffine>(T* g, T* dx, nint rows, nint n, TStatistic inverse, TAffine weight)
        where T : unmanaged
        where TStatistic : struct, ICoefficient
        where TAffine : struct, ICoefficient
    {
        for (nint row = 0; row < rows; row++, g += n, dx += n)
        {
            nint j = 0;
            for (; j <= n - Simd.Lanes; j += Simd.Lanes)
            {
                Simd.Store(dx + j, Simd.Load(g + j) * weight.Vector(j) * inverse.Vector(j));
            }

            for (; j < n; j++)
            {
                Simd.Set(dx + j, Simd.Get(g + j) * weight.Scalar(j) * inverse.Scalar(j));
            }
        }
    }
}
