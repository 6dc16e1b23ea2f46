using System.CommandLine;
using System.Globalization;
using System.IO.Enumeration;
using Normalization.Bench.Speed;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary><c>networks</c>: times training steps of whole networks beside PyTorch's.</summary>
internal static class NetworksCommand
{
    private static readonly Option<bool> Quick = new("--quick") { Description = "A second a case in place of ten." };

    private static readonly Option<string?> Python = Options.Path(
        "--python", "PATH", "The Python interpreter that imports torch. Default the first of python3 and /usr/bin/python3 that does.");

    private static readonly Option<string?> Filter = Options.Pattern(
        "--filter", "GLOB", "Only cases whose id (networks/network/strategy/threads) matches; * stands for anything.");

    private static readonly Option<long> Threads = Options.Whole("--threads", "N", 1, KernelThreads.Maximum, "Times on this many threads alone. Default 1 and 2.");

    private static readonly Option<long> Seed = Options.Whole("--seed", "N", 0, long.MaxValue, "Where all randomness comes from. Default 1.");

    public static Verb Create()
    {
        var command = new Command("networks", "Times training steps of whole networks beside PyTorch's and writes a report.")
        {
            Quick, Python, Filter, Threads, Seed, RecordedRun.Out, RecordedRun.Resume,
        };
        command.SetAction(Run);
        return new Verb(
            command,
            $"""
            A perceptron (784-100-100-100-10, sigmoid, batches of 60) and a convolutional network (3 x 3, 16-32-32-64 channels, strides 1, 2, 1, 2,
            28 x 28, batches of 32), each with batch norm and without. Both sides begin with the same weights and batch; PyTorch's step is checked
            against ours before either is timed, and they take turns round by round.

            {ExitCodes.Legend}
            """,
            ["networks", "networks --filter '*/sigmoid-perceptron/*' --threads 1 --out reports/networks"]);
    }

    private static int Run(ParseResult parse)
    {
        var recorded = new RecordedRun(parse);
        int[] threads = parse.Has(Threads) ? [(int)parse.GetValue(Threads)] : [1, 2];
        string? filter = parse.GetValue(Filter);
        NetworkCase[] all = [.. threads.SelectMany(NetworkCase.On)];
        NetworkCase[] cases = [.. all.Where(planned => filter is null || FileSystemName.MatchesSimpleExpression(filter, planned.Id, ignoreCase: false))];
        if (cases.Length == 0)
        {
            throw new UsageException($"--filter '{filter}' matches none of {all.Length} cases: {string.Join(", ", all.Select(planned => planned.Id))}.");
        }

        bool quick = parse.GetValue(Quick);
        long seed = parse.ValueOr(Seed, 1);
        var plan = new TimingPlan { LeastRounds = 7, MostRounds = 501, Budget = quick ? 1 : 10, ShortestSample = 5e-3 };
        using PyTorchWorker? worker = PyTorchWorker.Find(parse.GetValue(Python), out string? missing);
        if (worker is null && parse.Has(Python))
        {
            throw new UsageException(missing!);
        }

        if (worker is null)
        {
            Console.Error.WriteLine(missing);
        }

        var bench = new NetworkBench(cases, worker, missing, plan, seed);
        string[] commandLine = Environment.GetCommandLineArgs();
        RunHeader header = bench.Describe(
            RunEnvironment.Capture(commandLine[0], commandLine[1..], seed, threads.Max()),
            [new("length", quick ? "quick" : "full"), .. filter is null ? [] : new KeyValuePair<string, string>[] { new("filter", filter) }]);
        return recorded.Execute(
            header, [.. cases.Select(planned => new PlannedCase(planned.Id, planned.Network, 1))], "", bench.Run, (run, files) => Summary.Print(run, files, Lines(run)));
    }

    /// <summary>A line for each case.</summary>
    internal static IEnumerable<string> Lines(RunData run) =>
        from record in run.Cases
        where record.Measurements.Count > 0 // one that failed is told by its failure
        let time = record.Measurements.Single(row => row.Metric == "step_milliseconds")
        let ratio = record.Measurements.Single(row => row.Metric == "speedup_vs_pytorch")
        select string.Create(CultureInfo.InvariantCulture, $"{record.Case}: {time.Value:G3} ms a step; {(ratio.Value is { } value
            ? $"{value:0.00} [{ratio.Spread![0]:0.00}, {ratio.Spread[1]:0.00}] times the speed of {ratio.Note}, asked {ratio.Parameters!["asked"]}" : ratio.Note)}");
}
