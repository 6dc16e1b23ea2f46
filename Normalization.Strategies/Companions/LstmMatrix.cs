using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Normalization.Core.Kernels;

namespace Normalization.Strategies.Companions;

/// <summary>A matrix with its rows and columns padded to the blocks that <see cref="Product"/> reads and writes; its memory is kept and reused.</summary>
/// <typeparam name="T">float or double.</typeparam>
internal sealed unsafe class LstmMatrix<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _pitch;
    private T[] _values = [];

    public LstmMatrix(int columns)
    {
        Columns = columns;
        int width = (int)Product.Width<T>();
        _pitch = (columns + width - 1) / width * width;
    }

    public int Columns { get; }

    /// <summary>Takes a number of rows; what the memory held is then undefined.</summary>
    public LstmMatrix<T> Resize(int rows)
    {
        // A block of rows may begin at any row, so that one whole block lies beyond the last.
        int needed = checked((rows + Product.Rows) * _pitch);
        if (_values.Length < needed)
        {
            _values = GC.AllocateArray<T>(needed, pinned: true);
        }

        return this;
    }

    public Span<T> Row(int row) => _values.AsSpan(row * _pitch, Columns);

    /// <summary>A row by address, good until the next <see cref="Resize"/>.</summary>
    public T* RowAddress(int row) => (T*)Unsafe.AsPointer(ref _values[row * _pitch]);

    /// <summary>Takes a dense matrix of so many rows and these columns.</summary>
    public LstmMatrix<T> Set(ReadOnlySpan<T> dense, int rows)
    {
        Resize(rows);
        for (int i = 0; i < rows; i++)
        {
            dense.Slice(i * Columns, Columns).CopyTo(Row(i));
        }

        return this;
    }

    /// <summary>Takes the transpose of a dense matrix (these columns x so many rows).</summary>
    public LstmMatrix<T> SetTransposed(ReadOnlySpan<T> dense, int rows)
    {
        Resize(rows);
        fixed (T* source = dense)
        {
            Transposition.Copy(source, Columns, rows, rows, RowAddress(0), _pitch);
        }

        return this;
    }

    /// <summary>Rows [first, first + count) of this = the same rows of left times right (left.Columns rows); up to seven rows after them are overwritten too.</summary>
    public void SetProduct(LstmMatrix<T> left, LstmMatrix<T> right, int first, int count) => Product.Set(
        RowAddress(first), _pitch, count, right.Columns, left.Columns, new LeftOperand<T>(left.RowAddress(first), left._pitch, 1), right.RowAddress(0), right._pitch);

    /// <summary>gradient (left.Columns x right.Columns, dense) += left^T right over the first rows, summed in double.</summary>
    public static void AddTransposedProduct(LstmMatrix<T> left, LstmMatrix<T> right, int rows, T[] gradient)
    {
        nint pitch = Product.MatrixPitch(right.Columns);
        double* sums = ClearedSums(Product.PaddedRows(left.Columns) * pitch);
        Product.Accumulate(
            sums, pitch, 0, left.Columns, right.Columns, rows, new LeftOperand<T>(left.RowAddress(0), 1, left._pitch), right.RowAddress(0), right._pitch, upper: false);
        fixed (T* sum = gradient)
        {
            for (int i = 0; i < left.Columns; i++)
            {
                Simd.AddTo(sum + (i * right.Columns), sums + (i * pitch), right.Columns);
            }
        }
    }

    /// <summary>gradient (Columns) += the sum of the first rows, in double.</summary>
    public void AddRows(int rows, T[] gradient)
    {
        double* sums = ClearedSums(_pitch);
        for (int row = 0; row < rows; row++)
        {
            T* values = RowAddress(row);
            for (nint j = 0; j < _pitch; j += Vector512<T>.Count)
            {
                Simd.AddWidened(Vector512.Load(values + j), sums + j);
            }
        }

        fixed (T* sum = gradient)
        {
            Simd.AddTo(sum, sums, Columns);
        }
    }

    /// <summary>Rows as a batch (count, columns) of a normalizer.</summary>
    /// <remarks>The tensor types want stride 0 along an axis of length 1.</remarks>
    public TensorSpan<T> Batch(int first, int count) =>
        new(_values, first * _pitch, [count, Columns], [count == 1 ? 0 : _pitch, Columns == 1 ? 0 : 1]);

    private static double* ClearedSums(nint count)
    {
        double* sums = NativeScratch.Begin(count * sizeof(double)).Take<double>(count);
        new Span<double>(sums, (int)count).Clear();
        return sums;
    }
}
