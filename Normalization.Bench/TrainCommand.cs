using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Normalization.Bench.Data;
using Normalization.Bench.Experiments;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary><c>train</c>: runs experiments of the literature and judges their claims.</summary>
internal static class TrainCommand
{
    private const string AllExperiments = "all";

    private static readonly Argument<string[]> Which = new("EXPERIMENT")
    {
        HelpName = "EXPERIMENT...",
        Description = $"Which: {AllExperiments}, or some of {string.Join(", ", ExperimentCatalog.Ids)}.",
        Arity = ArgumentArity.ZeroOrMore,
        CompletionSources = { ExperimentCatalog.Ids.Prepend(AllExperiments).ToArray() },
    };

    private static readonly Option<bool> Quick = new("--quick") { Description = "Fewer steps and 3 seeds: about 3 minutes for all in place of a quarter of an hour, on two cores; every page says so." };

    private static readonly Option<long> SeedsOption = Options.Whole("--seeds", "N", 1, 1000, "How many seeds each variant is trained from. Default 5; with --quick 3.");

    private static readonly Option<string?> Data = Options.Path(
        "--data", "DIR", "A folder with MNIST's IDX or IDX.gz files, training and test set, or mnist once it was fetched (data fetch). Default digits drawn by the program, which every page then says.");

    private static readonly Option<long> Seed = Options.Whole("--seed", "N", 0, int.MaxValue, "The first seed; where all randomness comes from. Default 1.");

    private static readonly Option<long> Threads = Options.Whole(
        "--threads", "N", 1, KernelThreads.Maximum, "Trials that run at once; results do not depend on it. Default the processor count.");

    private static readonly Option<Shard> ShardOption = Options.Shard(
        "--shard", "Runs the I-th of N parts, 1 to N, of about equal length; report merge joins them. Default the whole.");

    private static readonly Option<bool> Claims = new("--claims") { Description = "Prints every claim of the experiments, of all where none is named, with its threshold, and runs nothing; as Markdown where the output is no terminal." };

    public static Verb Create()
    {
        var command = new Command("train", "Runs experiments of the literature and says which of their claims hold.")
        {
            Which, Quick, SeedsOption, Data, Seed, Threads, ShardOption, Claims, RecordedRun.Out, RecordedRun.Resume,
        };
        command.SetAction(Run);
        return new Verb(
            command,
            $"""
            {string.Join("\n", ExperimentCatalog.All.Select(experiment => $"{experiment.Id,-4} {experiment.Describe(new ExperimentScale(Quick: true, 3, 1)).Title}"))}

            Each experiment says what it will take before it starts. Every claim, its threshold and every choice made stand in the report;
            a refuted claim is shown as such and does not change the exit code. Ctrl-C stops and keeps every finished trial.

            {ExitCodes.Legend}
            """,
            [
                "train E1 --quick",
                "train all --data mnist --out reports/literature",
                "train --resume reports/literature",
                "train all --shard 2/8 --out reports/part-2",
            ]);
    }

