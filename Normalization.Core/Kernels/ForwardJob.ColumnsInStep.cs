using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

/// <summary>Panels of columns that are written while the moments of others are taken.</summary>
internal unsafe partial struct ForwardJob<T>
    where T : unmanaged
{
    // The moments of the first few columns, then those of each panel are written while the moments of the next ones are taken, in the same panel or the
    // next. Few, so that what waits is small, and so that their lines and sums stay in registers. The same bits as one after the other.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void ColumnsInStep<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        nint width = Loops.StepColumns<T>();
        byte* memory = stackalloc byte[ColumnSums.Bytes(width) + ColumnLines.Bytes<T>(4, width)];
        var sums = new ColumnSums(memory, width);
        T* centers = Simd.Aligned<T>(memory + ColumnSums.Bytes(width));
        T* slopes = centers + ColumnLines.Capacity(width);
        T* intercepts = slopes + ColumnLines.Capacity(width);
        T* thresholds = intercepts + ColumnLines.Capacity(width);
        FewMoments(start, 0, width);
        for (int panel = start; panel < end; panel++)
        {
            PanelPlace place = Layout.Place(panel);
            for (nint column = 0; column < Layout.Columns; column += width)
            {
                bool last = column + width == Layout.Columns;
                int nextPanel = last ? panel + 1 : panel;
                nint nextColumn = last ? 0 : column + width;
                nint slot = place.Slot + column;
                nint affine = place.Affine + column;
                T* bias = Bias == null ? null : Bias + affine;
                bool suits = ColumnLines.Standardizing(
                    Statistics.Mean + slot, Statistics.InverseStd + slot, Weight + affine, bias, width, centers, slopes, intercepts);
                if (!suits || nextPanel == end)
                {
                    ApplyFew<TStore>(place, column, width);
                    if (nextPanel < end)
                    {
                        FewMoments(nextPanel, nextColumn, width);
                    }

                    continue;
                }

                if (Threshold != null)
                {
                    ColumnLines.Copy(Threshold + affine, width, thresholds);
                }

                var lines = new ColumnLine<T>(centers, slopes, intercepts);
                PanelPlace next = Layout.Place(nextPanel);
                nint count = 0;
                for (int index = 0; index < Chunks.Count; index++)
                {
                    Chunk chunk = Chunks[index];
                    nint written = place.Offset + chunk.Start + column;
                    T* summed = X + next.Offset + chunk.Start + nextColumn;
                    BeginSums(summed, sums);
                    nint rows = chunk.Length / Layout.Columns;
                    if (Threshold == null)
                    {
                        Loops.StandardizeColumnsInStep<T, NoAffine<T>, TStore>(
                            X + written, Y + written, rows, Layout.Columns, Ahead, lines, default, summed, sums.Centers, sums.Firsts, sums.Seconds);
                    }
                    else
                    {
                        Loops.StandardizeColumnsInStep<T, ColumnThreshold<T>, TStore>(
                            X + written, Y + written, rows, Layout.Columns, Ahead, lines, new(thresholds), summed, sums.Centers, sums.Firsts, sums.Seconds);
                    }

                    AddFewMoments(nextPanel, nextColumn, ref count, chunk, sums);
                }

                Finish(next.Slot + nextColumn, width, count);
            }
        }
    }

    // Of a few columns of a panel.
    [SkipLocalsInit]
    private readonly void FewMoments(int panel, nint column, nint width)
    {
        byte* memory = stackalloc byte[ColumnSums.Bytes(width)];
        var sums = new ColumnSums(memory, width);
        PanelPlace place = Layout.Place(panel);
        nint count = 0;
        for (int index = 0; index < Chunks.Count; index++)
        {
            Chunk chunk = Chunks[index];
            T* start = X + place.Offset + chunk.Start + column;
            BeginSums(start, sums);
            Loops.AddCenteredColumns(start, chunk.Length / Layout.Columns, width, Layout.Columns, sums.Centers, sums.Firsts, sums.Seconds);
            AddFewMoments(panel, column, ref count, chunk, sums);
        }

        Finish(place.Slot + column, width, count);
    }

    // Of a chunk, to those of the chunks before it, of which there are so many rows.
    private readonly void AddFewMoments(int panel, nint column, ref nint count, Chunk chunk, ColumnSums sums)
    {
        nint slot = ((nint)panel * Layout.Columns) + column;
        double* spare = Partials + (2 * slot);
        nint rows = chunk.Elements / Layout.Columns;
        if (count == 0)
        {
            EndSums(sums, chunk, Statistics.Mean + slot, Statistics.PopulationVariance + slot);
        }
        else
        {
            EndSums(sums, chunk, spare, spare + sums.Width);
            Merge(Statistics.Mean + slot, Statistics.PopulationVariance + slot, count, spare, spare + sums.Width, rows, sums.Width);
        }

        count += rows;
    }

    private readonly void ApplyFew<TStore>(PanelPlace place, nint column, nint width)
        where TStore : struct, IStore
    {
        for (int index = 0; index < Chunks.Count; index += Chunks.Together)
        {
            Chunk chunk = Chunks.Join(index, Chunks.Together);
            ApplyNarrow<TStore>(place.Slot, place.Affine, place.Offset + chunk.Start, column, width, chunk);
        }
    }
}
