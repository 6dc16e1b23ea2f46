using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Adaptive batch normalization: the source is batch normalization, a domain's moments are exact, and what it refuses.</summary>
[TestClass]
public sealed class AdaBatchNormPropertyTests
{
    private const string Target = "target";

    private static readonly ActivationShape Shape = new(6, 4, 5);

    [TestMethod]
    [DataRow(Layout.ChannelsFirst)]
    [DataRow(Layout.ChannelsLast)]
    public void Source_TrainingAndInference_IsBatchNormToTheBit(Layout layout)
    {
        var ada = new AdaBatchNorm<float>(4);
        ada.AddDomain(Target);
        var batch = new BatchNorm<float>(4);
        foreach (bool training in new[] { true, true, false })
        {
            ada.Training = training;
            batch.Training = training;
            (float[] Output, float[] Gradient) expected = Step(batch);
            (float[] Output, float[] Gradient) actual = Step(ada);
            NumericAssert.SameBits<float>(expected.Output, actual.Output, "output");
            NumericAssert.SameBits<float>(expected.Gradient, actual.Gradient, "input gradient");
        }

        Runs.AssertState(Runs.State(ada), batch, "source");
        Assert.AreEqual(0, ada.GetDomain(Target).Count);
        Assert.AreEqual(batch.Claims, ada.Claims);

        (float[] Output, float[] Gradient) Step(INormalizer<float> normalizer)
        {
            var input = new PlacedTensor<float>(Shape, layout, TestData.Activations(1, Shape));
            var output = new PlacedTensor<float>(Shape, layout);
            var gradient = new PlacedTensor<float>(Shape, layout);
            normalizer.Forward(input.ReadOnly, output.Span);
            normalizer.Backward(input.ReadOnly, new PlacedTensor<float>(Shape, layout, TestData.Normal(2, Shape.Count)).ReadOnly, gradient.Span);
            return (output.Read(), gradient.Read());
        }
    }

    // What is computed on the source, adapted to the source, is batch normalization by population statistics.
    [TestMethod]
    public void Domain_TheSourcesOwnData_IsBatchNormOfTheWholePopulation()
    {
        var whole = new ActivationShape(60, 4, 5);
        double[] x = TestData.Activations(1, whole);
        AdaBatchNorm<double> ada = OnTarget<double>();
        Sweep(ada, whole, x, [7, 1, 12, 30, 10]);
        ada.Training = false;
        double[] expected = Runs.Forward(new BatchNorm<double>(4), whole, x);
        NumericAssert.NearLargest<double>(expected, Runs.Forward(ada, whole, x), 1e-12, "AdaBN(source), population BN");
    }

    [TestMethod]
    [DataRow(0.0, 1e-14)]
    [DataRow(1e4, 1e-11)]
    public void Adapt_AnyCutIntoBatches_GivesThePooledMoments(double mean, double tolerance)
    {
        var whole = new ActivationShape(50, 4, 3);
        double[] x = TestData.Activations(1, whole);
        for (int i = 0; i < x.Length; i++)
        {
            x[i] += mean + (0.1 * (i / 12)); // it drifts: batches differ
        }

        (double[] means, double[] variances) = Pooled(whole, x);
        int[][] cuts = [[50], [25, 25], [1, 2, 3, 4, 40], [.. Enumerable.Repeat(1, 50)]];
        foreach (int[] cut in cuts)
        {
            AdaBatchNorm<double> layer = OnTarget<double>();
            Sweep(layer, whole, x, cut);
            DomainStatistics statistics = layer.GetDomain(Target);
            Assert.AreEqual(150, statistics.Count);
            NumericAssert.NearLargest<double>(means, statistics.Mean, 1e-14, "mean");
            NumericAssert.NearLargest<double>(variances, statistics.PopulationVariance, tolerance, "variance");
        }
    }

