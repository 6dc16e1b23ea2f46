using System.CommandLine;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary><c>report</c>: draws a report again from its records.</summary>
internal static class ReportCommand
{
    private static readonly Argument<string?> Folder = new("DIR")
    {
        HelpName = "DIR",
        Description = $"A folder that compare wrote; its {RunFile.FileName} is read.",
        Arity = ArgumentArity.ZeroOrOne,
    };

    public static Verb Create()
    {
        var command = new Command("report", "Draws a report again from its records.") { Folder };
        command.SetAction(Run);
        return new Verb(
            command,
            $"Writes {string.Join(", ", ReportFiles.Writers.Select(writer => writer.FileName))} and prints the findings, as compare did; measures nothing.",
            ["report reports/20260101-120000"]);
    }

    private static int Run(ParseResult parse)
    {
        string folder = parse.GetValue(Folder) ?? throw new UsageException("report needs a folder that compare wrote, such as reports/20260101-120000.");
        if (!Directory.Exists(folder))
        {
            throw new UsageException($"there is no folder '{folder}'; name one that compare wrote.");
        }

        RunData run = RunFile.Load(folder);
        if (!run.Complete)
        {
            Console.Error.WriteLine($"incomplete: {run.Cases.Count} of {run.Header.CaseCount} cases are recorded; compare --resume goes on from there.");
        }

        return Summary.Print(run, ReportFiles.WriteAll(folder, run));
    }
}
