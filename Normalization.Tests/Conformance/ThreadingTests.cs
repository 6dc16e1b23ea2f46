using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>The same bits on any number of threads. It changes the process-wide count, so nothing runs beside it.</summary>
[TestClass]
[DoNotParallelize]
public sealed class ThreadingTests
{
    private int _before;

    public static IEnumerable<object[]> IdsAndLayouts => from id in StrategyCases.Ids from layout in Enum.GetValues<Layout>() select new object[] { id, layout };

    public static IEnumerable<object[]> AllIds => StrategyCases.Ids.Select(id => new object[] { id });

    [TestInitialize]
    public void Remember() => _before = KernelThreads.Count;

    [TestCleanup]
    public void Restore() => KernelThreads.Count = _before;

    [TestMethod]
    [DynamicData(nameof(IdsAndLayouts))]
    public void ForwardBackward_OneTwoAndFiveThreads_GiveTheSameBits(string id, Layout layout)
    {
        ActivationShape[] shapes = layout is Layout.ChannelsFirst or Layout.ChannelsLast
            ? [new(6, 12, 3, 5), new(66, 12, 17, 19), new(2, 12, 9011), new(12006, 12), new(1, 12, 3, 3001), new(3, 1, 50001), new(3, 768, 5, 7)]
            : [new(6, 12, 3, 5), new(21, 12, 17, 19)];
        foreach (ActivationShape shape in shapes)
        {
            if (!StrategyCases.Of(id).Carries(shape))
            {
                continue;
            }

            Compare<float>(id, layout, shape);
            if (shape.Rank == 4)
            {
                Compare<double>(id, layout, shape);
            }
        }
    }

    // 5 MB of columns: 20 chunks, which one thread writes by twos and many one by one.
    [TestMethod]
    [DataRow("batch-norm")]
    [DataRow("ghost-batch-norm")]
    [DataRow("instance-norm")]
    [DataRow("switchable-norm")]
    public void ForwardBackward_ColumnsOfManyChunks_GivesTheSameBitsOnAnyThreads(string id) =>
        Compare<float>(id, Layout.ChannelsLast, new ActivationShape(32, 180, 15, 15), groups: 30);

    // 4.5 MB. Runs of 196 leave past the caches, joined where sets follow each other, and batch norm takes them in the order of memory; runs of 49 it
    // takes channel by channel, into lines that are fetched first. Layer norm's rows of 1620 are worked on four at a time, of 35280 by tiles of columns.
    [TestMethod]
    [DataRow("group-norm", 32, 14)]
    [DataRow("instance-norm", 32, 14)]
    [DataRow("layer-norm", 32, 14)]
    [DataRow("layer-norm", 661, 3)]
    [DataRow("batch-norm", 32, 14)]
    [DataRow("batch-norm", 128, 7)]
    [DataRow("filter-response-norm", 32, 14)]
    public void ForwardBackward_TensorThatLeavesPastTheCaches_GivesTheSameBitsOnAnyThreadsAndInPlace(string id, int samples, int side)
    {
        var shape = new ActivationShape(samples, 180, side, side);
        Compare<float>(id, Layout.ChannelsFirst, shape, groups: 30);

        INormalizer<float> normalizer = Runs.Create<float>(id, shape, StrategyCases.Of(id).Adapt(new() { Groups = 30 }, shape), 3);
        var input = new PlacedTensor<float>(shape, Layout.ChannelsFirst, TestData.Activations(1, shape));
        var gradient = new PlacedTensor<float>(shape, Layout.ChannelsFirst, TestData.Normal(2, shape.Count));
        var output = new PlacedTensor<float>(shape, Layout.ChannelsFirst);
        var apart = new PlacedTensor<float>(shape, Layout.ChannelsFirst);
        normalizer.Forward(input.ReadOnly, output.Span);
        normalizer.Backward(input.ReadOnly, gradient.ReadOnly, apart.Span);
        normalizer.Backward(input.ReadOnly, gradient.ReadOnly, gradient.Span);
        NumericAssert.SameBits<float>(apart.Read(), gradient.Read(), $"{id}: over the output's gradient");
    }

