using System.Globalization;

namespace Normalization.Core.Reporting;

/// <summary>One of the equal parts that a run was split into, to be run anywhere.</summary>
/// <param name="Number">1 to <paramref name="Count"/>.</param>
/// <param name="Count">How many there are.</param>
public readonly record struct Shard(int Number, int Count)
{
    /// <summary>Reads "2/4".</summary>
    /// <returns>Whether the text is that of a shard.</returns>
    public static bool TryParse(string? text, out Shard shard)
    {
        shard = default;
        string[] parts = (text ?? "").Split('/');
        if (parts.Length != 2
            || !int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            || !int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int count)
            || number < 1 || number > count)
        {
            return false;
        }

        shard = new Shard(number, count);
        return true;
    }

    /// <summary>"2/4".</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Number}/{Count}");

    /// <summary>This shard's share: the cases by falling cost are dealt out in turn, so that shards take about as long as each other; in their own order.</summary>
    /// <param name="cases">All cases of the run.</param>
    /// <param name="cost">About how long one takes.</param>
    public IReadOnlyList<TCase> Of<TCase>(IReadOnlyList<TCase> cases, Func<TCase, double> cost)
    {
        ArgumentNullException.ThrowIfNull(cases);
        ArgumentNullException.ThrowIfNull(cost);
        (int count, int remainder) = (Count, Number - 1);
        return [.. cases.Index().OrderByDescending(one => cost(one.Item)).Where((_, place) => place % count == remainder).OrderBy(one => one.Index).Select(one => one.Item)];
    }
}

/// <summary>Runs that were split into shards, and their joining.</summary>
public static class RunShards
{
    /// <summary>The setting that tells a shard from the whole run.</summary>
    public const string Setting = "shard";

    /// <summary>Which shard a run is; null for a whole run.</summary>
    public static Shard? Of(RunHeader header)
    {
        ArgumentNullException.ThrowIfNull(header);
        return Shard.TryParse(header.Settings.GetValueOrDefault(Setting), out Shard shard) ? shard : null;
    }

    /// <summary>The header of the whole run that a shard is a part of, the number of cases unknown.</summary>
    private static RunHeader Whole(RunHeader shard) => shard with
    {
        Settings = shard.Settings.Where(setting => setting.Key != Setting).ToDictionary(StringComparer.Ordinal),
        CaseCount = 0,
    };

    /// <summary>Joins all shards of a run: the records of the run that was not split.</summary>
    /// <param name="shards">Each shard with the folder it was read from, in any order.</param>
    /// <returns>The whole run, begun when its first shard was; of shards of several machines the environment names every processor, and the command lines stand one after the other.</returns>
    /// <exception cref="InvalidDataException">A shard is missing, doubled, incomplete or of another run; the message names it and its folder.</exception>
    public static RunData Join(IReadOnlyList<(string Folder, RunData Run)> shards)
    {
        ArgumentNullException.ThrowIfNull(shards);
        if (shards.Count == 0)
            throw new InvalidDataException("There is nothing to join.");

        var parts = new List<(Shard Shard, string Folder, RunData Run)>();
        foreach (var (folder, run) in shards)
        {
            Shard shard = Of(run.Header) ?? throw new InvalidDataException($"'{folder}' is no shard but a whole run; shards are what --shard I/N recorded.");
            if (parts.FirstOrDefault(part => part.Shard.Count != shard.Count) is { Folder: { } other } another)
                throw new InvalidDataException($"'{other}' is shard {another.Shard} and '{folder}' is shard {shard}: they are of different splits.");
            if (parts.FirstOrDefault(part => part.Shard == shard) is { Folder: { } twin })
                throw new InvalidDataException($"shard {shard} is there twice: '{twin}' and '{folder}'. Name one of them.");
            if (parts.Count > 0 && Whole(parts[0].Run.Header).DifferencesTo(Whole(run.Header)) is { Count: > 0 } differences)
                throw new InvalidDataException($"'{folder}' is of another run than '{parts[0].Folder}': {string.Join("; ", differences)}.");
            parts.Add((shard, folder, run));
        }

        int count = parts[0].Shard.Count;
        Shard[] missing = [.. Enumerable.Range(1, count).Select(number => new Shard(number, count)).Where(shard => parts.All(part => part.Shard != shard))];
        if (missing.Length > 0)
            throw new InvalidDataException($"{(missing.Length == 1 ? "shard" : "shards")} {string.Join(", ", missing)} {(missing.Length == 1 ? "is" : "are")} missing among the {parts.Count} named. Run with --shard {missing[0]}, or name its folder too.");
        if (parts.FirstOrDefault(part => !part.Run.Complete) is { Folder: { } torn } incomplete)
            throw new InvalidDataException($"shard {incomplete.Shard} in '{torn}' is incomplete: {incomplete.Run.Cases.Count} of its {incomplete.Run.Header.CaseCount} cases are recorded. Go on with it by --resume {torn}.");

        parts.Sort((one, other) => one.Shard.Number.CompareTo(other.Shard.Number));
        CaseRecord[] cases = [.. parts.SelectMany(part => part.Run.Cases)];
        if (cases.CountBy(record => record.Case).FirstOrDefault(pair => pair.Value > 1).Key is { } twice)
            throw new InvalidDataException($"Case '{twice}' is in two shards; they were split by different programs.");
        RunEnvironment first = parts[0].Run.Header.Environment;
        return new RunData(
            Whole(parts[0].Run.Header) with
            {
                CaseCount = cases.Length,
                Environment = first with
                {
                    Started = parts.Min(part => part.Run.Header.Environment.Started)!,
                    CommandLine = string.Join("; ", parts.Select(part => part.Run.Header.Environment.CommandLine)),
                    Arguments = null,
                    Cpu = string.Join(" and ", parts.Select(part => part.Run.Header.Environment.Cpu).Distinct()),
                },
            },
            cases).InOrder();
    }

    /// <summary>What further machines the shards' last bits may depend on, beside the first's; a phrase each, none where all are alike.</summary>
    /// <param name="shards">As for <see cref="Join"/>.</param>
    public static IReadOnlyList<string> MachineDifferences(IReadOnlyList<(string Folder, RunData Run)> shards)
    {
        ArgumentNullException.ThrowIfNull(shards);
        return
        [
            .. shards.Skip(1).SelectMany(shard => RunEnvironment.Differences(shards[0].Run.Header.Environment.Arithmetic, shard.Run.Header.Environment.Arithmetic)
                .Select(difference => $"{shards[0].Folder} and {shard.Folder}: {difference}")).Distinct(),
        ];
    }
}
