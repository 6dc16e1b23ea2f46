using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

/// <summary>The arrays a pass over a layout works on; slots are numbered panel * Columns + column.</summary>
internal unsafe struct Statistics
{
    public double* Mean;
    public double* PopulationVariance;
    public double* InverseStd;

    /// <summary>By slot, what the gradient through the variance is multiplied by; null is 1.</summary>
    public double* ProductFactor;

    /// <summary>Those from a slot on.</summary>
    public readonly Statistics From(nint slot) => new()
    {
        Mean = Mean + slot,
        PopulationVariance = PopulationVariance + slot,
        InverseStd = InverseStd + slot,
        ProductFactor = ProductFactor == null ? null : ProductFactor + slot,
    };
}

/// <summary>What a strategy does with statistics between the pass that takes them and the one that applies them; none by default.</summary>
/// <remarks>
/// Called once for every slot, by whichever thread finished it, before anything of the slot is written: it may change the slot's
/// statistics, or the weight and bias that its elements will get.
/// </remarks>
internal unsafe struct Adjustment
{
    /// <summary>What the function is given; in the caller's memory.</summary>
    public void* State;

    /// <summary>Takes the state, the first slot and the number of slots.</summary>
    public delegate*<void*, nint, nint, void> Function;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly void Run(nint slot, nint count)
    {
        if (Function != null)
        {
            Function(State, slot, count);
        }
    }
}

/// <summary>Moments, standardization and the three-term gradient over any <see cref="ReductionLayout"/>.</summary>
/// <remarks>
/// A small panel is finished by one thread while it is in cache; a large one is cut into the layout's chunks, whose sums are
/// combined in chunk order. Both ways take the same chunks in the same order. Blocks that take turns may be summed one by one in the
/// order of memory and combined set by set: which way is taken hangs on the sets that share memory alone. So the bits of a set of samples
/// depend neither on the thread count nor on how many other samples there are.
/// </remarks>
internal static unsafe class Standardizer
{
    /// <summary>Elements of the small sets that are summed before any of them is written: floats stay in the first-level cache.</summary>
    internal const nint ForwardTogether = 4096;

    // The same where two tensors are read; of sets that are finished eight at a time, up to the longest for which that is worth it, whole eights.
    private const nint BackwardTogether = 1024;
    private const nint LongestOfEight = 512;

    /// <summary>Below so many rows, what float rounds does not average out, and columns are summed in double throughout.</summary>
    public const int FewRows = 64;

    // Columns that are worked on together, with their coefficients on the stack. Whole rows are read in memory's order; where they are
    // longer, sums stay in the first-level cache, while what is written rather runs along memory.
    private const int WidestSumTile = 1024;
    private const int LongRowSumTile = 512;
    private const int WidestTile = 4096;
    private const int LongRowTile = 2048;

    // Tensors of this size and more leave past the caches, where they would evict what is read next, and what is read is fetched ahead. Smaller ones
    // are likely to be in the third-level cache, from where the hardware fetches well enough, and reading four rows at once loses nothing.
    private const nint NearBytes = 4 << 20;

    // The same where nothing is read twice.
    private const nint LargeBytes = 8 << 20;

    // Both, of a forward pass and of inference, on several threads: they write to the third-level cache faster than one thread, but to memory hardly. Not
    // where that cache is so large that it is many cores' and as far away as memory: so it was with 260 MB, while 32 MB were near; between them is a guess.
    private const nint SharedNearBytes = 10 << 20;
    private const nint SharedLargeBytes = 16 << 20;
    private const nint FarCacheBytes = 64 << 20;

    // More coefficients than these do not stay in the first-level cache beside what streams through it.
    private const int CachedCoefficientBytes = 24 << 10;

    // Shorter runs begin and end amid cache lines too often for that.
    private const nint StreamedRun = 512;

    // Of one tensor's panel that stays, most of it, in the second-level cache between its moments and its result; of two, half does.
    internal const nint CachedPanelBytes = 1 << 20;

    // Of a row with its weights that are at hand for the next row.
    private const nint WaitingBytes = 5 << 18;

    /// <summary>Elements of a row whose weights stay in the first-level cache while all rows are written.</summary>
    internal const int WeightTile = 2048;

