using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <content>Matrix products, blocked for caches.</content>
internal static unsafe partial class SymmetricEigen
{
    /// <summary>Products of larger matrices: strips of the right operand are copied side by side and met by all rows.</summary>
    private static class MatrixProduct
    {
        private const nint Wide = 4 * Simd.Lanes;
        private const nint Depth = 256;
        private const nint RowBlock = 4;

        /// <summary>Doubles that a copied strip takes.</summary>
        public const nint StripSize = Wide * Depth;

        /// <summary>result (rows x columns) += left (rows x depth) * right (depth x columns); columns are whole vectors.</summary>
        public static void Add(
            double* result, nint resultPitch, nint rows, nint columns, nint depth, LeftOperand<double> left, double* right, nint rightPitch, double* strip)
        {
            for (nint first = 0; first < depth; first += Depth)
            {
                nint count = Math.Min(Depth, depth - first);
                var part = new LeftOperand<double>(left.Values + (first * left.DepthStride), left.RowStride, left.DepthStride);
                for (nint column = 0; column < columns;)
                {
                    nint width = columns - column >= Wide ? Wide : Simd.Lanes;
                    Copy(right + (first * rightPitch) + column, rightPitch, count, width, strip);
                    AddStrip(result + column, resultPitch, rows, count, part, strip, width);
                    column += width;
                }
            }
        }

        private static void Copy(double* right, nint pitch, nint depth, nint width, double* strip)
        {
            for (nint k = 0; k < depth; k++, right += pitch)
            {
                for (nint j = 0; j < width; j += Simd.Lanes, strip += Simd.Lanes)
                {
                    Vector512.Load(right + j).Store(strip);
                }
            }
        }

        private static void AddStrip(double* result, nint pitch, nint rows, nint depth, LeftOperand<double> left, double* strip, nint width)
        {
            nint row = 0;
            double* a = left.Values;
            for (; row <= rows - RowBlock; row += RowBlock, a += RowBlock * left.RowStride, result += RowBlock * pitch)
            {
                if (width == Wide)
                {
                    AddFourByFour(result, pitch, depth, a, left.RowStride, left.DepthStride, strip);
                }
                else
                {
                    AddFourByOne(result, pitch, depth, a, left.RowStride, left.DepthStride, strip);
                }
            }

            for (; row < rows; row++, a += left.RowStride, result += pitch)
            {
                for (nint j = 0; j < width; j += Simd.Lanes)
                {
                    AddOneByOne(result + j, depth, a, left.DepthStride, strip + j, width);
                }
            }
        }

        private static void AddFourByFour(double* c, nint pitch, nint depth, double* a, nint rowStride, nint depthStride, double* b)
        {
            const int L = Simd.Lanes;
            Vector512<double> s00 = default, s01 = default, s02 = default, s03 = default;
            Vector512<double> s10 = default, s11 = default, s12 = default, s13 = default;
            Vector512<double> s20 = default, s21 = default, s22 = default, s23 = default;
            Vector512<double> s30 = default, s31 = default, s32 = default, s33 = default;
            for (nint k = 0; k < depth; k++, a += depthStride, b += Wide)
            {
                Vector512<double> b0 = Vector512.Load(b), b1 = Vector512.Load(b + L), b2 = Vector512.Load(b + (2 * L)), b3 = Vector512.Load(b + (3 * L));
                Vector512<double> v = Vector512.Create(a[0]);
                s00 = Vector512.FusedMultiplyAdd(v, b0, s00);
                s01 = Vector512.FusedMultiplyAdd(v, b1, s01);
                s02 = Vector512.FusedMultiplyAdd(v, b2, s02);
                s03 = Vector512.FusedMultiplyAdd(v, b3, s03);
                v = Vector512.Create(a[rowStride]);
                s10 = Vector512.FusedMultiplyAdd(v, b0, s10);
                s11 = Vector512.FusedMultiplyAdd(v, b1, s11);
                s12 = Vector512.FusedMultiplyAdd(v, b2, s12);
                s13 = Vector512.FusedMultiplyAdd(v, b3, s13);
                v = Vector512.Create(a[2 * rowStride]);
                s20 = Vector512.FusedMultiplyAdd(v, b0, s20);
                s21 = Vector512.FusedMultiplyAdd(v, b1, s21);
                s22 = Vector512.FusedMultiplyAdd(v, b2, s22);
                s23 = Vector512.FusedMultiplyAdd(v, b3, s23);
                v = Vector512.Create(a[3 * rowStride]);
                s30 = Vector512.FusedMultiplyAdd(v, b0, s30);
                s31 = Vector512.FusedMultiplyAdd(v, b1, s31);
                s32 = Vector512.FusedMultiplyAdd(v, b2, s32);
                s33 = Vector512.FusedMultiplyAdd(v, b3, s33);
            }

            AddRow(c, s00, s01, s02, s03);
            AddRow(c + pitch, s10, s11, s12, s13);
            AddRow(c + (2 * pitch), s20, s21, s22, s23);
            AddRow(c + (3 * pitch), s30, s31, s32, s33);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void AddRow(double* c, Vector512<double> s0, Vector512<double> s1, Vector512<double> s2, Vector512<double> s3)
        {
            AddTo(c, s0);
            AddTo(c + Simd.Lanes, s1);
            AddTo(c + (2 * Simd.Lanes), s2);
            AddTo(c + (3 * Simd.Lanes), s3);
        }

        private static void AddFourByOne(double* c, nint pitch, nint depth, double* a, nint rowStride, nint depthStride, double* b)
        {
            Vector512<double> s0 = default, s1 = default, s2 = default, s3 = default;
            for (nint k = 0; k < depth; k++, a += depthStride, b += Simd.Lanes)
            {
                Vector512<double> right = Vector512.Load(b);
                s0 = Vector512.FusedMultiplyAdd(Vector512.Create(a[0]), right, s0);
                s1 = Vector512.FusedMultiplyAdd(Vector512.Create(a[rowStride]), right, s1);
                s2 = Vector512.FusedMultiplyAdd(Vector512.Create(a[2 * rowStride]), right, s2);
                s3 = Vector512.FusedMultiplyAdd(Vector512.Create(a[3 * rowStride]), right, s3);
            }

            AddTo(c, s0);
            AddTo(c + pitch, s1);
            AddTo(c + (2 * pitch), s2);
            AddTo(c + (3 * pitch), s3);
        }

        private static void AddOneByOne(double* c, nint depth, double* a, nint depthStride, double* b, nint stripWidth)
        {
            Vector512<double> sum = default;
            for (nint k = 0; k < depth; k++, a += depthStride, b += stripWidth)
            {
                sum = Vector512.FusedMultiplyAdd(Vector512.Create(*a), Vector512.Load(b), sum);
            }

            AddTo(c, sum);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static void AddTo(double* c, Vector512<double> value) => (Vector512.Load(c) + value).Store(c);
    }
}
