using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Comparison;

[TestClass]
public sealed class ComposedReferenceTests
{
    private static readonly ActivationShape Shape = new(5, 6, 2, 2);

    [TestMethod]
    public void Standardize_ByChannel_EqualsTheClosedForm()
    {
        double[] input = Gaussian("input", 3);
        double[] upstream = Gaussian("upstream", 1);
        INormalizer<double> normalizer = new PlainStandardizer<double>(Shape, 1e-2);
        var stream = new RandomStream(7, "parameters");
        foreach (var parameter in normalizer.Parameters)
        {
            stream.FillGaussian(parameter.Values);
        }

        double[] output = new double[Shape.Count];
        double[] gradient = new double[Shape.Count];
        normalizer.Forward(Shape, input, output);
        normalizer.Backward(Shape, input, upstream, gradient);
        int[] channelOf = [.. Enumerable.Range(0, input.Length).Select(i => i / 4 % 6)];
        var composed = ComposedReference.Standardize(
            input, [.. channelOf.Select(c => 100L - c)], channelOf, normalizer.Parameters[0].Values, normalizer.Parameters[1].Values, 1e-2, upstream);

        AreClose(output, composed.Output, 1e-13);
        AreClose(gradient, composed.InputGradient, 1e-13);
        AreClose(normalizer.Parameters[0].Gradient, composed.WeightGradient!, 1e-13);
        AreClose(normalizer.Parameters[1].Gradient, composed.BiasGradient!, 1e-13);
    }

    [TestMethod]
    public void Standardize_WeightVariesInsideASet_GradientEqualsDifferences()
    {
        int sample = (int)(Shape.Count / Shape.Samples);
        double[] input = Gaussian("input", 3);
        double[] upstream = Gaussian("upstream", 1);
        double[] weight = Gaussian("weight", 1)[..sample];
        long[] sets = [.. Enumerable.Range(0, input.Length).Select(i => (long)(i / sample))];
        int[] weightOf = [.. Enumerable.Range(0, input.Length).Select(i => i % sample)];

        ComposedResult Run(double[] x) => ComposedReference.Standardize(x, sets, weightOf, weight, null, 1e-3, upstream);

        AreClose(Differences(x => Run(x).Output, input, upstream), Run(input).InputGradient, 1e-9);
        Assert.IsNull(Run(input).BiasGradient);
    }

    [TestMethod]
    [DataRow(6, 0.0)]
    [DataRow(3, 0.1)]
    [DataRow(1, 0.0)]
    public void Whiten_Groups_CovarianceIsWhiteAndGradientEqualsDifferences(int groupSize, double shrinkage)
    {
        const double Epsilon = 1e-4;
        double[] input = Gaussian("input", 2);
        for (int i = 4; i < input.Length; i++)
        {
            input[i] += 0.8 * input[i - 4]; // Neighbouring channels are correlated.
        }

        double[] upstream = Gaussian("upstream", 1);
        double[] weight = [1.5, -0.5, 1, 2, 0.7, -1];
        ComposedResult Run(double[] x, double[]? itsWeight) => ComposedReference.Whiten(Shape, x, groupSize, shrinkage, Epsilon, itsWeight, null, upstream);

        AreClose(Differences(x => Run(x, weight).Output, input, upstream), Run(input, weight).InputGradient, 1e-8);
        if (groupSize == Shape.Channels)
        {
            var left = new ChannelCovariance(Shape, Run(input, null).Output).Matrix;
            var exact = new ChannelCovariance(Shape, input).Whitened(Epsilon);
            Assert.IsLessThan(1e-11, Arithmetic.Largest((left - exact).ToRowMajorArray()));
        }
    }

    [TestMethod]
    public void Whiten_GroupsOfOne_EqualsStandardizing()
    {
        double[] input = Gaussian("input", 2);
        double[] upstream = Gaussian("upstream", 1);
        int[] channelOf = [.. Enumerable.Range(0, input.Length).Select(i => i / 4 % 6)];
        var standardized = ComposedReference.Standardize(input, [.. channelOf.Select(c => (long)c)], channelOf, null, null, 1e-5, upstream);
        var whitened = ComposedReference.Whiten(Shape, input, 1, 0, 1e-5, null, null, upstream);

        AreClose(standardized.Output, whitened.Output, 1e-12);
        AreClose(standardized.InputGradient, whitened.InputGradient, 1e-12);
    }

    [TestMethod]
    public void Whiten_EqualEigenvalues_GradientEqualsDifferences()
    {
        // X X^T / M = 4 I: every eigenvalue is the same, where a formula with 1 / (a - b) has a pole.
        var shape = new ActivationShape(8, 2);
        double[] input = [2, 2, 2, -2, -2, 2, -2, -2, 2, 2, 2, -2, -2, 2, -2, -2];
        double[] upstream = new double[16];
        new RandomStream(5, "upstream").FillGaussian(upstream);
        ComposedResult Run(double[] x) => ComposedReference.Whiten(shape, x, 2, 0, 1e-5, null, null, upstream);

        AreClose(Differences(x => Run(x).Output, input, upstream), Run(input).InputGradient, 1e-9);
    }

    [TestMethod]
    public void Whiten_SingularWithoutEpsilon_SaysSo()
    {
        var error = Assert.ThrowsExactly<InvalidOperationException>(() =>
            ComposedReference.Whiten(new ActivationShape(3, 2), [1, 1, 2, 2, 5, 5], 2, 0, 0, null, null, new double[6]));
        StringAssert.Contains(error.Message, "singular");
    }

    [TestMethod]
    public void Whiten_GroupSizeDoesNotDivide_NamesBoth()
    {
        var error = Assert.ThrowsExactly<ArgumentException>(() =>
            ComposedReference.Whiten(Shape, Gaussian("input", 1), 4, 0, 1e-5, null, null, Gaussian("upstream", 1)));
        StringAssert.Contains(error.Message, "4");
        StringAssert.Contains(error.Message, "6");
    }

    // Five-point differences of sum(upstream * output).
    private static double[] Differences(Func<double[], double[]> output, double[] input, double[] upstream)
    {
        double[] x = [.. input];
        double[] result = new double[x.Length];
        const double Step = 1.0 / 1024;
        for (int i = 0; i < x.Length; i++)
        {
            double At(double offset)
            {
                x[i] = input[i] + offset;
                return output(x).Zip(upstream, (y, g) => y * g).Sum();
            }

            result[i] = (At(-2 * Step) - (8 * At(-Step)) + (8 * At(Step)) - At(2 * Step)) / (12 * Step);
            x[i] = input[i];
        }

        return result;
    }

    private static double[] Gaussian(string purpose, double scale)
    {
        double[] values = new double[Shape.Count];
        new RandomStream(11, purpose).FillGaussian(values);
        return [.. values.Select(value => scale * value)];
    }

    private static void AreClose(double[] expected, double[] actual, double tolerance)
    {
        double error = Arithmetic.LargestDifference(expected, actual) / Arithmetic.Largest(expected);
        Assert.IsLessThan(tolerance, error);
    }
}
