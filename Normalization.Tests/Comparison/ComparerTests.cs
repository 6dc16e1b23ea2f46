using System.Diagnostics;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Tests.Comparison;

[TestClass]
public sealed class ComparerTests
{
    private static readonly string[] Untimed = [Aspects.Outputs, Aspects.Gradients, Aspects.BatchSize];

    private static readonly Scenario Images = Gaussian("images", new ActivationShape(1, 4, 2, 3));
    private static readonly Scenario Features = Gaussian("features", new ActivationShape(1, 4));

    [TestMethod]
    public void Run_CorrectStandardizer_EveryMetricHasAValueAndNothingFails()
    {
        var records = Run([PlainContestants.Make(), PlainContestants.Make(id: "twin")], [Images]);

        Assert.IsTrue(records.All(record => record.Failure is null), records.FirstOrDefault(record => record.Failure is not null)?.Failure);
        foreach (string metric in Metrics.All.Where(metric => metric.Aspect is not (Aspects.Speed or Aspects.Training)).Select(metric => metric.Id))
        {
            Assert.IsTrue(Rows(records, metric).Any(row => row.Value is not null), metric);
        }

        Largest("set_mean_error", 1e-7);
        Largest("set_variance_error", 1e-6);
        Largest("float_error", 1e-7);
        Largest("distance", 0);
        Largest("input_recovery_error", 1e-12);
        Largest("gradient_error_input", 1e-9);
        Largest("gradient_error_parameter", 1e-9);
        Largest("gradient_sum_error", 1e-13);
        Largest("gradient_projection_error", 1e-13);
        Largest("bias_before_gradient", 1e-13);
        Largest("weight_scale_output_error", 1e-12);
        Largest("weight_scale_gradient_error", 1e-12);

        void Largest(string metric, double limit) =>
            Assert.IsLessThanOrEqualTo(limit, Rows(records, metric).Max(row => row.Value!.Value), metric);
    }

    [TestMethod]
    public void Run_CorrectStandardizer_DeclaredClaimsAreVerifiedAndOthersNot()
    {
        var claims = Rows(Run([PlainContestants.Make()], [Images], Aspects.Outputs), "claim");

        Assert.HasCount(11, claims);
        string[] declared =
        [
            "shift-invariance", "channel-shift-invariance", "scale-invariance", "channel-scale-invariance", "batch-permutation-equivariance", "batch-dependence",
        ];
        foreach (var row in claims)
        {
            Assert.AreEqual(declared.Contains(row.Parameters!["claim"]) ? "verified" : "not claimed", row.Parameters["verdict"], row.Parameters["claim"].ToString());
        }
    }

    [TestMethod]
    public void Run_FalseClaims_AreRefutedWithoutFailing()
    {
        var record = Run([PlainContestants.Make(Flaw.LyingClaims)], [Images], Aspects.Outputs).Single();

        string[] refuted = [.. Rows([record], "claim").Where(row => row.Parameters!["verdict"] is "refuted").Select(row => (string)row.Parameters!["claim"])];
        CollectionAssert.AreEqual(new[] { "rotation-equivariance", "sample-independence" }, refuted);
        Assert.AreEqual("holds undeclared", Rows([record], "claim").Single(row => row.Parameters!["claim"] is "batch-dependence").Parameters!["verdict"]);
        Assert.IsNull(record.Failure);
    }

    [TestMethod]
    [DataRow(Flaw.WrongInputGradient, Aspects.Gradients, "input gradient in training")]
    [DataRow(Flaw.WrongWeightGradient, Aspects.Gradients, "weight gradient in training")]
    [DataRow(Flaw.Imprecise, Aspects.Outputs, "float_error")]
    [DataRow(Flaw.NotANumber, Aspects.Outputs, "not finite")]
    [DataRow(Flaw.Crashes, Aspects.Outputs, "FormatException: off by one")]
    [DataRow(Flaw.OffCentre, Aspects.Outputs, "set_mean_error")]
    [DataRow(Flaw.Stretched, Aspects.Outputs, "set_variance_error")]
    [DataRow(Flaw.WrongSets, Aspects.Outputs, "ReductionSetOf")]
    [DataRow(Flaw.RefusesBackward, Aspects.Gradients, "ArgumentOutOfRangeException")]
    [DataRow(Flaw.RefusesBackward, Aspects.BatchSize, "ArgumentOutOfRangeException")]
    public void Run_FlawedStandardizer_FailsAloneAndNamesTheCheck(Flaw flaw, string aspect, string message)
    {
        var records = Run([PlainContestants.Make(flaw), PlainContestants.Make()], [Images], aspect);

        StringAssert.Contains(records[0].Failure, message);
        Assert.IsNull(records[1].Failure);
    }

