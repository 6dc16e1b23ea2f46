using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Oracles;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies;

/// <summary>What the whitening strategies share beyond the conformance tests: recalibration over a pass.</summary>
[TestClass]
public sealed class WhiteningNormalizerTests
{
    private const int Channels = 6;
    private const int Positions = 5;
    private const int Values = Channels * Positions;

    private static readonly ActivationShape Whole = new(40, Channels, Positions);

    private static readonly int[][] Cuts = [[40], [8, 16, 4, 12], [3, 5, 32]];

    public static IEnumerable<object[]> Layers =>
        from id in new[] { TestData.ZcaWhitening, WhiteningCase.Pca, WhiteningCase.Cholesky, WhiteningCase.IterNorm }
        from groupSize in new int?[] { null, 3, 1 }
        from running in Enum.GetValues<WhiteningRunning>()
        select new object[] { id, new StrategySettings { GroupSize = groupSize, Shrinkage = groupSize == 3 ? 0.1 : 0, WhiteningRunning = running } };

    [TestMethod]
    [DynamicData(nameof(Layers))]
    public void Recalibration_Pooled_StoresTheCovarianceOfThePassHoweverItIsCut(string id, StrategySettings settings)
    {
        double[] x = Drifting();
        (double[] means, double[] covariance) = Moments(x, settings.GroupSize ?? Channels);
        foreach (int[] cut in Cuts)
        {
            Normalizer<double> layer = Recalibrated<double>(id, settings, Cut(x, cut), out RecalibrationCount count);
            Assert.AreEqual(new RecalibrationCount(cut.Length, 40, 0), count);
            Assert.AreEqual(cut.Length, layer.Buffers.Single(b => b.IsCounter).Count);
            NumericAssert.NearLargest<double>(means, Runs.Buffer(layer, "running_mean"), 1e-13, "mean");
            if (settings.WhiteningRunning == WhiteningRunning.Covariance)
            {
                NumericAssert.NearLargest<double>(covariance, Runs.Buffer(layer, "running_covariance"), 1e-13, "covariance");
            }
        }
    }

    // The oracle whitens all samples at once by their own statistics; the layer infers by those it pooled.
    [TestMethod]
    [DynamicData(nameof(Layers))]
    public void Recalibration_Pooled_InferenceWhitensByTheStatisticsOfTheWholePass(string id, StrategySettings settings)
    {
        AssertInferenceIsThatOfAllAtOnce<double>(id, settings, 1e-10);
        AssertInferenceIsThatOfAllAtOnce<float>(id, settings, 2e-5);
    }

    [TestMethod]
    [DynamicData(nameof(Layers))]
    public void Recalibration_AveragedOverBatches_IsAPassOfTheCumulativeAverage(string id, StrategySettings settings)
    {
        double[][] batches = [.. Cut(Drifting(), [8, 16, 4, 12])];
        Normalizer<double> layer = Recalibrated<double>(id, settings, batches, out _, RecalibratedVariance.AveragedOverBatches);
        Normalizer<double> cumulative = Runs.CreateBase<double>(id, Whole, settings with { Momentum = null });
        foreach (double[] batch in batches)
        {
            Forward(cumulative, batch);
        }

        foreach (StateBuffer<double> buffer in cumulative.Buffers.Where(b => !b.IsCounter))
        {
            NumericAssert.NearLargest<double>(buffer.Values, Runs.Buffer(layer, buffer.Name), 1e-13, buffer.Name);
        }
    }

    [TestMethod]
    public void Recalibration_MeanFarAboveTheDeviation_KeepsTheCovariance()
    {
        double[] x = Drifting();
        double[] far = Array.ConvertAll(x, value => value + 1e6);
        Normalizer<double> layer = Recalibrated<double>(TestData.ZcaWhitening, new StrategySettings(), Cut(far, [8, 16, 4, 12]), out _);
        NumericAssert.NearLargest<double>(Moments(x, Channels).Covariance, Runs.Buffer(layer, "running_covariance"), 1e-9, "covariance");
    }

    [TestMethod]
    public void Recalibration_BatchThatIsNotFinite_IsLeftOutAndCounted()
    {
        double[] x = Drifting();
        double[] bad = TestData.Normal(3, 10 * Values);
        bad[7] = double.NaN;
        Normalizer<double> layer = Recalibrated<double>(TestData.ZcaWhitening, new StrategySettings(), [.. Cut(x, [20, 20]), bad], out RecalibrationCount count);
        Assert.AreEqual(new RecalibrationCount(2, 40, 1), count);
        NumericAssert.NearLargest<double>(Moments(x, Channels).Covariance, Runs.Buffer(layer, "running_covariance"), 1e-13, "covariance");
    }

