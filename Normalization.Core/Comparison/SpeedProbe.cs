using System.Diagnostics;
using System.Numerics.Tensors;
using Normalization.Core.Kernels;

namespace Normalization.Core.Comparison;

/// <summary>A tensor to time: its shape, its memory layout, the threads to use.</summary>
internal sealed record Workload(ActivationShape Shape, bool ChannelsLast, int Threads);

/// <summary>What it costs, in float: time, throughput, the ratio to a memory copy, allocation. Nothing is timed unchecked.</summary>
internal static class SpeedProbe
{
    private const string Forward = "forward";
    private const string Backward = "backward";
    private const string Inference = "inference";

    // A sample of the clock must last this long for its resolution not to matter.
    private const double ShortestSample = 0.4e-3;

    private static readonly string[] MetricIds = ["ns_per_element", "gigabytes_per_second", "fraction_of_copy", "copy_ns_per_element", "bytes_allocated"];

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
    public static void Measure(ProbeCase probe) => Measure(probe, Workloads(probe.Settings));

    /// <summary>Measures one contestant on the given workloads.</summary>
    public static void Measure(ProbeCase probe, IReadOnlyList<Workload> workloads)
    {
        int threads = KernelThreads.Count;
        try
        {
            foreach (Workload workload in workloads)
            {
                KernelThreads.Count = workload.Threads;
                Measure(probe, workload);
            }
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    /// <summary>Runs everything that will be timed until the runtime has compiled it for speed.</summary>
    public static void WarmUp(IReadOnlyList<ProbeCase> probes)
    {
        int threads = KernelThreads.Count;
        try
        {
            // The runtime optimizes what was called often, in the background, once nothing new has been called for 100 ms; with
            // profiling in between, twice.
            for (int round = 0; round < 3; round++)
            {
                foreach (ProbeCase probe in probes)
                {
                    foreach (Workload workload in Workloads(probe.Settings))
                    {
                        probe.Settings.Cancellation.ThrowIfCancellationRequested();
                        KernelThreads.Count = workload.Threads;
                        nint perSample = workload.Shape.Count / workload.Shape.Samples;
                        WarmUp(probe, workload with { Shape = workload.Shape.WithSamples(Math.Clamp((1 << 18) / perSample, 2, workload.Shape.Samples)) });
                    }
                }

                probes[0].Settings.Cancellation.WaitHandle.WaitOne(150);
            }
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    private static void WarmUp(ProbeCase probe, Workload workload)
    {
        try
        {
            var data = new Tensors(workload, probe.Stream("warm-up"));
            INormalizer<float> normalizer = probe.Create<float>(workload.Shape, Affine.Random);
            data.Run(normalizer, Forward, 2);
            data.Run(normalizer, Backward, 2);
            data.Copy(2);
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

    private static void Measure(ProbeCase probe, Workload workload)
    {
        var data = new Tensors(workload, probe.Stream(workload.Shape.ToString()));
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
                INormalizer<float> normalizer = probe.Create<float>(workload.Shape, Affine.Random);
                if (Check(probe, data, normalizer, direction) is { } wrong)
                {
                    string where = $"{direction} of {workload.Shape}, {parameters["layout"]}";
                    probe.Missing(MetricIds, $"not timed: {wrong}", parameters);
                    probe.Fail($"Not timed, {where}: {wrong}.");
                    return;
                }

                Time(probe, data, normalizer, direction, parameters);
                probe.Add("bytes_allocated", Allocated(data, normalizer, direction), parameters: parameters);
            }, parameters);
        }
    }

    // Null, or what differs from the double instance. Leaves the instance as it is timed: one forward pass behind it.
    private static string? Check(ProbeCase probe, Tensors data, INormalizer<float> normalizer, string direction)
    {
        ActivationShape shape = data.Workload.Shape;
        INormalizer<double> reference = probe.Create<double>(shape, Affine.Random);
        double[] input = Arithmetic.ToDouble(data.InputRows);
        double[] exact = ProbeCase.Forward(reference, shape, input);
        data.Run(normalizer, Forward, 1);
        float[] measured = data.Output;
        ActivationShape few = shape.WithSamples(Math.Min(8, shape.Samples));
        bool standardizes = ReductionSets.Of(reference, few) is { } sets && probe.StandardizesWithinSets(few, input[..(int)few.Count], sets);
        double limit = standardizes ? OutputProbe.SetLimit : OutputProbe.TensorLimit;
        if (direction == Inference)
        {
            reference.Training = normalizer.Training = false;
            exact = ProbeCase.Forward(reference, shape, input);
            data.Run(normalizer, Inference, 1);
        }
        else if (direction == Backward)
        {
            double[] upstream = Arithmetic.ToDouble(data.UpstreamRows);
            exact = ProbeCase.Backward(reference, shape, input, upstream);
            normalizer.ZeroGradients();
            try
            {
                data.Run(normalizer, Backward, 1);
            }
            catch (Exception refusal) when (ProbeCase.IsRefusal(refusal))
            {
                throw new FaultException(refusal);
            }

            measured = data.InputGradient;
            double total = upstream.Sum(Math.Abs);
            for (int i = 0; i < reference.Parameters.Count; i++)
            {
                // A parameter's gradient adds up terms of the upstream gradient's size.
                Parameter<double> parameter = reference.Parameters[i];
                double scale = Math.Max(total / parameter.Gradient.Length, Arithmetic.Largest(parameter.Gradient));
                double off = Arithmetic.LargestDifference(Arithmetic.ToDouble(normalizer.Parameters[i].Gradient), parameter.Gradient) / scale;
                if (!(off <= limit))
                {
                    return FormattableString.Invariant($"the {parameter.Name} gradient differs from the double instance by {off:0.0e+0} of its scale, above {limit:0.0e+0}");
                }
            }
        }

        double error = Arithmetic.Ratio(Arithmetic.LargestDifference(Arithmetic.ToDouble(data.ToRows(measured)), exact), Arithmetic.Largest(exact));
        return error <= limit ? null
            : FormattableString.Invariant($"the result differs from the double instance by {error:0.0e+0} of its largest value, above {limit:0.0e+0}");
    }

    private static void Time(
        ProbeCase probe, Tensors data, INormalizer<float> normalizer, string direction, IReadOnlyDictionary<string, object> parameters)
    {
        int calls = Calibrate(count => data.Run(normalizer, direction, count));
        int copies = Calibrate(data.Copy);
        double budget = probe.Settings.Thorough ? 1 : 0.06;
        int most = probe.Settings.Thorough ? 101 : 25;
        var times = new List<double>();
        var copyTimes = new List<double>();
        long began = Stopwatch.GetTimestamp();
        while (times.Count < 7 || (times.Count < most && Stopwatch.GetElapsedTime(began).TotalSeconds < budget))
        {
            probe.Settings.Cancellation.ThrowIfCancellationRequested();

            // In turns, so that whatever slows the machine slows both.
            copyTimes.Add(Seconds(data.Copy, copies));
            times.Add(Seconds(count => data.Run(normalizer, direction, count), calls));
        }

        double elements = data.Input.Length;
        double bytes = elements * sizeof(float) * (direction == Backward && data.GradientReadsInput(normalizer) ? 3 : 2);
        double moved = bytes / (elements * sizeof(float) * 2);

        // Round by round, since both of a round met the same machine.
        List<double> fractions = [.. copyTimes.Zip(times, (copy, time) => moved * copy / time)];
        double[] spread = Arithmetic.Spread(times);
        double median = Arithmetic.Median(times);
        probe.Add("ns_per_element", median * 1e9 / elements, [.. spread.Select(time => time * 1e9 / elements)], parameters);
        probe.Add("gigabytes_per_second", bytes / median / 1e9, [bytes / spread[1] / 1e9, bytes / spread[0] / 1e9], parameters);
        probe.Add("fraction_of_copy", Arithmetic.Median(fractions), Arithmetic.Spread(fractions), parameters);
        probe.Add("copy_ns_per_element", Arithmetic.Median(copyTimes) * 1e9 / elements, [.. Arithmetic.Spread(copyTimes).Select(time => time * 1e9 / elements)], parameters);
    }

    private static int Calibrate(Action<int> run)
    {
        run(1);
        int calls = 1;
        while (calls < 1 << 20)
        {
            double seconds = Seconds(run, calls) * calls;
            if (seconds >= ShortestSample)
            {
                break;
            }

            calls *= 2;
        }

        return calls;
    }

    private static double Seconds(Action<int> run, int calls)
    {
        long began = Stopwatch.GetTimestamp();
        run(calls);
        return Stopwatch.GetElapsedTime(began).TotalSeconds / calls;
    }

    // The least of three, since other threads of the process may allocate meanwhile.
    private static double Allocated(Tensors data, INormalizer<float> normalizer, string direction)
    {
        const int Calls = 4;
        long least = long.MaxValue;
        for (int attempt = 0; attempt < 3; attempt++)
        {
            least = Math.Min(least, data.AllocatedBy(normalizer, direction, Calls));
        }

        return (double)least / Calls;
    }

    // Arrays in the memory order of the workload, and views of them made outside whatever is measured.
    private sealed class Tensors
    {
        private readonly nint[] _lengths;
        private readonly nint[] _strides;

        public Tensors(Workload workload, RandomStream stream)
        {
            Workload = workload;
            _lengths = workload.Shape.ToArray();
            _strides = new nint[_lengths.Length];
            nint step = workload.ChannelsLast ? workload.Shape.Channels : 1;
            for (int axis = _lengths.Length - 1; axis >= 0; axis--)
            {
                if (axis == 1 && workload.ChannelsLast)
                {
                    _strides[1] = 1;
                    continue;
                }

                _strides[axis] = step;
                step *= _lengths[axis];
            }

            InputRows = Values(stream);
            UpstreamRows = Values(stream);
            Input = FromRows(InputRows);
            Upstream = FromRows(UpstreamRows);
            Output = new float[Input.Length];
            InputGradient = new float[Input.Length];
        }

        public Workload Workload { get; }

        // Channels-first, as the reference sees them.
        public float[] InputRows { get; }

        public float[] UpstreamRows { get; }

        public float[] Input { get; }

        public float[] Upstream { get; }

        public float[] Output { get; }

        public float[] InputGradient { get; }

        public void Run(INormalizer<float> normalizer, string direction, int calls)
        {
            var input = new ReadOnlyTensorSpan<float>(Input, _lengths, _strides);
            var upstream = new ReadOnlyTensorSpan<float>(Upstream, _lengths, _strides);
            var output = new TensorSpan<float>(Output, _lengths, _strides);
            var inputGradient = new TensorSpan<float>(InputGradient, _lengths, _strides);
            Repeat(normalizer, direction, calls, input, upstream, output, inputGradient);
        }

        // Whether Backward has a use for the input: measured by handing it another one.
        public bool GradientReadsInput(INormalizer<float> normalizer)
        {
            if (normalizer.Parameters.Count > 0)
            {
                return true;
            }

            Run(normalizer, Backward, 1);
            float[] gradient = [.. InputGradient];
            var upstream = new ReadOnlyTensorSpan<float>(Upstream, _lengths, _strides);
            try
            {
                normalizer.Backward(upstream, upstream, new TensorSpan<float>(InputGradient, _lengths, _strides));
            }
            catch (Exception refusal) when (ProbeCase.IsRefusal(refusal))
            {
                // It looks at the input, if only to refuse another.
                return true;
            }

            return !gradient.AsSpan().SequenceEqual(InputGradient);
        }

        public long AllocatedBy(INormalizer<float> normalizer, string direction, int calls)
        {
            var input = new ReadOnlyTensorSpan<float>(Input, _lengths, _strides);
            var upstream = new ReadOnlyTensorSpan<float>(Upstream, _lengths, _strides);
            var output = new TensorSpan<float>(Output, _lengths, _strides);
            var inputGradient = new TensorSpan<float>(InputGradient, _lengths, _strides);
            long before = GC.GetTotalAllocatedBytes(precise: true);
            Repeat(normalizer, direction, calls, input, upstream, output, inputGradient);
            return GC.GetTotalAllocatedBytes(precise: true) - before;
        }

        // On as many threads as the strategy has.
        public unsafe void Copy(int calls)
        {
            fixed (float* source = Input, destination = Output)
            {
                for (int i = 0; i < calls; i++)
                {
                    CopyJob<float>.Run(source, destination, Input.Length);
                }
            }
        }

        public float[] ToRows(float[] values) => Workload.ChannelsLast ? Reorder(values, fromRows: false) : values;

        private static void Repeat(
            INormalizer<float> normalizer, string direction, int calls, in ReadOnlyTensorSpan<float> input, in ReadOnlyTensorSpan<float> upstream,
            in TensorSpan<float> output, in TensorSpan<float> inputGradient)
        {
            bool backward = direction == Backward;
            for (int i = 0; i < calls; i++)
            {
                if (backward)
                {
                    normalizer.Backward(input, upstream, inputGradient);
                }
                else
                {
                    normalizer.Forward(input, output);
                }
            }
        }

        private float[] FromRows(float[] rows) => Workload.ChannelsLast ? Reorder(rows, fromRows: true) : rows;

        private float[] Reorder(float[] values, bool fromRows)
        {
            int channels = Workload.Shape.Channels;
            int positions = (int)Workload.Shape.SpatialSize;
            var result = new float[values.Length];
            for (int row = 0; row < values.Length; row++)
            {
                int sample = row / positions / channels;
                int last = (((sample * positions) + (row % positions)) * channels) + (row / positions % channels);
                (int from, int to) = fromRows ? (row, last) : (last, row);
                result[to] = values[from];
            }

            return result;
        }

        // A block of random values over and over: its length shares no factor with the shapes, so that no two sets are alike.
        private float[] Values(RandomStream stream)
        {
            var block = new double[65521];
            stream.FillGaussian(block);
            var values = new float[Workload.Shape.Count];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = (float)block[i % block.Length];
            }

            return values;
        }
    }
}
