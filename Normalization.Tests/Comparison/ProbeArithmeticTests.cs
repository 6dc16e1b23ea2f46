using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Comparison;

[TestClass]
public sealed class ProbeArithmeticTests
{
    private static readonly ActivationShape Shape = new(2, 2, 3);

    [TestMethod]
    [DataRow(0.0)]
    [DataRow(1e8)]
    public void Moments_ByChannel_AreExact(double mean)
    {
        // Channel 0 holds 1, 2, 3, 7, 8, 9 and channel 1 holds 4, 5, 6, 10, 11, 12: mean 5 and 8, population variance 29/3.
        double[] values = [.. Enumerable.Range(1, 12).Select(i => mean + i)];
        (double[] means, double[] variances) = ReductionSets.Channels(Shape).Moments(values);

        Assert.AreEqual(mean + 5, means[0], 1e-8);
        Assert.AreEqual(mean + 8, means[1], 1e-8);
        Assert.AreEqual(29.0 / 3, variances[0], 1e-12);
        Assert.AreEqual(29.0 / 3, variances[1], 1e-12);
    }

    [TestMethod]
    public void Covariance_TwoChannels_HasTheKnownConditionAndCorrelation()
    {
        // Channel 1 is twice channel 0 plus an uncorrelated +-1: covariance [[5/4, 5/2], [5/2, 6]].
        var shape = new ActivationShape(8, 2);
        double[] x = [-1.5, -0.5, 0.5, 1.5, -1.5, -0.5, 0.5, 1.5];
        double[] values = [.. x.SelectMany((value, i) => new[] { value, (2 * value) + (i < 4 ? 1 : -1) })];
        var covariance = new ChannelCovariance(shape, values);

        double root = Math.Sqrt((7.25 * 7.25) - (4 * 1.25));
        Assert.AreEqual((7.25 + root) / (7.25 - root), covariance.ConditionNumber(), 1e-9);
        Assert.AreEqual(2.5 / Math.Sqrt(1.25 * 6), covariance.LargestCorrelation()!.Value, 1e-12);

        // S (S + epsilon I)^-1 (S + epsilon I) = S.
        var whitened = covariance.Whitened(0.5);
        var shifted = covariance.Matrix.Clone();
        shifted[0, 0] += 0.5;
        shifted[1, 1] += 0.5;
        Assert.IsLessThan(1e-12, Arithmetic.Largest(((whitened * shifted) - covariance.Matrix).ToRowMajorArray()));
    }

    [TestMethod]
    public void Covariance_DependentChannels_IsInfinitelyConditioned()
    {
        double[] values = [1, 2, 3, 6, 4, 8, -2, -4];
        Assert.AreEqual(double.PositiveInfinity, new ChannelCovariance(new ActivationShape(4, 2), values).ConditionNumber());
    }

    [TestMethod]
    public void Covariance_ConstantChannel_IsLeftOut()
    {
        double[] values = [1, 5, 3, 5, 4, 5];
        var covariance = new ChannelCovariance(new ActivationShape(3, 2), values);
        Assert.AreEqual(1, covariance.ConstantChannels);
        Assert.AreEqual(1, covariance.ConditionNumber());
        Assert.IsNull(covariance.LargestCorrelation());
    }

    [TestMethod]
    public void Spread_OfElevenValues_IsTheSecondAndTheTenth() =>
        CollectionAssert.AreEqual(new[] { 1.0, 9.0 }, Arithmetic.Spread(Enumerable.Range(0, 11).Select(i => (double)(i * 7 % 11))));

    [TestMethod]
    public void MixChannels_Matrix_ActsOnEveryPosition()
    {
        double[] mixed = Arithmetic.MixChannels(Shape, [0, 1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        CollectionAssert.AreEqual(new double[] { 4, 5, 6, 14, 19, 24, 10, 11, 12, 44, 49, 54 }, mixed);
    }

    [TestMethod]
    public void Pool_Moments_AreThoseOfItsSamples()
    {
        var pool = new ScenarioPool(Scenarios.Synthetic(1)[0], 1, 50);
        double[] values = pool.Batch([.. Enumerable.Range(0, 50)]);
        double mean = Enumerable.Range(0, values.Length).Where(i => i / 64 % 16 == 5).Average(i => values[i]);
        Assert.AreEqual(mean, pool.ChannelMeans[5], 1e-12);
        Assert.IsTrue(pool.Choose(1000, new RandomStream(1, "x")).Distinct().Count() == 50);
    }
}
