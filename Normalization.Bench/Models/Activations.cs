using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Bench.Models;

/// <summary>A batch between two layers: shape (N, C) or (N, C, H, W), memory channels-last, kept and reused from step to step.</summary>
/// <typeparam name="T">float or double.</typeparam>
/// <remarks>Beyond its elements the memory has room that matrix products may read: they work on whole blocks.</remarks>
internal sealed unsafe class Activations<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // Products read up to eight rows and a block of columns too far.
    private const int ExtraRows = 8;
    private const int ExtraColumns = 64;

    private T[] _memory = [];
    private int _start;

    /// <summary>The lengths, (N, C, ...).</summary>
    public ActivationShape Shape { get; private set; }

    /// <summary>The elements, in memory's order: (N, H, W, C).</summary>
    public Span<T> Values => _memory.AsSpan(_start, (int)Shape.Count);

    /// <summary>Elements of a sample.</summary>
    public int Features => (int)(Shape.Count / Math.Max(1, Shape.Samples));

    /// <summary>Takes a shape; what the memory held is then undefined.</summary>
    public Activations<T> Resize(ActivationShape shape)
    {
        if (shape == Shape)
        {
            return this;
        }

        Shape = shape;
        int needed = (int)shape.Count + (ExtraRows * Features) + ExtraColumns;
        if (_memory.Length - _start < needed)
        {
            // A vector that lies across two cache lines costs twice.
            _memory = GC.AllocateArray<T>(needed + (Simd.LineBytes / sizeof(T)), pinned: true);
            T* memory = (T*)Unsafe.AsPointer(ref _memory[0]);
            _start = (int)(Simd.Aligned<T>((byte*)memory) - memory);
        }

        return this;
    }

    /// <summary>The batch as a normalizer takes it: lengths (N, C, ...) over channels-last strides.</summary>
    public ReadOnlyTensorSpan<T> AsInput()
    {
        Span<nint> lengths = stackalloc nint[Shape.Rank];
        Span<nint> strides = stackalloc nint[Shape.Rank];
        Describe(lengths, strides);
        return new ReadOnlyTensorSpan<T>(_memory, _start, lengths, strides);
    }

    /// <summary>The same, to be written.</summary>
    public TensorSpan<T> AsOutput()
    {
        Span<nint> lengths = stackalloc nint[Shape.Rank];
        Span<nint> strides = stackalloc nint[Shape.Rank];
        Describe(lengths, strides);
        return new TensorSpan<T>(_memory, _start, lengths, strides);
    }

    private void Describe(Span<nint> lengths, Span<nint> strides)
    {
        nint stride = Shape.Channels;
        for (int axis = Shape.Rank - 1; axis >= 2; axis--)
        {
            lengths[axis] = Shape[axis];
            strides[axis] = stride;
            stride *= Shape[axis];
        }

        (lengths[0], strides[0]) = (Shape.Samples, stride);
        (lengths[1], strides[1]) = (Shape.Channels, 1);
    }
}
