using System.Globalization;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>What the speed benchmark comes to, in sentences: rules over its cells, each silent where its rows are missing.</summary>
internal static class BenchmarkFindings
{
    private const string Copy = "fraction_of_copy", Time = "ns_per_element", Allocated = "bytes_allocated";

    // More than these would hide the other answers; the table of losing cells has all.
    private const int MostNamed = 4;

    private delegate IEnumerable<Finding> Rule(BenchmarkCells cells);

    private const string AllAlike = "all alike";

    private static readonly Rule[] Rules = [Measured, FastestPeer, EachPeer, LargeTensors, BothPasses, Growth, Threads, Allocation, Networks, CrossCheck];

    /// <summary>What the rules find, in the order of the page.</summary>
    public static IEnumerable<Finding> Draw(RunRows rows) => Rules.SelectMany(rule => rule(rows.Benchmark));

    private static IEnumerable<Finding> Measured(BenchmarkCells all)
    {
        if (all.Cells.Count == 0) yield break;
        var cells = all.Cells;
        string[] missing = [.. all.Peers.Where(peer => cells.All(cell => cell.Formed(peer) is null)).Select(BenchmarkCells.PeerName)];
        string[] present = ["a memory copy", .. all.Peers.Select(BenchmarkCells.PeerName).Except(missing)];
        double least = cells.Min(cell => cell.Setting.Elements), most = cells.Max(cell => cell.Setting.Elements);
        var unformed = cells.Where(cell => cell.Formed(Time) is null).ToList();
        var times = cells.Select(cell => cell.Formed(Time)).OfType<ReportRow>().ToList();
        var sentence = new List<FindingPart>
        {
            $"{ReportText.Count(cells.Select(cell => cell.Strategy).Distinct().Count(), "strategy", "strategies")}, "
            + $"{ReportText.List(Distinct(cell => cell.Direction))}, on {ReportText.Count(cells.Select(cell => cell.Setting.Shape).Distinct().Count(), "shape")}"
            + $" of {(least == most ? "" : Whole(least) + " to ")}{Whole(most)} elements, "
            + $"{ReportText.List(Distinct(cell => cell.Setting.Layout))}, on {ReportText.List(Distinct(cell => cell.ThreadsText))}; timed in turns with {ReportText.List(present)}",
        };
        if (missing.Length > 0) sentence.Add($", without {ReportText.List(missing)}");
        if (times.Count > 0) sentence.AddRange(["; from ", times.MinBy(row => row.Value), " to ", times.MaxBy(row => row.Value)]);
        sentence.Add(".");
        if (unformed.Count > 0) sentence.Add($" Not timed: {ReportText.List([.. unformed.Take(MostNamed).Select(cell => cell.Name)])}{More(unformed.Count)}.");
        yield return new Finding("Cells", [], ReportText.Count(cells.Count, "cell"), sentence);

        static string Whole(double number) => number.ToString("N0", CultureInfo.InvariantCulture);

        string[] Distinct(Func<BenchmarkCell, string> name) => [.. cells.Select(name).Where(text => text.Length > 0).Distinct()];
    }

