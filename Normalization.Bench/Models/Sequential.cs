using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;

namespace Normalization.Bench.Models;

/// <summary>Layers one after the other.</summary>
internal sealed class Sequential<T>(params IReadOnlyList<Layer<T>> layers) : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    public IReadOnlyList<Layer<T>> Layers { get; } = layers;

    public override IEnumerable<Parameter<T>> Parameters => Layers.SelectMany(layer => layer.Parameters);

    public override IEnumerable<INormalizer<T>> Normalizers => Layers.SelectMany(layer => layer.Normalizers);

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        for (int i = 0; i < Layers.Count; i++)
        {
            input = Layers[i].Forward(input, training);
        }

        return input;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        for (int i = Layers.Count - 1; i >= 0; i--)
        {
            outputGradient = Layers[i].Backward(outputGradient, wantsInput || i > 0);
        }

        return outputGradient;
    }
}

/// <summary>A residual block: y = f(x) + x (He et al. 2015, arXiv:1512.03385), with a second branch in place of x where shapes change.</summary>
internal sealed class Residual<T>(Layer<T> branch, Layer<T>? shortcut = null) : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    public override IEnumerable<Parameter<T>> Parameters => branch.Parameters.Concat(shortcut?.Parameters ?? []);

    public override IEnumerable<INormalizer<T>> Normalizers => branch.Normalizers.Concat(shortcut?.Normalizers ?? []);

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        Activations<T> first = branch.Forward(input, training);
        Activations<T> second = shortcut is null ? input : shortcut.Forward(input, training);
        if (first.Shape != second.Shape)
        {
            throw new ArgumentException($"The branch of a residual block gives {first.Shape} and its shortcut {second.Shape}; give it a shortcut of the branch's shape.", nameof(input));
        }

        TensorPrimitives.Add(first.Values, second.Values, Output.Resize(first.Shape).Values);
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        Activations<T> first = branch.Backward(outputGradient, wantsInput);
        Activations<T> second = shortcut is null ? outputGradient : shortcut.Backward(outputGradient, wantsInput);
        TensorPrimitives.Add(first.Values, second.Values, InputGradient.Resize(first.Shape).Values);
        return InputGradient;
    }
}
