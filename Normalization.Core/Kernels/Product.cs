using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>A left operand of a product, read at row * RowStride + k * DepthStride: a matrix or its transpose.</summary>
internal readonly unsafe struct LeftOperand<T>(T* values, nint rowStride, nint depthStride)
    where T : unmanaged
{
    public readonly T* Values = values;
    public readonly nint RowStride = rowStride;
    public readonly nint DepthStride = depthStride;

    public LeftOperand<T> From(nint row, nint depth) => new(Values + (row * RowStride) + (depth * DepthStride), RowStride, DepthStride);
}

/// <summary>The matrix products that whitening is made of, in float or double.</summary>
/// <remarks>
/// <para>Two register blocks of 16 sums, each held over at most <see cref="Chain"/> terms: 8 rows of two vectors, and, where both operands lie along
/// their terms, 4 x 4 vectors whose lanes are added in one tree. Every element is the sum, in order, of such chains of fused multiply-adds, so that
/// its bits do not depend on the matrix beside it, and a float sum loses to rounding what tens of terms lose, not what thousands do.</para>
/// <para>Operands of the first are read and results written in whole blocks: left to a multiple of <see cref="Rows"/> rows, right to a multiple of
/// <see cref="Width{T}"/> columns. What lies in the padding reaches padding only, but callers clear it all the same (<see cref="ClearPadding"/>).</para>
/// </remarks>
internal static unsafe class Product
{
    /// <summary>Rows of a register block.</summary>
    public const int Rows = 8;

    /// <summary>Rows of either operand in a block of sums along memory.</summary>
    public const int Square = 4;

    /// <summary>Terms that are added before their sum is.</summary>
    public const int Chain = 32;

    /// <summary>Columns of a register block.</summary>
    public static nint Width<T>()
        where T : unmanaged => 2 * Vector512<T>.Count;

    /// <summary>Rows rounded up to whole blocks.</summary>
    public static nint PaddedRows(nint rows) => (rows + Rows - 1) / Rows * Rows;

    /// <summary>Columns rounded up to whole blocks of double: the pitch of a small matrix.</summary>
    public static nint MatrixPitch(nint columns) => (columns + Width<double>() - 1) / Width<double>() * Width<double>();

    /// <summary>Columns rounded up to an odd number of blocks: the pitch of an operand whose rows are not to fall on each other in the cache.</summary>
    public static nint OddPitch<T>(nint columns)
        where T : unmanaged => ((columns + Width<T>() - 1) / Width<T>() | 1) * Width<T>();

    /// <summary>Writes zeros where blocks reach beyond an operand's rows or columns.</summary>
    /// <remarks>Remnants of other data would change no result, but may be subnormal: some processors take a hundred times as long over such a product.</remarks>
    /// <param name="operand">The operand as it lies in memory.</param>
    /// <param name="rows">Its rows.</param>
    /// <param name="columns">Its columns.</param>
    /// <param name="pitch">Elements from one row to the next, at least the columns that are read.</param>
    /// <param name="rowMultiple">Rows are read up to a multiple of it.</param>
    /// <param name="columnMultiple">Columns are read up to a multiple of it.</param>
    public static void ClearPadding<T>(T* operand, nint rows, nint columns, nint pitch, nint rowMultiple, nint columnMultiple)
        where T : unmanaged
    {
        nint endRow = (rows + rowMultiple - 1) / rowMultiple * rowMultiple;
        nint endColumn = (columns + columnMultiple - 1) / columnMultiple * columnMultiple;
        for (nint row = endColumn == columns ? rows : 0; row < endRow; row++)
        {
            nint from = row < rows ? columns : 0;
            new Span<T>(operand + (row * pitch) + from, (int)(endColumn - from)).Clear();
        }
    }

