using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Kernels;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Speed;

/// <summary>A peer the run asked for; where it is not installed, why.</summary>
internal sealed record PeerSeat(string Id, IPeer? Peer, string? Missing)
{
    /// <summary>Name and version, or that it is missing.</summary>
    public string Description => Peer?.Version ?? $"missing: {Missing}";
}

/// <summary>Engine (a) of the benchmark: our strategies, the copy and the peers of a case timed in turns, every result checked before it is timed.</summary>
/// <param name="tier">How long each case is timed.</param>
/// <param name="cases">What to time; of the tier's.</param>
/// <param name="peers">Beside whom.</param>
/// <param name="seed">Where the values and the intervals' resamples come from.</param>
/// <param name="crossCheckFolder">Where engine (b) leaves what it exports.</param>
internal sealed class SpeedBench(SpeedTier tier, IReadOnlyList<SpeedCase> cases, IReadOnlyList<PeerSeat> peers, long seed, string crossCheckFolder)
{
    // Seconds in which several threads that slept have found a processor each: two ticks of a scheduler of 250 a second.
    private const double WakeUp = 8e-3;

    // Of a tensor's bytes, and at most: in which it has been worked on so often that a third-level cache of hundreds of megabytes holds what it is going to
    // hold of it. After one call half is still read from memory, and how much hangs on who was called before.
    private const double SteadyPerByte = 1e-9;
    private const double LongestSteady = 32e-3;

    private const string Fastest = "speedup_vs_fastest_peer";

    // Of float and double results and gradients, ours and a peer's, at the same time.
    private const double BytesPerElement = 150;

    // Beyond these the runtime is not left to decide when memory is free again.
    private const double CollectedBytes = 1 << 30;

    // A method is compiled for speed after 30 calls.
    private const int CallsToCompile = 40;

    // Seconds of a call beyond which its methods were called often enough before, and there is no time for more.
    private const double LongestBrief = 0.2e-3;

    // Elements of which a call takes so long that what is around the loops does not show; most loops are compiled for speed at once, the others by what was warmed.
    private const long LongTensor = 1 << 20;

    private static readonly TimeSpan BackgroundDelay = TimeSpan.FromMilliseconds(40);

    private static readonly string[] OwnMetrics = ["ns_per_element", "gigabytes_per_second", "fraction_of_copy", "copy_ns_per_element", "bytes_allocated"];

    private readonly Dictionary<string, double> _limits = new(StringComparer.Ordinal);
    private (SpeedCase Case, CaseMaterial Material)? _last;
    private long _compiled; // methods, when the last case that was timed had ended: what came since has not been settled

    /// <summary>What identifies the run: the first line of its records.</summary>
    /// <param name="environment">The machine and the program.</param>
    /// <param name="further">Settings beside the tier, the seed and the peers.</param>
    public RunHeader Describe(RunEnvironment environment, IEnumerable<KeyValuePair<string, string>> further) => new()
    {
        Environment = environment,
        Settings = new Dictionary<string, string>(
            [
                new("tier", tier.Name),
                new("seed", seed.ToString(CultureInfo.InvariantCulture)),
                new("threads", string.Join(",", tier.Threads)),
                new("epsilon", "1e-5"),
                new("affine", "random weight and bias"),
                new("second_level_cache", CacheSizes.SecondLevelDescription),
                new("warm_up", FormattableString.Invariant(
                    $"{1e3 * SteadyPerByte * 1e6 * tier.WarmUpShare:0.##} ms per MB before each sample, at most {1e3 * LongestSteady * tier.WarmUpShare:0.##}; several threads {1e3 * SteadyPerByte * 1e6:0.##} ms, {1e3 * WakeUp:0.##} to {1e3 * LongestSteady:0.##}")),
                .. peers.Select(seat => new KeyValuePair<string, string>(seat.Id, seat.Description)),
                .. further,
            ],
            StringComparer.Ordinal),
        Strategies =
        [
            .. cases.Select(planned => planned.Strategy).Distinct().OrderBy(id => StrategyCatalog.Ids.ToList().IndexOf(id))
                .Select(id => StrategyCatalog.Contestant(id, cases[0].Settings with { GroupSize = null }))
                .Select(contestant => new StrategyDescription(contestant.Id, contestant.Axes, contestant.Options)),
        ],
        Scenarios = [new(SpeedProbe.Scenario.Id, SpeedProbe.Scenario.Title, SpeedProbe.Scenario.Description)],
        CaseCount = cases.Count,
    };

