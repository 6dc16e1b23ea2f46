using System.Text;
using System.Text.Json;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class RunFileTests
{
    private static readonly RunData Run = SampleRun.Build();
    private string _root = "";

    private string Folder => Path.Combine(_root, "run");

    private string Records => Path.Combine(Folder, RunFile.FileName);

    [TestInitialize]
    public void MakeFolder() => _root = Directory.CreateTempSubdirectory("normalization-").FullName;

    [TestCleanup]
    public void RemoveFolder() => Directory.Delete(_root, recursive: true);

    [TestMethod]
    public void Load_WholeRun_GivesEveryRowBack()
    {
        Record(Run.Cases.Count);
        var read = RunFile.Load(Folder);

        Assert.IsTrue(read.Complete);
        Assert.IsTrue(Text(Run.InOrder()) == Text(read), "The rows that were read differ from those written.");
        Assert.IsTrue(new JsonReport().Write(Run.InOrder()) == new JsonReport().Write(read), "results.json differs.");
        CollectionAssert.AreEqual(Run.Header.Settings.ToList(), read.Header.Settings.ToList());
        Assert.AreEqual(Run.Header.Environment with { Packages = read.Header.Environment.Packages }, read.Header.Environment);
    }

    [TestMethod]
    [DataRow(double.NaN, "\"NaN\"")]
    [DataRow(double.PositiveInfinity, "\"Infinity\"")]
    [DataRow(double.NegativeInfinity, "\"-Infinity\"")]
    [DataRow(0.1, "0.1")]
    [DataRow(-0.0, "-0")]
    [DataRow(5e-324, "5E-324")]
    [DataRow(double.MaxValue, "1.7976931348623157E+308")]
    public void Append_SpecialValues_RoundTripBitForBit(double value, string json)
    {
        Record(0, Case("a", Row() with { Value = value, Spread = [value, value] }));
        StringAssert.Contains(File.ReadAllText(Records), $"\"value\":{json},");

        var row = RunFile.Load(Folder).Measurements.Single();
        Assert.AreEqual(BitConverter.DoubleToInt64Bits(value), BitConverter.DoubleToInt64Bits(row.Value!.Value));
        Assert.AreEqual(BitConverter.DoubleToInt64Bits(value), BitConverter.DoubleToInt64Bits(row.Spread![1]));
    }

    [TestMethod]
    public void Append_MissingValue_IsNullAndKeepsItsNote()
    {
        Record(0, Case("a", Row() with { Value = null, Note = "one value" }));
        StringAssert.Contains(File.ReadAllText(Records), "\"value\":null");

        var row = RunFile.Load(Folder).Measurements.Single();
        Assert.IsNull(row.Value);
        Assert.IsNull(row.Spread);
        Assert.AreEqual("one value", row.Note);
    }

    [TestMethod]
    public void Append_Parameters_KeepTheirTypes()
    {
        object[] values = ["32", "NaN", 32L, long.MinValue, 32.0, 0.1, 1e300, -0.0, true, false, "", "β \"quoted\"\n"];
        Record(0, Case("a", Row() with { Parameters = values.Index().ToDictionary(pair => $"p{pair.Index}", pair => pair.Item) }));

        var read = RunFile.Load(Folder).Measurements.Single().Parameters!;
        CollectionAssert.AreEqual(values, read.Values.ToArray());
        CollectionAssert.AreEqual(values.Select(value => value.GetType()).ToArray(), read.Values.Select(value => value.GetType()).ToArray());
    }

    [TestMethod]
    public void Append_ParameterNotANumber_IsRefusedAndNothingWritten()
    {
        using var recorder = RunRecorder.Create(Folder, Run.Header);
        long before = new FileInfo(Records).Length;
        var error = Assert.ThrowsExactly<NotSupportedException>(() => recorder.Append(Case("a", Row() with { Parameters = new Dictionary<string, object> { ["n"] = double.NaN } })));
        StringAssert.Contains(error.Message, "finite");
        Assert.AreEqual(before, new FileInfo(Records).Length);
    }

    [TestMethod]
    public void Append_EachCase_IsReadableBeforeDispose()
    {
        using var recorder = RunRecorder.Create(Folder, Run.Header);
        for (int i = 0; i < 3; i++)
        {
            recorder.Append(Run.Cases[i]);
            Assert.HasCount(i + 1, RunFile.Load(Folder).Cases);
        }

        Assert.IsFalse(RunFile.Load(Folder).Complete);
    }

    [TestMethod]
    public void Append_SameCaseTwice_IsRefused()
    {
        using var recorder = RunRecorder.Create(Folder, Run.Header);
        recorder.Append(Run.Cases[0]);
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => recorder.Append(Run.Cases[0])).Message, Run.Cases[0].Case);
        Assert.HasCount(1, recorder.Cases);
    }

    [TestMethod]
    public void Create_ExistingReport_IsRefusedWithBothWaysOut()
    {
        Record(2);
        byte[] before = File.ReadAllBytes(Records);
        var error = Assert.ThrowsExactly<IOException>(() => RunRecorder.Create(Folder, Run.Header).Dispose());
        StringAssert.Contains(error.Message, "--out");
        StringAssert.Contains(error.Message, "--resume");
        CollectionAssert.AreEqual(before, File.ReadAllBytes(Records));
    }

    [TestMethod]
    public void Create_FolderWithOtherFiles_IsRefusedWithoutOfferingResume()
    {
        Directory.CreateDirectory(Folder);
        File.WriteAllText(Path.Combine(Folder, "thesis.txt"), "mine");
        var error = Assert.ThrowsExactly<IOException>(() => RunRecorder.Create(Folder, Run.Header).Dispose());
        StringAssert.Contains(error.Message, "thesis.txt");
        Assert.IsFalse(error.Message.Contains("--resume", StringComparison.Ordinal));
        CollectionAssert.AreEqual(new[] { "thesis.txt" }, Directory.GetFiles(Folder).Select(Path.GetFileName).ToArray());
    }

    [TestMethod]
    public void Create_EmptyFolder_Works()
    {
        Directory.CreateDirectory(Folder);
        Record(1);
        CollectionAssert.AreEqual(new[] { RunFile.FileName }, Directory.GetFiles(Folder).Select(Path.GetFileName).ToArray());
    }

    [TestMethod]
    public void Create_FolderBelowAFile_SaysNotWritable()
    {
        string file = Path.Combine(_root, "file");
        File.WriteAllText(file, "");
        StringAssert.Contains(Assert.ThrowsExactly<IOException>(() => RunRecorder.Create(file, Run.Header)).Message, "it is a file");
        StringAssert.Contains(Assert.ThrowsExactly<IOException>(() => RunRecorder.Create(Path.Combine(file, "run"), Run.Header)).Message, "--out");
    }

    [TestMethod]
    public void Create_WhileAnotherRecords_IsRefused()
    {
        using (var first = RunRecorder.Create(Folder, Run.Header))
        {
            StringAssert.Contains(Assert.ThrowsExactly<IOException>(() => RunRecorder.Create(Folder, Run.Header)).Message, "in use");
            StringAssert.Contains(Assert.ThrowsExactly<IOException>(() => RunRecorder.Resume(Folder, Run.Header)).Message, "in use");
            first.Append(Run.Cases[0]);
        }

        using var next = RunRecorder.Resume(Folder, Run.Header);
        Assert.HasCount(1, next.Cases);
    }

    [TestMethod]
    public void Resume_HalfARun_EndsLikeAnUninterruptedOne()
    {
        Record(Run.Cases.Count / 2);
        using (var recorder = RunRecorder.Resume(Folder, Run.Header))
        {
            Assert.HasCount(Run.Cases.Count / 2, recorder.Cases);
            foreach (var record in Run.Cases.Skip(recorder.Cases.Count).ToList()) recorder.Append(record);
        }

        Assert.AreEqual(Text(Run), File.ReadAllText(Records));
    }

    [TestMethod]
    public void Resume_AtAnotherTime_KeepsTheFirstHeader()
    {
        Record(1);
        var later = Run.Header with { Environment = Run.Header.Environment with { Started = "2027-01-01T00:00:00Z", CommandLine = "compare --resume run" } };
        using var recorder = RunRecorder.Resume(Folder, later);
        Assert.AreEqual(Run.Header.Environment.Started, recorder.Header.Environment.Started);
    }

    [TestMethod]
    public void Resume_AnotherMachineOrProgram_IsRefusedAndNamesBoth()
    {
        Record(1);
        var elsewhere = Run.Header with { Environment = Run.Header.Environment with { Cpu = "Another CPU", Commit = "other" } };
        var error = Assert.ThrowsExactly<ArgumentException>(() => RunRecorder.Resume(Folder, elsewhere));
        Assert.Contains("commit was 0.1.0+0123456789abcdef and is now other", error.Message);
        Assert.Contains("cpu was Example CPU 3.0 GHz and is now Another CPU", error.Message);
    }

    [TestMethod]
    public void Load_CasesInAnyOrder_ComeInTheOrderOfTheReport()
    {
        using (var recorder = RunRecorder.Create(Folder, Run.Header))
        {
            foreach (var record in Run.Cases.Reverse()) recorder.Append(record);
        }

        CollectionAssert.AreEqual(Run.InOrder().Cases.Select(record => record.Case).ToList(), RunFile.Load(Folder).Cases.Select(record => record.Case).ToList());
    }

    [TestMethod]
    [DataRow(1)]
    [DataRow(40)]
    [DataRow(-1)]
    public void Resume_TornLastLine_IsCutOff(int kept)
    {
        Record(3);
        byte[] bytes = File.ReadAllBytes(Records);
        byte[] last = JsonSerializer.SerializeToUtf8Bytes(Run.Cases[3], RecordJson.Options);
        File.WriteAllBytes(Records, [.. bytes, .. last[..(kept < 0 ? last.Length : kept)]]);

        Assert.HasCount(3, RunFile.Load(Folder).Cases);
        using (var recorder = RunRecorder.Resume(Folder, Run.Header))
        {
            Assert.HasCount(3, recorder.Cases);
            recorder.Append(Run.Cases[3]);
        }

        Assert.AreEqual(Text(Run with { Cases = [.. Run.Cases.Take(4)] }), File.ReadAllText(Records));
    }

    [TestMethod]
    public void Resume_DifferentSettings_NamesEachDifference()
    {
        Record(1);
        var settings = Run.Header.Settings.ToDictionary();
        settings["epsilon"] = "1e-3";
        settings.Remove("thorough");
        settings["groups"] = "2";
        var other = Run.Header with
        {
            Settings = settings,
            Strategies = [.. Run.Header.Strategies.Skip(1)],
            Scenarios = [.. Run.Header.Scenarios.Reverse()],
            CaseCount = Run.Header.CaseCount - 1,
        };
        byte[] before = File.ReadAllBytes(Records);

        string message = Assert.ThrowsExactly<ArgumentException>(() => RunRecorder.Resume(Folder, other)).Message;
        foreach (string expected in new[] { "epsilon was 1e-5 and is now 1e-3", "thorough was false and is now not set", "groups was not set and is now 2", "strategies was", "scenarios was", "number of cases was" })
            StringAssert.Contains(message, expected);
        Assert.IsFalse(message.Contains("data was", StringComparison.Ordinal));
        CollectionAssert.AreEqual(before, File.ReadAllBytes(Records));
    }

    [TestMethod]
    public void Resume_NoSuchFolder_SaysSo() =>
        StringAssert.Contains(Assert.ThrowsExactly<DirectoryNotFoundException>(() => RunRecorder.Resume(Folder, Run.Header)).Message, "--out");

    [TestMethod]
    public void Load_NoRecords_SaysWhatIsMissing() =>
        StringAssert.Contains(Assert.ThrowsExactly<FileNotFoundException>(() => RunFile.Load(_root)).Message, RunFile.FileName);

    [TestMethod]
    [DataRow(0, "{\"schemaVersion\":2,\"new\":[]}", "line 1: schemaVersion is 2")]
    [DataRow(0, "[]", "line 1: no header of a run (")]
    [DataRow(0, "{\"broken", "Name a folder that --out wrote; if this is one, restore its first line, or run again with another --out.")]
    [DataRow(0, "{\"schemaVersion\":1}", "line 1: no header of a run (")]
    [DataRow(2, "{\"case\":", "line 3: no record of a case (")]
    [DataRow(2, "{}", "). Delete the line, and --resume measures its case again.")]
    [DataRow(2, "null", "line 3: no record of a case (it is null).")]
    [DataRow(2, "{\"case\":\"x\",\"seconds\":1,\"measurements\":[],\"extra\":1}", "line 3")]
    [DataRow(2, "{\"case\":\"x\",\"seconds\":1,\"measurements\":null}", "line 3")]
    [DataRow(3, "", "line 4")]
    public void Load_CorruptLine_IsNamed(int index, string line, string expected)
    {
        Record(5);
        string[] lines = File.ReadAllLines(Records);
        lines[index] = line;
        File.WriteAllLines(Records, lines);
        StringAssert.Contains(Assert.ThrowsExactly<InvalidDataException>(() => RunFile.Load(Folder)).Message, expected);
    }

    [TestMethod]
    public void Load_RepeatedCase_NamesBothLines()
    {
        Record(3);
        File.AppendAllText(Records, File.ReadAllLines(Records)[2] + "\n");
        string message = Assert.ThrowsExactly<InvalidDataException>(() => RunFile.Load(Folder)).Message;
        StringAssert.Contains(message, "line 5");
        StringAssert.Contains(message, "already on line 3");
    }

    [TestMethod]
    public void Load_SpreadOfOne_IsCorrupt()
    {
        Record(0, Case("a", Row() with { Spread = [1] }));
        StringAssert.Contains(Assert.ThrowsExactly<InvalidDataException>(() => RunFile.Load(Folder)).Message, "line 2");
    }

    [TestMethod]
    public void Load_TornHeader_SaysNothingWasRecorded()
    {
        Directory.CreateDirectory(Folder);
        File.WriteAllText(Records, "{\"schemaVersion\":1,");
        StringAssert.Contains(Assert.ThrowsExactly<InvalidDataException>(() => RunFile.Load(Folder)).Message, "nothing was recorded");
    }

    private void Record(int count, params CaseRecord[] more)
    {
        using var recorder = RunRecorder.Create(Folder, Run.Header);
        foreach (var record in Run.Cases.Take(count).Concat(more)) recorder.Append(record);
    }

    private static CaseRecord Case(string id, params Measurement[] rows) => new() { Case = id, Seconds = 1, Measurements = rows };

    private static Measurement Row() => new() { Aspect = Aspects.Outputs, Strategy = "s", Scenario = "gaussian", Metric = "float_error", Value = 1, Unit = "1" };

    private static string Text(RunData run)
    {
        var text = new StringBuilder(JsonSerializer.Serialize(run.Header, RecordJson.Options)).Append('\n');
        foreach (var record in run.Cases) text.Append(JsonSerializer.Serialize(record, RecordJson.Options)).Append('\n');
        return text.ToString();
    }
}
