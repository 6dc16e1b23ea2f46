using System.Numerics;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>Passes over activations seen as C rows of M = N*S columns, in groups of d rows.</summary>
/// <remarks>
/// <para>Work goes tile by tile: some columns of one group, centred in scratch as memory lies, multiplied while they are in cache.</para>
/// <para>Precision: the covariance is summed in double, since an inverse root magnifies its error by its condition number. The other products
/// of float activations are float where the square of W's condition number, for exact whitening the covariance's, is at most
/// <see cref="LargestSingleCondition"/> and the covariance is far from the ends of float's range, double elsewhere: a property of the statistics, never of
/// the machine, nor of the sample beside.</para>
/// </remarks>
internal static unsafe class Whitening
{
    /// <summary>Up to this square of W's condition number products are float: their error grows with its root.</summary>
    public const double LargestSingleCondition = 256;

    // How far a rough centre may be off, squared, in variances: four cost two of a double's bits.
    private const double LargestShift = 4;

    private const nint TileValues = 1 << 16;
    private const nint LargestTile = 512; // columns, of tiles that are no whole samples: one sample may be longer
    private const nint SmallestTile = 32;
    private const nint PartialValues = 1 << 19;
    private const nint RowsPerStrip = 64;
    private const int MostParts = 64;
    private const int FewestPieces = 8;
    private const int MostPieces = 1024;

    /// <summary>The mean of every channel and the covariance of every group, divisor M.</summary>
    /// <remarks>
    /// Memory is read once: products are summed about rough centres and corrected by what the means turn out to differ from them. Where that is more than
    /// a deviation or two the correction would cancel digits, and the products are summed again about the means.
    /// </remarks>
    /// <param name="view">The activations.</param>
    /// <param name="x">Their memory.</param>
    /// <param name="statistics">Receives both; the places of eigenvalues are overwritten.</param>
    public static void Moments<T>(in ChannelView view, T* x, WhiteningStatistics statistics)
        where T : unmanaged
    {
        long started = WhiteningClock.Start();
        view.RoughCenters(x, statistics.Mean);
        CrossProducts(view, x, null, statistics, statistics.Covariance, statistics.Values);
        if (!CorrectCenters(view, statistics))
        {
            CrossProducts(view, x, null, statistics, statistics.Covariance, statistics.Values);
            CorrectCenters(view, statistics);
        }

        WhiteningClock.Stop(WhiteningPhase.Covariance, started);
    }

    /// <summary>For each group g (x - mean)^T, d x d with padded rows; and the row sums of g.</summary>
    public static void GradientProducts<T>(in ChannelView view, T* x, T* g, WhiteningStatistics statistics, double* products, double* sums)
        where T : unmanaged
    {
        long started = WhiteningClock.Start();
        CrossProducts(view, x, g, statistics, products, sums);
        WhiteningClock.Stop(WhiteningPhase.Products, started);
    }

    /// <summary>y = weight * (W (x - mean)) + bias by channel; null weight and bias stand for 1 and 0.</summary>
    public static void Apply<T>(in ChannelView view, T* x, T* y, WhiteningStatistics statistics, T* weight, T* bias)
        where T : unmanaged
    {
        long started = WhiteningClock.Start();
        var job = new ApplyJob<T> { View = view, First = x, Result = y, Depth = view.Group };
        NativeScratch scratch = job.Begin();
        job.FirstCenter = ChannelValues.Of(scratch, statistics.Mean, view.Channels);
        job.Added = ChannelValues.Of(scratch, bias, view.Channels);
        for (int c = 0; c < view.Channels; c++)
        {
            double* row = statistics.MatrixRow(view.Group, c);
            double factor = weight == null ? 1 : Simd.Get(weight + c);
            for (int k = 0; k < view.Group; k++)
            {
                job.Mixing.Put(c / view.Group, c % view.Group, k, factor * row[k]);
            }
        }

        job.Mixing.ChoosePrecision(statistics.Spectra);
        job.Share();
        WhiteningClock.Stop(WhiteningPhase.Products, started);
    }

