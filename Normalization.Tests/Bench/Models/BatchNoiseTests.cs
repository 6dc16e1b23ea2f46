using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Models;

[TestClass]
public sealed class BatchNoiseTests
{
    [TestMethod]
    [DataRow(false)]
    [DataRow(true)]
    public void Backward_FivePointDifferences_AgreeInTrainingAndInference(bool training)
    {
        const double Step = 1e-3;
        var random = new RandomStream(1, "noise");
        var layer = new BatchNoise<double>(random);
        Activations<double> input = Draw(new(4, 3, 2, 2), random);
        Activations<double> upstream = Draw(input.Shape, random);
        layer.Forward(input, training);
        layer.Held = true;
        double[] analytic = layer.Backward(upstream, wantsInput: true).Values.ToArray();
        var numeric = new double[analytic.Length];
        for (int i = 0; i < numeric.Length; i++)
        {
            double at = input.Values[i];
            numeric[i] = ((8 * (Loss(Step) - Loss(-Step))) - (Loss(2 * Step) - Loss(-2 * Step))) / (12 * Step);
            input.Values[i] = at;

            double Loss(double step)
            {
                input.Values[i] = at + step;
                ReadOnlySpan<double> y = layer.Forward(input, training).Values;
                double loss = 0;
                for (int k = 0; k < y.Length; k++)
                {
                    loss += y[k] * upstream.Values[k];
                }

                return loss;
            }
        }

        NumericAssert.NearLargest<double>(numeric, analytic, 1e-9, "input");
    }

    [TestMethod]
    public void Forward_Training_MovesEachChannelsMeanAndScaleAnewEachStepWithinTheirRanges()
    {
        const int Samples = 2000;
        const int Channels = 6;
        var random = new RandomStream(2, "noise");
        var layer = new BatchNoise<double>(random);
        Activations<double> input = Draw(new(Samples, Channels), random);
        (double Shift, double Scale)[] first = Fits();
        (double Shift, double Scale)[] second = Fits();
        foreach ((double shift, double scale) in first.Concat(second))
        {
            Assert.IsLessThan(0.52, Math.Abs(shift));
            Assert.IsGreaterThan(0.98, scale);
            Assert.IsLessThan(1.27, scale);
        }

        for (int c = 0; c < Channels; c++)
        {
            Assert.AreNotEqual(first[c].Shift, second[c].Shift, 1e-3, "a step's shifts are its own");
            Assert.AreNotEqual(first[c].Shift, first[(c + 1) % Channels].Shift, 1e-3, "a channel's shift is its own");
        }

        // y = s x + m by least squares, channel by channel.
        (double Shift, double Scale)[] Fits()
        {
            double[] y = layer.Forward(input, training: true).Values.ToArray();
            double[] x = input.Values.ToArray();
            return [.. Enumerable.Range(0, Channels).Select(c =>
            {
                double[] xs = [.. Enumerable.Range(0, Samples).Select(n => x[(n * Channels) + c])];
                double[] ys = [.. Enumerable.Range(0, Samples).Select(n => y[(n * Channels) + c])];
                double scale = xs.Zip(ys, (a, b) => (a - xs.Average()) * b).Sum() / xs.Sum(a => (a - xs.Average()) * (a - xs.Average()));
                double shift = ys.Average() - (scale * xs.Average());
                Assert.IsGreaterThan(0.05, xs.Zip(ys, (a, b) => Math.Abs(b - (scale * a) - shift)).Average(), "each element has noise of its own");
                return (shift, scale);
            })];
        }
    }

    [TestMethod]
    public void Forward_Held_RepeatsTheNoiseUntilReleased()
    {
        var random = new RandomStream(3, "noise");
        var layer = new BatchNoise<float>(random);
        Activations<float> input = new Activations<float>().Resize(new(5, 4));
        input.Values.Fill(1);
        float[] drawn = layer.Forward(input, training: true).Values.ToArray();
        layer.Held = true;
        CollectionAssert.AreEqual(drawn, layer.Forward(input, training: true).Values.ToArray());
        layer.Held = false;
        CollectionAssert.AreNotEqual(drawn, layer.Forward(input, training: true).Values.ToArray());
    }

    [TestMethod]
    public void Forward_Inference_IsTheMeanOfTraining()
    {
        var random = new RandomStream(4, "noise");
        var layer = new BatchNoise<double>(random);
        Activations<double> input = new Activations<double>().Resize(new(50, 40));
        input.Values.Fill(2);
        double mean = Enumerable.Range(0, 100).Average(_ => layer.Forward(input, training: true).Values.ToArray().Average());
        foreach (double value in layer.Forward(input, training: false).Values)
        {
            Assert.AreEqual(2 * BatchNoise<double>.MeanScale, value);
        }

        NumericAssert.Near(2 * BatchNoise<double>.MeanScale, mean, 1, 0.03, "mean");
    }

    private static Activations<double> Draw(ActivationShape shape, RandomStream random)
    {
        Activations<double> values = new Activations<double>().Resize(shape);
        random.FillGaussian(values.Values);
        return values;
    }
}
