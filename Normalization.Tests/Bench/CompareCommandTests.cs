using System.Diagnostics;
using System.Globalization;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;
using Normalization.Tests.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench;

[TestClass]
public sealed class CompareCommandTests : IDisposable
{
    private static readonly string[] Small = ["--strategies", "batch-norm,layer-norm", "--aspects", "outputs", "--scenarios", "gaussian,features"];

    // Cases enough that a run does not end before it is stopped.
    private static readonly string[] Long = ["--strategies", "batch-norm,zca-whitening", "--aspects", "gradients", "--threads", "1"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    public void Compare_IntoAPipe_WritesAReportAndPrintsFindingsAlone()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, Small);

        Assert.AreEqual(0, result.ExitCode, result.Error);
        string report = Directory.GetDirectories(_folder.File("reports")).Single();
        StringAssert.Matches(Path.GetFileName(report), new(@"^\d{8}-\d{6}$"));
        RunData run = RunFile.Load(report);
        Assert.IsTrue(run.Complete);
        Assert.HasCount(4, run.Cases);
        string[] expected = [.. Findings.Draw(run).Select(finding => finding.Text), Path.Combine("reports", Path.GetFileName(report), "index.html")];
        string[] lines = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.HasCount(expected.Length + 1, lines);
        StringAssert.StartsWith(lines[0], "Settings: ");
        StringAssert.Contains(lines[0], "epsilon: 1e-5; affine: random weight and bias");
        for (int i = 0; i < expected.Length; i++)
        {
            StringAssert.EndsWith(lines[i + 1], expected[i]);
        }

