using System.Numerics;
using System.Runtime.Intrinsics;
using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>The power of local response normalization against the library's in double.</summary>
[TestClass]
public sealed class LocalResponseTests
{
    [TestMethod]
    [DataRow(0)]
    [DataRow(1)]
    [DataRow(2)]
    [DataRow(3)]
    [DataRow(4)]
    [DataRow(5)]
    [DataRow(6)]
    [DataRow(7)]
    public void QuarterPower_AcrossItsRange_IsWithinAFewUnits(int quarters)
    {
        var single = new QuarterPower<float>(quarters);
        var wide = new QuarterPower<double>(quarters);
        double unit = Math.Pow(2, -24);
        double wideUnit = Math.Pow(2, -53);

        // 1e-6 to 1e16, some two thousand to each power of two.
        for (float value = 1e-6f; value < 1e16f; value *= 1.0003f)
        {
            Near<float>(Math.Pow(value, -quarters / 4.0), single.Of(Vector512.Create(value), out Vector512<float> reciprocal)[0], 3.4 * unit, value);
            Near<float>(1 / (double)value, reciprocal[0], 1.1 * unit, value);
            Near<double>(Math.Pow(value, -quarters / 4.0), wide.Of(Vector512.Create((double)value), out Vector512<double> wideReciprocal)[0], 6 * wideUnit, value);
            Near<double>(1 / (double)value, wideReciprocal[0], 1.1 * wideUnit, value);
        }

        void Near<T>(double expected, T actual, double error, float value)
            where T : INumber<T> =>
            Assert.IsLessThanOrEqualTo(error, Math.Abs((double.CreateChecked(actual) / expected) - 1), $"{typeof(T).Name}: {value} to the power of -{quarters}/4");
    }
}
