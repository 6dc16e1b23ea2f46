using System.Globalization;
using Normalization.Core;

namespace Normalization.Strategies.Companions;

/// <summary>The numbers of a linear layer or convolution, as PyTorch lays them out.</summary>
/// <typeparam name="T">float or double.</typeparam>
/// <remarks>
/// y[n, o, s] = bias[o] + sum over i and kernel position k of weight[o, i, k] * x[n, i, s + k]. A transposed convolution, whose weight is
/// (in, out, kernel), is another layer and does not belong here.
/// </remarks>
public sealed class LinearWeights<T>
    where T : unmanaged
{
    private readonly int[] _shape;

    /// <summary>Takes the arrays as they are, without copying.</summary>
    /// <param name="weight">Row-major, of the given shape.</param>
    /// <param name="shape">(out, in) of a linear layer; (out, in / groups, kernel lengths ...) of a convolution.</param>
    /// <param name="bias">(out), or null for none.</param>
    /// <param name="groups">The groups of a grouped convolution; 1, the default, joins every input channel with every output channel.</param>
    /// <exception cref="ArgumentException">A length does not agree with the shape, or the groups do not divide the output channels.</exception>
    public LinearWeights(T[] weight, ReadOnlySpan<int> shape, T[]? bias = null, int groups = 1)
    {
        ArgumentNullException.ThrowIfNull(weight);
        string said = "(" + string.Join(", ", shape.ToArray().Select(length => length.ToString(CultureInfo.InvariantCulture))) + ")";
        if (shape.Length < 2)
        {
            throw new ArgumentException($"Weights have the shape (out, in) or (out, in, kernel ...); got {said}.", nameof(shape));
        }

        long count = 1;
        foreach (int length in shape)
        {
            count = length >= 1 ? checked(count * length) : throw new ArgumentException($"Every length of a weight is at least 1; got {said}.", nameof(shape));
        }

        if (weight.Length != count)
        {
            throw new ArgumentException($"Weights of shape {said} are {count} numbers; got {weight.Length}.", nameof(weight));
        }

        if (bias is not null && bias.Length != shape[0])
        {
            throw new ArgumentException($"The bias has one number for each of the {shape[0]} output channels of {said}; got {bias.Length}.", nameof(bias));
        }

        if (groups < 1 || shape[0] % groups != 0)
        {
            throw new ArgumentException($"The output channels must be divisible by the groups, at least 1; got {shape[0]} and {groups}.", nameof(groups));
        }

        Weight = weight;
        Bias = bias;
        Groups = groups;
        _shape = shape.ToArray();
    }

    /// <summary>The weights, row-major.</summary>
    public T[] Weight { get; }

    /// <summary>The bias, (out); null for none.</summary>
    public T[]? Bias { get; }

    /// <summary>(out, in / groups, kernel lengths ...).</summary>
    public ReadOnlySpan<int> Shape => _shape;

    /// <summary>The groups of a grouped convolution, else 1.</summary>
    public int Groups { get; }

    /// <summary>Output channels.</summary>
    public int Outputs => _shape[0];

    /// <summary>Input channels, of all groups.</summary>
    public int Inputs => _shape[1] * Groups;

    /// <summary>Positions of the kernel: 1 for a linear layer.</summary>
    public int KernelSize => _shape.AsSpan(2).ToArray().Aggregate(1, (product, length) => product * length);

    /// <summary>The shape as messages quote it.</summary>
    public override string ToString() =>
        ActivationShape.Format(Array.ConvertAll(_shape, length => (nint)length)) + (Groups == 1 ? "" : string.Create(CultureInfo.InvariantCulture, $" in {Groups} groups"));
}
