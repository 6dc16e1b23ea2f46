using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>The arrays by channel of a filter response normalization; null weight, bias and threshold are 1, 0 and none.</summary>
internal unsafe struct FilterParameters<T>
    where T : unmanaged
{
    public T* Weight;
    public T* Bias;
    public T* Threshold;
    public T* WeightGradient; // null gradients are not wanted
    public T* BiasGradient;
    public T* ThresholdGradient;
}

/// <summary>The backward pass of y = max(weight * x * r + bias, threshold) over sets of one weight, r = 1 / root of mean square and epsilon.</summary>
/// <remarks>
/// With u = dy where the threshold is passed and 0 elsewhere, and xhat = x r: dx = weight r (u - xhat mean(u xhat)); the threshold's gradient
/// is the sum of dy - u. Which elements pass is found anew from x by the arithmetic of the forward pass. What a set's sums hold is, column
/// by column, u, u * xhat and dy - u. The forward pass is <see cref="Standardizer.Forward"/> of an uncentered layout.
/// </remarks>
internal static unsafe class FilterResponse
{
    /// <summary>Writes the input gradient, which may be written over the output gradient, adds to the parameters' and returns epsilon's.</summary>
    public static double Backward<T>(in ReductionLayout layout, T* x, T* g, T* dx, in FilterParameters<T> parameters, double* inverse)
        where T : unmanaged
    {
        var chunking = new Chunking(layout);
        bool panelByPanel = Standardizer.ByPanel<T>(layout, chunking);
        nint sums = 3 * layout.Slots * (panelByPanel ? 2 : chunking.Count);
        nint weights = layout.Weights;
        StoreKind store = Standardizer.StoreFor(layout, dx, inPlace: dx == g);
        bool inStep = panelByPanel && layout.Blocks == 1 && Standardizer.InStep<T>(layout, store, tensors: 2, weightArrays: 1, CacheSizes.SecondLevel);
        Fetching fetching = !panelByPanel ? Fetching.Chunks<T>(layout, Fetching.Stream)
            : inStep ? Fetching.BackwardInStep(layout) : Fetching.Backward<T>(layout, StoreKind.Cached);
        NativeScratch scratch = NativeScratch.Begin((sums + (3 * weights)) * sizeof(double));
        var job = new FilterResponseJob<T>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            G = g,
            DX = dx,
            Parameters = parameters,
            Inverse = inverse,
            Share = 1.0 / layout.SetSize,
            Sums = scratch.Take<double>(sums),
            SumsPerPanel = sums / layout.Panels,
            Store = store,
            Ahead = fetching.Written,
            InStep = inStep,
        };
        if (panelByPanel)
        {
            job.Run(FilterResponsePhase.Panels, layout.Panels, layout.PanelElements);
        }
        else
        {
            int chunks = layout.Panels * chunking.Count;
            job.Run(FilterResponsePhase.ChunkSums, chunks, layout.Elements / chunks);
            job.Run(FilterResponsePhase.CombineChunks, layout.Panels, (nint)chunking.Count * layout.Columns);
            job.Run(FilterResponsePhase.Apply, chunks, layout.Elements / chunks);
        }

        return job.Collect(scratch.Take<double>(3 * weights), weights);
    }
}

internal enum FilterResponsePhase
{
    Panels,
    ChunkSums,
    CombineChunks,
    Apply,
}

