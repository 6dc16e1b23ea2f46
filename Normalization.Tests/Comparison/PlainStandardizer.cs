using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Comparison;

/// <summary>What is deliberately wrong with a <see cref="PlainStandardizer{T}"/>.</summary>
public enum Flaw
{
    None,

    /// <summary>The input gradient misses the term of the variance.</summary>
    WrongInputGradient,

    /// <summary>The weight's gradient is summed over x in place of the normalized x.</summary>
    WrongWeightGradient,

    /// <summary>Declares that it does not depend on the batch, and that it follows rotations.</summary>
    LyingClaims,

    /// <summary>Refuses inputs without spatial axes.</summary>
    RefusesFeatures,

    /// <summary>The float output is off by 1e-4.</summary>
    Imprecise,

    /// <summary>Throws what no refusal is.</summary>
    Crashes,

    /// <summary>A NaN in every output.</summary>
    NotANumber,

    /// <summary>The normalized values' mean is 0.05 of their own deviation.</summary>
    OffCentre,

    /// <summary>The normalized values are 1 % too wide, as with another divisor.</summary>
    Stretched,

    /// <summary>Names smaller reduction sets than it has.</summary>
    WrongSets,

    /// <summary>Throws on the way back as if the input were wrong.</summary>
    RefusesBackward,

    /// <summary>The float output stays as it was found.</summary>
    WritesNothing,
}

