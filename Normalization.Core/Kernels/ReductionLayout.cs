using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

/// <summary>Which elements of a dense tensor share statistics, and which share a weight: the whole of a per-element strategy.</summary>
/// <remarks>
/// <para>Memory is a list of panels. A panel is <see cref="Blocks"/> contiguous blocks, <see cref="BlockStride"/> apart, and each
/// block is a matrix of <see cref="Columns"/> columns. With one column a panel is one reduction set (rows reduce along memory);
/// with more, every <see cref="ColumnsPerSet"/> neighbouring columns are one set (columns reduce across memory).</para>
/// <para>Weight and bias either change from run to run (<see cref="RunLength"/> elements of a block share one) or from element to
/// element with the period of the columns or, with one column, of the block.</para>
/// </remarks>
internal readonly record struct ReductionLayout
{
    /// <summary>First element of the first panel.</summary>
    public nint Offset { get; init; }

    /// <summary>Panels are numbered outer * Inner + inner.</summary>
    public int Outer { get; init; }

    /// <summary>Panels that follow each other fastest.</summary>
    public int Inner { get; init; }

    /// <summary>Elements from one outer panel to the next.</summary>
    public nint OuterStride { get; init; }

    /// <summary>Elements from one inner panel to the next.</summary>
    public nint InnerStride { get; init; }

    /// <summary>Contiguous blocks in a panel.</summary>
    public int Blocks { get; init; }

    /// <summary>Elements from one block of a panel to the next.</summary>
    public nint BlockStride { get; init; }

    /// <summary>Elements in a block: a multiple of Columns.</summary>
    public nint BlockLength { get; init; }

    /// <summary>1, or the number of adjacent columns that are reduced separately.</summary>
    public int Columns { get; init; }

    /// <summary>Neighbouring columns that are pooled into one reduction set.</summary>
    public int ColumnsPerSet { get; init; }

    /// <summary>Elements of a block that share a weight; 0 when each element (of the period) has its own.</summary>
    public nint RunLength { get; init; }

    /// <summary>How far the weight index moves from one inner panel to the next.</summary>
    public nint AffinePerInner { get; init; }

    /// <summary>How many outer panels, one after another, share statistics, which are then given, with those of the same inner number; 0 where none do.</summary>
    public int SharingOuters { get; init; }

    /// <summary>Whether the mean is taken as 0: what is divided by is the root of the mean square, and no gradient flows through a mean.</summary>
    public bool Uncentered { get; init; }

    public int Panels => Outer * Inner;

    /// <summary>Whether the panels' blocks follow each other in memory, in turns, each a run with one weight: the channels of one sample after another.</summary>
    public bool TakesTurns =>
        Columns == 1 && Blocks > 1 && RunLength == BlockLength && InnerStride == BlockLength && BlockStride == Inner * BlockLength
        && (Outer == 1 || OuterStride == Blocks * BlockStride);

    /// <summary>The same elements in the order of memory, for <see cref="TakesTurns"/>: each block is a panel with its set's statistics, so that there are fewer slots than <see cref="Slots"/> says.</summary>
    public ReductionLayout InMemoryOrder() => this with { Outer = Outer * Blocks, OuterStride = BlockStride, Blocks = 1, SharingOuters = Blocks };

    public nint PanelElements => Blocks * BlockLength;

    public nint Elements => Panels * PanelElements;

    /// <summary>Elements in a reduction set, m.</summary>
    public nint SetSize => Columns == 1 ? PanelElements : PanelElements / Columns * ColumnsPerSet;

    /// <summary>Statistics slots: one for each panel and column; the columns of a set hold equal values.</summary>
    public nint Slots => (nint)Panels * Columns;

    /// <summary>Whether all elements of a set have the same weight.</summary>
    public bool OneWeightPerSet => Columns == 1 ? RunLength == BlockLength : RunLength == 0 && ColumnsPerSet == 1;

    /// <summary>Runs in a block; 0 when weights go by element.</summary>
    public int Runs => RunLength == 0 ? 0 : RunLength == BlockLength ? 1 : checked((int)(BlockLength / RunLength));

    /// <summary>Where a panel, its weights and its statistics begin.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public PanelPlace Place(int panel)
    {
        // A division is as long as a short run's sum.
        (int outer, int inner) = Inner == 1 ? (panel, 0) : Math.DivRem(panel, Inner);
        return new PanelPlace(
            Offset + (outer * OuterStride) + (inner * InnerStride),
            inner * AffinePerInner,
            SharingOuters == 0 ? (nint)panel * Columns : SharingOuters >= Outer ? inner : ((nint)(outer / SharingOuters) * Inner) + inner);
    }

    /// <summary>How many weights the layout speaks of.</summary>
    public nint Weights => RunLength == 0 ? ElementWeights : ((Inner - 1) * AffinePerInner) + Runs;

    /// <summary>How many weights the layout speaks of, where they go by element; 0 where they go by run.</summary>
    public nint ElementWeights => RunLength != 0 ? 0 : ((Inner - 1) * AffinePerInner) + (Columns > 1 ? Columns : BlockLength);
}

