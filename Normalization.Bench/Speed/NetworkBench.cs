using System.Diagnostics;
using System.Globalization;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Speed;

/// <summary>Training steps of whole networks timed in turns with PyTorch's, which is first found to make the same step.</summary>
/// <param name="cases">What to time.</param>
/// <param name="worker">PyTorch; null where it is not installed.</param>
/// <param name="missing">Why it is not.</param>
/// <param name="plan">How long each case is timed.</param>
/// <param name="seed">Where weights, batches and the intervals' resamples come from.</param>
internal sealed class NetworkBench(IReadOnlyList<NetworkCase> cases, PyTorchWorker? worker, string? missing, TimingPlan plan, long seed)
{
    /// <summary>The learning rate of the steps that are timed: low, so that thousands of them on one batch stay in the range of training.</summary>
    public const double Rate = 1e-3;

    /// <summary>How far a parameter's step may be from ours, over the largest of its array: what float leaves of a small step.</summary>
    private const double Limit = 1e-3;

    private const string Time = "step_milliseconds";
    private const string Ratio = "speedup_vs_pytorch";
    private const string Allocated = "bytes_allocated";

    private static readonly TimeSpan BackgroundDelay = TimeSpan.FromMilliseconds(150);

    /// <summary>What identifies the run.</summary>
    /// <param name="environment">The machine and the program.</param>
    /// <param name="further">Settings beside these.</param>
    public RunHeader Describe(RunEnvironment environment, IEnumerable<KeyValuePair<string, string>> further) => new()
    {
        Environment = environment,
        Settings = new Dictionary<string, string>(
            [
                new("seed", seed.ToString(CultureInfo.InvariantCulture)),
                new("threads", string.Join(",", cases.Select(planned => planned.Threads).Distinct())),
                new("pytorch", worker?.Version ?? $"missing: {missing}"),
                .. further,
            ],
            StringComparer.Ordinal),
        Strategies =
        [
            .. cases.Select(planned => planned.Strategy).Distinct().Select(id => StrategyCatalog.Contestant(id, new StrategySettings()))
                .Select(contestant => new StrategyDescription(contestant.Id, contestant.Axes, contestant.Options)),
        ],
        Scenarios = [new("networks", "networks", "One batch of standard normal values, over and over.")],
        CaseCount = cases.Count,
    };

    /// <summary>Measures every case that is not done yet, as <see cref="Comparer.Run"/> does.</summary>
    public void Run(Action<CaseRecord> finished, IReadOnlySet<string> done, IProgress<ComparisonProgress> progress, CancellationToken cancellation)
    {
        int threads = KernelThreads.Count;
        try
        {
            for (int i = 0; i < cases.Count; i++)
            {
                if (!done.Contains(cases[i].Id))
                {
                    progress.Report(new ComparisonProgress(i, cases.Count, cases[i].Id));
                    KernelThreads.Count = cases[i].Threads;
                    CaseRecord record = Measure(cases[i], cancellation);

                    // A process that the signal stopped too has not failed.
                    cancellation.ThrowIfCancellationRequested();
                    finished(record);
                }
            }
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    private CaseRecord Measure(NetworkCase planned, CancellationToken cancellation)
    {
        long began = Stopwatch.GetTimestamp();
        var rows = new List<Measurement>();
        string? failure;
        try
        {
            failure = Measure(planned, rows, cancellation);
        }
        catch (Exception exception) when (exception is not (OperationCanceledException or OutOfMemoryException))
        {
            // A bug in one case, or a PyTorch process that is gone, does not end the run.
            failure = $"{exception.GetType().Name}: {exception.Message}";
        }

        return new CaseRecord { Case = planned.Id, Seconds = Stopwatch.GetElapsedTime(began).TotalSeconds, Measurements = rows, Failure = failure };
    }

    // Adds a case's rows; what failed, or null.
    private string? Measure(NetworkCase planned, List<Measurement> rows, CancellationToken cancellation)
    {
        string? failure = null;
        var own = new NetworkStep(planned, seed);
        using PyTorchNetwork? peer = Prepare(planned, own, out string? reason);
        if (peer is not null && Difference(planned, peer) is var off && !(off <= Limit))
        {
            failure = reason = FormattableString.Invariant($"not timed: a step of PyTorch's differs from ours by {off:0.0e+0} of the largest, above {Limit:0.0e+0}");
        }
        else if (peer is null && worker is not null)
        {
            failure = reason;
        }

        PyTorchNetwork? rival = reason is null ? peer : null;
        WarmUp.UntilCompiled(() => own.Seconds(40), least: 2, most: 10, BackgroundDelay, cancellation);
        long before = GC.GetAllocatedBytesForCurrentThread();
        own.Run(Rate);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        string[] variants = [.. rival?.Variants ?? []];
        TimedRounds rounds = InterleavedTimer.Run(
            [own.Seconds, .. variants.Select<string, Func<int, double>>(variant => steps => rival!.Seconds(variant, steps))], plan, seed, cancellation);
        Estimate time = rounds.Time(0).Times(1e3);
        Add(Time, time.Value, time.Spread);
        Add(Allocated, allocated);
        if (variants.Length == 0)
        {
            Add(Ratio, null, note: reason);
        }
        else
        {
            int fastest = Enumerable.Range(1, variants.Length).MinBy(index => rounds.Time(index).Value);
            Estimate ratio = rounds.Ratio(fastest, 0);
            Add(Ratio, ratio.Value, ratio.Spread, FormattableString.Invariant($"{worker!.Version}, {variants[fastest - 1]}: {rounds.Time(fastest).Value * 1e3:G3} ms"));
        }

        return failure;

        void Add(string metric, double? value, IReadOnlyList<double>? spread = null, string? note = null) => rows.Add(new Measurement
        {
            Aspect = Aspects.Speed,
            Strategy = planned.Strategy,
            Scenario = "networks",
            Metric = metric,
            Value = value,
            Unit = Metrics.Get(metric).Unit,
            Spread = spread,
            Parameters = planned.Parameters,
            Note = note,
        });
    }

    private PyTorchNetwork? Prepare(NetworkCase planned, NetworkStep own, out string? reason)
    {
        reason = missing;
        try
        {
            return worker is null ? null : new PyTorchNetwork(worker, planned, own, Rate);
        }
        catch (Exception broken) when (broken is InvalidOperationException or IOException)
        {
            reason = $"not timed: {Text.OneLine(broken.Message)}";
            return null;
        }
    }

    // A step of rate 1 is the gradient: it is compared, since of the weights themselves a step changes little.
    private double Difference(NetworkCase planned, PyTorchNetwork peer)
    {
        var own = new NetworkStep(planned, seed);
        float[][] before = [.. own.Parameters.Select(parameter => (float[])parameter.Values.Clone())];
        own.Run(1);
        double worst = 0;
        foreach (string variant in peer.Variants)
        {
            float[][] theirs = peer.AfterOneStep(variant, own.Parameters);
            for (int i = 0; i < before.Length; i++)
            {
                TensorPrimitives.Subtract(theirs[i], before[i], theirs[i]);
                float[] ours = (float[])own.Parameters[i].Values.Clone();
                TensorPrimitives.Subtract(ours, before[i], ours);
                worst = Math.Max(worst, Agreement.Difference(theirs[i], ours, 0));
            }
        }

        return worst;
    }
}
