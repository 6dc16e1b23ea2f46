namespace Normalization.Core.Reporting;

/// <summary>Makes the tables and charts of the speed benchmark.</summary>
internal sealed class BenchmarkContent
{
    /// <summary>How the benchmark was made.</summary>
    public const string Method =
        "Every contestant of a cell, the memory copy among them, is given the same values and timed in turns with the others, round by round in rotating order, so that whatever slows the machine slows all. "
        + "A ratio is the median over the rounds, with a 95 % interval from a seeded bootstrap; of three rounds, as in the dry tier, that is their range, which covers about 75 %. Nothing is timed before its result was checked: ours against the double instance, the peers' against ours. "
        + "‘" + RunRows.Yardstick + "’ is the identity, held to the copy alone.";

    private const string Time = "ns_per_element", Throughput = "gigabytes_per_second", Copy = "fraction_of_copy", SecondRead = "second_read_ns_per_element", Allocated = "bytes_allocated",
        Step = "step_milliseconds", PyTorch = "speedup_vs_pytorch";

    private readonly RunRows _rows;
    private readonly BenchmarkCells _cells;

    private BenchmarkContent(RunRows rows) => (_rows, _cells) = (rows, rows.Benchmark);

    /// <summary>The benchmark's sections; none where the run has no row of it.</summary>
    public static IReadOnlyList<Section> Of(RunRows rows) => [.. new BenchmarkContent(rows).Sections().Where(section => section.Blocks.Count > 0)];

    private IEnumerable<Section> Sections()
    {
        if (_cells.Cells.Count > 0) yield return new Section("overview", "Overview", Overview());
        yield return new Section("bound", "Tensors of 25 MB and more", HeldToTheBound());
        foreach (string strategy in _rows.Strategies)
            yield return new Section(ReportContent.Anchor(strategy), strategy, OfStrategy([.. _cells.Cells.Where(cell => cell.Strategy == strategy)]));
        yield return new Section("growth", "Growth with size", [.. GrowthWithElements(), .. GrowthWithChannels()]);
        yield return new Section("parts", "Parts of a call", Parts());
        yield return new Section("networks", "Whole networks", Networks());
        yield return new Section("cross-check", "Cross-check", CrossCheck());
    }

    private List<Block> Overview()
    {
        var groups = _cells.Cells.GroupBy(cell => (cell.Strategy, cell.Direction)).OrderBy(group => ((List<string>)[.. _rows.Strategies]).IndexOf(group.Key.Strategy)).ToList();
        int threads = _cells.Cells.Min(cell => cell.Threads);
        string at = $", {ReportText.Count(threads, "thread")}";
        Head[] heads =
        [
            new("strategy", IsText: true), new("losing", IsText: true),
            new("cells", Legend: "Tensor, layout and number of threads, in every combination that the strategy accepts; beneath, how many win and how many are undecided."),
            .. _cells.Peers.Select(peer => new Head($"vs {BenchmarkCells.PeerName(peer)}{at}", Legend: $"Geometric mean of {BenchmarkCells.PeerName(peer)}'s time over ours, over the cells that it has; beneath, the least and the largest.")),
            new($"fraction of copy{at}", Legend: "The least and the largest fraction of a memory copy's throughput."),
        ];
        var table = new Table("All cells, by strategy and direction", heads, [.. groups.Select(group => (IReadOnlyList<Cell>)
        [
            new Cell(group.Key.Strategy, group.Key.Direction), Losing([.. group]),
            new Cell(ReportText.Number(group.Count()), $"{group.Count(cell => cell.Verdict == SpeedVerdict.Wins)} win, {group.Count(cell => cell.Verdict == SpeedVerdict.Undecided)} undecided"),
            .. _cells.Peers.Select(peer => Mean([.. group.Where(cell => cell.Threads == threads).Select(cell => cell.Formed(peer)).OfType<ReportRow>()])),
            Range([.. group.Where(cell => cell.Threads == threads).Select(cell => cell.Formed(Copy)).OfType<ReportRow>()]),
        ])]);
        var blocks = new List<Block>
        {
            new Paragraph(
                "A cell is one strategy in one direction on one tensor. ✗ loses: the interval of the ratio to the fastest peer that has the cell lies below 0.97; ✓ wins: it lies above 1 / 0.97; "
                + "level: it lies between; undecided: it is too wide to say. A ratio above 1 says that ours is faster."),
            table,
        };
        var losing = _cells.Cells.Where(cell => cell.Verdict == SpeedVerdict.Loses).OrderBy(cell => cell[BenchmarkCells.FastestPeer]!.Value.Value).ToList();
        if (losing.Count > 0) blocks.Add(CellTable("Cells that lose to the fastest peer, the slowest first", losing, withStrategy: true));
        blocks.Add(new Folded("What the columns of the tables hold", [new Table(
            "Columns", [new Head("column", IsText: true), new Head("what it holds", IsText: true)],
            [.. CellHeads().Where(head => head.Legend is not null).Select(head => (IReadOnlyList<Cell>)[new Cell(head.Title, head.Unit), new Cell(head.Legend!)])])]));
        return blocks;

        static Cell Losing(List<BenchmarkCell> cells) => cells.Count(cell => cell.Verdict == SpeedVerdict.Loses) is > 0 and var losing
            ? new Cell(ReportText.Number(losing), Mark: Mark.Failed)
            : cells.All(cell => cell.Verdict == SpeedVerdict.NoPeer) ? new Cell("no peer") : new Cell("none", Mark: Mark.Passed);

        static Cell Mean(List<ReportRow> ratios) => ratios.Count == 0 ? ReportContent.Empty
            : new Cell(ReportText.Number(BenchmarkCells.GeometricMean(ratios.Select(row => row.Value!.Value))), Ends(ratios));

        static Cell Range(List<ReportRow> values) => values.Count == 0 ? ReportContent.Empty : new Cell(Ends(values));

        static string Ends(List<ReportRow> rows) =>
            $"{ReportText.Number(rows.Min(row => row.Value!.Value))} – {ReportText.Number(rows.Max(row => row.Value!.Value))}";
    }

