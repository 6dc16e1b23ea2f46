using System.Globalization;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class SvgChartTests
{
    private static readonly double?[] Hostile =
        [null, double.NaN, double.PositiveInfinity, double.NegativeInfinity, 0, -0.0, -1, 1e-320, 1e-300, 1, 1e300, double.MaxValue, double.MinValue];

    [TestMethod]
    public void Lines_EveryScaleAndHostileValue_WritesFiniteCoordinates()
    {
        foreach (var scale in Enum.GetValues<Scale>())
        {
            foreach (double? one in Hostile)
            {
                foreach (double? other in Hostile)
                {
                    ChartPoint[] points = [new(2, one, other, one), new(other ?? 4, other), new(8, 0.5, one, other)];
                    Check(SvgChart.Lines("t", "d", new ChartAxis("x", scale), new ChartAxis("y", scale), [new ChartSeries("s", 3, points)]), $"{scale} {one} {other}");
                }
            }
        }
    }

    [TestMethod]
    public void Bars_HostileValues_WriteFiniteCoordinates()
    {
        foreach (double? value in Hostile) Check(SvgChart.Bars("t", "d", "x", ["a", "b"], [new ChartBars("r", [value]), new ChartBars("q", [0.5, value])], 1, "limit"), $"{value}");
    }

    [TestMethod]
    public void Ratios_HostileValues_WriteFiniteCoordinates()
    {
        foreach (double? value in Hostile)
        {
            foreach (double? end in Hostile)
            {
                ChartRatio? ratio = value is { } number && end is { } other ? new ChartRatio(number, other, number) : null;
                Check(SvgChart.Ratios("t", "d", "x", ["a", "b"], [new ChartRatios("r", "s", [ratio, new ChartRatio(2, 1, 3)]), new ChartRatios("q", "", [ratio])]), $"{value} {end}");
            }
        }
    }

    [TestMethod]
    public void Ratios_AHalfAndDouble_LieAsFarFromOneWithTheirIntervals()
    {
        var svg = Check(SvgChart.Ratios("t", "d", "x", ["a"], [new ChartRatios("r", "", [new ChartRatio(0.5, 0.25, 0.5)]), new ChartRatios("q", "", [new ChartRatio(2, 2, 4)])]), "ratios");
        double one = Number(svg.Elements("path").Single(path => path.Attribute("class")?.Value == "limit").Attribute("d")!.Value[1..].Split(' ')[0]);
        var groups = svg.Elements("g").Take(2).ToList();
        double[] marks = [.. groups.Select(group => Number(group.Element("circle")!.Attribute("cx")!.Value))];
        Assert.AreEqual(one - marks[0], marks[1] - one, 0.05);
        // From a quarter to a half is as long as from 1 to double.
        double from = Number(groups[0].Elements("path").First().Attribute("d")!.Value[1..].Split(' ')[0]);
        Assert.AreEqual(marks[1] - one, marks[0] - from, 0.05);
    }

    [TestMethod]
    public void HeatMap_HostileValues_WriteFiniteCoordinates()
    {
        foreach (double? value in Hostile) Check(SvgChart.HeatMap("t", "d", "s", ["a", "b"], (row, column) => row == column ? 0 : value), $"{value}");
    }

    [TestMethod]
    public void EveryChart_NothingToShow_IsStillAChart()
    {
        Check(SvgChart.Lines("t", "d", new ChartAxis("x", Scale.Log2), new ChartAxis("y", Scale.Log10), []), "lines");
        Check(SvgChart.Bars("t", "d", "x", [], [], 1, "limit"), "bars");
        Check(SvgChart.Ratios("t", "d", "x", [], []), "ratios");
        Check(SvgChart.HeatMap("t", "d", "s", [], (_, _) => null), "heat map");
    }

    [TestMethod]
    public void Lines_MissingPoint_IsAGap()
    {
        ChartPoint[] points = [new(2, 1), new(4, 2), new(8, null), new(16, 3), new(32, 4), new(64, double.NaN), new(128, 5)];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x", Scale.Log2), new ChartAxis("y"), [new ChartSeries("s", 0, points)]), "gap");
        var lines = svg.Descendants("polyline").Select(line => line.Attribute("points")!.Value.Split(' ').Length).ToArray();
        CollectionAssert.AreEqual(new[] { 2, 2 }, lines);
        // Five points, one of them alone, and one in the legend.
        Assert.HasCount(6, svg.Descendants("circle"));
    }

    [TestMethod]
    public void Lines_Log2_PutsDoublingsAtEqualDistances()
    {
        ChartPoint[] points = [.. new[] { 2, 4, 8, 16 }.Select(n => new ChartPoint(n, n))];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x", Scale.Log2), new ChartAxis("y"), [new ChartSeries("s", 0, points)]), "log");
        double[][] at = [.. svg.Descendants("polyline").Single().Attribute("points")!.Value.Split(' ').Select(pair => pair.Split(',').Select(Number).ToArray())];
        for (int i = 2; i < at.Length; i++) Assert.AreEqual(at[1][0] - at[0][0], at[i][0] - at[i - 1][0], 0.02);
        // Upwards, linear: the step from 8 to 16 is four times that from 2 to 4.
        Assert.AreEqual(4 * (at[0][1] - at[1][1]), at[2][1] - at[3][1], 0.05);
    }

    [TestMethod]
    public void Lines_Log10_LeavesOutWhatLiesFarBelow()
    {
        ChartPoint[] points = [new(1, 1), new(2, 1e-3), new(3, 1e-17), new(4, 0)];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y", Scale.Log10), [new ChartSeries("s", 0, points)]), "floor");
        Assert.HasCount(2, svg.Descendants("polyline").Single().Attribute("points")!.Value.Split(' '));
        string[] ticks = [.. svg.Descendants("text").Select(text => text.Value)];
        CollectionAssert.IsSubsetOf(new[] { "1", "0.1", "0.01", "0.001" }, ticks);
        CollectionAssert.DoesNotContain(ticks, "1e-17");
    }

    // The least that counts is the least that a logarithmic axis would draw: neither 0 nor rounding makes one.
    [TestMethod]
    [DataRow(1.0, 0.5, 0.02, false)]
    [DataRow(1.0, 0.5, 0.009, true)]
    [DataRow(1.0, 0.5, 0.0, false)]
    [DataRow(1.0, 0.5, 1e-17, false)]
    [DataRow(1.0, 0.001, 0.0, true)]
    [DataRow(1.0, 0.001, -0.001, false)]
    public void Lines_ByRange_IsLogarithmicWhereValuesSpanMoreThanAHundred(double first, double second, double third, bool isLogarithmic)
    {
        ChartPoint[] points = [new(1, first), new(2, second), new(3, third)];
        string byRange = SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y", Scale.ByRange), [new ChartSeries("s", 0, points)]);
        string expected = SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y", isLogarithmic ? Scale.Log10 : Scale.Linear), [new ChartSeries("s", 0, points)]);
        Assert.AreEqual(expected, byRange);
    }

    [TestMethod]
    public void Lines_ThatLieOnEachOther_AreOneWithAllNames()
    {
        static ChartSeries Line(string name, int style, double? last) => new(name, style, [new ChartPoint(1, 1), new ChartPoint(2, last)]);
        ChartSeries[] series = [Line("a", 0, 0.5), Line("b", 1, 0.501), Line("c", 2, 0.6), Line("d", 3, null), Line("e", 4, 0.499), Line("f", 5, null)];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y"), series), "merged");
        string[] names = [.. svg.Elements("text").Select(text => text.Value).Where(text => Regex.IsMatch(text, "^[a-f](;|$)"))];
        CollectionAssert.AreEqual(new[] { "a; b; e", "c", "d; f" }, names);
        Assert.HasCount(2, svg.Descendants("polyline"));
    }

    [TestMethod]
    public void Lines_WithoutAPointOnALogarithmicAxis_AreNamedWithTheReason()
    {
        ChartSeries[] series = [new("a", 0, [new(1, 1), new(2, 0.001)]), new("b", 1, [new(1, 0), new(2, 0)]), new("c", 2, [new(1, 1e-12), new(2, 1e-11)]), new("d", 3, [new(1, null)]), new("e", 4, [new(1, 0), new(2, 0)]), new("f", 5, [new(1, 0), new(2, 1e-12)])];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y", Scale.ByRange), series), "reasons");
        string[] texts = [.. svg.Elements("text").Select(text => text.Value)];
        CollectionAssert.IsSubsetOf(new[] { "a", "at 0: b; e", "below the axis: c; f", "no value: d" }, texts);
    }

    [TestMethod]
    public void Lines_ManyNamesOnALine_AreWrittenInFullWithinTheChart()
    {
        string[] names = [.. Enumerable.Range(0, 11).Select(i => $"some-strategy-{i}")];
        ChartSeries[] series = [.. names.Select((name, style) => new ChartSeries(name, style, [new ChartPoint(1, 1), new ChartPoint(2, 2)])), new("another", 12, [new(1, 2)])];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y"), series), "wrapped");
        double[] box = [.. svg.Attribute("viewBox")!.Value.Split(' ').Select(Number)];
        var lines = svg.Elements("text").Where(text => text.Value.Contains("strategy", StringComparison.Ordinal) || text.Value == "another").ToList();
        Assert.AreEqual(string.Join("; ", names), string.Join(" ", lines.SkipLast(1).Select(line => line.Value)));
        double[] heights = [.. lines.Select(line => Number(line.Attribute("y")!.Value))];
        CollectionAssert.AreEqual(heights.Distinct().Order().ToArray(), heights, "each on its own line");
        foreach (var line in lines)
        {
            Assert.IsLessThan(box[3], Number(line.Attribute("y")!.Value));
            Assert.IsLessThanOrEqualTo(box[2], Number(line.Attribute("x")!.Value) + (line.Value.Length * 14 * 0.56));
        }
    }

    [TestMethod]
    public void Lines_Spread_IsABandAroundTheLine()
    {
        ChartPoint[] points = [new(1, 2, 1, 3), new(2, 2, 1, 3)];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y"), [new ChartSeries("s", 0, points)]), "band");
        double[] band = [.. svg.Descendants("polygon").Single().Attribute("points")!.Value.Split(' ').Select(pair => Number(pair.Split(',')[1]))];
        double line = Number(svg.Descendants("polyline").Single().Attribute("points")!.Value.Split(' ')[0].Split(',')[1]);
        CollectionAssert.AreEqual(new[] { true, true, false, false }, band.Select(y => y < line).ToArray());
        Assert.AreEqual(line - band[0], band[3] - line, 0.02);
    }

    [TestMethod]
    public void Lines_EightSeries_DifferInColourMarkerAndDash()
    {
        ChartSeries[] series = [.. Enumerable.Range(0, 8).Select(style => new ChartSeries($"s{style}", style, [new ChartPoint(1, style), new ChartPoint(2, style)]))];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y"), series), "series");
        var legend = svg.Elements("g").Where(group => group.Elements("path").Any(path => path.Attribute("class")?.Value == "line")).ToList();
        Assert.HasCount(8, legend);
        Assert.HasCount(8, legend.Select(entry => entry.Attribute("class")!.Value).Distinct().ToArray());
        Assert.HasCount(8, legend.Select(entry => entry.Elements("path").First().Attribute("stroke-dasharray")?.Value ?? "solid").Distinct().ToArray());
        Assert.HasCount(8, legend.Select(entry => Regex.Replace(entry.Elements().Last().ToString(), "(M|cx=\"|cy=\")[0-9. ]+", "")).Distinct().ToArray());
    }

    [TestMethod]
    public void Lines_LongNames_KeepTheLegendInside()
    {
        ChartSeries[] series = [.. Enumerable.Range(0, 12).Select(style => new ChartSeries($"a-strategy-with-quite-a-long-name-{style}", style, [new ChartPoint(1, style)]))];
        var svg = Check(SvgChart.Lines("t", "d", new ChartAxis("x"), new ChartAxis("y"), series), "legend");
        double[] box = [.. svg.Attribute("viewBox")!.Value.Split(' ').Select(Number)];
        (double X, double Y)[] names = [.. svg.Elements("text").Where(text => text.Value.StartsWith("a-strategy", StringComparison.Ordinal)).Select(text => (Number(text.Attribute("x")!.Value), Number(text.Attribute("y")!.Value)))];
        Assert.HasCount(12, names.Distinct().ToArray());
        foreach (var (x, y) in names) Assert.IsTrue(x < box[2] && y < box[3], $"{x}, {y}");
    }

    [TestMethod]
    public void Bars_Lengths_AreInProportionToTheLimit()
    {
        var svg = Check(SvgChart.Bars("t", "d", "x", ["forward"], [new ChartBars("a", [0.25]), new ChartBars("b", [0.5])], 1, "copy limit"), "bars");
        double[] widths = [.. svg.Elements("rect").Select(bar => Number(bar.Attribute("width")!.Value))];
        Assert.AreEqual(2 * widths[0], widths[1], 0.05);
        double left = Number(svg.Elements("rect").First().Attribute("x")!.Value);
        double limit = Number(Regex.Match(svg.Elements("path").Single(path => path.Attribute("class")!.Value == "limit").Attribute("d")!.Value, "^M([0-9.]+) ").Groups[1].Value);
        Assert.AreEqual(4 * widths[0], limit - left, 0.05);
        Assert.IsTrue(svg.Elements("text").Any(text => text.Value == "copy limit"));
    }

    [TestMethod]
    public void HeatMap_Cells_HoldTheirValuesAndAreShadedByThem()
    {
        var svg = Check(SvgChart.HeatMap("t", "d", "distance (1)", ["a", "b", "c"], (row, column) => row == 2 && column == 0 ? null : row * 3 + column), "cells");
        string[] texts = [.. svg.Elements("text").Select(text => text.Value)];
        CollectionAssert.IsSubsetOf(new[] { "a", "b", "c", "0", "4", "8", "–", "distance (1)" }, texts);
        double[] shades = [.. svg.Elements("rect").Take(8).Select(cell => Number(cell.Attribute("fill-opacity")!.Value))];
        CollectionAssert.AreEqual(shades.Order().ToArray(), shades);
        Assert.HasCount(8, shades.Distinct().ToArray());
    }

    [TestMethod]
    public void Style_SeriesColours_StandOutFromTheGroundInLightAndDark()
    {
        string[] themes = SvgChart.Style.Split("@media (prefers-color-scheme:dark)");
        Assert.HasCount(2, themes);
        foreach (string theme in themes)
        {
            double ground = Luminance(Regex.Match(theme, "--ground:#([0-9a-f]+)").Groups[1].Value);
            var colours = Regex.Matches(theme, "--s[0-7]:#([0-9a-f]{6})");
            Assert.HasCount(8, colours);
            foreach (Match colour in colours)
            {
                double luminance = Luminance(colour.Groups[1].Value);
                double contrast = (Math.Max(luminance, ground) + 0.05) / (Math.Min(luminance, ground) + 0.05);
                Assert.IsGreaterThanOrEqualTo(3, contrast, $"{colour.Value}: {contrast}");
            }
        }
    }

    private static double Luminance(string hex)
    {
        if (hex.Length == 3) hex = string.Concat(hex.Select(digit => $"{digit}{digit}"));
        double[] rgb = [.. hex.Chunk(2).Select(pair => int.Parse(pair, NumberStyles.HexNumber, CultureInfo.InvariantCulture) / 255.0).Select(part => part <= 0.04045 ? part / 12.92 : Math.Pow((part + 0.055) / 1.055, 2.4))];
        return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    // Well formed, titled, and every attribute that holds coordinates holds finite numbers within reach of the picture.
    private static XElement Check(string svg, string what)
    {
        var root = XElement.Parse(svg);
        Assert.AreEqual("t", root.Element("title")!.Value);
        Assert.AreEqual("d", root.Element("desc")!.Value);
        double[] box = [.. root.Attribute("viewBox")!.Value.Split(' ').Select(Number)];
        foreach (var attribute in root.Descendants().SelectMany(element => element.Attributes()).Where(attribute => attribute.Name.LocalName is "x" or "y" or "width" or "height" or "points" or "d" or "cx" or "cy"))
        {
            Assert.IsFalse(Regex.IsMatch(attribute.Value, "NaN|Infinity|∞|E"), $"{what}: {attribute}");
            foreach (Match number in Regex.Matches(attribute.Value, "-?[0-9.]+")) Assert.IsLessThan(2 * Math.Max(box[2], box[3]), Math.Abs(Number(number.Value)), $"{what}: {attribute}");
        }

        return root;
    }
}