    // Blocks that take turns are worked on in the order of memory, sets or no, where they are up to half a page long, as fetching begins anew in each,
    // and where a set does not stay in the second-level cache until it is written. Of the shortest ones the sums themselves cost more than that; the
    // longest are cut into chunks, so that threads can share them; smaller tensors the caches return well enough. Measured, as all of these.
    internal const nint ShortTurnBytes = 2 << 10;
    private const nint ShortestTurn = 96;
    private const nint LongestTurn = 1 << 16;
    private const nint TurnsBytes = 3 << 20;

    // Of shorter runs, and of tensors in the second-level cache, what a run costs beside its elements is more than what is gained by working in step.
    private const nint ShortestStep = 512;
    private const nint StepBytes = 2 << 20;

    // The same of columns: rows.
    private const nint ShortestColumnStep = 64;

    // Where each panel is one run they go eight at a time, which costs less beside their elements.
    private const nint ShortestRunInStep = 64;

    private const nint TaskElements = 1 << 14;
    private const int TasksPerThread = 8;
    private const int PanelsPerStepTask = 8;
    private const nint CachedColumns = Chunking.ChunkElements; // blocks of shorter rows are of one chunk each
    private const int AccumulatorTasks = 16;

    // Of one tensor's rows above CachedColumns that wait together, and how many of them make up a task and a tensor: each task has sums as long as a row.
    private const nint LongRowBytes = 1 << 18;
    private const int LongRowsPerTask = 32;
    private const int LeastLongRows = 4 * LongRowsPerTask;

    // Of 80 bytes each; threads may have small stacks.
    private const int MostRuns = 512;

    /// <summary>Takes the moments of every set and writes the standardized output.</summary>
    /// <remarks>
    /// Weight and bias are in the layout's weight order; null stands for 1 and 0. So is the threshold, for layouts of one weight per set:
    /// the least value that is written; null is none.
    /// </remarks>
    public static void Forward<T>(
        in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics, double epsilon,
        T* threshold = null, Adjustment adjustment = default)
        where T : unmanaged
    {
        // Small sets are written while they are summed: nothing can be adjusted between.
        if (threshold == null && adjustment.Function == null && SmallSetsJob<T>.Takes(layout))
        {
            SmallSetsJob<T>.Forward(layout, x, y, weight, bias, statistics, epsilon);
            return;
        }

        if (threshold == null && InTurns<T>(layout, tensors: 1))
        {
            MomentsInTurns(layout, x, statistics, epsilon, adjustment);
            Apply(layout.InMemoryOrder(), x, y, weight, bias, statistics, layout.Elements, ByThreads(NearBytes, SharedNearBytes));
            return;
        }

        var chunking = new Chunking(layout);
        int weightArrays = bias == null ? 1 : 2;
        bool runsInStep = threshold == null && RunsInStep<T>(layout, chunking);
        bool whole = runsInStep && layout.BlockLength % Simd.Count<T>() == 0 && Simd.BeforeAligned<T, T>(y + layout.Offset) == 0;
        StoreKind store = StoreFor(
            layout, y, inPlace: false, threshold == null && (whole || RunsJoin<T>(layout, chunking)), ByThreads(NearBytes, SharedNearBytes));
        bool inStep = ByPanel<T>(layout, chunking)
            && ((threshold == null && InStep<T>(layout, store, tensors: 1, weightArrays, CacheSizes.SecondLevel)) || ColumnsInStep(layout, store, y, tensors: 1, CacheSizes.SecondLevel));
        bool byTiles = threshold == null && !inStep && ByTiles<T>(layout, 1 + weightArrays);
        bool panelByPanel = !byTiles && ByPanel<T>(layout, chunking);
        Fetching fetching = Fetching.Forward<T>(layout, chunking, panelByPanel, inStep, store);
        nint partials = (panelByPanel ? layout.Slots : layout.Slots * chunking.Count) * 2;
        NativeScratch scratch = NativeScratch.Begin((partials * sizeof(double)) + WeightScratchBytes<T>(layout));
        var job = new ForwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            Y = y,
            Weight = OrOnes(layout, scratch, weight),
            Bias = bias,
            Threshold = threshold,
            Statistics = statistics,
            Partials = scratch.Take<double>(partials),
            Epsilon = epsilon,
            Adjustment = adjustment,
            Store = store,
            Ahead = fetching.Written,
            SumsAhead = fetching.Summed,
            InStep = inStep,
        };
        if (panelByPanel)
        {
            job.RunsInStep = runsInStep && !inStep && (store == StoreKind.Cached || (store == StoreKind.Streaming && whole));
            job.Run(ForwardPhase.Panels, layout.Panels, layout.PanelElements);
            return;
        }

