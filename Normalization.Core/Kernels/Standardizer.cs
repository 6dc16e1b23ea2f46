using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>The arrays a pass over a layout works on; slots are numbered panel * Columns + column.</summary>
internal unsafe struct Statistics
{
    public double* Mean;
    public double* PopulationVariance;
    public double* InverseStd;
}

/// <summary>Moments, standardization and the three-term gradient over any <see cref="ReductionLayout"/>.</summary>
/// <remarks>
/// A small panel is finished by one thread while it is in cache; a large one is cut into the layout's chunks, whose sums are
/// combined in chunk order. Both ways take the same chunks in the same order, so a sample's bits depend neither on the thread
/// count nor on how many other samples there are.
/// </remarks>
internal static unsafe class Standardizer
{
    private const nint TaskElements = 1 << 14;
    private const nint CachedPanelElements = 1 << 17;
    private const nint CachedColumns = 1 << 13;
    private const int AccumulatorTasks = 16;

    /// <summary>Takes the moments of every set and writes the standardized output.</summary>
    /// <remarks>Weight and bias are in the layout's weight order; null stands for 1 and 0.</remarks>
    public static void Forward<T>(in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics, double epsilon)
        where T : unmanaged
    {
        var chunking = new Chunking(layout);
        bool panelByPanel = ByPanel(layout, chunking);
        nint partials = (panelByPanel ? layout.Slots : layout.Slots * chunking.Count) * 2;
        NativeScratch scratch = NativeScratch.Begin((partials * sizeof(double)) + AffineScratchBytes<T>(layout));
        var job = new ForwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            Y = y,
            Weight = OrFilled(layout, scratch, weight, 1.0),
            Bias = OrFilled(layout, scratch, bias, 0.0),
            Statistics = statistics,
            Partials = scratch.Take<double>(partials),
            Epsilon = epsilon,
        };
        if (panelByPanel)
        {
            job.Run(ForwardPhase.Panels, layout.Panels, layout.PanelElements);
            return;
        }

