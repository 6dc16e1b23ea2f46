using System.Numerics;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>Passes over activations seen as C rows of M = N*S columns, in groups of d rows.</summary>
/// <remarks>
/// Work goes tile by tile: some columns of one group, centred and widened to double in scratch. Channels-first tiles are d x T as
/// memory is, channels-last tiles T x d as memory is; columns of short samples are gathered into one tile.
/// </remarks>
internal static unsafe class Whitening
{
    private const nint TileValues = 4096;
    private const nint LargestTile = 256;
    private const nint SmallestTile = 32;
    private const nint PartialValues = 1 << 20;
    private const int MostPieces = 64;
    private const int MostSlots = 64;

    /// <summary>Doubles that a d x d matrix takes with padded rows.</summary>
    public static nint MatrixSize(int group) => group * Product.Padded(group);

    /// <summary>For each group, sum over columns of left * (x - mean)^T; and the row sums of left. Left is x - mean, or g.</summary>
    /// <remarks>Null g takes x - mean itself: the covariance's sum. Null sums are not wanted. Products are d x d by group, rows padded.</remarks>
    public static void CrossProducts<T>(in ChannelView view, T* x, T* g, double* mean, double* products, double* sums)
        where T : unmanaged
    {
        nint matrices = view.Groups * MatrixSize(view.Group);
        nint tiles = view.Tiles(TileColumns(view));
        int pieces = (int)Math.Clamp(Math.Min(tiles, PartialValues / matrices), 1, MostPieces);
        nint tile = TileSize(view);
        int slots = Slots(pieces);
        NativeScratch scratch = NativeScratch.Begin(((pieces * (matrices + view.Channels)) + (slots * 3 * tile)) * sizeof(double));
        var job = new CrossProductJob<T>
        {
            View = view,
            X = x,
            G = g,
            Mean = mean,
            TileColumns = TileColumns(view),
            TileSize = tile,
            Pieces = pieces,
            Slots = slots,
            Products = scratch.Take<double>(pieces * matrices),
            Sums = scratch.Take<double>(pieces * view.Channels),
            Tiles = scratch.Take<double>(slots * 3 * tile),
        };
        new Span<double>(job.Products, checked((int)(pieces * matrices))).Clear();
        new Span<double>(job.Sums, checked((int)(pieces * view.Channels))).Clear();
        WorkTeam.Run(ref job, pieces, view.Columns * view.Channels);
        Combine(job.Products, matrices, pieces, products);
        if (sums != null)
        {
            Combine(job.Sums, view.Channels, pieces, sums);
        }
    }

    /// <summary>y = matrix * (x - mean), then times weight plus bias by channel; matrices are d x d by group, transposed where the view is by columns.</summary>
    public static void Apply<T>(in ChannelView view, T* x, T* y, double* mean, double* matrix, T* weight, T* bias)
        where T : unmanaged
    {
        var job = new ApplyJob<T> { View = view, X = x, Y = y, Mean = mean, Matrix = matrix, Weight = weight, Bias = bias };
        job.Share();
    }

    /// <summary>dx = first * (g - gradientMean) + second * (x - mean); second is null for 0.</summary>
    public static void ApplyGradient<T>(
        in ChannelView view, T* x, T* g, T* dx, double* mean, double* gradientMean, double* first, double* second)
        where T : unmanaged
    {
        var job = new ApplyJob<T> { View = view, X = g, Y = dx, Mean = gradientMean, Matrix = first, X2 = x, Mean2 = mean, Matrix2 = second };
        job.Share();
    }

    internal static nint TileColumns(in ChannelView view) =>
        Math.Clamp(Product.Padded(TileValues / view.Group), SmallestTile, LargestTile);

    internal static nint TileSize(in ChannelView view) => Product.Padded(view.Group) * TileColumns(view);

    internal static int Slots(int pieces) => Math.Min(Math.Min(KernelThreads.Count, pieces), MostSlots);

