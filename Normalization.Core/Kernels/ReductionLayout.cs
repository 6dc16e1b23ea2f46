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
    private const int ChunkElements = 8192;
    private const int ChunkRows = 64;

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

    public int Panels => Outer * Inner;

    public nint PanelElements => Blocks * BlockLength;

    public nint Elements => Panels * PanelElements;

    /// <summary>Elements in a reduction set, m.</summary>
    public nint SetSize => PanelElements / Columns * ColumnsPerSet;

    /// <summary>Statistics slots: one for each panel and column; the columns of a set hold equal values.</summary>
    public nint Slots => (nint)Panels * Columns;

    /// <summary>Runs in a block; 0 when weights go by element.</summary>
    public int Runs => RunLength == 0 ? 0 : checked((int)(BlockLength / RunLength));

    /// <summary>Blocks taken together as one chunk, when a block is short.</summary>
    public int BlocksPerChunk => (int)Math.Max(1, ChunkTarget / BlockLength);

    /// <summary>Elements in a part of a block, when a block is long: whole rows.</summary>
    public nint PartLength => BlockLength <= ChunkTarget ? BlockLength : ChunkTarget;

    /// <summary>Parts of a block.</summary>
    public int PartsPerBlock => (int)((BlockLength + PartLength - 1) / PartLength);

    /// <summary>The fixed pieces a panel's sums are taken in and combined in order: they depend on the panel alone.</summary>
    public int Chunks => PartsPerBlock > 1 ? Blocks * PartsPerBlock : (Blocks + BlocksPerChunk - 1) / BlocksPerChunk;

    private nint ChunkTarget => Columns == 1 ? ChunkElements : (nint)Columns * Math.Max(ChunkRows, ChunkElements / Columns);

    public nint PanelOffset(int panel) => Offset + (panel / Inner * OuterStride) + (panel % Inner * InnerStride);

    public nint AffineOffset(int panel) => panel % Inner * AffinePerInner;

    /// <summary>The blocks of a chunk, and which part of each.</summary>
    public Chunk GetChunk(int index)
    {
        if (PartsPerBlock > 1)
        {
            nint start = index % PartsPerBlock * PartLength;
            return new Chunk(index / PartsPerBlock, 1, start, Math.Min(PartLength, BlockLength - start));
        }

        int first = index * BlocksPerChunk;
        return new Chunk(first, Math.Min(BlocksPerChunk, Blocks - first), 0, BlockLength);
    }
}

/// <summary>Blocks [FirstBlock, FirstBlock + BlockCount) of a panel, elements [Start, Start + Length) of each.</summary>
internal readonly record struct Chunk(int FirstBlock, int BlockCount, nint Start, nint Length)
{
    public nint Elements => BlockCount * Length;
}
