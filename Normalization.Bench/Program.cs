using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Normalization.Bench;

Verb[] verbs =
[
    CompareCommand.Create(), SpeedCommand.Create(), NetworksCommand.Create(), TrainCommand.Create(), ApplyCommand.Create(), .. ReportCommand.Create(), DiffCommand.Create(),
    SyncCheckCommand.Create(), ListCommand.Create(), .. DataCommand.Create(),
];
var root = new RootCommand("Compares normalization strategies by measurement. Without a verb: compare.");
foreach (Verb verb in verbs.Where(verb => !verb.Command.Parents.Any()))
{
    root.Add(verb.Command);
}

HelpOption help = root.Options.OfType<HelpOption>().Single();
help.Action = new HelpWithExamples((HelpAction)help.Action!, "See '<command> --help' for the options of each.\n\n" + ExitCodes.Legend, verbs);

try
{
    ParseResult parse = RecordedRun.Parse(args is ["help", .. var asked] ? [.. asked, "--help"] : args, words => root.Parse(
        NamesNoVerb(words) ? ["compare", .. words] : words,
        new ParserConfiguration { EnablePosixBundling = false, ResponseFileTokenReplacer = null }));

    // The library's own handling of these writes its help to stdout and exits with 1.
    if (parse.Action is ParseErrorAction || (parse.Action is null && parse.Errors.Count > 0))
    {
        throw new UsageException(ParseErrors.Describe(parse));
    }

    return parse.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
}
catch (Exception error) when (error is UsageException or IOException or UnauthorizedAccessException or InvalidDataException)
{
    Console.Error.WriteLine($"error: {Text.OneLine(error.Message)}");
    return ExitCodes.Usage;
}
catch (Exception error)
{
    Console.Error.WriteLine($"error: unexpected {error.GetType().Name}: {Text.OneLine(error.Message)}");
    return ExitCodes.Failed;
}

static bool NamesNoVerb(string[] args) =>
    args.Length == 0 || (args[0].StartsWith('-') && args[0] is not ("--help" or "-h" or "-?" or "--version"));
