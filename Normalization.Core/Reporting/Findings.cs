using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>A piece of a finding's sentence: plain text, or a number with the row it was read from.</summary>
/// <param name="Text">What is shown.</param>
/// <param name="Row">The row; null for plain text.</param>
public readonly record struct FindingPart(string Text, ReportRow? Row)
{
    /// <summary>Plain text.</summary>
    /// <param name="text">The text.</param>
    public static implicit operator FindingPart(string text) => new(text, null);

    /// <summary>A number and its row.</summary>
    /// <param name="row">The row.</param>
    public static implicit operator FindingPart(ReportRow row) => new(
        row.Value is { } value ? $"{ReportText.Number(value)}{(row.Measurement.Unit == "1" ? "" : " " + row.Measurement.Unit)}" : "not formed", row);
}

/// <summary>What the records say about one case: whom to choose, and the numbers that say so.</summary>
/// <param name="Case">The case in a few words.</param>
/// <param name="Choice">The strategies that the numbers favour, in report order; empty where there is nothing to choose.</param>
/// <param name="Answer">What stands in place of a choice: where there is none, or where it is longer to say than who is not in it.</param>
/// <param name="Sentence">Why, every number with its row.</param>
public sealed record Finding(string Case, IReadOnlyList<string> Choice, string Answer, IReadOnlyList<FindingPart> Sentence)
{
    /// <summary>The rows the sentence rests on.</summary>
    public IEnumerable<ReportRow> Rows => Sentence.Where(part => part.Row is not null).Select(part => part.Row!.Value);

    /// <summary>The id of the section that the finding sums up; null where there is no such one.</summary>
    public string? Section { get; init; }

    /// <summary>The sentence without its links.</summary>
    public string Text => string.Concat(Sentence.Select(part => part.Text));
}

/// <summary>The one-screen answer: rules that draw sentences from the records.</summary>
/// <remarks>
/// A rule names no strategy: it picks by measured value, at its worst over the run's scenarios unless it says which, and
/// stays silent where its records are missing. The identity is the yardstick and never a choice; a strategy that failed a check is neither
/// a choice nor a comparison. Values within 5 % of the best, or both no more than rounding, share its place; of times, those whose spreads overlap: where
/// most of four and more do, no fastest is chosen.
/// </remarks>
public static class Findings
{
    private delegate Finding? Rule(RunRows rows);

    private static readonly Rule[] Rules =
    [
        SmallestBatch,
        SmallBatchInference,
        SingleSample,
        Decorrelation,
        FeatureVectors,
        LargeMean,
        HostileInput,
        JacobianSpread,
        Fastest,
        LeavesTheScale,
        Claims,
        GradientsAgree,
    ];

    /// <summary>What the rules find, in the order of the page.</summary>
    /// <param name="run">The records.</param>
    public static IReadOnlyList<Finding> Draw(RunData run)
    {
        ArgumentNullException.ThrowIfNull(run);
        var rows = new RunRows(run);
        return [.. Rules.Select(rule => rule(rows)).OfType<Finding>().Select(finding => Shortened(rows, finding)), .. BenchmarkFindings.Draw(rows)];
    }

    // Of many that are alike, who is left out says more than who is in.
    private static Finding Shortened(RunRows rows, Finding finding)
    {
        const int Readable = 6;
        string[] others = [.. rows.Strategies.Where(strategy => strategy != RunRows.Yardstick && !finding.Choice.Contains(strategy))];
        return finding.Choice.Count <= Readable || others.Length >= finding.Choice.Count ? finding
            : finding with { Answer = others.Length == 0 ? "all" : $"all but {string.Join(", ", others)}" };
    }

