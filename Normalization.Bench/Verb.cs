using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Normalization.Bench;

/// <summary>A verb of the command line, and what its help says after the options.</summary>
internal sealed record Verb(Command Command, string Details, IReadOnlyList<string> Examples);

/// <summary>The library's help, then details and examples: of the verb, or where none is named of the program.</summary>
internal sealed class HelpWithExamples(HelpAction help, string details, IReadOnlyList<Verb> verbs) : SynchronousCommandLineAction
{
    public override bool ClearsParseErrors => true;

    public override int Invoke(ParseResult parseResult)
    {
        int code = help.Invoke(parseResult);
        Verb? verb = verbs.FirstOrDefault(verb => verb.Command == parseResult.CommandResult.Command);
        TextWriter output = parseResult.InvocationConfiguration.Output;
        output.WriteLine(verb?.Details ?? details);
        output.WriteLine();
        output.WriteLine("Examples:");
        foreach (string example in verb?.Examples ?? verbs.Select(each => each.Examples[0]).Distinct())
        {
            output.WriteLine($"  {RootCommand.ExecutableName} {example}");
        }

        return code;
    }
}
