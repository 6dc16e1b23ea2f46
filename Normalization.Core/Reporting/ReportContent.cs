using System.Globalization;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>Makes the report's tables and charts from a run's rows.</summary>
internal sealed class ReportContent
{
    private const string BestKey = "★ marks the best strategy of a value and what lies within 5 % of it or within rounding (of times, within their spread); the yardstick, strategies that failed a check and those that leave the input's scale as it is are left out, and a value that is alike for all has none, nor have times of which most are tied.";

    private static readonly Dictionary<string, string> AspectTitles = new(StringComparer.Ordinal)
    {
        [Aspects.Outputs] = "Outputs",
        [Aspects.Gradients] = "Gradients",
        [Aspects.BatchSize] = "Batch size",
        [Aspects.Speed] = "Speed",
    };

    // Metrics that have a table or chart of their own.
    private static readonly string[] Apart = ["distance", "claim", "jacobian_singular_value"];

    // Elsewhere these say little, and on a dead channel they are infinite for all.
    private static readonly string[] OfCorrelatedChannels = ["correlation_left", "condition_number_left", "whiteness_error"];

    private readonly RunData _run;
    private readonly RunRows _rows;

    private ReportContent(RunData run) => (_run, _rows) = (run, new RunRows(run));

    public static ReportPage Of(RunData run) => new ReportContent(run).Page();

    private ReportPage Page()
    {
        var sections = new List<Section>();
        var findings = _run.Header.Experiments is null ? Findings.Draw(_run) : ExperimentContent.Findings(_run);
        if (AtAGlance(findings) is { } glance) sections.Add(new Section("at-a-glance", "Each strategy at a glance", [glance]));
        bool isBenchmark = _rows.Benchmark.All.Count > 0;
        sections.AddRange(ExperimentContent.Of(_run, _rows));
        foreach (string aspect in Aspects.All.Union(_rows.All.Select(row => row.Measurement.Aspect), StringComparer.Ordinal))
        {
            var here = _rows.All.Where(row => row.Measurement.Aspect == aspect && aspect != Aspects.Training && !BenchmarkCells.IsBenchmark(row)).ToList();
            if (here.Count == 0) continue;
            List<Block> blocks = aspect switch
            {
                Aspects.BatchSize => BatchSize(here),
                Aspects.Speed => Speed(here),
                _ => Plain(aspect, here),
            };
            sections.Add(new Section(Anchor(aspect), AspectTitles.GetValueOrDefault(aspect, aspect), blocks));
        }

        if (_rows.Of("claim").Any()) sections.Add(new Section("claims", "Claims", Claims()));
        sections.AddRange(BenchmarkContent.Of(_rows));
        sections.Add(new Section("method", "How this was measured", Method(isBenchmark)));
        return new ReportPage(
            isBenchmark ? "Speed of normalization" : _run.Header.Experiments is null ? "Normalization strategies compared" : "The literature, run again", Origin(), Warnings(isBenchmark),
            isBenchmark ? new FindingsHead("What was measured", "case", "answer", "measured")
                : _run.Header.Experiments is null ? new FindingsHead("Which strategy for which case", "case", "strategy", "measured")
                : new FindingsHead("What held", "experiment", "verdicts", ExperimentContent.MarkKey),
            findings, sections);
    }

    // The findings turned around: what each strategy was chosen for.
    private Table? AtAGlance(IReadOnlyList<Finding> findings)
    {
        const int Many = 8;
        Finding[] choices = [.. findings.Where(finding => finding.Choice.Count > 0)];
        if (choices.Length < 2 || _rows.Strategies.Count(_rows.Competes) <= Many) return null;
        return new Table(
            "● a choice of that line of the first table",
            [new Head("strategy", IsText: true), .. choices.Select(finding => new Head(HeldTogether(finding.Case), IsText: true))],
            [
                .. _rows.Strategies.Where(_rows.Competes).Select(strategy => (IReadOnlyList<Cell>)
                    [NameOf(strategy), .. choices.Select(finding => finding.Choice.Contains(strategy) ? new Cell("●") : new Cell(""))]),
            ]);
    }