    private static int Run(ParseResult parse)
    {
        string[] named = [.. (parse.GetValue(Which) ?? []).SelectMany(word => word.Split(',', StringSplitOptions.RemoveEmptyEntries))];
        ParseErrors.RefuseOptions(parse.CommandResult.Command, named);
        bool claims = parse.GetValue(Claims);
        if (named.Length == 0 && claims)
        {
            named = [AllExperiments];
        }

        if (named.Length == 0)
        {
            throw new UsageException($"train needs experiments: {AllExperiments}, or some of {string.Join(", ", ExperimentCatalog.Ids)}.");
        }

        if (named.FirstOrDefault(name => name != AllExperiments && !ExperimentCatalog.Ids.Contains(name)) is { } unknown)
        {
            throw new UsageException(Text.Unknown("experiment", unknown, [AllExperiments, .. ExperimentCatalog.Ids]));
        }

        Experiment[] experiments = [.. ExperimentCatalog.All.Where(experiment => named.Contains(AllExperiments) || named.Contains(experiment.Id))];
        if (claims)
        {
            Console.Write(Console.IsOutputRedirected ? ClaimTable.Markdown(experiments) : string.Concat(ClaimTable.Lines(experiments).Select(line => line + Environment.NewLine)));
            return ExitCodes.Success;
        }

        var recorded = new RecordedRun(parse);
        bool quick = parse.GetValue(Quick);
        long seed = parse.ValueOr(Seed, 1);
        var scale = new ExperimentScale(quick, (int)parse.ValueOr(SeedsOption, quick ? 3 : 5), seed);
        int threads = (int)parse.ValueOr(Threads, KernelThreads.Default);
        DigitData data = parse.GetValue(Data) is { } folder ? Load(folder) : DigitData.Generate(quick ? DigitData.LeastTrain : 20_000, quick ? DigitData.LeastTest : 4000, seed);
        Case[] cases = [.. experiments.SelectMany(experiment => experiment.Trials(data, scale).Select(trial => new Case(experiment, trial)))];
        Shard? shard = parse.Has(ShardOption) ? parse.GetValue(ShardOption) : null;
        cases = [.. shard?.Of(cases, one => one.Trial.Cost) ?? cases];
        foreach (Experiment experiment in experiments.Where(experiment => cases.Any(one => one.Experiment == experiment)))
        {
            double seconds = cases.Where(one => one.Experiment == experiment).Sum(one => one.Trial.Cost) / threads;
            Console.Error.WriteLine($"{experiment.Id} {experiment.Describe(scale).Title}: {Text.Count(cases.Count(one => one.Experiment == experiment), "trial")}, about {Math.Ceiling(seconds):0} s");
        }

        if (scale.Seeds == 1)
        {
            Console.Error.WriteLine("one seed has no interval: claims over seeds stay inconclusive; --seeds 2 is the least that can decide them");
        }

        return recorded.Execute(
            Describe(experiments, scale, data, threads, cases.Length, shard), [.. cases.Select(one => new PlannedCase(one.Id, one.Experiment.Id, one.Trial.Cost))],
            $", {data.Source}", (finished, done, progress, cancellation) => Measure(cases, threads, finished, done, progress, cancellation),
            Print);
    }

    /// <summary>Prints the claims, a line each, and the page's path; of a shard, which has not all seeds, what it takes to judge them.</summary>
    internal static int Print(RunData run, IReadOnlyList<string> files)
    {
        if (RunShards.Of(run.Header) is { } empty && run.Header.CaseCount == 0)
        {
            // More shards than trials: the part is done as it is, and the merge asks for its folder.
            Console.WriteLine($"shard {empty}: no trial falls to it, there being fewer than {empty.Count}; report merge takes its folder as it is.");
            Console.WriteLine(files.Single(file => file.EndsWith(".html", StringComparison.Ordinal)));
            return ExitCodes.Success;
        }

        return Summary.Print(run, files, RunShards.Of(run.Header) is { } shard ? [$"shard {shard}: {Text.Count(run.Cases.Count, "trial")} recorded; claims are judged once report merge has joined all {shard.Count}."] : Lines(run));
    }

    private static DigitData Load(string folder)
    {
        try
        {
            return DigitData.Load(RemoteDataSet.Resolve(folder));
        }
        catch (Exception missing) when (missing is DirectoryNotFoundException or FileNotFoundException)
        {
            throw new UsageException($"{missing.Message} 'data fetch {RemoteDataSet.Mnist.Id}' brings them; then --data {RemoteDataSet.Mnist.Id}.");
        }
    }

    private static IEnumerable<string> Lines(RunData run) => ExperimentVerdict.Of(run).Select(verdict =>
        $"{verdict.Experiment} {verdict.Verdict}: {verdict.Claim}: {(verdict.Observed is { } value ? verdict.Unit.Write(value) : "nothing measured")}{(verdict.Interval is [var low, var high] ? $" [{verdict.Unit.Number(low)}, {verdict.Unit.Number(high)}]" : "")}, claimed {verdict.Side} {verdict.Unit.Write(verdict.Threshold)}, {Text.Count(verdict.Seeds, "seed")}.").Concat(Caveat(run.Header.Settings));

