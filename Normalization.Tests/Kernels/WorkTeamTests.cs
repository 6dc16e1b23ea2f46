using System.Diagnostics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>Pieces are done once each, by no more threads than are asked for now, however many there once were.</summary>
[TestClass]
[DoNotParallelize]
public sealed class WorkTeamTests
{
    private int _before;

    [TestInitialize]
    public void Remember() => _before = KernelThreads.Count;

    [TestCleanup]
    public void Restore() => KernelThreads.Count = _before;

    [TestMethod]
    public void Run_ManyTimesOnChangingCounts_DoesEveryPieceOnce()
    {
        foreach (int count in new[] { 1, 2, 5, 3, 1, 8, 2 })
        {
            KernelThreads.Count = count;
            for (int round = 0; round < 200; round++)
            {
                CollectionAssert.AreEqual(Enumerable.Repeat(1, 37).ToArray(), CountPieces(37, 1 << 20));
            }
        }
    }

    [TestMethod]
    public void Run_AfterSleeps_LeavesEveryWorkerTheCallersProcessors()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        KernelThreads.Count = 3;
        for (int round = 0; round < 60; round++)
        {
            Thread.Sleep(3);
            CountPieces(37, 1 << 20);
        }

        string expected = Allowed("/proc/thread-self");
        Assert.IsGreaterThanOrEqualTo(2, Workers().Count());
        string[] differing = [];
        Assert.IsTrue(
            SpinWait.SpinUntil(() => (differing = [.. Workers().Select(Allowed).Where(mask => mask != expected)]).Length == 0, TimeSpan.FromSeconds(5)),
            $"kept to {string.Join(", ", differing)}, the caller to {expected}");

        // A name holds 15 characters there; other threads may end meanwhile.
        static IEnumerable<string> Workers() => Directory.GetDirectories("/proc/self/task").Where(task =>
        {
            try
            {
                return File.ReadAllText(Path.Combine(task, "comm")).Trim() == "Normalization k";
            }
            catch (IOException)
            {
                return false;
            }
        });

        static string Allowed(string task) => File.ReadLines(Path.Combine(task, "status")).Single(line => line.StartsWith("Cpus_allowed:", StringComparison.Ordinal));
    }

    [TestMethod]
    public void Run_AfterManyThreads_WaitsForNoneThatIsNotAskedFor()
    {
        KernelThreads.Count = 64;
        CountPieces(200, 1 << 20);
        Thread.Sleep(50);
        KernelThreads.Count = 1;
        double alone = Quick();
        KernelThreads.Count = 2;
        double two = Quick();

        // Waking and joining 63 threads takes milliseconds; a job of two threads must stay near one of one.
        Assert.IsLessThan(alone + 1e-3, two);

        // The tenth of a hundred: what a shared machine does in between is not the team's.
        static double Quick()
        {
            var times = new double[101];
            for (int i = 0; i < times.Length; i++)
            {
                long began = Stopwatch.GetTimestamp();
                CountPieces(37, 1 << 20);
                times[i] = Stopwatch.GetElapsedTime(began).TotalSeconds;
            }

            Array.Sort(times);
            return times[10];
        }
    }

    [TestMethod]
    public void Run_FromManyCallersAtOnce_DoesEveryPieceOnceForEach()
    {
        KernelThreads.Count = 3;
        Parallel.For(0, 500, _ => CollectionAssert.AreEqual(Enumerable.Repeat(1, 11).ToArray(), CountPieces(11, 1 << 20)));
    }

    private static unsafe int[] CountPieces(int pieces, nint elements)
    {
        int[] done = new int[pieces];
        fixed (int* counts = done)
        {
            var job = new CountingJob { Counts = counts };
            WorkTeam.Run(ref job, pieces, elements);
        }

        return done;
    }

    private unsafe struct CountingJob : IPieceJob
    {
        public int* Counts;

        public readonly void Run(int piece) => Interlocked.Increment(ref Counts[piece]);
    }
}