    private string Origin()
    {
        var environment = _run.Header.Environment;
        string? data = _run.Header.Settings.GetValueOrDefault("data");
        string started = environment.Started.Replace('T', ' ').Replace("Z", " UTC", StringComparison.Ordinal);
        string tier = _run.Header.Settings.GetValueOrDefault("tier") is { } name ? $"tier {name} · " : "";
        string length = _run.Header.Experiments is not null && _run.Header.Settings.TryGetValue("length", out string? kind) && _run.Header.Settings.TryGetValue("seeds", out string? seeds)
            ? $"{kind} length, {seeds} seeds each · "
            : "";
        return $"{tier}{length}{started} · {environment.Cpu}, {environment.Cores} cores, {environment.SimdBits}-bit vectors · {environment.Runtime} · seed {environment.Seed}"
            + (data is null ? "" : $" · data: {data}");
    }

    private List<Warning> Warnings(bool isBenchmark)
    {
        var warnings = new List<Warning>();
        if (!_run.Complete)
        {
            warnings.Add(new Warning(
                $"Incomplete: {_run.Cases.Count} of {_run.Header.CaseCount} cases finished. What follows holds for these alone; --resume with this folder goes on from here.", []));
        }

        if (RunShards.Of(_run.Header) is { } shard)
        {
            warnings.Add(new Warning($"A part of a run: shard {shard}. Values are of this part alone and no claim is judged; report merge joins it with the others.", []));
        }

        foreach (var failed in _rows.Failures)
        {
            string[] cases = [.. failed.Select(record => $"{record.Case}: {record.Failure}")];
            // The answers must stay on the first screen.
            const int Longest = 160;
            string first = cases[0].Length <= Longest ? cases[0] : cases[0][..Longest].TrimEnd() + " …";
            warnings.Add(new Warning(
                $"{failed.Key} failed its checks in {ReportText.Count(cases.Length, "case")} and is {(isBenchmark ? "not timed there" : "recommended nowhere")}; {(cases.Length == 1 ? "" : "first: ")}{first}",
                cases.Length == 1 && first == cases[0] ? [] : cases));
        }

        return warnings;
    }

    /// <summary>A summary over scenarios, the aspect's charts, and a table for each scenario.</summary>
    private List<Block> Plain(string aspect, List<ReportRow> here)
    {
        var blocks = new List<Block>();
        var single = here.Where(row => !Apart.Contains(row.Measurement.Metric)).ToList();
        if (single.Count > 0)
        {
            blocks.Add(new Paragraph(
                "One value a strategy: the worst over all scenarios, with the scenario it comes from; of numbers that only describe, the range, with the scenario of its upper end. " + BestKey));
            blocks.Add(Summary(aspect, single));
        }

        var spectra = Scenarios(here, "jacobian_singular_value").Select(Spectrum).ToList();
        AddCharts(blocks, spectra, "Jacobian spectra on the other scenarios");
        var maps = Scenarios(here, "distance").Select(Distances).ToList();
        AddCharts(blocks, maps, "Distances on the other scenarios");

        foreach (string scenario in _rows.Scenarios.Where(scenario => single.Any(row => row.Scenario == scenario)))
            blocks.Add(new Folded($"All values on {Named(scenario)}", [ScenarioTable(scenario, single.Where(row => row.Scenario == scenario))]));
        return blocks;
    }

