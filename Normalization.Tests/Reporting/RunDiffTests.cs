using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class RunDiffTests
{
    private static readonly ResultFile Sample = new(SampleRun.Build().Header.Environment, SampleRun.Build().Header.Settings, []);

    [TestMethod]
    // The base takes 1.00 with an interval from 0.98 to 1.02; the threshold is 10 %.
    [DataRow(1.20, 1.15, 1.25, TimeChange.Slower)]
    [DataRow(0.80, 0.75, 0.85, TimeChange.Faster)]
    [DataRow(1.01, 0.99, 1.03, TimeChange.Same)]
    // The intervals separate, and yet the effect is small.
    [DataRow(1.05, 1.04, 1.06, TimeChange.Same)]
    // The effect is large, and yet the intervals overlap.
    [DataRow(1.20, 1.01, 1.60, TimeChange.TooNoisy)]
    [DataRow(0.80, 0.60, 0.99, TimeChange.TooNoisy)]
    // Neither a change nor its absence.
    [DataRow(1.00, 0.80, 1.20, TimeChange.TooNoisy)]
    [DataRow(1.08, 1.05, 1.15, TimeChange.TooNoisy)]
    [DataRow(double.PositiveInfinity, 1.05, 1.15, null)]
    public void Between_OneRow_IsJudgedByIntervalAndEffect(double value, double low, double high, TimeChange? expected)
    {
        RunDiff diff = RunDiff.Between(With(Row(1, 0.98, 1.02)), With(Row(value, low, high)), 0.1);

        Assert.AreEqual(expected, diff.Rows.SingleOrDefault()?.Change);
        RunDiff back = RunDiff.Between(With(Row(value, low, high)), With(Row(1, 0.98, 1.02)), 0.1);
        TimeChange? exchanged = expected switch { TimeChange.Slower => TimeChange.Faster, TimeChange.Faster => TimeChange.Slower, _ => expected };
        Assert.AreEqual(exchanged, back.Rows.SingleOrDefault()?.Change);
    }

    [TestMethod]
    [DataRow(0.05, TimeChange.Slower)]
    [DataRow(0.1, TimeChange.TooNoisy)]
    [DataRow(0.2, TimeChange.Same)]
    public void Between_OtherThreshold_JudgesOtherwise(double threshold, TimeChange expected) =>
        Assert.AreEqual(expected, RunDiff.Between(With(Row(1, 0.99, 1.01)), With(Row(1.08, 1.07, 1.12)), threshold).Rows.Single().Change);

    [TestMethod]
    public void Between_NoInterval_IsTooNoisy()
    {
        Measurement bare = Row(3, 3, 3) with { Spread = null };
        TimeDifference row = RunDiff.Between(With(Row(1, 1, 1)), With(bare), 0.1).Rows.Single();
        Assert.AreEqual(TimeChange.TooNoisy, row.Change);
        Assert.AreEqual(3, row.Ratio);
    }

    [TestMethod]
    public void Between_RowsOfOneRunAlone_AreNamed()
    {
        Measurement shared = Row(1, 1, 1), gone = Row(1, 1, 1, "(8, 8)"), added = Row(1, 1, 1, "(9, 9)");
        Measurement unformed = Row(1, 1, 1, "(7, 7)");
        RunDiff diff = RunDiff.Between(With(shared, gone, unformed), With(shared, added, unformed with { Value = null, Note = "refused" }), 0.1);

        Assert.HasCount(1, diff.Rows);
        CollectionAssert.AreEqual(new[] { gone, unformed }, diff.OnlyInBase.ToArray());
        CollectionAssert.AreEqual(new[] { added }, diff.OnlyInNew.ToArray());
        Assert.AreEqual("batch-norm: shape (9, 9), threads 2", RunDiff.Name(added));
        Assert.AreEqual("batch-norm on gaussian: shape (9, 9), threads 2", RunDiff.Name(added with { Scenario = "gaussian" }));
    }

    [TestMethod]
    public void Between_Identity_IsEverythingButValueAndOrderOfParameters()
    {
        Measurement row = Row(1, 1, 1);
        Measurement turned = row with { Parameters = row.Parameters!.Reverse().ToDictionary() };
        Assert.HasCount(1, RunDiff.Between(With(row), With(turned), 0.1).Rows);
        foreach (Measurement other in new[] { row with { Strategy = "layer-norm" }, row with { Scenario = "gaussian" }, Row(1, 1, 1, "(8, 8)") })
            Assert.IsEmpty(RunDiff.Between(With(row), With(other), 0.1).Rows);
        // Other metrics are no times.
        Assert.IsEmpty(RunDiff.Between(With(row with { Metric = "fraction_of_copy" }), With(row with { Metric = "fraction_of_copy" }), 0.1).Rows);
        Assert.ThrowsExactly<InvalidDataException>(() => RunDiff.Between(With(row, row), With(row), 0.1));
    }

    [TestMethod]
    public void Between_MemoryCopies_GiveTheirMedianRatio()
    {
        Measurement[] Copies(params double[] times) => [.. times.Select((time, i) => Row(time, time, time, $"({i}, 8)") with { Metric = "copy_ns_per_element" })];
        Assert.AreEqual(2, RunDiff.Between(With(Copies(1, 1, 1)), With(Copies(2, 9, 0.5)), 0.1).CopyRatio);
        Assert.IsEmpty(RunDiff.Between(With(Copies(1)), With(Copies(2)), 0.1).Rows);
        Assert.AreEqual(double.NaN, RunDiff.Between(With(Row(1, 1, 1)), With(Row(1, 1, 1)), 0.1).CopyRatio);
    }

    [TestMethod]
    public void Between_ChangedRows_ComeFirst()
    {
        double[] ratios = [1, 0.5, 1.3, 2, 0.7];
        Measurement[] before = [.. ratios.Select((_, i) => Row(1, 0.99, 1.01, $"({i}, 8)"))];
        Measurement[] after = [.. ratios.Select((ratio, i) => Row(ratio, ratio * 0.99, ratio * 1.01, $"({i}, 8)"))];
        RunDiff diff = RunDiff.Between(With(before), With(after), 0.1);
        CollectionAssert.AreEqual(new[] { 2, 1.3, 0.7, 0.5, 1 }, diff.Rows.Select(row => row.Ratio).ToArray());
    }

    [TestMethod]
    public void Between_OtherMachineOrSettings_SaysWhich()
    {
        ResultFile other = Sample with
        {
            Environment = Sample.Environment with { Cpu = "Other CPU", SimdBits = 256, Runtime = ".NET 10.0.2", Commit = "0.2.0", Started = "later", Threads = 1 },
            Settings = new Dictionary<string, string>(Sample.Settings) { ["thorough"] = "true", ["filter"] = "batch-norm/*", ["second_level_cache"] = "2048 KB" },
        };
        RunDiff diff = RunDiff.Between(Sample, other, 0.1);
        CollectionAssert.AreEqual(
            new[] { "cpu was Example CPU 3.0 GHz and is now Other CPU", "vector bits was 512 and is now 256", "runtime was .NET 10.0.1 and is now .NET 10.0.2" },
            diff.MachineDifferences.ToArray());
        CollectionAssert.AreEqual(new[] { "thorough was false and is now true", "threads was 2 and is now 1" }, diff.SettingDifferences.ToArray());
    }

    [TestMethod]
    public void Load_FolderRecordsAndResults_ReadAlike()
    {
        using var folder = new TemporaryFolder();
        RunData run = SampleRun.Build();
        using (RunRecorder recorder = RunRecorder.Create(folder.File("run"), run.Header))
        {
            foreach (CaseRecord record in run.Cases.Where(record => record.Case.StartsWith("speed/", StringComparison.Ordinal))) recorder.Append(record);
            ReportFiles.WriteAll(folder.File("run"), recorder.Run);
        }

        File.Move(folder.File("run/results.json"), folder.File("base.json"));
        File.Copy(folder.File("run/records.jsonl"), folder.File("base"));
        ResultFile[] files = [.. new[] { "run", "run/records.jsonl", "base", "base.json" }.Select(name => ResultFile.Load(folder.File(name)))];
        foreach (ResultFile file in files)
        {
            RunDiff diff = RunDiff.Between(files[0], file, 0.2);
            Assert.IsEmpty(diff.MachineDifferences.Concat(diff.SettingDifferences));
            Assert.HasCount(run.Measurements.Count(row => row is { Metric: RunDiff.Metric, Value: not null }), diff.Rows);
            Assert.IsTrue(diff.Rows.All(row => row.Change == TimeChange.Same && row.Ratio == 1));
        }
    }

    [TestMethod]
    [DataRow("{}", "no results.json")]
    [DataRow("{", "no results.json")]
    [DataRow("[1]", "no results.json")]
    [DataRow("""{ "schemaVersion": 2 }""", "schemaVersion is 2")]
    public void Load_AnotherJson_SaysWhatIsWrong(string text, string expected)
    {
        using var folder = new TemporaryFolder();
        string path = folder.Write("results.json", System.Text.Encoding.UTF8.GetBytes(text));
        StringAssert.Contains(Assert.ThrowsExactly<InvalidDataException>(() => ResultFile.Load(path)).Message, expected);
    }

    private static ResultFile With(params Measurement[] rows) => Sample with { Measurements = rows };

    private static Measurement Row(double value, double low, double high, string shape = "(4, 8)") => new()
    {
        Aspect = Aspects.Speed,
        Strategy = "batch-norm",
        Scenario = "speed",
        Metric = "ns_per_element",
        Value = value,
        Unit = "ns/element",
        Spread = [low, high],
        Parameters = new Dictionary<string, object> { ["shape"] = shape, ["threads"] = 2L },
    };
}
