using System.Globalization;
using System.Net;
using System.Text;

namespace Normalization.Core.Reporting;

/// <summary>index.html: the whole report as one page that needs no network and no script.</summary>
public sealed class HtmlReport : IReportWriter
{
    // Letters that stay on one line in a column of words: a verdict, a bound.
    private const int ShortText = 16;

    private const string PageStyle = """
        :root{color-scheme:light dark;--ink:#1b2127;--soft:#55606b;--rule:#dde2e7;--tint:#f5f7f9;--link:#0a58a8;--good:#0b6b45;--bad:#b3261e;--warn:#fff1d6;--warn-ink:#5c3b00}
        @media (prefers-color-scheme:dark){:root{--ink:#e6eaee;--soft:#a5afb9;--rule:#313940;--tint:#1c2228;--link:#84bdf7;--good:#62d3a2;--bad:#ff9a90;--warn:#3c2c08;--warn-ink:#ffdf9e}}
        *{box-sizing:border-box}
        html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
        @media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
        body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
        main,header,footer{max-width:80rem;margin:0 auto;padding:0 1.25rem}
        header{padding-top:2rem}h1{font-size:1.75rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
        h2{font-size:1.35rem;line-height:1.25;margin:3rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--rule)}
        p{max-width:46rem;margin:.6rem 0}a{color:var(--link)}.origin,.key,caption,figcaption,.legend,.notes,footer{color:var(--soft)}
        .origin{max-width:none;margin:0}nav{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.8rem 0 0;font-size:.95rem}nav a{padding:.3rem 0}
        .warning{background:var(--warn);color:var(--warn-ink);border-left:.3rem solid currentColor;padding:.6rem .9rem;margin:1rem 0;max-width:none;font-weight:600;overflow-wrap:anywhere}
        .warning details{font-weight:400}.warning summary{color:inherit}.warning ul{margin:.2rem 0;padding-left:1.2rem}
        #findings h2{border:0;margin-top:1rem;padding-top:0}
        .findings{width:100%;border-collapse:collapse;font-size:.94rem;line-height:1.4}
        .findings th,.findings td{text-align:left;vertical-align:top;padding:.42rem .9rem .42rem 0;border-top:1px solid var(--rule);white-space:normal;overflow-wrap:anywhere}
        .findings thead th{border-top:0;color:var(--soft);font-weight:500;font-size:.85rem}
        .findings tbody th{font-weight:500;width:17%}.findings .choice{font-weight:650;width:23%}.findings.linked tbody th{width:30%}.findings.linked .choice{width:17%}.findings.linked th a{white-space:normal}.findings a{white-space:nowrap;font-variant-numeric:tabular-nums;text-underline-offset:.15em}.id{display:inline-block;max-width:100%}
        .scroll{overflow-x:auto;max-width:100%;margin:1.3rem 0 .3rem;position:relative;outline-offset:2px}details .scroll{margin-top:.6rem}
        .data{border-collapse:collapse;font-size:.875rem;line-height:1.3;font-variant-numeric:tabular-nums}
        .data caption{text-align:left;font-size:.85rem;padding-bottom:.35rem;white-space:nowrap}
        details>.scroll caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
        .data th,.data td{padding:.36rem .6rem;text-align:right;vertical-align:top;white-space:nowrap;border-bottom:1px solid var(--rule)}
        .data thead th{vertical-align:bottom;font-weight:600;white-space:normal;min-width:4.6rem;border-bottom:2px solid var(--rule)}
        .data .w{text-align:left}.data td.w{white-space:normal;min-width:6.5rem;max-width:34rem;overflow-wrap:anywhere}.data td.n{white-space:nowrap}
        .data th:first-child{text-align:left;position:sticky;left:0;background:var(--ground);padding-left:0;z-index:1;white-space:normal;min-width:8.5rem;max-width:22rem;overflow-wrap:anywhere}
        figure .data th,figure .data td{padding-left:.4rem;padding-right:.4rem}
        .data tbody th{font-weight:500}
        .data small,.data .unit{display:block;color:var(--soft);font-size:.76rem;font-weight:400}
        .best{font-weight:650;color:var(--good)}.refuted{font-weight:650;color:var(--bad)}.missing{color:var(--soft);font-style:italic}.best small,.refuted small{font-weight:400}
        sup{font-size:.7rem;line-height:0;font-style:normal}
        .notes{font-size:.85rem;margin:.3rem 0;padding-left:1.5rem;max-width:60rem;overflow-wrap:anywhere}
        .legend{font-size:.85rem;margin:.5rem 0 1.2rem;max-width:60rem}.legend div{margin:.15rem 0}.legend dt{display:inline;font-weight:600}.legend dt::after{content:": "}.legend dd{display:inline;margin:0}
        .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1.5rem 2.5rem;margin:1.2rem 0}
        figure{margin:0;min-width:0;max-width:33rem}figure>.chart{max-width:33rem}figure.wide{grid-column:1/-1;max-width:none}figure.wide .scroll{margin:0}figure.wide .chart{min-width:66rem;max-width:80rem}figure:has(>details[open]){grid-column:1/-1;max-width:none}figcaption{font-size:.92rem;color:var(--ink);font-weight:600;margin-bottom:.4rem;overflow-wrap:anywhere}
        details{margin:.5rem 0;min-width:0}summary{cursor:pointer;color:var(--link);padding:.25rem 0;font-size:.94rem;overflow-wrap:anywhere}details details,figure details{font-size:.95em}
        :target{background:var(--warn);outline:2px solid var(--warn-ink)}
        footer{font-size:.88rem;padding-top:2rem;padding-bottom:2.5rem}
        @media (max-width:40rem){.data th:first-child{max-width:9.5rem}.data td.w:last-child{min-width:16rem}main,header,footer{padding-left:1rem;padding-right:1rem}header{padding-top:1.2rem}h1{font-size:1.4rem}
        .findings thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}.findings,.findings tbody,.findings tr,.findings th,.findings td{display:block;width:auto!important}
        .findings tr{border-top:1px solid var(--rule);padding:.55rem 0}.findings tbody th,.findings td{border:0;padding:0}.findings tbody th{color:var(--soft);font-size:.85rem}}
        @media print{@page{margin:12mm}:root{--ground:#fff;--ink:#000;--soft:#444;--rule:#bbb;--link:#000;--good:#000;--bad:#000}nav{display:none}body{font-size:10.5pt}
        main,header,footer{padding:0}.scroll{overflow:visible}.data{font-size:7pt}.data small,.data .unit,.data sup{font-size:6pt}
        .data th,.data td,.data thead th,.data td.w,.data th:first-child{padding:.15rem .25rem;white-space:normal;min-width:0;position:static;overflow-wrap:break-word}figure,tr{break-inside:avoid}h2{break-after:avoid}}

        """;

