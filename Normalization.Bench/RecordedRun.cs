using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary>Measures the cases of a run that are not done yet, as <see cref="Comparer.Run"/> does.</summary>
internal delegate void MeasureCases(
    Action<CaseRecord> finished, IReadOnlySet<string> done, IProgress<ComparisonProgress> progress, CancellationToken cancellation);

/// <summary>A case that a run is to measure, as its progress shows it.</summary>
/// <param name="Id">The case's id.</param>
/// <param name="Group">What it has in common with its neighbours: where lines cannot be written over, a group has one.</param>
/// <param name="Cost">About what it takes beside the others, for the estimate of the time left.</param>
internal sealed record PlannedCase(string Id, string Group, double Cost);

/// <summary>A run into a report folder: each case on disk as it ends, Ctrl-C kept from losing any, the report files drawn at the end.</summary>
internal sealed class RecordedRun(ParseResult parse)
{
    /// <summary>Where a run begins; a verb that records has it.</summary>
    public static readonly Option<string?> Out = Options.Path(
        "--out", "DIR", "The report's folder; new or empty, since a report is never overwritten. Default reports/<time>.");

    /// <summary>Where a run goes on; a verb that records has it.</summary>
    public static readonly Option<string?> Resume = Options.Path(
        "--resume", "DIR", "Goes on with the run recorded in this folder, with its settings; paths among them are as they were typed.");

    /// <summary>A command line that resumes a run, with the settings that run was begun with where it names none.</summary>
    /// <param name="words">The command line.</param>
    /// <param name="parse">Reads one.</param>
    /// <exception cref="UsageException">The folder holds no run, or another verb's.</exception>
    public static ParseResult Parse(string[] words, Func<string[], ParseResult> parse)
    {
        ParseResult given = parse(words);
        if (given.Errors.Count > 0 || !given.Has(Resume) || given.Has(Out) || given.GetValue(Resume) is not { } folder)
        {
            return given;
        }

        if (!File.Exists(Path.Combine(folder, RunFile.FileName)))
        {
            throw new UsageException($"There is no run in '{folder}' to resume. Start one with --out {folder}.");
        }

        RunEnvironment environment = RunFile.Load(folder).Header.Environment;
        if (environment.Arguments is not { } recorded)
        {
            return given;
        }

        ParseResult begun = parse([.. recorded]);
        Command command = given.CommandResult.Command;
        if (begun.CommandResult.Command is RootCommand || environment.CommandLine.Split(' ')[0] != Path.GetFileNameWithoutExtension(Environment.GetCommandLineArgs()[0]))
        {
            throw new UsageException($"The run in '{folder}' was begun by another program, which alone can go on with it. Start one of your own with --out DIR.");
        }

        if (begun.CommandResult.Command != command)
        {
            throw new UsageException($"The run in '{folder}' was begun by {begun.CommandResult.Command.Name}, not by {command.Name}: {begun.CommandResult.Command.Name} --resume {folder}.");
        }

        IEnumerable<string> arguments = command.Arguments.Where(argument => WordsOf(given, argument).Length == 0).SelectMany(argument => WordsOf(begun, argument));
        return parse([.. words, .. arguments, .. OptionsOf(begun, option => !given.Has(option))]);
    }

    /// <summary>The report folder: the one the user named, or one named after the time.</summary>
    public string Directory { get; } = Choose(parse);

    /// <summary>Measures and draws the report.</summary>
    /// <param name="header">What the run is; a resumed one must agree with it.</param>
    /// <param name="cases">All its cases in the order they run.</param>
    /// <param name="remark">What the line before the start says beside the number of cases; may be empty.</param>
    /// <param name="measure">Measures the cases.</param>
    /// <param name="print">Says on stdout what came out, given the run and the files drawn, and how the process is to end.</param>
    /// <returns>The exit code.</returns>
    /// <exception cref="UsageException">The folder holds another run.</exception>
    public int Execute(
        RunHeader header, IReadOnlyList<PlannedCase> cases, string remark, MeasureCases measure, Func<RunData, IReadOnlyList<string>, int> print)
    {
        using RunRecorder recorder = Open(header);
        Console.Error.WriteLine($"{recorder.Header.CaseCount - recorder.Cases.Count} of {recorder.Header.CaseCount} cases to do{remark}, report in {Directory}");
        int stopped = Measure(recorder, cases, measure);
        RunData run = recorder.Run;
        if (stopped == ExitCodes.Success)
        {
            return print(run, ReportFiles.WriteAll(Directory, run));
        }

        Console.Error.WriteLine($"stopped: {run.Cases.Count} of {run.Header.CaseCount} cases are kept in {Directory}. Go on with: {ResumeCommand()}");
        ReportFiles.WriteAll(Directory, run);
        return stopped;
    }

    private static string[] WordsOf(ParseResult parse, Argument argument) => [.. parse.GetResult(argument)?.Tokens.Select(token => token.Value) ?? []];

    // As they were written, but for those that say where a run is recorded.
    private static IEnumerable<string> OptionsOf(ParseResult parse, Func<Option, bool> wanted) => parse.CommandResult.Command.Options
        .Where(option => option != Out && option != Resume && parse.Has(option) && wanted(option))
        .SelectMany(option => parse.GetResult(option)!.Tokens.Select(token => token.Value).Prepend(option.Name));

    private static string Choose(ParseResult parse)
    {
        if (parse.Has(Out) && parse.Has(Resume))
        {
            throw new UsageException("--out starts a report and --resume goes on with one; give one of them.");
        }

        return parse.GetValue(Resume) ?? parse.GetValue(Out) ?? NewFolder();
    }

    /// <summary>Runs what is not recorded yet; the exit code of the signal that stopped it, or success.</summary>
    private static int Measure(RunRecorder recorder, IReadOnlyList<PlannedCase> cases, MeasureCases measure)
    {
        using var stop = new CancellationTokenSource();
        int stopped = ExitCodes.Success;
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => Stop(context, ExitCodes.Interrupted));
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => Stop(context, ExitCodes.Terminated));
        HashSet<string> done = [.. recorder.Cases.Select(record => record.Case)];
        using var progress = new Progress([.. cases.Where(planned => !done.Contains(planned.Id))]);
        try
        {
            measure(recorder.Append, done, progress, stop.Token);
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

    private RunRecorder Open(RunHeader header)
    {
        try
        {
            return parse.Has(Resume) ? RunRecorder.Resume(Directory, header) : RunRecorder.Create(Directory, header);
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
        for (int count = 2; System.IO.Directory.Exists(folder); count++)
        {
            folder = $"{first}-{count}";
        }

        return folder;
    }

    private string ResumeCommand()
    {
        string program = Environment.ProcessPath ?? RootCommand.ExecutableName;
        string[] words = Path.GetFileNameWithoutExtension(program) == "dotnet" ? ["dotnet", Near(Environment.GetCommandLineArgs()[0])] : [Near(program)];
        return string.Join(' ', words.Concat([parse.CommandResult.Command.Name, .. parse.Has(Resume) ? OptionsOf(parse, _ => true) : [], "--resume", Directory]).Select(Quote));

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