    private List<Block> HeldToTheBound()
    {
        var strategies = _rows.Strategies.ToList();
        var bounded = _cells.Bounded.OrderBy(cell => strategies.IndexOf(cell.Cell.Strategy)).ToList();
        if (bounded.Count == 0) return [];
        Head[] heads =
        [
            new("call", IsText: true), new("verdict", IsText: true),
            .. new[] { BenchmarkCells.Bound, Copy, SecondRead, Time }.Select(metric => ReportContent.HeadOf(metric, "")),
        ];
        var blocks = new List<Block>
        {
            new Paragraph(
                "The bound is the copy’s time for what must be moved once, and with it a second read of x (in a backward pass of x and dy) where a reduction set, or the weights by element beside it, is no smaller than a core’s second-level cache. "
                + $"Of {ReportText.List(BoundedCell.Five)} 0.9 of it is asked, of the others 0.8: ✓ reaches that, ✗ stays below; the median decides."),
            new Folded("What the columns hold", [new Table(
                "Columns", [new Head("column", IsText: true), new Head("what it holds", IsText: true)],
                [.. heads.Where(head => head.Legend is not null).Select(head => (IReadOnlyList<Cell>)[new Cell(head.Title, head.Unit), new Cell(head.Legend!)])])]),
        };
        foreach (var group in bounded.GroupBy(cell => (cell.IsOfFive, cell.Cell.Threads)).OrderBy(group => group.Key.Threads).ThenBy(group => !group.Key.IsOfFive))
        {
            blocks.Add(new Table(
                $"{(group.Key.IsOfFive ? "The five strategies" : "The others")}, {ReportText.Count(group.Key.Threads, "thread")}: {group.Count(cell => cell.Reaches)} of {ReportText.Count(group.Count(), "cell")} reach {group.First().Asked} of the bound",
                [.. heads.Select(head => head with { Legend = null })],
                [.. group.Select(bounded => (IReadOnlyList<Cell>)
                [
                    new Cell(
                        $"{bounded.Cell.Strategy} {bounded.Cell.Direction}", string.Join(", ", new[] { bounded.Cell.Setting.Shape, bounded.Cell.Setting.Layout, bounded.Cell.Remark }.Where(text => text.Length > 0)),
                        Mark: MarkOf(bounded)),
                    new Cell($"{(bounded.Reaches ? "reaches" : "below")} {bounded.Asked}", Mark: MarkOf(bounded)),
                    ReportContent.CellOf(bounded.Fraction), ValueOf(bounded.Cell, Copy), SecondReadOf(bounded.Cell), ValueOf(bounded.Cell, Time),
                ])]));
        }

        return blocks;

        static Mark MarkOf(BoundedCell bounded) => bounded.Reaches ? Mark.Passed : Mark.Failed;

        // Its note says what is read.
        static Cell SecondReadOf(BenchmarkCell cell) => cell.Formed(SecondRead) is not { } row ? new Cell("none")
            : ReportContent.CellOf(row) with { Detail = row.Measurement.Note ?? "", Note = null };
    }

