using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <content>The small tridiagonal case: implicit QL.</content>
internal static unsafe partial class SymmetricEigen
{
    // For one eigenvalue; two or three are usual.
    private const int MaximumSweeps = 50;

    /// <summary>Rows and columns first..end of vectors become the eigenvectors of that block of T, d its eigenvalues, in no order.
    /// They must be zero before; rotations go through Workspace.Sorted and Poles.</summary>
    /// <remarks>
    /// Implicit QL with Wilkinson's shift (Golub and Van Loan 8.3). A sweep's rotations are computed first, then applied to all columns, with the
    /// row that moves down from rotation to rotation kept in registers.
    /// </remarks>
    private static bool ImplicitQl(double* vectors, nint pitch, double* d, Workspace workspace, nint first, nint end, double norm)
    {
        double* e = workspace.OffDiagonal;
        double* cosines = workspace.Sorted;
        double* sines = workspace.Poles;
        double* block = vectors + first;
        for (nint i = first; i < end; i++)
        {
            block[(i * pitch) + i - first] = 1;
        }

        for (nint top = first; top < end; top++)
        {
            for (int sweep = 0; ; sweep++)
            {
                nint bottom = top;
                while (bottom < end - 1 && Math.Abs(e[bottom]) > Precision * Math.Max(Math.Abs(d[bottom]) + Math.Abs(d[bottom + 1]), Precision * norm))
                {
                    bottom++;
                }

                if (bottom == top)
                {
                    break;
                }

                if (sweep == MaximumSweeps)
                {
                    return false;
                }

                nint stop = Sweep(d, e, top, bottom, cosines, sines);
                ApplySweep(block, pitch, stop, bottom, cosines, sines, Simd.Padded(end - first));
            }
        }

        return true;
    }

    // One sweep over rows bottom..top; rotation i mixes rows i and i + 1. Returns the last rotation's row: above top where the sweep split early.
    private static nint Sweep(double* d, double* e, nint top, nint bottom, double* cosines, double* sines)
    {
        double ratio = (d[top + 1] - d[top]) / (2 * e[top]);
        double bulge = d[bottom] - d[top] + (e[top] / (ratio + Math.CopySign(Hypotenuse(ratio, 1), ratio)));
        double sine = 1;
        double cosine = 1;
        double correction = 0;
        for (nint i = bottom - 1; i >= top; i--)
        {
            double fill = sine * e[i];
            double along = cosine * e[i];
            double radius = Hypotenuse(fill, bulge);
            e[i + 1] = radius;
            if (radius == 0)
            {
                d[i + 1] -= correction;
                e[bottom] = 0;
                return i + 1;
            }

            sine = fill / radius;
            cosine = bulge / radius;
            double pivot = d[i + 1] - correction;
            double mixed = ((d[i] - pivot) * sine) + (2 * cosine * along);
            correction = sine * mixed;
            d[i + 1] = pivot + correction;
            bulge = (cosine * mixed) - along;
            cosines[i] = cosine;
            sines[i] = sine;
        }

        d[top] -= correction;
        e[top] = bulge;
        e[bottom] = 0;
        return top;
    }

    // double.Hypot is safe at every scale, and slow.
    private static double Hypotenuse(double x, double y)
    {
        double squares = (x * x) + (y * y);
        return squares is > NegligibleSquares and < 1 / NegligibleSquares ? Math.Sqrt(squares) : double.Hypot(x, y);
    }

    private static void ApplySweep(double* block, nint pitch, nint top, nint bottom, double* cosines, double* sines, nint columns)
    {
        const int L = Simd.Lanes;
        nint column = 0;
        for (; column <= columns - (4 * L); column += 4 * L)
        {
            double* row = block + (bottom * pitch) + column;
            Vector512<double> m0 = Vector512.Load(row), m1 = Vector512.Load(row + L), m2 = Vector512.Load(row + (2 * L)), m3 = Vector512.Load(row + (3 * L));
            for (nint i = bottom - 1; i >= top; i--)
            {
                Vector512<double> c = Vector512.Create(cosines[i]), s = Vector512.Create(sines[i]);
                double* next = row - pitch;
                m0 = RotateRow(next, row, m0, c, s);
                m1 = RotateRow(next + L, row + L, m1, c, s);
                m2 = RotateRow(next + (2 * L), row + (2 * L), m2, c, s);
                m3 = RotateRow(next + (3 * L), row + (3 * L), m3, c, s);
                row = next;
            }

            m0.Store(row);
            m1.Store(row + L);
            m2.Store(row + (2 * L));
            m3.Store(row + (3 * L));
        }

        for (; column < columns; column += L)
        {
            double* row = block + (bottom * pitch) + column;
            Vector512<double> moving = Vector512.Load(row);
            for (nint i = bottom - 1; i >= top; i--)
            {
                moving = RotateRow(row - pitch, row, moving, Vector512.Create(cosines[i]), Vector512.Create(sines[i]));
                row -= pitch;
            }

            moving.Store(row);
        }
    }

    // Stores the finished lower row and returns the upper one, which the next rotation moves on.
    private static Vector512<double> RotateRow(double* upper, double* lower, Vector512<double> moving, Vector512<double> cosine, Vector512<double> sine)
    {
        Vector512<double> next = Vector512.Load(upper);
        Vector512.FusedMultiplyAdd(sine, next, cosine * moving).Store(lower);
        return Vector512.FusedMultiplyAdd(cosine, next, -(sine * moving));
    }
}