    /// <summary>dx = W^T (weight * (g - gradientMean)) + second (x - mean); null second stands for 0, null weight for 1.</summary>
    /// <remarks>dx may be g itself.</remarks>
    public static void ApplyGradient<T>(
        in ChannelView view, T* x, T* g, T* dx, WhiteningStatistics statistics, T* weight, double* gradientMean, double* second)
        where T : unmanaged
    {
        long started = WhiteningClock.Start();
        var job = new ApplyJob<T>
        {
            View = view,
            First = g,
            Second = second == null ? null : x,
            Result = dx,
            Depth = second == null ? view.Group : 2 * view.Group,
        };
        NativeScratch scratch = job.Begin();
        job.FirstCenter = ChannelValues.Of(scratch, gradientMean, view.Channels);
        job.SecondCenter = ChannelValues.Of(scratch, statistics.Mean, view.Channels);
        job.Added = ChannelValues.Of(scratch, (T*)null, view.Channels);
        nint pitch = Product.MatrixPitch(view.Group);
        for (int c = 0; c < view.Channels; c++)
        {
            (int group, int k) = Math.DivRem(c, view.Group);
            double* row = statistics.MatrixRow(view.Group, c);
            double factor = weight == null ? 1 : Simd.Get(weight + c);
            for (int i = 0; i < view.Group; i++)
            {
                job.Mixing.Put(group, i, k, factor * row[i]);
            }

            double* secondRow = second + (group * WhiteningStatistics.MatrixSize(view.Group)) + (k * pitch);
            for (int i = 0; i < view.Group && second != null; i++)
            {
                job.Mixing.Put(group, k, view.Group + i, secondRow[i]);
            }
        }

        job.Mixing.ChoosePrecision(statistics.Spectra);
        job.Share();
        WhiteningClock.Stop(WhiteningPhase.Products, started);
    }

    // Whole samples where they fit: a group of them is one run of memory, which the hardware fetches; where a row ends early a new run begins.
    internal static nint TileColumns(in ChannelView view)
    {
        nint fitting = Math.Max(TileValues / Product.PaddedRows(view.Group) / SmallestTile * SmallestTile, SmallestTile);
        nint columns = Math.Min(fitting, LargestTile);
        return view.ByColumns || view.Positions > fitting ? columns : Math.Max(1, columns / view.Positions) * view.Positions;
    }

    /// <summary>Doubles of a tile of so many channels, centred or as a result, in either precision and memory order.</summary>
    internal static nint TileSize(in ChannelView view, nint channels) => view.ByColumns
        ? TileColumns(view) * Product.OddPitch<double>(channels)
        : Product.PaddedRows(channels) * Product.OddPitch<double>(TileColumns(view));

    internal static int ApplyPieces(in ChannelView view) => (int)Math.Min(view.Tiles(TileColumns(view)), MostPieces);

    private static void CrossProducts<T>(in ChannelView view, T* x, T* g, WhiteningStatistics statistics, double* products, double* sums)
        where T : unmanaged
    {
        nint matrices = view.Groups * WhiteningStatistics.MatrixSize(view.Group);
        int parts = (int)Math.Clamp(Math.Min(view.Tiles(TileColumns(view)), PartialValues / matrices), 1, MostParts);
        int strips = (int)Math.Clamp(view.Group / RowsPerStrip, 1, Math.Max(1, FewestPieces / parts));
        nint tile = TileSize(view, view.Group);
        int slots = Slots.CountFor(parts * strips);
        nint doubles = (parts * (matrices + view.Channels)) + (slots * 2 * tile);
        NativeScratch scratch = NativeScratch.Begin((doubles * sizeof(double)) + (2 * ChannelValues.Bytes(view.Channels)));
        var job = new CrossProductJob<T>
        {
            View = view,
            X = x,
            G = g,
            XCenter = ChannelValues.Of(scratch, statistics.Mean, view.Channels),
            GCenter = ChannelValues.Of(scratch, (T*)null, view.Channels),
            Spectra = statistics.Spectra,
            Parts = parts,
            Strips = strips,
            Products = parts == 1 ? products : scratch.Take<double>(parts * matrices),
            Sums = scratch.Take<double>(parts * view.Channels),
            TileSize = tile,
            Tiles = scratch.Take<double>(slots * 2 * tile),
            Slots = new Slots(slots),
        };
        WorkTeam.Run(ref job, parts * strips, view.Columns * view.Channels);
        if (parts > 1)
        {
            Combine(job.Products, matrices, parts, products);
        }

        if (sums != null)
        {
            Combine(job.Sums, view.Channels, parts, sums);
        }
    }

