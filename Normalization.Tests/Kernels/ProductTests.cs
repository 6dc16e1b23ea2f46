using System.Numerics.Tensors;
using System.Runtime.Intrinsics;
using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>The product kernels against plain loops, at every remainder of their blocks.</summary>
[TestClass]
public sealed unsafe class ProductTests
{
    private static readonly int[] Sizes = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 65];

    [TestMethod]
    [DataRow(false)]
    [DataRow(true)]
    public void Set_EverySize_IsTheProduct(bool transposed)
    {
        foreach (int rows in Sizes)
        {
            foreach (int columns in Sizes)
            {
                foreach (int depth in new[] { 1, 3, 31, 32, 33, 100 })
                {
                    Check<float>(rows, columns, depth, transposed, Math.ScaleB(1, -24));
                    Check<double>(rows, columns, depth, transposed, Math.ScaleB(1, -53));
                }
            }
        }
    }

    [TestMethod]
    public void Accumulate_FloatOverManyTerms_AddsChainsInDouble()
    {
        // Powers of two times whole numbers: every chain is exact in float, the sum of all of them in double alone.
        const int Depth = 100_000;
        const int Rows = Product.Rows;
        nint width = Product.Width<float>();
        var left = new float[Rows * Depth];
        var right = new float[Depth * width];
        Array.Fill(left, 1);
        Array.Fill(right, 1 + (1f / 1024));
        var result = new double[Rows * width];
        Array.Fill(result, 3);
        fixed (float* a = left, b = right)
        fixed (double* c = result)
        {
            Product.Accumulate(c, width, 0, Rows, width, Depth, new LeftOperand<float>(a, Depth, 1), b, width, upper: false);
        }

        Assert.IsTrue(Array.TrueForAll(result, value => value == 3 + (Depth * (1 + (1.0 / 1024)))), $"{result[0]:R}");
    }

    [TestMethod]
    public void Accumulate_RowRangeAndUpper_LeavesTheRestAlone()
    {
        const int Size = 64;
        double[] values = TestData.Normal(1, Size * Size);
        var result = new double[Size * Size];
        fixed (double* a = values, c = result)
        {
            Product.Accumulate(c, Size, 16, 40, Size, Size, new LeftOperand<double>(a, Size, 1), a, Size, upper: true);
        }

        for (int i = 0; i < Size; i++)
        {
            for (int j = 0; j < Size; j++)
            {
                double expected = i is < 16 or >= 40 || i / 16 > j / 16 ? 0 : Enumerable.Range(0, Size).Sum(k => values[(i * Size) + k] * values[(k * Size) + j]);
                NumericAssert.Near(expected, result[(i * Size) + j], 10, 1e-14, $"[{i}, {j}]");
            }
        }
    }

    [TestMethod]
    public void AccumulateRows_EverySize_AddsTheProduct()
    {
        foreach (int rows in Sizes)
        {
            foreach (int columns in Sizes)
            {
                foreach (int vectors in new[] { 1, 2, 32, 33, 65 })
                {
                    CheckRows<float>(rows, columns, vectors, Math.ScaleB(1, -24));
                    CheckRows<double>(rows, columns, vectors, Math.ScaleB(1, -53));
                }
            }
        }
    }

    [TestMethod]
    public void AccumulateRows_FloatOverManyTerms_AddsChainsInDouble()
    {
        // A chain of such products is exact in float, the sum of all of them in double alone.
        const int Depth = 16 * 100_000;
        var left = new float[Product.Square * Depth];
        var right = new float[Product.Square * Depth];
        Array.Fill(left, 1);
        Array.Fill(right, 1 + (1f / 1024));
        var result = new double[Product.Square * Product.Square];
        Array.Fill(result, 3);
        fixed (float* a = left, b = right)
        fixed (double* c = result)
        {
            Product.AccumulateRows(c, Product.Square, 0, Product.Square, Product.Square, Depth, a, Depth, b, Depth, upper: false);
        }

        Assert.IsTrue(Array.TrueForAll(result, value => value == 3 + (Depth * (1 + (1.0 / 1024)))), $"{result[0]:R}");
    }

    [TestMethod]
    public void AccumulateRows_FloatLanes_AreAddedInTheOrderOfTheirSum()
    {
        // One product a lane: what is left is the order of the lanes, whatever instructions add them.
        var random = new Random(5);
        float[] left = [.. Enumerable.Range(0, Product.Square * 16).Select(_ => (float)(random.NextDouble() - 0.5))];
        float[] right = [.. Enumerable.Range(0, Product.Square * 16).Select(_ => (float)(random.NextDouble() - 0.5))];
        var result = new double[Product.Square * Product.Square];
        fixed (float* a = left, b = right)
        fixed (double* c = result)
        {
            Product.AccumulateRows(c, Product.Square, 0, Product.Square, Product.Square, 16, a, 16, b, 16, upper: false);
            for (int row = 0; row < Product.Square; row++)
            {
                for (int column = 0; column < Product.Square; column++)
                {
                    float expected = Simd.Sum(Vector512.Load(a + (row * 16)) * Vector512.Load(b + (column * 16)));
                    Assert.AreEqual(expected, result[(row * Product.Square) + column], $"row {row}, column {column}");
                }
            }
        }
    }

    [TestMethod]
    public void AccumulateRows_RowRangeAndUpper_LeavesTheRestAlone()
    {
        const int Size = 64;
        double[] values = TestData.Normal(1, Size * Size);
        var result = new double[Size * Size];
        fixed (double* a = values, c = result)
        {
            Product.AccumulateRows(c, Size, 8, 40, Size, Size, a, Size, a, Size, upper: true);
        }

        for (int i = 0; i < Size; i++)
        {
            for (int j = 0; j < Size; j++)
            {
                bool wanted = i is >= 8 and < 40 && i / Product.Square <= j / Product.Square;
                double expected = wanted ? Enumerable.Range(0, Size).Sum(k => values[(i * Size) + k] * values[(j * Size) + k]) : 0;
                NumericAssert.Near(expected, result[(i * Size) + j], 10, 1e-14, $"[{i}, {j}]");
            }
        }
    }

    [TestMethod]
    public void ClearPadding_OperandAmidOtherData_ClearsWhatBlocksReadBeyondItAlone()
    {
        const int Rows = 5, Columns = 19, Pitch = 40;
        float* memory = stackalloc float[12 * Pitch];
        new Span<float>(memory, 12 * Pitch).Fill(7);
        Product.ClearPadding(memory, Rows, Columns, Pitch, rowMultiple: 8, columnMultiple: 32);
        for (int row = 0; row < 12; row++)
        {
            for (int column = 0; column < Pitch; column++)
            {
                bool padding = row < 8 && column < 32 && !(row < Rows && column < Columns);
                Assert.AreEqual(padding ? 0f : 7f, memory[(row * Pitch) + column], $"row {row}, column {column}");
            }
        }
    }

    [TestMethod]
    public void OddPitch_AnyCount_IsAnOddNumberOfBlocks()
    {
        for (int columns = 1; columns < 300; columns++)
        {
            nint pitch = Product.OddPitch<float>(columns);
            Assert.IsTrue(pitch >= columns && pitch - columns < 2 * Product.Width<float>() && pitch / Product.Width<float>() % 2 == 1, $"{columns}: {pitch}");
        }
    }

    private static void CheckRows<T>(int rows, int columns, int vectors, double rounding)
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
    {
        // Rows that fill a square up are NaN, which nothing that counts may meet.
        int depth = vectors * Vector512<T>.Count;
        nint pitch = depth + 3;
        nint resultPitch = Product.MatrixPitch(columns);
        var left = new T[Product.PaddedRows(rows) * pitch];
        var right = new T[Product.PaddedRows(columns) * pitch];
        var result = new double[Product.PaddedRows(rows) * resultPitch];
        Array.Fill(left, T.NaN);
        Array.Fill(right, T.NaN);
        Array.Fill(result, 2);
        double[] a = TestData.Rounded<T>(TestData.Normal(rows, rows * depth));
        double[] b = TestData.Rounded<T>(TestData.Normal(columns, columns * depth));
        for (int i = 0; i < a.Length; i++)
        {
            left[(i / depth * pitch) + (i % depth)] = T.CreateChecked(a[i]);
        }

        for (int i = 0; i < b.Length; i++)
        {
            right[(i / depth * pitch) + (i % depth)] = T.CreateChecked(b[i]);
        }

        fixed (T* l = left, r = right)
        fixed (double* c = result)
        {
            Product.AccumulateRows(c, resultPitch, 0, Product.PaddedRows(rows), columns, depth, l, pitch, r, pitch, upper: false);
        }

        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                ReadOnlySpan<double> first = a.AsSpan(i * depth, depth), second = b.AsSpan(j * depth, depth);
                double magnitude = 2 + Math.Sqrt(TensorPrimitives.SumOfSquares(first) * TensorPrimitives.SumOfSquares(second));
                double tolerance = (Product.Chain * rounding) + (depth * Math.ScaleB(1, -53));
                NumericAssert.Near(
                    2 + TensorPrimitives.Dot(first, second), result[(i * resultPitch) + j], magnitude, tolerance,
                    $"{typeof(T).Name} {rows} x {depth} x {columns} [{i}, {j}]");
            }
        }
    }

    private static void Check<T>(int rows, int columns, int depth, bool transposed, double rounding)
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
    {
        // Padding is NaN, which nothing that counts may meet.
        nint rightPitch = Product.OddPitch<T>(columns);
        nint leftPitch = transposed ? Product.PaddedRows(rows) : depth;
        var left = new T[Product.PaddedRows(rows) * Math.Max(leftPitch, depth)];
        var right = new T[depth * rightPitch];
        var result = new T[Product.PaddedRows(rows) * rightPitch];
        Array.Fill(left, T.NaN);
        Array.Fill(right, T.NaN);
        double[] a = TestData.Rounded<T>(TestData.Normal(rows, rows * depth));
        double[] b = TestData.Rounded<T>(TestData.Normal(columns, depth * columns));
        for (int k = 0; k < depth; k++)
        {
            for (int i = 0; i < rows; i++)
            {
                left[transposed ? (k * leftPitch) + i : (i * leftPitch) + k] = T.CreateChecked(a[(i * depth) + k]);
            }

            for (int j = 0; j < columns; j++)
            {
                right[(k * rightPitch) + j] = T.CreateChecked(b[(k * columns) + j]);
            }
        }

        fixed (T* l = left, r = right, c = result)
        {
            LeftOperand<T> operand = transposed ? new(l, 1, leftPitch) : new(l, leftPitch, 1);
            Product.Set(c, rightPitch, rows, columns, depth, operand, r, rightPitch);
        }

        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                double sum = 0;
                double magnitude = 0;
                for (int k = 0; k < depth; k++)
                {
                    double term = a[(i * depth) + k] * b[(k * columns) + j];
                    sum += term;
                    magnitude += Math.Abs(term);
                }

                // What a chain and the sum of chains may round, plus as much of this double sum.
                double tolerance = (Product.Chain + (depth / Product.Chain)) * rounding * 2;
                NumericAssert.Near(sum, double.CreateChecked(result[(i * rightPitch) + j]), magnitude, tolerance, $"{typeof(T).Name} {rows} x {depth} x {columns} [{i}, {j}]");
            }
        }
    }
}
