using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class BenchmarkFindingsTests
{
    private const string FastestPeer = "speedup_vs_fastest_peer";

    private static readonly RunData Run = SampleBenchmark.Build();

    [TestMethod]
    public void Draw_Benchmark_AnswersEveryQuestionOnce()
    {
        string[] cases = [.. Findings.Draw(Run).Select(finding => finding.Case)];
        CollectionAssert.AreEqual(
            new[]
            {
                "Cells", "Against the fastest peer", "Against PyTorch", "Against oneDNN", "Against TensorPrimitives", "Tensors of 25 MB and more", "Growth with size",
                "More threads", "Memory allocated by a warm call", "BenchmarkDotNet as a cross-check",
            },
            cases);
    }

    [TestMethod]
    public void Draw_EveryNumber_IsThatOfItsRow()
    {
        var rows = Run.Measurements.ToList();
        foreach (Finding finding in Findings.Draw(Run))
        {
            Assert.IsTrue(finding.Rows.Any(), finding.Case);
            foreach (FindingPart part in finding.Sentence.Where(part => part.Row is not null))
            {
                Assert.AreSame(rows[part.Row!.Value.Index], part.Row.Value.Measurement);
                StringAssert.StartsWith(part.Text, ReportText.Number(part.Row.Value.Measurement.Value!.Value));
            }
        }
    }

    [TestMethod]
    [DataRow(1, 1, 1, "all alike")]
    [DataRow(2, 2, 2, "zca-whitening fastest on every tensor")]
    [DataRow(1, 2, 0.5, "fastest: all alike on (32, 16, 28, 28); zca-whitening on (32, 64, 28, 28); layer-norm on (32, 256, 14, 14)")]
    public void Draw_BothPasses_SaysWhoIsFastestOnWhichTensor(double first, double second, double third, string answer)
    {
        CaseRecord[] others =
        [
            .. Run.Cases.Select(record => record with
            {
                Case = "other/" + record.Case,
                Failure = null,
                Measurements = [.. record.Measurements.Where(IsBothPasses).Select(row => Times(row with { Strategy = "layer-norm" }))],
            }).Where(record => record.Measurements.Count > 0),
        ];
        Assert.AreEqual(answer, Of(Run with { Cases = [.. Run.Cases, .. others] }, "Forward and backward together")!.Answer);

        static bool IsBothPasses(Measurement row) => row.Metric == "ns_per_element" && row.Parameters!["direction"].Equals("forward+backward") && row.Parameters["threads"] is 1L;

        Measurement Times(Measurement row)
        {
            double factor = new[] { first, second, third }[new[] { "(32, 16, 28, 28)", "(32, 64, 28, 28)", "(32, 256, 14, 14)" }.ToList().IndexOf((string)row.Parameters!["shape"])];
            return row with { Value = row.Value * factor, Spread = [.. row.Spread!.Select(value => value * factor)] };
        }
    }

    [TestMethod]
    // The interval's upper end decides, and 0.97 itself does not lose.
    [DataRow(0.80, 0.75, 0.96, "✗ 3 of 342 cells lose")]
    [DataRow(0.80, 0.75, 0.97, "✗ 2 of 342 cells lose")]
    [DataRow(0.96, 0.90, 1.02, "✗ 2 of 342 cells lose")]
    public void Draw_FastestPeer_LosesByTheUpperEndOfTheInterval(double value, double low, double high, string answer)
    {
        Finding finding = Of(SampleBenchmark.Change(Run, FastestPeer, row => row with { Value = value, Spread = [low, high] }), "Against the fastest peer")!;
        Assert.AreEqual(answer, finding.Answer);
        Assert.AreEqual(answer.StartsWith("✗ 3", StringComparison.Ordinal), finding.Text.Contains($"batch-norm forward (32, 64, 56, 56), channels-first, 1 thread {ReportText.Number(value)}", StringComparison.Ordinal));
    }

    [TestMethod]
    [DataRow(1.20, 1.10, 1.30, SpeedVerdict.Wins)]
    [DataRow(1.20, 1.02, 1.30, SpeedVerdict.Undecided)]
    [DataRow(1.00, 0.98, 1.02, SpeedVerdict.Level)]
    [DataRow(1.00, 0.90, 1.10, SpeedVerdict.Undecided)]
    [DataRow(0.80, 0.70, 0.90, SpeedVerdict.Loses)]
    [DataRow(null, 0.0, 0.0, SpeedVerdict.NoPeer)]
    public void Verdict_OfACell_IsSaidByItsInterval(double? value, double low, double high, object expected)
    {
        RunData run = SampleBenchmark.Change(Run, FastestPeer, row => row with { Value = value, Spread = value is null ? null : [low, high] });
        Assert.AreEqual(expected, new RunRows(run).Benchmark.Cells.Single(cell => cell.Name == "batch-norm forward (32, 64, 56, 56), channels-first, 1 thread").Verdict);
    }

    [TestMethod]
    public void Draw_NobodyLoses_SaysSoAndNamesTheClosest()
    {
        RunData run = SampleBenchmark.Change(
            SampleRun.Map(Run, row => row.Metric == FastestPeer && row.Value is not null ? row with { Value = 2, Spread = [1.9, 2.1] } : row), FastestPeer, row => row with { Value = 1, Spread = [0.9, 1.1] });
        Finding finding = Of(run, "Against the fastest peer")!;
        Assert.AreEqual("✓ none of 342 cells loses", finding.Answer);
        StringAssert.EndsWith(finding.Text, "341 win, 0 are level, 1 undecided; the closest is batch-norm forward (32, 64, 56, 56), channels-first, 1 thread with 1 (0.900 – 1.10).");
    }

    [TestMethod]
    public void Draw_ManyLose_NamesTheWorstAndCountsTheRest()
    {
        Finding finding = Of(SampleRun.Map(Run, row => row.Metric == FastestPeer && row.Strategy == "layer-norm" ? row with { Value = 0.5, Spread = [0.4, 0.6] } : row), "Against the fastest peer")!;
        Assert.AreEqual("✗ 72 of 342 cells lose", finding.Answer);
        Assert.HasCount(4, finding.Rows.ToArray());
        StringAssert.EndsWith(finding.Text, "; 68 more.");
    }

    [TestMethod]
    public void Draw_Peer_IsTheGeometricMeanAtOneThread()
    {
        RunData run = SampleRun.Map(Run, row => row.Metric == "speedup_vs_onednn" && row.Value is not null
            ? row with { Value = row.Parameters!["threads"] is 1L ? row.Strategy == "batch-norm" ? 2 : 8 : 1000, Spread = null } : row);
        Finding finding = Of(run, "Against oneDNN")!;
        // As many cells of one strategy as of the other.
        StringAssert.Matches(finding.Answer, new(@"^4(\.00)? times as fast$"));
        StringAssert.StartsWith(finding.Text, "Geometric mean over the 72 cells that it has, on 1 thread; from 2 (batch-norm ");
        StringAssert.Contains(finding.Text, "Without it: oneDNN 2.6 has no such normalization.");
    }

    [TestMethod]
    [DataRow(0.95, "✓ 100 % reach 0.9 of the copy")]
    [DataRow(0.85, "✗ 0 % reach 0.9 of the copy")]
    public void Draw_LargeTensorsWithoutABound_CountsThoseThatReachTheCopy(double fraction, string answer)
    {
        RunData run = SampleRun.Map(Run, row => row.Metric is "fraction_of_bound" ? null
            : row.Metric == "fraction_of_copy" ? row with { Value = row.Parameters!["shape"] is "(32, 64, 56, 56)" ? fraction : 0.5, Spread = null } : row);
        Finding finding = Of(run, "Tensors of 25 MB and more")!;
        Assert.AreEqual(answer, finding.Answer);
        Assert.AreEqual(fraction, finding.Rows.Single().Measurement.Value);
    }

    [TestMethod]
    [DataRow(0.9, "✓ 60 of 60 cells reach 0.9 of the bound", "forward 20 of 20, backward 20 of 20, inference 20 of 20; the lowest is 0.900")]
    [DataRow(0.89, "✗ 59 of 60 cells reach 0.9 of the bound", "forward 19 of 20, backward 20 of 20, inference 20 of 20; the lowest is 0.890")]
    public void Draw_LargeTensors_CountsThoseThatReachTheBound(double fraction, string answer, string words)
    {
        // What the copy says does not matter.
        RunData even = SampleRun.Map(Run, row => row.Metric switch { "fraction_of_bound" => row with { Value = 0.95 }, "fraction_of_copy" => row with { Value = 0.5 }, _ => row });
        Finding finding = Of(SampleBenchmark.Change(even, "fraction_of_bound", row => row with { Value = fraction }), "Tensors of 25 MB and more")!;
        Assert.AreEqual(answer, finding.Answer);
        StringAssert.Contains(finding.Text, words);
        StringAssert.Contains(finding.Text, "(batch-norm forward (32, 64, 56, 56), channels-first, 1 thread). A second read of x costs from 0.0800 ns/element to 0.0800 ns/element on 1 thread.");
        StringAssert.EndsWith(finding.Text, "A second read of x and dy costs from 0.200 ns/element to 0.200 ns/element on 1 thread.");
    }

    [TestMethod]
    [DataRow(0.8, "Of the others 12 of 12 reach 0.8")]
    [DataRow(0.79, "Of the others 0 of 12 reach 0.8")]
    public void Draw_LargeTensorsOfOtherStrategies_AreAskedLess(double fraction, string words)
    {
        RunData run = SampleRun.Map(SampleRun.Swap(Run, "group-norm", "rms-norm"), row => row.Metric == "fraction_of_bound" ? row with { Value = row.Strategy == "rms-norm" ? fraction : 0.95 } : row);
        Finding finding = Of(run, "Tensors of 25 MB and more")!;
        Assert.AreEqual("✓ 48 of 48 cells reach 0.9 of the bound", finding.Answer);
        StringAssert.Contains(finding.Text, words);
    }

    [TestMethod]
    public void Draw_Growth_HoldsLargeToTheCopyAndSmallToTheTimeAt2To22()
    {
        Assert.AreEqual("✓ within its limits in 84 points", Of(Run, "Growth with size")!.Answer);
        Finding small = Of(SampleRun.Map(Run, row => Is(row, "(4, 64, 4, 4)", "ns_per_element") ? row with { Value = row.Value * 1.1 } : row), "Growth with size")!;
        Assert.AreEqual("✗ beyond its limits in 6 of 84 points", small.Answer);
        StringAssert.Contains(small.Text, "below 2^22 the time an element is at most 1.32 times that at 2^22");
        Finding large = Of(SampleRun.Map(Run, row => Is(row, "(4096, 64, 4, 4)", "fraction_of_copy") ? row with { Value = 0.89 } : row), "Growth with size")!;
        Assert.AreEqual("✗ beyond its limits in 6 of 84 points", large.Answer);
        StringAssert.Contains(large.Text, "at least 0.890");
        Finding untimed = Of(SampleRun.Map(Run, row => Is(row, "(4, 64, 4, 4)", "ns_per_element") ? row with { Value = null, Spread = null } : row), "Growth with size")!;
        Assert.AreEqual("within its limits in 78 points, 6 not timed", untimed.Answer);

        static bool Is(Measurement row, string shape, string metric) => row.Metric == metric && row.Parameters!.ContainsKey("scaling") && row.Parameters["shape"] is string at && at == shape;
    }

    [TestMethod]
    public void Draw_Threads_ComparesTheGainWithTheCopys()
    {
        RunData even = SampleRun.Map(Run, row => row.Metric == "fraction_of_copy" ? row with { Value = 0.8 } : row);
        Assert.AreEqual("✓ 102 of 102 cells gain as the copy does", Of(even, "More threads")!.Answer);
        RunData slow = SampleBenchmark.Change(even, "fraction_of_copy", row => row with { Value = 0.95 });
        Finding finding = Of(slow, "More threads")!;
        Assert.AreEqual("✗ 101 of 102 cells gain as the copy does", finding.Answer);
        StringAssert.Contains(finding.Text, "None is slower than on one thread. The least gain is 0.842 of the copy's");
        RunData slower = SampleBenchmark.Change(even, "ns_per_element", row => row with { Value = 0.1, Spread = [0.09, 0.11] });
        Assert.AreEqual("✗ 102 of 102 cells gain as the copy does", Of(slower, "More threads")!.Answer);
        StringAssert.Contains(Of(slower, "More threads")!.Text, "1 is slower than on one thread.");
    }

    [TestMethod]
    public void Draw_Allocation_NamesTheMost()
    {
        Assert.AreEqual("✓ none", Of(Run, "Memory allocated by a warm call")!.Answer);
        Finding finding = Of(SampleBenchmark.Change(Run, "bytes_allocated", row => row with { Value = 64 }), "Memory allocated by a warm call")!;
        Assert.AreEqual("✗ by 1 of 390 cells", finding.Answer);
        Assert.AreEqual("At most 64 B (batch-norm forward (32, 64, 56, 56), channels-first, 1 thread).", finding.Text);
    }

    [TestMethod]
    public void Draw_Cells_SaysWhatWasTimedBesideWhom()
    {
        StringAssert.StartsWith(
            Of(Run, "Cells")!.Text,
            "7 strategies, forward, backward, inference and forward+backward, on 10 shapes of 8,192 to 6,422,528 elements, channels-first and channels-last, on 1 thread and 2 threads; "
            + "timed in turns with a memory copy, PyTorch, oneDNN and TensorPrimitives; from ");
        RunData one = SampleRun.Map(Run, row => row.Strategy == "group-norm" && row.Parameters!["shape"] is "(64, 128)" && row.Parameters["threads"] is 1L ? row : null);
        StringAssert.StartsWith(Of(one, "Cells")!.Text, "1 strategy, forward, backward and inference, on 1 shape of 8,192 elements, channels-first, on 1 thread; timed in turns with a memory copy, PyTorch and TensorPrimitives, without oneDNN; from ");
    }

    [TestMethod]
    public void Draw_Untimed_IsCountedAndNamed()
    {
        Finding finding = Of(SampleBenchmark.Change(Run, "ns_per_element", row => row with { Value = null, Spread = null, Note = "check failed" }), "Cells")!;
        StringAssert.EndsWith(finding.Text, "Not timed: batch-norm forward (32, 64, 56, 56), channels-first, 1 thread.");
    }

    [TestMethod]
    public void Draw_CrossCheck_AgreesWhereIntervalsOverlap()
    {
        Assert.AreEqual("✗ differs in 1 of 2 cells", Of(Run, "BenchmarkDotNet as a cross-check")!.Answer);
        RunData wide = SampleRun.Map(Run, row => row.Parameters!["engine"] is "benchmarkdotnet" ? row with { Spread = [0.1, 9] } : row);
        Assert.AreEqual("✓ agrees in 2 cells", Of(wide, "BenchmarkDotNet as a cross-check")!.Answer);
    }

    [TestMethod]
    public void Draw_CrossCheckWithOurClockAlone_IsHeldToItRatherThanToTheCellInTurns()
    {
        CaseRecord check = Run.Cases.Single(record => record.Measurements.Any(row => row.Parameters!["engine"] is "benchmarkdotnet"));
        Measurement[] alone =
        [
            .. check.Measurements.Where(row => row.Metric == "ns_per_element").Select(row => row with
            {
                Parameters = new Dictionary<string, object>(row.Parameters!) { ["engine"] = "alone" },
            }),
        ];
        RunData run = Run with { Cases = [.. Run.Cases, check with { Case = "alone", Measurements = alone }] };

        Assert.AreEqual("✓ agrees in 2 cells", Of(run, "BenchmarkDotNet as a cross-check")!.Answer);
        Assert.AreEqual(Of(Run, "Cells")!.Answer, Of(run, "Cells")!.Answer);
    }

    [TestMethod]
    public void Draw_Comparison_SaysNothingOfABenchmark()
    {
        foreach (Finding finding in Findings.Draw(SampleRun.Build())) CollectionAssert.DoesNotContain(new[] { "Cells", "Against the fastest peer", "More threads" }, finding.Case);
    }

    private static Finding? Of(RunData run, string name) => Findings.Draw(run).FirstOrDefault(finding => finding.Case == name);
}
