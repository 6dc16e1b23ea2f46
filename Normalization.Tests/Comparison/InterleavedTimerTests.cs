using Normalization.Core.Comparison;

namespace Normalization.Tests.Comparison;

/// <summary>Contestants with clocks of their own: nothing here depends on how fast the machine is.</summary>
[TestClass]
public sealed class InterleavedTimerTests
{
    private static readonly TimingPlan Plan = new() { LeastRounds = 5, MostRounds = 40, Budget = 1000, ShortestSample = 1e-3 };

    [TestMethod]
    public void Run_MachineThatDrifts_RecoversTheRatio()
    {
        // Each call is slower than the last, several times in all; the one contestant takes 3 times as long as the other.
        var noise = new RandomStream(1, "noise");
        double machine = 1;
        Func<int, double> Contestant(double seconds) => calls =>
        {
            machine *= 1.02;
            return calls * seconds * machine * (1 + (0.05 * noise.NextGaussian()));
        };

        TimedRounds rounds = InterleavedTimer.Run([Contestant(0.01), Contestant(0.03)], Plan, 1, CancellationToken.None);
        Estimate ratio = rounds.Ratio(1, 0);

        Assert.HasCount(40, rounds.Seconds[0]);
        Assert.AreEqual(3, ratio.Value, 0.1);
        Assert.IsTrue(ratio.Low <= 3 && 3 <= ratio.High, ratio.ToString());
        Assert.IsLessThan(0.3, ratio.High - ratio.Low);
        Assert.IsGreaterThan(1.3, rounds.Time(0).High / rounds.Time(0).Low, "the times themselves drifted");
    }

    [TestMethod]
    public void Ratio_OfASum_AddsRoundByRound()
    {
        // Medians over medians would be (2 * 2 + 3) / 4.
        var rounds = new TimedRounds([[1, 2, 10], [3, 1, 5], [2, 4, 5]], 1);

        Estimate ratio = rounds.Ratio([(0, 2), (1, 1)], 2);

        Assert.AreEqual(2.5, ratio.Value);
        Assert.AreEqual(1.25, ratio.Low);
        Assert.AreEqual(5, ratio.High);
        Assert.AreEqual(rounds.Ratio(1, 2), rounds.Ratio([(1, 1)], 2));
    }

    [TestMethod]
    public void Run_SameSeed_GivesTheSameInterval()
    {
        Estimate Interval(long seed)
        {
            var noise = new RandomStream(3, "noise");
            Func<int, double> contestant = calls => calls * 0.01 * (1 + (0.2 * noise.NextDouble()));
            return InterleavedTimer.Run([contestant, contestant], Plan, seed, CancellationToken.None).Ratio(0, 1);
        }

        Assert.AreEqual(Interval(1), Interval(1));
        Assert.AreNotEqual(Interval(1), Interval(2));
    }

    [TestMethod]
    public void Run_EachRound_IsAnOrderOfItsOwnThatTheSeedGives()
    {
        int[][] Rounds(long seed)
        {
            var order = new List<int>();
            Func<int, double> Contestant(int index) => _ =>
            {
                order.Add(index);
                return 1;
            };

            InterleavedTimer.Run([Contestant(0), Contestant(1), Contestant(2)], Plan with { LeastRounds = 40 }, seed, CancellationToken.None);

            // Each has an untimed call before its sample, in the first round its calibration.
            return [.. order.Where((_, i) => i % 2 == 1).Chunk(3)];
        }

        int[][] rounds = Rounds(1);
        Assert.HasCount(40, rounds);
        Assert.IsTrue(rounds.All(round => round.Order().SequenceEqual([0, 1, 2])));
        Assert.HasCount(6, rounds.Select(round => string.Join(' ', round)).Distinct(), "every contestant follows every other");
        CollectionAssert.AreEqual(rounds.SelectMany(round => round).ToArray(), Rounds(1).SelectMany(round => round).ToArray());
        CollectionAssert.AreNotEqual(rounds.SelectMany(round => round).ToArray(), Rounds(2).SelectMany(round => round).ToArray());
    }

