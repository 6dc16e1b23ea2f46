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
        Assert.AreEqual(
            File.ReadAllText(path).ReplaceLineEndings("\n"), ClaimTable.Markdown(ExperimentCatalog.All),
            "docs/claims.md is not what the experiments judge; write it anew with: train --claims > docs/claims.md");
    }

    private static string SourcePath([CallerFilePath] string path = "") => path;
}
