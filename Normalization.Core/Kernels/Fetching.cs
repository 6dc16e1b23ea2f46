namespace Normalization.Core.Kernels;

/// <summary>How far from what it reads a pass over a layout fetches, in elements; 0 is not at all. Hints: no bit hangs on them.</summary>
/// <remarks>
/// A panel that stays in the second-level cache between its sums and its result leaves room for the next one, or does not: then to fetch that
/// would push out what is read once more. All limits are measured (docs/log/experiments.md).
/// </remarks>
/// <param name="Written">While results are written: the next panel, or the stream further on; in step, of what is summed meanwhile.</param>
/// <param name="Summed">While sums are taken.</param>
internal readonly unsafe record struct Fetching(nint Written, nint Summed)
{
    /// <summary>How far before its use a long stream is fetched.</summary>
    public const nint Stream = 2048;

    // The same of what is summed in a backward pass in step, where a stream ends with its block.
    private const nint NearStream = 512;

    // Rows of the columns that are summed in step.
    private const nint StepRows = 16;

    /// <summary>Bytes of a panel, of all tensors that are read, beside which the next one finds room in the second-level cache.</summary>
    public const nint PanelBytes = 1 << 19;

    /// <summary>Of a backward pass in step: what is summed while another panel is written, which waits in the second-level cache.</summary>
    public static Fetching BackwardInStep(in ReductionLayout layout) => new(layout.Columns > 1 ? StepRows * layout.Columns : layout.Blocks > 1 ? NearStream : Stream, 0);

    /// <summary>Of long rows that wait in the second-level cache and fill it: only what their sums are taken of.</summary>
    public static Fetching SumsAlone => new(0, Stream);

    /// <summary>Of a forward pass.</summary>
    /// <param name="layout">The sets.</param>
    /// <param name="chunking">Its chunks.</param>
    /// <param name="panelByPanel">Whether a panel is finished before the next begins; else all chunks are summed, then all written.</param>
    /// <param name="inStep">Whether a panel is written while another is summed.</param>
    /// <param name="store">How it is written.</param>
    public static Fetching Forward<T>(in ReductionLayout layout, in Chunking chunking, bool panelByPanel, bool inStep, StoreKind store)
        where T : unmanaged
    {
        if (!panelByPanel)
        {
            return Chunks<T>(layout, Stream);
        }

        if (inStep && layout.Columns > 1)
        {
            return new Fetching(StepRows * layout.Columns, 0);
        }

        nint next = Next(layout, Standardizer.ForwardTogether);
        bool fits = layout.PanelElements * sizeof(T) <= PanelBytes;
        nint written = inStep && chunking.Count > 1 ? (layout.Blocks > 1 ? layout.BlockStride : Stream) : fits ? next : Stream;
        return new Fetching(written, fits && store != StoreKind.Cached ? next : 0);
    }

    /// <summary>Of a backward pass panel by panel.</summary>
    /// <param name="layout">The sets.</param>
    /// <param name="store">How dx is written.</param>
    /// <param name="nextRows">From rows that are summed together to the next ones, where weights go by element; else 0.</param>
    public static Fetching Backward<T>(in ReductionLayout layout, StoreKind store, nint nextRows = 0)
        where T : unmanaged
    {
        nint bytes = 2 * layout.PanelElements * sizeof(T);
        nint next = nextRows != 0 ? nextRows : bytes > Standardizer.CachedPanelBytes ? 0 : Next(layout, Standardizer.TogetherBackward(layout));
        return new Fetching(next, bytes <= PanelBytes && store != StoreKind.Cached ? next : 0);
    }

    /// <summary>Of passes that sum all chunks, then write them.</summary>
    public static Fetching Chunks<T>(in ReductionLayout layout, nint written)
        where T : unmanaged => new(written, ChunkSums<T>(layout));

    /// <summary>
    /// While sums of chunks are taken: of scattered blocks of up to two pages, where the hardware begins to fetch anew in each, the same sample's next
    /// ones. Of shorter blocks too much would be fetched before it is needed.
    /// </summary>
    public static nint ChunkSums<T>(in ReductionLayout layout)
        where T : unmanaged =>
        layout.Columns == 1 && layout.Blocks > 1 && layout.BlockLength * sizeof(T) > Standardizer.ShortTurnBytes && layout.BlockLength <= Stream ? Stream : 0;

    // From panels that are summed together to the next ones.
    private static nint Next(in ReductionLayout layout, nint elements) =>
        Standardizer.PanelsTogether(layout, elements) * (layout.Inner > 1 ? layout.InnerStride : layout.OuterStride);
}
