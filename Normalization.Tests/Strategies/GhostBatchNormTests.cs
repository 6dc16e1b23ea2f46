using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Strategies;

/// <summary>What only ghosts have: a remainder that is judged when the batch comes in, not on the way back.</summary>
[TestClass]
public sealed class GhostBatchNormTests
{
    [TestMethod]
    public void Backward_UnfrozenSinceItsForward_UsesTheForwardsStatistics()
    {
        var shape = new ActivationShape(5, 2);
        var layer = new GhostBatchNorm<double>(4, 2);
        double[] x = [.. Enumerable.Range(0, 10).Select(i => Math.Sin(i))];
        var y = new double[10];
        var dx = new double[10];
        layer.Freeze();
        layer.Forward(shape, x, y);
        layer.Unfreeze();
        layer.Backward(shape, x, x, dx);

        // Frozen at mean 0 and variance 1: an affine map.
        Assert.AreEqual(x[3] / Math.Sqrt(1 + 1e-5), dx[3], 1e-15);
        Assert.ThrowsExactly<ArgumentException>(() => layer.Forward(shape, x, y));
    }

    [TestMethod]
    public void Forward_OutputOfStrideZero_Throws()
    {
        var layer = new GhostBatchNorm<double>(2, 2);
        var error = Assert.ThrowsExactly<ArgumentException>(() =>
            layer.Forward(new ReadOnlyTensorSpan<double>(new double[8], [4, 2]), new TensorSpan<double>(new double[2], [4, 2], [0, 1])));
        Assert.Contains("stride 0 along axis 0", error.Message);
    }

    [TestMethod]
    public void Forward_TrainingByTheRunningStatistics_StillCutsTheBatchItLearnsFrom()
    {
        var layer = new GhostBatchNorm<double>(4, 2) { StatisticsSource = StatisticsSource.Running };
        Assert.ThrowsExactly<ArgumentException>(() => layer.Forward(new ActivationShape(6, 2), new double[12], new double[12]));
        layer.UpdateRunningStatistics = false;
        layer.Forward(new ActivationShape(6, 2), new double[12], new double[12]);
    }
}
