using System.Numerics.Tensors;

namespace Normalization.Bench.Speed;

/// <summary>Memory with channels innermost, (N, C) and channels-last: rows of C values, added up row by row.</summary>
/// <remarks>
/// Rows whose channels share statistics form a segment: all of them for batch-norm, those of a ghost, those of a sample for instance-norm
/// and group-norm. Several short rows are taken in one call, against vectors of C values repeated as often.
/// </remarks>
internal sealed class ComposedChannels : ComposedNorm
{
    // Values a call takes at least, where there are as many: below it the calls themselves cost.
    private const int Enough = 1024;

    private readonly string _strategy;
    private readonly int _channels;
    private readonly int _repeats;
    private readonly int _segments;
    private readonly int _rows; // of a segment
    private readonly int _pieces; // of a segment
    private readonly float[] _mean; // by segment and channel, as the next
    private readonly float[] _variance;
    private readonly double[] _sums;
    private readonly double[] _dots;
    private readonly ThreadLocal<Scratch> _scratch;
    private readonly Scratch[] _partial; // by segment and piece

    public ComposedChannels(CellData data, int threads)
        : base(data, threads)
    {
        _strategy = data.Cell.Strategy;
        _channels = Shape.Channels;
        int samples = (int)Shape.Samples;
        int together = _strategy switch
        {
            "batch-norm" => samples,
            "ghost-batch-norm" => PeerCells.GhostSize(data.Cell),
            _ => 1,
        };
        _segments = samples / together;
        _rows = together * (int)Shape.SpatialSize;
        _pieces = _segments >= threads ? 1 : Math.Min(threads, _rows);
        _repeats = Math.Clamp(Enough / _channels, 1, Math.Max(1, _rows / 4));
        _mean = new float[_segments * _channels];
        _variance = new float[_segments * _channels];
        _sums = new double[_segments * _channels];
        _dots = new double[_segments * _channels];
        _scratch = new ThreadLocal<Scratch>(() => new Scratch(_repeats * _channels));
        _partial = [.. Enumerable.Range(0, _segments * _pieces).Select(_ => new Scratch(_repeats * _channels))];
    }

    private int Block => _repeats * _channels;

    private bool HasRunning => _strategy is "batch-norm" or "ghost-batch-norm";

    public override void Forward(ReadOnlyMemory<float> input, Memory<float> output)
    {
        For(_partial.Length, piece =>
        {
            Span<float> sum = _partial[piece].First;
            sum.Clear();
            ReadOnlySpan<float> inputs = input.Span;
            (int begin, int end) = Range(piece);
            for (int at = begin; at < end; at += Block)
            {
                ReadOnlySpan<float> x = inputs.Slice(at, Math.Min(Block, end - at));
                TensorPrimitives.Add(sum[..x.Length], x, sum[..x.Length]);
            }
        });
        Fold(partial => partial.First, _sums);
        Average(_sums, _mean);

        For(_partial.Length, piece =>
        {
            Span<float> squares = _partial[piece].First;
            Span<float> means = _scratch.Value!.First;
            Span<float> centred = _scratch.Value.Second;
            squares.Clear();
            Repeat(OfSegment(_mean, piece), means);
            ReadOnlySpan<float> inputs = input.Span;
            (int begin, int end) = Range(piece);
            for (int at = begin; at < end; at += Block)
            {
                ReadOnlySpan<float> x = inputs.Slice(at, Math.Min(Block, end - at));
                TensorPrimitives.Subtract(x, means[..x.Length], centred);
                TensorPrimitives.MultiplyAdd(centred[..x.Length], centred[..x.Length], squares[..x.Length], squares[..x.Length]);
            }
        });
        Fold(partial => partial.First, _sums);
        Average(_sums, _variance);

        For(_partial.Length, piece => Affine(piece, OfSegment(_mean, piece), OfSegment(_variance, piece), input, output));

        if (HasRunning)
        {
            for (int channel = 0; channel < _channels; channel++)
            {
                (double mean, double variance) = (0, 0);
                for (int i = channel; i < _mean.Length; i += _channels)
                {
                    mean += _mean[i] / _segments;
                    variance += _variance[i] / _segments;
                }

                UpdateRunning(channel, mean, variance, _rows);
            }
        }
    }

    public override void Inference(ReadOnlyMemory<float> input, Memory<float> output)
    {
        if (HasRunning)
        {
            For(_partial.Length, piece => Affine(piece, RunningMean, RunningVariance, input, output));
        }
        else
        {
            Forward(input, output);
        }
    }

