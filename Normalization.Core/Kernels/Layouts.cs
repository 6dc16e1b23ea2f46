namespace Normalization.Core.Kernels;

/// <summary>The layouts that strategies choose from, in either dense memory order.</summary>
/// <remarks>
/// Without spatial axes both orders are one, and the columns form is the one that vectorizes; hence <see cref="ByColumns"/>.
/// </remarks>
internal static class Layouts
{
    /// <summary>Whether channels are columns of memory: channels-last, or (N, C); a single channel is a row in either.</summary>
    public static bool ByColumns(ActivationShape shape, MemoryOrder order) =>
        shape.Channels > 1 && (order == MemoryOrder.ChannelsLast || shape.SpatialSize == 1);

    /// <summary>One set for each channel over all samples: batch normalization.</summary>
    public static ReductionLayout PerChannel(ActivationShape shape, MemoryOrder order) =>
        PerChannelOf(shape, order, firstSample: 0, groups: 1, groupStride: 0, samples: shape.Samples, sampleStride: 1);

    /// <summary>The channels' statistics, given, over memory in its own order.</summary>
    public static ReductionLayout PerGivenChannel(ActivationShape shape, MemoryOrder order) =>
        ByColumns(shape, order) || shape.SpatialSize == 1
            ? PerChannel(shape, order)
            : PerSampleAndGroup(shape, order, shape.Channels) with { SharingOuters = checked((int)shape.Samples) };

    /// <summary>One set for each group of samples and channel: batch normalization within ghosts.</summary>
    /// <remarks>Group k holds the samples firstSample + k * groupStride + i * sampleStride, i from 0 to samples - 1.</remarks>
    public static ReductionLayout PerChannelOf(
        ActivationShape shape, MemoryOrder order, nint firstSample, nint groups, nint groupStride, nint samples, nint sampleStride)
    {
        nint c = shape.Channels;
        nint s = shape.SpatialSize;
        nint sample = c * s;
        bool consecutive = sampleStride == 1;
        bool oneRun = consecutive && c == 1;
        var layout = new ReductionLayout
        {
            Offset = firstSample * sample,
            Outer = checked((int)groups),
            OuterStride = groupStride * sample,
            ColumnsPerSet = 1,
        };
        return ByColumns(shape, order)
            ? layout with
            {
                Inner = 1,
                Blocks = consecutive ? 1 : checked((int)samples),
                BlockStride = sampleStride * sample,
                BlockLength = consecutive ? samples * sample : sample,
                Columns = (int)c,
            }
            : layout with
            {
                Inner = (int)c,
                InnerStride = s,
                Blocks = oneRun ? 1 : checked((int)samples),
                BlockStride = sampleStride * sample,
                BlockLength = oneRun ? samples * s : s,
                Columns = 1,
                RunLength = oneRun ? samples * s : s,
                AffinePerInner = 1,
            };
    }

    /// <summary>One set for each sample and group of neighbouring channels: group normalization; instance with one channel a group.</summary>
    public static ReductionLayout PerSampleAndGroup(ActivationShape shape, MemoryOrder order, int groups)
    {
        nint c = shape.Channels;
        nint s = shape.SpatialSize;
        int width = (int)c / groups;
        var layout = new ReductionLayout { Outer = checked((int)shape.Samples), OuterStride = c * s, Blocks = 1 };
        return s > 1 && ByColumns(shape, order)
            ? layout with { Inner = 1, BlockLength = c * s, Columns = (int)c, ColumnsPerSet = width }
            : layout with
            {
                Inner = groups,
                InnerStride = width * s,
                BlockLength = width * s,
                Columns = 1,
                ColumnsPerSet = 1,
                RunLength = s > 1 ? s : 0, // without positions each channel's weight is an element's
                AffinePerInner = width,
            };
    }