    // A mean of 1e5 and steps far below a float's spacing there: without the second row of the buffers nothing would move any more.
    [TestMethod]
    public void Adapt_FloatManyBatchesFarFromZero_StaysExact()
    {
        var shape = new ActivationShape(2, 1, 3);
        AdaBatchNorm<float> layer = OnTarget<float>(channels: 1);
        var all = new List<double>();
        for (int batch = 0; batch < 4000; batch++)
        {
            float[] x = [.. TestData.Normal(batch, 6, 1e5, 2).Select(value => (float)value)];
            all.AddRange(x.Select(value => (double)value));
            layer.Adapt(new ReadOnlyTensorSpan<float>(x, shape.ToArray()));
        }

        double mean = 1e5 + all.Average(value => value - 1e5);
        DomainStatistics statistics = layer.GetDomain(Target);
        NumericAssert.Near(mean, statistics.Mean[0], 1, 1e-7, "mean");
        NumericAssert.Near(all.Average(value => (value - mean) * (value - mean)), statistics.PopulationVariance[0], 1, 1e-7, "variance");
        NumericAssert.SameBits<float>([(float)mean], layer.Buffers.Single(b => b.Name == "target.mean").Values.AsSpan(0, 1), "first row");
    }

    [TestMethod]
    public void Adapt_EveryLayout_MergesTheSame()
    {
        var shape = new ActivationShape(5, 4, 3, 2);
        DomainStatistics? expected = null;
        foreach (Layout layout in Enum.GetValues<Layout>())
        {
            AdaBatchNorm<double> layer = OnTarget<double>();
            layer.Adapt(new PlacedTensor<double>(shape, layout, TestData.Activations(1, shape)).ReadOnly);
            DomainStatistics statistics = layer.GetDomain(Target);
            expected ??= statistics;
            NumericAssert.NearLargest<double>(expected.Mean, statistics.Mean, 1e-14, $"{layout}: mean");
            NumericAssert.NearLargest<double>(expected.PopulationVariance, statistics.PopulationVariance, 1e-14, $"{layout}: variance");
        }
    }

    // Spec: a target that is a_c x + b_c of the source gives the source's output, with epsilon scaled; a negative a_c turns the sign.
    [TestMethod]
    public void Domain_ScaledAndShiftedPerChannel_GivesTheSourcesOutput()
    {
        double[] factors = [3, 0.01, 1, -2];
        double[] shifts = [-5, 1, 100, 0];
        double[] x = TestData.Activations(1, Shape);
        double[] moved = [.. x.Select((value, i) => (value * factors[i / 5 % 4]) + shifts[i / 5 % 4])];
        var options = new RunningStatisticsOptions { Epsilon = 0, Bias = false };
        double[] source = Adapted(x);
        double[] target = Adapted(moved);
        NumericAssert.NearLargest<double>([.. source.Select((value, i) => value * Math.Sign(factors[i / 5 % 4]))], target, 1e-12, "a x + b");

        double[] Adapted(double[] values)
        {
            var layer = new AdaBatchNorm<double>(4, options);
            layer.AddDomain(Target);
            layer.Domain = Target;
            Sweep(layer, Shape, values, [2, 4]);
            layer.Training = false;
            return Runs.Forward(layer, Shape, values);
        }
    }

    [TestMethod]
    public void Domain_OneEpsilonForAllScales_IsTheScaleLaw()
    {
        double[] x = TestData.Activations(1, Shape);
        foreach (double factor in new[] { 0.1, 30 })
        {
            double[] source = Adapted(0.04, x);
            double[] target = Adapted(0.04 * factor * factor, Array.ConvertAll(x, value => factor * value));
            NumericAssert.NearLargest<double>(source, target, 1e-12, $"{factor} x");
        }

        static double[] Adapted(double epsilon, double[] values)
        {
            var layer = new AdaBatchNorm<double>(4, new RunningStatisticsOptions { Epsilon = epsilon });
            layer.AddDomain(Target);
            layer.Domain = Target;
            return Runs.Forward(layer, Shape, values);
        }
    }

