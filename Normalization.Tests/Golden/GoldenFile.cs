using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Serialization;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Golden;

/// <summary>A file of expected values that generate.py wrote; see there for the meaning of every field.</summary>
internal sealed record GoldenFile(string Strategy, string Origin, GoldenCase[] Cases)
{
    private static readonly ConcurrentDictionary<string, GoldenFile> Files = new();

    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web)
    {
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
    };

    public static GoldenFile Of(string strategy) => Files.GetOrAdd(strategy, static id =>
    {
        using FileStream stream = File.OpenRead(Path.Combine(AppContext.BaseDirectory, "Golden", id + ".json"));
        return JsonSerializer.Deserialize<GoldenFile>(stream, Options)!;
    });
}

/// <summary>One case of a golden file.</summary>
internal sealed record GoldenCase(
    string Id,
    int[] Shape,
    StrategySettings Settings,
    bool Training,
    int Forwards,
    double[][] Warmup,
    double[] Input,
    double[] OutputGradient,
    double[]? Weight,
    double[]? Bias,
    Dictionary<string, JsonElement> InitialBuffers,
    double[] Output,
    double[] InputGradient,
    double[]? WeightGradient,
    double[]? BiasGradient,
    Dictionary<string, JsonElement> Buffers)
{
    /// <summary>Parameters other than weight and bias.</summary>
    public Dictionary<string, double[]>? Parameters { get; init; }

    /// <summary>The gradients of <see cref="Parameters"/>.</summary>
    public Dictionary<string, double[]>? ParameterGradients { get; init; }

    /// <summary>Name, values and expected gradient of every parameter, weight and bias included.</summary>
    [JsonIgnore]
    public IEnumerable<(string Name, double[] Values, double[] Gradient)> AllParameters =>
    [
        .. Weight is null ? Array.Empty<(string, double[], double[])>() : [("weight", Weight, WeightGradient!)],
        .. Bias is null ? Array.Empty<(string, double[], double[])>() : [("bias", Bias, BiasGradient!)],
        .. (Parameters ?? []).Select(parameter => (parameter.Key, parameter.Value, ParameterGradients![parameter.Key])),
    ];

    public ActivationShape ActivationShape => new(Array.ConvertAll(Shape, length => (nint)length));
}
