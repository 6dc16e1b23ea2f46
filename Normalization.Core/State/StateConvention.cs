using System.Globalization;

namespace Normalization.Core;

/// <summary>How a framework writes a normalization layer's state: names, the divisor of the stored variance, and what momentum weighs.</summary>
/// <remarks>
/// <para>Given to <see cref="NormalizerState"/>'s methods it reads and writes files in that framework's names. Conventions of one's own are
/// made from these: <c>StateConvention.Keras with { Name = "Keras HDF5", Weight = "gamma:0", ... }</c>.</para>
/// <para>The stored variance is carried over as it is, so that inference gives the other framework's output. Training on from it mixes two
/// divisors until the old value is forgotten; <see cref="ConvertingVariance"/> avoids that where the batches' size is known, or
/// <see cref="RunningVariance"/> of the layer's options is set to the framework's.</para>
/// </remarks>
public sealed record StateConvention
{
    /// <summary>The framework, for messages.</summary>
    public required string Name { get; init; }

    /// <summary>The name of the learnable scale.</summary>
    public required string Weight { get; init; }

    /// <summary>The name of the learnable shift.</summary>
    public required string Bias { get; init; }

    /// <summary>The name of the running mean.</summary>
    public required string RunningMean { get; init; }

    /// <summary>The name of the running variance.</summary>
    public required string RunningVariance { get; init; }

    /// <summary>The name of the counter of batches; null where the framework has none.</summary>
    public string? BatchesTracked { get; init; }

    /// <summary>The divisor of the stored variance.</summary>
    public required RunningVariance StoredVariance { get; init; }

    /// <summary>Whether the framework's momentum is the weight of the old value; ours and PyTorch's is that of the new batch.</summary>
    public bool MomentumWeighsOldValue { get; init; }

    /// <summary>The layer's variance over the file's. Default 1: carried over as it is.</summary>
    public double VarianceFactor { get; private init; } = 1;

    // Whether names beyond the five are ours: a convention made from PyTorch's by "with" still has them.
    private bool KeepsOtherNames { get; init; }

    /// <summary>PyTorch: weight, bias, running_mean, running_var, num_batches_tracked; every other name of ours is itself.</summary>
    public static StateConvention PyTorch { get; } = new()
    {
        Name = "PyTorch",
        Weight = "weight",
        Bias = "bias",
        RunningMean = "running_mean",
        RunningVariance = "running_var",
        BatchesTracked = "num_batches_tracked",
        StoredVariance = Core.RunningVariance.Sample,
        KeepsOtherNames = true,
    };

    /// <summary>Keras: gamma, beta, moving_mean, moving_variance; momentum 0.99 is our 0.01.</summary>
    /// <remarks>Layer norm over several axes has gamma in Keras's order of axes, channels last: (H, W, C) for our (C, H, W).</remarks>
    public static StateConvention Keras { get; } = new()
    {
        Name = "Keras",
        Weight = "gamma",
        Bias = "beta",
        RunningMean = "moving_mean",
        RunningVariance = "moving_variance",
        StoredVariance = Core.RunningVariance.Population,
        MomentumWeighsOldValue = true,
    };

    /// <summary>Flax: scale, bias, mean, var; momentum 0.99 is our 0.01.</summary>
    public static StateConvention Flax { get; } = new()
    {
        Name = "Flax",
        Weight = "scale",
        Bias = "bias",
        RunningMean = "mean",
        RunningVariance = "var",
        StoredVariance = Core.RunningVariance.Population,
        MomentumWeighsOldValue = true,
    };

    /// <summary>ONNX BatchNormalization and InstanceNormalization by the names of their inputs: scale, B, input_mean, input_var; momentum 0.9 is our 0.1.</summary>
    /// <remarks>For LayerNormalization: <c>Onnx with { Weight = "Scale" }</c>; for GroupNormalization: <c>Onnx with { Bias = "bias" }</c>.</remarks>
    public static StateConvention Onnx { get; } = new()
    {
        Name = "ONNX",
        Weight = "scale",
        Bias = "B",
        RunningMean = "input_mean",
        RunningVariance = "input_var",
        StoredVariance = Core.RunningVariance.Population,
        MomentumWeighsOldValue = true,
    };

    internal string Names => string.Join(", ", new[] { Weight, Bias, RunningMean, RunningVariance, BatchesTracked }.Where(name => name is not null));

    /// <summary>The same convention with the stored variance converted between the divisors m and m - 1.</summary>
    /// <param name="layerStores">The divisor that the layer's options ask for.</param>
    /// <param name="valuesPerStatistic">m, the values in a training batch's statistic: N*S for batch norm, S for instance norm. At least 2.</param>
    /// <remarks>Exact where all batches had that size. Inference then differs from the other framework's by the factor m / (m - 1).</remarks>
    /// <exception cref="ArgumentOutOfRangeException">m is below 2.</exception>
    public StateConvention ConvertingVariance(RunningVariance layerStores, long valuesPerStatistic)
    {
        if (valuesPerStatistic < 2)
        {
            throw new ArgumentOutOfRangeException(
                nameof(valuesPerStatistic), valuesPerStatistic,
                $"The sample variance divides by m - 1, so m must be at least 2; got {valuesPerStatistic}. For batch norm m is N*S of a training batch.");
        }

        double sampleOverPopulation = valuesPerStatistic / (valuesPerStatistic - 1.0);
        return this with
        {
            VarianceFactor = layerStores == StoredVariance ? 1 : layerStores == Core.RunningVariance.Sample ? sampleOverPopulation : 1 / sampleOverPopulation,
        };
    }

    /// <summary>The framework's momentum as ours, the weight of the new batch.</summary>
    /// <param name="momentum">As the framework writes it, in [0, 1].</param>
    /// <returns>1 - momentum where it weighs the old value; of up to 15 decimal digits as a person would write it, 0.99 gives 0.01.</returns>
    /// <exception cref="ArgumentOutOfRangeException">Outside [0, 1].</exception>
    public double ToMomentum(double momentum) => Complement(momentum);

    /// <summary>Our momentum as the framework writes it.</summary>
    /// <param name="momentum">The weight of the new batch, in [0, 1]; not null, since only PyTorch knows the cumulative average.</param>
    /// <exception cref="ArgumentOutOfRangeException">Outside [0, 1].</exception>
    public double FromMomentum(double momentum) => Complement(momentum);

    /// <summary>The framework's name for one of PyTorch's; null where it has none.</summary>
    internal string? NameOf(string name) =>
        name == PyTorch.Weight ? Weight :
        name == PyTorch.Bias ? Bias :
        name == PyTorch.RunningMean ? RunningMean :
        name == PyTorch.RunningVariance ? RunningVariance :
        name == PyTorch.BatchesTracked ? BatchesTracked :
        KeepsOtherNames ? name : null;

    private double Complement(double momentum)
    {
        if (!(momentum is >= 0 and <= 1))
        {
            throw new ArgumentOutOfRangeException(
                nameof(momentum), momentum, string.Create(CultureInfo.InvariantCulture, $"Momentum is a weight and must be in [0, 1]; got {momentum}."));
        }

        if (!MomentumWeighsOldValue)
        {
            return momentum;
        }

        // In decimal, so that 0.99 and 0.01 are each other's complement to the bit; what was no short decimal number, a third, would lose digits there.
        decimal written = (decimal)momentum;
        return (double)written == momentum ? (double)(1 - written) : 1 - momentum;
    }
}
