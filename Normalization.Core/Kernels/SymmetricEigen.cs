using System.Runtime.Intrinsics;
using MathNet.Numerics;
using MathNet.Numerics.LinearAlgebra;

namespace Normalization.Core.Kernels;

/// <summary>Eigenvalues and eigenvectors of a symmetric matrix in double; the only file that names the decomposition's library.</summary>
internal static unsafe class SymmetricEigen
{
    /// <summary>Up to this size cyclic Jacobi works in the caller's scratch; beyond it MathNet decomposes, and allocates.</summary>
    public const int LargestJacobi = 64;

    private const int MaximumSweeps = 30;
    private const double OffDiagonalTolerance = 1e-14;

    /// <summary>Decomposes A = V^T diag(values) V: row i of vectors is the eigenvector of values[i].</summary>
    /// <remarks>A is finite and symmetric and is overwritten; rows of both matrices lie pitch apart, whole vectors. False: not converged.</remarks>
    public static bool Decompose(double* matrix, int size, nint pitch, double* vectors, double* values)
    {
        // Scaled to entries of at most 1: squares neither overflow nor vanish in either solver.
        double largest = 0;
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                largest = Math.Max(largest, Math.Abs(matrix[(i * pitch) + j]));
            }
        }

        double scale = largest == 0 ? 1 : largest;
        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                matrix[(i * pitch) + j] /= scale;
            }
        }

        bool converged = size <= LargestJacobi ? Jacobi(matrix, size, pitch, vectors, values) : Library(matrix, size, pitch, vectors, values);
        for (int i = 0; i < size; i++)
        {
            values[i] *= scale;
        }

        return converged;
    }

    private static bool Jacobi(double* a, int size, nint pitch, double* v, double* values)
    {
        double norm = 0;
        for (int i = 0; i < size; i++)
        {
            new Span<double>(v + (i * pitch), (int)pitch).Clear();
            v[(i * pitch) + i] = 1;
            for (int j = 0; j < size; j++)
            {
                norm += a[(i * pitch) + j] * a[(i * pitch) + j];
            }
        }

        double limit = OffDiagonalTolerance * Math.Sqrt(norm);
        bool converged = false;
        for (int sweep = 0; sweep < MaximumSweeps && !converged; sweep++)
        {
            converged = OffDiagonal(a, size, pitch) <= limit;
            for (int p = 0; p < size - 1 && !converged; p++)
            {
                for (int q = p + 1; q < size; q++)
                {
                    Rotate(a, size, pitch, v, p, q);
                }
            }
        }

        for (int i = 0; i < size; i++)
        {
            values[i] = a[(i * pitch) + i];
        }

        return converged || OffDiagonal(a, size, pitch) <= limit;
    }

    private static double OffDiagonal(double* a, int size, nint pitch)
    {
        double sum = 0;
        for (int i = 1; i < size; i++)
        {
            for (int j = 0; j < i; j++)
            {
                sum += 2 * a[(i * pitch) + j] * a[(i * pitch) + j];
            }
        }

        return Math.Sqrt(sum);
    }

    private static void Rotate(double* a, int size, nint pitch, double* v, int p, int q)
    {
        double* rowP = a + (p * pitch);
        double* rowQ = a + (q * pitch);
        double apq = rowP[q];
        if (apq == 0)
        {
            return;
        }

        double app = rowP[p];
        double aqq = rowQ[q];
        double theta = (aqq - app) / (2 * apq);
        double t = theta == 0 ? 1 : Math.CopySign(1, theta) / (Math.Abs(theta) + Math.Sqrt((theta * theta) + 1));
        double c = 1 / Math.Sqrt((t * t) + 1);
        double s = t * c;
        RotateRows(rowP, rowQ, size, c, s);
        RotateRows(v + (p * pitch), v + (q * pitch), size, c, s);
        rowP[p] = app - (t * apq);
        rowQ[q] = aqq + (t * apq);
        rowP[q] = 0;
        rowQ[p] = 0;
        for (int k = 0; k < size; k++)
        {
            a[(k * pitch) + p] = rowP[k];
            a[(k * pitch) + q] = rowQ[k];
        }
    }

    // Rows are padded to whole vectors; what the padding holds does not matter.
    private static void RotateRows(double* p, double* q, int size, double c, double s)
    {
        Vector512<double> cosine = Vector512.Create(c);
        Vector512<double> sine = Vector512.Create(s);
        for (nint k = 0; k < size; k += Simd.Lanes)
        {
            Vector512<double> x = Vector512.Load(p + k);
            Vector512<double> y = Vector512.Load(q + k);
            ((cosine * x) - (sine * y)).Store(p + k);
            ((sine * x) + (cosine * y)).Store(q + k);
        }
    }

    private static bool Library(double* a, int size, nint pitch, double* v, double* values)
    {
        Matrix<double> symmetric = Matrix<double>.Build.Dense(size, size, (i, j) => 0.5 * (a[(i * pitch) + j] + a[(j * pitch) + i]));
        try
        {
            var decomposition = symmetric.Evd(Symmetricity.Symmetric);
            for (int i = 0; i < size; i++)
            {
                values[i] = decomposition.EigenValues[i].Real;
                for (int j = 0; j < size; j++)
                {
                    v[(i * pitch) + j] = decomposition.EigenVectors[j, i];
                }
            }

            return true;
        }
        catch (NonConvergenceException)
        {
            return false;
        }
    }
}