    /// <summary>Measures every case that is not done yet.</summary>
    /// <param name="finished">Receives each record as its case ends.</param>
    /// <param name="done">Ids of cases to skip.</param>
    /// <param name="progress">Told when a case begins.</param>
    /// <param name="cancellation">Ends the run between rounds.</param>
    /// <exception cref="OperationCanceledException">Cancelled; every case that had ended was handed over.</exception>
    public void Run(Action<CaseRecord> finished, IReadOnlySet<string> done, IProgress<ComparisonProgress> progress, CancellationToken cancellation)
    {
        int threads = KernelThreads.Count;
        SpeedCase[] left = [.. cases.Where(planned => !done.Contains(planned.Id))];
        try
        {
            if (left.Length > 0)
            {
                progress.Report(new ComparisonProgress(cases.Count - left.Length, cases.Count, left[0].Id));
                Warm(left, cancellation);
            }

            for (int index = 0; index < left.Length; index++)
            {
                cancellation.ThrowIfCancellationRequested();
                progress.Report(new ComparisonProgress(cases.Count - left.Length + index, cases.Count, left[index].Id));
                CaseRecord record = Measure(left[index], cancellation);

                // A process that the signal stopped too has not failed.
                cancellation.ThrowIfCancellationRequested();
                finished(record);
                _compiled = record.Failure is null ? JitInfo.GetCompiledMethodCount() : _compiled;
            }
        }
        finally
        {
            KernelThreads.Count = threads;
            _last = null;
        }
    }

    // Small tensors of each rank reach nearly all of the code.
    private void Warm(IReadOnlyList<SpeedCase> left, CancellationToken cancellation)
    {
        SpeedCase[] small = [.. left.Where(planned => !planned.IsCrossCheck).Select(Smaller).DistinctBy(planned => planned.Id)];
        WarmUp.UntilCompiled(
            () =>
            {
                foreach (SpeedCase planned in small)
                {
                    cancellation.ThrowIfCancellationRequested();
                    KernelThreads.Count = planned.Threads;
                    try
                    {
                        Warm(planned);
                    }
                    catch (Exception exception) when (exception is not (OperationCanceledException or OutOfMemoryException))
                    {
                        // Its own case will say so.
                    }
                }
            },
            least: 2, most: 4, BackgroundDelay, cancellation);

        static SpeedCase Smaller(SpeedCase planned) => planned with
        {
            Shape = planned.Strategy == "zca-whitening" ? new(8, Math.Min(planned.Shape.Channels, 64), 7, 7)
                : planned.Shape.Rank == 2 ? new(64, 128)
                : new(8, 32, 14, 14),
            Scaling = null,
        };
    }

    private void Warm(SpeedCase planned)
    {
        CaseMaterial material = Material(planned);
        var own = new OwnCall(planned, material);
        own.Check(double.PositiveInfinity);
        own.Seconds(CallsToCompile);
        own.Tensors.CopySeconds(CallsToCompile);
        own.Tensors.ReadSeconds(1, CallsToCompile);
        foreach (PeerSeat seat in planned.HasPeers ? peers : [])
        {
            if (!IsCompiledHere(seat) || Absence(seat, planned) is not null)
            {
                continue;
            }

            IReadOnlyList<PeerCall> calls = PeerCall.Prepare(seat, planned, material.Data);
            try
            {
                foreach (PeerCall call in calls)
                {
                    call.Seconds(CallsToCompile);
                }
            }
            finally
            {
                Release(calls);
            }
        }
    }

    // The rest of the code is met in the case itself: what is new is run until it is compiled for speed.
    private void Settle(IReadOnlyList<Func<int, double>> contestants, CancellationToken cancellation)
    {
        Func<int, double>[] brief = [.. contestants.Where(contestant => contestant(1) < LongestBrief)];
        void Run()
        {
            foreach (Func<int, double> contestant in brief)
            {
                contestant(CallsToCompile);
            }
        }

        Run();
        if (JitInfo.GetCompiledMethodCount() != _compiled)
        {
            WarmUp.UntilCompiled(Run, least: 1, most: 10, BackgroundDelay, cancellation);
        }
    }

