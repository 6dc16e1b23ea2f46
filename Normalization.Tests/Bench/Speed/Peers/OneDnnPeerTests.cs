using Normalization.Bench.Speed;
using Normalization.Core;
using PeerList = Normalization.Bench.Speed.Peers;

namespace Normalization.Tests.Bench.Speed.Peers;

/// <summary>oneDNN, where it is installed, computes what our strategies compute.</summary>
[TestClass]
public sealed class OneDnnPeerTests
{
    public required TestContext TestContext { get; init; }

    [TestMethod]
    [DataRow("batch-norm", 12)]
    [DataRow("layer-norm", 12)]
    [DataRow("ghost-batch-norm", 4)]
    public void Prepare_EveryCellItHas_AgreesWithOurs(string strategy, int least)
    {
        using IPeer? peer = PeerList.Find("onednn", null, out string? missing);
        if (peer is null)
        {
            TestContext.WriteLine($"Not tested: {missing}.");
            Assert.Contains("libdnnl2", missing!);
            return;
        }

        Assert.IsGreaterThanOrEqualTo(least, PeerCheck.Check(peer, PeerCheck.Cells(strategy), 1));

        // Two threads once: where the machine is busy they wait long for each other.
        Assert.AreEqual(1, PeerCheck.Check(peer, PeerCheck.Cells(strategy).Where(cell => peer.Lacks(cell) is null).TakeLast(1), 2));
    }

    [TestMethod]
    public void Lacks_WhatVersion2DoesNotHave_SaysSo()
    {
        using IPeer? peer = PeerList.Find("onednn", null, out string? missing);
        if (peer is null)
        {
            TestContext.WriteLine($"Not tested: {missing}.");
            return;
        }

        Assert.StartsWith("oneDNN 2.", peer.Version);
        var shape = new ActivationShape(8, 64, 2, 2);
        Assert.Contains("no group normalization", peer.Lacks(new SpeedCell("group-norm", shape, false, Direction.Forward))!);
        Assert.Contains("no ghost batch normalization", peer.Lacks(new SpeedCell("ghost-batch-norm", shape, false, Direction.Backward))!);
        Assert.Contains("one axis", peer.Lacks(new SpeedCell("layer-norm", shape, true, Direction.Backward))!);
        Assert.ThrowsExactly<NotSupportedException>(
            () => peer.Prepare(new CellData(new SpeedCell("group-norm", shape, false, Direction.Forward), new Core.Comparison.RandomStream(1)), 1));
    }
}