    /// <inheritdoc/>
    public string FileName => "index.html";

    /// <inheritdoc/>
    public string Write(RunData run)
    {
        ArgumentNullException.ThrowIfNull(run);
        return new Renderer(ReportContent.Of(run)).Render();
    }

    /// <summary>One page in the making.</summary>
    private sealed class Renderer(ReportPage page)
    {
        private readonly StringBuilder _html = new();

        // Rows that findings rest on and that no table has shown yet; a row's anchor is its first cell.
        private readonly HashSet<int> _anchors = [.. ReportText.Evidence(page.Findings).Select(row => row.Index)];

        public string Render()
        {
            Put($"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
            Put($"<title>{E(page.Title)}</title>\n<style>\n");
            _html.Append(SvgChart.Style).Append(PageStyle);
            Put($"</style>\n</head>\n<body>\n<header>\n<h1>{E(page.Title)}</h1>\n<p class=\"origin\">{E(page.Origin)}</p>\n");
            foreach (var warning in page.Warnings)
            {
                Put($"<div class=\"warning\" role=\"alert\">⚠ {E(warning.Text)}");
                if (warning.Details.Count > 0)
                {
                    Put($"<details><summary>{(warning.Details.Count == 1 ? "In full" : $"All {warning.Details.Count}")}</summary><ul>");
                    foreach (string detail in warning.Details) Put($"<li>{E(detail)}</li>");
                    _html.Append("</ul></details>");
                }

                _html.Append("</div>\n");
            }

            _html.Append("<nav aria-label=\"Parts of the report\">");
            string?[] linked = [.. page.Findings.Select(finding => finding.Section)];
            foreach (var section in page.Sections.Where(section => !linked.Contains(section.Id))) Put($"<a href=\"#{section.Id}\">{E(section.Title)}</a>");
            _html.Append("</nav>\n</header>\n<main>\n");

            Findings();
            int afterFindings = _html.Length;
            foreach (var section in page.Sections)
            {
                Put($"<section id=\"{section.Id}\">\n<h2>{E(section.Title)}</h2>\n");
                Blocks(section.Blocks);
                _html.Append("</section>\n");
            }

            // Which rows have an anchor is known only now.
            _html.Insert(afterFindings, Evidence());
            _html.Append("</main>\n<footer><p>The same in other forms: <a href=\"report.md\">report.md</a>, <a href=\"results.json\">results.json</a>, "
                + "<a href=\"results.csv\">results.csv</a>; the records they are all drawn from: <a href=\"records.jsonl\">records.jsonl</a>.</p></footer>\n</body>\n</html>\n");
            return _html.ToString();
        }

        private void Findings()
        {
            Put($"<section id=\"findings\">\n<h2>{E(page.FindingsHead.Title)}</h2>\n");
            if (page.Findings.Count == 0)
            {
                _html.Append("<p>The records hold too little to compare strategies.</p>\n");
                return;
            }

            Put($"<table class=\"findings{(page.Findings.Any(finding => finding.Section is not null) ? " linked" : "")}\"><thead><tr><th scope=\"col\">{E(page.FindingsHead.Case)}</th><th scope=\"col\">{E(page.FindingsHead.Choice)}</th><th scope=\"col\">{E(page.FindingsHead.Sentence)}</th></tr></thead>\n<tbody>\n");
            foreach (var finding in page.Findings)
            {
                string about = finding.Section is { } section ? $"<a href=\"#{section}\">{E(finding.Case)}</a>" : E(finding.Case);
                Put($"<tr><th scope=\"row\">{about}</th><td class=\"choice\">");
                string[] choice = finding.Answer.Length > 0 ? [finding.Answer] : [.. finding.Choice];
                for (int i = 0; i < choice.Length; i++) Put($"<span class=\"id{Colour(choice[i])}\">{E(choice[i])}{(i + 1 < choice.Length ? "," : "")}</span> ");
                _html.Append("</td><td>");
                foreach (var part in finding.Sentence)
                {
                    if (part.Row is { } row) Put($"<a href=\"#row-{row.Index}\">{E(part.Text)}</a>");
                    else _html.Append(E(part.Text));
                }

                _html.Append("</td></tr>\n");
            }

            _html.Append("</tbody></table>\n");
        }

        // The sign says it; the colour only repeats it.
        private static string Colour(string answer) => answer.StartsWith('✗') ? " refuted" : answer.StartsWith('✓') ? " best" : "";

        private string Evidence()
        {
            if (!ReportText.Evidence(page.Findings).Any()) return "</section>\n";
            var html = new StringBuilder("<details><summary>Where these numbers come from: their rows in results.json</summary>\n"
                + "<div class=\"scroll\" tabindex=\"0\"><table class=\"data\"><thead><tr>");
            foreach (string head in new[] { "row", "aspect", "strategy", "scenario", "metric", "parameters" }) html.Append($"<th scope=\"col\" class=\"w\">{head}</th>");
            html.Append("<th scope=\"col\">value</th></tr></thead>\n<tbody>\n");
            foreach (var row in ReportText.Evidence(page.Findings))
            {
                string[] trace = ReportText.Trace(row);
                string name = _anchors.Contains(row.Index) ? trace[0] : $"<a href=\"#m{row.Index}\">{trace[0]}</a>";
                html.Append(CultureInfo.InvariantCulture, $"<tr id=\"row-{row.Index}\"><th scope=\"row\">{name}</th>");
                foreach (string text in trace[1..^1]) html.Append($"<td class=\"w\">{E(text)}</td>");
                html.Append($"<td>{E(trace[^1])}</td></tr>\n");
            }

            return html.Append("</tbody></table></div></details>\n</section>\n").ToString();
        }

        private void Blocks(IReadOnlyList<Block> blocks)
        {
            for (int i = 0; i < blocks.Count; i++)
            {
                // Neighbouring charts share a grid.
                bool figure = blocks[i] is Figure;
                if (figure && (i == 0 || blocks[i - 1] is not Figure)) _html.Append("<div class=\"charts\">\n");
                Block(blocks[i]);
                if (figure && (i + 1 == blocks.Count || blocks[i + 1] is not Figure)) _html.Append("</div>\n");
            }
        }

        private void Block(Block block)
        {
            switch (block)
            {
                case Paragraph paragraph:
                    Put($"<p class=\"key\">{E(paragraph.Text)}</p>\n");
                    break;
                case Table table:
                    Table(table);
                    break;
                case Figure figure:
                    Put($"<figure{(figure.IsWide ? " class=\"wide\"" : "")}>\n<figcaption>{E(figure.Caption)}</figcaption>\n");
                    if (figure.IsWide) _html.Append("<div class=\"scroll\" tabindex=\"0\">").Append(figure.Svg).Append("</div>\n");
                    else _html.Append(figure.Svg);
                    if (figure.Data is not null)
                    {
                        _html.Append("<details><summary>The data as a table</summary>\n");
                        Table(figure.Data);
                        _html.Append("</details>\n");
                    }

                    _html.Append("</figure>\n");
                    break;
                case Folded folded:
                    Put($"<details><summary>{E(folded.Summary)}</summary>\n");
                    Blocks(folded.Blocks);
                    _html.Append("</details>\n");
                    break;
            }
        }