    private List<Block> OfStrategy(List<BenchmarkCell> cells)
    {
        var blocks = new List<Block>();
        foreach (var direction in cells.GroupBy(cell => cell.Direction))
        {
            string title = $"{cells[0].Strategy}, {direction.Key}";
            blocks.Add(CellTable(title, [.. direction], withStrategy: false));
            blocks.AddRange(direction.GroupBy(cell => cell.Threads).Select(threads => Ratios($"{title}, {ReportText.Count(threads.Key, "thread")}", [.. threads])).OfType<Figure>());
        }

        return blocks;
    }

    private Head[] CellHeads() =>
    [
        new("tensor", IsText: true), new("verdict", IsText: true),
        .. new[] { Time, Throughput, Copy }.Select(metric => ReportContent.HeadOf(metric, "")),
        .. _cells.Peers.Append(BenchmarkCells.FastestPeer).Select(peer => new Head($"vs {BenchmarkCells.PeerName(peer)}", Legend: ReportContent.LegendOf(peer))),
        ReportContent.HeadOf(Allocated, ""),
    ];

    // The legends stand once, in the overview.
    private Table CellTable(string caption, List<BenchmarkCell> cells, bool withStrategy)
    {
        string[] metrics = [Time, Throughput, Copy, .. _cells.Peers, BenchmarkCells.FastestPeer];
        var heads = CellHeads().Select(head => head with { Legend = null });
        bool allocates = cells.Any(cell => cell.Formed(Allocated)?.Value > 0);
        if (allocates) metrics = [.. metrics, Allocated];
        return new Table(caption, [.. allocates ? heads : heads.SkipLast(1)], [.. cells.Select(cell => (IReadOnlyList<Cell>)
        [
            (withStrategy ? new Cell($"{cell.Strategy} {cell.Direction}", $"{cell.Setting.Shape}, {cell.Details}") : new Cell(cell.Setting.Shape, cell.Details)) with { Mark = MarkOf(cell) },
            VerdictOf(cell),
            .. metrics.Select(metric => ValueOf(cell, metric)),
        ])]);
    }

    private static Mark MarkOf(BenchmarkCell cell) => cell.Verdict switch
    {
        SpeedVerdict.Wins => Mark.Passed,
        SpeedVerdict.Loses => Mark.Failed,
        _ => Mark.None,
    };

    private static Cell VerdictOf(BenchmarkCell cell) => cell.Formed(Time) is null ? new Cell("not timed", Mark: Mark.Missing) : cell.Verdict switch
    {
        // The note names the fastest peer, how it was called and its time.
        SpeedVerdict.NoPeer => new Cell("no peer"),
        var verdict => new Cell(
            verdict.ToString().ToLowerInvariant(), cell[BenchmarkCells.FastestPeer]?.Measurement.Note is { } note ? $"beside {note}" : "", Mark: MarkOf(cell)),
    };

    private static Cell ValueOf(BenchmarkCell cell, string metric)
    {
        if (cell[metric] is not { } row) return ReportContent.Empty;
        Cell shown = ReportContent.CellOf(row);
        // The throughput's interval is that of the time, and which peer was the fastest stands beside the verdict.
        return metric == Throughput ? shown with { Detail = "" } : row.Value is null ? shown : shown with { Note = null };
    }

