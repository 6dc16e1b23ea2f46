using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>A function of one element, and of its output gradient where it is a derivative, with coefficients by statistics slot.</summary>
/// <remarks>
/// What a strategy computes that is no straight line in x: a maximum, a sigmoid, a threshold. Written once for both arithmetics, with operations
/// that give the same bits at every vector width. The type is only a name for its static members.
/// </remarks>
internal unsafe interface ICurve
{
    /// <summary>How many coefficients a slot has.</summary>
    static abstract int Coefficients { get; }

    /// <summary>Whether the function looks at the output gradient; where not, it is given zeros.</summary>
    static abstract bool ReadsGradient { get; }

    /// <summary>The function's value, lane by lane; coefficient k is a vector at coefficients + k * pitch.</summary>
    static abstract Vector512<A> At<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch)
        where A : unmanaged;
}

/// <summary>Terms of x and the output gradient that are added up by slot, with coefficients by slot.</summary>
internal unsafe interface ICurveSums
{
    /// <summary>How many coefficients a slot has.</summary>
    static abstract int Coefficients { get; }

    /// <summary>How many sums a slot has.</summary>
    static abstract int Terms { get; }

    /// <summary>Whether a float sum of exactly 0 is one; false where its terms may have been too small for float.</summary>
    static virtual bool HoldsZero => true;

    /// <summary>Writes the terms, each a multiple of the gradient: lanes without an element have a gradient of 0.</summary>
    static abstract void Write<A>(Vector512<A> x, Vector512<A> gradient, A* coefficients, nint pitch, Vector512<A>* terms)
        where A : unmanaged;
}

/// <summary>Element-wise passes whose function differs from slot to slot in its coefficients, over any <see cref="ReductionLayout"/>.</summary>
/// <remarks>
/// Coefficients are doubles, coefficient k of a slot at coefficients[k * pitch + slot]. Elements are computed in T; those of a tile with a
/// coefficient that float multiplies badly (beyond 1e15, or below 1e-30 and not 0) in double. Weights of the layout are not looked at.
/// </remarks>
internal static unsafe class Curves
{
    /// <summary>Columns that are worked on together, with their coefficients on the stack.</summary>
    internal const int Tile = 1024;

    private const double SmallestSingle = 1e-30;

    /// <summary>Writes y = curve(x), or dx = curve(x, g); the result may be g's own memory, or x's.</summary>
    /// <param name="layout">Which elements have a slot's coefficients.</param>
    /// <param name="x">Input.</param>
    /// <param name="g">Output gradient; null where the curve does not read it.</param>
    /// <param name="result">Receives y or dx.</param>
    /// <param name="coefficients">By slot, coefficients pitch apart.</param>
    /// <param name="pitch">From one coefficient's slots to the next's.</param>
    /// <param name="store">How results leave.</param>
    /// <param name="ahead">How many elements ahead a store that fetches does so.</param>
    public static void Apply<T, TCurve>(in ReductionLayout layout, T* x, T* g, T* result, double* coefficients, nint pitch, StoreKind store, nint ahead)
        where T : unmanaged
        where TCurve : struct, ICurve
    {
        var job = new CurveJob<T, TCurve>
        {
            Layout = layout,
            Chunks = new Chunking(layout),
            X = x,
            G = g,
            Result = result,
            Coefficients = coefficients,
            Pitch = pitch,
            Store = store,
            Ahead = ahead,
        };
        job.Share();
    }

