using System.Numerics;
using Normalization.Core;
using Normalization.Core.Collectives;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies;

/// <summary>Ranks that are threads here, each with a layer of its own: agreement with the whole batch, and what happens where they disagree.</summary>
[TestClass]
public sealed class SyncBatchNormTests
{
    private const int Channels = 4;

    private static readonly nint[] Spatial = [3, 5];

    public static IEnumerable<object[]> Cuts =>
    [
        [new[] { 8 }], [new[] { 4, 4 }], [new[] { 3, 5, 0 }], [new[] { 0, 1, 6, 1 }], [new[] { 0, 0, 8, 0, 0 }],
    ];

    [TestMethod]
    [DynamicData(nameof(Cuts))]
    public void ForwardBackward_BatchCutOverRanks_EqualsBatchNormOfTheWhole(int[] shards)
    {
        Compare<float>(shards, 5e-7);
        Compare<double>(shards, 1e-13);
    }

    // Two batches, so that running statistics have gone on; the second rank's memory is channels-last.
    private static void Compare<T>(int[] shards, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ActivationShape shape = ShapeOf(shards.Sum());
        var whole = new BatchNorm<T>(Channels);
        SetAffine(whole);
        double[] firstInput = TestData.Activations(1, shape);
        double[] input = TestData.Activations(2, shape);
        double[] upstream = TestData.Normal(3, shape.Count);
        Runs.Forward(whole, shape, TestData.As<T>(firstInput));
        Pass<T> expected = Runs.Once(whole, shape, TestData.As<T>(input), TestData.As<T>(upstream));

        var layers = new SyncBatchNorm<T>[shards.Length];
        var outputs = new T[shards.Length][];
        var gradients = new T[shards.Length][];
        Ranks.RunWell(shards.Length, rank =>
        {
            ActivationShape own = ShapeOf(shards[rank.Rank]);
            int first = shards[..rank.Rank].Sum();
            SyncBatchNorm<T> layer = layers[rank.Rank] = new SyncBatchNorm<T>(Channels, rank);
            SetAffine(layer);
            if (own.Count == 0)
            {
                Runs.Forward(layer, own, []);
                Pass<T> empty = Runs.Once(layer, own, [], []);
                (outputs[rank.Rank], gradients[rank.Rank]) = (empty.Output, empty.InputGradient);
                return;
            }

            Layout layout = rank.Rank == 1 ? Layout.ChannelsLast : Layout.ChannelsFirst;
            layer.Forward(Placed<T>(own, layout, firstInput, first).ReadOnly, new PlacedTensor<T>(own, layout).Span);
            PlacedTensor<T> x = Placed<T>(own, layout, input, first);
            var y = new PlacedTensor<T>(own, layout);
            var dx = new PlacedTensor<T>(own, layout);
            layer.Forward(x.ReadOnly, y.Span);
            layer.Backward(x.ReadOnly, Placed<T>(own, layout, upstream, first).ReadOnly, dx.Span);
            outputs[rank.Rank] = y.Read();
            gradients[rank.Rank] = dx.Read();
        });

        string what = $"{typeof(T).Name}, shards {string.Join(",", shards)}";
        NumericAssert.NearLargest<T>(TestData.AsDouble(expected.Output), outputs.SelectMany(each => each).ToArray(), tolerance, $"{what}: output");
        NumericAssert.NearLargest<T>(TestData.AsDouble(expected.InputGradient), gradients.SelectMany(each => each).ToArray(), tolerance, $"{what}: input gradient");
        foreach (Parameter<T> parameter in whole.Parameters)
        {
            double[] sum = new double[Channels];
            foreach (SyncBatchNorm<T> layer in layers)
            {
                double[] own = TestData.AsDouble(layer.Parameters.Single(each => each.Name == parameter.Name).Gradient);
                sum = [.. sum.Zip(own, (total, term) => total + term)];
            }

            NumericAssert.NearLargest<double>(TestData.AsDouble(parameter.Gradient), sum, tolerance, $"{what}: gradients of {parameter.Name} summed");
        }

        foreach (StateBuffer<T> buffer in whole.Buffers.Where(buffer => !buffer.IsCounter))
        {
            NumericAssert.NearLargest<T>(TestData.AsDouble(buffer.Values), Runs.Buffer(layers[0], buffer.Name), tolerance, $"{what}: {buffer.Name}");
        }

        Dictionary<string, (long Count, T[] Values)> state = Runs.State(layers[0]);
        Assert.AreEqual(2, state["num_batches_tracked"].Count);
        foreach (SyncBatchNorm<T> layer in layers)
        {
            Runs.AssertState(state, layer, $"{what}: the same bits on every rank");
        }
    }

