using System.Globalization;
using System.Text;

namespace Normalization.Core.Reporting;

/// <summary>report.md: what the page says, in Markdown tables; the charts are left out and their data kept.</summary>
public sealed class MarkdownReport : IReportWriter
{
    /// <inheritdoc/>
    public string FileName => "report.md";

    /// <inheritdoc/>
    public string Write(RunData run)
    {
        ArgumentNullException.ThrowIfNull(run);
        var page = ReportContent.Of(run);
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# {Escape(page.Title)}\n\n{Escape(page.Origin)}\n\n");
        foreach (var warning in page.Warnings)
        {
            text.Append(CultureInfo.InvariantCulture, $"> **⚠ {Escape(warning.Text)}**\n");
            if (warning.Details.Count > 0) text.Append(">\n");
            foreach (string detail in warning.Details) text.Append(CultureInfo.InvariantCulture, $"> - {Escape(detail)}\n");
            text.Append('\n');
        }

        if (page.Findings.Count > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"## {Escape(page.FindingsHead.Title)}\n\n| {Escape(page.FindingsHead.Case)} | {Escape(page.FindingsHead.Choice)} | {Escape(page.FindingsHead.Sentence)} |\n|---|---|---|\n");
            foreach (var finding in page.Findings)
                text.Append(CultureInfo.InvariantCulture, $"| {Escape(finding.Case)} | {Escape(ReportText.Answer(finding))} | {Escape(finding.Text)} |\n");
            text.Append('\n');
            if (ReportText.Evidence(page.Findings).Any()) Append(text, Evidence(page.Findings), 3);
        }

        foreach (var section in page.Sections)
        {
            text.Append(CultureInfo.InvariantCulture, $"## {Escape(section.Title)}\n\n");
            foreach (var block in section.Blocks) Append(text, block, 3);
        }

        return text.ToString().TrimEnd('\n') + "\n";
    }

    private static Table Evidence(IReadOnlyList<Finding> findings) => new(
        "Where these numbers come from",
        [new Head("row of results.json"), new Head("aspect", IsText: true), new Head("strategy", IsText: true), new Head("scenario", IsText: true), new Head("metric", IsText: true), new Head("parameters", IsText: true), new Head("value")],
        [.. ReportText.Evidence(findings).Select(row => (IReadOnlyList<Cell>)[.. ReportText.Trace(row).Select(text => new Cell(text))])]);

    private static void Append(StringBuilder text, Block block, int level)
    {
        switch (block)
        {
            case Paragraph paragraph:
                text.Append(Escape(paragraph.Text)).Append("\n\n");
                break;
            case Table table:
                Append(text, table, level);
                break;
            case Figure figure:
                if (figure.Data is { } data) Append(text, data, level);
                break;
            case Folded folded:
                // A lone table has the same title.
                if (folded.Blocks is not [Table])
                    text.Append('#', level).Append(CultureInfo.InvariantCulture, $" {Escape(folded.Summary)}\n\n");
                foreach (var inner in folded.Blocks) Append(text, inner, folded.Blocks is [Table] ? level : level + 1);
                break;
        }
    }

    private static void Append(StringBuilder text, Table table, int level)
    {
        if (text[^2] != '\n') text.Append('\n');
        text.Append('#', level).Append(CultureInfo.InvariantCulture, $" {Escape(table.Caption)}\n\n");
        var notes = new Footnotes();
        text.Append("| ").AppendJoin(" | ", table.Heads.Select(head => Escape(head.Unit.Length > 0 ? $"{head.Title} ({head.Unit})" : head.Title))).Append(" |\n|");
        foreach (var head in table.Heads) text.Append(head.IsText ? "---|" : "---:|");
        text.Append('\n');
        foreach (var row in table.Rows)
            text.Append("| ").AppendJoin(" | ", row.Select(cell => Content(cell, notes))).Append(" |\n");
        text.Append('\n');
        foreach (var (index, note) in notes.Texts.Index()) text.Append(CultureInfo.InvariantCulture, $"{index + 1}. {Escape(note)}\n");
        if (notes.Count > 0) text.Append('\n');
        var legends = ReportText.Legend(table).ToList();
        foreach (var (name, legend) in legends) text.Append(CultureInfo.InvariantCulture, $"- *{Escape(name)}*: {Escape(legend)}\n");
        if (legends.Count > 0) text.Append('\n');
    }

    private static string Content(Cell cell, Footnotes notes)
    {
        string sign = cell.Mark switch
        {
            Mark.Best => " ★",
            Mark.Passed => " ✓",
            Mark.Refuted or Mark.Failed => " ✗",
            _ => "",
        };
        string detail = cell.Detail.Length > 0 ? $" ({Escape(cell.Detail)})" : "";
        return $"{Escape(cell.Text)}{sign}{detail}{(cell.Note is { } note ? $" [{notes.Number(note)}]" : "")}";
    }

    // An underscore inside a word is no mark-up.
    private static string Escape(string text)
    {
        var escaped = new StringBuilder(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            char letter = text[i];
            bool insideWord = i > 0 && i + 1 < text.Length && char.IsLetterOrDigit(text[i - 1]) && char.IsLetterOrDigit(text[i + 1]);
            if (letter is '\r' or '\n') letter = ' ';
            if (letter == '&') escaped.Append("&amp;");
            else if (letter == '<') escaped.Append("&lt;");
            else if ("\\`*[]>|#~".Contains(letter) || (letter == '_' && !insideWord)) escaped.Append('\\').Append(letter);
            else escaped.Append(letter);
        }

        return escaped.ToString();
    }
}
