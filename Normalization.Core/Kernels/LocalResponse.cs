using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>y[c] = x[c] * d[c]^-beta, d[c] = k + scale * sum of x[j]^2 over the channels j from c - Below to c + Above that exist.</summary>
internal readonly record struct ResponseWindow(int Below, int Above, double Scale, double Beta, double K);

/// <summary>Local response normalization and its gradient, in either memory order.</summary>
/// <remarks>
/// <para>dx[c] = g[c] d[c]^-beta - 2 scale beta x[c] * sum of t[j] over the j whose window holds c, from c - Above to c + Below, with
/// t = g x d^(-beta - 1). Window sums are added up for each element anew: running sums would keep the rounding of a large value that
/// has left the window.</para>
/// <para>Work is cut into tiles, matrices of rows and columns of which one is the channels: rows in channels-first memory (a stretch of
/// positions wide), columns in channels-last. Squares and t lie in scratch with zeros around the channels, a neighbouring channel a fixed
/// step away, so that both orders run the same code to the same bits.</para>
/// </remarks>
internal static unsafe class LocalResponse
{
    /// <summary>Elements in a tile, about: its arrays stay in the second-level cache.</summary>
    public const int TileElements = 8192;

    private const int NarrowestTile = 16;

    // Tensors of this size and more leave past the caches.
    private const nint StreamedBytes = 8 << 20;

    // Smaller ones are likely to be in the second-level cache.
    private const nint FetchedBytes = 1 << 19;

    /// <summary>Writes y; it may be written over x.</summary>
    public static void Forward<T>(ActivationShape shape, MemoryOrder order, T* x, T* y, ResponseWindow window)
        where T : unmanaged => Run(shape, order, x, null, y, window);

    /// <summary>Writes dx; it may be written over g.</summary>
    public static void Backward<T>(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx, ResponseWindow window)
        where T : unmanaged => Run(shape, order, x, g, dx, window);

    private static void Run<T>(ActivationShape shape, MemoryOrder order, T* x, T* g, T* result, ResponseWindow window)
        where T : unmanaged
    {
        int channels = shape.Channels;
        nint positions = shape.SpatialSize;
        bool channelsAreColumns = positions == 1 || order == MemoryOrder.ChannelsLast;
        var job = new LocalResponseJob<T> { X = x, G = g, Result = result, ChannelsAreColumns = channelsAreColumns };

        // Neighbours that no channel has need no zeros.
        job.Window = window with { Below = Math.Min(window.Below, channels - 1), Above = Math.Min(window.Above, channels - 1) };
        if (channelsAreColumns)
        {
            job.Outer = 1;
            job.Rows = shape.Samples * positions;
            job.Columns = channels;
            job.TileRows = Math.Max(1, TileElements / channels);
            job.TileColumns = channels;
        }
        else
        {
            job.Outer = shape.Samples;
            job.Rows = channels;
            job.Columns = positions;
            job.TileRows = channels;
            job.TileColumns = Math.Max(NarrowestTile, TileElements / channels / NarrowestTile * NarrowestTile);
        }

        bool lines = job.Columns * sizeof(T) % Simd.LineBytes == 0 && (nuint)result % Simd.LineBytes == 0;
        job.Fetches = shape.Count * sizeof(T) >= FetchedBytes;
        job.Streams = lines && shape.Count * sizeof(T) >= StreamedBytes && result != g && result != x;
        job.Share();
    }
}