    private Table Summary(string aspect, List<ReportRow> single)
    {
        var columns = new List<(Head Head, Dictionary<string, Cell> Cells)>();
        foreach (string id in InColumnOrder(single.Select(row => row.Measurement.Metric)))
        {
            var metric = Metrics.Find(id);
            var of = single.Where(row => row.Measurement.Metric == id).ToList();
            string suffix = "";
            if (OfCorrelatedChannels.Contains(id) && of.Any(row => row.Scenario == "correlated"))
            {
                of.RemoveAll(row => row.Scenario != "correlated");
                suffix = ", correlated";
            }

            bool several = of.Select(row => (row.Scenario, ReportText.Parameters(row.Measurement.Parameters))).Distinct().Count() > 1;
            var better = metric?.Better ?? Better.Neither;
            var cells = of.GroupBy(row => row.Strategy).ToDictionary(group => group.Key, group => Worst([.. group], better, several), StringComparer.Ordinal);
            MarkBest(cells, id);
            columns.Add((HeadOf(id, suffix), cells));
        }

        if (aspect == Aspects.Outputs && _rows.Of("claim").Any())
        {
            columns.Add((new Head("claims", "", "Declared properties, over all scenarios; ✗ names those refuted. The table of claims has them all.", IsText: true),
                _rows.Of("claim").GroupBy(row => row.Strategy).ToDictionary(group => group.Key, ClaimCount, StringComparer.Ordinal)));
        }

        return ByStrategy($"{AspectTitles.GetValueOrDefault(aspect, aspect)}, summary", columns);
    }

    private static Cell Worst(List<ReportRow> rows, Better better, bool several)
    {
        var valued = rows.Where(row => row.Value is not null).ToList();
        if (valued.Count == 0) return CellOf(rows[0]);
        var low = valued.MinBy(row => row.Value!.Value);
        var high = valued.MaxBy(row => double.IsNaN(row.Value!.Value) ? double.PositiveInfinity : row.Value.Value);
        if (better == Better.Neither && several && low.Value != high.Value)
            return new Cell($"{Value(low)} – {Value(high)}", Where(high), Row: high.Index);
        var shown = better == Better.Higher ? low : high;
        return CellOf(shown) with { Detail = several && low.Value != high.Value ? Where(shown) : "" };

        static string Value(ReportRow row) => ReportText.Number(row.Value!.Value);
        static string Where(ReportRow row) => row.Text("parameter") is { Length: > 0 } parameter ? $"{row.Scenario}, {parameter}" : row.Scenario;
    }

    private static Cell ClaimCount(IEnumerable<ReportRow> claims)
    {
        var declared = claims.Where(row => row.Flag("declared")).ToList();
        var refuted = declared.Where(row => row.Text("verdict") == "refuted").ToList();
        if (declared.Count == 0) return new Cell("none declared");
        string[] names = [.. declared.Where(row => row.Value is not null).Select(row => row.Text("claim")).Distinct()];
        string[] missing = [.. declared.Select(row => row.Text("claim")).Distinct().Except(names)];
        string[] wrong = [.. refuted.Select(row => row.Text("claim")).Distinct()];
        string unmeasured = missing.Length == 0 ? "" : $"not measured: {string.Join(", ", missing)}";
        return wrong.Length == 0
            ? new Cell($"{names.Length} verified", unmeasured)
            : new Cell($"{wrong.Length} of {names.Length} refuted", string.Join(", ", wrong) + (unmeasured.Length == 0 ? "" : "; " + unmeasured), Mark: Mark.Refuted, Row: refuted[0].Index);
    }

    private Table ScenarioTable(string scenario, IEnumerable<ReportRow> rows)
    {
        var columns = rows.GroupBy(row => (row.Measurement.Metric, Parameters: ReportText.Parameters(row.Measurement.Parameters)))
            .OrderBy(group => ColumnOrder(group.Key.Metric))
            .Select(group =>
            {
                var cells = Cells(group);
                MarkBest(cells, group.Key.Metric);
                return (HeadOf(group.Key.Metric, group.Key.Parameters.Length > 0 ? $", {group.Key.Parameters}" : ""), cells);
            });
        return Turned(ByStrategy($"All values on {Named(scenario)}", [.. columns]));
    }