    private static Finding? SmallestBatch(RunRows rows)
    {
        if (rows.SmallestBatch(rows.Of("output_noise")) is not { } n) return null;
        var here = rows.Of("output_noise").Where(row => row.Number("n") == n).ToList();
        if (Ranking.Lowest(rows, here) is not { } ranking) return null;

        FindingPart[] sentence =
        [
            $"At N = {ReportText.Number(n)} the noise that the rest of the batch puts on a sample's output, {Over(here)}, {ranking.IsLowest}: ",
            .. ranking.BestValues, .. ranking.Against("most with"), ".", .. FastestOf(rows, ranking),
        ];
        // Who wants batch statistics all the same is told the least noisy of those.
        double rounding = RunRows.Rounding("output_noise");
        string[] noisy = [.. ranking.All.Where(row => row.Value > rounding).Select(row => row.Strategy)];
        if (ranking.Best[0].Value <= rounding && Ranking.Lowest(rows, here.Where(row => noisy.Contains(row.Strategy))) is { } dependent)
        {
            sentence =
            [
                .. sentence, $" Of those that share statistics across samples, {ReportText.List(dependent.Names)} {(dependent.Names.Count == 1 ? "is" : "are")} the least noisy: ",
                .. dependent.BestValues, ".",
            ];
        }

        return ranking.Finding($"Smallest batches (N = {ReportText.Number(n)})", [.. sentence, .. NotFormed(rows, here)]);
    }

    private static Finding? SmallBatchInference(RunRows rows)
    {
        if (rows.SmallestBatch(rows.Of("batch_train_inference_gap")) is not { } n) return null;
        var here = rows.Of("batch_train_inference_gap").Where(row => row.Number("n") == n).ToList();
        return Ranking.Lowest(rows, here)?.Finding(
            "Trained on small batches, then served",
            ranking =>
            [
                $"Trained at N = {ReportText.Number(n)}, the gap between inference and training, {Over(here)}, {ranking.IsLowest}: ", .. ranking.BestValues,
                .. ranking.Against("most with"), ".", .. FastestOf(rows, ranking), .. NotFormed(rows, here),
            ]);
    }

    // Who has to choose among equals is told what they cost.
    private static FindingPart[] FastestOf(RunRows rows, Ranking ranking)
    {
        var times = SpeedRows(rows, "ns_per_element", "forward").Where(row => ranking.Names.Contains(row.Strategy)).ToList();
        var leading = RunRows.Leading(times, Better.Lower);
        if (ranking.Best.Count < 2 || times.Count < 2 || leading.Count == times.Count || !TimesDecide(rows)) return [];
        var fastest = leading.MinBy(row => row.Value);
        return [$" Of the choices {ReportText.List([.. leading.Select(row => row.Strategy)])} {(leading.Count == 1 ? "is" : "are")} the fastest forward: ", fastest, "."];
    }

    // Whether the machine was quiet enough for times to tell strategies apart, in every direction.
    private static bool TimesDecide(RunRows rows) => rows.Directions.All(direction =>
        Ranking.Lowest(rows, SpeedRows(rows, "ns_per_element", direction)) is not { } ranking || RunRows.TellsApart(ranking.Best.Count, ranking.All.Count));

    private static Finding? SingleSample(RunRows rows)
    {
        // Rounding apart, the same output.
        const double Same = 1e-6;
        var gaps = rows.Worst(rows.Of("train_inference_gap"));
        var independence = rows.Of("claim").Where(row => row.Text("claim") == "sample-independence").ToLookup(row => row.Strategy, StringComparer.Ordinal);
        var judged = gaps.Where(gap => independence.Contains(gap.Strategy)).ToList();
        if (judged.Count < 2) return null;

        bool Suits(ReportRow gap) => gap.Value <= Same && independence[gap.Strategy].All(row => row.Text("verdict") is "verified");
        var suited = judged.Where(Suits).ToList();
        var rest = judged.Where(gap => !Suits(gap)).ToList();
        var largest = rest.Where(gap => gap.Value > Same).OrderByDescending(gap => gap.Value).Cast<ReportRow?>().FirstOrDefault();
        FindingPart[] others = largest is { } gap
            ? [$" The largest gap is that of {gap.Strategy} ({gap.Scenario}): ", gap, "."]
            : [];
        if (suited.Count == 0)
            return new Finding("Serving single samples", [], "no strategy here", ["None has both no gap between training and inference and verified independence from the other samples.", .. others]);

        var sentence = new List<FindingPart> { "Same output in training and inference (largest gap " };
        sentence.Add(suited.MaxBy(gap => gap.Value));
        sentence.Add("), and independence from the other samples verified (deviation ");
        sentence.Add(suited.SelectMany(gap => independence[gap.Strategy]).MaxBy(row => row.Value));
        sentence.Add(").");
        return new Finding("Serving single samples", [.. suited.Select(gap => gap.Strategy)], "", [.. sentence, .. others]);
    }

