using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
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
        "--data", "DIR", "A folder with MNIST's IDX or IDX.gz files for the scenario activations. Default digits drawn by the program.");

    private static readonly Option<long> Seed = Options.Whole("--seed", "N", 0, long.MaxValue, "Where all randomness comes from. Default 1.");

    private static readonly Option<long> Threads = Options.Whole("--threads", "N", 1, 256,
        "Threads to use; results other than times do not depend on it. Default the processor count.");

    private static readonly Option<string?> Out = Options.Path(
        "--out", "DIR", "The report's folder; new or empty, since a report is never overwritten. Default reports/<time>.");

    private static readonly Option<string?> Resume = Options.Path(
        "--resume", "DIR", "Goes on with the run recorded in this folder, whose settings must be the same.");

    private static readonly Option<bool> Thorough = new("--thorough") { Description = "More samples and repeats: minutes in place of seconds." };

    public static Verb Create()
    {
        var command = new Command("compare", "Measures strategies side by side and writes a report. The verb may be left out.")
        {
            StrategiesOption, AspectsOption, ScenariosOption, Data, Seed, Threads, Out, Resume, Thorough,
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
        if (parse.Has(Out) && parse.Has(Resume))
        {
            throw new UsageException("--out starts a report and --resume goes on with one; give one of them.");
        }

        IReadOnlyList<string> strategies = parse.ValueOr(StrategiesOption, StrategyCatalog.Ids);
        IReadOnlyList<string> scenarios = parse.ValueOr(ScenariosOption, Scenarios.Ids);
        long seed = parse.ValueOr(Seed, 1);
        DigitSet? digits = parse.GetValue(Data) is { } data ? DigitSet.Load(data, needsLabels: false)
            : scenarios.Contains(Scenarios.ActivationsId) ? GeneratedDigits.Generate(GeneratedImages, (int)(seed & int.MaxValue))
            : null;
        IReadOnlyList<Scenario> available = digits is null ? Scenarios.Synthetic(seed) : Scenarios.WithDigits(seed, digits);
        var comparer = new Comparer([.. strategies.Select(id => StrategyCatalog.Contestant(id))])
        {
            Aspects = parse.ValueOr(AspectsOption, Aspects.All),
            Scenarios = [.. available.Where(scenario => scenarios.Contains(scenario.Id))],
            Seed = seed,
            Threads = (int)parse.ValueOr(Threads, KernelThreads.Default),
            Thorough = parse.GetValue(Thorough),
        };
        string directory = parse.GetValue(Resume) ?? parse.GetValue(Out) ?? NewFolder();
        using RunRecorder recorder = Open(directory, parse.Has(Resume), Describe(comparer, digits));

        Console.Error.WriteLine(
            $"{recorder.Header.CaseCount - recorder.Cases.Count} of {recorder.Header.CaseCount} cases to do{(digits is null ? "" : $", images {digits.Source}")}, report in {directory}");
        int stopped = Measure(comparer, recorder);
        RunData run = recorder.Run;
        if (stopped == ExitCodes.Success)
        {
            return Summary.Print(run, ReportFiles.WriteAll(directory, run));
        }

        Console.Error.WriteLine(
            $"stopped: {run.Cases.Count} of {run.Header.CaseCount} cases are kept in {directory}. Go on with: {ResumeCommand(parse, directory)}");
        ReportFiles.WriteAll(directory, run);
        return stopped;
    }

    /// <summary>Runs what is not recorded yet; the exit code of the signal that stopped it, or success.</summary>
    private static int Measure(Comparer comparer, RunRecorder recorder)
    {
        using var stop = new CancellationTokenSource();
        int stopped = ExitCodes.Success;
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => Stop(context, ExitCodes.Interrupted));
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => Stop(context, ExitCodes.Terminated));
        HashSet<string> done = [.. recorder.Cases.Select(record => record.Case)];
        using var progress = new Progress([.. comparer.Cases.Where(id => !done.Contains(id))]);
        try
        {
            comparer.Run(recorder.Append, done, progress, stop.Token);
        }
        catch (OperationCanceledException) when (stopped != ExitCodes.Success)
        {
        }

        return stopped;

        // A second signal is not held back and ends the process at once.
        void Stop(PosixSignalContext context, int code)
        {
            context.Cancel = Interlocked.CompareExchange(ref stopped, code, ExitCodes.Success) == ExitCodes.Success;
            stop.Cancel();
        }
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

    private static RunRecorder Open(string directory, bool resume, RunHeader header)
    {
        try
        {
            return resume ? RunRecorder.Resume(directory, header) : RunRecorder.Create(directory, header);
        }
        catch (ArgumentException difference)
        {
            throw new UsageException(Text.OneLine(difference.Message));
        }
    }

    private static string NewFolder()
    {
        string first = Path.Combine("reports", DateTime.Now.ToString("yyyyMMdd-HHmmss", CultureInfo.InvariantCulture));
        string folder = first;
        for (int count = 2; Directory.Exists(folder); count++)
        {
            folder = $"{first}-{count}";
        }

        return folder;
    }

    private static string ResumeCommand(ParseResult parse, string directory)
    {
        string program = Environment.ProcessPath ?? RootCommand.ExecutableName;
        string[] words = Path.GetFileNameWithoutExtension(program) == "dotnet" ? ["dotnet", Near(Environment.GetCommandLineArgs()[0])] : [Near(program)];
        IEnumerable<string> options = parse.CommandResult.Command.Options
            .Where(option => option != Out && option != Resume && parse.Has(option))
            .SelectMany(option => parse.GetResult(option)!.Tokens.Select(token => token.Value).Prepend(option.Name));
        return string.Join(' ', words.Concat(["compare", .. options, "--resume", directory]).Select(Quote));

        static string Near(string path)
        {
            string relative = Path.GetRelativePath(Environment.CurrentDirectory, path);
            return relative.StartsWith("..", StringComparison.Ordinal) ? Path.GetFullPath(path) : Path.Combine(".", relative);
        }

        static string Quote(string word) =>
            word.All(letter => char.IsAsciiLetterOrDigit(letter) || "-_./,:=\\".Contains(letter, StringComparison.Ordinal)) && word.Length > 0
                ? word
                : $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";
    }
}