    /// <summary>result (rows x columns) = left (rows x depth) * right (depth x columns); depth at least 1, the result padded as the operands are.</summary>
    /// <param name="result">Where the product goes.</param>
    /// <param name="resultPitch">Elements from one row of the result to the next.</param>
    /// <param name="rows">Rows of left.</param>
    /// <param name="columns">Columns of right.</param>
    /// <param name="depth">Columns of left, rows of right.</param>
    /// <param name="left">The left operand.</param>
    /// <param name="right">The right operand.</param>
    /// <param name="rightPitch">Elements from one row of right to the next.</param>
    /// <param name="upper">Leaves out the blocks that lie wholly below the diagonal.</param>
    public static void Set<T>(
        T* result, nint resultPitch, nint rows, nint columns, nint depth, LeftOperand<T> left, T* right, nint rightPitch, bool upper = false)
        where T : unmanaged
    {
        nint width = Width<T>();
        for (nint column = 0; column < columns; column += width)
        {
            bool narrow = columns - column <= Vector512<T>.Count;
            for (nint row = 0; row < rows && !(upper && row >= column + width); row += Rows)
            {
                T* corner = result + (row * resultPitch) + column;
                if (narrow)
                {
                    MultiplyNarrow(left.From(row, 0), right + column, rightPitch, depth, corner, resultPitch);
                    continue;
                }

                Multiply(left.From(row, 0), right + column, rightPitch, Math.Min(Chain, depth), corner, resultPitch, onto: false);
                for (nint k = Chain; k < depth; k += Chain)
                {
                    Multiply(left.From(row, k), right + (k * rightPitch) + column, rightPitch, Math.Min(Chain, depth - k), corner, resultPitch, onto: true);
                }
            }
        }
    }

    /// <summary>Rows [first, last) of result += left * right (depth x columns), each chain of terms added in double.</summary>
    /// <remarks>First is a multiple of <see cref="Rows"/>, the result's pitch <see cref="MatrixPitch"/> or more.</remarks>
    public static void Accumulate<T>(
        double* result, nint resultPitch, nint first, nint last, nint columns, nint depth, LeftOperand<T> left, T* right, nint rightPitch, bool upper)
        where T : unmanaged
    {
        nint width = Width<T>();
        T* block = stackalloc T[Rows * (int)width];
        for (nint column = 0; column < columns; column += width)
        {
            nint wanted = Math.Min(width, Simd.Padded(columns - column));
            for (nint row = first; row < last && !(upper && row >= column + width); row += Rows)
            {
                for (nint k = 0; k < depth; k += Chain)
                {
                    Multiply(left.From(row, k), right + (k * rightPitch) + column, rightPitch, Math.Min(Chain, depth - k), block, width, onto: false);
                    AddBlock(block, width, wanted, result + (row * resultPitch) + column, resultPitch);
                }
            }
        }
    }

    /// <summary>Rows [first, last) of result += left * right^T, of operands whose rows are contiguous; a chain's terms are added lane by lane and its lanes in T, chains in double.</summary>
    /// <remarks>
    /// Sums of products along memory need neither operand transposed. First and last are multiples of <see cref="Square"/>; operands have whole
    /// squares of rows and whole vectors of columns, which depth counts.
    /// </remarks>
    public static void AccumulateRows<T>(
        double* result, nint resultPitch, nint first, nint last, nint columns, nint depth, T* left, nint leftPitch, T* right, nint rightPitch, bool upper)
        where T : unmanaged
    {
        nint chain = Chain * Vector512<T>.Count;
        for (nint k = 0; k < depth; k += chain)
        {
            nint terms = Math.Min(chain, depth - k);
            for (nint row = first; row < last; row += Square)
            {
                for (nint column = upper ? row : 0; column < columns; column += Square)
                {
                    MultiplyRows(
                        left + (row * leftPitch) + k, leftPitch, right + (column * rightPitch) + k, rightPitch, terms,
                        result + (row * resultPitch) + column, resultPitch);
                }
            }
        }
    }

