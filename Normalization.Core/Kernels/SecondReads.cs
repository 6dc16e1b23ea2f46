namespace Normalization.Core.Kernels;

/// <summary>What a pass over a layout must read from memory a second time, however it goes about it.</summary>
/// <remarks>
/// <para>A reduction set is read for its sums and again for what is written from them. It is taken to wait in the core's second-level cache
/// meanwhile where that is larger than the whole cache lines that hold the set; of a larger set nothing is taken to be left. How the kernels
/// cut their work plays no part: channels-last memory can be worked on one line of channels at a time, whatever they do.</para>
/// <para>Weights that go by element, and a backward pass's sums of their gradients, have to wait beside the set until the next one needs
/// them. Where they cannot, a second sweep over all sets, some columns at a time, reads each weight once; so that costs a second read too,
/// never more.</para>
/// </remarks>
internal static class SecondReads
{
    /// <summary>How many tensors are read a second time: those that the pass reads, or 0.</summary>
    /// <param name="layout">The sets.</param>
    /// <param name="tensors">Tensors that the sums are of: 1 forward (x), 2 backward (x and dy).</param>
    /// <param name="weightArrays">Arrays of one value a weight that every set needs.</param>
    /// <param name="elementBytes">Bytes of an element.</param>
    /// <param name="cacheBytes">Bytes of a core's second-level cache.</param>
    public static int Of(in ReductionLayout layout, int tensors, int weightArrays, int elementBytes, nint cacheBytes)
    {
        nint line = Simd.LineBytes / elementBytes;
        nint pitch = layout.Columns;
        nint set = pitch == 1
            ? layout.Blocks * Lines(layout.BlockLength)
            : layout.PanelElements / pitch * Math.Min(Lines(layout.ColumnsPerSet), pitch);

        // Columns have so few that they do not count.
        nint weights = pitch == 1 && layout.Outer > 1 ? layout.ElementWeights / layout.Inner : 0;
        return ((tensors * set) + (weightArrays * weights)) * elementBytes < cacheBytes ? 0 : tensors;

        nint Lines(nint elements) => (elements + line - 1) / line * line;
    }
}
