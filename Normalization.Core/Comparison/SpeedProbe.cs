namespace Normalization.Core.Comparison;

/// <summary>What it costs, in float: time, throughput, the ratio to a memory copy, allocation. Nothing is timed unchecked.</summary>
internal static class SpeedProbe
{
    private const string Forward = SpeedTensors.Forward;
    private const string Backward = SpeedTensors.Backward;
    private const string Inference = SpeedTensors.Inference;

    private static readonly string[] MetricIds = ["ns_per_element", "gigabytes_per_second", "fraction_of_copy", "copy_ns_per_element", "bytes_allocated"];

    // The runtime optimizes what was called often once nothing new has been called for 100 ms.
    private static readonly TimeSpan BackgroundDelay = TimeSpan.FromMilliseconds(150);

    /// <summary>The stand-in scenario of the aspect: its shapes are parameters of the rows.</summary>
    public static Scenario Scenario { get; } = new(
        "speed", "speed", "Standard normal float values; shape, memory layout and threads are in each row.", new ActivationShape(1, 64),
        (samples, stream) =>
        {
            var values = new double[samples * 64];
            stream.FillGaussian(values);
            return values;
        });

    /// <summary>Measures one contestant on the usual workloads.</summary>
    /// <param name="probe">Receives the rows.</param>
    /// <param name="tensors">What contestants before were timed on; what is missing is added.</param>
    public static void Measure(ProbeCase probe, Dictionary<Workload, SpeedTensors> tensors) => Measure(probe, Workloads(probe.Settings), tensors);