        int chunks = layout.Panels * chunking.Count;
        nint chunkElements = layout.Elements / chunks;
        job.Run(ForwardPhase.ChunkMoments, chunks, chunkElements);
        job.Run(ForwardPhase.CombineChunks, layout.Panels, (nint)chunking.Count * layout.Columns);
        job.Run(ForwardPhase.Apply, chunks, chunkElements);
    }

    /// <summary>Writes the standardized output with statistics that are given.</summary>
    public static void Apply<T>(in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
        where T : unmanaged
    {
        var chunking = new Chunking(layout);
        NativeScratch scratch = NativeScratch.Begin(AffineScratchBytes<T>(layout));
        var job = new ForwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            Y = y,
            Weight = OrFilled(layout, scratch, weight, 1.0),
            Bias = OrFilled(layout, scratch, bias, 0.0),
            Statistics = statistics,
        };
        int chunks = layout.Panels * chunking.Count;
        job.Run(ForwardPhase.Apply, chunks, layout.Elements / chunks);
    }

    /// <summary>Takes the moments of every set only.</summary>
    public static void Moments<T>(in ReductionLayout layout, T* x, Statistics statistics, double epsilon)
        where T : unmanaged
    {
        var chunking = new Chunking(layout);
        nint partials = layout.Slots * chunking.Count * 2;
        NativeScratch scratch = NativeScratch.Begin(partials * sizeof(double));
        var job = new ForwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            Statistics = statistics,
            Partials = scratch.Take<double>(partials),
            Epsilon = epsilon,
        };
        int chunks = layout.Panels * chunking.Count;
        job.Run(ForwardPhase.ChunkMoments, chunks, layout.Elements / chunks);
        job.Run(ForwardPhase.CombineChunks, layout.Panels, (nint)chunking.Count * layout.Columns);
    }

    /// <summary>Writes the input gradient; adds to the parameter gradients, in double and in the layout's weight order.</summary>
    /// <remarks>
    /// Null weight stands for 1; a null gradient is not wanted. With constant statistics (inference) mean and variance pass nothing on.
    /// The input gradient may be written over the output gradient.
    /// </remarks>
    public static void Backward<T>(
        in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics,
        double* weightGradient, double* biasGradient, bool constantStatistics)
        where T : unmanaged
    {
        bool wantsParameters = weightGradient != null || biasGradient != null;
        bool elementWeightsOfRow = layout.Columns == 1 && layout.RunLength == 0;
        bool accumulate = elementWeightsOfRow && wantsParameters;
        var chunking = new Chunking(layout);
        bool panelByPanel = ByPanel(layout, chunking) && !(accumulate && layout.ElementWeights > CachedColumns);
        int sumsPerPanel = BackwardJob<T>.SumsPerPanel(layout);
        nint sums = (nint)sumsPerPanel * layout.Panels * (panelByPanel ? 2 : chunking.Count);
        nint accumulators = accumulate && panelByPanel ? AccumulatorTasks * layout.ElementWeights * 2 : 0;
        NativeScratch scratch = NativeScratch.Begin(
            ((sums + accumulators + (2 * layout.Slots)) * sizeof(double)) + AffineScratchBytes<T>(layout));
        var job = new BackwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            G = g,
            DX = dx,
            Weight = OrFilled(layout, scratch, weight, 1.0),
            Statistics = statistics,
            Sums = scratch.Take<double>(sums),
            MeanGradient = scratch.Take<double>(layout.Slots),
            MeanProduct = scratch.Take<double>(layout.Slots),
            ConstantStatistics = constantStatistics,
            WeightGradient = weightGradient,
            BiasGradient = biasGradient,
        };

        int chunks = layout.Panels * chunking.Count;
        nint chunkElements = layout.Elements / chunks;
        if (constantStatistics && !wantsParameters)
        {
            job.Run(BackwardPhase.Apply, chunks, chunkElements);
        }
        else if (panelByPanel)
        {
            job.Accumulators = scratch.Take<double>(accumulators);
            new Span<double>(job.Accumulators, checked((int)accumulators)).Clear();
            int largestTask = accumulate ? (layout.Panels + AccumulatorTasks - 1) / AccumulatorTasks : 1;
            job.Run(BackwardPhase.Panels, layout.Panels, layout.PanelElements, largestTask);
            job.CollectAccumulators(accumulate ? AccumulatorTasks : 0);
            job.CollectParameterSums();
        }
        else
        {
            job.Run(BackwardPhase.ChunkSums, chunks, chunkElements);
            job.Run(BackwardPhase.CombineChunks, layout.Panels, (nint)chunking.Count * sumsPerPanel);
            if (accumulate)
            {
                int tiles = (int)((layout.BlockLength + BackwardJob<T>.TileElements - 1) / BackwardJob<T>.TileElements);
                job.Run(BackwardPhase.ApplyTiles, tiles, layout.Panels * BackwardJob<T>.TileElements);
            }
            else
            {
                job.Run(BackwardPhase.Apply, chunks, chunkElements);
            }

            job.CollectParameterSums();
        }
    }

    /// <summary>Items in a task: enough of them to be worth handing to a thread; a matter of the shape alone.</summary>
    internal static int ItemsPerTask(nint elementsPerItem) => (int)Math.Max(1, TaskElements / Math.Max(1, elementsPerItem));

    // One thread takes a whole panel while it is in its cache, unless there are so few panels that the others would idle.
    private static bool ByPanel(in ReductionLayout layout, in Chunking chunking) =>
        chunking.Count == 1 || (layout.PanelElements <= CachedPanelElements && layout.Panels >= 4);

    private static nint AffineScratchBytes<T>(in ReductionLayout layout)
        where T : unmanaged => 2 * layout.ElementWeights * sizeof(T);

    // Element-wise weights are read as an array even where there is no parameter.
    private static T* OrFilled<T>(in ReductionLayout layout, NativeScratch scratch, T* values, double fill)
        where T : unmanaged
    {
        nint count = layout.ElementWeights;
        if (values != null || count == 0)
        {
            return values;
        }

        T* filled = scratch.Take<T>(count);
        T value = default;
        Simd.Set(&value, fill);
        new Span<T>(filled, checked((int)count)).Fill(value);
        return filled;
    }
}

internal enum ForwardPhase
{
    Panels,
    ChunkMoments,
    CombineChunks,
    Apply,
}