    /// <summary>Copies what lies above the diagonal below it.</summary>
    /// <remarks>Block by block: a column read from top to bottom would fall on few sets of the cache.</remarks>
    public static void Mirror(double* matrix, nint size, nint pitch)
    {
        for (nint row = 0; row < size; row += Rows)
        {
            nint rowEnd = Math.Min(row + Rows, size);
            for (nint column = 0; column < rowEnd; column += Rows)
            {
                for (nint i = row; i < rowEnd; i++)
                {
                    nint columnEnd = Math.Min(column + Rows, i);
                    for (nint j = column; j < columnEnd; j++)
                    {
                        matrix[(i * pitch) + j] = matrix[(j * pitch) + i];
                    }
                }
            }
        }
    }

    // The register block: sixteen sums, two loads and eight broadcasts a term; set, or added onto what the result holds.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Multiply<T>(LeftOperand<T> left, T* right, nint rightPitch, nint depth, T* result, nint pitch, bool onto)
        where T : unmanaged
    {
        int lanes = Vector512<T>.Count;
        Vector512<T> s00 = default, s01 = default, s10 = default, s11 = default, s20 = default, s21 = default, s30 = default, s31 = default;
        Vector512<T> s40 = default, s41 = default, s50 = default, s51 = default, s60 = default, s61 = default, s70 = default, s71 = default;
        nint stride = left.RowStride;
        nint step = left.DepthStride;
        T* a = left.Values;
        T* b = a + (4 * stride);
        for (nint k = 0; k < depth; k++, a += step, b += step, right += rightPitch)
        {
            Vector512<T> r0 = Vector512.Load(right), r1 = Vector512.Load(right + lanes);
            Vector512<T> v = Vector512.Create(a[0]);
            s00 = Simd.MultiplyAdd(v, r0, s00);
            s01 = Simd.MultiplyAdd(v, r1, s01);
            v = Vector512.Create(a[stride]);
            s10 = Simd.MultiplyAdd(v, r0, s10);
            s11 = Simd.MultiplyAdd(v, r1, s11);
            v = Vector512.Create(a[2 * stride]);
            s20 = Simd.MultiplyAdd(v, r0, s20);
            s21 = Simd.MultiplyAdd(v, r1, s21);
            v = Vector512.Create(a[3 * stride]);
            s30 = Simd.MultiplyAdd(v, r0, s30);
            s31 = Simd.MultiplyAdd(v, r1, s31);
            v = Vector512.Create(b[0]);
            s40 = Simd.MultiplyAdd(v, r0, s40);
            s41 = Simd.MultiplyAdd(v, r1, s41);
            v = Vector512.Create(b[stride]);
            s50 = Simd.MultiplyAdd(v, r0, s50);
            s51 = Simd.MultiplyAdd(v, r1, s51);
            v = Vector512.Create(b[2 * stride]);
            s60 = Simd.MultiplyAdd(v, r0, s60);
            s61 = Simd.MultiplyAdd(v, r1, s61);
            v = Vector512.Create(b[3 * stride]);
            s70 = Simd.MultiplyAdd(v, r0, s70);
            s71 = Simd.MultiplyAdd(v, r1, s71);
        }

        Store(s00, s01, result, onto);
        Store(s10, s11, result + pitch, onto);
        Store(s20, s21, result + (2 * pitch), onto);
        Store(s30, s31, result + (3 * pitch), onto);
        result += 4 * pitch;
        Store(s40, s41, result, onto);
        Store(s50, s51, result + pitch, onto);
        Store(s60, s61, result + (2 * pitch), onto);
        Store(s70, s71, result + (3 * pitch), onto);
    }

