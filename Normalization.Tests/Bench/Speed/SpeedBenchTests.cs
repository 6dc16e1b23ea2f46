using Normalization.Bench.Speed;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Speed;

/// <summary>Peers with clocks of their own, whose results are ours with an error of a chosen size.</summary>
[TestClass]
[DoNotParallelize]
public sealed class SpeedBenchTests
{
    private static readonly SpeedCase Small = new("batch-norm", new ActivationShape(8, 4, 3, 2), ChannelsLast: true, SpeedTensors.Backward, Threads: 1);

    [TestMethod]
    [DataRow(SpeedTensors.Forward)]
    [DataRow(SpeedTensors.Backward)]
    [DataRow(SpeedTensors.Inference)]
    public void Run_PeersThatAgree_AreComparedByTheirFastestVariant(string direction)
    {
        var slow = new FakePeer("pytorch", ("fresh output", 0.5), ("reused output", 0.25));
        var fast = new FakePeer("onednn", ("", 0.125));
        CaseRecord record = Run(Small with { Direction = direction }, [new("pytorch", slow, null), new("onednn", fast, null), new("tensorprimitives", null, "not installed: get it")]);

        Assert.IsNull(record.Failure);
        double vsSlow = Value(record, "speedup_vs_pytorch")!.Value;
        double vsFast = Value(record, "speedup_vs_onednn")!.Value;
        Assert.AreEqual(2, vsSlow / vsFast, 1e-9);
        Assert.AreEqual(vsFast, Value(record, "speedup_vs_fastest_peer")!.Value);
        Assert.AreEqual(0.125e9 / 192 / Value(record, "ns_per_element")!.Value, vsFast, 0.5 * vsFast, "the ratio is that of the times");
        StringAssert.StartsWith(Row(record, "speedup_vs_pytorch").Note, "Fake pytorch 1, reused output: 1.3E+06 ns/element");
        Assert.AreEqual("not installed: get it", Row(record, "speedup_vs_tensorprimitives").Note);
        Assert.IsNull(Value(record, "speedup_vs_tensorprimitives"));
        Assert.AreEqual(2, Row(record, "speedup_vs_pytorch").Spread!.Count);
        Assert.AreEqual(0.0, Value(record, "bytes_allocated"));
        Assert.AreEqual("(8, 4, 3, 2) channels-last " + direction + " 1 interleaved", string.Join(' ', record.Measurements[0].Parameters!.Values));
        Assert.AreEqual(slow.Prepared, slow.Disposed);
    }

    [TestMethod]
    [DataRow(SpeedTensors.Forward, false)]
    [DataRow(SpeedTensors.Backward, false)]
    [DataRow(SpeedTensors.Backward, true)]
    public void Run_PeerThatDiffers_IsNotTimedAndFails(string direction, bool inWeightGradient)
    {
        var wrong = new FakePeer("pytorch", ("", 1)) { Error = inWeightGradient ? 0 : 2e-4f, WeightGradientError = inWeightGradient ? 1e-2f : 0 };
        CaseRecord record = Run(Small with { Direction = direction }, [new("pytorch", wrong, null)]);

        Assert.IsNull(Value(record, "speedup_vs_pytorch"));
        StringAssert.Contains(Row(record, "speedup_vs_pytorch").Note, "not timed: Fake pytorch 1 differs from ours by ");
        Assert.IsNull(Value(record, "speedup_vs_fastest_peer"));
        Assert.IsNotNull(Value(record, "ns_per_element"));
        StringAssert.Contains(record.Failure, "differs from ours");
        Assert.AreEqual(wrong.Prepared, wrong.Disposed);
    }

    [TestMethod]
    public void Run_PeerWithOnePassNotANumber_IsNotTimedAndFails()
    {
        var wrong = new FakePeer("pytorch", ("", 1)) { WeightGradientError = float.NaN };
        CaseRecord record = Run(Small with { Strategy = "zca-whitening", Direction = SpeedCase.ForwardAndBackward }, [new("pytorch", wrong, null)]);

        Assert.IsNull(Value(record, "speedup_vs_pytorch"));
        StringAssert.Contains(record.Failure, "differs from ours by NaN");
    }

    [TestMethod]
    [DataRow(SpeedTensors.Forward)]
    [DataRow(SpeedTensors.Inference)]
    public void Run_PeerThatWritesNothing_DoesNotPassForOneThatAgrees(string direction)
    {
        CaseRecord record = Run(Small with { Direction = direction }, [new("pytorch", new FakePeer("pytorch", ("", 1)) { WritesNothing = true }, null)]);

        Assert.IsNull(Value(record, "speedup_vs_pytorch"));
        StringAssert.Contains(record.Failure, "differs from ours by NaN");
    }