        Assert.IsFalse((result.Output + result.Error).Any(letter => letter is '\e' or '\r'), "control codes in a pipe");
        StringAssert.Contains(result.Error, "0/4 cases");
    }

    [TestMethod]
    public void Report_AfterCompare_WritesTheSameBytes()
    {
        BenchProcess.Run(_folder.Path, [.. Small, "--out", "run"]);
        string[] names = ["results.json", "results.csv", "report.md", "index.html"];
        byte[][] before = [.. names.Select(name => File.ReadAllBytes(_folder.File($"run/{name}")))];
        foreach (string name in names)
        {
            File.Delete(_folder.File($"run/{name}"));
        }

        BenchResult result = BenchProcess.Run(_folder.Path, "report", "run");

        Assert.AreEqual(0, result.ExitCode, result.Error);
        for (int i = 0; i < names.Length; i++)
        {
            CollectionAssert.AreEqual(before[i], File.ReadAllBytes(_folder.File($"run/{names[i]}")), names[i]);
        }
    }

    [TestMethod]
    public void Compare_NothingCanBeMeasured_ExitsWith4AndSaysWhy()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "--strategies", "instance-norm", "--scenarios", "features", "--aspects", "outputs", "--out", "run");

        Assert.AreEqual(4, result.ExitCode);
        Assert.AreEqual("", result.Output);
        StringAssert.Contains(result.ErrorLines[^1], "InstanceNorm averages over spatial positions");
        Assert.IsTrue(File.Exists(_folder.File("run/index.html")));
    }

    [TestMethod]
    public void Report_RecordsWithAFailedCheck_ExitsWith1AndNamesTheCase()
    {
        RunData run = SampleRun.Build();
        using (RunRecorder recorder = RunRecorder.Create(_folder.File("run"), run.Header))
        {
            recorder.Append(run.Cases[0] with { Failure = "the first\nand the last differ" });
        }

        BenchResult result = BenchProcess.Run(_folder.Path, "report", "run");

        Assert.AreEqual(1, result.ExitCode);
        CollectionAssert.AreEqual(
            new[]
            {
                $"incomplete: 1 of {run.Header.CaseCount} cases are recorded; --resume with this folder goes on from there.",
                $"check failed: {run.Cases[0].Case}: the first and the last differ",
            },
            result.ErrorLines);
    }

    [TestMethod]
    [DataRow("my-data 7")]
    [DataRow("--seed 5")]
    [DataRow("")]
    public void Compare_ResumingWhatAnotherProgramRecorded_SaysSo(string arguments)
    {
        RunEnvironment environment = RunEnvironment.Capture("own-program", arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries), 1, 1);
        RunRecorder.Create(_folder.File("run"), new Comparer([StrategyCatalog.Contestant("none")]).Describe(environment)).Dispose();

        BenchResult result = BenchProcess.Run(_folder.Path, "compare", "--resume", "run");

        Assert.AreEqual(2, result.ExitCode);
        StringAssert.Contains(result.ErrorLines.Single(), "begun by another program");
    }

    [TestMethod]
    public void Compare_FolderOfAnotherRun_ChangesNothing()
    {
        BenchProcess.Run(_folder.Path, [.. Small, "--out", "run"]);
        byte[] records = File.ReadAllBytes(_folder.File("run/records.jsonl"));

        BenchResult again = BenchProcess.Run(_folder.Path, [.. Small, "--out", "run"]);
        BenchResult resumed = BenchProcess.Run(_folder.Path, [.. Small, "--resume", "run", "--seed", "2", "--thorough"]);

        BenchResult other = BenchProcess.Run(_folder.Path, "speed", "--resume", "run");

        Assert.AreEqual(2, other.ExitCode);
        StringAssert.Contains(other.Error, "begun by compare");
        Assert.AreEqual(2, again.ExitCode);
        StringAssert.Contains(again.Error, "--resume run");
        Assert.AreEqual(2, resumed.ExitCode);
        StringAssert.Contains(resumed.Error, "seed was 1 and is now 2");
        StringAssert.Contains(resumed.Error, "thorough was no and is now yes");
        Assert.HasCount(1, resumed.ErrorLines);
        CollectionAssert.AreEqual(records, File.ReadAllBytes(_folder.File("run/records.jsonl")));
    }

    [TestMethod]
    [DataRow("INT", 130)]
    [DataRow("TERM", 143)]
    public void Compare_Signal_StopsWithinASecondAndResumesWithThePrintedCommand(string signal, int exitCode)
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Inconclusive("Signals are sent with kill.");
        }

        if (signal == "INT" && IgnoresInterrupts())
        {
            Assert.Inconclusive("This process was started with SIGINT ignored, as shells do behind '&', and children inherit that.");
        }

        using Process process = BenchProcess.Start(_folder.Path, [.. Long, "--out", "my run"]);
        string records = _folder.File("my run/records.jsonl");
        while (!process.HasExited && (!File.Exists(records) || File.ReadAllLines(records).Length < 3))
        {
            Thread.Sleep(20);
        }

        BenchProcess.Signal(process, signal);
        long sent = Stopwatch.GetTimestamp();
        BenchResult stopped = BenchProcess.Finish(process);
        TimeSpan took = Stopwatch.GetElapsedTime(sent);

        Assert.AreEqual(exitCode, stopped.ExitCode, stopped.Error);
        Assert.AreEqual("", stopped.Output);

        // One second is the promise; the rest is for a machine that does other things beside.
        Assert.IsLessThan(5, took.TotalSeconds);
        byte[] kept = File.ReadAllBytes(records);
        RunData part = RunFile.Load(_folder.File("my run"));
        Assert.IsFalse(part.Complete);
        StringAssert.Contains(stopped.ErrorLines[^1], string.Create(CultureInfo.InvariantCulture, $"{part.Cases.Count} of {part.Header.CaseCount} cases are kept"));
        StringAssert.Contains(File.ReadAllText(_folder.File("my run/report.md")), "ncomplete");

        string command = stopped.ErrorLines[^1].Split("Go on with: ")[1];
        StringAssert.EndsWith(command, "compare --resume 'my run'");
        BenchResult resumed = BenchProcess.Run(_folder.Path, "compare", "--resume", "my run");

        Assert.AreEqual(0, resumed.ExitCode, resumed.Error);
        RunData whole = RunFile.Load(_folder.File("my run"));
        Assert.IsTrue(whole.Complete);
        CollectionAssert.AreEqual(kept, File.ReadAllBytes(records)[..kept.Length]);
    }

    // SIGINT is the second bit of the set.
    private static bool IgnoresInterrupts() =>
        File.ReadLines("/proc/self/status").First(line => line.StartsWith("SigIgn:", StringComparison.Ordinal)) is var line
        && (ulong.Parse(line[7..].Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture) & 2) != 0;
}
