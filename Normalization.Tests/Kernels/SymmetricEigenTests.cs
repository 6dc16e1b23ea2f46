using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using MathNet.Numerics.LinearAlgebra;
using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>The decomposition by what defines it (residual, orthogonality, order), against known spectra and against MathNet's.</summary>
/// <remarks>
/// Every run has NaN in the padding of the matrix and in all working memory, and guards behind what it may write. Limits are in units of
/// n * 2^-52 and of the largest eigenvalue; runs of a few thousand matrices stay below 2.
/// </remarks>
[TestClass]
public sealed class SymmetricEigenTests
{
    private const double Limit = 4;
    private const double Guard = 12345;

    private static readonly Dictionary<string, Func<int, double[,]>> s_families = new()
    {
        ["random covariance"] = n => Covariance(n, n + 3),
        ["random indefinite"] = n => Symmetric(n, Uniform(n)),
        ["rank-deficient covariance"] = n => Covariance(n, Math.Max(1, n / 3)),
        ["zero"] = n => Symmetric(n, (_, _) => 0),
        ["identity"] = n => Symmetric(n, (i, j) => i == j ? 1 : 0),
        ["all ones"] = n => Symmetric(n, (_, _) => 1),
        ["identity plus rank one"] = n => Symmetric(n, (i, j) => (i == j ? 1 : 0) + (Math.Sin(i) * Math.Sin(j))),
        ["equal blocks"] = n => Symmetric(n, (i, j) => i / 4 != j / 4 ? 0 : i == j ? 2 : 0.5 + (0.1 * (i % 4) * (j % 4))),
        ["diagonal, unordered"] = n => Symmetric(n, (i, j) => i == j ? Math.Sin(7 * i) : 0),
        ["tridiagonal"] = n => Tridiagonal(n, i => Math.Cos(3 * i), i => Math.Sin(5 * i)),
        ["tridiagonal, weakly coupled"] = n => Tridiagonal(n, i => Math.Cos(3 * i), i => 1e-9 * Math.Sin(5 * i)),
        ["Wilkinson"] = n => Tridiagonal(n, i => Math.Abs(((n - 1) / 2.0) - i), _ => 1),
        ["glued Wilkinson"] = n => Tridiagonal(n, i => Math.Abs(10 - (i % 21)), i => i % 21 == 20 ? 1e-8 : 1),
        ["near-equal cluster"] = n => Symmetric(n, (i, j) => (i == j ? 1 : 0) + (1e-10 * Math.Sin(i + 1) * Math.Cos(j + 1)) + (1e-10 * Math.Sin(j + 1) * Math.Cos(i + 1))),
        ["graded up, 1e-12 to 1e12"] = n => Graded(n, k => Math.Pow(10, -6 + (12 * k))),
        ["graded down, 1e12 to 1e-12"] = n => Graded(n, k => Math.Pow(10, 6 - (12 * k))),
        ["scales mixed down to underflow"] = n => Graded(n, k => Math.Pow(10, -(37 * k * n % 150))),
        ["rows whose squares underflow"] = n => Underflowing(n),
        ["at 1e300"] = n => Symmetric(n, Uniform(n, 1e300)),
        ["at 1e-300"] = n => Symmetric(n, Uniform(n, 1e-300)),
    };

    public static IEnumerable<object[]> Families => s_families.Keys.Select(family => new object[] { family });

    [TestMethod]
    [DynamicData(nameof(Families))]
    public void Decompose_EveryFamilyAndSize_IsOrthogonalAndGivesItBack(string family)
    {
        foreach (int size in Enumerable.Range(1, 40).Concat([63, 64, 65, 72, 97, 100, 128, 129, 200]))
        {
            CheckDecomposition(s_families[family](size), $"{family}, {size}");
        }
    }

    [TestMethod]
    [DataRow("random covariance", 256)]
    [DataRow("random indefinite", 259)]
    [DataRow("glued Wilkinson", 301)]
    [DataRow("identity plus rank one", 261)]
    [DataRow("random covariance", 512)]
    public void Decompose_LargeMatrix_IsOrthogonalAndGivesItBack(string family, int size) =>
        CheckDecomposition(s_families[family](size), family);

    [TestMethod]
    [DataRow("random covariance")]
    [DataRow("random indefinite")]
    [DataRow("rank-deficient covariance")]
    [DataRow("identity plus rank one")]
    [DataRow("Wilkinson")]
    [DataRow("graded up, 1e-12 to 1e12")]
    public void Decompose_BesideMathNet_HasTheSameEigenvalues(string family)
    {
        foreach (int size in (int[])[1, 2, 3, 8, 17, 31, 32, 33, 50, 64, 65, 100])
        {
            double[,] matrix = s_families[family](size);
            double[] expected = [.. Matrix<double>.Build.DenseOfArray(matrix).Evd(Symmetricity.Symmetric).EigenValues.Select(value => value.Real).Order()];
            AssertValues(expected, Run(matrix).Values, $"{family}, {size}");
        }
    }

