namespace Normalization.Core.Kernels;

/// <summary>A layout cut into ranges of outer panels, each small enough that several passes over it find it in cache.</summary>
/// <remarks>
/// Ranges go to threads whole, and the kernels that work on one run on its thread. Where there are too few of them to share, or one does not fit
/// a cache, there is one range, and each pass is shared by itself. The numbers that come out are the same either way.
/// </remarks>
internal readonly struct Slabs
{
    private const nint CachedElements = 1 << 17;
    private const nint SlabElements = 1 << 14;
    private const int FewestToShare = 4;
    private readonly int _panels;
    private readonly int _perSlab;
    private readonly nint _panelStride;

    /// <param name="layout">What is cut.</param>
    /// <param name="whole">Whether it has to stay in one piece.</param>
    /// <param name="cachedElements">The most of an outer panel that stays in cache.</param>
    public Slabs(in ReductionLayout layout, bool whole = false, nint cachedElements = CachedElements)
    {
        nint elements = layout.Elements / layout.Outer;
        _panels = layout.Outer;
        _panelStride = layout.OuterStride;
        _perSlab = (int)Math.Clamp(SlabElements / elements, 1, _panels);
        if (whole || elements > cachedElements || _panels / _perSlab < FewestToShare)
        {
            _perSlab = _panels;
        }

        Elements = layout.Elements;
        Count = (_panels + _perSlab - 1) / _perSlab;
    }

    /// <summary>How many ranges.</summary>
    public int Count { get; }

    /// <summary>Elements of the whole layout.</summary>
    public nint Elements { get; }

    /// <summary>Outer panels [Start, End) of a range.</summary>
    public (int Start, int End) this[int index] => (index * _perSlab, Math.Min(_panels, (index + 1) * _perSlab));

    /// <summary>
    /// How far ahead a range's last pass fetches, in elements: what its thread's next range will read, of as many tensors; where that finds no room beside
    /// the range in the second-level cache, or there is none, its own stream.
    /// </summary>
    public unsafe nint Ahead<T>(int tensors)
        where T : unmanaged =>
        Count > 1 && tensors * (Elements / _panels * _perSlab) * sizeof(T) <= Fetching.PanelBytes
            ? _perSlab * _panelStride : Fetching.Stream;

    /// <summary>Runs a job whose pieces are the ranges.</summary>
    public void Run<TJob>(ref TJob job)
        where TJob : unmanaged, IPieceJob
    {
        if (Count == 1)
        {
            job.Run(0);
        }
        else
        {
            WorkTeam.Run(ref job, Count, Elements);
        }
    }

    /// <summary>A range as a layout of its own, whose slots begin at 0 again.</summary>
    public static ReductionLayout Cut(in ReductionLayout layout, int start, int end) =>
        layout with { Offset = layout.Offset + (start * layout.OuterStride), Outer = end - start };
}
