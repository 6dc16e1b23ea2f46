using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Kernels;

namespace Normalization.Bench.Models;

/// <summary>A two-dimensional convolution with zero padding: each position's patch of k x k x C inputs times the weights, plus the bias.</summary>
/// <remarks>
/// Weight (outputs, k, k, C), which is PyTorch's (outputs, C, k, k) with the channels last, as memory has them; bias (outputs). Samples
/// are worked on one at a time, their patches laid out as the rows of a matrix, in a fixed number of pieces: the bits of a weight's
/// gradient do not depend on the number of threads.
/// </remarks>
internal sealed unsafe class Conv2d<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Pieces = 8;

    private readonly LinearMap<T> _map;
    private readonly int _channels;
    private readonly int _kernel;
    private readonly int _stride;
    private Activations<T> _input = new();
    private T[] _weightGradients = [];

    /// <param name="channels">C, channels of the input.</param>
    /// <param name="outputs">Channels of the output.</param>
    /// <param name="kernel">k, odd; the padding is (k - 1) / 2, so that stride 1 keeps H and W.</param>
    /// <param name="stride">Positions from one patch to the next, along both axes.</param>
    /// <param name="random">Draws the weights.</param>
    /// <param name="bias">Whether there is a bias.</param>
    /// <param name="deviation">See <see cref="LinearMap{T}"/>.</param>
    public Conv2d(int channels, int outputs, int kernel, int stride, RandomStream random, bool bias = true, double? deviation = null)
    {
        if (kernel < 1 || kernel % 2 == 0 || stride < 1)
        {
            throw new ArgumentException($"A convolution has an odd kernel and a stride of at least 1; got kernel {kernel}, stride {stride}.", nameof(kernel));
        }

        _channels = channels;
        _kernel = kernel;
        _stride = stride;
        _map = new LinearMap<T>(kernel * kernel * channels, outputs, [outputs, kernel, kernel, channels], bias, random, deviation);
    }

    public override IEnumerable<Parameter<T>> Parameters => _map.Parameters;

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        ActivationShape shape = input.Shape;
        if (shape.Rank != 4 || shape.Channels != _channels)
        {
            throw new ArgumentException($"This convolution takes (N, {_channels}, H, W); got {shape}.", nameof(input));
        }

        _input = input;
        Output.Resize(new ActivationShape(shape.Samples, _map.Outputs, Positions(shape[2]), Positions(shape[3])));
        _map.PackByInput();
        fixed (T* x = input.Values)
        fixed (T* y = Output.Values)
        {
            Run(new Job { X = x, Y = y, Phase = Phase.Forward });
        }

        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        InputGradient.Resize(_input.Shape);
        nint size = RowProducts<T>.Size(_map.Outputs, _map.Inputs);
        if (_weightGradients.Length < Pieces * size)
        {
            _weightGradients = GC.AllocateArray<T>((int)(Pieces * size), pinned: true);
        }

        _map.PackByOutput();
        fixed (T* x = _input.Values, g = outputGradient.Values, dx = InputGradient.Values, weightGradients = _weightGradients)
        {
            Run(new Job { X = x, Y = g, DX = wantsInput ? dx : null, WeightGradients = weightGradients, Phase = Phase.Backward });
            for (int piece = 0; piece < Math.Min(Pieces, _input.Shape.Samples); piece++)
            {
                _map.AddWeightGradient(weightGradients + (piece * size));
            }

            _map.AddBiasGradient(g, outputGradient.Shape.Samples * outputGradient.Shape.SpatialSize);
        }

        return InputGradient;
    }

    private nint Positions(nint length) => ((length - 1) / _stride) + 1;

    private void Run(Job job)
    {
        ActivationShape shape = _input.Shape;
        job.Samples = shape.Samples;
        job.Height = (int)shape[2];
        job.Width = (int)shape[3];
        job.Channels = _channels;
        job.Kernel = _kernel;
        job.Stride = _stride;
        job.OutputHeight = (int)Positions(job.Height);
        job.OutputWidth = (int)Positions(job.Width);
        job.Outputs = _map.Outputs;
        job.Weights = job.Phase == Phase.Forward ? _map.ByInput : _map.ByOutput;
        fixed (T* bias = _map.Bias?.Values)
        {
            job.Bias = bias;
            WorkTeam.Run(ref job, (int)Math.Min(Pieces, job.Samples), shape.Count * _kernel * _kernel);
        }
    }

    private enum Phase
    {
        Forward,
        Backward,
    }

    // A piece is a fixed range of samples; scratch is the thread's own.
    private struct Job : IPieceJob
    {
        public Phase Phase;
        public T* X;
        public T* Y; // in backward the output gradient
        public T* DX;
        public T* Weights;
        public T* WeightGradients;
        public T* Bias;
        public nint Samples;
        public int Height;
        public int Width;
        public int Channels;
        public int Kernel;
        public int Stride;
        public int OutputHeight;
        public int OutputWidth;
        public int Outputs;

        public readonly void Run(int piece)
        {
            nint pieces = Math.Min(Pieces, Samples);
            nint rows = (nint)OutputHeight * OutputWidth;
            nint inputs = (nint)Kernel * Kernel * Channels;
            nint pitch = RowProducts<T>.Pitch(inputs);
            nint patchSize = RowProducts<T>.Size(rows, inputs);
            nint resultSize = RowProducts<T>.Size(rows, Outputs);
            nint weightSize = RowProducts<T>.Size(Outputs, inputs);
            NativeScratch scratch = NativeScratch.Begin(((2 * patchSize) + resultSize + weightSize) * sizeof(T));
            T* patches = scratch.Take<T>(patchSize);
            T* patchGradients = scratch.Take<T>(patchSize);
            T* result = scratch.Take<T>(resultSize);
            T* weightGradient = scratch.Take<T>(weightSize);
            nint sample = (nint)Height * Width * Channels;
            nint first = piece * Samples / pieces;

            // Where patches are gathered to, sample after sample, leaves it so.
            Product.ClearPadding(patches, rows, inputs, pitch, Product.Rows, Product.Width<T>());
            for (nint n = first; n < (piece + 1) * Samples / pieces; n++)
            {
                Gather(X + (n * sample), patches, pitch);
                T* y = Y + (n * rows * Outputs);
                if (Phase == Phase.Forward)
                {
                    RowProducts<T>.Outputs(patches, pitch, rows, inputs, Weights, Outputs, result);
                    RowProducts<T>.Finish(result, rows, Outputs, Bias, y);
                    continue;
                }

                T* total = WeightGradients + (piece * weightSize);
                RowProducts<T>.WeightGradient(y, Outputs, patches, pitch, rows, inputs, n == first ? total : weightGradient);
                if (n > first)
                {
                    var sums = new Span<T>(total, (int)weightSize);
                    TensorPrimitives.Add(sums, new ReadOnlySpan<T>(weightGradient, (int)weightSize), sums);
                }

                if (DX != null)
                {
                    RowProducts<T>.InputGradient(y, Outputs, rows, Weights, inputs, patchGradients);
                    Scatter(patchGradients, pitch, DX + (n * sample));
                }
            }
        }

        // Each row of a patch is one run of memory, cut where it leaves the image.
        private readonly void Gather(T* image, T* patches, nint pitch)
        {
            int padding = Kernel / 2;
            nint run = (nint)Kernel * Channels;
            for (int i = 0; i < OutputHeight; i++)
            {
                for (int j = 0; j < OutputWidth; j++, patches += pitch)
                {
                    (int from, int to) = Inside((j * Stride) - padding, Width);
                    for (int k = 0; k < Kernel; k++)
                    {
                        int line = (i * Stride) - padding + k;
                        var patch = new Span<T>(patches + (k * run), (int)run);
                        if ((uint)line >= (uint)Height)
                        {
                            patch.Clear();
                            continue;
                        }

                        T* source = image + ((((nint)line * Width) + (j * Stride) - padding) * Channels);
                        patch[..(from * Channels)].Clear();
                        new ReadOnlySpan<T>(source + (from * Channels), (to - from) * Channels).CopyTo(patch[(from * Channels)..]);
                        patch[(to * Channels)..].Clear();
                    }
                }
            }
        }

        private readonly void Scatter(T* patches, nint pitch, T* image)
        {
            int padding = Kernel / 2;
            nint run = (nint)Kernel * Channels;
            new Span<T>(image, Height * Width * Channels).Clear();
            for (int i = 0; i < OutputHeight; i++)
            {
                for (int j = 0; j < OutputWidth; j++, patches += pitch)
                {
                    (int from, int to) = Inside((j * Stride) - padding, Width);
                    for (int k = 0; k < Kernel; k++)
                    {
                        int line = (i * Stride) - padding + k;
                        if ((uint)line < (uint)Height)
                        {
                            T* target = image + ((((nint)line * Width) + (j * Stride) - padding) * Channels);
                            var sums = new Span<T>(target + (from * Channels), (to - from) * Channels);
                            TensorPrimitives.Add(sums, new ReadOnlySpan<T>(patches + (k * run) + (from * Channels), sums.Length), sums);
                        }
                    }
                }
            }
        }

        // The columns of a patch that begins at a column of the image and lie inside it.
        private readonly (int From, int To) Inside(int start, int width) => (Math.Max(0, -start), Math.Min(Kernel, width - start));
    }
}