    [TestMethod]
    public void Run_PeerThatBreaksInACall_IsFreedAndOursIsTimed()
    {
        var broken = new FakePeer("pytorch", ("fresh output", 1), ("reused output", -1));
        CaseRecord record = Run(Small, [new("pytorch", broken, null)]);

        Assert.AreEqual("not timed: it broke", Row(record, "speedup_vs_pytorch").Note);
        Assert.IsNotNull(Value(record, "ns_per_element"));
        StringAssert.Contains(record.Failure, "it broke");
        Assert.IsGreaterThan(0, broken.Prepared);
        Assert.AreEqual(broken.Prepared, broken.Disposed);
    }

    [TestMethod]
    public void Run_PeerThatLacksTheCellOrBreaks_IsAStatedRow()
    {
        var lacking = new FakePeer("onednn") { Lack = "Fake 1 has no batch norm" };
        var broken = new FakePeer("pytorch") { Breaks = true };
        CaseRecord record = Run(Small, [new("pytorch", broken, null), new("onednn", lacking, null)]);

        Assert.AreEqual("Fake 1 has no batch norm", Row(record, "speedup_vs_onednn").Note);
        Assert.AreEqual("not timed: it broke", Row(record, "speedup_vs_pytorch").Note);
        StringAssert.Contains(record.Failure, "it broke");
        Assert.AreEqual("no peer of this run has it", Row(record, "speedup_vs_fastest_peer").Note);
    }

    [TestMethod]
    public void Run_CasesHeldToTheCopy_HaveNoRatioToPeers()
    {
        SpeedCase[] alone = [Small with { Strategy = "none" }, Small with { Scaling = "elements" }, Small with { Strategy = "zca-whitening", GroupSize = 2 }];
        foreach (SpeedCase planned in alone)
        {
            CaseRecord record = Run(planned, [new("pytorch", new FakePeer("pytorch", ("", 1)), null)]);

            Assert.IsNull(record.Failure);
            Assert.HasCount(5, record.Measurements.Where(row => !row.Parameters!.ContainsKey("part")));
            Assert.IsTrue(record.Measurements.All(row => row.Value is not null));
        }
    }

    [TestMethod]
    [DataRow("layer-norm", SpeedTensors.Forward, "x")]
    [DataRow("layer-norm", SpeedTensors.Backward, "x and dy")]
    [DataRow("none", SpeedTensors.Forward, null)]
    public void Run_LargeTensor_IsHeldToItsBound(string strategy, string direction, string? readTwice)
    {
        // 25.2 MB, half of it a sample: beyond any second-level cache.
        CaseRecord record = Run(new SpeedCase(strategy, new ActivationShape(2, 3_150_000), ChannelsLast: false, direction, Threads: 1), []);

        Assert.IsNull(record.Failure);
        double copy = Value(record, "fraction_of_copy")!.Value;
        if (readTwice is null)
        {
            Assert.AreEqual(copy, Value(record, "fraction_of_bound")!.Value, 1e-9);
            Assert.IsFalse(record.Measurements.Any(row => row.Metric == "second_read_ns_per_element"));
            return;
        }

        Assert.AreEqual(readTwice, Row(record, "second_read_ns_per_element").Note);
        Assert.IsGreaterThan(copy, Value(record, "fraction_of_bound")!.Value);
        Assert.HasCount(2, Row(record, "fraction_of_bound").Spread!);
    }

    [TestMethod]
    public void Run_ForwardAndBackward_CountsBothPassesOfBoth()
    {
        var peer = new FakePeer("pytorch", ("", 0.5));
        CaseRecord record = Run(Small with { Strategy = "zca-whitening", Direction = SpeedCase.ForwardAndBackward }, [new("pytorch", peer, null)]);

        Assert.IsNull(record.Failure);
        StringAssert.Contains(Row(record, "speedup_vs_pytorch").Note, "5.21E+06 ns/element");
        Measurement[] times = [.. record.Measurements.Where(row => row.Metric == "ns_per_element")];
        Assert.AreEqual(20, times[0].Value!.Value * Value(record, "gigabytes_per_second")!.Value, 1e-9);
        CollectionAssert.AreEqual(
            new[] { "covariance", "decomposition", "products" }, times[1..].Select(row => row.Parameters!["part"]).ToArray());
        Assert.IsTrue(times[1..].All(row => row.Value > 0));
    }

    [TestMethod]
    public void Run_Refusal_IsAStatedRow()
    {
        CaseRecord record = Run(Small with { Strategy = "ghost-batch-norm", Shape = new ActivationShape(9, 4) }, []);

        Assert.IsNull(record.Failure);
        Assert.IsTrue(record.Measurements.All(row => row.Value is null && row.Note!.Contains("ghost size must divide", StringComparison.Ordinal)));
    }

    [TestMethod]
    [DataRow(1 << 20, 1 << 20, "elements and an array holds at most")]
    [DataRow(1 << 15, 1 << 15, null)]
    public void MemoryRefusal_MoreThanThereIs_SaysSoBeforeAllocating(int samples, int channels, string? words)
    {
        string? refusal = SpeedBench.MemoryRefusal(new ActivationShape(samples, channels));
        if (words is null)
        {
            // 2^30 elements fit an array; whether they fit the machine is the machine's.
            Assert.AreEqual(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes < 100.0 * (1 << 30), refusal is not null);
            return;
        }

        StringAssert.Contains(refusal, words);
    }

