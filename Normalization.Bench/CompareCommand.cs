using System.CommandLine;

namespace Normalization.Bench;

internal static class CompareCommand
{
    public static Verb Create() => new(new Command("compare", "x"), "", ["compare x"]);
}
