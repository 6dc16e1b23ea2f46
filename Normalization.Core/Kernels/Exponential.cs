using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>The exponential and the logistic function on whole vectors, with the same bits at every vector width.</summary>
/// <remarks>The library's own exponential takes another path where vectors are not accelerated, and one in double for float.</remarks>
internal static class Exponential
{
    /// <summary>
    /// sigmoid(v x) = 1 / (1 + exp(-v x)) and its complement sigmoid(-v x), each to a few units in the last place of itself: what rounding
    /// v x leaves goes into the exponent, and the complement is not taken from 1 where that would cancel. A value below 2^-128 (double 2^-1024) is 0.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Sigmoid<A>(Vector512<A> x, Vector512<A> v, out Vector512<A> value, out Vector512<A> complement)
        where A : unmanaged
    {
        // At the bound the exponential is 0 or infinite already. NaN stays NaN: the second operand is what a comparison with it leaves.
        Vector512<A> bound = Simd.Create<A>(typeof(A) == typeof(float) ? 104 : 746);
        Vector512<A> z = Vector512.MaxNative(-bound, Vector512.MinNative(bound, v * x));
        Vector512<A> power = Decay(x, v, z);
        value = Vector512<A>.One / (Vector512<A>.One + power);
        complement = Vector512.ConditionalSelect(Vector512.GreaterThan(z, Vector512<A>.Zero), power * value, Vector512<A>.One - value);
    }

    // exp(-v x), where z is v x within the bounds. v x = r - n ln 2, |r| at most 0.35: a series of r, times 2^n.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> Decay<A>(Vector512<A> x, Vector512<A> v, Vector512<A> z)
        where A : unmanaged
    {
        // Adding 1.5 * 2^(digits - 1) rounds to an integer and leaves it in the low bits.
        bool single = typeof(A) == typeof(float);
        Vector512<A> magic = Simd.Create<A>(single ? 12582912.0 : 6755399441055744.0);
        Vector512<A> shifted = Simd.MultiplyAdd(z, Simd.Create<A>(-1.4426950408889634), magic);
        Vector512<A> n = shifted - magic;

        // ln 2 in two parts, the first short enough that n times it is exact: so v x is not rounded before that is taken off.
        Vector512<A> r = Simd.MultiplyAdd(v, x, n * Simd.Create<A>(single ? 0.693145751953125 : 0.6931471803691238));
        r = Simd.MultiplyAdd(n, Simd.Create<A>(single ? 1.428606820309417e-06 : 1.9082149292705877e-10), r);

        // Beyond the upper bound 2^n is 0, but the series of a large r would not be small; beyond the lower one both are as large as it takes.
        r = Vector512.MinNative(Vector512<A>.One, r);
        Vector512<A> sum = single ? DecaySeriesSingle(r.AsSingle()).As<float, A>() : DecaySeriesDouble(r.AsDouble()).As<double, A>();

        if (Avx512F.IsSupported)
        {
            return single ? Avx512F.Scale(sum.AsSingle(), n.AsSingle()).As<float, A>() : Avx512F.Scale(sum.AsDouble(), n.AsDouble()).As<double, A>();
        }

        // In two factors, since 2^n alone may lie beyond what a power of two can be; the first is exact, so that all is rounded once as well.
        if (single)
        {
            Vector512<int> exponent = shifted.AsInt32() - magic.AsInt32();
            Vector512<int> half = Vector512.ShiftRightArithmetic(exponent, 1);
            return sum * Power(half).As<float, A>() * Power(exponent - half).As<float, A>();
        }
        else
        {
            Vector512<long> exponent = shifted.AsInt64() - magic.AsInt64();
            Vector512<long> half = Vector512.ShiftRightArithmetic(exponent, 1);
            return sum * Power(half).As<double, A>() * Power(exponent - half).As<double, A>();
        }
    }

    // exp(-r): the polynomial of degree 6 that begins 1 - r and whose largest relative error on |r| <= ln 2 / 2 is least, 4.5e-9 as rounded. In pairs, since a
    // processor waits for one long chain of sums.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> DecaySeriesSingle(Vector512<float> r)
    {
        Vector512<float> square = r * r;
        Vector512<float> high = Next(Vector512.Create(-0.008368745f), r, 0.041668391);
        high = Vector512.FusedMultiplyAdd(Vector512.Create(0.001381454f), square, high);
        Vector512<float> sum = Vector512.FusedMultiplyAdd(high, square, Next(Vector512.Create(-0.1666652f), r, 0.49999993));
        return Vector512.FusedMultiplyAdd(sum, square, Vector512<float>.One - r);
    }

    // exp(-r): Taylor's series to an order whose remainder is below rounding.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> DecaySeriesDouble(Vector512<double> r)
    {
        Vector512<double> sum = Next(Vector512.Create(-1.0 / 6227020800), r, 1.0 / 479001600);
        sum = Next(sum, r, -1.0 / 39916800);
        sum = Next(sum, r, 1.0 / 3628800);
        sum = Next(sum, r, -1.0 / 362880);
        sum = Next(sum, r, 1.0 / 40320);
        sum = Next(sum, r, -1.0 / 5040);
        sum = Next(sum, r, 1.0 / 720);
        sum = Next(sum, r, -1.0 / 120);
        sum = Next(sum, r, 1.0 / 24);
        sum = Next(sum, r, -1.0 / 6);
        sum = Next(sum, r, 0.5);
        sum = Next(sum, r, -1);
        return Next(sum, r, 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> Next<A>(Vector512<A> sum, Vector512<A> r, double coefficient)
        where A : unmanaged => Simd.MultiplyAdd(sum, r, Simd.Create<A>(coefficient));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Power(Vector512<int> exponent) => ((exponent + Vector512.Create(127)) << 23).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Power(Vector512<long> exponent) => ((exponent + Vector512.Create(1023L)) << 52).AsDouble();
}
