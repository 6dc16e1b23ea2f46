using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests;

/// <summary>Recalibration over a pass: exact moments, the averaged variant, counts, and switches as they were.</summary>
[TestClass]
public sealed class RecalibrationTests
{
    private static readonly ActivationShape Whole = new(40, 4, 6);

    public static IEnumerable<object[]> Layers =>
        from name in new[] { "batch-norm", "ghost", "ghost sequential", "instance", "sync", "renorm", "source" } select new object[] { name };

    [TestMethod]
    [DynamicData(nameof(Layers))]
    public void Run_Pooled_StoresThePopulationsMomentsHoweverItIsCut(string name)
    {
        double[] x = Drifting();
        (double[] means, double[] variances) = Pooled(x);
        foreach (int[] cut in new int[][] { [40], [8, 16, 4, 12], [4, 4, 32] })
        {
            Normalizer<double> layer = Create<double>(name);
            Runs.Forward(layer, Whole, TestData.Normal(3, Whole.Count, 9, 5)); // statistics that must not show
            IReadOnlyList<RecalibrationCount> counts = Recalibration.Run([layer], Cut(x, cut), batch => Forward(layer, batch));
            Assert.AreEqual(new RecalibrationCount(cut.Length, 40, 0), counts.Single());
            NumericAssert.NearLargest<double>(means, Runs.Buffer(layer, "running_mean"), 1e-13, $"{name}: mean");
            bool keepsDeviation = name == "renorm";
            NumericAssert.NearLargest<double>(
                keepsDeviation ? Array.ConvertAll(variances, v => Math.Sqrt(v + 1e-5)) : variances,
                Runs.Buffer(layer, keepsDeviation ? "running_sigma" : "running_var"), 1e-13, $"{name}: variance");
            Assert.AreEqual(cut.Length, layer.Buffers.Single(b => b.IsCounter).Count);
        }
    }

    // Every batch counts alike, with the sample variance within it: what momentum null leaves of the same pass.
    [TestMethod]
    [DynamicData(nameof(Layers))]
    public void Run_AveragedOverBatches_IsAPassOfTheCumulativeAverage(string name)
    {
        double[] x = Drifting();
        int[] cut = [8, 16, 4, 12];
        Normalizer<double> layer = Create<double>(name);
        Runs.Forward(layer, Whole, TestData.Normal(3, Whole.Count, 9, 5));
        Recalibration.Run([layer], Cut(x, cut), batch => Forward(layer, batch), RecalibratedVariance.AveragedOverBatches);
        Normalizer<double> cumulative = Create<double>(name, momentum: null);
        foreach (double[] batch in Cut(x, cut))
        {
            Forward(cumulative, batch);
        }

        foreach (StateBuffer<double> buffer in cumulative.Buffers.Where(b => !b.IsCounter))
        {
            NumericAssert.NearLargest<double>(buffer.Values, Runs.Buffer(layer, buffer.Name), 1e-13, $"{name}: {buffer.Name}");
        }
    }

    // The difference of the two, as the law of total variance has it: with equal batches, the variance of the batch means (and Bessel's factor).
    [TestMethod]
    public void Run_PooledAgainstAveraged_DiffersByTheVarianceBetweenBatches()
    {
        double[] x = Drifting();
        double[][] batches = [.. Cut(x, [10, 10, 10, 10])];
        Normalizer<double> pooled = Create<double>("batch-norm");
        Normalizer<double> averaged = Create<double>("batch-norm");
        Recalibration.Run([pooled], batches, batch => Forward(pooled, batch));
        Recalibration.Run([averaged], batches, batch => Forward(averaged, batch), RecalibratedVariance.AveragedOverBatches);
        for (int c = 0; c < 4; c++)
        {
            double[] means = [.. batches.Select(batch => batch.Where((_, i) => i / 6 % 4 == c).Average())];
            double between = means.Average(mean => Math.Pow(mean - means.Average(), 2));
            double within = Runs.Buffer(averaged, "running_var")[c] * 59 / 60;
            NumericAssert.Near(within + between, Runs.Buffer(pooled, "running_var")[c], 1, 1e-12, $"channel {c}");
            Assert.IsGreaterThan(0.1, between);
        }
    }