    [TestMethod]
    public void Backward_ParameterGradients_AreThoseOfTheRanksOwnSamples()
    {
        ActivationShape shape = ShapeOf(3);
        double[] dy = TestData.Normal(7, shape.Count);
        var bias = new double[3][];
        Ranks.RunWell(3, rank =>
        {
            var layer = new SyncBatchNorm<double>(Channels, rank);
            ActivationShape own = ShapeOf(rank.Rank == 2 ? 0 : 3);
            double[] x = TestData.Activations(rank.Rank, own);
            bias[rank.Rank] = Runs.Once(layer, own, x, dy[..x.Length]).BiasGradient;
        });
        double[] expected = [.. Enumerable.Range(0, Channels).Select(c => dy.Where((_, i) => i / 15 % Channels == c).Sum())];
        NumericAssert.NearLargest<double>(expected, bias[0], 1e-13, "rank 0");
        NumericAssert.NearLargest<double>(expected, bias[1], 1e-13, "rank 1");
        Assert.IsTrue(bias[2].All(value => value == 0), "an empty part has none");
    }

    // ---------------------------------------------------------------- degenerate batches

    [TestMethod]
    public void Forward_OneValueOnARank_IsFineWhereTheWholeHasMore()
    {
        double[] x = [1, 2, 5];
        double[][] outputs = new double[3][];
        Ranks.RunWell(3, rank => outputs[rank.Rank] = Runs.Forward(new SyncBatchNorm<double>(1, rank), new ActivationShape(1, 1), [x[rank.Rank]]));
        double[] expected = Runs.Forward(new BatchNorm<double>(1), new ActivationShape(3, 1), x);
        NumericAssert.NearLargest<double>(expected, outputs.SelectMany(each => each).ToArray(), 1e-14, "output");
    }

    [TestMethod]
    public void Forward_OneValueOverAllRanks_ThrowsOnAllAlike()
    {
        Exception?[] failures = Ranks.Run(3, rank =>
        {
            var shape = new ActivationShape(rank.Rank == 1 ? 1 : 0, Channels);
            Runs.Forward(new SyncBatchNorm<float>(Channels, rank), shape, new float[shape.Count]);
        });
        foreach (Exception? failure in failures)
        {
            Assert.IsInstanceOfType<InvalidOperationException>(failure);
            Assert.Contains("needs more than 1 value per channel over all ranks", failure.Message);
        }
    }

    [TestMethod]
    public void ForwardBackward_OneValueOverAllRanksAndBiasOnly_GivesTheBiasAndNoGradient()
    {
        Ranks.RunWell(2, rank =>
        {
            var shape = new ActivationShape(rank.Rank, 1);
            var layer = new SyncBatchNorm<double>(1, rank, new RunningStatisticsOptions { SingleValue = SingleValuePolicy.BiasOnly });
            layer.Bias!.Values[0] = 0.25;
            Pass<double> pass = Runs.Once(layer, shape, [.. Enumerable.Repeat(7.0, rank.Rank)], [.. Enumerable.Repeat(3.0, rank.Rank)]);
            Assert.IsTrue(pass.Output.All(value => value == 0.25));
            Assert.IsTrue(pass.InputGradient.All(value => value == 0));
            Assert.AreEqual(0, layer.Buffers.Single(buffer => buffer.IsCounter).Count);
        });
    }

