using Normalization.Core.Collectives;
using Normalization.Tests.Support;

namespace Normalization.Tests.Collectives;

[TestClass]
public sealed class InProcessCollectiveTests
{
    [TestMethod]
    [DataRow(1)]
    [DataRow(2)]
    [DataRow(5)]
    public void Collectives_ManyInARow_GiveEveryRankEverything(int ranks)
    {
        Ranks.RunWell(ranks, rank =>
        {
            for (int turn = 0; turn < 200; turn++)
            {
                int length = turn % 7;
                double[] own = [.. Enumerable.Range(0, length).Select(i => (1000.0 * turn) + (100 * rank.Rank) + i)];
                double[] all = new double[length * ranks];
                rank.AllGather(own, all);
                double[] expected = [.. from r in Enumerable.Range(0, ranks) from i in Enumerable.Range(0, length) select (1000.0 * turn) + (100 * r) + i];
                CollectionAssert.AreEqual(expected, all, $"turn {turn}");

                rank.AllReduceSum(own);
                CollectionAssert.AreEqual(
                    Enumerable.Range(0, length).Select(i => Enumerable.Range(0, ranks).Sum(r => expected[(r * length) + i])).ToArray(), own, $"turn {turn}");
            }
        });
    }

    [TestMethod]
    public void AllReduceSum_RoundedTerms_GivesEveryRankTheSameBitsInRankOrder()
    {
        double[] terms = [1e16, 1, -1e16, 3.3];
        double[] sums = new double[terms.Length];
        Ranks.RunWell(terms.Length, rank =>
        {
            double[] value = [terms[rank.Rank]];
            rank.AllReduceSum(value);
            sums[rank.Rank] = value[0];
        });
        double expected = terms.Aggregate(0.0, (sum, term) => sum + term);
        Assert.IsTrue(sums.All(sum => sum == expected), string.Join(", ", sums));
    }

    [TestMethod]
    public void AllReduceSum_RankThatDoesNotCome_IsNamedAtTheDeadlineToAllOthers()
    {
        using var together = new Barrier(4);
        Exception?[] failures = Ranks.Run(
            4,
            rank =>
            {
                together.SignalAndWait();
                if (rank.Rank != 2)
                {
                    rank.AllReduceSum(new double[3]);
                }
            },
            TimeSpan.FromSeconds(0.8));
        foreach (int rank in new[] { 0, 1, 3 })
        {
            Assert.IsInstanceOfType<CollectiveException>(failures[rank]);
            Assert.Contains("rank 2 did not come within 0.8 s", failures[rank]!.Message);
        }
    }

    [TestMethod]
    public void Leave_WhileOthersWait_ThrowsInThemWithTheReason()
    {
        Exception?[] failures = Ranks.Run(3, rank =>
        {
            if (rank.Rank == 1)
            {
                Thread.Sleep(50);
                rank.Leave("its disk is full");
                return;
            }

            rank.AllGather(new double[1], new double[3]);
        });
        Assert.IsNull(failures[1]);
        Assert.Contains("rank 1 left: its disk is full", failures[0]!.Message);
        Assert.Contains("rank 1 left: its disk is full", failures[2]!.Message);
    }

    [TestMethod]
    public void Collectives_DifferentCallsOrLengths_ThrowOnEveryRank()
    {
        Exception?[] calls = Ranks.Run(2, rank =>
        {
            if (rank.Rank == 0)
            {
                rank.AllReduceSum(new double[4]);
            }
            else
            {
                rank.AllGather(new double[4], new double[8]);
            }
        });
        Exception?[] lengths = Ranks.Run(3, rank => rank.AllReduceSum(new double[2 + (rank.Rank / 2)]));
        foreach (Exception? failure in calls.Concat(lengths))
        {
            Assert.IsInstanceOfType<CollectiveException>(failure);
            Assert.Contains("do not make the same call", failure.Message);
        }
    }

    [TestMethod]
    public void AllGather_RoomOfAnotherLength_SaysWhatIsNeeded()
    {
        InProcessCollective alone = InProcessCollective.CreateGroup(1)[0];
        var error = Assert.ThrowsExactly<ArgumentException>(() => alone.AllGather(new double[3], new double[4]));
        Assert.Contains("need 3 elements", error.Message);
        Assert.Contains("room for 4", error.Message);
    }

    [TestMethod]
    public void CreateGroup_NoRanksOrNoTime_Throws()
    {
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => InProcessCollective.CreateGroup(0));
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => InProcessCollective.CreateGroup(2, TimeSpan.Zero));
    }

    [TestMethod]
    public void AllReduceSum_DeadlineLongerThanTheSystemWaits_WaitsAllTheSame()
    {
        double[] sums = new double[2];
        Exception?[] failures = Ranks.Run(
            2,
            rank =>
            {
                if (rank.Rank == 1)
                {
                    Thread.Sleep(50);
                }

                double[] value = [rank.Rank + 1];
                rank.AllReduceSum(value);
                sums[rank.Rank] = value[0];
            },
            TimeSpan.MaxValue);
        CollectionAssert.AreEqual(new Exception?[2], failures);
        CollectionAssert.AreEqual(new double[] { 3, 3 }, sums);
    }
}
