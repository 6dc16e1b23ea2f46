using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

internal enum BackwardPhase
{
    Panels,
    Rows,
    ChunkSums,
    CombineChunks,
    Apply,
    ApplyTiles,
}

/// <summary>The backward pass over one layout, cut into tasks of consecutive items (panels, blocks of rows, chunks or column tiles).</summary>
/// <remarks>
/// The sums of a panel or chunk are Columns gradients and Columns products, then, where weights go by run, Runs gradients and Runs
/// products (product: gradient * xhat). Columns that carry one weight each hold plain sums; otherwise they are weighted. Arithmetic is
/// chosen as in <see cref="ForwardJob{T}"/>.
/// </remarks>
internal unsafe struct BackwardJob<T> : IPieceJob
    where T : unmanaged
{
    public const int TileElements = 1024;

    /// <summary>Rows whose weight gradients are added up together.</summary>
    public const int RowBlock = 4;

    // Float sums of a column go into double after so many rows.
    private const int StagedRows = 64;

    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public T* DX;
    public T* Weight;
    public Statistics Statistics;
    public double* Sums;
    public double* MeanGradient; // by slot: mean of g * w over the set; of g alone where the set has one weight
    public double* MeanProduct; // by slot: mean of g * w * xhat over the set; of g * xhat alone where the set has one weight
    public double* Accumulators; // by task: ElementWeights gradients, as many products; then both again, staged in T
    public double* WeightGradient;
    public double* BiasGradient;
    public bool ConstantStatistics;
    public bool Streams;
    public nint Ahead; // as in the forward pass
    private BackwardPhase _phase;
    private int _items;
    private int _itemsPerTask;

    public static int SumsPerPanel(in ReductionLayout layout) => 2 * (layout.Columns + layout.Runs);

    /// <summary>Doubles that the accumulators of a task take.</summary>
    public static nint AccumulatorSize(in ReductionLayout layout) => 4 * layout.ElementWeights;

    public void Run(BackwardPhase phase, int items, nint elementsPerItem, int smallestTask = 1)
    {
        _phase = phase;
        _items = items;
        _itemsPerTask = Math.Max(smallestTask, Standardizer.ItemsPerTask(elementsPerItem));
        WorkTeam.Run(ref this, (items + _itemsPerTask - 1) / _itemsPerTask, items * elementsPerItem);
    }

    public void Run(int piece)
    {
        int start = piece * _itemsPerTask;
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        if (_phase == BackwardPhase.Rows)
        {
            AccumulateRows(start, end, Accumulators + (piece * AccumulatorSize(Layout)));
        }

        for (int item = start; item < end && _phase != BackwardPhase.Rows; item++)
        {
            int panel = item / Chunks.Count;
            switch (_phase)
            {
                case BackwardPhase.Panels:
                    PanelSums(item);
                    ApplyPanel(item);
                    break;
                case BackwardPhase.ChunkSums:
                    double* sums = Sums + ((nint)item * SumsPerPanel(Layout));
                    new Span<double>(sums, SumsPerPanel(Layout)).Clear();
                    ChunkSums(panel, Chunks[item % Chunks.Count], sums);
                    break;
                case BackwardPhase.CombineChunks:
                    CombineChunks(item);
                    break;
                case BackwardPhase.Apply:
                    ApplyChunk(panel, Chunks[item % Chunks.Count]);
                    break;
                default:
                    ApplyTile(item);
                    break;
            }
        }

        Standardizer.FinishStores(Streams);
    }

    /// <summary>Adds the tasks' column accumulators, in task order, to the parameter gradients.</summary>
    public readonly void CollectAccumulators(int tasks)
    {
        nint length = Layout.ElementWeights;
        for (int task = 0; task < tasks; task++)
        {
            double* gradients = Accumulators + (task * AccumulatorSize(Layout));
            AddTo(BiasGradient, 0, gradients, length);
            AddTo(WeightGradient, 0, gradients + length, length);
        }
    }

    /// <summary>Adds the panels' sums, in panel order, to the parameter gradients.</summary>
    public readonly void CollectParameterSums()
    {
        if (Layout.Columns == 1 && Layout.RunLength == 0)
        {
            return;
        }

        int perPanel = SumsPerPanel(Layout);
        int count = Layout.RunLength == 0 ? Layout.Columns : Layout.Runs;
        int start = Layout.RunLength == 0 ? 0 : 2 * Layout.Columns;
        for (int panel = 0; panel < Layout.Panels; panel++)
        {
            double* sums = PanelSumsOf(panel, perPanel) + start;
            nint affine = Layout.AffineOffset(panel);
            AddTo(BiasGradient, affine, sums, count);
            AddTo(WeightGradient, affine, sums + count, count);
        }
    }

    // A panel's sums lie beside a spare for one chunk's or, chunk by chunk, in the place of its first chunk.
    private readonly double* PanelSumsOf(int panel, int perPanel) =>
        Sums + ((nint)panel * perPanel * (_phase is BackwardPhase.Panels or BackwardPhase.Rows ? 2 : Chunks.Count));

    private static void AddTo(double* destination, nint start, double* source, nint count)
    {
        if (destination != null)
        {
            Simd.AddTo(destination + start, source, count);
        }
    }

    // Both ways add whole chunk sums in chunk order, so that they round alike.
    private readonly void PanelSums(int panel)
    {
        int perPanel = SumsPerPanel(Layout);
        double* sums = Sums + ((nint)panel * 2 * perPanel);
        double* part = sums + perPanel;
        new Span<double>(sums, perPanel).Clear();
        ChunkSums(panel, Chunks[0], sums);
        for (int index = 1; index < Chunks.Count; index++)
        {
            new Span<double>(part, perPanel).Clear();
            ChunkSums(panel, Chunks[index], part);
            Simd.AddTo(sums, part, perPanel);
        }

        FinishSums(panel, sums);
    }

    private readonly void CombineChunks(int panel)
    {
        int perPanel = SumsPerPanel(Layout);
        double* sums = Sums + ((nint)panel * Chunks.Count * perPanel);
        for (int index = 1; index < Chunks.Count; index++)
        {
            Simd.AddTo(sums, sums + ((nint)index * perPanel), perPanel);
        }

        FinishSums(panel, sums);
    }

    private readonly void ChunkSums(int panel, Chunk chunk, double* sums)
    {
        nint columns = Layout.Columns;
        nint offset = Layout.PanelOffset(panel) + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint affine = Layout.AffineOffset(panel);
        nint slot = Layout.Slot(panel);
        if (columns == 1)
        {
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                RowSums(slot, affine, offset, chunk, sums);
            }

            return;
        }

        for (nint column = 0; column < columns; column += Standardizer.ColumnTile)
        {
            nint width = Math.Min(Standardizer.ColumnTile, columns - column);
            ColumnSums(slot + column, affine, offset + column, column, width, chunk, sums);
        }
    }

    private readonly void RowSums(nint slot, nint affine, nint offset, Chunk chunk, double* sums)
    {
        var line = new ConstantLine<double>(Statistics.Mean[slot], Statistics.InverseStd[slot], 0);
        if (Layout.RunLength == 0)
        {
            Loops.GradientSums(
                X + offset, G + offset, chunk.Length, line, new ElementAffine<T, double>(Weight + affine + chunk.Start, null), ref sums[0], ref sums[1]);
            return;
        }

        double* gradients = sums + 2;
        double* products = gradients + Layout.Runs;
        for (nint done = 0; done < chunk.Length;)
        {
            nint position = chunk.Start + done;
            nint run = Layout.Runs == 1 ? 0 : position / Layout.RunLength;
            nint length = Math.Min(((run + 1) * Layout.RunLength) - position, chunk.Length - done);
            Loops.GradientSums(X + offset + done, G + offset + done, length, line, default(NoAffine<double>), ref gradients[run], ref products[run]);
            done += length;
        }
    }

    // A tile of columns' sums.
    [SkipLocalsInit]
    private readonly void ColumnSums(nint slot, nint affine, nint offset, nint column, nint width, Chunk chunk, double* sums)
    {
        double* means = stackalloc double[ColumnLines.Capacity];
        double* inverses = stackalloc double[ColumnLines.Capacity];
        double* zeros = stackalloc double[ColumnLines.Capacity];
        ColumnLines.Normalizing(Statistics.Mean + slot, Statistics.InverseStd + slot, width, means, inverses, zeros);
        var line = new ColumnLine<double>(means, inverses, zeros);
        nint pitch = Layout.Columns;
        nint rows = chunk.Length / pitch;
        double* gradients = sums + column;
        double* products = sums + pitch + column;
        double* runGradients = sums + (2 * pitch);
        double* runProducts = runGradients + Layout.Runs;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            if (Layout.RunLength == 0)
            {
                Loops.AddGradientColumns<T, double, ColumnLine<double>>(X + offset, G + offset, rows, width, pitch, line, 1, gradients, products);
                continue;
            }

            nint run = chunk.Start / pitch;
            for (nint row = 0; row < rows; row++, run++)
            {
                T* x = X + offset + (row * pitch);
                T* g = G + offset + (row * pitch);
                double weight = Weight == null ? 1 : Simd.Get(Weight + affine + run);
                Loops.GradientSums(x, g, width, line, default(NoAffine<double>), ref runGradients[run], ref runProducts[run]);
                Loops.AddGradientColumns<T, double, ColumnLine<double>>(x, g, 1, width, pitch, line, weight, gradients, products);
            }
        }
    }

    // From a panel's sums to the two means of the input gradient, pooled over the columns of a set.
    private readonly void FinishSums(int panel, double* sums)
    {
        nint columns = Layout.Columns;
        nint affine = Layout.AffineOffset(panel);
        nint slot = Layout.Slot(panel);
        double* meanGradient = MeanGradient + slot;
        double* meanProduct = MeanProduct + slot;
        double size = Layout.SetSize;
        if (Layout.OneWeightPerSet)
        {
            double* gradients = columns == 1 ? sums + 2 : sums;
            for (nint j = 0; j < columns; j++)
            {
                meanGradient[j] = gradients[j] / size;
                meanProduct[j] = gradients[columns + j] / size;
            }

            return;
        }

        if (columns == 1 && Layout.RunLength != 0)
        {
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
        }

        bool plainColumns = columns > 1 && Layout.RunLength == 0;
        for (nint first = 0; first < columns; first += Layout.ColumnsPerSet)
        {
            double gradient = 0;
            double product = 0;
            for (nint j = first; j < first + Layout.ColumnsPerSet; j++)
            {
                double weight = plainColumns ? Simd.Get(Weight + affine + j) : 1;
                gradient += weight * sums[j];
                product += weight * sums[columns + j];
            }

            for (nint j = first; j < first + Layout.ColumnsPerSet; j++)
            {
                meanGradient[j] = gradient / size;
                meanProduct[j] = product / size;
            }
        }
    }

    private readonly void ApplyPanel(int panel)
    {
        for (int index = 0; index < Chunks.Count; index++)
        {
            ApplyChunk(panel, Chunks[index]);
        }
    }

    private readonly void ApplyChunk(int panel, Chunk chunk)
    {
        if (Streams)
        {
            ApplyChunk<StreamingStore>(panel, chunk);
        }
        else
        {
            ApplyChunk<CachedStore>(panel, chunk);
        }
    }

    private readonly void ApplyChunk<TStore>(int panel, Chunk chunk)
        where TStore : struct, IStore
    {
        nint offset = Layout.PanelOffset(panel) + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint affine = Layout.AffineOffset(panel);
        nint slot = Layout.Slot(panel);
        if (Layout.Columns == 1)
        {
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                ApplyRow<TStore>(slot, affine, offset, chunk.Start, chunk.Length);
            }

            return;
        }

        for (nint column = 0; column < Layout.Columns; column += Standardizer.ColumnTile)
        {
            nint width = Math.Min(Standardizer.ColumnTile, Layout.Columns - column);
            if (typeof(T) == typeof(double) || !ApplyColumns<T, TStore>(slot + column, affine, offset + column, column, width, chunk))
            {
                ApplyColumns<double, TStore>(slot + column, affine, offset + column, column, width, chunk);
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

    // The weight is in the slopes where it is one for the set, else in the affine; then g * w is rounded as its mean is, and what the
    // mean's rounding leaves is no part of it: a set of one value gives exactly 0.
    private readonly void ApplyRun<TSingle, TDouble, TStore>(
        nint slot, nint offset, nint length, double weight, TSingle single, TDouble wide)
        where TSingle : struct, IAffine<T>
        where TDouble : struct, IAffine<double>
        where TStore : struct, IStore
    {
        double mean = Statistics.Mean[slot];
        double inverse = Statistics.InverseStd[slot];
        double scale = inverse * weight;
        bool suits = typeof(T) == typeof(float) && Simd.CentersSingle(mean) && Simd.SuitsSingle(inverse) && Simd.SuitsSingle(scale);
        if (ConstantStatistics)
        {
            if (suits)
            {
                Loops.Standardize<T, T, ConstantLine<T>, NoAffine<T>, TStore>(G + offset, DX + offset, length, length, Ahead, new(0, scale, 0), default);
            }
            else
            {
                Loops.Standardize<T, double, ConstantLine<double>, NoAffine<double>, TStore>(G + offset, DX + offset, length, length, Ahead, new(0, scale, 0), default);
            }

            return;
        }

        double middle = MeanGradient[slot];
        double slope = -(inverse * scale) * MeanProduct[slot];
        if (suits && Simd.CentersSingle(middle) && Simd.CentersSingle(slope))
        {
            double left = Layout.OneWeightPerSet ? (Simd.Round<T>(middle) - middle) * scale : 0;
            Loops.InputGradient<T, T, ConstantLine<T>, TSingle, TStore>(X + offset, G + offset, DX + offset, length, length, Ahead,
                new(middle, scale, 0), Standardizer.Line<T>(mean, slope, left), single);
        }
        else
        {
            Loops.InputGradient<T, double, ConstantLine<double>, TDouble, TStore>(X + offset, G + offset, DX + offset, length, length, Ahead,
                new(middle, scale, 0), new(mean, slope, 0), wide);
        }
    }

    // A tile of columns of a chunk. False, with nothing written, where float does not suit.
    [SkipLocalsInit]
    private readonly bool ApplyColumns<A, TStore>(nint slot, nint affine, nint offset, nint column, nint width, Chunk chunk)
        where A : unmanaged
        where TStore : struct, IStore
    {
        A* gradientCenters = stackalloc A[ColumnLines.Capacity];
        A* gradientSlopes = stackalloc A[ColumnLines.Capacity];
        A* centers = stackalloc A[ColumnLines.Capacity];
        A* slopes = stackalloc A[ColumnLines.Capacity];
        A* intercepts = stackalloc A[ColumnLines.Capacity];
        A* weights = stackalloc A[ColumnLines.Capacity];
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
    private readonly void AccumulateRows(int firstBlock, int endBlock, double* accumulators)
    {
        nint weights = Layout.ElementWeights;
        T* staged = (T*)(accumulators + (2 * weights));
        new Span<double>(accumulators, checked((int)AccumulatorSize(Layout))).Clear();
        for (int block = firstBlock; block < endBlock; block++)
        {
            int first = block * RowBlock;
            int rows = Math.Min(RowBlock, Layout.Outer - first);
            for (int inner = 0; inner < Layout.Inner; inner++)
            {
                for (int row = 0; row < rows; row++)
                {
                    PanelSums(((first + row) * Layout.Inner) + inner);
                }

                nint affine = inner * Layout.AffinePerInner;
                AddElementGradients(first, rows, inner, 0, Layout.BlockLength,
                    accumulators + affine, accumulators + weights + affine, staged + affine, staged + weights + affine);
                for (int row = 0; row < rows; row++)
                {
                    ApplyPanel(((first + row) * Layout.Inner) + inner);
                }
            }

            if (typeof(T) != typeof(double) && ((block - firstBlock) % (StagedRows / RowBlock) == (StagedRows / RowBlock) - 1 || block == endBlock - 1))
            {
                Simd.AddTo(accumulators, staged, 2 * weights);
                new Span<T>(staged, checked((int)(2 * weights))).Clear();
            }
        }
    }

    // The same for long rows, whose sums are known: a tile of columns over all rows, so that nothing has to be accumulated apart.
    [SkipLocalsInit]
    private readonly void ApplyTile(int tile)
    {
        nint start = (nint)tile * TileElements;
        nint length = Math.Min(TileElements, Layout.BlockLength - start);
        double* accumulators = stackalloc double[2 * TileElements];
        T* staged = stackalloc T[2 * TileElements];
        for (int inner = 0; inner < Layout.Inner; inner++)
        {
            new Span<double>(accumulators, 2 * TileElements).Clear();
            new Span<T>(staged, 2 * TileElements).Clear();
            for (int first = 0; first < Layout.Outer; first += RowBlock)
            {
                int rows = Math.Min(RowBlock, Layout.Outer - first);
                AddElementGradients(first, rows, inner, start, length, accumulators, accumulators + TileElements, staged, staged + TileElements);
                for (int row = first; row < first + rows; row++)
                {
                    int panel = (row * Layout.Inner) + inner;
                    nint offset = Layout.PanelOffset(panel) + start;
                    if (Streams)
                    {
                        ApplyRow<StreamingStore>(panel, Layout.AffineOffset(panel), offset, start, length);
                    }
                    else
                    {
                        ApplyRow<CachedStore>(panel, Layout.AffineOffset(panel), offset, start, length);
                    }
                }

                if (typeof(T) != typeof(double) && (first % StagedRows == StagedRows - RowBlock || first + RowBlock >= Layout.Outer))
                {
                    Simd.AddTo(accumulators, staged, 2 * TileElements);
                    new Span<T>(staged, 2 * TileElements).Clear();
                }
            }

            nint affine = (inner * Layout.AffinePerInner) + start;
            AddTo(BiasGradient, affine, accumulators, length);
            AddTo(WeightGradient, affine, accumulators + TileElements, length);
        }
    }

    // Double rows go straight to their sums, float rows to where they are staged, unless they do not suit float.
    private readonly void AddElementGradients(
        int firstRow, int rows, int inner, nint start, nint length, double* gradients, double* products, T* stagedGradients, T* stagedProducts)
    {
        int panel = (firstRow * Layout.Inner) + inner;
        nint offset = Layout.PanelOffset(panel) + start;
        if (typeof(T) == typeof(double) || !AddElementGradients<T>(panel, rows, offset, length, stagedGradients, stagedProducts))
        {
            AddElementGradients<double>(panel, rows, offset, length, gradients, products);
        }
    }

    private readonly bool AddElementGradients<A>(int firstPanel, int rows, nint offset, nint length, A* gradients, A* products)
        where A : unmanaged
    {
        A* lines = stackalloc A[3 * RowBlock];
        for (int row = 0; row < rows; row++)
        {
            int panel = firstPanel + (row * Layout.Inner);
            double mean = Statistics.Mean[panel];
            double inverse = Statistics.InverseStd[panel];
            if (typeof(A) == typeof(float) && !(Simd.CentersSingle(mean) && Simd.SuitsSingle(inverse) && Simd.ReachesSingle(Statistics.PopulationVariance[panel])))
            {
                return false;
            }

            Simd.Set(lines + row, mean);
            Simd.Set(lines + RowBlock + row, inverse);
            Simd.Set(lines + (2 * RowBlock) + row, (Simd.Round<A>(mean) - mean) * inverse);
        }

        var line = new RowLine<A>(lines, lines + RowBlock, lines + (2 * RowBlock));
        Loops.AddGradientColumns<T, A, RowLine<A>>(X + offset, G + offset, rows, length, Layout.OuterStride, line, 1, gradients, products);
        return true;
    }
}
