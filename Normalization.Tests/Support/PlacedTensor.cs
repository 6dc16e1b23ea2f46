using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;

namespace Normalization.Tests.Support;

/// <summary>Where the elements of a tensor lie in memory.</summary>
public enum Layout
{
    /// <summary>Dense, the last axis fastest.</summary>
    ChannelsFirst,

    /// <summary>Dense, the channel axis fastest.</summary>
    ChannelsLast,

    /// <summary>Dense, all axes reversed: the sample axis fastest.</summary>
    Reversed,

    /// <summary>Some of the channels of a wider channels-first tensor: a gap between samples.</summary>
    ChannelSlice,

    /// <summary>Some of the channels of a wider channels-last tensor: a gap between positions.</summary>
    ChannelSliceLast,

    /// <summary>Every second element of the last axis, an offset, and gaps after every axis.</summary>
    Gapped,
}

/// <summary>A tensor in an array of its own, somewhere inside, with canaries in every element that is not its own.</summary>
internal sealed class PlacedTensor<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Canary = 12345;
    private readonly nint[] _lengths;
    private readonly nint[] _strides;
    private readonly int _start;
    private readonly T[] _memory;
    private readonly int[] _places;

    public PlacedTensor(ActivationShape shape, Layout layout)
    {
        _lengths = shape.ToArray();
        int rank = _lengths.Length;
        _strides = new nint[rank];
        int[] order = [.. Enumerable.Range(0, rank)];
        if (layout is Layout.ChannelsLast or Layout.ChannelSliceLast)
        {
            order = [0, .. Enumerable.Range(2, rank - 2), 1];
        }
        else if (layout == Layout.Reversed)
        {
            Array.Reverse(order);
        }

        nint stride = layout == Layout.Gapped ? 2 : 1;
        int channelStride = 1;
        for (int i = rank - 1; i >= 0; i--)
        {
            int axis = order[i];
            // The tensor library wants stride 0 where an axis of length 1 would otherwise step past the memory.
            _strides[axis] = _lengths[axis] == 1 ? 0 : stride;
            channelStride = axis == 1 ? (int)stride : channelStride;
            bool widened = layout == Layout.Gapped || (axis == 1 && layout is Layout.ChannelSlice or Layout.ChannelSliceLast);
            stride *= Math.Max(_lengths[axis], 1) + (widened ? 3 : 0);
        }

        _start = layout is Layout.ChannelsFirst or Layout.ChannelsLast or Layout.Reversed ? 0 : layout == Layout.Gapped ? 5 : channelStride;
        _memory = new T[_start + stride];
        Array.Fill(_memory, T.CreateChecked(Canary));
        _places = Places(shape.Count);
    }

    /// <summary>A tensor of given values, row-major, rounded to T.</summary>
    public PlacedTensor(ActivationShape shape, Layout layout, ReadOnlySpan<double> values)
        : this(shape, layout)
    {
        for (int i = 0; i < values.Length; i++)
        {
            _memory[_places[i]] = T.CreateChecked(values[i]);
        }
    }

    public ReadOnlyTensorSpan<T> ReadOnly => new(_memory, _start, _lengths, _strides);

    public TensorSpan<T> Span => new(_memory, _start, _lengths, _strides);

    /// <summary>The elements row-major; fails where an element outside the tensor was written.</summary>
    public T[] Read()
    {
        var values = new T[_places.Length];
        var own = new bool[_memory.Length];
        T canary = T.CreateChecked(Canary);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = _memory[_places[i]];
            own[_places[i]] = true;
        }

        for (int i = 0; i < _memory.Length; i++)
        {
            if (!own[i] && _memory[i] != canary)
            {
                Assert.Fail($"An element outside the tensor was written: [{i}] = {_memory[i]}.");
            }
        }

        return values;
    }

    // Where in memory the elements lie, row-major.
    private int[] Places(long count)
    {
        var places = new int[count];
        var index = new nint[_lengths.Length];
        nint place = _start;
        for (int i = 0; i < places.Length; i++)
        {
            places[i] = (int)place;
            for (int axis = index.Length - 1; axis >= 0; axis--)
            {
                place += _strides[axis];
                if (++index[axis] < _lengths[axis])
                {
                    break;
                }

                place -= _lengths[axis] * _strides[axis];
                index[axis] = 0;
            }
        }

        return places;
    }
}
