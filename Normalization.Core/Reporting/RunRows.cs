using System.Globalization;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>A measurement and its place in results.json's <c>measurements</c>, counted from 0.</summary>
/// <param name="Index">The place.</param>
/// <param name="Measurement">The row.</param>
public readonly record struct ReportRow(int Index, Measurement Measurement)
{
    internal string Strategy => Measurement.Strategy;

    internal string Scenario => Measurement.Scenario;

    internal double? Value => Measurement.Value;

    // Without a spread the value alone.
    internal double? Low => Measurement.Spread is { Count: 2 } spread ? spread[0] : Value;

    internal double? High => Measurement.Spread is { Count: 2 } spread ? spread[1] : Value;

    internal string Text(string parameter) => Measurement.Parameters?.GetValueOrDefault(parameter) is { } value ? ReportText.Parameter(value) : "";

    internal double? Number(string parameter) => Measurement.Parameters?.GetValueOrDefault(parameter) switch
    {
        long value => value,
        int value => value,
        double value => value,
        _ => null,
    };

    internal bool Flag(string parameter) => Measurement.Parameters?.GetValueOrDefault(parameter) is true;
}

/// <summary>Where a speed was measured: one shape, one layout, one number of threads.</summary>
internal sealed record SpeedSetting(string Scenario, string Shape, string Layout, string Threads)
{
    public static SpeedSetting Of(ReportRow row) => new(row.Scenario, row.Text("shape"), row.Text("layout"), row.Text("threads"));

    /// <summary>The numbers in the shape.</summary>
    public IReadOnlyList<long> Lengths =>
    [
        .. Shape.Split(['(', ')', ',', ' ', 'x'], StringSplitOptions.RemoveEmptyEntries)
            .Select(size => long.TryParse(size, NumberStyles.None, CultureInfo.InvariantCulture, out long number) ? number : 1),
    ];

    /// <summary>The product of the numbers in the shape.</summary>
    public double Elements => Lengths.Aggregate(1.0, (product, length) => product * length);

    public override string ToString() =>
        $"{Shape}{(Layout.Length > 0 ? ", " + Layout : "")}{(Threads.Length > 0 ? $", {Threads} thread{(Threads == "1" ? "" : "s")}" : "")}";
}

/// <summary>The rows of a run, indexed: what tables, charts and findings read.</summary>
internal sealed class RunRows
{
    /// <summary>The contestant that does nothing: shown beside the others and never recommended.</summary>
    public const string Yardstick = "none";

    /// <summary>The one claim that a large deviation proves.</summary>
    public const string DependenceClaim = "batch-dependence";

    private const string ScaleClaim = "scale-invariance";

    // Two or three may well be alike.
    private const int FewestTied = 4;

    // Of the output's largest value: what scales with its input changes by more than itself.
    private const double MostDeviation = 1;

    private readonly ILookup<string, ReportRow> _byMetric;

    public RunRows(RunData run)
    {
        All = [.. run.Measurements.Select((measurement, index) => new ReportRow(index, measurement))];
        // A case's id is aspect/scenario/strategy; of the speed benchmark the strategy stands elsewhere, or in its rows.
        string[] known = [.. run.Header.Strategies.Select(strategy => strategy.Id)];
        Failures = run.Cases.Where(record => record.Failure is not null)
            .ToLookup(record => known.FirstOrDefault(id => record.Case.Split('/').Contains(id))
                ?? record.Measurements.Select(row => row.Strategy).FirstOrDefault() ?? record.Case.Split('/', 3)[^1], StringComparer.Ordinal);
        _byMetric = All.ToLookup(row => row.Measurement.Metric, StringComparer.Ordinal);
        Strategies = [.. run.Header.Strategies.Select(strategy => strategy.Id).Union(All.Select(row => row.Strategy), StringComparer.Ordinal)];
        Scenarios = [.. run.Header.Scenarios.Select(scenario => scenario.Id).Union(All.Select(row => row.Scenario), StringComparer.Ordinal)];
        var compared = All.Where(row => row.Measurement.Aspect == Aspects.Speed && !BenchmarkCells.IsBenchmark(row)).ToList();
        SpeedSettings = [.. compared.Select(SpeedSetting.Of).Distinct().OrderByDescending(setting => setting.Elements)];
        Directions = [.. compared.Select(row => row.Text("direction")).Distinct()];
        Benchmark = new BenchmarkCells(All);
        FollowingScale = Of("claim").Where(row => row.Text("claim") == ScaleClaim && row.Strategy != Yardstick && row.Value > MostDeviation)
            .ToLookup(row => row.Strategy, StringComparer.Ordinal);
    }

