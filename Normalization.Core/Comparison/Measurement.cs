namespace Normalization.Core.Comparison;

/// <summary>One measured number: what was measured, of which strategy, on which scenario.</summary>
/// <remarks>The shape of one entry of results.json's <c>measurements</c>. A row that could not be formed has a null value and a note.</remarks>
public sealed record Measurement
{
    /// <summary>One of <see cref="Aspects"/>.</summary>
    public required string Aspect { get; init; }

    /// <summary>The strategy's id, such as <c>batch-norm</c>.</summary>
    public required string Strategy { get; init; }

    /// <summary>The scenario's id, such as <c>gaussian</c>.</summary>
    public required string Scenario { get; init; }

    /// <summary>The metric's id, a key of <see cref="Metrics"/>.</summary>
    public required string Metric { get; init; }

    /// <summary>The value in <see cref="Unit"/>; null where it could not be formed (the note says why). NaN and infinities are legal.</summary>
    public double? Value { get; init; }

    /// <summary>The value's unit; <c>1</c> for a pure number.</summary>
    public required string Unit { get; init; }

    /// <summary>The value's spread, low end then high end, in <see cref="Unit"/>; null where there is none.</summary>
    public IReadOnlyList<double>? Spread { get; init; }

    /// <summary>What further identifies the row: batch size, other strategy, shape, thread count. Values are string, long, double or bool.</summary>
    public IReadOnlyDictionary<string, object>? Parameters { get; init; }

    /// <summary>Why a value is missing, or what a reader must know beside it.</summary>
    public string? Note { get; init; }
}

/// <summary>The four questions the harness asks.</summary>
public static class Aspects
{
    /// <summary>What comes out: statistics, precision, distances, claims.</summary>
    public const string Outputs = "outputs";

    /// <summary>What goes back: gradients against differences, identities, gain, Jacobians.</summary>
    public const string Gradients = "gradients";

    /// <summary>How it changes with N.</summary>
    public const string BatchSize = "batch-size";

    /// <summary>What it costs.</summary>
    public const string Speed = "speed";

    /// <summary>What training comes to: the experiments, which no comparison runs.</summary>
    public const string Training = "training";

    /// <summary>The aspects of a comparison, in the order they run and are reported.</summary>
    public static IReadOnlyList<string> All { get; } = [Outputs, Gradients, BatchSize, Speed];
}