    [TestMethod]
    public void Domains_Several_KeepTheirStatisticsApart()
    {
        AdaBatchNorm<double> layer = OnTarget<double>();
        layer.AddDomain("night");
        double[] day = TestData.Activations(1, Shape);
        double[] night = Array.ConvertAll(day, value => (0.1 * value) - 3);
        layer.Adapt(new ReadOnlyTensorSpan<double>(day, Shape.ToArray()));
        layer.Domain = "night";
        layer.Adapt(new ReadOnlyTensorSpan<double>(night, Shape.ToArray()));
        layer.Training = false;
        double[] atNight = Runs.Forward(layer, Shape, night);
        layer.Domain = Target;
        double[] byDay = Runs.Forward(layer, Shape, day);
        NumericAssert.NearLargest<double>(byDay, atNight, 0.01, "each domain by its own statistics (epsilon apart)");
        NumericAssert.Differs<double>(byDay, Runs.Forward(layer, Shape, night), 1, "the night by the day's");
        CollectionAssert.AreEqual(new[] { Target, "night" }, layer.Domains.ToArray());
        CollectionAssert.AreEqual(
            new[] { "running_mean", "running_var", "num_batches_tracked", "target.mean", "target.var", "target.count", "night.mean", "night.var", "night.count" },
            layer.Buffers.Select(b => b.Name).ToArray());

        layer.ResetDomain("night");
        Assert.AreEqual(0, layer.GetDomain("night").Count);
        Assert.AreEqual(30, layer.GetDomain(Target).Count);
    }

    [TestMethod]
    public void Inference_DomainWithoutData_IsTheSource()
    {
        var layer = new AdaBatchNorm<double>(4);
        Runs.Forward(layer, Shape, TestData.Activations(1, Shape));
        layer.AddDomain(Target);
        layer.Training = false;
        double[] x = TestData.Activations(2, Shape);
        double[] source = Runs.Forward(layer, Shape, x);
        layer.Domain = Target;
        NumericAssert.SameBits<double>(source, Runs.Forward(layer, Shape, x), "output");
    }

    [TestMethod]
    public void Backward_TrainingInADomain_IsInferencesOfTheMergedStatistics()
    {
        AdaBatchNorm<double> layer = OnTarget<double>();
        TestData.Normal(7, 4).CopyTo(layer.Weight!.Values, 0);
        layer.Adapt(new ReadOnlyTensorSpan<double>(TestData.Activations(1, Shape), Shape.ToArray()));
        double[] x = TestData.Activations(2, Shape);
        double[] dy = TestData.Normal(3, Shape.Count);
        Pass<double> training = Runs.Once(layer, Shape, x, dy);
        layer.Training = false;
        Runs.AssertNear(Runs.Once(layer, Shape, x, dy), training, 1e-13, "training, inference");
    }

    [TestMethod]
    public void Backward_DomainChangedAfterForward_IsOfTheForward()
    {
        foreach (bool toSource in new[] { true, false })
        {
            var layer = new AdaBatchNorm<double>(4);
            layer.AddDomain(Target);
            layer.Domain = toSource ? Target : null;
            double[] x = TestData.Activations(1, Shape);
            double[] dy = TestData.Normal(2, Shape.Count);
            Runs.Forward(layer, Shape, x);
            double[] expected = Runs.Backward(layer, Shape, x, dy);
            layer.Domain = toSource ? null : Target;
            NumericAssert.SameBits<double>(expected, Runs.Backward(layer, Shape, x, dy), $"to the source: {toSource}");
        }
    }

    [TestMethod]
    public void Forward_FirstValueAlone_FollowsThePolicyAndLaterOnesAreTaken()
    {
        var one = new ActivationShape(1, 4);
        AdaBatchNorm<double> strict = OnTarget<double>();
        Assert.Contains("more than 1 value", Assert.Throws<InvalidOperationException>(() => Runs.Forward(strict, one, [1, 2, 3, 4])).Message);
        Assert.AreEqual(0, strict.GetDomain(Target).Count);
        strict.Adapt(new ReadOnlyTensorSpan<double>(new double[] { 1, 2, 3, 4 }, one.ToArray()));
        double[] y = Runs.Forward(strict, one, [3, 2, -3, 5]);
        Assert.AreEqual(2, strict.GetDomain(Target).Count);
        NumericAssert.NearLargest<double>([1 / Math.Sqrt(1 + 1e-5), 0, -3 / Math.Sqrt(9 + 1e-5), 0.5 / Math.Sqrt(0.25 + 1e-5)], y, 1e-12, "of two values");
        Assert.AreEqual(NormalizerWarnings.None, strict.Warnings);
    }

