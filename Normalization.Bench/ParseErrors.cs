using System.CommandLine;
using System.CommandLine.Parsing;

namespace Normalization.Bench;

/// <summary>What is wrong with a command line, in one sentence.</summary>
internal static class ParseErrors
{
    public static string Describe(ParseResult parse)
    {
        Command command = parse.CommandResult.Command;
        string verb = command is RootCommand ? "" : $"{command.Name} ";
        if (parse.UnmatchedTokens.FirstOrDefault(token => token.StartsWith('-')) is { } option)
        {
            return UnknownOption(command, option);
        }

        // An option's own error comes before a word left over: --strategies --seed 3 takes --seed for a strategy.
        if (parse.Errors.FirstOrDefault(error => error.SymbolResult is OptionResult or ArgumentResult) is { } value)
        {
            return $"{value.Message}{(value.Message.EndsWith('?') || value.Message.EndsWith('.') ? "" : ".")} See '{verb}--help'.";
        }

        if (parse.UnmatchedTokens is not [string word, ..])
        {
            return $"{command.Name} needs a verb of its own: {string.Join(", ", command.Subcommands.Select(known => known.Name))}. See '{verb}--help'.";
        }

        return command is RootCommand
            ? $"{Text.Unknown("verb", word, command.Subcommands.Select(known => known.Name))} See '--help'."
            : $"{command.Name} does not know what to do with '{word}'. What it takes has a name that begins with --, or is one of the arguments that '{verb}--help' shows; lists are written with commas and no spaces.";
    }

    /// <summary>Refuses what looks like an option among words that a verb takes any number of, where the library lets it pass.</summary>
    public static void RefuseOptions(Command command, IEnumerable<string> words)
    {
        if (words.FirstOrDefault(word => word.StartsWith('-')) is { } option)
        {
            throw new UsageException(UnknownOption(command, option));
        }
    }

    private static string UnknownOption(Command command, string option)
    {
        string verb = command is RootCommand ? "" : $"{command.Name} ";
        string[] options = [.. command.Options.Select(known => known.Name).Append("--help")];
        return $"{Text.Unknown($"{verb}option", option.Split('=')[0], options)} See '{verb}--help'.";
    }
}
