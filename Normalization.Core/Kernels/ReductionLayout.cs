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

    /// <summary>
    /// Of panels from one on, up to an end, those of the same outer number: where their outer panel begins, the slot of the first and how many they are. For
    /// layouts whose outer panels share statistics.
    /// </summary>
    public (nint Offset, nint Slot, int Count) InnerPanels(int panel, int end)
    {
        (int outer, int inner) = Math.DivRem(panel, Inner);
        return (Offset + (outer * OuterStride), ((nint)(outer / SharingOuters) * Inner) + inner, Math.Min(Inner - inner, end - panel));
    }

    /// <summary>How many weights the layout speaks of.</summary>
    public nint Weights => RunLength == 0 ? ElementWeights : ((Inner - 1) * AffinePerInner) + Runs;

    /// <summary>How many weights the layout speaks of, where they go by element; 0 where they go by run.</summary>
    public nint ElementWeights => RunLength != 0 ? 0 : ((Inner - 1) * AffinePerInner) + (Columns > 1 ? Columns : BlockLength);
}

/// <summary>First element of a panel, its first weight, its first statistics slot.</summary>
internal readonly record struct PanelPlace(nint Offset, nint Affine, nint Slot);
