using System.Globalization;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>What became of a time from one run to another, in the order of reports.</summary>
public enum TimeChange
{
    /// <summary>The intervals separate, and the time grew by more than the threshold.</summary>
    Slower,

    /// <summary>The intervals separate, and the time shrank by more than the threshold.</summary>
    Faster,

    /// <summary>The intervals allow both a change beyond the threshold and none.</summary>
    TooNoisy,

    /// <summary>The intervals leave no room for a change beyond the threshold.</summary>
    Same,
}

/// <summary>A time that both runs measured.</summary>
/// <param name="Base">The row of the first run.</param>
/// <param name="New">The row of the second run.</param>
/// <param name="Ratio">New time over base time.</param>
/// <param name="Low">The least that the two intervals allow the ratio to be.</param>
/// <param name="High">The most that they allow.</param>
/// <param name="Change">The verdict.</param>
public sealed record TimeDifference(Measurement Base, Measurement New, double Ratio, double Low, double High, TimeChange Change);

/// <summary>The times of two runs held against each other, row by row.</summary>
/// <remarks>
/// A row is the same in both runs where aspect, strategy, scenario, metric and parameters are. With r the new time over the base time and t
/// the threshold: slower where the intervals separate and r > 1 + t; faster where they separate and r &lt; 1 / (1 + t), so that exchanging
/// the runs exchanges the two; same where every ratio the intervals allow lies between; else too noisy to tell. A row without
/// an interval is always too noisy.
/// </remarks>
public sealed class RunDiff
{
    /// <summary>The metric that is held against itself.</summary>
    public const string Metric = "ns_per_element";

    private const string CopyMetric = "copy_ns_per_element";

    // These choose which rows there are, or describe the peers, or the cache that bounds are reckoned with; no time of ours depends on them.
    private static readonly string[] Selecting = ["aspects", "filter", "peers", "python", "pytorch", "onednn", "tensorprimitives", "second_level_cache"];

    private RunDiff()
    {
    }

    /// <summary>The rows of both runs: slower, faster, too noisy, same; within each by falling ratio.</summary>
    public required IReadOnlyList<TimeDifference> Rows { get; init; }

    /// <summary>Times that only the first run has.</summary>
    public required IReadOnlyList<Measurement> OnlyInBase { get; init; }

    /// <summary>Times that only the second run has.</summary>
    public required IReadOnlyList<Measurement> OnlyInNew { get; init; }

    /// <summary>The memory copy's time in the second run over that in the first, median over the rows of both; NaN where none has it. It tells a slower machine from a slower program.</summary>
    public required double CopyRatio { get; init; }

    /// <summary>How the machines differ, one phrase each; times of different machines say nothing about the program.</summary>
    public required IReadOnlyList<string> MachineDifferences { get; init; }

    /// <summary>How the settings differ, one phrase each, those apart that only choose which rows there are.</summary>
    public required IReadOnlyList<string> SettingDifferences { get; init; }