    [TestMethod]
    public void Run_AfterIt_InferenceOfTheWholeSetIsBatchNormOfIt()
    {
        double[] x = Drifting();
        Normalizer<float> layer = Create<float>("batch-norm");
        Recalibration.Run([layer], Cut(x, [8, 16, 4, 12]), batch => Forward(layer, batch));
        layer.Training = false;
        float[] inference = Runs.Forward(layer, Whole, TestData.As<float>(x));
        NumericAssert.NearLargest<float>(Runs.Forward(Create<double>("batch-norm"), Whole, x), inference, 1e-6, "float");
    }

    [TestMethod]
    public void Run_SwitchesSetOtherwise_AreIgnoredInThePassAndAsBeforeAfterIt()
    {
        double[] x = Drifting();
        Normalizer<double> straight = Create<double>("batch-norm");
        Normalizer<double> switched = Create<double>("batch-norm");
        switched.Training = false;
        switched.StatisticsSource = StatisticsSource.Running;
        switched.UpdateRunningStatistics = false;
        foreach (Normalizer<double> layer in new[] { straight, switched })
        {
            Recalibration.Run([layer], Cut(x, [20, 20]), batch => Forward(layer, batch));
        }

        Runs.AssertState(Runs.State(straight), switched, "state");
        Assert.IsFalse(switched.Training);
        Assert.AreEqual(StatisticsSource.Running, switched.StatisticsSource);
        Assert.IsFalse(switched.UpdateRunningStatistics);
        switched.StatisticsSource = StatisticsSource.FollowTraining;
        straight.Training = false;
        NumericAssert.SameBits<double>(Runs.Forward(straight, Whole, x), Runs.Forward(switched, Whole, x), "the new statistics normalize");
    }

    [TestMethod]
    public void Run_TwoLayersAndOneFails_StoresNothingAnywhere()
    {
        double[] x = Drifting();
        Normalizer<double> first = Create<double>("batch-norm");
        Normalizer<double> second = Create<double>("renorm");
        Forward(first, x);
        Forward(second, x);
        first.Training = false;
        var before = Runs.State(first);
        var other = Runs.State(second);

        // The second is never called.
        Says(Assert.Throws<InvalidOperationException>(() => Recalibration.Run([first, second], Cut(x, [20, 20]), batch => Forward(first, batch))), "Layer 1", "BatchRenorm", "no batch");
        Check();
        Assert.Throws<IOException>(() => Recalibration.Run<double, double[]>([first, second], Cut(x, [20, 20]), batch =>
        {
            Forward(first, batch);
            throw new IOException("The data ended early.");
        }));
        Check();
        Says(Assert.Throws<InvalidOperationException>(() => Recalibration.Run([first, second], Array.Empty<double[]>(), batch => Forward(first, batch))), "Layer 0");
        Check();

        // And goes on as if nothing had been.
        Forward(second, x);
        Assert.AreEqual(2, second.Buffers.Single(b => b.IsCounter).Count);

        void Check()
        {
            Runs.AssertState(before, first, "first");
            Runs.AssertState(other, second, "second");
            Assert.IsFalse(first.Training);
            Assert.IsTrue(second.Training);
        }
    }

    [TestMethod]
    public void Run_BatchThatIsNotFinite_IsLeftOutAndCounted()
    {
        double[] x = Drifting();
        double[] bad = TestData.Activations(3, new ActivationShape(10, 4, 6));
        bad[7] = double.NaN;
        Normalizer<double> layer = Create<double>("batch-norm");
        RecalibrationCount count = Recalibration.Run([layer], [.. Cut(x, [20, 20]), bad], batch => Forward(layer, batch)).Single();
        Assert.AreEqual(new RecalibrationCount(2, 40, 1), count);
        NumericAssert.NearLargest<double>(Pooled(x).Variances, Runs.Buffer(layer, "running_var"), 1e-13, "variance");
    }

