using Normalization.Bench.Speed;
using Normalization.Core;
using Normalization.Core.Comparison;
using PeerList = Normalization.Bench.Speed.Peers;

namespace Normalization.Tests.Bench.Speed.Peers;

/// <summary>PyTorch, where it is installed, computes what our strategies compute.</summary>
[TestClass]
public sealed class PyTorchPeerTests
{
    // One worker for the class, since importing torch takes seconds; the first interpreter tried does not exist.
    private static IPeer? _peer;
    private static string? _missing;

    public required TestContext TestContext { get; init; }

    [ClassInitialize]
    public static void Start(TestContext context) => _peer = PeerList.Find("pytorch", "/nowhere/python", out _missing);

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
    public void Find_InterpreterThatDoesNotExist_TriesTheNext()
    {
        if (IsInstalled(out IPeer peer))
        {
            Assert.AreEqual("pytorch", peer.Id);
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

    [TestMethod]
    public void Prepare_WorkerThatDies_CarriesWhatItSaid()
    {
        if (OperatingSystem.IsWindows())
        {
            TestContext.WriteLine("Not tested: the interpreter of this test is a shell script.");
            return;
        }

        string folder = Directory.CreateTempSubdirectory("peer-").FullName;
        try
        {
            string python = Path.Combine(folder, "python");
            File.WriteAllText(python, "#!/bin/sh\necho '{\"version\": \"0\", \"blas\": null}'\nread request\necho 'out of luck' >&2\nexit 3\n");
            File.SetUnixFileMode(python, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            using IPeer peer = PeerList.Find("pytorch", python, out _)!;
            Assert.AreEqual("PyTorch 0, no optimized BLAS", peer.Version);

            var data = new CellData(new SpeedCell("batch-norm", new ActivationShape(16, 4), false, Direction.Forward), new RandomStream(1));
            var error = Assert.ThrowsExactly<InvalidOperationException>(() => peer.Prepare(data, 1));
            Assert.Contains("exit code 3", error.Message);
            Assert.Contains("out of luck", error.Message);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [TestMethod]
    public void Dispose_CallOfAWorkerThatDied_DoesNotThrow()
    {
        if (OperatingSystem.IsWindows())
        {
            TestContext.WriteLine("Not tested: the interpreter of this test is a shell script.");
            return;
        }

        string folder = Directory.CreateTempSubdirectory("peer-").FullName;
        try
        {
            string python = Path.Combine(folder, "python");
            File.WriteAllText(
                python, "#!/bin/sh\necho '{\"version\": \"0\", \"blas\": null}'\nread request\necho '{\"variants\": [\"fresh output\"]}'\nread request\nexit 3\n");
            File.SetUnixFileMode(python, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            using IPeer peer = PeerList.Find("pytorch", python, out _)!;
            Assert.AreEqual("PyTorch 0, no optimized BLAS", peer.Version);
            var data = new CellData(new SpeedCell("batch-norm", new ActivationShape(16, 4), false, Direction.Forward), new RandomStream(1));
            ITimedCall call = peer.Prepare(data, 1).Single();
            Assert.ThrowsExactly<InvalidOperationException>(() => call.Seconds(1));

            call.Dispose();
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [TestMethod]
    public void Find_UnknownPeer_NamesTheKnown()
    {
        var error = Assert.ThrowsExactly<ArgumentException>(() => PeerList.Find("tensorflow", null, out _));
        Assert.Contains("pytorch", error.Message);
    }

    private bool IsInstalled(out IPeer peer)
    {
        peer = _peer!;
        if (_peer is null)
        {
            TestContext.WriteLine($"Not tested: {_missing}.");
            Assert.Contains("/nowhere/python", _missing!);
            Assert.Contains("python3-torch", _missing!);
        }

        return _peer is not null;
    }
}