        int chunks = layout.Panels * chunking.Count;
        nint chunkElements = layout.Elements / chunks;
        job.Run(ForwardPhase.ChunkMoments, chunks, chunkElements);
        job.Run(ForwardPhase.CombineChunks, layout.Panels, (nint)chunking.Count * layout.Columns);
        if (byTiles)
        {
            job.Run(ForwardPhase.ApplyTiles, WeightTiles(layout), (nint)layout.Panels * WeightTile);
            return;
        }

        job.Run(ForwardPhase.Apply, chunks, chunkElements);
    }

    /// <summary>Writes the standardized output with statistics that are given.</summary>
    public static void Apply<T>(in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
        where T : unmanaged => Apply(layout, x, y, weight, bias, statistics, layout.Elements);

    /// <summary>The same of a part of a tensor of so many elements, which is stored as the whole is.</summary>
    public static void Apply<T>(in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics, nint elements)
        where T : unmanaged => Apply(layout, x, y, weight, bias, statistics, elements, ByThreads(LargeBytes, SharedLargeBytes));

    private static void Apply<T>(in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics, nint elements, nint largeBytes)
        where T : unmanaged
    {
        var chunking = new Chunking(layout);
        int shared = SharedRuns(layout, chunking);
        NativeScratch scratch = NativeScratch.Begin(WeightScratchBytes<T>(layout) + (shared * sizeof(Run<T>)));
        var job = new ForwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            Y = y,
            Weight = OrOnes(layout, scratch, weight),
            Bias = bias,
            Statistics = statistics,
            Store = StoreFor(layout, y, inPlace: x == y, RunsJoin<T>(layout, chunking), largeBytes, elements),
            Ahead = Fetching.Stream,
        };
        if (shared > 0)
        {
            job.ShareLines(scratch.Take<Run<T>>(shared));
        }

        int chunks = layout.Panels * chunking.Count;
        job.Run(ForwardPhase.Apply, chunks, layout.Elements / chunks);
    }

    /// <summary>Takes the moments of every set only.</summary>
    public static void Moments<T>(in ReductionLayout layout, T* x, Statistics statistics, double epsilon)
        where T : unmanaged
    {
        if (SmallSetsJob<T>.Takes(layout))
        {
            SmallSetsJob<T>.Forward(layout, x, null, null, null, statistics, epsilon);
            return;
        }

        if (InTurns<T>(layout, tensors: 1))
        {
            MomentsInTurns(layout, x, statistics, epsilon, adjustment: default);
            return;
        }

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
            SumsAhead = Fetching.ChunkSums<T>(layout),
        };
        int chunks = layout.Panels * chunking.Count;
        job.Run(ForwardPhase.ChunkMoments, chunks, layout.Elements / chunks);
        job.Run(ForwardPhase.CombineChunks, layout.Panels, (nint)chunking.Count * layout.Columns);
    }

    /// <summary>Writes the input gradient; adds to the parameter gradients, which lie in the layout's weight order: summed in double, by element in T over up to 64 rows.</summary>
    /// <remarks>
    /// Null weight stands for 1; a null gradient is not wanted. With constant statistics (inference) mean and variance pass nothing on.
    /// The input gradient may be written over the output gradient.
    /// </remarks>
    public static void Backward<T>(
        in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics,
        T* weightGradient, T* biasGradient, bool constantStatistics)
        where T : unmanaged
    {
        if (!constantStatistics && SmallSetsJob<T>.Takes(layout))
        {
            SmallSetsJob<T>.Backward(layout, x, g, dx, weight, statistics, weightGradient, biasGradient);
            return;
        }

        if (!constantStatistics && InTurns<T>(layout, tensors: 2))
        {
            BackwardInTurns(layout, x, g, dx, weight, statistics, weightGradient, biasGradient);
            return;
        }

        bool wantsParameters = weightGradient != null || biasGradient != null;
        bool accumulate = layout.Columns == 1 && layout.RunLength == 0 && wantsParameters;
        var chunking = new Chunking(layout);
        bool longRows = accumulate && layout.BlockLength > CachedColumns;
        bool panelByPanel = longRows ? LongRowsStay<T>(layout) : ByPanel<T>(layout, chunking);
        int sumsPerPanel = BackwardJob<T>.SumsPerPanel(layout);
        int rowsTogether = RowsTogether<T>(layout);
        int rowBlocks = (layout.Outer + rowsTogether - 1) / rowsTogether;
        int blocksPerTask = Math.Max((rowBlocks + AccumulatorTasks - 1) / AccumulatorTasks, longRows ? LongRowsPerTask / rowsTogether : 1);
        nint blockElements = rowsTogether * layout.PanelElements * layout.Inner;
        blocksPerTask = Math.Max(blocksPerTask, ItemsPerTask(blockElements));
        int tasks = accumulate && panelByPanel ? (rowBlocks + blocksPerTask - 1) / blocksPerTask : 0;
        int sumsTogether = tasks > 0 ? 0 : panelByPanel ? 2 : chunking.Count;
        nint sums = (nint)sumsPerPanel * layout.Panels * sumsTogether;
        nint accumulators = tasks * BackwardJob<T>.AccumulatorSize(layout);
        nint weights = wantsParameters ? layout.Weights : 0;
        NativeScratch scratch = NativeScratch.Begin(
            ((sums + accumulators + (2 * layout.Slots) + (2 * weights)) * sizeof(double)) + WeightScratchBytes<T>(layout));
        bool readOnce = constantStatistics && !wantsParameters;
        StoreKind store = StoreFor(layout, dx, inPlace: dx == g, !constantStatistics && RunsJoin<T>(layout, chunking), readOnce ? LargeBytes : NearBytes);
        bool inStep = panelByPanel && !constantStatistics
            && (InStep<T>(layout, store, tensors: 2, weightArrays: 1, CacheSizes.SecondLevel) || ColumnsInStep(layout, store, dx, tensors: 2, CacheSizes.SecondLevel));
        nint nextRows = accumulate && layout.Inner == 1 ? rowsTogether * layout.OuterStride : 0;
        Fetching fetching = !panelByPanel ? Fetching.Chunks<T>(layout, accumulate ? BackwardJob<T>.RowBlock * layout.OuterStride : Fetching.Stream)
            : longRows ? Fetching.SumsAlone : inStep ? Fetching.BackwardInStep(layout) : Fetching.Backward<T>(layout, store, nextRows);
        var job = new BackwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            G = g,
            DX = dx,
            Weight = OrOnes(layout, scratch, weight),
            Statistics = statistics,
            Sums = scratch.Take<double>(sums),
            SumsTogether = sumsTogether,
            MeanGradient = scratch.Take<double>(layout.Slots),
            MeanProduct = scratch.Take<double>(layout.Slots),
            ConstantStatistics = constantStatistics,
            WeightGradient = weightGradient,
            BiasGradient = biasGradient,
            Store = store,
            ByTiles = ByTiles<T>(layout, arrays: 3),
            InStep = inStep,
            RowsTogether = rowsTogether,
            Ahead = fetching.Written,
            SumsAhead = fetching.Summed,
        };

        int chunks = layout.Panels * chunking.Count;
        nint chunkElements = layout.Elements / chunks;
        if (readOnce)
        {
            job.Run(BackwardPhase.Apply, chunks, chunkElements);
        }
        else if (tasks > 0)
        {
            job.Accumulators = scratch.Take<double>(accumulators);
            job.Run(BackwardPhase.Rows, rowBlocks, blockElements, blocksPerTask);
            job.CollectAccumulators(tasks, blocksPerTask);
        }
        else if (panelByPanel)
        {
            job.Run(BackwardPhase.Panels, layout.Panels, layout.PanelElements);
            job.CollectParameterSums(scratch.Take<double>(2 * weights), weights);
        }
        else
        {
            job.Run(BackwardPhase.ChunkSums, chunks, chunkElements);
            job.Run(BackwardPhase.CombineChunks, layout.Panels, (nint)chunking.Count * sumsPerPanel);
            if (accumulate)
            {
                job.Run(BackwardPhase.ApplyTiles, WeightTiles(layout), (nint)layout.Panels * WeightTile);
            }
            else
            {
                job.Run(BackwardPhase.Apply, chunks, chunkElements);
                job.CollectParameterSums(scratch.Take<double>(2 * weights), weights);
            }
        }
    }

    /// <summary>Takes the means of g and of g * xhat over every set, weights aside: what an input gradient needs to know of the whole set.</summary>
    public static void GradientMeans<T>(in ReductionLayout layout, T* x, T* g, Statistics statistics, double* meanGradient, double* meanProduct)
        where T : unmanaged
    {
        if (InTurns<T>(layout, tensors: 2))
        {
            SumInTurns(layout, x, g, statistics, meanGradient, meanProduct, NativeScratch.Begin(BytesOfSumsInTurns<T>(layout)));
            return;
        }

        var chunking = new Chunking(layout);
        int sumsPerPanel = BackwardJob<T>.SumsPerPanel(layout);
        nint sums = (nint)sumsPerPanel * layout.Panels * chunking.Count;
        NativeScratch scratch = NativeScratch.Begin((sums * sizeof(double)) + WeightScratchBytes<T>(layout));
        var job = new BackwardJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            G = g,
            Weight = OrOnes<T>(layout, scratch, null),
            Statistics = statistics,
            Sums = scratch.Take<double>(sums),
            SumsTogether = chunking.Count,
            MeanGradient = meanGradient,
            MeanProduct = meanProduct,
            SumsAhead = Fetching.ChunkSums<T>(layout),
        };
        int chunks = layout.Panels * chunking.Count;
        job.Run(BackwardPhase.ChunkSums, chunks, layout.Elements / chunks);
        job.Run(BackwardPhase.CombineChunks, layout.Panels, (nint)chunking.Count * sumsPerPanel);
    }

    /// <summary>Writes dx = GradientSlope * g + Slope * (x - Mean) + Offset; dx may be g's own memory. Weights of the layout are not looked at.</summary>
    public static void ApplyGradient<T>(in ReductionLayout layout, T* x, T* g, T* dx, GradientLines lines)
        where T : unmanaged
    {
        var job = new GradientLinesJob<T>
        {
            Layout = layout,
            Chunks = new Chunking(layout),
            X = x,
            G = g,
            DX = dx,
            Lines = lines,
            Store = StoreFor(layout, dx, inPlace: dx == g),
            Ahead = Fetching.Stream,
        };
        job.Share();
    }

    // Blocks that take turns, in the order of memory: the moments of each, then those of the sets.
    private static void MomentsInTurns<T>(in ReductionLayout layout, T* x, Statistics statistics, double epsilon, Adjustment adjustment)
        where T : unmanaged
    {
        ReductionLayout blocks = layout.InMemoryOrder();
        nint partials = 2 * (nint)blocks.Panels;
        var job = new ForwardJob<T>
        {
            Layout = blocks,
            X = x,
            Statistics = statistics,
            Partials = NativeScratch.Begin(partials * sizeof(double)).Take<double>(partials),
            Epsilon = epsilon,
            Adjustment = adjustment,
            SumsAhead = Fetching.Stream,
        };
        job.Run(ForwardPhase.BlockMoments, blocks.Panels, blocks.PanelElements);
        job.Layout = layout;
        job.Run(ForwardPhase.CombineBlocks, layout.Outer, layout.Blocks * layout.Inner);
    }

    private static void BackwardInTurns<T>(
        in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
        where T : unmanaged
    {
        ReductionLayout blocks = layout.InMemoryOrder();
        nint weights = weightGradient != null || biasGradient != null ? layout.Weights : 0;
        int shared = SharedRuns(blocks, new Chunking(blocks));
        NativeScratch scratch = NativeScratch.Begin(
            ((2 * (layout.Slots + weights)) * sizeof(double)) + (shared * sizeof(Run<T>)) + BytesOfSumsInTurns<T>(layout));
        BackwardJob<T> job = SumInTurns(layout, x, g, statistics, scratch.Take<double>(layout.Slots), scratch.Take<double>(layout.Slots), scratch);
        job.WeightGradient = weightGradient;
        job.BiasGradient = biasGradient;
        job.CollectParameterSums(scratch.Take<double>(2 * weights), weights);
        job.Layout = blocks;
        job.DX = dx;
        job.Weight = weight;
        job.Store = StoreFor(blocks, dx, inPlace: dx == g, RunsJoin<T>(blocks, job.Chunks));
        job.Ahead = Fetching.Stream;
        if (shared > 0)
        {
            job.ShareLines(scratch.Take<Run<T>>(shared));
        }

        int chunks = blocks.Panels * job.Chunks.Count;
        job.Run(BackwardPhase.Apply, chunks, blocks.Elements / chunks);
    }

    // The sums of each block, then those of the sets and the means they give.
    private static BackwardJob<T> SumInTurns<T>(
        in ReductionLayout layout, T* x, T* g, Statistics statistics, double* meanGradient, double* meanProduct, NativeScratch scratch)
        where T : unmanaged
    {
        ReductionLayout blocks = layout.InMemoryOrder();
        var job = new BackwardJob<T>
        {
            Layout = blocks,
            Chunks = new Chunking(blocks),
            X = x,
            G = g,
            Statistics = statistics,
            Sums = scratch.Take<double>((nint)BackwardJob<T>.SumsPerPanel(layout) * layout.Panels),
            SumsTogether = 1,
            BlockSums = scratch.Take<double>(2 * (nint)blocks.Panels),
            MeanGradient = meanGradient,
            MeanProduct = meanProduct,
            SumsAhead = Fetching.Stream,
        };
        job.Run(BackwardPhase.BlockSums, blocks.Panels, blocks.PanelElements);
        job.Layout = layout;
        job.CombineBlocks();
        return job;
    }

    private static nint BytesOfSumsInTurns<T>(in ReductionLayout layout)
        where T : unmanaged =>
        (((nint)BackwardJob<T>.SumsPerPanel(layout) * layout.Panels) + (2 * (nint)layout.InMemoryOrder().Panels)) * sizeof(double);

    /// <summary>Whether a pass that takes statistics of so many tensors goes by memory, block by block, and not by sets: a matter of those alone that take turns with each other.</summary>
    internal static bool InTurns<T>(in ReductionLayout layout, int tensors)
        where T : unmanaged =>
        layout.TakesTurns && layout.BlockLength >= ShortestTurn && layout.BlockLength <= LongestTurn && layout.Blocks * layout.BlockStride * sizeof(T) >= TurnsBytes
        && (layout.BlockLength * sizeof(T) <= ShortTurnBytes || layout.PanelElements * sizeof(T) > (tensors == 1 ? Fetching.PanelBytes : CachedPanelBytes));

    /// <summary>
    /// Whether a panel is written while another's moments, or gradient sums, are taken: where their runs are long enough for that, and both, of all tensors
    /// that are read, have room in the second-level cache. Runs that leave past the caches end with whole vectors; others are rather joined.
    /// Arrays of weights count forward where weights go by element.
    /// </summary>
    internal static bool InStep<T>(in ReductionLayout layout, StoreKind store, int tensors, int weightArrays, nint cacheBytes)
        where T : unmanaged
    {
        bool byElement = layout.RunLength == 0;
        nint run = byElement ? layout.BlockLength : layout.RunLength;

        // Weights by element want room too, and backward other loops; with a bias, rows that do not wait with both are written by tiles.
        nint room = !byElement ? Math.Max(Fetching.PanelBytes, cacheBytes / 2)
            : weightArrays == 1 ? Math.Max(Fetching.PanelBytes, cacheBytes / 5 * 2) : WaitingBytes / 3;
        return layout.Columns == 1 && !(byElement && tensors > 1) && run >= ShortestStep && layout.Elements * sizeof(T) >= StepBytes
            && tensors * layout.PanelElements * sizeof(T) <= room && (store != StoreKind.Streaming || run % Simd.Count<T>() == 0);
    }

    /// <summary>
    /// Whether some columns are written while the sums of as many others are taken: of whole sets and cache lines, where a panel, of all tensors that are read,
    /// has room in the second-level cache, and what is read is fetched ahead. Backward of float alone, whose sums are taken in float first.
    /// </summary>
    internal static bool ColumnsInStep<T>(in ReductionLayout layout, StoreKind store, T* destination, int tensors, nint cacheBytes)
        where T : unmanaged
    {
        int width = Loops.StepColumns<T>();
        return layout.Columns > 1 && layout.RunLength == 0 && layout.Blocks == 1 && layout.Columns % width == 0 && width % layout.ColumnsPerSet == 0
            && (tensors == 1 || typeof(T) == typeof(float)) && layout.BlockLength / layout.Columns >= ShortestColumnStep
            && tensors * layout.PanelElements * sizeof(T) <= cacheBytes / 5 * 4
            && (store == StoreKind.Streaming ? Simd.BeforeAligned<T, T>(destination + layout.Offset) == 0 : store == StoreKind.Fetching);
    }

    /// <summary>Whether panels are one run each, of whole vectors or of one weight an element, that can be written while others are summed.</summary>
    internal static bool RunsInStep<T>(in ReductionLayout layout, in Chunking chunking)
        where T : unmanaged =>
        layout.Columns == 1 && layout.Blocks == 1 && chunking.Count == 1 && layout.BlockLength >= ShortestRunInStep
        && (layout.RunLength == 0 || (layout.RunLength == layout.BlockLength && layout.RunLength % Simd.Count<T>() == 0));

    /// <summary>Items in a task: enough of them to be worth handing to a thread; a matter of the shape alone.</summary>
    internal static int ItemsPerTask(nint elementsPerItem) => (int)Math.Max(1, TaskElements / Math.Max(1, elementsPerItem));

    /// <summary>Items in a task where no bit hangs on how they are grouped: a few tasks for each of several threads, since each begins anew in memory, and perhaps with coefficients.</summary>
    internal static int ItemsPerLargeTask(int items, nint elementsPerItem) =>
        WorkTeam.Participants == 1 ? items : Math.Max(ItemsPerTask(elementsPerItem), items / (TasksPerThread * WorkTeam.Participants));

    /// <summary>Panels in a task that goes in step, at least so many. Its first panel is not summed while another is written: few of them would gain little.</summary>
    internal static int ItemsPerStepTask(int items, int least) => Math.Max(least, Math.Min(PanelsPerStepTask, items / (2 * WorkTeam.Participants)));

    /// <summary>Whether rows are written four at a time: where their coefficients would not stay in the first-level cache, and where memory is not what is waited for.</summary>
    internal static bool ByFours<A>(int coefficients, in ReductionLayout layout)
        where A : unmanaged =>
        layout.Columns % Simd.Count<A>() == 0
        && (layout.Elements * sizeof(A) < NearBytes || coefficients * layout.Columns * sizeof(A) >= CachedCoefficientBytes);

    /// <summary>Columns in the tile of sums that begins at one.</summary>
    internal static nint SumTileWidth(nint columns, nint column) =>
        columns <= WidestSumTile ? columns : Math.Min(LongRowSumTile, columns - column);

    /// <summary>Columns in the tile that begins at one and is written.</summary>
    internal static nint TileWidth(nint columns, nint column) => columns <= WidestTile ? columns : Math.Min(LongRowTile, columns - column);

    /// <summary>1 / sqrt(variance + epsilon); a variance beyond double is no statistic: NaN, not a finite 0.</summary>
    internal static double InverseStd(double populationVariance, double epsilon) =>
        double.IsFinite(populationVariance) ? 1 / Math.Sqrt(populationVariance + epsilon) : double.NaN;

    /// <summary>(x - mean) * slope + bias, with the mean rounded to A and the intercept carrying what that leaves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static ConstantLine<A> Line<A>(double mean, double slope, double bias)
        where A : unmanaged => new(mean, slope, bias + ((Simd.Round<A>(mean) - mean) * slope));

    /// <summary>How a forward pass over a layout stores.</summary>
    internal static StoreKind ForwardStore<T>(in ReductionLayout layout, T* x, T* y)
        where T : unmanaged => StoreFor(layout, y, inPlace: x == y);

    /// <summary>How a backward pass over a layout stores.</summary>
    internal static StoreKind BackwardStore<T>(in ReductionLayout layout, T* g, T* dx)
        where T : unmanaged => StoreFor(layout, dx, inPlace: g == dx);

    private static nint ByThreads(nint one, nint several) => WorkTeam.Participants == 1 || CacheSizes.ThirdLevel > FarCacheBytes ? one : several;

    // Memory that does not begin at an element cannot be streamed to; what is read where it is written is in cache already.
    internal static StoreKind StoreFor<T>(in ReductionLayout layout, T* destination, bool inPlace, bool joins = false, nint largeBytes = NearBytes)
        where T : unmanaged => StoreFor(layout, destination, inPlace, joins, largeBytes, layout.Elements);

    // Of a part of a tensor of so many elements.
    private static StoreKind StoreFor<T>(in ReductionLayout layout, T* destination, bool inPlace, bool joins, nint largeBytes, nint elements)
        where T : unmanaged
    {
        nint run = joins || (layout.Columns > 1 && layout.RunLength == 0) ? StreamedRun
            : layout.RunLength != 0 ? Math.Max(layout.RunLength, layout.Columns) : layout.BlockLength;
        nint bytes = elements * sizeof(T);
        if (bytes < largeBytes)
        {
            // The hardware does not look beyond the end of a short run in time.
            return bytes >= NearBytes && layout.Columns == 1 && run < StreamedRun ? StoreKind.Fetching : StoreKind.Cached;
        }

        return run >= StreamedRun && !inPlace && (nuint)destination % (nuint)sizeof(T) == 0 ? StoreKind.Streaming : StoreKind.Fetching;
    }

    /// <summary>Whether runs that are written together follow each other in memory, so that they are written as one.</summary>
    private static bool RunsJoin<T>(in ReductionLayout layout, in Chunking chunking)
        where T : unmanaged =>
        layout.Columns == 1 && chunking.Count == 1 && layout.Blocks == 1 && layout.RunLength >= Simd.Count<T>() && HasFewRuns(layout)
        && (layout.Inner == 1 || layout.InnerStride == layout.PanelElements) && (layout.Outer == 1 || layout.OuterStride == layout.Inner * layout.PanelElements);

    // Runs whose lines several outer panels share, where each panel is one run; else 0.
    private static int SharedRuns(in ReductionLayout layout, in Chunking chunking) =>
        layout.SharingOuters > 1 && layout.Columns == 1 && layout.Blocks == 1 && layout.RunLength == layout.BlockLength && chunking.Count == 1
            ? (layout.Outer + layout.SharingOuters - 1) / layout.SharingOuters * layout.Inner : 0;

    /// <summary>Whether a panel is so few runs that their lines may lie on the stack.</summary>
    internal static bool HasFewRuns(in ReductionLayout layout) => layout.RunLength == 0 || layout.PanelElements / layout.RunLength <= MostRuns;

    /// <summary>Panels that are summed before any of them is written.</summary>
    internal static int PanelsTogether(in ReductionLayout layout, nint elements)
    {
        if (layout.Columns > 1)
        {
            return 1;
        }

        nint runs = layout.RunLength == 0 ? layout.Blocks : layout.PanelElements / layout.RunLength;
        return (int)Math.Clamp(Math.Min(elements / layout.PanelElements, MostRuns / runs), 1, layout.Panels);
    }

    /// <summary>Elements of the sets that are summed before any of them is written, in a backward pass.</summary>
    internal static nint TogetherBackward(in ReductionLayout layout)
    {
        nint eight = Simd.Lanes * layout.PanelElements;
        return layout.RunLength == 0 || layout.PanelElements > LongestOfEight ? BackwardTogether : Math.Max(BackwardTogether / eight, 1) * eight;
    }

    // One thread takes a whole panel while it is in its cache, unless there are so few panels that the others would idle.
    internal static bool ByPanel<T>(in ReductionLayout layout, in Chunking chunking)
        where T : unmanaged => chunking.Count == 1 || (layout.PanelElements * sizeof(T) <= CachedPanelBytes && layout.Panels >= 4);

    private static int WeightTiles(in ReductionLayout layout) => (int)((layout.BlockLength + WeightTile - 1) / WeightTile);

    // Whether so many arrays as long as a row, of the row itself and of weights by element, do not stay in the second-level cache: weights would be
    // read anew for each row.
    private static bool ByTiles<T>(in ReductionLayout layout, int arrays)
        where T : unmanaged =>
        layout.Columns == 1 && layout.RunLength == 0 && layout.Blocks == 1 && layout.Panels > 1 && arrays * layout.BlockLength * sizeof(T) > WaitingBytes;

    // Whether rows above CachedColumns wait in the second-level cache, of both tensors and beside weights and sums, until they are written, and are so
    // many that adding up the tasks' sums is little beside them.
    private static bool LongRowsStay<T>(in ReductionLayout layout)
        where T : unmanaged => layout.BlockLength * sizeof(T) <= LongRowBytes && layout.Outer >= LeastLongRows;

    // Rows with weights by element that are summed before any of them is written.
    private static int RowsTogether<T>(in ReductionLayout layout)
        where T : unmanaged =>
        layout.BlockLength <= CachedColumns ? BackwardJob<T>.RowBlock : (int)Math.Clamp(LongRowBytes / (layout.BlockLength * sizeof(T)), 1, BackwardJob<T>.RowBlock);

    private static nint WeightScratchBytes<T>(in ReductionLayout layout)
        where T : unmanaged => layout.ElementWeights * sizeof(T);

    // Element-wise weights are read as an array even where there is no parameter.
    private static T* OrOnes<T>(in ReductionLayout layout, NativeScratch scratch, T* weight)
        where T : unmanaged
    {
        nint count = layout.ElementWeights;
        if (weight != null || count == 0)
        {
            return weight;
        }

        T* ones = scratch.Take<T>(count);
        T one = default;
        Simd.Set(&one, 1.0);
        new Span<T>(ones, checked((int)count)).Fill(one);
        return ones;
    }
}
