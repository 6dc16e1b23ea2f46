using Normalization.Core;
using Normalization.Core.Kernels;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies;

/// <summary>What each strategy must read twice of 25 MB beside a second-level cache of 1 MB: the table of docs/performance.md.</summary>
[TestClass]
public sealed class TensorsReadTwiceTests
{
    private static readonly ActivationShape Shape = new(32, 64, 56, 56);

    [TestMethod]
    [DataRow("none", "0 0 0", "0 0 0")]
    [DataRow("batch-norm", "0 0 0", "1 2 0")]
    [DataRow("sync-batch-norm", "0 0 0", "1 2 0")]
    [DataRow("ada-batch-norm", "0 0 0", "1 2 0")]
    [DataRow("batch-renorm", "0 0 0", "1 2 0")]
    [DataRow("ghost-batch-norm", "0 0 0", "1 2 0")]
    [DataRow("layer-norm", "1 2 1", "1 2 1")]
    [DataRow("rms-norm", "1 2 1", "1 2 1")]
    [DataRow("instance-norm", "0 0 0", "0 0 0")]
    [DataRow("group-norm", "0 0 0", "0 0 0")]
    [DataRow("filter-response-norm", "0 0 0", "0 0 0")]
    [DataRow("switchable-norm", "1 2 0", "1 2 0")]
    [DataRow("evonorm-b0", "0 0 0", "1 2 0")]
    [DataRow("evonorm-s0", "0 0 0", "0 0 0")]
    [DataRow("local-response-norm", "0 0 0", "0 0 0")]
    public void TensorsReadTwice_ForwardBackwardInference_AreThoseThatNoCacheKeeps(string id, string channelsFirst, string channelsLast)
    {
        Normalizer<float> normalizer = Runs.CreateBase<float>(id, Shape, new StrategySettings { Groups = 32, GhostSize = 8 });
        Assert.AreEqual(channelsFirst, Reads(MemoryOrder.ChannelsFirst));
        Assert.AreEqual(channelsLast, Reads(MemoryOrder.ChannelsLast));

        string Reads(MemoryOrder order)
        {
            normalizer.Training = true;
            int forward = normalizer.TensorsReadTwice(Shape, order, backward: false, 1 << 20);
            int backward = normalizer.TensorsReadTwice(Shape, order, backward: true, 1 << 20);
            normalizer.Training = false;
            return $"{forward} {backward} {normalizer.TensorsReadTwice(Shape, order, backward: false, 1 << 20)}";
        }
    }

    [TestMethod]
    public void TensorsReadTwice_GhostsOfWhichTheLastFits_CountNone()
    {
        // 31 samples in ghosts of 8: the last has 7, and its line of channels fits.
        Normalizer<float> normalizer = Runs.CreateBase<float>(
            "ghost-batch-norm", Shape, new StrategySettings { GhostSize = 8, GhostRemainder = GhostRemainder.SmallerLast });
        nint cache = 8 * 56 * 56 * 64;
        Assert.AreEqual(1, normalizer.TensorsReadTwice(Shape, MemoryOrder.ChannelsLast, backward: false, cache));
        Assert.AreEqual(0, normalizer.TensorsReadTwice(Shape.WithSamples(31), MemoryOrder.ChannelsLast, backward: false, cache));
    }
}