    private static Finding? Decorrelation(RunRows rows)
    {
        const string Scenario = "correlated";
        var all = rows.Of("condition_number_left").Where(row => row.Scenario == Scenario).ToList();
        if (Ranking.Lowest(rows, all) is not { } ranking) return null;
        // The lowest of those that leave correlation in is no answer for who wants none.
        const double Decorrelated = 0.1;
        var correlations = rows.Of("correlation_left").Where(row => row.Scenario == Scenario && row.Value is not null && ranking.Names.Contains(row.Strategy)).ToList();
        var correlated = correlations.Where(row => !(row.Value <= Decorrelated)).ToList();
        string[] chosen = [.. ranking.Names.Where(strategy => !correlated.Any(row => row.Strategy == strategy))];
        var sentence = new List<FindingPart> { $"On correlated channels the condition number left {ranking.IsLowest}: " };
        sentence.AddRange(ranking.BestValues);
        var left = chosen.Length == 0 ? correlations : [.. correlations.Except(correlated)];
        if (left.Count > 0) sentence.AddRange([", with a largest correlation of ", .. Range(left)]);
        foreach (var row in all.Where(row => row.Strategy == RunRows.Yardstick && row.Value is not null && !rows.Failures.Contains(row.Strategy)).Take(1))
            sentence.AddRange([", from ", row, " unnormalized"]);
        sentence.AddRange(ranking.Against("highest with"));
        sentence.Add(".");
        if (chosen.Length == 0) return new Finding("Channels to decorrelate", [], "none of these", sentence);

        if (correlated.Count > 0)
            sentence.AddRange([$" As low, but left with a correlation: {ReportText.List([.. correlated.Select(row => row.Strategy)])} with ", .. Range(correlated), "."]);

        const string Real = "activations";
        var real = rows.Of("condition_number_left").Where(row => row.Scenario == Real).ToList();
        if (Ranking.Lowest(rows, real) is { } there && there.All.Where(row => chosen.Contains(row.Strategy)).ToList() is { Count: > 0 } own)
        {
            string[] names = [.. own.Select(row => row.Strategy)];
            sentence.AddRange([$" On {Real} {ReportText.List(names)} {(names.Length == 1 ? "leaves" : "leave")} ", .. Range(own)]);
            if (!there.Names.Any(names.Contains)) sentence.AddRange([$", and {ReportText.List(there.Names)} the least: ", .. there.BestValues]);
            sentence.Add(".");
        }

        // Of equals the cheapest is told, as for every choice.
        var speeds = SpeedRows(rows, "ns_per_element", "forward");
        var prices = speeds.Where(row => chosen.Contains(row.Strategy)).ToList();
        if (prices.Count > 0 && speeds.Count > prices.Count)
        {
            var paid = prices.MinBy(row => row.Value);
            var cheapest = speeds.Where(row => !chosen.Contains(row.Strategy)).MinBy(row => row.Value);
            sentence.AddRange(
            [
                $" Price, forward{(TimesDecide(rows) ? "" : ", on a machine too busy for more than the order of magnitude")}: ", paid, $"{(chosen.Length == 1 ? "" : $" of {paid.Strategy}")} against ", cheapest,
                $" of {cheapest.Strategy}{(cheapest.Value > 0 ? $" ({ReportText.Number(paid.Value!.Value / cheapest.Value.Value)} times)" : "")}.",
            ]);
        }

        return correlated.Count == 0
            ? ranking.Finding("Channels to decorrelate", [.. sentence])
            : new Finding("Channels to decorrelate", chosen, "", sentence);
    }

    // The lowest and the highest of some rows, or one where they read the same.
    private static FindingPart[] Range(List<ReportRow> rows)
    {
        var low = rows.MinBy(row => row.Value);
        var high = rows.MaxBy(row => double.IsNaN(row.Value!.Value) ? double.PositiveInfinity : row.Value);
        FindingPart from = low, to = high;
        return from.Text == to.Text ? [from] : [from, " to ", to];
    }

