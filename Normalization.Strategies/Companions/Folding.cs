using System.Globalization;
using System.Numerics;
using Normalization.Core;

namespace Normalization.Strategies.Companions;

/// <summary>What a convolution finds beyond the border of its input.</summary>
public enum ConvolutionPadding
{
    /// <summary>Nothing: every kernel position lies inside. Linear layers, and convolutions without padding.</summary>
    None,

    /// <summary>Zeros.</summary>
    Zeros,

    /// <summary>Values of the activation itself: reflected, replicated or circular.</summary>
    Values,
}

/// <summary>A trained normalizer folded into the linear layer or convolution beside it, so that inference runs one layer instead of two.</summary>
/// <remarks>
/// <para>Works where inference is one affine map at every position, y = A (x - mean) + bias: batch, ghost batch, synchronized batch and tracked instance norm
/// (A = diag(weight / sqrt(running_var + epsilon))), adaptive batch norm (the same of the current domain), batch renormalization
/// (A = diag(weight / running_sigma)) and ZCA, PCA, Cholesky and IterNorm whitening (A = diag(weight) W of the running covariance, or the kept W), with
/// <see cref="INormalizer{T}.Training"/> false or the layer frozen. Layer, group and RMS norm, filter and local response norm, switchable norm, both
/// EvoNorms, and any layer without running statistics, depend on the input that is to come and cannot be folded.</para>
/// <para>Preceding layer: W' = A W, b' = A (b - mean) + bias. Following layer: W' = W A, b' = b + W (bias - A mean), summed over the kernel.
/// Computed in double and rounded once; the given arrays are not touched.</para>
/// <para>Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2, for batch norm before quantization.</para>
/// </remarks>
public static class Folding
{
    /// <summary>The layer that computes normalizer(layer(x)).</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <param name="layer">The layer whose output is normalized: out channels are the normalizer's. Exact with any padding.</param>
    /// <param name="normalizer">In inference.</param>
    /// <returns>New weights of the layer's shape, always with a bias.</returns>
    /// <exception cref="ArgumentException">Channels do not agree.</exception>
    /// <exception cref="InvalidOperationException">The normalizer is no constant map, or mixes channels across the convolution's groups.</exception>
    public static LinearWeights<T> IntoPreceding<T>(LinearWeights<T> layer, INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(layer);
        InferenceMap map = MapOf(normalizer);
        if (layer.Outputs != map.Channels)
        {
            throw new ArgumentException(
                $"The layer of shape {layer} has {layer.Outputs} output channels, but the {NameOf(normalizer)} after it normalizes {map.Channels}.", nameof(layer));
        }

        RequireWithinGroups(map, layer.Outputs / layer.Groups, layer, normalizer, "output");
        int d = map.Group;
        int row = layer.Weight.Length / layer.Outputs;
        var weight = new T[layer.Weight.Length];
        var bias = new T[layer.Outputs];
        var sum = new double[row];
        for (int o = 0; o < layer.Outputs; o++)
        {
            Array.Clear(sum);
            double constant = map.Shift[o];
            for (int k = 0; k < d; k++)
            {
                int source = (o / d * d) + k;
                double factor = map.Matrix[(o * d) + k];
                constant += factor * ((layer.Bias is null ? 0 : double.CreateTruncating(layer.Bias[source])) - map.Center[source]);
                for (int j = 0; j < row; j++)
                {
                    sum[j] += factor * double.CreateTruncating(layer.Weight[(source * row) + j]);
                }
            }

            bias[o] = T.CreateTruncating(constant);
            Round(sum, weight.AsSpan(o * row, row));
        }

        return new LinearWeights<T>(weight, layer.Shape, bias, layer.Groups);
    }

    /// <summary>The layer that computes layer(normalizer(x)).</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <param name="normalizer">In inference.</param>
    /// <param name="layer">
    /// The layer whose input is normalized: in channels are the normalizer's. A linear layer over flattened (C, H, W) activations is given
    /// as the convolution it is, with the shape (out, C, H, W).
    /// </param>
    /// <param name="padding">The convolution's padding; <see cref="ConvolutionPadding.None"/> for a linear layer.</param>
    /// <returns>New weights of the layer's shape, always with a bias.</returns>
    /// <exception cref="ArgumentException">Channels do not agree.</exception>
    /// <exception cref="InvalidOperationException">
    /// The padding is zeros: <see cref="IntoFollowingZeroPadded"/> is the way. Or the normalizer is no constant map, or mixes channels across the convolution's groups.
    /// </exception>
    public static LinearWeights<T> IntoFollowing<T>(INormalizer<T> normalizer, LinearWeights<T> layer, ConvolutionPadding padding)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        InferenceMap map = MapBefore(normalizer, layer);
        if (padding == ConvolutionPadding.Zeros)
        {
            throw new InvalidOperationException(
                $"A {NameOf(normalizer)} cannot be folded into a following convolution padded with zeros: the zeros stand for normalized values, and before " +
                "normalization other numbers do, so that the border would come out wrong. IntoFollowingZeroPadded gives those numbers to pad with; " +
                "folding into the preceding layer is exact with any padding.");
        }

