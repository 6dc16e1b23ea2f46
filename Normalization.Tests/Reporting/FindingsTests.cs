using System.Text.Json;
using System.Text.RegularExpressions;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class FindingsTests
{
    private static readonly RunData Run = SampleRun.Build();
    private static readonly IReadOnlyList<Finding> Sample = Findings.Draw(Run);

    // Case, the metrics it needs, a strategy it chooses, one it does not.
    public static IEnumerable<object[]> Cases =>
    [
        ["Smallest batches (N = 2)", new[] { "output_noise" }, "layer-norm", "batch-norm"],
        ["Trained on small batches, then served", new[] { "batch_train_inference_gap" }, "layer-norm", "batch-norm"],
        ["Serving single samples", new[] { "train_inference_gap", "claim" }, "layer-norm", "batch-norm"],
        ["Channels to decorrelate", new[] { "condition_number_left" }, "zca-whitening", "batch-norm"],
        ["Mean far above the spread", new[] { "float_error" }, "group-norm", "batch-norm"],
        ["Heavy tails or dead channels", new[] { "gradient_gain" }, "layer-norm", "batch-norm"],
        ["Evenly scaled gradients", new[] { "jacobian_condition" }, "zca-whitening", "group-norm"],
        ["Fastest", new[] { "ns_per_element" }, "batch-norm", "zca-whitening"],
    ];

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Draw_SwappedRecords_SwapsTheChoice(string name, string[] metrics, string chosen, string other)
    {
        var before = Of(Sample, name)!;
        CollectionAssert.Contains(before.Choice.ToList(), chosen);
        CollectionAssert.DoesNotContain(before.Choice.ToList(), other);

        var swapped = SampleRun.Swap(Run, chosen, other);
        var after = Of(Findings.Draw(swapped), name)!;
        CollectionAssert.Contains(after.Choice.ToList(), other);
        CollectionAssert.DoesNotContain(after.Choice.ToList(), chosen);
        // The numbers are those of the same records under the other name.
        var rows = swapped.Measurements.ToList();
        Assert.IsTrue(after.Rows.All(row => ReferenceEquals(rows[row.Index], row.Measurement)));
        Assert.IsNotEmpty(metrics);
    }

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Draw_WithoutTheRecords_DoesNotSpeak(string name, string[] metrics, string chosen, string other)
    {
        foreach (string metric in metrics)
            Assert.IsNull(Of(Findings.Draw(SampleRun.Map(Run, row => row.Metric == metric ? null : row)), name), $"{metric} ({chosen}, {other})");
        Assert.IsNotNull(Of(Findings.Draw(SampleRun.Map(Run, row => row.Metric == "whiteness_error" ? null : row)), name));
    }

    [TestMethod]
    public void Draw_NoRecords_SaysNothing() => Assert.IsEmpty(Findings.Draw(Run with { Cases = [] }));

    [TestMethod]
    public void Draw_OneStrategy_ComparesNothing()
    {
        string[] names = [.. Findings.Draw(SampleRun.Map(Run, row => row.Strategy is "none" or "batch-norm" ? row : null)).Select(finding => finding.Case)];
        CollectionAssert.AreEqual(new[] { "Declared properties", "Analytic gradients" }, names);
    }

    [TestMethod]
    public void Draw_TheYardstickBest_NeverChoosesIt()
    {
        Assert.IsTrue(Run.Measurements.Any(row => row is { Strategy: "none", Metric: "fraction_of_copy", Value: > 0.8 }), "the sample must tempt");
        foreach (var finding in Sample) CollectionAssert.DoesNotContain(finding.Choice.ToList(), "none", finding.Case);

        var tempting = SampleRun.Map(Run, row => row.Strategy == "none" && Metrics.Get(row.Metric).Better == Better.Lower ? row with { Value = 0 } : row);
        foreach (var finding in Findings.Draw(tempting)) CollectionAssert.DoesNotContain(finding.Choice.ToList(), "none", finding.Case);
    }

    [TestMethod]
    public void Draw_EveryNumber_IsThatOfItsRowInResultsJson()
    {
        using var document = JsonDocument.Parse(new JsonReport().Write(Run));
        var written = document.RootElement.GetProperty("measurements");
        foreach (var finding in Sample)
        {
            Assert.IsTrue(finding.Rows.Any(), finding.Case);
            foreach (var part in finding.Sentence.Where(part => part.Row is not null))
            {
                var row = written[part.Row!.Value.Index];
                Assert.AreEqual(part.Row.Value.Measurement.Metric, row.GetProperty("metric").GetString());
                Assert.AreEqual(part.Row.Value.Strategy, row.GetProperty("strategy").GetString());
                string shown = row.GetProperty("value").ValueKind == JsonValueKind.Null ? "not formed" : ReportText.Number(row.GetProperty("value").GetDouble());
                StringAssert.StartsWith(part.Text, shown);
            }
        }
    }

    [TestMethod]
    public void Draw_WithinFivePercent_SaysTied()
    {
        var near = Only("large-mean", "float_error", ("batch-norm", 1.00), ("layer-norm", 1.04), ("group-norm", 1.06));
        var finding = Findings.Draw(near).Single();
        CollectionAssert.AreEqual(new[] { "batch-norm", "layer-norm" }, finding.Choice.ToArray());
        StringAssert.Contains(finding.Text, "1 to 1.04 (2 tied within 5 %)");
        StringAssert.Contains(finding.Text, "most with group-norm: 1.06");
    }

    [TestMethod]
    public void Draw_BelowTheStepOfFloat_RanksNobody()
    {
        var finding = Findings.Draw(Only("large-mean", "float_error", ("batch-norm", 3e-8), ("layer-norm", 6e-8), ("group-norm", 2e-7))).Single();
        CollectionAssert.AreEqual(new[] { "batch-norm", "layer-norm" }, finding.Choice.ToArray());
        StringAssert.Contains(finding.Text, "(2 tied within rounding)");
        StringAssert.Contains(finding.Text, "most with group-norm");
    }

    [TestMethod]
    public void Draw_AllTied_ChoosesNobodyAndNamesNoWorst()
    {
        var finding = Findings.Draw(Only("large-mean", "float_error", ("batch-norm", 2), ("layer-norm", 2))).Single();
        Assert.IsEmpty(finding.Choice);
        Assert.AreEqual("all alike", finding.Answer);
        StringAssert.Contains(finding.Text, "is the same for all: 2.");
        Assert.IsFalse(finding.Text.Contains("most with", StringComparison.Ordinal));
    }

    [TestMethod]
    public void Draw_AllRounding_SaysSo()
    {
        var finding = Findings.Draw(Only("large-mean", "float_error", ("batch-norm", 3e-8), ("layer-norm", 6e-8))).Single();
        Assert.AreEqual("all alike", finding.Answer);
        StringAssert.Contains(finding.Text, "is no more than rounding for all: 3.00e-8 to 6.00e-8.");
    }

    [TestMethod]
    public void Draw_NaN_NeverRanks()
    {
        var finding = Findings.Draw(Only("large-mean", "float_error", ("batch-norm", double.NaN), ("layer-norm", 1e8), ("group-norm", 1e9))).Single();
        CollectionAssert.AreEqual(new[] { "layer-norm" }, finding.Choice.ToArray());
        StringAssert.Contains(finding.Text, "most with group-norm: 1.00e9; no number with batch-norm: NaN.");
    }

    [TestMethod]
    public void Draw_OnlyNaN_DoesNotSpeak() =>
        Assert.IsEmpty(Findings.Draw(Only("large-mean", "float_error", ("batch-norm", double.NaN), ("layer-norm", double.NaN))));

    [TestMethod]
    public void Draw_FewStrategiesThatAllCarryFeatures_NamesThem()
    {
        Finding finding = Of(Findings.Draw(SampleRun.Map(Run, row => row.Strategy is "batch-norm" or "layer-norm" ? row : null)), "Feature vectors (N, C)")!;
        CollectionAssert.AreEqual(new[] { "batch-norm", "layer-norm" }, finding.Choice.ToArray());
        Assert.AreEqual("", finding.Answer);
    }

    [TestMethod]
    public void Draw_TimesThatDecideNothing_NamesNoneFastestAnywhere()
    {
        RunData busy = SampleRun.Map(Run, row => row.Metric != "ns_per_element" ? row
            : row.Strategy == "group-norm" ? row with { Value = 200, Spread = [199, 201] } : row with { Spread = [0.01, 100] });
        Assert.AreEqual("too noisy to tell", Of(Findings.Draw(busy), "Fastest")!.Answer);
        Assert.IsFalse(Findings.Draw(busy).Any(finding => finding.Text.Contains("fastest forward", StringComparison.Ordinal)));
        StringAssert.Contains(Of(Findings.Draw(busy), "Channels to decorrelate")!.Text, "too busy for more than the order of magnitude");
    }

    [TestMethod]
    public void Draw_StatedRow_IsNamedWithItsReason()
    {
        var features = Of(Sample, "Feature vectors (N, C)")!;
        CollectionAssert.DoesNotContain(features.Choice.ToList(), "instance-norm");
        CollectionAssert.Contains(features.Choice.ToList(), "zca-whitening");
        StringAssert.Contains(features.Text, "instance-norm cannot carry (N, C) features: not formed (Instance norm needs at least two values");
        StringAssert.Contains(Of(Sample, "Smallest batches (N = 2)")!.Text, "zca-whitening on gaussian: not formed");
    }

    // The best of each case, made to fail a check elsewhere.
    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Draw_FailedStrategy_IsNeitherChosenNorCompared(string name, string[] metrics, string chosen, string other)
    {
        Assert.IsNotEmpty(metrics);
        Assert.AreNotEqual(chosen, other);
        var before = Of(Sample, name)!;
        var failed = before.Choice.Append(other).ToHashSet();
        var broken = Run with
        {
            Cases = [.. Run.Cases.Select(record => record.Case.Split('/') is ["outputs", "gaussian", var strategy] && failed.Contains(strategy) ? record with { Failure = "off by 3" } : record)],
        };
        var rows = Run.Measurements.ToList();
        var after = Of(Findings.Draw(broken), name);
        if (after is null) return;
        Assert.IsFalse(after.Choice.Any(failed.Contains), after.Text);
        Assert.IsFalse(after.Rows.Any(row => failed.Contains(row.Measurement.Strategy)), after.Text);
        Assert.IsTrue(after.Rows.All(row => ReferenceEquals(rows[row.Index], row.Measurement)));
    }

    [TestMethod]
    public void Draw_BestFailedACheck_NamesTheNextOne()
    {
        var run = Many("large-mean", "float_error", ("batch-norm", 1), ("layer-norm", 2), ("group-norm", 3), ("instance-norm", 4));
        CollectionAssert.AreEqual(new[] { "batch-norm" }, Findings.Draw(run).Single().Choice.ToArray());
        var finding = Findings.Draw(run with
        {
            Cases = [.. run.Cases.Select(record => record.Case.EndsWith("/batch-norm", StringComparison.Ordinal) || record.Case.EndsWith("/instance-norm", StringComparison.Ordinal) ? record with { Failure = "off" } : record)],
        }).Single();
        CollectionAssert.AreEqual(new[] { "layer-norm" }, finding.Choice.ToArray());
        StringAssert.Contains(finding.Text, "is lowest: 2; most with group-norm: 3.");
        CollectionAssert.AreEqual(new[] { 1, 2 }, finding.Rows.Select(row => row.Index).ToArray());
    }

    [TestMethod]
    public void Draw_WrongGradientOfAFailedStrategy_IsStillNamed()
    {
        var wrong = SampleRun.Map(Run, row => row is { Metric: "gradient_error_parameter", Strategy: "group-norm", Scenario: "features" } ? row with { Value = 0.5 } : row);
        wrong = wrong with { Cases = [.. wrong.Cases.Select(record => record.Case == "gradients/features/group-norm" ? record with { Failure = "off" } : record)] };
        StringAssert.Contains(Of(Findings.Draw(wrong), "Analytic gradients")!.Text, "0.500 (group-norm, features)");
    }

    [TestMethod]
    [DataRow("jacobian_condition", "Evenly scaled gradients")]
    [DataRow("output_noise", "Smallest batches (N = 2)")]
    [DataRow("batch_train_inference_gap", "Trained on small batches, then served")]
    public void Draw_BestOnOneScenarioAndWorstOnAnother_IsRankedByTheWorst(string metric, string name)
    {
        var finding = Of(Findings.Draw(Many("gaussian", metric, [("dead-channel", "batch-norm", 75), ("dead-channel", "layer-norm", 2.5)], ("batch-norm", 1.2), ("layer-norm", 3))), name)!;
        CollectionAssert.AreEqual(new[] { "layer-norm" }, finding.Choice.ToArray());
        StringAssert.Contains(finding.Text, "at its worst over 2 scenarios, is lowest: 3 on gaussian;");
        StringAssert.Contains(finding.Text, "with batch-norm: 75 on dead-channel.");
    }

    [TestMethod]
    public void Draw_NobodyDecorrelates_RecommendsNobody()
    {
        RunData without = SampleRun.Map(Run, row => row.Strategy == "zca-whitening" ? null : row);
        Finding finding = Findings.Draw(without).Single(found => found.Case == "Channels to decorrelate");

        Assert.IsEmpty(finding.Choice);
        Assert.AreEqual("none of these", finding.Answer);
    }

    // Three tie on the condition number; the last leaves its channels correlated all the same, the first two do not.
    [TestMethod]
    public void Draw_DecorrelationTied_ChoosesWhomTheirOwnCorrelationAllows()
    {
        RunData tied = SampleRun.Map(Run, row => row.Scenario != "correlated" ? row : (row.Metric, row.Strategy) switch
        {
            ("condition_number_left", "batch-norm" or "group-norm") => row with { Value = 1.01 },
            ("correlation_left", "group-norm") => row with { Value = 0.02 },
            ("correlation_left", "batch-norm") => row with { Value = 0.7 },
            _ => row,
        });
        Finding finding = Of(Findings.Draw(tied), "Channels to decorrelate")!;

        CollectionAssert.AreEqual(new[] { "group-norm", "zca-whitening" }, finding.Choice.ToArray());
        StringAssert.Matches(finding.Text, new Regex(@"with a largest correlation of [0-9.e-]+ to 0\.0200, from"));
        StringAssert.Contains(finding.Text, "As low, but left with a correlation: batch-norm with 0.700.");
        StringAssert.Matches(finding.Text, new Regex(@"Price, forward: \S+ ns/element of group-norm against \S+ ns/element of batch-norm"));
    }

    [TestMethod]
    public void Draw_DecorrelationOnActivations_NamesWhoLeavesLeastThere()
    {
        var finding = Findings.Draw(Many(
            "correlated", "condition_number_left", [("activations", "zca-whitening", 6e10), ("activations", "instance-norm", 6380)], ("zca-whitening", 1.1), ("instance-norm", 1570))).Single();
        CollectionAssert.AreEqual(new[] { "zca-whitening" }, finding.Choice.ToArray());
        StringAssert.Contains(finding.Text, "On activations zca-whitening leaves 6.00e10, and instance-norm the least: 6380.");
    }

    [TestMethod]
    public void Draw_OverlappingSpreads_Tie()
    {
        var run = SampleRun.Map(Run, row => row.Metric != "ns_per_element" || !row.Parameters!["direction"].Equals("forward") ? row : row.Strategy switch
        {
            "batch-norm" => row with { Value = 0.2, Spread = [0.19, 0.22] },
            "layer-norm" => row with { Value = 0.23, Spread = [0.21, 0.25] },
            _ => row with { Value = 0.3, Spread = [0.29, 0.31] },
        });
        StringAssert.Contains(
            Of(Findings.Draw(run), "Fastest")!.Text, "forward 0.200 ns/element to 0.230 ns/element (batch-norm and layer-norm, tied within their spread; ");
    }

    [TestMethod]
    [DataRow(0.23, true)]
    [DataRow(0.5, false)]
    public void Draw_FastestTiedInEveryDirection_SaysThatItMayChange(double second, bool tied)
    {
        var run = SampleRun.Map(Run, row => row.Metric != "ns_per_element" ? row : row with
        {
            Value = row.Strategy switch { "batch-norm" => 0.2, "layer-norm" => second, _ => 2 },
            Spread = row.Strategy is not ("batch-norm" or "layer-norm") ? [1.9, 2.1] : row.Strategy == "layer-norm" && !tied ? [0.49, 0.51] : [0.19, 0.25],
        });
        Assert.AreEqual(tied, Of(Findings.Draw(run), "Fastest")!.Text.EndsWith("another run may name others.", StringComparison.Ordinal));
    }

    [TestMethod]
    public void Draw_FeatureVectors_SaysWhatTheyCost()
    {
        var run = SampleRun.Map(Run, row => row.Metric != "ns_per_element" ? row : row with { Value = row.Strategy == "zca-whitening" ? 9 : row.Strategy == "layer-norm" ? 0.25 : 2 });
        StringAssert.Contains(
            Of(Findings.Draw(run), "Feature vectors (N, C)")!.Text, "Forward of (256, 512) takes from 0.250 ns/element (layer-norm) to 9 ns/element (zca-whitening).");
    }

    [TestMethod]
    public void Draw_MostOfManyTied_ChoosesNone()
    {
        var run = SampleRun.Map(Run, row => row.Metric != "ns_per_element" ? row : row with { Value = 0.3, Spread = [0.1, 0.5] });
        Finding finding = Of(Findings.Draw(run), "Fastest")!;
        Assert.IsEmpty(finding.Choice);
        Assert.AreEqual("too noisy to tell", finding.Answer);
        StringAssert.Contains(finding.Text, "too busy");
    }

    [TestMethod]
    public void Draw_OutputThatFollowsTheScale_IsNamedAndNeverChosen()
    {
        var run = SampleRun.Map(Run, row => row is { Metric: "claim", Strategy: "layer-norm", Scenario: "gaussian" } && row.Parameters!["claim"].Equals("shift")
            ? row with { Value = 2, Parameters = new Dictionary<string, object>(row.Parameters) { ["claim"] = "scale-invariance", ["declared"] = false, ["verdict"] = "not claimed" } }
            : row);
        var findings = Findings.Draw(run);

        Assert.AreEqual("layer-norm", Of(findings, "Not recommended")!.Answer);
        Assert.IsNull(Of(Sample, "Not recommended"));
        foreach (var finding in findings) CollectionAssert.DoesNotContain(finding.Choice.ToList(), "layer-norm", finding.Case);
    }

    [TestMethod]
    public void Draw_DecorrelatorsPrice_IsSetAgainstTheCheapest()
    {
        var prices = Of(Sample, "Channels to decorrelate")!.Rows.Where(row => row.Measurement.Metric == "ns_per_element").ToList();
        CollectionAssert.AreEqual(new[] { "zca-whitening", "batch-norm" }, prices.Select(row => row.Measurement.Strategy).ToArray());
        foreach (var row in prices) Assert.AreEqual("(32, 64, 56, 56)", row.Measurement.Parameters!["shape"]);
    }

    [TestMethod]
    public void Draw_RefutedClaim_IsNamedAndGoesAwayWithItsRecords()
    {
        var refuted = Of(Sample, "Declared properties")!;
        StringAssert.Contains(refuted.Answer, "1 refuted");
        StringAssert.Contains(refuted.Text, "batch-permutation of ghost-batch-norm on 7 scenarios");

        var clean = Of(Findings.Draw(SampleRun.Map(Run, row => row is { Metric: "claim", Strategy: "ghost-batch-norm" } ? null : row)), "Declared properties")!;
        Assert.AreEqual("none refuted", clean.Answer);
        Assert.IsFalse(clean.Text.Contains("ghost-batch-norm", StringComparison.Ordinal));
    }

    [TestMethod]
    public void Draw_DeclaredClaimThatWasNotMeasured_IsNotCountedAsHolding()
    {
        // One claim nowhere, another on one scenario alone.
        RunData partly = SampleRun.Map(Run, row => row is { Metric: "claim", Strategy: "ghost-batch-norm" } ? null
            : row is { Metric: "claim", Strategy: "zca-whitening" } && (row.Parameters!["claim"] is "rotation" || row is { Scenario: "gaussian" } && row.Parameters["claim"] is "shift")
                ? row with { Value = null, Note = "The matrix is singular.", Parameters = new Dictionary<string, object>(row.Parameters) { ["verdict"] = "not measured" } } : row);
        Finding finding = Of(Findings.Draw(partly), "Declared properties")!;

        Assert.AreEqual("none refuted, 1 not measured", finding.Answer);
        int unformed = partly.Measurements.Count(row => row is { Metric: "claim", Value: null } && row.Parameters?["declared"] is true);
        StringAssert.Contains(finding.Text, $" {unformed} checks could not be formed, such as ");
        StringAssert.EndsWith(finding.Text, " Measured on no scenario: rotation of zca-whitening.");
        Assert.Contains("2 verified (not measured: rotation)", new MarkdownReport().Write(partly));

        // No claim could be formed of these, whose rows name none.
        RunData whole = SampleRun.Map(Run, row => row is { Metric: "claim", Strategy: "layer-norm" or "batch-norm", Scenario: "heavy-tails" } ? row with { Value = null, Parameters = null, Note = "why" } : row);
        StringAssert.Contains(Of(Findings.Draw(whole), "Declared properties")!.Text, " batch-norm and layer-norm on heavy-tails: not formed.");

        RunData nothing = SampleRun.Map(Run, row => row.Metric == "claim" ? row with { Value = null } : row);
        Assert.AreEqual("not measured", Of(Findings.Draw(nothing), "Declared properties")!.Answer);
    }

    [TestMethod]
    public void Draw_RefutedIndependence_IsNotRecommendedForServing()
    {
        var doubted = SampleRun.Map(Run, row => row is { Metric: "claim", Strategy: "layer-norm", Scenario: "activations" } && row.Parameters!["claim"] is "sample-independence"
            ? row with { Value = 0.1, Parameters = new Dictionary<string, object>(row.Parameters) { ["verdict"] = "refuted" } } : row);
        CollectionAssert.AreEqual(new[] { "instance-norm", "group-norm" }, Of(Findings.Draw(doubted), "Serving single samples")!.Choice.ToArray());
    }

    [TestMethod]
    public void Draw_WrongGradient_SaysThatItDiffers()
    {
        var wrong = SampleRun.Map(Run, row => row is { Metric: "gradient_error_parameter", Strategy: "group-norm", Scenario: "features" } ? row with { Value = 0.5 } : row);
        var finding = Of(Findings.Draw(wrong), "Analytic gradients")!;
        StringAssert.StartsWith(finding.Answer, "✗");
        StringAssert.Contains(finding.Text, "0.500 (group-norm, features)");
        Assert.AreEqual("agree with differences", Of(Sample, "Analytic gradients")!.Answer);
    }

    private static Finding? Of(IReadOnlyList<Finding> findings, string name) => findings.SingleOrDefault(finding => finding.Case == name);

    private static RunData Many(string scenario, string metric, params (string Strategy, double Value)[] values) => Many(scenario, metric, [], values);

    // A case for each strategy and scenario.
    private static RunData Many(string scenario, string metric, (string Scenario, string Strategy, double Value)[] others, params (string Strategy, double Value)[] values) => Run with
    {
        Cases =
        [
            .. values.Select(pair => (Scenario: scenario, pair.Strategy, pair.Value)).Concat(others).Select(row => new CaseRecord
            {
                Case = $"{Metrics.Get(metric).Aspect}/{row.Scenario}/{row.Strategy}",
                Seconds = 1,
                Measurements =
                [
                    new Measurement
                    {
                        Aspect = Metrics.Get(metric).Aspect, Strategy = row.Strategy, Scenario = row.Scenario, Metric = metric, Value = row.Value, Unit = "1",
                        Parameters = Metrics.Get(metric).Aspect == Aspects.BatchSize ? new Dictionary<string, object> { ["n"] = 2L } : null,
                    },
                ],
            }),
        ],
    };

    private static RunData Only(string scenario, string metric, params (string Strategy, double Value)[] values) => Run with
    {
        Cases =
        [
            new CaseRecord
            {
                Case = "only",
                Seconds = 1,
                Measurements = [.. values.Select(pair => new Measurement
                {
                    Aspect = Metrics.Get(metric).Aspect, Strategy = pair.Strategy, Scenario = scenario, Metric = metric, Value = pair.Value, Unit = "1",
                })],
            },
        ],
    };
}
