using System.Text;

namespace Normalization.Core.Reporting;

/// <summary>Turns records into the text of one file. A pure function: the same records give the same bytes, under every culture.</summary>
public interface IReportWriter
{
    /// <summary>The file's name in the report folder.</summary>
    string FileName { get; }

    /// <summary>The file's text.</summary>
    /// <param name="run">The records.</param>
    string Write(RunData run);
}

/// <summary>The files that are drawn from the records.</summary>
public static class ReportFiles
{
    /// <summary>The writers: results.json, results.csv, report.md, index.html.</summary>
    public static IReadOnlyList<IReportWriter> Writers { get; } = [new JsonReport(), new CsvReport(), new MarkdownReport(), new HtmlReport()];

    /// <summary>Writes every report file; each appears whole or not at all, in place of an older one.</summary>
    /// <param name="directory">The report folder; made where it does not exist.</param>
    /// <param name="run">The records.</param>
    /// <returns>The paths written.</returns>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public static IReadOnlyList<string> WriteAll(string directory, RunData run)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(directory);
        ArgumentNullException.ThrowIfNull(run);
        Directory.CreateDirectory(directory);
        var written = new List<string>();
        foreach (var writer in Writers)
        {
            string path = Path.Combine(directory, writer.FileName);
            byte[] content = Encoding.UTF8.GetBytes(writer.Write(run));
            AtomicFile.Write(path, stream => stream.Write(content));
            written.Add(path);
        }

        return written;
    }
}
