using System.Numerics;
using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>The networks of the experiments, with any strategy of the catalog (or none) in their slots.</summary>
internal static class Networks
{
    /// <summary>Hidden layers of equal width, each normalized before its activation, then a linear layer to ten classes.</summary>
    /// <param name="inputs">Pixels.</param>
    /// <param name="width">Units of a hidden layer.</param>
    /// <param name="depth">Hidden layers.</param>
    /// <param name="strategy">A strategy's id; null for none, and biases in its place.</param>
    /// <param name="settings">The strategy's options.</param>
    /// <param name="activation">Makes an activation.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="deviation">The weights' standard deviation; null is sqrt(2 / inputs).</param>
    public static Sequential<T> Perceptron<T>(
        int inputs, int width, int depth, string? strategy, StrategySettings settings, Func<Layer<T>> activation, RandomStream random, double? deviation = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Perceptron<T>(inputs, width, depth, strategy is null ? null : () => Normalizer<T>(strategy, settings), activation, random, deviation);

    /// <summary>The same with any layer in the slots.</summary>
    /// <param name="inputs">Pixels.</param>
    /// <param name="width">Units of a hidden layer.</param>
    /// <param name="depth">Hidden layers.</param>
    /// <param name="normalizer">Makes what stands before an activation; null for nothing.</param>
    /// <param name="activation">Makes an activation.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="deviation">The weights' standard deviation; null is sqrt(2 / inputs).</param>
    /// <param name="biases">Whether hidden layers have biases; null where nothing normalizes.</param>
    public static Sequential<T> Perceptron<T>(
        int inputs, int width, int depth, Func<Layer<T>>? normalizer, Func<Layer<T>> activation, RandomStream random, double? deviation = null, bool? biases = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Perceptron<T>(inputs, width, depth, biases ?? normalizer is null, _ => normalizer is null ? [activation()] : [normalizer(), activation()], random, deviation);

    /// <summary>Hidden layers of equal width with anything between them, then a linear layer to ten classes.</summary>
    /// <param name="inputs">Pixels.</param>
    /// <param name="width">Units of a hidden layer.</param>
    /// <param name="depth">Hidden layers.</param>
    /// <param name="bias">Whether the hidden layers have biases.</param>
    /// <param name="after">Makes what follows a hidden layer, given its index.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="deviation">The weights' standard deviation; null is sqrt(2 / inputs).</param>
    public static Sequential<T> Perceptron<T>(
        int inputs, int width, int depth, bool bias, Func<int, IReadOnlyList<Layer<T>>> after, RandomStream random, double? deviation = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var layers = new List<Layer<T>>();
        for (int i = 0; i < depth; i++)
        {
            layers.Add(new Linear<T>(i == 0 ? inputs : width, width, random, bias, deviation));
            layers.AddRange(after(i));
        }

        layers.Add(new Linear<T>(width, 10, random, bias: true, deviation));
        return new Sequential<T>(layers);
    }

    /// <summary>Convolutions of 3 x 3, each normalized before its activation, then an average over all positions and a linear layer.</summary>
    /// <param name="plan">Output channels and stride of each convolution.</param>
    /// <param name="strategy">A strategy's id; null for none.</param>
    /// <param name="settings">The strategy's options.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="activation">Makes an activation; null is ReLU.</param>
    public static Sequential<T> Convolutional<T>(
        IReadOnlyList<(int Channels, int Stride)> plan, string? strategy, StrategySettings settings, RandomStream random, Func<Layer<T>>? activation = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Convolutional<T>(plan, strategy is null ? null : () => Normalizer<T>(strategy, settings), random, activation: activation);

    /// <summary>The same with any layer in the slots.</summary>
    /// <param name="plan">Output channels and stride of each convolution.</param>
    /// <param name="normalizer">Makes what stands before an activation; null for nothing.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="image">Height and width of an image where the linear layer takes every position of the last convolution; null takes their average.</param>
    /// <param name="activation">Makes an activation; null is ReLU.</param>
    public static Sequential<T> Convolutional<T>(
        IReadOnlyList<(int Channels, int Stride)> plan, Func<Layer<T>>? normalizer, RandomStream random, (int Height, int Width)? image = null, Func<Layer<T>>? activation = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var layers = new List<Layer<T>>();
        int channels = 1;
        foreach ((int outputs, int stride) in plan)
        {
            layers.Add(new Conv2d<T>(channels, outputs, 3, stride, random, bias: normalizer is null));
            if (normalizer is not null)
            {
                layers.Add(normalizer());
            }

            layers.Add(activation?.Invoke() ?? new Relu<T>());
            channels = outputs;
        }

        return image is { } size
            ? new Sequential<T>([.. layers, new Linear<T>(channels * After(size.Height) * After(size.Width), 10, random)])
            : new Sequential<T>([.. layers, new GlobalAveragePool<T>(), new Linear<T>(channels, 10, random)]);

        int After(int length) => plan.Aggregate(length, (positions, convolution) => ((positions - 1) / convolution.Stride) + 1);
    }

    /// <summary>A strategy of the catalog as a layer.</summary>
    public static Normalized<T> Normalizer<T>(string strategy, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => new(shape => StrategyCatalog.Create<T>(strategy, shape, settings));
}