    [TestMethod]
    [DataRow(5)]
    [DataRow(40)]
    [DataRow(131)]
    public void Decompose_SecondDifferences_HasTheKnownSpectrum(int size)
    {
        double[] expected = [.. Enumerable.Range(1, size).Select(k => 2 - (2 * Math.Cos(k * Math.PI / (size + 1))))];
        AssertValues(expected, Run(Tridiagonal(size, _ => 2, _ => -1)).Values, "second differences");
    }

    [TestMethod]
    [DataRow(5)]
    [DataRow(40)]
    [DataRow(131)]
    public void Decompose_ClementMatrix_HasTheKnownSpectrum(int size)
    {
        double[] expected = [.. Enumerable.Range(0, size).Select(k => (double)((2 * k) - size + 1))];
        AssertValues(expected, Run(Tridiagonal(size, _ => 0, i => Math.Sqrt((i + 1.0) * (size - i - 1)))).Values, "Clement");
    }

    [TestMethod]
    [DataRow(7)]
    [DataRow(100)]
    public void Decompose_Diagonal_GivesUnitVectorsAndItsEntries(int size)
    {
        Result result = Run(Symmetric(size, (i, j) => i == j ? 1 + (3 * i % size) : 0));
        for (int i = 0; i < size; i++)
        {
            Assert.AreEqual(i + 1.0, result.Values[i], 4 * Math.ScaleB(size, -52));
            Assert.AreEqual(1, result.Row(i).ToArray().Max(Math.Abs));
        }
    }

    [TestMethod]
    [DataRow(24)]
    [DataRow(150)]
    public void Decompose_UpperTriangle_IsNotRead(int size)
    {
        double[,] matrix = Symmetric(size, Uniform(size));
        Result expected = Run(matrix);
        for (int i = 0; i < size; i++)
        {
            for (int j = i + 1; j < size; j++)
            {
                matrix[i, j] = double.NaN;
            }
        }

        CollectionAssert.AreEqual(expected.Vectors, Run(matrix).Vectors);
    }

    [TestMethod]
    [DataRow(20)]
    [DataRow(150)]
    public void Decompose_ScaledByAPowerOfTwo_HasTheSameVectorsAndScaledValues(int size)
    {
        double[,] matrix = s_families["random indefinite"](size);
        Result expected = Run(matrix);
        Result scaled = Run(Symmetric(size, (i, j) => Math.ScaleB(matrix[i, j], 700)));
        CollectionAssert.AreEqual(expected.Vectors, scaled.Vectors);
        CollectionAssert.AreEqual(expected.Values.Select(value => Math.ScaleB(value, 700)).ToArray(), scaled.Values);
    }

    [TestMethod]
    [DataRow(33)]
    [DataRow(200)]
    public void Decompose_Twice_GivesTheSameBits(int size)
    {
        double[,] matrix = Covariance(size, size / 2);
        Result first = Run(matrix);
        Result second = Run(matrix);
        CollectionAssert.AreEqual(first.Vectors, second.Vectors);
        CollectionAssert.AreEqual(first.Values, second.Values);
    }

