using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Identities, limits and refusals of EvoNorm-B0, EvoNorm-S0 and switchable normalization.</summary>
[TestClass]
public sealed class HybridPropertyTests
{
    private const string EvoNormB0 = "evonorm-b0";
    private const string EvoNormS0 = "evonorm-s0";
    private const string SwitchableNorm = "switchable-norm";
    private static readonly ActivationShape Shape = new(6, 4, 5);
    private static readonly StrategySettings Plain = new() { Groups = 2 };
    private static readonly StrategySettings NoAffine = Plain with { Weight = false, Bias = false };

    // ---------------------------------------------------------------- switchable normalization

    [TestMethod]
    [DataRow(0, TestData.InstanceNorm)]
    [DataRow(1, TestData.LayerNorm)]
    [DataRow(2, TestData.BatchNorm)]
    public void SwitchableNorm_OneHotLogits_IsThatNormalization(int hot, string other)
    {
        var shape = new ActivationShape(5, 4, 3, 2);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = other == TestData.LayerNorm ? NoAffine : Plain; // a layer norm's weight goes by element
        INormalizer<double> switchable = Runs.Create<double>(SwitchableNorm, shape, settings, 3);
        foreach (string name in new[] { "mean_weight", "var_weight" })
        {
            double[] logits = Values(switchable, name);
            Array.Clear(logits);
            logits[hot] = 50;
        }

        Pass<double> expected = Runs.Once(other, shape, settings, x, dy, 3);
        Pass<double> actual = Runs.Once(switchable, shape, x, dy);
        Runs.AssertNear(expected, actual, 1e-12, $"{other} as a mixture");
        if (other == TestData.BatchNorm)
        {
            foreach (StateBuffer<double> buffer in expected.Normalizer.Buffers)
            {
                StateBuffer<double> own = switchable.Buffers.Single(b => b.Name == buffer.Name);
                Assert.AreEqual(buffer.Count, own.Count, buffer.Name);
                NumericAssert.NearLargest<double>(buffer.Values, own.Values, 1e-13, buffer.Name);
            }

            expected.Normalizer.Training = false;
            switchable.Training = false;
            Runs.AssertNear(Runs.Once(expected.Normalizer, shape, x, dy), Runs.Once(switchable, shape, x, dy), 1e-12, "in inference");
        }
    }

    [TestMethod]
    public void SwitchableNorm_ConstantAddedToLogits_ChangesNothingAndTheirGradientSumsToZero()
    {
        double[] x = TestData.Activations(1, Shape);
        double[] dy = TestData.Normal(2, Shape.Count);
        INormalizer<double> normalizer = Runs.Create<double>(SwitchableNorm, Shape, Plain, 3);
        Pass<double> plain = Runs.Once(normalizer, Shape, x, dy);
        foreach (string name in new[] { "mean_weight", "var_weight" })
        {
            double[] gradient = plain.Gradients[name];
            NumericAssert.Near(0, gradient.Sum(), gradient.Max(Math.Abs), 1e-12, $"sum of the gradient of {name}");
            double[] logits = Values(normalizer, name);
            for (int k = 0; k < 3; k++)
            {
                logits[k] += 700;
            }
        }

        Runs.AssertNear(plain, Runs.Once(normalizer, Shape, x, dy), 1e-12, "logits moved by 700");
    }

    [TestMethod]
    public void SwitchableNorm_FreshLogits_WeighTheThreeAlike()
    {
        INormalizer<double> normalizer = Runs.Create<double>(SwitchableNorm, Shape, NoAffine);
        double[] x = TestData.Activations(1, Shape);
        double[] y = Runs.Forward(normalizer, Shape, x);
        int[][] sets = [[.. Indices(i => i / 5)], [.. Indices(i => i / 20)], [.. Indices(i => i / 5 % 4)]];
        double[] expected = [.. Enumerable.Range(0, x.Length).Select(i =>
        {
            double mean = sets.Average(set => Members(set, i).Average());
            double variance = sets.Average(set => Members(set, i).Average(value => Math.Pow(value - Members(set, i).Average(), 2)));
            return (x[i] - mean) / Math.Sqrt(variance + 1e-5);
        })];
        NumericAssert.NearLargest<double>(expected, y, 1e-12, "a third of each");

        IEnumerable<int> Indices(Func<int, int> set) => Enumerable.Range(0, x.Length).Select(set);
        double[] Members(int[] set, int i) => [.. x.Where((_, j) => set[j] == set[i])];
    }

