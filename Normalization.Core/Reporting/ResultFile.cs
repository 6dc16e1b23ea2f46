using System.Text.Json;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>What a run measured, whichever of its files it is read from.</summary>
/// <param name="Environment">The machine and the program.</param>
/// <param name="Settings">Everything that changes the results, by option name.</param>
/// <param name="Measurements">All rows in record order.</param>
public sealed record ResultFile(
    RunEnvironment Environment, IReadOnlyDictionary<string, string> Settings, IReadOnlyList<Measurement> Measurements)
{
    /// <summary>Reads a report folder, its records.jsonl or its results.json; a name that ends in .json is taken for the latter.</summary>
    /// <param name="path">The folder or the file, under whatever name.</param>
    /// <exception cref="IOException">There is no such folder or file, or it cannot be read.</exception>
    /// <exception cref="InvalidDataException">It holds no results; the message says what is wrong.</exception>
    public static ResultFile Load(string path)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        if (Directory.Exists(path)) return Of(RunFile.Load(path));
        if (!File.Exists(path))
            throw new FileNotFoundException($"There is no file or folder '{path}'. Name a report's folder, its {RunFile.FileName} or its results.json.");
        return path.EndsWith(".json", StringComparison.OrdinalIgnoreCase) ? FromJson(path) : Of(RunFile.Parse(RunFile.Read(path), path).Data);
    }

    private static ResultFile Of(RunData run) => new(run.Header.Environment, run.Header.Settings, [.. run.Measurements]);

    private static ResultFile FromJson(string path)
    {
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(path));
            int schema = Member<int>("schemaVersion");
            if (schema != RunFile.SchemaVersion)
                throw new InvalidDataException($"{path}: schemaVersion is {schema} and this program reads {RunFile.SchemaVersion}; use the program that wrote it");
            return new ResultFile(Member<RunEnvironment>("environment"), Member<Dictionary<string, string>>("settings"), Member<List<Measurement>>("measurements"));

            T Member<T>(string name) => document.RootElement.GetProperty(name).Deserialize<T>(RecordJson.Options)
                ?? throw new InvalidDataException($"{path}: {name} is null");
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path} is no results.json: {error.Message}", error);
        }
    }
}
