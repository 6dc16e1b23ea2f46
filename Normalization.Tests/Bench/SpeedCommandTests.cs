using Normalization.Core.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench;

[TestClass]
public sealed class SpeedCommandTests : IDisposable
{
    private const string Cell = "batch-norm/forward/2x64x8x8/*";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    public void Speed_OneTensorBesideOnePeer_WritesAReport()
    {
        BenchResult result = BenchProcess.Run(
            _folder.Path, "speed", "--tier", "dry", "--filter", Cell, "--peers", "tensorprimitives", "--out", "run");

        Assert.AreEqual(0, result.ExitCode, result.Error);
        CollectionAssert.AreEquivalent(
            new[] { "index.html", "records.jsonl", "report.md", "results.csv", "results.json" },
            Directory.GetFiles(_folder.File("run")).Select(Path.GetFileName).ToArray());
        RunData run = RunFile.Load(_folder.File("run"));
        Assert.IsTrue(run.Complete);
        CollectionAssert.AreEqual(
            new[] { "batch-norm/forward/2x64x8x8/channels-first/1", "batch-norm/forward/2x64x8x8/channels-last/1" }, run.Cases.Select(record => record.Case).ToArray());
        string[] metrics =
        [
            "ns_per_element", "gigabytes_per_second", "fraction_of_copy", "copy_ns_per_element", "bytes_allocated", "speedup_vs_tensorprimitives", "speedup_vs_fastest_peer",
        ];
        foreach (CaseRecord record in run.Cases)
        {
            CollectionAssert.AreEquivalent(metrics, record.Measurements.Select(row => row.Metric).ToArray());
            Assert.IsTrue(record.Measurements.All(row => row.Value is not null), record.Case);
        }

        Assert.AreEqual("dry", run.Header.Settings["tier"]);
        StringAssert.Contains(run.Header.Settings["tensorprimitives"], "System.Numerics.Tensors");
        string[] lines = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        StringAssert.StartsWith(lines[0], "2 cells timed beside a peer");
        Assert.AreEqual(Path.Combine("run", "index.html"), lines[^1]);
        Assert.IsTrue(lines.Any(line => line.Contains("geometric mean of 2 cells", StringComparison.Ordinal)), result.Output);
    }

    [TestMethod]
    public void Speed_ResumedFinishedRun_MeasuresNothingAgain()
    {
        string[] arguments = ["speed", "--filter", "none/*/2x64x8x8/channels-first/*", "--peers", "tensorprimitives"];
        BenchProcess.Run(_folder.Path, [.. arguments, "--out", "run"]);
        byte[] records = File.ReadAllBytes(_folder.File("run/records.jsonl"));

        BenchResult again = BenchProcess.Run(_folder.Path, "speed", "--resume", "run");
        BenchResult other = BenchProcess.Run(_folder.Path, "speed", "--resume", "run", "--threads", "2");

        Assert.AreEqual(0, again.ExitCode, again.Error);
        StringAssert.Contains(again.Error, "0 of 3 cases to do");
        Assert.AreEqual(2, other.ExitCode);
        StringAssert.Contains(other.Error, "threads was 1 and is now 2");
        CollectionAssert.AreEqual(records, File.ReadAllBytes(_folder.File("run/records.jsonl")));
    }
}
