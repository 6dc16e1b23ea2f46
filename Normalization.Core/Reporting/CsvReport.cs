using System.Globalization;
using System.Text;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>results.csv: one row a measurement, in the order of results.json, for spreadsheets (RFC 4180).</summary>
/// <remarks>
/// A missing value is empty; NaN and infinities are NaN, Infinity, -Infinity. Parameters read <c>n=32;shape=(32, 64)</c>; a backslash
/// precedes any backslash, equals sign or semicolon that belongs to a name or a value.
/// </remarks>
public sealed class CsvReport : IReportWriter
{
    /// <inheritdoc/>
    public string FileName => "results.csv";

    /// <inheritdoc/>
    public string Write(RunData run)
    {
        ArgumentNullException.ThrowIfNull(run);
        var text = new StringBuilder("aspect,strategy,scenario,metric,value,unit,spread_low,spread_high,parameters,note\r\n");
        foreach (var row in run.Measurements)
        {
            string?[] fields =
            [
                row.Aspect, row.Strategy, row.Scenario, row.Metric, Number(row.Value), row.Unit,
                Number(row.Spread?[0]), Number(row.Spread?[1]), Parameters(row), row.Note,
            ];
            text.AppendJoin(',', fields.Select(Field)).Append("\r\n");
        }

        return text.ToString();
    }

    private static string Number(double? value) => value?.ToString("R", CultureInfo.InvariantCulture) ?? "";

    private static string Parameters(Measurement row) => row.Parameters is null ? ""
        : string.Join(';', row.Parameters.Select(pair => $"{Escape(pair.Key)}={Escape(ReportText.Parameter(pair.Value))}"));

    private static string Escape(string text) => text.Replace("\\", "\\\\", StringComparison.Ordinal)
        .Replace("=", "\\=", StringComparison.Ordinal).Replace(";", "\\;", StringComparison.Ordinal);

    private static string Field(string? text) => text is null ? ""
        : text.AsSpan().IndexOfAny("\",\r\n") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