    private Figure? Ratios(string title, List<BenchmarkCell> cells)
    {
        string[] metrics = [Copy, .. _cells.Peers];
        // Every peer keeps its colour, so that it looks alike in every chart.
        string[] groups =
        [
            "fraction of the memory copy",
            .. _cells.Peers.Select(peer => $"time of {BenchmarkCells.PeerName(peer)} over ours{(cells.Any(cell => cell.Formed(peer) is not null) ? "" : ": none")}"),
        ];
        var rows = cells.Select(cell => new ChartRatios(
            (cell.Verdict == SpeedVerdict.Loses ? "✗ " : "") + cell.Setting.Shape,
            string.Join(", ", new[] { cell.Setting.Layout, cell.Remark }.Where(text => text.Length > 0)),
            [.. metrics.Select(metric => cell.Formed(metric) is { } row ? new ChartRatio(row.Value!.Value, row.Low!.Value, row.High!.Value) : (ChartRatio?)null)])).ToList();
        if (rows.All(row => row.Values.All(value => value is null))) return null;
        int losing = cells.Count(cell => cell.Verdict == SpeedVerdict.Loses);
        string svg = SvgChart.Ratios(
            title, $"{ReportText.List(groups)}, with 95 % intervals, for {ReportText.Count(cells.Count, "tensor")}, {losing} of them losing to the fastest peer; right of the line at 1 ours is faster. The table before it has the values.",
            "ratio, logarithmic; to the right ours is faster", groups, rows);
        return new Figure($"{title}: ratio to a memory copy and to each peer", svg, null);
    }

    private IEnumerable<Block> GrowthWithElements()
    {
        var judged = _cells.Growth();
        if (judged.Count == 0) yield break;
        yield return new Paragraph(
            "The same work on more and more elements. ✗ marks what grows more than it must: from 2^22 elements on, a fraction of the copy below 0.9; below 2^22, a time an element above 1.2 times that at 2^22.");
        foreach (var threads in judged.GroupBy(point => point.Cell.Threads))
        {
            string suffix = ReportText.Count(threads.Key, "thread");
            var columns = threads.GroupBy(point => $"{point.Cell.Strategy}, {point.Cell.Direction}").ToList();
            var sizes = threads.Select(point => point.Cell.Setting.Elements).Distinct().Order().ToList();
            yield return new Table(
                $"Fraction of the copy, and beneath it ns/element, {suffix}",
                [new Head("elements", Legend: "The elements of the tensor, as a power of two."), .. columns.Select(column => new Head(column.Key))],
                [.. sizes.Select(size => (IReadOnlyList<Cell>)[new Cell(Power(size)), .. columns.Select(column => Point([.. column.Where(point => point.Cell.Setting.Elements == size)]))])],
                ReportContent.LegendOf(Copy));
            foreach (var (metric, axis) in new[] { (Copy, "fraction of the copy (1)"), (Time, "time (ns/element)") })
            {
                string title = $"{(metric == Copy ? "Fraction of the copy" : "Time an element")} over the number of elements, {suffix}";
                var series = columns.Select((column, style) => new ChartSeries(column.Key, style, [.. column.OrderBy(point => point.Cell.Setting.Elements).Select(point => PointOf(Math.Log2(point.Cell.Setting.Elements), point.Cell[metric], 1))]));
                yield return new Figure(
                    title, SvgChart.Lines(
                        title, $"{title} for {ReportText.List([.. columns.Select(column => column.Key)])}, with 95 % intervals; the table before it has the values.",
                        new ChartAxis("elements, as the power of 2 (22 is 4 million)"), new ChartAxis(axis), [.. series]),
                    null);
            }
        }

        static Cell Point(List<GrowthPoint> points) => points.Count == 0 ? ReportContent.Empty
            : points[0].Cell.Formed(Copy) is not { } fraction ? (points[0].Cell[Copy] is { } missing ? ReportContent.CellOf(missing) : ReportContent.Empty)
            : new Cell(
                ReportText.Number(fraction.Value!.Value), points[0].Cell.Formed(Time) is { } time ? ReportText.Number(time.Value!.Value) : "", fraction.Measurement.Note,
                points[0].Holds == false ? Mark.Failed : Mark.None, fraction.Index);
    }

