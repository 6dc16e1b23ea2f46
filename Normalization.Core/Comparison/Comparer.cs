using System.Diagnostics;
using System.Globalization;
using Normalization.Core.Reporting;

namespace Normalization.Core.Comparison;

/// <summary>How far a comparison is.</summary>
/// <param name="Finished">Cases done, those skipped included.</param>
/// <param name="Total">All cases of the run.</param>
/// <param name="Case">The case that begins now; null once all are done.</param>
public sealed record ComparisonProgress(int Finished, int Total, string? Case);

/// <summary>Measures contestants on scenarios: outputs, gradients, batch-size sensitivity, speed.</summary>
/// <remarks>
/// A case is one aspect of one contestant on one scenario and has a permanent id, <c>aspect/scenario/strategy</c>. Every case draws from
/// streams of its own, so that results other than times depend on the seed alone: not on which cases run, nor on the number of threads.
/// </remarks>
public sealed class Comparer
{
    private readonly IReadOnlyList<Contestant> _contestants;

    /// <summary>Names the contestants.</summary>
    /// <param name="contestants">In the order they are reported; ids must differ.</param>
    /// <exception cref="ArgumentException">There are none, or two have the same id.</exception>
    public Comparer(IReadOnlyList<Contestant> contestants)
    {
        ArgumentNullException.ThrowIfNull(contestants);
        if (contestants.Count == 0)
        {
            throw new ArgumentException("A comparison needs at least one contestant.", nameof(contestants));
        }

        if (contestants.CountBy(contestant => contestant.Id).FirstOrDefault(pair => pair.Value > 1).Key is { } twice)
        {
            throw new ArgumentException($"Contestant ids must differ, since they key the records; '{twice}' comes twice.", nameof(contestants));
        }

        _contestants = contestants;
    }

    /// <summary>Which of <see cref="Comparison.Aspects"/> to measure; they run in their fixed order. Default all.</summary>
    public IReadOnlyList<string> Aspects { get; init; } = Comparison.Aspects.All;

    /// <summary>The scenarios, in the order they run and are reported; null, the default, is all of <see cref="Comparison.Scenarios"/> without data.</summary>
    public IReadOnlyList<Scenario>? Scenarios { get; init; }

    /// <summary>The seed every random stream is derived from. Default 1.</summary>
    public long Seed { get; init; } = 1;

    /// <summary>Whether to take more samples and repeats; minutes in place of seconds. Default false.</summary>
    public bool Thorough { get; init; }

    /// <summary>How many threads are used, 1 to 256. Default the processor count.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;

    /// <summary>The ids of all cases, in the order they run.</summary>
    /// <exception cref="ArgumentException">An aspect is unknown, or two scenarios have the same id.</exception>
    public IReadOnlyList<string> Cases => [.. Plan().Select(planned => planned.Id)];

    /// <summary>What identifies a run: the first line of its records.</summary>
    /// <param name="environment">The machine and the program.</param>
    /// <exception cref="ArgumentException">An aspect is unknown, or two scenarios have the same id.</exception>
    public RunHeader Describe(RunEnvironment environment)
    {
        List<PlannedCase> plan = Plan();
        return new RunHeader
        {
            Environment = environment,
            Settings = new Dictionary<string, string>(StringComparer.Ordinal)
            {
                ["aspects"] = string.Join(",", Comparison.Aspects.All.Where(Aspects.Contains)),
                ["seed"] = Seed.ToString(CultureInfo.InvariantCulture),
                ["thorough"] = Thorough ? "yes" : "no",
                ["threads"] = Threads.ToString(CultureInfo.InvariantCulture),
                ["epsilon"] = new ProbeSettings { Seed = Seed }.Epsilon.ToString(CultureInfo.InvariantCulture),
                ["affine"] = "random weight and bias",
            },
            Strategies = [.. _contestants.Select(contestant => new StrategyDescription(contestant.Id, contestant.Axes, contestant.Options))],
            Scenarios = [.. plan.Select(planned => planned.Scenario).DistinctBy(scenario => scenario.Id)
                .Select(scenario => new ScenarioDescription(scenario.Id, scenario.Title, scenario.Description))],
            CaseCount = plan.Count,
        };
    }

