using System.Numerics.Tensors;
using System.Runtime.Intrinsics;
using Normalization.Core;
using Normalization.Core.Kernels;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>What the whitening kernels choose by the data: precision, tiles, strips. They set the thread count, so nothing runs beside them.</summary>
[TestClass]
[DoNotParallelize]
public sealed class WhiteningTests
{
    private int _before;

    [TestInitialize]
    public void Remember() => _before = KernelThreads.Count;

    [TestCleanup]
    public void Restore()
    {
        KernelThreads.Count = _before;
        WhiteningClock.Enabled = false;
    }

    // Both sides of the condition number up to which products are float, and wide enough for chains, strips and several tiles.
    [TestMethod]
    [DataRow(16, 1.0, 0.0)]
    [DataRow(16, 200.0, 1e4)]
    [DataRow(16, 300.0, -1e4)]
    [DataRow(16, 1e6, 1e3)]
    [DataRow(67, 100.0, 1e3)]
    [DataRow(130, 1.0, 0.0)]
    [DataRow(130, 1e5, 10.0)]
    public void ForwardBackward_Float_IsNearDoubleAtAnyCondition(int channels, double condition, double mean)
    {
        var shape = new ActivationShape(3, channels, 250);
        double[] x = TestData.Rounded<float>(Spread(shape, condition, mean));
        double[] dy = TestData.Rounded<float>(TestData.Normal(9, shape.Count));
        foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
        {
            var single = new ZcaWhitening<float>(channels);
            var exact = new ZcaWhitening<double>(channels);
            var input = new PlacedTensor<float>(shape, layout, x);
            var output = new PlacedTensor<float>(shape, layout);
            var outputGradient = new PlacedTensor<float>(shape, layout, dy);
            var inputGradient = new PlacedTensor<float>(shape, layout);
            single.Forward(input.ReadOnly, output.Span);
            single.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);
            double[] y = Runs.Forward(exact, shape, x);
            double[] dx = Runs.Backward(exact, shape, x, dy);
            NumericAssert.NearLargest<float>(y, output.Read(), 5e-7, $"{layout}: output");
            NumericAssert.NearLargest<float>(dx, inputGradient.Read(), 5e-7, $"{layout}: input gradient");
            NumericAssert.NearLargest<float>(exact.Weight!.Gradient, single.Weight!.Gradient, 1e-6, $"{layout}: weight gradient");
            NumericAssert.NearLargest<float>(exact.Bias!.Gradient, single.Bias!.Gradient, 5e-7, $"{layout}: bias gradient");
        }
    }

    // The products of such gradients with the input leave float's range; the input itself is ordinary.
    [TestMethod]
    [DataRow(1e30)]
    [DataRow(1e-36)]
    public void Backward_ExtremeUpstreamGradient_ScalesWithIt(double scale)
    {
        var shape = new ActivationShape(40, 16, 5);
        float[] x = TestData.As<float>(TestData.Normal(1, shape.Count));
        double[] dy = TestData.Rounded<float>(TestData.Normal(2, shape.Count, 0, scale));
        var single = new ZcaWhitening<float>(16);
        var exact = new ZcaWhitening<double>(16);
        Runs.Forward(single, shape, x);
        Runs.Forward(exact, shape, TestData.AsDouble(x));
        float[] dx = Runs.Backward(single, shape, x, TestData.As<float>(dy));
        NumericAssert.NearLargest<float>(Runs.Backward(exact, shape, TestData.AsDouble(x), dy), dx, 1e-6, "input gradient");
        NumericAssert.NearLargest<float>(exact.Weight!.Gradient, single.Weight!.Gradient, 1e-6, "weight gradient");
    }

    [TestMethod]
    [DataRow(TestData.ZcaWhitening, 130, 130)]
    [DataRow(TestData.ZcaWhitening, 520, 520)]
    [DataRow(TestData.ZcaWhitening, 320, 16)]
    [DataRow("pca-whitening", 130, 130)]
    [DataRow("cholesky-whitening", 130, 130)]
    [DataRow("iter-norm", 130, 130)]
    [DataRow("iter-norm", 260, 130)]
    public void ForwardBackward_ManyChannelsOnOneTwoAndFiveThreads_GiveTheSameBits(string id, int channels, int group)
    {
        var shape = new ActivationShape(4, channels, 300);
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        float[] dy = TestData.As<float>(TestData.Normal(2, shape.Count));
        Pass<float>? expected = null;
        foreach (int threads in new[] { 1, 2, 5 })
        {
            KernelThreads.Count = threads;
            Pass<float> pass = Runs.Once(Runs.Create<float>(id, shape, new() { GroupSize = group }), shape, x, dy);
            expected ??= pass;
            Runs.AssertSame(expected, pass, $"{threads} threads");
        }
    }

    [TestMethod]
    [DataRow(TestData.ZcaWhitening, 130, 1)]
    [DataRow(TestData.ZcaWhitening, 130, 2)]
    [DataRow("iter-norm", 130, 1)]
    [DataRow("iter-norm", 130, 2)]
    public void ForwardBackward_ManyChannelsWarm_AllocatesNothing(string id, int channels, int threads)
    {
        if (!Vector256.IsHardwareAccelerated)
        {
            Assert.Inconclusive("Emulated vectors are boxed until the runtime has optimized their callers, which takes a hundred calls.");
        }

        KernelThreads.Count = threads;
        var shape = new ActivationShape(2, channels, (channels / 2) + 3);
        float[] x = TestData.As<float>(TestData.Normal(1, shape.Count));
        float[] y = new float[x.Length], dx = new float[x.Length];
        INormalizer<float> layer = Runs.Create<float>(id, shape, new());
        long least = long.MaxValue;
        for (int i = 0; i < 12 && least > 0; i++)
        {
            long before = GC.GetTotalAllocatedBytes(true);
            layer.Forward(shape, x, y);
            layer.Backward(shape, x, y, dx);
            least = i == 0 ? least : Math.Min(least, GC.GetTotalAllocatedBytes(true) - before);
        }

        Assert.AreEqual(0L, least);
    }

    // The columns from which rough centres are taken lie far from all others, as far off as they can be: the correction would cancel 14 bits.
    [TestMethod]
    [DataRow(false)]
    [DataRow(true)]
    public unsafe void Moments_RoughCentersFarOff_KeepEveryDigit(bool channelsLast)
    {
        const int Channels = 2;
        const int Positions = 200_003;
        var shape = new ActivationShape(1, Channels, Positions);
        var view = ChannelView.Of(shape, channelsLast ? MemoryOrder.ChannelsLast : MemoryOrder.ChannelsFirst, Channels);
        double[] noise = TestData.Normal(1, (int)shape.Count);
        var x = new double[shape.Count];
        for (int c = 0; c < Channels; c++)
        {
            for (int m = 0; m < Positions; m++)
            {
                x[At(c, m)] = Math.Round(noise[At(c, m)] * 16) / 1024;
            }

            for (nint i = 0; i < ChannelView.RoughColumns; i++)
            {
                x[At(c, (int)(((2 * i) + 1) * Positions / (2 * ChannelView.RoughColumns)))] = 1000 - c;
            }
        }

        var memory = new double[WhiteningStatistics.Size(Channels, Channels, 1)];
        fixed (double* activations = x, start = memory)
        {
            var statistics = new WhiteningStatistics(start, Channels, Channels, 1);
            Whitening.Moments(view, activations, statistics);
            for (int i = 0; i < Channels; i++)
            {
                for (int j = 0; j < Channels; j++)
                {
                    // In decimal such numbers add up exactly.
                    decimal first = 0, second = 0, product = 0;
                    for (int m = 0; m < Positions; m++)
                    {
                        decimal a = (decimal)x[At(i, m)], b = (decimal)x[At(j, m)];
                        first += a;
                        second += b;
                        product += a * b;
                    }

                    decimal covariance = (product / Positions) - (first / Positions * (second / Positions));
                    NumericAssert.Near((double)(first / Positions), statistics.Mean[i], 1, 1e-15, $"mean {i}");
                    NumericAssert.Near((double)covariance, statistics.Covariance[(i * Product.MatrixPitch(Channels)) + j], 65, 1e-14, $"covariance {i}, {j}");
                }
            }
        }

        int At(int channel, int column) => channelsLast ? (column * Channels) + channel : (channel * Positions) + column;
    }

    [TestMethod]
    public void Seconds_ForwardBackward_AreOfEveryPhaseAndNoMoreThanAll()
    {
        var shape = new ActivationShape(8, 64, 100);
        float[] x = TestData.As<float>(TestData.Normal(1, shape.Count));
        var layer = new ZcaWhitening<float>(64);
        Runs.Once(layer, shape, x, x);
        WhiteningClock.Reset();
        Runs.Once(layer, shape, x, x);
        Assert.AreEqual(0, WhiteningClock.Seconds(WhiteningPhase.Products), "off by default");

        WhiteningClock.Enabled = true;
        long started = System.Diagnostics.Stopwatch.GetTimestamp();
        Runs.Once(layer, shape, x, x);
        double all = System.Diagnostics.Stopwatch.GetElapsedTime(started).TotalSeconds;
        double sum = 0;
        foreach (WhiteningPhase phase in Enum.GetValues<WhiteningPhase>())
        {
            Assert.IsGreaterThan(0, WhiteningClock.Seconds(phase), phase.ToString());
            sum += WhiteningClock.Seconds(phase);
        }

        Assert.IsLessThanOrEqualTo(all, sum);
    }

    // Channels whose covariance has eigenvalues from 1 down to 1 / condition, in directions that no channel has alone.
    private static double[] Spread(ActivationShape shape, double condition, double mean)
    {
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        double[] x = TestData.Normal(4, shape.Count);
        double[] axis = TestData.Normal(5, channels);
        double square = TensorPrimitives.SumOfSquares<double>(axis);
        for (int column = 0; column < shape.Samples * positions; column++)
        {
            int first = (column / positions * channels * positions) + (column % positions);
            double product = 0;
            for (int c = 0; c < channels; c++)
            {
                x[first + (c * positions)] *= Math.Pow(condition, -0.5 * c / (channels - 1));
                product += axis[c] * x[first + (c * positions)];
            }

            for (int c = 0; c < channels; c++)
            {
                x[first + (c * positions)] += mean - (2 * product / square * axis[c]);
            }
        }

        return x;
    }
}