    [TestMethod]
    public void ForwardBackward_NoSampleOnAnyRank_ChangesNothing()
    {
        Ranks.RunWell(3, rank =>
        {
            var layer = new SyncBatchNorm<float>(Channels, rank);
            var before = Runs.State(layer);
            Pass<float> pass = Runs.Once(layer, ShapeOf(0), [], []);
            Assert.IsEmpty(pass.Output);
            Assert.IsTrue(pass.WeightGradient.All(value => value == 0));
            Runs.AssertState(before, layer, "state");
        });
    }

    [TestMethod]
    public void Forward_NaNOnOneRank_PoisonsItsChannelEverywhereAndSkipsEveryUpdate()
    {
        Ranks.RunWell(3, rank =>
        {
            var layer = new SyncBatchNorm<float>(2, rank);
            var shape = new ActivationShape(rank.Rank == 0 ? 0 : 4, 2);
            float[] x = TestData.As<float>(TestData.Normal(rank.Rank, shape.Count));
            if (rank.Rank == 1)
            {
                x[3] = float.NaN;
            }

            float[] y = Runs.Forward(layer, shape, x);
            for (int i = 0; i < y.Length; i++)
            {
                Assert.AreEqual(i % 2 == 1, float.IsNaN(y[i]), $"element {i}");
            }

            Assert.AreEqual(1, layer.SkippedUpdates);
            Assert.AreEqual(0, layer.Buffers.Single(buffer => buffer.IsCounter).Count);
        });
    }

    // ---------------------------------------------------------------- ranks that disagree

    [TestMethod]
    [DataRow(new[] { 2, 6, 5 }, "(2, 6, 5)")] // the layer refuses its channels
    [DataRow(new[] { 2, 4, 6 }, "(2, 4, 6)")]
    [DataRow(new[] { 2, 4 }, "(2, 4)")]
    [DataRow(new[] { 2, 4, 5, 1 }, "(2, 4, 5, 1)")]
    public void Forward_AnotherShapeOnOneRank_ThrowsOnEveryRankNamingBoth(int[] other, string text)
    {
        Exception?[] failures = Ranks.Run(3, rank =>
        {
            var layer = new SyncBatchNorm<double>(Channels, rank);
            ActivationShape shape = rank.Rank == 2 ? new([.. other.Select(length => (nint)length)]) : new(3, Channels, 5);
            Runs.Forward(layer, shape, new double[shape.Count]);
        });
        foreach (Exception? failure in failures)
        {
            Assert.IsInstanceOfType<CollectiveException>(failure);
            Assert.Contains("rank 0 has (3, 4, 5)", failure.Message);
            Assert.Contains($"rank 2 has {text}", failure.Message);
        }
    }

    [TestMethod]
    public void Forward_PartThatIsRefused_ThrowsItsReasonThereAndItsRankElsewhere()
    {
        Exception?[] failures = Ranks.Run(3, rank =>
        {
            var layer = new SyncBatchNorm<double>(Channels, rank);
            ActivationShape shape = ShapeOf(2);
            double[] x = TestData.Normal(1, shape.Count);

            // In training the output must not be the input.
            layer.Forward(shape, x, rank.Rank == 1 ? x : new double[x.Length]);
        });
        Assert.IsInstanceOfType<ArgumentException>(failures[1]);
        Assert.Contains("must not overlap", failures[1]!.Message);
        foreach (int rank in new[] { 0, 2 })
        {
            Assert.IsInstanceOfType<CollectiveException>(failures[rank]);
            Assert.Contains("Rank 1 refused its part (2, 4, 3, 5)", failures[rank]!.Message);
        }
    }

