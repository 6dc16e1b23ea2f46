using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <content>Householder reflections: to tridiagonal form, and applied to its eigenvectors.</content>
internal static unsafe partial class SymmetricEigen
{
    // Rows reduced, or reflections applied, at a time: 16 and 32 measure alike, 48 and more are slower.
    private const int Panel = 32;

    // Below this a row left of its last entry counts as zero, as its squares would lose their bits; A's largest entry is 1.
    private const double NegligibleSquares = 1e-280;

    /// <summary>T = Q^T A Q, from the last row up: T's diagonal goes to diagonal, the vector of row i's reflection stays in row i of a.</summary>
    /// <remarks>
    /// Row i's reflection acts on entries 0..i-1 and leaves entry i-1 alone in the row. Rows are taken in panels: within one, A is read
    /// but not written, what reflections do to it is kept as -(V^T W + W^T V) with V in the rows of a, -W in the workspace, and subtracted at the
    /// panel's end as one product (half of the flops). Only the lower triangle is kept up to date, but with 8 x 8 blocks on the diagonal whole.
    /// </remarks>
    private static void Reduce(double* a, int size, nint pitch, double* diagonal, Workspace workspace)
    {
        double* w = workspace.Small;
        double* coefficients = workspace.Z;
        workspace.OffDiagonal[size - 1] = 0;
        workspace.Tau[0] = 0;
        for (nint end = size; end > 0;)
        {
            nint start = Math.Max(0, end - Panel);
            for (nint i = end - 1; i >= start; i--)
            {
                double* row = a + (i * pitch);
                double* own = w + ((i - start) * pitch);
                double* laterV = row + pitch;
                double* laterW = own + pitch;
                nint later = end - 1 - i;
                AddRows(row, laterW, pitch, later, laterV + i, pitch, i + 1);
                AddRows(row, laterV, pitch, later, laterW + i, pitch, i + 1);
                diagonal[i] = row[i];
                if (i == 0)
                {
                    return;
                }

                double tau = Reflect(row, i, pitch, out workspace.OffDiagonal[i - 1]);
                workspace.Tau[i] = tau;
                new Span<double>(own, (int)pitch).Clear();
                if (tau == 0)
                {
                    continue;
                }

                MultiplySymmetric(a, size, pitch, row, own, i);
                Dots(laterW, pitch, later, row, i, coefficients);
                AddRows(own, laterV, pitch, later, coefficients, 1, i);
                Dots(laterV, pitch, later, row, i, coefficients);
                AddRows(own, laterW, pitch, later, coefficients, 1, i);

                // -W = -tau (A v) + (tau^2 / 2) (v . A v) v
                double product = Dot(row, own, i);
                Combine(own, -tau, row, 0.5 * tau * tau * product, i);
                new Span<double>(own + i, (int)(pitch - i)).Clear();
            }

            nint count = end - start;
            for (nint column = 0; column < start; column += Panel)
            {
                double* corner = a + (column * pitch) + column;
                double* v = a + (start * pitch) + column;
                double* minusW = w + column;
                nint columns = Math.Min(Panel, Simd.Padded(start - column));
                MatrixProduct.Add(corner, pitch, start - column, columns, count, new LeftOperand<double>(v, 1, pitch), minusW, pitch, workspace.Strip);
                MatrixProduct.Add(corner, pitch, start - column, columns, count, new LeftOperand<double>(minusW, 1, pitch), v, pitch, workspace.Strip);
            }

            end = start;
        }
    }

    /// <summary>vectors = vectors H(1) H(2) ... H(size - 1): eigenvectors of T become those of A.</summary>
    /// <remarks>A panel of reflections is I - V^T F V with F triangular (the compact form of Schreiber and Van Loan 1989).</remarks>
    private static void BackTransform(double* a, int size, nint pitch, double* vectors, Workspace workspace)
    {
        double* gram = workspace.Small;
        double* factor = gram + (Panel * Panel);
        double* projected = factor + (Panel * Panel); // size x Panel
        double* transposed = projected + (size * Panel); // columns x Panel
        double* weighted = workspace.Gathered; // Panel x pitch
        for (nint start = 1; start < size; start += Panel)
        {
            nint count = Math.Min(Panel, size - start);
            nint length = start + count;
            nint padded = Simd.Padded(count);
            double* v = a + (start * pitch);
            Transpose(v, pitch, count, length, transposed);
            new Span<double>(gram, Panel * Panel).Clear();
            MatrixProduct.Add(gram, Panel, count, padded, length, new LeftOperand<double>(v, pitch, 1), transposed, Panel, workspace.Strip);
            Triangle(gram, workspace.Tau + start, count, factor);
            new Span<double>(weighted, checked((int)(count * pitch))).Clear();
            MatrixProduct.Add(weighted, pitch, count, Simd.Padded(length), count, new LeftOperand<double>(factor, Panel, 1), v, pitch, workspace.Strip);
            new Span<double>(projected, size * Panel).Clear();
            MatrixProduct.Add(projected, Panel, size, padded, length, new LeftOperand<double>(vectors, pitch, 1), transposed, Panel, workspace.Strip);
            MatrixProduct.Add(vectors, pitch, size, Simd.Padded(length), count, new LeftOperand<double>(projected, Panel, 1), weighted, pitch, workspace.Strip);
        }
    }

