using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Kernels;

namespace Normalization.Bench.Models;

/// <summary>Weights (O, K) and a bias (O) as <see cref="Linear{T}"/> and <see cref="Conv2d{T}"/> share them, packed for products.</summary>
internal sealed unsafe class LinearMap<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly T[] _byInput;
    private readonly T[] _byOutput;

    /// <param name="inputs">K, the inputs of one output.</param>
    /// <param name="outputs">O.</param>
    /// <param name="weightShape">The weight's axis lengths, O first; their product is O * K.</param>
    /// <param name="bias">Whether there is a bias; a layer before a normalization has no use for one.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="deviation">The weights' standard deviation; null is sqrt(2 / K) (He et al. 2015, arXiv:1502.01852).</param>
    public LinearMap(int inputs, int outputs, ReadOnlySpan<nint> weightShape, bool bias, RandomStream random, double? deviation)
    {
        Inputs = inputs;
        Outputs = outputs;
        Weight = new Parameter<T>("weight", weightShape, T.Zero);
        Bias = bias ? new Parameter<T>("bias", [outputs], T.Zero) : null;
        double scale = deviation ?? Math.Sqrt(2.0 / inputs);
        for (int i = 0; i < Weight.Values.Length; i++)
        {
            Weight.Values[i] = T.CreateTruncating(scale * random.NextGaussian());
        }

        _byInput = GC.AllocateArray<T>((int)RowProducts<T>.Size(inputs, outputs) + (Simd.LineBytes / sizeof(T)), pinned: true);
        _byOutput = GC.AllocateArray<T>((int)RowProducts<T>.Size(outputs, inputs) + (Simd.LineBytes / sizeof(T)), pinned: true);
    }

    public int Inputs { get; }

    public int Outputs { get; }

    public Parameter<T> Weight { get; }

    public Parameter<T>? Bias { get; }

    public IEnumerable<Parameter<T>> Parameters => Bias is null ? [Weight] : [Weight, Bias];

    /// <summary>(K, O) at <see cref="RowProducts{T}.Pitch"/>; current after <see cref="PackByInput"/>.</summary>
    public T* ByInput => Simd.Aligned<T>((byte*)Unsafe.AsPointer(ref _byInput[0]));

    /// <summary>(O, K) at <see cref="RowProducts{T}.Pitch"/>; current after <see cref="PackByOutput"/>.</summary>
    public T* ByOutput => Simd.Aligned<T>((byte*)Unsafe.AsPointer(ref _byOutput[0]));

    /// <summary>Packs the weights, which an optimizer may have moved, for a forward pass.</summary>
    public void PackByInput()
    {
        fixed (T* weight = Weight.Values)
        {
            Transposition.Copy(weight, Outputs, Inputs, Inputs, ByInput, RowProducts<T>.Pitch(Outputs));
        }
    }

    /// <summary>Packs the weights for the input's gradient.</summary>
    public void PackByOutput()
    {
        nint pitch = RowProducts<T>.Pitch(Inputs);
        for (int o = 0; o < Outputs; o++)
        {
            Weight.Values.AsSpan(o * Inputs, Inputs).CopyTo(new Span<T>(ByOutput + (o * pitch), Inputs));
        }
    }

    /// <summary>Adds the weights' gradient (O x K at the pitch) to the parameter's.</summary>
    public void AddWeightGradient(T* padded)
    {
        nint pitch = RowProducts<T>.Pitch(Inputs);
        for (int o = 0; o < Outputs; o++)
        {
            Span<T> gradient = Weight.Gradient.AsSpan(o * Inputs, Inputs);
            TensorPrimitives.Add(gradient, new ReadOnlySpan<T>(padded + (o * pitch), Inputs), gradient);
        }
    }

    /// <summary>Adds dense gradients (count x O) to the bias's, row by row.</summary>
    public void AddBiasGradient(T* gradients, nint count)
    {
        for (nint row = 0; row < count && Bias is not null; row++)
        {
            TensorPrimitives.Add(Bias.Gradient, new ReadOnlySpan<T>(gradients + (row * Outputs), Outputs), Bias.Gradient);
        }
    }
}
