using Normalization.Core.Reporting;
using Spectre.Console;

namespace Normalization.Bench;

/// <summary>What a run comes to: sentences on stdout, failed checks on stderr, an exit code.</summary>
internal static class Summary
{
    private static readonly string[] CommonSettings = ["epsilon", "affine", "data"];

    /// <summary>Prints the findings and the page's path, and says how the process is to end.</summary>
    public static int Print(RunData run, IReadOnlyList<string> files) => Print(run, files, null);

    /// <summary>The same with lines of the verb's own in place of the findings.</summary>
    public static int Print(RunData run, IReadOnlyList<string> files, IEnumerable<string>? lines)
    {
        bool measured = run.Measurements.Any(measurement => measurement.Value is not null);
        CaseRecord[] failed = [.. run.Cases.Where(record => record.Failure is not null)];
        if (!measured && failed.Length == 0)
        {
            string why = run.Measurements.FirstOrDefault(measurement => measurement.Note is not null)?.Note ?? "no case has ended";
            Console.Error.WriteLine($"error: nothing was measured: {Text.OneLine(why)}");
            return ExitCodes.NothingMeasured;
        }

        if (measured && lines is null)
        {
            PrintSettings(run.Header);
            PrintFindings(Findings.Draw(run));
        }

        foreach (string line in measured ? lines ?? [] : [])
        {
            Console.WriteLine(line);
        }

        Console.WriteLine(files.Single(file => file.EndsWith(".html", StringComparison.Ordinal)));
        foreach (CaseRecord record in failed)
        {
            Console.Error.WriteLine($"check failed: {record.Case}: {Text.OneLine(record.Failure!)}");
        }

        return failed.Length > 0 ? ExitCodes.Failed : ExitCodes.Success;
    }

    private static void PrintSettings(RunHeader header)
    {
        IEnumerable<string> options = header.Strategies.Where(strategy => strategy.Options is not ("" or "none")).Select(strategy => $"{strategy.Id}: {strategy.Options}");
        IEnumerable<string> common = CommonSettings.Where(header.Settings.ContainsKey).Select(name => $"{name}: {header.Settings[name]}");
        Console.WriteLine($"Settings: {string.Join("; ", options.Concat(common))}.");
    }

    private static void PrintFindings(IReadOnlyList<Finding> findings)
    {
        if (Console.IsOutputRedirected)
        {
            // One finding a line: Spectre would cut lines to 80 columns, and write escape codes where TERM promises a terminal.
            foreach (Finding finding in findings)
            {
                Console.WriteLine($"{finding.Case}: {Answer(finding)}. {finding.Text}");
            }

            return;
        }

        bool styled = Environment.GetEnvironmentVariable("NO_COLOR") is null or "" && Environment.GetEnvironmentVariable("TERM") != "dumb";
        IAnsiConsole terminal = AnsiConsole.Create(new AnsiConsoleSettings { Ansi = styled ? AnsiSupport.Detect : AnsiSupport.No });
        foreach (Finding finding in findings)
        {
            terminal.MarkupLineInterpolated($"{finding.Case}: [bold]{Answer(finding)}[/]");
            terminal.Write(new Padder(new Spectre.Console.Text(finding.Text), new Padding(2, 0, 0, 0)));
        }

        terminal.WriteLine();
    }

    private static string Answer(Finding finding) => finding.Answer.Length > 0 ? finding.Answer : string.Join(", ", finding.Choice);
}