/// <summary>The backward pass cut into tasks of consecutive items (panels or chunks), as <see cref="BackwardJob{T}"/> is.</summary>
internal unsafe struct FilterResponseJob<T> : IStoringJob
    where T : unmanaged
{
    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public T* DX;
    public FilterParameters<T> Parameters;
    public double* Inverse; // r by slot
    public double Share; // 1 / elements of a set
    public double* Sums; // 3 Columns for a panel and as many for a chunk of it, or 3 Columns for each chunk
    public nint SumsPerPanel;
    public StoreKind Store;
    public nint Ahead;
    public bool InStep; // whether a panel is written while another's sums are taken
    private FilterResponsePhase _phase;
    private int _items;
    private int _itemsPerTask;

    public void Run(FilterResponsePhase phase, int items, nint elementsPerItem)
    {
        _phase = phase;
        _items = items;
        _itemsPerTask = Standardizer.ItemsPerTask(elementsPerItem);
        if (InStep)
        {
            _itemsPerTask = Standardizer.ItemsPerStepTask(items, Standardizer.ItemsPerLargeTask(items, elementsPerItem));
        }

        WorkTeam.Run(ref this, (items + _itemsPerTask - 1) / _itemsPerTask, items * elementsPerItem);
    }

    public void Run(int piece) => Stores.Run(ref this, Store, piece);

    public readonly void Run<TStore>(int piece)
        where TStore : struct, IStore
    {
        nint perSet = 3 * (nint)Layout.Columns;
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        if (InStep)
        {
            PanelsInStep<TStore>(piece * _itemsPerTask, end);
            return;
        }

        for (int item = piece * _itemsPerTask; item < end; item++)
        {
            int panel = item / Chunks.Count;
            switch (_phase)
            {
                case FilterResponsePhase.Panels:
                    PanelSums(item);
                    ApplyPanel<TStore>(item);
                    break;
                case FilterResponsePhase.ChunkSums:
                    ChunkSums(panel, Chunks[item % Chunks.Count], Sums + (item * perSet));
                    break;
                case FilterResponsePhase.CombineChunks:
                    for (int index = 1; index < Chunks.Count; index++)
                    {
                        Simd.AddTo(Sums + (item * SumsPerPanel), Sums + (item * SumsPerPanel) + (index * perSet), perSet);
                    }

                    break;
                default:
                    ApplyChunk<TStore>(panel, Chunks[item % Chunks.Count]);
                    break;
            }
        }
    }

    private readonly void PanelSums(int panel)
    {
        nint perSet = 3 * (nint)Layout.Columns;
        double* sums = Sums + (panel * SumsPerPanel);
        ChunkSums(panel, Chunks[0], sums);
        for (int index = 1; index < Chunks.Count; index++)
        {
            ChunkSums(panel, Chunks[index], sums + perSet);
            Simd.AddTo(sums, sums + perSet, perSet);
        }
    }

    private readonly void ApplyPanel<TStore>(int panel)
        where TStore : struct, IStore
    {
        for (int index = 0; index < Chunks.Count; index++)
        {
            ApplyChunk<TStore>(panel, Chunks[index]);
        }
    }

    // The first panel's sums, then each panel, which is one run a chunk, is written while the next one's are taken: the same bits as one after the other.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void PanelsInStep<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        double* tile = stackalloc double[3];
        PanelSums(start);
        for (int panel = start; panel < end - 1; panel++)
        {
            PanelPlace place = Layout.Place(panel);
            FilterLine line = LineOf(place, Sums[(panel * SumsPerPanel) + 1]);
            if (!Suits(place, line))
            {
                ApplyPanel<TStore>(panel);
                PanelSums(panel + 1);
                continue;
            }

            PanelPlace next = Layout.Place(panel + 1);
            var written = new ConstantFilter<T>(line);
            var summed = new ConstantFilter<T>(LineOf(next, 0));
            double* sums = Sums + ((panel + 1) * SumsPerPanel);
            for (int index = 0; index < Chunks.Count; index++)
            {
                Chunk chunk = Chunks[index];
                nint offset = OffsetOf(place, chunk);
                nint nextOffset = OffsetOf(next, chunk);
                tile[0] = tile[1] = tile[2] = 0;
                FilterLoops.InputGradientInStep<T, TStore>(
                    X + offset, G + offset, DX + offset, chunk.Length, Ahead, written, X + nextOffset, G + nextOffset, summed, ref tile[0], ref tile[1], ref tile[2]);
                PutSums(next, 0, 1, chunk, tile, 1, index == 0 ? sums : sums + 3);
                if (index > 0)
                {
                    Simd.AddTo(sums, sums + 3, 3);
                }
            }
        }

        ApplyPanel<TStore>(end - 1);
    }

    /// <summary>Adds the panels' sums, in panel order, to the parameter gradients and returns epsilon's; totals is room for all three.</summary>
    public readonly double Collect(double* totals, nint weights)
    {
        nint columns = Layout.Columns;
        double epsilon = 0;
        new Span<double>(totals, checked((int)(3 * weights))).Clear();
        for (int panel = 0; panel < Layout.Panels; panel++)
        {
            double* sums = Sums + (panel * SumsPerPanel);
            PanelPlace place = Layout.Place(panel);
            Simd.AddTo(totals + place.Affine, sums, columns);
            Simd.AddTo(totals + weights + place.Affine, sums + columns, columns);
            Simd.AddTo(totals + (2 * weights) + place.Affine, sums + (2 * columns), columns);
            for (nint j = 0; j < columns; j++)
            {
                double inverse = Inverse[place.Slot + j];
                epsilon -= 0.5 * inverse * inverse * Get(Parameters.Weight, place.Affine + j, 1) * sums[columns + j];
            }
        }

        AddTo(Parameters.BiasGradient, totals, weights);
        AddTo(Parameters.WeightGradient, totals + weights, weights);
        AddTo(Parameters.ThresholdGradient, totals + (2 * weights), weights);
        return epsilon;
    }

    private static void AddTo(T* gradient, double* totals, nint count)
    {
        if (gradient != null)
        {
            Simd.AddTo(gradient, totals, count);
        }
    }

    private static double Get(T* values, nint index, double none) => values == null ? none : Simd.Get(values + index);

    // What is known of a set; the slope of what flows through the mean square is 0 while that is not summed.
    private readonly FilterLine LineOf(PanelPlace place, double product)
    {
        double inverse = Inverse[place.Slot];
        double slope = inverse * Get(Parameters.Weight, place.Affine, 1);
        return new FilterLine(
            slope, Get(Parameters.Bias, place.Affine, 0), Get(Parameters.Threshold, place.Affine, double.NegativeInfinity), -(inverse * slope) * (product * Share));
    }

    // The same for a tile of columns, in four arrays that go on from the start as those of ColumnLines; false where float does not suit.
    private readonly bool LinesOf<A>(PanelPlace place, nint column, nint width, double* products, A* slopes)
        where A : unmanaged
    {
        nint capacity = ColumnLines.Capacity(width);
        Vector512<long> unsuited = default;
        for (nint j = 0; j < width; j += Simd.Lanes)
        {
            nint lanes = Math.Min(Simd.Lanes, width - j);
            Vector512<double> inverse = Simd.LoadPart<double, double>(Inverse + place.Slot + column + j, lanes, default);
            Vector512<double> slope = inverse * Part(Parameters.Weight, 1);
            Vector512<double> pull = products == null
                ? default
                : -(inverse * slope) * (Simd.LoadPart<double, double>(products + column + j, lanes, default) * Share);
            unsuited |= ColumnLines.OutOfRange(inverse) | ColumnLines.OutOfRange(slope) | ColumnLines.Beyond(pull) | ColumnLines.Vanishing(pull, inverse);
            Simd.Store(slopes + j, slope);
            Simd.Store(slopes + capacity + j, Part(Parameters.Bias, 0));
            Simd.Store(slopes + (2 * capacity) + j, Part(Parameters.Threshold, double.NegativeInfinity));
            Simd.Store(slopes + (3 * capacity) + j, pull);

            Vector512<double> Part(T* values, double none) => values == null
                ? Vector512.Create(none)
                : Simd.LoadPart<T, double>(values + place.Affine + column + j, lanes, default);
        }

        for (nint array = 0; array < 4; array++)
        {
            ColumnLines.Repeat(slopes + (array * capacity), width);
        }

        return typeof(A) == typeof(double) || !Vector512.AnyWhereAllBitsSet(unsuited);
    }

    // A tile of columns at a time; in double again for those that float did not hold, and for those alone.
    [SkipLocalsInit]
    private readonly void ChunkSums(int panel, Chunk chunk, double* sums)
    {
        PanelPlace place = Layout.Place(panel);
        nint columns = Layout.Columns;
        nint widest = Standardizer.SumTileWidth(columns, 0);
        nint capacity = ColumnLines.Capacity(widest);
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(3, widest)];
        double* tile = Simd.Aligned<double>(memory);
        for (nint column = 0, width; column < columns; column += width)
        {
            width = Standardizer.SumTileWidth(columns, column);
            ChunkSums<T>(place, column, width, OffsetOf(place, chunk) + column, chunk, tile, capacity);
            PutSums(place, column, width, chunk, tile, capacity, sums);
        }
    }

    private readonly nint OffsetOf(PanelPlace place, Chunk chunk) => place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;

    // A tile's among those of all columns.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void PutSums(PanelPlace place, nint column, nint width, Chunk chunk, double* tile, nint capacity, double* sums)
    {
        bool holds = true;
        for (nint j = 0; j < width && typeof(T) == typeof(float); j++)
        {
            holds &= Holds(place, column + j, tile[j], tile[capacity + j], tile[(2 * capacity) + j]);
        }

        if (!holds)
        {
            MendSums(place, column, width, chunk, tile, capacity);
        }

        nint columns = Layout.Columns;
        for (nint j = 0; j < width; j++)
        {
            sums[column + j] = tile[j];
            sums[columns + column + j] = tile[capacity + j] * Inverse[place.Slot + column + j];
            sums[(2 * columns) + column + j] = tile[(2 * capacity) + j];
        }
    }

    [SkipLocalsInit]
    private readonly void MendSums(PanelPlace place, nint column, nint width, Chunk chunk, double* tile, nint capacity)
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<double>(3, width)];
        double* wide = Simd.Aligned<double>(memory);
        nint own = ColumnLines.Capacity(width);
        ChunkSums<double>(place, column, width, OffsetOf(place, chunk) + column, chunk, wide, own);
        for (nint j = 0; j < width; j++)
        {
            if (!Holds(place, column + j, tile[j], tile[capacity + j], tile[(2 * capacity) + j]))
            {
                tile[j] = wide[j];
                tile[capacity + j] = wide[own + j];
                tile[(2 * capacity) + j] = wide[(2 * own) + j];
            }
        }
    }

    private readonly bool Holds(PanelPlace place, nint column, double passed, double product, double stopped) =>
        Simd.SuitsSingle(Inverse[place.Slot + column] * Get(Parameters.Weight, place.Affine + column, 1))
        && Simd.HoldsSingle(passed, product) && double.IsFinite(stopped);

    // A tile's sums of a chunk, the products without r: three arrays of a capacity.
    [SkipLocalsInit]
    private readonly void ChunkSums<A>(PanelPlace place, nint column, nint width, nint offset, Chunk chunk, double* tile, nint capacity)
        where A : unmanaged
    {
        if (Layout.Columns == 1)
        {
            var constant = new ConstantFilter<A>(LineOf(place, 0));
            tile[0] = tile[capacity] = tile[2 * capacity] = 0;
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                FilterLoops.AddSums<T, A>(X + offset, G + offset, chunk.Length, constant, ref tile[0], ref tile[capacity], ref tile[2 * capacity]);
            }

            return;
        }

        byte* memory = stackalloc byte[ColumnLines.Bytes<A>(4, width)];
        A* slopes = Simd.Aligned<A>(memory);
        LinesOf(place, column, width, null, slopes);
        var filter = new ColumnFilter<A>(slopes, ColumnLines.Capacity(width));
        new Span<double>(tile, (int)(3 * capacity)).Clear();
        nint rows = chunk.Length / Layout.Columns;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            FilterLoops.AddColumns<T, A>(X + offset, G + offset, rows, width, Layout.Columns, filter, tile, tile + capacity, tile + (2 * capacity));
        }
    }

    private readonly void ApplyChunk<TStore>(int panel, Chunk chunk)
        where TStore : struct, IStore
    {
        PanelPlace place = Layout.Place(panel);
        nint offset = OffsetOf(place, chunk);
        double* products = Sums + (panel * SumsPerPanel) + Layout.Columns;
        if (Layout.Columns == 1)
        {
            FilterLine line = LineOf(place, products[0]);
            if (typeof(T) == typeof(float) && Suits(place, line))
            {
                ApplyRow<T, TStore>(offset, chunk, new(line));
            }
            else
            {
                ApplyRow<double, TStore>(offset, chunk, new(line));
            }

            return;
        }

        for (nint column = 0, width; column < Layout.Columns; column += width)
        {
            width = Standardizer.TileWidth(Layout.Columns, column);
            if (typeof(T) == typeof(double) || !ApplyColumns<T, TStore>(place, column, width, offset + column, chunk, products))
            {
                ApplyColumns<double, TStore>(place, column, width, offset + column, chunk, products);
            }
        }
    }

    private readonly bool Suits(PanelPlace place, FilterLine line)
    {
        double inverse = Inverse[place.Slot];
        return typeof(T) == typeof(double) || (Simd.SuitsSingle(inverse) && Simd.SuitsSingle(line.Slope) && Simd.SlopesSingle(line.Pull, inverse));
    }

    private readonly void ApplyRow<A, TStore>(nint offset, Chunk chunk, ConstantFilter<A> filter)
        where A : unmanaged
        where TStore : struct, IStore
    {
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            FilterLoops.InputGradient<T, A, ConstantFilter<A>, TStore>(X + offset, G + offset, DX + offset, chunk.Length, chunk.Length, Ahead, filter);
        }
    }

    // A tile of columns of a chunk. False, with nothing written, where float does not suit.
    [SkipLocalsInit]
    private readonly bool ApplyColumns<A, TStore>(PanelPlace place, nint column, nint width, nint offset, Chunk chunk, double* products)
        where A : unmanaged
        where TStore : struct, IStore
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<A>(4, width)];
        A* slopes = Simd.Aligned<A>(memory) + ColumnLines.Shift<T, A>(DX + offset);
        if (!LinesOf(place, column, width, products, slopes))
        {
            return false;
        }

        var filter = new ColumnFilter<A>(slopes, ColumnLines.Capacity(width));
        nint pitch = Layout.Columns;
        nint run = width == pitch ? chunk.Length : width;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            for (nint done = 0; done < chunk.Length; done += run == chunk.Length ? run : pitch)
            {
                nint at = offset + done;
                FilterLoops.InputGradient<T, A, ColumnFilter<A>, TStore>(X + at, G + at, DX + at, run, width, Ahead, filter);
            }
        }

        return true;
    }
}