    [TestMethod]
    public void ForwardAndAdapt_NotFinite_SkipOrThrowAndChangeNothing()
    {
        foreach (NonFinitePolicy policy in Enum.GetValues<NonFinitePolicy>())
        {
            var layer = new AdaBatchNorm<float>(4, new RunningStatisticsOptions { NonFinite = policy });
            layer.AddDomain(Target);
            layer.Domain = Target;
            layer.Adapt(new ReadOnlyTensorSpan<float>(TestData.As<float>(TestData.Activations(1, Shape)), Shape.ToArray()));
            var before = Runs.State(layer);
            float[] x = TestData.As<float>(TestData.Activations(2, Shape));
            x[17] = float.NaN;
            if (policy == NonFinitePolicy.Throw)
            {
                Assert.Throws<InvalidOperationException>(() => Runs.Forward(layer, Shape, x));
                Assert.Throws<InvalidOperationException>(() => layer.Adapt(new ReadOnlyTensorSpan<float>(x, Shape.ToArray())));
            }
            else
            {
                Runs.Forward(layer, Shape, x);
                layer.Adapt(new ReadOnlyTensorSpan<float>(x, Shape.ToArray()));
                Assert.AreEqual(2, layer.SkippedUpdates);
            }

            Runs.AssertState(before, layer, policy.ToString());
        }
    }

    [TestMethod]
    public void Freeze_InADomain_NormalizesByItAndTakesNothing()
    {
        AdaBatchNorm<double> layer = OnTarget<double>();
        layer.Adapt(new ReadOnlyTensorSpan<double>(TestData.Activations(1, Shape), Shape.ToArray()));
        double[] x = TestData.Activations(2, Shape);
        layer.Training = false;
        double[] inference = Runs.Forward(layer, Shape, x);
        layer.Training = true;
        layer.Freeze();
        var before = Runs.State(layer);
        NumericAssert.SameBits<double>(inference, Runs.Forward(layer, Shape, x), "frozen");
        Runs.AssertState(before, layer, "frozen");
        Assert.Contains("Unfreeze", Assert.Throws<InvalidOperationException>(() => layer.Adapt(new ReadOnlyTensorSpan<double>(x, Shape.ToArray()))).Message);
    }

    // Running statistics normalize, the batch is taken in all the same.
    [TestMethod]
    public void Forward_StatisticsSourceRunning_NormalizesByWhatWasThereBefore()
    {
        AdaBatchNorm<double> layer = OnTarget<double>();
        layer.Adapt(new ReadOnlyTensorSpan<double>(TestData.Activations(1, Shape), Shape.ToArray()));
        double[] x = TestData.Activations(2, Shape);
        layer.Training = false;
        double[] before = Runs.Forward(layer, Shape, x);
        layer.Training = true;
        layer.StatisticsSource = StatisticsSource.Running;
        NumericAssert.SameBits<double>(before, Runs.Forward(layer, Shape, x), "output");
        Assert.AreEqual(60, layer.GetDomain(Target).Count);
    }

    [TestMethod]
    public void State_OfPyTorchsBatchNorm_LoadsAsTheSource()
    {
        var batch = new BatchNorm<float>(4);
        Runs.Forward(batch, Shape, TestData.As<float>(TestData.Activations(1, Shape)));
        AdaBatchNorm<float> layer = OnTarget<float>();
        layer.LoadState(batch.GetState(), strict: false);
        layer.Domain = null;
        layer.Training = false;
        batch.Training = false;
        float[] x = TestData.As<float>(TestData.Activations(2, Shape));
        NumericAssert.SameBits<float>(Runs.Forward(batch, Shape, x), Runs.Forward(layer, Shape, x), "source");
    }

