using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>Sets of float beside the cache that just holds them and the one that does not.</summary>
[TestClass]
public sealed class SecondReadsTests
{
    [TestMethod]
    public void Of_RowsOfAChannel_AreHeldToTheirOwnSize()
    {
        ReductionLayout layout = Layouts.PerChannel(new ActivationShape(32, 64, 56, 56), MemoryOrder.ChannelsFirst);
        AssertNeeds(32 * 56 * 56 * 4, layout);
    }

    [TestMethod]
    public void Of_ShortRuns_TakeWholeLines()
    {
        ReductionLayout layout = Layouts.PerChannel(new ActivationShape(32, 64, 3), MemoryOrder.ChannelsFirst);
        AssertNeeds(32 * 64, layout);
    }

    [TestMethod]
    [DataRow(64, 64)]
    [DataRow(8, 32)]
    public void Of_ColumnsOfChannels_TakeALineOfEachRowOrTheRow(int channels, int rowBytes)
    {
        ReductionLayout layout = Layouts.PerChannel(new ActivationShape(32, channels, 7, 7), MemoryOrder.ChannelsLast);
        AssertNeeds(32 * 49 * rowBytes, layout);
    }

    [TestMethod]
    [DataRow(4, 64)]
    [DataRow(2, 128)]
    public void Of_GroupsOfColumns_TakeTheLinesOfTheGroup(int groups, int rowBytes)
    {
        ReductionLayout layout = Layouts.PerSampleAndGroup(new ActivationShape(8, 64, 7, 7), MemoryOrder.ChannelsLast, groups);
        AssertNeeds(49 * rowBytes, layout);
    }

    [TestMethod]
    [DataRow(2, 2)]
    [DataRow(1, 0)] // nobody else wants the weights of the only sample
    public void Of_WeightsByElement_WaitBesideTheSet(int samples, int arrays)
    {
        ReductionLayout layout = Layouts.Trailing(new ActivationShape(samples, 640), MemoryOrder.ChannelsFirst, 1);
        int bytes = (1 + arrays) * 640 * 4;
        Assert.AreEqual(1, SecondReads.Of(layout, 1, weightArrays: 2, sizeof(float), bytes));
        Assert.AreEqual(0, SecondReads.Of(layout, 1, weightArrays: 2, sizeof(float), bytes + 1));
    }

    // Bytes of the set; a cache of as many has no room left.
    private static void AssertNeeds(int bytes, ReductionLayout layout)
    {
        Assert.AreEqual(1, SecondReads.Of(layout, 1, weightArrays: 2, sizeof(float), bytes));
        Assert.AreEqual(0, SecondReads.Of(layout, 1, weightArrays: 2, sizeof(float), bytes + 1));
        Assert.AreEqual(2, SecondReads.Of(layout, 2, weightArrays: 3, sizeof(float), 2 * bytes));
        Assert.AreEqual(0, SecondReads.Of(layout, 2, weightArrays: 3, sizeof(float), (2 * bytes) + 1));
    }
}