    // From products and sums about centres to covariances and means; false where a centre was far off, in any group: then all are summed again.
    private static bool CorrectCenters(in ChannelView view, WhiteningStatistics statistics)
    {
        nint pitch = Product.MatrixPitch(view.Group);
        bool near = true;
        for (int group = 0; group < view.Groups; group++)
        {
            double* covariance = statistics.Covariance + (group * WhiteningStatistics.MatrixSize(view.Group));
            double* mean = statistics.Mean + (group * view.Group);
            double* shift = statistics.Values + (group * view.Group);
            for (int i = 0; i < view.Group; i++)
            {
                shift[i] /= view.Columns;
                mean[i] += shift[i];
            }

            for (int i = 0; i < view.Group; i++)
            {
                double* row = covariance + (i * pitch);
                for (int j = i; j < view.Group; j++)
                {
                    row[j] = (row[j] / view.Columns) - (shift[i] * shift[j]);
                }

                near &= shift[i] * shift[i] <= LargestShift * row[i];
            }

            Product.Mirror(covariance, view.Group, pitch);
        }

        return near;
    }

    // Parts are added in order, so that the sum has one set of bits.
    private static void Combine(double* partials, nint count, int parts, double* result)
    {
        nint i = 0;
        for (; i <= count - Simd.Lanes; i += Simd.Lanes)
        {
            var sum = Vector512.Load(partials + i);
            for (int part = 1; part < parts; part++)
            {
                sum += Vector512.Load(partials + (part * count) + i);
            }

            sum.Store(result + i);
        }

        for (; i < count; i++)
        {
            double sum = partials[i];
            for (int part = 1; part < parts; part++)
            {
                sum += partials[(part * count) + i];
            }

            result[i] = sum;
        }
    }
}

/// <summary>Places in scratch that running pieces take and give back; there are as many as threads.</summary>
internal struct Slots(int count)
{
    private const int Most = 64;
    private ulong _taken;

    public static int CountFor(int pieces) => Math.Min(Math.Min(KernelThreads.Count, pieces), Most);

    public int Take()
    {
        while (true)
        {
            ulong before = Volatile.Read(ref _taken);
            int slot = BitOperations.TrailingZeroCount(~before);
            if (slot < count && Interlocked.CompareExchange(ref _taken, before | (1UL << slot), before) == before)
            {
                return slot;
            }
        }
    }

    public void Return(int slot) => Interlocked.And(ref _taken, ~(1UL << slot));
}

/// <summary>Sums of outer products of columns, tile by tile; with null G of x less a center with itself, the blocks above the diagonal alone.</summary>
/// <remarks>A piece is a part of the columns and, of large matrices, a strip of the rows.</remarks>
internal unsafe struct CrossProductJob<T> : IPieceJob
    where T : unmanaged
{
    public ChannelView View;
    public T* X;
    public T* G;
    public ChannelValues XCenter;
    public ChannelValues GCenter;
    public Spectrum* Spectra;
    public int Parts;
    public int Strips;
    public double* Products;
    public double* Sums;
    public nint TileSize;
    public double* Tiles;
    public Slots Slots;

    public void Run(int piece)
    {
        (int part, int strip) = Math.DivRem(piece, Strips);
        int slot = Slots.Take();
        double* memory = Tiles + (slot * 2 * TileSize);
        nint tileColumns = Whitening.TileColumns(View);
        nint tiles = View.Tiles(tileColumns);
        nint firstTile = tiles * part / Parts;
        nint lastTile = tiles * (part + 1) / Parts;
        nint blocks = Product.PaddedRows(View.Group) / Product.Rows;
        nint firstRow = blocks * strip / Strips * Product.Rows;
        nint lastRow = blocks * (strip + 1) / Strips * Product.Rows;
        nint pitch = Product.MatrixPitch(View.Group);
        double* sums = Sums + ((nint)part * View.Channels);
        if (strip == 0)
        {
            new Span<double>(sums, View.Channels).Clear();
        }

        for (int group = 0; group < View.Groups; group++)
        {
            double* products = Products + (((part * (nint)View.Groups) + group) * WhiteningStatistics.MatrixSize(View.Group));
            new Span<double>(products + (firstRow * pitch), (int)((lastRow - firstRow) * pitch)).Clear();
            double* groupSums = strip > 0 ? null : sums + (group * View.Group);
            bool single = typeof(T) == typeof(float) && G != null && Spectra[group].AllowsSingle;
            for (nint tile = firstTile; tile < lastTile; tile++)
            {
                nint first = tile * tileColumns;
                nint count = Math.Min(tileColumns, View.Columns - first);
                if (!single || !Tile((float*)memory, group, first, count, firstRow, lastRow, products, groupSums))
                {
                    Tile(memory, group, first, count, firstRow, lastRow, products, groupSums);
                }
            }
        }

        Slots.Return(slot);
    }

    private readonly bool Tile<TTile>(
        TTile* memory, int group, nint first, nint count, nint firstRow, nint lastRow, double* products, double* sums)
        where TTile : unmanaged
    {
        TTile* left = memory;
        TTile* right = memory;
        nint pitch = View.ByColumns ? Product.OddPitch<TTile>(View.Group) : Product.OddPitch<TTile>(Whitening.TileColumns(View));
        bool fits = View.Pack(X, XCenter, group, first, count, right, pitch);
        if (G != null)
        {
            left = (TTile*)((double*)memory + TileSize);
            fits &= View.Pack(G, GCenter, group, first, count, left, pitch);
        }

        if (!fits)
        {
            return false;
        }

        nint matrixPitch = Product.MatrixPitch(View.Group);
        if (View.ByColumns)
        {
            var rows = new LeftOperand<TTile>(left, 1, pitch);
            Product.ClearPadding(right, count, View.Group, pitch, 1, Product.Width<TTile>());
            if (left != right)
            {
                Product.ClearPadding(left, count, View.Group, pitch, 1, Product.Rows);
            }

            Product.Accumulate(products, matrixPitch, firstRow, lastRow, View.Group, count, rows, right, pitch, upper: G == null);
        }
        else
        {
            nint lanes = Vector512<TTile>.Count;
            nint whole = (count + lanes - 1) / lanes * lanes;
            Product.ClearPadding(left, View.Group, count, pitch, Product.Rows, lanes);
            if (left != right)
            {
                Product.ClearPadding(right, View.Group, count, pitch, Product.Square, lanes);
            }

            Product.AccumulateRows(products, matrixPitch, firstRow, lastRow, View.Group, whole, left, pitch, right, pitch, upper: G == null);
        }

        if (sums != null)
        {
            AddRowSums(left, pitch, count, sums);
        }

        return true;
    }

    private readonly void AddRowSums<TTile>(TTile* tile, nint pitch, nint count, double* sums)
        where TTile : unmanaged
    {
        if (View.ByColumns)
        {
            Loops.AddColumns(tile, count, View.Group, pitch, sums);
            return;
        }

        for (int c = 0; c < View.Group; c++)
        {
            sums[c] += Loops.Sum(tile + (c * pitch), count);
        }
    }
}

