using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Normalization.Bench.Speed;

/// <summary>oneDNN through its C API, in this process: batch normalization in both memory orders, layer normalization over one axis.</summary>
/// <remarks>
/// Running statistics are not oneDNN's, so its training pass does less than the others'. (N, C) is handed over as the channels-last image it
/// equally is, N positions of C channels or N images of one: its plain (N, C) has no fast implementation.
/// </remarks>
internal sealed class OneDnnPeer : IPeer
{
    private readonly OneDnn _library;

    private OneDnnPeer(OneDnn library) => _library = library;

    /// <inheritdoc/>
    public string Id => "onednn";

    /// <inheritdoc/>
    public string Version => $"oneDNN {_library.Version}";

    /// <summary>Loads the library.</summary>
    /// <param name="missing">Where null is returned: what is missing and the package that brings it.</param>
    public static OneDnnPeer? Find(out string? missing) => OneDnn.Load(out missing) is { } library ? new OneDnnPeer(library) : null;

    /// <inheritdoc/>
    public string? Lacks(SpeedCell cell) => cell.Strategy switch
    {
        "batch-norm" => null,
        "layer-norm" when cell.ChannelsLast && cell.Shape.SpatialSize > 1 =>
            "oneDNN's layer normalization is over one axis; (C, H, W) in channels-last memory is not one",
        "layer-norm" => null,
        "group-norm" => $"oneDNN {_library.Version.ToString(2)} has no group normalization",
        "instance-norm" => $"oneDNN {_library.Version.ToString(2)} has no instance normalization",
        "ghost-batch-norm" when cell.Direction == Direction.Inference => PeerCells.Refusal(cell),
        "ghost-batch-norm" => $"oneDNN {_library.Version.ToString(2)} has no ghost batch normalization",
        _ => $"oneDNN has no {cell.Strategy}",
    };

    /// <inheritdoc/>
    public IReadOnlyList<ITimedCall> Prepare(CellData data, int threads)
    {
        if (Lacks(data.Cell) is { } reason)
        {
            throw new NotSupportedException(reason);
        }

        SpeedCell cell = data.Cell;
        long samples = cell.Shape.Samples;
        long channels = cell.Shape.Channels;
        long positions = cell.Shape.SpatialSize;
        if (cell.Strategy == "layer-norm")
        {
            long length = channels * positions;
            return [new Call(_library, data, threads, "", [samples, length], [length, 1])];
        }

        if (positions == 1)
        {
            var images = new Call(_library, data, threads, "rows as images", [samples, channels, 1, 1], [channels, 1, channels, channels]);
            try
            {
                return [images, new Call(_library, data, threads, "rows as positions", [1, channels, samples, 1], [samples * channels, 1, channels, channels])];
            }
            catch
            {
                images.Dispose();
                throw;
            }
        }

        // The spatial axes as one: 4 axes are what the fast implementations expect.
        long[] strides = cell.ChannelsLast ? [channels * positions, 1, channels * positions, channels] : [channels * positions, positions, positions, 1];
        return [new Call(_library, data, threads, "", [samples, channels, 1, positions], strides)];
    }

    /// <inheritdoc/>
    public void Dispose() => _library.Close();

    private sealed unsafe class Call : InProcessCall
    {
        private const int ForwardTraining = 64;
        private const int ForwardInference = 96;
        private const int Backward = 128;
        private const uint UseGlobalStatistics = 1;
        private const uint UseScale = 8;
        private const uint UseShift = 16;

        private const int Source = 1;
        private const int Destination = 17;
        private const int Mean = 49;
        private const int Variance = 50;
        private const int Scale = 51;
        private const int Shift = 52;
        private const int SourceGradient = 129;
        private const int DestinationGradient = 145;
        private const int ScaleGradient = 255;
        private const int ShiftGradient = 256;

        private readonly OneDnn _library;
        private readonly CellData _data;
        private readonly int _threads;
        private readonly List<nint> _buffers = [];
        private readonly List<nint> _memories = [];
        private readonly float* _result;
        private readonly float* _weightGradient;
        private readonly float* _biasGradient;
        private readonly OneDnn.Argument[] _arguments;
        private nint _primitive;

