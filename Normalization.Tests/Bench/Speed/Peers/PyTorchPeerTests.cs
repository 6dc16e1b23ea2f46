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
    public void Prepare_EveryCell_AgreesWithOurs(string strategy, int least)
    {
        if (IsInstalled(out IPeer peer))
        {
            Assert.IsGreaterThanOrEqualTo(least, PeerCheck.Check(peer, PeerCheck.Cells(strategy), 1));
        }
    }

    [TestMethod]
    public void Prepare_TwoThreads_AgreesWithOurs()
    {
        if (IsInstalled(out IPeer peer))
        {
            Assert.AreEqual(1, PeerCheck.Check(peer, [new SpeedCell("layer-norm", new ActivationShape(8, 16, 5, 5), false, Direction.Backward)], 2));
        }
    }

    [TestMethod]
    public void Prepare_Whitening_AgreesWithOurs()
    {
        if (IsInstalled(out IPeer peer))
        {
            SpeedCell[] cells = [.. from direction in new[] { Direction.Forward, Direction.Backward } select new SpeedCell("zca-whitening", new ActivationShape(8, 16, 7, 9), false, direction)];
            if (peer.Lacks(cells[0]) is { } reason)
            {
                TestContext.WriteLine($"Not tested: {reason}.");
                Assert.Contains("BLAS", reason);
            }
            else
            {
                Assert.AreEqual(2, PeerCheck.Check(peer, cells, 1));
            }
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
            // torch.set_num_threads refuses 0.
            var data = new CellData(new SpeedCell("batch-norm", new ActivationShape(16, 4), false, Direction.Forward), new RandomStream(1));
            var error = Assert.ThrowsExactly<InvalidOperationException>(() => peer.Prepare(data, 0));
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
