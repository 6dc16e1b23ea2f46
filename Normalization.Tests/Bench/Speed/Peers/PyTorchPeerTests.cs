using Normalization.Bench.Speed;
using Normalization.Core;
using Normalization.Core.Comparison;
using PeerList = Normalization.Bench.Speed.Peers;

namespace Normalization.Tests.Bench.Speed.Peers;

/// <summary>PyTorch, where it is installed, computes what our strategies compute.</summary>
[TestClass]
public sealed class PyTorchPeerTests
{
    // One worker for the class: importing torch takes seconds.
    private static IPeer? _peer;
    private static string? _missing;

    public required TestContext TestContext { get; init; }

    [ClassInitialize]
    public static void Start(TestContext context) => _peer = PeerList.Find("pytorch", null, out _missing);

    [ClassCleanup]
    public static void Stop() => _peer?.Dispose();

    [TestMethod]
    [DataRow("batch-norm", 20)]
    [DataRow("layer-norm", 20)]
    [DataRow("instance-norm", 20)]
    [DataRow("group-norm", 20)]
    [DataRow("ghost-batch-norm", 20)]
    [DataRow("zca-whitening", 4)]
    public void Prepare_EveryCell_AgreesWithOurs(string strategy, int least)
    {
        if (IsInstalled(out IPeer peer))
        {
            Assert.IsGreaterThanOrEqualTo(least, PeerCheck.Check(peer, PeerCheck.Cells(strategy), 1, 2));
        }
    }

    [TestMethod]
    public void Find_InterpreterWithoutTorch_TriesTheNext()
    {
        if (IsInstalled(out IPeer peer))
        {
            using IPeer? second = PeerList.Find("pytorch", "/nowhere/python", out string? missing);
            Assert.IsNotNull(second, missing);
            Assert.AreEqual(peer.Version, second.Version);
            Assert.StartsWith("PyTorch ", peer.Version);
        }
    }

    [TestMethod]
    public void Prepare_WhatPyTorchRefuses_CarriesItsTraceback()
    {
        if (IsInstalled(out IPeer peer))
        {
            // One value per channel: PyTorch refuses to take its statistics.
            var data = new CellData(new SpeedCell("batch-norm", new ActivationShape(1, 4), false, Direction.Forward), new RandomStream(1));
            var error = Assert.ThrowsExactly<InvalidOperationException>(() => peer.Prepare(data, 1));
            Assert.Contains("Traceback", error.Message);

            // And the worker serves on.
            Assert.AreEqual(1, PeerCheck.Check(peer, [new SpeedCell("batch-norm", new ActivationShape(16, 4), false, Direction.Forward)], 1));
        }
    }

    private bool IsInstalled(out IPeer peer)
    {
        peer = _peer!;
        if (_peer is null)
        {
            TestContext.WriteLine($"Not tested: {_missing}.");
            Assert.Contains("python3-torch", _missing!);
        }

        return _peer is not null;
    }
}
