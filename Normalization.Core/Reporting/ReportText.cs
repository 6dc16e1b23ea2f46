using System.Globalization;
using System.Text.RegularExpressions;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>How numbers and parameters read in the reports.</summary>
internal static class ReportText
{
    /// <summary>Three significant digits; whole numbers below a million as they are; powers of ten from 1e5 and below 1e-3.</summary>
    public static string Number(double value)
    {
        if (double.IsNaN(value)) return "NaN";
        if (double.IsInfinity(value)) return value > 0 ? "∞" : "-∞";
        if (value == 0) return "0";
        if (Math.Abs(value) < 1e6 && value == Math.Round(value)) return value.ToString("0", CultureInfo.InvariantCulture);

        string[] parts = value.ToString("E2", CultureInfo.InvariantCulture).Split('E');
        int exponent = int.Parse(parts[1], CultureInfo.InvariantCulture);
        if (exponent is < -3 or > 4) return string.Create(CultureInfo.InvariantCulture, $"{parts[0]}e{exponent}");
        double rounded = double.Parse($"{parts[0]}E{parts[1]}", CultureInfo.InvariantCulture);
        return rounded.ToString($"F{Math.Max(0, 2 - exponent)}", CultureInfo.InvariantCulture);
    }

    /// <summary>A parameter's value, exactly.</summary>
    public static string Parameter(object value) => value switch
    {
        bool flag => flag ? "true" : "false",
        double real => Real(real),
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString() ?? "",
    };

    // 1e-5 rather than 1E-05; all digits, since rows are told apart by them.
    private static string Real(double value)
    {
        string[] parts = value.ToString("R", CultureInfo.InvariantCulture).Split('E');
        return parts.Length == 1 ? parts[0] : $"{parts[0]}e{int.Parse(parts[1], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture).ToString(CultureInfo.InvariantCulture)}";
    }

    /// <summary>Parameters as a reader sees them, such as <c>n 32, a 4</c>; empty where there are none.</summary>
    public static string Parameters(IReadOnlyDictionary<string, object>? parameters) =>
        parameters is null ? "" : string.Join(", ", parameters.Select(pair => $"{pair.Key} {Parameter(pair.Value)}"));

    /// <summary>A head's unit, empty for pure numbers.</summary>
    public static string Unit(string unit) => unit == "1" ? "" : unit;

    /// <summary>A metric's title, or its id where a record comes from another version.</summary>
    public static string Title(string metric) => Metrics.Find(metric)?.Title ?? metric;

    /// <summary>A number of things: 1 thread, 2 threads.</summary>
    public static string Count(long number, string thing, string? plural = null) =>
        string.Create(CultureInfo.InvariantCulture, $"{number} {(number == 1 ? thing : plural ?? thing + "s")}");

    /// <summary>Items in a sentence: a, b and c.</summary>
    public static string List(IReadOnlyList<string> items) => items.Count switch
    {
        0 => "none",
        1 => items[0],
        _ => string.Join(", ", items.SkipLast(1)) + " and " + items[^1],
    };

    /// <summary>Whom a finding chooses, or what it says instead.</summary>
    public static string Answer(Finding finding) => finding.Answer.Length > 0 ? finding.Answer : string.Join(", ", finding.Choice);

    /// <summary>The rows that findings rest on, each once, in the order of results.json.</summary>
    public static IEnumerable<ReportRow> Evidence(IEnumerable<Finding> findings) =>
        findings.SelectMany(finding => finding.Rows).DistinctBy(row => row.Index).OrderBy(row => row.Index);

    /// <summary>A row's identity and its exact value, as columns.</summary>
    public static string[] Trace(ReportRow row)
    {
        var measurement = row.Measurement;
        string value = measurement.Value is { } number
            ? number.ToString("R", CultureInfo.InvariantCulture) + (measurement.Unit == "1" ? "" : " " + measurement.Unit) : "not formed";
        return
        [
            string.Create(CultureInfo.InvariantCulture, $"measurements[{row.Index}]"), measurement.Aspect, measurement.Strategy, measurement.Scenario,
            measurement.Metric, Parameters(measurement.Parameters), value,
        ];
    }

    /// <summary>The legends of a table, each sentence once with the first column that has it.</summary>
    public static IEnumerable<(string Name, string Legend)> Legend(Table table)
    {
        if (table.Legend is not null) yield return ("values", table.Legend);
        foreach (var head in table.Heads.Concat(table.RowHeads ?? []).Where(head => head.Legend is not null).DistinctBy(head => head.Legend))
            yield return (head.Title.Split(',')[0], head.Legend!);
    }
}

/// <summary>The footnotes of a table, numbered from 1: those that differ only in their numbers share one, which states them all.</summary>
internal sealed partial class Footnotes
{
    // More distinct numbers than this are given by their ends.
    private const int Most = 4;

    private readonly List<(string[] Words, List<string>[] Numbers)> _notes = [];

    /// <summary>The notes in order.</summary>
    public IEnumerable<string> Texts => _notes.Select(note => string.Concat(note.Words.Zip(
        note.Numbers.Select(Joined).Append(""), (word, number) => word + number)));

    /// <summary>How many there are.</summary>
    public int Count => _notes.Count;

    /// <summary>The number of a note, which is added where it is new.</summary>
    public int Number(string note)
    {
        string[] words = Digits().Split(note);
        string[] numbers = [.. Digits().Matches(note).Select(match => match.Value)];
        int index = _notes.FindIndex(known => known.Words.SequenceEqual(words));
        if (index < 0)
        {
            index = _notes.Count;
            _notes.Add((words, [.. numbers.Select(number => new List<string> { number })]));
            return index + 1;
        }

        for (int i = 0; i < numbers.Length; i++)
        {
            if (!_notes[index].Numbers[i].Contains(numbers[i])) _notes[index].Numbers[i].Add(numbers[i]);
        }

        return index + 1;
    }

    private static string Joined(List<string> numbers)
    {
        if (numbers.Count == 1) return numbers[0];
        var ordered = numbers.OrderBy(number => double.Parse(number, CultureInfo.InvariantCulture)).ToList();
        return ordered.Count <= Most ? string.Join(" / ", ordered) : $"{ordered[0]} … {ordered[^1]}";
    }

    // A digit that belongs to a name, as in x1, is none.
    [GeneratedRegex(@"(?<![\w.])[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?!\w)")]
    private static partial Regex Digits();
}
