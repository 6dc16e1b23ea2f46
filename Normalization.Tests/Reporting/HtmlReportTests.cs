using System.Text.RegularExpressions;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class HtmlReportTests
{
    private static readonly RunData Run = SampleRun.Build();
    private static readonly string Page = new HtmlReport().Write(Run);

    [TestMethod]
    public void Write_SampleRun_NeedsNoNetworkAndNoScript()
    {
        foreach (string forbidden in new[] { "<script", "<link", "<img", "<iframe", "@import", "url(", "http:", "https:", "javascript:", " on" + "click" })
            Assert.IsFalse(Page.Contains(forbidden, StringComparison.OrdinalIgnoreCase), forbidden);
        foreach (Match match in Regex.Matches(Page, "(?:src|href)=\"([^\"]*)\""))
            Assert.IsTrue(match.Groups[1].Value is ['#', ..] or "report.md" or "results.json" or "results.csv" or "records.jsonl", match.Value);
        Assert.IsLessThan(1_000_000, System.Text.Encoding.UTF8.GetByteCount(Page));
    }

    [TestMethod]
    public void Write_SampleRun_BalancesItsTagsAndRepeatsNoId()
    {
        var open = new Stack<string>();
        foreach (Match tag in Regex.Matches(Page, "<(/?)([a-zA-Z0-9]+)[^>]*?(/?)>"))
        {
            string name = tag.Groups[2].Value;
            if (name is "meta" || tag.Groups[3].Length > 0) continue;
            if (tag.Groups[1].Length == 0) open.Push(name);
            else Assert.AreEqual(name, open.Pop(), Page[Math.Max(0, tag.Index - 200)..tag.Index]);
        }

        Assert.IsEmpty(open);
        string[] ids = [.. Regex.Matches(Page, " id=\"([^\"]*)\"").Select(match => match.Groups[1].Value)];
        Assert.HasCount(ids.Length, ids.Distinct().ToArray());
    }

    [TestMethod]
    public void Write_EveryLink_LeadsSomewhere()
    {
        string[] links = [.. Regex.Matches(Page, "href=\"#([^\"]*)\"").Select(match => match.Groups[1].Value)];
        foreach (string link in links) StringAssert.Contains(Page, $" id=\"{link}\"");

        // From a sentence to its row of results.json, and from there to the cell that shows it.
        foreach (var row in Findings.Draw(Run).SelectMany(finding => finding.Rows))
        {
            CollectionAssert.Contains(links, $"row-{row.Index}");
            CollectionAssert.Contains(links, $"m{row.Index}");
        }
    }

    [TestMethod]
    public void Write_EveryChart_HasTitleDescriptionAndDataTable()
    {
        var figures = Regex.Matches(Page, "<figure>.*?</figure>", RegexOptions.Singleline);
        Assert.HasCount(Regex.Count(Page, "<svg"), figures);
        // 7 heat maps, 2 spectra, 5 curves on each of 2 scenarios, 3 bar charts.
        Assert.HasCount(7 + 2 + 10 + 3, figures);
        foreach (Match figure in figures)
        {
            Assert.IsTrue(Regex.IsMatch(figure.Value, "<svg class=\"chart\" viewBox=\"[0-9. ]+\" role=\"img\"><title>[^<]+</title><desc>[^<]+</desc>"), figure.Value);
            Assert.IsTrue(Regex.IsMatch(figure.Value, "</svg>\\s*<details><summary>[^<]+</summary>\\s*<div class=\"scroll\"[^>]*><table class=\"data\">"), figure.Value);
        }
    }

    [TestMethod]
    public void Write_EveryColumnOfNumbers_HasALegend()
    {
        var tables = Regex.Matches(Page, "<table class=\"data\">(?<head>.*?)</thead>.*?</table></div>\n(?<after>(<ol class=\"notes\">.*?</ol>\n)?(<dl class=\"legend\">.*?</dl>)?)", RegexOptions.Singleline);
        Assert.IsGreaterThan(30, tables.Count);
        foreach (Match table in tables)
        {
            var heads = Regex.Matches(table.Groups["head"].Value, "<th scope=\"col\"(?<class> class=\"w\")?>(?<text>[^<]*)");
            var numbers = heads.Where(head => !head.Groups["class"].Success && head.Groups["text"].Value is not ("index" or "value")).ToList();
            if (numbers.Count > 0) StringAssert.Contains(table.Groups["after"].Value, "<dt>");
            foreach (var head in numbers)
            {
                string name = head.Groups["text"].Value.Split(',')[0];
                Assert.IsTrue(
                    SampleRun.Strategies.Contains(name) || table.Groups["after"].Value.Contains($"<dt>{name}</dt>", StringComparison.Ordinal) || table.Groups["after"].Value.Contains("<dt>values</dt>", StringComparison.Ordinal),
                    $"{head.Value} in {table.Groups["head"].Value}");
            }
        }

        foreach (var metric in Metrics.All.Where(metric => Run.Measurements.Any(row => row.Metric == metric.Id)))
            StringAssert.Contains(Page, System.Net.WebUtility.HtmlEncode(metric.Legend));
    }

    [TestMethod]
    [DataRow("<script>alert(1)</script>")]
    [DataRow("\" onmouseover=\"x")]
    [DataRow("</style></title></svg>&amp;")]
    public void Write_HostileText_IsEscapedEverywhere(string hostile)
    {
        var run = SampleRun.Map(SampleRun.Swap(Run, "ghost-batch-norm", hostile), row => row with
        {
            Note = hostile,
            Scenario = row.Scenario == "features" ? hostile : row.Scenario,
            Parameters = row.Parameters?.ToDictionary(pair => pair.Key, pair => pair.Value is "batch-permutation" or "channels-first" ? hostile : pair.Value),
        });
        run = run with
        {
            Header = run.Header with
            {
                Environment = run.Header.Environment with { Cpu = hostile, CommandLine = hostile },
                Settings = new Dictionary<string, string> { ["data"] = hostile, [hostile] = hostile },
                Strategies = [.. Run.Header.Strategies, new StrategyDescription(hostile, hostile, hostile)],
                Scenarios = [new ScenarioDescription("gaussian", hostile, hostile), .. Run.Header.Scenarios.Skip(1)],
            },
            Cases = [run.Cases[0] with { Failure = hostile }, .. run.Cases.Skip(1)],
        };
        string page = new HtmlReport().Write(run);
        Assert.IsFalse(page.Contains(hostile, StringComparison.Ordinal));
        StringAssert.Contains(page, System.Net.WebUtility.HtmlEncode(hostile));
    }

    [TestMethod]
    public void Write_IncompleteOrFailedRun_SaysSoAtTheTop()
    {
        Assert.IsFalse(Page.Contains("class=\"warning\"", StringComparison.Ordinal));
        var broken = Run with { Cases = [Run.Cases[0] with { Failure = "off by 3" }, .. Run.Cases.Skip(1).SkipLast(1)] };
        string page = new HtmlReport().Write(broken);
        string top = page[..page.IndexOf("<main>", StringComparison.Ordinal)];
        StringAssert.Contains(top, $"Incomplete: {Run.Cases.Count - 1} of {Run.Cases.Count} cases");
        StringAssert.Contains(top, $"none failed its checks in 1 case and is recommended nowhere; {Run.Cases[0].Case}: off by 3</div>");
    }

    [TestMethod]
    public void Write_StrategyWithManyFailures_HasOneBannerAndItsMarkInTables()
    {
        var broken = Run with
        {
            Cases = [.. Run.Cases.Select(record => record.Case.EndsWith("/batch-norm", StringComparison.Ordinal) ? record with { Failure = $"off by {record.Case.Length} <m>" } : record)],
        };
        string[] failed = [.. broken.Cases.Where(record => record.Failure is not null).Select(record => record.Case)];
        Assert.IsGreaterThan(3, failed.Length);
        string page = new HtmlReport().Write(broken);
        string top = page[..page.IndexOf("<main>", StringComparison.Ordinal)];
        Assert.AreEqual(1, Regex.Count(top, "class=\"warning\""));
        StringAssert.Contains(top, $"batch-norm failed its checks in {failed.Length} cases and is recommended nowhere; first: {failed[0]}: off by");
        foreach (string name in failed) StringAssert.Contains(top, $"<li>{name}: off by");

        string summary = Regex.Match(page, "<caption>Speed, .*?</table>", RegexOptions.Singleline).Value;
        string row = Regex.Match(summary, "<tr><th scope=\"row\"[^>]*>batch-norm<small>✗ failed a check</small>.*?</tr>").Value;
        Assert.AreNotEqual("", row);
        Assert.IsFalse(row.Contains('★'));
    }

    [TestMethod]
    public void Write_Origin_NamesMachineDateSeedAndData()
    {
        string origin = Regex.Match(Page, "<p class=\"origin\">(.*?)</p>").Groups[1].Value;
        foreach (string expected in new[] { "2026-03-01 09:30:00 UTC", "Example CPU 3.0 GHz", "seed 1", "generated digits" }) StringAssert.Contains(origin, expected);
    }

    [TestMethod]
    public void Write_TimesOfWhichMostAreTied_MarksNone()
    {
        RunData busy = SampleRun.Map(Run, row => row.Aspect != "speed" ? row
            : row.Strategy != "zca-whitening" ? row with { Value = 3, Spread = [1, 5] }
            : Metrics.Find(row.Metric)!.Better == Better.Lower ? row with { Value = 9, Spread = [8, 10] }
            : row with { Value = 0.1, Spread = [0.1, 0.1] });
        string summary = Regex.Match(new HtmlReport().Write(busy), "<caption>Speed, .*?</table>", RegexOptions.Singleline).Value;
        StringAssert.Contains(summary, "<small>1 – 5</small>");
        Assert.IsFalse(summary.Contains('★'));
    }

    [TestMethod]
    public void Write_Summary_MarksTheBestAndNeverTheYardstick()
    {
        string summary = Regex.Match(Page, "<caption>Speed, .*?</table>", RegexOptions.Singleline).Value;
        string[] rows = [.. Regex.Matches(summary, "<tr><th scope=\"row\".*?</tr>", RegexOptions.Singleline).Select(match => match.Value)];
        StringAssert.Contains(rows.Single(row => row.Contains("batch-norm<", StringComparison.Ordinal) && !row.Contains("ghost", StringComparison.Ordinal)), "class=\"best\">★ ");
        Assert.IsFalse(rows.Single(row => row.Contains(">none<", StringComparison.Ordinal)).Contains('★'));

        foreach (Match cell in Regex.Matches(Page, "<td[^>]*class=\"[^\"]*refuted[^\"]*\">(.)")) Assert.AreEqual("✗", cell.Groups[1].Value);
        StringAssert.Contains(Page, "✗ refuted<small>0.210, gaussian</small>");
    }

    [TestMethod]
    public void Write_StatedRow_ReadsNotFormedWithItsNote()
    {
        string summary = Regex.Match(Page, "<caption>Output noise over batch size, gaussian.*?</ol>", RegexOptions.Singleline).Value;
        StringAssert.Contains(summary, "class=\"missing\">not formed<sup>1</sup>");
        StringAssert.Contains(summary, "<li>M = 8 columns cannot fill a 16 x 16 covariance.</li>");
    }
}