    private static Finding? FeatureVectors(RunRows rows)
    {
        var here = rows.All.Where(row => row.Scenario == "features" && row.Measurement.Aspect == Aspects.Outputs && row.Strategy != RunRows.Yardstick).ToList();
        var carrying = rows.Strategies.Where(strategy => rows.Competes(strategy) && here.Any(row => row.Strategy == strategy && row.Value is not null)).ToList();
        var refused = rows.Strategies.Where(strategy => rows.Competes(strategy) && here.Any(row => row.Strategy == strategy) && !carrying.Contains(strategy)).ToList();
        if (carrying.Count + refused.Count < 2) return null;

        var sentence = new List<FindingPart>();
        if (refused.Count > 0)
        {
            // One reason is told; the table of outputs has those of the others.
            var row = here.First(row => row.Strategy == refused[0]);
            string reason = row.Measurement.Note is not { } note ? "" : refused.Count == 1 ? $" ({note.TrimEnd('.')})" : $" (of {refused[0]}: {note.TrimEnd('.')})";
            sentence.AddRange([$"{ReportText.List(refused)} cannot carry (N, C) features: ", row, $"{reason}. "]);
        }

        var worst = rows.Worst(here.Where(row => row.Measurement.Metric == "float_error"));
        if (worst.Count > 0)
        {
            var row = worst.MaxBy(row => row.Value);
            sentence.AddRange([refused.Count == 0 ? "All carry (N, C) features" : "The others carry them", ", with a float error of at most ", row, $" ({row.Strategy})."]);
        }

        // Some that carry them are not made for them, which shows in what they cost.
        var timed = rows.Of("ns_per_element").Where(row => row.Value is not null && carrying.Contains(row.Strategy)
            && row.Text("direction") == SpeedTensors.Forward && row.Text("shape")?.Count(',') == 1).ToList();
        if (timed.Count > 1)
        {
            var (fast, slow) = (timed.MinBy(row => row.Value), timed.MaxBy(row => row.Value));
            sentence.AddRange([$" Forward of {fast.Text("shape")} takes from ", fast, $" ({fast.Strategy}) to ", slow, $" ({slow.Strategy})."]);
        }

        string[] left = [.. rows.Strategies.Where(strategy => !rows.Competes(strategy) && here.Any(row => row.Strategy == strategy && row.Value is not null))];
        if (left.Length > 0) sentence.Add($" {ReportText.List(left)} {(left.Length == 1 ? "carries" : "carry")} them too, but {(left.Length == 1 ? "is" : "are")} never chosen.");

        return sentence.Count == 0 ? null : new Finding("Feature vectors (N, C)", carrying, carrying.Count == 0 ? "no strategy here" : "", sentence);
    }

    private static Finding? LargeMean(RunRows rows)
    {
        // Who does not take the mean away has nothing to lose digits by; a run without claims says nothing of that.
        const string Scenario = "large-mean";
        bool isKnown = rows.Of("claim").Any(row => row.Scenario == Scenario && row.Text("claim") == "shift-invariance");
        var removes = rows.Of("claim").Where(row => row.Scenario == Scenario && row.Text("claim") == "shift-invariance" && row.Text("verdict") is "verified")
            .Select(row => row.Strategy).ToHashSet(StringComparer.Ordinal);
        return Ranking.Lowest(rows, rows.Of("float_error").Where(row => row.Scenario == Scenario && (!isKnown || removes.Contains(row.Strategy))))?.Finding(
            "Mean far above the spread",
            ranking =>
            [
                $"{(isKnown ? "Of those that take a common mean away (verified), under" : "Under")} mean 1e4 with unit variance the error of float against double {ranking.IsLowest}: ", .. ranking.BestValues, .. ranking.Against("most with"), ".", .. FastestOf(rows, ranking),
            ]);
    }

    private static Finding? HostileInput(RunRows rows)
    {
        // A gradient that is damped, or none at all, is no mild one; beside a dead channel the others have unit variance, and 1 is undamped.
        const double Undamped = 0.9;
        var all = rows.Of("gradient_gain").Where(row => row.Scenario is "heavy-tails" or "dead-channel").ToList();
        string[] damping = [.. all.Where(row => row.Scenario == "dead-channel" && row.Value < Undamped).Select(row => row.Strategy).Distinct()];
        var hostile = all.Where(row => !damping.Contains(row.Strategy)).ToList();
        string[] scenarios = [.. hostile.Select(row => row.Scenario).Distinct()];
        return Ranking.Lowest(rows, hostile)?.Finding(
            "Heavy tails or dead channels",
            ranking =>
            [
                $"{(damping.Length == 0 ? "" : "Of those that pass at least 0.9 of a gradient on beside a dead channel: ")}{(scenarios.Length > 1 ? $"{(damping.Length == 0 ? "Of" : "of")} the gradient gains on {ReportText.List(scenarios)} the larger decides; it" : $"{(damping.Length == 0 ? "The" : "the")} gradient gain on {scenarios[0]}")} {ranking.IsLowest}: ",
                .. ranking.BestValues, .. ranking.Against("highest with"), .. Unnormalized(rows, hostile), ".",
            ]);
    }

