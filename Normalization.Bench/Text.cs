using System.Text.Json;

namespace Normalization.Bench;

/// <summary>Words for people.</summary>
internal static class Text
{
    /// <summary>An exception's message as one line, without the parameter name and value that .NET appends to it.</summary>
    public static string OneLine(string message)
    {
        int tail = message.LastIndexOf(" (Parameter '", StringComparison.Ordinal);
        string text = tail < 0 ? message : message[..tail];
        return string.Join(' ', text.Split(['\r', '\n'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
    }

    /// <summary>A number with its noun: 1 seed, 3 seeds.</summary>
    public static string Count(int count, string noun) => FormattableString.Invariant($"{count} {noun}{(count == 1 ? "" : "s")}");

    /// <summary>An enum value as the command line spells it: SmallerLast is smaller-last.</summary>
    public static string Kebab<TEnum>(TEnum value)
        where TEnum : struct, Enum => JsonNamingPolicy.KebabCaseLower.ConvertName(value.ToString());

    /// <summary>Axis lengths as (N, C, L).</summary>
    public static string Shape(ReadOnlySpan<nint> lengths) => $"({string.Join(", ", lengths.ToArray())})";

    /// <summary>The sentence about a name that does not exist, with the nearest one that does or else all of them.</summary>
    public static string Unknown(string kind, string word, IEnumerable<string> names)
    {
        string[] known = [.. names];
        return Nearest(word, known) is { } nearest
            ? $"there is no {kind} '{word}'; did you mean '{nearest}'?"
            : $"there is no {kind} '{word}'; there are {string.Join(", ", known)}.";
    }

    /// <summary>The name a typo was meant to be; null where none is near.</summary>
    public static string? Nearest(string word, IEnumerable<string> names)
    {
        string typed = word.ToLowerInvariant();
        string? nearest = names.MinBy(name => Distance(typed, name));
        if (nearest is not null && Distance(typed, nearest) <= Math.Max(1, typed.Length / 3))
        {
            return nearest;
        }

        return typed.Length < 3 ? null : names.FirstOrDefault(name => name.Contains(typed, StringComparison.Ordinal));
    }

    /// <summary>Levenshtein's distance: insertions, deletions and replacements from one text to the other.</summary>
    private static int Distance(string from, string to)
    {
        int[] row = [.. Enumerable.Range(0, to.Length + 1)];
        for (int i = 1; i <= from.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= to.Length; j++)
            {
                int replaced = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, 1 + Math.Min(row[j], row[j - 1]));
            }
        }

        return row[to.Length];
    }
}
