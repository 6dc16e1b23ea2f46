using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Models;

/// <summary>Batch norm whose statistics are constants in the gradient: its output is batch norm's, its gradient is not.</summary>
[TestClass]
public sealed class DetachedBatchNormTests
{
    private const int Samples = 7;
    private const int Channels = 3;

    [TestMethod]
    public void Forward_TrainingOnTwoBatches_GivesBatchNormsOutput()
    {
        var random = new RandomStream(1, "detached");
        var layer = new DetachedBatchNorm<double>();
        var reference = new BatchNorm<double>(Channels);
        for (int batch = 0; batch < 2; batch++)
        {
            Activations<double> input = Draw(random);
            var expected = new double[Samples * Channels];
            reference.Forward(input.Shape, input.Values, expected);
            NumericAssert.NearLargest<double>(expected, layer.Forward(input, training: true).Values, 1e-13, $"batch {batch}");
        }
    }

    [TestMethod]
    public void Forward_Inference_NormalizesByTheLastBatch()
    {
        var random = new RandomStream(2, "detached");
        var layer = new DetachedBatchNorm<double>();
        layer.Forward(Draw(random), training: true);
        Activations<double> last = Draw(random);
        double[] expected = layer.Forward(last, training: true).Values.ToArray();
        NumericAssert.NearLargest<double>(expected, layer.Forward(last, training: false).Values, 1e-13, "inference");
    }

    [TestMethod]
    public void Backward_DifferencesWithStatisticsHeld_AgreeAndBatchNormsDoNot()
    {
        var random = new RandomStream(3, "detached");
        var layer = new DetachedBatchNorm<double>();
        Activations<double> input = Draw(random);
        layer.Forward(input, training: true);
        Parameter<double>[] parameters = [.. layer.Parameters];
        foreach (Parameter<double> parameter in parameters)
        {
            random.FillGaussian(parameter.Values);
        }

        layer.Forward(input, training: true);
        Activations<double> upstream = Draw(random);
        double[] actual = layer.Backward(upstream, wantsInput: true).Values.ToArray();
        double[] x = input.Values.ToArray();
        double[] g = upstream.Values.ToArray();
        var expected = new double[x.Length];
        var weight = new double[Channels];
        var bias = new double[Channels];
        for (int c = 0; c < Channels; c++)
        {
            double[] values = [.. Enumerable.Range(0, Samples).Select(n => x[(n * Channels) + c])];
            double mean = values.Average();
            double inverse = 1 / Math.Sqrt(values.Average(value => (value - mean) * (value - mean)) + 1e-5);
            for (int n = 0; n < Samples; n++)
            {
                int i = (n * Channels) + c;
                double scale = parameters[0].Values[c];
                double Held(double step) => scale * (x[i] + step - mean) * inverse * g[i];
                expected[i] = (Held(1) - Held(-1)) / 2;
                weight[c] += g[i] * (x[i] - mean) * inverse;
                bias[c] += g[i];
            }
        }

        NumericAssert.NearLargest<double>(expected, actual, 1e-12, "input");
        NumericAssert.NearLargest<double>(weight, parameters[0].Gradient, 1e-12, "weight");
        NumericAssert.NearLargest<double>(bias, parameters[1].Gradient, 1e-12, "bias");

        // The true gradient sums to 0 over a channel; this one moves a bias before the layer.
        double sum = Enumerable.Range(0, Samples).Sum(n => actual[n * Channels]);
        Assert.IsGreaterThan(1e-3, Math.Abs(sum));
    }

    private static Activations<double> Draw(RandomStream random)
    {
        Activations<double> drawn = new Activations<double>().Resize(new(Samples, Channels));
        random.FillGaussian(drawn.Values);
        return drawn;
    }
}
