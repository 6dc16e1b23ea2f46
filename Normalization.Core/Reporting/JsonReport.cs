using System.Text;
using System.Text.Json;

namespace Normalization.Core.Reporting;

/// <summary>results.json: environment, settings and every measurement, one a line, for programs.</summary>
public sealed class JsonReport : IReportWriter
{
    /// <inheritdoc/>
    public string FileName => "results.json";

    /// <inheritdoc/>
    public string Write(RunData run)
    {
        ArgumentNullException.ThrowIfNull(run);
        var failures = run.Cases.Where(record => record.Failure is not null).Select(record => new { record.Case, record.Failure });
        var text = new StringBuilder("{\n");
        Member("schemaVersion", run.Header.SchemaVersion);
        Member("complete", run.Complete);
        Member("environment", run.Header.Environment);
        Member("settings", run.Header.Settings);
        Items("strategies", run.Header.Strategies);
        Items("scenarios", run.Header.Scenarios);
        Items("failures", failures);
        if (run.Header.Experiments is { } experiments)
        {
            Items("experiments", experiments);
            Items("claims", ExperimentVerdict.Of(run));
        }

        Items("measurements", run.Measurements);
        return text.Remove(text.Length - 2, 2).Append("\n}\n").ToString();

        void Member<T>(string name, T value) => text.Append("  \"").Append(name).Append("\": ").Append(Json(value)).Append(",\n");

        void Items<T>(string name, IEnumerable<T> items)
        {
            text.Append("  \"").Append(name).Append("\": [");
            string separator = "\n    ";
            foreach (var item in items)
            {
                text.Append(separator).Append(Json(item));
                separator = ",\n    ";
            }

            text.Append("\n  ],\n");
        }

        static string Json<T>(T value) => JsonSerializer.Serialize(value, RecordJson.Options);
    }
}
