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
        bool panelByPanel = Standardizer.ByPanel(layout, chunking);
        nint sums = 3 * layout.Slots * (panelByPanel ? 2 : chunking.Count);
        nint weights = layout.Weights;
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
            Sums = scratch.Take<double>(sums),
            SumsPerPanel = sums / layout.Panels,
            Store = Standardizer.StoreFor(layout, dx, Standardizer.StreamedBackwardBytes, inPlace: dx == g),
            Ahead = panelByPanel ? Standardizer.NextPanel(layout) : Standardizer.StreamAhead,
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
internal unsafe struct FilterResponseJob<T> : IPieceJob
    where T : unmanaged
{
    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public T* DX;
    public FilterParameters<T> Parameters;
    public double* Inverse; // r by slot
    public double* Sums; // 3 Columns for a panel and as many for a chunk of it, or 3 Columns for each chunk
    public nint SumsPerPanel;
    public StoreKind Store;
    public nint Ahead;
    private FilterResponsePhase _phase;
    private int _items;
    private int _itemsPerTask;

    public void Run(FilterResponsePhase phase, int items, nint elementsPerItem)
    {
        _phase = phase;
        _items = items;
        _itemsPerTask = Standardizer.ItemsPerTask(elementsPerItem);
        WorkTeam.Run(ref this, (items + _itemsPerTask - 1) / _itemsPerTask, items * elementsPerItem);
    }

    public readonly void Run(int piece)
    {
        nint perSet = 3 * (nint)Layout.Columns;
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        for (int item = piece * _itemsPerTask; item < end; item++)
        {
            int panel = item / Chunks.Count;
            switch (_phase)
            {
                case FilterResponsePhase.Panels:
                    double* sums = Sums + (item * SumsPerPanel);
                    ChunkSums(item, Chunks[0], sums);
                    for (int index = 1; index < Chunks.Count; index++)
                    {
                        ChunkSums(item, Chunks[index], sums + perSet);
                        Simd.AddTo(sums, sums + perSet, perSet);
                    }

                    for (int index = 0; index < Chunks.Count; index++)
                    {
                        ApplyChunk(item, Chunks[index]);
                    }

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
                    ApplyChunk(panel, Chunks[item % Chunks.Count]);
                    break;
            }
        }

        Standardizer.FinishStores(Store);
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

    // A set's slope weight * r, bias, threshold, r, and the slope of what flows through the mean square: 0 while that is not summed.
    private readonly FilterLine LineOf(PanelPlace place, nint column, double product)
    {
        double inverse = Inverse[place.Slot + column];
        double slope = inverse * Get(Parameters.Weight, place.Affine + column, 1);
        double pull = -(inverse * slope) * (product / Layout.SetSize);
        return new FilterLine(
            slope, Get(Parameters.Bias, place.Affine + column, 0), Get(Parameters.Threshold, place.Affine + column, double.NegativeInfinity), inverse, pull);
    }

    private readonly void ChunkSums(int panel, Chunk chunk, double* sums)
    {
        PanelPlace place = Layout.Place(panel);
        nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        nint columns = Layout.Columns;
        for (nint column = 0, width; column < columns; column += width)
        {
            width = Standardizer.SumTileWidth(columns, column);
            if (typeof(T) == typeof(double) || !ChunkSums<T>(place, column, width, offset + column, chunk, sums))
            {
                ChunkSums<double>(place, column, width, offset + column, chunk, sums);
            }
        }
    }

    // A tile's sums of a chunk; false where float does not hold them.
    [SkipLocalsInit]
    private readonly bool ChunkSums<A>(PanelPlace place, nint column, nint width, nint offset, Chunk chunk, double* sums)
        where A : unmanaged
    {
        nint columns = Layout.Columns;
        if (columns == 1)
        {
            FilterLine line = LineOf(place, 0, 0);
            sums[0] = sums[1] = sums[2] = 0;
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                FilterLoops.AddSums<T, A>(X + offset, G + offset, chunk.Length, new ConstantFilter<A>(line), sums);
            }
        }
        else
        {
            nint capacity = ColumnLines.Capacity(width);
            byte* memory = stackalloc byte[ColumnLines.Bytes<double>(7, width)];
            double* tile = Simd.Aligned<double>(memory);
            ColumnFilter<A> filter = Fill<A>(place, column, width, (A*)(tile + (3 * capacity)), null, 0);
            new Span<double>(tile, (int)(3 * capacity)).Clear();
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                FilterLoops.AddColumns<T, A>(X + offset, G + offset, chunk.Length / columns, width, columns, filter, tile, tile + capacity, tile + (2 * capacity));
            }

            for (nint sum = 0; sum < 3; sum++)
            {
                new ReadOnlySpan<double>(tile + (sum * capacity), (int)width).CopyTo(new Span<double>(sums + (sum * columns) + column, (int)width));
            }
        }

        bool holds = true;
        for (nint j = column; j < column + width; j++)
        {
            holds &= Simd.HoldsSingle(sums[j], sums[columns + j]) && double.IsFinite(sums[(2 * columns) + j]) && Simd.SuitsSingle(LineOf(place, j, 0).Slope);
            sums[columns + j] *= Inverse[place.Slot + j];
        }

        return holds || typeof(A) == typeof(double);
    }

    private readonly void ApplyChunk(int panel, Chunk chunk)
    {
        switch (Store)
        {
            case StoreKind.Cached:
                ApplyChunk<CachedStore>(panel, chunk);
                break;
            case StoreKind.Fetching:
                ApplyChunk<FetchingStore>(panel, chunk);
                break;
            default:
                ApplyChunk<StreamingStore>(panel, chunk);
                break;
        }
    }

    private readonly void ApplyChunk<TStore>(int panel, Chunk chunk)
        where TStore : struct, IStore
    {
        PanelPlace place = Layout.Place(panel);
        nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        double* products = Sums + (panel * SumsPerPanel) + Layout.Columns;
        for (nint column = 0, width; column < Layout.Columns; column += width)
        {
            width = Standardizer.TileWidth(Layout.Columns, column);
            bool single = typeof(T) == typeof(float);
            for (nint j = column; j < column + width && single; j++)
            {
                FilterLine line = LineOf(place, j, products[j]);
                single &= Simd.SuitsSingle(line.Inverse) && Simd.SuitsSingle(line.Slope) && Simd.SlopesSingle(line.Pull, line.Inverse);
            }

            if (single)
            {
                ApplyTile<T, TStore>(place, column, width, offset + column, chunk, products);
            }
            else
            {
                ApplyTile<double, TStore>(place, column, width, offset + column, chunk, products);
            }
        }
    }

    [SkipLocalsInit]
    private readonly void ApplyTile<A, TStore>(PanelPlace place, nint column, nint width, nint offset, Chunk chunk, double* products)
        where A : unmanaged
        where TStore : struct, IStore
    {
        if (Layout.Columns == 1)
        {
            var constant = new ConstantFilter<A>(LineOf(place, 0, products[0]));
            for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
            {
                FilterLoops.InputGradient<T, A, ConstantFilter<A>, TStore>(X + offset, G + offset, DX + offset, chunk.Length, chunk.Length, Ahead, constant);
            }

            return;
        }

        byte* memory = stackalloc byte[ColumnLines.Bytes<A>(4, width)];
        ColumnFilter<A> filter = Fill<A>(place, column, width, Simd.Aligned<A>(memory), products, ColumnLines.Shift<T, A>(DX + offset));
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
    }

    // The lines of a tile in arrays that go on from the start, as those of ColumnLines.
    private readonly ColumnFilter<A> Fill<A>(PanelPlace place, nint column, nint width, A* memory, double* products, nint shift)
        where A : unmanaged
    {
        var filter = new ColumnFilter<A>(memory + shift, ColumnLines.Capacity(width));
        for (nint j = 0; j < width + Simd.Count<A>(); j++)
        {
            nint source = column + (j % width);
            filter.Set(j, LineOf(place, source, products == null ? 0 : products[source]));
        }

        return filter;
    }
}

