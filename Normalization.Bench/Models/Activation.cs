using System.Numerics;
using System.Numerics.Tensors;

namespace Normalization.Bench.Models;

/// <summary>A function of each element whose derivative is known from its result.</summary>
internal abstract class Activation<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        Output.Resize(input.Shape);
        Apply(input.Values, Output.Values);
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        InputGradient.Resize(Output.Shape);
        Differentiate(Output.Values, outputGradient.Values, InputGradient.Values);
        return InputGradient;
    }

    /// <summary>y of x.</summary>
    protected abstract void Apply(ReadOnlySpan<T> x, Span<T> y);

    /// <summary>dx of y and g.</summary>
    protected abstract void Differentiate(ReadOnlySpan<T> y, ReadOnlySpan<T> g, Span<T> dx);
}

/// <summary>1 / (1 + exp(-x)); dx = g y (1 - y).</summary>
internal sealed class Sigmoid<T> : Activation<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    protected override void Apply(ReadOnlySpan<T> x, Span<T> y) => TensorPrimitives.Sigmoid(x, y);

    protected override void Differentiate(ReadOnlySpan<T> y, ReadOnlySpan<T> g, Span<T> dx)
    {
        TensorPrimitives.Subtract(T.One, y, dx);
        TensorPrimitives.Multiply(dx, y, dx);
        TensorPrimitives.Multiply(dx, g, dx);
    }
}

/// <summary>tanh x; dx = g (1 - y^2).</summary>
internal sealed class Tanh<T> : Activation<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    protected override void Apply(ReadOnlySpan<T> x, Span<T> y) => TensorPrimitives.Tanh(x, y);

    protected override void Differentiate(ReadOnlySpan<T> y, ReadOnlySpan<T> g, Span<T> dx)
    {
        TensorPrimitives.Multiply(y, y, dx);
        TensorPrimitives.Subtract(T.One, dx, dx);
        TensorPrimitives.Multiply(dx, g, dx);
    }
}

/// <summary>max(x, 0); dx = g where x is above 0, else 0.</summary>
internal sealed class Relu<T> : Activation<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    protected override void Apply(ReadOnlySpan<T> x, Span<T> y) => TensorPrimitives.Max(x, T.Zero, y);

    // y is above 0 just where x is.
    protected override void Differentiate(ReadOnlySpan<T> y, ReadOnlySpan<T> g, Span<T> dx)
    {
        int lanes = Vector<T>.Count;
        int i = 0;
        for (; i <= y.Length - lanes; i += lanes)
        {
            var passes = Vector.GreaterThan(new Vector<T>(y[i..]), Vector<T>.Zero);
            Vector.ConditionalSelect(passes, new Vector<T>(g[i..]), Vector<T>.Zero).CopyTo(dx[i..]);
        }

        for (; i < y.Length; i++)
        {
            dx[i] = y[i] > T.Zero ? g[i] : T.Zero;
        }
    }
}