    /// <summary>Writes the sum of each term over each slot's elements, in double: term k of a slot at sums[k * pitch + slot].</summary>
    public static void Sums<T, TSums>(in ReductionLayout layout, T* x, T* g, double* coefficients, double* sums, nint pitch)
        where T : unmanaged
        where TSums : struct, ICurveSums
    {
        var chunking = new Chunking(layout);
        nint partials = layout.Slots * chunking.Count * TSums.Terms;
        NativeScratch scratch = NativeScratch.Begin(partials * sizeof(double));
        var job = new CurveSumsJob<T, TSums>
        {
            Layout = layout,
            Chunks = chunking,
            X = x,
            G = g,
            Coefficients = coefficients,
            Pitch = pitch,
            Partials = scratch.Take<double>(partials),
        };
        job.Share();

        // In chunk order, whichever thread took them.
        nint columns = layout.Columns;
        for (int item = 0; item < layout.Panels * chunking.Count; item++)
        {
            nint slot = layout.Place(item / chunking.Count).Slot;
            for (int k = 0; k < TSums.Terms; k++)
            {
                double* source = job.Partials + ((((nint)item * TSums.Terms) + k) * columns);
                double* target = sums + (k * pitch) + slot;
                if (item % chunking.Count == 0)
                {
                    new ReadOnlySpan<double>(source, (int)columns).CopyTo(new Span<double>(target, (int)columns));
                }
                else
                {
                    Simd.AddTo(target, source, columns);
                }
            }
        }
    }

    /// <summary>A tile's coefficients in arithmetic A, repeated after its columns for one vector more; false where they do not suit float and A is float.</summary>
    internal static bool Prepare<A>(double* coefficients, nint pitch, int count, nint width, A* prepared, nint preparedPitch)
        where A : unmanaged
    {
        Vector512<long> unsuited = default;
        for (int k = 0; k < count; k++, coefficients += pitch, prepared += preparedPitch)
        {
            if (width == 1)
            {
                unsuited |= Unsuited(Vector512.Create(*coefficients));
                Simd.Create<A>(*coefficients).Store(prepared);
                continue;
            }

            for (nint j = 0; j < width; j += Simd.Lanes)
            {
                nint lanes = Math.Min(Simd.Lanes, width - j);
                Vector512<double> value = lanes == Simd.Lanes ? Vector512.Load(coefficients + j) : Simd.LoadPart<double, double>(coefficients + j, lanes, default);
                unsuited |= Unsuited(value);
                Simd.Store(prepared + j, value);
            }

            for (nint j = 0; j < Vector512<A>.Count; j++)
            {
                prepared[width + j] = prepared[j];
            }
        }

        return typeof(A) == typeof(double) || !Vector512.AnyWhereAllBitsSet(unsuited);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<long> Unsuited(Vector512<double> value)
    {
        Vector512<double> size = Vector512.Abs(value);
        Vector512<double> suits = Vector512.IsZero(size) | ~Vector512.IsFinite(size)
            | (Vector512.GreaterThanOrEqual(size, Vector512.Create(SmallestSingle)) & Vector512.LessThanOrEqual(size, Vector512.Create(Simd.LargestSingle)));
        return ~suits.AsInt64();
    }

    /// <summary>Columns in the tile that begins at one; a run along memory is a single column.</summary>
    internal static nint TileWidth(int columns, nint column) => Math.Min(Tile, columns - column);
}

/// <summary>Writes a curve chunk by chunk.</summary>
internal unsafe struct CurveJob<T, TCurve> : IStoringJob
    where T : unmanaged
    where TCurve : struct, ICurve
{
    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public T* Result;
    public double* Coefficients;
    public nint Pitch;
    public StoreKind Store;
    public nint Ahead;
    private int _items;
    private int _itemsPerTask;

    public void Share()
    {
        _items = Layout.Panels * Chunks.Count;
        _itemsPerTask = Standardizer.ItemsPerTask(Layout.Elements / _items);
        WorkTeam.Run(ref this, (_items + _itemsPerTask - 1) / _itemsPerTask, Layout.Elements);
    }

    public void Run(int piece) => Stores.Run(ref this, Store, piece);

    public readonly void Run<TStore>(int piece)
        where TStore : struct, IStore
    {
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        for (int item = piece * _itemsPerTask; item < end; item++)
        {
            Apply<TStore>(Layout.Place(item / Chunks.Count), Chunks[item % Chunks.Count]);
        }
    }

    private readonly void Apply<TStore>(PanelPlace place, Chunk chunk)
        where TStore : struct, IStore
    {
        nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
        for (nint column = 0, width; column < Layout.Columns; column += width)
        {
            width = Curves.TileWidth(Layout.Columns, column);
            if (typeof(T) == typeof(double) || !Apply<T, TStore>(place.Slot + column, offset + column, width, chunk))
            {
                Apply<double, TStore>(place.Slot + column, offset + column, width, chunk);
            }
        }
    }

    // A tile of columns of a chunk. False, with nothing written, where float does not suit.
    [SkipLocalsInit]
    private readonly bool Apply<A, TStore>(nint slot, nint offset, nint width, Chunk chunk)
        where A : unmanaged
        where TStore : struct, IStore
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<A>(TCurve.Coefficients, width)];
        nint capacity = ColumnLines.Capacity(width);
        A* coefficients = Simd.Aligned<A>(memory) + (width == 1 ? 0 : ColumnLines.Shift<T, A>(Result + offset));
        if (!Curves.Prepare(Coefficients + slot, Pitch, TCurve.Coefficients, width, coefficients, capacity))
        {
            return false;
        }

