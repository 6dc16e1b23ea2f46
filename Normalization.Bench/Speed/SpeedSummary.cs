using System.Globalization;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Bench.Speed;

/// <summary>What a run of the benchmark comes to, in lines for stdout.</summary>
internal static class SpeedSummary
{
    /// <summary>Cells, losses, geometric means; the peers' versions come from the header.</summary>
    public static IEnumerable<string> Lines(RunData run)
    {
        Measurement[] cells = [.. run.Measurements.Where(row => row.Metric == "speedup_vs_fastest_peer" && row.Value is not null)];
        ILookup<SpeedVerdict, Measurement> verdicts = cells.ToLookup(row => BenchmarkCell.VerdictOf(row.Spread![0], row.Spread[1]));
        Measurement[] losing = [.. verdicts[SpeedVerdict.Loses]];
        Measurement[] crossChecks = [.. run.Measurements.Where(row => row.Parameters!["engine"] is "benchmarkdotnet")];
        int alone = run.Cases.Count(IsTimedAlone);
        yield return $"{ReportText.Count(cells.Length, "cell")} timed beside a peer: {verdicts[SpeedVerdict.Wins].Count()} faster than the fastest, {verdicts[SpeedVerdict.Level].Count()} level, {verdicts[SpeedVerdict.Undecided].Count()} undecided, "
            + $"{losing.Length} slower; {ReportText.Count(alone, "case")} beside the copy alone.";
        foreach (Measurement row in losing)
        {
            yield return $"loses: {Cell(row)}: {Ratio(row)} times the speed of {row.Note}";
        }

        foreach (string peer in Peers.Ids.Where(run.Header.Settings.ContainsKey))
        {
            string name = run.Header.Settings[peer];
            double[] ratios = [.. run.Measurements.Where(row => row.Metric == $"speedup_vs_{peer}" && row.Value is not null && row.Parameters!["threads"] is 1L).Select(row => row.Value!.Value)];
            yield return ratios.Length == 0
                ? $"{peer}: no cell on one thread ({name})."
                : string.Create(CultureInfo.InvariantCulture, $"{name}: {GeometricMean(ratios):0.00} times its speed, geometric mean of {ReportText.Count(ratios.Length, "cell")} on one thread.");
        }

        foreach (string line in LargeTensors(new RunRows(run).Benchmark.Bounded))
        {
            yield return line;
        }

        foreach (Measurement row in crossChecks)
        {
            yield return CrossCheck(run, row);
        }
    }

    private static IEnumerable<string> LargeTensors(IReadOnlyList<BoundedCell> bounded)
    {
        foreach (var threads in bounded.GroupBy(cell => cell.Cell.Threads).OrderBy(group => group.Key))
        {
            var counts = threads.GroupBy(cell => cell.IsOfFive).OrderByDescending(group => group.Key).Select(group => string.Create(
                CultureInfo.InvariantCulture,
                $"{group.Count(cell => cell.Reaches)} of {group.Count()} cells of {(group.Key ? string.Join(", ", BoundedCell.Five) : "the other strategies")} reach {group.First().Asked} of the bound, {group.Count(cell => cell.Cell.Formed("fraction_of_copy")?.Value >= cell.Least)} of the copy"));
            yield return $"25 MB and more, {ReportText.Count(threads.Key, "thread")}: {string.Join("; ", counts)}.";
        }
    }

    // Neither what failed nor what was not timed.
    private static bool IsTimedAlone(CaseRecord record) => record.Failure is null
        && record.Measurements.Any(row => row.Metric == "ns_per_element" && row.Value is not null && row.Parameters!["engine"] is "interleaved")
        && !record.Measurements.Any(row => row.Metric == "speedup_vs_fastest_peer" && row.Value is not null);

    // Two engines agree where their intervals overlap.
    private static string CrossCheck(RunData run, Measurement check)
    {
        Measurement? Of(string engine) => run.Measurements.FirstOrDefault(row => row.Metric == check.Metric && row.Strategy == check.Strategy && row.Value is not null
            && Cell(row) == Cell(check) && row.Parameters!["engine"] as string == engine && !row.Parameters.ContainsKey("scaling"));
        string turns = Of("interleaved") is { } interleaved ? $"in turns {Ratio(interleaved)}" : "not timed in turns";
        return check.Value is null ? $"BenchmarkDotNet, {Cell(check)}: {check.Note}"
            : Of(Speed.CrossCheck.Alone) is not { } alone ? $"BenchmarkDotNet, {Cell(check)}: {Ratio(check)} ns/element; {turns}"
            : $"BenchmarkDotNet, {Cell(check)}: {Ratio(check)} ns/element, our clock {Ratio(alone)}: "
                + $"{(check.Spread![0] <= alone.Spread![1] && alone.Spread[0] <= check.Spread[1] ? "they agree" : "they differ")}; {turns}";
    }

    /// <summary>The geometric mean of ratios.</summary>
    public static double GeometricMean(IEnumerable<double> ratios) => Math.Exp(ratios.Average(Math.Log));

    private static string Cell(Measurement row)
    {
        string Text(string parameter) => Convert.ToString(row.Parameters![parameter], CultureInfo.InvariantCulture)!;
        return $"{row.Strategy} {Text("direction")} {Text("shape")} {Text("layout")}, {Text("threads")} thread{(Text("threads") == "1" ? "" : "s")}";
    }

    private static string Ratio(Measurement row) =>
        string.Create(CultureInfo.InvariantCulture, $"{row.Value:0.00#} [{row.Spread![0]:0.00#}, {row.Spread[1]:0.00#}]");
}
