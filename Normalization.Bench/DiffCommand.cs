using System.CommandLine;
using System.Globalization;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary><c>diff</c>: holds the times of two runs against each other.</summary>
internal static class DiffCommand
{
    private static readonly Argument<string?> Base = Run("BASE", "The run to compare with: a report's folder, its records.jsonl or its results.json.");

    private static readonly Argument<string?> New = Run("NEW", "The run to judge, likewise.");

    private static readonly Option<double> Threshold = Options.Percentage(
        "--threshold", "The smallest change of a time that counts, as 10% or 0.1. Default 10%.");

    private static readonly Option<bool> AllowOtherMachine = new("--allow-other-machine")
    {
        Description = "Compare although processor, vector width, cores, system or runtime differ.",
    };

    public static Verb Create()
    {
        var command = new Command("diff", "Says which times of one run are slower or faster than those of another.") { Base, New, Threshold, AllowOtherMachine };
        command.SetAction(Execute);
        return new Verb(
            command,
            $"""
            Prints each row that both runs have, changed ones first, with the ratio of the new time to the base time and what the two intervals
            allow it to be. Slower or faster: the intervals separate and the change exceeds the threshold. Same: the intervals leave no room for
            such a change. Else: too noisy to tell. Exits with 1 where a row is slower, with 4 where the runs cannot be compared.

            {ExitCodes.Legend}
            """,
            [
                "diff reports/before reports/after",
                "diff base.json reports/after/results.json --threshold 5%",
            ]);
    }

    private static int Execute(ParseResult parse)
    {
        if (parse.GetValue(Base) is not { } first || parse.GetValue(New) is not { } second)
        {
            throw new UsageException("diff needs two runs, the base and the new one, such as: diff reports/before reports/after");
        }

        double threshold = parse.ValueOr(Threshold, 0.1);
        RunDiff diff = RunDiff.Between(ResultFile.Load(first), ResultFile.Load(second), threshold);
        if (NotComparable(diff, parse.GetValue(AllowOtherMachine)) is { } reason)
        {
            Console.Error.WriteLine($"error: not comparable: {Text.OneLine(reason)}");
            return ExitCodes.NothingMeasured;
        }

        foreach (string difference in diff.MachineDifferences)
        {
            Console.Error.WriteLine($"warning: another machine: {difference}");
        }

        Print(diff, threshold);
        return Count(diff, TimeChange.Slower) > 0 ? ExitCodes.Failed : ExitCodes.Success;
    }

    private static string? NotComparable(RunDiff diff, bool allowOtherMachine)
    {
        if (diff.MachineDifferences.Count > 0 && !allowOtherMachine)
        {
            return $"{string.Join("; ", diff.MachineDifferences)}. Measure both runs on one machine, or compare all the same with {AllowOtherMachine.Name}.";
        }

        if (diff.SettingDifferences.Count > 0)
        {
            return $"{string.Join("; ", diff.SettingDifferences)}. Measure both runs with the same settings.";
        }

        return diff.Rows.Count > 0 ? null
            : $"no {RunDiff.Metric} row is formed in both runs ({diff.OnlyInBase.Count} only in BASE, {diff.OnlyInNew.Count} only in NEW). Name two runs of speed, or of compare with the aspect speed.";
    }

    private static void Print(RunDiff diff, double threshold)
    {
        string[][] lines = [["verdict", "new/base", "within", "ns/element", "row"], .. diff.Rows.Select(Line)];
        int[] widths = [.. lines[0].Select((_, column) => lines.Max(line => line[column].Length))];
        foreach (string[] line in lines)
        {
            Console.WriteLine(string.Join("  ", line.Select((text, column) => text.PadRight(widths[column]))).TrimEnd());
        }

        foreach ((string where, IReadOnlyList<Measurement> rows) in new[] { ("BASE", diff.OnlyInBase), ("NEW", diff.OnlyInNew) })
        {
            foreach (Measurement row in rows)
            {
                Console.WriteLine($"only in {where}: {RunDiff.Name(row)}");
            }
        }

        if (!double.IsNaN(diff.CopyRatio))
        {
            bool moved = diff.CopyRatio > 1 + threshold || diff.CopyRatio < 1 / (1 + threshold);
            Console.WriteLine($"the memory copy, median: {Number(diff.CopyRatio)} times its time in BASE{(moved ? "; the machine itself was in another state" : "")}");
        }

        string counts = string.Join(", ", Enum.GetValues<TimeChange>().Select(change => $"{Count(diff, change)} {Word(change)}"));
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{Text.Count(diff.Rows.Count, "row")}: {counts}; threshold {threshold * 100:0.###}%; only in BASE {diff.OnlyInBase.Count}, only in NEW {diff.OnlyInNew.Count}"));
    }

    private static string[] Line(TimeDifference row) =>
    [
        Word(row.Change), Number(row.Ratio), double.IsInfinity(row.High) ? "no interval" : $"{Number(row.Low)} to {Number(row.High)}",
        $"{Number(row.Base.Value!.Value)} -> {Number(row.New.Value!.Value)}", RunDiff.Name(row.New),
    ];

    private static int Count(RunDiff diff, TimeChange change) => diff.Rows.Count(row => row.Change == change);

    private static string Word(TimeChange change) => change == TimeChange.TooNoisy ? "too noisy to tell" : Text.Kebab(change);

    private static string Number(double value) => value.ToString("G3", CultureInfo.InvariantCulture);

    private static Argument<string?> Run(string name, string description) =>
        new(name) { HelpName = name, Description = description, Arity = ArgumentArity.ZeroOrOne };
}
