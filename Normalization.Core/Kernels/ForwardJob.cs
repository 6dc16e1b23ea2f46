using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

internal enum ForwardPhase
{
    Panels,
    ChunkMoments,
    CombineChunks,
    BlockMoments,
    CombineBlocks,
    Apply,
    ApplyTiles,
}

/// <summary>The forward pass over one layout, cut into tasks of consecutive items (panels or chunks).</summary>
/// <remarks>
/// Moments are taken in double. What is written is computed in T; a float set whose coefficients do not suit that
/// (<see cref="Simd.SuitsSingle"/>) is computed in double: a matter of that set alone or, of columns, of as many of its panel as go in step.
/// </remarks>
internal unsafe partial struct ForwardJob<T> : IStoringJob
    where T : unmanaged
{
    // Of the squares of whole values, what squared deviations must leave: 10 bits of 53 may go.
    private const double LeastShare = 1.0 / (1 << 10);

    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* Y;
    public T* Weight;
    public T* Bias;
    public T* Threshold; // the least value written, where one weight goes with a set; null is none
    public Statistics Statistics;
    public double* Partials; // mean then squared deviations, Columns each: by chunk, or one spare pair by panel; all means first where blocks take turns
    public double Epsilon;
    public Adjustment Adjustment;
    public StoreKind Store;
    public nint Ahead; // from where something is read to what is fetched meanwhile: the next panel, or the stream further on
    public nint SumsAhead; // the same while sums are taken; 0 is not at all
    public bool InStep; // whether a panel is written while another's moments are taken
    public bool RunsInStep; // the same of panels of one short run each
    private Run<T>* _repeated; // by slot, the lines that runs of several outer panels share; null where each panel makes its own
    private ForwardPhase _phase;
    private int _items;
    private int _itemsPerTask;

    public void Run(ForwardPhase phase, int items, nint elementsPerItem)
    {
        _phase = phase;
        _items = items;
        _itemsPerTask = phase is ForwardPhase.Apply or ForwardPhase.Panels ? Standardizer.ItemsPerLargeTask(items, elementsPerItem) : Standardizer.ItemsPerTask(elementsPerItem);
        if (InStep && phase == ForwardPhase.Panels)
        {
            _itemsPerTask = Standardizer.ItemsPerStepTask(items, _itemsPerTask);
        }

        WorkTeam.Run(ref this, (items + _itemsPerTask - 1) / _itemsPerTask, items * elementsPerItem);
    }

    /// <summary>Makes the lines that outer panels share once, not for each of them; to be called before what is written by given statistics.</summary>
    /// <param name="runs">Room for one outer panel's runs of each group that shares: as many as there are slots.</param>
    public void ShareLines(Run<T>* runs)
    {
        Run<T>* next = runs;
        for (int outer = 0; outer < Layout.Outer; outer += Layout.SharingOuters)
        {
            for (int inner = 0; inner < Layout.Inner; inner++, next++)
            {
                PanelPlace place = Layout.Place((outer * Layout.Inner) + inner);
                if (!LineOf(place.Slot, place.Affine, next))
                {
                    return;
                }

                next->Offset = inner * Layout.InnerStride;
            }
        }

        _repeated = runs;
    }

    public void Run(int piece) => Stores.Run(ref this, Store, piece);

    public readonly void Run<TStore>(int piece)
        where TStore : struct, IStore
    {
        int start = piece * _itemsPerTask;
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        if (_phase == ForwardPhase.BlockMoments)
        {
            BlockMoments(start, end);
            return;
        }

        if (_phase == ForwardPhase.Apply && _repeated != null)
        {
            WriteRepeated<TStore>(start, end);
            return;
        }

        if (_phase == ForwardPhase.Panels && RunsInStep)
        {
            if (SumsWholeValues)
            {
                RowsInStep<TStore, WholeValue>(start, end);
            }
            else
            {
                RowsInStep<TStore, CenteredValue>(start, end);
            }

            return;
        }

        if (_phase == ForwardPhase.Panels && InStep && Layout.Columns > 1)
        {
            ColumnsInStep<TStore>(start, end);
            return;
        }

        if (_phase == ForwardPhase.Panels && InStep && SumsWholeValues)
        {
            PanelsInStep<TStore, WholeValue>(start, end);
            return;
        }

        if (_phase == ForwardPhase.Panels && InStep)
        {
            PanelsInStep<TStore, CenteredValue>(start, end);
            return;
        }

        bool rows = _phase is ForwardPhase.Panels or ForwardPhase.Apply && Layout.Columns == 1 && Chunks.Count == 1 && Threshold == null && Standardizer.HasFewRuns(Layout);
        if (rows)
        {
            Rows<TStore>(start, end);
        }

        for (int item = start, taken; item < end && !rows; item += taken)
        {
            taken = 1;
            switch (_phase)
            {
                case ForwardPhase.Panels:
                    PanelMoments(item);
                    for (int chunk = 0; chunk < Chunks.Count; chunk += Chunks.Together)
                    {
                        ApplyChunk<TStore>(item, Chunks.Join(chunk, Chunks.Together));
                    }

                    break;
                case ForwardPhase.ChunkMoments:
                    (int panel, int index) = Chunks.Place(item, Layout);
                    double* partial = Partials + (2 * (((nint)panel * Chunks.Count) + index) * Layout.Columns);
                    ChunkMoments(panel, Chunks[index], partial, partial + Layout.Columns);
                    break;
                case ForwardPhase.CombineChunks:
                    CombineChunks(item);
                    break;
                case ForwardPhase.CombineBlocks:
                    CombineBlocks(item);
                    break;
                case ForwardPhase.ApplyTiles:
                    ApplyTile<TStore>(item);
                    break;
                default:
                    (int applied, Chunk stretch, taken) = Chunks.Stretch(item, end, Layout);
                    ApplyChunk<TStore>(applied, stretch);
                    break;
            }
        }
    }

    // Double holds sums and squares of floats with digits to spare.
    private readonly bool SumsWholeValues => typeof(T) == typeof(float) || Layout.Uncentered;

    // Sets of one chunk each. What a set costs beside its elements counts here: a few sets are summed before they are written, so that
    // the root of one is taken while the next is added up, and the loop takes the runs of all of them in one call.
    [SkipLocalsInit]
    private readonly void Rows<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        Chunk chunk = Chunks[0];
        int together = Standardizer.PanelsTogether(Layout, Standardizer.ForwardTogether);
        nint length = Layout.RunLength == 0 ? chunk.Length : Layout.RunLength;
        Run<T>* runs = stackalloc Run<T>[checked((int)(together * Layout.PanelElements / length))];
        for (int first = start; first < end; first += together)
        {
            int last = Math.Min(end, first + together);
            for (int panel = first; panel < last && _phase == ForwardPhase.Panels; panel++)
            {
                RowMoments(X + Layout.Place(panel).Offset, chunk, out Statistics.Mean[panel], out Statistics.PopulationVariance[panel]);
            }

            if (_phase == ForwardPhase.Panels)
            {
                FinishColumns(Statistics.PopulationVariance + first, Statistics.InverseStd + first, chunk.Elements, last - first);
                Adjustment.Run(first, last - first);
            }

            WriteRows<TStore>(first, last, length, runs);
        }
    }

    // The first panels' moments, then each is written while the moments of one some places on are taken: sums wait for arithmetic, what is written
    // for memory. The same bits as one after the other.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void PanelsInStep<TStore, TDeviation>(int start, int end)
        where TStore : struct, IStore
        where TDeviation : struct, IDeviation
    {
        Vector512<double>* sums = stackalloc Vector512<double>[Loops.MomentAccumulators];
        int step = Chunks.Count == 1 ? 2 : 1;
        for (int panel = start; panel < Math.Min(end, start + step); panel++)
        {
            PanelMoments(panel);
        }

        for (int panel = start; panel < end; panel++)
        {
            PanelPlace place = Layout.Place(panel);
            int next = panel + step;
            T* summed = next < end ? X + Layout.Place(next).Offset : null;
            nint count = 0;
            for (int index = 0; index < Chunks.Count; index++)
            {
                Chunk chunk = Chunks[index];
                nint offset = (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
                double center = summed == null || !TDeviation.TakesOff ? 0 : Simd.Get(summed + offset);
                new Span<Vector512<double>>(sums, Loops.MomentAccumulators).Clear();
                for (int block = 0; block < chunk.BlockCount; block++, offset += Layout.BlockStride)
                {
                    nint added = WriteInStep<TStore, TDeviation>(place, place.Offset + offset, chunk, summed == null ? null : summed + offset, center, sums);
                    if (summed != null && added < chunk.Length)
                    {
                        Loops.AddMoments<T, TDeviation>(summed + offset, added, chunk.Length, center, sums);
                    }
                }

                if (summed != null)
                {
                    AddMoments(next, count, summed + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start, chunk, center, sums);
                    count += chunk.Elements;
                }
            }

            if (summed != null)
            {
                Finish(next, count);
            }
        }
    }

    // Writes a chunk's part of a block, and adds up as much of another one as comes with it: how much.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly nint WriteInStep<TStore, TDeviation>(PanelPlace place, nint offset, Chunk chunk, T* summed, double center, Vector512<double>* sums)
        where TStore : struct, IStore
        where TDeviation : struct, IDeviation
    {
        Run<T> run;
        nint added = 0;
        for (nint done = 0, length; done < chunk.Length; done += length)
        {
            nint position = chunk.Start + done;
            nint weight = Layout.RunLength == 0 ? position : Layout.Runs == 1 ? 0 : position / Layout.RunLength;
            length = Layout.RunLength == 0 ? chunk.Length : Math.Min(((weight + 1) * Layout.RunLength) - position, chunk.Length - done);
            if (!LineOf(place.Slot, place.Affine + weight, &run))
            {
                WriteWide<TStore>(place.Slot, place.Affine + weight, offset + done, length);
                continue;
            }

            T* x = X + offset + done;
            T* y = Y + offset + done;
            nint rest = summed == null ? 0 : chunk.Length - added;
            added += Layout.RunLength == 0
                ? Loops.StandardizeInStep<T, TDeviation, ElementAffine<T, T>, TStore>(
                    x, y, length, Ahead, &run, new ElementAffine<T, T>(Weight, Bias).From(place.Affine + weight), summed + added, rest, center, sums)
                : Loops.StandardizeInStep<T, TDeviation, NoAffine<T>, TStore>(x, y, length, Ahead, &run, default, summed + added, rest, center, sums);
        }

        return added;
    }

    // Of a chunk, to those of its panel's chunks before it.
    private readonly void AddMoments(int panel, nint count, T* start, Chunk chunk, double center, Vector512<double>* sums)
    {
        Loops.TotalMoments(sums, out double first, out double second);
        Moments(start, chunk, center, first, second, out double mean, out double squares);
        if (count == 0)
        {
            Statistics.Mean[panel] = mean;
            Statistics.PopulationVariance[panel] = squares;
            return;
        }

        Merge(Statistics.Mean + panel, Statistics.PopulationVariance + panel, count, &mean, &squares, chunk.Elements, 1);
    }

    // Runs that do not suit float are written at once, in double.
    private readonly void WriteRows<TStore>(int first, int last, nint length, Run<T>* runs)
        where TStore : struct, IStore
    {
        bool byElement = Layout.RunLength == 0;
        Run<T>* next = runs;
        for (int panel = first; panel < last; panel++)
        {
            PanelPlace place = Layout.Place(panel);
            nint offset = place.Offset;
            for (int block = 0; block < Layout.Blocks; block++, offset += Layout.BlockStride)
            {
                nint affine = place.Affine;
                for (nint done = 0; done < Layout.BlockLength; done += length, affine++)
                {
                    if (!LineOf(place.Slot, affine, next))
                    {
                        WriteWide<TStore>(place.Slot, affine, offset + done, length);
                        continue;
                    }

                    next->Offset = offset + done;
                    next->Affine = place.Affine;
                    next++;
                }
            }
        }

        Loops.StandardizeRuns<T, TStore>(X, Y, byElement ? Weight : null, byElement ? Bias : null, runs, (int)(next - runs), length, Ahead);
    }

    // What ShareLines made, outer panel by outer panel.
    private readonly void WriteRepeated<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        for (int panel = start, count; panel < end; panel += count)
        {
            (nint offset, nint slot, count) = Layout.InnerPanels(panel, end);
            Loops.StandardizeRuns<T, TStore>(X + offset, Y + offset, null, null, _repeated + slot, count, Layout.BlockLength, Ahead);
        }
    }

    // The line of a run, weight and bias in it unless they go by element; false where float does not suit.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly bool LineOf(nint slot, nint affine, Run<T>* run)
    {
        bool byElement = Layout.RunLength == 0;
        double mean = Statistics.Mean[slot];
        double inverse = Statistics.InverseStd[slot];
        double slope = byElement || Weight == null ? inverse : inverse * Simd.Get(Weight + affine);
        double bias = byElement || Bias == null ? 0 : Simd.Get(Bias + affine);
        run->Center = Simd.Scalar<T>(mean);
        run->Slope = Simd.Scalar<T>(slope);
        run->Intercept = Simd.Scalar<T>(bias + ((Simd.Round<T>(mean) - mean) * slope));
        return typeof(T) == typeof(double) || (Simd.CentersSingle(mean) && Simd.SuitsSingle(inverse) && Simd.SuitsSingle(slope));
    }

    private readonly void WriteWide<TStore>(nint slot, nint affine, nint offset, nint length)
        where TStore : struct, IStore
    {
        double mean = Statistics.Mean[slot];
        double inverse = Statistics.InverseStd[slot];
        if (Layout.RunLength == 0)
        {
            Loops.Standardize<T, double, ConstantLine<double>, ElementAffine<T, double>, TStore>(
                X + offset, Y + offset, length, length, Ahead, new(mean, inverse, 0.0), new ElementAffine<T, double>(Weight, Bias).From(affine));
            return;
        }

        double slope = Weight == null ? inverse : inverse * Simd.Get(Weight + affine);
        double bias = Bias == null ? 0 : Simd.Get(Bias + affine);
        Loops.Standardize<T, double, ConstantLine<double>, NoAffine<double>, TStore>(X + offset, Y + offset, length, length, Ahead, new(mean, slope, bias), default);
    }

    private readonly void PanelMoments(int panel)
    {
        nint columns = Layout.Columns;
        double* mean = Statistics.Mean + (panel * columns);
        double* squares = Statistics.PopulationVariance + (panel * columns);
        double* spare = Partials + (2 * panel * columns);
        nint count = 0;
        for (int index = 0; index < Chunks.Count; index++)
        {
            Chunk chunk = Chunks[index];
            nint rows = chunk.Elements / columns;
            if (index == 0)
            {
                ChunkMoments(panel, chunk, mean, squares);
            }
            else
            {
                ChunkMoments(panel, chunk, spare, spare + columns);
                Merge(mean, squares, count, spare, spare + columns, rows, columns);
            }

            count += rows;
        }

        Finish(panel, count);
    }

    private readonly void CombineChunks(int panel)
    {
        nint columns = Layout.Columns;
        double* mean = Statistics.Mean + (panel * columns);
        double* squares = Statistics.PopulationVariance + (panel * columns);
        double* partial = Partials + (2 * (nint)panel * Chunks.Count * columns);
        new ReadOnlySpan<double>(partial, (int)columns).CopyTo(new Span<double>(mean, (int)columns));
        new ReadOnlySpan<double>(partial + columns, (int)columns).CopyTo(new Span<double>(squares, (int)columns));
        nint count = Chunks[0].Elements / columns;
        for (int index = 1; index < Chunks.Count; index++)
        {
            partial += 2 * columns;
            nint rows = Chunks[index].Elements / columns;
            Merge(mean, squares, count, partial, partial + columns, rows, columns);
            count += rows;
        }

        Finish(panel, count);
    }

    // Blocks that take turns, each by itself.
    private readonly void BlockMoments(int start, int end)
    {
        var chunk = new Chunk(0, 1, 0, Layout.BlockLength);
        T* block = X + Layout.Place(start).Offset;
        double* deviations = Partials + Layout.Panels;
        for (int item = start; item < end; item++, block += Layout.BlockLength)
        {
            RowMoments(block, chunk, out Partials[item], out deviations[item]);
        }
    }

    // The blocks of an outer panel's inner ones: those that take turns lie side by side.
    private readonly void CombineBlocks(int outer)
    {
        nint width = Layout.Inner;
        nint slot = outer * width;
        double* mean = Statistics.Mean + slot;
        double* squares = Statistics.PopulationVariance + slot;
        double* means = Partials + (slot * Layout.Blocks);
        double* deviations = means + ((nint)Layout.Panels * Layout.Blocks);
        new ReadOnlySpan<double>(means, (int)width).CopyTo(new Span<double>(mean, (int)width));
        new ReadOnlySpan<double>(deviations, (int)width).CopyTo(new Span<double>(squares, (int)width));
        for (nint block = 1; block < Layout.Blocks; block++)
        {
            Merge(mean, squares, block * Layout.BlockLength, means + (block * width), deviations + (block * width), Layout.BlockLength, width);
        }

        FinishColumns(squares, Statistics.InverseStd + slot, Layout.SetSize, width);
        Adjustment.Run(slot, width);
    }

    private readonly void ChunkMoments(int panel, Chunk chunk, double* mean, double* squares)
    {
        T* start = X + Layout.Place(panel).Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        if (Layout.Columns == 1)
        {
            RowMoments(start, chunk, out *mean, out *squares);
            return;
        }

        for (nint column = 0, width; column < Layout.Columns; column += width)
        {
            width = Standardizer.SumTileWidth(Layout.Columns, column);
            ColumnMoments(start + column, chunk, width, mean + column, squares + column);
        }
    }

    // One pass, of float over whole values, else about the chunk's first one. That is one of the n, so its distance from their mean is at most the
    // square root of n deviations, and subtracting the two sums costs at most log2(n) of double's 53 bits.
    private readonly void RowMoments(T* start, Chunk chunk, out double mean, out double squares)
    {
        T* written = Store == StoreKind.Fetching && _phase == ForwardPhase.Panels ? Y + (start - X) : null;
        double center = SumsWholeValues ? 0 : Simd.Get(start);
        double first, second;
        if (SumsWholeValues)
        {
            Loops.MomentSums<T, WholeValue>(start, written, chunk.BlockCount, Layout.BlockStride, chunk.Length, SumsAhead, 0, out first, out second);
        }
        else
        {
            Loops.MomentSums<T, CenteredValue>(start, written, chunk.BlockCount, Layout.BlockStride, chunk.Length, SumsAhead, center, out first, out second);
        }

        Moments(start, chunk, center, first, second, out mean, out squares);
    }

    // Of the sums about a center. Where whole values were summed and hardly differ, so that the subtraction leaves too few bits, once more about the first.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Moments(T* start, Chunk chunk, double center, double first, double second, out double mean, out double squares)
    {
        double shift = Layout.Uncentered ? 0 : first * (1.0 / chunk.Elements);
        mean = center + shift;
        squares = second - (first * shift);
        if (typeof(T) == typeof(float) && !Layout.Uncentered && !(squares >= second * LeastShare))
        {
            CenteredMoments(start, chunk, out mean, out squares);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private readonly void CenteredMoments(T* start, Chunk chunk, out double mean, out double squares)
    {
        double center = Simd.Get(start);
        Loops.MomentSums<T, CenteredValue>(start, null, chunk.BlockCount, Layout.BlockStride, chunk.Length, ahead: 0, center, out double first, out double second);
        double shift = first * (1.0 / chunk.Elements);
        mean = center + shift;
        squares = second - (first * shift);
    }

    // The same down a tile of columns.
    [SkipLocalsInit]
    private readonly void ColumnMoments(T* start, Chunk chunk, nint width, double* mean, double* squares)
    {
        byte* memory = stackalloc byte[ColumnSums.Bytes(width)];
        var sums = new ColumnSums(memory, width);
        BeginSums(start, sums);
        T* block = start;
        for (int i = 0; i < chunk.BlockCount; i++, block += Layout.BlockStride)
        {
            Loops.AddCenteredColumns(block, chunk.Length / Layout.Columns, width, Layout.Columns, sums.Centers, sums.Firsts, sums.Seconds);
        }

        EndSums(sums, chunk, mean, squares);
    }

    // About the first row.
    private readonly void BeginSums(T* start, ColumnSums sums)
    {
        new Span<double>(sums.Firsts, (int)sums.Width).Clear();
        new Span<double>(sums.Seconds, (int)sums.Width).Clear();
        for (nint j = 0; j < sums.Width; j += Simd.Lanes)
        {
            Vector512<double> center = Layout.Uncentered ? default : Simd.LoadPart<T, double>(start + j, Math.Min(Simd.Lanes, sums.Width - j), default);
            center.Store(sums.Centers + j);
        }
    }

    private readonly void EndSums(ColumnSums sums, Chunk chunk, double* mean, double* squares)
    {
        Vector512<double> counts = Vector512.Create((double)(chunk.Elements / Layout.Columns));
        for (nint j = 0; j < sums.Width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, sums.Width - j);
            Vector512<double> first = Vector512.Load(sums.Firsts + j);
            Vector512<double> shift = Layout.Uncentered ? default : first / counts;
            Simd.StorePart(mean + j, lanes, Vector512.Load(sums.Centers + j) + shift);
            Simd.StorePart(squares + j, lanes, Vector512.Load(sums.Seconds + j) - (first * shift));
        }
    }

    // The sums of a tile of columns: what is taken off, deviations, their squares.
    private readonly struct ColumnSums(byte* memory, nint width)
    {
        public readonly nint Width = width;
        public readonly double* Centers = Simd.Aligned<double>(memory);

        public double* Firsts => Centers + ColumnLines.Capacity(Width);

        public double* Seconds => Firsts + ColumnLines.Capacity(Width);

        public static int Bytes(nint width) => ColumnLines.Bytes<double>(3, width);
    }

    // Chan's rule: (mean, sum of squared deviations) of two disjoint parts, the second folded into the first.
    private static void Merge(double* mean, double* squares, nint count, double* otherMean, double* otherSquares, nint otherCount, nint columns)
    {
        double share = (double)otherCount / (count + otherCount);
        double weight = share * count;
        nint j = 0;
        for (; j <= columns - Simd.Lanes; j += Simd.Lanes)
        {
            Vector512<double> delta = Vector512.Load(otherMean + j) - Vector512.Load(mean + j);
            (Vector512.Load(mean + j) + (delta * share)).Store(mean + j);
            (Vector512.Load(squares + j) + Vector512.Load(otherSquares + j) + (delta * delta * weight)).Store(squares + j);
        }

        for (; j < columns; j++)
        {
            double delta = otherMean[j] - mean[j];
            mean[j] += delta * share;
            squares[j] = squares[j] + otherSquares[j] + (delta * delta * weight);
        }
    }

    private readonly void Finish(int panel, nint count) => Finish((nint)panel * Layout.Columns, Layout.Columns, count);

    // Sums of squares become variances; the columns of a set are pooled and all get the pooled values.
    private readonly void Finish(nint slot, nint columns, nint count)
    {
        double* mean = Statistics.Mean + slot;
        double* variance = Statistics.PopulationVariance + slot;
        double* inverse = Statistics.InverseStd + slot;
        int width = Layout.ColumnsPerSet;
        if (width == 1)
        {
            FinishColumns(variance, inverse, count, columns);
            Adjustment.Run(slot, columns);
            return;
        }

        for (nint first = 0; first < columns; first += width)
        {
            double pooledMean = 0;
            for (nint j = first; j < first + width; j++)
            {
                pooledMean += mean[j];
            }

            pooledMean /= width;
            double squares = 0;
            for (nint j = first; j < first + width; j++)
            {
                double delta = mean[j] - pooledMean;
                squares += variance[j] + (delta * delta * count);
            }

            double pooledVariance = squares / ((double)count * width);
            double pooledInverse = Standardizer.InverseStd(pooledVariance, Epsilon);
            for (nint j = first; j < first + width; j++)
            {
                mean[j] = pooledMean;
                variance[j] = pooledVariance;
                inverse[j] = pooledInverse;
            }
        }

        Adjustment.Run(slot, columns);
    }

    private readonly void FinishColumns(double* variance, double* inverse, nint count, nint columns)
    {
        nint j = 0;
        double share = 1.0 / count;
        Vector512<double> shares = Vector512.Create(share);
        Vector512<double> epsilon = Vector512.Create(Epsilon);
        for (; j <= columns - Simd.Lanes; j += Simd.Lanes)
        {
            Vector512<double> value = Vector512.Load(variance + j) * shares;
            value.Store(variance + j);
            Vector512<double> root = Vector512<double>.One / Vector512.Sqrt(value + epsilon);
            Vector512.ConditionalSelect(Vector512.IsFinite(value), root, Vector512.Create(double.NaN)).Store(inverse + j);
        }

        for (; j < columns; j++)
        {
            variance[j] *= share;
            inverse[j] = Standardizer.InverseStd(variance[j], Epsilon);
        }
    }

    private readonly void ApplyChunk<TStore>(int panel, Chunk chunk)
        where TStore : struct, IStore
    {
        PanelPlace place = Layout.Place(panel);
        nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint affine = place.Affine;
        nint slot = place.Slot;
        if (Layout.Columns == 1)
        {
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                ApplyRow<TStore>(Statistics.Mean[slot], Statistics.InverseStd[slot], affine, offset, chunk);
            }

            return;
        }

        for (nint column = 0, width; column < Layout.Columns; column += width)
        {
            width = Standardizer.TileWidth(Layout.Columns, column);
            if (!ApplyColumns<T, TStore>(slot + column, affine, offset + column, column, width, chunk))
            {
                ApplyNarrow<TStore>(slot, affine, offset, column, width, chunk);
            }
        }
    }

    // As few columns at a time as are written in step, so that it does not hang on the way which of them are computed in double.
    private readonly void ApplyNarrow<TStore>(nint slot, nint affine, nint offset, nint column, nint width, Chunk chunk)
        where TStore : struct, IStore
    {
        for (nint end = column + width, some; column < end; column += some)
        {
            some = Math.Min(Loops.StepColumns<T>(), end - column);
            if (!ApplyColumns<T, TStore>(slot + column, affine, offset + column, column, some, chunk))
            {
                ApplyColumns<double, TStore>(slot + column, affine, offset + column, column, some, chunk);
            }
        }
    }

    // Some columns of all panels, whose weights are read from memory once for all of them.
    private readonly void ApplyTile<TStore>(int tile)
        where TStore : struct, IStore
    {
        nint start = (nint)tile * Standardizer.WeightTile;
        var columns = new Chunk(0, 1, start, Math.Min(Standardizer.WeightTile, Layout.BlockLength - start));
        for (int panel = 0; panel < Layout.Panels; panel++)
        {
            ApplyChunk<TStore>(panel, columns);
        }
    }

    private readonly void ApplyRow<TStore>(double mean, double inverse, nint affine, nint offset, Chunk chunk)
        where TStore : struct, IStore
    {
        bool single = typeof(T) == typeof(float) && Simd.CentersSingle(mean) && Simd.SuitsSingle(inverse);
        if (Layout.RunLength == 0)
        {
            nint element = affine + chunk.Start;
            if (single)
            {
                Loops.Standardize<T, T, ConstantLine<T>, ElementAffine<T, T>, TStore>(X + offset, Y + offset, chunk.Length, chunk.Length, Ahead,
                    Standardizer.Line<T>(mean, inverse, 0), new ElementAffine<T, T>(Weight, Bias).From(element));
            }
            else
            {
                Loops.Standardize<T, double, ConstantLine<double>, ElementAffine<T, double>, TStore>(X + offset, Y + offset, chunk.Length, chunk.Length, Ahead,
                    Standardizer.Line<double>(mean, inverse, 0), new ElementAffine<T, double>(Weight, Bias).From(element));
            }

            return;
        }

        for (nint done = 0; done < chunk.Length;)
        {
            nint position = chunk.Start + done;
            nint run = Layout.Runs == 1 ? 0 : position / Layout.RunLength;
            nint length = Math.Min(((run + 1) * Layout.RunLength) - position, chunk.Length - done);
            double slope = inverse * (Weight == null ? 1 : Simd.Get(Weight + affine + run));
            double bias = Bias == null ? 0 : Simd.Get(Bias + affine + run);
            T* x = X + offset + done;
            T* y = Y + offset + done;
            if (Threshold != null)
            {
                double least = Simd.Get(Threshold + affine + run);
                if (single && Simd.SuitsSingle(slope))
                {
                    Loops.Standardize<T, T, ConstantLine<T>, ConstantThreshold<T>, TStore>(
                        x, y, length, length, Ahead, Standardizer.Line<T>(mean, slope, bias), new(least));
                }
                else
                {
                    Loops.Standardize<T, double, ConstantLine<double>, ConstantThreshold<double>, TStore>(
                        x, y, length, length, Ahead, Standardizer.Line<double>(mean, slope, bias), new(least));
                }
            }
            else if (single && Simd.SuitsSingle(slope))
            {
                Loops.Standardize<T, T, ConstantLine<T>, NoAffine<T>, TStore>(x, y, length, length, Ahead, Standardizer.Line<T>(mean, slope, bias), default);
            }
            else
            {
                Loops.Standardize<T, double, ConstantLine<double>, NoAffine<double>, TStore>(
                    x, y, length, length, Ahead, Standardizer.Line<double>(mean, slope, bias), default);
            }

            done += length;
        }
    }

    // A tile of columns of a chunk: their lines on the stack, then row by row, or all rows at once where they are contiguous. False, with
    // nothing written, where float does not suit.
    [SkipLocalsInit]
    private readonly bool ApplyColumns<A, TStore>(nint slot, nint affine, nint offset, nint column, nint width, Chunk chunk)
        where A : unmanaged
        where TStore : struct, IStore
    {
        byte* block = stackalloc byte[ColumnLines.Bytes<A>(4, width)];
        nint capacity = ColumnLines.Capacity(width);
        A* centers = Simd.Aligned<A>(block) + ColumnLines.Shift<T, A>(Y + offset);
        A* slopes = centers + capacity;
        A* intercepts = slopes + capacity;
        A* thresholds = intercepts + capacity;
        bool byElement = Layout.RunLength == 0;
        T* weight = byElement ? Weight + affine + column : null;
        T* bias = byElement && Bias != null ? Bias + affine + column : null;
        if (!ColumnLines.Standardizing(Statistics.Mean + slot, Statistics.InverseStd + slot, weight, bias, width, centers, slopes, intercepts))
        {
            return false;
        }

        if (Threshold != null)
        {
            ColumnLines.Copy(Threshold + affine + column, width, thresholds);
        }

        var line = new ColumnLine<A>(centers, slopes, intercepts);
        nint pitch = Layout.Columns;
        bool together = byElement && width == pitch;
        nint length = together ? chunk.Length : width;
        bool byFours = together && Standardizer.ByFours<A>(3, Layout);
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            nint run = chunk.Start / pitch;
            for (nint done = 0; done < chunk.Length; done += together ? chunk.Length : pitch, run++)
            {
                T* x = X + offset + done;
                T* y = Y + offset + done;
                if (Threshold != null)
                {
                    Loops.Standardize<T, A, ColumnLine<A>, ColumnThreshold<A>, TStore>(x, y, length, width, Ahead, line, new(thresholds));
                }
                else if (byFours)
                {
                    Loops.StandardizeRows<T, A, TStore>(x, y, length, width, Ahead, line);
                }
                else if (byElement)
                {
                    Loops.Standardize<T, A, ColumnLine<A>, NoAffine<A>, TStore>(x, y, length, width, Ahead, line, default);
                }
                else
                {
                    var affineOfRow = new ConstantAffine<A>(
                        Weight == null ? 1 : Simd.Get(Weight + affine + run), Bias == null ? 0 : Simd.Get(Bias + affine + run));
                    Loops.Standardize<T, A, ColumnLine<A>, ConstantAffine<A>, TStore>(x, y, length, width, Ahead, line, affineOfRow);
                }
            }
        }

        return true;
    }
}
