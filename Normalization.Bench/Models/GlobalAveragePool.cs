using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;

namespace Normalization.Bench.Models;

/// <summary>The average over all positions: (N, C, H, W) becomes (N, C).</summary>
internal sealed class GlobalAveragePool<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private ActivationShape _shape;

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        _shape = input.Shape;
        int channels = _shape.Channels;
        Span<T> sums = Output.Resize(new ActivationShape(_shape.Samples, channels)).Values;
        sums.Clear();
        ReadOnlySpan<T> values = input.Values;
        for (int i = 0; i < values.Length; i += channels)
        {
            Span<T> sum = sums.Slice(i / input.Features * channels, channels);
            TensorPrimitives.Add(sum, values.Slice(i, channels), sum);
        }

        TensorPrimitives.Multiply(sums, T.One / T.CreateTruncating(_shape.SpatialSize), sums);
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        int channels = _shape.Channels;
        Span<T> result = InputGradient.Resize(_shape).Values;
        T share = T.One / T.CreateTruncating(_shape.SpatialSize);
        for (int i = 0; i < result.Length; i += channels)
        {
            TensorPrimitives.Multiply(outputGradient.Values.Slice(i / InputGradient.Features * channels, channels), share, result.Slice(i, channels));
        }

        return InputGradient;
    }
}
