using System.Runtime.CompilerServices;

namespace Normalization.Tests.Documentation;

/// <summary>The example that a test of documentation compiles and runs, held against the page that shows it.</summary>
internal static class PageExample
{
    /// <summary>Fails where a page has no block of the usings of a source file (those of the tests left out) and the lines between its marks.</summary>
    /// <param name="page">The page, from the repository's root.</param>
    /// <param name="indent">Of the lines: 8 is that of a method's body.</param>
    /// <param name="source">The caller's own file.</param>
    public static void IsOn(string page, int indent = 8, [CallerFilePath] string source = "")
    {
        string[] lines = File.ReadAllLines(source);
        int begin = Array.FindIndex(lines, line => line.Contains("// example: begin", StringComparison.Ordinal));
        int end = Array.FindIndex(lines, line => line.Contains("// example: end", StringComparison.Ordinal));
        string[] block =
        [
            "```csharp",
            .. lines.Where(line => line.StartsWith("using ", StringComparison.Ordinal) && !line.StartsWith("using Normalization.Tests", StringComparison.Ordinal)),
            "",
            .. lines[(begin + 1)..end].Select(line => line.Length > indent ? line[indent..] : ""),
            "```",
        ];
        string text = File.ReadAllText(PathOf(page)).ReplaceLineEndings("\n");

        Assert.Contains(string.Join("\n", block), text);
    }

    /// <summary>Where a page lies.</summary>
    /// <param name="page">The page, from the repository's root.</param>
    /// <param name="source">This file.</param>
    public static string PathOf(string page, [CallerFilePath] string source = "") => Path.Combine(Path.GetDirectoryName(source)!, "..", "..", page);
}
