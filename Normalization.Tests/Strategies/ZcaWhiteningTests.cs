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
}
