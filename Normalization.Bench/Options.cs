using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary>Options whose errors name the value, the range and the nearest name.</summary>
internal static class Options
{
    public static Option<string?> Path(string name, string value, string description) => Words(name, value, "path", description);

    public static Option<string?> Pattern(string name, string value, string description) => Words(name, value, "pattern", description);

    public static Option<long> Whole(string name, string value, long minimum, long maximum, string description) =>
        Create(name, value, description, (text, fail) =>
        {
            if (!long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) || number < minimum || number > maximum)
            {
                string range = maximum == long.MaxValue ? $"of at least {minimum}" : $"from {minimum} to {maximum}";
                fail($"{name} must be a whole number {range}; got '{text}'");
            }

            return number;
        });

    /// <summary>Whole numbers separated by commas, such as 3,5,0.</summary>
    public static Option<IReadOnlyList<int>> WholeList(string name, string value, int minimum, string description) =>
        Create<IReadOnlyList<int>>(name, value, description, (text, fail) =>
        {
            string[] words = text.Split(',');
            int[] numbers = new int[words.Length];
            for (int i = 0; i < words.Length; i++)
            {
                if (!int.TryParse(words[i], NumberStyles.AllowLeadingSign | NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite,
                        CultureInfo.InvariantCulture, out numbers[i]) || numbers[i] < minimum)
                {
                    fail($"{name} must be whole numbers of at least {minimum}, separated by commas; got '{words[i]}' in '{text}'");
                    break;
                }
            }

            return numbers;
        });

    public static Option<double> Real(string name, string value, double minimum, double maximum, string description) =>
        Create(name, value, description, (text, fail) => ParseReal(name, text, minimum, maximum, "", fail));

    /// <summary>A part of a run, such as 2/4.</summary>
    public static Option<Shard> Shard(string name, string description) =>
        Create(name, "I/N", description, (text, fail) =>
        {
            if (!Core.Reporting.Shard.TryParse(text, out Shard shard))
            {
                fail($"{name} must be I/N, the I-th of N parts with I from 1 to N, such as 2/4; got '{text}'");
            }

            return shard;
        });

    /// <summary>A fraction, written as 10% or as 0.1; a bare number of 1 or more is refused, since it was meant as a percentage.</summary>
    public static Option<double> Percentage(string name, string description) =>
        Create(name, "P%", description, (text, fail) =>
        {
            bool percent = text.EndsWith('%');
            if (!double.TryParse(percent ? text[..^1] : text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number)
                || !double.IsFinite(number) || (percent ? number > 1000 : number >= 1))
            {
                fail($"{name} must be a percentage from 0% to 1000%, such as 10%, or a fraction below 1, such as 0.1; got '{text}'");
            }

            return percent ? number / 100 : number;
        });

    /// <summary>A number, or "none" for NaN: the parser cannot hand over a null that a custom parser returns.</summary>
    public static Option<double> RealOrNone(string name, string value, double minimum, double maximum, string description) =>
        Create(name, value, description, (text, fail) => text == "none" ? double.NaN : ParseReal(name, text, minimum, maximum, ", or none", fail));

    /// <summary>One of an enum's values in kebab case.</summary>
    public static Option<TEnum> Choice<TEnum>(string name, string description)
        where TEnum : struct, Enum
    {
        TEnum[] values = Enum.GetValues<TEnum>();
        string[] words = [.. values.Select(Text.Kebab)];
        Option<TEnum> option = Create(name, string.Join('|', words), description, (text, fail) =>
        {
            int index = Array.IndexOf(words, text);
            if (index < 0)
            {
                string hint = Text.Nearest(text, words) is { } nearest ? $"; did you mean '{nearest}'?" : "";
                fail($"{name} must be {string.Join(" or ", words)}; got '{text}'{hint}");
            }

            return index < 0 ? default : values[index];
        });
        option.CompletionSources.Add(words);
        return option;
    }

    /// <summary>Names out of a list, separated by commas, or all of them; the value keeps the list's order.</summary>
    public static Option<IReadOnlyList<string>> Names(string name, string kind, IReadOnlyList<string> known, string description)
    {
        Option<IReadOnlyList<string>> option = Create<IReadOnlyList<string>>(name, "a,b", description, (text, fail) =>
        {
            string[] words = text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
            if (words is ["all"])
            {
                return known;
            }

            if (words.FirstOrDefault(word => !known.Contains(word)) is { } unknown)
            {
                fail($"{name}: {Text.Unknown(kind, unknown, known)}");
            }
            else if (words.Length == 0)
            {
                fail($"{name} must name at least one of {string.Join(", ", known)}; got '{text}'");
            }

            return known.Where(words.Contains).ToArray();
        });
        option.CompletionSources.Add([.. known]);
        return option;
    }

    /// <summary>Whether the user wrote the option.</summary>
    public static bool Has(this ParseResult parse, Option option) => parse.GetResult(option) is { Implicit: false };

    /// <summary>The value the user wrote, or else the default.</summary>
    public static TValue ValueOr<TValue>(this ParseResult parse, Option<TValue> option, TValue fallback) =>
        parse.Has(option) ? parse.GetValue(option)! : fallback;

    private static Option<string?> Words(string name, string value, string kind, string description) =>
        Create<string?>(name, value, description, (text, fail) =>
        {
            if (text.Length == 0)
            {
                fail($"{name} needs a {kind}; got an empty text");
            }

            return text;
        });

    private static double ParseReal(string name, string text, double minimum, double maximum, string orElse, Action<string> fail)
    {
        if (!double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number)
            || !double.IsFinite(number) || number < minimum || number > maximum)
        {
            string range = double.IsInfinity(maximum) ? $"finite number of at least {minimum:R}" : $"number from {minimum:R} to {maximum:R}";
            fail($"{name} must be a {range}{orElse}; got '{text}'");
        }

        return number;
    }

    private static Option<TValue> Create<TValue>(string name, string value, string description, Func<string, Action<string>, TValue> read) =>
        new(name)
        {
            Description = description,
            HelpName = value,
            CustomParser = result =>
            {
                // The parser is also called for an option that was not written.
                if (result.Tokens is not [Token token])
                {
                    return default!;
                }

                return read(token.Value, result.AddError);
            },
        };
}