    /// <summary>A place in scratch for the time of one piece; there are as many as threads.</summary>
    internal static int TakeSlot(ref ulong taken, int slots)
    {
        while (true)
        {
            ulong before = Volatile.Read(ref taken);
            int slot = BitOperations.TrailingZeroCount(~before);
            if (slot < slots && Interlocked.CompareExchange(ref taken, before | (1UL << slot), before) == before)
            {
                return slot;
            }
        }
    }

    internal static void ReturnSlot(ref ulong taken, int slot) => Interlocked.And(ref taken, ~(1UL << slot));

    // Pieces are added in order, so that the sum has one set of bits.
    private static void Combine(double* partials, nint count, int pieces, double* result)
    {
        for (nint i = 0; i < count; i++)
        {
            double sum = partials[i];
            for (int piece = 1; piece < pieces; piece++)
            {
                sum += partials[(piece * count) + i];
            }

            result[i] = sum;
        }
    }
}

/// <summary>Activations as C rows of N*S columns, and how they lie.</summary>
internal readonly record struct ChannelView(int Channels, int Group, nint Samples, nint Positions, bool ByColumns)
{
    public static ChannelView Of(ActivationShape shape, MemoryOrder order, int group) =>
        new(shape.Channels, group, shape.Samples, shape.SpatialSize, Layouts.ByColumns(shape, order));

    public int Groups => Channels / Group;

    /// <summary>M = N*S.</summary>
    public nint Columns => Samples * Positions;

    public nint Tiles(nint tileColumns) => (Columns + tileColumns - 1) / tileColumns;

    /// <summary>Centres columns [first, first + count) of a group into a tile as memory lies: d x pitch, or count x padded d.</summary>
    /// <remarks>A null mean centres at 0.</remarks>
    public unsafe void Pack<T>(T* x, double* mean, int group, nint first, nint count, double* tile, nint pitch)
        where T : unmanaged
    {
        int start = group * Group;
        double* center = mean == null ? null : mean + start;
        if (ByColumns)
        {
            nint width = Product.Padded(Group);
            for (nint m = 0; m < count; m++)
            {
                T* source = x + ((first + m) * Channels) + start;
                double* row = tile + (m * width);
                nint j = 0;
                for (; j <= Group - Simd.Lanes; j += Simd.Lanes)
                {
                    Vector512<double> middle = center == null ? default : Vector512.Load(center + j);
                    (Simd.Load(source + j) - middle).Store(row + j);
                }

                for (; j < width; j++)
                {
                    row[j] = j < Group ? Simd.Get(source + j) - (center == null ? 0 : center[j]) : 0;
                }
            }

            return;
        }

        for (int c = 0; c < Group; c++)
        {
            double* row = tile + (c * pitch);
            nint m = 0;
            while (m < count)
            {
                nint sample = (first + m) / Positions;
                nint position = (first + m) % Positions;
                nint length = Math.Min(Positions - position, count - m);
                T* source = x + (((sample * Channels) + start + c) * Positions) + position;
                Widen(source, row + m, length, center == null ? 0 : center[c]);
                m += length;
            }

            for (; m < pitch; m++)
            {
                row[m] = 0;
            }
        }
    }

    /// <summary>Writes a tile's columns back, each channel times its weight plus its bias; null stands for 1 and 0.</summary>
    public unsafe void Unpack<T>(double* tile, nint pitch, int group, nint first, nint count, T* y, T* weight, T* bias)
        where T : unmanaged
    {
        int start = group * Group;
        if (ByColumns)
        {
            nint width = Product.Padded(Group);
            for (nint m = 0; m < count; m++)
            {
                T* row = y + ((first + m) * Channels) + start;
                double* source = tile + (m * width);
                Narrow(source, row, Group, new StoredOr<T>(weight == null ? null : weight + start, 1), new StoredOr<T>(bias == null ? null : bias + start, 0));
            }

            return;
        }

        for (int c = 0; c < Group; c++)
        {
            var scale = new Constant(weight == null ? 1 : Simd.Get(weight + start + c));
            var shift = new Constant(bias == null ? 0 : Simd.Get(bias + start + c));
            nint done = 0;
            while (done < count)
            {
                nint sample = (first + done) / Positions;
                nint position = (first + done) % Positions;
                nint length = Math.Min(Positions - position, count - done);
                T* destination = y + (((sample * Channels) + start + c) * Positions) + position;
                Narrow(tile + (c * pitch) + done, destination, length, scale, shift);
                done += length;
            }
        }
    }

    private static unsafe void Widen<T>(T* source, double* destination, nint count, double center)
        where T : unmanaged
    {
        var middle = Vector512.Create(center);
        nint j = 0;
        for (; j <= count - Simd.Lanes; j += Simd.Lanes)
        {
            (Simd.Load(source + j) - middle).Store(destination + j);
        }

        for (; j < count; j++)
        {
            destination[j] = Simd.Get(source + j) - center;
        }
    }

    private static unsafe void Narrow<T, TScale, TShift>(double* source, T* destination, nint count, TScale scale, TShift shift)
        where T : unmanaged
        where TScale : struct, ICoefficient
        where TShift : struct, ICoefficient
    {
        nint j = 0;
        for (; j <= count - Simd.Lanes; j += Simd.Lanes)
        {
            Simd.Store(destination + j, Vector512.FusedMultiplyAdd(Vector512.Load(source + j), scale.Vector(j), shift.Vector(j)));
        }

        for (; j < count; j++)
        {
            Simd.Set(destination + j, Math.FusedMultiplyAdd(source[j], scale.Scalar(j), shift.Scalar(j)));
        }
    }
}