    private Figure Distances(string scenario)
    {
        var of = _rows.Of("distance").Where(row => row.Scenario == scenario).ToList();
        string[] names = [.. _rows.Strategies.Where(strategy => of.Any(row => row.Strategy == strategy || row.Text("other") == strategy))];
        ReportRow? Pair(int row, int column) => of.Where(pair => (pair.Strategy == names[row] && pair.Text("other") == names[column])
            || (pair.Strategy == names[column] && pair.Text("other") == names[row])).Cast<ReportRow?>().FirstOrDefault();

        string title = $"Distance between normalized outputs, {Named(scenario)}";
        string svg = SvgChart.HeatMap(
            title, $"Root mean square difference between the normalized outputs of {names.Length} strategies, pair by pair; the table beneath has the values.",
            "root mean square difference (1)", names, (row, column) => row == column ? 0 : Pair(row, column)?.Value);
        var rows = names.Select((name, row) => (IReadOnlyList<Cell>)
            [NameOf(name), .. names.Select((_, column) => row == column ? new Cell("0") : Pair(row, column) is { } pair ? CellOf(pair) : Empty)]);
        return new Figure(title, svg, new Table(
            title, [new Head("strategy", IsText: true), .. names.Select(name => HeadOfStrategy(name))], [.. rows], LegendOf("distance")), IsWide: names.Length > 10);
    }

    private Figure Spectrum(string scenario)
    {
        var of = _rows.Of("jacobian_singular_value").Where(row => row.Scenario == scenario).ToList();
        string title = $"Singular values of the Jacobian, {Named(scenario)}";
        var series = SeriesOf(of, "index");
        string svg = SvgChart.Lines(
            title, $"Singular values, largest first, of a random linear layer followed by each of {series.Count} strategies; the table beneath has the values.",
            new ChartAxis("index of the singular value, largest first"), new ChartAxis("singular value (1)", Scale.Log10), series);
        var columns = _rows.Strategies.Where(strategy => of.Any(row => row.Strategy == strategy)).ToList();
        var rows = of.Where(row => row.Number("index") is not null).GroupBy(row => row.Number("index")!.Value).OrderBy(group => group.Key).Select(group =>
        {
            var cells = Cells(group);
            return (IReadOnlyList<Cell>)[new Cell(ReportText.Number(group.Key)), .. columns.Select(strategy => cells.GetValueOrDefault(strategy, Empty))];
        });
        return new Figure(title, svg, new Table(
            title, [new Head("index"), .. columns.Select(strategy => HeadOfStrategy(strategy))], [.. rows], LegendOf("jacobian_singular_value")));
    }

    private List<Block> BatchSize(List<ReportRow> here)
    {
        var blocks = new List<Block>
        {
            new Paragraph("The smallest batches that at least two strategies can form, and the largest measured; the worst over all scenarios, with the scenario it comes from. In charts the band is the spread over repeats; strategies whose lines would lie on each other share one. " + BestKey),
        };
        var columns = new List<(Head, Dictionary<string, Cell>)>();
        foreach (string id in InColumnOrder(here.Select(row => row.Measurement.Metric)))
        {
            var of = here.Where(row => row.Measurement.Metric == id).ToList();
            var better = Metrics.Find(id)?.Better ?? Better.Neither;
            foreach (double n in new[] { _rows.SmallestBatch(of), of.Max(row => row.Number("n")) }.OfType<double>().Distinct())
            {
                var at = of.Where(row => row.Number("n") == n).ToList();
                bool several = at.Select(row => row.Scenario).Distinct().Count() > 1;
                var cells = at.GroupBy(row => row.Strategy).ToDictionary(group => group.Key, group => Worst([.. group], better, several), StringComparer.Ordinal);
                MarkBest(cells, id);
                columns.Add((HeadOf(id, $", {BatchOf(n)}"), cells));
            }
        }

        blocks.Add(ByStrategy("Batch size, summary", columns));
        var charts = _rows.Scenarios.SelectMany(scenario => InColumnOrder(here.Where(row => row.Scenario == scenario).Select(row => row.Measurement.Metric))
            .Select(metric => (scenario, metric))).ToList();
        string? first = charts.Count > 0 ? charts[0].scenario : null;
        blocks.AddRange(charts.Where(chart => chart.scenario == first).Select(chart => Curve(chart.scenario, chart.metric)));
        foreach (var group in charts.Where(chart => chart.scenario != first).GroupBy(chart => chart.scenario))
            blocks.Add(new Folded($"Batch size on {Named(group.Key)}", [.. group.Select(chart => Curve(chart.scenario, chart.metric))]));
        return blocks;
    }

