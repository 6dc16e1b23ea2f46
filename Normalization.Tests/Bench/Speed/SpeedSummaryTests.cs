using Normalization.Bench.Speed;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Tests.Reporting;

namespace Normalization.Tests.Bench.Speed;

[TestClass]
public sealed class SpeedSummaryTests
{
    [TestMethod]
    public void Lines_OfARun_CountCellsNameLossesAndAverageRatios()
    {
        RunData sample = SampleRun.Build();
        RunHeader header = sample.Header with
        {
            Settings = new Dictionary<string, string> { ["tier"] = "dry", ["pytorch"] = "PyTorch 1.13.1", ["onednn"] = "missing: install libdnnl2" },
        };
        CaseRecord[] cases =
        [
            Case("wins", 1, ("speedup_vs_pytorch", 2, 2.1), ("speedup_vs_fastest_peer", 2, 2.1)),
            Case("draws", 1, ("speedup_vs_pytorch", 0.95, 0.98), ("speedup_vs_fastest_peer", 0.95, 0.98)),
            Case("loses", 1, ("speedup_vs_pytorch", 8 / 0.95, 9), ("speedup_vs_fastest_peer", 0.9, 0.96)),
            Case("on two", 2, ("speedup_vs_pytorch", 50, 60), ("speedup_vs_fastest_peer", 50, 60)),
            Case("alone", 1, ("ns_per_element", 1, 1.05)),
            Case("failed", 1, ("ns_per_element", 1, 1.05)) with { Failure = "it broke" },
            Refused("refused"),
            CrossCheck("agrees", 1.1), CrossCheck("differs", 1.2), CrossCheck("failed", null), CrossCheck("our clock", 1, "alone"),
        ];

        string[] lines = [.. SpeedSummary.Lines(new RunData(header, cases))];

        CollectionAssert.AreEqual(
            new[]
            {
                "4 cells timed beside a peer: 2 faster than the fastest, 0 level, 1 undecided, 1 slower; 1 case beside the copy alone.",
                "loses: batch-norm forward (2, 3) channels-first, 1 thread: 0.90 [0.85, 0.96] times the speed of a note",
                "PyTorch 1.13.1: 2.52 times its speed, geometric mean of 3 cells on one thread.",
                "onednn: no cell on one thread (missing: install libdnnl2).",
                "BenchmarkDotNet, batch-norm forward (2, 3) channels-first, 1 thread: 1.10 [1.05, 1.15] ns/element, our clock 1.00 [0.95, 1.05]: they agree; in turns 1.00 [0.95, 1.05]",
                "BenchmarkDotNet, batch-norm forward (2, 3) channels-first, 1 thread: 1.20 [1.15, 1.25] ns/element, our clock 1.00 [0.95, 1.05]: they differ; in turns 1.00 [0.95, 1.05]",
                "BenchmarkDotNet, batch-norm forward (2, 3) channels-first, 1 thread: a note",
            },
            lines);
    }

    [TestMethod]
    public void Lines_LargeTensors_CountThoseThatReachTheBoundByThreads()
    {
        CaseRecord[] cases =
        [
            Large("batch-norm", "forward", 1, 0.9, 0.5),
            Large("batch-norm", "backward", 1, 0.89, 0.89),
            Large("rms-norm", "forward", 1, 0.8, 0.79),
            Large("rms-norm", "backward", 1, 0.79, 0.79),
            Large("none", "forward", 1, 1, 1),
            Large("batch-norm", "forward", 2, 1, 1),
        ];

        string[] lines = [.. SpeedSummary.Lines(new RunData(SampleRun.Build().Header, cases))];

        CollectionAssert.AreEqual(
            new[]
            {
                "25 MB and more, 1 thread: 1 of 2 cells of batch-norm, layer-norm, instance-norm, group-norm, ghost-batch-norm reach 0.9 of the bound, 0 of the copy; "
                    + "1 of 2 cells of the other strategies reach 0.8 of the bound, 0 of the copy.",
                "25 MB and more, 2 threads: 1 of 1 cells of batch-norm, layer-norm, instance-norm, group-norm, ghost-batch-norm reach 0.9 of the bound, 1 of the copy.",
            },
            lines[1..]);

        static CaseRecord Large(string strategy, string direction, long threads, double ofBound, double ofCopy)
        {
            CaseRecord record = Case($"{strategy} {direction} {threads}", threads, ("fraction_of_bound", ofBound, 1), ("fraction_of_copy", ofCopy, 1));
            return record with
            {
                Measurements = [.. record.Measurements.Select(row => row with { Strategy = strategy, Parameters = new Dictionary<string, object>(row.Parameters!) { ["direction"] = direction } })],
            };
        }
    }

    private static CaseRecord Refused(string id)
    {
        CaseRecord record = Case(id, 1, ("ns_per_element", 0, 0));
        return record with { Measurements = [record.Measurements[0] with { Value = null }] };
    }

    private static CaseRecord CrossCheck(string id, double? value, string engine = "benchmarkdotnet")
    {
        CaseRecord record = Case(id, 1, ("ns_per_element", value ?? 0, (value ?? 0) + 0.05));
        Measurement row = record.Measurements[0];
        return record with
        {
            Measurements = [row with { Value = value, Parameters = new Dictionary<string, object>(row.Parameters!) { ["engine"] = engine } }],
        };
    }

    private static CaseRecord Case(string id, long threads, params (string Metric, double Value, double High)[] rows) => new()
    {
        Case = id,
        Seconds = 1,
        Measurements =
        [
            .. rows.Select(row => new Measurement
            {
                Aspect = Aspects.Speed, Strategy = "batch-norm", Scenario = "speed", Metric = row.Metric, Unit = "1", Value = row.Value,
                Spread = [Math.Round(row.Value - 0.05, 9), row.High], Note = "a note",
                Parameters = new Dictionary<string, object> { ["shape"] = "(2, 3)", ["layout"] = "channels-first", ["direction"] = "forward", ["threads"] = threads, ["engine"] = "interleaved" },
            }),
        ],
    };
}