    // Time of a call over C, with the curve of C^2 M + C^3 that passes through the middle of the points.
    private IEnumerable<Block> GrowthWithChannels()
    {
        var columns = _cells.Series("channels").Where(cell => cell.Lengths.Count > 1 && cell.Formed(Time) is not null)
            .GroupBy(cell => (Name: string.Join(", ", new[] { cell.Strategy, cell.Direction, cell.Remark }.Where(text => text.Length > 0)), Threads: cell.ThreadsText))
            .Select(group => (group.Key.Name, group.Key.Threads, Cells: group.OrderBy(cell => cell.Lengths[1]).ToList(), Factor: BenchmarkCells.GeometricMean(group.Select(cell => Milliseconds(cell) / Cost(cell))))).ToList();
        if (columns.Count == 0) yield break;
        const string Title = "Time of a call over the number of channels C";
        yield return new Paragraph(
            "Whitening M values a channel must cost what C^2 M products and a decomposition of C^3 cost: the curve k (C^2 M + C^3), its k the geometric mean over the points. Beneath each time, how many times the curve it is.");
        yield return new Table(
            Title, [new Head("C", Legend: "Channels; the other axes stay as they are."), .. columns.Select(column => new Head($"{column.Name}, {column.Threads}", "ms"))],
            [.. columns.SelectMany(column => column.Cells).Select(cell => cell.Lengths[1]).Distinct().Order().Select(channels => (IReadOnlyList<Cell>)
            [
                new Cell(ReportText.Number(channels)),
                .. columns.Select(column => column.Cells.FirstOrDefault(cell => cell.Lengths[1] == channels) is not { } cell ? ReportContent.Empty : new Cell(
                    ReportText.Number(Milliseconds(cell)), $"{ReportText.Number(Milliseconds(cell) / (column.Factor * Cost(cell)))} times the curve", cell[Time]!.Value.Measurement.Note, Row: cell[Time]!.Value.Index)),
            ])], "Median time of a call: time an element times the number of elements.");
        foreach (var threads in columns.GroupBy(column => column.Threads))
        {
            ChartSeries[] series =
            [
                .. threads.SelectMany((column, index) => new ChartSeries[]
                {
                    new(column.Name, 2 * index, [.. column.Cells.Select(cell => PointOf(cell.Lengths[1], cell[Time], cell.Setting.Elements / 1e6))]),
                    new("its curve k (C²M + C³)", 2 * index + 1, [.. column.Cells.Select(cell => new ChartPoint(cell.Lengths[1], column.Factor * Cost(cell)))]),
                }),
            ];
            yield return new Figure(
                $"{Title}, {threads.Key}", SvgChart.Lines(
                    $"{Title}, {threads.Key}", $"{Title} for {ReportText.List([.. threads.Select(column => column.Name)])}, each beside its curve of C²M + C³; the table before it has the values.",
                    new ChartAxis("channels C", Scale.Log2), new ChartAxis("time of a call (ms)", Scale.Log10), series),
                null);
        }

        static double Milliseconds(BenchmarkCell cell) => cell[Time]!.Value.Value!.Value * cell.Setting.Elements / 1e6;

        static double Cost(BenchmarkCell cell)
        {
            double channels = cell.Lengths[1];
            return channels * cell.Setting.Elements + channels * channels * channels;
        }
    }

    private List<Block> Parts()
    {
        var parts = _cells.All.Where(cell => cell.Part.Length > 0 && cell.Formed(Time) is not null).ToList();
        if (parts.Count == 0) return [];
        string[] names = [.. parts.Select(cell => cell.Part).Distinct()];
        var wholes = _cells.All.Where(cell => cell is { Part: "", IsCrossCheck: false }).ToLookup(cell => cell.KeyWithout("part"), StringComparer.Ordinal);
        return
        [
            new Table(
                "Where the time of a call goes",
                [new Head("call", IsText: true), new Head("whole", "ns/element"), .. names.Select(name => new Head(name, "ns/element"))],
                [.. parts.GroupBy(cell => cell.KeyWithout("part")).Select(group =>
                {
                    var whole = wholes[group.Key].FirstOrDefault()?.Formed(Time);
                    double sum = whole?.Value ?? group.Sum(cell => cell[Time]!.Value.Value!.Value);
                    return (IReadOnlyList<Cell>)
                    [
                        new Cell($"{group.First().Strategy} {group.First().Direction}", $"{group.First().Setting.Shape}, {group.First().Details}"),
                        whole is { } row ? ReportContent.CellOf(row) : ReportContent.Empty,
                        .. names.Select(name => group.FirstOrDefault(cell => cell.Part == name)?.Formed(Time) is not { } part ? ReportContent.Empty
                            : ReportContent.CellOf(part) with { Detail = $"{ReportText.Number(100 * part.Value!.Value / sum)} %" }),
                    ];
                })], "Median time over the number of elements; beneath it the part of the whole call, which was timed by itself, or of the parts' sum."),
        ];
    }

