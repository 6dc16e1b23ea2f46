using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Normalization.Tests.Support;

/// <summary>The only comparison of floating-point arrays in the tests; its messages name index, expected, actual and scale.</summary>
internal static class NumericAssert
{
    /// <summary>
    /// |actual - expected| &lt;= tolerance * scale, element by element. NaN agrees with NaN and an infinity with itself, nothing
    /// else. A type cannot be nearer than its smallest positive number: below it the comparison asks no more.
    /// </summary>
    public static void Near<T>(double[] expected, ReadOnlySpan<T> actual, double[] scale, double tolerance, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Assert.AreEqual(expected.Length, actual.Length, $"{what}: length");
        Assert.AreEqual(expected.Length, scale.Length, $"{what}: length of the scale");
        double spacing = double.CreateChecked(T.Epsilon);
        int worst = -1;
        double worstRatio = 0;
        int wrong = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double value = double.CreateChecked(actual[i]);
            if (value.Equals(expected[i]))
            {
                continue;
            }

            double allowed = Math.Max(tolerance * scale[i], spacing);
            double ratio = Math.Abs(value - expected[i]) / allowed;
            if (ratio <= 1)
            {
                continue;
            }

            wrong++;
            if (worst < 0 || ratio > worstRatio || double.IsNaN(ratio))
            {
                worst = i;
                worstRatio = ratio;
            }
        }

        if (worst >= 0)
        {
            Assert.Fail(string.Create(
                CultureInfo.InvariantCulture,
                $"{what}: {wrong} of {expected.Length} differ, worst at [{worst}]: expected {expected[worst]:R}, actual {actual[worst]:R}, " +
                $"scale {scale[worst]:G4}, tolerance {tolerance:G3}, {worstRatio:G3} times too far."));
        }
    }

    /// <summary>As above with one scale: the largest finite |expected|.</summary>
    public static void NearLargest<T>(double[] expected, ReadOnlySpan<T> actual, double tolerance, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var scale = new double[expected.Length];
        Array.Fill(scale, expected.Where(double.IsFinite).Select(Math.Abs).DefaultIfEmpty().Max());
        Near(expected, actual, scale, tolerance, what);
    }

    /// <summary>One number.</summary>
    public static void Near(double expected, double actual, double scale, double tolerance, string what) =>
        Near<double>([expected], [actual], [scale], tolerance, what);

    /// <summary>The same bits; every NaN payload and the sign of zero count.</summary>
    public static void SameBits<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> actual, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Assert.AreEqual(expected.Length, actual.Length, $"{what}: length");
        int size = Unsafe.SizeOf<T>();
        int offset = MemoryMarshal.AsBytes(expected).CommonPrefixLength(MemoryMarshal.AsBytes(actual));
        if (offset < expected.Length * size)
        {
            int i = offset / size;
            Assert.Fail(string.Create(
                CultureInfo.InvariantCulture, $"{what}: bits differ first at [{i}] of {expected.Length}: expected {expected[i]:R}, actual {actual[i]:R}."));
        }
    }

    /// <summary>At least one bit differs: the positive half of a test that something matters.</summary>
    public static void Differs<T>(ReadOnlySpan<T> first, ReadOnlySpan<T> second, double atLeast, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Assert.AreEqual(first.Length, second.Length, $"{what}: length");
        double largest = 0;
        for (int i = 0; i < first.Length; i++)
        {
            largest = Math.Max(largest, Math.Abs(double.CreateChecked(first[i]) - double.CreateChecked(second[i])));
        }

        Assert.IsTrue(largest >= atLeast, string.Create(CultureInfo.InvariantCulture, $"{what}: differ by at most {largest:G4}, expected at least {atLeast:G4}."));
    }

    /// <summary>No NaN and no infinity.</summary>
    public static void Finite<T>(ReadOnlySpan<T> values, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < values.Length; i++)
        {
            Assert.IsTrue(T.IsFinite(values[i]), $"{what}: [{i}] of {values.Length} is {values[i]}.");
        }
    }
}
