using System.Globalization;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>What a cell's interval says of the fastest peer that has the cell.</summary>
internal enum SpeedVerdict
{
    /// <summary>No peer has the cell, or none was timed.</summary>
    NoPeer,

    /// <summary>The interval lies above 1 / 0.97.</summary>
    Wins,

    /// <summary>The interval lies between the two.</summary>
    Level,

    /// <summary>The interval is too wide to say.</summary>
    Undecided,

    /// <summary>The interval lies below 0.97.</summary>
    Loses,
}

/// <summary>A cell of the speed benchmark: the rows of one strategy in one direction on one tensor, by metric.</summary>
internal sealed class BenchmarkCell
{
    // What is said of a row elsewhere than in its cell's name.
    private static readonly string[] Named = ["shape", "layout", "direction", "threads", "engine", "scaling", "part", "network", "asked"];

    private readonly Dictionary<string, ReportRow> _rows;
    private readonly ReportRow _first;

    public BenchmarkCell(IEnumerable<ReportRow> rows)
    {
        _rows = rows.DistinctBy(row => row.Measurement.Metric).ToDictionary(row => row.Measurement.Metric, StringComparer.Ordinal);
        _first = _rows.Values.MinBy(row => row.Index);
        Setting = SpeedSetting.Of(_first);
        Threads = (int)(_first.Number("threads") ?? 1);
        Remark = ReportText.Parameters(_first.Measurement.Parameters?.Where(pair => !Named.Contains(pair.Key)).ToDictionary());
    }

    public string Strategy => _first.Strategy;

    public string Direction => _first.Text("direction");

    public SpeedSetting Setting { get; }

    public int Threads { get; }

    /// <summary>Parameters beyond the usual ones, such as a group size; empty where there are none.</summary>
    public string Remark { get; }

    /// <summary>What grows over the cells of a series, elements or channels; empty in the table of cells.</summary>
    public string Scaling => _first.Text("scaling");

    /// <summary>Which part of the call the time is, such as the decomposition; empty for the whole.</summary>
    public string Part => _first.Text("part");

    /// <summary>The network whose training step the time is of; empty for a cell of one strategy.</summary>
    public string Network => _first.Text("network");

    /// <summary>How many times a peer's speed was asked of a network; null where nothing was.</summary>
    public double? Asked => _first.Number("asked");

    /// <summary>Which clock took the time, and beside whom.</summary>
    public string Engine => _first.Text("engine");

    /// <summary>Whether the row is there to check a clock: by the second engine, or by the first with nobody beside it.</summary>
    public bool IsCrossCheck => Engine is BenchmarkCells.CrossCheckEngine or BenchmarkCells.AloneEngine;

    /// <summary>Layout, threads and whatever else tells cells of one shape apart.</summary>
    public string Details => string.Join(", ", new[] { Setting.Layout, ThreadsText, Remark }.Where(text => text.Length > 0));

    public string ThreadsText => ReportText.Count(Threads, "thread");

    /// <summary>The cell in a sentence.</summary>
    public string Name => $"{Strategy} {Direction} {Setting.Shape}, {Details}";

    /// <summary>Lengths of the axes; empty where the shape is written in some other way.</summary>
    public IReadOnlyList<long> Lengths => Setting.Lengths;

    /// <summary>The verdict on the fastest peer.</summary>
    public SpeedVerdict Verdict => this[BenchmarkCells.FastestPeer] is not { Value: not null } row ? SpeedVerdict.NoPeer : VerdictOf(row.Low, row.High);

    /// <summary>The verdict on an interval of (the peer's time / ours); undecided where there is none.</summary>
    public static SpeedVerdict VerdictOf(double? low, double? high) =>
        high < BenchmarkCells.LosesBelow ? SpeedVerdict.Loses
        : low > 1 / BenchmarkCells.LosesBelow ? SpeedVerdict.Wins
        : low >= BenchmarkCells.LosesBelow && high <= 1 / BenchmarkCells.LosesBelow ? SpeedVerdict.Level
        : SpeedVerdict.Undecided;

