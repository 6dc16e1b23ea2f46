using Normalization.Core.Kernels;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies;

/// <summary>Inverse roots of covariances by their definition, W S W = I, and their gradient by differences.</summary>
[TestClass]
public sealed unsafe class InverseRootTests
{
    private const double Epsilon = 0.01;

    [TestMethod]
    [DataRow(1, 0.0)]
    [DataRow(5, 0.0)]
    [DataRow(17, 0.3)]
    [DataRow(40, 0.0)]
    [DataRow(70, 1.0)]
    public void Compute_AnySize_WhitensTheRegularizedCovariance(int size, double shrinkage)
    {
        double[,] covariance = Covariance(size, 1);
        double[,] w = Root(covariance, shrinkage, out Spectrum spectrum);
        double[,] regularized = Regularized(covariance, shrinkage);
        double[,] white = Product(Product(w, regularized), w);
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                Assert.AreEqual(w[i, j], w[j, i], "symmetric to the bit");
                NumericAssert.Near(i == j ? 1 : 0, white[i, j], spectrum.Condition, 1e-13, $"[{i}, {j}]");
            }
        }

        Assert.IsTrue(spectrum.Converged);
        Assert.IsGreaterThanOrEqualTo(Epsilon * 0.999, spectrum.Smallest);
    }

    [TestMethod]
    public void Compute_OneGroupNotFinite_MakesThatGroupNaNAlone()
    {
        const int Size = 3;
        double[] memory = new double[WhiteningStatistics.Size(2 * Size, Size, 1)];
        fixed (double* pointer = memory)
        {
            var statistics = new WhiteningStatistics(pointer, 2 * Size, Size, 1);
            for (int c = 0; c < 2 * Size; c++)
            {
                statistics.Covariance[statistics.MatrixRow(Size, c) - statistics.Matrix + (c % Size)] = c == 1 ? double.NaN : 4;
            }

            WhiteningMatrices.Compute(default(InverseRoot), statistics, 2, Size, new Regularization(epsilon: 0, shrinkage: 0));
            Assert.IsTrue(double.IsNaN(statistics.MatrixRow(Size, 0)[2]));
            Assert.IsFalse(statistics.Spectra[0].AllowsSingle);
            NumericAssert.Near(0.5, statistics.MatrixRow(Size, 3)[0], 1, 1e-15, "W of the other group");
            Assert.IsTrue(statistics.Spectra[1].AllowsSingle);
        }
    }

    // Equal eigenvalues too: the second case is the identity.
    [TestMethod]
    [DataRow(6, 0.0, false)]
    [DataRow(6, 0.2, false)]
    [DataRow(6, 0.0, true)]
    [DataRow(19, 0.1, false)]
    public void Gradient_RandomUpstream_EqualsDifferences(int size, double shrinkage, bool identity)
    {
        double[,] covariance = identity ? new double[size, size] : Covariance(size, 2);
        for (int i = 0; i < size; i++)
        {
            covariance[i, i] += 1;
        }

        double[] upstream = TestData.Normal(3, size * size);
        double[] direction = TestData.Normal(4, size * size);
        nint pitch = Core.Kernels.Product.MatrixPitch(size);
        double[] memory = new double[WhiteningStatistics.Size(size, size, 1)];
        double[] gradient = new double[WhiteningStatistics.MatrixSize(size)];
        double analytic = 0;
        fixed (double* pointer = memory, g = gradient)
        {
            WhiteningStatistics statistics = Filled(pointer, covariance, shrinkage);
            for (int i = 0; i < size * size; i++)
            {
                g[(i / size * pitch) + (i % size)] = upstream[i];
            }

            WhiteningMatrices.Differentiate(default(InverseRoot), statistics, 1, size, new Regularization(Epsilon, shrinkage), g, factor: 3);
            for (int i = 0; i < size * size; i++)
            {
                analytic += g[(i / size * pitch) + (i % size)] * (direction[i] + direction[(i % size * size) + (i / size)]) / 3;
            }
        }

        const double Step = 1e-4;
        double numeric = (Loss(Step) - Loss(-Step)) / (2 * Step);
        NumericAssert.Near(numeric, analytic, size, 1e-6, "directional derivative");

        double Loss(double step)
        {
            var moved = (double[,])covariance.Clone();
            for (int i = 0; i < size * size; i++)
            {
                moved[i / size, i % size] += step * (direction[i] + direction[(i % size * size) + (i / size)]);
            }

            double[,] w = Root(moved, shrinkage, out _);
            return Enumerable.Range(0, size * size).Sum(i => upstream[i] * w[i / size, i % size]);
        }
    }

    private static double[,] Root(double[,] covariance, double shrinkage, out Spectrum spectrum)
    {
        int size = covariance.GetLength(0);
        var w = new double[size, size];
        double[] memory = new double[WhiteningStatistics.Size(size, size, 1)];
        fixed (double* pointer = memory)
        {
            WhiteningStatistics statistics = Filled(pointer, covariance, shrinkage);
            spectrum = statistics.Spectra[0];
            for (int i = 0; i < size * size; i++)
            {
                w[i / size, i % size] = statistics.MatrixRow(size, i / size)[i % size];
            }
        }

        return w;
    }

    private static WhiteningStatistics Filled(double* memory, double[,] covariance, double shrinkage)
    {
        int size = covariance.GetLength(0);
        var statistics = new WhiteningStatistics(memory, size, size, 1);
        for (int i = 0; i < size * size; i++)
        {
            statistics.Covariance[(i / size * Core.Kernels.Product.MatrixPitch(size)) + (i % size)] = covariance[i / size, i % size];
        }

        WhiteningMatrices.Compute(default(InverseRoot), statistics, 1, size, new Regularization(Epsilon, shrinkage));
        return statistics;
    }

    private static double[,] Covariance(int size, int seed)
    {
        double[] x = TestData.Normal(seed, size * 2 * size);
        var result = new double[size, size];
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                result[i, j] = Enumerable.Range(0, 2 * size).Sum(k => x[(i * 2 * size) + k] * x[(j * 2 * size) + k]) / (2 * size);
            }
        }

        return result;
    }

    private static double[,] Regularized(double[,] covariance, double shrinkage)
    {
        int size = covariance.GetLength(0);
        double trace = Enumerable.Range(0, size).Sum(i => covariance[i, i]);
        var result = new double[size, size];
        for (int i = 0; i < size * size; i++)
        {
            result[i / size, i % size] = ((1 - shrinkage) * covariance[i / size, i % size])
                + (i / size == i % size ? (shrinkage * trace / size) + Epsilon : 0);
        }

        return result;
    }

    private static double[,] Product(double[,] a, double[,] b)
    {
        int size = a.GetLength(0);
        var result = new double[size, size];
        for (int i = 0; i < size * size; i++)
        {
            result[i / size, i % size] = Enumerable.Range(0, size).Sum(k => a[i / size, k] * b[k, i % size]);
        }

        return result;
    }
}
