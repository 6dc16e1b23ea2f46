using System.Diagnostics;
using System.Numerics.Tensors;
using Normalization.Core.Kernels;

namespace Normalization.Core.Comparison;

/// <summary>A tensor to time: its shape, its memory layout, the threads to use.</summary>
internal sealed record Workload(ActivationShape Shape, bool ChannelsLast, int Threads);

/// <summary>The tensors of a workload in its memory order, and a strategy's calls on them. Views are made outside whatever is measured.</summary>
/// <remarks>They begin at a cache line, as other frameworks' tensors do, and never move.</remarks>
internal sealed class SpeedTensors
{
    public const string Forward = "forward";
    public const string Backward = "backward";
    public const string Inference = "inference";

    /// <summary>Bytes of a tensor from which on memory alone is to be what a pass waits for.</summary>
    public const double LargeBytes = 25e6;

    private readonly nint[] _lengths;
    private readonly nint[] _strides;
    private readonly AlignedArray _input;
    private readonly AlignedArray _upstream;
    private readonly AlignedArray _output;
    private readonly AlignedArray _inputGradient;
    private readonly Lazy<double[]> _exactInput;
    private readonly Lazy<double[]> _exactUpstream;
    private (AlignedArray Source, AlignedArray Destination)? _copied;

    /// <summary>Copies the input and the upstream gradient, both in the workload's memory order.</summary>
    public SpeedTensors(Workload workload, float[] input, float[] upstream)
    {
        Workload = workload;
        _lengths = workload.Shape.ToArray();
        _strides = new nint[_lengths.Length];
        nint step = workload.ChannelsLast ? workload.Shape.Channels : 1;
        for (int axis = _lengths.Length - 1; axis >= 0; axis--)
        {
            // A tensor span over memory without a gap wants stride 0 where there is one of something.
            bool innermost = axis == 1 && workload.ChannelsLast;
            _strides[axis] = _lengths[axis] == 1 ? 0 : innermost ? 1 : step;
            step *= innermost ? 1 : _lengths[axis];
        }

        _input = new AlignedArray(input.Length);
        _upstream = new AlignedArray(input.Length);
        _output = new AlignedArray(input.Length);
        _inputGradient = new AlignedArray(input.Length);
        input.CopyTo(_input.Span);
        upstream.CopyTo(_upstream.Span);
        _exactInput = new(() => Arithmetic.ToDouble(ToRows(Input)));
        _exactUpstream = new(() => Arithmetic.ToDouble(ToRows(Upstream)));
    }

    public Workload Workload { get; }

    public ReadOnlySpan<float> Input => _input.Span;

    public ReadOnlySpan<float> Upstream => _upstream.Span;

    public Span<float> Output => _output.Span;

    public Span<float> InputGradient => _inputGradient.Span;

    /// <summary><see cref="Input"/> in double and channels-first order; not to be written.</summary>
    public double[] ExactInput => _exactInput.Value;

    /// <summary><see cref="Upstream"/>, likewise.</summary>
    public double[] ExactUpstream => _exactUpstream.Value;

    /// <summary><see cref="Input"/>, for who cannot hold a span.</summary>
    public ReadOnlyMemory<float> InputMemory => _input.Memory;

    /// <summary><see cref="Upstream"/>, likewise.</summary>
    public ReadOnlyMemory<float> UpstreamMemory => _upstream.Memory;

    /// <summary>Random tensors: the same values in channels-first order, whatever the layout.</summary>
    public static SpeedTensors Random(Workload workload, RandomStream stream)
    {
        int count = checked((int)workload.Shape.Count);
        float[] input = Gaussians(count, stream);
        float[] upstream = Gaussians(count, stream);
        return workload.ChannelsLast
            ? new SpeedTensors(workload, Reorder(workload.Shape, input, toRows: false), Reorder(workload.Shape, upstream, toRows: false))
            : new SpeedTensors(workload, input, upstream);
    }

    /// <summary>Standard normal values: one block of them over and over, whose length shares no factor with the shapes, so that no two sets are alike.</summary>
    public static float[] Gaussians(int count, RandomStream stream)
    {
        var block = new double[Math.Min(count, 65521)];
        stream.FillGaussian(block);
        float[] single = Arithmetic.ToSingle(block);
        var values = new float[count];
        for (int start = 0; start < values.Length; start += single.Length)
        {
            single.AsSpan(0, Math.Min(single.Length, values.Length - start)).CopyTo(values.AsSpan(start));
        }

        return values;
    }

    /// <summary>What a direction writes: the input gradient of a backward pass, else the output.</summary>
    public Span<float> Result(string direction) => ResultMemory(direction).Span;

    /// <summary><see cref="Result"/>, for who cannot hold a span.</summary>
    public Memory<float> ResultMemory(string direction) => (direction == Backward ? _inputGradient : _output).Memory;

    /// <summary>Fills what a direction writes with NaN, so that a contestant that leaves a value unwritten does not pass with the last one's.</summary>
    public void Blot(string direction) => Result(direction).Fill(float.NaN);

    /// <summary>A tensor of the workload's memory order in channels-first order.</summary>
    public ReadOnlySpan<float> ToRows(ReadOnlySpan<float> values) => Workload.ChannelsLast ? Reorder(Workload.Shape, values, toRows: true) : values;