    // Half a block, where no more columns are left: the same sums in the same order.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void MultiplyNarrow<T>(LeftOperand<T> left, T* right, nint rightPitch, nint depth, T* result, nint pitch)
        where T : unmanaged
    {
        Vector512<T> t0 = default, t1 = default, t2 = default, t3 = default, t4 = default, t5 = default, t6 = default, t7 = default;
        nint stride = left.RowStride;
        nint step = left.DepthStride;
        T* a = left.Values;
        T* b = a + (4 * stride);
        for (nint first = 0; first < depth; first += Chain)
        {
            Vector512<T> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
            for (nint k = Math.Min(Chain, depth - first); k > 0; k--, a += step, b += step, right += rightPitch)
            {
                Vector512<T> r = Vector512.Load(right);
                s0 = Simd.MultiplyAdd(Vector512.Create(a[0]), r, s0);
                s1 = Simd.MultiplyAdd(Vector512.Create(a[stride]), r, s1);
                s2 = Simd.MultiplyAdd(Vector512.Create(a[2 * stride]), r, s2);
                s3 = Simd.MultiplyAdd(Vector512.Create(a[3 * stride]), r, s3);
                s4 = Simd.MultiplyAdd(Vector512.Create(b[0]), r, s4);
                s5 = Simd.MultiplyAdd(Vector512.Create(b[stride]), r, s5);
                s6 = Simd.MultiplyAdd(Vector512.Create(b[2 * stride]), r, s6);
                s7 = Simd.MultiplyAdd(Vector512.Create(b[3 * stride]), r, s7);
            }

            bool only = first == 0;
            t0 = only ? s0 : t0 + s0;
            t1 = only ? s1 : t1 + s1;
            t2 = only ? s2 : t2 + s2;
            t3 = only ? s3 : t3 + s3;
            t4 = only ? s4 : t4 + s4;
            t5 = only ? s5 : t5 + s5;
            t6 = only ? s6 : t6 + s6;
            t7 = only ? s7 : t7 + s7;
        }

        t0.Store(result);
        t1.Store(result + pitch);
        t2.Store(result + (2 * pitch));
        t3.Store(result + (3 * pitch));
        result += 4 * pitch;
        t4.Store(result);
        t5.Store(result + pitch);
        t6.Store(result + (2 * pitch));
        t7.Store(result + (3 * pitch));
    }

    // Four rows times four rows: sixteen sums along memory, eight loads a vector of terms.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void MultiplyRows<T>(T* left, nint leftPitch, T* right, nint rightPitch, nint depth, double* result, nint pitch)
        where T : unmanaged
    {
        Vector512<T> s00 = default, s01 = default, s02 = default, s03 = default, s10 = default, s11 = default, s12 = default, s13 = default;
        Vector512<T> s20 = default, s21 = default, s22 = default, s23 = default, s30 = default, s31 = default, s32 = default, s33 = default;
        T* left1 = left + leftPitch, left2 = left1 + leftPitch, left3 = left2 + leftPitch;
        T* right1 = right + rightPitch, right2 = right1 + rightPitch, right3 = right2 + rightPitch;
        for (nint k = 0; k < depth; k += Vector512<T>.Count)
        {
            Vector512<T> r0 = Vector512.Load(right + k), r1 = Vector512.Load(right1 + k), r2 = Vector512.Load(right2 + k), r3 = Vector512.Load(right3 + k);
            Vector512<T> v = Vector512.Load(left + k);
            s00 = Simd.MultiplyAdd(v, r0, s00);
            s01 = Simd.MultiplyAdd(v, r1, s01);
            s02 = Simd.MultiplyAdd(v, r2, s02);
            s03 = Simd.MultiplyAdd(v, r3, s03);
            v = Vector512.Load(left1 + k);
            s10 = Simd.MultiplyAdd(v, r0, s10);
            s11 = Simd.MultiplyAdd(v, r1, s11);
            s12 = Simd.MultiplyAdd(v, r2, s12);
            s13 = Simd.MultiplyAdd(v, r3, s13);
            v = Vector512.Load(left2 + k);
            s20 = Simd.MultiplyAdd(v, r0, s20);
            s21 = Simd.MultiplyAdd(v, r1, s21);
            s22 = Simd.MultiplyAdd(v, r2, s22);
            s23 = Simd.MultiplyAdd(v, r3, s23);
            v = Vector512.Load(left3 + k);
            s30 = Simd.MultiplyAdd(v, r0, s30);
            s31 = Simd.MultiplyAdd(v, r1, s31);
            s32 = Simd.MultiplyAdd(v, r2, s32);
            s33 = Simd.MultiplyAdd(v, r3, s33);
        }

        AddSums(s00, s01, s02, s03, result);
        AddSums(s10, s11, s12, s13, result + pitch);
        AddSums(s20, s21, s22, s23, result + (2 * pitch));
        AddSums(s30, s31, s32, s33, result + (3 * pitch));
    }

