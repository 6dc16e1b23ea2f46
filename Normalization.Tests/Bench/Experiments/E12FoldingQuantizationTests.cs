using Normalization.Bench.Experiments;

namespace Normalization.Tests.Bench.Experiments;

/// <summary>Weights of few bits.</summary>
[TestClass]
public sealed class E12FoldingQuantizationTests
{
    [TestMethod]
    public void Quantize_FewBits_GivesTheNearestMultipleOfTheLargestsShare()
    {
        float[] weights = [-0.7f, 0.34f, 0.36f, -0.04f, 0.06f, 0];
        E12FoldingQuantization.Quantize(weights, 4);
        float[] expected = [-0.7f, 0.3f, 0.4f, 0, 0.1f, 0];
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.AreEqual(expected[i], weights[i], 1e-6f, $"weight {i}");
        }

        float[] two = [1, -0.6f, 0.4f, -1];
        E12FoldingQuantization.Quantize(two, 2);
        CollectionAssert.AreEqual(new float[] { 1, -1, 0, -1 }, two);
    }

    [TestMethod]
    public void Quantize_Zeros_StayZeros()
    {
        float[] weights = [0, 0];
        E12FoldingQuantization.Quantize(weights, 8);
        CollectionAssert.AreEqual(new float[2], weights);
    }
}
