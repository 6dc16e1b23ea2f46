using System.Globalization;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>A strategy as the report names it.</summary>
/// <param name="Id">The contestant's id.</param>
/// <param name="Axes">Which elements share statistics, in words.</param>
/// <param name="Options">The options it ran with, in words.</param>
public sealed record StrategyDescription(string Id, string Axes, string Options);

/// <summary>A scenario as the report names it.</summary>
/// <param name="Id">The scenario's id.</param>
/// <param name="Title">A few words.</param>
/// <param name="Description">Distribution, shape and what it is for, in a sentence or two.</param>
public sealed record ScenarioDescription(string Id, string Title, string Description);

/// <summary>The first line of records.jsonl: where and how a run was made.</summary>
public sealed record RunHeader
{
    /// <summary>The version of the records' format.</summary>
    public int SchemaVersion { get; init; } = 1;

    /// <summary>The machine, the runtime, the command line; display names to values, in order.</summary>
    public required RunEnvironment Environment { get; init; }

    /// <summary>Everything that changes the results, by option name, in order; a resumed run must have the same.</summary>
    public required IReadOnlyDictionary<string, string> Settings { get; init; }

    /// <summary>The contestants, in the order they are reported.</summary>
    public required IReadOnlyList<StrategyDescription> Strategies { get; init; }

    /// <summary>The scenarios, in the order they are reported.</summary>
    public required IReadOnlyList<ScenarioDescription> Scenarios { get; init; }

    /// <summary>The training experiments, in the order they are reported; null where the run trains nothing.</summary>
    public IReadOnlyList<ExperimentDescription>? Experiments { get; init; }

    /// <summary>How many cases the whole run has; a file with fewer is incomplete.</summary>
    public required int CaseCount { get; init; }

    /// <summary>What makes two runs different runs whatever machine they are on: settings, program, what is measured; a phrase each.</summary>
    internal IReadOnlyList<string> DifferencesTo(RunHeader other)
    {
        var values = new List<(string, string?, string?)> { ("schemaVersion", Text(SchemaVersion), Text(other.SchemaVersion)) };
        foreach (string name in Settings.Keys.Union(other.Settings.Keys, StringComparer.Ordinal))
            values.Add((name, Settings.GetValueOrDefault(name), other.Settings.GetValueOrDefault(name)));
        AddEach("strategies",
            [.. Strategies.Select(strategy => (strategy.Id, $"{strategy.Axes}; {strategy.Options}"))],
            [.. other.Strategies.Select(strategy => (strategy.Id, $"{strategy.Axes}; {strategy.Options}"))]);
        AddEach("scenarios",
            [.. Scenarios.Select(scenario => (scenario.Id, scenario.Description))],
            [.. other.Scenarios.Select(scenario => (scenario.Id, scenario.Description))]);
        if (!Settings.ContainsKey("seed")) values.Add(("seed", Text(Environment.Seed), Text(other.Environment.Seed)));

        // What a training run records does not depend on its threads.
        if (!Settings.ContainsKey("threads") && Experiments is null) values.Add(("threads", Text(Environment.Threads), Text(other.Environment.Threads)));
        values.Add(("claims", Claims(this), Claims(other)));
        values.Add(("commit", Environment.Commit, other.Environment.Commit));
        values.Add(("number of cases", Text(CaseCount), Text(other.CaseCount)));
        return RunEnvironment.Differences(values);

        // Descriptions are sentences: only those that changed are shown.
        void AddEach(string kind, List<(string Id, string Description)> then, List<(string Id, string Description)> today)
        {
            values.Add((kind, string.Join(", ", then.Select(entry => entry.Id)), string.Join(", ", today.Select(entry => entry.Id))));
            foreach (var (id, description) in then)
            {
                int index = today.FindIndex(entry => entry.Id == id);
                if (index >= 0) values.Add((id, $"[{description}]", $"[{today[index].Description}]"));
            }
        }

        static string Claims(RunHeader header) => string.Join("; ", (header.Experiments ?? [])
            .SelectMany(experiment => experiment.Claims.Select(claim => string.Create(CultureInfo.InvariantCulture, $"{experiment.Id} {claim.Id} {(claim.Above ? "above" : "below")} {claim.Threshold:R}"))));

        static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);
    }
}

/// <summary>One further line of records.jsonl: a finished case and its measurements.</summary>
public sealed record CaseRecord
{
    /// <summary>The permanent id, <c>aspect/scenario/strategy</c>.</summary>
    public required string Case { get; init; }

    /// <summary>Wall time the case took, in seconds.</summary>
    public required double Seconds { get; init; }

    /// <summary>What it measured; rows that could not be formed included.</summary>
    public required IReadOnlyList<Measurement> Measurements { get; init; }

    /// <summary>Null, or the check that failed, in a sentence; a run with a failure exits with 1.</summary>
    public string? Failure { get; init; }
}

/// <summary>A run as read from, or about to become, its records; every report file is a pure function of it.</summary>
/// <param name="Header">Where and how.</param>
/// <param name="Cases">The finished cases in the order they finished.</param>
public sealed record RunData(RunHeader Header, IReadOnlyList<CaseRecord> Cases)
{
    /// <summary>All measurements in record order.</summary>
    public IEnumerable<Measurement> Measurements => Cases.SelectMany(record => record.Measurements);

    /// <summary>The run with its cases by aspect, scenario and strategy as the header lists them, in whatever order they finished.</summary>
    public RunData InOrder()
    {
        List<string> scenarios = [.. Header.Scenarios.Select(scenario => scenario.Id)];
        List<string> strategies = [.. Header.Strategies.Select(strategy => strategy.Id)];
        List<string> aspects = [.. Aspects.All, Aspects.Training];
        return this with
        {
            Cases =
            [
                .. Cases.Select(record => (Record: record, Parts: record.Case.Split('/', record.Case.StartsWith($"{Aspects.Training}/", StringComparison.Ordinal) ? 4 : 3)))
                    .OrderBy(one => Place(aspects, one.Parts[0]))
                    .ThenBy(one => Place(scenarios, one.Parts.ElementAtOrDefault(1)))
                    .ThenBy(one => Place(strategies, one.Parts.ElementAtOrDefault(2)))
                    // Trials end in any order; the other cases keep that of their plan.
                    .ThenBy(one => one.Parts[0] == Aspects.Training ? one.Record.Case : "", StringComparer.Ordinal)
                    .Select(one => one.Record),
            ],
        };

        static int Place(List<string> order, string? id) => id is not null && order.IndexOf(id) is >= 0 and var place ? place : int.MaxValue;
    }

    /// <summary>Whether every case of the run is there.</summary>
    public bool Complete => Cases.Count >= Header.CaseCount;
}
