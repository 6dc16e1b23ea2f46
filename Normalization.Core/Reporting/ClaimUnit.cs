using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>What a claim's numbers are counted in when people read them: a difference of shares in points, a share in per cent, a ratio in times, all else in its metric's unit.</summary>
/// <param name="Factor">By what the recorded number is multiplied.</param>
/// <param name="Name">What stands behind it; may be empty.</param>
internal readonly record struct ClaimUnit(double Factor, string Name)
{
    private const string Points = "points";

    /// <summary>The unit of one claim.</summary>
    public static ClaimUnit Of(ExperimentClaim claim)
    {
        if (claim is { Right: not null, Combination: ClaimCombination.Ratio })
        {
            return new(1, "times");
        }

        Metric? metric = Metrics.Find(claim.Left.Metric);
        return metric is { IsShare: true } ? new(100, claim.Right is null ? "%" : Points)
            : new(1, metric is null or { Unit: "1" } ? "" : metric.Unit);
    }

    /// <summary>The number and the unit.</summary>
    public string Write(double value) => Behind(Number(value));

    /// <summary>The unit behind a number that is written already.</summary>
    public string Behind(string number) => Name.Length == 0 ? number : $"{number} {(Name == Points && number == "1" ? Points[..^1] : Name)}";

    /// <summary>The number alone.</summary>
    public string Number(double value) => ReportText.Number(Factor * value);
}