    [TestMethod]
    public void Recalibration_NoBatchOrNoRunningStatistics_ThrowsSayingWhichLayer()
    {
        Normalizer<double> layer = Runs.CreateBase<double>(TestData.ZcaWhitening, Whole, new StrategySettings());
        InvalidOperationException none = Assert.Throws<InvalidOperationException>(() => Recalibration.Run([layer], Array.Empty<double[]>(), batch => Forward(layer, batch)));
        Assert.Contains("Layer 0 of the recalibration, ZcaWhitening, has taken in no batch", none.Message);
        Normalizer<double> stateless = Runs.CreateBase<double>(TestData.ZcaWhitening, Whole, new StrategySettings { RunningStatistics = false });
        Assert.Contains("no running statistics", Assert.Throws<InvalidOperationException>(() => Recalibration.Run([stateless], [Drifting()], batch => Forward(stateless, batch))).Message);
    }

    // In double the batches can be whitened; rounded to float their covariance is singular, and inference could not be.
    [TestMethod]
    public void Recalibration_CovarianceThatRoundsToASingularOne_ThrowsAndStoresNothing()
    {
        var options = new ZcaWhiteningOptions { Epsilon = 0 };
        var first = new BatchNorm<float>(2);
        var layer = new ZcaWhitening<float>(2, options);
        var shape = new ActivationShape(8, 2);
        float[] x = [.. Enumerable.Range(0, 16).Select(i => (i / 2) - 3.5f + (i % 2 * (i / 2 % 2 == 0 ? 1e-5f : -1e-5f)))];
        Runs.Forward(layer, shape, x);
        first.Training = layer.Training = true;
        var before = (Runs.State(first), Runs.State(layer));
        InvalidOperationException refused = Assert.Throws<InvalidOperationException>(() => Recalibration.Run([first, layer], [x], batch =>
        {
            Runs.Forward(first, shape, batch);
            Runs.Forward(layer, shape, batch);
        }));
        Assert.Contains("Layer 1", refused.Message);
        Assert.Contains("singular", refused.Message);
        Runs.AssertState(before.Item1, first, "the layer before");
        Runs.AssertState(before.Item2, layer, "the layer");
    }

    private static void AssertInferenceIsThatOfAllAtOnce<T>(string id, StrategySettings settings, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double[] x = TestData.Rounded<T>(Drifting());
        Oracle oracle = StrategyCases.Of(id).CreateOracle(Whole, settings);
        double[] expected = oracle.Forward(Whole, x);
        foreach (int[] cut in Cuts)
        {
            Normalizer<T> layer = Recalibrated<T>(id, settings, Cut(x, cut), out _);
            layer.Training = false;
            NumericAssert.NearLargest<T>(expected, Runs.Forward(layer, Whole, TestData.As<T>(x)), tolerance, $"{typeof(T).Name}, {cut.Length} batches");
        }
    }

    // With statistics of something else before, which must not show.
    private static Normalizer<T> Recalibrated<T>(
        string id, StrategySettings settings, IEnumerable<double[]> batches, out RecalibrationCount count, RecalibratedVariance variance = RecalibratedVariance.Pooled)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Normalizer<T> layer = Runs.CreateBase<T>(id, Whole, settings);
        Forward(layer, TestData.Normal(3, Whole.Count, 9, 5));
        count = Recalibration.Run([layer], batches, batch => Forward(layer, batch), variance).Single();
        return layer;
    }

    private static void Forward<T>(Normalizer<T> layer, double[] batch)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Runs.Forward(layer, new ActivationShape(batch.Length / Values, Channels, Positions), TestData.As<T>(batch));

    // Correlated channels whose means rise from sample to sample, each at its own pace, so that batches differ in mean and in covariance.
    private static double[] Drifting()
    {
        double[] noise = TestData.Normal(1, Whole.Count);
        var x = new double[noise.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int channel = i / Positions % Channels;
            double before = channel == 0 ? 0 : noise[i - Positions];
            x[i] = ((1 + (0.3 * channel)) * noise[i]) + (0.7 * before) + (0.02 * (channel + 1) * (i / Values));
        }

        return x;
    }

    private static IEnumerable<double[]> Cut(double[] x, int[] cut)
    {
        int first = 0;
        foreach (int samples in cut)
        {
            yield return x[(first * Values)..((first + samples) * Values)];
            first += samples;
        }
    }

    // Of all values at once, from the definition: (C) and, within groups of d, (C, d).
    private static (double[] Means, double[] Covariance) Moments(double[] x, int size)
    {
        double[][] rows = [.. Enumerable.Range(0, Channels).Select(c => x.Where((_, i) => i / Positions % Channels == c).ToArray())];
        double[] means = [.. rows.Select(row => row.Average())];
        var covariance = new double[Channels * size];
        for (int c = 0; c < Channels; c++)
        {
            for (int j = 0; j < size; j++)
            {
                int other = (c / size * size) + j;
                covariance[(c * size) + j] = rows[c].Zip(rows[other], (a, b) => (a - means[c]) * (b - means[other])).Average();
            }
        }

        return (means, covariance);
    }
}