    private Figure Curve(string scenario, string metric)
    {
        var of = _rows.Of(metric).Where(row => row.Scenario == scenario).ToList();
        string name = ReportText.Title(metric);
        string title = $"{Capital(name)} over batch size, {Named(scenario)}";
        var series = SeriesOf(of, "n");
        string svg = SvgChart.Lines(
            title, $"{Capital(name)} of {series.Count} strategies over the batch size N, with the spread over repeats; the table beneath has the values.",
            new ChartAxis("batch size N (samples)", Scale.Log2), new ChartAxis($"{name} ({Metrics.Find(metric)?.Unit ?? "1"})", Scale.ByRange), series);
        double[] sizes = [.. of.Select(row => row.Number("n")).OfType<double>().Distinct().Order()];
        var columns = sizes.Select(n => (
            new Head(BatchOf(n), ReportText.Unit(Metrics.Find(metric)?.Unit ?? "1")), Cells(of.Where(row => row.Number("n") == n))));
        return new Figure(title, svg, ByStrategy(title, [.. columns]) with { Legend = LegendOf(metric) + " Beneath each value its spread over repeats." });
    }

    private List<Block> Speed(List<ReportRow> here)
    {
        var first = _rows.SpeedSettings[0];
        var blocks = new List<Block> { new Paragraph($"The largest tensor timed, {first}. A memory copy of the same tensor, timed in the same run, is 1. " + BestKey) };
        blocks.Add(SpeedTable($"Speed, {first}", here.Where(row => SpeedSetting.Of(row) == first), ["ns_per_element", "fraction_of_copy", "bytes_allocated"]));
        if (SpeedBars(first) is { } chart) blocks.Add(chart);
        foreach (var setting in _rows.SpeedSettings)
        {
            var details = new List<Block> { Turned(SpeedTable($"All values, {setting}", here.Where(row => SpeedSetting.Of(row) == setting), null)) };
            if (setting != first && SpeedBars(setting) is { } bars) details.Add(bars);
            blocks.Add(new Folded($"All values, {setting}", details));
        }

        return blocks;
    }

    private Table SpeedTable(string caption, IEnumerable<ReportRow> rows, string[]? only)
    {
        var columns = rows.Where(row => only is null || only.Contains(row.Measurement.Metric))
            .GroupBy(row => (Direction: row.Text("direction"), row.Measurement.Metric))
            .OrderBy(group => Array.IndexOf([.. _rows.Directions], group.Key.Direction)).ThenBy(group => ColumnOrder(group.Key.Metric))
            .Select(group =>
            {
                var cells = Cells(group);
                MarkBest(cells, group.Key.Metric);
                return (HeadOf(group.Key.Metric, group.Key.Direction.Length > 0 ? $", {group.Key.Direction}" : ""), cells);
            });
        return ByStrategy(caption, [.. columns]);
    }

    private Figure? SpeedBars(SpeedSetting setting)
    {
        var of = _rows.Of("fraction_of_copy").Where(row => SpeedSetting.Of(row) == setting).ToList();
        if (of.Count == 0) return null;
        var strategies = _rows.Strategies.Where(strategy => of.Any(row => row.Strategy == strategy)).ToList();
        var bars = strategies.Select(strategy => new ChartBars(strategy, [.. _rows.Directions.Select(direction => of.Where(row => row.Strategy == strategy
            && row.Text("direction") == direction).Select(row => row.Value).FirstOrDefault())]));
        string title = $"Throughput as a fraction of a memory copy, {setting}";
        string svg = SvgChart.Bars(
            title, $"Bars for {ReportText.List(_rows.Directions)} of {strategies.Count} strategies; the line at 1 is a memory copy. The table beneath has the values.",
            "fraction of a memory copy's throughput (1)", _rows.Directions, [.. bars], 1, "copy limit");
        return new Figure(title, svg, SpeedTable(title, of, null));
    }

