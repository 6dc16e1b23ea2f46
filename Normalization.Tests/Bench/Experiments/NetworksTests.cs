using Normalization.Bench.Experiments;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Bench.Experiments;

/// <summary>The networks and data of the experiments.</summary>
[TestClass]
public sealed class NetworksTests
{
    [TestMethod]
    [DataRow(28, 28)]
    [DataRow(27, 9)]
    public void Convolutional_EveryPositionTaken_FitsTheImage(int height, int width)
    {
        Sequential<float> network = Networks.Convolutional<float>([(2, 2), (3, 1), (4, 2)], null, new RandomStream(1, "network"), (height, width));
        Activations<float> input = new Activations<float>().Resize(new(2, 1, height, width));
        Assert.AreEqual(new ActivationShape(2, 10), network.Forward(input, training: true).Shape);
    }

    [TestMethod]
    public void Perceptron_BiasesAsked_HasThemBesideNormalizers()
    {
        Assert.HasCount(1 + 2, Networks.Perceptron<float>(4, 3, 1, () => new DetachedBatchNorm<float>(), () => new Relu<float>(), new RandomStream(1)).Parameters.ToArray());
        Assert.HasCount(2 + 2, Networks.Perceptron<float>(4, 3, 1, () => new DetachedBatchNorm<float>(), () => new Relu<float>(), new RandomStream(1), biases: true).Parameters.ToArray());
        Assert.HasCount(2 + 2, Networks.Perceptron<float>(4, 3, 1, null, () => new Relu<float>(), new RandomStream(1)).Parameters.ToArray());
    }

    [TestMethod]
    public void Apply_EachShift_ChangesPixelsAsSaidAndTheSameForASeed()
    {
        var source = new Examples([0, 0.5f, 1, 0.25f], [1, 2], 1, 2);
        CollectionAssert.AreEqual(new[] { 0.5f, 0.65f, 0.8f, 0.575f }, DomainShift.LowContrast.Apply(source, new RandomStream(1)).Pixels);
        CollectionAssert.AreEqual(new[] { -1, 0.5f, 2, -0.25f }, DomainShift.HighContrast.Apply(source, new RandomStream(1)).Pixels);
        CollectionAssert.AreEqual(new[] { 1, 0.5f, 0, 0.75f }, DomainShift.Inversion.Apply(source, new RandomStream(1)).Pixels);

        Examples gray = new(new float[10_000], new byte[100], 10, 10);
        float[] noise = DomainShift.Noise.Apply(gray, new RandomStream(1)).Pixels;
        Assert.AreEqual(0, noise.Average(), 0.015);
        Assert.AreEqual(0.3, Math.Sqrt(noise.Average(value => value * value)), 0.015);
        CollectionAssert.AreEqual(noise, DomainShift.Noise.Apply(gray, new RandomStream(1)).Pixels);
        CollectionAssert.AreNotEqual(noise, DomainShift.Noise.Apply(gray, new RandomStream(2)).Pixels);
    }

    [TestMethod]
    public void Skip_SomeExamples_LeavesTheOthers()
    {
        Examples left = new Examples([1, 2, 3, 4, 5, 6], [7, 8, 9], 1, 2).Skip(1);
        CollectionAssert.AreEqual(new float[] { 3, 4, 5, 6 }, left.Pixels);
        CollectionAssert.AreEqual(new byte[] { 8, 9 }, left.Labels);
    }
}