    [TestMethod]
    public void Run_RefusedShape_StatesEveryMetricWithTheReason()
    {
        foreach (var record in Run([PlainContestants.Make(Flaw.RefusesFeatures)], [Features]))
        {
            Assert.IsNull(record.Failure);
            Assert.IsTrue(record.Measurements.All(row => row.Value is null && row.Note == "needs spatial axes, got " + Shape(row)), record.Case);
            CollectionAssert.AreEquivalent(
                Metrics.All.Where(metric => record.Case.StartsWith(metric.Aspect + "/", StringComparison.Ordinal)).Select(metric => metric.Id).ToArray(),
                record.Measurements.Select(row => row.Metric).Distinct().ToArray());
        }

        static string Shape(Measurement row) => $"({row.Parameters?["n"] ?? 32L}, 4)";
    }

    [TestMethod]
    public void Run_BatchOfOneThatCannotBeFormed_IsAStatedRow()
    {
        var rows = Run([PlainContestants.Make()], [Images, Features], Aspects.BatchSize).SelectMany(record => record.Measurements)
            .Where(row => row.Parameters!["n"] is 1L).ToList();

        Assert.IsTrue(rows.Where(row => row.Scenario == "features").All(row => row.Value is null && row.Note == "needs more than 1 value per channel, got (1, 4)"));
        Assert.AreEqual(2, rows.Count(row => row.Scenario == "images" && row.Note == "a batch of one has no other samples"));
        Assert.AreEqual(3, rows.Count(row => row.Scenario == "images" && row.Value is not null));
    }

    [TestMethod]
    public void Run_LargerBatches_AreLessNoisy()
    {
        var records = Run([PlainContestants.Make()], [Features], Aspects.BatchSize);
        foreach (string metric in new[] { "output_noise", "mean_estimate_error", "variance_estimate_error", "gradient_noise", "batch_train_inference_gap" })
        {
            var rows = Rows(records, metric).Where(row => row.Value is not null).ToDictionary(row => (long)row.Parameters!["n"]);
            Assert.HasCount(8, rows, metric);
            Assert.IsLessThan(rows[16].Value!.Value, rows[256].Value!.Value, metric);
            Assert.IsTrue(rows.Values.All(row => row.Spread![0] <= row.Spread[1]), metric);
            Assert.IsTrue(rows[256].Spread![0] <= rows[256].Value && rows[256].Value <= rows[256].Spread![1], metric);
        }

        // The mean of n independent values deviates by 1 / sqrt(n).
        double at64 = Rows(records, "mean_estimate_error").Single(row => row.Parameters!["n"] is 64L).Value!.Value;
        Assert.AreEqual(0.125, at64, 0.025);
    }

    [TestMethod]
    public void Run_AnyThreadsAndAnyFilter_SameNumbers()
    {
        Contestant[] all = [PlainContestants.Make(), StrategyCatalog.Contestant("group-norm", new() { Groups = 2 }), StrategyCatalog.Contestant("zca-whitening")];
        var one = Run(all, [Images, Features], threads: 1);
        var four = Run(all, [Images, Features], threads: 4);
        var alone = Run(all[1..], [Features], threads: 2);

        CollectionAssert.AreEqual(Lines(one).ToArray(), Lines(four).ToArray());
        CollectionAssert.AreEqual(
            Lines(one).Where(line => line.Contains("features") && !line.Contains("|plain|") && !line.Contains("other=plain")).ToArray(), Lines(alone).ToArray());

        static IEnumerable<string> Lines(IEnumerable<CaseRecord> records) => records.SelectMany(record => record.Measurements).Select(row =>
            FormattableString.Invariant($"{row.Aspect}|{row.Strategy}|{row.Scenario}|{row.Metric}|{row.Value:r}|{string.Join(",", row.Parameters?.Select(pair => $"{pair.Key}={pair.Value}") ?? [])}"));
    }