    private static IEnumerable<Finding> FastestPeer(BenchmarkCells all)
    {
        var held = all.Cells.Where(cell => cell.Verdict != SpeedVerdict.NoPeer).ToList();
        if (held.Count == 0) yield break;
        var losing = held.Where(cell => cell.Verdict == SpeedVerdict.Loses).OrderBy(Ratio).ToList();
        var sentence = new List<FindingPart>
        {
            $"A cell loses where (peer's time / ours) is below 0.97 at the upper end of its 95 % interval. {Number(SpeedVerdict.Wins)} win, "
            + $"{Number(SpeedVerdict.Level)} are level, {Number(SpeedVerdict.Undecided)} undecided",
        };
        foreach (var cell in losing.Take(MostNamed)) sentence.AddRange([sentence.Count == 1 ? "; losing: " : "; ", $"{cell.Name} ", WithInterval(cell[BenchmarkCells.FastestPeer]!.Value)]);
        if (losing.Count == 0) sentence.AddRange(["; the closest is ", held.MinBy(Ratio)!.Name, " with ", WithInterval(held.MinBy(Ratio)![BenchmarkCells.FastestPeer]!.Value)]);
        sentence.Add(More(losing.Count) + ".");
        yield return new Finding(
            "Against the fastest peer", [],
            losing.Count == 0 ? $"✓ none of {ReportText.Count(held.Count, "cell")} loses" : $"✗ {losing.Count} of {ReportText.Count(held.Count, "cell")} {(losing.Count == 1 ? "loses" : "lose")}", sentence);

        int Number(SpeedVerdict verdict) => held.Count(cell => cell.Verdict == verdict);
        static double Ratio(BenchmarkCell cell) => cell[BenchmarkCells.FastestPeer]!.Value.Value!.Value;
    }

    private static IEnumerable<Finding> EachPeer(BenchmarkCells all)
    {
        if (all.Cells.Count == 0) yield break;
        int threads = all.Cells.Min(cell => cell.Threads);
        foreach (string peer in all.Peers)
        {
            string name = BenchmarkCells.PeerName(peer);
            var rows = all.Cells.Where(cell => cell.Threads == threads).Select(cell => (Cell: cell, Row: cell.Formed(peer))).ToList();
            var held = rows.Where(pair => pair.Row is not null).ToList();
            if (held.Count == 0)
            {
                string? reason = rows.Select(pair => pair.Cell[peer]?.Measurement.Note).FirstOrDefault(note => note is not null);
                yield return new Finding($"Against {name}", [], "✗ not measured", [$"{name} is missing from this run{(reason is null ? "" : $": {reason.TrimEnd('.')}")}."]);
                continue;
            }

            var least = held.MinBy(pair => pair.Row!.Value.Value);
            var most = held.MaxBy(pair => pair.Row!.Value.Value);
            string[] reasons = [.. rows.Where(pair => pair.Row is null).Select(pair => pair.Cell[peer]?.Measurement.Note?.TrimEnd('.')).OfType<string>().Distinct()];
            yield return new Finding(
                $"Against {name}", [], $"{ReportText.Number(BenchmarkCells.GeometricMean(held.Select(pair => pair.Row!.Value.Value!.Value)))} times as fast",
                [
                    $"Geometric mean over the {ReportText.Count(held.Count, "cell")} that it has, on {ReportText.Count(threads, "thread")}; from ", WithInterval(least.Row!.Value), $" ({Briefly(least.Cell)}) to ",
                    WithInterval(most.Row!.Value), $" ({Briefly(most.Cell)}).",
                    reasons.Length == 0 ? "" : $" Without it: {string.Join("; ", reasons.Take(MostNamed))}{More(reasons.Length)}.",
                ]);
        }
    }

    private static IEnumerable<Finding> Networks(BenchmarkCells all)
    {
        foreach (var network in all.Networks.GroupBy(cell => cell.Network))
        {
            var sentence = new List<FindingPart> { "How many times PyTorch's speed: " };
            foreach (BenchmarkCell cell in network)
            {
                sentence.AddRange([sentence.Count == 1 ? "" : "; ", $"{cell.Strategy}, {cell.ThreadsText}, "]);
                sentence.Add(cell.Formed("speedup_vs_pytorch") is { } ratio ? WithInterval(ratio) : "not timed");
            }

            sentence.Add(".");
            var held = network.Select(cell => (cell.Asked, Ratio: cell.Formed("speedup_vs_pytorch"))).Where(pair => pair.Ratio is not null).ToList();
            yield return new Finding(
                $"A training step, {network.Key}", [],
                held.Count == 0 ? "✗ PyTorch was not timed" : $"{held.Count(pair => pair.Ratio!.Value.Low >= pair.Asked)} of {held.Count} as fast as asked ({ReportText.Number(held[0].Asked ?? 1)} times PyTorch)", sentence);
        }
    }

