using Normalization.Core.Comparison;

namespace Normalization.Tests.Comparison;

[TestClass]
public sealed class BootstrapTests
{
    [TestMethod]
    public void Median_ManyRandomSamples_IntervalCoversAboutNineteenOfTwenty()
    {
        // Skewed as times are: the true median of exp(z) is 1.
        const int Experiments = 400;
        var data = new RandomStream(1, "data");
        var stream = new RandomStream(1, "resamples");
        int covered = 0;
        for (int experiment = 0; experiment < Experiments; experiment++)
        {
            double[] values = [.. Enumerable.Range(0, 25).Select(_ => Math.Exp(data.NextGaussian()))];
            Estimate estimate = Bootstrap.Median(values, stream);
            Assert.IsTrue(estimate.Low <= estimate.Value && estimate.Value <= estimate.High);
            covered += estimate.Low <= 1 && 1 <= estimate.High ? 1 : 0;
        }

        // 19 of 20, and three standard deviations of a count of 400 on either side.
        Assert.IsTrue(covered is >= 366 and <= 394, $"{covered} of {Experiments}");
    }

    [TestMethod]
    public void Median_MoreValues_NarrowsTheInterval()
    {
        var data = new RandomStream(2, "data");
        Estimate few = Bootstrap.Median([.. Enumerable.Range(0, 9).Select(_ => data.NextGaussian())], new RandomStream(1, "resamples"));
        Estimate many = Bootstrap.Median([.. Enumerable.Range(0, 201).Select(_ => data.NextGaussian())], new RandomStream(1, "resamples"));

        Assert.IsLessThan((few.High - few.Low) / 2, many.High - many.Low);
    }

    [TestMethod]
    public void Median_SameStream_GivesTheSameInterval()
    {
        double[] values = [3, 1, 4, 1.5, 9, 2.6, 5.3];

        Estimate first = Bootstrap.Median(values, new RandomStream(7, "resamples"));

        Assert.AreEqual(first, Bootstrap.Median(values, new RandomStream(7, "resamples")));
        Assert.AreEqual(3.0, first.Value);
        CollectionAssert.AreEqual(new[] { 3, 1, 4, 1.5, 9, 2.6, 5.3 }, values);
    }

    [TestMethod]
    public void Median_OneValue_IsItsOwnInterval() =>
        Assert.AreEqual(new Estimate(2, 2, 2), Bootstrap.Median([2.0], new RandomStream(1, "resamples")));

    [TestMethod]
    public void Under_AnAmount_TurnsTheIntervalRound() => Assert.AreEqual(new Estimate(3, 2, 6), new Estimate(4, 2, 6).Under(12));
}
