using System.CommandLine;

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
            string[] options = [.. command.Options.Select(known => known.Name).Append("--help")];
            return $"{Text.Unknown($"{verb}option", option.Split('=')[0], options)} See '{verb}--help'.";
        }

        if (parse.UnmatchedTokens is [string word, ..])
        {
            return command is RootCommand
                ? $"{Text.Unknown("verb", word, command.Subcommands.Select(known => known.Name))} See '--help'."
                : $"{command.Name} does not know what to do with '{word}'. Lists are written with commas and no spaces; see '{verb}--help'.";
        }

        return $"{parse.Errors[0].Message.TrimEnd('.')}. See '{verb}--help'.";
    }
}