    // The panel's rows as columns, zero up to a whole vector; in tiles, because one side is always strided.
    private static void Transpose(double* v, nint pitch, nint count, nint length, double* transposed)
    {
        const int Tile = 64;
        for (nint first = 0; first < length; first += Tile)
        {
            for (nint p = 0; p < Simd.Padded(count); p++)
            {
                for (nint j = first; j < Math.Min(length, first + Tile); j++)
                {
                    transposed[(j * Panel) + p] = p < count ? v[(p * pitch) + j] : 0;
                }
            }
        }
    }

    // -F, upper triangular: column p is -tau[p] times F's columns so far times V's products with row p, and tau[p] on the diagonal.
    private static void Triangle(double* gram, double* tau, nint count, double* factor)
    {
        for (nint p = 0; p < count; p++)
        {
            for (nint i = 0; i < count; i++)
            {
                double sum = 0;
                for (nint k = i; k < p; k++)
                {
                    sum = Math.FusedMultiplyAdd(factor[(i * Panel) + k], gram[(k * Panel) + p], sum);
                }

                factor[(i * Panel) + p] = i < p ? -tau[p] * sum : i == p ? -tau[p] : 0;
            }
        }
    }

    // The reflection I - tau v v^T that leaves of entries 0..length-1 only the last; v replaces the row, its last entry 1, zero beyond.
    private static double Reflect(double* row, nint length, nint pitch, out double remaining)
    {
        double last = row[length - 1];
        new Span<double>(row + length - 1, (int)(pitch - length + 1)).Clear();
        double squares = Dot(row, row, length);
        row[length - 1] = 1;
        if (squares <= NegligibleSquares)
        {
            new Span<double>(row, (int)(length - 1)).Clear();
            remaining = last;
            return 0;
        }

        remaining = -Math.CopySign(Math.Sqrt(Math.FusedMultiplyAdd(last, last, squares)), last);
        double divisor = last - remaining;
        for (nint j = 0; j < length - 1; j++)
        {
            row[j] /= divisor;
        }

        return -divisor / remaining;
    }

    // y = A v for the leading count x count block, from its lower triangle; v is zero from count on, y ends in rubbish there.
    private static void MultiplySymmetric(double* a, nint size, nint pitch, double* v, double* y, nint count)
    {
        for (nint block = 0; block < count; block += Simd.Lanes)
        {
            for (nint r = block; r < block + Simd.Lanes; r += 4)
            {
                // Rows beyond the last stand in for none: v is zero there.
                double* a0 = a + (Math.Min(r, size - 1) * pitch);
                double* a1 = a + (Math.Min(r + 1, size - 1) * pitch);
                double* a2 = a + (Math.Min(r + 2, size - 1) * pitch);
                double* a3 = a + (Math.Min(r + 3, size - 1) * pitch);
                Vector512<double> v0 = Vector512.Create(v[r]), v1 = Vector512.Create(v[r + 1]), v2 = Vector512.Create(v[r + 2]), v3 = Vector512.Create(v[r + 3]);
                Vector512<double> s0 = default, s1 = default, s2 = default, s3 = default;
                for (nint j = 0; j < block; j += Simd.Lanes)
                {
                    Vector512<double> x = Vector512.Load(v + j);
                    Vector512<double> sum = Vector512.Load(y + j);
                    Vector512<double> b0 = Vector512.Load(a0 + j), b1 = Vector512.Load(a1 + j), b2 = Vector512.Load(a2 + j), b3 = Vector512.Load(a3 + j);
                    s0 = Vector512.FusedMultiplyAdd(b0, x, s0);
                    s1 = Vector512.FusedMultiplyAdd(b1, x, s1);
                    s2 = Vector512.FusedMultiplyAdd(b2, x, s2);
                    s3 = Vector512.FusedMultiplyAdd(b3, x, s3);
                    sum = Vector512.FusedMultiplyAdd(b0, v0, sum);
                    sum = Vector512.FusedMultiplyAdd(b1, v1, sum);
                    sum = Vector512.FusedMultiplyAdd(b2, v2, sum);
                    Vector512.FusedMultiplyAdd(b3, v3, sum).Store(y + j);
                }

                // The block on the diagonal is whole: its rows serve as columns.
                Vector512<double> own = Vector512.Load(y + block);
                own = Vector512.FusedMultiplyAdd(Vector512.Load(a0 + block), v0, own);
                own = Vector512.FusedMultiplyAdd(Vector512.Load(a1 + block), v1, own);
                own = Vector512.FusedMultiplyAdd(Vector512.Load(a2 + block), v2, own);
                Vector512.FusedMultiplyAdd(Vector512.Load(a3 + block), v3, own).Store(y + block);
                y[r] += Simd.Sum(s0);
                y[r + 1] += Simd.Sum(s1);
                y[r + 2] += Simd.Sum(s2);
                y[r + 3] += Simd.Sum(s3);
            }
        }
    }

