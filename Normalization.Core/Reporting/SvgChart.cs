using System.Globalization;
using System.Net;
using System.Text;

namespace Normalization.Core.Reporting;

/// <summary>How an axis maps values to places.</summary>
internal enum Scale
{
    /// <summary>Equal distances are equal differences.</summary>
    Linear,

    /// <summary>Equal distances are doublings; ticks at the powers of two.</summary>
    Log2,

    /// <summary>Equal distances are factors of ten; ticks at the decades.</summary>
    Log10,

    /// <summary>Log10 where nothing is negative and the largest value is over a hundred times the least one drawn above 0, else linear.</summary>
    ByRange,
}

/// <summary>An axis: its title with the unit, its scale.</summary>
internal sealed record ChartAxis(string Title, Scale Scale = Scale.Linear)
{
    /// <summary>Whether a linear vertical axis that holds no negative value begins at 0.</summary>
    public bool FromZero { get; init; } = true;

    /// <summary>Whether values are shares, from 0 to 1: an interval is drawn no further.</summary>
    public bool IsShare { get; init; }
}

/// <summary>A point of a line with its spread; a null or non-finite Y is a gap.</summary>
internal readonly record struct ChartPoint(double X, double? Y, double? Low = null, double? High = null);

/// <summary>A named line. Style is the number of its colour, marker and dash, so that a strategy looks alike in every chart.</summary>
internal sealed record ChartSeries(string Name, int Style, IReadOnlyList<ChartPoint> Points);

/// <summary>The bars of one row label: one value a group, null or non-finite where there is none.</summary>
internal sealed record ChartBars(string Label, IReadOnlyList<double?> Values);

/// <summary>A ratio with its interval.</summary>
internal readonly record struct ChartRatio(double Value, double Low, double High);

/// <summary>The ratios of one row label: one a group, null where there is none. The detail stands small beneath the label.</summary>
internal sealed record ChartRatios(string Label, string Detail, IReadOnlyList<ChartRatio?> Values);

/// <summary>Static SVG from numbers: lines, horizontal bars, ratios, heat maps. Nothing else draws in the reports.</summary>
/// <remarks>
/// Colours come from <see cref="Style"/>, which the page includes once; the hues are Okabe and Ito's, made darker on white and lighter
/// on black until each stands out 3:1 from its ground. Every chart has a title and a description and scales by its viewBox.
/// No coordinate is ever NaN or infinite: such values are gaps.
/// </remarks>
internal static class SvgChart
{
    /// <summary>The style sheet that the charts need.</summary>
    public const string Style = """
        :root{--s0:#1a1a1a;--s1:#b87a00;--s2:#2b8cc4;--s3:#00916a;--s4:#8c8100;--s5:#0062a3;--s6:#cc5200;--s7:#b3588a;--heat:#0072b2;--ground:#fff;--grid:#d9dde1;--axis:#5b6570}
        @media (prefers-color-scheme:dark){:root{--s0:#f2f2f2;--s1:#e69f00;--s2:#56b4e9;--s3:#1cb98b;--s4:#f0e442;--s5:#6d93f5;--s6:#f0762e;--s7:#cc79a7;--heat:#4aa8e8;--ground:#14181c;--grid:#333a41;--axis:#a3adb7}}
        svg.chart{display:block;width:100%;height:auto;font:14px system-ui,sans-serif}
        .chart g,.chart text{fill:currentColor}.chart .v,.chart .h{font-size:13px}.chart .n{font-size:12px;opacity:.8}.chart .h{stroke:var(--ground);stroke-width:3px;paint-order:stroke}
        .chart .grid{stroke:var(--grid)}.chart .axis{stroke:var(--axis)}.chart .limit{stroke:currentColor;stroke-width:1.5;stroke-dasharray:5 3}
        .chart .line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}.chart .band{opacity:.13}.chart .cell{fill:var(--heat)}
        .c0{color:var(--s0)}.c1{color:var(--s1)}.c2{color:var(--s2)}.c3{color:var(--s3)}.c4{color:var(--s4)}.c5{color:var(--s5)}.c6{color:var(--s6)}.c7{color:var(--s7)}

        """;

