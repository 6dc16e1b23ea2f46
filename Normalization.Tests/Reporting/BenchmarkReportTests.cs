using System.Net;
using System.Text.RegularExpressions;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class BenchmarkReportTests
{
    private static readonly RunData Run = SampleBenchmark.Build();
    private static readonly string Page = new HtmlReport().Write(Run);

    [TestMethod]
    public void Write_Benchmark_NeedsNoNetworkAndNoScript()
    {
        foreach (string forbidden in new[] { "<script", "<link", "<img", "<iframe", "@import", "url(", "http:", "https:", "javascript:" })
            Assert.IsFalse(Page.Contains(forbidden, StringComparison.OrdinalIgnoreCase), forbidden);
        Assert.IsLessThan(1_000_000, System.Text.Encoding.UTF8.GetByteCount(Page));
    }

    [TestMethod]
    public void Write_Benchmark_BalancesItsTagsAndItsLinksLeadSomewhere()
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
        foreach (Match link in Regex.Matches(Page, "href=\"#([^\"]*)\"")) CollectionAssert.Contains(ids, link.Groups[1].Value);
    }

    [TestMethod]
    public void Write_EveryCell_HasARowInItsTableAndInTheChart()
    {
        foreach (string strategy in new[] { "batch-norm", "layer-norm", "instance-norm", "zca-whitening" })
        {
            string section = Section(Page, strategy);
            foreach (var direction in Run.Measurements.Where(row => row.Strategy == strategy && row.Metric == "fraction_of_copy" && !row.Parameters!.ContainsKey("scaling")).GroupBy(row => (string)row.Parameters!["direction"]))
            {
                string table = Regex.Match(section, $"<caption>{strategy}, {Regex.Escape(direction.Key)}</caption>.*?</table>", RegexOptions.Singleline).Value;
                Assert.HasCount(direction.Count(), Regex.Matches(table, "<tr><th scope=\"row\""), $"{strategy} {direction.Key}");
            }
        }

        Assert.HasCount(6, Regex.Matches(Section(Page, "batch-norm"), "<svg"), "three directions on two numbers of threads");
        foreach (Match chart in Regex.Matches(Section(Page, "batch-norm"), "<svg.*?</svg>", RegexOptions.Singleline)) Assert.AreEqual(12, Regex.Count(chart.Value, "channels-(first|last)</text>"));
    }

    [TestMethod]
    public void Write_LosingAndWinningCells_AreMarkedByWordSignAndColour()
    {
        string table = Regex.Match(Section(Page, "layer-norm"), "<caption>layer-norm, forward</caption>.*?</table>", RegexOptions.Singleline).Value;
        StringAssert.Contains(table, "class=\"refuted\">✗ (512, 4096)<small>channels-first, 1 thread</small>");
        StringAssert.Contains(table, "class=\"w refuted\">✗ loses<small>beside oneDNN: 0.25 ns/element</small></td>");
        StringAssert.Contains(table, "class=\"best\">✓ (4096, 768)<small>channels-first, 1 thread</small>");
        StringAssert.Contains(table, "class=\"w best\">✓ wins<small>beside oneDNN: 0.25 ns/element</small></td>");
        Assert.AreEqual(2, Regex.Count(table, "✗ loses"));
        StringAssert.Contains(Section(Page, "layer-norm"), ">✗ (512, 4096)</text>");

        string overview = Section(Page, "overview");
        Assert.AreEqual(2, Regex.Count(Regex.Match(overview, "<caption>Cells that lose.*?</table>", RegexOptions.Singleline).Value, "✗ loses"));
        StringAssert.Contains(overview, "✗ 2</td>");
        StringAssert.Contains(new MarkdownReport().Write(Run), "| (512, 4096) ✗ (channels-first, 1 thread) | loses ✗ (beside oneDNN: 0.25 ns/element) |");
    }

    [TestMethod]
    public void Write_NoCellLoses_HasNoTableOfThem()
    {
        RunData won = SampleRun.Map(Run, row => row.Metric == "speedup_vs_fastest_peer" && row.Value < 1 ? row with { Value = 1, Spread = [0.9, 1.1] } : row);
        string page = new HtmlReport().Write(won);
        Assert.IsFalse(page.Contains("Cells that lose", StringComparison.Ordinal));
        Assert.IsFalse(page.Contains(">✗ loses", StringComparison.Ordinal));
        StringAssert.Contains(Section(page, "layer-norm"), "<td class=\"w\">undecided<small>");
    }

    [TestMethod]
    public void Write_MissingPeer_IsStatedWithItsReason()
    {
        string section = Section(Page, "group-norm");
        StringAssert.Contains(section, "class=\"missing\">not formed<sup>");
        StringAssert.Contains(section, "<li>oneDNN 2.6 has no such normalization</li>");
        StringAssert.Contains(section, "time of oneDNN over ours: none");

        RunData without = SampleRun.Map(Run, row => row.Metric == "speedup_vs_pytorch" ? row with { Value = null, Spread = null, Note = "PyTorch is not installed: python3-torch brings it" } : row);
        string top = Section(new HtmlReport().Write(without), "findings");
        StringAssert.Contains(top, "PyTorch is missing from this run: PyTorch is not installed: python3-torch brings it.");
        StringAssert.Contains(top, "without PyTorch");
    }

    [TestMethod]
    public void Write_LargeTensors_AreMarkedByTheirBoundAndSayWhatASecondReadCosts()
    {
        RunData run = SampleRun.Map(Run, row => row.Metric != "fraction_of_bound" ? row : row with { Value = 0.9, Spread = [0.88, 0.93] });
        run = SampleBenchmark.Change(run, "fraction_of_bound", row => row with { Value = 0.85, Spread = [0.84, 0.95] });
        string section = Regex.Replace(Section(new HtmlReport().Write(run), "bound"), " id=\"m[0-9]+\"", "");
        StringAssert.Contains(section, "<caption>The five strategies, 1 thread: 29 of 30 cells reach 0.9 of the bound</caption>");
        StringAssert.Contains(section, "<caption>The five strategies, 2 threads: 30 of 30 cells reach 0.9 of the bound</caption>");
        StringAssert.Contains(
            section, "class=\"refuted\">✗ batch-norm forward<small>(32, 64, 56, 56), channels-first</small></th><td class=\"w refuted\">✗ below 0.9</td><td>0.850<small>0.840 – 0.950</small></td>");
        Assert.AreEqual(59, Regex.Count(section, "class=\"w best\">✓ reaches 0.9</td><td>0.900<small>0.880 – 0.930</small></td>"));
        Assert.AreEqual(8, Regex.Count(section, "<td>0.0800<small>x</small></td>"), "layer norm forward and in inference");
        Assert.AreEqual(4, Regex.Count(section, "<td>0.200<small>x and dy</small></td>"));
        Assert.AreEqual(48, Regex.Count(section, "<td>none</td>"));
        StringAssert.Contains(new MarkdownReport().Write(run), "| batch-norm forward ✗ ((32, 64, 56, 56), channels-first) | below 0.9 ✗ | 0.850 (0.840 – 0.950) |");
    }

    [TestMethod]
    public void Write_RecordsWithoutABound_HaveNoSectionOfIt()
    {
        RunData older = SampleRun.Map(Run, row => row.Metric is "fraction_of_bound" or "second_read_ns_per_element" ? null : row);
        string page = new HtmlReport().Write(older);
        Assert.AreEqual("", Section(page, "bound"));
        StringAssert.Contains(Section(page, "findings"), "of the copy");
        StringAssert.Contains(page, "<caption>layer-norm, forward</caption>");
    }

    [TestMethod]
    public void Write_Growth_HasTablesChartsAndTheCurve()
    {
        string section = Section(Page, "growth");
        Assert.AreEqual(3, Regex.Count(section, "<svg"));
        StringAssert.Contains(section, ">2^22</th>");
        StringAssert.Contains(section, WebUtility.HtmlEncode("its curve k (C²M + C³)"));
        // The sample's times follow the curve exactly.
        Assert.AreEqual(6, Regex.Count(section, "<small>1.00 times the curve</small>"));
        Assert.IsFalse(section.Contains("\">✗", StringComparison.Ordinal));

        RunData slow = SampleRun.Map(Run, row => row.Metric == "fraction_of_copy" && row.Parameters!.ContainsKey("scaling") && row.Strategy == "layer-norm" && row.Value > 0.9 ? row with { Value = 0.85 } : row);
        string broken = Section(new HtmlReport().Write(slow), "growth");
        // 2^22 to 2^25 in two directions.
        Assert.AreEqual(8, Regex.Count(broken, "class=\"refuted\">✗ 0.850"));
    }

    [TestMethod]
    public void Write_CrossCheck_SaysAgreeOrDiffer()
    {
        string section = Section(Page, "cross-check");
        StringAssert.Matches(section, new("batch-norm forward<small>\\(32, 64, 56, 56\\), channels-first, 1 thread</small></th><td class=\"w best\">✓ agree"));
        StringAssert.Matches(section, new("batch-norm backward<small>.*?</th><td class=\"w refuted\">✗ differ"));
    }

    [TestMethod]
    public void Write_Parts_AreSharesOfTheWholeCall()
    {
        string section = Section(Page, "parts");
        // The sample's call takes 0.3 / 0.05 ns an element, its parts 0.3 / 0.2, 0.3 / 0.05 and 0.3 / 0.15.
        StringAssert.Matches(section, new("<td[^>]*>6(.00)?<small>5.88 – 6.18</small></td><td[^>]*>1.50<small>25(.0)? %</small></td><td[^>]*>6(.00)?<small>100 %</small></td><td[^>]*>2(.00)?<small>33.3 %</small>"));
    }

    [TestMethod]
    public void Write_Comparison_HasNoSectionOfTheBenchmark()
    {
        string page = new HtmlReport().Write(SampleRun.Build());
        foreach (string id in new[] { "overview", "bound", "growth", "parts", "cross-check" }) Assert.IsFalse(page.Contains($"<section id=\"{id}\"", StringComparison.Ordinal), id);
        StringAssert.Contains(page, "<h2>Which strategy for which case</h2>");
        StringAssert.Contains(Page, "<h2>What was measured</h2>");
    }

    [TestMethod]
    [DataRow("<script>alert(1)</script>")]
    [DataRow("</style></title></svg>&amp;")]
    public void Write_HostileText_IsEscapedEverywhere(string hostile)
    {
        RunData run = SampleRun.Map(SampleRun.Swap(Run, "layer-norm", hostile), row => row with
        {
            Note = hostile,
            Parameters = row.Parameters!.ToDictionary(pair => pair.Key, pair => pair.Value is "backward" or "channels-last" ? hostile : pair.Value),
        });
        string page = new HtmlReport().Write(run);
        Assert.IsFalse(page.Contains(hostile, StringComparison.Ordinal));
        StringAssert.Contains(page, WebUtility.HtmlEncode(hostile));
    }

    private static string Section(string page, string id) => Regex.Match(page, $"<section id=\"{id}\">.*?</section>", RegexOptions.Singleline).Value;
}