/// <summary>Per-channel standardization in plain loops, with running statistics.</summary>
public sealed class PlainStandardizer<T> : INormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly double _epsilon;
    private readonly Flaw _flaw;
    private readonly Parameter<T> _weight;
    private readonly Parameter<T> _bias;
    private readonly StateBuffer<T> _mean;
    private readonly StateBuffer<T> _variance;
    private double[] _batchMean = [];
    private double[] _inverse = [];

    public PlainStandardizer(ActivationShape shape, double epsilon, Flaw flaw = Flaw.None)
    {
        if (flaw == Flaw.RefusesFeatures && shape.Rank == 2)
        {
            throw new ArgumentException($"needs spatial axes, got {shape}", nameof(shape));
        }

        _epsilon = epsilon;
        _flaw = flaw;
        _weight = new Parameter<T>("weight", [shape.Channels], T.One);
        _bias = new Parameter<T>("bias", [shape.Channels], T.Zero);
        _mean = new StateBuffer<T>("running_mean", [shape.Channels], T.Zero);
        _variance = new StateBuffer<T>("running_var", [shape.Channels], T.One);
        Parameters = [_weight, _bias];
        Buffers = [_mean, _variance];
    }

    public bool Training { get; set; } = true;

    public IReadOnlyList<Parameter<T>> Parameters { get; }

    public IReadOnlyList<StateBuffer<T>> Buffers { get; }

    public NormalizerClaims Claims => NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance
        | NormalizerClaims.ScaleInvariance | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.BatchPermutationEquivariance
        | (_flaw == Flaw.LyingClaims ? NormalizerClaims.SampleIndependence | NormalizerClaims.RotationEquivariance : NormalizerClaims.BatchDependence);

    public long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) =>
        _flaw == Flaw.WrongSets ? (sample * shape.Channels) + channel : channel;

    public void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output)
    {
        if (_flaw == Flaw.Crashes)
        {
            throw new FormatException("off by one");
        }

        var shape = new ActivationShape(input.Lengths);
        T[] x = Flat(input);
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        double[] mean = new double[channels];
        double[] inverse = new double[channels];
        double count = (double)shape.Samples * positions;
        for (int c = 0; c < channels; c++)
        {
            if (!Training)
            {
                mean[c] = double.CreateChecked(_mean.Values[c]);
                inverse[c] = 1 / Math.Sqrt(double.CreateChecked(_variance.Values[c]) + _epsilon);
                continue;
            }

            if (count <= 1)
            {
                throw new InvalidOperationException($"needs more than 1 value per channel, got {shape}");
            }

            double sum = 0;
            double squares = 0;
            for (int pass = 0; pass < 3; pass++)
            {
                sum = 0;
                squares = 0;
                for (int n = 0; n < shape.Samples; n++)
                {
                    foreach (T value in x.AsSpan(((n * channels) + c) * positions, positions))
                    {
                        double d = double.CreateChecked(value) - mean[c];
                        sum += d;
                        squares += d * d;
                    }
                }

                mean[c] += pass < 2 ? sum / count : 0;
            }

            double variance = squares / count;
            inverse[c] = 1 / Math.Sqrt(variance + _epsilon);
            _mean.Values[c] = T.CreateChecked((0.9 * double.CreateChecked(_mean.Values[c])) + (0.1 * mean[c]));
            _variance.Values[c] = T.CreateChecked((0.9 * double.CreateChecked(_variance.Values[c])) + (0.1 * variance * count / (count - 1)));
        }

        (_batchMean, _inverse) = (mean, inverse);
        T[] y = new T[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / positions % channels;
            double normalized = (double.CreateChecked(x[i]) - mean[c]) * inverse[c];
            normalized = _flaw switch { Flaw.OffCentre => normalized + 0.05, Flaw.Stretched => 1.01 * normalized, _ => normalized };
            y[i] = T.CreateChecked((double.CreateChecked(_weight.Values[c]) * normalized) + double.CreateChecked(_bias.Values[c]));
        }

        if (_flaw == Flaw.Imprecise && typeof(T) == typeof(float))
        {
            y[^1] += T.CreateChecked(1e-4);
        }

        if (_flaw == Flaw.NotANumber)
        {
            y[0] = T.NaN;
        }

        if (_flaw != Flaw.WritesNothing || typeof(T) != typeof(float))
        {
            new ReadOnlyTensorSpan<T>(y, input.Lengths).CopyTo(output);
        }
    }

    public void Backward(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> outputGradient, in TensorSpan<T> inputGradient)
    {
        if (_flaw == Flaw.RefusesBackward)
        {
            throw new ArgumentOutOfRangeException(nameof(outputGradient), "off by one");
        }

        var shape = new ActivationShape(input.Lengths);
        T[] x = Flat(input);
        T[] g = Flat(outputGradient);
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        double count = (double)shape.Samples * positions;
        double[] sums = new double[channels];
        double[] products = new double[channels];
        double[] wrongProducts = new double[channels];
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / positions % channels;
            sums[c] += double.CreateChecked(g[i]);
            products[c] += double.CreateChecked(g[i]) * Normalized(i, c);
            wrongProducts[c] += double.CreateChecked(g[i]) * double.CreateChecked(x[i]);
        }

        T[] dx = new T[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / positions % channels;
            double slope = double.CreateChecked(g[i]);
            if (Training)
            {
                slope -= sums[c] / count;
                slope -= _flaw == Flaw.WrongInputGradient ? 0 : Normalized(i, c) * products[c] / count;
            }

            dx[i] = T.CreateChecked(double.CreateChecked(_weight.Values[c]) * _inverse[c] * slope);
        }

        for (int c = 0; c < channels; c++)
        {
            _weight.Gradient[c] += T.CreateChecked(_flaw == Flaw.WrongWeightGradient ? wrongProducts[c] : products[c]);
            _bias.Gradient[c] += T.CreateChecked(sums[c]);
        }

        new ReadOnlyTensorSpan<T>(dx, input.Lengths).CopyTo(inputGradient);

        double Normalized(int i, int c) => (double.CreateChecked(x[i]) - _batchMean[c]) * _inverse[c];
    }

    private static T[] Flat(in ReadOnlyTensorSpan<T> tensor)
    {
        T[] values = new T[tensor.FlattenedLength];
        tensor.FlattenTo(values);
        return values;
    }
}

/// <summary>Contestants made of plain standardizers.</summary>
public static class PlainContestants
{
    public static Contestant Make(Flaw flaw = Flaw.None, string? id = null) => new(
        id ?? (flaw == Flaw.None ? "plain" : flaw.ToString()),
        (shape, epsilon) => new PlainStandardizer<float>(shape, epsilon, flaw),
        (shape, epsilon) => new PlainStandardizer<double>(shape, epsilon, flaw));
}

/// <summary>Copies; allocates an array of 1000 bytes in every forward pass if told to.</summary>
public sealed class CopyNormalizer<T>(bool allocates) : INormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    public byte[]? Garbage { get; private set; }

    public bool Training { get; set; } = true;

    public void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output)
    {
        Garbage = allocates ? new byte[1000] : null;
        input.CopyTo(output);
    }

    public void Backward(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> outputGradient, in TensorSpan<T> inputGradient) =>
        outputGradient.CopyTo(inputGradient);
}
