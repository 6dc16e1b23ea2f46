using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <content>Eigenvalues and eigenvectors of a diagonal matrix plus a rank-one matrix.</content>
internal static unsafe partial class SymmetricEigen
{
    // For one root; four are usual, and bisection alone needs about 110.
    private const int MaximumSteps = 200;

    /// <summary>The secular function at one point, and its two sides: poles below and poles above.</summary>
    private struct SecularValue
    {
        /// <summary>1 / rho + Below + Above.</summary>
        public double Value;

        public double Below;
        public double Above;

        /// <summary>Derivatives of the two sides.</summary>
        public double BelowSlope;
        public double AboveSlope;

        public readonly double Slope => BelowSlope + AboveSlope;
    }

    /// <summary>Eigenvalues (into workspace.Sorted) and eigenvectors (rows of workspace.Small) of diag(poles) + rho z z^T.</summary>
    /// <remarks>
    /// Root j of f(t) = 1/rho + sum of z[i]^2 / (pole[i] - t) lies between sorted poles j and j + 1. It is found as a distance from the nearer pole, so that all
    /// pole[i] - root keep their digits. Eigenvectors are then taken for the z that has exactly these roots (Loewner's formula), which
    /// makes them orthogonal however close the roots are (Gu and Eisenstat 1995).
    /// </remarks>
    private static bool SolveSecular(Workspace workspace, nint pitch, nint kept, double rho)
    {
        double squares = 0;
        for (nint i = 0; i < kept; i++)
        {
            squares = Math.FusedMultiplyAdd(workspace.Weights[i], workspace.Weights[i], squares);
        }

        double* corrected = workspace.Corrected;
        double* roots = workspace.Z;
        for (nint j = 0; j < kept; j++)
        {
            double* row = workspace.Small + (j * pitch);
            double upper = j == kept - 1 ? rho * squares * (1 + (8 * Precision)) : workspace.Sorted[j + 1] - workspace.Sorted[j];
            if (!Root(workspace, row, kept, j, rho, upper, out roots[j]))
            {
                return false;
            }
        }

        // Reads the sorted poles, whose place the roots then take.
        Correct(workspace, pitch, kept, corrected);
        for (nint j = 0; j < kept; j++)
        {
            Normalize(workspace.Small + (j * pitch), corrected, kept);
            workspace.Sorted[j] = roots[j];
        }

        return true;
    }

    /// <summary>Root j, and in row the differences pole[i] - root.</summary>
    /// <remarks>
    /// Each side of f is replaced by r + s / (nearest pole - t) with f's value and slope at the present point (Bunch, Nielsen and Sorensen
    /// 1978), which is then solved; a bracket catches steps that leave it.
    /// </remarks>
    private static bool Root(Workspace workspace, double* row, nint kept, nint j, double rho, double gap, out double root)
    {
        double* sorted = workspace.Sorted;
        bool last = j == kept - 1;
        double weight = workspace.Weights[workspace.Position[j]];
        double origin = sorted[j];
        double middle = 0.5 * gap;
        SecularValue f = Evaluate(workspace, row, kept, origin, middle, rho);

        // The two nearest poles exactly, all others as they are in the middle.
        double nearest = weight * weight;
        double next = 0;
        double rest = f.Value + (nearest / middle);
        if (!last)
        {
            double nextWeight = workspace.Weights[workspace.Position[j + 1]];
            next = nextWeight * nextWeight;
            rest -= next / middle;
        }

        double low = 0;
        double high = last ? gap : middle;
        double toNearest = 0;
        double toNext = gap;
        if (!last && f.Value < 0)
        {
            origin = sorted[j + 1];
            low = -middle;
            high = 0;
            toNearest = -gap;
            toNext = 0;
        }

        double t = last
            ? nearest / rest
            : Quadratic(rest, (rest * (toNearest + toNext)) + nearest + next, (rest * toNearest * toNext) + (nearest * toNext) + (next * toNearest));
        for (int step = 0; step < MaximumSteps; step++)
        {
            if (!(t > low && t < high))
            {
                t = low + (0.5 * (high - low));
            }

            f = Evaluate(workspace, row, kept, origin, t, rho);
            root = origin + t;
            double uncertainty = (8 * (f.Above - f.Below)) + (2 / rho) + (Math.Abs(t) * f.Slope);
            if (Math.Abs(f.Value) <= Precision * uncertainty || high - low <= 2 * Precision * Math.Abs(t))
            {
                return true;
            }

            low = f.Value < 0 ? t : low;
            high = f.Value < 0 ? high : t;
            double first = toNearest - t;
            double second = toNext - t;
            double move = last
                ? first * f.Value / (f.Value - (first * f.Slope))
                : Quadratic(
                    f.Value - (first * f.BelowSlope) - (second * f.AboveSlope),
                    ((first + second) * f.Value) - (first * second * f.Slope),
                    first * second * f.Value);
            if (!(move * f.Value < 0))
            {
                move = -f.Value / f.Slope;
            }

            double moved = t + move;
            if (moved == t)
            {
                return true;
            }

            t = moved;
        }

        root = double.NaN;
        return false;
    }

