using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>Eigenvalues and eigenvectors of a symmetric matrix in double, on the calling thread, in memory the caller brings.</summary>
/// <remarks>
/// <para>Route: Householder reflections to tridiagonal form (Reduction), divide and conquer on the tridiagonal matrix
/// (Divide, with its roots in Secular and small blocks in ImplicitQl), then the reflections applied to its eigenvectors (Reduction).</para>
/// <para>Cost: about 4/3 n^3 flops each for reduction and merges (less where eigenvalues deflate) and 2 n^3 for the way back, nearly all of it in
/// matrix products (MatrixProduct) except half of the reduction, which reads the matrix once for each row.</para>
/// <para>Accuracy: residual and loss of orthogonality of a few n * 2^-52, relative to the largest eigenvalue. Nothing depends on time or threads:
/// the same input gives the same bits.</para>
/// <para>Source: Golub and Van Loan, Matrix Computations, chapters 5 and 8; Dongarra, Sorensen and Hammarling 1989 (delayed updates of the
/// reduction); Cuppen 1981 (divide and conquer); Gu and Eisenstat 1995 (eigenvectors that stay orthogonal).</para>
/// </remarks>
internal static unsafe partial class SymmetricEigen
{
    private const double Precision = 2.220446049250313e-16;

    /// <summary>Doubles of working memory that <see cref="Decompose"/> takes for a size and rows that lie pitch apart.</summary>
    public static nint WorkSize(int size, nint pitch) => Workspace.Size(size, pitch);

    /// <summary>Decomposes A = V^T diag(values) V: row i of vectors is the eigenvector of values[i], ascending.</summary>
    /// <remarks>
    /// A is finite and symmetric (its lower triangle is read) and is overwritten; rows of both matrices lie
    /// pitch apart (whole vectors, at least size), and what the padding of A holds does not matter. False: an iteration did not converge, and
    /// vectors and values hold nothing of use.
    /// </remarks>
    public static bool Decompose(double* matrix, int size, nint pitch, double* vectors, double* values, double* work)
    {
        var workspace = new Workspace(work, size, pitch);
        double scale = Scale(matrix, size, pitch);
        Reduce(matrix, size, pitch, values, workspace);
        double norm = 0; // T's largest entry
        for (nint i = 0; i < size; i++)
        {
            norm = Math.Max(norm, Math.Max(Math.Abs(values[i]), Math.Abs(workspace.OffDiagonal[i])));
        }

        new Span<double>(vectors, checked((int)(size * pitch))).Clear();
        if (!Divide(vectors, pitch, values, workspace, 0, size, norm))
        {
            return false;
        }

        Sort(vectors, size, pitch, values, workspace);
        BackTransform(matrix, size, pitch, vectors, workspace);
        for (nint i = 0; i < size; i++)
        {
            values[i] *= scale;
        }

        return true;
    }

    // The lower triangle with entries of at most 1, so that squares neither overflow nor vanish; 8 x 8 blocks on the diagonal whole, zero beyond.
    private static double Scale(double* a, int size, nint pitch)
    {
        double largest = 0;
        for (nint i = 0; i < size; i++)
        {
            double* row = a + (i * pitch);
            nint block = i & -Simd.Lanes;
            Vector512<double> most = default;
            for (nint j = 0; j < block; j += Simd.Lanes)
            {
                most = Vector512.Max(most, Vector512.Abs(Vector512.Load(row + j)));
            }

            for (nint lane = 0; lane < Simd.Lanes; lane++)
            {
                largest = Math.Max(largest, Math.Max(most.GetElement((int)lane), block + lane <= i ? Math.Abs(row[block + lane]) : 0));
            }
        }

        double scale = largest == 0 ? 1 : largest;
        Vector512<double> divisor = Vector512.Create(scale);
        for (nint i = 0; i < size; i++)
        {
            double* row = a + (i * pitch);
            nint block = i & -Simd.Lanes;
            for (nint j = 0; j < block; j += Simd.Lanes)
            {
                (Vector512.Load(row + j) / divisor).Store(row + j);
            }

            new Span<double>(row + i + 1, (int)(pitch - i - 1)).Clear();
            for (nint j = block; j <= i; j++)
            {
                row[j] /= scale;
                a[(j * pitch) + i] = row[j];
            }
        }

        return scale;
    }