    // What does next to nothing comes out like nothing at all: the yardstick says so.
    private static FindingPart[] Unnormalized(RunRows rows, List<ReportRow> here)
    {
        var own = here.Where(row => row.Strategy == RunRows.Yardstick && row.Value is not null && !rows.Failures.Contains(row.Strategy)).ToList();
        return own.Count == 0 ? [] : ["; without normalization ", own.MaxBy(row => row.Value)];
    }

    private static Finding? JacobianSpread(RunRows rows)
    {
        var all = rows.Of("jacobian_condition").ToList();
        return Ranking.Lowest(rows, all)?.Finding(
            "Evenly scaled gradients",
            ranking =>
            [
                $"Behind a random linear layer the Jacobian's largest singular value over its median, {Over(all)}, {ranking.IsLowest}: ",
                .. ranking.BestValues, .. ranking.Against("highest with"), .. Unnormalized(rows, all), ".", .. NotFormed(rows, all),
            ]);
    }

    private static Finding? Fastest(RunRows rows)
    {
        // Stores past the caches beat the library's copy by a quarter, inference in cache by some more.
        const double Disturbed = 2;
        var sentence = new List<FindingPart>();
        var leading = new List<IReadOnlyList<string>>();
        foreach (string direction in rows.Directions)
        {
            if (Ranking.Lowest(rows, SpeedRows(rows, "ns_per_element", direction)) is not { } ranking) continue;
            leading.Add(ranking.Names);
            sentence.AddRange([sentence.Count == 0 ? $"On {rows.SpeedSettings[0]}: {direction} " : $"; {direction} "]);
            sentence.AddRange([.. ranking.BestRange, $" ({ReportText.List(ranking.Names)}{(ranking.Best.Count > 1 ? ", tied within their spread" : "")}"]);
            var best = ranking.Best.MinBy(row => row.Value);
            foreach (var copy in SpeedRows(rows, "fraction_of_copy", direction).Where(row => row.Strategy == best.Strategy).Take(1))
                sentence.AddRange(["; ", copy, $" of a memory copy's throughput{(copy.Value > Disturbed ? ": no memory gives that, so the copy was disturbed" : copy.Value > 1 && copy.Low <= 1 ? ": within noise of it" : "")}"]);
            sentence.Add(")");
        }

        if (leading.Count == 0) return null;
        string[] everywhere = [.. leading[0].Where(strategy => leading.All(names => names.Contains(strategy)))];
        if (!TimesDecide(rows))
        {
            sentence.Add(". Where most are tied the machine was too busy for times to tell them apart: time it again when it is quiet.");
            return new Finding("Fastest", [], "too noisy to tell", sentence);
        }

        bool alwaysTied = leading.All(names => names.Count > 1);
        sentence.Add(everywhere.Length > 0 ? alwaysTied ? $". Tied in every direction: another run may name {(everywhere.Length == 1 ? "another" : "others")}." : "." : $". None is the fastest in every direction; named are those of {rows.Directions[0]}.");
        return new Finding("Fastest", everywhere.Length > 0 ? everywhere : leading[0], "", sentence);
    }

    private static Finding? LeavesTheScale(RunRows rows)
    {
        string[] names = [.. rows.Strategies.Where(rows.FollowingScale.Contains)];
        if (names.Length == 0) return null;
        var sentence = new List<FindingPart> { "The output grows with the input, by more than its own size where that is scaled: a deviation from scale invariance of " };
        foreach (string name in names)
        {
            var worst = rows.FollowingScale[name].MaxBy(row => row.Value);
            sentence.AddRange([sentence.Count == 1 ? "" : ", ", worst, $" ({name}, {worst.Scenario})"]);
        }

        return new Finding("Not recommended", [], ReportText.List(names), [.. sentence, ". Such a layer, as new, does well at all that asks for doing nothing; no line above chooses it."]);
    }