    /// <summary>The row of a metric, formed or not.</summary>
    public ReportRow? this[string metric] => _rows.TryGetValue(metric, out var row) ? row : null;

    /// <summary>The row of a metric where it has a number.</summary>
    public ReportRow? Formed(string metric) => this[metric] is { Value: { } value } row && double.IsFinite(value) ? row : null;

    /// <summary>What cells have in common that differ in one parameter alone.</summary>
    public string KeyWithout(string parameter) => $"{Strategy}\n{_first.Scenario}\n"
        + ReportText.Parameters(_first.Measurement.Parameters?.Where(pair => pair.Key != parameter).OrderBy(pair => pair.Key, StringComparer.Ordinal).ToDictionary());
}

/// <summary>A cell of the series over elements, held against what growth must cost.</summary>
/// <param name="Cell">The cell.</param>
/// <param name="IsLarge">Whether it has 2^22 elements or more and is held to the copy; a smaller one is held to the time at 2^22.</param>
/// <param name="Measure">The fraction of the copy, or the time an element over that at 2^22; null where it is not formed.</param>
internal sealed record GrowthPoint(BenchmarkCell Cell, bool IsLarge, double? Measure)
{
    /// <summary>The least fraction of the copy from 2^22 elements on.</summary>
    public const double LeastFraction = 0.9;

    /// <summary>The largest time an element below 2^22, as a multiple of that at 2^22.</summary>
    public const double MostTime = 1.2;

    /// <summary>Whether it costs no more than it must; null where that cannot be said.</summary>
    public bool? Holds => Measure is { } measure ? IsLarge ? measure >= LeastFraction : measure <= MostTime : null;
}

/// <summary>A cell of 25 MB or more, held against what memory allows.</summary>
/// <param name="Cell">The cell.</param>
/// <param name="Fraction">The fraction of the bound.</param>
internal sealed record BoundedCell(BenchmarkCell Cell, ReportRow Fraction)
{
    /// <summary>The fraction of the bound, or of the copy, that is asked of the five strategies.</summary>
    public const double LeastOfFive = 0.9;

    private const double LeastOfOthers = 0.8;

    /// <summary>The strategies that peers have too; of these the most is asked.</summary>
    public static IReadOnlyList<string> Five { get; } = ["batch-norm", "layer-norm", "instance-norm", "group-norm", "ghost-batch-norm"];

    /// <summary>Whether it is a cell of those five.</summary>
    public bool IsOfFive => Five.Contains(Cell.Strategy);

    /// <summary>The fraction that is asked.</summary>
    public double Least => IsOfFive ? LeastOfFive : LeastOfOthers;

    /// <summary>The same as it is written.</summary>
    public string Asked => Least.ToString(CultureInfo.InvariantCulture);

    /// <summary>Whether the median reaches it.</summary>
    public bool Reaches => Fraction.Value >= Least;
}

/// <summary>The cells of the speed benchmark: rows of the aspect speed that name their engine. <c>compare</c>'s rows do not.</summary>
internal sealed class BenchmarkCells
{
    public const string CrossCheckEngine = "benchmarkdotnet";

    public const string AloneEngine = "alone";

    public const string Bound = "fraction_of_bound";

    public const string FastestPeer = PeerPrefix + "fastest_peer";

    /// <summary>A cell loses where its ratio, at the upper end of the interval, is below this.</summary>
    public const double LosesBelow = 0.97;

    private const string PeerPrefix = "speedup_vs_";

    private static readonly Dictionary<string, string> PeerNames = new(StringComparer.Ordinal)
    {
        [PeerPrefix + "pytorch"] = "PyTorch",
        [PeerPrefix + "onednn"] = "oneDNN",
        [PeerPrefix + "tensorprimitives"] = "TensorPrimitives",
        [FastestPeer] = "fastest peer",
    };

    public BenchmarkCells(IEnumerable<ReportRow> rows)
    {
        var all = rows.Where(IsBenchmark).ToList();
        All = [.. all.GroupBy(row => (row.Strategy, row.Scenario, Parameters: ReportText.Parameters(row.Measurement.Parameters))).Select(group => new BenchmarkCell(group))];
        Cells = [.. All.Where(cell => cell is { Scaling: "", Part: "", Network: "", IsCrossCheck: false })];
        Peers = [.. all.Select(row => row.Measurement.Metric).Where(metric => metric.StartsWith(PeerPrefix, StringComparison.Ordinal) && metric != FastestPeer).Distinct()];
    }

