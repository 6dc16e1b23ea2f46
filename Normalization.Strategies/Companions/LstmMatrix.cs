using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core.Kernels;

namespace Normalization.Strategies.Companions;

/// <summary>A matrix with its rows and columns padded to the blocks that <see cref="Product"/> reads and writes.</summary>
/// <typeparam name="T">float or double.</typeparam>
internal sealed unsafe class LstmMatrix<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly T[] _values;
    private readonly int _pitch;

    public LstmMatrix(int rows, int columns)
    {
        Rows = rows;
        Columns = columns;
        int width = (int)Product.Width<T>();
        _pitch = (columns + width - 1) / width * width;

        // A block of rows may begin at any row, so that one whole block lies beyond the last.
        _values = new T[checked((rows + Product.Rows) * _pitch)];
    }

    public int Rows { get; }

    public int Columns { get; }

    public Span<T> Row(int row) => _values.AsSpan(row * _pitch, Columns);

    /// <summary>A dense matrix of that size, or its transpose.</summary>
    public static LstmMatrix<T> Of(ReadOnlySpan<T> dense, int rows, int columns, bool transposed = false)
    {
        var matrix = new LstmMatrix<T>(transposed ? columns : rows, transposed ? rows : columns);
        for (int i = 0; i < rows; i++)
        {
            ReadOnlySpan<T> row = dense.Slice(i * columns, columns);
            for (int j = 0; j < columns; j++)
            {
                matrix._values[transposed ? (j * matrix._pitch) + i : (i * matrix._pitch) + j] = row[j];
            }
        }

        return matrix;
    }

    /// <summary>Rows [first, first + count) of this = the same rows of left times right; up to seven rows after them are overwritten too.</summary>
    public void SetProduct(LstmMatrix<T> left, LstmMatrix<T> right, int first, int count)
    {
        fixed (T* result = _values, a = left._values, b = right._values)
        {
            Product.Set(
                result + ((nint)first * _pitch), _pitch, count, right.Columns, right.Rows,
                new LeftOperand<T>(a + ((nint)first * left._pitch), left._pitch, 1), b, right._pitch);
        }
    }

    /// <summary>gradient (left.Columns x right.Columns, dense) += left^T right over the first rows, summed in double.</summary>
    public static void AddTransposedProduct(LstmMatrix<T> left, LstmMatrix<T> right, int rows, T[] gradient)
    {
        int pitch = (int)Product.MatrixPitch(right.Columns);
        var sum = new double[(int)Product.PaddedRows(left.Columns) * pitch];
        fixed (double* result = sum)
        fixed (T* a = left._values, b = right._values)
        {
            Product.Accumulate(
                result, pitch, 0, left.Columns, right.Columns, rows, new LeftOperand<T>(a, 1, left._pitch), b, right._pitch, upper: false);
        }

        for (int i = 0; i < gradient.Length; i++)
        {
            double value = sum[(i / right.Columns * pitch) + (i % right.Columns)];
            gradient[i] = T.CreateTruncating(double.CreateTruncating(gradient[i]) + value);
        }
    }

    /// <summary>Rows as a batch (count, columns) of a normalizer.</summary>
    /// <remarks>The tensor types want stride 0 along an axis of length 1.</remarks>
    public TensorSpan<T> Batch(int first, int count) =>
        new(_values, first * _pitch, [count, Columns], [count == 1 ? 0 : _pitch, Columns == 1 ? 0 : 1]);
}
