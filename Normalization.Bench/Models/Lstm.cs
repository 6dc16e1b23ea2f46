using System.Numerics;
using Normalization.Core;
using Normalization.Strategies.Companions;

namespace Normalization.Bench.Models;

/// <summary>An LSTM that reads an image row by row from the top: (N, rows * D) pixels in, the hidden state after the last row (N, units) out.</summary>
/// <remarks>
/// A row whose first pixel is NaN is absent, and so are those below it: such an image is a shorter sequence, masked out of the later steps and of
/// their statistics. The lengths travel with the images, so that whatever makes batches of them need not know.
/// </remarks>
internal sealed class Lstm<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly LstmCell<T> _cell;
    private readonly int _rows;
    private int[] _lengths = [];
    private T[] _sequences = []; // (rows, N, D), in Backward their gradients
    private T[] _states = []; // (rows, N, units), in Backward their gradients

    /// <param name="cell">The cell, with room for the rows where it is batch-normalized; its inputs are a row's pixels.</param>
    /// <param name="rows">Rows of an image.</param>
    public Lstm(LstmCell<T> cell, int rows)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 1);
        _cell = cell;
        _rows = rows;
    }

    public override IEnumerable<Parameter<T>> Parameters => _cell.Parameters;

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        int width = _cell.Inputs;
        if (input.Features != _rows * width)
        {
            throw new ArgumentException($"This LSTM takes {_rows} rows of {width} pixels a sample; got a batch of shape {input.Shape}, {input.Features} each.", nameof(input));
        }

        if (_cell.Training != training)
        {
            _cell.Training = training;
        }

        int samples = (int)input.Shape.Samples;
        Array.Resize(ref _lengths, samples);
        Array.Resize(ref _sequences, (int)input.Shape.Count);
        Array.Resize(ref _states, _rows * samples * _cell.Hidden);
        for (int n = 0; n < samples; n++)
        {
            ReadOnlySpan<T> image = input.Values.Slice(n * input.Features, input.Features);
            for (_lengths[n] = 0; _lengths[n] < _rows && !T.IsNaN(image[_lengths[n] * width]); _lengths[n]++)
            {
                image.Slice(_lengths[n] * width, width).CopyTo(_sequences.AsSpan(((_lengths[n] * samples) + n) * width));
            }
        }

        bool[] mask = Array.TrueForAll(_lengths, length => length == _rows) ? [] : LstmCell<T>.Mask(_rows, _lengths);
        _cell.Forward(_rows, samples, _sequences, _states, mask);
        LastStates.CopyTo(Output.Resize(new ActivationShape(samples, _cell.Hidden)).Values);
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        int samples = _lengths.Length;
        Array.Clear(_states);
        outputGradient.Values.CopyTo(LastStates);
        _cell.Backward(_states, wantsInput ? _sequences : []);
        if (!wantsInput)
        {
            return InputGradient;
        }

        int width = _cell.Inputs;
        Span<T> gradients = InputGradient.Resize(new ActivationShape(samples, _rows * width)).Values;
        for (int n = 0; n < samples; n++)
        {
            for (int row = 0; row < _rows; row++)
            {
                _sequences.AsSpan(((row * samples) + n) * width, width).CopyTo(gradients[(((n * _rows) + row) * width)..]);
            }
        }

        return InputGradient;
    }

    // A masked step repeats a sample's state, so that the last row has them all.
    private Span<T> LastStates => _states.AsSpan((_rows - 1) * _lengths.Length * _cell.Hidden);
}