        public Call(OneDnn library, CellData data, int threads, string variant, ReadOnlySpan<long> lengths, ReadOnlySpan<long> strides)
        {
            _library = library;
            _data = data;
            _threads = threads;
            Variant = variant;
            Direction direction = data.Cell.Direction;
            bool layer = data.Cell.Strategy == "layer-norm";
            int statistics = (int)(layer ? lengths[0] : lengths[1]);
            int parameters = data.Weight.Length;
            library.SetThreads(threads);

            nint forward = 0;
            nint backward = 0;
            try
            {
                byte* tensor = stackalloc byte[OneDnn.MemoryDescriptorSize];
                byte* perSet = stackalloc byte[OneDnn.MemoryDescriptorSize];
                byte* perParameter = stackalloc byte[OneDnn.MemoryDescriptorSize];
                library.Describe(tensor, lengths, strides);
                library.Describe(perSet, [statistics], [1]);
                library.Describe(perParameter, [parameters], [1]);
                bool running = PeerCells.UsesRunning(data.Cell);
                _result = Shared(data.Result.Span);
                _weightGradient = Allocate(parameters);
                _biasGradient = Allocate(parameters);
                OneDnn.Argument[] given =
                [
                    new(Source, Memory(tensor, Shared(data.Tensors.Input))),
                    new(Mean, Memory(perSet, running ? Filled(data.RunningMean) : Allocate(statistics))),
                    new(Variance, Memory(perSet, running ? Filled(data.RunningVariance) : Allocate(statistics))),
                    new(Scale, Memory(perParameter, Filled(data.Weight))),
                    new(Shift, Memory(perParameter, Filled(data.Bias))),
                ];
                OneDnn.Argument output = new(Destination, Memory(tensor, _result));

                byte* operation = stackalloc byte[OneDnn.NormalizationDescriptorSize];
                uint flags = UseScale | UseShift | (running ? UseGlobalStatistics : 0);
                int kind = direction == Direction.Inference ? ForwardInference : ForwardTraining;
                if (layer)
                {
                    library.DescribeLayerForward(operation, kind, tensor, perSet, (float)data.Epsilon, flags);
                }
                else
                {
                    library.DescribeBatchForward(operation, kind, tensor, (float)data.Epsilon, flags);
                }

                forward = library.CreatePrimitiveDescriptor(operation, 0);
                _primitive = library.CreatePrimitive(forward);

                // Layer normalization outside training need not hand its statistics out.
                _arguments = layer && direction == Direction.Inference ? [given[0], .. given[3..], output] : [.. given, output];
                if (direction == Direction.Backward)
                {
                    // Saves the statistics; the output is of no further use.
                    library.Execute(_primitive, _arguments);
                    DestroyPrimitive();
                    if (layer)
                    {
                        library.DescribeLayerBackward(operation, Backward, tensor, perSet, (float)data.Epsilon, flags);
                    }
                    else
                    {
                        library.DescribeBatchBackward(operation, Backward, tensor, (float)data.Epsilon, flags);
                    }

                    backward = library.CreatePrimitiveDescriptor(operation, forward);
                    _primitive = library.CreatePrimitive(backward);
                    _arguments =
                    [
                        .. given,
                        new(DestinationGradient, Memory(tensor, Shared(data.Tensors.Upstream))),
                        new(SourceGradient, Memory(tensor, _result)),
                        new(ScaleGradient, Memory(perParameter, _weightGradient)),
                        new(ShiftGradient, Memory(perParameter, _biasGradient)),
                    ];
                }
            }
            catch
            {
                Dispose();
                throw;
            }
            finally
            {
                DestroyDescriptor(forward);
                DestroyDescriptor(backward);
            }
        }

        public override string Variant { get; }

        public override bool WarmsItself => _threads > 1;

        public override double Seconds(int calls)
        {
            _library.SetThreads(_threads);
            double warmUp = WarmsItself ? SpeedBench.WarmUpSeconds(_data.Cell.Shape, _threads) : 0;
            for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start).TotalSeconds < warmUp;)
            {
                Run();
            }

            long began = Stopwatch.GetTimestamp();
            for (int call = 0; call < calls; call++)
            {
                Run();
            }

            double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
            if (_threads > 1)
            {
                Thread.Sleep(OneDnn.Spin);
            }

            return seconds;
        }

        public override void CopyResult(Span<float> destination) => _data.Result.Span.CopyTo(destination);

        public override void CopyParameterGradients(Span<float> weight, Span<float> bias)
        {
            if (_data.Cell.Direction != Direction.Backward)
            {
                throw NoGradients(_data.Cell.Direction);
            }

            new ReadOnlySpan<float>(_weightGradient, _data.Weight.Length).CopyTo(weight);
            new ReadOnlySpan<float>(_biasGradient, _data.Bias.Length).CopyTo(bias);
        }

        public override void Dispose()
        {
            DestroyPrimitive();
            _memories.ForEach(_library.DestroyMemory);
            _memories.Clear();
            foreach (nint buffer in _buffers)
            {
                NativeMemory.AlignedFree((void*)buffer);
            }

            _buffers.Clear();
        }

        protected override void Run() => _library.Execute(_primitive, _arguments);

        private void DestroyDescriptor(nint descriptor)
        {
            if (descriptor != 0)
            {
                _library.DestroyPrimitiveDescriptor(descriptor);
            }
        }

        private void DestroyPrimitive()
        {
            if (_primitive != 0)
            {
                _library.DestroyPrimitive(_primitive);
                _primitive = 0;
            }
        }

        private float* Allocate(int count)
        {
            nuint bytes = (nuint)count * sizeof(float);
            void* buffer = NativeMemory.AlignedAlloc(bytes, 64);
            NativeMemory.Clear(buffer, bytes);
            _buffers.Add((nint)buffer);
            return (float*)buffer;
        }

        // The tensors never move, and live while this call does.
        private static float* Shared(ReadOnlySpan<float> tensor) => (float*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(tensor));

        private float* Filled(float[] values)
        {
            float* buffer = Allocate(values.Length);
            values.CopyTo(new Span<float>(buffer, values.Length));
            return buffer;
        }

        private nint Memory(byte* descriptor, float* values)
        {
            nint memory = _library.CreateMemory(descriptor, values);
            _memories.Add(memory);
            return memory;
        }
    }
}