    // The batch's variance from the instances' in centered form: E[x^2] - mean^2 would leave nothing of it.
    [TestMethod]
    public void SwitchableNorm_MeanOf1E6_KeepsTheVarianceOfEveryPool()
    {
        double[] x = TestData.Normal(1, Shape.Count, 1e6);
        INormalizer<double> batch = Runs.Create<double>(TestData.BatchNorm, Shape, Plain with { Momentum = 1 });
        INormalizer<double> switchable = Runs.Create<double>(SwitchableNorm, Shape, Plain with { Momentum = 1 });
        Runs.Forward(batch, Shape, x);
        Runs.Forward(switchable, Shape, x);
        NumericAssert.NearLargest<double>(Runs.Buffer(batch, "running_var"), Runs.Buffer(switchable, "running_var"), 1e-9, "running_var");
    }

    // ---------------------------------------------------------------- EvoNorm

    [TestMethod]
    public void EvoNormS0_ZeroV_IsHalfOfXOverItsDeviation()
    {
        double[] x = TestData.Activations(1, Shape);
        INormalizer<double> normalizer = Runs.Create<double>(EvoNormS0, Shape, NoAffine);
        Array.Clear(Values(normalizer, "v"));
        double[] deviation = Deviations(x, i => i / 10);
        NumericAssert.NearLargest<double>([.. x.Select((value, i) => value / (2 * deviation[i]))], Runs.Forward(normalizer, Shape, x), 1e-13, "v = 0");
    }

    [TestMethod]
    public void EvoNormS0_LargeV_IsReluOverTheDeviation()
    {
        double[] x = TestData.Activations(1, Shape);
        INormalizer<double> normalizer = Runs.Create<double>(EvoNormS0, Shape, NoAffine);
        Array.Fill(Values(normalizer, "v"), 1e9);
        double[] deviation = Deviations(x, i => i / 10);
        NumericAssert.NearLargest<double>([.. x.Select((value, i) => Math.Max(value, 0) / deviation[i])], Runs.Forward(normalizer, Shape, x), 1e-12, "v large");
    }

    [TestMethod]
    public void EvoNormB0_ZeroV_DividesByTheLargerDeviation()
    {
        double[] x = TestData.Activations(1, Shape);
        INormalizer<double> normalizer = Runs.Create<double>(EvoNormB0, Shape, NoAffine);
        Array.Clear(Values(normalizer, "v"));
        double[] batch = Deviations(x, i => i / 5 % 4);
        double[] instance = Deviations(x, i => i / 5);
        Assert.IsTrue(batch.Zip(instance).Any(pair => pair.First > pair.Second) && batch.Zip(instance).Any(pair => pair.First < pair.Second));
        NumericAssert.NearLargest<double>(
            [.. x.Select((value, i) => value / Math.Max(batch[i], instance[i]))], Runs.Forward(normalizer, Shape, x), 1e-13, "v = 0");
    }

    [TestMethod]
    public void EvoNormB0_NegatedInput_IsNotTheNegatedOutput()
    {
        double[] x = TestData.Activations(1, Shape);
        INormalizer<double> normalizer = Runs.Create<double>(EvoNormB0, Shape, NoAffine);
        double[] y = Runs.Forward(normalizer, Shape, x);
        double[] z = Runs.Forward(normalizer, Shape, Array.ConvertAll(x, value => -value));
        NumericAssert.Differs<double>(Array.ConvertAll(y, value => -value), z, 0.1, "a maximum keeps no sign");
    }

    // Far above 0 the line through the instance's deviation is the larger denominator everywhere.
    [TestMethod]
    [DataRow(0.0, true)]
    [DataRow(100.0, false)]
    public void EvoNormB0_OneSampleChanged_MovesOthersAsFarAsTheyDivideByTheBatch(double mean, bool depends)
    {
        double[] x = TestData.Normal(1, Shape.Count, mean);
        INormalizer<double> normalizer = Runs.Create<double>(EvoNormB0, Shape, NoAffine);
        double[] before = Runs.Forward(normalizer, Shape, x);
        for (int i = 0; i < 20; i++)
        {
            x[i] = mean + (3 * (x[i] - mean));
        }

        double[] after = Runs.Forward(normalizer, Shape, x);
        if (depends)
        {
            NumericAssert.Differs<double>(before.AsSpan(20), after.AsSpan(20), 0.1, "the batch's deviation grew");
        }
        else
        {
            NumericAssert.SameBits<double>(before.AsSpan(20), after.AsSpan(20), "no element divides by the batch's deviation");
        }
    }