/// <summary>What is known of a set: y = max(x * Slope + Bias, Threshold) and dx = u * Slope + x * Pull.</summary>
internal readonly record struct FilterLine(double Slope, double Bias, double Threshold, double Pull);

/// <summary>The lines of a row's columns, in arithmetic A.</summary>
internal interface IFilter<A>
    where A : unmanaged
{
    /// <summary>A mask of the elements that do not pass the threshold; a NaN passes.</summary>
    Vector512<A> Stopped(Vector512<A> x, nint j);

    /// <summary>u * slope + x * pull.</summary>
    Vector512<A> InputGradient(Vector512<A> x, Vector512<A> u, nint j);
}

/// <summary>One line for a run.</summary>
internal readonly struct ConstantFilter<A>(Vector512<A> slope, Vector512<A> bias, Vector512<A> threshold, Vector512<A> pull) : IFilter<A>
    where A : unmanaged
{
    private readonly Vector512<A> _slope = slope;
    private readonly Vector512<A> _bias = bias;
    private readonly Vector512<A> _threshold = threshold;
    private readonly Vector512<A> _pull = pull;

    public ConstantFilter(FilterLine line)
        : this(Simd.Create<A>(line.Slope), Simd.Create<A>(line.Bias), Simd.Create<A>(line.Threshold), Simd.Create<A>(line.Pull))
    {
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Stopped(Vector512<A> x, nint j) => Vector512.LessThanOrEqual(Simd.MultiplyAdd(x, _slope, _bias), _threshold);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> InputGradient(Vector512<A> x, Vector512<A> u, nint j) => Simd.MultiplyAdd(x, _pull, u * _slope);
}

/// <summary>A line for each column, in arrays that repeat after the last for one vector more.</summary>
internal readonly unsafe struct ColumnFilter<A>(A* slopes, nint capacity) : IFilter<A>
    where A : unmanaged
{
    private readonly A* _slopes = slopes;
    private readonly A* _biases = slopes + capacity;
    private readonly A* _thresholds = slopes + (2 * capacity);
    private readonly A* _pulls = slopes + (3 * capacity);

    /// <summary>The lines of the vector of columns that begins at j.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ConstantFilter<A> At(nint j) =>
        new(Vector512.Load(_slopes + j), Vector512.Load(_biases + j), Vector512.Load(_thresholds + j), Vector512.Load(_pulls + j));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Stopped(Vector512<A> x, nint j) => Vector512.LessThanOrEqual(
        Simd.MultiplyAdd(x, Vector512.Load(_slopes + j), Vector512.Load(_biases + j)), Vector512.Load(_thresholds + j));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> InputGradient(Vector512<A> x, Vector512<A> u, nint j) =>
        Simd.MultiplyAdd(x, Vector512.Load(_pulls + j), u * Vector512.Load(_slopes + j));
}

/// <summary>The loops over one run (n), or one matrix (rows x n, pitch apart).</summary>
internal static unsafe class FilterLoops
{
    /// <summary>Adds sum(u), sum(u * x) and sum(g - u) of a run: four vectors at a time in A, then in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddSums<T, A>(T* x, T* g, nint n, ConstantFilter<A> filter, ref double passedSum, ref double productSum, ref double stoppedSum)
        where T : unmanaged
        where A : unmanaged
    {
        var sums = default(FilterSums);
        AddSums(x, g, 0, n, filter, ref sums);
        sums.AddTo(ref passedSum, ref productSum, ref stoppedSum);
    }

    // From element i on, of which those before are added up already; fours of vectors have been.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddSums<T, A>(T* x, T* g, nint i, nint n, ConstantFilter<A> filter, ref FilterSums sums)
        where T : unmanaged
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        for (; i <= n - (4 * lanes); i += 4 * lanes)
        {
            AddFour(x + i, g + i, filter, ref sums);
        }

        for (; i < n; i += lanes)
        {
            // Lanes beyond the run have no gradient.
            Vector512<A> u = default, ux = default, rest = default;
            AddPart(x + i, g + i, n - i, filter, ref u, ref ux, ref rest);
            sums.Add(u, ux, rest);
        }
    }

    // Four vectors in A, then in double.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddFour<T, A>(T* x, T* g, ConstantFilter<A> filter, ref FilterSums sums)
        where T : unmanaged
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        Vector512<A> u = default, ux = default, rest = default;
        Add(x, g, filter, ref u, ref ux, ref rest);
        Add(x + lanes, g + lanes, filter, ref u, ref ux, ref rest);
        Add(x + (2 * lanes), g + (2 * lanes), filter, ref u, ref ux, ref rest);
        Add(x + (3 * lanes), g + (3 * lanes), filter, ref u, ref ux, ref rest);
        sums.Add(u, ux, rest);
    }

    /// <summary>dx of a run, as <see cref="InputGradient{T, A, TFilter, TStore}"/> writes it, and meanwhile the sums of another, as <see cref="AddSums{T, A}(T*, T*, nint, ConstantFilter{A}, ref double, ref double, ref double)"/> takes them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void InputGradientInStep<T, TStore>(
        T* x, T* g, T* dx, nint n, nint ahead, ConstantFilter<T> written, T* summedX, T* summedG, ConstantFilter<T> summed,
        ref double passedSum, ref double productSum, ref double stoppedSum)
        where T : unmanaged
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<T>();
        nint i = Loops.Head<T, T, TStore>(dx, n);
        if (i > 0)
        {
            WritePart(x, g, dx, i, written);
        }

        var sums = default(FilterSums);
        nint j = 0;
        for (; i <= n - (4 * lanes); j += 4 * lanes)
        {
            AddFour(summedX + j, summedG + j, summed, ref sums);
            for (nint k = j; k < j + (4 * lanes); k += lanes, i += lanes)
            {
                if (TStore.Fetches)
                {
                    Loops.Prefetch(summedX + k + ahead);
                    Loops.Prefetch(summedG + k + ahead);
                }

                Write<T, TStore>(x + i, g + i, dx + i, written);
            }
        }

        for (; i <= n - lanes; i += lanes)
        {
            Write<T, TStore>(x + i, g + i, dx + i, written);
        }

        if (i < n)
        {
            WritePart(x + i, g + i, dx + i, n - i, written);
        }

        AddSums(summedX, summedG, j, n, summed, ref sums);
        sums.AddTo(ref passedSum, ref productSum, ref stoppedSum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write<T, TStore>(T* x, T* g, T* dx, in ConstantFilter<T> filter)
        where T : unmanaged
        where TStore : struct, IStore
    {
        Loops.Store<T, T, TStore>(dx, InputGradient(Vector512.Load(x), Vector512.Load(g), 0, filter));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WritePart<T>(T* x, T* g, T* dx, nint count, in ConstantFilter<T> filter)
        where T : unmanaged =>
        Simd.StorePart(dx, count, InputGradient(Simd.LoadPart<T, T>(x, count, default), Simd.LoadPart<T, T>(g, count, default), 0, filter));

    // The lanes of a run's sums.
    private struct FilterSums
    {
        private Vector512<double> _passed;
        private Vector512<double> _product;
        private Vector512<double> _stopped;
        private Vector512<double> _otherPassed;
        private Vector512<double> _otherProduct;
        private Vector512<double> _otherStopped;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Add<A>(Vector512<A> u, Vector512<A> ux, Vector512<A> rest)
            where A : unmanaged
        {
            Simd.AddWidened(u, ref _passed, ref _otherPassed);
            Simd.AddWidened(ux, ref _product, ref _otherProduct);
            Simd.AddWidened(rest, ref _stopped, ref _otherStopped);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void AddTo(ref double passed, ref double product, ref double stopped)
        {
            passed += Simd.Sum(_passed + _otherPassed);
            product += Simd.Sum(_product + _otherProduct);
            stopped += Simd.Sum(_stopped + _otherStopped);
        }
    }

    /// <summary>Adds each column's sums to three arrays, padded to whole vectors: eight rows at a time in A, then in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddColumns<T, A>(
        T* x, T* g, nint rows, nint n, nint pitch, ColumnFilter<A> filter, double* passed, double* products, double* stopped)
        where T : unmanaged
        where A : unmanaged
    {
        const int Together = 8;
        nint lanes = Simd.Count<A>();
        nint ahead = Loops.Ahead<T>(pitch, Loops.TwoStreamsAhead);
        for (nint first = 0; first < rows; first += Together, x += Together * pitch, g += Together * pitch)
        {
            nint count = Math.Min(Together, rows - first);
            for (nint j = 0; j < n; j += lanes)
            {
                Vector512<A> u = default, ux = default, rest = default;
                T* xs = x + j;
                T* gs = g + j;
                ConstantFilter<A> line = filter.At(j);
                if (count == Together && n - j >= lanes)
                {
                    Loops.PrefetchRowsNear(xs + ahead, pitch);
                    Loops.PrefetchRowsNear(gs + ahead, pitch);
                    Add(xs, gs, line, ref u, ref ux, ref rest);
                    Add(xs + pitch, gs + pitch, line, ref u, ref ux, ref rest);
                    Add(xs + (2 * pitch), gs + (2 * pitch), line, ref u, ref ux, ref rest);
                    Add(xs + (3 * pitch), gs + (3 * pitch), line, ref u, ref ux, ref rest);
                    xs += 4 * pitch;
                    gs += 4 * pitch;
                    Loops.PrefetchRowsNear(xs + ahead, pitch);
                    Loops.PrefetchRowsNear(gs + ahead, pitch);
                    Add(xs, gs, line, ref u, ref ux, ref rest);
                    Add(xs + pitch, gs + pitch, line, ref u, ref ux, ref rest);
                    Add(xs + (2 * pitch), gs + (2 * pitch), line, ref u, ref ux, ref rest);
                    Add(xs + (3 * pitch), gs + (3 * pitch), line, ref u, ref ux, ref rest);
                }
                else
                {
                    for (nint row = 0; row < count; row++, xs += pitch, gs += pitch)
                    {
                        AddPart(xs, gs, n - j, line, ref u, ref ux, ref rest);
                    }
                }

                Simd.AddWidened(u, passed + j);
                Simd.AddWidened(ux, products + j);
                Simd.AddWidened(rest, stopped + j);
            }
        }
    }

    /// <summary>dx = u * slope + x * pull, element after element; columns, ahead and stores are those of <see cref="Loops.Standardize"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void InputGradient<T, A, TFilter, TStore>(T* x, T* g, T* dx, nint n, nint period, nint ahead, TFilter filter)
        where T : unmanaged
        where A : unmanaged
        where TFilter : struct, IFilter<A>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        nint step = lanes < period ? lanes : lanes % period;
        nint i = Loops.Head<T, A, TStore>(dx, n);
        nint j = i;
        if (i > 0)
        {
            Vector512<A> value = Simd.LoadPart<T, A>(x, i, default);
            Simd.StorePart(dx, i, InputGradient(value, Simd.LoadPart<T, A>(g, i, default), 0, filter));
            j = i % period;
        }

        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> value = Simd.Load<T, A>(x + i);
            Vector512<A> result = InputGradient(value, Simd.Load<T, A>(g + i), j, filter);
            if (TStore.Fetches)
            {
                Loops.Prefetch(x + i + ahead);
                Loops.Prefetch(g + i + ahead);
            }

            Loops.Store<T, A, TStore>(dx + i, result);

            j += step;
            j -= j >= period ? period : 0;
        }

        if (i < n)
        {
            nint count = n - i;
            Vector512<A> value = Simd.LoadPart<T, A>(x + i, count, default);
            Simd.StorePart(dx + i, count, InputGradient(value, Simd.LoadPart<T, A>(g + i, count, default), j, filter));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> InputGradient<A, TFilter>(Vector512<A> x, Vector512<A> g, nint j, TFilter filter)
        where A : unmanaged
        where TFilter : struct, IFilter<A> =>
        filter.InputGradient(x, Vector512.ConditionalSelect(filter.Stopped(x, j), Vector512<A>.Zero, g), j);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<T, A>(T* x, T* g, in ConstantFilter<A> line, ref Vector512<A> u, ref Vector512<A> ux, ref Vector512<A> rest)
        where T : unmanaged
        where A : unmanaged => Add(Simd.Load<T, A>(x), Simd.Load<T, A>(g), line, ref u, ref ux, ref rest);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddPart<T, A>(
        T* x, T* g, nint count, in ConstantFilter<A> line, ref Vector512<A> u, ref Vector512<A> ux, ref Vector512<A> rest)
        where T : unmanaged
        where A : unmanaged
    {
        count = Math.Min(count, Simd.Count<A>());
        Add(Simd.LoadPart<T, A>(x, count, default), Simd.LoadPart<T, A>(g, count, default), line, ref u, ref ux, ref rest);
    }

    // Masked, not subtracted: of an infinite gradient that passed nothing was stopped.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<A>(
        Vector512<A> x, Vector512<A> g, in ConstantFilter<A> line, ref Vector512<A> u, ref Vector512<A> ux, ref Vector512<A> rest)
        where A : unmanaged
    {
        Vector512<A> stops = line.Stopped(x, 0);
        Vector512<A> passed = Vector512.ConditionalSelect(stops, Vector512<A>.Zero, g);
        u += passed;
        ux = Simd.MultiplyAdd(passed, x, ux);
        rest += Vector512.ConditionalSelect(stops, g, Vector512<A>.Zero);
    }
}
