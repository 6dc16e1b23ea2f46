using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;

namespace Normalization.Bench.Models;

/// <summary>RMSProp as PyTorch computes it, without momentum: steps as large as the rate whatever the gradient's scale.</summary>
/// <remarks>v = decay * v + (1 - decay) g^2, from 0; w -= rate * g / (sqrt(v) + 1e-8). Source: Tieleman and Hinton 2012, lecture 6.5.</remarks>
internal sealed class RmsProp<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const double Epsilon = 1e-8;

    private readonly Parameter<T>[] _parameters;
    private readonly T[][] _squares;
    private readonly T[] _steps;
    private readonly double _decay;

    /// <param name="parameters">What is moved; a network has all of them after its first forward pass.</param>
    /// <param name="decay">How much of the mean square stays from step to step, in [0, 1).</param>
    public RmsProp(IEnumerable<Parameter<T>> parameters, double decay = 0.9)
    {
        _parameters = [.. parameters];
        _decay = decay;
        _squares = [.. _parameters.Select(parameter => new T[parameter.Values.Length])];
        _steps = new T[_parameters.Max(parameter => parameter.Values.Length)];
    }

    /// <summary>Moves every parameter by its gradient and clears that.</summary>
    /// <param name="rate">The learning rate of this step.</param>
    public void Step(double rate)
    {
        for (int i = 0; i < _parameters.Length; i++)
        {
            Parameter<T> parameter = _parameters[i];
            Span<T> gradient = parameter.Gradient;
            Span<T> square = _squares[i];
            Span<T> step = _steps.AsSpan(0, gradient.Length);
            TensorPrimitives.Multiply(square, T.CreateTruncating(_decay), square);
            TensorPrimitives.Multiply(gradient, gradient, step);
            TensorPrimitives.MultiplyAdd(step, T.CreateTruncating(1 - _decay), square, square);
            TensorPrimitives.Sqrt(square, step);
            TensorPrimitives.Add(step, T.CreateTruncating(Epsilon), step);
            TensorPrimitives.Divide(gradient, step, step);
            TensorPrimitives.MultiplyAdd(step, T.CreateTruncating(-rate), parameter.Values, parameter.Values);
            gradient.Clear();
        }
    }
}
