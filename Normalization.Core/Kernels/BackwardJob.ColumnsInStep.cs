using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

/// <summary>Panels of columns that are written while the sums of others are taken.</summary>
internal unsafe partial struct BackwardJob<T>
    where T : unmanaged
{
    // As in the forward pass, of sums that are taken in T.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void ColumnsInStep<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        nint width = Loops.StepColumns<T>();
        nint capacity = ColumnLines.Capacity(width);
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(2, width) + ColumnLines.Bytes<T>(7, width)];
        double* gradients = Simd.Aligned<double>(memory);
        double* products = gradients + capacity;
        T* summedCenters = Simd.Aligned<T>(memory + ColumnLines.Bytes<double>(2, width));
        T* gradientCenters = summedCenters + capacity;
        T* gradientSlopes = gradientCenters + capacity;
        T* centers = gradientSlopes + capacity;
        T* slopes = centers + capacity;
        T* intercepts = slopes + capacity;
        T* weights = intercepts + capacity;
        var gradientLines = new ColumnLine<T>(gradientCenters, gradientSlopes, null);
        var lines = new ColumnLine<T>(centers, slopes, intercepts);
        bool folded = Layout.OneWeightPerSet;
        FewSums(start, 0, width);
        for (int panel = start; panel < end; panel++)
        {
            PanelPlace place = Layout.Place(panel);
            for (nint column = 0; column < Layout.Columns; column += width)
            {
                bool last = column + width == Layout.Columns;
                int nextPanel = last ? panel + 1 : panel;
                nint nextColumn = last ? 0 : column + width;
                nint slot = place.Slot + column;
                T* weight = Weight + place.Affine + column;
                bool suits = ColumnLines.Differentiating(
                    Statistics.Mean + slot, Statistics.InverseStd + slot, MeanGradient + slot, MeanProduct + slot, weight, folded, width,
                    gradientCenters, gradientSlopes, centers, slopes, intercepts);
                if (!suits || nextPanel == end)
                {
                    ApplyFew<TStore>(place, column, width);
                    if (nextPanel < end)
                    {
                        FewSums(nextPanel, nextColumn, width);
                    }

                    continue;
                }

                ColumnLines.Copy(weight, width, weights);
                PanelPlace next = Layout.Place(nextPanel);
                nint nextSlot = next.Slot + nextColumn;
                ColumnLines.Copy(Statistics.Mean + nextSlot, width, summedCenters);
                for (int index = 0; index < Chunks.Count; index++)
                {
                    Chunk chunk = Chunks[index];
                    nint written = place.Offset + chunk.Start + column;
                    nint summed = next.Offset + chunk.Start + nextColumn;
                    nint rows = chunk.Length / Layout.Columns;
                    if (SumsWide(chunk))
                    {
                        ApplyNarrow<TStore>(place.Slot, place.Affine, place.Offset + chunk.Start, column, width, chunk);
                        TakeColumnSums(nextSlot, summed, width, chunk, gradients, products);
                        AddFewSums(nextPanel, nextColumn, width, index, gradients, products);
                        continue;
                    }

                    new Span<double>(gradients, (int)width).Clear();
                    new Span<double>(products, (int)width).Clear();
                    if (folded)
                    {
                        Loops.InputGradientColumnsInStep<T, NoAffine<T>, TStore>(
                            X + written, G + written, DX + written, rows, Layout.Columns, Ahead, gradientLines, lines, default,
                            X + summed, G + summed, summedCenters, gradients, products);
                    }
                    else
                    {
                        Loops.InputGradientColumnsInStep<T, ElementAffine<T, T>, TStore>(
                            X + written, G + written, DX + written, rows, Layout.Columns, Ahead, gradientLines, lines, new(weights, null),
                            X + summed, G + summed, summedCenters, gradients, products);
                    }

                    if (!ScaleColumnSums(nextSlot, width, summedCenters, gradients, products))
                    {
                        MendColumnSums(nextSlot, summed, width, chunk, gradients, products);
                    }

                    AddFewSums(nextPanel, nextColumn, width, index, gradients, products);
                }

                FinishFew(nextPanel, nextColumn, width);
            }
        }
    }

    // Of a few columns of a panel.
    [SkipLocalsInit]
    private readonly void FewSums(int panel, nint column, nint width)
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(2, width)];
        double* gradients = Simd.Aligned<double>(memory);
        double* products = gradients + ColumnLines.Capacity(width);
        PanelPlace place = Layout.Place(panel);
        for (int index = 0; index < Chunks.Count; index++)
        {
            Chunk chunk = Chunks[index];
            TakeColumnSums(place.Slot + column, place.Offset + chunk.Start + column, width, chunk, gradients, products);
            AddFewSums(panel, column, width, index, gradients, products);
        }

        FinishFew(panel, column, width);
    }

    // A chunk's to those of the chunks before it. Added to 0 first, as a panel's are.
    private readonly void AddFewSums(int panel, nint column, nint width, int chunk, double* gradients, double* products)
    {
        double* sums = SumsOf(panel) + column;
        if (chunk == 0)
        {
            new Span<double>(sums, (int)width).Clear();
            new Span<double>(sums + Layout.Columns, (int)width).Clear();
        }

        Simd.AddTo(sums, gradients, width);
        Simd.AddTo(sums + Layout.Columns, products, width);
    }

    private readonly void FinishFew(int panel, nint column, nint width)
    {
        PanelPlace place = Layout.Place(panel);
        ColumnMeans(place, column, width, SumsOf(panel));
        AdjustMeans(place.Slot + column, (int)width);
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
