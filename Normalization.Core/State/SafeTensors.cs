using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;

namespace Normalization.Core;

/// <summary>The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes without gaps.</summary>
/// <remarks>Source: the format section of the README of github.com/safetensors/safetensors.</remarks>
internal static class SafeTensors
{
    public const string MetadataName = "__metadata__";

    // The reference reader's limit.
    private const long MaximumHeaderLength = 100_000_000;

    private static readonly JsonWriterOptions HeaderOptions = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static StateDictionary Load(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        byte[] header = ReadHeader(path, file);
        long dataLength = file.Length - sizeof(ulong) - header.Length;

        var state = new StateDictionary();
        List<Entry> entries;
        try
        {
            using JsonDocument document = JsonDocument.Parse(header);
            entries = ParseHeader(path, document.RootElement, dataLength, state.Metadata);
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: half of a surrogate pair in an escaped string.
            throw new InvalidDataException($"{path}: the header is not valid JSON: {exception.Message}", exception);
        }

        int[] order = RequireTiling(path, entries, dataLength);
        var bytes = new byte[entries.Count][];
        foreach (int index in order)
        {
            bytes[index] = new byte[entries[index].End - entries[index].Begin];
            file.ReadExactly(bytes[index]);
        }

        for (int index = 0; index < entries.Count; index++)
        {
            state.Add(entries[index].Name, new StateTensor(entries[index].ElementType, entries[index].Shape, bytes[index]));
        }

        return state;
    }