    private List<Block> Claims()
    {
        var blocks = new List<Block>
        {
            new Paragraph(
                "What a strategy declares of its normalized output, held against measurement. ✓ verified; ✗ refuted; holds undeclared: true although not claimed; "
                + "not claimed: neither. Over several scenarios the worst stands, with the scenario. Beneath each verdict the relative deviation."),
            // A row without a claim states that none could be formed on its scenario.
            ClaimTable("Claims over all scenarios", [.. _rows.Of("claim").Where(row => row.Text("claim").Length > 0)]),
        };
        string[] scenarios = [.. Scenarios(_rows.Of("claim"), "claim")];
        if (scenarios.Length < 2) return blocks;
        foreach (string scenario in scenarios)
        {
            string title = $"Claims on {Named(scenario)}";
            blocks.Add(new Folded(title, [ClaimTable(title, [.. _rows.Of("claim").Where(row => row.Scenario == scenario)])]));
        }

        return blocks;
    }

    private Table ClaimTable(string caption, List<ReportRow> of)
    {
        var strategies = _rows.Strategies.Where(strategy => of.Any(row => row.Strategy == strategy)).ToList();
        var rows = of.Select(row => row.Text("claim")).Distinct().Select(claim => (IReadOnlyList<Cell>)
            [new Cell(claim.Length > 0 ? claim : "every claim"), .. strategies.Select(strategy => Verdict([.. of.Where(row => row.Strategy == strategy && row.Text("claim") == claim)]))]);
        return new Table(
            caption, [new Head("claim", IsText: true), .. strategies.Select(strategy => HeadOfStrategy(strategy, isText: true))], [.. rows], LegendOf("claim"));
    }

    private static Cell Verdict(List<ReportRow> rows)
    {
        if (rows.Count == 0) return Empty;
        var valued = rows.Where(row => row.Value is not null).ToList();
        if (valued.Count == 0) return CellOf(rows[0]);

        // The verdict that is worst for the strategy stands for all scenarios.
        string[] order = ["refuted", "not claimed", "holds undeclared", "verified"];
        var worst = valued.OrderBy(row => (uint)Array.IndexOf(order, row.Text("verdict")))
            .ThenByDescending(row => row.Text("claim") == RunRows.DependenceClaim ? -row.Value : row.Value).First();
        string verdict = worst.Text("verdict");
        string detail = ReportText.Number(worst.Value!.Value) + (valued.Select(row => row.Scenario).Distinct().Count() > 1 ? $", {worst.Scenario}" : "");
        return new Cell(
            verdict == "verified" ? "✓ verified" : verdict, detail, worst.Measurement.Note,
            verdict == "refuted" ? Mark.Refuted : Mark.None, worst.Index);
    }

