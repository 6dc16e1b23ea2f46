using System.Runtime.Intrinsics;
using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>The sigmoid and its complement against the library's exponential in double.</summary>
[TestClass]
public sealed class ExponentialTests
{
    // Roundings of the exponential, of 1 plus it, of the quotient and of a product, and the remainder of the series.
    private const double Units = 5;

    [TestMethod]
    public void Sigmoid_FloatGrid_IsWithinAFewUnitsOfBothTails()
    {
        var random = new Random(1);
        for (int round = 0; round < 4000; round++)
        {
            float v = (float)(random.NextDouble() * 4 - 2);
            float[] values = [.. Enumerable.Range(0, Vector512<float>.Count).Select(_ => (float)(random.NextDouble() * 80 - 40))];
            Vector512<float> x = Vector512.Create(values);
            Exponential.Sigmoid(x, Vector512.Create(v), out Vector512<float> p, out Vector512<float> q);
            for (int lane = 0; lane < Vector512<float>.Count; lane++)
            {
                double z = (double)v * x[lane];
                Near(1 / (1 + Math.Exp(-z)), p[lane], Math.Pow(2, -24), $"sigmoid({z})");
                Near(1 / (1 + Math.Exp(z)), q[lane], Math.Pow(2, -24), $"sigmoid(-{z})");
            }
        }
    }

    [TestMethod]
    public void Sigmoid_DoubleGrid_IsWithinAFewUnitsOfBothTails()
    {
        var random = new Random(2);
        for (int round = 0; round < 4000; round++)
        {
            // Few digits, so that the reference's product is exact.
            double v = random.Next(-64, 64) / 32.0;
            double[] values = [.. Enumerable.Range(0, Vector512<double>.Count).Select(_ => random.Next(-300 * 1024, 300 * 1024) / 1024.0)];
            Vector512<double> x = Vector512.Create(values);
            Exponential.Sigmoid(x, Vector512.Create(v), out Vector512<double> p, out Vector512<double> q);
            for (int lane = 0; lane < Vector512<double>.Count; lane++)
            {
                double z = v * x[lane];
                Near(1 / (1 + Math.Exp(-z)), p[lane], Math.Pow(2, -53), $"sigmoid({z})");
                Near(1 / (1 + Math.Exp(z)), q[lane], Math.Pow(2, -53), $"sigmoid(-{z})");
            }
        }
    }

    // Of v x what its rounding leaves, too: hundreds of units otherwise.
    [TestMethod]
    public void Sigmoid_DoubleProductThatRounds_KeepsWhatRoundingLeaves()
    {
        var random = new Random(3);
        for (int round = 0; round < 4000; round++)
        {
            double v = (random.NextDouble() * 4) - 2;
            double x = (random.NextDouble() * 600) - 300;
            double z = v * x;
            double rest = Math.FusedMultiplyAdd(v, x, -z);
            Exponential.Sigmoid(Vector512.Create(x), Vector512.Create(v), out Vector512<double> p, out Vector512<double> q);
            Near(1 / (1 + (Math.Exp(-z) * (1 - rest))), p[0], Math.Pow(2, -53), $"sigmoid({z})");
            Near(1 / (1 + (Math.Exp(z) * (1 + rest))), q[0], Math.Pow(2, -53), $"sigmoid(-{z})");
        }
    }

    [TestMethod]
    [DataRow(0f, 0.5f, 0.5f)]
    [DataRow(200f, 1f, 0f)]
    [DataRow(-200f, 0f, 1f)]
    [DataRow(3e38f, 1f, 0f)]
    [DataRow(-3e38f, 0f, 1f)]
    [DataRow(float.PositiveInfinity, 1f, 0f)]
    [DataRow(float.NegativeInfinity, 0f, 1f)]
    [DataRow(float.NaN, float.NaN, float.NaN)]
    public void Sigmoid_Extremes_SaturateAndKeepNaN(float x, float value, float complement)
    {
        Exponential.Sigmoid(Vector512.Create(x), Vector512.Create(2f), out Vector512<float> p, out Vector512<float> q);
        NumericAssert.Near<float>([value, complement], [p[0], q[0]], [1, 1], 1e-30, $"float {x}");
        Exponential.Sigmoid(Vector512.Create(x * 1e10), Vector512.Create(2.0), out Vector512<double> wide, out Vector512<double> other);
        NumericAssert.Near<double>([value, complement], [wide[0], other[0]], [1, 1], 1e-30, $"double {x}");
    }

    // Where the complement is subnormal, and beyond: it is rounded once.
    [TestMethod]
    public void Sigmoid_SubnormalTails_AreWithinAFewUnits()
    {
        for (int step = 0; step <= 4000; step++)
        {
            float x = 80 + (step / 128f);
            Exponential.Sigmoid(Vector512.Create(x), Vector512.Create(1f), out Vector512<float> p, out Vector512<float> q);
            Tail(Math.Exp(-(double)x), q[0], Math.Pow(2, -24), float.Epsilon, $"sigmoid(-{x})");
            Assert.AreEqual(1f, p[0]);
            double wide = 700 + (step / 64.0);
            Exponential.Sigmoid(Vector512.Create(wide), Vector512.Create(1.0), out Vector512<double> one, out Vector512<double> tail);
            Tail(Math.Exp(-wide), tail[0], Math.Pow(2, -53), double.Epsilon, $"sigmoid(-{wide})");
            Assert.AreEqual(1.0, one[0]);
        }

        static void Tail(double expected, double actual, double unit, double least, string what) =>
            Assert.IsLessThanOrEqualTo((Units * unit * expected) + (1.5 * least), Math.Abs(expected - actual), $"{what}: {actual} instead of {expected}");
    }

    [TestMethod]
    public void Sigmoid_ProductBeyondItsType_Saturates()
    {
        Exponential.Sigmoid(Vector512.Create(1e30f), Vector512.Create(-1e30f), out Vector512<float> p, out Vector512<float> q);
        Exponential.Sigmoid(Vector512.Create(1e200), Vector512.Create(-1e200), out Vector512<double> wide, out Vector512<double> other);
        Assert.AreEqual((0f, 1f, 0.0, 1.0), (p[0], q[0], wide[0], other[0]));
    }

    private static void Near(double expected, double actual, double unit, string what) =>
        NumericAssert.Near(expected, actual, expected, Units * unit, what);
}