    [TestMethod]
    [DataRow(RunningVariance.Sample)]
    [DataRow(RunningVariance.Population)]
    public void EvoNormB0_InferenceAfterOneStepOfMomentumOne_DividesByTheStoredVariance(RunningVariance stored)
    {
        double[] x = TestData.Activations(1, Shape);
        INormalizer<double> normalizer = Runs.Create<double>(EvoNormB0, Shape, NoAffine with { Momentum = 1, RunningVariance = stored });
        Runs.Forward(normalizer, Shape, x);
        double correction = stored == RunningVariance.Sample ? 30.0 / 29 : 1;
        double[] population = Array.ConvertAll(Deviations(x, i => i / 5 % 4), a => a * a - 1e-5);
        NumericAssert.NearLargest<double>(
            [.. Enumerable.Range(0, 4).Select(c => population[c * 5] * correction)], Runs.Buffer(normalizer, "running_var"), 1e-12, "running_var");
        normalizer.Training = false;
        double[] instance = Deviations(x, i => i / 5);
        double[] expected = [.. x.Select((value, i) => value / Math.Max(Math.Sqrt(population[i] * correction + 1e-5), value + instance[i]))];
        NumericAssert.NearLargest<double>(expected, Runs.Forward(normalizer, Shape, x), 1e-12, "inference");
    }

    [TestMethod]
    [DataRow(EvoNormB0)]
    [DataRow(EvoNormS0)]
    public void EvoNorm_WithoutNonlinearity_IsWeightAndBiasAlone(string id)
    {
        double[] x = TestData.Activations(1, Shape);
        double[] dy = TestData.Normal(2, Shape.Count);
        INormalizer<double> normalizer = Runs.Create<double>(id, Shape, Plain with { Nonlinearity = false }, 3);
        CollectionAssert.AreEqual(new[] { "weight", "bias" }, normalizer.Parameters.Select(p => p.Name).ToArray());
        Assert.IsEmpty(normalizer.Buffers);
        Pass<double> pass = Runs.Once(normalizer, Shape, x, dy);
        double[] weight = Values(normalizer, "weight");
        double[] bias = Values(normalizer, "bias");
        NumericAssert.NearLargest<double>([.. x.Select((value, i) => weight[i / 5 % 4] * value + bias[i / 5 % 4])], pass.Output, 1e-15, "output");
        NumericAssert.NearLargest<double>([.. dy.Select((value, i) => weight[i / 5 % 4] * value)], pass.InputGradient, 1e-15, "input gradient");
        NumericAssert.NearLargest<double>(
            [.. Enumerable.Range(0, 4).Select(c => Enumerable.Range(0, 120).Where(i => i / 5 % 4 == c).Sum(i => x[i] * dy[i]))], pass.WeightGradient, 1e-13, "weight gradient");
    }

    // ---------------------------------------------------------------- refusals

    [TestMethod]
    [DataRow(EvoNormB0)]
    [DataRow(SwitchableNorm)]
    public void Create_OfFeatures_ThrowsNamingTheShape(string id)
    {
        var features = new ActivationShape(6, 4);
        Says(Assert.Throws<ArgumentException>(() => StrategyCatalog.Create<float>(id, features, Plain)), "(6, 4)", "position");
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(id, Shape, Plain);
        foreach (bool training in new[] { true, false })
        {
            normalizer.Training = training;
            Says(Assert.Throws<ArgumentException>(() => Runs.Forward(normalizer, features, new float[24])), "(6, 4)");
        }
    }