    /// <summary>Measures every case that is not done yet.</summary>
    /// <param name="finished">Receives each record as its case ends, in the order of <see cref="Cases"/>.</param>
    /// <param name="done">Ids of cases to skip, from an earlier run; null for none.</param>
    /// <param name="progress">Told before each case and at the end; null for nobody.</param>
    /// <param name="cancellation">Ends the run between cases and inside them.</param>
    /// <exception cref="ArgumentException">An aspect is unknown, two scenarios have the same id, or the thread count is out of range.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; the cases handed over before are complete.</exception>
    public void Run(
        Action<CaseRecord> finished, IReadOnlySet<string>? done = null, IProgress<ComparisonProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(finished);
        List<PlannedCase> plan = Plan();
        var settings = new ProbeSettings { Seed = Seed, Thorough = Thorough, Threads = Threads, Cancellation = cancellation };
        int threads = KernelThreads.Count;
        KernelThreads.Count = Threads;
        try
        {
            ScenarioPool? pool = null;
            string? poolScenario = null;
            for (int index = 0; index < plan.Count; index++)
            {
                cancellation.ThrowIfCancellationRequested();
                PlannedCase planned = plan[index];
                if (done is not null && done.Contains(planned.Id))
                {
                    continue;
                }

                progress?.Report(new ComparisonProgress(index, plan.Count, planned.Id));
                if (poolScenario != planned.Scenario.Id && planned.Aspect != Comparison.Aspects.Speed)
                {
                    pool = new ScenarioPool(planned.Scenario, Seed, Thorough ? 4096 : 1024);
                    poolScenario = planned.Scenario.Id;
                }

                finished(Measure(planned, pool!, settings));
            }

            progress?.Report(new ComparisonProgress(plan.Count, plan.Count, null));
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    private CaseRecord Measure(PlannedCase planned, ScenarioPool pool, ProbeSettings settings)
    {
        long began = Stopwatch.GetTimestamp();
        var probe = new ProbeCase(planned.Aspect, planned.Contestant, planned.Scenario, settings);
        try
        {
            switch (planned.Aspect)
            {
                case Comparison.Aspects.Outputs:
                    OutputProbe.Measure(probe, pool, _contestants);
                    break;
                case Comparison.Aspects.Gradients:
                    GradientProbe.Measure(probe, pool);
                    break;
                case Comparison.Aspects.BatchSize:
                    BatchSizeProbe.Measure(probe, pool);
                    break;
                default:
                    SpeedProbe.Measure(probe);
                    break;
            }
        }
        catch (Exception exception) when (exception is not (OperationCanceledException or OutOfMemoryException))
        {
            // A contestant's bug ends its case, not the run.
            probe.Fail($"{exception.GetType().Name}: {exception.Message}");
        }

        return new CaseRecord
        {
            Case = planned.Id,
            Seconds = Stopwatch.GetElapsedTime(began).TotalSeconds,
            Measurements = probe.Rows,
            Failure = probe.Failure,
        };
    }

    private List<PlannedCase> Plan()
    {
        if (Aspects.FirstOrDefault(aspect => !Comparison.Aspects.All.Contains(aspect)) is { } unknown)
        {
            throw new ArgumentException($"There is no aspect '{unknown}'. The aspects are {string.Join(", ", Comparison.Aspects.All)}.");
        }

        IReadOnlyList<Scenario> scenarios = Scenarios ?? Comparison.Scenarios.Synthetic(Seed);
        if (scenarios.Append(SpeedProbe.Scenario).CountBy(scenario => scenario.Id).FirstOrDefault(pair => pair.Value > 1).Key is { } twice)
        {
            throw new ArgumentException($"Scenario ids must differ, since they key the records, and '{SpeedProbe.Scenario.Id}' is taken; '{twice}' comes twice.");
        }

        return
        [
            .. from aspect in Comparison.Aspects.All
               where Aspects.Contains(aspect)
               from scenario in aspect == Comparison.Aspects.Speed ? [SpeedProbe.Scenario] : scenarios
               from contestant in _contestants
               select new PlannedCase(aspect, scenario, contestant),
        ];
    }

    private sealed record PlannedCase(string Aspect, Scenario Scenario, Contestant Contestant)
    {
        public string Id => $"{Aspect}/{Scenario.Id}/{Contestant.Id}";
    }
}
