using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Tests.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench;

[TestClass]
public sealed class DiffCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    public void Diff_SlowerRow_ExitsWith1AndPrintsItFirst()
    {
        Write("base", 1, 1, 1);
        Write("new", 1, 1.5, 0.5);

        BenchResult result = BenchProcess.Run(_folder.Path, "diff", "base", "new/results.json");

        Assert.AreEqual(1, result.ExitCode, result.Error);
        Assert.AreEqual("", result.Error);
        string[] lines = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        StringAssert.Matches(lines[0], new(@"^verdict +new/base +within +ns/element +row$"));
        StringAssert.Matches(lines[1], new(@"^slower +1\.5 +1\.47 to 1\.53 +1 -> 1\.5 +batch-norm: shape \(1, 8\)$"));
        StringAssert.Matches(lines[2], new(@"^faster +0\.5 .*\(2, 8\)$"));
        StringAssert.Matches(lines[3], new(@"^same +1 .*\(0, 8\)$"));
        Assert.AreEqual("3 rows: 1 slower, 1 faster, 0 too noisy to tell, 1 same; threshold 10%; only in BASE 0, only in NEW 0", lines[^1]);
    }

    [TestMethod]
    [DataRow("50%")]
    [DataRow("0.5")]
    public void Diff_ThresholdOfHalf_LetsAThirdPass(string threshold)
    {
        Write("base", 1, 1);
        Write("new", 1.3, 1.3);

        BenchResult result = BenchProcess.Run(_folder.Path, "diff", "base", "new", "--threshold", threshold);

        Assert.AreEqual(0, result.ExitCode, result.Error);
        StringAssert.Contains(result.Output, "2 rows: 0 slower, 0 faster, 0 too noisy to tell, 2 same; threshold 50%");
    }

    [TestMethod]
    public void Diff_RowsOfOneRun_AreNamedAndNoFailure()
    {
        Write("base", 1, 1, 1);
        Write("new", 1, 1);

        BenchResult result = BenchProcess.Run(_folder.Path, "diff", "base", "new");

        Assert.AreEqual(0, result.ExitCode, result.Error);
        StringAssert.Contains(result.Output, "only in BASE: batch-norm: shape (2, 8)\n");
        StringAssert.Contains(result.Output, "only in BASE 1, only in NEW 0");
    }

    [TestMethod]
    public void Diff_OtherMachine_IsRefusedUnlessAllowed()
    {
        Write("base", 1);
        Write("new", header => header with { Environment = header.Environment with { Cpu = "Other CPU" } }, 2);

        BenchResult refused = BenchProcess.Run(_folder.Path, "diff", "base", "new");
        Assert.AreEqual(4, refused.ExitCode);
        Assert.AreEqual("", refused.Output);
        Assert.AreEqual(
            "error: not comparable: cpu was Example CPU 3.0 GHz and is now Other CPU. Measure both runs on one machine, or compare all the same with --allow-other-machine.",
            refused.Error.Trim());

        BenchResult allowed = BenchProcess.Run(_folder.Path, "diff", "base", "new", "--allow-other-machine");
        Assert.AreEqual(1, allowed.ExitCode);
        StringAssert.StartsWith(allowed.Error, "warning: another machine: cpu was");
        StringAssert.Contains(allowed.Output, "1 row: 1 slower");
    }

    [TestMethod]
    public void Diff_OtherSettings_AreRefusedWhateverIsAllowed()
    {
        Write("base", 1);
        Write("new", header => header with { Settings = new Dictionary<string, string>(header.Settings) { ["tier"] = "dry" } }, 1);

        BenchResult result = BenchProcess.Run(_folder.Path, "diff", "base", "new", "--allow-other-machine");

        Assert.AreEqual(4, result.ExitCode);
        Assert.AreEqual("error: not comparable: tier was not set and is now dry. Measure both runs with the same settings.", result.Error.Trim());
    }

    [TestMethod]
    public void Diff_NoCommonRow_ExitsWith4()
    {
        Write("base");
        Write("new", 1);

        BenchResult result = BenchProcess.Run(_folder.Path, "diff", "base", "new");

        Assert.AreEqual(4, result.ExitCode);
        StringAssert.Contains(result.Error, "no ns_per_element row is formed in both runs (0 only in BASE, 1 only in NEW)");
    }

    [TestMethod]
    [DataRow("diff base", "two runs", "reports/before")]
    [DataRow("diff nowhere base", "nowhere", "results.json")]
    [DataRow("diff base taken", "taken", "records.jsonl")]
    [DataRow("diff base taken/file.json", "file.json", "no results.json")]
    [DataRow("diff base base extra", "'extra'", "diff --help")]
    [DataRow("diff base base --threshold 10", "'10'", "10%")]
    [DataRow("diff base base --threshold -5%", "'-5%'", "0% to 1000%")]
    [DataRow("diff base base --threshold NaN", "'NaN'", "10%")]
    [DataRow("diff base base --threshold Infinity%", "'Infinity%'", "10%")]
    [DataRow("diff base base --threshold ten", "'ten'", "0.1")]
    public void Diff_BadArguments_ExitWith2AndOneLine(string arguments, string value, string wayOut)
    {
        Write("base", 1);
        Directory.CreateDirectory(_folder.File("taken"));
        File.WriteAllText(_folder.File("taken/file.json"), "text");

        BenchResult result = BenchProcess.Run(_folder.Path, arguments.Split(' '));

        Assert.AreEqual(2, result.ExitCode, result.Error);
        Assert.AreEqual("", result.Output);
        Assert.HasCount(1, result.ErrorLines, result.Error);
        StringAssert.Contains(result.Error, value);
        StringAssert.Contains(result.Error, wayOut);
    }

    [TestMethod]
    public void Help_NamesEveryOptionAndGivesExamples()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "diff", "--help");

        Assert.AreEqual(0, result.ExitCode);
        foreach (string word in new[] { "BASE", "NEW", "--threshold", "--allow-other-machine", "Exits with 1", "Examples:", "--threshold 5%" })
        {
            StringAssert.Contains(result.Output, word);
        }
    }

    private void Write(string name, params double[] times) => Write(name, header => header, times);

    private void Write(string name, Func<RunHeader, RunHeader> change, params double[] times)
    {
        RunHeader header = change(SampleRun.Build().Header with { CaseCount = 1 });
        using RunRecorder recorder = RunRecorder.Create(_folder.File(name), header);
        recorder.Append(new CaseRecord { Case = "speed/speed/batch-norm", Seconds = 1, Measurements = [.. times.Select(Row)] });
        ReportFiles.WriteAll(_folder.File(name), recorder.Run);
    }

    private static Measurement Row(double time, int index) => new()
    {
        Aspect = Aspects.Speed,
        Strategy = "batch-norm",
        Scenario = "speed",
        Metric = "ns_per_element",
        Value = time,
        Unit = "ns/element",
        Spread = [time * 0.99, time * 1.01],
        Parameters = new Dictionary<string, object> { ["shape"] = $"({index}, 8)" },
    };
}
