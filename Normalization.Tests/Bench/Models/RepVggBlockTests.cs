using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Models;

/// <summary>RepVGG's block: its gradient, and the one convolution it is in inference.</summary>
[TestClass]
public sealed class RepVggBlockTests
{
    [TestMethod]
    [DataRow(3, 3, 1, 3)]
    [DataRow(3, 3, 2, 2)]
    [DataRow(3, 5, 1, 2)]
    public void Fold_TrainedBlock_GivesItsInference(int channels, int outputs, int stride, int branches)
    {
        var random = new RandomStream(1, "fold");
        RepVggBlock<double> block = Trained(channels, outputs, stride, random, out Activations<double> input);
        Assert.HasCount(branches, block.Normalizers.ToArray());
        double[] expected = block.Forward(input, training: false).Values.ToArray();
        NumericAssert.NearLargest<double>(expected, block.Fold().Forward(input, training: false).Values, 1e-13, "folded");
    }

    [TestMethod]
    public void Fold_InTraining_Throws()
    {
        RepVggBlock<double> block = Trained(2, 2, 1, new RandomStream(2, "fold"), out _);
        Assert.Throws<InvalidOperationException>(block.Fold);
    }

    [TestMethod]
    public void Backward_FivePointDifferenceAlongADirectionOfEverything_Agrees()
    {
        var random = new RandomStream(3, "fold");
        RepVggBlock<double> block = Trained(3, 3, 1, random, out Activations<double> input);
        double[] upstream = new double[(int)block.Forward(input, training: true).Shape.Count];
        random.FillGaussian(upstream);
        Activations<double> gradient = new Activations<double>().Resize(input.Shape);
        upstream.CopyTo(gradient.Values);
        foreach (Parameter<double> parameter in block.Parameters)
        {
            Array.Clear(parameter.Gradient);
        }

        (double[] At, double[] Direction)[] places = [.. block.Parameters.Select(parameter => parameter.Values).Prepend(input.Values.ToArray()).Select(values => ((double[])values.Clone(), Direction(values.Length)))];
        double[] inputGradient = block.Backward(gradient, wantsInput: true).Values.ToArray();
        double analytic = places.Zip(block.Parameters.Select(parameter => parameter.Gradient).Prepend(inputGradient), (place, slope) => Dot(place.Direction, slope)).Sum();
        const double Step = 1e-3;
        double numeric = ((8 * (Loss(Step) - Loss(-Step))) - (Loss(2 * Step) - Loss(-2 * Step))) / (12 * Step);
        NumericAssert.Near(numeric, analytic, Math.Abs(numeric), 1e-7, "slope");

        double Loss(double step)
        {
            Move(places[0], step).CopyTo(input.Values);
            foreach ((Parameter<double> parameter, (double[], double[]) place) in block.Parameters.Zip(places.Skip(1)))
            {
                Move(place, step).CopyTo(parameter.Values, 0);
            }

            return Dot(upstream, block.Forward(input, training: true).Values.ToArray());
        }

        double[] Direction(int length)
        {
            var drawn = new double[length];
            random.FillGaussian(drawn);
            return drawn;
        }
    }

    private static double Dot(double[] a, double[] b) => a.Zip(b, (x, y) => x * y).Sum();

    private static double[] Move((double[] At, double[] Direction) place, double step) => [.. place.At.Zip(place.Direction, (at, along) => at + (step * along))];

    // Running statistics, weights and biases that are not those of a new layer.
    private static RepVggBlock<double> Trained(int channels, int outputs, int stride, RandomStream random, out Activations<double> input)
    {
        var block = new RepVggBlock<double>(channels, outputs, stride, () => new Normalized<double>(shape => new BatchNorm<double>(shape.Channels)), random);
        input = new Activations<double>().Resize(new(4, channels, 5, 6));
        for (int batch = 0; batch < 3; batch++)
        {
            random.FillGaussian(input.Values);
            block.Forward(input, training: true);
        }

        foreach (Parameter<double> parameter in block.Normalizers.SelectMany(normalizer => normalizer.Parameters))
        {
            random.FillGaussian(parameter.Values);
        }

        return block;
    }
}
