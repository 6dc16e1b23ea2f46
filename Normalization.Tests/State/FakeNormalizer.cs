using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;

namespace Normalization.Tests.State;

/// <summary>Parameters and buffers without mathematics.</summary>
internal sealed class FakeNormalizer<T> : INormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>weight and bias (3), running_mean (3), a 2 x 3 covariance and a counter, all different.</summary>
    public FakeNormalizer()
    {
        Parameters = [new("weight", [3], T.One), new("bias", [3], T.Zero)];
        Buffers = [new("running_mean", [3], T.Zero), new("covariance", [2, 3], T.One), new("num_batches_tracked")];
    }

    public bool Training { get; set; }

    public IReadOnlyList<Parameter<T>> Parameters { get; }

    public IReadOnlyList<StateBuffer<T>> Buffers { get; }

    /// <summary>Every value there is, the counter last.</summary>
    public double[] Everything =>
    [
        .. Parameters.SelectMany(parameter => parameter.Values).Concat(Buffers.SelectMany(buffer => buffer.Values)).Select(double.CreateChecked),
        Buffers[^1].Count,
    ];

    public int StateChanges { get; private set; }

    /// <summary>Makes OnStateChanged throw while running_mean's first value is this.</summary>
    public T? Unbearable { get; init; }

    public void FillWithDistinctValues(int seed)
    {
        var random = new Random(seed);
        foreach (T[] values in Parameters.Select(parameter => parameter.Values).Concat(Buffers.Select(buffer => buffer.Values)))
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = T.CreateChecked((random.NextDouble() * 4) - 2);
            }
        }

        Buffers[^1].Count = 1 + random.Next(1000);
    }

    public void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output) => throw new NotSupportedException();

    public void Backward(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> outputGradient, in TensorSpan<T> inputGradient) =>
        throw new NotSupportedException();

    public void OnStateChanged()
    {
        StateChanges++;
        if (Buffers[0].Values[0] == Unbearable)
        {
            throw new InvalidOperationException("unbearable");
        }
    }
}