    [TestMethod]
    [DataRow(16)]
    [DataRow(64)]
    [DataRow(200)]
    public unsafe void Decompose_AnySize_AllocatesNothing(int size)
    {
        double[,] matrix = Covariance(size, size);
        nint pitch = Simd.Padded(size);
        var a = new double[size * pitch];
        var vectors = new double[size * pitch];
        var values = new double[size];
        var work = new double[SymmetricEigen.WorkSize(size, pitch)];
        long least = long.MaxValue;
        for (int round = 0; round < 5 && least > 0; round++)
        {
            MemoryMarshal.CreateSpan(ref matrix[0, 0], size * size).CopyTo(a);
            long before = GC.GetAllocatedBytesForCurrentThread();
            fixed (double* m = a, v = vectors, l = values, w = work)
            {
                SymmetricEigen.Decompose(m, size, pitch, v, l, w);
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        // The runtime allocates on this thread where it compiles one of the methods, but not five times.
        Assert.AreEqual(0, least, "bytes");
    }

    [TestMethod]
    public void Excess_WrongVectorOrValue_IsSeen()
    {
        double[,] matrix = Covariance(20, 30);
        Result result = Run(matrix);
        result.Values[7] *= 1 + 1e-12;
        Assert.IsGreaterThan(Limit, Excess(matrix, result).Residual);
        result.Vectors[5] += 1e-12;
        Assert.IsGreaterThan(Limit, Excess(matrix, result).Orthogonality);
    }

    private static void CheckDecomposition(double[,] matrix, string name)
    {
        Result result = Run(matrix);
        (double residual, double orthogonality) = Excess(matrix, result);
        Assert.IsLessThan(Limit, residual, $"{name}: residual");
        Assert.IsLessThan(Limit, orthogonality, $"{name}: orthogonality");
        for (int i = 1; i < result.Values.Length; i++)
        {
            Assert.IsGreaterThanOrEqualTo(result.Values[i - 1], result.Values[i], $"{name}: eigenvalue {i} is out of order");
        }
    }

    // Frobenius norms of A V^T - V^T D and V V^T - I, in units of n * 2^-52 (and of the largest eigenvalue).
    private static (double Residual, double Orthogonality) Excess(double[,] matrix, Result result)
    {
        int size = result.Values.Length;
        double norm = result.Values.Max(Math.Abs);
        norm = norm == 0 ? 1 : norm;
        double[] scaled = [.. matrix.Cast<double>().Select(entry => entry / norm)];
        double residual = 0;
        double orthogonality = 0;
        for (int i = 0; i < size; i++)
        {
            ReadOnlySpan<double> row = result.Row(i);
            for (int j = 0; j < size; j++)
            {
                double error = TensorPrimitives.Dot(row, scaled.AsSpan(j * size, size)) - (result.Values[i] / norm * row[j]);
                residual += error * error;
                double product = TensorPrimitives.Dot(row, result.Row(j)) - (i == j ? 1 : 0);
                orthogonality += product * product;
            }
        }

        double unit = Math.ScaleB(size, -52);
        return (Math.Sqrt(residual) / unit, Math.Sqrt(orthogonality) / unit);
    }

    private static void AssertValues(double[] expected, double[] actual, string name)
    {
        double tolerance = Limit * Math.ScaleB(expected.Length, -52) * expected.Max(Math.Abs);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.AreEqual(expected[i], actual[i], tolerance, $"{name}: eigenvalue {i}");
        }
    }

    private static unsafe Result Run(double[,] matrix)
    {
        int size = matrix.GetLength(0);
        nint pitch = Simd.Padded(size);
        double[] a = Filled(size * pitch);
        double[] vectors = Filled(size * pitch);
        double[] values = Filled(size);
        double[] work = Filled(SymmetricEigen.WorkSize(size, pitch));
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                a[(i * pitch) + j] = matrix[i, j];
            }
        }

        fixed (double* m = a, v = vectors, l = values, w = work)
        {
            Assert.IsTrue(SymmetricEigen.Decompose(m, size, pitch, v, l, w), "converged");
        }

        foreach (double[] array in (double[][])[a, vectors, values, work])
        {
            Assert.AreEqual(Guard, array[^1], "written beyond its end");
        }

        return new Result(vectors, values[..^1], (int)pitch);
    }

    // NaN throughout, and one guard behind.
    private static double[] Filled(nint count)
    {
        var array = new double[count + 1];
        Array.Fill(array, double.NaN);
        array[^1] = Guard;
        return array;
    }

    private static double[,] Symmetric(int size, Func<int, int, double> entry)
    {
        var matrix = new double[size, size];
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j <= i; j++)
            {
                matrix[i, j] = entry(i, j);
                matrix[j, i] = matrix[i, j];
            }
        }

        return matrix;
    }

    private static double[,] Tridiagonal(int size, Func<int, double> diagonal, Func<int, double> below) =>
        Symmetric(size, (i, j) => i == j ? diagonal(i) : i == j + 1 ? below(j) : 0);

    private static Func<int, int, double> Uniform(int seed, double scale = 1)
    {
        var random = new Random(seed);
        return (_, _) => scale * (random.NextDouble() - 0.5);
    }

    // Entry (i, j) is of the order of scale(i) scale(j), with i and j as fractions of the size.
    private static double[,] Graded(int size, Func<double, double> scale)
    {
        var random = new Random(size);
        return Symmetric(size, (i, j) => scale((double)i / size) * scale((double)j / size) * (i == j ? 1 : random.NextDouble() - 0.5));
    }

    private static double[,] Underflowing(int size)
    {
        var random = new Random(size);
        return Symmetric(size, (i, j) => i == j ? 1 + (i % 2) : 6e-161 * (random.NextDouble() - 0.5));
    }

    private static double[,] Covariance(int size, int samples)
    {
        var random = new Random(size + samples);
        double[] draws = [.. Enumerable.Range(0, size * samples).Select(_ => random.NextDouble() - 0.5)];
        return Symmetric(size, (i, j) => TensorPrimitives.Dot<double>(draws.AsSpan(i * samples, samples), draws.AsSpan(j * samples, samples)) / samples);
    }

    private sealed record Result(double[] Vectors, double[] Values, int Pitch)
    {
        public ReadOnlySpan<double> Row(int i) => Vectors.AsSpan(i * Pitch, Values.Length);
    }
}