    private static IEnumerable<Finding> LargeTensors(BenchmarkCells all)
    {
        const string Case = "Tensors of 25 MB and more";
        var bounded = all.Bounded;
        if (bounded.Count == 0)
        {
            // Of an older version, which had no bound.
            var large = all.Cells.Where(cell => cell.Setting.Elements * sizeof(float) >= SpeedTensors.LargeBytes && cell.Formed(Copy) is not null).ToList();
            if (large.Count == 0) yield break;
            var least = large.MinBy(cell => cell.Formed(Copy)!.Value.Value)!;
            int copying = large.Count(Reaches);
            yield return new Finding(
                Case, [], $"{(copying == large.Count ? "✓" : "✗")} {ReportText.Number(Math.Round(100.0 * copying / large.Count))} % reach 0.9 of the copy",
                [$"Those that do: {Directions(large, cell => cell, Reaches)}; the lowest is ", WithInterval(least.Formed(Copy)!.Value), $" ({least.Name})."]);
            yield break;
        }

        List<BoundedCell>[] groups = [.. bounded.GroupBy(cell => cell.IsOfFive).OrderByDescending(group => group.Key).Select(group => group.ToList())];
        var sentence = new List<FindingPart>();
        foreach (var group in groups)
        {
            var lowest = group.MinBy(cell => cell.Fraction.Value)!;
            sentence.AddRange(
            [
                sentence.Count == 0 ? $"Those that do, {(lowest.IsOfFive ? "of the five strategies that peers have too" : "of strategies that no peer has")}: {Directions(group, cell => cell.Cell, cell => cell.Reaches)}"
                    : $" Of the others {group.Count(cell => cell.Reaches)} of {group.Count} reach {lowest.Asked}",
                "; the lowest is ", WithInterval(lowest.Fraction), $" ({lowest.Cell.Name}).",
            ]);
        }

        int fewest = bounded.Min(cell => cell.Cell.Threads);
        foreach (var read in bounded.Where(cell => cell.Cell.Threads == fewest).Select(cell => cell.Cell.Formed("second_read_ns_per_element")).OfType<ReportRow>().GroupBy(row => row.Measurement.Note ?? ""))
            sentence.AddRange([$" A second read of {read.Key} costs from ", read.MinBy(row => row.Value), " to ", read.MaxBy(row => row.Value), $" on {ReportText.Count(fewest, "thread")}."]);

        int reaching = groups[0].Count(cell => cell.Reaches);
        yield return new Finding(
            Case, [], $"{(reaching == groups[0].Count ? "✓" : "✗")} {reaching} of {ReportText.Count(groups[0].Count, "cell")} reach {groups[0][0].Asked} of the bound", sentence);

        static bool Reaches(BenchmarkCell cell) => cell.Formed(Copy)!.Value.Value!.Value >= BoundedCell.LeastOfFive;

        static string Directions<T>(List<T> cells, Func<T, BenchmarkCell> cellOf, Func<T, bool> reaches) =>
            string.Join(", ", cells.GroupBy(cell => cellOf(cell).Direction).Select(group => $"{group.Key} {group.Count(reaches)} of {group.Count()}"));
    }