    private List<Block> Method(bool isBenchmark)
    {
        var header = _run.Header;
        var environment = header.Environment;
        bool trains = header.Experiments is not null;
        (string Name, string Value)[] facts =
        [
            ("started", environment.Started), ("processor", environment.Cpu), ("vectors", $"{environment.SimdBits} bits"),
            ("cores", Whole(environment.Cores)), ("system", environment.Os), ("runtime", environment.Runtime),
            .. environment.Packages.Select(package => (package.Key, package.Value)),
            ("version", environment.Commit), ("command", environment.CommandLine), ("seed", Whole(environment.Seed)), ("threads", Whole(environment.Threads)),
            ("cases", $"{_run.Cases.Count} of {header.CaseCount}"), ("time in cases", $"{ReportText.Number(_run.Cases.Sum(record => record.Seconds))} s"),
        ];
        return
        [
            new Paragraph(
                "Every number here is a row of results.json, made from records.jsonl: the records hold one line a finished case, and every file of this folder is drawn from "
                + "them without measuring again. A row that could not be formed has no value and says why. Values are shown with three significant digits; the files hold all of them."),
            new Paragraph(isBenchmark ? BenchmarkContent.Method : trains ? ExperimentContent.Method :
                "Each strategy sees the same input in each scenario. Outputs are computed in double and in float, the double instance being the reference; gradients and everything else but speed in double. "
                + "Nothing is timed before its output was checked; times are medians. ‘" + RunRows.Yardstick + "’ is the identity: the yardstick beside the strategies, never a recommendation."),
            .. trains ? Array.Empty<Block>() : [Facts("Strategies", [new Head("strategy", IsText: true), new Head("shared statistics", IsText: true), new Head("options", IsText: true)],
                header.Strategies.Select(strategy => new[] { strategy.Id, strategy.Axes, strategy.Options }))],
            .. trains || header.Scenarios.Count == 0 ? Array.Empty<Block>() :
            [
                Facts("Scenarios", [new Head("scenario", IsText: true), new Head("title", IsText: true), new Head("description", IsText: true)],
                    header.Scenarios.Select(scenario => new[] { scenario.Id, scenario.Title, scenario.Description })),
            ],
            Facts("Settings", [new Head("setting", IsText: true), new Head("value", IsText: true)], header.Settings.Select(setting => new[] { setting.Key, setting.Value })),
            Facts("Machine and program", [new Head("what", IsText: true), new Head("value", IsText: true)], facts.Select(fact => new[] { fact.Name, fact.Value })),
        ];
    }

    private static Table Facts(string caption, IReadOnlyList<Head> heads, IEnumerable<string[]> rows) =>
        new(caption, heads, [.. rows.Select(row => (IReadOnlyList<Cell>)[.. row.Select(text => new Cell(text))])]);

    // As many as stand side by side, the others folded away.
    private static void AddCharts(List<Block> blocks, List<Figure> charts, string others)
    {
        int shown = charts.Exists(chart => chart.IsWide) ? 1 : 2;
        blocks.AddRange(charts.Take(shown));
        if (charts.Count > shown) blocks.Add(new Folded(others, [.. charts.Skip(shown)]));
    }

    private IEnumerable<string> Scenarios(IEnumerable<ReportRow> rows, string metric)
    {
        var having = rows.Where(row => row.Measurement.Metric == metric).Select(row => row.Scenario).ToHashSet(StringComparer.Ordinal);
        return _rows.Scenarios.Where(having.Contains);
    }

    private List<ChartSeries> SeriesOf(List<ReportRow> rows, string parameter) =>
    [
        .. _rows.Strategies.Select((strategy, style) => new ChartSeries(strategy, style,
        [
            .. rows.Where(row => row.Strategy == strategy && row.Number(parameter) is not null).OrderBy(row => row.Number(parameter)).Select(row => new ChartPoint(
                row.Number(parameter)!.Value, row.Value, row.Measurement.Spread is { Count: 2 } low ? low[0] : null, row.Measurement.Spread is { Count: 2 } high ? high[1] : null)),
        ])).Where(series => series.Points.Any(point => point.Y is not null)),
    ];

    private Table ByStrategy(string caption, List<(Head Head, Dictionary<string, Cell> Cells)> columns)
    {
        var rows = _rows.Strategies.Where(strategy => columns.Any(column => column.Cells.ContainsKey(strategy))).Select(strategy => (IReadOnlyList<Cell>)
            [NameOf(strategy), .. columns.Select(column => column.Cells.GetValueOrDefault(strategy, Empty))]);
        return new Table(caption, [new Head("strategy", IsText: true), .. columns.Select(column => column.Head)], [.. rows]);
    }

    // A column a strategy in place of a row a strategy: there are fewer strategies than values.
    private Table Turned(Table table) => new(
        table.Caption,
        [new Head("value", IsText: true), .. table.Rows.Select(row => HeadOfStrategy(row[0].Text))],
        [.. table.Heads.Skip(1).Select((head, column) => (IReadOnlyList<Cell>)[new Cell(head.Title, head.Unit), .. table.Rows.Select(row => row[column + 1])])],
        RowHeads: [.. table.Heads.Skip(1)]);