        private void Table(Table table)
        {
            var notes = new Footnotes();
            Put($"<div class=\"scroll\" tabindex=\"0\"><table class=\"data\"><caption>{E(table.Caption)}</caption><thead><tr>");
            foreach (var head in table.Heads)
            {
                // The legend under the table holds every sentence once.
                Put($"<th scope=\"col\"{(head.IsText ? " class=\"w\"" : "")}>{E(head.Title)}");
                if (head.Unit.Length > 0) Put($"<span class=\"unit\">{E(head.Unit)}</span>");
                _html.Append("</th>");
            }

            _html.Append("</tr></thead>\n<tbody>\n");
            foreach (var row in table.Rows)
            {
                _html.Append("<tr>");
                for (int i = 0; i < row.Count; i++) Cell(row[i], i == 0, table.Heads[i].IsText, notes);
                _html.Append("</tr>\n");
            }

            _html.Append("</tbody></table></div>\n");
            if (notes.Count > 0)
            {
                _html.Append("<ol class=\"notes\">");
                foreach (string note in notes.Texts) Put($"<li>{E(note)}</li>");
                _html.Append("</ol>\n");
            }

            var legends = ReportText.Legend(table).ToList();
            if (legends.Count == 0) return;
            _html.Append("<dl class=\"legend\">");
            foreach (var (name, legend) in legends) Put($"<div><dt>{E(name)}</dt><dd>{E(legend)}</dd></div>");
            _html.Append("</dl>\n");
        }

