using Normalization.Bench.Experiments;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Experiments;

[TestClass]
public sealed class LandscapeTests
{
    private const double Rate = 0.2;

    private static readonly byte[] Labels = [3, 1, 4, 1, 5, 9];

    [TestMethod]
    public void LookAhead_NetworkWithBatchNorm_LeavesItAsItWas()
    {
        Sequential<float> network = Create(out Activations<float> images);
        Gradients(network, images);
        float[][] before = State();
        new Landscape(network, Rate).LookAhead(images, Labels);
        float[][] after = State();
        for (int i = 0; i < before.Length; i++)
        {
            NumericAssert.SameBits<float>(before[i], after[i], $"array {i}");
        }

        float[][] State() =>
        [
            .. network.Parameters.SelectMany(parameter => new[] { (float[])parameter.Values.Clone(), (float[])parameter.Gradient.Clone() }),
            .. network.Normalizers.SelectMany(normalizer => normalizer.Buffers).Select(buffer => buffer.IsCounter ? [buffer.Count] : (float[])buffer.Values.Clone()),
        ];
    }

    [TestMethod]
    public void LookAhead_StepsTakenOneByOneOnATwin_SeeTheSame()
    {
        Sequential<float> network = Create(out Activations<float> images);
        Gradients(network, images);
        float[][] gradients = [.. network.Parameters.Select(parameter => (float[])parameter.Gradient.Clone())];
        double norm = Math.Sqrt(gradients.Sum(gradient => gradient.Sum(value => (double)value * value)));
        double[] losses = new double[8];
        double[] changes = new double[8];
        for (int i = 0; i < 8; i++)
        {
            Sequential<float> twin = Create(out Activations<float> same);
            Parameter<float>[] parameters = Ready(twin, same);
            for (int p = 0; p < parameters.Length; p++)
            {
                for (int k = 0; k < gradients[p].Length; k++)
                {
                    parameters[p].Values[k] -= (float)(Rate * 0.5 * (i + 1)) * gradients[p][k];
                }
            }

            losses[i] = Gradients(twin, same);
            changes[i] = Math.Sqrt(parameters.Zip(gradients, (parameter, gradient) => parameter.Gradient.Zip(gradient, (a, b) => (double)(a - b) * (a - b)).Sum()).Sum());
        }

        View view = new Landscape(network, Rate).LookAhead(images, Labels);
        NumericAssert.Near(losses.Min(), view.Least, 1, 1e-5, "least loss");
        NumericAssert.Near(losses.Max(), view.Greatest, 1, 1e-5, "greatest loss");
        NumericAssert.Near(changes.Max(), view.Change, changes.Max(), 1e-4, "change");
        NumericAssert.Near(changes.Max() / norm, view.RelativeChange, view.RelativeChange, 1e-4, "relative change");
        double beta = changes.Select((change, i) => change / (Rate * 0.5 * (i + 1) * norm)).Max();
        NumericAssert.Near(beta, view.Beta, beta, 1e-4, "smoothness");
        Assert.IsGreaterThan(view.Least, view.Greatest);
    }

    private static Sequential<float> Create(out Activations<float> images)
    {
        var random = new RandomStream(5, "landscape");
        images = new Activations<float>().Resize(new(Labels.Length, 12));
        foreach (ref float value in images.Values)
        {
            value = (float)random.NextGaussian();
        }

        return Networks.Perceptron(12, 8, 2, "batch-norm", new StrategySettings(), () => new Relu<float>(), random);
    }

    // Normalizers come into being with the first pass.
    private static Parameter<float>[] Ready(Sequential<float> network, Activations<float> images)
    {
        network.Forward(images, training: false);
        return [.. network.Parameters];
    }

    private static double Gradients(Sequential<float> network, Activations<float> images)
    {
        var loss = new SoftmaxCrossEntropy<float>();
        double value = loss.Forward(network.Forward(images, training: true), Labels);
        network.Backward(loss.Gradient, wantsInput: false);
        return value;
    }
}
