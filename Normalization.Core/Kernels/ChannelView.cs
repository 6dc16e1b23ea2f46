using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>Activations as C rows of M = N*S columns in groups of d rows, and how they lie.</summary>
/// <remarks>
/// A tile is some columns of one group, copied and centred in float or double: d rows of columns where memory is channels-first,
/// columns of d channels where it is channels-last. Columns of short samples are gathered into one tile.
/// </remarks>
internal readonly record struct ChannelView(int Channels, int Group, nint Samples, nint Positions, bool ByColumns)
{
    // Beyond these a sum of squares in float could overflow, or lose what is small to the end of the range.
    private const float LargestSingle = 1L << 50;
    private const float SmallestSingle = 1f / (1L << 50);

    // A prime, so that they fall on different positions of the samples.
    internal const nint RoughColumns = 13;

    public static ChannelView Of(ActivationShape shape, MemoryOrder order, int group) =>
        new(shape.Channels, group, shape.Samples, shape.SpatialSize, Layouts.ByColumns(shape, order));

    public int Groups => Channels / Group;

    /// <summary>M = N*S.</summary>
    public nint Columns => Samples * Positions;

    /// <summary>How many tiles of so many columns there are.</summary>
    public nint Tiles(nint tileColumns) => (Columns + tileColumns - 1) / tileColumns;

    /// <summary>Whether float products of values up to this magnitude keep their accuracy: 0, or far from both ends of the range.</summary>
    public static bool FitsSingle(double largest) => largest == 0 || largest is >= SmallestSingle and <= LargestSingle;

    /// <summary>About where each channel's mean is, from a few columns; the very value where those agree.</summary>
    public unsafe void RoughCenters<T>(T* x, double* centers)
        where T : unmanaged
    {
        nint stride = ByColumns ? 1 : Positions;
        new Span<double>(centers, Channels).Clear();
        for (nint i = 0; i < RoughColumns; i++)
        {
            (nint sample, nint position) = Math.DivRem(((2 * i) + 1) * Columns / (2 * RoughColumns), Positions);
            T* column = x + (sample * Channels * Positions) + (ByColumns ? position * Channels : position);
            for (int c = 0; c < Channels; c++)
            {
                centers[c] += Simd.Get(column + (c * stride)) - Simd.Get(x + (c * stride));
            }
        }

        for (int c = 0; c < Channels; c++)
        {
            // To twenty bits, so that means of data of few digits are as exact as their sums are.
            double offset = BitConverter.Int64BitsToDouble(BitConverter.DoubleToInt64Bits(centers[c] / RoughColumns) & (-1L << 32));
            double center = Simd.Get(x + (c * stride)) + offset;
            centers[c] = double.IsFinite(center) ? center : 0;
        }
    }

    /// <summary>Copies columns [first, first + count) of a group into a tile, the centre subtracted; rows of the tile lie pitch apart.</summary>
    /// <returns>False where the tile is float and its values do not fit float products (<see cref="FitsSingle"/>).</returns>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public unsafe bool Pack<T, TTile>(T* x, in ChannelValues center, int group, nint first, nint count, TTile* tile, nint pitch)
        where T : unmanaged
        where TTile : unmanaged
    {
        int start = group * Group;
        Vector512<int> largest = default;
        if (ByColumns)
        {
            for (nint m = 0; m < count; m++)
            {
                var middle = new ByPosition(center, start);
                largest = Vector512.Max(largest, Center(x + ((first + m) * Channels) + start, tile + (m * pitch), Group, middle));
            }
        }
        else
        {
            (nint sample, nint position) = Math.DivRem(first, Positions);
            for (nint done = 0; done < count; sample++, position = 0)
            {
                nint length = Math.Min(Positions - position, count - done);
                for (int c = 0; c < Group; c++)
                {
                    T* source = x + (((sample * Channels) + start + c) * Positions) + position;
                    largest = Vector512.Max(largest, Center(source, tile + (c * pitch) + done, length, new Uniform(center, start + c)));
                }

                done += length;
            }
        }

        // As integers the magnitudes of floats are in order, and NaN is above them all.
        int bits = 0;
        for (int lane = 0; lane < Vector512<int>.Count; lane++)
        {
            bits = Math.Max(bits, largest.GetElement(lane));
        }

        return typeof(TTile) == typeof(double) || FitsSingle(BitConverter.Int32BitsToSingle(bits));
    }

    /// <summary>Writes a tile's columns back, each channel with its value added.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public unsafe void Unpack<T, TTile>(TTile* tile, nint pitch, int group, nint first, nint count, T* y, in ChannelValues added)
        where T : unmanaged
        where TTile : unmanaged
    {
        int start = group * Group;
        if (ByColumns)
        {
            var shift = new ByPosition(added, start);
            for (nint m = 0; m < count; m++)
            {
                Add(tile + (m * pitch), y + ((first + m) * Channels) + start, Group, shift);
            }

            return;
        }

        (nint sample, nint position) = Math.DivRem(first, Positions);
        for (nint done = 0; done < count; sample++, position = 0)
        {
            nint length = Math.Min(Positions - position, count - done);
            for (int c = 0; c < Group; c++)
            {
                T* destination = y + (((sample * Channels) + start + c) * Positions) + position;
                Add(tile + (c * pitch) + done, destination, length, new Uniform(added, start + c));
            }

            done += length;
        }
    }

    // The largest magnitude by lane is returned as bits, of float tiles alone.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe Vector512<int> Center<T, TTile, TValues>(T* source, TTile* destination, nint count, TValues center)
        where T : unmanaged
        where TTile : unmanaged
        where TValues : struct, IChannelOperand
    {
        Vector512<int> largest = default;
        nint j = 0;
        if (typeof(TTile) == typeof(double))
        {
            for (; j <= count - Simd.Lanes; j += Simd.Lanes)
            {
                (Simd.Load(source + j) - center.Double(j)).Store((double*)destination + j);
            }

            for (; j < count; j++)
            {
                ((double*)destination)[j] = Simd.Get(source + j) - center.DoubleAt(j);
            }

            return largest;
        }

        var magnitude = Vector512.Create(int.MaxValue);
        for (; j <= count - Vector512<float>.Count; j += Vector512<float>.Count)
        {
            Vector512<float> centered = Vector512.Load((float*)source + j) - center.High(j) - center.Low(j);
            centered.Store((float*)destination + j);
            largest = Vector512.Max(largest, centered.AsInt32() & magnitude);
        }

        for (; j < count; j++)
        {
            float centered = ((float*)source)[j] - center.HighAt(j) - center.LowAt(j);
            ((float*)destination)[j] = centered;
            largest = Vector512.Max(largest, Vector512.CreateScalar(BitConverter.SingleToInt32Bits(centered) & int.MaxValue));
        }

        return largest;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe void Add<T, TTile, TValues>(TTile* source, T* destination, nint count, TValues added)
        where T : unmanaged
        where TTile : unmanaged
        where TValues : struct, IChannelOperand
    {
        nint j = 0;
        if (typeof(TTile) == typeof(double))
        {
            for (; j <= count - Simd.Lanes; j += Simd.Lanes)
            {
                Simd.Store(destination + j, Vector512.Load((double*)source + j) + added.Double(j));
            }

            for (; j < count; j++)
            {
                Simd.Set(destination + j, ((double*)source)[j] + added.DoubleAt(j));
            }

            return;
        }

        for (; j <= count - Vector512<float>.Count; j += Vector512<float>.Count)
        {
            (Vector512.Load((float*)source + j) + added.High(j)).Store((float*)destination + j);
        }

        for (; j < count; j++)
        {
            ((float*)destination)[j] = ((float*)source)[j] + added.HighAt(j);
        }
    }

    // A value for the run, or one for each position of it, in either precision.
    private interface IChannelOperand
    {
        Vector512<double> Double(nint j);

        double DoubleAt(nint j);

        Vector512<float> High(nint j);

        float HighAt(nint j);

        Vector512<float> Low(nint j);

        float LowAt(nint j);
    }

    private readonly unsafe struct Uniform(in ChannelValues values, nint channel) : IChannelOperand
    {
        private readonly Vector512<double> _double = Vector512.Create(values.Values[channel]);
        private readonly Vector512<float> _high = Vector512.Create(values.High[channel]);
        private readonly Vector512<float> _low = Vector512.Create(values.Low[channel]);

        public Vector512<double> Double(nint j) => _double;

        public double DoubleAt(nint j) => _double.GetElement(0);

        public Vector512<float> High(nint j) => _high;

        public float HighAt(nint j) => _high.GetElement(0);

        public Vector512<float> Low(nint j) => _low;

        public float LowAt(nint j) => _low.GetElement(0);
    }

    private readonly unsafe struct ByPosition(in ChannelValues values, nint start) : IChannelOperand
    {
        private readonly double* _double = values.Values + start;
        private readonly float* _high = values.High + start;
        private readonly float* _low = values.Low + start;

        public Vector512<double> Double(nint j) => Vector512.Load(_double + j);

        public double DoubleAt(nint j) => _double[j];

        public Vector512<float> High(nint j) => Vector512.Load(_high + j);

        public float HighAt(nint j) => _high[j];

        public Vector512<float> Low(nint j) => Vector512.Load(_low + j);

        public float LowAt(nint j) => _low[j];
    }
}

/// <summary>A double for each channel, and the same split into two floats whose sum it is to twice a float's precision.</summary>
/// <remarks>
/// x - High - Low in float is as near to x - value as one float rounding or two allow: where x is close to the value the first difference is
/// exact (Sterbenz), elsewhere its rounding is relative to the difference.
/// </remarks>
internal readonly unsafe struct ChannelValues
{
    public readonly double* Values;
    public readonly float* High;
    public readonly float* Low;

    private ChannelValues(double* values, float* high, float* low)
    {
        Values = values;
        High = high;
        Low = low;
    }

    /// <summary>What one takes from scratch.</summary>
    public static nint Bytes(int channels) => channels * (sizeof(double) + (2 * sizeof(float)));

    /// <summary>Copied into scratch; null stands for zeros.</summary>
    public static ChannelValues Of<T>(NativeScratch scratch, T* values, int channels)
        where T : unmanaged
    {
        var split = new ChannelValues(scratch.Take<double>(channels), scratch.Take<float>(channels), scratch.Take<float>(channels));
        for (int c = 0; c < channels; c++)
        {
            double value = values == null ? 0 : Simd.Get(values + c);
            split.Values[c] = value;
            split.High[c] = (float)value;
            split.Low[c] = (float)(value - split.High[c]);
        }

        return split;
    }
}
