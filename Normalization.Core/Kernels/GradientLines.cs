using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

/// <summary>An input gradient made of two straight lines by slot: dx = GradientSlope * g + Slope * (x - Mean) + Offset.</summary>
/// <remarks>
/// Every gradient of a strategy whose output is a line in x, with numbers that depend on sums over the batch, has this form: those that
/// combine the sums of several sets, or of several machines, fill these arrays and leave the pass over memory to
/// <see cref="Standardizer.ApplyGradient"/>. Slots are numbered as the layout's statistics.
/// </remarks>
internal unsafe struct GradientLines
{
    public double* Mean;
    public double* GradientSlope;
    public double* Slope;
    public double* Offset;
}

/// <summary>Writes dx chunk by chunk.</summary>
internal unsafe struct GradientLinesJob<T> : IStoringJob
    where T : unmanaged
{
    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public T* DX;
    public GradientLines Lines;
    public StoreKind Store;
    public nint Ahead;
    private int _items;
    private int _itemsPerTask;

    public void Share()
    {
        _items = Layout.Panels * Chunks.Count;
        _itemsPerTask = Standardizer.ItemsPerLargeTask(_items, Layout.Elements / _items);
        WorkTeam.Run(ref this, (_items + _itemsPerTask - 1) / _itemsPerTask, Layout.Elements);
    }

    public void Run(int piece) => Stores.Run(ref this, Store, piece);

    public readonly void Run<TStore>(int piece)
        where TStore : struct, IStore
    {
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        for (int item = piece * _itemsPerTask, taken; item < end; item += taken)
        {
            (int panel, Chunk stretch, taken) = Chunks.Stretch(item, end, Layout);
            Apply<TStore>(Layout.Place(panel), stretch);
        }
    }

    private readonly void Apply<TStore>(PanelPlace place, Chunk chunk)
        where TStore : struct, IStore
    {
        nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            if (Layout.Columns == 1)
            {
                ApplyRun<TStore>(place.Slot, offset, chunk.Length);
                continue;
            }

            for (nint column = 0, width; column < Layout.Columns; column += width)
            {
                width = Standardizer.TileWidth(Layout.Columns, column);
                if (typeof(T) == typeof(double) || !ApplyColumns<T, TStore>(place.Slot + column, offset + column, width, chunk.Length))
                {
                    ApplyColumns<double, TStore>(place.Slot + column, offset + column, width, chunk.Length);
                }
            }
        }
    }

    private readonly void ApplyRun<TStore>(nint slot, nint offset, nint length)
        where TStore : struct, IStore
    {
        double mean = Lines.Mean[slot];
        double scale = Lines.GradientSlope[slot];
        double slope = Lines.Slope[slot];
        double shift = Lines.Offset[slot];
        if (typeof(T) == typeof(float) && Simd.CentersSingle(mean) && Simd.SuitsSingle(scale) && Simd.CentersSingle(shift) && Simd.SlopesSingle(slope, 0))
        {
            Loops.InputGradient<T, T, ConstantLine<T>, NoAffine<T>, TStore>(
                X + offset, G + offset, DX + offset, length, length, Ahead, new(0, scale, 0), Standardizer.Line<T>(mean, slope, shift), default);
        }
        else
        {
            Loops.InputGradient<T, double, ConstantLine<double>, NoAffine<double>, TStore>(
                X + offset, G + offset, DX + offset, length, length, Ahead, new(0, scale, 0), new(mean, slope, shift), default);
        }
    }

    // A tile of columns of one block. False, with nothing written, where float does not suit.
    [SkipLocalsInit]
    private readonly bool ApplyColumns<A, TStore>(nint slot, nint offset, nint width, nint length)
        where A : unmanaged
        where TStore : struct, IStore
    {
        byte* block = stackalloc byte[ColumnLines.Bytes<A>(5, width)];
        nint capacity = ColumnLines.Capacity(width);
        A* gradientCenters = Simd.Aligned<A>(block) + ColumnLines.Shift<T, A>(DX + offset);
        A* gradientSlopes = gradientCenters + capacity;
        A* centers = gradientSlopes + capacity;
        A* slopes = centers + capacity;
        A* intercepts = slopes + capacity;
        if (!ColumnLines.Combining(
            Lines.Mean + slot, Lines.GradientSlope + slot, Lines.Slope + slot, Lines.Offset + slot, width,
            gradientCenters, gradientSlopes, centers, slopes, intercepts))
        {
            return false;
        }

        var gradientLine = new ColumnLine<A>(gradientCenters, gradientSlopes, null);
        var line = new ColumnLine<A>(centers, slopes, intercepts);
        nint pitch = Layout.Columns;
        nint run = width == pitch ? length : width;
        for (nint done = 0; done < length; done += run == length ? length : pitch)
        {
            Loops.InputGradient<T, A, ColumnLine<A>, NoAffine<A>, TStore>(
                X + offset + done, G + offset + done, DX + offset + done, run, width, Ahead, gradientLine, line, default);
        }

        return true;
    }
}