    // Strategies that are timed on both passes together are there to be chosen between: tensor by tensor, the fastest first.
    private static IEnumerable<Finding> BothPasses(BenchmarkCells all)
    {
        var tensors = all.Cells.Where(cell => cell.Direction.Contains('+', StringComparison.Ordinal) && cell.Remark.Length == 0 && cell.Formed(Time) is not null)
            .GroupBy(cell => cell.Setting).Where(group => group.Count() > 1).ToList();
        if (tensors.Count == 0) yield break;
        var sentence = new List<FindingPart>();
        foreach (var tensor in tensors)
        {
            sentence.Add($"{(sentence.Count == 0 ? "" : " ")}{tensor.Key}: ");
            foreach (var cell in tensor.OrderBy(cell => cell.Formed(Time)!.Value.Value))
                sentence.AddRange([$"{(sentence[^1].Row is null ? "" : ", ")}{cell.Strategy} ", cell.Formed(Time)!.Value]);
            sentence.Add(".");
        }

        // Those whose intervals reach the fastest's are as fast.
        bool severalThreads = tensors.Select(tensor => tensor.First().ThreadsText).Distinct().Count() > 1;
        var fastest = tensors.Select(tensor => (Tensor: tensor.Key.Shape + (severalThreads ? $" on {tensor.First().ThreadsText}" : ""), Names: FastestOf([.. tensor]))).ToList();
        yield return new Finding(
            "Forward and backward together",
            [],
            fastest.Select(one => one.Names).Distinct().Count() == 1
                ? fastest[0].Names == AllAlike ? AllAlike : $"{fastest[0].Names} fastest on every tensor"
                : "fastest: " + string.Join("; ", fastest.Select(one => $"{one.Names} on {one.Tensor}")),
            sentence);

        static string FastestOf(List<BenchmarkCell> cells)
        {
            var least = cells.MinBy(cell => cell.Formed(Time)!.Value.Value)!.Formed(Time)!.Value;
            string[] slower = [.. cells.Where(cell => cell.Formed(Time)!.Value.Low > least.High).Select(cell => cell.Strategy)];
            return slower.Length == 0 ? AllAlike
                : slower.Length == 1 && cells.Count > 2 ? $"all but {slower[0]}"
                : ReportText.List([.. cells.Select(cell => cell.Strategy).Except(slower)]);
        }
    }

    private static IEnumerable<Finding> Growth(BenchmarkCells all)
    {
        List<GrowthPoint> points = all.Growth();
        var judged = points.Where(point => point.Measure is not null).ToList();
        if (judged.Count == 0) yield break;
        var broken = judged.Where(point => point.Holds == false).ToList();
        var sentence = new List<FindingPart>();
        if (judged.Where(point => point.IsLarge).MinBy(point => point.Measure) is { } lowest)
            sentence.AddRange(["From 2^22 elements on the fraction of the copy is at least ", lowest.Cell.Formed(Copy)!.Value, $" ({lowest.Cell.Name})"]);
        if (judged.Where(point => !point.IsLarge).MaxBy(point => point.Measure) is { } slowest)
        {
            sentence.AddRange(
            [
                sentence.Count == 0 ? "Below" : "; below", $" 2^22 the time an element is at most {ReportText.Number(slowest.Measure!.Value)} times that at 2^22: ",
                slowest.Cell.Formed(Time)!.Value, $" ({slowest.Cell.Name})",
            ]);
        }

        sentence.Add(".");
        yield return new Finding(
            "Growth with size", [],
            (broken.Count > 0 ? $"✗ beyond its limits in {broken.Count} of {ReportText.Count(judged.Count, "point")}"
                : $"{(judged.Count == points.Count ? "✓ " : "")}within its limits in {ReportText.Count(judged.Count, "point")}")
                + (judged.Count == points.Count ? "" : $", {points.Count - judged.Count} not timed"), sentence);
    }

