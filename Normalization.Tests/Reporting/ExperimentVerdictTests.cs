using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class ExperimentVerdictTests
{
    private static readonly ExperimentClaim Claim = new()
    {
        Id = "better",
        Text = "a is better than b",
        Left = new("a", "test_accuracy"),
        Right = new("b", "test_accuracy"),
        Threshold = 0.1,
    };

    [TestMethod]
    [DataRow(true, 0.2, 0.01, ExperimentVerdict.Held)]
    [DataRow(true, 0.0, 0.01, ExperimentVerdict.Refuted)]
    [DataRow(true, 0.2, 0.2, ExperimentVerdict.Inconclusive)]
    [DataRow(false, 0.2, 0.01, ExperimentVerdict.Refuted)]
    [DataRow(false, 0.0, 0.01, ExperimentVerdict.Held)]
    [DataRow(false, 0.0, 0.2, ExperimentVerdict.Inconclusive)]
    public void Judge_ThreeSeedsAroundAMean_DecidesByTheInterval(bool above, double mean, double spread, string expected)
    {
        var rows = new List<Measurement>();
        for (int seed = 1; seed <= 3; seed++)
        {
            rows.Add(Row("a", seed, 0.5 + mean + ((seed - 2) * spread)));
            rows.Add(Row("b", seed, 0.5));
        }

        ExperimentVerdict verdict = ExperimentVerdict.Judge("E0", Claim with { Above = above }, rows);
        Assert.AreEqual(expected, verdict.Verdict);
        Assert.AreEqual(mean, verdict.Observed!.Value, 1e-12);
        Assert.AreEqual(3, verdict.Seeds);

        // t of two degrees of freedom at 97.5 %: 4.302653.
        Assert.AreEqual(mean + (4.302653 * spread / Math.Sqrt(3)), verdict.Interval![1], 1e-6);
        Assert.AreEqual(mean - (4.302653 * spread / Math.Sqrt(3)), verdict.Interval[0], 1e-6);
    }

    [TestMethod]
    [DataRow("test_accuracy", true, ClaimCombination.Difference, "5 points")]
    [DataRow("test_accuracy", false, ClaimCombination.Difference, "5 %")]
    [DataRow("test_accuracy", true, ClaimCombination.Ratio, "0.0500 times")]
    [DataRow("train_loss", true, ClaimCombination.Difference, "0.0500")]
    [DataRow("of another version", false, ClaimCombination.Difference, "0.0500")]
    public void Unit_ShareOrRatio_IsWritten(string metric, bool against, ClaimCombination combination, string expected)
    {
        ExperimentClaim claim = Claim with { Left = new("a", metric), Right = against ? new("b", metric) : null, Combination = combination };
        Assert.AreEqual(expected, ExperimentVerdict.Judge("E0", claim, []).Unit.Write(0.05));
    }

    [TestMethod]
    public void Unit_OnePoint_IsWrittenAsOne()
    {
        Assert.AreEqual("1 point", ExperimentVerdict.Judge("E0", Claim, []).Unit.Write(0.01));
        Assert.AreEqual("2 points", ExperimentVerdict.Judge("E0", Claim, []).Unit.Write(0.02));
    }

    [TestMethod]
    public void Judge_OneSeed_IsInconclusiveAndWithoutRowsNotRun()
    {
        Assert.AreEqual(ExperimentVerdict.Inconclusive, ExperimentVerdict.Judge("E0", Claim, [Row("a", 1, 1), Row("b", 1, 0)]).Verdict);
        Assert.AreEqual(ExperimentVerdict.NotRun, ExperimentVerdict.Judge("E0", Claim, [Row("a", 1, 1), Row("b", 2, 0)]).Verdict);
        Assert.IsNull(ExperimentVerdict.Judge("E0", Claim, []).Observed);
    }

    [TestMethod]
    public void Judge_SeedWithoutANumber_IsInconclusiveWhateverTheOthersSay()
    {
        Measurement[] rows =
        [
            .. from seed in new[] { 1, 2, 3 } from strategy in new[] { "a", "b" } select Row(strategy, seed, strategy == "a" ? 0.9 + (seed * 1e-3) : 0.5),
            Row("a", 4, 0.9), Row("b", 4, 0.5) with { Value = null },
        ];
        Assert.AreEqual(ExperimentVerdict.Held, ExperimentVerdict.Judge("E0", Claim, rows[..6]).Verdict);
        ExperimentVerdict verdict = ExperimentVerdict.Judge("E0", Claim, rows);
        Assert.AreEqual(ExperimentVerdict.Inconclusive, verdict.Verdict);
        Assert.AreEqual(3, verdict.Seeds);
        Assert.AreEqual(1, verdict.Unmeasured);
    }

    [TestMethod]
    public void Judge_SeveralSteps_TakesTheOneTheClaimSaysAndPairsEqualSteps()
    {
        Measurement[] rows =
        [
            Row("a", 1, 5, 100), Row("a", 1, 7, 200), Row("b", 1, 4, 100), Row("b", 1, 2, 200), Row("b", 1, 9, 300),
            Row("a", 2, 5, 100), Row("a", 2, 7, 200), Row("b", 2, 4, 100), Row("b", 2, 2, 200),
        ];
        Assert.AreEqual(1, ExperimentVerdict.Judge("E0", Claim, rows).Observed);
        Assert.AreEqual(5, ExperimentVerdict.Judge("E0", Claim with { Over = ClaimOver.Greatest }, rows).Observed);
        Assert.AreEqual(3, ExperimentVerdict.Judge("E0", Claim with { Over = ClaimOver.Mean }, rows).Observed);
        Assert.AreEqual(1.25, ExperimentVerdict.Judge("E0", Claim with { Combination = ClaimCombination.Ratio }, rows).Observed);
        ExperimentClaim atTwoHundred = Claim with { Left = Claim.Left with { Parameters = new Dictionary<string, object> { ["step"] = 200L } } };
        Assert.AreEqual(7, ExperimentVerdict.Judge("E0", atTwoHundred with { Right = null }, rows).Observed);
    }

    [TestMethod]
    public void Judge_ExactClaim_NeedsNoInterval()
    {
        ExperimentClaim exact = Claim with { Exact = true, Right = null, Above = false, Threshold = 1e-9 };
        Assert.AreEqual(ExperimentVerdict.Held, ExperimentVerdict.Judge("E0", exact, [Row("a", 1, 1e-12)]).Verdict);
        Assert.AreEqual(ExperimentVerdict.Refuted, ExperimentVerdict.Judge("E0", exact, [Row("a", 1, 1e-3)]).Verdict);
        Assert.AreEqual(ExperimentVerdict.Inconclusive, ExperimentVerdict.Judge("E0", exact, [Row("a", 1, double.NaN)]).Verdict);
    }

    private static Measurement Row(string strategy, int seed, double value, long? step = null)
    {
        var parameters = new Dictionary<string, object> { ["seed"] = (long)seed };
        if (step is { } number)
        {
            parameters.Add("step", number);
        }

        return new Measurement { Aspect = Aspects.Training, Strategy = strategy, Scenario = "E0", Metric = "test_accuracy", Unit = "1", Value = value, Parameters = parameters };
    }
}
