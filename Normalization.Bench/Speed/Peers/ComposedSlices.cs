using System.Numerics.Tensors;

namespace Normalization.Bench.Speed;

/// <summary>Channels-first memory with spatial axes: a set of values normalized together is made of slices, each the positions of one (n, c).</summary>
/// <remarks>
/// batch-norm: set c has the slices (n, c) of all n. ghost-batch-norm: of the n of a ghost. instance-norm: one slice.
/// group-norm: the slices of the group's channels.
/// </remarks>
internal sealed class ComposedSlices : ComposedNorm
{
    private readonly string _strategy;
    private readonly int _samples;
    private readonly int _channels;
    private readonly int _length;
    private readonly int _ghost;
    private readonly int _sets;
    private readonly int _slices;
    private readonly double[] _mean;
    private readonly double[] _variance;
    private readonly ThreadLocal<float[]> _scratch;

    // By slice.
    private readonly double[] _upstreamSum;
    private readonly double[] _upstreamDot;

    public ComposedSlices(CellData data, int threads)
        : base(data, threads)
    {
        _strategy = data.Cell.Strategy;
        _samples = (int)Shape.Samples;
        _channels = Shape.Channels;
        _length = (int)Shape.SpatialSize;
        _ghost = _strategy == "batch-norm" ? _samples : PeerCells.GhostSize(data.Cell);
        (_sets, _slices) = _strategy switch
        {
            "instance-norm" => (_samples * _channels, 1),
            "group-norm" => (_samples * SpeedCell.Groups, _channels / SpeedCell.Groups),
            _ => (_samples / _ghost * _channels, _ghost),
        };
        _mean = new double[_sets];
        _variance = new double[_sets];
        _upstreamSum = new double[_samples * _channels];
        _upstreamDot = new double[_samples * _channels];
        _scratch = new ThreadLocal<float[]>(() => new float[_length]);
    }

    private double SetSize => (double)_slices * _length;

    private bool HasRunning => _strategy is "batch-norm" or "ghost-batch-norm";

    public override void Forward(ReadOnlyMemory<float> input, Memory<float> output)
    {
        For(_sets, set =>
        {
            ReadOnlySpan<float> x = input.Span;
            Span<float> y = output.Span;
            Span<float> centred = _scratch.Value;
            double sum = 0;
            for (int i = 0; i < _slices; i++)
            {
                sum += TensorPrimitives.Sum(Slice(x, SliceOf(set, i)));
            }

            double mean = sum / SetSize;
            double squares = 0;
            for (int i = 0; i < _slices; i++)
            {
                TensorPrimitives.Subtract(Slice(x, SliceOf(set, i)), (float)mean, centred);
                squares += TensorPrimitives.SumOfSquares<float>(centred);
            }

            double variance = squares / SetSize;
            _mean[set] = mean;
            _variance[set] = variance;
            for (int i = 0; i < _slices; i++)
            {
                int slice = SliceOf(set, i);
                Affine(Slice(x, slice), mean, InverseStd(variance), slice % _channels, Slice(y, slice));
            }
        });

        if (HasRunning)
        {
            int ghosts = _sets / _channels;
            for (int channel = 0; channel < _channels; channel++)
            {
                (double mean, double variance) = (0, 0);
                for (int set = channel; set < _sets; set += _channels)
                {
                    mean += _mean[set] / ghosts;
                    variance += _variance[set] / ghosts;
                }

                UpdateRunning(channel, mean, variance, SetSize);
            }
        }
    }

    public override void Inference(ReadOnlyMemory<float> input, Memory<float> output)
    {
        if (!HasRunning)
        {
            Forward(input, output);
            return;
        }

        For(_samples, sample =>
        {
            ReadOnlySpan<float> x = input.Span;
            Span<float> y = output.Span;
            for (int channel = 0; channel < _channels; channel++)
            {
                int slice = (sample * _channels) + channel;
                Affine(Slice(x, slice), RunningMean[channel], InverseStd(RunningVariance[channel]), channel, Slice(y, slice));
            }
        });
    }

    public override void Backward(ReadOnlyMemory<float> input, ReadOnlyMemory<float> upstream, Memory<float> inputGradient)
    {
        For(_sets, set =>
        {
            ReadOnlySpan<float> x = input.Span;
            ReadOnlySpan<float> upstreams = upstream.Span;
            Span<float> gradients = inputGradient.Span;
            Span<float> centred = _scratch.Value;
            float mean = (float)_mean[set];
            float inverseStd = InverseStd(_variance[set]);
            double weightedSum = 0;
            double weightedDot = 0;
            for (int i = 0; i < _slices; i++)
            {
                int slice = SliceOf(set, i);
                ReadOnlySpan<float> dy = Slice(upstreams, slice);
                TensorPrimitives.Subtract(Slice(x, slice), mean, centred);
                double sum = TensorPrimitives.Sum(dy);
                double dot = TensorPrimitives.Dot(centred, dy) * inverseStd;
                _upstreamSum[slice] = sum;
                _upstreamDot[slice] = dot;
                weightedSum += sum * Weight[slice % _channels];
                weightedDot += dot * Weight[slice % _channels];
            }

            // dx = r (w dy - a - xhat b) = (r w) dy - (r^2 b) x + r (mean r b - a), a and b the means of w dy and w dy xhat.
            double ofInput = -inverseStd * (double)inverseStd * weightedDot / SetSize;
            double constant = -(inverseStd * weightedSum / SetSize) - (ofInput * mean);
            for (int i = 0; i < _slices; i++)
            {
                int slice = SliceOf(set, i);
                Span<float> dx = Slice(gradients, slice);
                TensorPrimitives.Multiply(Slice(x, slice), (float)ofInput, dx);
                TensorPrimitives.MultiplyAdd(Slice(upstreams, slice), inverseStd * Weight[slice % _channels], dx, dx);
                TensorPrimitives.Add(dx, (float)constant, dx);
            }
        });

        for (int channel = 0; channel < _channels; channel++)
        {
            (double weight, double bias) = (0, 0);
            for (int slice = channel; slice < _upstreamSum.Length; slice += _channels)
            {
                weight += _upstreamDot[slice];
                bias += _upstreamSum[slice];
            }

            WeightGradient[channel] = (float)weight;
            BiasGradient[channel] = (float)bias;
        }
    }

    public override void Dispose() => _scratch.Dispose();

    private void Affine(ReadOnlySpan<float> x, double mean, float inverseStd, int channel, Span<float> y)
    {
        float scale = inverseStd * Weight[channel];
        TensorPrimitives.Multiply(x, scale, y);
        TensorPrimitives.Add(y, (float)(Bias[channel] - (mean * scale)), y);
    }

    private ReadOnlySpan<float> Slice(ReadOnlySpan<float> values, int slice) => values.Slice(slice * _length, _length);

    private Span<float> Slice(Span<float> values, int slice) => values.Slice(slice * _length, _length);

    // The number n*C + c of a set's i-th slice.
    private int SliceOf(int set, int i) => _strategy switch
    {
        "instance-norm" => set,
        "group-norm" => (set * _slices) + i,
        _ => (((set / _channels * _ghost) + i) * _channels) + (set % _channels),
    };
}