/// <summary>First element of a panel, its first weight, its first statistics slot.</summary>
internal readonly record struct PanelPlace(nint Offset, nint Affine, nint Slot);

/// <summary>The fixed pieces a panel's sums are taken in and combined in order: they depend on the panel alone.</summary>
internal readonly struct Chunking
{
    public const nint ChunkElements = 8192;

    // Of columns a chunk begins with its coefficients and ends with its sums: it is longer where a panel is still cut into a few for threads to share.
    private const nint ColumnChunkElements = 1 << 16;
    private const nint ColumnChunkRows = 64;
    private const int ColumnChunks = 4;
    private const int ManyRuns = 512;
    private const int FewChunks = 8;
    private readonly int _blocks;
    private readonly nint _blockLength;
    private readonly int _blocksPerChunk; // short blocks are taken several together
    private readonly nint _partLength; // long blocks in parts of whole rows
    private readonly int _partsPerBlock;

    public Chunking(in ReductionLayout layout)
    {
        nint target = layout.Columns == 1 ? ChunkElements
            : layout.Columns * Math.Max(
                Math.Clamp(layout.PanelElements / layout.Columns / ColumnChunks, ColumnChunkRows, 2 * ColumnChunkRows),
                Math.Clamp(layout.PanelElements / ColumnChunks, ChunkElements, ColumnChunkElements) / layout.Columns);
        if (layout.Runs > ManyRuns)
        {
            // A chunk keeps two sums for every run of the block, so chunks must stay few.
            target = Math.Max(target, (layout.BlockLength / FewChunks) + layout.Columns - 1) / layout.Columns * layout.Columns;
        }

        _blocks = layout.Blocks;
        _blockLength = layout.BlockLength;
        _blocksPerChunk = (int)Math.Max(1, target / _blockLength);
        _partLength = Math.Min(target, _blockLength);
        _partsPerBlock = (int)((_blockLength + _partLength - 1) / _partLength);
        Count = _partsPerBlock > 1 ? _blocks * _partsPerBlock : (_blocks + _blocksPerChunk - 1) / _blocksPerChunk;
    }

    /// <summary>Chunks in a panel.</summary>
    public int Count { get; }

    /// <summary>The panel and the chunk of a numbered item: all inner panels' first blocks, then their second ones, where that is memory's order.</summary>
    public (int Panel, int Chunk) Place(int item, in ReductionLayout layout)
    {
        if (ByBlocks(layout))
        {
            (int whole, int part) = Math.DivRem(item, _partsPerBlock);
            (int outer, int rest) = Math.DivRem(whole, Count / _partsPerBlock * layout.Inner);
            (int chunk, int inner) = Math.DivRem(rest, layout.Inner);
            return ((outer * layout.Inner) + inner, (chunk * _partsPerBlock) + part);
        }

        (int panel, int next) = Math.DivRem(item, Count);
        return (panel, next);
    }

    /// <summary>How many chunks of a panel, from its first on, follow each other so that they can be taken as one: the parts of a block, else all.</summary>
    public int Together => _partsPerBlock > 1 ? _partsPerBlock : Count;

    /// <summary>
    /// The panel of an item, its chunk with those of the items up to an end that can be taken with it as one, and how many these are: for what is
    /// the same wherever chunks end.
    /// </summary>
    public (int Panel, Chunk Chunk, int Items) Stretch(int item, int end, in ReductionLayout layout)
    {
        (int panel, int index) = Place(item, layout);
        int together = _partsPerBlock == 1 && ByBlocks(layout) ? 1 : Together - (index % Together);
        int items = Math.Min(end - item, together);
        return (panel, Join(index, items), items);
    }

    /// <summary>Chunks that can be taken <see cref="Together"/>, as one.</summary>
    public Chunk Join(int first, int count)
    {
        Chunk begin = this[first];
        if (count == 1)
        {
            return begin;
        }

        Chunk end = this[first + count - 1];
        return new Chunk(begin.FirstBlock, end.FirstBlock + end.BlockCount - begin.FirstBlock, begin.Start, end.Start + end.Length - begin.Start);
    }

    /// <summary>The blocks of a chunk, and which part of each.</summary>
    public Chunk this[int index]
    {
        get
        {
            if (Count == 1)
            {
                return new Chunk(0, _blocks, 0, _blockLength);
            }

            if (_partsPerBlock > 1)
            {
                nint start = index % _partsPerBlock * _partLength;
                return new Chunk(index / _partsPerBlock, 1, start, Math.Min(_partLength, _blockLength - start));
            }

            int first = index * _blocksPerChunk;
            return new Chunk(first, Math.Min(_blocksPerChunk, _blocks - first), 0, _blockLength);
        }
    }

    // Whether other panels' blocks lie between a panel's own.
    private static bool ByBlocks(in ReductionLayout layout) => layout.Columns == 1 && layout.Blocks > 1;
}

/// <summary>Blocks [FirstBlock, FirstBlock + BlockCount) of a panel, elements [Start, Start + Length) of each.</summary>
internal readonly record struct Chunk(int FirstBlock, int BlockCount, nint Start, nint Length)
{
    public nint Elements => BlockCount * Length;
}
