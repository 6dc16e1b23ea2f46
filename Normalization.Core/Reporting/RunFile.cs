using System.Text.Json;

namespace Normalization.Core.Reporting;

/// <summary>Reads records.jsonl, the source of every report: a <see cref="RunHeader"/> on the first line, a <see cref="CaseRecord"/> on each further one.</summary>
public static class RunFile
{
    /// <summary>The file's name in a report folder.</summary>
    public const string FileName = "records.jsonl";

    /// <summary>The version of the format that this program reads and writes.</summary>
    public const int SchemaVersion = 1;

    private const string NoHeader = "no header of a run";
    private const string AnotherFolder = "Name a folder that --out wrote; if this is one, restore its first line, or run again with another --out";

    /// <summary>Reads the records of a report folder. An incomplete last line, left by a run that was killed, is dropped.</summary>
    /// <param name="directory">The report folder.</param>
    /// <exception cref="IOException">The folder has no records.jsonl, or it cannot be read.</exception>
    /// <exception cref="InvalidDataException">A line is corrupt; the message names it.</exception>
    public static RunData Load(string directory)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(directory);
        string path = Path.Combine(directory, FileName);
        return Parse(Read(path), path).Data;
    }

    /// <summary>The bytes of the file at a path.</summary>
    internal static byte[] Read(string path)
    {
        if (!File.Exists(path))
            throw new FileNotFoundException($"'{Path.GetDirectoryName(path)}' is no report folder: it has no {FileName}. Name the folder that --out wrote.");
        // A run in progress keeps the file open for writing.
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    /// <summary>The records in the bytes and how many of the bytes are whole lines; errors name the path.</summary>
    internal static (RunData Data, long WholeBytes) Parse(ReadOnlySpan<byte> bytes, string path)
    {
        RunHeader? header = null;
        var cases = new List<CaseRecord>();
        var seen = new Dictionary<string, int>(StringComparer.Ordinal);
        int start = 0;
        int number = 0;
        for (int length; (length = bytes[start..].IndexOf((byte)'\n')) >= 0; start += length + 1)
        {
            number++;
            var line = bytes.Slice(start, length);
            if (header is null)
            {
                header = ReadHeader(line, path);
                continue;
            }

            var record = ReadLine<CaseRecord>(
                line, number, path, "no record of a case", "Delete the line, and --resume measures its case again");
            if (!seen.TryAdd(record.Case, number))
                throw Corrupt(path, number, $"case '{record.Case}' is already on line {seen[record.Case]}");
            if (record.Measurements.FirstOrDefault(row => row.Spread is { Count: not 2 }) is { } torn)
                throw Corrupt(path, number, $"{torn.Metric}: a spread is two numbers, low and high; found {torn.Spread!.Count}");
            cases.Add(record);
        }

        return header is null
            ? throw Corrupt(path, 1, "the header is missing or incomplete, so nothing was recorded; delete the folder and run again")
            : (new RunData(header, cases).InOrder(), start);
    }

    private static RunHeader ReadHeader(ReadOnlySpan<byte> line, string path)
    {
        // The version comes first: another version's header need not have this one's members.
        try
        {
            using var document = JsonDocument.Parse(line.ToArray());
            if (document.RootElement.TryGetProperty("schemaVersion", out var version)
                && version.TryGetInt32(out int schema) && schema != SchemaVersion)
            {
                throw Corrupt(path, 1, $"schemaVersion is {schema} and this program reads {SchemaVersion}; use the program that wrote it");
            }
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            throw Unread(path, 1, NoHeader, error, AnotherFolder);
        }

        return ReadLine<RunHeader>(line, 1, path, NoHeader, AnotherFolder);
    }

    private static T ReadLine<T>(ReadOnlySpan<byte> line, int number, string path, string what, string wayOut)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(line, RecordJson.Options) ?? throw new JsonException("it is null");
        }
        catch (JsonException error)
        {
            throw Unread(path, number, what, error, wayOut);
        }
    }

    // The parser's own places are those within the line.
    private static InvalidDataException Unread(string path, int line, string what, Exception error, string wayOut)
    {
        string[] cut = [" LineNumber:", " Path:"];
        string reason = cut.Aggregate(error.Message, (text, place) => text.Split(place)[0]).TrimEnd('.', ' ');
        return Corrupt(path, line, $"{what} ({reason}). {wayOut}.");
    }

    private static InvalidDataException Corrupt(string path, int line, string what) =>
        new($"{path}, line {line}: {what}");
}

