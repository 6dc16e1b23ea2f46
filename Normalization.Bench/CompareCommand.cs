using System.CommandLine;
using System.Security.Cryptography;
using Normalization.Bench.Data;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench;

/// <summary><c>compare</c>: measures strategies and writes a report.</summary>
internal static class CompareCommand
{
    private const int GeneratedImages = 1024;

    private static readonly Option<IReadOnlyList<string>> StrategiesOption = Options.Names("--strategies", "strategy", StrategyCatalog.Ids,
        $"Which strategies: {string.Join(", ", StrategyCatalog.Ids)}. Default all.");

    private static readonly Option<IReadOnlyList<string>> AspectsOption = Options.Names("--aspects", "aspect", Aspects.All,
        $"Which aspects: {string.Join(", ", Aspects.All)}. Default all.");

    private static readonly Option<IReadOnlyList<string>> ScenariosOption = Options.Names("--scenarios", "scenario", Scenarios.Ids,
        $"Which scenarios: {string.Join(", ", Scenarios.Ids)}. Default all; speed has shapes of its own.");

    private static readonly Option<string?> Data = Options.Path(
        "--data", "DIR", "A folder with MNIST's IDX or IDX.gz files for the scenario activations, or mnist once it was fetched (data fetch). Default digits drawn by the program.");

    private static readonly Option<long> Seed = Options.Whole("--seed", "N", 0, long.MaxValue, "Where all randomness comes from. Default 1.");

    private static readonly Option<long> Threads = Options.Whole("--threads", "N", 1, 256,
        "Threads to use; results other than times do not depend on it. Default the processor count.");

    private static readonly Option<bool> Thorough = new("--thorough") { Description = "More samples and repeats: minutes in place of seconds." };

    public static Verb Create()
    {
        var command = new Command("compare", "Measures strategies side by side and writes a report. The verb may be left out.")
        {
            StrategiesOption, AspectsOption, ScenariosOption, Data, Seed, Threads, RecordedRun.Out, RecordedRun.Resume, Thorough,
        };
        command.SetAction(Run);
        return new Verb(
            command,
            $"""
            Prints the findings and the path of index.html. Ctrl-C stops and keeps every finished case; --resume goes on from there.

            {ExitCodes.Legend}
            """,
            [
                "compare",
                "compare --strategies batch-norm,group-norm --aspects outputs,gradients --out reports/two",
                "compare --data mnist --threads 1 --seed 7",
                "compare --resume reports/20260101-120000",
            ]);
    }

    private static int Run(ParseResult parse)
    {
        var recorded = new RecordedRun(parse);
        IReadOnlyList<string> strategies = parse.ValueOr(StrategiesOption, StrategyCatalog.Ids);
        IReadOnlyList<string> scenarios = parse.ValueOr(ScenariosOption, Scenarios.Ids);
        IReadOnlyList<string> aspects = parse.ValueOr(AspectsOption, Aspects.All);
        long seed = parse.ValueOr(Seed, 1);
        bool usesDigits = scenarios.Contains(Scenarios.ActivationsId) && aspects.Any(aspect => aspect != Aspects.Speed);
        if (!usesDigits && parse.Has(Data))
        {
            throw new UsageException($"--data replaces the images of the scenario {Scenarios.ActivationsId}, which this run does not measure: add it to --scenarios, and an aspect but speed to --aspects, or leave --data out.");
        }

        DigitSet? digits = parse.GetValue(Data) is { } data ? DigitSet.Load(RemoteDataSet.Resolve(data), needsLabels: false)
            : scenarios.Contains(Scenarios.ActivationsId) ? GeneratedDigits.Generate(GeneratedImages, (int)(seed & int.MaxValue))
            : null;
        IReadOnlyList<Scenario> available = digits is null ? Scenarios.Synthetic(seed) : Scenarios.WithDigits(seed, digits);
        var comparer = new Comparer([.. strategies.Select(id => StrategyCatalog.Contestant(id))])
        {
            Aspects = aspects,
            Scenarios = [.. available.Where(scenario => scenarios.Contains(scenario.Id))],
            Seed = seed,
            Threads = (int)parse.ValueOr(Threads, KernelThreads.Default),
            Thorough = parse.GetValue(Thorough),
        };
        DigitSet? used = usesDigits ? digits : null;
        return recorded.Execute(
            Describe(comparer, used), [.. comparer.Cases.Select(Plan)], used is null ? "" : $", images {used.Source}", comparer.Run, Summary.Print);
    }

    // A case's id is aspect/scenario/strategy.
    private static PlannedCase Plan(string id)
    {
        // The time a case takes beside one of outputs, measured on two processors; only the estimate rests on it.
        double cost = id[..id.IndexOf('/', StringComparison.Ordinal)] switch
        {
            Aspects.Gradients => 1.5,
            Aspects.BatchSize => 2.5,
            Aspects.Speed => 25,
            _ => 1,
        };
        return new PlannedCase(id, id[..id.LastIndexOf('/')], cost);
    }

    // Names the images too: the same settings on other images are another run.
    private static RunHeader Describe(Comparer comparer, DigitSet? digits)
    {
        string[] commandLine = Environment.GetCommandLineArgs();
        RunHeader header = comparer.Describe(RunEnvironment.Capture(commandLine[0], commandLine[1..], comparer.Seed, comparer.Threads));
        if (digits is null)
        {
            return header;
        }

        string hash = Convert.ToHexStringLower(SHA256.HashData(digits.Pixels))[..12];
        return header with
        {
            Settings = new Dictionary<string, string>(header.Settings, StringComparer.Ordinal)
            {
                ["data"] = $"{digits.Count} of {digits.Height} x {digits.Width}, {digits.Source}, SHA-256 {hash}",
            },
        };
    }
}
