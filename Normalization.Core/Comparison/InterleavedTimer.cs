namespace Normalization.Core.Comparison;

/// <summary>How long contestants are timed.</summary>
internal sealed record TimingPlan
{
    /// <summary>Rounds taken whatever they cost, at least 1.</summary>
    public int LeastRounds { get; init; } = 7;

    /// <summary>Rounds taken at most.</summary>
    public int MostRounds { get; init; } = 25;

    /// <summary>Seconds, of samples and <see cref="WarmUp"/> (once a round for those that warm themselves, whatever they take), after which no further round begins once <see cref="LeastRounds"/> are taken.</summary>
    public double Budget { get; init; } = 0.06;

    /// <summary>Seconds a sample lasts at least: long enough that the clock's resolution does not matter.</summary>
    public double ShortestSample { get; init; } = 0.4e-3;

    /// <summary>
    /// Seconds that a contestant is called for before each sample, once at least: several threads take some milliseconds to find a processor each, and a
    /// large cache a few calls to hold again what others pushed out.
    /// </summary>
    public double WarmUp { get; init; }
}

/// <summary>Times contestants in turns, so that whatever slows the machine slows all of them.</summary>
internal static class InterleavedTimer
{
    private const int MostCalls = 1 << 20;

    // Samples that a first call must last for, for the next one to last for one.
    private const double SurelyLong = 10;

    /// <summary>Times contestants round by round, each in an order of its own.</summary>
    /// <param name="contestants">Each makes its call as often as it is told and returns the seconds that took in all.</param>
    /// <param name="plan">How long.</param>
    /// <param name="seed">Where the rounds' orders and the intervals' resamples come from.</param>
    /// <param name="cancellation">Ends it between rounds.</param>
    /// <param name="warmThemselves">The places of those that warm up whenever they are called, and so are not called before a sample; null is none.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static TimedRounds Run(
        IReadOnlyList<Func<int, double>> contestants, TimingPlan plan, long seed, CancellationToken cancellation, IReadOnlySet<int>? warmThemselves = null)
    {
        var calls = new int[contestants.Count];
        var orders = new RandomStream(seed, "order");
        List<double>[] seconds = [.. contestants.Select(_ => new List<double>())];
        double spent = 0;
        for (int round = 0; round < plan.MostRounds && (round < plan.LeastRounds || spent < plan.Budget); round++)
        {
            cancellation.ThrowIfCancellationRequested();

            // In a fixed cycle each would always follow the same other.
            foreach (int index in orders.NextPermutation(contestants.Count))
            {
                // What the contestant before left in the caches, and threads that it left awake or asleep, are not to be paid by this one.
                bool cold = warmThemselves?.Contains(index) != true;
                double warmed = round == 0 ? Calibrate(contestants[index], plan.ShortestSample, out calls[index]) : cold ? contestants[index](1) : 0;
                while (cold && warmed < plan.WarmUp)
                {
                    warmed += contestants[index](calls[index]);
                }

                spent += plan.WarmUp == 0 ? 0 : cold ? warmed : plan.WarmUp;
                double total = contestants[index](calls[index]);
                seconds[index].Add(total / calls[index]);
                spent += total;
            }
        }

        return new TimedRounds([.. seconds], seed);
    }

    // The calls that make up a sample. Seconds of those tried, which warm the contestant.
    private static double Calibrate(Func<int, double> contestant, double shortestSample, out int calls)
    {
        calls = 1;
        double last = contestant(calls);
        double all = last;
        if (last >= shortestSample && last < SurelyLong * shortestSample)
        {
            // It may have set something up.
            all += last = contestant(calls);
        }

        for (; calls < MostCalls && last < shortestSample; all += last)
        {
            calls *= 2;
            last = contestant(calls);
        }

        return all;
    }
}

/// <summary>What each contestant took in each round.</summary>
/// <param name="Seconds">For each contestant, for each round, seconds a call.</param>
/// <param name="Seed">Where the intervals' resamples come from.</param>
internal sealed record TimedRounds(IReadOnlyList<IReadOnlyList<double>> Seconds, long Seed)
{
    /// <summary>Seconds a call: the median over the rounds.</summary>
    /// <param name="contestant">Its place in the list that was timed.</param>
    public Estimate Time(int contestant) => Bootstrap.Median(Seconds[contestant], Stream());

    /// <summary>How many times as long one contestant takes as another: the median of the ratios round by round, since both of a round met the same machine.</summary>
    /// <param name="numerator">The place of the one.</param>
    /// <param name="denominator">The place of the other.</param>
    public Estimate Ratio(int numerator, int denominator) => Ratio([(numerator, 1)], denominator);

    /// <summary>The same for a sum of contestants.</summary>
    /// <param name="numerator">The places of those that are added, each with what its time is multiplied by.</param>
    /// <param name="denominator">The place of the other.</param>
    public Estimate Ratio(IReadOnlyList<(int Contestant, double Factor)> numerator, int denominator) =>
        Bootstrap.Median([.. Seconds[denominator].Select((below, round) => numerator.Sum(part => part.Factor * Seconds[part.Contestant][round]) / below)], Stream());

    private RandomStream Stream() => new(Seed, "bootstrap");
}