        nint pitch = Layout.Columns;
        nint length = width == pitch ? chunk.Length : width;
        for (int i = 0; i < chunk.BlockCount; i++, offset += Layout.BlockStride)
        {
            for (nint done = 0; done < chunk.Length; done += width == pitch ? chunk.Length : pitch)
            {
                Loop<A, TStore>(X + offset + done, TCurve.ReadsGradient ? G + offset + done : null, Result + offset + done, length, width, Ahead, coefficients, capacity);
            }
        }

        return true;
    }

    // Elements in memory's order; coefficients repeat with the period of the columns.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Loop<A, TStore>(T* x, T* g, T* result, nint n, nint period, nint ahead, A* coefficients, nint capacity)
        where A : unmanaged
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        nint step = lanes < period ? lanes : lanes % period;
        nint i = TStore.Streams ? Math.Min(n, Simd.BeforeAligned<T, A>(result)) : 0;
        nint j = i % period;
        if (i > 0)
        {
            Simd.StorePart(result, i, TCurve.At(Simd.LoadPart<T, A>(x, i, default), GradientPart<A>(g, i), coefficients, capacity));
        }

        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> gradient = TCurve.ReadsGradient ? Simd.Load<T, A>(g + i) : default;
            Vector512<A> value = TCurve.At(Simd.Load<T, A>(x + i), gradient, coefficients + j, capacity);
            if (TStore.Fetches && Sse.IsSupported)
            {
                Sse.Prefetch1(x + i + ahead);
                if (TCurve.ReadsGradient)
                {
                    Sse.Prefetch1(g + i + ahead);
                }
            }

            if (TStore.Streams)
            {
                Simd.StoreStreaming(result + i, value);
            }
            else
            {
                Simd.Store(result + i, value);
            }

            j += step;
            j -= j >= period ? period : 0;
        }

        if (i < n)
        {
            nint count = n - i;
            Simd.StorePart(result + i, count, TCurve.At(Simd.LoadPart<T, A>(x + i, count, default), GradientPart<A>(g + i, count), coefficients + j, capacity));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> GradientPart<A>(T* g, nint count)
        where A : unmanaged => TCurve.ReadsGradient ? Simd.LoadPart<T, A>(g, count, default) : default;
}