    /// <summary>Holds two runs against each other.</summary>
    /// <param name="first">The base.</param>
    /// <param name="second">The new run.</param>
    /// <param name="threshold">The smallest change that counts, as a fraction: 0.1 is 10 %.</param>
    /// <exception cref="ArgumentOutOfRangeException">The threshold is negative or no number.</exception>
    /// <exception cref="InvalidDataException">A run has the same row twice.</exception>
    public static RunDiff Between(ResultFile first, ResultFile second, double threshold)
    {
        ArgumentNullException.ThrowIfNull(first);
        ArgumentNullException.ThrowIfNull(second);
        if (!(threshold >= 0) || double.IsInfinity(threshold))
            throw new ArgumentOutOfRangeException(nameof(threshold), threshold, "A threshold is a fraction of at least 0.");

        var before = Times(first, Metric);
        var after = Times(second, Metric);
        var copies = Times(second, CopyMetric);
        var both = before.Where(row => after.ContainsKey(row.Key)).Select(row => Judge(row.Value, after[row.Key], threshold));
        return new RunDiff
        {
            Rows = [.. both.OrderBy(row => row.Change).ThenByDescending(row => row.Ratio)],
            OnlyInBase = [.. before.Where(row => !after.ContainsKey(row.Key)).Select(row => row.Value)],
            OnlyInNew = [.. after.Where(row => !before.ContainsKey(row.Key)).Select(row => row.Value)],
            CopyRatio = Median([.. Times(first, CopyMetric).Where(row => copies.ContainsKey(row.Key)).Select(row => copies[row.Key].Value!.Value / row.Value.Value!.Value)]),
            MachineDifferences = RunEnvironment.Differences(first.Environment.Machine, second.Environment.Machine),
            SettingDifferences = RunEnvironment.Differences(
                Settings(first).Keys.Union(Settings(second).Keys, StringComparer.Ordinal)
                    .Select(name => (name, Settings(first).GetValueOrDefault(name), Settings(second).GetValueOrDefault(name)))),
        };
    }

    /// <summary>A row's identity as a reader sees it: strategy, scenario where it says more than the aspect, parameters.</summary>
    /// <param name="row">The row.</param>
    public static string Name(Measurement row)
    {
        ArgumentNullException.ThrowIfNull(row);
        string scenario = row.Scenario == row.Aspect ? "" : $" on {row.Scenario}";
        string parameters = ReportText.Parameters(row.Parameters);
        return $"{row.Strategy}{scenario}{(parameters.Length > 0 ? ": " + parameters : "")}";
    }

    private static TimeDifference Judge(Measurement first, Measurement second, double threshold)
    {
        double ratio = second.Value!.Value / first.Value!.Value;
        if (first.Spread is not [double firstLow, double firstHigh] || second.Spread is not [double secondLow, double secondHigh])
            return new TimeDifference(first, second, ratio, 0, double.PositiveInfinity, TimeChange.TooNoisy);

        double low = secondLow / firstHigh;
        double high = secondHigh / firstLow;
        double most = 1 + threshold;
        var change = ratio > most && low > 1 ? TimeChange.Slower
            : ratio < 1 / most && high < 1 ? TimeChange.Faster
            : low >= 1 / most && high <= most ? TimeChange.Same
            : TimeChange.TooNoisy;
        return new TimeDifference(first, second, ratio, low, high, change);
    }

    // Rows that were formed; their order is that of the run.
    private static Dictionary<string, Measurement> Times(ResultFile run, string metric)
    {
        var times = new Dictionary<string, Measurement>(StringComparer.Ordinal);
        foreach (var row in run.Measurements.Where(row => row.Metric == metric && row.Value is > 0 and < double.PositiveInfinity))
        {
            if (!times.TryAdd(Key(row), row))
                throw new InvalidDataException($"The row '{Name(row)}' is there twice, so that it has no single time. Measure again into a new folder.");
        }

        return times;
    }

    private static string Key(Measurement row)
    {
        var parameters = (row.Parameters ?? new Dictionary<string, object>()).OrderBy(pair => pair.Key, StringComparer.Ordinal)
            .SelectMany(pair => new[] { pair.Key, ReportText.Parameter(pair.Value) });
        return string.Join('\n', parameters.Prepend(row.Metric).Prepend(row.Scenario).Prepend(row.Strategy).Prepend(row.Aspect));
    }

    private static Dictionary<string, string> Settings(ResultFile run)
    {
        var settings = run.Settings.Where(setting => !Selecting.Contains(setting.Key)).ToDictionary(StringComparer.Ordinal);
        settings.TryAdd("threads", Whole(run.Environment.Threads));
        return settings;
    }

    private static double Median(double[] values) => values.Length == 0 ? double.NaN : Arithmetic.Median(values);

    private static string Whole(long value) => value.ToString(CultureInfo.InvariantCulture);
}