    private Cell NameOf(string strategy) => new(strategy, RemarkOn(strategy));

    private Head HeadOfStrategy(string strategy, bool isText = false) => new(strategy, RemarkOn(strategy), IsText: isText);

    private string RemarkOn(string strategy) =>
        _rows.Failures.Contains(strategy) ? "✗ failed a check" : strategy == RunRows.Yardstick ? "yardstick" : "";

    private static Dictionary<string, Cell> Cells(IEnumerable<ReportRow> rows) =>
        rows.GroupBy(row => row.Strategy).ToDictionary(group => group.Key, group => CellOf(group.First()), StringComparer.Ordinal);

    internal static Cell Empty => new("–");

    internal static Cell CellOf(ReportRow row)
    {
        var measurement = row.Measurement;
        if (measurement.Value is not { } value) return new Cell("not formed", "", measurement.Note, Mark.Missing, row.Index);
        string spread = measurement.Spread is { Count: 2 } ends && ends[0] != ends[1] ? $"{ReportText.Number(ends[0])} – {ReportText.Number(ends[1])}" : "";
        return new Cell(ReportText.Number(value), spread, measurement.Note, Mark.None, row.Index);
    }

    private void MarkBest(Dictionary<string, Cell> cells, string metric)
    {
        var rows = cells.Where(pair => _rows.Competes(pair.Key) && pair.Value is { Row: not null, Mark: Mark.None })
            .ToDictionary(pair => pair.Value.Row!.Value, pair => pair.Key);
        var leading = RunRows.Leading(rows.Keys.Select(index => _rows.All[index]), Metrics.Find(metric)?.Better ?? Better.Neither);
        if (rows.Count < 2 || leading.Count == rows.Count) return;
        if (leading.Exists(row => row.Measurement is { Aspect: Aspects.Speed, Spread: not null }) && !RunRows.TellsApart(leading.Count, rows.Count)) return;
        foreach (string strategy in leading.Select(row => rows[row.Index])) cells[strategy] = cells[strategy] with { Mark = Mark.Best };
    }

    // What stands in brackets does not break.
    private static string HeldTogether(string text) => text.IndexOf('(', StringComparison.Ordinal) is >= 0 and int at ? text[..at] + text[at..].Replace(' ', '\u00a0') : text;

    // Held together by no-break spaces.
    private static string BatchOf(double n) => $"N\u00a0=\u00a0{ReportText.Number(n)}";

    internal static Head HeadOf(string metric, string suffix) =>
        new(ReportText.Title(metric) + suffix, ReportText.Unit(Metrics.Find(metric)?.Unit ?? "1"), LegendOf(metric));

    internal static string LegendOf(string metric) => Metrics.Find(metric)?.Legend ?? $"{metric}: recorded by another version, which knows what it means.";

    private static int ColumnOrder(string metric)
    {
        for (int i = 0; i < Metrics.All.Count; i++)
        {
            if (Metrics.All[i].Id == metric) return i;
        }

        return int.MaxValue;
    }

    private static IEnumerable<string> InColumnOrder(IEnumerable<string> metrics) => metrics.Distinct().OrderBy(ColumnOrder);

    // The title beside the id where it says more.
    private string Named(string scenario) => _run.Header.Scenarios.FirstOrDefault(known => known.Id == scenario)?.Title is { Length: > 0 } title
        && !title.Contains(scenario.Replace('-', ' '), StringComparison.OrdinalIgnoreCase) ? $"{scenario} ({title})" : scenario;

    private static string Capital(string text) => text.Length == 0 ? text : char.ToUpperInvariant(text[0]) + text[1..];

    internal static string Anchor(string aspect) => string.Concat(aspect.Select(letter => char.IsAsciiLetterOrDigit(letter) ? char.ToLowerInvariant(letter) : '-'));

    private static string Whole(long value) => value.ToString(CultureInfo.InvariantCulture);
}
