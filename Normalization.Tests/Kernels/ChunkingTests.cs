using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>How panels are cut: each element lies in one chunk, and chunks that are taken as one are the same elements.</summary>
[TestClass]
public sealed class ChunkingTests
{
    private static readonly ActivationShape[] Shapes =
    [
        new(3, 5, 7), new(300, 70), new(3, 41, 500), new(2, 3, 20000), new(5, 3, 9001), new(40, 6, 300), new(700, 300), new(2, 700, 40),
    ];

    [TestMethod]
    public void Stretch_AnyRangeOfItems_IsTheirChunksAndNoOthers()
    {
        int joined = 0;
        foreach (ReductionLayout layout in All())
        {
            var chunks = new Chunking(layout);
            int items = layout.Panels * chunks.Count;
            foreach (int task in new[] { 1, 2, 3, 7, items })
            {
                for (int begin = 0; begin < items; begin += task)
                {
                    int end = Math.Min(items, begin + task);
                    for (int item = begin, taken; item < end; item += taken)
                    {
                        (int panel, Chunk stretch, taken) = chunks.Stretch(item, end, layout);
                        Assert.IsTrue(taken >= 1 && item + taken <= end, $"{layout}");
                        (int Panel, int Chunk)[] places = [.. Enumerable.Range(item, taken).Select(each => chunks.Place(each, layout))];
                        Assert.IsTrue(places.All(place => place.Panel == panel), $"{layout}");
                        CollectionAssert.AreEqual(places.SelectMany(place => Elements(layout, chunks[place.Chunk])).ToArray(), Elements(layout, stretch).ToArray(), $"{layout}");
                        joined += taken > 1 ? 1 : 0;
                    }
                }
            }
        }

        Assert.IsGreaterThan(100, joined);
    }

    [TestMethod]
    public void Join_AllThatGoTogether_IsEachElementOfThePanelOnce()
    {
        foreach (ReductionLayout layout in All())
        {
            var chunks = new Chunking(layout);
            var all = new List<nint>();
            for (int first = 0; first < chunks.Count; first += chunks.Together)
            {
                all.AddRange(Elements(layout, chunks.Join(first, chunks.Together)));
            }

            nint[] expected = [.. Enumerable.Range(0, layout.Blocks).SelectMany(block => Run(block * layout.BlockStride, layout.BlockLength))];
            CollectionAssert.AreEquivalent(expected, all, $"{layout}");
        }
    }

    private static IEnumerable<ReductionLayout> All() =>
        from shape in Shapes
        from order in new[] { MemoryOrder.ChannelsFirst, MemoryOrder.ChannelsLast }
        from layout in new[]
        {
            Layouts.PerChannel(shape, order), Layouts.PerSampleAndChannel(shape, order), Layouts.PerSampleAndGroup(shape, order, 1),
            Layouts.PerChannelOf(shape, order, 1, 1, 0, (int)shape.Samples - 1, 1), Layouts.PerChannelOf(shape, order, 0, 2, 1, (int)shape.Samples / 2, 2),
        }
        select layout;

    // Places within the panel, in the order in which a pass goes.
    private static IEnumerable<nint> Elements(ReductionLayout layout, Chunk chunk) =>
        Enumerable.Range(chunk.FirstBlock, chunk.BlockCount).SelectMany(block => Run((block * layout.BlockStride) + chunk.Start, chunk.Length));

    private static IEnumerable<nint> Run(nint start, nint length) => Enumerable.Range(0, (int)length).Select(i => start + i);
}
