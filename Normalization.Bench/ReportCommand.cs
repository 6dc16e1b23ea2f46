using System.CommandLine;

namespace Normalization.Bench;

internal static class ReportCommand
{
    public static Verb Create() => new(new Command("report", "x"), "", ["report x"]);
}