    private static Finding? Claims(RunRows rows)
    {
        const string Name = "Declared properties";
        var declared = rows.Of("claim").Where(row => row.Flag("declared")).ToList();
        if (declared.Count == 0) return null;
        var measured = declared.Where(row => row.Value is not null).ToList();
        var refuted = measured.Where(row => row.Text("verdict") == "refuted").ToList();

        // What was measured on no scenario at all was not held to its word.
        var missing = declared.Where(row => row.Value is null).ToList();
        var unproved = declared.GroupBy(row => (row.Strategy, Claim: row.Text("claim"))).Where(claim => claim.All(row => row.Value is null)).ToList();
        FindingPart[] untested =
        [
            // A row without a claim states that none could be formed on its scenario.
            .. Missing(rows, rows.Of("claim").Where(row => row.Text("claim").Length == 0)),
            .. missing.Count == 0 ? [] : new FindingPart[]
            {
                $" {ReportText.Count(missing.Count, "check")} could not be formed, such as {missing[0].Text("claim")} of {missing[0].Strategy} on {missing[0].Scenario}: ", missing[0], ".",
            },
            .. unproved.Count == 0 ? [] : new FindingPart[]
            {
                $" Measured on no scenario: {ReportText.List([.. unproved.Select(claim => $"{claim.Key.Claim} of {claim.Key.Strategy}")])}.",
            },
        ];
        string unprovedToo = unproved.Count == 0 ? "" : $", {unproved.Count} not measured";
        if (measured.Count == 0) return new Finding(Name, [], "not measured", ["None of the declared properties was measured.", .. untested]);

        if (refuted.Count == 0)
        {
            // Of dependence a large deviation is the proof.
            var invariances = measured.Where(row => row.Text("claim") != RunRows.DependenceClaim).ToList();
            FindingPart[] largest = invariances.Count == 0 ? [] : ["; the largest deviation from an invariance is ", invariances.MaxBy(row => row.Value)];
            return new Finding(Name, [], "none refuted" + unprovedToo, [$"All {measured.Count} measured checks of declared properties hold", .. largest, ".", .. untested]);
        }

        var claims = refuted.GroupBy(row => (row.Strategy, Claim: row.Text("claim"))).ToList();
        var sentence = new List<FindingPart>();
        foreach (var claim in claims)
        {
            var worst = claim.MaxBy(row => row.Value);
            int scenarios = claim.Select(row => row.Scenario).Distinct().Count();
            string where = scenarios == 1 ? $"on {worst.Scenario}" : $"on {scenarios} scenarios, worst on {worst.Scenario}";
            sentence.AddRange([sentence.Count == 0 ? "" : "; ", $"{claim.Key.Claim} of {claim.Key.Strategy} {where}: deviation ", worst]);
        }

        return new Finding(Name, [], $"✗ {claims.Count} refuted" + unprovedToo, [.. sentence, ".", .. untested]);
    }

    private static Finding? GradientsAgree(RunRows rows)
    {
        // What five-point differences in double can resolve, with room for a badly scaled input.
        const double Resolved = 1e-6;
        var worst = rows.WorstOfAll(rows.Of("gradient_error_input").Concat(rows.Of("gradient_error_parameter")));
        if (worst.Count == 0) return null;
        var row = worst.MaxBy(row => double.IsNaN(row.Value!.Value) ? double.PositiveInfinity : row.Value);
        return new Finding(
            "Analytic gradients", [], row.Value <= Resolved ? "agree with differences" : "✗ differ from differences",
            ["The largest departure from five-point differences, over inputs, parameters and scenarios, is ", row, $" ({row.Strategy}, {row.Scenario})."]);
    }

    private static string Over(IEnumerable<ReportRow> rows)
    {
        string[] scenarios = [.. rows.Where(row => row.Value is not null).Select(row => row.Scenario).Distinct()];
        return scenarios.Length == 1 ? $"on {scenarios[0]}" : $"at its worst over {scenarios.Length} scenarios";
    }

    private static List<FindingPart> NotFormed(RunRows rows, IEnumerable<ReportRow> here) => Missing(rows, here.Where(row => rows.Competes(row.Strategy)));

    // Who has no value on which scenarios, those alike together, with a row that says why.
    private static List<FindingPart> Missing(RunRows rows, IEnumerable<ReportRow> here)
    {
        var missing = here.Where(row => row.Value is null).ToLookup(row => row.Strategy, StringComparer.Ordinal);
        var parts = new List<FindingPart>();
        foreach (var alike in rows.Strategies.Where(missing.Contains).GroupBy(strategy => ReportText.List([.. missing[strategy].Select(row => row.Scenario).Distinct()])))
            parts.AddRange([$" {ReportText.List([.. alike])} on {alike.Key}: ", missing[alike.First()].First(), "."]);
        return parts;
    }