    [TestMethod]
    [DataRow(0.5e-3)]
    [DataRow(2e-3)]
    public void Run_ContestantOfOneCall_IsWarmedWhateverTheOthersTake(double other)
    {
        var counts = new List<int>();
        Func<int, double> slow = calls =>
        {
            counts.Add(calls);
            return calls * 0.01;
        };

        InterleavedTimer.Run([slow, calls => calls * other], Plan with { LeastRounds = 2, MostRounds = 2 }, 1, CancellationToken.None);

        // A sample is one call; before the first lies its calibration, before the second a warming call.
        Assert.HasCount(4, counts);
        Assert.IsTrue(counts.All(count => count == 1));
    }

    [TestMethod]
    public void Run_ShortCalls_AreRepeatedUntilTheClockCanTell()
    {
        var counts = new List<int>();
        Func<int, double> contestant = calls =>
        {
            counts.Add(calls);
            return calls * 1e-5;
        };

        TimedRounds rounds = InterleavedTimer.Run([contestant], Plan with { LeastRounds = 1, MostRounds = 1 }, 1, CancellationToken.None);

        // 128 calls of 10 us are the first power of two to last 1 ms; those that found out warmed the caches.
        CollectionAssert.AreEqual(new[] { 1, 2, 4, 8, 16, 32, 64, 128, 128 }, counts);
        Assert.AreEqual(1e-5, rounds.Time(0).Value, 1e-15);
    }

    [TestMethod]
    [DataRow(5e-3, new[] { 1, 1, 2, 2 }, DisplayName = "a little too long: it may have set something up")]
    [DataRow(50e-3, new[] { 1, 1 }, DisplayName = "much too long: its like lasts for a sample")]
    public void Run_LongFirstCall_IsTriedOnceMoreUnlessTheNextLastsForASampleToo(double first, int[] expected)
    {
        var counts = new List<int>();
        Func<int, double> contestant = calls =>
        {
            counts.Add(calls);
            return counts.Count == 1 ? first : calls * 0.5e-3;
        };

        InterleavedTimer.Run([contestant], Plan with { LeastRounds = 1, MostRounds = 1 }, 1, CancellationToken.None);

        CollectionAssert.AreEqual(expected, counts);
    }

    [TestMethod]
    [DataRow(false, new[] { 1, 2, 4, 4, 4, 1, 4, 4, 4 })]
    [DataRow(true, new[] { 1, 2, 4, 4, 4 })]
    public void Run_WarmUp_IsCallsBeforeEachSampleUnlessTheContestantWarmsItself(bool itself, int[] expected)
    {
        var counts = new List<int>();
        Func<int, double> contestant = calls =>
        {
            counts.Add(calls);
            return calls * 0.25e-3;
        };

        TimingPlan plan = Plan with { LeastRounds = 2, MostRounds = 2, WarmUp = 2e-3 };
        InterleavedTimer.Run([contestant], plan, 1, CancellationToken.None, itself ? new HashSet<int> { 0 } : null);

        CollectionAssert.AreEqual(expected, counts);
    }

    [TestMethod]
    [DataRow(0.0, false, 40)]
    [DataRow(9e-3, false, 8)]
    [DataRow(9e-3, true, 8)]
    public void Run_WarmUp_CountsTowardTheBudget(double warmUp, bool itself, int expected)
    {
        // A sample of 1 ms in each round; with what warms up for it 10 ms.
        TimingPlan plan = Plan with { Budget = 0.0715, WarmUp = warmUp };
        TimedRounds rounds = InterleavedTimer.Run([calls => calls * 1e-3], plan, 1, CancellationToken.None, itself ? new HashSet<int> { 0 } : null);

        Assert.HasCount(expected, rounds.Seconds[0]);
    }

    [TestMethod]
    [DataRow(0.0, 5)]
    [DataRow(0.07, 7)]
    [DataRow(9.0, 40)]
    public void Run_Budget_EndsBetweenTheLeastAndTheMostRounds(double budget, int expected)
    {
        TimedRounds rounds = InterleavedTimer.Run([calls => calls * 0.004, calls => calls * 0.006], Plan with { Budget = budget - 1e-9 }, 1, CancellationToken.None);

        Assert.HasCount(expected, rounds.Seconds[1]);
    }

    [TestMethod]
    public void Run_Cancelled_Throws() => Assert.ThrowsExactly<OperationCanceledException>(
        () => InterleavedTimer.Run([_ => 1], Plan, 1, new CancellationToken(canceled: true)));
}
