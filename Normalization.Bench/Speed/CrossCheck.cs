using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Engines;
using BenchmarkDotNet.Exporters;
using BenchmarkDotNet.Exporters.Csv;
using BenchmarkDotNet.Exporters.Json;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using Normalization.Core.Comparison;
using Perfolizer.Horology;

namespace Normalization.Bench.Speed;

/// <summary>Engine (b) of the benchmark: BenchmarkDotNet times a few of our kernels alone, one build and a few processes a case, as a check on engine (a); never the source of a ratio.</summary>
/// <remarks>
/// Engine (a) times the same call alone as well: in turns with others, tensors of a few megabytes have been pushed out of the caches. Where a
/// process's tensors lie changes its times, so that each engine begins several times, with tensors of its own, and its interval spans all of them.
/// </remarks>
internal static class CrossCheck
{
    /// <summary>The engine of the rows that engine (a) takes with nobody beside it.</summary>
    public const string Alone = "alone";

    private const string Metric = "ns_per_element";
    private const int Beginnings = 3;

    // A method is compiled for speed after 30 calls.
    private const int CallsToCompile = 40;

    private static readonly TimeSpan BackgroundDelay = TimeSpan.FromMilliseconds(150);

    /// <summary>Times a case in processes of BenchmarkDotNet's own; its log and its exports stay in a folder of the case's.</summary>
    /// <param name="probe">Receives a row of each engine.</param>
    /// <param name="planned">A case of <see cref="SpeedTier.CrossChecked"/>.</param>
    /// <param name="plan">How long engine (a) times the call alone.</param>
    /// <param name="folder">Where the exports go.</param>
    public static void Measure(ProbeCase probe, SpeedCase planned, TimingPlan plan, string folder)
    {
        string artifacts = Path.GetFullPath(Path.Combine(folder, planned.Id.Replace('/', '-')));
        Directory.CreateDirectory(artifacts);
        using var log = new StreamWriter(Path.Combine(artifacts, "log.txt"));
        KernelBenchmark.Selected = [planned.Id];
        BenchmarkReport? report = BenchmarkRunner.Run<KernelBenchmark>(Configure(artifacts, log)).Reports.SingleOrDefault();

        // BenchmarkDotNet throws nothing and its exit code is 0 where a case fails or none was found.
        double[][] nanoseconds = report is not { Success: true } ? []
            : [.. report.AllMeasurements.Where(measurement => measurement.Is(IterationMode.Workload, IterationStage.Result))
                .GroupBy(measurement => measurement.LaunchIndex, measurement => measurement.Nanoseconds / measurement.Operations).Select(launch => launch.ToArray())];
        if (nanoseconds.Length > 0)
        {
            Add(probe, planned, planned.Parameters, nanoseconds);
            Add(probe, planned, new Dictionary<string, object>(planned.Parameters, StringComparer.Ordinal) { ["engine"] = Alone }, TimeAlone(probe, planned, plan));
            return;
        }

        bool built = report?.BuildResult.IsBuildSuccess ?? false;
        string why = built ? "the benchmark failed"
            : "BenchmarkDotNet could not build its program; it needs the .NET SDK and a working folder inside the repository";
        probe.Add(Metric, null, parameters: planned.Parameters, note: $"not timed: {why}; see {Path.GetRelativePath(folder, artifacts)}/log.txt");
        if (built)
        {
            probe.Fail($"{planned.Id}: {why}.");
        }
    }

    // The median over all beginnings; its interval from the lowest end of one to the highest of another.
    private static void Add(ProbeCase probe, SpeedCase planned, IReadOnlyDictionary<string, object> parameters, double[][] nanoseconds)
    {
        Estimate Median(double[] times) => Bootstrap.Median(times, new RandomStream(probe.Settings.Seed, "bootstrap")).Times(1.0 / planned.Shape.Count);
        Estimate[] each = [.. nanoseconds.Select(Median)];
        Estimate all = Median([.. nanoseconds.SelectMany(times => times)]);
        probe.Add(
            Metric, all.Value, [each.Min(time => time.Spread![0]), each.Max(time => time.Spread![1])], parameters,
            $"{nanoseconds.Length} beginnings, {nanoseconds.Sum(times => times.Length)} iterations");
    }

    // By the clock of engine (a), with nobody to take turns with.
    private static double[][] TimeAlone(ProbeCase probe, SpeedCase planned, TimingPlan plan)
    {
        var beginnings = new double[Beginnings][];
        for (int i = 0; i < Beginnings; i++)
        {
            var own = new OwnCall(planned, new CaseMaterial(planned, new RandomStream(probe.Settings.Seed, "speed", planned.Strategy, planned.Shape.ToString())));
            if (own.Check(Agreement.Limit) is { } wrong)
            {
                throw new InvalidOperationException($"The call that is timed alone is wrong: {wrong}.");
            }

            WarmUp.UntilCompiled(() => own.Seconds(CallsToCompile), least: 4, most: 12, BackgroundDelay, probe.Settings.Cancellation);
            TimedRounds rounds = InterleavedTimer.Run([own.Seconds], plan, probe.Settings.Seed, probe.Settings.Cancellation);
            beginnings[i] = [.. rounds.Seconds[0].Select(seconds => seconds * 1e9)];
        }

        return beginnings;
    }

    // In processes of its own, since what this one has compiled and allocated before would be in the figures.
    private static ManualConfig Configure(string artifacts, StreamWriter log) => ManualConfig.CreateEmpty()
        .AddJob(Job.ShortRun.WithLaunchCount(Beginnings).WithIterationTime(TimeInterval.FromMilliseconds(100)).WithIterationCount(9)
            .WithArguments([new MsBuildArgument("/p:RunAnalyzers=false"), new MsBuildArgument("/p:GenerateDocumentationFile=false")]))
        .AddLogger(new StreamLogger(log))
        .AddColumnProvider(DefaultColumnProviders.Instance)
        .AddExporter(MarkdownExporter.GitHub, CsvExporter.Default, JsonExporter.Full)
        .WithOptions(ConfigOptions.DisableLogFile)
        .WithArtifactsPath(artifacts);
}