    [TestMethod]
    [DataRow(EvoNormB0, 3, 4, 1)]
    [DataRow(SwitchableNorm, 3, 4, 1)]
    [DataRow(EvoNormS0, 3, 2, 1)]
    public void Forward_OneValuePerStatistic_ThrowsAndChangesNothing(string id, int samples, int channels, int positions)
    {
        var shape = new ActivationShape(samples, channels, positions);
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain);
        var before = Runs.State(normalizer);
        Says(Assert.Throws<InvalidOperationException>(() => Runs.Forward(normalizer, shape, new float[shape.Count])), "1 value", shape.ToString());
        Runs.AssertState(before, normalizer, id);
    }

    [TestMethod]
    [DataRow(EvoNormB0)]
    [DataRow(EvoNormS0)]
    [DataRow(SwitchableNorm)]
    public void Create_SingleValuePolicyOtherThanThrow_IsRefused(string id)
    {
        foreach (SingleValuePolicy policy in new[] { SingleValuePolicy.BiasOnly, SingleValuePolicy.UseRunning })
        {
            Says(Assert.Throws<ArgumentException>(() => StrategyCatalog.Create<float>(id, Shape, Plain with { SingleValue = policy })), policy.ToString(), "Throw");
        }
    }

    [TestMethod]
    [DataRow(0)]
    [DataRow(-2)]
    [DataRow(3)]
    [DataRow(32)]
    public void Create_GroupsThatDoNotDivide_ThrowsNamingBoth(int groups)
    {
        var exception = Assert.Throws<ArgumentException>(() => StrategyCatalog.Create<float>(EvoNormS0, Shape, Plain with { Groups = groups }));
        Says(exception, "groups", "C = 4", $"G = {groups}");
    }

    [TestMethod]
    [DataRow(EvoNormB0)]
    [DataRow(SwitchableNorm)]
    public void Create_MomentumOutsideZeroToOne_ThrowsNamingTheValue(string id) =>
        Says(Assert.Throws<ArgumentException>(() => StrategyCatalog.Create<float>(id, Shape, Plain with { Momentum = 1.5 })), "momentum", "1.5");

    [TestMethod]
    [DataRow(EvoNormB0)]
    [DataRow(EvoNormS0)]
    [DataRow(SwitchableNorm)]
    public void Forward_ConstantInputWithoutEpsilon_ThrowsAndChangesNothing(string id)
    {
        INormalizer<float> normalizer = Runs.Create<float>(id, Shape, Plain with { Epsilon = 0 });
        var before = Runs.State(normalizer);
        Says(Assert.Throws<DivideByZeroException>(() => Runs.Forward(normalizer, Shape, [.. Enumerable.Repeat(0.7f, 120)])), "epsilon");
        Runs.AssertState(before, normalizer, id);
    }

    // ---------------------------------------------------------------- values that are not finite

    [TestMethod]
    [DataRow(EvoNormB0, float.NaN)]
    [DataRow(EvoNormB0, float.NegativeInfinity)]
    [DataRow(SwitchableNorm, float.NaN)]
    [DataRow(SwitchableNorm, float.PositiveInfinity)]
    public void Forward_NotFiniteInput_StaysWithItsStatisticsAndOutOfTheState(string id, float bad)
    {
        const int At = 2 * 20 + 5 + 3;
        foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
        {
            float[] x = TestData.As<float>(TestData.Activations(2, Shape));
            Normalizer<float> normalizer = Runs.CreateBase<float>(id, Shape, Plain, 1);
            var before = Runs.State(normalizer);
            float[] clean = Run();
            Runs.Restore(before, normalizer);
            x[At] = bad;
            float[] output = Run();
            for (int i = 0; i < x.Length; i++)
            {
                bool hears = i / 5 % 4 == 1 || (id == SwitchableNorm && i / 20 == 2);
                Assert.AreEqual(hears, !float.IsFinite(output[i]), $"{id} {layout} [{i}] = {output[i]}");
                Assert.IsTrue(hears || clean[i].Equals(output[i]), $"{id} {layout} [{i}]: {clean[i]} became {output[i]}");
            }

            Runs.AssertState(before, normalizer, id);
            Assert.AreEqual(1, normalizer.SkippedUpdates, id);

            float[] Run()
            {
                var result = new PlacedTensor<float>(Shape, layout);
                normalizer.Forward(new PlacedTensor<float>(Shape, layout, TestData.AsDouble(x)).ReadOnly, result.Span);
                return result.Read();
            }
        }
    }

    [TestMethod]
    public void EvoNormB0_NotFiniteInputInInference_StaysInItsInstance()
    {
        INormalizer<float> normalizer = Runs.Create<float>(EvoNormB0, Shape, Plain, 1);
        normalizer.Training = false;
        float[] x = TestData.As<float>(TestData.Activations(2, Shape));
        float[] clean = Runs.Forward(normalizer, Shape, x);
        x[48] = float.NaN;
        float[] output = Runs.Forward(normalizer, Shape, x);
        for (int i = 0; i < x.Length; i++)
        {
            bool own = i / 5 == 48 / 5;
            Assert.AreEqual(own, float.IsNaN(output[i]), $"[{i}]");
            Assert.IsTrue(own || clean[i].Equals(output[i]), $"[{i}]");
        }
    }

    [TestMethod]
    [DataRow(EvoNormB0, float.NaN)]
    [DataRow(EvoNormB0, 1e30f)]
    [DataRow(EvoNormS0, float.PositiveInfinity)]
    [DataRow(SwitchableNorm, float.NaN)]
    [DataRow(SwitchableNorm, 1e30f)]
    public void Forward_NonFinitePolicyThrow_ThrowsAndChangesNothing(string id, float bad)
    {
        Normalizer<float> normalizer = Runs.CreateBase<float>(id, Shape, Plain with { NonFinite = NonFinitePolicy.Throw }, 1);
        Runs.Forward(normalizer, Shape, TestData.As<float>(TestData.Activations(2, Shape)));
        var before = Runs.State(normalizer);
        float[] x = TestData.As<float>(TestData.Activations(3, Shape));
        x[33] = bad;
        Says(Assert.Throws<InvalidOperationException>(() => Runs.Forward(normalizer, Shape, x)), "variance", "SkipUpdate");
        Runs.AssertState(before, normalizer, id);
        Assert.AreEqual(0, normalizer.SkippedUpdates);
    }

    // ---------------------------------------------------------------- switches

    [TestMethod]
    [DataRow(EvoNormB0)]
    [DataRow(SwitchableNorm)]
    public void Freeze_DuringTraining_IsInferenceUntilUnfreeze(string id)
    {
        double[] x = TestData.Activations(1, Shape);
        double[] dy = TestData.Normal(2, Shape.Count);
        Normalizer<double> normalizer = Runs.CreateBase<double>(id, Shape, Plain, 3);
        Runs.Forward(normalizer, Shape, TestData.Activations(4, Shape));
        normalizer.Training = false;
        Pass<double> inference = Runs.Once(normalizer, Shape, x, dy);
        var state = Runs.State(normalizer);
        normalizer.Training = true;
        normalizer.Freeze();
        Runs.AssertSame(inference, Runs.Once(normalizer, Shape, x, dy), $"{id} frozen");
        Runs.AssertState(state, normalizer, $"{id} frozen");
        normalizer.Unfreeze();
        NumericAssert.Differs<double>(inference.Output, Runs.Forward(normalizer, Shape, x), 1e-3, $"{id} unfrozen");
        Assert.AreEqual(2, normalizer.Buffers.Single(b => b.IsCounter).Count);
    }

    // Running statistics normalize while they follow the batches.
    [TestMethod]
    [DataRow(EvoNormB0)]
    [DataRow(SwitchableNorm)]
    public void Forward_StatisticsSourceRunning_StillTakesTheBatchIn(string id)
    {
        double[] x = TestData.Activations(1, Shape);
        Normalizer<double> following = Runs.CreateBase<double>(id, Shape, Plain, 3);
        Normalizer<double> plain = Runs.CreateBase<double>(id, Shape, Plain, 3);
        plain.Training = false;
        double[] expected = Runs.Forward(plain, Shape, x);
        plain.Training = true;
        Runs.Forward(plain, Shape, x);
        following.StatisticsSource = StatisticsSource.Running;
        NumericAssert.SameBits<double>(expected, Runs.Forward(following, Shape, x), "by the running statistics");
        Runs.AssertState(Runs.State(plain), following, id);
    }

    private static double[] Values(INormalizer<double> normalizer, string name) => normalizer.Parameters.Single(p => p.Name == name).Values;

    // By element: sqrt(population variance of its set + 1e-5).
    private static double[] Deviations(double[] x, Func<int, int> set)
    {
        var deviation = new double[x.Length];
        foreach (IGrouping<int, int> members in Enumerable.Range(0, x.Length).GroupBy(set))
        {
            double mean = members.Average(i => x[i]);
            double variance = members.Average(i => (x[i] - mean) * (x[i] - mean));
            foreach (int i in members)
            {
                deviation[i] = Math.Sqrt(variance + 1e-5);
            }
        }

        return deviation;
    }

    private static void Says(Exception exception, params string[] words)
    {
        foreach (string word in words)
        {
            Assert.Contains(word, exception.Message, StringComparison.OrdinalIgnoreCase, $"{exception.GetType().Name}: {exception.Message}");
        }
    }
}
