using System.Numerics.Tensors;

namespace Normalization.Bench.Speed;

/// <summary>Contiguous rows that are normalized together, a weight for each element: layer normalization, group normalization of (N, C).</summary>
/// <remarks>
/// A layer norm's channels-last sample is such a row too, but for its weights: they are channels-first, so every call reorders them.
/// </remarks>
internal sealed class ComposedRows : ComposedNorm
{
    private readonly int _length;
    private readonly int _rows;
    private readonly int _rowsPerSample;
    private readonly bool _transposes;
    private readonly float[] _mean;
    private readonly float[] _inverseStd;

    // In the memory order of a sample.
    private readonly float[] _weight;
    private readonly float[] _bias;

    // One each for every piece of the samples.
    private readonly float[][] _scratch;
    private readonly float[][] _weightGradients;
    private readonly float[][] _biasGradients;

    public ComposedRows(CellData data, int threads)
        : base(data, threads)
    {
        int sample = (int)(Shape.Channels * Shape.SpatialSize);
        _rowsPerSample = data.Cell.Strategy == "group-norm" ? SpeedCell.Groups : 1;
        _length = sample / _rowsPerSample;
        _rows = (int)Shape.Samples * _rowsPerSample;
        _transposes = data.Cell.ChannelsLast && Shape.SpatialSize > 1;
        _mean = new float[_rows];
        _inverseStd = new float[_rows];
        _weight = _transposes ? new float[sample] : Weight;
        _bias = _transposes ? new float[sample] : Bias;
        int pieces = (int)Math.Min(threads, Shape.Samples);
        _scratch = Arrays(pieces, _length);
        _weightGradients = Arrays(pieces, sample);
        _biasGradients = Arrays(pieces, sample);
    }

    public override void Forward(ReadOnlyMemory<float> input, Memory<float> output)
    {
        if (_transposes)
        {
            ToMemoryOrder(Weight, _weight);
            ToMemoryOrder(Bias, _bias);
        }

        For(_scratch.Length, piece =>
        {
            ReadOnlySpan<float> inputs = input.Span;
            Span<float> outputs = output.Span;
            (int begin, int end) = RowsOf(piece);
            for (int row = begin; row < end; row++)
            {
                ReadOnlySpan<float> x = inputs.Slice(row * _length, _length);
                Span<float> y = outputs.Slice(row * _length, _length);
                float mean = TensorPrimitives.Sum(x) / _length;
                TensorPrimitives.Subtract(x, mean, y);
                float inverseStd = InverseStd(TensorPrimitives.SumOfSquares(y) / _length);
                TensorPrimitives.Multiply(y, inverseStd, y);
                TensorPrimitives.MultiplyAdd(y, WeightOf(_weight, row), WeightOf(_bias, row), y);
                _mean[row] = mean;
                _inverseStd[row] = inverseStd;
            }
        });
    }

    public override void Inference(ReadOnlyMemory<float> input, Memory<float> output) => Forward(input, output);

    public override void Backward(ReadOnlyMemory<float> input, ReadOnlyMemory<float> upstream, Memory<float> inputGradient)
    {
        if (_transposes)
        {
            ToMemoryOrder(Weight, _weight);
        }

        For(_scratch.Length, piece =>
        {
            ReadOnlySpan<float> inputs = input.Span;
            ReadOnlySpan<float> upstreams = upstream.Span;
            Span<float> gradients = inputGradient.Span;
            Span<float> standardized = _scratch[piece];
            Array.Clear(_weightGradients[piece]);
            Array.Clear(_biasGradients[piece]);
            (int begin, int end) = RowsOf(piece);
            for (int row = begin; row < end; row++)
            {
                ReadOnlySpan<float> x = inputs.Slice(row * _length, _length);
                ReadOnlySpan<float> dy = upstreams.Slice(row * _length, _length);
                Span<float> dx = gradients.Slice(row * _length, _length);
                Span<float> dWeight = WeightOf(_weightGradients[piece], row);
                Span<float> dBias = WeightOf(_biasGradients[piece], row);
                TensorPrimitives.Subtract(x, _mean[row], standardized);
                TensorPrimitives.Multiply(standardized, _inverseStd[row], standardized);
                TensorPrimitives.MultiplyAdd(dy, standardized, dWeight, dWeight);
                TensorPrimitives.Add(dBias, dy, dBias);
                TensorPrimitives.Multiply(dy, WeightOf(_weight, row), dx);
                float mean = TensorPrimitives.Sum(dx) / _length;
                float slope = TensorPrimitives.Dot(dx, standardized) / _length;
                TensorPrimitives.MultiplyAdd(standardized, -slope, dx, dx);
                TensorPrimitives.Subtract(dx, mean, dx);
                TensorPrimitives.Multiply(dx, _inverseStd[row], dx);
            }
        });

        for (int piece = 1; piece < _scratch.Length; piece++)
        {
            TensorPrimitives.Add(_weightGradients[0], _weightGradients[piece], _weightGradients[0]);
            TensorPrimitives.Add(_biasGradients[0], _biasGradients[piece], _biasGradients[0]);
        }

        if (_transposes)
        {
            FromMemoryOrder(_weightGradients[0], WeightGradient);
            FromMemoryOrder(_biasGradients[0], BiasGradient);
        }
        else
        {
            _weightGradients[0].CopyTo(WeightGradient, 0);
            _biasGradients[0].CopyTo(BiasGradient, 0);
        }
    }

    public override void Dispose()
    {
    }

    private static float[][] Arrays(int count, int length) => [.. Enumerable.Range(0, count).Select(_ => new float[length])];

    // Whole samples to a piece.
    private (int Begin, int End) RowsOf(int piece)
    {
        long samples = Shape.Samples;
        return ((int)(samples * piece / _scratch.Length) * _rowsPerSample, (int)(samples * (piece + 1) / _scratch.Length) * _rowsPerSample);
    }

    private Span<float> WeightOf(float[] values, int row) => values.AsSpan(row % _rowsPerSample * _length, _length);

    private void ToMemoryOrder(float[] channelsFirst, float[] channelsLast)
    {
        int channels = Shape.Channels;
        int positions = (int)Shape.SpatialSize;
        for (int position = 0; position < positions; position++)
        {
            for (int channel = 0; channel < channels; channel++)
            {
                channelsLast[(position * channels) + channel] = channelsFirst[(channel * positions) + position];
            }
        }
    }

    private void FromMemoryOrder(float[] channelsLast, float[] channelsFirst)
    {
        int channels = Shape.Channels;
        int positions = (int)Shape.SpatialSize;
        for (int channel = 0; channel < channels; channel++)
        {
            for (int position = 0; position < positions; position++)
            {
                channelsFirst[(channel * positions) + position] = channelsLast[(position * channels) + channel];
            }
        }
    }
}
