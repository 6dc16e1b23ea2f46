using System.Diagnostics;
using System.Globalization;
using System.Runtime.ExceptionServices;
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
    private readonly Lazy<IReadOnlyList<Scenario>> _scenarios;

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
        _scenarios = new(() => Scenarios ?? Comparison.Scenarios.WithDigits(Seed));
    }

    /// <summary>Which of <see cref="Comparison.Aspects"/> to measure; they run in their fixed order. Default all.</summary>
    public IReadOnlyList<string> Aspects { get; init; } = Comparison.Aspects.All;

    /// <summary>The scenarios, in the order they run and are reported; null, the default, is <see cref="Comparison.Scenarios.WithDigits"/> on generated digits.</summary>
    public IReadOnlyList<Scenario>? Scenarios { get; init; }

    /// <summary>The seed every random stream is derived from. Default 1.</summary>
    public long Seed { get; init; } = 1;

    /// <summary>Whether to take more samples and repeats; minutes in place of seconds. Default false.</summary>
    public bool Thorough { get; init; }

    /// <summary>How many threads are used, 1 to 256. Default the processor count.</summary>
    public int Threads { get; init; } = KernelThreads.Default;

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
                ["epsilon"] = new ProbeSettings { Seed = Seed }.Epsilon.ToString("0.###e-0", CultureInfo.InvariantCulture),
                ["affine"] = "random weight and bias",
            },
            Strategies = [.. _contestants.Select(contestant => new StrategyDescription(contestant.Id, contestant.Axes, contestant.Options))],
            Scenarios = [.. plan.Select(planned => planned.Scenario).DistinctBy(scenario => scenario.Id)
                .Select(scenario => new ScenarioDescription(scenario.Id, scenario.Title, scenario.Description))],
            CaseCount = plan.Count,
        };
    }

    /// <summary>Measures every case that is not done yet.</summary>
    /// <param name="finished">
    /// Receives each record as its case ends, not always in the order of <see cref="Cases"/>. One call at a time, on any thread.
    /// </param>
    /// <param name="done">Ids of cases to skip, from an earlier run; null for none.</param>
    /// <param name="progress">Told when a case begins and at the end; null for nobody.</param>
    /// <param name="cancellation">Ends the run between cases and inside them.</param>
    /// <exception cref="ArgumentException">An aspect is unknown, two scenarios have the same id, or the thread count is out of range.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; every case that had ended was handed over.</exception>
    public void Run(
        Action<CaseRecord> finished, IReadOnlySet<string>? done = null, IProgress<ComparisonProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(finished);
        RequireThreads();
        List<PlannedCase> plan = Plan();
        List<PlannedCase> left = [.. plan.Where(planned => done is null || !done.Contains(planned.Id))];
        var delivery = new Delivery(finished, progress, plan.Count - left.Count, plan.Count);
        int untimed = left.Count(planned => planned.Aspect != Comparison.Aspects.Speed);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var settings = new ProbeSettings { Seed = Seed, Thorough = Thorough, Threads = Threads, Cancellation = stop.Token };
        int threads = KernelThreads.Count;
        try
        {
            // Several cases at once, with a thread each; what is timed, last in the plan, has the machine to itself.
            KernelThreads.Count = 1;
            MeasureTogether(left[..untimed], delivery, settings, stop);
            KernelThreads.Count = Threads;
            if (untimed < left.Count)
            {
                delivery.Begin(left[untimed].Id);
                SpeedProbe.Warm([.. left[untimed..].Select(planned => NewProbe(planned, settings))]);
            }

            var tensors = new Dictionary<Workload, SpeedTensors>();
            for (int index = untimed; index < left.Count; index++)
            {
                stop.Token.ThrowIfCancellationRequested();
                delivery.Begin(left[index].Id);
                delivery.Finish(Measure(left[index], settings, tensors: tensors));
            }

            delivery.End();
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    /// <summary>Runs everything and writes the report: records.jsonl as cases end, then the files drawn from it.</summary>
    /// <param name="directory">The report folder; must not exist or be empty.</param>
    /// <param name="progress">Told when a case begins and at the end; null for nobody.</param>
    /// <param name="cancellation">Ends the run; what was measured is reported all the same.</param>
    /// <returns>The records.</returns>
    /// <exception cref="IOException">The folder holds something or cannot be written.</exception>
    /// <exception cref="ArgumentException">As of <see cref="Run"/>.</exception>
    /// <exception cref="OperationCanceledException">Cancelled, after the report of what was measured was written.</exception>
    public RunData WriteReport(string directory, IProgress<ComparisonProgress>? progress = null, CancellationToken cancellation = default)
    {
        RequireThreads();
        string[] command = Environment.GetCommandLineArgs();
        using RunRecorder recorder = RunRecorder.Create(directory, Describe(RunEnvironment.Capture(command[0], command[1..], Seed, Threads)));
        try
        {
            Run(recorder.Append, progress: progress, cancellation: cancellation);
        }
        catch (OperationCanceledException)
        {
            ReportFiles.WriteAll(directory, recorder.Run);
            throw;
        }

        var run = recorder.Run;
        ReportFiles.WriteAll(directory, run);
        return run;
    }

    private void MeasureTogether(List<PlannedCase> cases, Delivery delivery, ProbeSettings settings, CancellationTokenSource stop)
    {
        Dictionary<string, Lazy<ScenarioPool>> pools = cases.Select(planned => planned.Scenario).DistinctBy(scenario => scenario.Id).ToDictionary(
            scenario => scenario.Id, scenario => new Lazy<ScenarioPool>(() => new ScenarioPool(scenario, Seed, Thorough ? 2048 : 1024)), StringComparer.Ordinal);
        int next = -1;

        void Work()
        {
            try
            {
                for (int index; (index = Interlocked.Increment(ref next)) < cases.Count;)
                {
                    stop.Token.ThrowIfCancellationRequested();
                    delivery.Begin(cases[index].Id);
                    delivery.Finish(Measure(cases[index], settings, pools[cases[index].Scenario.Id]));
                }
            }
            catch
            {
                stop.Cancel();
                throw;
            }
        }

        try
        {
            Parallel.Invoke(new ParallelOptions { MaxDegreeOfParallelism = Threads }, [.. Enumerable.Repeat<Action>(Work, Threads)]);
        }
        catch (AggregateException several)
        {
            // Where one failed the others were stopped by it: the failure is the one to tell.
            ExceptionDispatchInfo.Throw(several.InnerExceptions.FirstOrDefault(inner => inner is not OperationCanceledException) ?? several.InnerExceptions[0]);
        }
    }

    private static ProbeCase NewProbe(PlannedCase planned, ProbeSettings settings) =>
        new(planned.Aspect, planned.Contestant, planned.Scenario, settings);

    // What is timed needs the tensors, all else its scenario's population.
    private CaseRecord Measure(
        PlannedCase planned, ProbeSettings settings, Lazy<ScenarioPool>? pool = null, Dictionary<Workload, SpeedTensors>? tensors = null)
    {
        long began = Stopwatch.GetTimestamp();
        ProbeCase probe = NewProbe(planned, settings);
        try
        {
            switch (planned.Aspect)
            {
                case Comparison.Aspects.Outputs:
                    OutputProbe.Measure(probe, pool!.Value, _contestants);
                    break;
                case Comparison.Aspects.Gradients:
                    GradientProbe.Measure(probe, pool!.Value);
                    break;
                case Comparison.Aspects.BatchSize:
                    BatchSizeProbe.Measure(probe, pool!.Value);
                    break;
                default:
                    SpeedProbe.Measure(probe, tensors!);
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

    private void RequireThreads()
    {
        if (Threads is < 1 or > 256)
        {
            throw new ArgumentException($"The thread count must be 1 to 256; got {Threads}.");
        }
    }

    private List<PlannedCase> Plan()
    {
        if (Aspects.FirstOrDefault(aspect => !Comparison.Aspects.All.Contains(aspect)) is { } unknown)
        {
            throw new ArgumentException($"There is no aspect '{unknown}'. The aspects are {string.Join(", ", Comparison.Aspects.All)}.");
        }

        IReadOnlyList<Scenario> scenarios = _scenarios.Value;
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

    // Hands each record over as its case ends, so that it is on disk; whoever reads puts them in the order of the plan.
    private sealed class Delivery(Action<CaseRecord> finished, IProgress<ComparisonProgress>? progress, int done, int total)
    {
        private readonly Lock _gate = new();
        private int _done = done;

        public void Begin(string id)
        {
            lock (_gate)
            {
                progress?.Report(new ComparisonProgress(_done, total, id));
            }
        }

        public void Finish(CaseRecord record)
        {
            lock (_gate)
            {
                finished(record);
                _done++;
            }
        }

        public void End() => progress?.Report(new ComparisonProgress(total, total, null));
    }
}