    [TestMethod]
    public void Inference_ThousandsOfSetsOfTwoOnASmallStack_StaysWithinIt()
    {
        var shape = new ActivationShape(2, 2048, 2);
        Exception? failure = null;
        var thread = new Thread(
            () =>
            {
                try
                {
                    INormalizer<double> normalizer = Runs.Create<double>("batch-norm", shape, new StrategySettings(), 1);
                    normalizer.Training = false;
                    double[] output = Runs.Forward(normalizer, shape, TestData.Activations(1, shape));
                    Assert.IsTrue(output.All(double.IsFinite));
                }
                catch (Exception exception)
                {
                    failure = exception;
                }
            },
            maxStackSize: 256 << 10);
        thread.Start();
        thread.Join();
        Assert.IsNull(failure);
    }

    private static void Compare<T>(string id, Layout layout, ActivationShape shape, int? groups = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = new()
        {
            Groups = groups ?? (shape.Channels % 3 == 0 ? 3 : 1),
            GhostSize = 6,
            GhostRemainder = GhostRemainder.Balanced,
            GroupSize = shape.Channels > 64 ? 16 : null,
        };
        var input = new PlacedTensor<T>(shape, layout, x);
        var outputGradient = new PlacedTensor<T>(shape, layout, dy);
        T[][]? expected = null;
        foreach (int threads in new[] { 1, 2, 5 })
        {
            KernelThreads.Count = threads;
            INormalizer<T> normalizer = Runs.Create<T>(id, shape, StrategyCases.Of(id).Adapt(settings, shape), 3);
            T[] output = Forward();
            var inputGradient = new PlacedTensor<T>(shape, layout);
            normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);
            T[][] training =
            [
                output, inputGradient.Read(), .. normalizer.Parameters.Select(p => (T[])p.Gradient.Clone()), .. normalizer.Buffers.Select(b => (T[])b.Values.Clone()),
            ];
            normalizer.Training = false;
            T[] inference = Forward();
            normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);
            T[][] actual = [.. training, inference, inputGradient.Read(), .. normalizer.Parameters.Select(p => p.Gradient)];
            expected ??= actual;
            for (int i = 0; i < actual.Length; i++)
            {
                NumericAssert.SameBits<T>(expected[i], actual[i], $"{id} {typeof(T).Name} {shape} {layout}, {threads} threads, array {i}");
            }

            T[] Forward()
            {
                var output = new PlacedTensor<T>(shape, layout);
                normalizer.Forward(input.ReadOnly, output.Span);
                return output.Read();
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Inference_OneInstanceOnFourThreads_GivesEachItsOwnResult(string id)
    {
        var shape = new ActivationShape(6, 12, 9, 11);
        StrategySettings settings = StrategyCases.Of(id).Adapt(new() { Groups = 3, GhostSize = 3, RunningStatistics = true }, shape);
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, settings, 1);
        Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(2, shape)));
        normalizer.Training = false;
        var inputs = new float[4][];
        var expected = new float[4][];
        for (int t = 0; t < 4; t++)
        {
            ActivationShape own = shape.WithSamples(3 + t);
            inputs[t] = TestData.As<float>(TestData.Activations(10 + t, own));
            expected[t] = Runs.Forward(normalizer, own, inputs[t]);
        }

        using var start = new Barrier(4);
        var failures = new Exception?[4];
        Thread[] threads = [.. Enumerable.Range(0, 4).Select(t => new Thread(() =>
        {
            try
            {
                // Layouts differ so that copies run beside direct paths.
                var layout = (Layout)t;
                ActivationShape own = shape.WithSamples(3 + t);
                var input = new PlacedTensor<float>(own, layout, TestData.AsDouble(inputs[t]));
                var output = new PlacedTensor<float>(own, layout);
                normalizer.Forward(input.ReadOnly, output.Span);
                float[] alone = output.Read();
                NumericAssert.Near<float>(TestData.AsDouble(expected[t]), alone, [.. Enumerable.Repeat(1.0, alone.Length)], 1e-4, $"{id}: {layout} alone");
                start.SignalAndWait();
                for (int round = 0; round < 200; round++)
                {
                    normalizer.Forward(input.ReadOnly, output.Span);
                    NumericAssert.SameBits<float>(alone, output.Read(), $"{id}: thread {t}, round {round}");
                }
            }
            catch (Exception exception)
            {
                failures[t] = exception;
                start.RemoveParticipant();
            }
        }))];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        Assert.IsTrue(failures.All(failure => failure is null), string.Join(Environment.NewLine, failures.Where(failure => failure is not null)));
    }
}