    [TestMethod]
    public void Difference_NotANumber_IsNotANumber()
    {
        Assert.AreEqual(0.25, Agreement.Difference([1, 2, 4], [1, 3, 4], 0));
        Assert.AreEqual(0.125, Agreement.Difference([1, 2, 4], [1, 3, 4], 8));
        Assert.IsTrue(double.IsNaN(Agreement.Difference([1, float.NaN, 4], [1, 3, 4], 0)));
    }

    private static CaseRecord Run(SpeedCase planned, IReadOnlyList<PeerSeat> peers)
    {
        var records = new List<CaseRecord>();
        SpeedTier tier = SpeedTier.Dry with { Plan = new TimingPlan { LeastRounds = 3, MostRounds = 3, ShortestSample = 1e-5 } };
        new SpeedBench(tier, [planned], peers, seed: 1, "nowhere").Run(records.Add, new HashSet<string>(), new Progress<ComparisonProgress>(), CancellationToken.None);
        return records.Single();
    }

    private static Measurement Row(CaseRecord record, string metric) => record.Measurements.Single(row => row.Metric == metric);

    private static double? Value(CaseRecord record, string metric) => Row(record, metric).Value;

    private sealed class FakePeer(string id, params (string Variant, double Seconds)[] variants) : IPeer
    {
        public int Prepared { get; private set; }

        public int Disposed { get; private set; }

        public float Error { get; init; }

        public float WeightGradientError { get; init; }

        public string? Lack { get; init; }

        public bool Breaks { get; init; }

        public bool WritesNothing { get; init; }

        public string Id => id;

        public string Version => $"Fake {id} 1";

        public string? Lacks(SpeedCell cell) => Lack;

        public IReadOnlyList<ITimedCall> Prepare(CellData data, int threads)
        {
            if (Breaks)
            {
                throw new InvalidOperationException("it broke");
            }

            Prepared += variants.Length;
            return [.. variants.Select(variant => new Call(this, data, variant.Variant, variant.Seconds))];
        }

        public void Dispose()
        {
        }

        private sealed class Call : ITimedCall
        {
            private readonly FakePeer _peer;
            private readonly double _seconds;
            private readonly SpeedTensors _tensors;
            private readonly string _direction;
            private readonly INormalizer<float> _normalizer;

            public Call(FakePeer peer, CellData data, string variant, double seconds)
            {
                _peer = peer;
                _seconds = seconds;
                Variant = variant;
                SpeedCell cell = data.Cell;
                _direction = CellData.Name(cell.Direction);
                _tensors = data.Tensors;
                _normalizer = Runs.Create<float>(cell.Strategy, cell.Shape, new SpeedCase(cell.Strategy, cell.Shape, cell.ChannelsLast, "", 1).Settings);
                data.Weight.CopyTo(_normalizer.Parameters[0].Values, 0);
                data.Bias.CopyTo(_normalizer.Parameters[1].Values, 0);
                if (_direction == SpeedTensors.Inference)
                {
                    data.RunningMean.CopyTo(_normalizer.Buffers.Single(buffer => buffer.Name == "running_mean").Values, 0);
                    data.RunningVariance.CopyTo(_normalizer.Buffers.Single(buffer => buffer.Name == "running_var").Values, 0);
                    _normalizer.Training = false;
                    _normalizer.OnStateChanged();
                }
            }

            public string Variant { get; }

            public bool WarmsItself => false;

            public double Seconds(int calls)
            {
                if (_seconds < 0)
                {
                    throw new InvalidOperationException("it broke");
                }

                if (_peer.WritesNothing)
                {
                    return calls * _seconds;
                }

                _tensors.Run(_normalizer, _direction == SpeedTensors.Inference ? _direction : SpeedTensors.Forward, 1);
                if (_direction == SpeedTensors.Backward)
                {
                    _normalizer.ZeroGradients();
                    _tensors.Run(_normalizer, _direction, 1);
                }

                _tensors.Result(_direction)[^1] += _peer.Error * _tensors.Result(_direction).ToArray().Max(Math.Abs);
                return calls * _seconds;
            }

            public void CopyResult(Span<float> destination) => _tensors.Result(_direction).CopyTo(destination);

            public void CopyParameterGradients(Span<float> weight, Span<float> bias)
            {
                _normalizer.Parameters[0].Gradient.CopyTo(weight);
                _normalizer.Parameters[1].Gradient.CopyTo(bias);
                weight[0] += _peer.WeightGradientError * _normalizer.Parameters[0].Gradient.Max(Math.Abs);
            }

            public void Dispose() => _peer.Disposed++;
        }
    }
}