    // The root of c x^2 - a x + b = 0 that stays finite as c vanishes; Abs because rounding may take a double root's discriminant below 0.
    private static double Quadratic(double c, double a, double b)
    {
        double discriminant = Math.Sqrt(Math.Abs((a * a) - (4 * b * c)));
        return a <= 0 ? (a - discriminant) / (2 * c) : 2 * b / (a + discriminant);
    }

    // f at origin + t; row receives pole[i] - origin - t. Poles above the point have positive terms, poles below negative ones.
    private static SecularValue Evaluate(Workspace workspace, double* row, nint kept, double origin, double t, double rho)
    {
        Vector512<double> from = Vector512.Create(origin);
        Vector512<double> point = Vector512.Create(t);
        Vector512<double> below = default, above = default, belowSlope = default, slope = default;
        for (nint i = 0; i < kept; i += Simd.Lanes)
        {
            Vector512<double> distance = Vector512.Load(workspace.Poles + i) - from - point;
            distance.Store(row + i);
            Vector512<double> weight = Vector512.Load(workspace.Weights + i);
            Vector512<double> ratio = weight / distance;
            Vector512<double> term = weight * ratio;
            Vector512<double> square = ratio * ratio;
            below += Vector512.Min(term, default);
            above += Vector512.Max(term, default);
            slope += square;
            belowSlope += Vector512.ConditionalSelect(Vector512.LessThan(term, default), square, default);
        }

        var f = new SecularValue
        {
            Below = Simd.Sum(below),
            Above = Simd.Sum(above),
            BelowSlope = Simd.Sum(belowSlope),
        };
        f.AboveSlope = Simd.Sum(slope) - f.BelowSlope;
        f.Value = (1 / rho) + f.Below + f.Above;
        return f;
    }

    // z[i]^2 = product over j of (root[j] - pole[i]) / product over j other than i of (pole[j] - pole[i]), with the sign of the given z.
    private static void Correct(Workspace workspace, nint pitch, nint kept, double* corrected)
    {
        new Span<double>(corrected, (int)Simd.Padded(kept)).Fill(1);
        for (nint j = 0; j < kept; j++)
        {
            double* row = workspace.Small + (j * pitch);
            nint own = workspace.Position[j];
            double product = corrected[own] * row[own];
            Vector512<double> pole = Vector512.Create(workspace.Sorted[j]);
            for (nint i = 0; i < kept; i += Simd.Lanes)
            {
                Vector512<double> factor = Vector512.Load(row + i) / (Vector512.Load(workspace.Poles + i) - pole);
                (Vector512.Load(corrected + i) * factor).Store(corrected + i);
            }

            corrected[own] = product;
        }

        for (nint i = 0; i < Simd.Padded(kept); i++)
        {
            corrected[i] = i < kept ? Math.CopySign(Math.Sqrt(Math.Abs(corrected[i])), workspace.Weights[i]) : 0;
        }
    }

    // From differences to the eigenvector z[i] / (pole[i] - root), of norm 1.
    private static void Normalize(double* row, double* corrected, nint kept)
    {
        Vector512<double> squares = default;
        for (nint i = 0; i < kept; i += Simd.Lanes)
        {
            Vector512<double> entry = Vector512.Load(corrected + i) / Vector512.Load(row + i);
            entry.Store(row + i);
            squares = Vector512.FusedMultiplyAdd(entry, entry, squares);
        }

        Vector512<double> norm = Vector512.Create(Math.Sqrt(Simd.Sum(squares)));
        for (nint i = 0; i < kept; i += Simd.Lanes)
        {
            (Vector512.Load(row + i) / norm).Store(row + i);
        }
    }
}
