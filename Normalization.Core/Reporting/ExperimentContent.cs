using System.Globalization;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>The pages of a training run: what held in one screen, then each experiment with its claims, curves and set-up.</summary>
internal sealed class ExperimentContent
{
    private readonly RunRows _rows;
    private readonly ILookup<string, ExperimentVerdict> _verdicts;

    private ExperimentContent(RunData run, RunRows rows)
    {
        _rows = rows;
        _verdicts = ExperimentVerdict.Of(run).ToLookup(verdict => verdict.Experiment, StringComparer.Ordinal);
    }

    /// <summary>How verdicts come about.</summary>
    public const string Method =
        "A claim is a number of each seed (a difference, a ratio, a value) and a threshold, written in the header of the records before the first run. Held: the 95 % Student interval of the number's mean "
        + "over seeds lies wholly on the claimed side; refuted: wholly on the other; else inconclusive. Claims without randomness are held to a stated tolerance at every seed. A network whose loss stops being a finite "
        + "number has diverged and counts with accuracy 0; a claim one of whose numbers could not be formed in some seed is inconclusive. Every number of a trial depends on its seed alone. Bands of charts are the same intervals, drawn no further than a share can go.";

    /// <summary>A section for each experiment that the run has.</summary>
    public static IEnumerable<Section> Of(RunData run, RunRows rows)
    {
        var content = new ExperimentContent(run, rows);
        return (run.Header.Experiments ?? []).Select(content.Page);
    }

    /// <summary>What the marks of the front page mean.</summary>
    public const string MarkKey = "claims: ✓ held, ✗ refuted, ? inconclusive, – not run";

    /// <summary>The front page: how all claims came out, then a line for each experiment with its claims by name.</summary>
    public static IReadOnlyList<Finding> Findings(RunData run)
    {
        ILookup<string, ExperimentVerdict> verdicts = ExperimentVerdict.Of(run).ToLookup(verdict => verdict.Experiment, StringComparer.Ordinal);
        return
        [
            new Finding("All", [], Answer([.. verdicts.SelectMany(own => own)]), [Unmet([.. verdicts.SelectMany(own => own)])]),
            .. from experiment in run.Header.Experiments ?? []
               let own = verdicts[experiment.Id].ToList()
               select new Finding($"{experiment.Id} {experiment.Title}", [], Answer(own), [string.Join(" · ", own.Select(verdict => $"{Mark(verdict)} {verdict.Id.Replace('-', ' ')}"))])
               {
                   Section = Anchor(experiment),
               },
        ];
    }

    private static string Anchor(ExperimentDescription experiment) => experiment.Id.ToLowerInvariant();

    private static string Answer(List<ExperimentVerdict> verdicts) => string.Join(", ", new[] { ExperimentVerdict.Held, ExperimentVerdict.Refuted, ExperimentVerdict.Inconclusive, ExperimentVerdict.NotRun }
        .Select(kind => (Kind: kind, Count: verdicts.Count(verdict => verdict.Verdict == kind)))
        .Where(one => one.Count > 0)
        .Select(one => string.Create(CultureInfo.InvariantCulture, $"{one.Count} {Word(one.Kind)}")));

    private static string Unmet(List<ExperimentVerdict> verdicts)
    {
        ExperimentVerdict[] refuted = [.. verdicts.Where(verdict => verdict.Verdict == ExperimentVerdict.Refuted)];
        return verdicts.TrueForAll(verdict => verdict.Verdict == ExperimentVerdict.NotRun) ? "No claim is judged yet."
            : refuted.Length == 0 ? "No claim was refuted." : $"Refuted: {string.Join("; ", refuted.Select(verdict => $"{verdict.Experiment} {verdict.Id.Replace('-', ' ')}"))}.";
    }

    // Capitals are for files: a page of them shouts.
    private static string Word(string verdict) => verdict.ToLowerInvariant();

    private static string Mark(ExperimentVerdict verdict) => verdict.Verdict switch
    {
        ExperimentVerdict.Held => "✓",
        ExperimentVerdict.Refuted => "✗",
        ExperimentVerdict.Inconclusive => "?",
        _ => "–",
    };