/// <summary>A matrix for each group that mixes channels: d x depth, in double and, of float activations, in float beside it.</summary>
/// <remarks>Stored as its product reads it: by rows as a left operand of channels-first tiles, transposed as a right operand of channels-last ones.</remarks>
internal unsafe struct MixingMatrices(bool byColumns, int groups, int rows, int depth)
{
    private readonly nint _doublePitch = Product.OddPitch<double>(byColumns ? rows : depth);
    private readonly nint _singlePitch = Product.OddPitch<float>(byColumns ? rows : depth);
    private readonly nint _lines = byColumns ? depth : Product.PaddedRows(rows);
    private double* _doubles;
    private float* _singles;
    private double* _largest; // by group; NaN where products are double

    public static nint Bytes(bool byColumns, int groups, int rows, int depth)
    {
        var matrices = new MixingMatrices(byColumns, groups, rows, depth);
        return groups * ((matrices._lines * ((matrices._doublePitch * sizeof(double)) + (matrices._singlePitch * sizeof(float)))) + sizeof(double));
    }

    public void Take(NativeScratch scratch)
    {
        _doubles = scratch.Take<double>(groups * _lines * _doublePitch);
        _singles = scratch.Take<float>(groups * _lines * _singlePitch);
        _largest = scratch.Take<double>(groups);
        new Span<double>(_largest, groups).Clear();
        for (int group = 0; group < groups; group++)
        {
            ClearPadding<double>(group);
            ClearPadding<float>(group);
        }
    }

    public readonly void Put(int group, nint row, nint k, double value)
    {
        nint line = (group * _lines) + (byColumns ? k : row);
        nint place = byColumns ? row : k;
        _doubles[(line * _doublePitch) + place] = value;
        _singles[(line * _singlePitch) + place] = (float)value;
        _largest[group] = Math.Max(_largest[group], Math.Abs(value)); // NaN stays
    }

    /// <summary>Once everything is put: which groups may multiply in float.</summary>
    public readonly void ChoosePrecision(Spectrum* spectra)
    {
        for (int group = 0; group < groups; group++)
        {
            _largest[group] = spectra[group].AllowsSingle && ChannelView.FitsSingle(_largest[group]) ? 0 : double.NaN;
        }
    }

    public readonly bool AllowsSingle(int group) => _largest[group] == 0;

