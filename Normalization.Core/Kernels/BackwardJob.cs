using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

internal enum BackwardPhase
{
    Panels,
    Rows,
    ChunkSums,
    CombineChunks,
    BlockSums,
    Apply,
    ApplyTiles,
}

/// <summary>The backward pass over one layout, cut into tasks of consecutive items (panels, blocks of rows, chunks or column tiles).</summary>
/// <remarks>
/// The sums of a panel or chunk are Columns gradients and Columns products, then, where weights go by run, Runs gradients and Runs
/// products (product: gradient * xhat). Columns that carry one weight each hold plain sums; otherwise they are weighted. Arithmetic is
/// chosen as in <see cref="ForwardJob{T}"/>.
/// </remarks>
internal unsafe partial struct BackwardJob<T> : IStoringJob
    where T : unmanaged
{
    /// <summary>Rows whose weight gradients are added up together.</summary>
    public const int RowBlock = 4;

    private const int WideElements = 128;

    // Float sums of a column go into double after so many rows.
    private const int StagedRows = 64;

    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public T* DX;
    public T* Weight;
    public Statistics Statistics;
    public double* Sums; // none for blocks of rows with weights by element
    public bool ByTiles; // whether a chunk's sums are taken of all panels before the next one's, as its weights would have to be read anew
    public int RowsTogether; // of a block of rows, up to RowBlock
    public int SumsTogether; // how many lie together for a panel: its own and a spare for a chunk's, each chunk's, or its own alone
    public double* BlockSums; // where blocks take turns: the gradient of each, then the product of each
    public double* MeanGradient; // by slot: mean of g * w over the set; of g alone where the set has one weight
    public double* MeanProduct; // by slot: mean of g * w * xhat over the set; of g * xhat alone where the set has one weight
    public double* Accumulators; // by task, in T: ElementWeights gradients, as many products; then, in double, both again for many rows
    public T* WeightGradient;
    public T* BiasGradient;
    public bool ConstantStatistics;
    public StoreKind Store;
    public nint Ahead; // as in the forward pass
    public nint SumsAhead; // as there
    public bool InStep; // whether a panel is written while another's sums are taken
    private Run<T>* _repeated; // as there
    private BackwardPhase _phase;
    private int _items;
    private int _itemsPerTask;

    public static int SumsPerPanel(in ReductionLayout layout) => 2 * (layout.Columns + layout.Runs);

    /// <summary>Doubles that the accumulators of a task take.</summary>
    public static nint AccumulatorSize(in ReductionLayout layout) => Simd.Padded(4 * layout.ElementWeights);

    public void Run(BackwardPhase phase, int items, nint elementsPerItem, int smallestTask = 1)
    {
        _phase = phase;
        _items = items;
        _itemsPerTask = phase is BackwardPhase.Apply or BackwardPhase.Panels ? Standardizer.ItemsPerLargeTask(items, elementsPerItem) : Math.Max(smallestTask, Standardizer.ItemsPerTask(elementsPerItem));
        if (InStep && phase == BackwardPhase.Panels)
        {
            _itemsPerTask = Standardizer.ItemsPerStepTask(items, _itemsPerTask);
        }

        WorkTeam.Run(ref this, (items + _itemsPerTask - 1) / _itemsPerTask, items * elementsPerItem);
    }

    public void Run(int piece) => Stores.Run(ref this, Store, piece);

    public readonly void Run<TStore>(int piece)
        where TStore : struct, IStore
    {
        int start = piece * _itemsPerTask;
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        if (_phase == BackwardPhase.BlockSums)
        {
            SumBlocks(start, end);
            return;
        }

        if (_phase == BackwardPhase.Apply && _repeated != null)
        {
            WriteRepeated<TStore>(start, end);
            return;
        }

        if (_phase == BackwardPhase.Panels && InStep && Layout.Columns > 1)
        {
            ColumnsInStep<TStore>(start, end);
            return;
        }

        if (_phase == BackwardPhase.Panels && InStep)
        {
            PanelsInStep<TStore>(start, end);
            return;
        }

        bool rows = _phase is BackwardPhase.Panels or BackwardPhase.Apply && Layout.Columns == 1 && Chunks.Count == 1 && !ConstantStatistics && Standardizer.HasFewRuns(Layout);
        if (_phase == BackwardPhase.Rows)
        {
            AccumulateRows<TStore>(start, end, Accumulators + (piece * AccumulatorSize(Layout)));
        }
        else if (rows)
        {
            Rows<TStore>(start, end);
        }

        for (int item = start, taken; item < end && _phase != BackwardPhase.Rows && !rows; item += taken)
        {
            taken = 1;
            switch (_phase)
            {
                case BackwardPhase.Panels:
                    PanelPlace place = Layout.Place(item);
                    PanelSums(item, place);
                    ApplyPanel<TStore>(place);
                    break;
                case BackwardPhase.ChunkSums:
                    (int panel, int index) = ByTiles ? (item % Layout.Panels, item / Layout.Panels) : Chunks.Place(item, Layout);
                    double* sums = SumsOf(panel) + ((nint)index * SumsPerPanel(Layout));
                    new Span<double>(sums, SumsPerPanel(Layout)).Clear();
                    ChunkSums(Layout.Place(panel), Chunks[index], sums);
                    break;
                case BackwardPhase.CombineChunks:
                    CombineChunks(item);
                    break;
                case BackwardPhase.Apply:
                    (int applied, Chunk stretch, taken) = Chunks.Stretch(item, end, Layout);
                    ApplyChunk<TStore>(Layout.Place(applied), stretch);
                    break;
                default:
                    ApplyTile<TStore>(item);
                    break;
            }
        }
    }

    /// <summary>Adds the tasks' column accumulators, in task order, to the parameter gradients.</summary>
    public readonly void CollectAccumulators(int tasks, int blocksPerTask)
    {
        nint length = Layout.ElementWeights;
        T* staged = (T*)Accumulators;
        if (typeof(T) == typeof(double) || tasks == 1)
        {
            for (int task = 1; task < tasks; task++)
            {
                Simd.AddTo((double*)staged, Accumulators + (task * AccumulatorSize(Layout)), 2 * length);
            }

            if (typeof(T) == typeof(double) || !Totals(blocksPerTask))
            {
                AddTo(BiasGradient, 0, staged, length);
                AddTo(WeightGradient, 0, staged + length, length);
                return;
            }
        }

        double* totals = Accumulators + (2 * length);
        for (int task = 0; task < tasks; task++)
        {
            double* accumulators = Accumulators + (task * AccumulatorSize(Layout));
            if (!Totals(blocksPerTask))
            {
                AddStaged(totals, (T*)accumulators, 2 * length, first: task == 0);
            }
            else if (task > 0)
            {
                Simd.AddTo(totals, accumulators + (2 * length), 2 * length);
            }
        }

        AddTo(BiasGradient, 0, totals, length);
        AddTo(WeightGradient, 0, totals + length, length);
    }

    /// <summary>Adds the panels' sums, in panel order, to the parameter gradients; totals is room for all of both, no weights where none are wanted.</summary>
    public readonly void CollectParameterSums(double* totals, nint weights)
    {
        if (weights == 0 || (Layout.Columns == 1 && Layout.RunLength == 0))
        {
            return;
        }

        new Span<double>(totals, checked((int)(2 * weights))).Clear();
        int count = Layout.RunLength == 0 ? Layout.Columns : Layout.Runs;
        int start = Layout.RunLength == 0 ? 0 : 2 * Layout.Columns;
        nint pitch = SumsPitch;
        double* sums = Sums + start;
        for (int panel = 0; panel < Layout.Panels; panel++, sums += pitch)
        {
            nint affine = Layout.Place(panel).Affine;
            if (count == 1)
            {
                totals[affine] += sums[0];
                totals[weights + affine] += sums[1];
                continue;
            }

            Simd.AddTo(totals + affine, sums, count);
            Simd.AddTo(totals + weights + affine, sums + count, count);
        }

        AddTo(BiasGradient, 0, totals, weights);
        AddTo(WeightGradient, 0, totals + weights, weights);
    }

    // Whether a task has more rows than are staged, so that it keeps totals.
    private readonly bool Totals(int blocksPerTask) => typeof(T) != typeof(double) && blocksPerTask * RowsTogether > StagedRows;

    private static void AddStaged(double* totals, T* staged, nint count, bool first)
    {
        if (first)
        {
            new Span<double>(totals, checked((int)count)).Clear();
        }

        Simd.AddTo(totals, staged, count);
    }

    // In the place of its first chunk's.
    private readonly double* SumsOf(int panel) => Sums + (panel * SumsPitch);

    private readonly nint SumsPitch => (nint)SumsTogether * SumsPerPanel(Layout);

    private static void AddTo<TSource>(T* destination, nint start, TSource* source, nint count)
        where TSource : unmanaged
    {
        if (destination != null)
        {
            Simd.AddTo(destination + start, source, count);
        }
    }

    // Both ways add whole chunk sums in chunk order, so that they round alike; with weights by element they are SumRow's, as AccumulateRows takes them.
    private readonly void PanelSums(int panel, PanelPlace place)
    {
        int perPanel = SumsPerPanel(Layout);
        double* sums = SumsOf(panel);
        double* part = sums + perPanel;
        Clear(sums, perPanel);
        ChunkSums(place, Chunks[0], sums);
        for (int index = 1; index < Chunks.Count; index++)
        {
            Clear(part, perPanel);
            ChunkSums(place, Chunks[index], part);
            Simd.AddTo(sums, part, perPanel);
        }

        FinishSums(place, sums);
    }

    // The first panel's sums, then each panel is written while the next one's are taken, its last block first: so less of it has left the second-level
    // cache than if what was read longest ago were written first. The same bits as one panel after the other.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void PanelsInStep<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        int perPanel = SumsPerPanel(Layout);
        PanelSums(start, Layout.Place(start));
        for (int panel = start; panel < end - 1; panel++)
        {
            int next = panel + 1;
            double* sums = SumsOf(next);
            for (int index = 0; index < Chunks.Count; index++)
            {
                double* part = index == 0 ? sums : sums + perPanel;
                Clear(part, perPanel);
                WriteInStep<TStore>(Layout.Place(panel), Layout.Place(next), Chunks[index], part + 2);
                if (index > 0)
                {
                    Simd.AddTo(sums, part, perPanel);
                }
            }

            FinishSums(Layout.Place(next), sums);
        }

        ApplyPanel<TStore>(Layout.Place(end - 1));
    }

    // As much of a panel as a chunk, while the sums of the next one's chunk are added.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void WriteInStep<TStore>(PanelPlace place, PanelPlace next, Chunk chunk, double* sums)
        where TStore : struct, IStore
    {
        Run<T> written;
        Run<T> summed;
        bool folded = Layout.OneWeightPerSet;
        RunLines lines = LinesOf(place.Slot, folded && Weight != null ? Simd.Get(Weight + place.Affine) : 1);
        lines.To(&written);
        summed.Center = Simd.Scalar<T>(Statistics.Mean[next.Slot]);
        nint offset = (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint mirrored = ((Layout.Blocks - 1 - chunk.FirstBlock) * Layout.BlockStride) + chunk.Start;
        for (int block = 0; block < chunk.BlockCount; block++, offset += Layout.BlockStride, mirrored -= Layout.BlockStride)
        {
            for (nint done = 0, length; done < chunk.Length; done += length)
            {
                nint position = chunk.Start + done;
                nint run = Layout.Runs == 1 ? 0 : position / Layout.RunLength;
                length = Math.Min(((run + 1) * Layout.RunLength) - position, chunk.Length - done);
                written.Offset = place.Offset + mirrored + done;
                summed.Offset = next.Offset + offset + done;
                if (!lines.SuitsSingle && typeof(T) == typeof(float))
                {
                    ApplyRow<TStore>(place.Slot, place.Affine, written.Offset, position, length);
                    RunSums(next.Slot, summed.Offset, length, ref sums[run], ref sums[Layout.Runs + run]);
                    continue;
                }

                written.Weight = Simd.Scalar<T>(folded || Weight == null ? 1 : Simd.Get(Weight + place.Affine + run));
                Loops.InputGradientInStep<T, TStore>(X, G, DX, length, Ahead, &written, &summed);
                AddSums(&summed, next.Slot, length, ref sums[run], ref sums[Layout.Runs + run]);
            }
        }
    }

    // Most often there are four.
    private static void Clear(double* sums, int count)
    {
        for (int i = 0; i < count; i++)
        {
            sums[i] = 0;
        }
    }

    private readonly void CombineChunks(int panel)
    {
        int perPanel = SumsPerPanel(Layout);
        double* sums = SumsOf(panel);
        for (int index = 1; index < Chunks.Count; index++)
        {
            Simd.AddTo(sums, sums + ((nint)index * perPanel), perPanel);
        }

        FinishSums(Layout.Place(panel), sums);
    }

    private readonly void ChunkSums(PanelPlace place, Chunk chunk, double* sums)
    {
        nint columns = Layout.Columns;
        nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint affine = place.Affine;
        nint slot = place.Slot;
        if (columns == 1)
        {
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                RowSums(slot, affine, offset, chunk, sums);
            }

            return;
        }

        for (nint column = 0, width; column < columns; column += width)
        {
            width = Standardizer.SumTileWidth(columns, column);
            ColumnSums(slot + column, affine, offset + column, column, width, chunk, sums);
        }
    }

    private readonly void RowSums(nint slot, nint affine, nint offset, Chunk chunk, double* sums)
    {
        if (Layout.RunLength == 0)
        {
            var row = new Run<T> { Offset = offset, Affine = affine + chunk.Start, Center = Simd.Scalar<T>(Statistics.Mean[slot]) };
            SumRow(&row, chunk.Length, SumsAhead);
            AddSums(&row, slot, chunk.Length, ref sums[0], ref sums[1]);
            return;
        }

        double* gradients = sums + 2;
        double* products = gradients + Layout.Runs;
        for (nint done = 0; done < chunk.Length;)
        {
            nint position = chunk.Start + done;
            nint run = Layout.Runs == 1 ? 0 : position / Layout.RunLength;
            nint length = Math.Min(((run + 1) * Layout.RunLength) - position, chunk.Length - done);
            RunSums(slot, offset + done, length, ref gradients[run], ref products[run]);
            done += length;
        }
    }

    private readonly void RunSums(nint slot, nint offset, nint length, ref double gradient, ref double product)
    {
        var run = new Run<T> { Offset = offset, Center = Simd.Scalar<T>(Statistics.Mean[slot]) };
        Loops.GradientSumsOfRuns(X, G, null, &run, 1, length, SumsAhead);
        AddSums(&run, slot, length, ref gradient, ref product);
    }

    private readonly void WideRunSums<TAffine>(nint slot, nint offset, nint length, TAffine affine, ref double gradient, ref double product)
        where TAffine : struct, IAffine<double> =>
        Loops.GradientSums<T, double, ConstantLine<double>, TAffine>(
            X + offset, G + offset, length, 0, new(Statistics.Mean[slot], Statistics.InverseStd[slot], 0), affine, ref gradient, ref product);

    // A tile of columns' sums; in double again for those that float did not hold, and for those alone.
    [SkipLocalsInit]
    private readonly void ColumnSums(nint slot, nint affine, nint offset, nint column, nint width, Chunk chunk, double* sums)
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(2, width)];
        nint capacity = ColumnLines.Capacity(width);
        double* gradients = Simd.Aligned<double>(memory);
        double* products = gradients + capacity;
        nint pitch = Layout.Columns;
        if (Layout.RunLength != 0)
        {
            // Rows have their weights and sums: those take double throughout.
            RowWeightSums(slot, affine, offset, width, chunk, sums + (2 * pitch), gradients, products);
        }
        else
        {
            TakeColumnSums(slot, offset, width, chunk, gradients, products);
        }

        Simd.AddTo(sums + column, gradients, width);
        Simd.AddTo(sums + pitch + column, products, width);
    }

    private readonly void TakeColumnSums(nint slot, nint offset, nint width, Chunk chunk, double* gradients, double* products)
    {
        if (SumsWide(chunk))
        {
            WideColumnSums(slot, offset, width, chunk, gradients, products);
        }
        else if (!ColumnSums(slot, offset, width, chunk, gradients, products))
        {
            MendColumnSums(slot, offset, width, chunk, gradients, products);
        }
    }

    // Whether its column sums take double throughout.
    private readonly bool SumsWide(Chunk chunk) => typeof(T) == typeof(double) || chunk.Elements / Layout.Columns < Standardizer.FewRows;

    // In double, of columns whose sums did not hold, the products of which are no numbers.
    [SkipLocalsInit]
    private readonly void MendColumnSums(nint slot, nint offset, nint width, Chunk chunk, double* gradients, double* products)
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(2, width)];
        double* wideGradients = Simd.Aligned<double>(memory);
        double* wideProducts = wideGradients + ColumnLines.Capacity(width);
        WideColumnSums(slot, offset, width, chunk, wideGradients, wideProducts);
        for (nint j = 0; j < width; j++)
        {
            bool holds = !double.IsNaN(products[j]);
            gradients[j] = holds ? gradients[j] : wideGradients[j];
            products[j] = holds ? products[j] : wideProducts[j];
        }
    }

    // Writes the tile's sums; false, and products that are no numbers, where some do not hold in T. Products are summed about the rounded mean and
    // take their slope, and what rounding the mean left, as sums.
    [SkipLocalsInit]
    private readonly bool ColumnSums(nint slot, nint offset, nint width, Chunk chunk, double* gradients, double* products)
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<T>(1, width)];
        T* centers = Simd.Aligned<T>(memory);
        ColumnLines.Copy(Statistics.Mean + slot, width, centers);
        AddColumnSums<T, ColumnDifference<T>>(offset, width, chunk, new(centers), gradients, products);
        return ScaleColumnSums(slot, width, centers, gradients, products);
    }

    private readonly bool ScaleColumnSums(nint slot, nint width, T* centers, double* gradients, double* products)
    {
        double* mean = Statistics.Mean + slot;
        double* inverse = Statistics.InverseStd + slot;
        Vector512<double> all = Vector512<double>.AllBitsSet;
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, width - j);
            Vector512<double> gradient = Vector512.Load(gradients + j);
            Vector512<double> product = Vector512.Load(products + j);
            Vector512<double> holds = Simd.HoldSingle(gradient, product);
            Vector512<double> left = Simd.Load(centers + j) - Simd.LoadPart<double, double>(mean + j, lanes, default);
            product = Vector512.FusedMultiplyAdd(left, gradient, product) * Simd.LoadPart<double, double>(inverse + j, lanes, default);
            Vector512.ConditionalSelect(holds, product, Vector512.Create(double.NaN)).Store(products + j);
            all &= holds;
        }

        return !Vector512.AnyWhereAllBitsSet(~all.AsInt64());
    }

    // The same in double throughout.
    [SkipLocalsInit]
    private readonly void WideColumnSums(nint slot, nint offset, nint width, Chunk chunk, double* gradients, double* products)
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(3, width)];
        nint capacity = ColumnLines.Capacity(width);
        double* centers = Simd.Aligned<double>(memory);
        double* slopes = centers + capacity;
        double* intercepts = slopes + capacity;
        ColumnLines.Normalizing(Statistics.Mean + slot, Statistics.InverseStd + slot, width, centers, slopes, intercepts);
        AddColumnSums<double, ColumnLine<double>>(offset, width, chunk, new(centers, slopes, intercepts), gradients, products);
    }

    private readonly void AddColumnSums<A, TLine>(nint offset, nint width, Chunk chunk, TLine line, double* gradients, double* products)
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        nint padded = (width + Simd.Count<A>() - 1) / Simd.Count<A>() * Simd.Count<A>();
        new Span<double>(gradients, (int)padded).Clear();
        new Span<double>(products, (int)padded).Clear();
        nint rows = chunk.Length / Layout.Columns;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            Loops.AddWideGradientColumns<T, A, TLine>(X + offset, G + offset, rows, width, Layout.Columns, line, gradients, products);
        }
    }

    [SkipLocalsInit]
    private readonly void RowWeightSums(
        nint slot, nint affine, nint offset, nint width, Chunk chunk, double* runs, double* gradients, double* products)
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(3, width)];
        nint capacity = ColumnLines.Capacity(width);
        double* means = Simd.Aligned<double>(memory);
        double* inverses = means + capacity;
        double* zeros = inverses + capacity;
        ColumnLines.Normalizing(Statistics.Mean + slot, Statistics.InverseStd + slot, width, means, inverses, zeros);
        new Span<double>(gradients, (int)width).Clear();
        new Span<double>(products, (int)width).Clear();
        var line = new ColumnLine<double>(means, inverses, zeros);
        nint pitch = Layout.Columns;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            nint run = chunk.Start / pitch;
            for (nint done = 0; done < chunk.Length; done += pitch, run++)
            {
                T* x = X + offset + done;
                T* g = G + offset + done;
                double weight = Weight == null ? 1 : Simd.Get(Weight + affine + run);
                Loops.GradientSums<T, double, ColumnLine<double>, NoAffine<double>>(x, g, width, 0, line, default, ref runs[run], ref runs[Layout.Runs + run]);
                Loops.AddGradientColumns<T, double, ColumnLine<double>>(x, g, 1, width, pitch, 0, line, weight, gradients, products);
            }
        }
    }

    // From a panel's sums to the two means of the input gradient.
    private readonly void FinishSums(PanelPlace place, double* sums)
    {
        Means(place, sums);
        AdjustMeans(place.Slot, Layout.Columns);
    }

    private readonly void AdjustMeans(nint slot, int columns)
    {
        if (Layout.Uncentered)
        {
            Clear(MeanGradient + slot, columns);
        }

        for (nint j = 0; j < columns && Statistics.ProductFactor != null; j++)
        {
            MeanProduct[slot + j] *= Statistics.ProductFactor[slot + j];
        }
    }

    // Pooled over the columns of a set.
    private readonly void Means(PanelPlace place, double* sums)
    {
        nint columns = Layout.Columns;
        nint affine = place.Affine;
        nint slot = place.Slot;
        double* meanGradient = MeanGradient + slot;
        double* meanProduct = MeanProduct + slot;
        double size = Layout.SetSize;
        if (columns > 1)
        {
            ColumnMeans(place, 0, Layout.Columns, sums);
            return;
        }

        if (Layout.OneWeightPerSet)
        {
            *meanGradient = sums[2] / size;
            *meanProduct = sums[3] / size;
            return;
        }

        if (Layout.RunLength == 0)
        {
            *meanGradient = sums[0] / size;
            *meanProduct = sums[1] / size;
            return;
        }

        double* runs = sums + 2;
        double gradient = 0;
        double product = 0;
        for (nint run = 0; run < Layout.Runs; run++)
        {
            double weight = Weight == null ? 1 : Simd.Get(Weight + affine + run);
            gradient += weight * runs[run];
            product += weight * runs[Layout.Runs + run];
        }

        sums[0] = gradient;
        sums[1] = product;
        *meanGradient = gradient / size;
        *meanProduct = product / size;
    }

    // Of some columns of a panel, whole sets.
    private readonly void ColumnMeans(PanelPlace place, nint column, nint width, double* sums)
    {
        double* meanGradient = MeanGradient + place.Slot;
        double* meanProduct = MeanProduct + place.Slot;
        double* products = sums + Layout.Columns;
        double size = Layout.SetSize;
        if (Layout.OneWeightPerSet)
        {
            Simd.Divide(sums + column, size, meanGradient + column, width);
            Simd.Divide(products + column, size, meanProduct + column, width);
            return;
        }

        bool plain = Layout.RunLength == 0;
        for (nint first = column; first < column + width; first += Layout.ColumnsPerSet)
        {
            double gradient = 0;
            double product = 0;
            for (nint j = first; j < first + Layout.ColumnsPerSet; j++)
            {
                double weight = plain ? Simd.Get(Weight + place.Affine + j) : 1;
                gradient += weight * sums[j];
                product += weight * products[j];
            }

            for (nint j = first; j < first + Layout.ColumnsPerSet; j++)
            {
                meanGradient[j] = gradient / size;
                meanProduct[j] = product / size;
            }
        }
    }

    private readonly void ApplyPanel<TStore>(PanelPlace place)
        where TStore : struct, IStore
    {
        for (int index = 0; index < Chunks.Count; index += Chunks.Together)
        {
            ApplyChunk<TStore>(place, Chunks.Join(index, Chunks.Together));
        }
    }

    private readonly void ApplyChunk<TStore>(PanelPlace place, Chunk chunk)
        where TStore : struct, IStore
    {
        nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint affine = place.Affine;
        nint slot = place.Slot;
        if (Layout.Columns == 1)
        {
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                ApplyRow<TStore>(slot, affine, offset, chunk.Start, chunk.Length);
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

    // As in the forward pass.
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

    private readonly void ApplyRow<TStore>(nint slot, nint affine, nint offset, nint start, nint count)
        where TStore : struct, IStore
    {
        if (Layout.RunLength == 0)
        {
            ApplyRun<ElementAffine<T, T>, ElementAffine<T, double>, TStore>(
                slot, offset, count, 1, new(Weight + affine + start, null), new(Weight + affine + start, null));
            return;
        }

        for (nint done = 0; done < count;)
        {
            nint position = start + done;
            nint run = Layout.Runs == 1 ? 0 : position / Layout.RunLength;
            nint length = Math.Min(((run + 1) * Layout.RunLength) - position, count - done);
            double weight = Weight == null ? 1 : Simd.Get(Weight + affine + run);
            if (ConstantStatistics || Layout.OneWeightPerSet)
            {
                ApplyRun<NoAffine<T>, NoAffine<double>, TStore>(slot, offset + done, length, weight, default, default);
            }
            else
            {
                ApplyRun<ConstantAffine<T>, ConstantAffine<double>, TStore>(slot, offset + done, length, 1, new(weight, 0), new(weight, 0));
            }

            done += length;
        }
    }

    // The two lines of a run's input gradient, and whether float may hold them.
    private readonly record struct RunLines(
        bool SuitsSingle, double Mean, double Slope, double Intercept, double MeanGradient, double Scale)
    {
        public void To(Run<T>* run)
        {
            run->Center = Simd.Scalar<T>(Mean);
            run->Slope = Simd.Scalar<T>(Slope);
            run->Intercept = Simd.Scalar<T>(Intercept);
            run->GradientCenter = Simd.Scalar<T>(MeanGradient);
            run->GradientSlope = Simd.Scalar<T>(Scale);
        }
    }

    // The weight is in the slopes where it is one for the set, else 1 here; then g * w is rounded as its mean is, and what the mean's
    // rounding leaves is no part of it: a set of one value gives exactly 0.
    private readonly RunLines LinesOf(nint slot, double weight)
    {
        double mean = Statistics.Mean[slot];
        double inverse = Statistics.InverseStd[slot];
        double scale = inverse * weight;
        double middle = MeanGradient[slot];
        double slope = -(inverse * scale) * MeanProduct[slot];
        bool suits = typeof(T) == typeof(float) && Simd.CentersSingle(mean) && Simd.SuitsSingle(inverse) && Simd.SuitsSingle(scale)
            && Simd.CentersSingle(middle) && Simd.SlopesSingle(slope, inverse);
        return new RunLines(suits, mean, slope, Left(mean, slope, middle, scale), middle, scale);
    }

    // What rounding the two centers left. In double that is 0, and no product of it: that may be no number, or a negative 0.
    private readonly double Left(double mean, double slope, double middle, double scale)
    {
        double left = Layout.OneWeightPerSet ? (Simd.Round<T>(middle) - middle) * scale : 0;
        return typeof(T) == typeof(double) ? 0 : Math.FusedMultiplyAdd(Simd.Round<T>(mean) - mean, slope, left);
    }

    private readonly void ApplyRun<TSingle, TDouble, TStore>(
        nint slot, nint offset, nint length, double weight, TSingle single, TDouble wide)
        where TSingle : struct, IAffine<T>
        where TDouble : struct, IAffine<double>
        where TStore : struct, IStore
    {
        if (ConstantStatistics)
        {
            double inverse = Statistics.InverseStd[slot];
            double scale = inverse * weight;
            if (typeof(T) == typeof(float) && Simd.SuitsSingle(inverse) && Simd.SuitsSingle(scale))
            {
                Loops.Standardize<T, T, ConstantLine<T>, NoAffine<T>, TStore>(G + offset, DX + offset, length, length, Ahead, new(0.0, scale, 0.0), default);
            }
            else
            {
                Loops.Standardize<T, double, ConstantLine<double>, NoAffine<double>, TStore>(
                    G + offset, DX + offset, length, length, Ahead, new(0.0, scale, 0.0), default);
            }

            return;
        }

        RunLines lines = LinesOf(slot, weight);
        if (lines.SuitsSingle)
        {
            Loops.InputGradient<T, T, ConstantLine<T>, TSingle, TStore>(X + offset, G + offset, DX + offset, length, length, Ahead,
                new(lines.MeanGradient, lines.Scale, 0.0), new(lines.Mean, lines.Slope, lines.Intercept), single);
        }
        else
        {
            Loops.InputGradient<T, double, ConstantLine<double>, TDouble, TStore>(X + offset, G + offset, DX + offset, length, length, Ahead,
                new(lines.MeanGradient, lines.Scale, 0.0), new(lines.Mean, lines.Slope, 0.0), wide);
        }
    }

    // A tile of columns of a chunk. False, with nothing written, where float does not suit.
    [SkipLocalsInit]
    private readonly bool ApplyColumns<A, TStore>(nint slot, nint affine, nint offset, nint column, nint width, Chunk chunk)
        where A : unmanaged
        where TStore : struct, IStore
    {
        byte* block = stackalloc byte[ColumnLines.Bytes<A>(6, width)];
        nint capacity = ColumnLines.Capacity(width);
        A* gradientCenters = Simd.Aligned<A>(block) + ColumnLines.Shift<T, A>(DX + offset);
        A* gradientSlopes = gradientCenters + capacity;
        A* centers = gradientSlopes + capacity;
        A* slopes = centers + capacity;
        A* intercepts = slopes + capacity;
        A* weights = intercepts + capacity;
        bool byElement = Layout.RunLength == 0;
        bool folded = Layout.OneWeightPerSet;
        T* weight = byElement ? Weight + affine + column : null;
        double* mean = Statistics.Mean + slot;
        double* inverse = Statistics.InverseStd + slot;
        bool suits = ConstantStatistics
            ? ColumnLines.Scaling(inverse, weight, width, centers, slopes, intercepts)
            : ColumnLines.Differentiating(mean, inverse, MeanGradient + slot, MeanProduct + slot, weight, folded, width,
                gradientCenters, gradientSlopes, centers, slopes, intercepts);
        if (!suits)
        {
            return false;
        }

        if (byElement && !folded)
        {
            ColumnLines.Copy(weight, width, weights);
        }

        var gradientLine = new ColumnLine<A>(gradientCenters, gradientSlopes, null);
        var line = new ColumnLine<A>(centers, slopes, intercepts);
        nint pitch = Layout.Columns;
        bool together = byElement && width == pitch;
        nint length = together ? chunk.Length : width;
        bool byFours = together && folded && Standardizer.ByFours<A>(5, Layout);
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            nint run = chunk.Start / pitch;
            for (nint done = 0; done < chunk.Length; done += together ? chunk.Length : pitch, run++)
            {
                T* x = X + offset + done;
                T* g = G + offset + done;
                T* dx = DX + offset + done;
                if (ConstantStatistics)
                {
                    Loops.Standardize<T, A, ColumnLine<A>, NoAffine<A>, TStore>(g, dx, length, width, Ahead, line, default);
                }
                else if (byFours)
                {
                    Loops.InputGradientRows<T, A, TStore>(x, g, dx, length, width, Ahead, gradientLine, line);
                }
                else if (folded)
                {
                    Loops.InputGradient<T, A, ColumnLine<A>, NoAffine<A>, TStore>(x, g, dx, length, width, Ahead, gradientLine, line, default);
                }
                else if (byElement)
                {
                    Loops.InputGradient<T, A, ColumnLine<A>, ElementAffine<A, A>, TStore>(
                        x, g, dx, length, width, Ahead, gradientLine, line, new(weights, null));
                }
                else
                {
                    var affineOfRow = new ConstantAffine<A>(Weight == null ? 1 : Simd.Get(Weight + affine + run), 0);
                    Loops.InputGradient<T, A, ColumnLine<A>, ConstantAffine<A>, TStore>(x, g, dx, length, width, Ahead, gradientLine, line, affineOfRow);
                }
            }
        }

        return true;
    }

    // Weights by element of a row (layer norm): a block of rows is summed, its weight gradients are added up, and then it is written,
    // all while it is in cache.
    private readonly void AccumulateRows<TStore>(int firstBlock, int endBlock, double* accumulators)
        where TStore : struct, IStore
    {
        Run<T>* runs = stackalloc Run<T>[RowBlock];
        nint weights = Layout.ElementWeights;
        T* staged = (T*)accumulators;
        double* totals = accumulators + (2 * weights);
        double size = Layout.SetSize;
        bool first = true;
        new Span<T>(staged, checked((int)(2 * weights))).Clear();
        for (int block = firstBlock; block < endBlock; block++)
        {
            int firstRow = block * RowsTogether;
            int rows = Math.Min(RowsTogether, Layout.Outer - firstRow);
            for (int inner = 0; inner < Layout.Inner; inner++)
            {
                int panel = (firstRow * Layout.Inner) + inner;
                for (int index = 0; index < Chunks.Count; index++)
                {
                    Chunk chunk = Chunks[index];
                    T* gradients = staged + (inner * Layout.AffinePerInner) + chunk.Start;
                    SumRowsAndColumns(panel, rows, chunk, gradients, gradients + weights, runs);
                    for (int row = 0, slot = panel; row < rows; row++, slot += Layout.Inner)
                    {
                        if (index == 0)
                        {
                            MeanGradient[slot] = 0;
                            MeanProduct[slot] = 0;
                        }

                        AddSums(runs + row, slot, chunk.Length, ref MeanGradient[slot], ref MeanProduct[slot]);
                    }
                }

                for (int row = 0, slot = panel; row < rows; row++, slot += Layout.Inner)
                {
                    MeanGradient[slot] /= size;
                    MeanProduct[slot] /= size;
                    AdjustMeans(slot, 1);
                }

                WriteRows<TStore>(panel, Layout.Inner, rows, 0, Layout.BlockLength, runs);
            }

            bool full = (block - firstBlock) % (StagedRows / RowsTogether) == (StagedRows / RowsTogether) - 1;
            if (Totals(_itemsPerTask) && (full || block == endBlock - 1))
            {
                AddStaged(totals, staged, 2 * weights, first);
                new Span<T>(staged, checked((int)(2 * weights))).Clear();
                first = false;
            }
        }
    }

    // Of a chunk of a block of rows in one read: the rows' sums, in their runs, and the columns', added to those staged. Where a row does not suit float
    // the two are summed apart, and the other rows' sums have the same bits.
    private readonly void SumRowsAndColumns(int firstPanel, int rows, Chunk chunk, T* gradients, T* products, Run<T>* runs)
    {
        nint length = chunk.Length;
        bool suits = true;
        for (int row = 0, panel = firstPanel; row < rows; row++, panel += Layout.Inner)
        {
            PanelPlace place = Layout.Place(panel);
            double mean = Statistics.Mean[place.Slot];
            double inverse = Statistics.InverseStd[place.Slot];
            suits &= ElementGradientsSuit(place.Slot);
            runs[row].Offset = place.Offset + chunk.Start;
            runs[row].Affine = place.Affine + chunk.Start;
            runs[row].Center = Simd.Scalar<T>(mean);
            runs[row].Slope = Simd.Scalar<T>(inverse);
            runs[row].Intercept = Simd.Scalar<T>((Simd.Round<T>(mean) - mean) * inverse);
        }

        if (suits)
        {
            nint offset = runs->Offset;
            T* written = FetchedToWrite == null ? null : FetchedToWrite + offset;
            Loops.GradientSumsOfRows(X + offset, G + offset, written, Weight + runs->Affine, runs, rows, length, Layout.OuterStride, SumsAhead, gradients, products);
            return;
        }

        AddElementGradients(firstPanel, rows, chunk.Start, length, 0, gradients, products);
        for (Run<T>* run = runs; run < runs + rows; run++)
        {
            SumRow(run, length, 0);
        }
    }

    private readonly bool ElementGradientsSuit(nint slot) =>
        typeof(T) == typeof(double)
        || (Simd.CentersSingle(Statistics.Mean[slot]) && Simd.SuitsSingle(Statistics.InverseStd[slot]) && Simd.ReachesSingle(Statistics.PopulationVariance[slot]));

    // AccumulateRows for long rows, whose sums are known: a tile of columns over all rows, so that nothing has to be accumulated apart.
    [SkipLocalsInit]
    private readonly void ApplyTile<TStore>(int tile)
        where TStore : struct, IStore
    {
        nint start = (nint)tile * Standardizer.WeightTile;
        nint length = Math.Min(Standardizer.WeightTile, Layout.BlockLength - start);
        byte* block = stackalloc byte[(4 * Standardizer.WeightTile * sizeof(double)) + Simd.LineBytes];
        double* totals = Simd.Aligned<double>(block);
        T* staged = (T*)(totals + (2 * Standardizer.WeightTile));
        Run<T>* runs = stackalloc Run<T>[RowBlock];
        for (int inner = 0; inner < Layout.Inner; inner++)
        {
            if (Layout.Outer > StagedRows)
            {
                Clear(totals, length);
            }

            Clear(staged, length);
            for (int first = 0; first < Layout.Outer; first += RowBlock)
            {
                int rows = Math.Min(RowBlock, Layout.Outer - first);
                int panel = (first * Layout.Inner) + inner;
                WriteRowsAndColumns<TStore>(panel, rows, start, length, staged, staged + Standardizer.WeightTile, runs);

                if (Layout.Outer > StagedRows && (first % StagedRows == StagedRows - RowBlock || first + RowBlock >= Layout.Outer))
                {
                    Simd.AddTo(totals, staged, length);
                    Simd.AddTo(totals + Standardizer.WeightTile, staged + Standardizer.WeightTile, length);
                    Clear(staged, length);
                }
            }

            nint affine = (inner * Layout.AffinePerInner) + start;
            if (Layout.Outer > StagedRows)
            {
                AddTo(BiasGradient, affine, totals, length);
                AddTo(WeightGradient, affine, totals + Standardizer.WeightTile, length);
            }
            else
            {
                AddTo(BiasGradient, affine, staged, length);
                AddTo(WeightGradient, affine, staged + Standardizer.WeightTile, length);
            }
        }
    }

    // The two halves of a tile's sums.
    private static void Clear<TSum>(TSum* sums, nint length)
        where TSum : unmanaged
    {
        new Span<TSum>(sums, (int)length).Clear();
        new Span<TSum>(sums + Standardizer.WeightTile, (int)length).Clear();
    }

    // A block of rows that does not suit float is summed in double before it is staged.
    private readonly void AddElementGradients(int firstPanel, int rows, nint start, nint length, nint ahead, T* gradients, T* products)
    {
        nint offset = Layout.Place(firstPanel).Offset + start;
        if (AddElementGradients<T>(firstPanel, rows, offset, length, ahead, gradients, products))
        {
            return;
        }

        double* wide = stackalloc double[2 * WideElements];
        for (nint done = 0; done < length; done += WideElements)
        {
            nint count = Math.Min(WideElements, length - done);
            new Span<double>(wide, 2 * WideElements).Clear();
            AddElementGradients<double>(firstPanel, rows, offset + done, count, 0, wide, wide + WideElements);
            Simd.AddTo(gradients + done, wide, count);
            Simd.AddTo(products + done, wide + WideElements, count);
        }
    }

    private readonly bool AddElementGradients<A>(int firstPanel, int rows, nint offset, nint length, nint ahead, A* gradients, A* products)
        where A : unmanaged
    {
        A* lines = stackalloc A[3 * RowBlock];
        for (int row = 0; row < rows; row++)
        {
            int panel = firstPanel + (row * Layout.Inner);
            double mean = Statistics.Mean[panel];
            double inverse = Statistics.InverseStd[panel];
            if (typeof(A) == typeof(float) && !ElementGradientsSuit(panel))
            {
                return false;
            }

            Simd.Set(lines + row, mean);
            Simd.Set(lines + RowBlock + row, inverse);
            Simd.Set(lines + (2 * RowBlock) + row, (Simd.Round<A>(mean) - mean) * inverse);
        }

        var line = new RowLine<A>(lines, lines + RowBlock, lines + (2 * RowBlock));
        Loops.AddGradientColumns<T, A, RowLine<A>>(X + offset, G + offset, rows, length, Layout.OuterStride, ahead, line, 1, gradients, products);
        return true;
    }
}