    [TestMethod]
    public void LoadState_StatisticsWithoutTheirCountOrNegative_AreRefused()
    {
        AdaBatchNorm<float> layer = OnTarget<float>();
        layer.Adapt(new ReadOnlyTensorSpan<float>(TestData.As<float>(TestData.Activations(1, Shape)), Shape.ToArray()));
        StateDictionary good = layer.GetState();
        AdaBatchNorm<float> other = OnTarget<float>();
        var before = Runs.State(other);
        Refused("target.count", StateTensor.Create<long>([0]), "target.count");
        Refused("target.var", StateTensor.Create<float>([-1, 1, 1, 1, 0, 0, 0, 0], 2, 4), "variance");
        Runs.AssertState(before, other, "after the refusals");
        other.LoadState(good);
        Runs.AssertState(Runs.State(layer), other, "loaded");

        void Refused(string name, StateTensor tensor, string word)
        {
            var state = new StateDictionary();
            foreach ((string key, StateTensor value) in good)
            {
                state.Add(key, key == name ? tensor : value);
            }

            Assert.Contains(word, Assert.Throws<InvalidOperationException>(() => other.LoadState(state)).Message);
        }
    }

    [TestMethod]
    public void Misuse_UnknownDomainNameTakenNoDomainNoStatistics_ThrowsSayingTheWayOut()
    {
        AdaBatchNorm<float> layer = OnTarget<float>();
        Assert.Contains("AddDomain", Assert.Throws<ArgumentException>(() => layer.Domain = "night").Message);
        Assert.Contains(Target, Assert.Throws<ArgumentException>(() => layer.GetDomain("night")).Message);
        Assert.Contains("ResetDomain", Assert.Throws<ArgumentException>(() => layer.AddDomain(Target)).Message);
        Assert.Throws<ArgumentException>(() => layer.AddDomain(""));
        layer.Domain = null;
        Assert.Contains("Domain", Assert.Throws<InvalidOperationException>(() => layer.Adapt(new ReadOnlyTensorSpan<float>(new float[120], Shape.ToArray()))).Message);
        Assert.Throws<ArgumentException>(() => layer.Adapt(new ReadOnlyTensorSpan<float>(new float[120], [6, 5, 4])));
        Assert.Contains("running statistics", Assert.Throws<ArgumentException>(
            () => StrategyCatalog.Create<float>("ada-batch-norm", Shape, new StrategySettings { RunningStatistics = false })).Message);
    }

    private static AdaBatchNorm<T> OnTarget<T>(int channels = 4)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var layer = new AdaBatchNorm<T>(channels);
        layer.AddDomain(Target);
        layer.Domain = Target;
        return layer;
    }

    private static void Sweep(AdaBatchNorm<double> layer, ActivationShape whole, double[] x, int[] cut)
    {
        int first = 0;
        foreach (int samples in cut)
        {
            ActivationShape part = whole.WithSamples(samples);
            layer.Adapt(new ReadOnlyTensorSpan<double>(Runs.Samples(whole, x, [.. Enumerable.Range(first, samples)]), part.ToArray()));
            first += samples;
        }

        Assert.AreEqual(whole.Samples, first);
    }

    private static (double[] Means, double[] Variances) Pooled(ActivationShape shape, double[] x)
    {
        var means = new double[shape.Channels];
        var variances = new double[shape.Channels];
        for (int c = 0; c < shape.Channels; c++)
        {
            double[] values = [.. x.Where((_, i) => i / (int)shape.SpatialSize % shape.Channels == c)];
            double offset = values.Average(value => value - values[0]);
            means[c] = values[0] + offset;
            variances[c] = values.Average(value => Math.Pow(value - values[0] - offset, 2));
        }

        return (means, variances);
    }

    [TestMethod]
    public void HoldConstants_BeforeAForwardInThisDomain_IsRefused()
    {
        AdaBatchNorm<double> layer = OnTarget<double>();
        double[] x = TestData.Activations(1, Shape);
        layer.HoldConstants = true;
        Assert.Contains("Run one Forward", Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(layer, Shape, x)).Message);
        layer.HoldConstants = false;
        double[] expected = Runs.Forward(layer, Shape, x);
        layer.HoldConstants = true;
        NumericAssert.SameBits<double>(expected, Runs.Forward(layer, Shape, x), "held");
        layer.AddDomain("another");
        layer.Domain = "another";
        Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(layer, Shape, x));
    }
}