/// <summary>Sums of outer products of columns, tile by tile.</summary>
internal unsafe struct CrossProductJob<T> : IPieceJob
    where T : unmanaged
{
    public ChannelView View;
    public T* X;
    public T* G;
    public double* Mean;
    public nint TileColumns;
    public nint TileSize;
    public int Pieces;
    public int Slots;
    public double* Products;
    public double* Sums;
    public double* Tiles;
    private ulong _slots;

    public void Run(int piece)
    {
        int slot = Whitening.TakeSlot(ref _slots, Slots);
        double* xTile = Tiles + (slot * 3 * TileSize);
        double* gTile = xTile + TileSize;
        double* transposed = gTile + TileSize;
        nint tiles = View.Tiles(TileColumns);
        nint firstTile = tiles * piece / Pieces;
        nint lastTile = tiles * (piece + 1) / Pieces;
        nint matrix = Whitening.MatrixSize(View.Group);
        nint width = Product.Padded(View.Group);
        double* products = Products + (piece * View.Groups * matrix);
        double* sums = Sums + ((nint)piece * View.Channels);
        for (int group = 0; group < View.Groups; group++)
        {
            for (nint index = firstTile; index < lastTile; index++)
            {
                nint first = index * TileColumns;
                nint count = Math.Min(TileColumns, View.Columns - first);
                nint pitch = Product.Padded(count);
                View.Pack(X, Mean, group, first, count, xTile, pitch);
                double* left = xTile;
                if (G != null)
                {
                    View.Pack(G, null, group, first, count, gTile, pitch);
                    AddRowSums(gTile, pitch, count, sums + (group * View.Group));
                    left = gTile;
                }

                if (View.ByColumns)
                {
                    Product.Add(products + (group * matrix), width, View.Group, width, count, new LeftOperand(left, 1, width), xTile, width);
                }
                else
                {
                    Transpose(xTile, pitch, count, transposed, width);
                    Product.Add(products + (group * matrix), width, View.Group, width, count, new LeftOperand(left, pitch, 1), transposed, width);
                }
            }
        }

        Whitening.ReturnSlot(ref _slots, slot);
    }

    private readonly void Transpose(double* tile, nint pitch, nint count, double* transposed, nint width)
    {
        for (nint m = 0; m < count; m++)
        {
            for (nint c = View.Group; c < width; c++)
            {
                transposed[(m * width) + c] = 0;
            }
        }

        for (nint c = 0; c < View.Group; c++)
        {
            double* row = tile + (c * pitch);
            for (nint m = 0; m < count; m++)
            {
                transposed[(m * width) + c] = row[m];
            }
        }
    }

    private readonly void AddRowSums(double* tile, nint pitch, nint count, double* sums)
    {
        if (View.ByColumns)
        {
            Loops.AddColumns(tile, count, View.Group, Product.Padded(View.Group), sums);
            return;
        }

        for (int c = 0; c < View.Group; c++)
        {
            sums[c] += Loops.Sum(tile + (c * pitch), count);
        }
    }
}