    /// <summary>One set for each sample and group of neighbouring channels, for statistics alone: sets, or samples, follow each other as outer panels.</summary>
    /// <remarks>Slots are those of <see cref="PerSampleAndChannel"/> where positions lie between a set's channels, else numbered sample * groups + group.</remarks>
    public static ReductionLayout PerSet(ActivationShape shape, MemoryOrder order, int groups)
    {
        nint width = shape.Channels / groups;
        nint length = width * shape.SpatialSize;
        bool columns = ByColumns(shape, order);
        return columns && shape.SpatialSize > 1
            ? PerSampleAndChannel(shape, order, groups) with { ColumnsPerSet = (int)width }
            : new ReductionLayout
            {
                Outer = checked((int)shape.Samples * (columns ? 1 : groups)),
                OuterStride = columns ? shape.Channels : length,
                Inner = columns ? groups : 1,
                InnerStride = columns ? length : 0,
                Blocks = 1,
                BlockLength = length,
                Columns = 1,
                ColumnsPerSet = 1,
                RunLength = shape.SpatialSize,
            };
    }

    /// <summary>A slot for each sample and channel, numbered sample * C + channel; outer panels are those of <see cref="PerSet"/>.</summary>
    public static ReductionLayout PerSampleAndChannel(ActivationShape shape, MemoryOrder order, int groups = 1)
    {
        nint c = shape.Channels;
        nint s = shape.SpatialSize;
        var layout = new ReductionLayout { Outer = checked((int)shape.Samples), Inner = 1, OuterStride = c * s, Blocks = 1, ColumnsPerSet = 1 };
        return ByColumns(shape, order)
            ? layout with { BlockLength = c * s, Columns = (int)c }
            : layout with
            {
                Outer = checked((int)shape.Samples * groups),
                OuterStride = c / groups * s,
                Inner = (int)c / groups,
                InnerStride = s,
                BlockLength = s,
                Columns = 1,
                RunLength = s,
                AffinePerInner = 1,
            };
    }

    /// <summary>A slot for each channel and sample: where channels are runs, numbered channel * N + sample, so that a channel's outer panel can be worked on alone.</summary>
    public static ReductionLayout PerChannelAndSample(ActivationShape shape, MemoryOrder order)
    {
        ReductionLayout layout = PerSampleAndChannel(shape, order);
        return layout.Columns > 1
            ? layout
            : layout with
            {
                Outer = shape.Channels,
                OuterStride = shape.SpatialSize,
                Inner = checked((int)shape.Samples),
                InnerStride = shape.Channels * shape.SpatialSize,
                AffinePerInner = 0,
            };
    }

    /// <summary>One set for each index of the leading axes, weights by element of the trailing ones: layer normalization.</summary>
    /// <param name="shape">The activations.</param>
    /// <param name="order">How they lie.</param>
    /// <param name="dimensions">How many trailing axes are normalized together, 1 to rank - 1.</param>
    public static ReductionLayout Trailing(ActivationShape shape, MemoryOrder order, int dimensions)
    {
        nint length = 1;
        for (int axis = shape.Rank - dimensions; axis < shape.Rank; axis++)
        {
            length *= shape[axis];
        }

        int sets = checked((int)(shape.Count / length));
        if (order == MemoryOrder.ChannelsFirst || dimensions == shape.Rank - 1)
        {
            return new ReductionLayout
            {
                Outer = sets,
                Inner = 1,
                OuterStride = length,
                Blocks = 1,
                BlockLength = length,
                Columns = 1,
                ColumnsPerSet = 1,
            };
        }

        // Channels-last, spatial axes only: each channel is a column, each position's weight a row's.
        return new ReductionLayout
        {
            Outer = sets / shape.Channels,
            Inner = 1,
            OuterStride = length * shape.Channels,
            Blocks = 1,
            BlockLength = length * shape.Channels,
            Columns = shape.Channels,
            ColumnsPerSet = 1,
            RunLength = shape.Channels,
        };
    }

    /// <summary>One set for each sample and position, over the channels alone.</summary>
    public static ReductionLayout PerPosition(ActivationShape shape, MemoryOrder order)
    {
        nint c = shape.Channels;
        nint s = shape.SpatialSize;
        return ByColumns(shape, order)
            ? new ReductionLayout
            {
                Outer = checked((int)(shape.Samples * s)),
                Inner = 1,
                OuterStride = c,
                Blocks = 1,
                BlockLength = c,
                Columns = 1,
                ColumnsPerSet = 1,
            }
            : new ReductionLayout
            {
                Outer = checked((int)shape.Samples),
                Inner = 1,
                OuterStride = c * s,
                Blocks = 1,
                BlockLength = c * s,
                Columns = checked((int)s),
                ColumnsPerSet = 1,
                RunLength = s,
            };
    }
}
