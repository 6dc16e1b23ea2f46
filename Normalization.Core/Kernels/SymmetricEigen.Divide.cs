using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <content>Divide and conquer on the tridiagonal matrix.</content>
internal static unsafe partial class SymmetricEigen
{
    // Blocks up to this size are left to implicit QL: 16 and 24 measure alike, 32 and more are slower.
    private const int Leaf = 24;

    // What may be dropped beside the largest entry of T; the factor is LAPACK's.
    private const double Deflation = 8 * Precision;

    private const int BothHalves = 3;

    /// <summary>Eigenvalues of T's rows first..end, and its eigenvectors in the rows and columns first..end of vectors, which must be zero before.</summary>
    /// <remarks>
    /// T is two tridiagonal halves plus rho z z^T in the eigenvectors of those halves (Cuppen 1981). Halves meet at whole vectors, so that
    /// products need not mind edges. Workspace.Order says where eigenvalues stand in ascending order.
    /// </remarks>
    private static bool Divide(double* vectors, nint pitch, double* values, Workspace workspace, nint first, nint end, double norm)
    {
        nint count = end - first;
        if (count <= Leaf)
        {
            bool converged = ImplicitQl(vectors, pitch, values, workspace, first, end, norm);
            SortRows(workspace.Order + first, values, first, count);
            return converged;
        }

        // What the coupling takes from the two diagonal entries beside it, the rank-one change of the merge gives back.
        nint middle = first + Simd.Padded(count / 2);
        double coupling = workspace.OffDiagonal[middle - 1];
        values[middle - 1] -= Math.Abs(coupling);
        values[middle] -= Math.Abs(coupling);
        workspace.OffDiagonal[middle - 1] = 0;
        return Divide(vectors, pitch, values, workspace, first, middle, norm)
            && Divide(vectors, pitch, values, workspace, middle, end, norm)
            && Merge(vectors, pitch, values, workspace, first, middle, end, coupling, norm);
    }

    private static bool Merge(double* vectors, nint pitch, double* values, Workspace workspace, nint first, nint middle, nint end, double coupling, double norm)
    {
        nint count = end - first;
        double* z = workspace.Z;
        double other = Math.CopySign(Math.Sqrt(0.5), coupling);
        for (nint i = first; i < end; i++)
        {
            // The last entries of the upper half's eigenvectors and the first of the lower half's, of norm 1 together.
            z[i] = i < middle ? Math.Sqrt(0.5) * vectors[(i * pitch) + middle - 1] : other * vectors[(i * pitch) + middle];
            workspace.Half[i] = i < middle ? 1 : 2;
        }

        nint* rows = workspace.Rows;
        MergeOrders(workspace.Order + first, middle - first, workspace.Order + middle, end - middle, values, rows);
        double rho = 2 * Math.Abs(coupling);
        nint kept = Deflate(vectors, pitch, values, workspace, first, end, rho, Deflation * norm);
        if (kept > 0)
        {
            nint upper = Group(workspace, values, z, rows, kept, rho, out nint lower);
            if (!SolveSecular(workspace, Simd.Padded(count), kept, rho))
            {
                return false;
            }

            Multiply(vectors, pitch, values, workspace, first, middle, end, kept, upper, lower);
        }

        // Kept eigenvalues now stand in rows first.., deflated ones behind them, both ascending.
        for (nint i = 0; i < count; i++)
        {
            rows[i] = kept > 0 ? first + i : rows[i];
        }

        MergeOrders(rows, kept, rows + kept, count - kept, values, workspace.Order + first);
        return true;
    }

    /// <summary>Sets aside rows that the rank-one change leaves as they are; returns how many remain, in the front of workspace.Rows.</summary>
    /// <remarks>Two poles so close that rotating one's weight into the other costs less than the tolerance lose one of them the same way.</remarks>
    private static nint Deflate(double* vectors, nint pitch, double* values, Workspace workspace, nint first, nint end, double rho, double tolerance)
    {
        double* z = workspace.Z;
        nint* rows = workspace.Rows;
        nint* deflated = workspace.Position;
        nint kept = 0;
        nint dropped = 0;
        nint pending = -1;
        for (nint k = 0; k < end - first; k++)
        {
            nint row = rows[k];
            if (rho * Math.Abs(z[row]) <= tolerance)
            {
                deflated[dropped++] = row;
                continue;
            }

            if (pending >= 0)
            {
                double weight = Hypotenuse(z[row], z[pending]);
                double cosine = z[row] / weight;
                double sine = -z[pending] / weight;
                if (Math.Abs((values[row] - values[pending]) * cosine * sine) <= tolerance)
                {
                    RotatePair(vectors + (pending * pitch), vectors + (row * pitch), first, end, cosine, sine);
                    double low = values[pending];
                    double high = values[row];
                    values[pending] = (low * cosine * cosine) + (high * sine * sine);
                    values[row] = (low * sine * sine) + (high * cosine * cosine);
                    z[row] = weight;
                    workspace.Half[row] |= workspace.Half[pending];
                    deflated[dropped++] = pending;
                }
                else
                {
                    rows[kept++] = pending;
                }
            }

            pending = row;
        }

        if (pending >= 0)
        {
            rows[kept++] = pending;
        }

        SortRows(deflated, values, dropped);
        new Span<nint>(deflated, (int)dropped).CopyTo(new Span<nint>(rows + kept, (int)dropped));
        return kept;
    }