/// <summary>Writes records.jsonl: the header at the start, then each finished case, on disk before <see cref="Append"/> returns.</summary>
/// <remarks>One recorder a folder: a second one, in this process or another, is refused while the first is open.</remarks>
public sealed class RunRecorder : IDisposable
{
    private const string LockName = "records.lock";

    private readonly FileStream _lock;
    private readonly FileStream _records;
    private readonly List<CaseRecord> _cases;
    private readonly HashSet<string> _ids;

    private RunRecorder(FileStream held, FileStream records, RunData run)
    {
        _lock = held;
        _records = records;
        _cases = [.. run.Cases];
        _ids = new HashSet<string>(run.Cases.Select(record => record.Case), StringComparer.Ordinal);
        Header = run.Header;
    }

    /// <summary>The header in the file; of a resumed run, that of its first start.</summary>
    public RunHeader Header { get; }

    /// <summary>The cases in the file, in the order they were written: those found by <see cref="Resume"/>, then those appended.</summary>
    public IReadOnlyList<CaseRecord> Cases => _cases;

    /// <summary>The run so far, its cases in the order of the report.</summary>
    public RunData Run => new RunData(Header, _cases).InOrder();

    /// <summary>Starts a run in a folder that does not exist or is empty, and writes the header.</summary>
    /// <param name="directory">The report folder; made with its parents.</param>
    /// <param name="header">Where and how the run is made.</param>
    /// <exception cref="IOException">The folder holds something, is in use or cannot be written.</exception>
    public static RunRecorder Create(string directory, RunHeader header)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(directory);
        ArgumentNullException.ThrowIfNull(header);
        if (header.SchemaVersion != RunFile.SchemaVersion)
            throw new ArgumentException($"schemaVersion must be {RunFile.SchemaVersion}; got {header.SchemaVersion}.", nameof(header));