    [TestMethod]
    public void Run_LayerFrozenOrWithoutStatisticsOrTwice_ThrowsSayingWhich()
    {
        Normalizer<double> frozen = Create<double>("batch-norm");
        frozen.Freeze();
        Normalizer<double> stateless = new LayerNorm<double>([6]);
        Normalizer<double> plain = Create<double>("batch-norm");
        plain.Training = false;
        Says(Assert.Throws<InvalidOperationException>(() => Pass(plain, frozen)), "Layer 1", "frozen");
        Says(Assert.Throws<InvalidOperationException>(() => Pass(plain, stateless)), "LayerNorm", "running statistics");
        Says(Assert.Throws<ArgumentException>(() => Pass(plain, plain)), "0", "1");
        plain.HoldConstants = true;
        Says(Assert.Throws<InvalidOperationException>(() => Pass(plain)), "Layer 0", "HoldConstants");
        plain.HoldConstants = false;
        foreach (Normalizer<double> outer in new Normalizer<double>[] { Create<double>("batch-norm"), new ZcaWhitening<double>(4) })
        {
            Says(Assert.Throws<InvalidOperationException>(() => Recalibration.Run([outer], [Drifting()], _ => Pass(outer))), "under way", "another");
            Pass(outer);
        }

        var ada = (AdaBatchNorm<double>)Create<double>("source");
        ada.AddDomain("target");
        ada.Domain = "target";
        Says(Assert.Throws<InvalidOperationException>(() => Pass(plain, ada)), "target", "DomainAdaptation");
        Assert.IsFalse(plain.Training);
        Forward(plain, Drifting());
        Assert.AreEqual(0, plain.Buffers.Single(b => b.IsCounter).Count);

        static void Pass(params Normalizer<double>[] layers) => Recalibration.Run(layers, [Drifting()], batch => Forward(layers[0], batch));
    }

    private static Normalizer<T> Create<T>(string name, double? momentum = 0.1)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var options = new RunningStatisticsOptions { Momentum = momentum };
        return name switch
        {
            "batch-norm" => new BatchNorm<T>(4, options),
            "ghost" => new GhostBatchNorm<T>(3, 4, new GhostBatchNormOptions(options) { Remainder = GhostRemainder.SmallerLast }),
            "ghost sequential" => new GhostBatchNorm<T>(4, 4, new GhostBatchNormOptions(options) { Running = GhostRunning.Sequential }),
            "instance" => new InstanceNorm<T>(4, options),
            "sync" => new InProcessSyncBatchNorm<T>(4, new InProcessSyncBatchNormOptions(options) { Replicas = 3 }),
            "renorm" => new BatchRenorm<T>(4, new BatchRenormOptions { Momentum = momentum }),
            "source" => new AdaBatchNorm<T>(4, options),
            _ => throw new ArgumentException(name),
        };
    }

    // The mean rises from sample to sample, so that batches differ.
    private static double[] Drifting() => [.. TestData.Activations(1, Whole).Select((value, i) => value + (0.1 * (i / 24)))];

    private static IEnumerable<double[]> Cut(double[] x, int[] cut)
    {
        int first = 0;
        foreach (int samples in cut)
        {
            yield return x[(first * 24)..((first + samples) * 24)];
            first += samples;
        }
    }

    private static void Forward<T>(Normalizer<T> layer, double[] batch)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Runs.Forward(layer, new ActivationShape(batch.Length / 24, 4, 6), TestData.As<T>(batch));

    private static (double[] Means, double[] Variances) Pooled(double[] x)
    {
        var means = new double[4];
        var variances = new double[4];
        for (int c = 0; c < 4; c++)
        {
            double[] values = [.. x.Where((_, i) => i / 6 % 4 == c)];
            means[c] = values.Average();
            variances[c] = values.Average(value => (value - means[c]) * (value - means[c]));
        }

        return (means, variances);
    }

    private static void Says(Exception exception, params string[] words)
    {
        foreach (string word in words)
        {
            Assert.Contains(word, exception.Message);
        }
    }
}
