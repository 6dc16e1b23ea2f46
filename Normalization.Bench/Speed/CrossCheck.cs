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

/// <summary>Engine (b) of the benchmark: BenchmarkDotNet times a few of our kernels alone, one run a case, as a check on engine (a); never the source of a ratio.</summary>
internal static class CrossCheck
{
    /// <summary>Times a case in a process of BenchmarkDotNet's own; its log and its exports stay in a folder of the case's.</summary>
    /// <param name="probe">Receives the row; the median of the iterations with its 95 % interval.</param>
    /// <param name="planned">A case of <see cref="SpeedTier.CrossChecked"/>.</param>
    /// <param name="folder">Where the exports go.</param>
    public static void Measure(ProbeCase probe, SpeedCase planned, string folder)
    {
        const string Metric = "ns_per_element";
        string artifacts = Path.GetFullPath(Path.Combine(folder, planned.Id.Replace('/', '-')));
        Directory.CreateDirectory(artifacts);
        using var log = new StreamWriter(Path.Combine(artifacts, "log.txt"));
        KernelBenchmark.Selected = [planned.Id];
        BenchmarkReport? report = BenchmarkRunner.Run<KernelBenchmark>(Configure(artifacts, log)).Reports.SingleOrDefault();

        // BenchmarkDotNet throws nothing and its exit code is 0 where a case fails or none was found.
        double[] nanoseconds = report is not { Success: true } ? []
            : [.. report.AllMeasurements.Where(measurement => measurement.Is(IterationMode.Workload, IterationStage.Result)).Select(measurement => measurement.Nanoseconds / measurement.Operations)];
        if (nanoseconds.Length > 0)
        {
            Estimate time = Bootstrap.Median(nanoseconds, new RandomStream(probe.Settings.Seed, "bootstrap")).Times(1.0 / planned.Shape.Count);
            probe.Add(Metric, time.Value, time.Spread, planned.Parameters, $"{nanoseconds.Length} iterations");
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

    // In a process of its own, since what this one has compiled and allocated before would be in the figures.
    private static ManualConfig Configure(string artifacts, StreamWriter log) => ManualConfig.CreateEmpty()
        .AddJob(Job.ShortRun.WithIterationTime(TimeInterval.FromMilliseconds(100)).WithIterationCount(9))
        .AddLogger(new StreamLogger(log))
        .AddColumnProvider(DefaultColumnProviders.Instance)
        .AddExporter(MarkdownExporter.GitHub, CsvExporter.Default, JsonExporter.Full)
        .WithOptions(ConfigOptions.DisableLogFile)
        .WithArtifactsPath(artifacts);
}
