using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>Both solvers, at ordinary and at extreme scale: residual and orthogonality.</summary>
[TestClass]
public sealed class SymmetricEigenTests
{
    [TestMethod]
    [DataRow(1, 1.0)]
    [DataRow(7, 1.0)]
    [DataRow(64, 1.0)]
    [DataRow(65, 1.0)]
    [DataRow(7, 1e156)]
    [DataRow(7, 1e-164)]
    [DataRow(65, 1e156)]
    [DataRow(65, 1e-164)]
    public unsafe void Decompose_RandomCovariance_IsOrthogonalAndGivesItBack(int size, double scale)
    {
        nint pitch = Product.Padded(size);
        var random = new Random(size);
        double[] root = [.. Enumerable.Range(0, size * size).Select(_ => random.NextDouble() - 0.5)];
        var original = new double[size * pitch];
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                original[(i * pitch) + j] = scale * Enumerable.Range(0, size).Sum(k => root[(i * size) + k] * root[(j * size) + k]);
            }
        }

        double[] work = [.. original];
        var vectors = new double[size * pitch];
        var values = new double[size];
        fixed (double* a = work, v = vectors, l = values)
        {
            Assert.IsTrue(SymmetricEigen.Decompose(a, size, pitch, v, l));
        }

        double largest = values.Max();
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                double rebuilt = Enumerable.Range(0, size).Sum(k => vectors[(k * pitch) + i] * (values[k] / largest) * vectors[(k * pitch) + j]);
                Assert.AreEqual(original[(i * pitch) + j] / largest, rebuilt, 1e-13 * size, $"({i}, {j})");
                double product = Enumerable.Range(0, size).Sum(k => vectors[(i * pitch) + k] * vectors[(j * pitch) + k]);
                Assert.AreEqual(i == j ? 1 : 0, product, 1e-14 * Math.Max(size, 10), $"({i}, {j})");
            }
        }
    }
}