    private Section Page(ExperimentDescription experiment)
    {
        var here = _rows.All.Where(row => row.Scenario == experiment.Id).ToList();
        var blocks = new List<Block> { new Paragraph(experiment.Question), Claims(experiment) };
        string[] variants = [.. experiment.Variants.Select(variant => variant.Id).Union(here.Select(row => row.Strategy), StringComparer.Ordinal)];
        blocks.AddRange(experiment.Charts.Select(chart => Chart(chart, variants, here)).OfType<Figure>());
        if (Values(experiment, variants, here) is { } values)
        {
            const int Many = 9; // what fits a page
            blocks.Add(values.Heads.Count <= Many ? values : new Folded("All means over seeds", [values]));
        }

        blocks.Add(new Table(
            $"{experiment.Id}, what was trained",
            [new Head("variant", IsText: true), new Head("what it is", IsText: true)],
            [.. experiment.Variants.Select(variant => (IReadOnlyList<Cell>)[new Cell(variant.Id), new Cell(variant.Text)])]));
        blocks.Add(new Paragraph($"Set-up: {string.Join(" ", experiment.SetUp)}"));
        return new Section(Anchor(experiment), $"{experiment.Id} {experiment.Title}", blocks);
    }

    private Table Claims(ExperimentDescription experiment) => new(
        $"{experiment.Id}, claims",
        [
            new Head("claim", IsText: true), new Head("verdict", IsText: true), new Head("observed"),
            new Head("95 % interval"),
            new Head("claimed", IsText: true), new Head("seeds"), new Head("published, and what differs", IsText: true),
        ],
        [
            .. _verdicts[experiment.Id].Select(verdict => (IReadOnlyList<Cell>)
            [
                new Cell(verdict.Claim), new Cell($"{Mark(verdict)} {Word(verdict.Verdict)}"),
                new Cell(verdict.Observed is { } value ? verdict.Unit.Write(value) : "not run"),
                new Cell(verdict.Interval is [var low, var high] ? $"{verdict.Unit.Number(low)} to {verdict.Unit.Write(high)}" : "–"),
                new Cell($"{verdict.Side} {verdict.Unit.Write(verdict.Threshold)}"),
                new Cell(verdict.Unmeasured == 0 ? $"{verdict.Seeds}" : $"{verdict.Seeds} of {verdict.Seeds + verdict.Unmeasured}"), new Cell(verdict.Published ?? "–"),
            ]),
        ]);

    // The mean over seeds with its interval, strategy by strategy.
    private static Figure? Chart(ExperimentChart chart, string[] variants, List<ReportRow> here)
    {
        var rows = here.Where(row => row.Measurement.Metric == chart.Metric && row.Value is not null && row.Number(chart.X) is not null && Has(row, chart.Only)
            && (chart.Line is null || row.Measurement.Parameters?.ContainsKey(chart.Line) == true)).ToList();
        if (rows.Count == 0)
        {
            return null;
        }

        string unit = Metrics.Find(chart.Metric)?.Unit is { } own && own != "1" ? $", {own}" : "";
        var series = new List<ChartSeries>();
        string LineOf(ReportRow row) => chart.Line is not { } line ? row.Strategy
            : row.Measurement.Parameters![line] is string word ? word
            : $"{line} {ReportText.Parameter(row.Measurement.Parameters![line])}";
        string[] names = chart.Line is null ? variants : [.. rows.Select(LineOf).Distinct()];
        foreach (string name in names)
        {
            // Several lines of one strategy, such as percentiles, share its colour, not its dash and marker.
            int style = Array.IndexOf(names, name);
            foreach (var line in rows.Where(row => LineOf(row) == name).GroupBy(row => Others(row, [chart.X, chart.Line ?? chart.X, .. chart.Only?.Keys ?? []])).OrderBy(line => line.Key, StringComparer.Ordinal))
            {
                ChartPoint[] points = [.. line.GroupBy(row => row.Number(chart.X)!.Value).OrderBy(at => at.Key).Select(at => Point(at.Key, [.. at.Select(row => row.Value!.Value)]))];
                series.Add(new ChartSeries(line.Key.Length == 0 ? name : $"{name}, {line.Key}", style, points));
                style += SvgChart.StyleCount;
            }
        }

        ChartSeries[] all = [.. series];
        string svg = SvgChart.Lines(
            chart.Title, $"{chart.Title}: {ReportText.Title(chart.Metric)} over {chart.XTitle}, {all.Length} lines with 95 % intervals over seeds.",
            new ChartAxis(chart.XTitle, !chart.LogX ? Scale.Linear : all.All(line => line.Points.All(point => double.IsPow2(point.X))) ? Scale.Log2 : Scale.Log10),
            new ChartAxis(ReportText.Title(chart.Metric) + unit, chart.LogY ? Scale.Log10 : Scale.Linear)
            {
                // What sets lines apart lies near 1 as often as near 0.
                FromZero = false,
                IsShare = Metrics.Find(chart.Metric)?.IsShare == true,
            }, all);
        return new Figure(chart.Title, svg, Data(chart, all));
    }