    // What a shortened run on drawn digits does not say.
    private static IEnumerable<string> Caveat(IReadOnlyDictionary<string, string> settings)
    {
        bool quick = settings.GetValueOrDefault("length") == "quick";
        bool drawn = settings.GetValueOrDefault("data") is { } data && data != DigitData.Mnist;
        if (quick || drawn)
        {
            yield return $"Measured {(drawn ? "on images that are not MNIST" : "on MNIST")}{(quick ? ", with training cut short" : "")}: what is refuted here need not be refuted there. docs/results has a whole run on MNIST.";
        }
    }

    // Several trials at once, each on one thread: their bits depend on their seed alone.
    private static void Measure(
        Case[] cases, int threads, Action<CaseRecord> finished, IReadOnlySet<string> done, IProgress<ComparisonProgress> progress, CancellationToken cancellation)
    {
        Case[] left = [.. cases.Where(one => !done.Contains(one.Id))];
        int count = cases.Length - left.Length;
        var gate = new Lock();
        int before = KernelThreads.Count;
        KernelThreads.Count = 1;
        try
        {
            Parallel.ForEach(
                System.Collections.Concurrent.Partitioner.Create(left, System.Collections.Concurrent.EnumerablePartitionerOptions.NoBuffering),
                new ParallelOptions { MaxDegreeOfParallelism = threads, CancellationToken = cancellation },
                one =>
                {
                    lock (gate)
                    {
                        progress.Report(new ComparisonProgress(count, cases.Length, one.Id));
                    }

                    CaseRecord record = one.Run(cancellation);
                    lock (gate)
                    {
                        finished(record);
                        count++;
                    }
                });
        }
        catch (AggregateException several)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(
                several.InnerExceptions.FirstOrDefault(inner => inner is not OperationCanceledException) ?? several.InnerExceptions[0]);
        }
        finally
        {
            KernelThreads.Count = before;
        }

        progress.Report(new ComparisonProgress(cases.Length, cases.Length, null));
    }

    private static RunHeader Describe(Experiment[] experiments, ExperimentScale scale, DigitData data, int threads, int cases, Shard? shard)
    {
        string[] commandLine = Environment.GetCommandLineArgs();
        var settings = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["experiments"] = string.Join(",", experiments.Select(experiment => experiment.Id)),
            ["length"] = scale.Quick ? "quick" : "full",
            ["seeds"] = scale.Seeds.ToString(CultureInfo.InvariantCulture),
            ["seed"] = scale.Seed.ToString(CultureInfo.InvariantCulture),
            ["data"] = data.Source,
        };
        if (shard is not null)
        {
            settings[RunShards.Setting] = shard.ToString()!;
        }

        ExperimentDescription[] descriptions =
        [
            .. experiments.Select(experiment => experiment.Describe(scale) with { Variants = [.. experiment.Strategies.Select(variant => new ExperimentVariant(variant.Id, variant.Options))] }),
        ];
        return new RunHeader
        {
            Environment = RunEnvironment.Capture(commandLine[0], commandLine[1..], scale.Seed, threads),
            Settings = settings,
            Strategies = [.. experiments.SelectMany(experiment => experiment.Strategies).DistinctBy(strategy => strategy.Id)
                .Select(strategy => new StrategyDescription(strategy.Id, "", ""))],
            Scenarios = [.. descriptions.Select(description => new ScenarioDescription(description.Id, description.Title, description.Question))],
            Experiments = descriptions,
            CaseCount = cases,
        };
    }

    private sealed record Case(Experiment Experiment, Trial Trial)
    {
        public string Id { get; } = string.Create(CultureInfo.InvariantCulture, $"{Aspects.Training}/{Experiment.Id}/{Trial.Strategy}/seed-{Trial.Seed:000}");

        public CaseRecord Run(CancellationToken cancellation)
        {
            long began = Stopwatch.GetTimestamp();
            var log = new TrialLog(Experiment.Id, Trial.Strategy, Trial.Seed, cancellation);
            string? failure = null;
            try
            {
                Trial.Run(log);
            }
            catch (Exception exception) when (exception is not (OperationCanceledException or OutOfMemoryException))
            {
                // A bug in one trial ends it, not the run.
                failure = $"{exception.GetType().Name}: {exception.Message}";
            }

            return new CaseRecord { Case = Id, Seconds = Stopwatch.GetElapsedTime(began).TotalSeconds, Measurements = log.Rows, Failure = failure };
        }
    }
}
