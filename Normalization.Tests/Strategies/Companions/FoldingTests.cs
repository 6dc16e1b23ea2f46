using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Strategies.Companions;
using Normalization.Tests.Comparison;
using Normalization.Tests.Golden;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies.Companions;

/// <summary>P13: a folded layer against the two layers it replaces, in inference.</summary>
[TestClass]
public sealed class FoldingTests
{
    private const int Samples = 3;
    private const int Channels = 6;
    private const int Height = 5;
    private const int Width = 4;

    // Normalizers of six channels whose inference is one map.
    private static readonly string[] Foldable =
    [
        "batch", "batch-no-affine", "ghost", "sync", "instance", "renorm", "adaptive", "adaptive-domain",
        "zca", "zca-groups", "zca-matrix", "zca-bias-only", "pca", "cholesky", "iter-norm",
    ];

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void IntoPreceding_Linear_EqualsBoth(string name)
    {
        CheckPreceding<double>(name, [Channels, 7], groups: 1, bias: true, kernel: (1, 1));
        CheckPreceding<float>(name, [Channels, 7], groups: 1, bias: false, kernel: (1, 1));
    }

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void IntoPreceding_ZeroPaddedConvolution_EqualsBoth(string name)
    {
        CheckPreceding<double>(name, [Channels, 4, 3, 2], groups: 1, bias: true, kernel: (3, 2));
        CheckPreceding<float>(name, [Channels, 4, 3, 2], groups: 1, bias: false, kernel: (3, 2));
    }

    [TestMethod]
    [DataRow("batch", 6)]
    [DataRow("batch", 2)]
    [DataRow("zca-groups", 2)]
    public void IntoPreceding_GroupedConvolution_EqualsBoth(string name, int groups)
    {
        CheckPreceding<double>(name, [Channels, 2, 3, 3], groups, bias: true, kernel: (3, 3));
        CheckPreceding<float>(name, [Channels, 2, 3, 3], groups, bias: true, kernel: (3, 3));
    }

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void IntoFollowing_Linear_EqualsBoth(string name)
    {
        CheckFollowing<double>(name, [7, Channels], groups: 1, kernel: (1, 1), ConvolutionPadding.None, bias: true);
        CheckFollowing<float>(name, [7, Channels], groups: 1, kernel: (1, 1), ConvolutionPadding.None, bias: false);
    }

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void IntoFollowing_ConvolutionWithoutZeros_EqualsBoth(string name)
    {
        foreach (ConvolutionPadding padding in new[] { ConvolutionPadding.None, ConvolutionPadding.Values })
        {
            CheckFollowing<double>(name, [4, Channels, 3, 2], groups: 1, kernel: (3, 2), padding, bias: true);
            CheckFollowing<float>(name, [4, Channels, 3, 2], groups: 1, kernel: (3, 2), padding, bias: false);
        }
    }

    [TestMethod]
    [DataRow("batch", 6)]
    [DataRow("zca-groups", 2)]
    public void IntoFollowing_GroupedConvolution_EqualsBoth(string name, int groups) =>
        CheckFollowing<double>(name, [Channels, Channels / groups, 3, 2], groups, kernel: (3, 2), ConvolutionPadding.None, bias: true);

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void IntoFollowingZeroPadded_PaddedWithItsValues_EqualsBoth(string name)
    {
        CheckFollowing<double>(name, [4, Channels, 3, 3], groups: 1, kernel: (3, 3), ConvolutionPadding.Zeros, bias: true);
        CheckFollowing<float>(name, [4, Channels, 3, 3], groups: 1, kernel: (3, 3), ConvolutionPadding.Zeros, bias: true);
    }

    [TestMethod]
    public void IntoPreceding_GoldenCases_IsTorchsOwnFolding()
    {
        foreach (FoldingGolden golden in CompanionGolden<FoldingGolden>.Of("folding").Cases)
        {
            CheckGolden<double>(golden, 1e-14);
            CheckGolden<float>(golden, 1.2e-7);
        }
    }