    [TestMethod]
    public void Backward_WithoutForwardOnOneRank_ThrowsOnEveryRankAndTheNextBatchIsFine()
    {
        ActivationShape shape = ShapeOf(2);
        double[] x = TestData.Normal(1, shape.Count);
        double[] dy = TestData.Normal(2, shape.Count);
        Ranks.RunWell(2, rank =>
        {
            var layer = new SyncBatchNorm<double>(Channels, rank);
            Runs.Forward(layer, shape, x);
            if (rank.Rank == 0)
            {
                Assert.ThrowsExactly<CollectiveException>(() => Runs.Backward(layer, shape, x, dy));
            }
            else
            {
                var fresh = new SyncBatchNorm<double>(Channels, rank);
                Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Backward(fresh, shape, x, dy));
            }

            Assert.HasCount(x.Length, Runs.Once(layer, shape, x, dy).Output);
        });
    }

    [TestMethod]
    public void Forward_OneRankFrozen_ThrowsOnEveryRank()
    {
        ActivationShape shape = ShapeOf(2);
        Exception?[] failures = Ranks.Run(2, rank =>
        {
            var layer = new SyncBatchNorm<double>(Channels, rank);
            if (rank.Rank == 1)
            {
                layer.Freeze();
            }

            Runs.Forward(layer, shape, TestData.Normal(1, shape.Count));
        });
        foreach (Exception? failure in failures)
        {
            Assert.IsInstanceOfType<CollectiveException>(failure);
            Assert.Contains("must do the same", failure.Message);
        }
    }

    // ---------------------------------------------------------------- modes

    [TestMethod]
    [DataRow(true, false)]
    [DataRow(true, true)]
    [DataRow(false, false)]
    public void ForwardBackward_RunningStatisticsOrBatchInInference_EqualBatchNormOfTheWhole(bool training, bool frozen)
    {
        ActivationShape shape = ShapeOf(6);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StatisticsSource source = training ? StatisticsSource.Running : StatisticsSource.Batch;
        var whole = new BatchNorm<double>(Channels) { Training = training, StatisticsSource = source };
        Freeze(whole);
        Pass<double> expected = Runs.Once(whole, shape, x, dy);

        int[] shards = [4, 0, 2];
        Ranks.RunWell(3, rank =>
        {
            var layer = new SyncBatchNorm<double>(Channels, rank) { Training = training, StatisticsSource = source };
            Freeze(layer);
            int first = shards[..rank.Rank].Sum() * 60;
            int end = first + (shards[rank.Rank] * 60);
            Pass<double> pass = Runs.Once(layer, ShapeOf(shards[rank.Rank]), x[first..end], dy[first..end]);
            NumericAssert.NearLargest<double>([.. expected.Output[first..end], 1], [.. pass.Output, 1], 1e-13, "output");
            NumericAssert.NearLargest<double>([.. expected.InputGradient[first..end], 1], [.. pass.InputGradient, 1], 1e-13, "input gradient");
            foreach (StateBuffer<double> buffer in whole.Buffers)
            {
                StateBuffer<double> own = layer.Buffers.Single(each => each.Name == buffer.Name);
                Assert.AreEqual(buffer.Count, own.Count, buffer.Name);
                NumericAssert.NearLargest<double>(buffer.Values, own.Values, 1e-13, buffer.Name);
            }
        });

        void Freeze(Normalizer<double> layer)
        {
            if (frozen)
            {
                layer.Freeze();
            }
        }
    }

    [TestMethod]
    public void Forward_InferenceByRunningStatistics_ExchangesNothing()
    {
        // A rank of three whose others never come.
        var layer = new SyncBatchNorm<float>(Channels, InProcessCollective.CreateGroup(3, TimeSpan.FromSeconds(0.1))[1]) { Training = false };
        var plain = new BatchNorm<float>(Channels) { Training = false };
        ActivationShape shape = ShapeOf(3);
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        NumericAssert.SameBits<float>(Runs.Forward(plain, shape, x), Runs.Forward(layer, shape, x), "output");
        Assert.IsEmpty(Runs.Forward(layer, ShapeOf(0), []));
    }

    [TestMethod]
    public void ForwardBackward_Warm_AllocatesNothing()
    {
        Ranks.RunWell(2, rank =>
        {
            var layer = new SyncBatchNorm<float>(Channels, rank);
            ActivationShape shape = ShapeOf(rank.Rank);
            float[] x = TestData.As<float>(TestData.Activations(1, shape)), y = new float[x.Length], dx = new float[x.Length];
            long least = long.MaxValue;

            // As many turns on both ranks, since they need each other.
            for (int turn = 0; turn < 12; turn++)
            {
                long before = GC.GetAllocatedBytesForCurrentThread();
                layer.Forward(shape, x, y);
                layer.Backward(shape, x, y, dx);
                least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
            }

            Assert.AreEqual(0L, least);
        });
    }

    // ---------------------------------------------------------------- shards of one process

    [TestMethod]
    public void Forward_OneValueInAllShards_ThrowsOrUsesRunningStatistics()
    {
        var shape = new ActivationShape(1, 2);
        var error = Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(new InProcessSyncBatchNorm<float>(2), shape, [1, 2]));
        Assert.Contains("needs more than 1 value per channel", error.Message);

        var lenient = new InProcessSyncBatchNorm<double>(2, new() { SingleValue = SingleValuePolicy.UseRunning, Epsilon = 0 });
        CollectionAssert.AreEqual(new double[] { 1, 2 }, Runs.Forward(lenient, shape, [1, 2]));
        Assert.AreEqual(0, lenient.Buffers.Single(buffer => buffer.IsCounter).Count);
    }

    [TestMethod]
    public void ForwardBackward_Frozen_IsInference()
    {
        ActivationShape shape = ShapeOf(5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        var layer = new InProcessSyncBatchNorm<double>(Channels);
        Runs.Forward(layer, shape, TestData.Activations(3, shape));
        var state = Runs.State(layer);
        layer.Training = false;
        Pass<double> inference = Runs.Once(layer, shape, x, dy);
        layer.Training = true;
        layer.Freeze();
        Runs.AssertSame(inference, Runs.Once(layer, shape, x, dy), "frozen");
        Runs.AssertState(state, layer, "frozen");
    }

    [TestMethod]
    public void Forward_ConstantChannelWithoutEpsilon_ThrowsAndTheNextBatchIsFine()
    {
        ActivationShape shape = ShapeOf(4);
        var layer = new InProcessSyncBatchNorm<double>(Channels, new() { Epsilon = 0 });
        Assert.ThrowsExactly<DivideByZeroException>(() => Runs.Forward(layer, shape, new double[shape.Count]));
        Assert.IsTrue(Runs.Forward(layer, shape, TestData.Normal(1, shape.Count)).All(double.IsFinite));
    }

    [TestMethod]
    public void Forward_ShardsThatDoNotAddUp_NamesThemAndTheBatch()
    {
        var layer = new InProcessSyncBatchNorm<float>(Channels, new() { Shards = [3, 5, 0] });
        ActivationShape shape = ShapeOf(7);
        var error = Assert.ThrowsExactly<ArgumentException>(() => Runs.Forward(layer, shape, new float[shape.Count]));
        Assert.Contains("N = 7 and shards 3,5,0, which make 8", error.Message);

        // Inference is not cut.
        layer.Training = false;
        Assert.HasCount((int)shape.Count, Runs.Forward(layer, shape, new float[shape.Count]));
    }

    [TestMethod]
    public void Constructor_NoReplicasOrNegativeShards_NamesTheValue()
    {
        Assert.Contains("got 0", Assert.ThrowsExactly<ArgumentException>(() => new InProcessSyncBatchNorm<float>(4, new() { Replicas = 0 })).Message);
        Assert.Contains("got 3,-1", Assert.ThrowsExactly<ArgumentException>(() => new InProcessSyncBatchNorm<float>(4, new() { Shards = [3, -1] })).Message);
        Assert.ThrowsExactly<ArgumentException>(() => new InProcessSyncBatchNorm<float>(4, new() { Shards = [] }));
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => new InProcessSyncBatchNorm<float>(0));
    }

    private static ActivationShape ShapeOf(int samples) => new([samples, Channels, .. Spatial]);

    private static PlacedTensor<T> Placed<T>(ActivationShape shape, Layout layout, double[] whole, int firstSample)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new(shape, layout, TestData.Rounded<T>(whole.AsSpan(firstSample * 60, (int)shape.Count).ToArray()));

    private static void SetAffine<T>(Normalizer<T> layer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        TestData.As<T>(TestData.Normal(11, Channels, 0.5)).CopyTo(layer.Weight!.Values, 0);
        TestData.As<T>(TestData.Normal(12, Channels)).CopyTo(layer.Bias!.Values, 0);
    }
}