    public static void Save(StateDictionary state, string path)
    {
        // Eight-byte elements first: readers that view the data in place (PyTorch's) need every offset to be a multiple of its
        // element's size, and the format allows no padding between tensors.
        KeyValuePair<string, StateTensor>[] order = [.. state.OrderByDescending(entry => StateTensor.SizeOf(entry.Value.ElementType))];
        byte[] header = WriteHeader(state, order);
        AtomicFile.Write(path, stream =>
        {
            Span<byte> length = stackalloc byte[sizeof(ulong)];
            BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)header.Length);
            stream.Write(length);
            stream.Write(header);
            foreach ((_, StateTensor tensor) in order)
            {
                stream.Write(tensor.Bytes);
            }
        });
    }

    private static byte[] WriteHeader(StateDictionary state, KeyValuePair<string, StateTensor>[] order)
    {
        var begins = new Dictionary<string, long>(StringComparer.Ordinal);
        long end = 0;
        foreach ((string name, StateTensor tensor) in order)
        {
            begins.Add(name, end);
            end += tensor.Bytes.Length;
        }

        using var header = new MemoryStream();
        using (var writer = new Utf8JsonWriter(header, HeaderOptions))
        {
            writer.WriteStartObject();
            if (state.Metadata.Count > 0)
            {
                writer.WriteStartObject(MetadataName);
                foreach ((string name, string text) in state.Metadata)
                {
                    writer.WriteString(name, text);
                }

                writer.WriteEndObject();
            }

            foreach ((string name, StateTensor tensor) in state)
            {
                writer.WriteStartObject(name);
                writer.WriteString("dtype", tensor.ElementType.ToString());
                writer.WriteStartArray("shape");
                foreach (nint length in tensor.Shape)
                {
                    writer.WriteNumberValue(length);
                }

                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(begins[name]);
                writer.WriteNumberValue(begins[name] + tensor.Bytes.Length);
                writer.WriteEndArray();
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        while (header.Length % sizeof(ulong) != 0)
        {
            header.WriteByte((byte)' ');
        }

        return header.ToArray();
    }

    private static byte[] ReadHeader(string path, FileStream file)
    {
        if (file.Length < sizeof(ulong))
        {
            throw new InvalidDataException(
                $"{path}: a safetensors file begins with 8 bytes of header length; this one has {file.Length} bytes in all. It is empty, cut off or another format.");
        }

        Span<byte> prefix = stackalloc byte[sizeof(ulong)];
        file.ReadExactly(prefix);
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > MaximumHeaderLength)
        {
            throw new InvalidDataException(
                $"{path}: the header would be {length} bytes long; the format allows {MaximumHeaderLength}. This is probably not a safetensors file.");
        }

        long available = file.Length - sizeof(ulong);
        if ((long)length > available)
        {
            throw new InvalidDataException($"{path}: the header would be {length} bytes long, but only {available} bytes follow. The file is cut off or another format.");
        }

        var header = new byte[length];
        file.ReadExactly(header);
        if (header.Length == 0 || header[0] != (byte)'{')
        {
            throw new InvalidDataException(
                $"{path}: the header must be a JSON object and begin with '{{'; it {(header.Length == 0 ? "is empty" : $"begins with the byte 0x{header[0]:X2}")}.");
        }

        return Utf8.IsValid(header) ? header : throw new InvalidDataException($"{path}: the header is not valid UTF-8.");
    }

    private static List<Entry> ParseHeader(string path, JsonElement root, long dataLength, IDictionary<string, string> metadata)
    {
        var entries = new List<Entry>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (JsonProperty property in root.EnumerateObject())
        {
            string where = $"{path}: '{Show(property.Name)}'";
            if (!names.Add(property.Name))
            {
                throw new InvalidDataException($"{where} stands twice in the header; every name must be unique.");
            }

            if (property.Value.ValueKind != JsonValueKind.Object)
            {
                throw new InvalidDataException($"{where} must be a JSON object; it is {Show(property.Value.GetRawText())}.");
            }

            if (property.Name == MetadataName)
            {
                ParseMetadata(where, property.Value, metadata);
            }
            else
            {
                entries.Add(ParseEntry(where, property.Name, property.Value, dataLength));
            }
        }

        return entries;
    }

    private static void ParseMetadata(string where, JsonElement value, IDictionary<string, string> metadata)
    {
        foreach (JsonProperty property in value.EnumerateObject())
        {
            if (property.Value.ValueKind != JsonValueKind.String)
            {
                throw new InvalidDataException($"{where}: '{Show(property.Name)}' must be a string; it is {Show(property.Value.GetRawText())}.");
            }

            if (!metadata.TryAdd(property.Name, property.Value.GetString()!))
            {
                throw new InvalidDataException($"{where}: '{Show(property.Name)}' stands twice; every name must be unique.");
            }
        }
    }

    private static Entry ParseEntry(string where, string name, JsonElement value, long dataLength)
    {
        var fields = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        foreach (JsonProperty property in value.EnumerateObject())
        {
            if (property.Name is not ("dtype" or "shape" or "data_offsets"))
            {
                throw new InvalidDataException($"{where} has the field '{Show(property.Name)}'; a tensor has dtype, shape and data_offsets only.");
            }

            if (!fields.TryAdd(property.Name, property.Value))
            {
                throw new InvalidDataException($"{where} has the field '{property.Name}' twice.");
            }
        }

        StateElementType elementType = ParseElementType(where, Require(where, fields, "dtype"));
        nint[] lengths = ParseShape(where, Require(where, fields, "shape"), out long count);
        (long begin, long end) = ParseOffsets(where, Require(where, fields, "data_offsets"));
        if (end > dataLength)
        {
            throw new InvalidDataException($"{where} has the data_offsets [{begin}, {end}], but the file holds {dataLength} bytes of data. It is cut off.");
        }

        // Int128: the count alone may be all of 63 bits.
        Int128 size = (Int128)count * StateTensor.SizeOf(elementType);
        if (size != end - begin)
        {
            throw new InvalidDataException(
                $"{where}: {elementType} of shape {ActivationShape.Format(lengths)} takes {size} bytes, but its data_offsets [{begin}, {end}] span {end - begin}.");
        }

        if (size > Array.MaxLength)
        {
            throw new InvalidDataException($"{where} takes {size} bytes; a tensor of more than {Array.MaxLength} bytes is not supported.");
        }

        return new Entry(name, elementType, lengths, begin, end);
    }

    private static JsonElement Require(string where, Dictionary<string, JsonElement> fields, string name) => fields.TryGetValue(name, out JsonElement field)
        ? field
        : throw new InvalidDataException($"{where} has no {name}; a tensor has dtype, shape and data_offsets.");

    private static StateElementType ParseElementType(string where, JsonElement dtype) => (dtype.ValueKind == JsonValueKind.String ? dtype.GetString() : null) switch
    {
        "F32" => StateElementType.F32,
        "F64" => StateElementType.F64,
        "I64" => StateElementType.I64,
        _ => throw new InvalidDataException(
            $"{where} has the dtype {Show(dtype.GetRawText())}; F32, F64 and I64 can be read. Convert the tensor in the program that wrote it."),
    };

    private static nint[] ParseShape(string where, JsonElement shape, out long count)
    {
        nint[]? lengths = ParseNumbers(shape);
        if (lengths is null)
        {
            throw new InvalidDataException($"{where} has the shape {Show(shape.GetRawText())}; it must be an array of whole numbers from 0 up.");
        }

        return StateTensor.TryCount(lengths, out count)
            ? lengths
            : throw new InvalidDataException($"{where} has the shape {Show(shape.GetRawText())}, whose element count overflows 64 bits.");
    }

    private static (long Begin, long End) ParseOffsets(string where, JsonElement offsets) => ParseNumbers(offsets) switch
    {
        [nint begin, nint end] when begin <= end => (begin, end),
        _ => throw new InvalidDataException(
            $"{where} has the data_offsets {Show(offsets.GetRawText())}; they must be [begin, end], whole numbers with 0 <= begin <= end."),
    };

    /// <summary>An array of whole numbers from 0 up; null for anything else.</summary>
    private static nint[]? ParseNumbers(JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Array)
        {
            return null;
        }

        var numbers = new List<nint>();
        foreach (JsonElement item in value.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt64(out long number) || number < 0 || number > nint.MaxValue)
            {
                return null;
            }

            numbers.Add((nint)number);
        }

        return [.. numbers];
    }

    /// <summary>Requires that the tensors cover the data without overlap, hole or rest; returns their order in the file.</summary>
    private static int[] RequireTiling(string path, List<Entry> entries, long dataLength)
    {
        int[] order = [.. Enumerable.Range(0, entries.Count).OrderBy(index => entries[index].Begin).ThenBy(index => entries[index].End)];
        long covered = 0;
        string before = "the header";
        foreach (int index in order)
        {
            Entry entry = entries[index];
            if (entry.Begin != covered)
            {
                string fault = entry.Begin < covered ? "overlaps" : "leaves a hole after";
                throw new InvalidDataException(
                    $"{path}: '{Show(entry.Name)}' {fault} {before}: it begins at data offset {entry.Begin}, which must be {covered}. Tensors follow each other without gaps.");
            }

            covered = entry.End;
            before = $"'{Show(entry.Name)}'";
        }

        return covered == dataLength
            ? order
            : throw new InvalidDataException($"{path}: {dataLength - covered} bytes of data follow {before} at data offset {covered} and belong to no tensor.");
    }

    /// <summary>Text from the file for a message: one line of at most 80 characters, without control characters.</summary>
    private static string Show(string text)
    {
        string line = string.Concat(text.Take(80).Select(letter => char.IsControl(letter) ? '?' : letter));
        return text.Length > line.Length ? line + "..." : line;
    }

    private readonly record struct Entry(string Name, StateElementType ElementType, nint[] Shape, long Begin, long End);
}
