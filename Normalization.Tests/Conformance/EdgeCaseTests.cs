using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>What every strategy does at the edges: too little data, bad options, NaN, misuse, freezing.</summary>
[TestClass]
public sealed class EdgeCaseTests
{
    private static readonly StrategySettings Plain = new() { Groups = 2, GhostSize = 3 };

    public static IEnumerable<object[]> AllIds => StrategyCases.Ids.Select(id => new object[] { id });

    public static IEnumerable<object[]> BasicIds => TestData.Ids.Select(id => new object[] { id });

    public static IEnumerable<object[]> IdsThatKnowChannels => StrategyCases.All.Where(one => one.KnowsChannels).Select(one => new object[] { one.Id });

    /// <summary>A strategy, a shape with one value per statistic, and the settings for it.</summary>
    public static IEnumerable<object[]> SingleValueCases =>
    [
        [TestData.BatchNorm, new nint[] { 1, 5 }, Plain],
        [TestData.BatchNorm, new nint[] { 1, 5, 1, 1 }, Plain],
        [TestData.BatchNorm, new nint[] { 1, 5 }, Plain with { RunningStatistics = false }],
        [TestData.LayerNorm, new nint[] { 3, 1 }, Plain],
        [TestData.LayerNorm, new nint[] { 3, 4, 1 }, Plain with { NormalizedDimensions = 1 }],
        [TestData.InstanceNorm, new nint[] { 1, 5, 1 }, Plain],
        [TestData.InstanceNorm, new nint[] { 3, 5, 1 }, Plain],
        [TestData.InstanceNorm, new nint[] { 3, 5, 1, 1 }, Plain with { RunningStatistics = true }],
        [TestData.GroupNorm, new nint[] { 3, 4 }, Plain with { Groups = 4 }],
        [TestData.GroupNorm, new nint[] { 3, 4, 1 }, Plain with { Groups = 4 }],
        [TestData.GhostBatchNorm, new nint[] { 5, 3 }, Plain with { GhostSize = 2, GhostRemainder = GhostRemainder.SmallerLast }],
        [TestData.GhostBatchNorm, new nint[] { 4, 3 }, Plain with { GhostSize = 1 }],
        [TestData.ZcaWhitening, new nint[] { 1, 4 }, Plain],
        [TestData.ZcaWhitening, new nint[] { 1, 4, 1 }, Plain with { GroupSize = 2 }],
    ];

    // ---------------------------------------------------------------- one and two values

