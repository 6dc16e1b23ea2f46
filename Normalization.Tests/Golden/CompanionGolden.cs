using System.Text.Json;
using System.Text.Json.Serialization;

namespace Normalization.Tests.Golden;

/// <summary>A file of expected values that generate_companions.py wrote; see there for the meaning of every field.</summary>
internal sealed record CompanionGolden<TCase>(string Origin, TCase[] Cases)
{
    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow };

    public static CompanionGolden<TCase> Of(string topic)
    {
        using FileStream stream = File.OpenRead(Path.Combine(AppContext.BaseDirectory, "Golden", topic + ".json"));
        return JsonSerializer.Deserialize<CompanionGolden<TCase>>(stream, Options)!;
    }
}

/// <summary>A case of lstm.json.</summary>
internal sealed record LstmGolden(
    string Id,
    string Normalization,
    int Steps,
    int Samples,
    int Inputs,
    int Hidden,
    bool Training,
    bool Frozen,
    int FirstStep,
    int MaximumSteps,
    double Epsilon,
    double Momentum,
    string RunningVariance,
    bool[]? Mask,
    Dictionary<string, double[]> Parameters,
    Dictionary<string, JsonElement> InitialBuffers,
    double[][] Warmup,
    double[] Input,
    double[][]? InitialState,
    double[] Output,
    double[][] FinalState,
    Dictionary<string, JsonElement> Buffers,
    double[]? OutputGradient,
    double[][]? FinalStateGradient,
    double[]? InputGradient,
    double[][]? InitialStateGradient,
    Dictionary<string, double[]>? ParameterGradients)
{
    /// <inheritdoc/>
    public override string ToString() => Id;
}

/// <summary>A case of data-standardizer.json.</summary>
internal sealed record StandardizerGolden(
    string Id, int[][] Shapes, double[][] Batches, double[] Mean, double[] PopulationVariance, long Count, double[] Standardized);

/// <summary>A case of folding.json.</summary>
internal sealed record FoldingGolden(
    string Id,
    int[] Shape,
    int Groups,
    double Epsilon,
    double[] LayerWeight,
    double[]? LayerBias,
    double[] Weight,
    double[] Bias,
    double[] RunningMean,
    double[] RunningVar,
    double[] FoldedWeight,
    double[] FoldedBias);
