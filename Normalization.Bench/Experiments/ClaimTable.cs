using System.Globalization;
using System.Text;
using Normalization.Core.Reporting;

namespace Normalization.Bench.Experiments;

/// <summary>Every claim of every experiment in one table: docs/claims.md, committed before the full runs.</summary>
internal static class ClaimTable
{
    /// <summary>The table, for runs of full length.</summary>
    /// <param name="experiments">Whose claims.</param>
    public static string Markdown(IEnumerable<Experiment> experiments)
    {
        var text = new StringBuilder();
        text.Append("# The claims\n\nWhat `train` judges, as `train --claims` prints it; the rule is in [experiments.md](experiments.md). A claim without randomness is held to its threshold at every seed.\n\n");
        text.Append("| experiment | claim | | threshold | published, and what differs |\n|---|---|---|---|---|\n");
        foreach (Experiment experiment in experiments)
        {
            foreach (ExperimentClaim claim in experiment.Describe(new ExperimentScale(Quick: false, Seeds: 5, Seed: 1)).Claims)
            {
                text.Append(CultureInfo.InvariantCulture, $"| {experiment.Id} | {Cell(claim.Text)} | {(claim.Above ? "above" : "below")} | {Number(claim.Threshold)}{(claim.Exact ? ", exact" : "")} | {Cell(claim.Published ?? "–")} |\n");
            }
        }

        return text.ToString();
    }

    private static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);

    private static string Number(double value) => value is > 0 and < 1e-3 ? value.ToString("0.###e0", CultureInfo.InvariantCulture) : value.ToString("G4", CultureInfo.InvariantCulture);
}
