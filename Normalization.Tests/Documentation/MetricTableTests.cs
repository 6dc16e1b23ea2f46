using System.Text;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Documentation;

/// <summary>The table of metrics in docs/records.md is the program's own.</summary>
[TestClass]
public sealed class MetricTableTests
{
    private const string Heading = "## Metrics\n\n";

    [TestMethod]
    public void RecordsPage_TableOfMetrics_IsTheProgramsOwn()
    {
        string path = PageExample.PathOf("docs/records.md");
        string page = File.ReadAllText(path).ReplaceLineEndings("\n");
        string expected = page[..page.IndexOf(Heading, StringComparison.Ordinal)] + Heading + Table();
        if (Environment.GetEnvironmentVariable("UPDATE_DOCS") == "1")
        {
            File.WriteAllText(path, expected);
        }

        Assert.AreEqual(expected, File.ReadAllText(path).ReplaceLineEndings("\n"),
            "The table in docs/records.md is not Metrics.All. Run the tests once with UPDATE_DOCS=1 and review the diff.");
    }

    private static string Table()
    {
        var text = new StringBuilder("Unit 1 is a pure number. *Better* says which direction is the better one; *-* that the number only describes.\n");
        foreach (IGrouping<string, Metric> aspect in Metrics.All.GroupBy(metric => metric.Aspect))
        {
            text.Append("\n### ").Append(aspect.Key).Append("\n\n| metric | unit | better | meaning |\n|---|---|---|---|\n");
            foreach (Metric metric in aspect)
            {
                string better = metric.Better switch { Better.Lower => "lower", Better.Higher => "higher", _ => "-" };
                text.Append($"| `{metric.Id}` | {metric.Unit} | {better} | {metric.Legend.Replace("|", "\\|", StringComparison.Ordinal)} |\n");
            }
        }

        return text.ToString();
    }
}