    private static Table Data(ExperimentChart chart, ChartSeries[] series)
    {
        double[] xs = [.. series.SelectMany(line => line.Points).Select(point => point.X).Distinct().Order()];
        return new Table(
            chart.Title, [new Head("line", IsText: true), .. xs.Select(x => new Head($"{chart.X} {ReportText.Number(x)}"))],
            [
                .. series.Select(line => (IReadOnlyList<Cell>)
                [
                    new Cell(line.Name),
                    .. xs.Select(x => line.Points.FirstOrDefault(point => point.X == x) is { Y: { } y } ? new Cell(ReportText.Number(y)) : new Cell("–")),
                ]),
            ],
            Metrics.Find(chart.Metric)?.Legend);
    }

    private static ChartPoint Point(double x, double[] values)
    {
        double mean = values.Average();
        if (values.Length < 2)
        {
            return new ChartPoint(x, mean);
        }

        double[] interval = ExperimentVerdict.IntervalOf(values);
        return new ChartPoint(x, mean, interval[0], interval[1]);
    }

    private static bool Has(ReportRow row, IReadOnlyDictionary<string, object>? asked) =>
        asked is null || asked.All(pair => row.Measurement.Parameters?.TryGetValue(pair.Key, out object? value) == true && ReportText.Parameter(value) == ReportText.Parameter(pair.Value));

    private static string Others(ReportRow row, IReadOnlyList<string> told) => string.Join(", ", (row.Measurement.Parameters ?? new Dictionary<string, object>(StringComparer.Ordinal))
        .Where(pair => !told.Contains(pair.Key) && pair.Key != "seed").Select(pair => $"{pair.Key} {ReportText.Parameter(pair.Value)}"));

    // What has no place on an axis: one number a strategy and seed.
    private static Table? Values(ExperimentDescription experiment, string[] variants, List<ReportRow> here)
    {
        string[] charted = [.. experiment.Charts.Select(chart => chart.Metric)];
        var single = here.Where(row => !charted.Contains(row.Measurement.Metric)).ToList();
        var columns = single.Select(row => (row.Measurement.Metric, Others: Others(row, []))).Distinct().ToList();
        return columns.Count == 0 ? null : new Table(
            $"{experiment.Id}, means over seeds ± their standard deviation",
            [new Head("strategy", IsText: true), .. columns.Select(column => new Head($"{ReportText.Title(column.Metric)}{(column.Others.Length > 0 ? ", " + column.Others : "")}", "", Metrics.Find(column.Metric)?.Legend))],
            [
                .. from strategy in variants
                   where single.Any(row => row.Strategy == strategy)
                   select (IReadOnlyList<Cell>)
                   [
                       new Cell(strategy),
                       .. columns.Select(column => Cell([.. single.Where(row => row.Strategy == strategy && row.Measurement.Metric == column.Metric && Others(row, []) == column.Others)])),
                   ],
            ]);
    }

    private static Cell Cell(List<ReportRow> rows)
    {
        double[] values = [.. rows.Where(row => row.Value is not null).Select(row => row.Value!.Value)];
        if (values.Length == 0)
        {
            return new Cell(rows.FirstOrDefault().Measurement?.Note is { } note ? note : "–");
        }

        double mean = values.Average();
        string deviation = values.Length > 1 ? $" ± {ReportText.Number(Math.Sqrt(values.Sum(value => (value - mean) * (value - mean)) / (values.Length - 1)))}" : "";
        return new Cell(ReportText.Number(mean) + deviation);
    }
}