    /// <summary>Measures one contestant on the given workloads.</summary>
    public static void Measure(ProbeCase probe, IReadOnlyList<Workload> workloads, Dictionary<Workload, SpeedTensors> tensors)
    {
        int threads = KernelThreads.Count;
        try
        {
            foreach (Workload workload in workloads)
            {
                KernelThreads.Count = workload.Threads;
                if (!tensors.TryGetValue(workload, out SpeedTensors? data))
                {
                    tensors[workload] = data = SpeedTensors.Random(workload, probe.Stream(workload.Shape.ToString()));
                }

                Measure(probe, workload, data);
            }
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    /// <summary>Runs everything that will be timed until the runtime has compiled it for speed.</summary>
    public static void Warm(IReadOnlyList<ProbeCase> probes)
    {
        int threads = KernelThreads.Count;
        SpeedTensors[] tensors = [.. Workloads(probes[0].Settings).Select(workload =>
        {
            nint perSample = workload.Shape.Count / workload.Shape.Samples;
            ActivationShape few = workload.Shape.WithSamples(Math.Clamp((1 << 18) / perSample, 2, workload.Shape.Samples));
            return SpeedTensors.Random(workload with { Shape = few }, probes[0].Stream("warm-up"));
        })];
        try
        {
            WarmUp.UntilCompiled(
                () =>
                {
                    foreach (ProbeCase probe in probes)
                    {
                        foreach (SpeedTensors data in tensors)
                        {
                            probe.Settings.Cancellation.ThrowIfCancellationRequested();
                            KernelThreads.Count = data.Workload.Threads;
                            Warm(probe, data);
                        }
                    }
                },
                least: 3, most: 5, BackgroundDelay, probes[0].Settings.Cancellation);
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    private static void Warm(ProbeCase probe, SpeedTensors data)
    {
        try
        {
            INormalizer<float> normalizer = probe.Create<float>(data.Workload.Shape, Affine.Random);
            data.Run(normalizer, Forward, 2);
            data.Run(normalizer, Backward, 2);
            data.CopySeconds(2);
            normalizer.Training = false;
            data.Run(normalizer, Inference, 2);
        }
        catch (Exception exception) when (exception is not (OperationCanceledException or OutOfMemoryException))
        {
            // Its own case will say so.
        }
    }

    private static List<Workload> Workloads(ProbeSettings settings)
    {
        int threads = settings.Threads;
        var middle = new ActivationShape(32, 64, 14, 14);
        var list = new List<Workload>
        {
            new(middle.WithSamples(31), false, threads),
            new(middle, false, threads),
            new(middle.WithSamples(33), false, threads),
            new(middle, true, threads),
            new(new ActivationShape(2048, 64), false, threads),
            new(new ActivationShape(32, 64, 56, 56), false, threads),
        };
        if (threads > 1)
        {
            list.Insert(2, new(middle, false, 1));
        }

        if (settings.Thorough)
        {
            list.Add(new(new ActivationShape(32, 64, 56, 56), true, threads));
            list.Add(new(new ActivationShape(8, 32, 8, 14, 14), false, threads));
            list.Add(new(new ActivationShape(64, 32, 500), false, threads));
        }

        return list;
    }

    private static void Measure(ProbeCase probe, Workload workload, SpeedTensors data)
    {
        var reference = new SpeedReference(data, () => probe.Create<double>(workload.Shape, Affine.Random));
        double? limit = null;
        foreach (string direction in new[] { Forward, Backward, Inference })
        {
            var parameters = new Dictionary<string, object>(StringComparer.Ordinal)
            {
                ["shape"] = workload.Shape.ToString(),
                ["layout"] = workload.ChannelsLast ? "channels-last" : "channels-first",
                ["direction"] = direction,
                ["threads"] = (long)workload.Threads,
            };
            probe.Attempt(MetricIds, () =>
            {
                limit ??= Limit(probe, workload.Shape, data.ExactInput);
                INormalizer<float> normalizer = probe.Create<float>(workload.Shape, Affine.Random);
                if (Check(data, normalizer, reference, direction, limit.Value) is { } wrong)
                {
                    string where = $"{direction} of {workload.Shape}, {parameters["layout"]}";
                    probe.Missing(MetricIds, $"not timed: {wrong}", parameters);
                    probe.Fail($"Not timed, {where}: {wrong}.");
                    return;
                }

                Time(probe, data, normalizer, direction, parameters);
            }, parameters);
        }
    }

    /// <summary>How far a float result may be from the double one, over its largest value.</summary>
    /// <remarks>A standardization within sets errs by a few roundings; what mixes its sets carries the error of their mixing.</remarks>
    internal static double Limit(ProbeCase probe, ActivationShape shape, double[] input)
    {
        ActivationShape few = shape.WithSamples(Math.Min(8, shape.Samples));
        bool standardizes = ReductionSets.Of(probe.Create<double>(shape, Affine.Random), few) is { } sets
            && probe.StandardizesWithinSets(few, input[..(int)few.Count], sets);
        return standardizes ? OutputProbe.SetLimit : OutputProbe.TensorLimit;
    }

    /// <summary>Null, or what differs from the double instance.</summary>
    /// <remarks>
    /// Leaves the float instance as it is timed: of a backward pass one training forward pass behind it and the gradients of one call in
    /// its parameters; of inference out of training, after one training forward pass where it came in training.
    /// </remarks>
    internal static string? Check(SpeedTensors data, INormalizer<float> normalizer, SpeedReference reference, string direction, double limit)
    {
        double[] exact = reference.Result(direction);
        if (direction != Inference || normalizer.Training)
        {
            data.Blot(Forward);
            data.Run(normalizer, Forward, 1);
        }

        if (direction == Inference)
        {
            normalizer.Training = false;
            data.Blot(Inference);
            data.Run(normalizer, Inference, 1);
        }
        else if (direction == Backward)
        {
            normalizer.ZeroGradients();
            data.Blot(Backward);
            try
            {
                data.Run(normalizer, Backward, 1);
            }
            catch (Exception refusal) when (ProbeCase.IsRefusal(refusal))
            {
                throw new FaultException(refusal);
            }

            for (int i = 0; i < reference.Parameters.Count; i++)
            {
                // A parameter's gradient adds up terms of the upstream gradient's size.
                Parameter<double> parameter = reference.Parameters[i];
                double scale = Math.Max(reference.SumOfUpstream / parameter.Gradient.Length, Arithmetic.Largest(parameter.Gradient));
                double off = Arithmetic.LargestDifference(normalizer.Parameters[i].Gradient, parameter.Gradient) / scale;
                if (!(off <= limit))
                {
                    return FormattableString.Invariant($"the {parameter.Name} gradient differs from the double instance by {off:0.0e+0} of its scale, above {limit:0.0e+0}");
                }
            }
        }

        double error = Arithmetic.Ratio(Arithmetic.LargestDifference(data.ToRows(data.Result(direction)), exact), Arithmetic.Largest(exact));
        return error <= limit ? null
            : FormattableString.Invariant($"the result differs from the double instance by {error:0.0e+0} of its largest value, above {limit:0.0e+0}");
    }

    private static void Time(
        ProbeCase probe, SpeedTensors data, INormalizer<float> normalizer, string direction, IReadOnlyDictionary<string, object> parameters)
    {
        TimingPlan plan = probe.Settings.Thorough ? new() { MostRounds = 101, Budget = 1 } : new() { LeastRounds = 5, MostRounds = 15, Budget = 0.03 };
        TimedRounds rounds = InterleavedTimer.Run(
            [data.CopySeconds, calls => data.Seconds(normalizer, direction, calls)], plan, probe.Settings.Seed, probe.Settings.Cancellation);
        AddRows(probe, data.Input.Length, data.BytesMoved(normalizer, direction), rounds, parameters);
        probe.Add("bytes_allocated", data.Allocated(normalizer, direction), parameters: parameters);
    }

    /// <summary>Records what a call takes, beside the copy of its tensor.</summary>
    /// <param name="probe">Receives the rows.</param>
    /// <param name="elements">Elements of the tensor.</param>
    /// <param name="bytes">Bytes a memory-bound implementation must move in a call.</param>
    /// <param name="rounds">The copy timed as the first contestant, the call as the second.</param>
    /// <param name="parameters">The rows' parameters.</param>
    internal static void AddRows(ProbeCase probe, double elements, double bytes, TimedRounds rounds, IReadOnlyDictionary<string, object> parameters)
    {
        double copied = elements * sizeof(float) * 2;
        Add("ns_per_element", rounds.Time(1).Times(1e9 / elements));
        Add("gigabytes_per_second", rounds.Time(1).Under(bytes / 1e9));
        Add("fraction_of_copy", rounds.Ratio(0, 1).Times(bytes / copied));
        Add("copy_ns_per_element", rounds.Time(0).Times(1e9 / elements));

        void Add(string metric, Estimate estimate) => probe.Add(metric, estimate.Value, estimate.Spread, parameters);
    }

    /// <summary>Records how near a call comes to its bound: a copy of what must be moved once, and a second read of what no cache of a core can keep.</summary>
    /// <param name="probe">Receives the rows.</param>
    /// <param name="elements">Elements of the tensor.</param>
    /// <param name="bytes">Bytes a memory-bound implementation must move in a call, each once.</param>
    /// <param name="rounds">The copy timed as the first contestant, the call as the second.</param>
    /// <param name="read">The place of the contestant that reads what the call must read a second time; null where that is nothing.</param>
    /// <param name="parameters">The rows' parameters.</param>
    internal static void AddBound(
        ProbeCase probe, double elements, double bytes, TimedRounds rounds, (int Contestant, string What)? read, IReadOnlyDictionary<string, object> parameters)
    {
        double moved = bytes / (elements * sizeof(float) * 2);
        Estimate fraction = rounds.Ratio(read is { } second ? [(0, moved), (second.Contestant, 1)] : [(0, moved)], 1);
        probe.Add("fraction_of_bound", fraction.Value, fraction.Spread, parameters);
        if (read is { } again)
        {
            Estimate time = rounds.Time(again.Contestant).Times(1e9 / elements);
            probe.Add("second_read_ns_per_element", time.Value, time.Spread, parameters, again.What);
        }
    }
}
