namespace Normalization.Core.Kernels;

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