    // Adds each vector's lanes, in one tree, to a number of their own.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddSums<T>(Vector512<T> a, Vector512<T> b, Vector512<T> c, Vector512<T> d, double* result)
    {
        Vector256<double> sums = typeof(T) == typeof(float)
            ? Simd.Widen(LaneSums(a.AsSingle(), b.AsSingle(), c.AsSingle(), d.AsSingle()))
            : LaneSums(a.AsDouble(), b.AsDouble(), c.AsDouble(), d.AsDouble());
        (Vector256.Load(result) + sums).Store(result);
    }

    // In the order of Simd.Sum: halves, halves of those, and the last two.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<double> LaneSums(Vector512<double> a, Vector512<double> b, Vector512<double> c, Vector512<double> d)
    {
        if (!Avx.IsSupported)
        {
            return Vector256.Create(Simd.Sum(a), Simd.Sum(b), Simd.Sum(c), Simd.Sum(d));
        }

        const byte Lower = 0x20, Upper = 0x31;
        Vector256<double> a4 = a.GetLower() + a.GetUpper(), b4 = b.GetLower() + b.GetUpper();
        Vector256<double> c4 = c.GetLower() + c.GetUpper(), d4 = d.GetLower() + d.GetUpper();
        Vector256<double> even = Avx.Permute2x128(a4, c4, Lower) + Avx.Permute2x128(a4, c4, Upper);
        Vector256<double> odd = Avx.Permute2x128(b4, d4, Lower) + Avx.Permute2x128(b4, d4, Upper);
        return Avx.UnpackLow(even, odd) + Avx.UnpackHigh(even, odd);
    }

    // The same of float: halves, then in each quarter every other lane, and the quarters last.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> LaneSums(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d)
    {
        if (!Avx.IsSupported)
        {
            return Vector128.Create(Simd.Sum(a), Simd.Sum(b), Simd.Sum(c), Simd.Sum(d));
        }

        const byte Lower = 0x44, Upper = 0xEE;
        Vector256<float> a8 = a.GetLower() + a.GetUpper(), b8 = b.GetLower() + b.GetUpper();
        Vector256<float> c8 = c.GetLower() + c.GetUpper(), d8 = d.GetLower() + d.GetUpper();
        Vector256<float> first = Avx.UnpackLow(a8, b8) + Avx.UnpackHigh(a8, b8);
        Vector256<float> second = Avx.UnpackLow(c8, d8) + Avx.UnpackHigh(c8, d8);
        Vector256<float> quarters = Avx.Shuffle(first, second, Lower) + Avx.Shuffle(first, second, Upper);
        return quarters.GetLower() + quarters.GetUpper();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<T>(Vector512<T> first, Vector512<T> second, T* destination, bool onto)
        where T : unmanaged
    {
        if (onto)
        {
            first = Vector512.Load(destination) + first;
            second = Vector512.Load(destination + Vector512<T>.Count) + second;
        }

        first.Store(destination);
        second.Store(destination + Vector512<T>.Count);
    }

    private static void AddBlock<T>(T* block, nint width, nint wanted, double* result, nint pitch)
        where T : unmanaged
    {
        for (int row = 0; row < Rows; row++, block += width, result += pitch)
        {
            for (nint j = 0; j < wanted; j += Simd.Lanes)
            {
                (Vector512.Load(result + j) + Simd.Load(block + j)).Store(result + j);
            }
        }
    }
}
