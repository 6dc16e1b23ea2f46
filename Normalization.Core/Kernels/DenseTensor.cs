using System.Buffers;
using System.Runtime.InteropServices;

namespace Normalization.Core.Kernels;

/// <summary>How a tensor's elements lie in memory.</summary>
internal enum MemoryOrder
{
    /// <summary>Dense, (N, C, ...) row-major. A tensor that is both (one channel, or no spatial axes) counts as this.</summary>
    ChannelsFirst,

    /// <summary>Dense, (N, ..., C) row-major.</summary>
    ChannelsLast,

    /// <summary>Anything else: worked on through a dense copy.</summary>
    Strided,
}

/// <summary>Reads memory orders off strides and copies between them.</summary>
internal static unsafe class DenseTensor
{
    public static MemoryOrder OrderOf(ActivationShape shape, ReadOnlySpan<nint> strides)
    {
        if (HasStrides(shape, strides, channelsLast: false))
        {
            return MemoryOrder.ChannelsFirst;
        }

        return HasStrides(shape, strides, channelsLast: true) ? MemoryOrder.ChannelsLast : MemoryOrder.Strided;
    }

    /// <summary>The stride of every axis of a dense tensor.</summary>
    public static void WriteStrides(ActivationShape shape, MemoryOrder order, Span<nint> strides)
    {
        nint stride = 1;
        if (order == MemoryOrder.ChannelsLast)
        {
            strides[1] = 1;
            stride = shape.Channels;
        }

        for (int axis = shape.Rank - 1; axis >= 0; axis--)
        {
            if (axis == 1 && order == MemoryOrder.ChannelsLast)
            {
                continue;
            }

            strides[axis] = stride;
            stride *= shape[axis];
        }
    }

    /// <summary>Copies a tensor with any strides to one with any others; lengths as the shape says.</summary>
    public static void Copy<T>(ActivationShape shape, T* source, ReadOnlySpan<nint> sourceStrides, T* destination, ReadOnlySpan<nint> destinationStrides)
        where T : unmanaged
    {
        nint* lengths = stackalloc nint[ActivationShape.MaximumRank];
        nint* from = stackalloc nint[ActivationShape.MaximumRank];
        nint* to = stackalloc nint[ActivationShape.MaximumRank];
        int pad = ActivationShape.MaximumRank - shape.Rank;
        for (int axis = 0; axis < ActivationShape.MaximumRank; axis++)
        {
            lengths[axis] = axis < pad ? 1 : shape[axis - pad];
            from[axis] = axis < pad ? 0 : sourceStrides[axis - pad];
            to[axis] = axis < pad ? 0 : destinationStrides[axis - pad];
        }

        for (nint a = 0; a < lengths[0]; a++)
        {
            for (nint b = 0; b < lengths[1]; b++)
            {
                for (nint c = 0; c < lengths[2]; c++)
                {
                    for (nint d = 0; d < lengths[3]; d++)
                    {
                        T* read = source + (a * from[0]) + (b * from[1]) + (c * from[2]) + (d * from[3]);
                        T* write = destination + (a * to[0]) + (b * to[1]) + (c * to[2]) + (d * to[3]);
                        if (from[4] == 1 && to[4] == 1)
                        {
                            Buffer.MemoryCopy(read, write, lengths[4] * sizeof(T), lengths[4] * sizeof(T));
                            continue;
                        }

                        for (nint e = 0; e < lengths[4]; e++)
                        {
                            write[e * to[4]] = read[e * from[4]];
                        }
                    }
                }
            }
        }
    }

    /// <summary>The extent of memory a tensor touches, in elements from its first.</summary>
    public static nint Extent(ActivationShape shape, ReadOnlySpan<nint> strides)
    {
        nint extent = 1;
        for (int axis = 0; axis < shape.Rank; axis++)
        {
            extent += (shape[axis] - 1) * strides[axis];
        }

        return extent;
    }

    private static bool HasStrides(ActivationShape shape, ReadOnlySpan<nint> strides, bool channelsLast)
    {
        Span<nint> dense = stackalloc nint[ActivationShape.MaximumRank];
        WriteStrides(shape, channelsLast ? MemoryOrder.ChannelsLast : MemoryOrder.ChannelsFirst, dense);
        for (int axis = 0; axis < shape.Rank; axis++)
        {
            if (shape[axis] > 1 && strides[axis] != dense[axis])
            {
                return false;
            }
        }

        return true;
    }
}

/// <summary>A tensor operand as dense memory in a wanted order: the tensor's own memory, or a rented copy of it.</summary>
internal unsafe struct DenseOperand<T>
    where T : unmanaged
{
    private readonly ActivationShape _shape;
    private readonly T* _own;
    private fixed long _strides[ActivationShape.MaximumRank];
    private T[]? _rented;
    private GCHandle _pin;

    /// <summary>An operand that is read: copied when its order is another.</summary>
    public static DenseOperand<T> Read(ActivationShape shape, T* own, ReadOnlySpan<nint> strides, MemoryOrder present, MemoryOrder wanted) =>
        new(shape, own, strides, present != wanted, wanted, copyIn: true);

    /// <summary>An operand that is written: <see cref="CopyOut"/> brings a copy back.</summary>
    public static DenseOperand<T> Write(ActivationShape shape, T* own, ReadOnlySpan<nint> strides, MemoryOrder present, MemoryOrder wanted) =>
        new(shape, own, strides, present != wanted, wanted, copyIn: false);

    private DenseOperand(ActivationShape shape, T* own, ReadOnlySpan<nint> strides, bool needsCopy, MemoryOrder order, bool copyIn)
    {
        _shape = shape;
        _own = own;
        for (int axis = 0; axis < strides.Length; axis++)
        {
            _strides[axis] = strides[axis];
        }

        Order = order;
        Pointer = own;
        if (!needsCopy)
        {
            return;
        }

        _rented = ArrayPool<T>.Shared.Rent(checked((int)shape.Count));
        _pin = GCHandle.Alloc(_rented, GCHandleType.Pinned);
        Pointer = (T*)_pin.AddrOfPinnedObject();
        if (copyIn)
        {
            Span<nint> dense = stackalloc nint[ActivationShape.MaximumRank];
            DenseTensor.WriteStrides(shape, order, dense);
            DenseTensor.Copy(shape, own, strides, Pointer, dense);
        }
    }

    public MemoryOrder Order { get; }

    public T* Pointer { get; private set; }

    public readonly void CopyOut()
    {
        if (_rented is not null)
        {
            Span<nint> dense = stackalloc nint[ActivationShape.MaximumRank];
            Span<nint> own = stackalloc nint[ActivationShape.MaximumRank];
            for (int axis = 0; axis < _shape.Rank; axis++)
            {
                own[axis] = (nint)_strides[axis];
            }

            DenseTensor.WriteStrides(_shape, Order, dense);
            DenseTensor.Copy(_shape, Pointer, dense, _own, own);
        }
    }

    public void Dispose()
    {
        if (_rented is not null)
        {
            _pin.Free();
            ArrayPool<T>.Shared.Return(_rented);
            _rented = null;
            Pointer = null;
        }
    }
}