    // How far below the largest value a logarithmic value axis reaches; lower points are gaps.
    private const double Reach = 1e-6;

    // The ratio of values from which on equal distances hide the small ones.
    private const double SpansDecades = 100;

    /// <summary>Colours; a style this much further on has the same one, with another dash and marker.</summary>
    public const int StyleCount = 8;
    private const double Width = 480;
    private const double LineHeight = 22;

    // More lines than these take a higher chart.
    private const int Few = 6;

    // A line's width: nearer than this everywhere, two lines are one to the eye.
    private const double LineWidth = 2;

    // Of the largest value of a map: what is less is written as 0; the table beneath has it.
    private const double Rounding = 1e-12;

    // Sums and differences of what is drawn stay finite.
    private const double Largest = 1e300;

    private static readonly string[] Dashes = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "2 2 6 2", "1 4"];

    /// <summary>Lines over a common X, each with its band of spread; those that would lie on each other are one, with all their names.</summary>
    /// <param name="title">What the chart shows.</param>
    /// <param name="description">The chart in a sentence, for who cannot see it.</param>
    /// <param name="x">The horizontal axis.</param>
    /// <param name="y">The vertical axis.</param>
    /// <param name="series">The lines.</param>
    public static string Lines(string title, string description, ChartAxis x, ChartAxis y, IReadOnlyList<ChartSeries> series)
    {
        if (y.IsShare)
        {
            series = [.. series.Select(line => line with { Points = [.. line.Points.Select(point => point with { Low = point.Low is { } low ? Math.Max(0, low) : null, High = point.High is { } high ? Math.Min(1, high) : null })] })];
        }

        var all = series.SelectMany(line => line.Points).ToList();
        x = x with { Scale = Resolved(x.Scale, all.Select(point => (double?)point.X)) };
        y = y with { Scale = Resolved(y.Scale, all.Select(point => point.Y)) };
        var points = all.Where(point => Drawable(point.X, x.Scale) && Drawable(point.Y, y.Scale)).ToList();
        double top = points.Count == 0 ? 1 : points.Max(point => point.Y!.Value);
        double floor = y.Scale == Scale.Linear ? double.NegativeInfinity : top * Reach;
        bool IsDrawn(ChartPoint point) => Drawable(point.X, x.Scale) && Drawable(point.Y, y.Scale) && point.Y >= floor;
        points.RemoveAll(point => !IsDrawn(point));

        var horizontal = new Ruler(x.Scale, points.Select(point => point.X), toTicks: false, fromZero: false);
        // An interval that reaches to 0 would stretch a logarithmic axis without end: it goes as far down as the values do.
        double least = y.Scale == Scale.Linear || points.Count == 0 ? floor : points.Min(point => point.Y!.Value);
        var vertical = new Ruler(y.Scale, points.SelectMany(Extent).Where(value => value >= least), toTicks: true, y.FromZero);
        const double Top = 14, Right = 22; // half of a tick's label lies right of the axis
        double plotHeight = series.Count > Few ? 320 : 230;
        double left = 32 + TextWidth(vertical.Ticks.Max(tick => tick.Label.Length));
        double bottom = Top + plotHeight;
        double X(double value) => left + horizontal.Place(value) * (Width - Right - left);
        double Y(double value) => bottom - Math.Clamp(vertical.Place(value), 0, 1) * plotHeight;

        IReadOnlyList<ChartSeries> lines = Merged(series, IsDrawn, Y);
        double legendTop = bottom + 58;
        string Named(ChartSeries line) => line.Points.Any(IsDrawn) ? line.Name : $"{WhyNot(line)}: {line.Name}";
        var legend = Legend(lines.Select(line => (Named(line), line.Style)), legendTop, LineSample, out double legendHeight);
        var svg = Open(title, description, Width, legendTop + legendHeight);

        foreach (var tick in vertical.Ticks)
        {
            Line(svg, "grid", left, Y(tick.Value), Width - Right, Y(tick.Value));
            Text(svg, "t", left - 6, Y(tick.Value) + 4, tick.Label, "end");
        }

        foreach (var tick in horizontal.Ticks)
        {
            Line(svg, "axis", X(tick.Value), bottom, X(tick.Value), bottom + 4);
            Text(svg, "t", X(tick.Value), bottom + 20, tick.Label, "middle");
        }

        Line(svg, "axis", left, bottom, Width - Right, bottom);
        Text(svg, "t", (left + Width - Right) / 2, bottom + 41, x.Title, "middle");
        double middle = Top + plotHeight / 2;
        svg.Append(CultureInfo.InvariantCulture, $"<text class=\"t\" x=\"12\" y=\"{N(middle)}\" text-anchor=\"middle\" transform=\"rotate(-90 12 {N(middle)})\">{Escape(y.Title)}</text>");

        foreach (var line in lines)
        {
            svg.Append(CultureInfo.InvariantCulture, $"<g class=\"{Class(line.Style)}\">");
            foreach (var run in Runs(line.Points, IsDrawn))
            {
                if (run.Count > 1 && run.All(point => point.Low is { } low && point.High is { } high && Math.Abs(low) < Largest && Math.Abs(high) < Largest))
                {
                    var outline = run.Select(point => (point.X, Value: point.High!.Value)).Concat(run.AsEnumerable().Reverse().Select(point => (point.X, Value: point.Low!.Value)));
                    svg.Append(CultureInfo.InvariantCulture, $"<polygon class=\"band\" points=\"{string.Join(' ', outline.Select(corner => $"{N(X(corner.X))},{N(Y(corner.Value))}"))}\"/>");
                }

                string dash = Dashes[Variant(line.Style)];
                if (run.Count > 1)
                    svg.Append(CultureInfo.InvariantCulture, $"<polyline class=\"line\"{(dash.Length > 0 ? $" stroke-dasharray=\"{dash}\"" : "")} points=\"{string.Join(' ', run.Select(point => $"{N(X(point.X))},{N(Y(point.Y!.Value))}"))}\"/>");

                // Beyond this many points the markers would hide the line; those of other lines stand elsewhere.
                int step = Math.Max(1, run.Count / 12);
                for (int i = line.Style * step / StyleCount % step; i < run.Count; i += step) Marker(svg, line.Style, X(run[i].X), Y(run[i].Y!.Value));
            }

            svg.Append("</g>");
        }

        return Close(svg.Append(legend));
    }

    /// <summary>Horizontal bars in groups, from 0, with a reference line.</summary>
    /// <param name="title">What the chart shows.</param>
    /// <param name="description">The chart in a sentence, for who cannot see it.</param>
    /// <param name="axis">The title of the value axis, with the unit.</param>
    /// <param name="groups">The names of a row's bars.</param>
    /// <param name="rows">The rows, top to bottom.</param>
    /// <param name="limit">Where the reference line stands.</param>
    /// <param name="limitLabel">What it says.</param>
    public static string Bars(string title, string description, string axis, IReadOnlyList<string> groups, IReadOnlyList<ChartBars> rows, double limit, string limitLabel)
    {
        const double Top = 26, Bar = 15, Gap = 12, Right = 52;
        double rowHeight = groups.Count * Bar + Gap;
        double left = 12 + Math.Min(170, TextWidth(rows.Select(row => row.Label.Length).DefaultIfEmpty(0).Max()));
        var ruler = new Ruler(Scale.Linear, rows.SelectMany(row => row.Values).OfType<double>().Where(IsBar).Append(limit), toTicks: true, fromZero: true);
        double bottom = Top + rows.Count * rowHeight;
        double legendTop = bottom + 58;
        // Bars take the colours after the black that a line chart begins with.
        var legend = Legend(groups.Select((group, index) => (group, index + 1)), legendTop, BarSample, out double legendHeight);
        var svg = Open(title, description, Width, legendTop + legendHeight);
        double X(double value) => left + Math.Clamp(ruler.Place(value), 0, 1) * (Width - Right - left);

        foreach (var tick in ruler.Ticks)
        {
            Line(svg, "grid", X(tick.Value), Top, X(tick.Value), bottom);
            Text(svg, "t", X(tick.Value), bottom + 19, tick.Label, "middle");
        }

        Line(svg, "limit", X(limit), Top - 6, X(limit), bottom);
        for (int r = 0; r < rows.Count; r++)
        {
            double y = Top + r * rowHeight + Gap / 2;
            Text(svg, "t", left - 7, y + groups.Count * Bar / 2 + 4, Shorten(rows[r].Label, 22), "end");
            for (int g = 0; g < groups.Count; g++)
            {
                double? value = g < rows[r].Values.Count ? rows[r].Values[g] : null;
                double barTop = y + g * Bar;
                if (value is not { } number || !IsBar(number))
                {
                    Text(svg, "h", left + 4, barTop + 12, value is { } odd ? ReportText.Number(odd) : "not formed", "start");
                    continue;
                }

                svg.Append(CultureInfo.InvariantCulture, $"<rect class=\"{Class(g + 1)}\" fill=\"currentColor\" x=\"{N(left)}\" y=\"{N(barTop + 1)}\" width=\"{N(Math.Max(1, X(number) - left))}\" height=\"{N(Bar - 2)}\"/>");
                Text(svg, "h", X(number) + 4, barTop + 12, ReportText.Number(number), "start");
            }
        }

        Line(svg, "axis", left, Top, left, bottom);
        Text(svg, "t", X(limit), Top - 10, limitLabel, "middle");
        Text(svg, "t", (left + Width - Right) / 2, bottom + 40, axis, "middle");
        return Close(svg.Append(legend));
    }

    /// <summary>Ratios with their intervals, a marker a group under each other in every row, on a logarithmic axis with a line at 1.</summary>
    /// <param name="title">What the chart shows.</param>
    /// <param name="description">The chart in a sentence, for who cannot see it.</param>
    /// <param name="axis">The title of the axis.</param>
    /// <param name="groups">The names of a row's ratios.</param>
    /// <param name="rows">The rows, top to bottom; a ratio that is no positive number is left out.</param>
    public static string Ratios(string title, string description, string axis, IReadOnlyList<string> groups, IReadOnlyList<ChartRatios> rows)
    {
        const double Top = 30, Step = 11, Gap = 9, Right = 16;
        double rowHeight = Math.Max(groups.Count * Step, 32) + Gap;
        double left = 14 + Math.Min(170, rows.SelectMany(row => new[] { TextWidth(row.Label.Length), TextWidth(row.Detail.Length) * 12 / 14 }).DefaultIfEmpty(0).Max());
        var drawn = rows.SelectMany(row => row.Values).OfType<ChartRatio>().Where(IsRatio).ToList();
        // At least from a half to double, so that ratios near 1 look near.
        double low = Math.Log10(drawn.Select(ratio => ratio.Low).Append(0.5).Min()) - 0.03;
        double high = Math.Log10(drawn.Select(ratio => ratio.High).Append(2).Max()) + 0.03;
        double X(double ratio) => left + (Math.Log10(ratio) - low) / (high - low) * (Width - Right - left);

        double bottom = Top + rows.Count * rowHeight;
        double legendTop = bottom + 58;
        var legend = Legend(groups.Select((group, index) => (group, index)), legendTop, RatioSample, out double legendHeight);
        var svg = Open(title, description, Width, legendTop + legendHeight);
        int stride = (int)Math.Ceiling((high - low) / 8);
        for (int decade = (int)Math.Floor(low); decade <= high; decade++)
        {
            foreach (int digit in high - low > 2.2 ? new[] { 1 } : [1, 2, 5])
            {
                double tick = double.Parse($"{digit}E{decade}", CultureInfo.InvariantCulture);
                if (decade % stride != 0 || Math.Log10(tick) < low || Math.Log10(tick) > high) continue;
                Line(svg, "grid", X(tick), Top, X(tick), bottom);
                Text(svg, "t", X(tick), bottom + 19, Ruler.TickLabel(tick), "middle");
            }
        }

        for (int r = 0; r < rows.Count; r++)
        {
            double y = Top + r * rowHeight + Gap / 2;
            double middle = y + (rowHeight - Gap) / 2;
            if (r > 0) Line(svg, "grid", 0, y - Gap / 2, Width, y - Gap / 2);
            Text(svg, "t", left - 9, middle - 1, Shorten(rows[r].Label, 22), "end");
            Text(svg, "n", left - 9, middle + 13, Shorten(rows[r].Detail, 26), "end");
            for (int g = 0; g < Math.Min(groups.Count, rows[r].Values.Count); g++)
            {
                if (rows[r].Values[g] is not { } ratio || !IsRatio(ratio)) continue;
                double at = middle + (g - (groups.Count - 1) / 2.0) * Step;
                svg.Append(CultureInfo.InvariantCulture, $"<g class=\"{Class(g)}\">");
                Line(svg, "line", X(ratio.Low), at, X(ratio.High), at);
                Marker(svg, g, X(ratio.Value), at);
                svg.Append("</g>");
            }
        }

        Line(svg, "limit", X(1), Top - 6, X(1), bottom);
        Text(svg, "t", X(1), Top - 11, "equal", "middle");
        Text(svg, "t", (left + Width - Right) / 2, bottom + 40, axis, "middle");
        return Close(svg.Append(legend));
    }

    /// <summary>A square of values, each written in its cell and shown by its shade.</summary>
    /// <param name="title">What the chart shows.</param>
    /// <param name="description">The chart in a sentence, for who cannot see it.</param>
    /// <param name="scale">What the shade means, with the unit.</param>
    /// <param name="names">The names of rows and columns alike.</param>
    /// <param name="value">The value of a row and a column; null where there is none.</param>
    public static string HeatMap(string title, string description, string scale, IReadOnlyList<string> names, Func<int, int, double?> value)
    {
        const double Cell = 54, CellHeight = 32, Steps = 6;
        int count = names.Count;
        double label = Math.Min(170, TextWidth(names.Select(name => name.Length).DefaultIfEmpty(0).Max()));
        double left = label + 10;
        double top = label * 0.6 + 22;
        double width = Math.Max(left + count * Cell + label * 0.45, left + 24 + Steps * 24 + 70);
        double bottom = top + count * CellHeight;
        var svg = Open(title, description, width, bottom + 62);
        double largest = 0;
        for (int row = 0; row < count; row++)
        {
            for (int column = 0; column < count; column++)
            {
                if (value(row, column) is { } number && double.IsFinite(number)) largest = Math.Max(largest, Math.Abs(number));
            }
        }

        for (int row = 0; row < count; row++)
        {
            string name = Shorten(names[row], 22);
            double y = top + row * CellHeight;
            double x = left + row * Cell + Cell / 2;
            Text(svg, "t", left - 7, y + CellHeight / 2 + 4, name, "end");
            svg.Append(CultureInfo.InvariantCulture, $"<text class=\"t\" x=\"{N(x)}\" y=\"{N(top - 8)}\" transform=\"rotate(-38 {N(x)} {N(top - 8)})\">{Escape(name)}</text>");
            for (int column = 0; column < count; column++)
            {
                double? cell = value(row, column);
                double cellLeft = left + column * Cell;
                if (cell is { } number && double.IsFinite(number))
                    svg.Append(CultureInfo.InvariantCulture, $"<rect class=\"cell\" fill-opacity=\"{N(Shade(largest > 0 ? Math.Abs(number) / largest : 0))}\" x=\"{N(cellLeft + 1)}\" y=\"{N(y + 1)}\" width=\"{N(Cell - 2)}\" height=\"{N(CellHeight - 2)}\"/>");
                Text(svg, "v", cellLeft + Cell / 2, y + CellHeight / 2 + 4, cell is not { } shown ? "–" : Math.Abs(shown) <= Rounding * largest ? "0" : ReportText.Number(shown), "middle");
            }
        }

        for (int step = 0; step < Steps; step++)
            svg.Append(CultureInfo.InvariantCulture, $"<rect class=\"cell\" fill-opacity=\"{N(Shade(step / (Steps - 1)))}\" x=\"{N(left + 18 + step * 24)}\" y=\"{N(bottom + 14)}\" width=\"24\" height=\"12\"/>");
        Text(svg, "t", left + 12, bottom + 25, "0", "end");
        Text(svg, "t", left + 24 + Steps * 24, bottom + 25, ReportText.Number(largest), "start");
        Text(svg, "t", left + 12, bottom + 46, scale, "start");
        return Close(svg);
    }

    // Each with the first of those before it that it lies on, from end to end and gap to gap; those that are nowhere, by the reason.
    private static List<ChartSeries> Merged(IReadOnlyList<ChartSeries> series, Func<ChartPoint, bool> isDrawn, Func<double, double> place)
    {
        var lines = new List<ChartSeries>();
        foreach (var one in series)
        {
            bool isThere = one.Points.Any(isDrawn);
            int on = lines.FindIndex(line => line.Points.Any(isDrawn) == isThere && (!isThere ? WhyNot(line) == WhyNot(one)
                : line.Points.Count == one.Points.Count && line.Points.Zip(one.Points).All(pair => LieOnEachOther(pair.First, pair.Second))));
            if (on < 0) lines.Add(one);
            else lines[on] = lines[on] with { Name = $"{lines[on].Name}; {one.Name}" };
        }

        return lines;

        bool LieOnEachOther(ChartPoint a, ChartPoint b) => a.X == b.X && (isDrawn(a) && isDrawn(b)
            ? Math.Abs(place(a.Y!.Value) - place(b.Y!.Value)) <= LineWidth
            : isDrawn(a) == isDrawn(b));
    }

    // What is said of a line that has no point on the axis.
    private static string WhyNot(ChartSeries line) =>
        line.Points.All(point => point.Y is null) ? "no value" : line.Points.All(point => point.Y is 0 or null) ? "at 0" : "below the axis";

    private static Scale Resolved(Scale scale, IEnumerable<double?> values)
    {
        if (scale != Scale.ByRange) return scale;
        var drawable = values.Where(value => Drawable(value, Scale.Linear)).Select(value => value!.Value).ToList();
        if (drawable.Exists(value => value < 0)) return Scale.Linear;
        double top = drawable.DefaultIfEmpty(0).Max();
        return drawable.Exists(value => value >= top * Reach && value < top / SpansDecades && value > 0) ? Scale.Log10 : Scale.Linear;
    }

    private static double Shade(double part) => 0.04 + 0.5 * part;

    private static bool Drawable(double? value, Scale scale) =>
        value is { } number && Math.Abs(number) < Largest && (scale == Scale.Linear || number > 0);

    private static bool IsRatio(ChartRatio ratio) => ratio is { Low: > 1e-9, High: < 1e9 } && ratio.Low <= ratio.Value && ratio.Value <= ratio.High;

    private static bool IsBar(double value) => value is >= 0 and < Largest;

    private static IEnumerable<double> Extent(ChartPoint point)
    {
        yield return point.Y!.Value;
        if (point.Low is { } low && Math.Abs(low) < Largest) yield return low;
        if (point.High is { } high && Math.Abs(high) < Largest) yield return high;
    }

    private static IEnumerable<List<ChartPoint>> Runs(IReadOnlyList<ChartPoint> points, Func<ChartPoint, bool> drawable)
    {
        var run = new List<ChartPoint>();
        foreach (var point in points)
        {
            if (drawable(point))
            {
                run.Add(point);
                continue;
            }

            if (run.Count > 0) yield return run;
            run = [];
        }

        if (run.Count > 0) yield return run;
    }

    private static StringBuilder Open(string title, string description, double width, double height) =>
        new StringBuilder().Append(
            CultureInfo.InvariantCulture,
            $"<svg class=\"chart\" viewBox=\"0 0 {N(width)} {N(height)}\" role=\"img\"><title>{Escape(title)}</title><desc>{Escape(description)}</desc>");

    private static string Close(StringBuilder svg) => svg.Append("</svg>\n").ToString();

    private static void LineSample(StringBuilder svg, int style, double x, double y, double width)
    {
        string dash = Dashes[Variant(style)];
        svg.Append(CultureInfo.InvariantCulture, $"<path class=\"line\"{(dash.Length > 0 ? $" stroke-dasharray=\"{dash}\"" : "")} d=\"M{N(x)} {N(y)}h{N(width)}\"/>");
        Marker(svg, style, x + width / 2, y);
    }

    private static void BarSample(StringBuilder svg, int style, double x, double y, double width) =>
        svg.Append(CultureInfo.InvariantCulture, $"<rect x=\"{N(x + 12)}\" y=\"{N(y - 6)}\" width=\"{N(width - 12)}\" height=\"12\"/>");

    private static void RatioSample(StringBuilder svg, int style, double x, double y, double width)
    {
        svg.Append(CultureInfo.InvariantCulture, $"<path class=\"line\" d=\"M{N(x + 4)} {N(y)}h{N(width - 8)}\"/>");
        Marker(svg, style, x + width / 2, y);
    }

    private static string Legend(
        IEnumerable<(string Name, int Style)> entries, double top, Action<StringBuilder, int, double, double, double> sample, out double height)
    {
        var svg = new StringBuilder();
        const double Sample = 30, TextLine = 17;
        double x = 12, y = top + 6;
        int letters = (int)((Width - x - Sample - 6) / TextWidth(1));
        foreach (var (name, style) in entries)
        {
            List<string> lines = Wrapped(name, letters);
            double width = Sample + 6 + TextWidth(lines.Max(line => line.Length)) + 14;
            if (x > 12 && x + width > Width) Break();
            svg.Append(CultureInfo.InvariantCulture, $"<g class=\"{Class(style)}\">");
            sample(svg, style, x, y, Sample);
            svg.Append("</g>");
            for (int i = 0; i < lines.Count; i++)
            {
                if (i > 0) y += TextLine;
                Text(svg, "t", x + Sample + 6, y + 4, lines[i], "start");
            }

            x += width;
            if (lines.Count > 1) Break();
        }

        if (x == 12) y -= LineHeight;
        height = y + LineHeight - top;
        return svg.ToString();

        void Break()
        {
            x = 12;
            y += LineHeight;
        }
    }

    // At spaces; a word that is longer still is cut.
    private static List<string> Wrapped(string text, int letters)
    {
        var lines = new List<string>();
        foreach (string word in text.Split(' ').Select(word => Shorten(word, letters)))
        {
            if (lines.Count > 0 && lines[^1].Length + 1 + word.Length <= letters) lines[^1] += " " + word;
            else lines.Add(word);
        }

        return lines;
    }

    private static void Marker(StringBuilder svg, int style, double x, double y)
    {
        string at = $"M{N(x)} {N(y)}";
        svg.Append(Variant(style) switch
        {
            0 => $"<circle cx=\"{N(x)}\" cy=\"{N(y)}\" r=\"3.4\"/>",
            1 => $"<path d=\"{at}m-3.2-3.2h6.4v6.4h-6.4z\"/>",
            2 => $"<path d=\"{at}m0-4.4 4.2 7.4h-8.4z\"/>",
            3 => $"<path d=\"{at}m0-4.6 4.6 4.6-4.6 4.6-4.6-4.6z\"/>",
            4 => $"<path d=\"{at}m0 4.4 4.2-7.4h-8.4z\"/>",
            5 => $"<path fill=\"none\" stroke=\"currentColor\" stroke-width=\"2\" d=\"{at}m-3.6-3.6 7.2 7.2m0-7.2-7.2 7.2\"/>",
            6 => $"<path fill=\"none\" stroke=\"currentColor\" stroke-width=\"2\" d=\"{at}m-4.4 0h8.8m-4.4-4.4v8.8\"/>",
            _ => $"<circle fill=\"none\" stroke=\"currentColor\" stroke-width=\"2\" cx=\"{N(x)}\" cy=\"{N(y)}\" r=\"3.6\"/>",
        });
    }

    private static void Line(StringBuilder svg, string kind, double x1, double y1, double x2, double y2) =>
        svg.Append(CultureInfo.InvariantCulture, $"<path class=\"{kind}\" d=\"M{N(x1)} {N(y1)}L{N(x2)} {N(y2)}\"/>");

    private static void Text(StringBuilder svg, string kind, double x, double y, string text, string anchor) =>
        svg.Append(CultureInfo.InvariantCulture, $"<text class=\"{kind}\" x=\"{N(x)}\" y=\"{N(y)}\"{(anchor == "start" ? "" : $" text-anchor=\"{anchor}\"")}>{Escape(text)}</text>");

    // Where colours come around again, dashes and markers do not come with them.
    private static int Variant(int style) => (style + (3 * (style / StyleCount))) % StyleCount;

    private static string Class(int style) => $"c{style % StyleCount}";

    // No fonts are measured here: 0.56 em is what a letter of a common sans serif takes at most on average.
    private static double TextWidth(int letters) => letters * 14 * 0.56;

    private static string Shorten(string text, int letters) => text.Length <= letters ? text : text[..(letters - 1)] + "…";

    private static string Escape(string text) => WebUtility.HtmlEncode(text);

    private static string N(double coordinate) => double.IsFinite(coordinate)
        ? Math.Round(coordinate, 2).ToString("0.##", CultureInfo.InvariantCulture)
        : throw new ArgumentOutOfRangeException(nameof(coordinate), coordinate, "A coordinate is finite.");

    /// <summary>A scale over a range with its ticks; values go to [0, 1].</summary>
    private sealed class Ruler
    {
        private readonly Scale _scale;
        private readonly double _low;
        private readonly double _high;

        public Ruler(Scale scale, IEnumerable<double> values, bool toTicks, bool fromZero)
        {
            _scale = scale;
            var drawable = values.Where(value => Drawable(value, scale)).Select(Map).ToList();
            double low = drawable.Count > 0 ? drawable.Min() : 0;
            double high = drawable.Count > 0 ? drawable.Max() : 1;
            if (scale == Scale.Linear)
            {
                if (fromZero && low > 0) low = 0;
                if (high - low < 1 / Largest) high = low + Math.Max(1, Math.Abs(low));
                double step = NiceStep((high - low) / 5);
                if (toTicks)
                {
                    low = Math.Floor(low / step) * step;
                    high = Math.Ceiling(high / step - 1e-9) * step;
                }

                (_low, _high) = (low, high);
                for (double k = Math.Ceiling(low / step - 1e-9); k * step <= high + step * 1e-6; k++) Add(k * step);
                return;
            }

            // A log axis of values reaches to whole decades, one of batch sizes from the first to the last.
            (_low, _high) = toTicks ? (Math.Floor(low + 1e-9), Math.Ceiling(high - 1e-9)) : (low, high);
            if (_high <= _low) _high = _low + 1;
            if (scale == Scale.Log10 && _high - _low < 2)
            {
                for (double k = Math.Floor(_low); k <= _high; k++)
                {
                    foreach (double multiple in new[] { 1.0, 2, 5 })
                    {
                        if (Math.Log10(multiple) + k >= _low - 1e-9 && Math.Log10(multiple) + k <= _high + 1e-9) Add(multiple * Math.Pow(10, k));
                    }
                }

                return;
            }

            double stride = Math.Max(1, Math.Ceiling((_high - _low) / 9));
            for (double k = Math.Ceiling(_low - 1e-9); k <= _high + 1e-9; k += stride) Add(Math.Pow(scale == Scale.Log2 ? 2 : 10, k));

            void Add(double value) => Ticks.Add((value, TickLabel(Math.Abs(value) < 1e-12 * Math.Abs(_high) ? 0 : value)));
        }

        public List<(double Value, string Label)> Ticks { get; } = [];

        public double Place(double value)
        {
            if (_scale != Scale.Linear && value <= 0) return 0;
            return (Map(value) - _low) / (_high - _low);
        }

        private double Map(double value) => _scale switch
        {
            Scale.Log2 => Math.Log2(value),
            Scale.Log10 => Math.Log10(value),
            _ => value,
        };

        // 0.5 rather than 0.500, 1e-7 rather than 1.00e-7.
        public static string TickLabel(double value)
        {
            string[] parts = ReportText.Number(value).Split('e');
            if (parts[0].Contains('.', StringComparison.Ordinal)) parts[0] = parts[0].TrimEnd('0').TrimEnd('.');
            return string.Join('e', parts);
        }

        private static double NiceStep(double rough)
        {
            double power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
            double mantissa = rough / power;
            return power * (mantissa <= 1 ? 1 : mantissa <= 2 ? 2 : mantissa <= 5 ? 5 : 10);
        }
    }
}