/// <summary>The forward pass over one layout, cut into tasks of consecutive items (panels or chunks).</summary>
internal unsafe struct ForwardJob<T> : IPieceJob
    where T : unmanaged
{
    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* Y;
    public T* Weight;
    public T* Bias;
    public Statistics Statistics;
    public double* Partials; // mean then squared deviations, Columns each: by chunk, or one spare pair by panel
    public double Epsilon;
    private ForwardPhase _phase;
    private int _items;
    private int _itemsPerTask;

    public void Run(ForwardPhase phase, int items, nint elementsPerItem)
    {
        _phase = phase;
        _items = items;
        _itemsPerTask = Standardizer.ItemsPerTask(elementsPerItem);
        WorkTeam.Run(ref this, (items + _itemsPerTask - 1) / _itemsPerTask, items * elementsPerItem);
    }

    public void Run(int piece)
    {
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        for (int item = piece * _itemsPerTask; item < end; item++)
        {
            switch (_phase)
            {
                case ForwardPhase.Panels:
                    PanelMoments(item);
                    for (int chunk = 0; chunk < Chunks.Count; chunk++)
                    {
                        ApplyChunk(item, Chunks[chunk]);
                    }

                    break;
                case ForwardPhase.ChunkMoments:
                    double* partial = Partials + (2 * (nint)item * Layout.Columns);
                    ChunkMoments(item / Chunks.Count, Chunks[item % Chunks.Count], partial, partial + Layout.Columns);
                    break;
                case ForwardPhase.CombineChunks:
                    CombineChunks(item);
                    break;
                default:
                    ApplyChunk(item / Chunks.Count, Chunks[item % Chunks.Count]);
                    break;
            }
        }
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

    // Two passes over a chunk that is in cache; the second also corrects the rounding of the first's mean.
    private readonly void ChunkMoments(int panel, Chunk chunk, double* mean, double* squares)
    {
        nint columns = Layout.Columns;
        T* start = X + Layout.PanelOffset(panel) + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        double count = chunk.Elements / columns;
        if (columns == 1)
        {
            double sum = 0;
            T* block = start;
            for (int i = 0; i < chunk.BlockCount; i++, block += Layout.BlockStride)
            {
                sum += Loops.Sum(block, chunk.Length);
            }

            double center = sum / count;
            double first = 0;
            double second = 0;
            block = start;
            for (int i = 0; i < chunk.BlockCount; i++, block += Layout.BlockStride)
            {
                Loops.CenteredSums(block, chunk.Length, center, ref first, ref second);
            }

            *mean = center + (first / count);
            *squares = second - (first * first / count);
            return;
        }

        nint rows = chunk.Length / columns;
        double* centers = stackalloc double[ColumnTile];
        double* firsts = stackalloc double[ColumnTile];
        for (nint column = 0; column < columns; column += ColumnTile)
        {
            ColumnMoments(start + column, chunk.BlockCount, rows, Math.Min(ColumnTile, columns - column), count,
                centers, firsts, mean + column, squares + column);
        }
    }

    private const int ColumnTile = 512;

    private readonly void ColumnMoments(
        T* start, int blocks, nint rows, nint width, double count, double* centers, double* firsts, double* mean, double* squares)
    {
        nint pitch = Layout.Columns;
        new Span<double>(centers, (int)width).Clear();
        new Span<double>(firsts, (int)width).Clear();
        new Span<double>(squares, (int)width).Clear();
        T* block = start;
        for (int i = 0; i < blocks; i++, block += Layout.BlockStride)
        {
            Loops.AddColumns(block, rows, width, pitch, centers);
        }

        for (nint j = 0; j < width; j++)
        {
            centers[j] /= count;
        }

        block = start;
        for (int i = 0; i < blocks; i++, block += Layout.BlockStride)
        {
            Loops.AddCenteredColumns(block, rows, width, pitch, centers, firsts, squares);
        }

        for (nint j = 0; j < width; j++)
        {
            mean[j] = centers[j] + (firsts[j] / count);
            squares[j] -= firsts[j] * firsts[j] / count;
        }
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

    // Sums of squares become variances; the columns of a set are pooled and all get the pooled values.
    private readonly void Finish(int panel, nint count)
    {
        nint slot = (nint)panel * Layout.Columns;
        double* mean = Statistics.Mean + slot;
        double* variance = Statistics.PopulationVariance + slot;
        double* inverse = Statistics.InverseStd + slot;
        int width = Layout.ColumnsPerSet;
        for (nint first = 0; first < Layout.Columns; first += width)
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
            // A variance beyond double is no statistic: NaN, not a finite 0.
            double pooledInverse = double.IsFinite(pooledVariance) ? 1 / Math.Sqrt(pooledVariance + Epsilon) : double.NaN;
            for (nint j = first; j < first + width; j++)
            {
                mean[j] = pooledMean;
                variance[j] = pooledVariance;
                inverse[j] = pooledInverse;
            }
        }
    }

    private readonly void ApplyChunk(int panel, Chunk chunk)
    {
        nint offset = Layout.PanelOffset(panel) + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint affine = Layout.AffineOffset(panel);
        nint slot = (nint)panel * Layout.Columns;
        double* mean = Statistics.Mean + slot;
        double* inverse = Statistics.InverseStd + slot;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            T* x = X + offset;
            T* y = Y + offset;
            if (Layout.RunLength == 0)
            {
                if (Layout.Columns == 1)
                {
                    Loops.Standardize(x, y, 1, chunk.Length, new Constant(*mean), new Constant(*inverse),
                        new Stored<T>(Weight + affine + chunk.Start), new Stored<T>(Bias + affine + chunk.Start));
                }
                else
                {
                    Loops.Standardize(x, y, chunk.Length / Layout.Columns, Layout.Columns, new Stored<double>(mean), new Stored<double>(inverse),
                        new Stored<T>(Weight + affine), new Stored<T>(Bias + affine));
                }

                continue;
            }

            for (nint done = 0; done < chunk.Length;)
            {
                nint position = chunk.Start + done;
                nint run = position / Layout.RunLength;
                nint length = Math.Min(((run + 1) * Layout.RunLength) - position, chunk.Length - done);
                var weight = new Constant(Weight == null ? 1 : Simd.Get(Weight + affine + run));
                var bias = new Constant(Bias == null ? 0 : Simd.Get(Bias + affine + run));
                if (Layout.Columns == 1)
                {
                    Loops.Standardize(x + done, y + done, 1, length, new Constant(*mean), new Constant(*inverse), weight, bias);
                }
                else
                {
                    Loops.Standardize(x + done, y + done, 1, length, new Stored<double>(mean), new Stored<double>(inverse), weight, bias);
                }

                done += length;
            }
        }
    }
}

