using System.Runtime.CompilerServices;
using Normalization.Bench.Experiments;

namespace Normalization.Tests.Documentation;

/// <summary>The table of claims that was committed is what the experiments judge.</summary>
[TestClass]
public sealed class ClaimTableTests
{
    [TestMethod]
    public void Markdown_CommittedTable_IsTheProgramsOwn()
    {
        string path = Path.Combine(Path.GetDirectoryName(SourcePath())!, "..", "..", "docs", "claims.md");
        string[] committed = File.ReadAllLines(path);
        string[] judged = ClaimTable.Markdown(ExperimentCatalog.All).TrimEnd('\n').Split('\n');
        for (int line = 0; line < Math.Max(committed.Length, judged.Length); line++)
        {
            Assert.AreEqual(
                committed.ElementAtOrDefault(line), judged.ElementAtOrDefault(line),
                "docs/claims.md is not what the experiments judge; write it anew with: train --claims > docs/claims.md");
        }
    }

    private static string SourcePath([CallerFilePath] string path = "") => path;
}