    // On the largest tensor that was timed.
    private static List<ReportRow> SpeedRows(RunRows rows, string metric, string direction) => rows.SpeedSettings.Count == 0 ? [] :
    [
        .. rows.Of(metric).Where(row => row.Value is { } value && !double.IsNaN(value) && rows.Competes(row.Strategy)
            && row.Text("direction") == direction && SpeedSetting.Of(row) == rows.SpeedSettings[0]),
    ];

    /// <summary>Strategies in the order of a measured value, one row each: that of their worst scenario.</summary>
    private sealed class Ranking
    {
        private readonly bool _severalScenarios;

        private Ranking(List<ReportRow> all, List<ReportRow> best, ReportRow last, bool severalScenarios) =>
            (All, Best, Last, _severalScenarios) = (all, best, last, severalScenarios);

        public List<ReportRow> All { get; }

        /// <summary>The best and those that share its place, in report order.</summary>
        public List<ReportRow> Best { get; }

        private ReportRow Last { get; }

        public List<string> Names => [.. Best.Select(row => row.Strategy)];

        /// <summary>The verb: what is said of the best, or of all where they are alike.</summary>
        public string IsLowest => !AllAlike ? "is lowest" : High.Value <= Step ? "is no more than rounding for all" : Low.Value == High.Value ? "is the same for all" : "is within 5 % for all";

        /// <summary>The best value, how it is shared, and the scenario it comes from.</summary>
        public FindingPart[] BestValues => [.. BestRange, Sharing, Where(Best)];

        /// <summary>The best value, or the range of those that share its place.</summary>
        public FindingPart[] BestRange => Range(Best);

        private bool AllAlike => Best.Count == All.Count;

        private ReportRow Low => Best.MinBy(row => row.Value);

        private ReportRow High => Best.MaxBy(row => row.Value);

        private double Step => RunRows.Rounding(Last.Measurement.Metric);

        private string Sharing => AllAlike || Best.Count == 1 ? ""
            : Low.Value == High.Value ? $" ({Best.Count} tied)" : $" ({Best.Count} tied within {(High.Value <= Step ? "rounding" : "5 %")})";

        public static Ranking? Lowest(RunRows rows, IEnumerable<ReportRow> of) => Of(rows, of, Better.Lower);

        /// <summary>The other end, where not all are tied, and who has no number.</summary>
        public FindingPart[] Against(string how)
        {
            FindingPart[] other = Best.Any(row => row.Index == Last.Index) ? [] : [$"; {how} {Last.Strategy}: ", Last, Where([Last])];
            return [.. other, .. All.Where(row => double.IsNaN(row.Value!.Value)).SelectMany(row => new FindingPart[] { $"; no number with {row.Strategy}: ", row, Where([row]) })];
        }

        public Finding Finding(string name, FindingPart[] sentence) =>
            AllAlike ? new(name, [], "all alike", sentence) : new(name, Names, "", sentence);

        public Finding Finding(string name, Func<Ranking, FindingPart[]> sentence) => Finding(name, sentence(this));

        // What is rounding comes from no scenario in particular.
        private string Where(List<ReportRow> rows)
        {
            string[] scenarios = [.. rows.Where(row => !(row.Value <= Step)).Select(row => row.Scenario).Distinct()];
            return _severalScenarios && scenarios.Length > 0 ? $" on {ReportText.List(scenarios)}" : "";
        }

        // A comparison needs two.
        private static Ranking? Of(RunRows rows, IEnumerable<ReportRow> of, Better better)
        {
            var measured = of.Where(row => row.Value is not null).ToList();
            var all = rows.Worst(measured);
            var best = RunRows.Leading(all, better);
            if (all.Count < 2 || best.Count == 0) return null;
            var numbers = all.Where(row => !double.IsNaN(row.Value!.Value));
            var last = better == Better.Lower ? numbers.MaxBy(row => row.Value) : numbers.MinBy(row => row.Value);
            return new Ranking(all, best, last, measured.Select(row => row.Scenario).Distinct().Count() > 1);
        }
    }
}