    private List<Block> Networks()
    {
        var networks = _cells.Networks.ToList();
        if (networks.Count == 0) return [];
        string[] metrics = [Step, PyTorch, Allocated];
        return
        [
            new Paragraph(
                "One training step of a whole network: forward, loss, backward, plain gradient descent, in float on one batch. Where PyTorch is timed it begins with the same weights and batch, and its step is checked against ours first; the ratio is the median of the rounds' ratios, which need not be the quotient of the two medians."),
            new Table(
                "Training steps beside PyTorch's",
                [new Head("network", IsText: true), new Head("normalization", IsText: true), new Head("threads"), .. metrics.Select(metric => ReportContent.HeadOf(metric, "")),
                    new Head("asked", Legend: "How many times PyTorch's speed was asked for; ✓ where the whole interval is above, ✗ where it is below.")],
                [.. networks.Select(cell => (IReadOnlyList<Cell>)
                [
                    new Cell(cell.Network, $"batch {cell.Setting.Shape}"), new Cell(cell.Strategy), new Cell(ReportText.Number(cell.Threads)),
                    .. metrics.Select(metric => cell[metric] is { } row ? ReportContent.CellOf(row) : ReportContent.Empty),
                    cell.Asked is not { } asked ? ReportContent.Empty : new Cell(ReportText.Number(asked), Mark: cell.Formed(PyTorch) is not { } ratio ? Mark.None
                        : ratio.Low >= asked ? Mark.Passed : ratio.High < asked ? Mark.Failed : Mark.None),
                ])]),
        ];
    }

    private List<Block> CrossCheck()
    {
        var checks = _cells.CrossChecks().ToList();
        if (checks.Count == 0) return [];
        return
        [
            new Paragraph(
                "Our kernels timed by BenchmarkDotNet, in processes of its own, and by our clock with nobody beside them. It is the source of no ratio: it says whether our clock can be believed. Each begins several times, since where tensors lie in memory changes their times; they agree where the intervals over all beginnings overlap. In turns, other contestants have pushed tensors out of the caches: those times may be longer."),
            new Table(
                "The two engines side by side",
                [
                    new Head("call", IsText: true), new Head("verdict", IsText: true), new Head("our clock", "ns/element"), new Head("BenchmarkDotNet", "ns/element"),
                    new Head("ratio", Legend: "BenchmarkDotNet's time over ours."), new Head("in turns", "ns/element"),
                ],
                [.. checks.Select(pair =>
                {
                    var check = pair.Check.Formed(Time);
                    var ours = pair.Alone?.Formed(Time);
                    return (IReadOnlyList<Cell>)
                    [
                        new Cell($"{pair.Check.Strategy} {pair.Check.Direction}", $"{pair.Check.Setting.Shape}, {pair.Check.Details}"),
                        check is null || ours is null ? new Cell("not held", Mark: Mark.Missing)
                            : BenchmarkCells.Agree(check.Value, ours.Value) ? new Cell("agree", Mark: Mark.Passed) : new Cell("differ", Mark: Mark.Failed),
                        ours is { } one ? ReportContent.CellOf(one) : ReportContent.Empty,
                        pair.Check[Time] is { } other ? ReportContent.CellOf(other) : ReportContent.Empty,
                        check is null || ours is null ? ReportContent.Empty : new Cell(ReportText.Number(check.Value.Value!.Value / ours.Value.Value!.Value)),
                        pair.Turns?[Time] is { } turns ? ReportContent.CellOf(turns) : ReportContent.Empty,
                    ];
                })], ReportContent.LegendOf(Time)),
        ];
    }

    private static ChartPoint PointOf(double x, ReportRow? row, double scale) => new(x, row?.Value * scale, row?.Low * scale, row?.High * scale);

    private static string Power(double size)
    {
        double power = Math.Log2(size);
        return power == Math.Round(power) ? $"2^{ReportText.Number(power)}" : ReportText.Number(size);
    }
}