    // Merges leave eigenvalues where they are and say their order; here they are put into it.
    private static void Sort(double* vectors, int size, nint pitch, double* values, Workspace workspace)
    {
        for (nint i = 0; i < size; i++)
        {
            nint from = workspace.Order[i];
            workspace.Poles[i] = values[from];
            new Span<double>(vectors + (from * pitch), (int)pitch).CopyTo(new Span<double>(workspace.Gathered + (i * pitch), (int)pitch));
        }

        new Span<double>(workspace.Poles, size).CopyTo(new Span<double>(values, size));
        Buffer.MemoryCopy(workspace.Gathered, vectors, size * pitch * sizeof(double), size * pitch * sizeof(double));
    }

    /// <summary>The parts of the caller's working memory; phases that follow each other share them.</summary>
    private readonly struct Workspace
    {
        private const int Arrays = 11;

        /// <summary>T's off-diagonal: entry i lies between i and i + 1; entry size - 1 is 0.</summary>
        public readonly double* OffDiagonal;

        /// <summary>Reflection factors: the reflection of row i is I - tau[i] v v^T.</summary>
        public readonly double* Tau;

        /// <summary>A merge's rank-one vector, by row, then its roots; in the reduction, products with a panel's rows.</summary>
        public readonly double* Z;

        /// <summary>The kept poles of a merge in ascending order.</summary>
        public readonly double* Sorted;

        /// <summary>The kept poles of a merge in the order of its groups; padded to whole vectors.</summary>
        public readonly double* Poles;

        /// <summary>The rank-one vector at <see cref="Poles"/>.</summary>
        public readonly double* Weights;

        /// <summary>The rank-one vector that has the computed roots exactly.</summary>
        public readonly double* Corrected;

        /// <summary>For each block of a division, rows of its eigenvalues in ascending order.</summary>
        public readonly nint* Order;

        /// <summary>A merge's rows, first all in ascending order, then kept ones and behind them deflated ones.</summary>
        public readonly nint* Rows;

        /// <summary>Which of the two halves a row of a merge lives in: 1, 2, or 3 for both.</summary>
        public readonly nint* Half;

        /// <summary>Where a kept pole stands among the groups; before, the deflated rows.</summary>
        public readonly nint* Position;

        /// <summary>A merge's eigenvectors, one in each row; in the reduction and the way back, panels of reflections.</summary>
        public readonly double* Small;

        /// <summary>A merge's old rows, gathered by halves.</summary>
        public readonly double* Gathered;

        /// <summary>A strip of a product's right operand.</summary>
        public readonly double* Strip;

        public Workspace(double* work, int size, nint pitch)
        {
            OffDiagonal = work;
            Tau = work + pitch;
            Z = work + (2 * pitch);
            Sorted = work + (3 * pitch);
            Poles = work + (4 * pitch);
            Weights = work + (5 * pitch);
            Corrected = work + (6 * pitch);
            Order = (nint*)(work + (7 * pitch));
            Rows = (nint*)(work + (8 * pitch));
            Half = (nint*)(work + (9 * pitch));
            Position = (nint*)(work + (10 * pitch));
            Small = work + (Arrays * pitch);
            Gathered = Small + Matrix(size, pitch);
            Strip = Gathered + Matrix(size, pitch);
        }

        public static nint Size(int size, nint pitch) => (Arrays * pitch) + (2 * Matrix(size, pitch)) + MatrixProduct.StripSize;

        // A panel of reflections is held twice, and has a few square matrices beside it.
        private static nint Matrix(int size, nint pitch) => Math.Max(size, 4 * Panel) * Math.Max(pitch, Panel);
    }
}
