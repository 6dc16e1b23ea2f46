using System.Globalization;
using System.Text;
using Normalization.Core.Reporting;

namespace Normalization.Bench.Experiments;

/// <summary>Every claim of every experiment in one table: docs/claims.md, committed before the full runs.</summary>
internal static class ClaimTable
{
    private static readonly ExperimentScale FullLength = new(Quick: false, Seeds: 5, Seed: 1);

    /// <summary>The table, for runs of full length.</summary>
    /// <param name="experiments">Whose claims.</param>
    public static string Markdown(IEnumerable<Experiment> experiments)
    {
        var text = new StringBuilder();
        text.Append("# The claims\n\nWhat `train` judges, as `train --claims` prints it; the rule is in [experiments.md](experiments.md). A claim without randomness is held to its threshold at every seed.\n\n");
        text.Append("| experiment | claim | | threshold | published, and what differs |\n|---|---|---|---|---|\n");
        foreach (Experiment experiment in experiments)
        {
            foreach (ExperimentClaim claim in experiment.Describe(FullLength).Claims)
            {
                text.Append(CultureInfo.InvariantCulture, $"| {experiment.Id} | {Cell(claim.Text)} | {(claim.Above ? "above" : "below")} | {Threshold(claim)} | {Cell(claim.Published ?? "–")} |\n");
            }
        }

        return text.ToString();
    }

    /// <summary>The same for reading in a terminal: a claim a line, its threshold, and what was published on the next.</summary>
    /// <param name="experiments">Whose claims.</param>
    public static IEnumerable<string> Lines(IEnumerable<Experiment> experiments)
    {
        foreach (Experiment experiment in experiments)
        {
            ExperimentDescription description = experiment.Describe(FullLength);
            yield return $"{experiment.Id} {description.Title}";
            foreach (ExperimentClaim claim in description.Claims)
            {
                yield return $"  {claim.Text}: {(claim.Above ? "above" : "below")} {Threshold(claim)}";
                if (claim.Published is { } published)
                {
                    yield return $"    published: {published}";
                }
            }
        }
    }

    private static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);

    private static string Threshold(ExperimentClaim claim)
    {
        ClaimUnit unit = ClaimUnit.Of(claim);
        double value = unit.Factor * claim.Threshold;
        string number = value is > 0 and < 1e-3 ? value.ToString("0.###e0", CultureInfo.InvariantCulture) : value.ToString("G4", CultureInfo.InvariantCulture);
        return $"{unit.Behind(number)}{(claim.Exact ? ", exact" : "")}";
    }
}
