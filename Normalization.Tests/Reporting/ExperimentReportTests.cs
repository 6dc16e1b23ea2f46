using System.Text.RegularExpressions;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class ExperimentReportTests
{
    [TestMethod]
    public void Write_ChartWithALineParameter_JoinsStrategiesInALineAndLeavesOthersOut()
    {
        string page = new HtmlReport().Write(Run(new ExperimentChart("By rate", "test_accuracy", "multiplier", "multiplier", LogX: true, Line: "network")));
        string table = Regex.Match(page, "<table[^>]*>(?:(?!</table>).)*multiplier 5.*?</table>", RegexOptions.Singleline).Value;
        string[] rows = [.. Regex.Matches(table, "<tr><th scope=\"row\"[^>]*>(.*?)</th>").Select(match => match.Groups[1].Value)];
        CollectionAssert.AreEqual(new[] { "plain", "normalized" }, rows, table);
        StringAssert.Contains(table, "0.51");
        StringAssert.Contains(table, "0.55");
        StringAssert.Contains(table, "0.95");
        Assert.IsFalse(table.Contains("0.77", StringComparison.Ordinal), "a row without the parameter is in no line");
    }

    [TestMethod]
    public void Write_ChartWithALineParameterOfNumbers_NamesItBesideThem()
    {
        string page = new HtmlReport().Write(Run(new ExperimentChart("By rate", "test_accuracy", "multiplier", "multiplier", Line: "seed")));
        StringAssert.Contains(page, "seed 1, network plain");
    }

    [TestMethod]
    public void Write_ChartWithoutALineParameter_HasALineForEachStrategy()
    {
        string page = new HtmlReport().Write(Run(new ExperimentChart("By rate", "test_accuracy", "multiplier", "multiplier")));
        StringAssert.Contains(page, "a-x5, network plain");
        StringAssert.Contains(page, "b, network normalized");
    }

    [TestMethod]
    public void Write_SeveralLinesOfAStrategy_ShareItsColourAndNotItsDash()
    {
        string page = new HtmlReport().Write(Run(
            new ExperimentChart("By rate", "test_accuracy", "multiplier", "multiplier"),
            [Row("a", 1, "low", 0.1), Row("a", 5, "low", 0.2), Row("a", 1, "high", 0.8), Row("a", 5, "high", 0.9)]));
        string chart = Regex.Match(page, "<svg class=\"chart\".*?</svg>", RegexOptions.Singleline).Value;
        string[] lines = [.. Regex.Matches(chart, "<polyline class=\"line\"([^>]*?) points").Select(match => match.Groups[1].Value)];
        Assert.HasCount(2, lines, chart);
        Assert.AreNotEqual(lines[0], lines[1]);
        Assert.HasCount(1, Regex.Matches(chart, "<g class=\"(c\\d)\">").Select(match => match.Groups[1].Value).Distinct().ToList());
    }

    private static RunData Run(ExperimentChart chart) => Run(
        chart, [Row("a", 1, "plain", 0.51), Row("a-x5", 5, "plain", 0.55), Row("b", 5, "normalized", 0.95), Row("c", 5, null, 0.77)]);

    private static RunData Run(ExperimentChart chart, Measurement[] rows)
    {
        return new RunData(
            SampleRun.Build().Header with
            {
                Strategies = [.. rows.Select(row => row.Strategy).Distinct().Select(id => new StrategyDescription(id, "", ""))],
                Scenarios = [new ScenarioDescription("E2", "Title", "Question")],
                Experiments = [new ExperimentDescription("E2", "Title", "Question", ["Set-up."], [chart], [])],
                CaseCount = 1,
            },
            [new CaseRecord { Case = "training/E2/all/seed-001", Seconds = 1, Measurements = rows }]);
    }

    private static Measurement Row(string strategy, long multiplier, string? network, double value)
    {
        var parameters = new Dictionary<string, object>(StringComparer.Ordinal) { ["multiplier"] = multiplier, ["seed"] = 1L };
        if (network is not null)
        {
            parameters.Add("network", network);
        }

        return new Measurement { Aspect = Aspects.Training, Strategy = strategy, Scenario = "E2", Metric = "test_accuracy", Unit = "1", Value = value, Parameters = parameters };
    }
}