    // PyTorch has a process of its own, where nothing is compiled.
    private static bool IsCompiledHere(PeerSeat seat) => seat.Peer is not PyTorchPeer;

    private CaseRecord Measure(SpeedCase planned, CancellationToken cancellation)
    {
        long began = Stopwatch.GetTimestamp();
        Contestant contestant = StrategyCatalog.Contestant(planned.Strategy, planned.Settings);
        var probe = new ProbeCase(
            Aspects.Speed, contestant, SpeedProbe.Scenario, new ProbeSettings { Seed = seed, Threads = planned.Threads, Cancellation = cancellation });
        try
        {
            KernelThreads.Count = planned.Threads;
            if (MemoryRefusal(planned.Shape) is { } refusal)
            {
                probe.Missing(OwnMetrics, refusal, planned.Parameters);
            }
            else if (planned.IsCrossCheck)
            {
                CrossCheck.Measure(probe, planned, tier.Plan, crossCheckFolder);
            }
            else
            {
                probe.Attempt(OwnMetrics, () => Measure(probe, planned), planned.Parameters);
            }
        }
        catch (Exception exception) when (exception is not (OperationCanceledException or OutOfMemoryException))
        {
            // A bug in one case does not end the run.
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

    private void Measure(ProbeCase probe, SpeedCase planned)
    {
        CaseMaterial material = Material(planned);
        var own = new OwnCall(planned, material);
        Dictionary<PeerSeat, string?> absences = planned.HasPeers ? peers.ToDictionary(seat => seat, seat => Absence(seat, planned)) : [];
        PeerSeat[] present = [.. absences.Keys.Where(seat => absences[seat] is null).OrderByDescending(IsCompiledHere)];

        // A process of its own computes while ours is checked, and while those of this process are.
        var kept = new TaskCompletionSource();
        var prepared = new ConcurrentBag<PeerCall>();
        List<Attempt> Try(PeerSeat seat) => Attempts(seat, planned, material.Data, own, kept.Task, prepared);
        Dictionary<PeerSeat, Task<List<Attempt>>> elsewhere =
            present.Where(seat => !IsCompiledHere(seat)).ToDictionary(seat => seat, seat => Task.Run(() => Try(seat)));
        try
        {
            if (own.Check(Limit(probe, planned)) is { } wrong)
            {
                probe.Missing(OwnMetrics, $"not timed: {wrong}", planned.Parameters);
                probe.Fail($"Not timed, {planned.Id}: {wrong}.");
                return;
            }

            if (present.Length > 0)
            {
                own.KeepResults();
            }

            kept.SetResult();

            // Seats without a call that may be timed say why.
            Dictionary<string, string> reasons = absences.Where(pair => pair.Value is not null).ToDictionary(pair => pair.Key.Id, pair => pair.Value!, StringComparer.Ordinal);
            List<PeerCall> calls = [];
            foreach (PeerSeat seat in present)
            {
                calls.AddRange(Agreeing(
                    probe, planned, seat, () => elsewhere.TryGetValue(seat, out Task<List<Attempt>>? task) ? task.GetAwaiter().GetResult() : Try(seat), reasons));
            }

            bool hasBound = planned.Shape.Count * sizeof(float) >= SpeedTensors.LargeBytes;
            int twice = hasBound ? own.TensorsReadTwice : 0;
            Func<int, double>[] secondRead = twice > 0 ? [times => own.Tensors.ReadSeconds(twice, times)] : [];
            Func<int, double>[] Beside(IEnumerable<PeerCall> some) =>
                [own.Tensors.CopySeconds, own.Seconds, .. some.Select<PeerCall, Func<int, double>>(call => call.Seconds), .. secondRead];
            Func<int, double>[] contestants = Beside(calls);
            if (planned.Shape.Count < LongTensor)
            {
                Settle(Beside(calls.Where(call => IsCompiledHere(call.Seat))), probe.Settings.Cancellation);
            }

            TimedRounds rounds = InterleavedTimer.Run(
                contestants, tier.Plan with { WarmUp = WarmUpSeconds(planned.Shape, planned.Threads) * (planned.Threads > 1 ? 1 : tier.WarmUpShare) }, seed, probe.Settings.Cancellation,
                calls.Where(call => call.WarmsItself).Select(call => 2 + calls.IndexOf(call)).ToHashSet());
            SpeedProbe.AddRows(probe, planned.Shape.Count, own.BytesMoved, rounds, planned.Parameters);
            if (hasBound)
            {
                SpeedProbe.AddBound(
                    probe, planned.Shape.Count, own.BytesMoved, rounds, twice > 0 ? (contestants.Length - 1, twice == 1 ? "x" : "x and dy") : null, planned.Parameters);
            }

            probe.Add("bytes_allocated", own.Allocated, parameters: planned.Parameters);
            if (planned is { Strategy: "zca-whitening", Scaling: null, Threads: 1 })
            {
                AddParts(probe, planned, own);
            }

            if (planned.HasPeers)
            {
                AddRatios(probe, planned, rounds, calls, reasons);
            }
        }
        finally
        {
            // Where ours failed there is nothing to compare with; what is being readied has to end before another case asks the same process.
            kept.TrySetCanceled();
            Task ended = Task.WhenAll(elsewhere.Values);
            ended.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing).GetAwaiter().GetResult();
            Release(prepared);
        }
    }

    // What whitening spends its time on, by clocks inside it that cost next to nothing; they are meant for one thread.
    private void AddParts(ProbeCase probe, SpeedCase planned, OwnCall own)
    {
        WhiteningPhase[] phases = Enum.GetValues<WhiteningPhase>();
        List<double>[] seconds = [.. phases.Select(_ => new List<double>())];
        try
        {
            WhiteningClock.Enabled = true;
            for (int round = 0; round < tier.Plan.LeastRounds; round++)
            {
                probe.Settings.Cancellation.ThrowIfCancellationRequested();
                WhiteningClock.Reset();
                own.Run(1);
                for (int phase = 0; phase < phases.Length; phase++)
                {
                    seconds[phase].Add(WhiteningClock.Seconds(phases[phase]));
                }
            }
        }
        finally
        {
            WhiteningClock.Enabled = false;
        }

        for (int phase = 0; phase < phases.Length; phase++)
        {
            Estimate time = Bootstrap.Median(seconds[phase], new RandomStream(seed, "bootstrap")).Times(1e9 / planned.Shape.Count);
            probe.Add(
                "ns_per_element", time.Value, time.Spread, new Dictionary<string, object>(planned.Parameters, StringComparer.Ordinal) { ["part"] = Text.Kebab(phases[phase]) });
        }
    }

    private static void Release(IEnumerable<PeerCall> calls)
    {
        foreach (PeerCall call in calls)
        {
            call.Dispose();
        }
    }

    // A peer's call, made once, and how far it is from ours.
    private sealed record Attempt(PeerCall Call, double Off);

    // Each of a peer's calls, made once and held against what was kept of ours. The caller frees what was prepared, whether it agrees, differs or throws.
    private static List<Attempt> Attempts(
        PeerSeat seat, SpeedCase planned, CellData data, OwnCall own, Task kept, ConcurrentBag<PeerCall> prepared)
    {
        IReadOnlyList<PeerCall> calls = PeerCall.Prepare(seat, planned, data);
        foreach (PeerCall call in calls)
        {
            prepared.Add(call);
        }

        kept.GetAwaiter().GetResult();
        var attempts = new List<Attempt>();
        foreach (PeerCall call in calls)
        {
            // Those of this process write to the same tensors; another makes its call when it is asked for the result.
            if (IsCompiledHere(seat))
            {
                own.BlotResults();
                call.Seconds(1);
            }

            attempts.Add(new Attempt(call, call.DifferenceFrom(own)));
        }

        return attempts;
    }

    // Those that agree with ours; a peer without any has its reason. Another variant of a peer that broke would break the timing of all.
    private static List<PeerCall> Agreeing(
        ProbeCase probe, SpeedCase planned, PeerSeat seat, Func<List<Attempt>> attempt, Dictionary<string, string> reasons)
    {
        var agreeing = new List<PeerCall>();
        try
        {
            foreach ((PeerCall call, double off) in attempt())
            {
                if (off <= Agreement.Limit)
                {
                    agreeing.Add(call);
                    continue;
                }

                reasons[seat.Id] = FormattableString.Invariant(
                    $"not timed: {call.Name} differs from ours by {off:0.0e+0} of the largest value, above {Agreement.Limit:0.0e+0}");
                probe.Fail($"{planned.Id}: {reasons[seat.Id]}.");
            }
        }
        catch (Exception failure) when (failure is InvalidOperationException or IOException or NotSupportedException)
        {
            reasons[seat.Id] = $"not timed: {Text.OneLine(failure.Message)}";
            probe.Fail($"{planned.Id}, {seat.Id}: {reasons[seat.Id]}");
        }

        return agreeing;
    }

    // Null where the peer has the case; else why not.
    private static string? Absence(PeerSeat seat, SpeedCase planned) =>
        seat.Peer is null ? seat.Missing : planned.Passes.Select(pass => seat.Peer.Lacks(planned.Cell(pass))).FirstOrDefault(lack => lack is not null);

    private void AddRatios(
        ProbeCase probe, SpeedCase planned, TimedRounds rounds, List<PeerCall> calls, Dictionary<string, string> reasons)
    {
        // The copy is the first contestant, ours the second.
        int FastestOf(IEnumerable<PeerCall> some) => some.Select(call => 2 + calls.IndexOf(call)).MinBy(index => rounds.Time(index).Value);

        void Add(string metric, PeerCall[] some, string reason)
        {
            if (some.Length == 0)
            {
                probe.Add(metric, null, parameters: planned.Parameters, note: reason);
                return;
            }

            int index = FastestOf(some);
            Estimate ratio = rounds.Ratio(index, 1);
            string time = (rounds.Time(index).Value * 1e9 / planned.Shape.Count).ToString("G3", CultureInfo.InvariantCulture);
            probe.Add(metric, ratio.Value, ratio.Spread, planned.Parameters, $"{calls[index - 2].Name}: {time} ns/element");
        }

        foreach (PeerSeat seat in peers)
        {
            Add($"speedup_vs_{seat.Id}", [.. calls.Where(call => call.Seat == seat)], reasons.GetValueOrDefault(seat.Id, "not timed"));
        }

        Add(Fastest, [.. calls], "no peer of this run has it");
    }

    // Kept for the next directions of the same tensor.
    private CaseMaterial Material(SpeedCase planned)
    {
        SpeedCase tensor = planned with { Direction = "" };
        if (_last?.Case != tensor)
        {
            // What is not needed any more is free before its like is allocated: two tensors of 2^27 elements with their checks do not fit many a machine.
            _last = null;
            if (planned.Shape.Count * BytesPerElement > CollectedBytes)
            {
                GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            }

            _last = (tensor, new CaseMaterial(planned, new RandomStream(seed, "speed", planned.Strategy, planned.Shape.ToString())));
        }

        return _last.Value.Material;
    }

    private double Limit(ProbeCase probe, SpeedCase planned)
    {
        string key = planned.Strategy + planned.GroupSize;
        if (!_limits.TryGetValue(key, out double limit))
        {
            var shape = new ActivationShape(8, 64, 4, 4);
            var input = new double[shape.Count];
            new RandomStream(seed, "limit").FillGaussian(input);
            _limits[key] = limit = SpeedProbe.Limit(probe, shape, input);
        }

        return limit;
    }

    /// <summary>Seconds that each contestant is called for before a sample.</summary>
    internal static double WarmUpSeconds(ActivationShape shape, int threads) =>
        Math.Max(threads > 1 ? WakeUp : 0, Math.Min(shape.Count * sizeof(float) * SteadyPerByte, LongestSteady));

    /// <summary>Null, or why a tensor of this shape cannot be timed on this machine; nothing is allocated to find out.</summary>
    internal static string? MemoryRefusal(ActivationShape shape)
    {
        double needed = shape.Count * BytesPerElement;
        double available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        return shape.Count > Array.MaxLength ? $"{shape} has {shape.Count} elements and an array holds at most {Array.MaxLength}"
            : needed > available ? FormattableString.Invariant($"{shape} and its checks need about {needed / 1e9:0.0} GB and the machine lends {available / 1e9:0.0} GB")
            : null;
    }
}