    public readonly TTile* Of<TTile>(int group, out nint pitch)
        where TTile : unmanaged
    {
        pitch = typeof(TTile) == typeof(double) ? _doublePitch : _singlePitch;
        return (typeof(TTile) == typeof(double) ? (TTile*)_doubles : (TTile*)_singles) + (group * _lines * pitch);
    }

    private readonly void ClearPadding<TTile>(int group)
        where TTile : unmanaged
    {
        TTile* matrix = Of<TTile>(group, out nint pitch);
        if (byColumns)
        {
            Product.ClearPadding(matrix, depth, rows, pitch, 1, Product.Width<TTile>());
        }
        else
        {
            Product.ClearPadding(matrix, rows, depth, pitch, Product.Rows, 1);
        }
    }
}

/// <summary>A matrix applied to centred columns, or to those of two tensors stacked, tile by tile.</summary>
internal unsafe struct ApplyJob<T> : IPieceJob
    where T : unmanaged
{
    public ChannelView View;
    public T* First;
    public T* Second;
    public T* Result;
    public int Depth;
    public ChannelValues FirstCenter;
    public ChannelValues SecondCenter;
    public ChannelValues Added;
    public MixingMatrices Mixing;
    private int _pieces;
    private nint _sourceSize;
    private nint _resultSize;
    private double* _tiles;
    private Slots _slots;

    /// <summary>Takes the job's working memory; the caller then fills centres and matrices in.</summary>
    public NativeScratch Begin()
    {
        _pieces = Whitening.ApplyPieces(View);
        _sourceSize = Whitening.TileSize(View, Depth);
        _resultSize = Whitening.TileSize(View, View.Group);
        int slots = Slots.CountFor(_pieces);
        nint tiles = slots * (_sourceSize + _resultSize);
        NativeScratch scratch = NativeScratch.Begin(
            (tiles * sizeof(double)) + (3 * ChannelValues.Bytes(View.Channels)) + MixingMatrices.Bytes(View.ByColumns, View.Groups, View.Group, Depth));
        _tiles = scratch.Take<double>(tiles);
        _slots = new Slots(slots);
        Mixing = new MixingMatrices(View.ByColumns, View.Groups, View.Group, Depth);
        Mixing.Take(scratch);
        return scratch;
    }

    public void Share() => WorkTeam.Run(ref this, _pieces, View.Columns * View.Channels);

    public void Run(int piece)
    {
        int slot = _slots.Take();
        double* source = _tiles + (slot * (_sourceSize + _resultSize));
        double* result = source + _sourceSize;
        nint tileColumns = Whitening.TileColumns(View);
        nint tiles = View.Tiles(tileColumns);
        nint last = tiles * (piece + 1) / _pieces;
        for (nint tile = tiles * piece / _pieces; tile < last; tile++)
        {
            nint first = tile * tileColumns;
            nint count = Math.Min(tileColumns, View.Columns - first);
            for (int group = 0; group < View.Groups; group++)
            {
                if (typeof(T) == typeof(float) && Mixing.AllowsSingle(group))
                {
                    Tile(group, first, count, (float*)source, (float*)result);
                }
                else
                {
                    Tile(group, first, count, source, result);
                }
            }
        }

        _slots.Return(slot);
    }

    private readonly void Tile<TTile>(int group, nint first, nint count, TTile* source, TTile* result)
        where TTile : unmanaged
    {
        nint columns = Whitening.TileColumns(View);
        nint pitch = Product.OddPitch<TTile>(View.ByColumns ? Depth : columns);
        nint resultPitch = Product.OddPitch<TTile>(View.ByColumns ? View.Group : columns);
        View.Pack(First, FirstCenter, group, first, count, source, pitch);
        if (Second != null)
        {
            View.Pack(Second, SecondCenter, group, first, count, source + (View.Group * (View.ByColumns ? 1 : pitch)), pitch);
        }

        TTile* matrix = Mixing.Of<TTile>(group, out nint matrixPitch);
        if (View.ByColumns)
        {
            Product.ClearPadding(source, count, Depth, pitch, Product.Rows, 1);
            Product.Set(result, resultPitch, count, View.Group, Depth, new LeftOperand<TTile>(source, pitch, 1), matrix, matrixPitch);
        }
        else
        {
            Product.ClearPadding(source, Depth, count, pitch, 1, Product.Width<TTile>());
            Product.Set(result, resultPitch, View.Group, count, Depth, new LeftOperand<TTile>(matrix, matrixPitch, 1), source, pitch);
        }

        View.Unpack(result, resultPitch, group, first, count, Result, Added);
    }
}