    public IReadOnlyList<ReportRow> All { get; }

    /// <summary>Ids in report order, those of the header first.</summary>
    public IReadOnlyList<string> Strategies { get; }

    /// <summary>Ids in report order, those of the header first.</summary>
    public IReadOnlyList<string> Scenarios { get; }

    /// <summary>The cells of the speed benchmark.</summary>
    public BenchmarkCells Benchmark { get; }

    /// <summary>The tensors that <c>compare</c> timed, the largest first; where sizes are equal, in record order.</summary>
    public IReadOnlyList<SpeedSetting> SpeedSettings { get; }

    public IReadOnlyList<string> Directions { get; }

    /// <summary>The cases in which a strategy failed a check, by strategy.</summary>
    public ILookup<string, CaseRecord> Failures { get; }

    /// <summary>The strategies whose output grows with the scale of the input, as no normalization's does, with the deviations that say so.</summary>
    public ILookup<string, ReportRow> FollowingScale { get; }

    /// <summary>
    /// Whether a strategy may be recommended or compared with: the yardstick never is, nor one that failed a check, nor one that leaves
    /// the input's scale as it is, which is good at much that asks for doing nothing.
    /// </summary>
    public bool Competes(string strategy) => strategy != Yardstick && !Failures.Contains(strategy) && !FollowingScale.Contains(strategy);

    public IEnumerable<ReportRow> Of(string metric) => _byMetric[metric];

    /// <summary>For each strategy that competes the row with the largest value, NaN above all, in report order; rows without a value left out.</summary>
    public List<ReportRow> Worst(IEnumerable<ReportRow> rows) => WorstOfAll(rows.Where(row => Competes(row.Strategy)));

    /// <summary>The same, those that failed a check included.</summary>
    public List<ReportRow> WorstOfAll(IEnumerable<ReportRow> rows)
    {
        var worst = new Dictionary<string, ReportRow>(StringComparer.Ordinal);
        foreach (var row in rows)
        {
            if (row.Value is not { } value || row.Strategy == Yardstick) continue;
            if (!worst.TryGetValue(row.Strategy, out var held) || double.IsNaN(value) || value > held.Value) worst[row.Strategy] = row;
        }

        return [.. Strategies.Where(worst.ContainsKey).Select(strategy => worst[strategy])];
    }

    /// <summary>The smallest batch size, of 2 or more, at which at least two competing strategies formed a value of a metric.</summary>
    public double? SmallestBatch(IEnumerable<ReportRow> rows) => rows
        .Where(row => row.Value is not null && Competes(row.Strategy))
        .GroupBy(row => row.Number("n"))
        .Where(group => group.Key is >= 2 && group.Select(row => row.Strategy).Distinct().Count() > 1)
        .Min(group => group.Key);

    /// <summary>Below this a metric where lower is better is rounding and ranks nobody: 2^-23, the step of float, or 1e-9 for what double measures.</summary>
    public static double Rounding(string metric) => metric is "set_mean_error" or "set_variance_error" or "float_error" ? 1.1920929e-7 : 1e-9;

    /// <summary>Whether times of which so many share the first place told the strategies apart: four and more, and most of all, are what a busy machine looks like.</summary>
    public static bool TellsApart(int leading, int all) => leading < FewestTied || 2 * leading <= all;

    /// <summary>The best of some rows of one metric and those that share its place; none where the metric only describes or no value is a number.</summary>
    /// <remarks>Times share it where their spreads overlap, other values within 5 % of the best or where all are rounding. NaN never does.</remarks>
    public static List<ReportRow> Leading(IEnumerable<ReportRow> rows, Better better)
    {
        var numbers = rows.Where(row => row.Value is { } value && !double.IsNaN(value)).ToList();
        if (numbers.Count == 0 || better == Better.Neither) return [];
        var best = better == Better.Lower ? numbers.MinBy(row => row.Value) : numbers.MaxBy(row => row.Value);
        return [.. numbers.Where(row => row.Index == best.Index || Shares(row))];

        bool Shares(ReportRow row) => row.Measurement.Aspect == Aspects.Speed ? row.Low <= best.High && row.High >= best.Low
            : better == Better.Lower ? row.Value <= Math.Max(best.Value!.Value * 1.05, Rounding(row.Measurement.Metric))
            : row.Value >= best.Value / 1.05;
    }
}
