using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Normalization.Core.Comparison;

namespace Normalization.Core.Reporting;

/// <summary>How records are written as JSON, in records.jsonl and results.json alike.</summary>
/// <remarks>
/// camelCase members; NaN and infinities as the strings "NaN", "Infinity", "-Infinity"; a missing value as null; the optional
/// members of a measurement are left out where there are none. Unknown and repeated members are errors.
/// </remarks>
internal static class RecordJson
{
    public static JsonSerializerOptions Options { get; } = Create();

    private static JsonSerializerOptions Create()
    {
        var options = new JsonSerializerOptions(JsonSerializerOptions.Strict)
        {
            PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
            NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            TypeInfoResolver = new DefaultJsonTypeInfoResolver { Modifiers = { LeaveOutEmptyOptionals } },
            Converters = { new ParameterConverter(), new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
        };
        options.MakeReadOnly();
        return options;
    }

    private static void LeaveOutEmptyOptionals(JsonTypeInfo type)
    {
        Type[] types = [typeof(Measurement), typeof(CaseRecord), typeof(RunHeader), typeof(ExperimentClaim), typeof(ClaimSide), typeof(ExperimentVerdict)];
        if (!types.Contains(type.Type)) return;
        foreach (var property in type.Properties)
        {
            if (property.Name is "spread" or "parameters" or "note" or "failure" or "experiments" or "right" or "published" or "interval")
                property.ShouldSerialize = static (_, value) => value is not null;
        }
    }

    /// <summary>Parameter values: string, integer, number or bool, each coming back as the type it was.</summary>
    private sealed class ParameterConverter : JsonConverter<object>
    {
        public override object Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.TokenType switch
        {
            JsonTokenType.String => reader.GetString()!,
            JsonTokenType.True => true,
            JsonTokenType.False => false,
            // 32 is an integer and 32.0 a number.
            JsonTokenType.Number => reader.TryGetInt64(out long integer) ? (object)integer : reader.GetDouble(),
            _ => throw new JsonException($"A parameter is a string, an integer, a number or a bool; found {reader.TokenType}."),
        };

        public override void Write(Utf8JsonWriter writer, object value, JsonSerializerOptions options)
        {
            switch (value)
            {
                case string text:
                    writer.WriteStringValue(text);
                    break;
                case bool flag:
                    writer.WriteBooleanValue(flag);
                    break;
                case int integer:
                    writer.WriteNumberValue(integer);
                    break;
                case long integer:
                    writer.WriteNumberValue(integer);
                    break;
                case double number when double.IsFinite(number):
                    string digits = number.ToString("R", CultureInfo.InvariantCulture);
                    writer.WriteRawValue(digits.AsSpan().IndexOfAny('.', 'E') < 0 ? digits + ".0" : digits);
                    break;
                default:
                    throw new NotSupportedException(
                        $"A parameter is a string, a long, a finite double or a bool; got {value} ({value.GetType().Name}).");
            }
        }
    }
}
