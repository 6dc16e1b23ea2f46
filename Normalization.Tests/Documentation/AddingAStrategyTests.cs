using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Documentation;

/// <summary>The strategy of docs/adding-a-strategy.md, compiled and compared; its text must be the page's, line by line.</summary>
[TestClass]
public sealed class AddingAStrategyTests
{
    private static readonly ActivationShape Shape = new(4, 6, 5);

    [TestMethod]
    public void MyNorm_AgainstDifferences_HasTheRightGradient()
    {
        IReadOnlyList<GradientCheck> checks = new GradientChecker().Check(new MyNorm<double>(1e-5), Shape, TestData.Normal(1, (int)Shape.Count));

        Assert.HasCount(2, checks);
        foreach (GradientCheck check in checks)
        {
            Assert.IsLessThan(1e-9, check.RelativeError, check.Quantity);
        }
    }

    [TestMethod]
    public void MyNorm_AnyStrides_GivesTheSame()
    {
        float[] x = TestData.As<float>(TestData.Normal(1, (int)Shape.Count)), y = new float[x.Length], expected = new float[x.Length];
        new RmsNorm<float>([6, 5]).Forward(Shape, x, expected);

        // x channels-last, y channels-first.
        float[] turned = new float[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            turned[(i / 30 * 30) + (i % 5 * 6) + (i / 5 % 6)] = x[i];
        }

        nint[] lengths = [4, 6, 5];
        new MyNorm<float>(1e-5).Forward(new ReadOnlyTensorSpan<float>(turned, lengths, [30, 1, 6]), new TensorSpan<float>(y, lengths, [30, 5, 1]));

        NumericAssert.NearLargest<float>(Array.ConvertAll(expected, value => (double)value), y, 1e-6, "output");
        Assert.ThrowsExactly<ArgumentException>(() => new MyNorm<float>(1e-5).Forward(new ReadOnlyTensorSpan<float>(x, lengths), new TensorSpan<float>(y, [3, 6, 5])));
    }

    [TestMethod]
    public void MyNorm_InAComparison_FailsNoCheck()
    {
        using var folder = new TemporaryFolder();
        var mine = new Contestant("my-norm", (shape, epsilon) => new MyNorm<float>(epsilon), (shape, epsilon) => new MyNorm<double>(epsilon));
        RunData run = new Comparer([StrategyCatalog.Contestant("rms-norm"), mine])
        {
            Aspects = [Aspects.Outputs, Aspects.Gradients],
            Scenarios = [Scenarios.Synthetic(1).Single(scenario => scenario.Id == "gaussian")],
        }.WriteReport(Path.Combine(folder.Path, "mine"));

        Assert.HasCount(4, run.Cases);
        Assert.IsTrue(run.Cases.All(record => record.Failure is null), string.Join("; ", run.Cases.Select(record => record.Failure)));
        foreach (Measurement claim in run.Measurements.Where(row => row is { Strategy: "my-norm", Metric: "claim" } && row.Parameters!["declared"] is true))
        {
            Assert.AreEqual("verified", claim.Parameters!["verdict"], $"{claim.Parameters["claim"]}");
        }
    }

    [TestMethod]
    public void Example_OfAddingAStrategy_IsTheCompiledOne() => PageExample.IsOn("docs/adding-a-strategy.md", indent: 0);
}

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