/// <summary>Sums terms chunk by chunk.</summary>
internal unsafe struct CurveSumsJob<T, TSums> : IPieceJob
    where T : unmanaged
    where TSums : struct, ICurveSums
{
    public ReductionLayout Layout;
    public Chunking Chunks;
    public T* X;
    public T* G;
    public double* Coefficients;
    public nint Pitch;
    public double* Partials; // by chunk: Columns sums of each term
    private int _items;
    private int _itemsPerTask;

    public void Share()
    {
        _items = Layout.Panels * Chunks.Count;
        _itemsPerTask = Standardizer.ItemsPerTask(Layout.Elements / _items);
        WorkTeam.Run(ref this, (_items + _itemsPerTask - 1) / _itemsPerTask, Layout.Elements);
    }

    public readonly void Run(int piece)
    {
        int end = (int)Math.Min(_items, (piece + 1L) * _itemsPerTask);
        for (int item = piece * _itemsPerTask; item < end; item++)
        {
            PanelPlace place = Layout.Place(item / Chunks.Count);
            Chunk chunk = Chunks[item % Chunks.Count];
            nint offset = place.Offset + (chunk.FirstBlock * Layout.BlockStride) + chunk.Start;
            double* partials = Partials + ((nint)item * TSums.Terms * Layout.Columns);
            for (nint column = 0, width; column < Layout.Columns; column += width)
            {
                width = Curves.TileWidth(Layout.Columns, column);
                if (!Sum<T>(place.Slot + column, offset + column, width, chunk, partials + column, Layout.Columns))
                {
                    SumAgain(place.Slot + column, offset + column, width, chunk, partials + column);
                }
            }
        }
    }

    // In double for those sums that float did not hold, and for those alone: another column's bits are not to depend on them.
    [SkipLocalsInit]
    private readonly void SumAgain(nint slot, nint offset, nint width, Chunk chunk, double* sums)
    {
        double* wide = stackalloc double[(int)(TSums.Terms * width)];
        Sum<double>(slot, offset, width, chunk, wide, width);
        for (int k = 0; k < TSums.Terms; k++)
        {
            for (nint j = 0; j < width; j++)
            {
                double* sum = sums + (k * Layout.Columns) + j;
                *sum = Holds<T>(Vector512.Create(*sum)) ? *sum : wide[(k * width) + j];
            }
        }
    }

    // Writes a tile's sums, NaN where its coefficients do not suit A. False where some do not hold.
    [SkipLocalsInit]
    private readonly bool Sum<A>(nint slot, nint offset, nint width, Chunk chunk, double* sums, nint sumsPitch)
        where A : unmanaged
    {
        byte* memory = stackalloc byte[ColumnLines.Bytes<A>(TSums.Coefficients, width)];
        byte* sumMemory = stackalloc byte[ColumnLines.Bytes<double>(TSums.Terms, width)];
        nint capacity = ColumnLines.Capacity(width);
        A* coefficients = Simd.Aligned<A>(memory);
        bool suits = Curves.Prepare(Coefficients + slot, Pitch, TSums.Coefficients, width, coefficients, capacity);
        double* totals = Simd.Aligned<double>(sumMemory);
        new Span<double>(totals, (int)(TSums.Terms * capacity)).Fill(suits ? 0 : double.NaN);
        nint columns = Layout.Columns;
        bool isRun = columns == 1;
        for (int i = 0; i < chunk.BlockCount && suits; i++, offset += Layout.BlockStride)
        {
            if (isRun)
            {
                AddRun<A>(X + offset, G + offset, chunk.Length, coefficients, totals, capacity);
            }
            else
            {
                AddColumns<A>(X + offset, G + offset, chunk.Length / columns, width, columns, coefficients, totals, capacity);
            }
        }

        bool holds = true;
        for (int k = 0; k < TSums.Terms; k++, totals += capacity, sums += sumsPitch)
        {
            if (isRun)
            {
                *sums = Simd.Sum(Simd.Count<A>() == Simd.Lanes ? Vector512.Load(totals) : Vector512.Load(totals) + Vector512.Load(totals + Simd.Lanes));
                holds &= Holds<A>(Vector512.Create(*sums));
                continue;
            }

            for (nint j = 0; j < width; j += Simd.Lanes)
            {
                nint lanes = Math.Min(Simd.Lanes, width - j);
                Vector512<double> total = Simd.LoadPart<double, double>(totals + j, lanes, Vector512<double>.One);
                Simd.StorePart(sums + j, lanes, total);
                holds &= Holds<A>(total);
            }
        }

        return holds;
    }

    // Whether sums in A may be trusted: neither overflowed nor made of subnormal terms.
    private static bool Holds<A>(Vector512<double> sums)
    {
        Vector512<double> large = Vector512.GreaterThanOrEqual(Vector512.Abs(sums), Vector512.Create(Simd.SmallestProduct));
        return typeof(A) == typeof(double)
            || Vector512.EqualsAll((Vector512.IsFinite(sums) & (TSums.HoldsZero ? large | Vector512.IsZero(sums) : large)).AsInt64(), Vector512<long>.AllBitsSet);
    }

    // Along memory; the totals are a vector's lanes, folded at the end.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddRun<A>(T* x, T* g, nint n, A* coefficients, double* totals, nint capacity)
        where A : unmanaged
    {
        Vector512<A>* terms = stackalloc Vector512<A>[4 * TSums.Terms];
        nint lanes = Simd.Count<A>();
        nint i = 0;
        for (; i <= n - (4 * lanes); i += 4 * lanes)
        {
            AddFour(x + i, g + i, lanes, coefficients, totals, capacity, terms);
        }

        for (; i < n; i += lanes)
        {
            AddPart(x + i, g + i, n - i, coefficients, totals, capacity, terms);
        }
    }

    // Down each column.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddColumns<A>(T* x, T* g, nint rows, nint n, nint pitch, A* coefficients, double* totals, nint capacity)
        where A : unmanaged
    {
        Vector512<A>* terms = stackalloc Vector512<A>[4 * TSums.Terms];
        nint lanes = Simd.Count<A>();
        for (nint row = 0; row < rows; row += 4, x += 4 * pitch, g += 4 * pitch)
        {
            nint j = 0;
            for (; j <= n - lanes && row <= rows - 4; j += lanes)
            {
                AddFour(x + j, g + j, pitch, coefficients + j, totals + j, capacity, terms);
            }

            for (; j < n; j += lanes)
            {
                for (nint i = 0; i < Math.Min(4, rows - row); i++)
                {
                    AddPart(x + (i * pitch) + j, g + (i * pitch) + j, n - j, coefficients + j, totals + j, capacity, terms);
                }
            }
        }
    }

    // Four vectors are added in A, then in double.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddFour<A>(T* x, T* g, nint stride, A* coefficients, double* totals, nint capacity, Vector512<A>* terms)
        where A : unmanaged
    {
        for (int i = 0; i < 4; i++)
        {
            TSums.Write(Simd.Load<T, A>(x + (i * stride)), Simd.Load<T, A>(g + (i * stride)), coefficients, capacity, terms + (i * TSums.Terms));
        }

        for (int k = 0; k < TSums.Terms; k++)
        {
            Simd.AddWidened((terms[k] + terms[k + TSums.Terms]) + (terms[k + (2 * TSums.Terms)] + terms[k + (3 * TSums.Terms)]), totals + (k * capacity));
        }
    }

    // At most one vector. Lanes beyond the end repeat a value: 0 might be where the function has a pole.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddPart<A>(T* x, T* g, nint count, A* coefficients, double* totals, nint capacity, Vector512<A>* terms)
        where A : unmanaged
    {
        bool whole = count >= Simd.Count<A>();
        Vector512<A> value = whole ? Simd.Load<T, A>(x) : Simd.LoadPart<T, A>(x, count, Simd.Create<A>(Simd.Get(x)));
        TSums.Write(value, whole ? Simd.Load<T, A>(g) : Simd.LoadPart<T, A>(g, count, default), coefficients, capacity, terms);
        for (int k = 0; k < TSums.Terms; k++)
        {
            Simd.AddWidened(terms[k], totals + (k * capacity));
        }
    }
}