    /// <summary>Every cell in record order.</summary>
    public IReadOnlyList<BenchmarkCell> All { get; }

    /// <summary>The cells of the tables: no scaling series, no parts of a call, no networks, no cross-check.</summary>
    public IReadOnlyList<BenchmarkCell> Cells { get; }

    /// <summary>The training steps of whole networks.</summary>
    public IEnumerable<BenchmarkCell> Networks => All.Where(cell => cell.Network.Length > 0);

    /// <summary>The metric of each peer in the records.</summary>
    public IReadOnlyList<string> Peers { get; }

    /// <summary>The cells of a scaling series that were timed in turns, by what grows.</summary>
    public IEnumerable<BenchmarkCell> Series(string scaling) => All.Where(cell => cell.Scaling == scaling && cell is { Part: "", IsCrossCheck: false });

    /// <summary>The times of the second engine, each with that of the first alone and the cell in turns; null where there is none.</summary>
    /// <remarks>Records from before the first engine timed a call alone are held to the cell in turns.</remarks>
    public IEnumerable<(BenchmarkCell Check, BenchmarkCell? Alone, BenchmarkCell? Turns)> CrossChecks()
    {
        var cells = All.Where(cell => cell.Engine != CrossCheckEngine).ToLookup(cell => cell.KeyWithout("engine"), StringComparer.Ordinal);
        return All.Where(cell => cell.Engine == CrossCheckEngine).Select(check =>
        {
            IEnumerable<BenchmarkCell> same = cells[check.KeyWithout("engine")];
            BenchmarkCell? turns = same.FirstOrDefault(cell => cell.Engine != AloneEngine);
            return (check, same.FirstOrDefault(cell => cell.Engine == AloneEngine) ?? turns, turns);
        });
    }

    /// <summary>The cells, series included, that were held against their bound, those of 25 MB and more; the yardstick left out.</summary>
    public IReadOnlyList<BoundedCell> Bounded =>
    [
        .. All.Where(cell => cell.Strategy != RunRows.Yardstick).Select(cell => (Cell: cell, Fraction: cell.Formed(Bound)))
            .Where(pair => pair.Fraction is not null).Select(pair => new BoundedCell(pair.Cell, pair.Fraction!.Value)),
    ];

    /// <summary>The series over elements, each cell held against what it must cost.</summary>
    public List<GrowthPoint> Growth()
    {
        const double Middle = 1 << 22;
        var points = new List<GrowthPoint>();
        foreach (var series in Series("elements").GroupBy(cell => (cell.Strategy, cell.Direction, cell.Threads, cell.Setting.Layout, cell.Remark)))
        {
            double? middle = series.FirstOrDefault(cell => cell.Setting.Elements == Middle)?.Formed("ns_per_element")?.Value;
            points.AddRange(series.Select(cell => cell.Setting.Elements >= Middle
                ? new GrowthPoint(cell, true, cell.Formed("fraction_of_copy")?.Value)
                : new GrowthPoint(cell, false, cell.Formed("ns_per_element")?.Value / middle)));
        }

        return points;
    }

    public static bool IsBenchmark(ReportRow row) => row.Measurement.Aspect == Aspects.Speed && row.Text("engine").Length > 0;

    /// <summary>A peer's name, from its metric.</summary>
    public static string PeerName(string metric) => PeerNames.GetValueOrDefault(metric, metric[PeerPrefix.Length..]);

    /// <summary>Whether two times agree within their intervals.</summary>
    public static bool Agree(ReportRow one, ReportRow other) => one.Low <= other.High && other.Low <= one.High;

    /// <summary>The geometric mean of ratios; NaN of none.</summary>
    public static double GeometricMean(IEnumerable<double> ratios) => Math.Exp(ratios.Select(ratio => Math.Log(ratio)).DefaultIfEmpty(double.NaN).Average());
}