    [TestMethod]
    public void IntoFollowing_FlattenedActivations_IsAConvolutionOfTheirSize()
    {
        Normalizer<double> normalizer = Trained<double>("batch");
        var layer = new LinearWeights<double>(TestData.Normal(3, 7 * Channels * Height * Width), [7, Channels, Height, Width]);
        double[] x = Input();

        double[] expected = Convolve(Normalize(normalizer, x), layer, pad: (0, 0), _ => 0);
        double[] actual = Convolve(x, Folding.IntoFollowing(normalizer, layer, ConvolutionPadding.None), pad: (0, 0), _ => 0);

        NumericAssert.NearLargest<double>(expected, actual, 1e-12, "output");
    }

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void ToLayer_AnyMap_EqualsTheNormalizer(string name)
    {
        Normalizer<double> normalizer = Trained<double>(name);
        double[] x = Input();

        NumericAssert.NearLargest<double>(Normalize(normalizer, x), Convolve(x, Folding.ToLayer<double>(normalizer), pad: (0, 0), _ => 0), 1e-12, name);
    }

    [TestMethod]
    public void IntoPreceding_GivenArrays_AreNotTouched()
    {
        double[] weight = TestData.Normal(1, Channels * 4);
        double[] bias = TestData.Normal(2, Channels);
        double[] before = [.. weight, .. bias];

        LinearWeights<double> folded = Folding.IntoPreceding(new LinearWeights<double>(weight, [Channels, 4], bias), Trained<double>("zca"));

        CollectionAssert.AreEqual(before, weight.Concat(bias).ToArray());
        Assert.AreNotSame(weight, folded.Weight);
    }

    [TestMethod]
    public void IntoPreceding_FrozenInTraining_EqualsInference()
    {
        var layer = new LinearWeights<double>(TestData.Normal(1, Channels * 4), [Channels, 4]);
        foreach (string name in new[] { "batch", "zca" })
        {
            Normalizer<double> normalizer = Trained<double>(name);
            double[] expected = Folding.IntoPreceding(layer, normalizer).Weight;
            normalizer.Training = true;
            normalizer.Freeze();
            CollectionAssert.AreEqual(expected, Folding.IntoPreceding(layer, normalizer).Weight, name);
        }
    }

    [TestMethod]
    public void IntoFollowing_ZeroPadded_IsRefusedAndWouldBeWrong()
    {
        Normalizer<double> normalizer = Trained<double>("batch");
        foreach (int kernel in new[] { 1, 3 })
        {
            var layer = new LinearWeights<double>(TestData.Normal(3, 4 * Channels * kernel * kernel), [4, Channels, kernel, kernel]);

            string message = Assert.ThrowsExactly<InvalidOperationException>(() => Folding.IntoFollowing(normalizer, layer, ConvolutionPadding.Zeros)).Message;

            StringAssert.Contains(message, "BatchNorm");
            StringAssert.Contains(message, "padded with zeros");
            StringAssert.Contains(message, "IntoFollowingZeroPadded");
            double[] x = Input();
            NumericAssert.Differs<double>(
                Convolve(Normalize(normalizer, x), layer, pad: (1, 1), _ => 0),
                Convolve(x, Folding.IntoFollowing(normalizer, layer, ConvolutionPadding.None), pad: (1, 1), _ => 0), 1e-2, "the border");
        }
    }

    [TestMethod]
    public void IntoFollowingZeroPadded_WeightZero_IsRefusedUnlessBiasIsToo()
    {
        Normalizer<double> normalizer = Trained<double>("batch");
        var layer = new LinearWeights<double>(TestData.Normal(3, 4 * Channels * 9), [4, Channels, 3, 3]);
        normalizer.Weight!.Values[2] = 0;

        string message = Assert.ThrowsExactly<InvalidOperationException>(() => Folding.IntoFollowingZeroPadded(normalizer, layer)).Message;
        StringAssert.Contains(message, "channel 2");

        normalizer.Bias!.Values[2] = 0;
        double[] x = Input();
        (LinearWeights<double> folded, double[] padding) = Folding.IntoFollowingZeroPadded(normalizer, layer);
        NumericAssert.NearLargest<double>(
            Convolve(Normalize(normalizer, x), layer, pad: (1, 1), _ => 0), Convolve(x, folded, pad: (1, 1), c => padding[c]), 1e-12, "output");
    }

