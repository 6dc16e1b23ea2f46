using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;

namespace Normalization.Bench.Models;

/// <summary>Stochastic gradient descent with momentum and weight decay, as PyTorch's SGD computes it.</summary>
/// <remarks>
/// g += weightDecay * w; v = momentum * v + g; w -= rate * v. Decay acts on parameters named weight of more than one axis: weights of
/// linear layers and convolutions, not biases nor a normalizer's.
/// </remarks>
internal sealed class Sgd<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Piece = 2048;

    private readonly Parameter<T>[] _parameters;
    private readonly T[][] _velocities;
    private readonly double _momentum;
    private readonly double _weightDecay;

    /// <param name="parameters">What is moved; a network has all of them after its first forward pass.</param>
    /// <param name="momentum">In [0, 1).</param>
    /// <param name="weightDecay">The factor of L2 regularization, at least 0.</param>
    public Sgd(IEnumerable<Parameter<T>> parameters, double momentum = 0, double weightDecay = 0)
    {
        _parameters = [.. parameters];
        _momentum = momentum;
        _weightDecay = weightDecay;
        _velocities = [.. _parameters.Select(parameter => momentum == 0 ? [] : new T[parameter.Values.Length])];
    }

    /// <summary>Moves every parameter by its gradient and clears that.</summary>
    /// <param name="rate">The learning rate of this step.</param>
    public void Step(double rate)
    {
        for (int i = 0; i < _parameters.Length; i++)
        {
            Parameter<T> parameter = _parameters[i];
            bool decays = _weightDecay != 0 && parameter.Shape.Length > 1 && parameter.Name == "weight";

            // Piece by piece, so that what one pass has read the next finds in the first-level cache.
            for (int first = 0; first < parameter.Values.Length; first += Piece)
            {
                int count = Math.Min(Piece, parameter.Values.Length - first);
                Move(
                    parameter.Values.AsSpan(first, count), parameter.Gradient.AsSpan(first, count), _momentum == 0 ? [] : _velocities[i].AsSpan(first, count), rate, decays);
            }
        }
    }

    /// <summary>Scales all gradients down so that their common norm is at most a limit.</summary>
    /// <param name="limit">Above 0.</param>
    /// <returns>The norm before.</returns>
    public double Clip(double limit)
    {
        double square = 0;
        foreach (Parameter<T> parameter in _parameters)
        {
            square += double.CreateTruncating(TensorPrimitives.SumOfSquares<T>(parameter.Gradient));
        }

        double norm = Math.Sqrt(square);
        if (norm > limit)
        {
            foreach (Parameter<T> parameter in _parameters)
            {
                TensorPrimitives.Multiply(parameter.Gradient, T.CreateTruncating(limit / norm), parameter.Gradient);
            }
        }

        return norm;
    }

    private void Move(Span<T> values, Span<T> gradient, Span<T> velocity, double rate, bool decays)
    {
        if (decays)
        {
            TensorPrimitives.MultiplyAdd(values, T.CreateTruncating(_weightDecay), gradient, gradient);
        }

        if (_momentum != 0)
        {
            TensorPrimitives.MultiplyAdd(velocity, T.CreateTruncating(_momentum), gradient, velocity);
        }

        TensorPrimitives.MultiplyAdd(_momentum == 0 ? gradient : velocity, T.CreateTruncating(-rate), values, values);
        gradient.Clear();
    }
}