/// <summary>What is known of a set: y = max(x * Slope + Bias, Threshold), r, and dx = u * Slope + x * Pull.</summary>
internal readonly record struct FilterLine(double Slope, double Bias, double Threshold, double Inverse, double Pull);

/// <summary>The lines of a row's columns, in arithmetic A.</summary>
internal interface IFilter<A>
    where A : unmanaged
{
    /// <summary>The output gradients whose elements pass the threshold; 0 for the others.</summary>
    Vector512<A> Passed(Vector512<A> x, Vector512<A> g, nint j);

    /// <summary>u * slope + x * pull.</summary>
    Vector512<A> InputGradient(Vector512<A> x, Vector512<A> u, nint j);
}

/// <summary>One line for a run.</summary>
internal readonly struct ConstantFilter<A>(FilterLine line) : IFilter<A>
    where A : unmanaged
{
    private readonly Vector512<A> _slope = Simd.Create<A>(line.Slope);
    private readonly Vector512<A> _bias = Simd.Create<A>(line.Bias);
    private readonly Vector512<A> _threshold = Simd.Create<A>(line.Threshold);
    private readonly Vector512<A> _pull = Simd.Create<A>(line.Pull);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Passed(Vector512<A> x, Vector512<A> g, nint j) =>
        Vector512.ConditionalSelect(Vector512.LessThanOrEqual(Simd.MultiplyAdd(x, _slope, _bias), _threshold), Vector512<A>.Zero, g);

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

    public void Set(nint j, FilterLine line)
    {
        Simd.Set(_slopes + j, line.Slope);
        Simd.Set(_biases + j, line.Bias);
        Simd.Set(_thresholds + j, line.Threshold);
        Simd.Set(_pulls + j, line.Pull);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Passed(Vector512<A> x, Vector512<A> g, nint j) => Vector512.ConditionalSelect(
        Vector512.LessThanOrEqual(
            Simd.MultiplyAdd(x, Vector512.Load(_slopes + j), Vector512.Load(_biases + j)), Vector512.Load(_thresholds + j)),
        Vector512<A>.Zero, g);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> InputGradient(Vector512<A> x, Vector512<A> u, nint j) =>
        Simd.MultiplyAdd(x, Vector512.Load(_pulls + j), u * Vector512.Load(_slopes + j));
}

/// <summary>The loops over one run (n), or one matrix (rows x n, pitch apart).</summary>
internal static unsafe class FilterLoops
{
    /// <summary>Adds sum(u), sum(u * x) and sum(g - u) of a run to three sums: four vectors at a time in A, then in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddSums<T, A>(T* x, T* g, nint n, ConstantFilter<A> filter, double* sums)
        where T : unmanaged
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        Vector512<double> passed = default, product = default, stopped = default;
        Vector512<double> otherPassed = default, otherProduct = default, otherStopped = default;
        nint i = 0;
        for (; i <= n - (4 * lanes); i += 4 * lanes)
        {
            nint j = i + lanes, k = j + lanes, l = k + lanes;
            Vector512<A> g0 = Simd.Load<T, A>(g + i), g1 = Simd.Load<T, A>(g + j), g2 = Simd.Load<T, A>(g + k), g3 = Simd.Load<T, A>(g + l);
            Vector512<A> x0 = Simd.Load<T, A>(x + i), x1 = Simd.Load<T, A>(x + j), x2 = Simd.Load<T, A>(x + k), x3 = Simd.Load<T, A>(x + l);
            Vector512<A> u0 = filter.Passed(x0, g0, 0), u1 = filter.Passed(x1, g1, 0), u2 = filter.Passed(x2, g2, 0), u3 = filter.Passed(x3, g3, 0);
            Simd.AddWidened((u0 + u1) + (u2 + u3), ref passed, ref otherPassed);
            Simd.AddWidened(Simd.MultiplyAdd(u2, x2, u0 * x0) + Simd.MultiplyAdd(u3, x3, u1 * x1), ref product, ref otherProduct);
            Simd.AddWidened((Rest(g0, u0) + Rest(g1, u1)) + (Rest(g2, u2) + Rest(g3, u3)), ref stopped, ref otherStopped);
        }

        for (; i < n; i += lanes)
        {
            // Lanes beyond the run have no gradient.
            bool whole = n - i >= lanes;
            Vector512<A> value = whole ? Simd.Load<T, A>(x + i) : Simd.LoadPart<T, A>(x + i, n - i, default);
            Vector512<A> gradient = whole ? Simd.Load<T, A>(g + i) : Simd.LoadPart<T, A>(g + i, n - i, default);
            Vector512<A> u = filter.Passed(value, gradient, 0);
            Simd.AddWidened(u, ref passed, ref otherPassed);
            Simd.AddWidened(u * value, ref product, ref otherProduct);
            Simd.AddWidened(Rest(gradient, u), ref stopped, ref otherStopped);
        }

        sums[0] += Simd.Sum(passed + otherPassed);
        sums[1] += Simd.Sum(product + otherProduct);
        sums[2] += Simd.Sum(stopped + otherStopped);
    }

    /// <summary>Adds each column's sums to three arrays, padded to whole vectors: four rows at a time in A, then in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddColumns<T, A>(
        T* x, T* g, nint rows, nint n, nint pitch, ColumnFilter<A> filter, double* passed, double* products, double* stopped)
        where T : unmanaged
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        nint row = 0;
        for (; row <= rows - 4; row += 4, x += 4 * pitch, g += 4 * pitch)
        {
            nint j = 0;
            for (; j <= n - lanes; j += lanes)
            {
                T* gs = g + j;
                T* xs = x + j;
                Vector512<A> g0 = Simd.Load<T, A>(gs), g1 = Simd.Load<T, A>(gs + pitch);
                Vector512<A> g2 = Simd.Load<T, A>(gs + (2 * pitch)), g3 = Simd.Load<T, A>(gs + (3 * pitch));
                Vector512<A> x0 = Simd.Load<T, A>(xs), x1 = Simd.Load<T, A>(xs + pitch);
                Vector512<A> x2 = Simd.Load<T, A>(xs + (2 * pitch)), x3 = Simd.Load<T, A>(xs + (3 * pitch));
                Vector512<A> u0 = filter.Passed(x0, g0, j), u1 = filter.Passed(x1, g1, j), u2 = filter.Passed(x2, g2, j), u3 = filter.Passed(x3, g3, j);
                Simd.AddWidened((u0 + u1) + (u2 + u3), passed + j);
                Simd.AddWidened(Simd.MultiplyAdd(u2, x2, u0 * x0) + Simd.MultiplyAdd(u3, x3, u1 * x1), products + j);
                Simd.AddWidened((Rest(g0, u0) + Rest(g1, u1)) + (Rest(g2, u2) + Rest(g3, u3)), stopped + j);
            }

            for (int i = 0; i < 4 && j < n; i++)
            {
                AddRow(x + (i * pitch), g + (i * pitch), j, n, filter, passed, products, stopped);
            }
        }

        for (; row < rows; row++, x += pitch, g += pitch)
        {
            AddRow(x, g, 0, n, filter, passed, products, stopped);
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
            Simd.StorePart(dx, i, filter.InputGradient(value, filter.Passed(value, Simd.LoadPart<T, A>(g, i, default), 0), 0));
            j = i % period;
        }

        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> value = Simd.Load<T, A>(x + i);
            Vector512<A> result = filter.InputGradient(value, filter.Passed(value, Simd.Load<T, A>(g + i), j), j);
            if (TStore.Fetches)
            {
                Loops.Prefetch(x + i + ahead);
                Loops.Prefetch(g + i + ahead);
            }

            if (TStore.Streams)
            {
                Simd.StoreStreaming(dx + i, result);
            }
            else
            {
                Simd.Store(dx + i, result);
            }

            j += step;
            j -= j >= period ? period : 0;
        }

        if (i < n)
        {
            nint count = n - i;
            Vector512<A> value = Simd.LoadPart<T, A>(x + i, count, default);
            Simd.StorePart(dx + i, count, filter.InputGradient(value, filter.Passed(value, Simd.LoadPart<T, A>(g + i, count, default), j), j));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow<T, A>(T* x, T* g, nint j, nint n, ColumnFilter<A> filter, double* passed, double* products, double* stopped)
        where T : unmanaged
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        for (; j < n; j += lanes)
        {
            bool whole = n - j >= lanes;
            Vector512<A> value = whole ? Simd.Load<T, A>(x + j) : Simd.LoadPart<T, A>(x + j, n - j, default);
            Vector512<A> gradient = whole ? Simd.Load<T, A>(g + j) : Simd.LoadPart<T, A>(g + j, n - j, default);
            Vector512<A> u = filter.Passed(value, gradient, j);
            Simd.AddWidened(u, passed + j);
            Simd.AddWidened(u * value, products + j);
            Simd.AddWidened(Rest(gradient, u), stopped + j);
        }
    }

    // What the threshold stopped: of an infinite gradient that passed, 0 rather than infinity minus infinity.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> Rest<A>(Vector512<A> g, Vector512<A> u)
        where A : unmanaged => Vector512.ConditionalSelect(Vector512.Equals(g, u), Vector512<A>.Zero, g);
}