    [TestMethod]
    public void IntoPreceding_StatisticsOfTheInput_IsRefusedWithTheReason()
    {
        var layer = new LinearWeights<double>(TestData.Normal(3, Channels * 4), [Channels, 4]);
        INormalizer<double>[] own =
        [
            new LayerNorm<double>([Channels]) { Training = false },
            new GroupNorm<double>(2, Channels) { Training = false },
            new InstanceNorm<double>(Channels) { Training = false },
            new RmsNorm<double>(Channels) { Training = false },
            new FilterResponseNorm<double>(Channels) { Training = false },
            new LocalResponseNorm<double> { Training = false },
            new SwitchableNorm<double>(Channels) { Training = false },
            new EvoNormB0<double>(Channels) { Training = false },
            new EvoNormB0<double>(Channels), // not to be folded in inference either
            new SwitchableNorm<double>(Channels),
            new EvoNormS0<double>(2, Channels) { Training = false },
            new BatchNorm<double>(Channels, new() { TrackRunningStatistics = false }) { Training = false },
            new BatchNorm<double>(Channels) { Training = false, StatisticsSource = StatisticsSource.Batch },
        ];
        foreach (INormalizer<double> normalizer in own)
        {
            StringAssert.Contains(
                Assert.ThrowsExactly<InvalidOperationException>(() => Folding.IntoPreceding(layer, normalizer)).Message, "statistics are those of the input");
        }

        foreach (INormalizer<double> training in new INormalizer<double>[] { new BatchNorm<double>(Channels), new ZcaWhitening<double>(Channels) })
        {
            StringAssert.Contains(
                Assert.ThrowsExactly<InvalidOperationException>(() => Folding.IntoPreceding(layer, training)).Message, "Set Training = false");
        }

        StringAssert.Contains(
            Assert.ThrowsExactly<InvalidOperationException>(() => Folding.IntoPreceding(layer, new PlainStandardizer<double>(new ActivationShape(4, Channels), 1e-5))).Message, "no layer of this library");
    }

    [TestMethod]
    public void IntoPreceding_WhiteningAcrossConvolutionGroups_IsRefused()
    {
        var preceding = new LinearWeights<double>(TestData.Normal(3, Channels * 2), [Channels, 2], groups: 2);
        var following = new LinearWeights<double>(TestData.Normal(3, 4 * 3), [4, 3], groups: 2);

        StringAssert.Contains(
            Assert.ThrowsExactly<InvalidOperationException>(() => Folding.IntoPreceding(preceding, Trained<double>("zca"))).Message,
            "mixes blocks of 6 channels, but the convolution of shape (6, 2) in 2 groups keeps groups of 3 output channels apart");
        StringAssert.Contains(
            Assert.ThrowsExactly<InvalidOperationException>(() => Folding.IntoFollowing(Trained<double>("zca"), following, ConvolutionPadding.None)).Message, "3 input channels");
    }

