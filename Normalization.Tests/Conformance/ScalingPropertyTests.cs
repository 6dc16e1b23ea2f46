using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Identities, equivalences and errors of the strategies that divide without subtracting a mean: RMS, filter response, local response.</summary>
[TestClass]
public sealed class ScalingPropertyTests
{
    private const string RmsNorm = "rms-norm";
    private const string FilterResponse = "filter-response-norm";
    private const string LocalResponse = "local-response-norm";

    private static readonly StrategySettings Bare = new() { Weight = false, Bias = false };

    // ---------------------------------------------------------------- rms-norm

    [TestMethod]
    public void RmsNorm_CenteredInput_IsLayerNorm()
    {
        var shape = new ActivationShape(3, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] centered = [.. x.Chunk(20).SelectMany(sample => sample.Select(value => value - sample.Average()))];
        NumericAssert.NearLargest<double>(
            Runs.Forward(Runs.Create<double>(TestData.LayerNorm, shape, Bare), shape, x),
            Runs.Forward(Runs.Create<double>(RmsNorm, shape, Bare), shape, centered), 1e-12, "RMS(x - mean x), LN(x)");
    }

    [TestMethod]
    [DataRow(0.0)]
    [DataRow(0.3)]
    public void RmsNorm_InputGradientAlongTheInput_IsEpsilonsShare(double epsilon)
    {
        var shape = new ActivationShape(4, 3, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        INormalizer<double> normalizer = Runs.Create<double>(RmsNorm, shape, Bare with { Weight = true, Epsilon = epsilon }, 3);
        Pass<double> pass = Runs.Once(normalizer, shape, x, dy);
        double[] weight = normalizer.Parameters[0].Values;
        for (int sample = 0; sample < 4; sample++)
        {
            int[] members = [.. Enumerable.Range(15 * sample, 15)];
            double square = 1 / (members.Average(i => x[i] * x[i]) + epsilon);
            double along = members.Sum(i => dy[i] * weight[i % 15] * x[i] * Math.Sqrt(square));
            NumericAssert.Near(epsilon * square * along, members.Sum(i => pass.InputGradient[i] * x[i]), 1, 1e-11, $"sample {sample}");
        }
    }

    [TestMethod]
    public void RmsNorm_ReflectedChannels_ReflectsOutputAndGradient()
    {
        var shape = new ActivationShape(5, 7);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        double[] axis = TestData.Normal(3, 7);
        Pass<double> plain = Runs.Once(RmsNorm, shape, Bare, x, dy);
        Pass<double> reflected = Runs.Once(RmsNorm, shape, Bare, Reflected(x), Reflected(dy));
        NumericAssert.NearLargest<double>(Reflected(plain.Output), reflected.Output, 1e-12, "output");
        NumericAssert.NearLargest<double>(Reflected(plain.InputGradient), reflected.InputGradient, 1e-12, "input gradient");

        // x - 2 <x, a> a / <a, a>: orthogonal, and mixes all channels.
        double[] Reflected(double[] values) => [.. values.Chunk(7).SelectMany(sample =>
        {
            double along = sample.Zip(axis, (value, a) => value * a).Sum() / axis.Sum(a => a * a);
            return sample.Zip(axis, (value, a) => value - (2 * along * a));
        })];
    }

    [TestMethod]
    public void RmsNorm_EpsilonOutside_ScalesWithTheInput()
    {
        var shape = new ActivationShape(4, 6);
        double[] x = TestData.Activations(1, shape);
        StrategySettings outside = Bare with { EpsilonPlacement = EpsilonPlacement.Outside, Epsilon = 0.1 };
        double[] y = Runs.Forward(Runs.Create<double>(RmsNorm, shape, outside), shape, x);
        double[] z = Runs.Forward(Runs.Create<double>(RmsNorm, shape, outside with { Epsilon = 0.5 }), shape, Array.ConvertAll(x, value => 5 * value));
        NumericAssert.NearLargest<double>(y, z, 1e-13, "5 x, 5 epsilon");
        Assert.IsFalse(StrategyCatalog.Create<double>(RmsNorm, shape, outside).Claims.HasFlag(NormalizerClaims.ScaleInvariance), "not with 25 epsilon");
    }

    [TestMethod]
    public void RmsNorm_EpsilonOutsideAndNoSignal_HasZeroOutputAndAFiniteGradient()
    {
        var shape = new ActivationShape(2, 3);
        StrategySettings outside = Bare with { EpsilonPlacement = EpsilonPlacement.Outside, Epsilon = 0.5 };
        Pass<double> pass = Runs.Once(RmsNorm, shape, outside, new double[6], [1, 2, 3, 4, 5, 6]);
        CollectionAssert.AreEqual(new double[6], pass.Output);
        CollectionAssert.AreEqual(new double[] { 2, 4, 6, 8, 10, 12 }, pass.InputGradient);
    }

    [TestMethod]
    public void RmsNorm_Partial_CountsTheFirstElementsOnly()
    {
        var shape = new ActivationShape(1, 5, 2);
        double[] x = [3, 4, 0, 0, 7, 7, 7, 7, 7, 7];
        foreach ((double partial, int counted) in new[] { (0.01, 1), (0.29, 2), (0.4, 4), (1.0, 10) })
        {
            double root = Math.Sqrt(x.Take(counted).Sum(value => value * value) / counted);
            double[] y = Runs.Forward(Runs.Create<double>(RmsNorm, shape, Bare with { Partial = partial, Epsilon = 0 }), shape, x);
            NumericAssert.NearLargest<double>(Array.ConvertAll(x, value => value / root), y, 1e-14, $"P = {partial}");
        }
    }

    [TestMethod]
    [DataRow(1.0)]
    [DataRow(0.6)]
    public void RmsNorm_OverChannels_IsThatOfPositionsAsSamples(double partial)
    {
        var shape = new ActivationShape(3, 5, 2, 4);
        var rows = new ActivationShape(24, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        Pass<double> expected = Runs.Once(RmsNorm, rows, new StrategySettings { Partial = partial }, ByPosition(x), ByPosition(dy), 4);
        foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
        {
            RmsNorm<double> normalizer = RmsNorm<double>.OverChannels(5, new RmsNormOptions { Partial = partial });
            expected.Normalizer.Parameters[0].Values.CopyTo(normalizer.Parameters[0].Values, 0);
            var input = new PlacedTensor<double>(shape, layout, x);
            var output = new PlacedTensor<double>(shape, layout);
            var inputGradient = new PlacedTensor<double>(shape, layout);
            normalizer.Forward(input.ReadOnly, output.Span);
            normalizer.Backward(input.ReadOnly, new PlacedTensor<double>(shape, layout, dy).ReadOnly, inputGradient.Span);
            NumericAssert.NearLargest<double>(expected.Output, ByPosition(output.Read()), 1e-13, $"{layout}: output");
            NumericAssert.NearLargest<double>(expected.InputGradient, ByPosition(inputGradient.Read()), 1e-13, $"{layout}: input gradient");
            NumericAssert.NearLargest<double>(expected.WeightGradient, normalizer.Parameters[0].Gradient, 1e-13, $"{layout}: weight gradient");
        }

        static double[] ByPosition(double[] values) =>
            [.. Enumerable.Range(0, values.Length).Select(i => values[(((i / 5 / 8 * 5) + (i % 5)) * 8) + (i / 5 % 8)])];
    }

    [TestMethod]
    [DataRow(0.0)]
    [DataRow(-0.5)]
    [DataRow(1.5)]
    [DataRow(double.NaN)]
    public void RmsNorm_PartialOutOfRange_ThrowsNamingTheValue(double partial)
    {
        var exception = Assert.Throws<ArgumentException>(() => StrategyCatalog.Create<float>(RmsNorm, new ActivationShape(2, 3), Bare with { Partial = partial }));
        StringAssert.Contains(exception.Message, partial.ToString(System.Globalization.CultureInfo.InvariantCulture));
    }

    [TestMethod]
    [DataRow(RmsNorm)]
    [DataRow(FilterResponse)]
    public void Forward_AllZeroWithoutEpsilon_ThrowsAndWithItGivesZero(string id)
    {
        var shape = new ActivationShape(2, 3, 4);
        var exception = Assert.Throws<DivideByZeroException>(() => Runs.Forward(Runs.Create<float>(id, shape, Bare with { Epsilon = 0 }), shape, new float[24]));
        StringAssert.Contains(exception.Message, "mean square");
        CollectionAssert.AreEqual(new float[24], Runs.Forward(Runs.Create<float>(id, shape, Bare), shape, new float[24]));
    }

    // ---------------------------------------------------------------- widths

    // Wider than the tiles of columns that sums, results and windows are worked on in.
    [TestMethod]
    [DataRow(RmsNorm)]
    [DataRow(FilterResponse)]
    [DataRow(LocalResponse)]
    public void ForwardBackward_ThousandsOfChannels_MatchOracle(string id)
    {
        foreach (ActivationShape shape in new ActivationShape[] { new(2, 1301, 3), new(3, 4211, 2), new(1, 9001) })
        {
            foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
            {
                new Subject<float>(id, shape, new() { Alpha = 2, Partial = 0.5 }, 3).In(layout)
                    .Check(shape, TestData.Activations(4, shape), TestData.Normal(5, shape.Count), "wide");
            }
        }
    }

    // ---------------------------------------------------------------- one value

    [TestMethod]
    [DataRow(RmsNorm, 1)]
    [DataRow(FilterResponse, null)]
    public void Forward_OneValueInASet_LeavesItsSignAndWarnsOnce(string id, int? dimensions)
    {
        ActivationShape shape = id == RmsNorm ? new(2, 3, 1) : new(2, 3);
        double[] x = [3, -2, 0.5, -7, 1, 4];
        StrategySettings settings = Bare with { NormalizedDimensions = dimensions, Threshold = false, Epsilon = 0.25 };
        Normalizer<double> normalizer = Runs.CreateBase<double>(id, shape, settings);
        var messages = new List<string>();
        normalizer.WarningRaised = (_, message) => messages.Add(message);
        double[] y = Runs.Forward(normalizer, shape, x);
        Runs.Forward(normalizer, shape, x);
        NumericAssert.NearLargest<double>(Array.ConvertAll(x, value => value / Math.Sqrt((value * value) + 0.25)), y, 1e-15, "output");
        Assert.HasCount(1, messages);
        Assert.AreEqual(NormalizerWarnings.SignOnly, normalizer.Warnings);
    }

    [TestMethod]
    public void FilterResponseNorm_OneValueAndLearnedEpsilon_DoesNotWarn()
    {
        var shape = new ActivationShape(2, 3);
        Normalizer<double> normalizer = Runs.CreateBase<double>(FilterResponse, shape, Bare with { LearnedEpsilon = true });
        Runs.Forward(normalizer, shape, TestData.Normal(1, 6));
        Assert.AreEqual(NormalizerWarnings.None, normalizer.Warnings);
    }

    // ---------------------------------------------------------------- filter-response-norm

    [TestMethod]
    public void FilterResponseNorm_WithoutThreshold_IsRmsNormOverThePositions()
    {
        var shape = new ActivationShape(3, 4, 2, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        Runs.AssertNear(
            Runs.Once(RmsNorm, shape, Bare with { NormalizedDimensions = 2 }, x, dy),
            Runs.Once(FilterResponse, shape, Bare with { Threshold = false }, x, dy), 1e-13, "FRN, RMS over positions");
    }

    [TestMethod]
    public void FilterResponseNorm_Threshold_IsTheLeastOutputAndTakesTheStoppedGradient()
    {
        var shape = new ActivationShape(3, 4, 50);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        Pass<double> pass = Runs.Once(FilterResponse, shape, new StrategySettings(), x, dy, 3);
        double[] tau = pass.Normalizer.Parameters.Single(p => p.Name == "tau").Values;
        var all = new double[4];
        for (int i = 0; i < x.Length; i++)
        {
            Assert.IsGreaterThanOrEqualTo(tau[i / 50 % 4], pass.Output[i]);
            all[i / 50 % 4] += dy[i];
        }

        // What bias does not hear tau does.
        NumericAssert.NearLargest<double>(all, [.. pass.BiasGradient.Zip(pass.Gradients["tau"], (passed, stopped) => passed + stopped)], 1e-12, "bias + tau");
        Assert.IsTrue(pass.Gradients["tau"].All(value => value != 0));
    }

    [TestMethod]
    public void FilterResponseNorm_Tie_GivesTheGradientToTau()
    {
        var shape = new ActivationShape(1, 1, 4);
        Pass<double> pass = Runs.Once(FilterResponse, shape, new StrategySettings(), [0, 0, 0, 0], [1, 2, 3, 4]);
        CollectionAssert.AreEqual(new double[4], pass.InputGradient);
        CollectionAssert.AreEqual(new double[] { 10 }, pass.Gradients["tau"]);
        CollectionAssert.AreEqual(new double[] { 0 }, pass.BiasGradient);
    }

    [TestMethod]
    public void FilterResponseNorm_LearnedEpsilon_CountsByItsSizeAndLearnsBySign()
    {
        var shape = new ActivationShape(2, 3, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings learned = new() { LearnedEpsilon = true };
        Pass<double> positive = With(0.3);
        Pass<double> negative = With(-0.3);
        NumericAssert.SameBits<double>(positive.Output, negative.Output, "output");
        Assert.AreEqual(positive.Gradients["eps"][0], -negative.Gradients["eps"][0]);
        Assert.AreNotEqual(0, positive.Gradients["eps"][0]);
        Assert.AreEqual(0, With(0).Gradients["eps"][0]);
        Pass<double> fixedEpsilon = Runs.Once(FilterResponse, shape, new StrategySettings { Epsilon = learned.Epsilon + 0.3 }, x, dy);
        NumericAssert.NearLargest<double>(fixedEpsilon.Output, positive.Output, 1e-14, "epsilon + |eps|");

        Pass<double> With(double value)
        {
            INormalizer<double> normalizer = Runs.Create<double>(FilterResponse, shape, learned);
            normalizer.Parameters.Single(p => p.Name == "eps").Values[0] = value;
            return Runs.Once(normalizer, shape, x, dy);
        }
    }

    // ---------------------------------------------------------------- local-response-norm

    [TestMethod]
    [DataRow(3, true)]
    [DataRow(5, true)]
    [DataRow(2, false)]
    [DataRow(6, false)]
    public void LocalResponseNorm_TheTwoWindows_AgreeForOddSizesAndMirrorForEven(int size, bool agree)
    {
        var shape = new ActivationShape(2, 9, 3);
        double[] x = TestData.Activations(1, shape);
        StrategySettings settings = new() { WindowSize = size, Alpha = 1 };
        double[] pytorch = Forward(ResponseWindowKind.Pytorch, x);
        double[] onnx = Forward(ResponseWindowKind.Onnx, x);
        if (agree)
        {
            NumericAssert.SameBits<double>(pytorch, onnx, "odd");
            return;
        }

        NumericAssert.Differs<double>(pytorch, onnx, 1e-3, "even");
        int[] reversed = [8, 7, 6, 5, 4, 3, 2, 1, 0];
        NumericAssert.NearLargest<double>(
            pytorch, Runs.Channels(shape, Forward(ResponseWindowKind.Onnx, Runs.Channels(shape, x, reversed)), reversed), 1e-14, "mirrored");

        double[] Forward(ResponseWindowKind window, double[] values) =>
            Runs.Forward(Runs.Create<double>(LocalResponse, shape, settings with { Window = window }), shape, values);
    }

    [TestMethod]
    public void LocalResponseNorm_BothMemoryOrders_GiveTheSameBits()
    {
        var shape = new ActivationShape(3, 21, 7, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        (float[] output, float[] gradient) = Execute(Layout.ChannelsFirst);
        (float[] other, float[] otherGradient) = Execute(Layout.ChannelsLast);
        NumericAssert.SameBits<float>(output, other, "output");
        NumericAssert.SameBits<float>(gradient, otherGradient, "input gradient");

        (float[] Output, float[] Gradient) Execute(Layout layout)
        {
            INormalizer<float> normalizer = Runs.Create<float>(LocalResponse, shape, new StrategySettings { Alpha = 2 });
            var input = new PlacedTensor<float>(shape, layout, x);
            var result = new PlacedTensor<float>(shape, layout);
            var inputGradient = new PlacedTensor<float>(shape, layout);
            normalizer.Forward(input.ReadOnly, result.Span);
            normalizer.Backward(input.ReadOnly, new PlacedTensor<float>(shape, layout, dy).ReadOnly, inputGradient.Span);
            return (result.Read(), inputGradient.Read());
        }
    }

    [TestMethod]
    [DataRow(0.0)]
    [DataRow(0.25)]
    [DataRow(0.5)]
    [DataRow(0.75)]
    [DataRow(1.0)]
    [DataRow(1.5)]
    [DataRow(1.75)]
    public void LocalResponseNorm_QuarterPowers_AreThoseOfTheLogarithm(double beta)
    {
        var shape = new ActivationShape(2, 9, 3);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = new() { Alpha = 3, Beta = beta };
        Runs.AssertNear(
            Runs.Once(LocalResponse, shape, settings with { Beta = beta + 1e-14 }, x, dy), Runs.Once(LocalResponse, shape, settings, x, dy), 1e-12, "beta");
    }

    [TestMethod]
    public void LocalResponseNorm_OutlierThatLeftTheWindow_LeavesNoTrace()
    {
        var shape = new ActivationShape(1, 12, 4);
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        StrategySettings settings = new() { WindowSize = 3, Alpha = 1 };
        float[] y = Runs.Forward(Runs.Create<float>(LocalResponse, shape, settings), shape, x);
        x[5 * 4] = 1e9f;
        float[] z = Runs.Forward(Runs.Create<float>(LocalResponse, shape, settings), shape, x);
        for (int i = 0; i < y.Length; i++)
        {
            if (Math.Abs((i / 4) - 5) > 1)
            {
                NumericAssert.Near(y[i], z[i], Math.Abs(y[i]), 5e-7, $"[{i}]");
            }
        }
    }

    [TestMethod]
    [DataRow("size", 0.0)]
    [DataRow("size", -3.0)]
    [DataRow("alpha", -1.0)]
    [DataRow("alpha", double.NaN)]
    [DataRow("beta", -0.5)]
    [DataRow("beta", double.PositiveInfinity)]
    [DataRow("k", 0.0)]
    [DataRow("k", double.NaN)]
    public void LocalResponseNorm_OptionOutOfRange_ThrowsNamingIt(string option, double value)
    {
        StrategySettings settings = option switch
        {
            "size" => Bare with { WindowSize = (int)value },
            "alpha" => Bare with { Alpha = value },
            "beta" => Bare with { Beta = value },
            _ => Bare with { K = value },
        };
        var exception = Assert.Throws<ArgumentException>(() => StrategyCatalog.Create<float>(LocalResponse, new ActivationShape(2, 3), settings));
        StringAssert.Contains(exception.Message, option, StringComparison.OrdinalIgnoreCase);
        StringAssert.Contains(exception.Message, value.ToString(System.Globalization.CultureInfo.InvariantCulture));
    }
}