    // y += sum over p of coefficients[p] * rows[p], over whole vectors.
    private static void AddRows(double* y, double* rows, nint pitch, nint count, double* coefficients, nint stride, nint length)
    {
        nint j = 0;
        for (; j <= Simd.Padded(length) - (2 * Simd.Lanes); j += 2 * Simd.Lanes)
        {
            Vector512<double> s0 = Vector512.Load(y + j), s1 = Vector512.Load(y + j + Simd.Lanes);
            double* row = rows + j;
            for (nint p = 0; p < count; p++, row += pitch)
            {
                Vector512<double> c = Vector512.Create(coefficients[p * stride]);
                s0 = Vector512.FusedMultiplyAdd(c, Vector512.Load(row), s0);
                s1 = Vector512.FusedMultiplyAdd(c, Vector512.Load(row + Simd.Lanes), s1);
            }

            s0.Store(y + j);
            s1.Store(y + j + Simd.Lanes);
        }

        for (; j < length; j += Simd.Lanes)
        {
            Vector512<double> sum = Vector512.Load(y + j);
            for (nint p = 0; p < count; p++)
            {
                sum = Vector512.FusedMultiplyAdd(Vector512.Create(coefficients[p * stride]), Vector512.Load(rows + (p * pitch) + j), sum);
            }

            sum.Store(y + j);
        }
    }

    // results[p] = rows[p] . x, over whole vectors: x is zero beyond length.
    private static void Dots(double* rows, nint pitch, nint count, double* x, nint length, double* results)
    {
        nint p = 0;
        for (; p <= count - 4; p += 4)
        {
            double* r0 = rows + (p * pitch);
            double* r1 = r0 + pitch;
            double* r2 = r1 + pitch;
            double* r3 = r2 + pitch;
            Vector512<double> s0 = default, s1 = default, s2 = default, s3 = default;
            for (nint j = 0; j < length; j += Simd.Lanes)
            {
                Vector512<double> v = Vector512.Load(x + j);
                s0 = Vector512.FusedMultiplyAdd(Vector512.Load(r0 + j), v, s0);
                s1 = Vector512.FusedMultiplyAdd(Vector512.Load(r1 + j), v, s1);
                s2 = Vector512.FusedMultiplyAdd(Vector512.Load(r2 + j), v, s2);
                s3 = Vector512.FusedMultiplyAdd(Vector512.Load(r3 + j), v, s3);
            }

            results[p] = Simd.Sum(s0);
            results[p + 1] = Simd.Sum(s1);
            results[p + 2] = Simd.Sum(s2);
            results[p + 3] = Simd.Sum(s3);
        }

        for (; p < count; p++)
        {
            results[p] = Dot(rows + (p * pitch), x, length);
        }
    }

    private static double Dot(double* x, double* y, nint length)
    {
        Vector512<double> sum = default;
        for (nint j = 0; j < length; j += Simd.Lanes)
        {
            sum = Vector512.FusedMultiplyAdd(Vector512.Load(x + j), Vector512.Load(y + j), sum);
        }

        return Simd.Sum(sum);
    }

    // y = a y + b x, over whole vectors.
    private static void Combine(double* y, double a, double* x, double b, nint length)
    {
        Vector512<double> first = Vector512.Create(a), second = Vector512.Create(b);
        for (nint j = 0; j < length; j += Simd.Lanes)
        {
            Vector512.FusedMultiplyAdd(second, Vector512.Load(x + j), first * Vector512.Load(y + j)).Store(y + j);
        }
    }
}