    // What the threads gain over one, against what the copy gains: the quotient of the two fractions of the copy.
    private static IEnumerable<Finding> Threads(BenchmarkCells all)
    {
        const double Elements = 1 << 20, Least = 0.9;
        var single = all.Cells.Where(cell => cell.Threads == 1).ToDictionary(cell => cell.KeyWithout("threads"), StringComparer.Ordinal);
        var pairs = all.Cells.Where(cell => cell.Threads > 1 && cell.Setting.Elements >= Elements && single.ContainsKey(cell.KeyWithout("threads")))
            .Select(cell => (Many: cell, One: single[cell.KeyWithout("threads")]))
            .Where(pair => new[] { pair.Many, pair.One }.All(cell => cell.Formed(Copy) is not null && cell.Formed(Time) is not null)).ToList();
        if (pairs.Count == 0) yield break;

        static double Gain((BenchmarkCell Many, BenchmarkCell One) pair) => pair.Many.Formed(Copy)!.Value.Value!.Value / pair.One.Formed(Copy)!.Value.Value!.Value;
        static bool Slower((BenchmarkCell Many, BenchmarkCell One) pair) => pair.Many.Formed(Time)!.Value.Low > pair.One.Formed(Time)!.Value.High;
        var least = pairs.MinBy(Gain);
        int reaching = pairs.Count(pair => Gain(pair) >= Least);
        int slower = pairs.Count(Slower);
        yield return new Finding(
            "More threads", [], $"{(reaching == pairs.Count && slower == 0 ? "✓" : "✗")} {reaching} of {ReportText.Count(pairs.Count, "cell")} gain as the copy does",
            [
                $"Tensors of 2^20 elements and more; gaining as the copy does is 0.9 of its gain over one thread. {(slower == 0 ? "None is" : $"{slower} {(slower == 1 ? "is" : "are")}")} slower than on one thread. "
                + $"The least gain is {ReportText.Number(Gain(least))} of the copy's: ", least.One.Formed(Time)!.Value, " to ", least.Many.Formed(Time)!.Value, $" ({least.Many.Name}).",
            ]);
    }

    private static IEnumerable<Finding> Allocation(BenchmarkCells all)
    {
        var measured = all.Cells.Where(cell => cell.Formed(Allocated) is not null).ToList();
        if (measured.Count == 0) yield break;
        var most = measured.MaxBy(cell => cell.Formed(Allocated)!.Value.Value)!;
        int allocating = measured.Count(cell => cell.Formed(Allocated)!.Value.Value > 0);
        yield return new Finding(
            "Memory allocated by a warm call", [], allocating == 0 ? "✓ none" : $"✗ by {allocating} of {ReportText.Count(measured.Count, "cell")}",
            ["At most ", most.Formed(Allocated)!.Value, allocating == 0 ? $" in {ReportText.Count(measured.Count, "cell")}." : $" ({most.Name})."]);
    }

    private static IEnumerable<Finding> CrossCheck(BenchmarkCells all)
    {
        var held = all.CrossChecks().Select(pair => (pair.Check, One: pair.Check.Formed(Time), Other: pair.Alone?.Formed(Time)))
            .Where(pair => pair.One is not null && pair.Other is not null).ToList();
        if (held.Count == 0) yield break;
        var differing = held.Where(pair => !BenchmarkCells.Agree(pair.One!.Value, pair.Other!.Value)).ToList();
        var (check, one, other) = held.MaxBy(pair => Math.Abs(Math.Log(pair.One!.Value.Value!.Value / pair.Other!.Value.Value!.Value)));
        yield return new Finding(
            "BenchmarkDotNet as a cross-check", [],
            differing.Count == 0 ? $"✓ agrees in {ReportText.Count(held.Count, "cell")}" : $"✗ differs in {differing.Count} of {ReportText.Count(held.Count, "cell")}",
            ["Engines agree where their intervals overlap. Furthest apart: ", other!.Value, " by our clock, ", one!.Value, $" by BenchmarkDotNet ({check.Name})."]);
    }

    private static FindingPart WithInterval(ReportRow row) => row.Measurement.Spread is { Count: 2 } spread
        ? new FindingPart($"{ReportText.Number(row.Value!.Value)} ({ReportText.Number(spread[0])} – {ReportText.Number(spread[1])})", row)
        : row;

    private static string Briefly(BenchmarkCell cell) => $"{cell.Strategy} {cell.Direction} {cell.Setting.Shape}{(cell.Setting.Layout == "channels-last" ? ", channels-last" : "")}";

    private static string More(int count) => count > MostNamed ? $"; {count - MostNamed} more" : "";
}