/// <summary>The tiles of one pass.</summary>
internal unsafe struct LocalResponseJob<T> : IPieceJob
    where T : unmanaged
{
    public T* X;
    public T* G; // null in a forward pass
    public T* Result;
    public ResponseWindow Window;
    public bool ChannelsAreColumns;
    public nint Outer; // matrices, one after another
    public nint Rows;
    public nint Columns;
    public nint TileRows;
    public nint TileColumns;
    public bool Streams;
    public bool Fetches; // from memory, a tile ahead

    // Float beyond these loses digits, or leaves its range in a power of d.
    private const double LeastK = 1e-6;
    private const double LargestK = 1e6;
    private const double LargestSum = 1e16;
    private const int WidestWindow = 16;

    private nint _tilesDown;
    private nint _tilesAcross;
    private nint _itemsPerTask;

    public void Share()
    {
        _tilesDown = (Rows + TileRows - 1) / TileRows;
        _tilesAcross = (Columns + TileColumns - 1) / TileColumns;
        nint items = Outer * _tilesDown * _tilesAcross;
        nint elements = Outer * Rows * Columns;
        _itemsPerTask = Standardizer.ItemsPerTask(elements / items);
        WorkTeam.Run(ref this, checked((int)((items + _itemsPerTask - 1) / _itemsPerTask)), elements);
    }

    public readonly void Run(int piece)
    {
        nint perMatrix = _tilesDown * _tilesAcross;
        nint end = Math.Min(Outer * perMatrix, (piece + (nint)1) * _itemsPerTask);
        for (nint item = piece * _itemsPerTask; item < end; item++)
        {
            nint row = item % perMatrix / _tilesAcross * TileRows;
            nint column = item % _tilesAcross * TileColumns;
            nint offset = (((item / perMatrix * Rows) + row) * Columns) + column;
            nint rows = Math.Min(TileRows, Rows - row);
            nint columns = Math.Min(TileColumns, Columns - column);
            double quarters = 4 * Window.Beta;
            if (quarters != Math.Floor(quarters) || quarters > QuarterPower<T>.Most)
            {
                Tile<double, GeneralPower>(offset, rows, columns, new(Window.Beta));
            }
            else if (typeof(T) == typeof(double) || !SuitsSingle || !Tile<T, QuarterPower<T>>(offset, rows, columns, new((int)quarters)))
            {
                Tile<double, QuarterPower<double>>(offset, rows, columns, new((int)quarters));
            }
        }

        Stores.Finish(Streams ? StoreKind.Streaming : StoreKind.Cached);
    }

    private readonly bool SuitsSingle =>
        Window.K is >= LeastK and <= LargestK && Math.Abs(Window.Scale) <= LargestK && Window.Below + Window.Above < WidestWindow;

    // False, with nothing written, where float does not suit.
    private readonly bool Tile<A, TPower>(nint offset, nint rows, nint columns, TPower power)
        where A : unmanaged
        where TPower : struct, IPower<A>
    {
        nint lanes = Simd.Count<A>();
        int pad = Math.Max(Window.Below, Window.Above);
        nint padded = (columns + lanes - 1) / lanes * lanes;
        nint pitch = ChannelsAreColumns ? padded + pad : padded;
        nint step = ChannelsAreColumns ? 1 : pitch;
        nint length = ChannelsAreColumns ? pad + (rows * pitch) : (rows + (2 * pad)) * pitch;
        NativeScratch scratch = NativeScratch.Begin((3 * (length + lanes)) * sizeof(A));
        A* squares = Bordered<A>(scratch, length + lanes, pad, rows, padded, pitch);
        if (!Square(offset, rows, columns, squares, pitch))
        {
            return false;
        }

        if (G == null)
        {
            Normalize(offset, rows, columns, squares, pitch, step, power);
            return true;
        }

        A* terms = Bordered<A>(scratch, length + lanes, pad, rows, padded, pitch);
        A* scaled = scratch.Take<A>(length + lanes);
        Weigh(offset, rows, columns, squares, terms, scaled, pitch, step, power);
        Combine(offset, rows, columns, terms, scaled, pitch, step);
        return true;
    }

    // An array for a tile with zeros where channels would be before the first and after the last: those after a row of channels are those
    // before the next. Returns where the tile begins.
    private readonly A* Bordered<A>(NativeScratch scratch, nint length, int pad, nint rows, nint padded, nint pitch)
        where A : unmanaged
    {
        A* array = scratch.Take<A>(length);
        if (!ChannelsAreColumns)
        {
            new Span<A>(array, checked((int)(pad * pitch))).Clear();
            array += pad * pitch;
            new Span<A>(array + (rows * pitch), checked((int)(pad * pitch))).Clear();
            return array;
        }

        new Span<A>(array, pad).Clear();
        array += pad;
        for (nint row = 0; row < rows; row++)
        {
            for (nint j = 0; j < pad; j += Vector512<A>.Count)
            {
                // What goes too far is written over by the next row.
                Vector512<A>.Zero.Store(array + (row * pitch) + padded + j);
            }
        }

        return array;
    }

    // Squares into scratch; false where their sums are too large for A, or not finite.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly bool Square<A>(nint offset, nint rows, nint columns, A* squares, nint pitch)
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        Vector512<A> limit = Simd.Create<A>(LargestSum / WidestWindow / Math.Max(1, Math.Abs(Window.Scale)));
        Vector512<A> holds = Vector512<A>.AllBitsSet;
        for (nint row = 0; row < rows; row++, offset += Columns, squares += pitch)
        {
            nint j = 0;
            for (; j <= columns - lanes; j += lanes)
            {
                Vector512<A> value = Simd.Load<T, A>(X + offset + j);
                value *= value;
                holds &= Vector512.LessThanOrEqual(value, limit);
                value.Store(squares + j);
            }

            if (j < columns)
            {
                Vector512<A> value = Simd.LoadPart<T, A>(X + offset + j, columns - j, default);
                value *= value;
                holds &= Vector512.LessThanOrEqual(value, limit);
                value.Store(squares + j);
            }
        }

        return typeof(A) == typeof(double) || !Vector512.AnyWhereAllBitsSet(~holds.AsInt32());
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Normalize<A, TPower>(nint offset, nint rows, nint columns, A* squares, nint pitch, nint step, TPower power)
        where A : unmanaged
        where TPower : struct, IPower<A>
    {
        nint lanes = Simd.Count<A>();
        nint first = -Window.Below * step;
        int count = Window.Below + Window.Above + 1;
        Vector512<A> scale = Simd.Create<A>(Window.Scale);
        Vector512<A> k = Simd.Create<A>(Window.K);
        for (nint row = 0; row < rows; row++, offset += Columns, squares += pitch)
        {
            for (nint j = 0; j < columns; j += lanes)
            {
                Vector512<A> divisor = Simd.MultiplyAdd(Sum(squares + j + first, count, step), scale, k);
                Vector512<A> factor = power.Of(divisor, out _);
                Fetch(X + offset + j);
                if (columns - j >= lanes)
                {
                    Put(Result + offset + j, Simd.Load<T, A>(X + offset + j) * factor);
                }
                else
                {
                    Simd.StorePart(Result + offset + j, columns - j, Simd.LoadPart<T, A>(X + offset + j, columns - j, default) * factor);
                }
            }
        }
    }

    // t = g x d^(-beta - 1), whose neighbours are summed next, and g d^-beta.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Weigh<A, TPower>(
        nint offset, nint rows, nint columns, A* squares, A* terms, A* scaled, nint pitch, nint step, TPower power)
        where A : unmanaged
        where TPower : struct, IPower<A>
    {
        nint lanes = Simd.Count<A>();
        nint first = -Window.Below * step;
        int count = Window.Below + Window.Above + 1;
        Vector512<A> scale = Simd.Create<A>(Window.Scale);
        Vector512<A> k = Simd.Create<A>(Window.K);
        for (nint row = 0; row < rows; row++, offset += Columns, squares += pitch, terms += pitch, scaled += pitch)
        {
            for (nint j = 0; j < columns; j += lanes)
            {
                bool whole = columns - j >= lanes;
                Vector512<A> x = whole ? Simd.Load<T, A>(X + offset + j) : Simd.LoadPart<T, A>(X + offset + j, columns - j, default);
                Vector512<A> g = whole ? Simd.Load<T, A>(G + offset + j) : Simd.LoadPart<T, A>(G + offset + j, columns - j, default);
                Vector512<A> divisor = Simd.MultiplyAdd(Sum(squares + j + first, count, step), scale, k);
                Vector512<A> product = g * power.Of(divisor, out Vector512<A> reciprocal);
                product.Store(scaled + j);
                (x * product * reciprocal).Store(terms + j);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void Combine<A>(nint offset, nint rows, nint columns, A* terms, A* scaled, nint pitch, nint step)
        where A : unmanaged
    {
        nint lanes = Simd.Count<A>();
        nint first = -Window.Above * step;
        int count = Window.Below + Window.Above + 1;
        Vector512<A> factor = Simd.Create<A>(-2 * Window.Scale * Window.Beta);
        for (nint row = 0; row < rows; row++, offset += Columns, terms += pitch, scaled += pitch)
        {
            for (nint j = 0; j < columns; j += lanes)
            {
                Vector512<A> sum = factor * Sum(terms + j + first, count, step);
                Fetch(X + offset + j);
                Fetch(G + offset + j);
                if (columns - j >= lanes)
                {
                    Put(Result + offset + j, Simd.MultiplyAdd(sum, Simd.Load<T, A>(X + offset + j), Vector512.Load(scaled + j)));
                }
                else
                {
                    Vector512<A> x = Simd.LoadPart<T, A>(X + offset + j, columns - j, default);
                    Simd.StorePart(Result + offset + j, columns - j, Simd.MultiplyAdd(sum, x, Vector512.Load(scaled + j)));
                }
            }
        }
    }

    // What the next tile reads in this place.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Fetch(T* address)
    {
        if (Fetches)
        {
            Loops.Prefetch(address + (ChannelsAreColumns ? TileRows * Columns : TileColumns));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly void Put<A>(T* destination, Vector512<A> value)
        where A : unmanaged
    {
        if (Streams)
        {
            Simd.StoreStreaming(destination, value);
        }
        else
        {
            Simd.Store(destination, value);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> Sum<A>(A* first, int count, nint step)
        where A : unmanaged
    {
        Vector512<A> sum = Vector512.Load(first);
        for (int i = 1; i < count; i++)
        {
            first += step;
            sum += Vector512.Load(first);
        }

        return sum;
    }
}

/// <summary>A negative power.</summary>
internal interface IPower<A>
    where A : unmanaged
{
    /// <summary>value^-beta and 1 / value, value above 0.</summary>
    Vector512<A> Of(Vector512<A> value, out Vector512<A> reciprocal);
}

/// <summary>value^(-quarters / 4): many times faster than by a logarithm, and as exact in float.</summary>
/// <remarks>
/// Double takes roots. Float takes neither roots nor divisions, which cost more than all else here: y is about value^(-1/4), by its bits and one step of
/// the third order, so that e = 1 - value y^4 is at most 0.001; then value^-beta = y^(4 beta) (1 - e)^-beta, by its series. Errors are at most
/// 3.4 units of rounding (by roots 4.4).
/// </remarks>
internal readonly struct QuarterPower<A>(int quarters) : IPower<A>
    where A : unmanaged
{
    /// <summary>The greatest number of quarters.</summary>
    public const int Most = 7;

    // The exponent's bits of value^(-1/4), less a quarter of those of value: off by at most 3.2 %, the least there is.
    private const int QuarterBits = 0x4F586000;

    private readonly int _quarters = quarters;
    private readonly Vector512<A> _beta = Simd.Create<A>(quarters / 4.0);
    private readonly Vector512<A> _next = Simd.Create<A>((1 + (quarters / 4.0)) / 2);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Of(Vector512<A> value, out Vector512<A> reciprocal)
    {
        if (typeof(A) == typeof(double))
        {
            Vector512<A> root = Vector512.Sqrt(value);
            Vector512<A> product = Product(root, value, Vector512.Sqrt(root));
            reciprocal = Vector512<A>.One / value;
            return Vector512<A>.One / product;
        }

        Vector512<A> y = (Vector512.Create(QuarterBits) - Vector512.ShiftRightLogical(value.AsInt32(), 2)).As<int, A>();
        Vector512<A> rest = Rest(value, y * y, out _);
        y = Simd.MultiplyAdd(y * rest, Simd.MultiplyAdd(rest, Simd.Create<A>(5.0 / 32), Simd.Create<A>(0.25)), y);
        Vector512<A> square = y * y;
        rest = Rest(value, square, out Vector512<A> fourth);
        reciprocal = Simd.MultiplyAdd(fourth, Simd.MultiplyAdd(rest, rest, rest), fourth);
        Vector512<A> power = Product(square, fourth, y);
        return Simd.MultiplyAdd(power * (rest * _beta), Simd.MultiplyAdd(rest, _next, Vector512<A>.One), power);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> Rest(Vector512<A> value, Vector512<A> square, out Vector512<A> fourth)
    {
        fourth = square * square;
        return Simd.MultiplyAdd(-value, fourth, Vector512<A>.One);
    }

    // Of the powers by 2, 4 and 1 quarters, those that make all of them.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Vector512<A> Product(Vector512<A> two, Vector512<A> four, Vector512<A> one)
    {
        Vector512<A> product = (_quarters & 4) != 0 ? four : Vector512<A>.One;
        product = (_quarters & 2) != 0 ? product * two : product;
        return (_quarters & 1) != 0 ? product * one : product;
    }
}

/// <summary>value^-beta, lane by lane in double: the runtime's vectors of exponential and logarithm have other bits at other widths.</summary>
internal readonly struct GeneralPower(double beta) : IPower<double>
{
    private readonly double _beta = beta;

    public Vector512<double> Of(Vector512<double> value, out Vector512<double> reciprocal)
    {
        reciprocal = Vector512<double>.One / value;
        for (int lane = 0; lane < Vector512<double>.Count; lane++)
        {
            value = value.WithElement(lane, Math.Pow(value.GetElement(lane), -_beta));
        }

        return value;
    }
}
