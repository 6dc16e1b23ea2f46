using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>Panels that are written while others are summed; the strategy's tests hold panels that go one by one against an oracle.</summary>
[TestClass]
[DoNotParallelize]
public sealed unsafe class FilterResponseTests
{
    private int _before;

    [TestInitialize]
    public void OneThread()
    {
        _before = KernelThreads.Count;
        KernelThreads.Count = 1;
    }

    [TestCleanup]
    public void Restore() => KernelThreads.Count = _before;

    // Of one chunk, whose runs are no whole vectors, and of several; floats of the first shape are stored by way of the caches, the others past them.
    [TestMethod]
    [DataRow(74, 7304)]
    [DataRow(90, 12512)]
    public void Backward_PanelsInStep_GivesTheBitsOfEachPanelAlone(int channels, int positions)
    {
        Compare<float>(channels, positions, seed: 1, unsuited: false, threads: 1);
        Compare<float>(channels, positions, seed: 2, unsuited: true, threads: 1);
        Compare<double>(channels, positions, seed: 3, unsuited: false, threads: 1);
        Compare<float>(channels, positions, seed: 4, unsuited: true, threads: 3);
    }

    private static void Compare<T>(int channels, int positions, int seed, bool unsuited, int threads)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var shape = new ActivationShape(1, channels, positions);
        ReductionLayout layout = Layouts.PerSampleAndGroup(shape, MemoryOrder.ChannelsFirst, channels) with { Uncentered = true };
        Assert.IsTrue(Standardizer.InStep<T>(layout, StoreKind.Cached, tensors: 2, weightArrays: 1, cacheBytes: 1 << 20));
        double[] x = TestData.Activations(seed, shape);
        double[] g = TestData.Normal(seed + 100, shape.Count);

        // One set whose lines do not suit float, one whose sums do not hold in it, and an infinite gradient.
        for (int i = 0; i < positions && unsuited; i++)
        {
            x[positions + i] *= 1e25;
            g[(4 * positions) + i] *= 1e-36;
            g[(6 * positions) + 5] = double.PositiveInfinity;
        }

        using var together = new Buffers<T>(shape, x, g);
        using var alone = new Buffers<T>(shape, x, g);
        Standardizer.Moments(layout, together.X.Pointer, together.Moments, 1e-6);
        KernelThreads.Count = threads;
        together.Backward(layout, channel: 0, together.Moments.InverseStd);
        KernelThreads.Count = 1;
        for (int panel = 0; panel < channels; panel++)
        {
            PanelPlace place = layout.Place(panel);
            alone.Backward(layout with { Inner = 1, Offset = place.Offset }, panel, together.Moments.InverseStd + place.Slot);
        }

        string what = $"{typeof(T).Name}, {shape}";
        NumericAssert.SameBits<T>(alone.DX.Read(what), together.DX.Read(what), what);
        NumericAssert.SameBits<T>(alone.Gradients.Read(what), together.Gradients.Read(what), $"{what}: parameter gradients");
    }

    private sealed class Buffers<T>(ActivationShape shape, double[] x, double[] g) : IDisposable
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        private readonly int _channels = shape.Channels;
        private readonly GuardedMemory<double> _statistics = new(new double[3 * shape.Channels]);
        private readonly GuardedMemory<T> _parameters = new(TestData.Normal(7, 3 * shape.Channels));

        public GuardedMemory<T> X { get; } = new(x);

        public GuardedMemory<T> G { get; } = new(g);

        public GuardedMemory<T> DX { get; } = new(new double[x.Length]);

        public GuardedMemory<T> Gradients { get; } = new(new double[3 * shape.Channels]);

        public Statistics Moments => new()
        {
            Mean = _statistics.Pointer,
            PopulationVariance = _statistics.Pointer + _channels,
            InverseStd = _statistics.Pointer + (2 * _channels),
        };

        public void Backward(in ReductionLayout layout, int channel, double* inverse) => FilterResponse.Backward(
            layout, X.Pointer, G.Pointer, DX.Pointer,
            new FilterParameters<T>
            {
                Weight = _parameters.Pointer + channel,
                Bias = _parameters.Pointer + _channels + channel,
                Threshold = _parameters.Pointer + (2 * _channels) + channel,
                WeightGradient = Gradients.Pointer + channel,
                BiasGradient = Gradients.Pointer + _channels + channel,
                ThresholdGradient = Gradients.Pointer + (2 * _channels) + channel,
            },
            inverse);

        public void Dispose()
        {
            X.Dispose();
            G.Dispose();
            DX.Dispose();
            Gradients.Dispose();
            _statistics.Dispose();
            _parameters.Dispose();
        }
    }
}
