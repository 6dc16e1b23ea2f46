using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>A left operand of a product, read at row * RowStride + k * DepthStride: a matrix or its transpose.</summary>
internal readonly unsafe struct LeftOperand(double* values, nint rowStride, nint depthStride)
{
    public readonly double* Values = values;
    public readonly nint RowStride = rowStride;
    public readonly nint DepthStride = depthStride;
}

/// <summary>The matrix product in double that whitening is made of.</summary>
/// <remarks>
/// Every element is one chain of fused multiply-adds in order of depth, whatever the blocking, so that its bits do not depend on the
/// matrix's size beside it.
/// </remarks>
internal static unsafe class Product
{
    private const nint RowBlock = 4;
    private const nint VectorBlock = 4;

    /// <summary>result (rows x columns) += left (rows x depth) * right (depth x columns); columns padded to whole vectors.</summary>
    public static void Add(
        double* result, nint resultPitch, nint rows, nint columns, nint depth, LeftOperand left, double* right, nint rightPitch)
    {
        nint row = 0;
        for (; row <= rows - RowBlock; row += RowBlock)
        {
            nint column = 0;
            for (; column <= columns - (VectorBlock * Simd.Lanes); column += VectorBlock * Simd.Lanes)
            {
                AddFourByFour(result + (row * resultPitch) + column, resultPitch, depth, Rows(left, row), right + column, rightPitch);
            }

            for (; column < columns; column += Simd.Lanes)
            {
                AddFourByOne(result + (row * resultPitch) + column, resultPitch, depth, Rows(left, row), right + column, rightPitch);
            }
        }

        for (; row < rows; row++)
        {
            for (nint column = 0; column < columns; column += Simd.Lanes)
            {
                AddOneByOne(result + (row * resultPitch) + column, depth, Rows(left, row), right + column, rightPitch);
            }
        }
    }

    /// <summary>A count of columns rounded up to whole vectors.</summary>
    public static nint Padded(nint columns) => (columns + Simd.Lanes - 1) / Simd.Lanes * Simd.Lanes;

    private static LeftOperand Rows(LeftOperand left, nint first) =>
        new(left.Values + (first * left.RowStride), left.RowStride, left.DepthStride);

    private static void AddFourByFour(double* c, nint pitch, nint depth, LeftOperand left, double* b, nint rightPitch)
    {
        const int L = Simd.Lanes;
        double* c1 = c + pitch;
        double* c2 = c1 + pitch;
        double* c3 = c2 + pitch;
        Vector512<double> s00 = Vector512.Load(c), s01 = Vector512.Load(c + L), s02 = Vector512.Load(c + (2 * L)), s03 = Vector512.Load(c + (3 * L));
        Vector512<double> s10 = Vector512.Load(c1), s11 = Vector512.Load(c1 + L), s12 = Vector512.Load(c1 + (2 * L)), s13 = Vector512.Load(c1 + (3 * L));
        Vector512<double> s20 = Vector512.Load(c2), s21 = Vector512.Load(c2 + L), s22 = Vector512.Load(c2 + (2 * L)), s23 = Vector512.Load(c2 + (3 * L));
        Vector512<double> s30 = Vector512.Load(c3), s31 = Vector512.Load(c3 + L), s32 = Vector512.Load(c3 + (2 * L)), s33 = Vector512.Load(c3 + (3 * L));
        double* a = left.Values;
        nint stride = left.RowStride;
        for (nint k = 0; k < depth; k++, a += left.DepthStride, b += rightPitch)
        {
            Vector512<double> b0 = Vector512.Load(b), b1 = Vector512.Load(b + L), b2 = Vector512.Load(b + (2 * L)), b3 = Vector512.Load(b + (3 * L));
            Vector512<double> v = Vector512.Create(a[0]);
            s00 = Vector512.FusedMultiplyAdd(v, b0, s00);
            s01 = Vector512.FusedMultiplyAdd(v, b1, s01);
            s02 = Vector512.FusedMultiplyAdd(v, b2, s02);
            s03 = Vector512.FusedMultiplyAdd(v, b3, s03);
            v = Vector512.Create(a[stride]);
            s10 = Vector512.FusedMultiplyAdd(v, b0, s10);
            s11 = Vector512.FusedMultiplyAdd(v, b1, s11);
            s12 = Vector512.FusedMultiplyAdd(v, b2, s12);
            s13 = Vector512.FusedMultiplyAdd(v, b3, s13);
            v = Vector512.Create(a[2 * stride]);
            s20 = Vector512.FusedMultiplyAdd(v, b0, s20);
            s21 = Vector512.FusedMultiplyAdd(v, b1, s21);
            s22 = Vector512.FusedMultiplyAdd(v, b2, s22);
            s23 = Vector512.FusedMultiplyAdd(v, b3, s23);
            v = Vector512.Create(a[3 * stride]);
            s30 = Vector512.FusedMultiplyAdd(v, b0, s30);
            s31 = Vector512.FusedMultiplyAdd(v, b1, s31);
            s32 = Vector512.FusedMultiplyAdd(v, b2, s32);
            s33 = Vector512.FusedMultiplyAdd(v, b3, s33);
        }

        s00.Store(c);
        s01.Store(c + L);
        s02.Store(c + (2 * L));
        s03.Store(c + (3 * L));
        s10.Store(c1);
        s11.Store(c1 + L);
        s12.Store(c1 + (2 * L));
        s13.Store(c1 + (3 * L));
        s20.Store(c2);
        s21.Store(c2 + L);
        s22.Store(c2 + (2 * L));
        s23.Store(c2 + (3 * L));
        s30.Store(c3);
        s31.Store(c3 + L);
        s32.Store(c3 + (2 * L));
        s33.Store(c3 + (3 * L));
    }

    private static void AddFourByOne(double* c, nint pitch, nint depth, LeftOperand left, double* b, nint rightPitch)
    {
        Vector512<double> s0 = Vector512.Load(c);
        Vector512<double> s1 = Vector512.Load(c + pitch);
        Vector512<double> s2 = Vector512.Load(c + (2 * pitch));
        Vector512<double> s3 = Vector512.Load(c + (3 * pitch));
        double* a = left.Values;
        nint stride = left.RowStride;
        for (nint k = 0; k < depth; k++, a += left.DepthStride, b += rightPitch)
        {
            Vector512<double> right = Vector512.Load(b);
            s0 = Vector512.FusedMultiplyAdd(Vector512.Create(a[0]), right, s0);
            s1 = Vector512.FusedMultiplyAdd(Vector512.Create(a[stride]), right, s1);
            s2 = Vector512.FusedMultiplyAdd(Vector512.Create(a[2 * stride]), right, s2);
            s3 = Vector512.FusedMultiplyAdd(Vector512.Create(a[3 * stride]), right, s3);
        }

        s0.Store(c);
        s1.Store(c + pitch);
        s2.Store(c + (2 * pitch));
        s3.Store(c + (3 * pitch));
    }

    private static void AddOneByOne(double* c, nint depth, LeftOperand left, double* b, nint rightPitch)
    {
        Vector512<double> sum = Vector512.Load(c);
        double* a = left.Values;
        for (nint k = 0; k < depth; k++, a += left.DepthStride, b += rightPitch)
        {
            sum = Vector512.FusedMultiplyAdd(Vector512.Create(*a), Vector512.Load(b), sum);
        }

        sum.Store(c);
    }
}
