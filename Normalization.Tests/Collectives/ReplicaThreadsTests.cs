using Normalization.Core.Collectives;
using Normalization.Tests.Support;

namespace Normalization.Tests.Collectives;

[TestClass]
public sealed class ReplicaThreadsTests
{
    [TestMethod]
    public void Run_ReplicasThatWaitForEachOther_AllRunAtOnce()
    {
        // Several callers at the same time: nobody's replicas may be short of threads.
        Exception?[] failures = Ranks.Run(4, _ =>
        {
            for (int turn = 0; turn < 20; turn++)
            {
                using var barrier = new Barrier(5);
                var seen = new bool[5];
                ReplicaThreads.Run(
                    new Job(replica =>
                    {
                        Assert.IsTrue(barrier.SignalAndWait(TimeSpan.FromSeconds(20)));
                        seen[replica] = true;
                    }),
                    5, 5);
                Assert.IsTrue(seen.All(each => each));
            }
        });
        Assert.IsTrue(failures.All(failure => failure is null), string.Join(Environment.NewLine, failures.AsEnumerable()));
    }

    [TestMethod]
    public void Sharing_WithinReplicas_CountsThoseThatRunAtOnce()
    {
        int[] seen = new int[3];
        int[] within = new int[3];
        ReplicaThreads.Run(
            new Job(replica =>
            {
                seen[replica] = ReplicaThreads.Sharing;
                if (replica == 1)
                {
                    ReplicaThreads.Run(new Job(_ => within[replica] = ReplicaThreads.Sharing), 3, 2);
                    within[replica] -= ReplicaThreads.Sharing;
                }
            }),
            3, 3);
        CollectionAssert.AreEqual(new[] { 3, 3, 3 }, seen);
        Assert.AreEqual(6 - 3, within[1]);
        Assert.AreEqual(1, ReplicaThreads.Sharing);
    }

    [TestMethod]
    [DataRow(0)]
    [DataRow(2)]
    public void Run_ReplicaThatThrows_ThrowsTheCauseAfterAllHaveEnded(int wrong)
    {
        int ended = 0;
        var error = Assert.ThrowsExactly<ArithmeticException>(() => ReplicaThreads.Run(
            new Job(replica =>
            {
                Interlocked.Increment(ref ended);
                throw replica == wrong ? new ArithmeticException("cause") : new CollectiveException("left");
            }),
            4, 4));
        Assert.AreEqual("cause", error.Message);
        Assert.AreEqual(4, ended);

        // And the threads serve on.
        int ran = 0;
        ReplicaThreads.Run(new Job(_ => Interlocked.Increment(ref ran)), 4, 4);
        Assert.AreEqual(4, ran);
    }

    private sealed class Job(Action<int> run) : IReplicaJob
    {
        public void Run(int replica) => run(replica);
    }
}