/// <summary>A matrix applied to centred columns (plus a second one to others), tile by tile.</summary>
internal unsafe struct ApplyJob<T> : IPieceJob
    where T : unmanaged
{
    public ChannelView View;
    public T* X;
    public T* Y;
    public double* Mean;
    public double* Matrix;
    public T* X2;
    public double* Mean2;
    public double* Matrix2;
    public T* Weight;
    public T* Bias;
    private nint _tileColumns;
    private nint _tileSize;
    private int _pieces;
    private double* _tiles;
    private int _slotCount;
    private ulong _slots;

    public void Share()
    {
        _tileColumns = Whitening.TileColumns(View);
        _tileSize = Whitening.TileSize(View);
        _pieces = (int)Math.Min(View.Tiles(_tileColumns), 1024);
        _slotCount = Whitening.Slots(_pieces);
        nint values = _slotCount * 2 * _tileSize;
        _tiles = NativeScratch.Begin(values * sizeof(double)).Take<double>(values);
        WorkTeam.Run(ref this, _pieces, View.Columns * View.Channels);
    }

    public void Run(int piece)
    {
        int slot = Whitening.TakeSlot(ref _slots, _slotCount);
        double* source = _tiles + (slot * 2 * _tileSize);
        double* result = source + _tileSize;
        nint tiles = View.Tiles(_tileColumns);
        nint last = tiles * (piece + 1) / _pieces;
        nint width = Product.Padded(View.Group);
        for (nint index = tiles * piece / _pieces; index < last; index++)
        {
            nint first = index * _tileColumns;
            nint count = Math.Min(_tileColumns, View.Columns - first);
            nint pitch = Product.Padded(count);
            for (int group = 0; group < View.Groups; group++)
            {
                nint matrix = group * Whitening.MatrixSize(View.Group);
                new Span<double>(result, (int)(View.ByColumns ? count * width : View.Group * pitch)).Clear();
                View.Pack(X, Mean, group, first, count, source, pitch);
                Multiply(result, source, Matrix + matrix, count, pitch, width);
                if (Matrix2 != null)
                {
                    View.Pack(X2, Mean2, group, first, count, source, pitch);
                    Multiply(result, source, Matrix2 + matrix, count, pitch, width);
                }

                View.Unpack(result, pitch, group, first, count, Y, Weight, Bias);
            }
        }

        Whitening.ReturnSlot(ref _slots, slot);
    }

    // Channels-last multiplies from the right: the caller passes the transpose.
    private readonly void Multiply(double* result, double* source, double* matrix, nint count, nint pitch, nint width)
    {
        if (View.ByColumns)
        {
            Product.Add(result, width, count, width, View.Group, new LeftOperand(source, width, 1), matrix, width);
        }
        else
        {
            Product.Add(result, pitch, View.Group, pitch, View.Group, new LeftOperand(matrix, width, 1), source, pitch);
        }
    }
}
