using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Strategies;

/// <summary>What only whitening has: state that must be a covariance.</summary>
[TestClass]
public sealed class ZcaWhiteningTests
{
    [TestMethod]
    public void LoadState_CovarianceWithNegativeEigenvalue_ThrowsAndKeepsTheOld()
    {
        var layer = new ZcaWhitening<float>(3) { Training = false };
        StateDictionary state = layer.GetState();
        var broken = new StateDictionary();
        foreach (var (name, tensor) in state)
        {
            broken.Add(name, name == "running_covariance"
                ? StateTensor.Create<float>([1, 2, 0, 2, 1, 0, 0, 0, 1], 3, 3)
                : tensor);
        }

        var error = Assert.ThrowsExactly<InvalidOperationException>(() => layer.LoadState(broken));
        Assert.Contains("eigenvalue -1", error.Message);
        CollectionAssert.AreEqual(state["running_covariance"].ToArray<float>(), layer.Buffers[1].Values);
    }

    [TestMethod]
    public void LoadState_SingularCovariance_Whitens()
    {
        var layer = new ZcaWhitening<float>(2) { Training = false };
        StateDictionary state = layer.GetState();
        var singular = new StateDictionary();
        foreach (var (name, tensor) in state)
        {
            singular.Add(name, name == "running_covariance" ? StateTensor.Create<float>([0.7f, 0.7f, 0.7f, 0.7f], 2, 2) : tensor);
        }

        layer.LoadState(singular);
        float[] output = new float[2];
        layer.Forward(new ActivationShape(1, 2), [1f, 1f], output);
        Assert.AreEqual(1 / Math.Sqrt(1.4 + 1e-5), output[0], 1e-4);
    }

    [TestMethod]
    public void Training_TurnedOffOnACovarianceThatIsNone_ThrowsAndStaysOn()
    {
        var layer = new ZcaWhitening<float>(2);
        layer.Buffers[1].Values[1] = layer.Buffers[1].Values[2] = 2;

        Assert.ThrowsExactly<InvalidOperationException>(() => layer.Training = false);
        Assert.IsTrue(layer.Training);
        Assert.ThrowsExactly<InvalidOperationException>(layer.Freeze);
        Assert.IsFalse(layer.Frozen);
    }

    [TestMethod]
    [DataRow(1e78)]
    [DataRow(1e-70)]
    public void Forward_ExtremeScaleInDouble_StillWhitens(double scale)
    {
        var shape = new ActivationShape(64, 3);
        var random = new Random(5);
        var x = new double[shape.Count];
        for (int i = 0; i < x.Length; i += 3)
        {
            (double a, double b) = (random.NextDouble() - 0.5, random.NextDouble() - 0.5);
            (x[i], x[i + 1], x[i + 2]) = (scale * a, scale * (a + (0.1 * b)), scale * (random.NextDouble() - 0.5));
        }

        var y = new double[x.Length];
        new ZcaWhitening<double>(3, new ZcaWhiteningOptions { Epsilon = 0 }).Forward(shape, x, y);

        for (int i = 0; i < 3; i++)
        {
            for (int j = 0; j < 3; j++)
            {
                double covariance = Enumerable.Range(0, 64).Sum(n => y[(3 * n) + i] * y[(3 * n) + j]) / 64;
                Assert.AreEqual(i == j ? 1 : 0, covariance, 1e-9);
            }
        }
    }
}
