using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>A warm step allocates nothing, on any thread. Alone in the process, since the counter counts every thread.</summary>
[TestClass]
[DoNotParallelize]
public sealed class AllocationTests
{
    // The last has reduction sets of two values, of which the first call warns.
    private static readonly ActivationShape[] Shapes = [new(12, 12, 7, 5), new(66, 12, 17, 19), new(3006, 60), new(6, 12, 2)];

    private int _before;

    public static IEnumerable<object[]> Cases =>
        from id in StrategyCases.Ids
        from layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast }
        from threads in new[] { 1, 2 }
        select new object[] { id, layout, threads };

    [TestInitialize]
    public void Remember() => _before = KernelThreads.Count;

    [TestCleanup]
    public void Restore() => KernelThreads.Count = _before;

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void ForwardBackward_Warm_AllocatesNothing(string id, Layout layout, int threads)
    {
        KernelThreads.Count = threads;
        foreach (ActivationShape shape in Shapes)
        {
            if (!StrategyCases.Of(id).Carries(shape))
            {
                continue;
            }

            Measure<float>(id, layout, shape, threads);
            Measure<double>(id, layout, shape, threads);
        }
    }

    [TestMethod]
    public void ForwardBackward_OnPlainArrays_AllocatesNothing()
    {
        var shape = new ActivationShape(6, 12, 5, 3);
        var layer = new BatchNorm<float>(12);
        float[] x = new float[shape.Count], y = new float[shape.Count], g = new float[shape.Count], dx = new float[shape.Count];
        Assert.AreEqual(0L, LeastAllocated(() =>
        {
            layer.Forward(shape, x, y);
            layer.Backward(shape, x, g, dx);
        }));
    }

    [TestMethod]
    public void Measurement_OneArrayPerStep_IsSeen()
    {
        object? kept = null;
        Assert.IsGreaterThanOrEqualTo(24L, LeastAllocated(() => kept = new byte[1]));
        GC.KeepAlive(kept);
    }

    private static void Measure<T>(string id, Layout layout, ActivationShape shape, int threads)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        StrategySettings settings = StrategyCases.Of(id).Adapt(new() { Groups = 3, GhostSize = 6, RunningStatistics = true }, shape);
        INormalizer<T> normalizer = Runs.Create<T>(id, shape, settings, 1);
        var input = new PlacedTensor<T>(shape, layout, TestData.Activations(2, shape));
        var outputGradient = new PlacedTensor<T>(shape, layout, TestData.Normal(3, shape.Count));
        var output = new PlacedTensor<T>(shape, layout);
        var inputGradient = new PlacedTensor<T>(shape, layout);
        string what = $"{id} {typeof(T).Name} {shape} {layout} on {threads} threads";
        Assert.AreEqual(0L, LeastAllocated(Step), $"{what}: training");
        normalizer.Training = false;
        Assert.AreEqual(0L, LeastAllocated(Step), $"{what}: inference");

        void Step()
        {
            ReadOnlyTensorSpan<T> x = input.ReadOnly;
            normalizer.Forward(x, output.Span);
            normalizer.Backward(x, outputGradient.ReadOnly, inputGradient.Span);
        }
    }

    // The least of several: the runtime's own threads (tiered compilation, the test host) allocate now and then.
    private static long LeastAllocated(Action step)
    {
        for (int i = 0; i < 3; i++)
        {
            step();
        }

        long least = long.MaxValue;
        for (int i = 0; i < 12 && least > 0; i++)
        {
            long before = GC.GetTotalAllocatedBytes(true);
            step();
            least = Math.Min(least, GC.GetTotalAllocatedBytes(true) - before);
        }

        return least;
    }
}
