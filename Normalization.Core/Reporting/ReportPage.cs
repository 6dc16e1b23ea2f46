namespace Normalization.Core.Reporting;

/// <summary>What a cell or its whole row says beyond its text; each mark has a sign of its own, so that colour is never needed.</summary>
internal enum Mark
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>The best of its column, or within 5 % of it.</summary>
    Best,

    /// <summary>A declared claim that the measurement refutes.</summary>
    Refuted,

    /// <summary>A value that could not be formed.</summary>
    Missing,

    /// <summary>Faster than the fastest peer, or within a limit.</summary>
    Passed,

    /// <summary>Slower than the fastest peer, or beyond a limit.</summary>
    Failed,
}

/// <summary>A table's cell.</summary>
/// <param name="Text">The value.</param>
/// <param name="Detail">What stands small beneath it: the scenario it comes from, its spread.</param>
/// <param name="Note">A footnote.</param>
/// <param name="Mark">The mark.</param>
/// <param name="Row">The row of results.json it shows.</param>
internal sealed record Cell(string Text, string Detail = "", string? Note = null, Mark Mark = Mark.None, int? Row = null);

/// <summary>A column's head.</summary>
/// <param name="Title">A few words.</param>
/// <param name="Unit">The unit, empty for pure numbers and words.</param>
/// <param name="Legend">What the column holds, in a sentence; null where the title says it.</param>
/// <param name="IsText">Whether the column holds words rather than numbers.</param>
internal sealed record Head(string Title, string Unit = "", string? Legend = null, bool IsText = false);

/// <summary>Something on the page.</summary>
internal abstract record Block;

/// <summary>A paragraph.</summary>
internal sealed record Paragraph(string Text) : Block;

/// <summary>A table; the first cell of a row is its name.</summary>
/// <param name="Caption">What it holds.</param>
/// <param name="Heads">The columns.</param>
/// <param name="Rows">The rows.</param>
/// <param name="Legend">What all the values are, where the columns differ in something else.</param>
/// <param name="RowHeads">What each row holds, where rows and not columns differ in it.</param>
internal sealed record Table(
    string Caption, IReadOnlyList<Head> Heads, IReadOnlyList<IReadOnlyList<Cell>> Rows, string? Legend = null, IReadOnlyList<Head>? RowHeads = null) : Block;

/// <summary>A chart with its data; null where the table before it has them. A wide one has the page's width, and scrolls where that is narrow.</summary>
internal sealed record Figure(string Caption, string Svg, Table? Data, bool IsWide = false) : Block;

/// <summary>Blocks behind a line that opens them.</summary>
internal sealed record Folded(string Summary, IReadOnlyList<Block> Blocks) : Block;

/// <summary>What a reader must know before the findings.</summary>
/// <param name="Text">A sentence.</param>
/// <param name="Details">Its cases in full, for who wants them.</param>
internal sealed record Warning(string Text, IReadOnlyList<string> Details);

/// <summary>A part of the report.</summary>
/// <param name="Id">Its anchor.</param>
/// <param name="Title">Its heading.</param>
/// <param name="Blocks">What it holds.</param>
internal sealed record Section(string Id, string Title, IReadOnlyList<Block> Blocks);

/// <summary>What stands over the findings.</summary>
/// <param name="Title">The heading.</param>
/// <param name="Case">The column of what the findings are about.</param>
/// <param name="Choice">The column of answers.</param>
/// <param name="Sentence">The column of what they rest on.</param>
internal sealed record FindingsHead(string Title, string Case, string Choice, string Sentence);

/// <summary>The report before it is written as HTML or Markdown: both say the same.</summary>
/// <param name="Title">The heading.</param>
/// <param name="Origin">Machine, date, seed and data in a line.</param>
/// <param name="Warnings">What a reader must know first: missing cases, failures.</param>
/// <param name="FindingsHead">What stands over the findings.</param>
/// <param name="Findings">Which strategy for which case, or what the benchmark comes to.</param>
/// <param name="Sections">The rest, in order.</param>
internal sealed record ReportPage(
    string Title, string Origin, IReadOnlyList<Warning> Warnings, FindingsHead FindingsHead, IReadOnlyList<Finding> Findings, IReadOnlyList<Section> Sections);