    public override void Backward(ReadOnlyMemory<float> input, ReadOnlyMemory<float> upstream, Memory<float> inputGradient)
    {
        For(_partial.Length, piece =>
        {
            Span<float> sum = _partial[piece].First;
            Span<float> dot = _partial[piece].Second;
            Span<float> means = _scratch.Value!.First;
            Span<float> centred = _scratch.Value.Second;
            sum.Clear();
            dot.Clear();
            Repeat(OfSegment(_mean, piece), means);
            ReadOnlySpan<float> inputs = input.Span;
            ReadOnlySpan<float> upstreams = upstream.Span;
            (int begin, int end) = Range(piece);
            for (int at = begin; at < end; at += Block)
            {
                ReadOnlySpan<float> x = inputs.Slice(at, Math.Min(Block, end - at));
                ReadOnlySpan<float> dy = upstreams.Slice(at, x.Length);
                TensorPrimitives.Add(sum[..x.Length], dy, sum[..x.Length]);
                TensorPrimitives.Subtract(x, means[..x.Length], centred);
                TensorPrimitives.MultiplyAdd(centred[..x.Length], dy, dot[..x.Length], dot[..x.Length]);
            }
        });
        Fold(partial => partial.First, _sums);
        Fold(partial => partial.Second, _dots);
        Array.Clear(WeightGradient);
        Array.Clear(BiasGradient);
        for (int i = 0; i < _dots.Length; i++)
        {
            _dots[i] *= InverseStd(_variance[i]);
            WeightGradient[i % _channels] += (float)_dots[i];
            BiasGradient[i % _channels] += (float)_sums[i];
            _sums[i] *= Weight[i % _channels];
            _dots[i] *= Weight[i % _channels];
        }

        Average(_sums, null);
        Average(_dots, null);

        For(_partial.Length, piece =>
        {
            // dx = r (w dy - a - xhat b) = (r w) dy - (r^2 b) x + r (mean r b - a), a and b the means of w dy and w dy xhat.
            Scratch scratch = _scratch.Value!;
            Span<float> ofUpstream = scratch.First;
            Span<float> ofInput = scratch.Second;
            Span<float> constant = scratch.Third;
            int first = piece / _pieces * _channels;
            for (int channel = 0; channel < _channels; channel++)
            {
                double inverseStd = InverseStd(_variance[first + channel]);
                double slope = -inverseStd * inverseStd * _dots[first + channel];
                ofUpstream[channel] = (float)(inverseStd * Weight[channel]);
                ofInput[channel] = (float)slope;
                constant[channel] = (float)((-inverseStd * _sums[first + channel]) - (slope * _mean[first + channel]));
            }

            Repeat(ofUpstream[.._channels], ofUpstream);
            Repeat(ofInput[.._channels], ofInput);
            Repeat(constant[.._channels], constant);
            ReadOnlySpan<float> inputs = input.Span;
            ReadOnlySpan<float> upstreams = upstream.Span;
            Span<float> gradients = inputGradient.Span;
            (int begin, int end) = Range(piece);
            for (int at = begin; at < end; at += Block)
            {
                ReadOnlySpan<float> x = inputs.Slice(at, Math.Min(Block, end - at));
                Span<float> dx = gradients.Slice(at, x.Length);
                TensorPrimitives.MultiplyAdd(x, ofInput[..x.Length], constant[..x.Length], dx);
                TensorPrimitives.MultiplyAdd(upstreams.Slice(at, x.Length), ofUpstream[..x.Length], dx, dx);
            }
        });
    }

    public override void Dispose() => _scratch.Dispose();

    private void Affine(int piece, ReadOnlySpan<float> mean, ReadOnlySpan<float> variance, ReadOnlyMemory<float> input, Memory<float> output)
    {
        Span<float> scale = _scratch.Value!.First;
        Span<float> shift = _scratch.Value.Second;
        for (int channel = 0; channel < _channels; channel++)
        {
            scale[channel] = InverseStd(variance[channel]) * Weight[channel];
            shift[channel] = Bias[channel] - (mean[channel] * scale[channel]);
        }

        Repeat(scale[.._channels], scale);
        Repeat(shift[.._channels], shift);
        ReadOnlySpan<float> inputs = input.Span;
        Span<float> outputs = output.Span;
        (int begin, int end) = Range(piece);
        for (int at = begin; at < end; at += Block)
        {
            ReadOnlySpan<float> x = inputs.Slice(at, Math.Min(Block, end - at));
            TensorPrimitives.MultiplyAdd(x, scale[..x.Length], shift[..x.Length], outputs.Slice(at, x.Length));
        }
    }

    // Where a piece of a segment begins and ends in memory: whole rows.
    private (int Begin, int End) Range(int piece)
    {
        int segment = piece / _pieces;
        long part = piece % _pieces;
        int first = segment * _rows;
        return ((first + (int)(_rows * part / _pieces)) * _channels, (first + (int)(_rows * (part + 1) / _pieces)) * _channels);
    }

    private ReadOnlySpan<float> OfSegment(float[] values, int piece) => values.AsSpan(piece / _pieces * _channels, _channels);

    // The first C values over and over, to the end.
    private void Repeat(ReadOnlySpan<float> values, Span<float> destination)
    {
        for (int at = 0; at < destination.Length; at += _channels)
        {
            values.CopyTo(destination[at..]);
        }
    }

    // Adds up what the pieces of each segment found: one total for each segment and channel.
    private void Fold(Func<Scratch, float[]> part, double[] totals)
    {
        Array.Clear(totals);
        for (int piece = 0; piece < _partial.Length; piece++)
        {
            float[] values = part(_partial[piece]);
            Span<double> total = totals.AsSpan(piece / _pieces * _channels, _channels);
            for (int at = 0; at < values.Length; at += _channels)
            {
                for (int channel = 0; channel < _channels; channel++)
                {
                    total[channel] += values[at + channel];
                }
            }
        }
    }

    // Totals to means over each set, in place: the rows of the segment and, for group-norm, the channels of the group.
    private void Average(double[] totals, float[]? means)
    {
        int width = _strategy == "group-norm" ? _channels / SpeedCell.Groups : 1;
        for (int first = 0; first < totals.Length; first += width)
        {
            double mean = 0;
            for (int i = first; i < first + width; i++)
            {
                mean += totals[i];
            }

            mean /= (double)_rows * width;
            totals.AsSpan(first, width).Fill(mean);
            means?.AsSpan(first, width).Fill((float)mean);
        }
    }

    private sealed class Scratch(int length)
    {
        public float[] First { get; } = new float[length];

        public float[] Second { get; } = new float[length];

        public float[] Third { get; } = new float[length];
    }
}