    // (p, q) = (c p + s q, c q - s p)
    private static void RotatePair(double* p, double* q, nint first, nint end, double cosine, double sine)
    {
        Vector512<double> c = Vector512.Create(cosine), s = Vector512.Create(sine);
        for (nint j = first; j < end; j += Simd.Lanes)
        {
            Vector512<double> x = Vector512.Load(p + j), y = Vector512.Load(q + j);
            Vector512.FusedMultiplyAdd(c, x, s * y).Store(p + j);
            Vector512.FusedMultiplyAdd(c, y, -(s * x)).Store(q + j);
        }
    }

    // Poles and weights in groups: upper half only, both, lower half only. Returns how many have an upper half, and how many a lower one.
    private static nint Group(Workspace workspace, double* values, double* z, nint* rows, nint kept, double rho, out nint lower)
    {
        nint position = 0;
        nint upper = 0;
        lower = kept;
        foreach (nint half in (ReadOnlySpan<nint>)[1, BothHalves, 2])
        {
            for (nint j = 0; j < kept; j++)
            {
                if (workspace.Half[rows[j]] == half)
                {
                    workspace.Position[j] = position;
                    workspace.Poles[position] = values[rows[j]];
                    workspace.Weights[position] = z[rows[j]];
                    position++;
                }
            }

            upper = half == 2 ? upper : position;
            lower = half == 1 ? kept - position : lower;
        }

        for (nint j = 0; j < kept; j++)
        {
            workspace.Sorted[j] = values[rows[j]];
        }

        // Lanes without a pole: no weight, and at a distance from all others.
        for (nint j = kept; j < Simd.Padded(kept); j++)
        {
            workspace.Poles[j] = workspace.Sorted[kept - 1] + (2 * rho) + 1;
            workspace.Weights[j] = 0;
        }

        return upper;
    }

    // New rows = small eigenvectors times old rows, half by half, as the old rows are zero outside their own.
    private static void Multiply(
        double* vectors, nint pitch, double* values, Workspace workspace, nint first, nint middle, nint end, nint kept, nint upper, nint lower)
    {
        nint count = end - first;
        nint smallPitch = Simd.Padded(count);
        nint upperWidth = middle - first;
        nint lowerWidth = smallPitch - upperWidth;
        double* upperRows = workspace.Gathered;
        double* lowerRows = upperRows + (upper * upperWidth);
        double* deflatedRows = lowerRows + (lower * lowerWidth);
        for (nint j = 0; j < kept; j++)
        {
            nint position = workspace.Position[j];
            double* row = vectors + (workspace.Rows[j] * pitch);
            if (position < upper)
            {
                Copy(row + first, upperRows + (position * upperWidth), upperWidth);
            }

            if (position >= kept - lower)
            {
                Copy(row + middle, lowerRows + ((position - kept + lower) * lowerWidth), lowerWidth);
            }
        }

        for (nint j = kept; j < count; j++)
        {
            Copy(vectors + (workspace.Rows[j] * pitch) + first, deflatedRows + ((j - kept) * smallPitch), smallPitch);
            workspace.Z[j] = values[workspace.Rows[j]];
        }

        for (nint j = 0; j < count; j++)
        {
            double* row = vectors + ((first + j) * pitch) + first;
            if (j < kept)
            {
                new Span<double>(row, (int)smallPitch).Clear();
                values[first + j] = workspace.Sorted[j];
            }
            else
            {
                Copy(deflatedRows + ((j - kept) * smallPitch), row, smallPitch);
                values[first + j] = workspace.Z[j];
            }
        }

        double* corner = vectors + (first * pitch);
        var left = new LeftOperand<double>(workspace.Small, smallPitch, 1);
        var lowerLeft = new LeftOperand<double>(workspace.Small + kept - lower, smallPitch, 1);
        MatrixProduct.Add(corner + first, pitch, kept, upperWidth, upper, left, upperRows, upperWidth, workspace.Strip);
        MatrixProduct.Add(corner + middle, pitch, kept, lowerWidth, lower, lowerLeft, lowerRows, lowerWidth, workspace.Strip);
    }

    private static void Copy(double* source, double* destination, nint count) =>
        new Span<double>(source, (int)count).CopyTo(new Span<double>(destination, (int)count));

    // Two lists of rows, each in the order of rising values, as one.
    private static void MergeOrders(nint* left, nint leftCount, nint* right, nint rightCount, double* values, nint* merged)
    {
        nint i = 0;
        nint j = 0;
        while (i + j < leftCount + rightCount)
        {
            bool takeLeft = j == rightCount || (i < leftCount && values[left[i]] <= values[right[j]]);
            merged[i + j] = takeLeft ? left[i++] : right[j++];
        }
    }

    private static void SortRows(nint* order, double* values, nint first, nint count)
    {
        for (nint i = 0; i < count; i++)
        {
            order[i] = first + i;
        }

        SortRows(order, values, count);
    }

    // By insertion: few rows, or nearly in order.
    private static void SortRows(nint* order, double* values, nint count)
    {
        for (nint i = 1; i < count; i++)
        {
            nint row = order[i];
            nint j = i;
            for (; j > 0 && values[order[j - 1]] > values[row]; j--)
            {
                order[j] = order[j - 1];
            }

            order[j] = row;
        }
    }
}