    /// <summary>Calls a strategy; a backward call needs a forward one in training before it.</summary>
    public void Run(INormalizer<float> normalizer, string direction, int calls)
    {
        var input = new ReadOnlyTensorSpan<float>(Input, _lengths, _strides);
        var upstream = new ReadOnlyTensorSpan<float>(Upstream, _lengths, _strides);
        var output = new TensorSpan<float>(Output, _lengths, _strides);
        var inputGradient = new TensorSpan<float>(InputGradient, _lengths, _strides);
        Repeat(normalizer, direction, calls, input, upstream, output, inputGradient);
    }

    /// <summary>Seconds that a number of calls take.</summary>
    public double Seconds(INormalizer<float> normalizer, string direction, int calls)
    {
        long began = Stopwatch.GetTimestamp();
        Run(normalizer, direction, calls);
        return Stopwatch.GetElapsedTime(began).TotalSeconds;
    }

    /// <summary>Seconds that a number of copies of a tensor take, on as many threads as the strategy has.</summary>
    /// <remarks>Its memory is its own: copying the tensors that a strategy is timed on would bring them into the caches for it.</remarks>
    public double CopySeconds(int calls)
    {
        (AlignedArray source, AlignedArray destination) = _copied ??= CopyOperands();
        long began = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++)
        {
            Copy(source.Span, destination.Span);
        }

        return Stopwatch.GetElapsedTime(began).TotalSeconds;
    }

    /// <summary>Seconds that reading tensors of this size, one after the other, takes a number of times, on as many threads as the strategy has.</summary>
    /// <remarks>The memory is the copy's. One tensor is read over and over and what the third-level cache kept of it comes from there, as in a pass that has just read its x; so with two.</remarks>
    /// <param name="tensors">How many are read in a call; a third is the first again.</param>
    /// <param name="calls">How often.</param>
    public unsafe double ReadSeconds(int tensors, int calls)
    {
        (AlignedArray source, AlignedArray destination) = _copied ??= CopyOperands();
        fixed (float* first = source.Span, second = destination.Span)
        {
            long began = Stopwatch.GetTimestamp();
            for (int i = 0; i < calls * tensors; i++)
            {
                ReadJob.Run(i % tensors % 2 == 0 ? first : second, Input.Length);
            }

            return Stopwatch.GetElapsedTime(began).TotalSeconds;
        }
    }

    /// <summary>
    /// Bytes a memory-bound implementation must move: 2 values an element forward and in inference, 3 backward, where the gradient
    /// does not read the input 2.
    /// </summary>
    public double BytesMoved(INormalizer<float> normalizer, string direction) =>
        (double)Input.Length * sizeof(float) * (direction == Backward && GradientReadsInput(normalizer) ? 3 : 2);

    /// <summary>Managed bytes that one warm call allocates: the least of a few calls, since other threads of the process may allocate meanwhile.</summary>
    public double Allocated(INormalizer<float> normalizer, string direction)
    {
        long least = long.MaxValue;
        var input = new ReadOnlyTensorSpan<float>(Input, _lengths, _strides);
        var upstream = new ReadOnlyTensorSpan<float>(Upstream, _lengths, _strides);
        var output = new TensorSpan<float>(Output, _lengths, _strides);
        var inputGradient = new TensorSpan<float>(InputGradient, _lengths, _strides);
        for (int attempt = 0; attempt < 3 && least > 0; attempt++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            Repeat(normalizer, direction, 1, input, upstream, output, inputGradient);
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        return least;
    }

    // Written once, both of them: memory never touched is not backed by pages of its own.
    private (AlignedArray Source, AlignedArray Destination) CopyOperands()
    {
        var source = new AlignedArray(Input.Length);
        var destination = new AlignedArray(Input.Length);
        Input.CopyTo(source.Span);
        Input.CopyTo(destination.Span);
        return (source, destination);
    }

    // On one thread in one piece, so that the runtime may copy as it does what is large.
    private unsafe void Copy(ReadOnlySpan<float> source, Span<float> destination)
    {
        if (Workload.Threads == 1)
        {
            source.CopyTo(destination);
            return;
        }

        fixed (float* from = source, to = destination)
        {
            CopyJob<float>.Run(from, to, source.Length);
        }
    }

    // Measured: the gradient is the same for another input.
    private bool GradientReadsInput(INormalizer<float> normalizer)
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

        return !InputGradient.SequenceEqual(gradient);
    }

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

    private static float[] Reorder(ActivationShape shape, ReadOnlySpan<float> values, bool toRows)
    {
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        var result = new float[values.Length];
        int row = 0;
        for (int sample = 0; sample < (int)shape.Samples; sample++)
        {
            for (int channel = 0; channel < channels; channel++)
            {
                int last = (sample * positions * channels) + channel;
                for (int position = 0; position < positions; position++, row++, last += channels)
                {
                    (int from, int to) = toRows ? (last, row) : (row, last);
                    result[to] = values[from];
                }
            }
        }

        return result;
    }

    // Pinned, from the first element that begins a cache line.
    private sealed class AlignedArray
    {
        private readonly float[] _array;
        private readonly int _start;
        private readonly int _length;

        public unsafe AlignedArray(int length)
        {
            _array = GC.AllocateArray<float>(length + (Simd.LineBytes / sizeof(float)), pinned: true);
            _length = length;
            fixed (float* first = _array)
            {
                _start = (int)Simd.BeforeAligned<float, float>(first);
            }
        }

        public Span<float> Span => _array.AsSpan(_start, _length);

        public Memory<float> Memory => _array.AsMemory(_start, _length);
    }
}
