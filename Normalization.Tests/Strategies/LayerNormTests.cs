using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Strategies;

[TestClass]
public sealed class LayerNormTests
{
    [TestMethod]
    public void Constructor_FeaturesAlone_NormalizesTheLastAxis()
    {
        ActivationShape shape = new(2, 3, 5);
        float[] x = [.. Enumerable.Range(0, 30).Select(i => (float)Math.Sin(i))];
        float[] one = new float[30];
        float[] other = new float[30];
        new LayerNorm<float>(5).Forward(shape, x, one);
        new LayerNorm<float>([5]).Forward(shape, x, other);
        CollectionAssert.AreEqual(other, one);
        new RmsNorm<float>(5).Forward(shape, x, one);
        new RmsNorm<float>([5]).Forward(shape, x, other);
        CollectionAssert.AreEqual(other, one);
    }

    [TestMethod]
    public void Constructor_NoFeatures_IsRefused()
    {
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new LayerNorm<float>(0)).Message, "0");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new RmsNorm<float>(0)).Message, "0");
    }
}