        return Compose(map, layer);
    }

    /// <summary>The layer that computes layer(normalizer(x)) for a convolution padded with zeros, and what its input must be padded with instead.</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <param name="normalizer">In inference.</param>
    /// <param name="layer">The convolution whose input is normalized: in channels are the normalizer's.</param>
    /// <returns>
    /// New weights, and by input channel the number that the normalizer takes to zero: mean - bias / A. The convolution is exact when its
    /// input is padded with these numbers (rounded to <typeparamref name="T"/>) before it runs without padding.
    /// </returns>
    /// <exception cref="ArgumentException">Channels do not agree.</exception>
    /// <exception cref="InvalidOperationException">
    /// No such number exists: a channel's weight is 0 while its bias is not. Or the normalizer is no constant map, or mixes channels across the convolution's groups.
    /// </exception>
    public static (LinearWeights<T> Layer, T[] PaddingValues) IntoFollowingZeroPadded<T>(INormalizer<T> normalizer, LinearWeights<T> layer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        InferenceMap map = MapBefore(normalizer, layer);
        var padding = new T[map.Channels];
        for (int first = 0; first < map.Channels; first += map.Group)
        {
            double[]? offset = Preimage(map, first);
            for (int k = 0; k < map.Group; k++)
            {
                double value = offset is null ? double.NaN : map.Center[first + k] - offset[k];
                padding[first + k] = T.CreateTruncating(value);
                if (!T.IsFinite(padding[first + k]))
                {
                    throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                        $"No padding value folds the {NameOf(normalizer)} into a zero-padded convolution: channel {first + k} (bias {map.Shift[first + k]}) reaches 0 at no finite input, its weight or its block's being 0 or too small. Fold into the preceding layer, or keep the normalizer."));
                }
            }
        }

        return (Compose(map, layer), padding);
    }

    /// <summary>The normalizer as a linear layer (out, in) of its own, or a convolution of kernel 1: blocks of d channels as groups.</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <param name="normalizer">In inference.</param>
    /// <returns>Weights (C, d) in C / d groups, with a bias.</returns>
    /// <exception cref="InvalidOperationException">The normalizer is no constant map.</exception>
    public static LinearWeights<T> ToLayer<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        InferenceMap map = MapOf(normalizer);
        var weight = new T[map.Matrix.Length];
        Round(map.Matrix, weight);
        var bias = new T[map.Channels];
        for (int c = 0; c < bias.Length; c++)
        {
            double constant = map.Shift[c];
            for (int k = 0; k < map.Group; k++)
            {
                constant -= map.Matrix[(c * map.Group) + k] * map.Center[(c / map.Group * map.Group) + k];
            }

            bias[c] = T.CreateTruncating(constant);
        }

        return new LinearWeights<T>(weight, [map.Channels, map.Group], bias, map.Channels / map.Group);
    }

    private static InferenceMap MapBefore<T>(INormalizer<T> normalizer, LinearWeights<T> layer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(layer);
        InferenceMap map = MapOf(normalizer);
        if (layer.Inputs != map.Channels)
        {
            throw new ArgumentException(
                $"The layer of shape {layer} has {layer.Inputs} input channels, but the {NameOf(normalizer)} before it normalizes {map.Channels}." +
                (layer.Inputs % map.Channels == 0 ? " A linear layer over flattened activations is given with the shape (out, C, H, W)." : ""), nameof(layer));
        }

        RequireWithinGroups(map, layer.Inputs / layer.Groups, layer, normalizer, "input");
        return map;
    }

    private static LinearWeights<T> Compose<T>(InferenceMap map, LinearWeights<T> layer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = map.Group;
        int kernel = layer.KernelSize;
        int inputs = layer.Shape[1];
        var weight = new T[layer.Weight.Length];
        var bias = new T[layer.Outputs];
        var sum = new double[inputs * kernel];
        for (int o = 0; o < layer.Outputs; o++)
        {
            Array.Clear(sum);
            int firstInput = o / (layer.Outputs / layer.Groups) * inputs;
            double constant = layer.Bias is null ? 0 : double.CreateTruncating(layer.Bias[o]);
            for (int p = 0; p < inputs; p++)
            {
                int channel = firstInput + p;
                double reached = map.Shift[channel];
                for (int k = 0; k < d; k++)
                {
                    reached -= map.Matrix[(channel * d) + k] * map.Center[(channel / d * d) + k];
                }

                for (int position = 0; position < kernel; position++)
                {
                    double factor = double.CreateTruncating(layer.Weight[(((o * inputs) + p) * kernel) + position]);
                    constant += factor * reached;
                    for (int k = 0; k < d; k++)
                    {
                        sum[(((p / d * d) + k) * kernel) + position] += factor * map.Matrix[(channel * d) + k];
                    }
                }
            }

            bias[o] = T.CreateTruncating(constant);
            Round(sum, weight.AsSpan(o * sum.Length, sum.Length));
        }

        return new LinearWeights<T>(weight, layer.Shape, bias, layer.Groups);
    }

    // The offset from Center that a block of channels takes to zero: A offset = Shift, by elimination with the largest pivot; null where A is singular.
    private static double[]? Preimage(InferenceMap map, int first)
    {
        int d = map.Group;
        double[] matrix = map.Matrix.AsSpan(first * d, d * d).ToArray();
        double[] right = map.Shift.AsSpan(first, d).ToArray();
        if (right.All(value => value == 0))
        {
            return right;
        }

        for (int column = 0; column < d; column++)
        {
            int pivot = column;
            for (int row = column + 1; row < d; row++)
            {
                pivot = Math.Abs(matrix[(row * d) + column]) > Math.Abs(matrix[(pivot * d) + column]) ? row : pivot;
            }

            if (matrix[(pivot * d) + column] == 0)
            {
                return null;
            }

            (right[column], right[pivot]) = (right[pivot], right[column]);
            for (int k = 0; k < d; k++)
            {
                (matrix[(column * d) + k], matrix[(pivot * d) + k]) = (matrix[(pivot * d) + k], matrix[(column * d) + k]);
            }

            for (int row = column + 1; row < d; row++)
            {
                double factor = matrix[(row * d) + column] / matrix[(column * d) + column];
                right[row] -= factor * right[column];
                for (int k = column; k < d; k++)
                {
                    matrix[(row * d) + k] -= factor * matrix[(column * d) + k];
                }
            }
        }

        for (int row = d - 1; row >= 0; row--)
        {
            for (int k = row + 1; k < d; k++)
            {
                right[row] -= matrix[(row * d) + k] * right[k];
            }

            right[row] /= matrix[(row * d) + row];
        }

        return right;
    }

    private static InferenceMap MapOf<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        if (normalizer is Normalizer<T> { InferenceMap: { } map })
        {
            int infinite = Array.FindIndex(map.Matrix, value => !double.IsFinite(value));
            return infinite < 0 ? map : throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                $"The {NameOf(normalizer)} cannot be folded: channel {infinite / map.Group} is multiplied by {map.Matrix[infinite]}. A running variance of 0 needs an epsilon above 0, and weights must be finite."));
        }

        bool mightBe = normalizer is StandardizingNormalizer<T> or WhiteningNormalizer<T> && normalizer.Training && !normalizer.Frozen && normalizer.Buffers.Count > 0;
        throw new InvalidOperationException($"The {NameOf(normalizer)} cannot be folded: " + (mightBe
            ? "in training its statistics are the batch's. Set Training = false, or Freeze() it, to fold the running ones."
            : normalizer is not Normalizer<T> ? "it is no layer of this library, which does not know what it computes in inference."
            : "its statistics are those of the input to come, so that it is no fixed linear map. Only layers that normalize by running statistics can be folded."));
    }

    private static void RequireWithinGroups<T>(InferenceMap map, int channelsOfGroup, LinearWeights<T> layer, INormalizer<T> normalizer, string side)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (channelsOfGroup % map.Group != 0)
        {
            throw new InvalidOperationException(
                $"The {NameOf(normalizer)} mixes blocks of {map.Group} channels, but the convolution of shape {layer} keeps groups of {channelsOfGroup} {side} channels apart: " +
                "no weights of that shape compute both. Write the convolution without groups (zeros outside them), or whiten in groups that lie inside its own.");
        }
    }

    private static void Round<T>(ReadOnlySpan<double> values, Span<T> destination)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < values.Length; i++)
        {
            destination[i] = T.CreateTruncating(values[i]);
        }
    }

    private static string NameOf<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => normalizer.GetType().Name.Split('`')[0];
}