        var held = Lock(directory, create: true);
        try
        {
            if (Directory.EnumerateFileSystemEntries(directory).FirstOrDefault(path => Path.GetFileName(path) != LockName) is { } found)
            {
                string way = File.Exists(Path.Combine(directory, RunFile.FileName))
                    ? $"Name another folder (on the command line --out DIR), or go on with this run (--resume {directory})."
                    : "Name another folder (on the command line --out DIR).";
                throw new IOException($"'{directory}' is not empty (it holds {Path.GetFileName(found)}) and a report is never overwritten. {way}");
            }

            var records = Open(directory, FileMode.CreateNew);
            var recorder = new RunRecorder(held, records, new RunData(header, []));
            try
            {
                recorder.WriteLine(JsonSerializer.SerializeToUtf8Bytes(header, RecordJson.Options));
            }
            catch
            {
                // Without a header there is nothing to go on with.
                records.Dispose();
                File.Delete(Path.Combine(directory, RunFile.FileName));
                throw;
            }

            return recorder;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Goes on with a run: <see cref="Cases"/> are those that need not run again. An incomplete last line is cut off.</summary>
    /// <param name="directory">The report folder.</param>
    /// <param name="header">What this run would write; settings, strategies, scenarios, seed, threads, program, processor and runtime must be the file's.</param>
    /// <exception cref="IOException">The folder has no records, is in use or cannot be written.</exception>
    /// <exception cref="InvalidDataException">A line other than the last is corrupt; the message names it.</exception>
    /// <exception cref="ArgumentException">The run differs from the one recorded; the message names every difference.</exception>
    public static RunRecorder Resume(string directory, RunHeader header)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(directory);
        ArgumentNullException.ThrowIfNull(header);
        if (!Directory.Exists(directory))
            throw new DirectoryNotFoundException($"There is no folder '{directory}' to resume. Start a run with --out {directory}.");

        var held = Lock(directory, create: false);
        try
        {
            string path = Path.Combine(directory, RunFile.FileName);
            var (run, wholeBytes) = RunFile.Parse(RunFile.Read(path), path);
            IReadOnlyList<string> differences = [.. run.Header.DifferencesTo(header), .. RunEnvironment.Differences(run.Header.Environment.Arithmetic, header.Environment.Arithmetic)];
            if (differences.Count > 0)
            {
                throw new ArgumentException(
                    $"'{directory}' was recorded differently: {string.Join("; ", differences)}. "
                    + "Run with the recorded settings, or start another report with --out DIR.", nameof(header));
            }

            var records = Open(directory, FileMode.Open);
            records.SetLength(wholeBytes);
            records.Seek(0, SeekOrigin.End);
            return new RunRecorder(held, records, run);
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Adds a finished case; it is on disk when this returns. After an error the file is as it was before.</summary>
    /// <param name="record">The case.</param>
    /// <exception cref="ArgumentException">The case is already recorded.</exception>
    /// <exception cref="IOException">The disk is full or gone.</exception>
    public void Append(CaseRecord record)
    {
        ArgumentNullException.ThrowIfNull(record);
        if (_ids.Contains(record.Case))
            throw new ArgumentException($"Case '{record.Case}' is already recorded.", nameof(record));
        WriteLine(JsonSerializer.SerializeToUtf8Bytes(record, RecordJson.Options));
        _ids.Add(record.Case);
        _cases.Add(record);
    }

    /// <summary>Closes the file and gives the folder free.</summary>
    public void Dispose()
    {
        _records.Dispose();
        _lock.Dispose();
    }

    private void WriteLine(byte[] json)
    {
        long before = _records.Position;
        try
        {
            _records.Write([.. json, (byte)'\n']);
            _records.Flush(flushToDisk: true);
        }
        catch (Exception error) when (error is IOException or ArgumentOutOfRangeException)
        {
            // The latter is what the runtime makes of a file grown longer than the system allows.
            _records.SetLength(before);
            _records.Position = before;
            string kept = before == 0 ? "Nothing was recorded: make room and begin again." : $"The {_cases.Count} cases before are kept: make room and go on with --resume.";
            throw new IOException($"'{_records.Name}' could not be written ({error.Message.Split('\n')[0].TrimEnd('.')}). {kept}", error);
        }
    }

    // The lock is a file of its own, so that a report can be drawn while the run goes on. The system lets go of it when the process
    // ends in whatever way.
    private static FileStream Lock(string directory, bool create)
    {
        string path = Path.Combine(directory, LockName);
        try
        {
            if (create) Directory.CreateDirectory(directory);
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (UnauthorizedAccessException)
        {
            throw NotWritable(directory, "permission denied");
        }
        catch (IOException) when (File.Exists(path))
        {
            throw new IOException($"'{directory}' is in use by another run. Wait for it to end, or write to another folder with --out DIR.");
        }
        catch (IOException error)
        {
            throw NotWritable(directory, File.Exists(directory) ? "it is a file" : error.Message.TrimEnd('.'));
        }
    }

    private static FileStream Open(string directory, FileMode mode)
    {
        try
        {
            return new FileStream(Path.Combine(directory, RunFile.FileName), mode, FileAccess.ReadWrite, FileShare.Read, 0);
        }
        catch (UnauthorizedAccessException)
        {
            throw NotWritable(directory, $"permission denied for {RunFile.FileName}");
        }
    }

    private static IOException NotWritable(string directory, string why) =>
        new($"Cannot write to '{directory}': {why}. Name a folder that can be written with --out DIR.");
}
