using System.CommandLine;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary><c>report</c>: draws a report again from its records.</summary>
internal static class ReportCommand
{
    private static readonly Argument<string?> Folder = new("DIR")
    {
        HelpName = "DIR",
        Description = $"A folder that a run wrote; its {RunFile.FileName} is read.",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private static readonly Argument<string[]> Shards = new("DIR")
    {
        HelpName = "DIR...",
        Description = "The folders of all shards of a run, in any order.",
        Arity = ArgumentArity.ZeroOrMore,
    };

    private static readonly Option<string?> Out = Options.Path("--out", "DIR", "The joined report's folder; new or empty, since a report is never overwritten.");

    public static IEnumerable<Verb> Create()
    {
        var merge = new Command("merge", "Joins the shards of a run into the report of the whole.") { Shards, Out };
        merge.SetAction(Merge);
        var command = new Command("report", "Draws a report again from its records.") { Folder, merge };
        command.SetAction(Run);
        yield return new Verb(
            command,
            $"Writes {string.Join(", ", ReportFiles.Writers.Select(writer => writer.FileName))} and prints the findings, as the run did; measures nothing.",
            ["report reports/20260101-120000", "report merge reports/part-1 reports/part-2 --out reports/whole"]);
        yield return new Verb(
            merge,
            $"""
            The records are those of the run that was not split. A shard that is missing, doubled, incomplete or of another run is named.

            {ExitCodes.Legend}
            """,
            ["report merge reports/part-1 reports/part-2 --out reports/whole"]);
    }

    private static int Merge(ParseResult parse)
    {
        string[] folders = parse.GetValue(Shards) ?? [];
        ParseErrors.RefuseOptions(parse.CommandResult.Command, folders);
        if (folders.Length == 0 || parse.GetValue(Out) is not { } folder)
        {
            throw new UsageException("report merge needs the shards' folders and a new one, such as: report merge reports/part-1 reports/part-2 --out reports/whole");
        }

        if (Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any())
        {
            throw new UsageException($"'{folder}' is not empty and a report is never overwritten. Join into another folder with --out DIR.");
        }

        (string, RunData)[] shards = [.. folders.Select(shard => (shard, RunFile.Load(shard)))];
        RunData whole = RunShards.Join(shards);
        foreach (string difference in RunShards.MachineDifferences(shards))
        {
            Console.Error.WriteLine($"warning: the last bits may differ between machines: {difference}");
        }

        using (RunRecorder recorder = RunRecorder.Create(folder, whole.Header))
        {
            foreach (CaseRecord record in whole.Cases)
            {
                recorder.Append(record);
            }
        }

        return TrainCommand.Print(whole, ReportFiles.WriteAll(folder, whole));
    }

    private static int Run(ParseResult parse)
    {
        string folder = parse.GetValue(Folder) ?? throw new UsageException("report needs a folder that a run wrote, such as reports/20260101-120000.");
        if (!Directory.Exists(folder))
        {
            throw new UsageException($"there is no folder '{folder}'; name one that a run wrote.");
        }

        RunData run = RunFile.Load(folder);
        if (!run.Complete)
        {
            Console.Error.WriteLine($"incomplete: {run.Cases.Count} of {run.Header.CaseCount} cases are recorded; --resume with this folder goes on from there.");
        }

        IReadOnlyList<string> files = ReportFiles.WriteAll(folder, run);
        return run.Header.Experiments is null ? Summary.Print(run, files) : TrainCommand.Print(run, files);
    }
}