    [TestMethod]
    [DynamicData(nameof(SingleValueCases))]
    public void Forward_OneValuePerStatistic_ThrowsAndChangesNothing(string id, nint[] lengths, StrategySettings settings)
    {
        var shape = new ActivationShape(lengths);
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, settings);
        var before = Runs.State(normalizer);
        var exception = Assert.Throws<InvalidOperationException>(() => Runs.Forward(normalizer, shape, new float[shape.Count]));
        Says(exception, "value", shape.ToString());
        Runs.AssertState(before, normalizer, id);
    }

    [TestMethod]
    [DynamicData(nameof(SingleValueCases))]
    public void Forward_OneValueAndBiasOnly_GivesTheBiasAndNoGradient(string id, nint[] lengths, StrategySettings settings)
    {
        var shape = new ActivationShape(lengths);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, settings with { SingleValue = SingleValuePolicy.BiasOnly }, 1);
        var before = Runs.State(normalizer);
        double[] dy = TestData.Normal(3, shape.Count);
        Pass<double> pass = Runs.Once(normalizer, shape, TestData.Normal(2, shape.Count), dy);
        double[] bias = normalizer.Parameters.Single(p => p.Name == "bias").Values;
        int[] parameter = [.. Enumerable.Range(0, dy.Length).Select(
            i => id == TestData.LayerNorm ? i % bias.Length : i / (int)shape.SpatialSize % shape.Channels)];
        var biasGradient = new double[bias.Length];
        for (int i = 0; i < dy.Length; i++)
        {
            biasGradient[parameter[i]] += dy[i];
        }

        NumericAssert.NearLargest<double>(biasGradient, pass.BiasGradient, 1e-12, "bias gradient");
        Runs.AssertState(before, normalizer, id);
        // Of unequal ghosts only the last holds one value; what the others do is theirs.
        int first = id == TestData.GhostBatchNorm && settings.GhostSize == 2 ? 12 : 0;
        NumericAssert.SameBits<double>(Array.ConvertAll(parameter, p => bias[p]).AsSpan(first), pass.Output.AsSpan(first), "output");
        NumericAssert.Near<double>(new double[dy.Length - first], pass.InputGradient.AsSpan(first), new double[dy.Length - first], 1, "input gradient");
        if (first == 0)
        {
            NumericAssert.Near<double>(new double[bias.Length], pass.WeightGradient, new double[bias.Length], 1, "weight gradient");
        }
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.InstanceNorm)]
    [DataRow(TestData.ZcaWhitening)]
    [DataRow(TestData.GhostBatchNorm)]
    public void Backward_OneValueAndUseRunning_IsInferenceForThisBatch(string id)
    {
        var shape = new ActivationShape(1, 4, 1);
        var ample = new ActivationShape(6, 4, 5);
        StrategySettings settings = Plain with { SingleValue = SingleValuePolicy.UseRunning, RunningStatistics = true, GhostSize = 1 };
        Normalizer<double> normalizer = Runs.CreateBase<double>(id, shape, settings, 1);
        Runs.Forward(normalizer, ample, TestData.Activations(2, ample));
        var before = Runs.State(normalizer);
        double[] x = TestData.Normal(3, 4);
        double[] dy = TestData.Normal(4, 4);
        Pass<double> training = Runs.Once(normalizer, shape, x, dy);
        Runs.AssertState(before, normalizer, id);
        normalizer.Training = false;
        Runs.AssertSame(Runs.Once(normalizer, shape, x, dy), training, id);
        normalizer.StatisticsSource = StatisticsSource.Batch;
        Runs.AssertSame(Runs.Once(normalizer, shape, x, dy), training, $"{id}, inference by the batch");
    }

    [TestMethod]
    public void Inference_EvoNormWithEpsilonZeroAndARunningVarianceOfZero_IsRefused()
    {
        var shape = new ActivationShape(3, 4, 5);
        INormalizer<double> normalizer = Runs.Create<double>("evonorm-b0", shape, Plain with { Epsilon = 0 });
        Runs.Buffer(normalizer, "running_var")[2] = 0;
        normalizer.OnStateChanged();
        normalizer.Training = false;
        double[] x = TestData.Activations(1, shape);
        Assert.Contains("channel 2", Assert.ThrowsExactly<DivideByZeroException>(() => Runs.Forward(normalizer, shape, x)).Message);
        Assert.ThrowsExactly<DivideByZeroException>(() => Runs.Backward(normalizer, shape, x, x));
    }

    [TestMethod]
    [DataRow(TestData.LayerNorm)]
    [DataRow(TestData.GroupNorm)]
    public void Forward_OneValueAndUseRunningWithoutRunningStatistics_Throws(string id)
    {
        var shape = new ActivationShape(3, 4, 1);
        StrategySettings settings = Plain with { SingleValue = SingleValuePolicy.UseRunning, Groups = 4, NormalizedDimensions = 1 };
        var exception = Record(() => Runs.Forward(Runs.Create<float>(id, shape, settings), shape, new float[12]));
        Assert.IsTrue(exception is InvalidOperationException or ArgumentException, $"{id}: {exception?.GetType().Name ?? "nothing thrown"}");
        Says(exception!, "running");
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.GhostBatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Forward_OneValueInInference_IsLegal(string id)
    {
        var shape = new ActivationShape(1, 4);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, Plain);
        normalizer.Training = false;
        double[] x = [1, -2, 3, 0.5];
        NumericAssert.NearLargest<double>(Array.ConvertAll(x, value => value / Math.Sqrt(1 + 1e-5)), Runs.Forward(normalizer, shape, x), 1e-13, id);
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm, new int[] { 2, 4 })]
    [DataRow(TestData.LayerNorm, new int[] { 5, 2 })]
    [DataRow(TestData.InstanceNorm, new int[] { 5, 4, 2 })]
    [DataRow(TestData.GroupNorm, new int[] { 5, 4 })]
    [DataRow(TestData.GhostBatchNorm, new int[] { 6, 4 })]
    public void Forward_TwoValuesPerStatistic_WarnsOnce(string id, int[] lengths)
    {
        var shape = new ActivationShape(Array.ConvertAll(lengths, length => (nint)length));
        Normalizer<double> normalizer = Runs.CreateBase<double>(id, shape, Plain with { GhostSize = 2 });
        int raised = 0;
        normalizer.WarningRaised = (warning, message) =>
        {
            raised++;
            Assert.AreEqual(NormalizerWarnings.NoInputGradient, warning);
            Assert.Contains("gradient", message);
        };
        Assert.AreEqual(NormalizerWarnings.None, normalizer.Warnings);
        double[] x = TestData.Normal(1, shape.Count);
        Runs.Forward(normalizer, shape, x);
        Runs.Forward(normalizer, shape, x);
        Assert.AreEqual(NormalizerWarnings.NoInputGradient, normalizer.Warnings);
        Assert.AreEqual(1, raised);
    }

    [TestMethod]
    [DataRow(5)]
    [DataRow(3)]
    public void Forward_WhiteningWithoutMoreValuesThanChannels_FlagsRankDeficient(int samples)
    {
        var shape = new ActivationShape(samples, 5);
        Normalizer<double> normalizer = Runs.CreateBase<double>(TestData.ZcaWhitening, shape, Plain);
        NumericAssert.Finite<double>(Runs.Forward(normalizer, shape, TestData.Normal(1, shape.Count)), "output");
        Assert.IsTrue(normalizer.Warnings.HasFlag(NormalizerWarnings.RankDeficient));
        Normalizer<double> ample = Runs.CreateBase<double>(TestData.ZcaWhitening, shape, Plain);
        Runs.Forward(ample, shape.WithSamples(6), TestData.Normal(1, 30));
        Assert.AreEqual(NormalizerWarnings.None, ample.Warnings);
    }

    // ---------------------------------------------------------------- epsilon zero

    [TestMethod]
    [DynamicData(nameof(BasicIds))]
    public void Forward_ConstantInputWithoutEpsilon_ThrowsAndChangesNothing(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain with { Epsilon = 0, RunningStatistics = true });
        var before = Runs.State(normalizer);
        float[] x = new float[120];
        Array.Fill(x, 0.7f);
        Exception? exception = Record(() => Runs.Forward(normalizer, shape, x));
        Assert.IsTrue(exception is ArithmeticException or InvalidOperationException, $"{id}: {exception?.GetType().Name ?? "nothing thrown"}");
        Says(exception!, "epsilon");
        Runs.AssertState(before, normalizer, id);
    }

    [TestMethod]
    public void Forward_WhiteningOfASingularCovarianceWithoutEpsilon_ThrowsNamingTheCondition()
    {
        var shape = new ActivationShape(9, 3);
        double[] x = TestData.Normal(1, 27);
        for (int n = 0; n < 9; n++)
        {
            x[n * 3 + 2] = x[n * 3] - x[n * 3 + 1];
        }

        INormalizer<double> normalizer = Runs.Create<double>(TestData.ZcaWhitening, shape, Plain with { Epsilon = 0 });
        Exception? exception = Record(() => Runs.Forward(normalizer, shape, x));
        Assert.IsTrue(exception is ArithmeticException or InvalidOperationException, exception?.GetType().Name ?? "nothing thrown");
        Says(exception!, "epsilon", "condition");
        Assert.AreEqual(0, normalizer.Buffers.Single(b => b.IsCounter).Count);
        var few = new ActivationShape(3, 3);
        Assert.IsNotNull(Record(() => Runs.Forward(normalizer, few, TestData.Normal(2, 9))));
    }

    [TestMethod]
    [DynamicData(nameof(BasicIds))]
    public void ForwardBackward_ConstantInput_GivesTheBiasAndAFiniteGradient(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, Plain, 1);
        var x = new double[120];
        Array.Fill(x, -2.5);
        Pass<double> pass = Runs.Once(normalizer, shape, x, TestData.Normal(2, 120));
        double[] bias = normalizer.Parameters.Single(p => p.Name == "bias").Values;
        double[] expected = [.. Enumerable.Range(0, 120).Select(i => bias[id == TestData.LayerNorm ? i % 20 : i / 5 % 4])];
        NumericAssert.SameBits<double>(expected, pass.Output, "output");
        NumericAssert.Finite<double>(pass.InputGradient, "input gradient");
        Assert.IsGreaterThan(100, pass.InputGradient.Max(Math.Abs));
        Assert.IsTrue(pass.WeightGradient.All(value => value == 0));
    }

    // ---------------------------------------------------------------- arguments

    [TestMethod]
    [DataRow(TestData.GroupNorm, "groups", "0")]
    [DataRow(TestData.GroupNorm, "groups", "-2")]
    [DataRow(TestData.GroupNorm, "groups", "4")]
    [DataRow(TestData.GroupNorm, "groups", "32")]
    [DataRow(TestData.GhostBatchNorm, "ghost", "0")]
    [DataRow(TestData.GhostBatchNorm, "ghost", "-5")]
    [DataRow(TestData.ZcaWhitening, "group", "0")]
    [DataRow(TestData.ZcaWhitening, "group", "4")]
    [DataRow(TestData.ZcaWhitening, "group", "7")]
    [DataRow(TestData.ZcaWhitening, "shrinkage", "-0.1")]
    [DataRow(TestData.ZcaWhitening, "shrinkage", "1.5")]
    [DataRow(TestData.ZcaWhitening, "shrinkage", "NaN")]
    [DataRow(TestData.LayerNorm, "dimensions", "0")]
    [DataRow(TestData.LayerNorm, "dimensions", "3")]
    [DataRow(TestData.LayerNorm, "dimensions", "-1")]
    public void Create_OptionOutOfRange_ThrowsNamingTheValue(string id, string option, string value)
    {
        double number = double.Parse(value, System.Globalization.CultureInfo.InvariantCulture);
        StrategySettings settings = option switch
        {
            "groups" => Plain with { Groups = (int)number },
            "ghost" => Plain with { GhostSize = (int)number },
            "group" => Plain with { GroupSize = (int)number },
            "shrinkage" => Plain with { Shrinkage = number },
            _ => Plain with { NormalizedDimensions = (int)number },
        };
        Exception? exception = Record(() => StrategyCatalog.Create<float>(id, new ActivationShape(5, 6, 7), settings));
        Assert.IsInstanceOfType<ArgumentException>(exception, $"{id} {option} = {value}");
        Says(exception, option == "dimensions" ? "axes" : option, value);
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Create_EpsilonNegativeOrNotFinite_ThrowsNamingTheValue(string id)
    {
        foreach ((double epsilon, string text) in new[] { (-1e-5, "-1E-05"), (double.NaN, "NaN"), (double.PositiveInfinity, "") })
        {
            Exception? exception = Record(() => StrategyCatalog.Create<float>(id, new ActivationShape(6, 4, 5), Plain with { Epsilon = epsilon }));
            Assert.IsInstanceOfType<ArgumentException>(exception, $"{id}: epsilon {epsilon}");
            Says(exception, "epsilon", text);
        }
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.InstanceNorm)]
    [DataRow(TestData.GhostBatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Create_MomentumOutsideZeroToOne_ThrowsNamingTheValue(string id)
    {
        foreach ((double momentum, string text) in new[] { (-0.1, "-0.1"), (1.5, "1.5"), (double.NaN, "NaN") })
        {
            StrategySettings settings = Plain with { Momentum = momentum, RunningStatistics = true };
            Exception? exception = Record(() => StrategyCatalog.Create<float>(id, new ActivationShape(6, 4, 5), settings));
            Assert.IsInstanceOfType<ArgumentException>(exception, $"{id}: momentum {momentum}");
            Says(exception, "momentum", text);
        }

        StrategyCatalog.Create<float>(id, new ActivationShape(6, 4, 5), Plain with { Momentum = 0 });
        StrategyCatalog.Create<float>(id, new ActivationShape(6, 4, 5), Plain with { Momentum = 1 });
    }

    [TestMethod]
    public void Create_UnknownId_SuggestsTheNearest()
    {
        Exception? exception = Record(() => StrategyCatalog.Create<float>("batchnorm", new ActivationShape(6, 4), Plain));
        Assert.IsInstanceOfType<ArgumentException>(exception);
        Says(exception, "batchnorm", "batch-norm");
    }

    [TestMethod]
    public void Create_InstanceNormOfFeatures_ThrowsNamingTheShape()
    {
        Exception? exception = Record(() => StrategyCatalog.Create<float>(TestData.InstanceNorm, new ActivationShape(6, 4), Plain));
        Assert.IsInstanceOfType<ArgumentException>(exception);
        Says(exception, "(6, 4)");
    }

    [TestMethod]
    [DynamicData(nameof(IdsThatKnowChannels))]
    public void Forward_OtherChannelsThanCreatedFor_ThrowsNamingBoth(string id)
    {
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(id, new ActivationShape(6, 4, 5), Plain);
        var other = new ActivationShape(6, 8, 5);
        foreach (bool training in new[] { true, false })
        {
            normalizer.Training = training;
            var exception = Assert.Throws<ArgumentException>(() => Runs.Forward(normalizer, other, new float[240]));
            Says(exception, "4", "8");
        }
    }

    [TestMethod]
    public void Forward_LayerNormOfAnotherTrailingShape_Throws()
    {
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(TestData.LayerNorm, new ActivationShape(6, 4, 5), Plain);
        Says(Assert.Throws<ArgumentException>(() => Runs.Forward(normalizer, new ActivationShape(6, 4, 7), new float[168])), "5", "7");
        INormalizer<float> last = StrategyCatalog.Create<float>(TestData.LayerNorm, new ActivationShape(6, 4, 5), Plain with { NormalizedDimensions = 1 });
        Assert.Throws<ArgumentException>(() => Runs.Forward(last, new ActivationShape(6, 4, 7), new float[168]));
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_UnsupportedRank_Throws(string id)
    {
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(id, new ActivationShape(6, 4, 5), Plain);
        Assert.Throws<ArgumentException>(() => normalizer.Forward(
            new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(new float[4]), new System.Numerics.Tensors.TensorSpan<float>(new float[4])));
        nint[] six = [1, 4, 5, 1, 1, 1];
        Assert.Throws<ArgumentException>(() => normalizer.Forward(
            new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(new float[20], six), new System.Numerics.Tensors.TensorSpan<float>(new float[20], six)));
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void ForwardBackward_ShapesThatDisagree_Throw(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        ActivationShape other = shape.WithSamples(3);
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain);
        var x = new PlacedTensor<float>(shape, Layout.ChannelsFirst, TestData.Activations(1, shape));
        var y = new PlacedTensor<float>(shape, Layout.ChannelsFirst);
        var few = new PlacedTensor<float>(other, Layout.ChannelsFirst);
        Assert.Throws<ArgumentException>(() => normalizer.Forward(x.ReadOnly, few.Span));
        normalizer.Forward(x.ReadOnly, y.Span);
        Assert.Throws<ArgumentException>(() => normalizer.Backward(x.ReadOnly, few.ReadOnly, y.Span));
        Assert.Throws<ArgumentException>(() => normalizer.Backward(x.ReadOnly, y.ReadOnly, few.Span));
        few.Read();
    }

    [TestMethod]
    public void Forward_BatchThatGhostsDoNotDivide_ThrowsNamingBothAndChangesNothing()
    {
        var shape = new ActivationShape(7, 4, 5);
        INormalizer<float> normalizer = Runs.Create<float>(TestData.GhostBatchNorm, shape, Plain);
        var before = Runs.State(normalizer);
        Exception? exception = Record(() => Runs.Forward(normalizer, shape, new float[140]));
        Assert.IsTrue(exception is InvalidOperationException or ArgumentException, exception?.GetType().Name ?? "nothing thrown");
        Says(exception!, "7", "3");
        Runs.AssertState(before, normalizer, "after the throw");
        normalizer.Training = false;
        Runs.Forward(normalizer, shape, new float[140]);
    }

    // ---------------------------------------------------------------- empty batches

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void ForwardBackward_EmptyBatch_TouchesNothingInEveryMode(string id)
    {
        var ample = new ActivationShape(6, 4, 5);
        foreach (ActivationShape empty in new ActivationShape[] { new(0, 4, 5), new(6, 4, 0) })
        {
            if (StrategyCases.Of(id).FixesTrailingAxes && empty.SpatialSize == 0)
            {
                continue;
            }

            foreach (string mode in new[] { "training", "inference", "frozen", "batch", "running", "no update" })
            {
                Normalizer<double> normalizer = Runs.CreateBase<double>(id, ample, Plain with { RunningStatistics = true }, 1);
                Runs.Once(normalizer, ample, TestData.Activations(2, ample), TestData.Normal(3, ample.Count));
                normalizer.ZeroGradients();
                normalizer.Training = mode != "inference";
                normalizer.UpdateRunningStatistics = mode != "no update";
                normalizer.StatisticsSource = mode == "batch" ? StatisticsSource.Batch
                    : mode == "running" && normalizer.Buffers.Count > 0 ? StatisticsSource.Running : StatisticsSource.FollowTraining;
                if (mode == "frozen")
                {
                    normalizer.Freeze();
                }

                var before = Runs.State(normalizer);
                Pass<double> pass = Runs.Once<double>(normalizer, empty, [], []);
                Assert.IsTrue(pass.Gradients.Values.All(gradient => gradient.All(value => value == 0)), $"{id} {mode}: parameter gradients");
                Runs.AssertState(before, normalizer, $"{id} {mode}");
                Assert.AreEqual(0, normalizer.SkippedUpdates, $"{id} {mode}");
            }
        }
    }

    // ---------------------------------------------------------------- NaN, infinity, too large

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void ForwardBackward_NotFiniteInput_StaysInItsReductionSetAndOutOfTheState(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        StrategySettings settings = Plain with { GroupSize = 2, RunningStatistics = true };
        foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
        {
            foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
            {
                NotFinite(id, shape, settings, layout, bad, inGradient: false);
            }

            NotFinite(id, shape, settings, layout, float.NaN, inGradient: true);
            NotFinite(id, shape, settings, layout, float.PositiveInfinity, inGradient: true);
        }
    }

    private static void NotFinite(string id, ActivationShape shape, StrategySettings settings, Layout layout, float bad, bool inGradient)
    {
        const int At = (2 * 4 + 1) * 15 + 7;
        string what = $"{id} {layout} {bad} in the {(inGradient ? "gradient" : "input")}";
        double[] x = TestData.Activations(2, shape);
        double[] dy = TestData.Normal(3, shape.Count);
        (Normalizer<float> clean, float[] cleanOutput, float[] cleanGradient) = Execute();
        (inGradient ? dy : x)[At] = bad;
        (Normalizer<float> dirty, float[] output, float[] gradient) = Execute();

        if (StrategyCases.Of(id).CreateOracle(shape, settings).SetOfElements(shape) is not { } set)
        {
            return;
        }

        bool alone = inGradient && !StrategyCases.Of(id).DifferentiatesStatistics;
        bool[] own = [.. set.Select((r, i) => alone ? i == At : r == set[At])];
        Assert.IsTrue(own.Any(value => !value));
        for (int i = 0; i < own.Length; i++)
        {
            if (own[i])
            {
                Assert.IsTrue(inGradient || !float.IsFinite(output[i]), $"{what}: output [{i}] = {output[i]} hides it");
                Assert.IsFalse(float.IsFinite(gradient[i]), $"{what}: input gradient [{i}] = {gradient[i]} hides it");
            }
        }

        NumericAssert.SameBits<float>(Others(cleanOutput), Others(output), $"{what}: output elsewhere");
        NumericAssert.SameBits<float>(Others(cleanGradient), Others(gradient), $"{what}: input gradient elsewhere");
        bool keeps = clean.Buffers.Count > 0;
        if (inGradient)
        {
            Runs.AssertState(Runs.State(clean), dirty, what);
            Assert.AreEqual(0, dirty.SkippedUpdates, what);
        }
        else if (keeps)
        {
            Runs.AssertState(Runs.State(StrategyCatalog.Create<float>(id, shape, settings)), dirty, what);
            Assert.AreEqual(1, dirty.SkippedUpdates, what);
            Runs.Forward(dirty, shape, TestData.As<float>(TestData.Activations(2, shape)));
            foreach (StateBuffer<float> counter in dirty.Buffers.Where(b => b.IsCounter))
            {
                Assert.AreEqual(StrategyCases.Of(id).CountOf(counter.Name, shape), counter.Count, $"{what}: {counter.Name}");
            }

            Assert.AreEqual(1, dirty.SkippedUpdates, what);
            Assert.IsTrue(dirty.Buffers.All(b => b.Values.All(float.IsFinite)), what);
        }

        // Parameters of channels that have no element in the set never see it; LayerNorm's parameters lie one in every sample.
        int[] channels = [.. Enumerable.Range(0, 4).Where(c => !own.Where((_, i) => i / 15 % 4 == c).Contains(true))];
        foreach (Parameter<float> parameter in dirty.Parameters)
        {
            float[] expected = clean.Parameters.Single(p => p.Name == parameter.Name).Gradient;
            foreach (int c in channels)
            {
                NumericAssert.SameBits<float>([expected[c]], [parameter.Gradient[c]], $"{what}: gradient of {parameter.Name} [{c}]");
            }

            if (!inGradient || !StrategyCases.Of(id).StopsGradients)
            {
                Assert.AreEqual(
                    inGradient || parameter.Name is not ("bias" or "tau"), parameter.Gradient.Any(value => !float.IsFinite(value)), $"{what}: gradient of {parameter.Name}");
            }
        }

        Assert.IsTrue(dirty.Parameters.Any(parameter => parameter.Gradient.Any(value => !float.IsFinite(value))), $"{what}: some parameter's gradient");

        float[] Others(float[] values) => [.. values.Where((_, i) => !own[i])];

        (Normalizer<float> Normalizer, float[] Output, float[] Gradient) Execute()
        {
            Normalizer<float> normalizer = Runs.CreateBase<float>(id, shape, settings, 1);
            var input = new PlacedTensor<float>(shape, layout, x);
            var output = new PlacedTensor<float>(shape, layout);
            var outputGradient = new PlacedTensor<float>(shape, layout, dy);
            var inputGradient = new PlacedTensor<float>(shape, layout);
            normalizer.Forward(input.ReadOnly, output.Span);
            normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);
            return (normalizer, output.Read(), inputGradient.Read());
        }
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.GhostBatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Inference_NotFiniteInput_StaysAtItsPositionAndSkipsNothing(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        Normalizer<float> normalizer = Runs.CreateBase<float>(id, shape, Plain, 1);
        Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(2, shape)));
        normalizer.Training = false;
        var before = Runs.State(normalizer);
        float[] x = TestData.As<float>(TestData.Activations(3, shape));
        float[] clean = Runs.Forward(normalizer, shape, x);
        x[2 * 20 + 5 + 3] = float.NaN;
        float[] output = Runs.Forward(normalizer, shape, x);
        for (int i = 0; i < x.Length; i++)
        {
            bool affected = id == TestData.ZcaWhitening ? i / 20 == 2 && i % 5 == 3 : i == 48;
            Assert.AreEqual(affected, float.IsNaN(output[i]), $"[{i}]");
            Assert.IsTrue(affected || output[i].Equals(clean[i]), $"[{i}] {clean[i]} became {output[i]}");
        }

        Runs.AssertState(before, normalizer, id);
        Assert.AreEqual(0, normalizer.SkippedUpdates);
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.InstanceNorm)]
    [DataRow(TestData.GhostBatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Forward_StatisticTooLargeForFloat_IsRightAndSkipsTheUpdate(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        Normalizer<float> normalizer = Runs.CreateBase<float>(id, shape, Plain with { RunningStatistics = true }, 1);
        Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(2, shape)));
        var before = Runs.State(normalizer);
        float[] x = TestData.As<float>(TestData.Activations(3, shape));
        for (int i = 0; i < x.Length; i++)
        {
            // The variance is about 1e50, the mean fits.
            x[i] *= i / 5 % 4 == 2 ? 1e25f : 1;
        }

        Pass<float> pass = Runs.Once(normalizer, shape, x, TestData.As<float>(TestData.Normal(4, shape.Count)));
        NumericAssert.Finite<float>(pass.Output, "output");
        NumericAssert.Finite<float>(pass.InputGradient, "input gradient");
        Runs.AssertState(before, normalizer, id);
        Assert.AreEqual(1, normalizer.SkippedUpdates);
        Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(4, shape)));
        Assert.AreEqual(2, normalizer.Buffers.Single(b => b.IsCounter).Count);
        Assert.AreEqual(1, normalizer.SkippedUpdates);
    }

    // A square beyond double's range must not turn into a plausible output.
    [TestMethod]
    [DynamicData(nameof(BasicIds))]
    public void Forward_VarianceBeyondDouble_IsRightOrNaNAndSkipsTheUpdate(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        Normalizer<double> normalizer = Runs.CreateBase<double>(id, shape, Plain with { RunningStatistics = true, Weight = false, Bias = false });
        double[] expected = Runs.Forward(normalizer, shape, x);
        var before = Runs.State(normalizer);
        double[] y = Runs.Forward(normalizer, shape, Array.ConvertAll(x, value => value * 1e200));
        NumericAssert.NearLargest<double>([.. expected.Select((value, i) => double.IsNaN(y[i]) ? double.NaN : value)], y, 1e-4, id);
        Runs.AssertState(before, normalizer, id);
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm, float.NaN)]
    [DataRow(TestData.InstanceNorm, float.NaN)]
    [DataRow(TestData.GhostBatchNorm, float.NegativeInfinity)]
    [DataRow(TestData.ZcaWhitening, float.NaN)]
    [DataRow(TestData.BatchNorm, 1e30f)]
    [DataRow(TestData.ZcaWhitening, 1e30f)]
    public void Forward_NonFinitePolicyThrow_ThrowsAndChangesNothing(string id, float bad)
    {
        var shape = new ActivationShape(6, 4, 5);
        Normalizer<float> normalizer = Runs.CreateBase<float>(id, shape, Plain with { NonFinite = NonFinitePolicy.Throw, RunningStatistics = true }, 1);
        Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(2, shape)));
        var before = Runs.State(normalizer);
        float[] x = TestData.As<float>(TestData.Activations(3, shape));
        x[33] = bad;
        Exception? exception = Record(() => Runs.Forward(normalizer, shape, x));
        Assert.IsTrue(exception is ArithmeticException or InvalidOperationException, exception?.GetType().Name ?? "nothing thrown");
        Runs.AssertState(before, normalizer, id);
        Assert.AreEqual(0, normalizer.SkippedUpdates);
    }

    // ---------------------------------------------------------------- misuse

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_WithoutItsForward_Throws(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain);
        Says(Assert.Throws<InvalidOperationException>(() => Runs.Backward(normalizer, shape, new float[120], new float[120])), "Forward");
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        Runs.Forward(normalizer, shape, x);
        var other = new ActivationShape(3, 4, 5);
        Says(Assert.Throws<InvalidOperationException>(() => Runs.Backward(normalizer, other, new float[60], new float[60])), "(3, 4, 5)", "(6, 4, 5)");
        var sameCount = new ActivationShape(6, 4, 5, 1);
        if (!StrategyCases.Of(id).FixesTrailingAxes)
        {
            Assert.Throws<InvalidOperationException>(() => Runs.Backward(normalizer, sameCount, new float[120], new float[120]));
        }

        Runs.Backward(normalizer, shape, x, x);
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_InferenceForwardInBetween_UsesTheTrainingForward(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, Plain, 3);
        Pass<double> expected = Runs.Once(normalizer, shape, x, dy);
        normalizer.Training = false;
        Runs.Forward(normalizer, shape.WithSamples(3), TestData.Activations(4, shape.WithSamples(3)));
        normalizer.Training = true;
        NumericAssert.SameBits<double>(expected.InputGradient, Runs.Backward(normalizer, shape, x, dy), id);
    }

    // A Forward that throws has no Backward; the one before it is either still whole or refused.
    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_AfterAForwardThatThrew_IsThatOfTheForwardBeforeOrRefused(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = Plain with { Epsilon = 0, NonFinite = NonFinitePolicy.Throw, RunningStatistics = true };
        double[] constant = Array.ConvertAll(x, _ => 0.25);
        double[] infinite = [double.PositiveInfinity, .. x[1..]];
        foreach (double[] bad in new[] { constant, infinite })
        {
            INormalizer<double> normalizer = Runs.Create<double>(id, shape, settings, 3);
            Pass<double> expected = Runs.Once(normalizer, shape, x, dy);
            if (Record(() => Runs.Forward(normalizer, shape, bad)) is null)
            {
                continue;
            }

            double[] gradient = [];
            Exception? refused = Record(() => gradient = Runs.Backward(normalizer, shape, x, dy));
            if (refused is null)
            {
                NumericAssert.SameBits<double>(expected.InputGradient, gradient, $"{id}: input gradient of the Forward before");
            }
            else
            {
                Assert.IsInstanceOfType<InvalidOperationException>(refused);
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_InputInAnotherLayoutThanForward_GivesTheSameGradient(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        foreach (Layout forward in Enum.GetValues<Layout>())
        {
            INormalizer<double> normalizer = Runs.Create<double>(id, shape, Plain, 3);
            var output = new PlacedTensor<double>(shape, Layout.ChannelsFirst);
            normalizer.Forward(new PlacedTensor<double>(shape, forward, x).ReadOnly, output.Span);
            double[]? expected = null;
            foreach (Layout backward in Enum.GetValues<Layout>())
            {
                var gradient = new PlacedTensor<double>(shape, backward);
                normalizer.Backward(
                    new PlacedTensor<double>(shape, backward, x).ReadOnly,
                    new PlacedTensor<double>(shape, backward, dy).ReadOnly, gradient.Span);
                expected ??= gradient.Read();
                NumericAssert.NearLargest<double>(expected, gradient.Read(), 1e-12, $"{id}: forward {forward}, backward {backward}");
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_InputGradientOverTheOutputGradient_GivesTheSameBits(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        double[] dy = TestData.Normal(2, shape.Count);
        foreach (Layout layout in Enum.GetValues<Layout>())
        {
            foreach (bool training in new[] { true, false })
            {
                INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain, 3);
                var x = new PlacedTensor<float>(shape, layout, TestData.Activations(1, shape));
                var apart = new PlacedTensor<float>(shape, layout);
                var inPlace = new PlacedTensor<float>(shape, layout, dy);
                normalizer.Forward(x.ReadOnly, apart.Span);
                normalizer.Training = training;
                normalizer.Backward(x.ReadOnly, inPlace.ReadOnly, apart.Span);
                normalizer.Backward(x.ReadOnly, inPlace.ReadOnly, inPlace.Span);
                NumericAssert.SameBits<float>(apart.Read(), inPlace.Read(), $"{id} {layout}, training {training}");
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_OutputOverlapsInput_ThrowsInTrainingAndWorksInInference(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        nint[] lengths = shape.ToArray();
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain, 1);
        float[] x = TestData.As<float>(TestData.Activations(2, shape));
        var memory = new float[240];
        x.CopyTo(memory, 0);
        var before = Runs.State(normalizer);
        foreach (int start in new[] { 0, 1, 119 })
        {
            Says(
                Assert.Throws<ArgumentException>(() => normalizer.Forward(
                    new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(memory, 0, lengths, []),
                    new System.Numerics.Tensors.TensorSpan<float>(memory, start, lengths, []))),
                "overlap");
        }

        Runs.AssertState(before, normalizer, id);
        NumericAssert.SameBits<float>(x, memory.AsSpan(0, 120), "input");
        normalizer.Forward(
            new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(memory, 0, lengths, []), new System.Numerics.Tensors.TensorSpan<float>(memory, 120, lengths, []));

        normalizer.Training = false;
        float[] apart = Runs.Forward(normalizer, shape, x);
        normalizer.Forward(
            new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(memory, 0, lengths, []), new System.Numerics.Tensors.TensorSpan<float>(memory, 0, lengths, []));
        NumericAssert.SameBits<float>(apart, memory.AsSpan(0, 120), $"{id}: in place");
    }

    // In place is not the only overlap: an output that starts inside the input is right, or refused, never silently wrong.
    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Inference_OutputStartsInsideTheInput_IsRightOrRefused(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        nint[] lengths = shape.ToArray();
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain, 1);
        normalizer.Training = false;
        float[] x = TestData.As<float>(TestData.Activations(2, shape));
        float[] apart = Runs.Forward(normalizer, shape, x);
        var memory = new float[240];
        foreach (int start in new[] { 1, 20, 119 })
        {
            x.CopyTo(memory, 0);
            Exception? refused = Record(() => normalizer.Forward(
                new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(memory, 0, lengths, []), new System.Numerics.Tensors.TensorSpan<float>(memory, start, lengths, [])));
            if (refused is not null)
            {
                Assert.IsInstanceOfType<ArgumentException>(refused);
                Says(refused, "overlap");
                continue;
            }

            NumericAssert.SameBits<float>(apart, memory.AsSpan(start, 120), $"{id}: {start} elements on");
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_BroadcastGradient_IsTheGradientOfTheSum(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        nint[] lengths = shape.ToArray();
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain, 2);
        float[] perChannel = [0.5f, -1, 2, 3];
        float[] dense = [.. Enumerable.Range(0, 120).Select(i => perChannel[i / 5 % 4])];
        Pass<float> expected = Runs.Once(normalizer, shape, x, dense);
        var gradient = new float[120];
        normalizer.ZeroGradients();
        normalizer.Backward(
            new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(x, lengths),
            new System.Numerics.Tensors.ReadOnlyTensorSpan<float>(perChannel, 0, lengths, [0, 1, 0]),
            new System.Numerics.Tensors.TensorSpan<float>(gradient, lengths));
        NumericAssert.SameBits<float>(expected.InputGradient, gradient, id);
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_SameInputTwice_GivesTheSameBits(string id)
    {
        var shape = new ActivationShape(6, 4, 7, 5);
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        float[] dy = TestData.As<float>(TestData.Normal(2, shape.Count));
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain, 3);
        var state = Runs.State(normalizer);
        Pass<float> first = Runs.Once(normalizer, shape, x, dy);
        ActivationShape other = shape.WithSamples(9);
        Runs.Once(normalizer, other, TestData.As<float>(TestData.Activations(4, other)), TestData.As<float>(TestData.Normal(5, other.Count)));
        if (StrategyCases.Of(id).TrainingReadsState)
        {
            Runs.Restore(state, normalizer);
        }

        Runs.AssertSame(first, Runs.Once(normalizer, shape, x, dy), id);
    }

    // ---------------------------------------------------------------- switches and freezing

    public static IEnumerable<object[]> Cells =>
        from id in new[] { TestData.BatchNorm, TestData.InstanceNorm, TestData.GhostBatchNorm, TestData.ZcaWhitening }
        from running in new[] { false, true }
        from update in new[] { false, true }
        from learn in new[] { false, true }
        select new object[] { id, running, update, learn };

    // In training: which statistics normalize, whether running ones follow, whether weight and bias learn. Eight cells, each independent.
    [TestMethod]
    [DynamicData(nameof(Cells))]
    public void Switches_EveryCell_DoesWhatItsThreeSwitchesSay(string id, bool running, bool update, bool learn)
    {
        var shape = new ActivationShape(6, 4, 5);
        StrategySettings settings = Plain with { RunningStatistics = true };
        double[] warm = TestData.Activations(1, shape);
        double[] x = TestData.Activations(2, shape);
        double[] dy = TestData.Normal(3, shape.Count);

        Normalizer<double> reference = Warmed();
        reference.Training = !running;
        var untouched = Runs.State(reference);
        Pass<double> expected = Runs.Once(reference, shape, x, dy);
        Normalizer<double> updated = Warmed();
        Runs.Forward(updated, shape, x);

        Normalizer<double> subject = Warmed();
        subject.StatisticsSource = running ? StatisticsSource.Running : StatisticsSource.Batch;
        subject.UpdateRunningStatistics = update;
        subject.LearnParameters = learn;
        Pass<double> actual = Runs.Once(subject, shape, x, dy);

        NumericAssert.NearLargest<double>(expected.Output, actual.Output, 1e-13, "output");
        NumericAssert.NearLargest<double>(expected.InputGradient, actual.InputGradient, 1e-13, "input gradient");
        if (learn)
        {
            NumericAssert.NearLargest<double>(expected.WeightGradient, actual.WeightGradient, 1e-13, "weight gradient");
            NumericAssert.NearLargest<double>(expected.BiasGradient, actual.BiasGradient, 1e-13, "bias gradient");
        }
        else
        {
            Assert.IsTrue(actual.WeightGradient.Concat(actual.BiasGradient).All(value => value == 0), "parameter gradients");
        }

        foreach (StateBuffer<double> buffer in subject.Buffers)
        {
            (long count, double[] values) = (update ? Runs.State(updated) : untouched)[buffer.Name];
            Assert.AreEqual(count, buffer.Count, buffer.Name);
            NumericAssert.NearLargest<double>(values, buffer.Values, 1e-13, buffer.Name);
        }

        Normalizer<double> Warmed()
        {
            Normalizer<double> normalizer = Runs.CreateBase<double>(id, shape, settings, 4);
            Runs.Forward(normalizer, shape, warm);
            return normalizer;
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Inference_StatisticsSourceBatch_NormalizesByTheBatchAndWritesNothing(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        Pass<double> expected = Runs.Once(id, shape, Plain with { RunningStatistics = true }, x, dy, 3);
        Normalizer<double> normalizer = Runs.CreateBase<double>(id, shape, Plain with { RunningStatistics = true }, 3);
        normalizer.Training = false;
        normalizer.StatisticsSource = StatisticsSource.Batch;
        var before = Runs.State(normalizer);
        Runs.AssertNear(expected, Runs.Once(normalizer, shape, x, dy), 1e-13, id);
        Runs.AssertState(before, normalizer, id);
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.InstanceNorm)]
    [DataRow(TestData.GhostBatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Freeze_ThenTrainingSetAgain_StaysFrozenUntilUnfreeze(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        Normalizer<double> normalizer = Runs.CreateBase<double>(id, shape, Plain with { RunningStatistics = true }, 3);
        Runs.Forward(normalizer, shape, TestData.Activations(4, shape));
        normalizer.Training = false;
        Pass<double> inference = Runs.Once(normalizer, shape, x, dy);
        var state = Runs.State(normalizer);

        normalizer.Freeze();
        normalizer.Training = true;
        Assert.IsTrue(normalizer.Frozen);
        Runs.AssertSame(inference, Runs.Once(normalizer, shape, x, dy), "frozen");
        normalizer.Training = false;
        normalizer.Training = true;
        normalizer.StatisticsSource = StatisticsSource.Batch;
        Runs.AssertSame(inference, Runs.Once(normalizer, shape, x, dy), "frozen, whatever else is set");
        Runs.AssertState(state, normalizer, "frozen");

        normalizer.StatisticsSource = StatisticsSource.FollowTraining;
        normalizer.Unfreeze();
        Assert.IsFalse(normalizer.Frozen);
        NumericAssert.Differs<double>(inference.Output, Runs.Forward(normalizer, shape, x), 1e-3, "unfrozen");
        Assert.AreEqual(state["num_batches_tracked"].Count + 1, normalizer.Buffers.Single(b => b.IsCounter).Count);
    }

    // Frozen while training, without inference ever having been asked for.
    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Freeze_DuringTraining_UsesTheNewestRunningStatistics(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        Normalizer<double> frozen = Runs.CreateBase<double>(id, shape, Plain, 3);
        Normalizer<double> inference = Runs.CreateBase<double>(id, shape, Plain, 3);
        for (int step = 0; step < 3; step++)
        {
            double[] batch = TestData.Activations(4 + step, shape);
            Runs.Forward(frozen, shape, batch);
            Runs.Forward(inference, shape, batch);
            frozen.Freeze();
            inference.Training = false;
            NumericAssert.SameBits<double>(Runs.Forward(inference, shape, x), Runs.Forward(frozen, shape, x), $"step {step}");
            frozen.Unfreeze();
            inference.Training = true;
        }
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.GhostBatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Inference_WithoutRunningStatistics_UsesTheBatch(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        StrategySettings settings = Plain with { RunningStatistics = false };
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, settings, 3);
        Assert.IsEmpty(normalizer.Buffers);
        Pass<double> training = Runs.Once(normalizer, shape, x, dy);
        normalizer.Training = false;
        Runs.AssertNear(training, Runs.Once(normalizer, shape, x, dy), 1e-13, id);
    }

    private static void Says(Exception exception, params string[] words)
    {
        foreach (string word in words)
        {
            Assert.Contains(word, exception.Message, StringComparison.OrdinalIgnoreCase, $"{exception.GetType().Name}: {exception.Message}");
        }
    }

    private static Exception? Record(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (Exception exception) when (exception is not AssertFailedException)
        {
            return exception;
        }
    }
}