    [TestMethod]
    public void Run_AnotherSeed_OtherNumbers()
    {
        double? first = Rows(Run([PlainContestants.Make()], [Images], Aspects.Outputs), "correlation_left").Single().Value;
        double? second = Rows(Run([PlainContestants.Make()], [Images], Aspects.Outputs, seed: 2), "correlation_left").Single().Value;
        Assert.AreNotEqual(first, second);
    }

    [TestMethod]
    public void Run_DoneCases_AreSkippedAndProgressCountsThem()
    {
        var comparer = new Comparer([PlainContestants.Make(), PlainContestants.Make(id: "twin")]) { Aspects = [Aspects.Outputs], Scenarios = [Images, Features] };
        var progress = new Reports();
        var records = new List<CaseRecord>();
        comparer.Run(records.Add, new HashSet<string> { "outputs/images/plain", "outputs/features/plain" }, progress);

        CollectionAssert.AreEqual(
            new[] { "outputs/images/plain", "outputs/images/twin", "outputs/features/plain", "outputs/features/twin" }, comparer.Cases.ToArray());
        CollectionAssert.AreEqual(new[] { "outputs/images/twin", "outputs/features/twin" }, InOrder(comparer, records).Select(record => record.Case).ToArray());
        Assert.AreEqual(new ComparisonProgress(4, 4, null), progress.Seen[^1]);
        Assert.IsTrue(progress.Seen.All(seen => seen is { Total: 4, Finished: >= 2 }));
    }

    [TestMethod]
    public void Run_CancelledInsideACase_EndsWithinASecondAndKeepsWhatWasDone()
    {
        var comparer = new Comparer([PlainContestants.Make()])
        {
            Aspects = [Aspects.BatchSize],
            Scenarios = [Features, Gaussian("large", new ActivationShape(1, 16, 8, 8))],
            Thorough = true,
            Threads = 1,
        };
        using var cancellation = new CancellationTokenSource();
        var records = new List<CaseRecord>();
        long requested = 0;
        Assert.ThrowsExactly<OperationCanceledException>(() => comparer.Run(record =>
        {
            records.Add(record);

            // Into the midst of the next case, which takes many seconds.
            cancellation.Token.Register(() => requested = Stopwatch.GetTimestamp());
            cancellation.CancelAfter(300);
        }, cancellation: cancellation.Token));

        Assert.IsLessThan(1.0, Stopwatch.GetElapsedTime(requested).TotalSeconds);
        Assert.AreEqual("batch-size/features/plain", records.Single().Case);
        Assert.AreEqual(Environment.ProcessorCount, KernelThreads.Count);
    }

    [TestMethod]
    public void Run_CallbackThrows_ThatIsWhatComesOut()
    {
        var comparer = new Comparer([PlainContestants.Make(), PlainContestants.Make(id: "twin")]) { Aspects = [Aspects.Outputs], Scenarios = [Images], Threads = 2 };
        var error = Assert.ThrowsExactly<IOException>(() => comparer.Run(_ => throw new IOException("disk full")));
        Assert.AreEqual("disk full", error.Message);
    }

    [TestMethod]
    public void Run_OwnStrategies_NothingFailsAndNoClaimIsRefuted()
    {
        var scenarios = Scenarios.Synthetic(1).Where(scenario => scenario.Id is "correlated" or "features").ToArray();
        var records = Run([.. StrategyCatalog.Contestants()], scenarios, Aspects.Outputs, Aspects.Gradients);

        Assert.IsTrue(records.All(record => record.Failure is null), records.FirstOrDefault(record => record.Failure is not null)?.Failure);
        Assert.IsFalse(Rows(records, "claim").Any(row => row.Parameters?["verdict"] is "refuted"));
        var instance = records.Single(record => record.Case == "outputs/features/instance-norm").Measurements;
        Assert.IsTrue(instance.All(row => row.Value is null && row.Note!.StartsWith("InstanceNorm", StringComparison.Ordinal)));
        var unsaid = records.Single(record => record.Case == "outputs/features/none").Measurements.Single(row => row.Metric == "set_mean_error");
        Assert.AreEqual("the strategy declares no reduction sets", unsaid.Note);
        Assert.IsLessThan(1e-11, records.Single(record => record.Case == "outputs/correlated/zca-whitening").Measurements.Single(row => row.Metric == "whiteness_error").Value!.Value);
    }

