using Normalization.Bench;
using Normalization.Bench.Speed;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Speed;

/// <summary>Training steps of whole networks beside PyTorch, where it is installed.</summary>
[TestClass]
[DoNotParallelize]
public sealed class NetworkBenchTests : IDisposable
{
    private static readonly TimingPlan Plan = new() { LeastRounds = 2, MostRounds = 2, Budget = 0, ShortestSample = 1e-4 };

    // One worker for the class, since importing torch takes seconds.
    private static PyTorchWorker? _worker;
    private static string? _missing;

    private readonly TemporaryFolder _folder = new();

    public required TestContext TestContext { get; init; }

    public static IEnumerable<object[]> Cases => NetworkCase.On(1).Select(planned => new object[] { planned.Network, planned.Strategy });

    [ClassInitialize]
    public static void Start(TestContext context) => _worker = PyTorchWorker.Find(null, out _missing);

    [ClassCleanup]
    public static void Stop() => _worker?.Dispose();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Run_TheSameStepAsPyTorch_IsTimedBesideIt(string network, string strategy)
    {
        if (!IsInstalled())
        {
            return;
        }

        CaseRecord record = Run(new NetworkCase(network, strategy, 1), _worker, null);
        Assert.IsNull(record.Failure);
        Measurement ratio = record.Measurements.Single(row => row.Metric == "speedup_vs_pytorch");
        Assert.IsGreaterThan(0.0, ratio.Value!.Value);
        StringAssert.StartsWith(ratio.Note, "PyTorch ");
        Assert.AreEqual(network, ratio.Parameters!["network"]);
    }

    [TestMethod]
    public void AfterOneStep_FromOtherWeights_IsAnotherStep()
    {
        if (!IsInstalled())
        {
            return;
        }

        var planned = new NetworkCase(NetworkCase.Convolutional, "batch-norm", 1);
        var own = new NetworkStep(planned, 1);
        using var peer = new PyTorchNetwork(_worker!, planned, own, NetworkBench.Rate);
        var other = new NetworkStep(planned, 2);
        other.Run(1);
        own.Run(1);
        foreach (string variant in peer.Variants)
        {
            float[][] theirs = peer.AfterOneStep(variant, own.Parameters);
            Assert.IsLessThan(1e-4, Agreement.Difference(theirs[0], own.Parameters[0].Values, 0), variant);
            Assert.IsGreaterThan(0.1, Agreement.Difference(theirs[0], other.Parameters[0].Values, 0), variant);
        }
    }

    [TestMethod]
    public void Run_WithoutPyTorch_TimesOursAndSaysWhy()
    {
        var planned = new NetworkCase(NetworkCase.Perceptron, "none", 1);
        CaseRecord record = Run(planned, null, "not installed: get it");
        Assert.IsNull(record.Failure);
        Assert.IsGreaterThan(0.0, record.Measurements.Single(row => row.Metric == "step_milliseconds").Value!.Value);
        Assert.AreEqual(0.0, record.Measurements.Single(row => row.Metric == "bytes_allocated").Value);
        Measurement ratio = record.Measurements.Single(row => row.Metric == "speedup_vs_pytorch");
        Assert.IsNull(ratio.Value);
        Assert.AreEqual("not installed: get it", ratio.Note);
        Assert.IsTrue(NetworksCommand.Lines(RunOf(record)).Single().EndsWith("not installed: get it", StringComparison.Ordinal));
    }

    [TestMethod]
    public void Run_CaseThatThrows_IsRecordedAsFailedAndEndsWith1()
    {
        CaseRecord record = Run(new NetworkCase(NetworkCase.Perceptron, "no-such-strategy", 1), null, "not installed");
        Assert.IsNotNull(record.Failure);
        Assert.AreEqual(ExitCodes.Failed, Summary.Print(RunOf(record), ["index.html"]));
        CaseRecord good = Run(new NetworkCase(NetworkCase.Perceptron, "none", 1), null, "not installed");
        Assert.HasCount(1, NetworksCommand.Lines(RunOf(record) with { Cases = [good, record] }).ToList());
    }

    [TestMethod]
    [DataRow(2.5, 2.2, 2.8, "1 of 1 as fast as asked", 1)]
    [DataRow(1.5, 1.2, 1.8, "0 of 1 as fast as asked", 2)]
    [DataRow(2.1, 1.9, 2.3, "0 of 1 as fast as asked", 0)]
    public void Report_ARatio_StandsBesideWhatWasAsked(double value, double low, double high, string answer, int mark)
    {
        var planned = new NetworkCase(NetworkCase.Perceptron, "batch-norm", 1);
        var record = new CaseRecord
        {
            Case = planned.Id,
            Seconds = 1,
            Measurements = [Row("step_milliseconds", 0.2, [0.19, 0.21]), Row("speedup_vs_pytorch", value, [low, high])],
        };
        RunData run = RunOf(record);
        ReportPage page = ReportContent.Of(run);
        Finding finding = page.Findings.Single(finding => finding.Case == "A training step, sigmoid-perceptron");
        StringAssert.StartsWith(finding.Answer, answer);
        Table table = page.Sections.Single(section => section.Id == "networks").Blocks.OfType<Table>().Single();
        Assert.AreEqual(new[] { Mark.None, Mark.Passed, Mark.Failed }[mark], table.Rows.Single()[^1].Mark);

        Measurement Row(string metric, double number, double[] spread) => new()
        {
            Aspect = Aspects.Speed,
            Strategy = planned.Strategy,
            Scenario = "networks",
            Metric = metric,
            Value = number,
            Unit = Metrics.Get(metric).Unit,
            Spread = spread,
            Parameters = planned.Parameters,
            Note = "PyTorch",
        };
    }

    [TestMethod]
    public void Networks_FilterOfOne_WritesAReportAndRefusesOthers()
    {
        BenchResult result = BenchProcess.Run(
            _folder.Path, "networks", "--quick", "--filter", "*/sigmoid-perceptron/none/*", "--threads", "1", "--out", "run");
        Assert.AreEqual(0, result.ExitCode, result.Error);
        StringAssert.StartsWith(result.Output, "networks/sigmoid-perceptron/none/1: ");
        Assert.IsTrue(RunFile.Load(_folder.File("run")).Complete);
        BenchResult wrong = BenchProcess.Run(_folder.Path, "networks", "--filter", "perceptron");
        Assert.AreEqual(2, wrong.ExitCode);
        StringAssert.Contains(wrong.Error, "networks/convolutional/batch-norm/2");
    }

    private bool IsInstalled()
    {
        if (_worker is null)
        {
            TestContext.WriteLine($"Not tested: {_missing}.");
            StringAssert.Contains(_missing, "python3-torch");
        }

        return _worker is not null;
    }

    private static CaseRecord Run(NetworkCase planned, PyTorchWorker? worker, string? missing)
    {
        var records = new List<CaseRecord>();
        new NetworkBench([planned], worker, missing, Plan, 1).Run(records.Add, new HashSet<string>(), new Progress<ComparisonProgress>(), CancellationToken.None);
        return records.Single();
    }

    private static RunData RunOf(CaseRecord record)
    {
        NetworkCase[] cases = [new(NetworkCase.Perceptron, "batch-norm", 1)];
        RunHeader header = new NetworkBench(cases, null, "not installed", Plan, 1).Describe(RunEnvironment.Capture("bench", [], 1, 1), []);
        return new RunData(header, [record]);
    }
}
