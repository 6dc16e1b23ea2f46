using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Batch renormalization: its two limiting cases, its schedule, its state, and what it refuses.</summary>
[TestClass]
public sealed class BatchRenormPropertyTests
{
    private const string Id = "batch-renorm";

    private static readonly StrategySettings Plain = new();
    private static readonly StrategySettings Unlimited = Plain with { RMax = 1e9, DMax = 1e9 };

    [TestMethod]
    [DataRow(Layout.ChannelsFirst, true)]
    [DataRow(Layout.ChannelsFirst, false)]
    [DataRow(Layout.ChannelsLast, true)]
    [DataRow(Layout.ChannelsLast, false)]
    [DataRow(Layout.Gapped, true)]
    public void ForwardBackward_LimitsOneAndZero_IsBatchNormToTheBit(Layout layout, bool affine)
    {
        StrategySettings settings = Plain with { RMax = 1, DMax = 0, Weight = affine, Bias = affine };
        foreach (ActivationShape shape in new ActivationShape[] { new(5, 6), new(33, 12, 17, 19), new(3, 7, 5), new(2, 1, 301), new(1, 5, 7), new(3, 1, 4) })
        {
            Compare<float>(shape);
            Compare<double>(shape);
        }

        void Compare<T>(ActivationShape shape)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            INormalizer<T> batch = Runs.Create<T>("batch-norm", shape, settings, 3);
            INormalizer<T> renorm = Runs.Create<T>(Id, shape, settings, 3);
            for (int step = 0; step < 3; step++)
            {
                (T[] Output, T[] Gradient) expected = Step(batch, step);
                (T[] Output, T[] Gradient) actual = Step(renorm, step);
                NumericAssert.SameBits<T>(expected.Output, actual.Output, $"{shape} output {step}");
                NumericAssert.SameBits<T>(expected.Gradient, actual.Gradient, $"{shape} input gradient {step}");
            }

            // Three backward passes have added up.
            foreach (Parameter<T> parameter in batch.Parameters)
            {
                NumericAssert.SameBits<T>(parameter.Gradient, renorm.Parameters.Single(p => p.Name == parameter.Name).Gradient, $"{shape} {parameter.Name}");
            }

            (T[] Output, T[] Gradient) Step(INormalizer<T> normalizer, int step)
            {
                var input = new PlacedTensor<T>(shape, layout, TestData.Activations(step, shape));
                var upstream = new PlacedTensor<T>(shape, layout, TestData.Normal(step + 9, shape.Count));
                var output = new PlacedTensor<T>(shape, layout);
                var gradient = new PlacedTensor<T>(shape, layout);
                normalizer.Forward(input.ReadOnly, output.Span);
                normalizer.Backward(input.ReadOnly, upstream.ReadOnly, gradient.Span);
                return (output.Read(), gradient.Read());
            }
        }
    }

    [TestMethod]
    public void Forward_NoLimitReached_IsInferenceWithTheStatisticsBeforeTheBatch()
    {
        var shape = new ActivationShape(5, 4, 7);
        INormalizer<double> normalizer = Warm<double>(shape, Unlimited);
        double[] x = TestData.Activations(9, shape);
        normalizer.Training = false;
        double[] expected = Runs.Forward(normalizer, shape, x);
        normalizer.Training = true;
        NumericAssert.NearLargest<double>(expected, Runs.Forward(normalizer, shape, x), 1e-13, "training");

        // The update came after: the next training batch is of other statistics.
        NumericAssert.Differs<double>(expected, Runs.Forward(normalizer, shape, x), 1e-4, "training again");
    }

    [TestMethod]
    public void Backward_NoLimitReached_IsBatchNormsGradientScaledByTheRunningDeviation()
    {
        var shape = new ActivationShape(5, 4, 7);
        StrategySettings settings = Unlimited with { Weight = false, Bias = false };
        INormalizer<double> normalizer = Warm<double>(shape, settings);
        double[] running = (double[])Runs.Buffer(normalizer, "running_sigma").Clone();
        double[] x = TestData.Activations(9, shape);
        double[] dy = TestData.Normal(8, shape.Count);
        double[] gradient = Runs.Once(normalizer, shape, x, dy).InputGradient;
        double[] batch = Runs.Once("batch-norm", shape, settings, x, dy).InputGradient;
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / 7 % 4;
            int[] members = [.. Enumerable.Range(0, x.Length).Where(j => j / 7 % 4 == c)];
            double mean = members.Average(j => x[j]);
            double deviation = Math.Sqrt(members.Average(j => (x[j] - mean) * (x[j] - mean)) + 1e-5);
            NumericAssert.Near(batch[i] * deviation / running[c], gradient[i], 1, 1e-12, $"[{i}]");
        }
    }

    [TestMethod]
    public void Forward_LimitsReached_ClipsRAndD()
    {
        // Two values, -1 and 1 about a mean: z = -+1 / sqrt(1 + epsilon), and both corrections are clipped.
        var shape = new ActivationShape(2, 2);
        StrategySettings settings = Plain with { RMax = 2, DMax = 0.5, Epsilon = 1e-12 };
        INormalizer<double> normalizer = Runs.Create<double>(Id, shape, settings);
        new[] { 10.0, 0.1 }.CopyTo(Runs.Buffer(normalizer, "running_sigma"), 0);
        new[] { 50.0, -50.0 }.CopyTo(Runs.Buffer(normalizer, "running_mean"), 0);
        normalizer.OnStateChanged();
        double[] y = Runs.Forward(normalizer, shape, [-1, -1, 1, 1]);
        NumericAssert.NearLargest<double>([-1 / 2.0 - 0.5, -2 + 0.5, (1 / 2.0) - 0.5, 2 + 0.5], y, 1e-11, "y");
    }

    [TestMethod]
    public void RunningSigma_AfterAStepOfMomentumOne_IsTheDeviationWithEpsilon()
    {
        var shape = new ActivationShape(5, 3, 7);
        double[] x = TestData.Activations(1, shape);
        INormalizer<double> normalizer = Runs.Create<double>(Id, shape, Plain with { Momentum = 1, Epsilon = 0.25, Weight = false, Bias = false });
        Runs.Forward(normalizer, shape, x);
        normalizer.Training = false;
        double[] y = Runs.Forward(normalizer, shape, x);
        double[] batch = Runs.Forward(Runs.Create<double>("batch-norm", shape, Plain with { Epsilon = 0.25, Weight = false, Bias = false }), shape, x);
        NumericAssert.NearLargest<double>(batch, y, 1e-13, "inference of the batch's own statistics is batch normalization");
    }

    [TestMethod]
    [DataRow(0L, 1.0, 0.0)]
    [DataRow(4_999L, 1.0, 0.0)]
    [DataRow(5_000L, 1.0, 0.0)]
    [DataRow(15_000L, 1 + (2 * 10_000.0 / 35_000), 2.5)]
    [DataRow(25_000L, 1 + (2 * 20_000.0 / 35_000), 5.0)]
    [DataRow(40_000L, 3.0, 5.0)]
    [DataRow(1_000_000L, 3.0, 5.0)]
    public void Limits_PapersSchedule_GrowInStraightLines(long step, double r, double d)
    {
        var layer = new BatchRenorm<float>(3, new BatchRenormOptions { Schedule = BatchRenormSchedule.Paper });
        layer.Buffers.Single(b => b.IsCounter).Count = step;
        NumericAssert.Near(r, layer.Limits.R, 1, 1e-12, "r");
        NumericAssert.Near(d, layer.Limits.D, 1, 1e-12, "d");
    }

    [TestMethod]
    public void Forward_Schedule_IsBatchNormFirstAndFollowsTheCounter()
    {
        var shape = new ActivationShape(6, 4, 5);
        var schedule = new BatchRenormSchedule { PlainSteps = 2, RSteps = 4, DSteps = 3 };
        var layer = new BatchRenorm<double>(4, new BatchRenormOptions { Schedule = schedule, DMax = 2 });
        var batch = new BatchNorm<double>(4);
        (double, double)[] limits = [(1, 0), (1, 0), (1, 0), (2, 2), (3, 2), (3, 2)];
        for (int step = 0; step < limits.Length; step++)
        {
            Assert.AreEqual(limits[step], layer.Limits, $"step {step}");
            double[] x = TestData.Activations(step, shape);
            double[] y = Runs.Forward(layer, shape, x);
            double[] plain = Runs.Forward(batch, shape, x);
            if (step < 3)
            {
                NumericAssert.SameBits<double>(plain, y, $"step {step}");
            }
            else
            {
                NumericAssert.Differs<double>(plain, y, 1e-2, $"step {step}");
            }
        }

        layer.ResetStatistics();
        Assert.AreEqual((1.0, 0.0), layer.Limits);
    }

    [TestMethod]
    public void Limits_NoLimitAtTheEndOfASchedule_StartAtOneAndZero()
    {
        var options = new BatchRenormOptions
        {
            RMax = double.PositiveInfinity,
            DMax = double.PositiveInfinity,
            Schedule = new BatchRenormSchedule { PlainSteps = 1, RSteps = 2, DSteps = 2 },
        };
        var layer = new BatchRenorm<double>(2, options);
        Assert.AreEqual((1.0, 0.0), layer.Limits);
        layer.Buffers.Single(b => b.IsCounter).Count = 2;
        Assert.AreEqual((double.PositiveInfinity, double.PositiveInfinity), layer.Limits);
        NumericAssert.NearLargest<double>([1, 2, 3, 4], Runs.Forward(layer, new ActivationShape(2, 2), [1, 2, 3, 4]), 1e-12, "towards mean 0 and deviation 1");
    }

    [TestMethod]
    [DataRow("r-max", 0.9)]
    [DataRow("r-max", double.NaN)]
    [DataRow("d-max", -0.1)]
    [DataRow("d-max", double.NaN)]
    [DataRow("Momentum", 1.5)]
    public void Create_OptionOutOfRange_ThrowsNamingTheValue(string option, double value)
    {
        StrategySettings settings = option switch
        {
            "r-max" => Plain with { RMax = value },
            "d-max" => Plain with { DMax = value },
            _ => Plain with { Momentum = value },
        };
        var exception = Assert.Throws<ArgumentException>(() => StrategyCatalog.Create<float>(Id, new ActivationShape(5, 6), settings));
        Assert.Contains(option, exception.Message);
        Assert.Contains(value.ToString(System.Globalization.CultureInfo.InvariantCulture), exception.Message);
    }

    [TestMethod]
    public void Create_WithoutRunningStatisticsOrWithABackwardSchedule_Throws()
    {
        var exception = Assert.Throws<ArgumentException>(
            () => StrategyCatalog.Create<float>(Id, new ActivationShape(5, 6), Plain with { RunningStatistics = false }));
        Assert.Contains("running statistics", exception.Message);
        var schedule = new BatchRenormSchedule { PlainSteps = 10, RSteps = 9, DSteps = 20 };
        exception = Assert.Throws<ArgumentException>(() => new BatchRenorm<float>(3, new BatchRenormOptions { Schedule = schedule }));
        Assert.Contains("10", exception.Message);
    }

    [TestMethod]
    public void Forward_OneValue_FollowsThePolicy()
    {
        var shape = new ActivationShape(1, 3);
        INormalizer<double> strict = Runs.Create<double>(Id, shape, Plain);
        Assert.Contains("more than 1 value", Assert.Throws<InvalidOperationException>(() => Runs.Forward(strict, shape, [1, 2, 3])).Message);

        INormalizer<double> bias = Runs.Create<double>(Id, shape, Plain with { SingleValue = SingleValuePolicy.BiasOnly }, 1);
        Pass<double> pass = Runs.Once(bias, shape, [1, 2, 3], [1, 1, 1]);
        NumericAssert.SameBits<double>(bias.Parameters.Single(p => p.Name == "bias").Values, pass.Output, "output");
        Assert.IsTrue(pass.InputGradient.All(value => value == 0));
        Assert.IsTrue(pass.WeightGradient.All(value => value == 0));

        INormalizer<double> running = Runs.Create<double>(Id, shape, Plain with { SingleValue = SingleValuePolicy.UseRunning });
        Runs.Buffer(running, "running_sigma")[1] = 4;
        running.OnStateChanged();
        NumericAssert.NearLargest<double>([1, 0.5, 3], Runs.Forward(running, shape, [1, 2, 3]), 1e-13, "running");
        Assert.AreEqual(0, running.Buffers.Single(b => b.IsCounter).Count);
    }

    [TestMethod]
    public void Forward_NotFiniteUnderThrow_ThrowsAndChangesNothing()
    {
        var shape = new ActivationShape(5, 3);
        INormalizer<float> normalizer = Runs.Create<float>(Id, shape, Plain with { NonFinite = NonFinitePolicy.Throw });
        var before = Runs.State(normalizer);
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        x[4] = float.NaN;
        Assert.Throws<InvalidOperationException>(() => Runs.Forward(normalizer, shape, x));
        Runs.AssertState(before, normalizer, "state");
    }

    [TestMethod]
    public void Freeze_InTraining_NormalizesByTheRunningStatistics()
    {
        var shape = new ActivationShape(5, 4, 7);
        INormalizer<double> normalizer = Warm<double>(shape, Plain);
        double[] x = TestData.Activations(9, shape);
        double[] dy = TestData.Normal(8, shape.Count);
        normalizer.Training = false;
        Pass<double> inference = Runs.Once(normalizer, shape, x, dy);
        var state = Runs.State(normalizer);
        normalizer.Training = true;
        normalizer.Freeze();
        Runs.AssertSame(inference, Runs.Once(normalizer, shape, x, dy), "frozen");
        Runs.AssertState(state, normalizer, "frozen");
    }

    [TestMethod]
    public void LoadState_NegativeSigma_IsRefused()
    {
        var layer = new BatchRenorm<float>(2);
        StateDictionary state = layer.GetState();
        var broken = new StateDictionary();
        foreach ((string name, StateTensor tensor) in state)
        {
            broken.Add(name, name == "running_sigma" ? StateTensor.Create<float>([1, -1], 2) : tensor);
        }

        Assert.Contains("deviation", Assert.Throws<ArgumentException>(() => layer.LoadState(broken)).Message);
    }

    private static INormalizer<T> Warm<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        INormalizer<T> normalizer = Runs.Create<T>(Id, shape, settings, 1);
        for (int step = 0; step < 4; step++)
        {
            Runs.Forward(normalizer, shape, TestData.As<T>(TestData.Activations(step + 20, shape)));
        }

        return normalizer;
    }

    [TestMethod]
    public void HoldConstants_BeforeAnyForward_IsRefused()
    {
        var shape = new ActivationShape(5, 3);
        INormalizer<double> normalizer = Runs.Create<double>(Id, shape, Plain);
        normalizer.HoldConstants = true;
        Assert.Contains("Run one Forward", Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(normalizer, shape, TestData.Activations(1, shape))).Message);
    }

    [TestMethod]
    public void Forward_EpsilonZeroAndRunningDeviationZero_IsRefused()
    {
        var shape = new ActivationShape(5, 3);
        INormalizer<double> normalizer = Runs.Create<double>(Id, shape, Plain with { Epsilon = 0, RMax = 3, DMax = 5 });
        Runs.Buffer(normalizer, "running_sigma")[1] = 0;
        normalizer.OnStateChanged();
        Assert.Contains("channel 1", Assert.ThrowsExactly<DivideByZeroException>(() => Runs.Forward(normalizer, shape, TestData.Activations(1, shape))).Message);
    }
}
