using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;

namespace Normalization.Tests.Comparison;

[TestClass]
[DoNotParallelize]
public sealed class SpeedProbeTests
{
    private static readonly Workload Small = new(new ActivationShape(3, 4, 5, 2), ChannelsLast: false, Threads: 1);

    [TestMethod]
    [DataRow(false)]
    [DataRow(true)]
    public void Run_OneSampleOrOneChannel_IsTakenAsItLies(bool channelsLast)
    {
        foreach (ActivationShape shape in new ActivationShape[] { new(1, 4, 3, 5), new(2, 1, 3, 5), new(1, 4, 1, 5), new(2, 4, 3, 5) })
        {
            float[] input = [.. Enumerable.Range(0, (int)shape.Count).Select(i => (float)i)];
            var data = new SpeedTensors(new Workload(shape, channelsLast, 1), input, new float[input.Length]);
            INormalizer<float> normalizer = StrategyCatalog.Create<float>("none", shape, new StrategySettings());
            data.Run(normalizer, SpeedTensors.Forward, 1);
            CollectionAssert.AreEqual(input, data.Output.ToArray(), $"{shape}");
        }
    }

    [TestMethod]
    public void Measure_CorrectStandardizer_TimesEveryDirectionInEveryLayout()
    {
        var probe = Measure(PlainContestants.Make(), Small, Small with { ChannelsLast = true }, Small with { Shape = new ActivationShape(3, 4, 5, 2, 2), ChannelsLast = true });

        Assert.IsNull(probe.Failure);
        Assert.HasCount(3 * 3 * 5, probe.Rows);
        foreach (var row in probe.Rows)
        {
            Assert.IsGreaterThan(0, row.Value!.Value, row.ToString());
            Assert.IsTrue(row.Metric == "bytes_allocated" || (row.Spread![0] <= row.Value && row.Value <= row.Spread[1]), row.ToString());
        }

        foreach (var group in probe.Rows.GroupBy(row => (row.Parameters!["shape"], row.Parameters["layout"], row.Parameters["direction"])))
        {
            double Value(string metric) => group.Single(row => row.Metric == metric).Value!.Value;
            double bytes = group.Key.Item3 is "backward" ? 12 : 8;
            Assert.AreEqual(bytes, Value("ns_per_element") * Value("gigabytes_per_second"), 1e-9);
        }
    }

    [TestMethod]
    [DataRow(Flaw.Imprecise, "forward,inference")]
    [DataRow(Flaw.NotANumber, "forward,inference")]
    public void Measure_WrongOutput_IsNotTimedAndFails(Flaw flaw, string directions)
    {
        var probe = Measure(PlainContestants.Make(flaw), Small);

        StringAssert.Contains(probe.Failure, "Not timed, forward of (3, 4, 5, 2)");
        foreach (var row in probe.Rows)
        {
            bool wrong = directions.Split(',').Contains((string)row.Parameters!["direction"]);
            Assert.AreEqual(wrong, row.Value is null, row.ToString());
        }
    }

    [TestMethod]
    public void Measure_GradientOfFloatDiffers_BackwardIsNotTimed()
    {
        var mixed = new Contestant("mixed",
            (shape, epsilon) => new PlainStandardizer<float>(shape, epsilon, Flaw.WrongWeightGradient),
            (shape, epsilon) => new PlainStandardizer<double>(shape, epsilon));
        var probe = Measure(mixed, Small);

        StringAssert.Contains(probe.Failure, "the weight gradient differs");
        Assert.IsTrue(probe.Rows.All(row => row.Parameters!["direction"] is "backward" == row.Value is null));
    }

    [TestMethod]
    public void Measure_OutputLeftAsTheContestantBeforeWroteIt_IsNotTimed()
    {
        var tensors = new Dictionary<Workload, SpeedTensors>();
        Assert.IsNull(Measure(PlainContestants.Make(), tensors, Small).Failure);

        var probe = Measure(PlainContestants.Make(Flaw.WritesNothing), tensors, Small);

        StringAssert.Contains(probe.Failure, "Not timed, forward of (3, 4, 5, 2)");
        Assert.IsTrue(probe.Rows.All(row => row.Parameters!["direction"] is "backward" || row.Value is null));
    }