        private void Cell(Cell cell, bool first, bool isText, Footnotes notes)
        {
            string mark = cell.Mark switch
            {
                Mark.Best or Mark.Passed => "best",
                Mark.Refuted or Mark.Failed => "refuted",
                Mark.Missing => "missing",
                _ => "",
            };
            string[] classes = isText && !first ? ["w", mark.Length == 0 && cell.Detail.Length == 0 && cell.Text.Length <= ShortText ? "n" : "", mark] : [mark];
            string style = string.Join(' ', classes.Where(name => name.Length > 0));
            string anchor = cell.Row is { } row && _anchors.Remove(row) ? string.Create(CultureInfo.InvariantCulture, $" id=\"m{row}\"") : "";
            Put($"<{(first ? "th scope=\"row\"" : "td")}{anchor}{(style.Length > 0 ? $" class=\"{style}\"" : "")}>");
            _html.Append(cell.Mark switch
            {
                Mark.Best => "★ ",
                Mark.Passed => "✓ ",
                Mark.Refuted or Mark.Failed => "✗ ",
                _ => "",
            });
            _html.Append(E(cell.Text));
            if (cell.Note is { } note) Put($"<sup>{notes.Number(note)}</sup>");
            if (cell.Detail.Length > 0) Put($"<small>{E(cell.Detail)}</small>");
            _html.Append(first ? "</th>" : "</td>");
        }

        private void Put(FormattableString text) => _html.Append(text.ToString(CultureInfo.InvariantCulture));

        private static string E(string text) => WebUtility.HtmlEncode(text);
    }
}