    [TestMethod]
    public void Comparer_UnknownAspect_NamesTheKnownOnes()
    {
        var error = Assert.ThrowsExactly<ArgumentException>(() => new Comparer([PlainContestants.Make()]) { Aspects = ["sped"] }.Cases);
        StringAssert.Contains(error.Message, "'sped'");
        StringAssert.Contains(error.Message, "outputs, gradients, batch-size, speed");
    }

    [TestMethod]
    public void Comparer_SameIdTwice_NamesIt()
    {
        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => new Comparer([PlainContestants.Make(), PlainContestants.Make()])).Message, "'plain' comes twice");
        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => new Comparer([PlainContestants.Make()]) { Scenarios = [Images, Images] }.Cases).Message, "'images' comes twice");
    }

    [TestMethod]
    public void Describe_Everything_NamesSpeedAmongTheScenarios()
    {
        var header = new Comparer([PlainContestants.Make()]) { Scenarios = [Images], Seed = 5 }.Describe(RunEnvironment.Capture("test", [], 5, 2));

        CollectionAssert.AreEqual(new[] { "images", "speed" }, header.Scenarios.Select(scenario => scenario.Id).ToArray());
        Assert.AreEqual(4, header.CaseCount);
        Assert.AreEqual("5", header.Settings["seed"]);
    }

    [TestMethod]
    public void WriteReport_UsersOwnNormalizer_WritesEveryFile()
    {
        string directory = Path.Combine(Path.GetTempPath(), "normalization-" + Guid.NewGuid().ToString("n"));
        try
        {
            var comparer = new Comparer([StrategyCatalog.Contestant("batch-norm"), PlainContestants.Make()]) { Aspects = [Aspects.Outputs], Scenarios = [Images] };
            RunData run = comparer.WriteReport(directory);

            Assert.IsTrue(run.Complete);
            string[] files = ["index.html", "records.jsonl", "report.md", "results.csv", "results.json"];
            CollectionAssert.AreEquivalent(files, Directory.GetFiles(directory).Select(Path.GetFileName).ToArray());
            Assert.HasCount(2, RunFile.Load(directory).Cases);
            Assert.ThrowsExactly<IOException>(() => comparer.WriteReport(directory));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [TestMethod]
    public void WriteReport_ThreadsOutOfRange_LeavesNoFolder()
    {
        string directory = Path.Combine(Path.GetTempPath(), "normalization-" + Guid.NewGuid().ToString("n"));
        Assert.ThrowsExactly<ArgumentException>(() => new Comparer([PlainContestants.Make()]) { Threads = 300 }.WriteReport(directory));
        Assert.IsFalse(Directory.Exists(directory));
    }

    private static Scenario Gaussian(string id, ActivationShape shape) => new(id, id, "standard normal", shape, (samples, stream) =>
    {
        double[] values = new double[shape.WithSamples(samples).Count];
        stream.FillGaussian(values);
        return values;
    });

    private static List<CaseRecord> Run(Contestant[] contestants, Scenario[] scenarios, params string[] aspects) => Run(contestants, scenarios, 2, aspects);

    private static List<CaseRecord> Run(Contestant[] contestants, Scenario[] scenarios, string aspect, long seed) => Run(contestants, scenarios, 2, [aspect], seed);

    private static List<CaseRecord> Run(Contestant[] contestants, Scenario[] scenarios, int threads, string[]? aspects = null, long seed = 1)
    {
        var records = new List<CaseRecord>();
        var comparer = new Comparer(contestants) { Scenarios = scenarios, Aspects = aspects is null or [] ? Untimed : aspects, Threads = threads, Seed = seed };
        comparer.Run(records.Add);
        return InOrder(comparer, records);
    }

    private static List<CaseRecord> InOrder(Comparer comparer, List<CaseRecord> records) =>
        [.. new RunData(comparer.Describe(RunEnvironment.Capture("test", [], 1, 1)), records).InOrder().Cases];

    private static List<Measurement> Rows(IEnumerable<CaseRecord> records, string metric) =>
        [.. records.SelectMany(record => record.Measurements).Where(row => row.Metric == metric)];

    private sealed class Reports : IProgress<ComparisonProgress>
    {
        public List<ComparisonProgress> Seen { get; } = [];

        public void Report(ComparisonProgress value) => Seen.Add(value);
    }
}