    [TestMethod]
    public void Measure_Refusal_IsAStatedRow()
    {
        var probe = Measure(PlainContestants.Make(Flaw.RefusesFeatures), Small with { Shape = new ActivationShape(9, 4) });

        Assert.IsNull(probe.Failure);
        Assert.HasCount(15, probe.Rows);
        Assert.IsTrue(probe.Rows.All(row => row.Value is null && row.Note == "needs spatial axes, got (9, 4)"));
    }

    [TestMethod]
    [DataRow(true, 1000.0, 1100.0)]
    [DataRow(false, 0.0, 0.0)]
    public void Measure_Allocation_IsWhatOneCallAllocates(bool allocates, double least, double most)
    {
        var contestant = new Contestant("copy", (_, _) => new CopyNormalizer<float>(allocates), (_, _) => new CopyNormalizer<double>(allocates));
        foreach (var row in Measure(contestant, Small).Rows.Where(row => row.Metric == "bytes_allocated" && row.Parameters!["direction"] is not "backward"))
        {
            Assert.IsTrue(row.Value >= least && row.Value <= most, row.ToString());
        }
    }

    [TestMethod]
    public void Measure_Always_LeavesTheThreadCount()
    {
        int threads = KernelThreads.Count;
        Measure(PlainContestants.Make(), Small with { Threads = threads + 3 });
        Assert.AreEqual(threads, KernelThreads.Count);
    }

    // What is timed afterwards would be timed on other threads than it says.
    [TestMethod]
    public void Result_OfAReference_LeavesTheThreadCount()
    {
        int threads = KernelThreads.Count;
        try
        {
            KernelThreads.Count = KernelThreads.Default + 3;
            var data = SpeedTensors.Random(Small, new RandomStream(1, "reference"));
            var reference = new SpeedReference(data, () => StrategyCatalog.Create<double>("batch-norm", Small.Shape, new StrategySettings()));
            foreach (string direction in new[] { SpeedTensors.Forward, SpeedTensors.Backward, SpeedTensors.Inference })
            {
                reference.Result(direction);
                Assert.AreEqual(KernelThreads.Default + 3, KernelThreads.Count, direction);
            }
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    [TestMethod]
    public void AddBound_CopyAndSecondRead_AddByWhatIsMoved()
    {
        // 10 elements, of which 12 bytes each are moved once: 1.5 copies of 2 s, and a read of 1 s, beside a call of 5 s.
        var rounds = new TimedRounds([[2, 2], [5, 5], [7, 7], [1, 1]], 1);
        var probe = new ProbeCase(Aspects.Speed, PlainContestants.Make(), SpeedProbe.Scenario, new ProbeSettings { Seed = 1 });

        SpeedProbe.AddBound(probe, 10, 120, rounds, (3, "x and dy"), new Dictionary<string, object>());
        SpeedProbe.AddBound(probe, 10, 120, rounds, null, new Dictionary<string, object>());

        CollectionAssert.AreEqual(
            new[] { "fraction_of_bound", "second_read_ns_per_element", "fraction_of_bound" }, probe.Rows.Select(row => row.Metric).ToArray());
        Assert.AreEqual((1.5 * 2 + 1) / 5, probe.Rows[0].Value!.Value, 1e-12);
        Assert.AreEqual(0.1e9, probe.Rows[1].Value!.Value, 1e-3);
        Assert.AreEqual("x and dy", probe.Rows[1].Note);
        Assert.AreEqual(1.5 * 2 / 5, probe.Rows[2].Value!.Value, 1e-12);
    }

    private static ProbeCase Measure(Contestant contestant, params Workload[] workloads) => Measure(contestant, [], workloads);

    private static ProbeCase Measure(Contestant contestant, Dictionary<Workload, SpeedTensors> tensors, params Workload[] workloads)
    {
        var probe = new ProbeCase(Aspects.Speed, contestant, SpeedProbe.Scenario, new ProbeSettings { Seed = 1 });
        SpeedProbe.Measure(probe, workloads, tensors);
        return probe;
    }
}
