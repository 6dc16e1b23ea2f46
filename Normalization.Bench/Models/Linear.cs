using System.Numerics;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Kernels;

namespace Normalization.Bench.Models;

/// <summary>A linear layer: y = x W^T + b over all elements of a sample.</summary>
/// <remarks>
/// Weight (outputs, inputs), bias (outputs), as PyTorch's Linear. A sample of (C, H, W) is taken in memory's order, (H, W, C): PyTorch's
/// weight after a flatten has the order (C, H, W).
/// </remarks>
internal sealed unsafe class Linear<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly LinearMap<T> _map;
    private Activations<T> _input = new();

    /// <param name="inputs">Elements of a sample.</param>
    /// <param name="outputs">Elements of a result.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="bias">Whether there is a bias.</param>
    /// <param name="deviation">See <see cref="LinearMap{T}"/>.</param>
    public Linear(int inputs, int outputs, RandomStream random, bool bias = true, double? deviation = null) =>
        _map = new LinearMap<T>(inputs, outputs, [outputs, inputs], bias, random, deviation);

    public override IEnumerable<Parameter<T>> Parameters => _map.Parameters;

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        if (input.Features != _map.Inputs)
        {
            throw new ArgumentException($"This linear layer takes {_map.Inputs} elements a sample; got a batch of shape {input.Shape}, {input.Features} each.", nameof(input));
        }

        _input = input;
        Output.Resize(new ActivationShape(input.Shape.Samples, _map.Outputs));
        nint count = input.Shape.Samples;
        fixed (T* x = input.Values, y = Output.Values, weight = _map.Weight.Values, bias = _map.Bias?.Values)
        {
            // Samples or weights, whichever are less, are turned for the product; the sums are the same.
            if (count < _map.Outputs)
            {
                RowProducts<T>.OutputsOfTurned(x, count, _map.Inputs, weight, _map.Outputs, bias, y);
                return Output;
            }

            _map.PackByInput();
            NativeScratch scratch = NativeScratch.Begin(RowProducts<T>.Size(count, _map.Outputs) * sizeof(T));
            T* padded = scratch.Take<T>(RowProducts<T>.Size(count, _map.Outputs));
            RowProducts<T>.Outputs(x, _map.Inputs, count, _map.Inputs, _map.ByInput, _map.Outputs, padded);
            RowProducts<T>.Finish(padded, count, _map.Outputs, bias, y);
        }

        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        nint count = _input.Shape.Samples;
        nint weights = RowProducts<T>.Size(_map.Outputs, _map.Inputs);
        nint rows = wantsInput ? RowProducts<T>.Size(count, _map.Inputs) : 0;
        NativeScratch scratch = NativeScratch.Begin((weights + rows) * sizeof(T));
        T* weightGradient = scratch.Take<T>(weights);
        fixed (T* x = _input.Values)
        fixed (T* g = outputGradient.Values)
        {
            RowProducts<T>.WeightGradient(g, _map.Outputs, x, _map.Inputs, count, _map.Inputs, weightGradient);
            _map.AddWeightGradient(weightGradient);
            _map.AddBiasGradient(g, count);
            if (!wantsInput)
            {
                return InputGradient;
            }

            InputGradient.Resize(_input.Shape);
            _map.PackByOutput();
            T* padded = scratch.Take<T>(rows);
            RowProducts<T>.InputGradient(g, _map.Outputs, count, _map.ByOutput, _map.Inputs, padded);
            fixed (T* dx = InputGradient.Values)
            {
                RowProducts<T>.Finish(padded, count, _map.Inputs, null, dx);
            }
        }

        return InputGradient;
    }
}