internal enum BackwardPhase
{
    Panels,
    ChunkSums,
    CombineChunks,
    Apply,
    ApplyTiles,
}

/// <summary>The backward pass over one layout, cut into tasks of consecutive items (panels, chunks or column tiles).</summary>
/// <remarks>
/// The sums of a panel or chunk are Columns gradients and Columns products, then, where weights go by run, Runs gradients and Runs
/// products (product: gradient * xhat). Columns that carry one weight each hold plain sums; otherwise they are weighted.
/// </remarks>
internal unsafe struct BackwardJob<T> : IPieceJob
    where T : unmanaged
{
    public const int TileElements = 2048;

    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public T* DX;
    public T* Weight;
    public Statistics Statistics;
    public double* Sums;
    public double* MeanGradient; // by slot: mean of g * w over the set
    public double* MeanProduct; // by slot: mean of g * w * xhat over the set
    public double* Accumulators; // by task: ElementWeights gradients, as many products
    public double* WeightGradient;
    public double* BiasGradient;
    public bool ConstantStatistics;
    private BackwardPhase _phase;
    private int _items;
    private int _itemsPerTask;

    public static int SumsPerPanel(in ReductionLayout layout) => 2 * (layout.Columns + layout.Runs);

    public void Run(BackwardPhase phase, int items, nint elementsPerItem, int smallestTask = 1)
    {
        _phase = phase;
        _items = items;
        _itemsPerTask = Math.Max(smallestTask, Standardizer.ItemsPerTask(elementsPerItem));
        WorkTeam.Run(ref this, (items + _itemsPerTask - 1) / _itemsPerTask, items * elementsPerItem);
    }

    public void Run(int piece)
    {
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        for (int item = piece * _itemsPerTask; item < end; item++)
        {
            int panel = item / Chunks.Count;
            switch (_phase)
            {
                case BackwardPhase.Panels:
                    PanelSums(item);
                    for (int index = 0; index < Chunks.Count; index++)
                    {
                        AccumulateChunk(item, Chunks[index], piece);
                        ApplyChunk(item, Chunks[index]);
                    }

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
    }

    /// <summary>Adds the tasks' column accumulators, in task order, to the parameter gradients.</summary>
    public readonly void CollectAccumulators(int tasks)
    {
        nint length = Layout.ElementWeights;
        for (int task = 0; task < tasks; task++)
        {
            double* gradients = Accumulators + (2 * task * length);
            AddTo(BiasGradient, gradients, length);
            AddTo(WeightGradient, gradients + length, length);
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
            AddTo(BiasGradient == null ? null : BiasGradient + affine, sums, count);
            AddTo(WeightGradient == null ? null : WeightGradient + affine, sums + count, count);
        }
    }

    // A panel's sums lie beside a spare for one chunk's or, chunk by chunk, in the place of its first chunk.
    private readonly double* PanelSumsOf(int panel, int perPanel) =>
        Sums + ((nint)panel * perPanel * (_phase == BackwardPhase.Panels ? 2 : Chunks.Count));

    private static void AddTo(double* destination, double* source, nint count)
    {
        if (destination == null)
        {
            return;
        }

        for (nint i = 0; i < count; i++)
        {
            destination[i] += source[i];
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
            AddTo(sums, part, perPanel);
        }

        FinishSums(panel, sums);
    }

    private readonly void CombineChunks(int panel)
    {
        int perPanel = SumsPerPanel(Layout);
        double* sums = Sums + ((nint)panel * Chunks.Count * perPanel);
        for (int index = 1; index < Chunks.Count; index++)
        {
            AddTo(sums, sums + ((nint)index * perPanel), perPanel);
        }

        FinishSums(panel, sums);
    }

    private readonly void ChunkSums(int panel, Chunk chunk, double* sums)
    {
        nint columns = Layout.Columns;
        nint offset = Layout.PanelOffset(panel) + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint affine = Layout.AffineOffset(panel);
        double* mean = Statistics.Mean + (panel * columns);
        double* inverse = Statistics.InverseStd + (panel * columns);
        double* runGradients = sums + (2 * columns);
        double* runProducts = runGradients + Layout.Runs;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            T* x = X + offset;
            T* g = G + offset;
            if (Layout.RunLength == 0)
            {
                if (columns == 1)
                {
                    Loops.GradientSums(x, g, chunk.Length, new Constant(*mean), new Constant(*inverse),
                        new Stored<T>(Weight + affine + chunk.Start), ref sums[0], ref sums[1]);
                }
                else
                {
                    Loops.AddGradientColumns(x, g, chunk.Length / columns, columns, new Stored<double>(mean), new Stored<double>(inverse),
                        1, sums, sums + columns);
                }

                continue;
            }

            for (nint done = 0; done < chunk.Length;)
            {
                nint position = chunk.Start + done;
                nint run = position / Layout.RunLength;
                nint length = Math.Min(((run + 1) * Layout.RunLength) - position, chunk.Length - done);
                if (columns == 1)
                {
                    Loops.GradientSums(x + done, g + done, length, new Constant(*mean), new Constant(*inverse),
                        new Constant(1), ref runGradients[run], ref runProducts[run]);
                }
                else
                {
                    Loops.GradientSums(x + done, g + done, length, new Stored<double>(mean), new Stored<double>(inverse),
                        new Constant(1), ref runGradients[run], ref runProducts[run]);
                    double weight = Weight == null ? 1 : Simd.Get(Weight + affine + run);
                    Loops.AddGradientColumns(x + done, g + done, 1, length, new Stored<double>(mean), new Stored<double>(inverse),
                        weight, sums, sums + columns);
                }

                done += length;
            }
        }
    }

    // From a panel's sums to the two means of the input gradient, pooled over the columns of a set.
    private readonly void FinishSums(int panel, double* sums)
    {
        nint columns = Layout.Columns;
        nint affine = Layout.AffineOffset(panel);
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
        double size = Layout.SetSize;
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
                MeanGradient[(panel * columns) + j] = gradient / size;
                MeanProduct[(panel * columns) + j] = product / size;
            }
        }
    }

    private readonly void ApplyChunk(int panel, Chunk chunk)
    {
        nint offset = Layout.PanelOffset(panel) + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            ApplyPart(panel, offset, chunk.Start, chunk.Length);
        }
    }

    private readonly void ApplyPart(int panel, nint offset, nint start, nint count)
    {
        nint affine = Layout.AffineOffset(panel);
        nint slot = (nint)panel * Layout.Columns;
        if (Layout.RunLength == 0)
        {
            if (Layout.Columns == 1)
            {
                ApplyRow(slot, offset, count, new Stored<T>(Weight + affine + start));
            }
            else
            {
                ApplyColumns(slot, offset, count / Layout.Columns, new Stored<T>(Weight + affine));
            }

            return;
        }

        for (nint done = 0; done < count;)
        {
            nint position = start + done;
            nint run = position / Layout.RunLength;
            nint length = Math.Min(((run + 1) * Layout.RunLength) - position, count - done);
            var weight = new Constant(Weight == null ? 1 : Simd.Get(Weight + affine + run));
            if (Layout.Columns == 1)
            {
                ApplyRow(slot, offset + done, length, weight);
            }
            else
            {
                ApplyColumns(slot, offset + done, 1, weight);
            }

            done += length;
        }
    }

    private readonly void ApplyRow<TAffine>(nint slot, nint offset, nint length, TAffine weight)
        where TAffine : struct, ICoefficient
    {
        if (ConstantStatistics)
        {
            Loops.ScaleGradient(G + offset, DX + offset, 1, length, new Constant(Statistics.InverseStd[slot]), weight);
            return;
        }

        Loops.InputGradient(X + offset, G + offset, DX + offset, 1, length, new Constant(Statistics.Mean[slot]),
            new Constant(Statistics.InverseStd[slot]), new Constant(MeanGradient[slot]), new Constant(MeanProduct[slot]), weight);
    }

    private readonly void ApplyColumns<TAffine>(nint slot, nint offset, nint rows, TAffine weight)
        where TAffine : struct, ICoefficient
    {
        if (ConstantStatistics)
        {
            Loops.ScaleGradient(G + offset, DX + offset, rows, Layout.Columns, new Stored<double>(Statistics.InverseStd + slot), weight);
            return;
        }

        Loops.InputGradient(X + offset, G + offset, DX + offset, rows, Layout.Columns, new Stored<double>(Statistics.Mean + slot),
            new Stored<double>(Statistics.InverseStd + slot), new Stored<double>(MeanGradient + slot), new Stored<double>(MeanProduct + slot), weight);
    }

    // Weights by element of a row (layer norm): their gradients add up over the panels of a task.
    private readonly void AccumulateChunk(int panel, Chunk chunk, int task)
    {
        if (Layout.Columns != 1 || Layout.RunLength != 0 || (WeightGradient == null && BiasGradient == null))
        {
            return;
        }

        double* gradients = Accumulators + (2 * task * Layout.ElementWeights) + Layout.AffineOffset(panel) + chunk.Start;
        AddElementGradients(panel, Layout.PanelOffset(panel) + chunk.Start, chunk.Length, gradients, gradients + Layout.ElementWeights);
    }

    // The same for long rows: a tile of columns over all panels, so that nothing has to be accumulated apart.
    private readonly void ApplyTile(int tile)
    {
        nint start = (nint)tile * TileElements;
        nint length = Math.Min(TileElements, Layout.BlockLength - start);
        double* gradients = stackalloc double[TileElements];
        double* products = stackalloc double[TileElements];
        for (int inner = 0; inner < Layout.Inner; inner++)
        {
            new Span<double>(gradients, TileElements).Clear();
            new Span<double>(products, TileElements).Clear();
            for (int panel = inner; panel < Layout.Panels; panel += Layout.Inner)
            {
                nint offset = Layout.PanelOffset(panel) + start;
                AddElementGradients(panel, offset, length, gradients, products);
                ApplyPart(panel, offset, start, length);
            }

            nint affine = Layout.AffineOffset(inner) + start;
            AddTo(BiasGradient == null ? null : BiasGradient + affine, gradients, length);
            AddTo(WeightGradient == null ? null : WeightGradient + affine, products, length);
        }
    }

    private readonly void AddElementGradients(int panel, nint offset, nint length, double* gradients, double* products) =>
        Loops.AddGradientColumns(X + offset, G + offset, 1, length,
            new Constant(Statistics.Mean[panel]), new Constant(Statistics.InverseStd[panel]), 1, gradients, products);
}