    [TestMethod]
    public void Folding_ChannelsDisagree_NamesBoth()
    {
        Normalizer<double> normalizer = Trained<double>("batch");
        var layer = new LinearWeights<double>(TestData.Normal(3, 24), [2, 12]);

        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => Folding.IntoPreceding(layer, normalizer)).Message, "has 2 output channels, but the BatchNorm after it normalizes 6");
        string message = Assert.ThrowsExactly<ArgumentException>(() => Folding.IntoFollowing(normalizer, layer, ConvolutionPadding.None)).Message;
        StringAssert.Contains(message, "has 12 input channels");
        StringAssert.Contains(message, "(out, C, H, W)");
    }

    [TestMethod]
    public void IntoPreceding_VarianceZeroAndEpsilonZero_NamesTheChannel()
    {
        var normalizer = new BatchNorm<double>(Channels, new() { Epsilon = 0 }) { Training = false };
        normalizer.Buffers[1].Values[4] = 0;

        StringAssert.Contains(
            Assert.ThrowsExactly<InvalidOperationException>(() => Folding.ToLayer<double>(normalizer)).Message, "channel 4");
    }

    [TestMethod]
    public void LinearWeights_LengthsDisagree_Throws()
    {
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new LinearWeights<float>(new float[5], [2, 3])).Message, "(2, 3) are 6 numbers; got 5");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new LinearWeights<float>(new float[6], [2, 3], new float[3])).Message, "2 output channels");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new LinearWeights<float>(new float[6], [2, 3], groups: 4)).Message, "2 and 4");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new LinearWeights<float>(new float[6], [6])).Message, "(out, in)");
    }

    public static IEnumerable<object[]> Names => Foldable.Select(name => (object[])[name]);

    private static void CheckGolden<T>(FoldingGolden golden, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var normalizer = new BatchNorm<T>(golden.Weight.Length, new() { Epsilon = golden.Epsilon }) { Training = false };
        TestData.As<T>(golden.Weight).CopyTo(normalizer.Weight!.Values, 0);
        TestData.As<T>(golden.Bias).CopyTo(normalizer.Bias!.Values, 0);
        TestData.As<T>(golden.RunningMean).CopyTo(normalizer.Buffers[0].Values, 0);
        TestData.As<T>(golden.RunningVar).CopyTo(normalizer.Buffers[1].Values, 0);
        T[]? bias = golden.LayerBias is null ? null : TestData.As<T>(golden.LayerBias);

        LinearWeights<T> folded = Folding.IntoPreceding(new LinearWeights<T>(TestData.As<T>(golden.LayerWeight), golden.Shape, bias, golden.Groups), normalizer);

        NumericAssert.NearLargest<T>(golden.FoldedWeight, folded.Weight, tolerance, $"{golden.Id}, weight");
        NumericAssert.NearLargest<T>(golden.FoldedBias, folded.Bias, tolerance, $"{golden.Id}, bias");
        CollectionAssert.AreEqual(golden.Shape, folded.Shape.ToArray());
    }

    private static void CheckPreceding<T>(string name, int[] shape, int groups, bool bias, (int, int) kernel)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Normalizer<T> normalizer = Trained<T>(name);
        LinearWeights<T> layer = Layer<T>(shape, groups, bias);
        double[] x = Input(layer.Inputs);
        (int, int) pad = (kernel.Item1 / 2, kernel.Item2 / 2);

        // The layers between are in double, so that all that is measured is the folding's rounding.
        double[] between = Convolve(x, layer, pad, _ => 0, out int height, out int width);
        double[] expected = NormalizeInDouble(name, normalizer, between, height, width);
        double[] actual = Convolve(x, Folding.IntoPreceding(layer, normalizer), pad, _ => 0);

        NumericAssert.NearLargest<double>(expected, actual, Tolerance<T>(), $"{name} of {typeof(T).Name}");
    }

    private static void CheckFollowing<T>(string name, int[] shape, int groups, (int, int) kernel, ConvolutionPadding padding, bool bias)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Normalizer<T> normalizer = Trained<T>(name);
        LinearWeights<T> layer = Layer<T>(shape, groups, bias);
        double[] x = Input();
        double[] normalized = NormalizeInDouble(name, normalizer, x, Height, Width);
        (int, int) pad = padding == ConvolutionPadding.None ? (0, 0) : (kernel.Item1 / 2, kernel.Item2 / 2);
        double[] expected, actual;
        if (padding == ConvolutionPadding.Zeros)
        {
            (LinearWeights<T> folded, T[] values) = Folding.IntoFollowingZeroPadded(normalizer, layer);
            expected = Convolve(normalized, layer, pad, _ => 0);
            actual = Convolve(x, folded, pad, c => double.CreateChecked(values[c]));
        }
        else
        {
            // Without a value of its own beyond the border the convolution replicates the border's.
            expected = Convolve(normalized, layer, pad, null);
            actual = Convolve(x, Folding.IntoFollowing(normalizer, layer, padding), pad, null);
        }

        NumericAssert.NearLargest<double>(expected, actual, Tolerance<T>(), $"{name} of {typeof(T).Name}, {padding}");
    }

    private static double Tolerance<T>() => typeof(T) == typeof(float) ? 1e-6 : 1e-12;

    private static LinearWeights<T> Layer<T>(int[] shape, int groups, bool bias)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new(TestData.As<T>(TestData.Normal(7, shape.Aggregate(1, (a, b) => a * b))), shape, bias ? TestData.As<T>(TestData.Normal(8, shape[0])) : null, groups);

    private static double[] Input(int channels = Channels) => TestData.Activations(9, new ActivationShape(Samples, channels, Height, Width));

    /// <summary>Two training batches, random parameters, then inference.</summary>
    private static Normalizer<T> Trained<T>(string name)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Normalizer<T> normalizer = Made<T>(name);
        var shape = new ActivationShape(8, Channels, 3, 3);
        for (int batch = 0; batch < 2; batch++)
        {
            normalizer.Forward(shape, TestData.As<T>(TestData.Activations(40 + batch, shape)), new T[shape.Count]);
        }

        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            TestData.As<T>(TestData.ParameterValues(parameter.Name, 50, TestData.AsDouble(parameter.Values))).CopyTo(parameter.Values, 0);
        }

        normalizer.Training = false;
        return normalizer;
    }

    private static Normalizer<T> Made<T>(string name)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        return name switch
        {
            "batch" => new BatchNorm<T>(Channels),
            "batch-no-affine" => new BatchNorm<T>(Channels, new() { Weight = false, Bias = false, Epsilon = 1e-3 }),
            "ghost" => new GhostBatchNorm<T>(4, Channels),
            "sync" => new InProcessSyncBatchNorm<T>(Channels),
            "instance" => new InstanceNorm<T>(Channels, new() { TrackRunningStatistics = true }),
            "renorm" => new BatchRenorm<T>(Channels),
            "adaptive" => new AdaBatchNorm<T>(Channels),
            "adaptive-domain" => InDomain(new AdaBatchNorm<T>(Channels)),
            "pca" => new PcaWhitening<T>(Channels),
            "cholesky" => new CholeskyWhitening<T>(Channels, new() { GroupSize = 2 }),
            "iter-norm" => new IterNorm<T>(Channels),
            "zca" => new ZcaWhitening<T>(Channels),
            "zca-groups" => new ZcaWhitening<T>(Channels, new() { GroupSize = 3, Shrinkage = 0.1 }),
            "zca-matrix" => new ZcaWhitening<T>(Channels, new() { Running = WhiteningRunning.WhiteningMatrix }),
            "zca-bias-only" => new ZcaWhitening<T>(Channels, new() { Weight = false }),
            _ => throw new ArgumentException($"No normalizer is called {name}.", nameof(name)),
        };

        static AdaBatchNorm<T> InDomain(AdaBatchNorm<T> normalizer)
        {
            normalizer.AddDomain("target");
            normalizer.Domain = "target";
            return normalizer;
        }
    }

    private static double[] Normalize(Normalizer<double> normalizer, double[] x)
    {
        var y = new double[x.Length];
        normalizer.Forward(new ActivationShape(Samples, Channels, Height, Width), x, y);
        return y;
    }

    // A double layer with the given one's state: the strategy itself, without its float rounding.
    private static double[] NormalizeInDouble<T>(string name, Normalizer<T> normalizer, double[] x, int height, int width)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var y = new double[x.Length];
        var shape = new ActivationShape(Samples, Channels, height, width);
        Normalizer<double> exact = Made<double>(name);
        exact.LoadState(normalizer.GetState().ConvertTo(StateElementType.F64));
        exact.Training = false;
        exact.Forward(shape, x, y);
        return y;
    }

    private static double[] Convolve<T>(double[] x, LinearWeights<T> layer, (int Rows, int Columns) pad, Func<int, double>? beyond)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Convolve(x, layer, pad, beyond, out _, out _);

    /// <summary>A grouped convolution of stride 1 in plain loops; beyond the border a value by channel, or the nearest value inside.</summary>
    private static double[] Convolve<T>(
        double[] x, LinearWeights<T> layer, (int Rows, int Columns) pad, Func<int, double>? beyond, out int height, out int width)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int rows = layer.Shape.Length > 2 ? layer.Shape[2] : 1;
        int columns = layer.Shape.Length > 3 ? layer.Shape[3] : 1;
        int inputs = layer.Shape[1];
        height = Height + (2 * pad.Rows) - rows + 1;
        width = Width + (2 * pad.Columns) - columns + 1;
        var y = new double[Samples * layer.Outputs * height * width];
        int index = 0;
        for (int n = 0; n < Samples; n++)
        {
            for (int o = 0; o < layer.Outputs; o++)
            {
                for (int i = 0; i < height; i++)
                {
                    for (int j = 0; j < width; j++)
                    {
                        double sum = layer.Bias is null ? 0 : double.CreateChecked(layer.Bias[o]);
                        for (int p = 0; p < inputs; p++)
                        {
                            int channel = (o / (layer.Outputs / layer.Groups) * inputs) + p;
                            for (int a = 0; a < rows; a++)
                            {
                                for (int b = 0; b < columns; b++)
                                {
                                    int row = i + a - pad.Rows;
                                    int column = j + b - pad.Columns;
                                    bool inside = row >= 0 && row < Height && column >= 0 && column < Width;
                                    double value = inside || beyond is null
                                        ? x[(((n * layer.Inputs) + channel) * Height * Width) + (Math.Clamp(row, 0, Height - 1) * Width) + Math.Clamp(column, 0, Width - 1)]
                                        : beyond(channel);
                                    sum += value * double.CreateChecked(layer.Weight[(((((o * inputs) + p) * rows) + a) * columns) + b]);
                                }
                            }
                        }

                        y[index++] = sum;
                    }
                }
            }
        }

        return y;
    }
}
