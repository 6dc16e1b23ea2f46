using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;

namespace Normalization.Tests.Documentation;

// example: begin
/// <summary>y = gain * x / sqrt(mean of the sample's squares + epsilon), with one learned number for the whole layer.</summary>
internal sealed class MyNorm<T>(double epsilon) : INormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly Parameter<T> _gain = new("gain", [1], T.One);

    public bool Training { get; set; } = true; // nothing is kept between calls, so both modes do the same

    public IReadOnlyList<Parameter<T>> Parameters => [_gain];

    public NormalizerClaims Claims => NormalizerClaims.SampleScaleInvariance | NormalizerClaims.SampleIndependence;

    public long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => sample;

    public void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output)
    {
        double[] y = Read(input);
        for (int begin = 0, size = SampleSize(input); begin < y.Length; begin += size)
        {
            Span<double> sample = y.AsSpan(begin, size);
            TensorPrimitives.Multiply(sample, Slope(sample) * double.CreateTruncating(_gain.Values[0]), sample);
        }

        Write(y, output);
    }

    public void Backward(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> outputGradient, in TensorSpan<T> inputGradient)
    {
        double gain = double.CreateTruncating(_gain.Values[0]), gainGradient = 0;
        double[] allX = Read(input), allDy = Read(outputGradient);
        for (int begin = 0, size = SampleSize(input); begin < allX.Length; begin += size)
        {
            Span<double> x = allX.AsSpan(begin, size), dy = allDy.AsSpan(begin, size);
            double slope = Slope(x), product = slope * TensorPrimitives.Dot<double>(x, dy); // sum of dy * xhat, xhat = slope * x
            gainGradient += product;
            for (int i = 0; i < size; i++)
            {
                dy[i] = slope * gain * (dy[i] - (slope * x[i] * product / size)); // from here on dx
            }
        }

        Write(allDy, inputGradient);
        _gain.Gradient[0] += T.CreateTruncating(gainGradient); // gradients add up until ZeroGradients
    }

    private double Slope(ReadOnlySpan<double> sample) => 1 / Math.Sqrt((TensorPrimitives.SumOfSquares(sample) / sample.Length) + epsilon);

    private static int SampleSize(in ReadOnlyTensorSpan<T> tensor) => (int)(tensor.FlattenedLength / nint.Max(1, tensor.Lengths[0]));

    // Enumerating goes by the strides: wherever the values lie, they come in the order of the axes (N, C, ...).
    private static double[] Read(in ReadOnlyTensorSpan<T> tensor)
    {
        double[] values = new double[tensor.FlattenedLength];
        int i = 0;
        foreach (T value in tensor) values[i++] = double.CreateTruncating(value);
        return values;
    }

    private static void Write(double[] values, in TensorSpan<T> tensor)
    {
        if (tensor.FlattenedLength != values.Length) throw new ArgumentException($"The result has {tensor.FlattenedLength} elements, the input {values.Length}.");
        int i = 0;
        foreach (ref T value in tensor) value = T.CreateTruncating(values[i++]);
    }
}
// example: end
