using Normalization.Bench.Speed;
using Normalization.Core;
using PeerList = Normalization.Bench.Speed.Peers;

namespace Normalization.Tests.Bench.Speed.Peers;

/// <summary>The composed layers compute what our strategies compute.</summary>
[TestClass]
public sealed class TensorPrimitivesPeerTests
{
    [TestMethod]
    [DataRow("batch-norm")]
    [DataRow("layer-norm")]
    [DataRow("instance-norm")]
    [DataRow("group-norm")]
    [DataRow("ghost-batch-norm")]
    public void Prepare_EveryCell_AgreesWithOurs(string strategy)
    {
        using IPeer peer = PeerList.Find("tensorprimitives", null, out _)!;
        Assert.IsGreaterThan(11, PeerCheck.Check(peer, PeerCheck.Cells(strategy), 1, 2, 3));
    }

    [TestMethod]
    public void Lacks_ShapeTheStrategyRefuses_SaysWhy()
    {
        using IPeer peer = PeerList.Find("tensorprimitives", null, out _)!;
        Assert.Contains("position", peer.Lacks(new SpeedCell("instance-norm", new ActivationShape(8, 64), false, Direction.Forward))!);
        Assert.Contains("32 groups", peer.Lacks(new SpeedCell("group-norm", new ActivationShape(8, 48), false, Direction.Forward))!);
        Assert.Contains("ghosts of 8", peer.Lacks(new SpeedCell("ghost-batch-norm", new ActivationShape(12, 48), false, Direction.Forward))!);
        Assert.Contains("eigen", peer.Lacks(new SpeedCell("zca-whitening", new ActivationShape(8, 4, 2, 2), false, Direction.Forward))!);
    }

    [TestMethod]
    public void Version_Names_TheLibrary()
    {
        using IPeer peer = PeerList.Find("tensorprimitives", null, out string? missing)!;
        Assert.IsNull(missing);
        Assert.StartsWith("System.Numerics.Tensors 1", peer.Version);
    }
}
