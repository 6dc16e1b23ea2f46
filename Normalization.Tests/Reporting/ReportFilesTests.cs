using System.Globalization;
using System.Text.Json;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class ReportFilesTests
{
    private static readonly RunData Run = SampleRun.Build();

    public static IEnumerable<object[]> Writers => ReportFiles.Writers.Select(writer => new object[] { writer });

    [TestMethod]
    [DynamicData(nameof(Writers))]
    public void Write_UnderACommaCulture_GivesTheSameBytes(IReportWriter writer)
    {
        string expected = writer.Write(Run);
        var before = CultureInfo.CurrentCulture;
        var comma = (CultureInfo)CultureInfo.InvariantCulture.Clone();
        comma.NumberFormat.NumberDecimalSeparator = ",";
        comma.NumberFormat.NumberGroupSeparator = ".";
        comma.NumberFormat.NegativeSign = "~";
        comma.NumberFormat.NaNSymbol = "keine Zahl";
        try
        {
            CultureInfo.CurrentCulture = comma;
            Assert.AreEqual("0,5", string.Format(null, "{0}", 0.5), "the culture is not in force");
            Assert.AreEqual(expected, writer.Write(Run));
            Assert.AreEqual(expected, writer.Write(SampleRun.Build()));
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [TestMethod]
    [DynamicData(nameof(Writers))]
    public void Write_NoCases_StillGivesAFile(IReportWriter writer) => Assert.AreNotEqual("", writer.Write(Run with { Cases = [] }));

    [TestMethod]
    [DynamicData(nameof(Writers))]
    public void Write_RecordsOfAnotherVersion_KeepsUnknownAspectsAndMetrics(IReportWriter writer)
    {
        var foreign = new Measurement
        {
            Aspect = "energy",
            Strategy = "their-norm",
            Scenario = "elsewhere",
            Metric = "joules",
            Value = 12.5,
            Unit = "J",
            Parameters = new Dictionary<string, object> { ["rail"] = "core" },
        };
        string text = writer.Write(Run with { Cases = [.. Run.Cases, new CaseRecord { Case = "energy/elsewhere/their-norm", Seconds = 1, Measurements = [foreign] }] });
        foreach (string expected in new[] { "energy", "their-norm", "joules", "12.5" }) StringAssert.Contains(text, expected);
    }

    [TestMethod]
    public void WriteAll_ExistingFiles_AreReplacedAndNothingElseIsLeft()
    {
        string folder = Directory.CreateTempSubdirectory("normalization-").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, "index.html"), "old");
            var written = ReportFiles.WriteAll(folder, Run);
            string[] expected = ["index.html", "report.md", "results.csv", "results.json"];
            CollectionAssert.AreEquivalent(expected, Directory.GetFiles(folder).Select(Path.GetFileName).ToArray());
            CollectionAssert.AreEquivalent(expected, written.Select(Path.GetFileName).ToArray());
            Assert.AreEqual(new HtmlReport().Write(Run), File.ReadAllText(Path.Combine(folder, "index.html")));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [TestMethod]
    public void JsonReport_SampleRun_HasTheSchema()
    {
        using var document = JsonDocument.Parse(new JsonReport().Write(Run));
        var root = document.RootElement;
        CollectionAssert.AreEqual(
            new[] { "schemaVersion", "complete", "environment", "settings", "strategies", "scenarios", "failures", "measurements" },
            root.EnumerateObject().Select(member => member.Name).ToArray());
        Assert.AreEqual(1, root.GetProperty("schemaVersion").GetInt32());
        Assert.IsTrue(root.GetProperty("complete").GetBoolean());
        Assert.AreEqual(512, root.GetProperty("environment").GetProperty("simdBits").GetInt32());
        Assert.AreEqual("11.0.0", root.GetProperty("environment").GetProperty("packages").GetProperty("System.Numerics.Tensors").GetString());
        Assert.AreEqual("generated digits", root.GetProperty("settings").GetProperty("data").GetString());

        var rows = Run.Measurements.ToList();
        var written = root.GetProperty("measurements");
        Assert.AreEqual(rows.Count, written.GetArrayLength());
        string[] always = ["aspect", "strategy", "scenario", "metric", "value", "unit"];
        string[] optional = ["spread", "parameters", "note"];
        for (int i = 0; i < rows.Count; i++)
        {
            string[] names = [.. written[i].EnumerateObject().Select(member => member.Name)];
            Assert.IsEmpty(always.Except(names), written[i].GetRawText());
            Assert.IsEmpty(names.Except(always).Except(optional), written[i].GetRawText());
            Assert.IsFalse(optional.Any(name => written[i].TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Null), written[i].GetRawText());
            var shown = written[i].GetProperty("value");
            if (rows[i].Value is not { } value) Assert.AreEqual(JsonValueKind.Null, shown.ValueKind);
            else if (double.IsFinite(value)) Assert.AreEqual(value, shown.GetDouble());
            else Assert.AreEqual(double.IsNaN(value) ? "NaN" : "Infinity", shown.GetString());
        }

        Assert.IsTrue(rows.Any(row => row.Value is null) && rows.Any(row => row.Value is double.NaN), "the sample must hold both");
    }

    [TestMethod]
    public void JsonReport_FailedAndMissingCases_SaysSo()
    {
        var broken = Run with { Cases = [Run.Cases[0] with { Failure = "the output was off by 3" }, .. Run.Cases.Skip(2)] };
        using var document = JsonDocument.Parse(new JsonReport().Write(broken));
        Assert.IsFalse(document.RootElement.GetProperty("complete").GetBoolean());
        var failure = document.RootElement.GetProperty("failures")[0];
        Assert.AreEqual(Run.Cases[0].Case, failure.GetProperty("case").GetString());
        Assert.AreEqual("the output was off by 3", failure.GetProperty("failure").GetString());
    }

    [TestMethod]
    public void CsvReport_SampleRun_HasARowForEachMeasurement()
    {
        string[] lines = new CsvReport().Write(Run).Split("\r\n");
        Assert.AreEqual("", lines[^1]);
        Assert.HasCount(Run.Measurements.Count() + 2, lines);
        Assert.AreEqual("aspect,strategy,scenario,metric,value,unit,spread_low,spread_high,parameters,note", lines[0]);
        int index = Run.Measurements.ToList().FindIndex(row => row.Metric == "ns_per_element");
        var row = Run.Measurements.ElementAt(index);
        Assert.AreEqual(string.Create(CultureInfo.InvariantCulture,
            $"speed,none,gaussian,ns_per_element,{row.Value:R},ns/element,{row.Spread![0]:R},{row.Spread[1]:R},\"shape=(32, 64, 56, 56);layout=channels-first;direction=forward;threads=2\","),
            lines[index + 1]);
    }

    [TestMethod]
    public void CsvReport_HostileFields_AreQuotedAndEscaped()
    {
        var row = new Measurement
        {
            Aspect = "outputs",
            Strategy = "a,\"b\"\r\nc",
            Scenario = "s",
            Metric = "float_error",
            Value = double.NegativeInfinity,
            Unit = "1",
            Parameters = new Dictionary<string, object> { ["k"] = "1;2=3\\4", ["on"] = true, ["x"] = 0.5 },
            Note = "",
        };
        string text = new CsvReport().Write(Run with { Cases = [new CaseRecord { Case = "c", Seconds = 1, Measurements = [row] }] });
        StringAssert.EndsWith(text, "outputs,\"a,\"\"b\"\"\r\nc\",s,float_error,-Infinity,1,,,k=1\\;2\\=3\\\\4;on=true;x=0.5,\r\n");
    }

    [TestMethod]
    public void MarkdownReport_SampleRun_HasWellFormedTablesAndTheFindingsFirst()
    {
        string text = new MarkdownReport().Write(Run);
        string[] headings = [.. text.Split('\n').Where(line => line.StartsWith("## ", StringComparison.Ordinal))];
        CollectionAssert.AreEqual(
            new[] { "## Which strategy for which case", "## Outputs", "## Gradients", "## Batch size", "## Speed", "## Claims", "## How this was measured" }, headings);

        int columns = 0;
        foreach (string line in text.Split('\n'))
        {
            int here = line.StartsWith('|') ? line.Replace("\\|", "", StringComparison.Ordinal).Count(letter => letter == '|') : 0;
            if (columns > 0 && here > 0) Assert.AreEqual(columns, here, line);
            columns = here;
        }

        StringAssert.Contains(text, "not formed");
        StringAssert.Contains(text, "✗");
        Assert.IsFalse(text.Contains("\n\n\n", StringComparison.Ordinal), "two empty lines in a row");
    }

    [TestMethod]
    public void MarkdownReport_HostileId_IsEscaped()
    {
        string text = new MarkdownReport().Write(SampleRun.Swap(Run, "batch-norm", "a|b<script>`*x*\n# y"));
        StringAssert.Contains(text, "a\\|b&lt;script\\>\\`\\*x\\* \\# y");
        Assert.IsFalse(text.Contains("<script>", StringComparison.Ordinal));
    }
}
