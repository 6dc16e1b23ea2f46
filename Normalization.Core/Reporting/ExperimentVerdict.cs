using System.Text.Json.Serialization;
using MathNet.Numerics.Distributions;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>What the records say of one claim: an entry of results.json's <c>claims</c>.</summary>
/// <param name="Experiment">E1 to E18.</param>
/// <param name="Claim">The claim's sentence.</param>
/// <param name="Verdict">HELD, REFUTED, INCONCLUSIVE, or NOT RUN.</param>
/// <param name="Observed">The mean over seeds, of a claim without randomness the worst seed's; null where nothing was measured.</param>
/// <param name="Interval">Its 95 % interval, low and high; null with fewer than two seeds.</param>
/// <param name="Threshold">Where the claimed side begins.</param>
/// <param name="Side">above or below.</param>
/// <param name="Published">The published figure and what differs; null where there is none.</param>
/// <param name="Seeds">How many seeds there were.</param>
public sealed record ExperimentVerdict(
    string Experiment, string Claim, string Verdict, double? Observed, IReadOnlyList<double>? Interval, double Threshold, string Side, string? Published, int Seeds)
{
    /// <summary>The 95 % interval lies wholly on the claimed side.</summary>
    public const string Held = "HELD";

    /// <summary>It lies wholly on the other side.</summary>
    public const string Refuted = "REFUTED";

    /// <summary>It lies across the threshold, or there are too few seeds for one.</summary>
    public const string Inconclusive = "INCONCLUSIVE";

    /// <summary>The records have no rows of the claim.</summary>
    public const string NotRun = "NOT RUN";

    /// <summary>What its numbers are counted in.</summary>
    [JsonIgnore]
    internal ClaimUnit Unit { get; init; }

    private const string SeedParameter = "seed";
    private const double Confidence = 0.95;

    /// <summary>The claim's id.</summary>
    [JsonIgnore]
    public string Id { get; init; } = "";

    /// <summary>Seeds in which a number of the claim could not be formed: with one of them a claim is inconclusive, whatever the others say.</summary>
    [JsonIgnore]
    public int Unmeasured { get; init; }

    /// <summary>Judges every claim of a run's experiments.</summary>
    /// <param name="run">The records.</param>
    /// <returns>In the order of the experiments; none where the run has no experiments. A shard has not all seeds of anything: its claims are not run.</returns>
    public static IReadOnlyList<ExperimentVerdict> Of(RunData run)
    {
        ArgumentNullException.ThrowIfNull(run);
        IEnumerable<Measurement> all = RunShards.Of(run.Header) is null ? run.Measurements : [];
        ILookup<string, Measurement> rows = all.ToLookup(row => row.Scenario, StringComparer.Ordinal);
        return [.. from experiment in run.Header.Experiments ?? [] from claim in experiment.Claims select Judge(experiment.Id, claim, rows[experiment.Id])];
    }

    /// <summary>Judges one claim.</summary>
    /// <param name="experiment">The experiment's id.</param>
    /// <param name="claim">The claim.</param>
    /// <param name="rows">The experiment's rows.</param>
    public static ExperimentVerdict Judge(string experiment, ExperimentClaim claim, IEnumerable<Measurement> rows)
    {
        ArgumentNullException.ThrowIfNull(claim);
        double?[] seeds = [.. Differences(claim, [.. rows])];
        double[] differences = [.. seeds.OfType<double>()];
        // A claim without randomness holds for every seed or not at all: the worst one speaks.
        double? mean = differences.Length == 0 ? null
            : !claim.Exact ? differences.Average()
            : Array.Exists(differences, double.IsNaN) ? double.NaN
            : claim.Above ? differences.Min() : differences.Max();
        double[]? interval = differences.Length < 2 || claim.Exact ? null : IntervalOf(differences);
        return new ExperimentVerdict(
            experiment, claim.Text, differences.Length < seeds.Length ? Inconclusive : Decide(claim, mean, interval), mean, interval, claim.Threshold, claim.Above ? "above" : "below", claim.Published, differences.Length)
        {
            Id = claim.Id,
            Unit = ClaimUnit.Of(claim),
            Unmeasured = seeds.Length - differences.Length,
        };
    }

    private static string Decide(ExperimentClaim claim, double? mean, double[]? interval)
    {
        if (mean is not { } value)
        {
            return NotRun;
        }

        if (claim.Exact)
        {
            return double.IsNaN(value) || value == claim.Threshold ? Inconclusive : value > claim.Threshold == claim.Above ? Held : Refuted;
        }

        if (interval is not [var low, var high])
        {
            return Inconclusive;
        }

        return low > claim.Threshold ? (claim.Above ? Held : Refuted) : high < claim.Threshold ? (claim.Above ? Refuted : Held) : Inconclusive;
    }

    // Student's interval of the mean.
    internal static double[] IntervalOf(IReadOnlyList<double> values)
    {
        double mean = values.Average();
        double variance = values.Sum(value => (value - mean) * (value - mean)) / (values.Count - 1);
        double reach = StudentT.InvCDF(0, 1, values.Count - 1, (1 + Confidence) / 2) * Math.Sqrt(variance / values.Count);
        return [mean - reach, mean + reach];
    }

    // One number a seed that both sides have; null where one of its numbers could not be formed.
    private static IEnumerable<double?> Differences(ExperimentClaim claim, Measurement[] rows)
    {
        var left = ValuesOf(claim.Left, rows);
        var right = claim.Right is { } other ? ValuesOf(other, rows) : null;
        foreach ((string seed, Dictionary<string, double?> values) in left.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            double?[] numbers = right is null
                ? [.. values.Values]
                : [.. from pair in values
                      where right.ContainsKey(seed) && right[seed].ContainsKey(pair.Key)
                      let against = right[seed][pair.Key]
                      select claim.Combination == ClaimCombination.Ratio ? pair.Value / against : pair.Value - against];
            if (numbers.Length == 0)
            {
                continue;
            }

            yield return numbers.Contains(null) ? null : claim.Over switch
            {
                ClaimOver.Least => numbers.Min(),
                ClaimOver.Greatest => numbers.Max(),
                ClaimOver.Mean => numbers.Average(),
                _ => claim.Above ? numbers.Min() : numbers.Max(),
            };
        }
    }

    // By seed, then by the parameters that the side leaves open.
    private static Dictionary<string, Dictionary<string, double?>> ValuesOf(ClaimSide side, Measurement[] rows)
    {
        var bySeed = new Dictionary<string, Dictionary<string, double?>>(StringComparer.Ordinal);
        foreach (Measurement row in rows.Where(row => row.Strategy == side.Strategy && row.Metric == side.Metric))
        {
            IReadOnlyDictionary<string, object> parameters = row.Parameters ?? new Dictionary<string, object>(StringComparer.Ordinal);
            if (side.Parameters?.All(wanted => parameters.TryGetValue(wanted.Key, out object? value) && Same(value, wanted.Value)) == false)
            {
                continue;
            }

            string seed = parameters.TryGetValue(SeedParameter, out object? number) ? ReportText.Parameter(number) : "";
            string open = string.Join(';', parameters
                .Where(pair => pair.Key != SeedParameter && side.Parameters?.ContainsKey(pair.Key) != true)
                .OrderBy(pair => pair.Key, StringComparer.Ordinal)
                .Select(pair => $"{pair.Key}={ReportText.Parameter(pair.Value)}"));
            if (!bySeed.TryGetValue(seed, out Dictionary<string, double?>? values))
            {
                bySeed.Add(seed, values = new Dictionary<string, double?>(StringComparer.Ordinal));
            }

            values[open] = row.Value;
        }

        return bySeed;
    }

    private static bool Same(object value, object wanted) => ReportText.Parameter(value) == ReportText.Parameter(wanted);
}
