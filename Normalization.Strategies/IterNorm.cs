using System.Globalization;
using System.Numerics;
using System.Runtime.Intrinsics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="IterNorm{T}"/>.</summary>
public sealed record IterNormOptions : WhiteningOptions
{
    /// <summary>The defaults.</summary>
    public IterNormOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every whitening strategy has.</param>
    public IterNormOptions(WhiteningOptions options)
        : base(options)
    {
    }

    /// <summary>T, the Newton-Schulz steps, 0 to 100. Default 5, as in the paper; 0 divides by the root of the total variance alone.</summary>
    public int Iterations { get; init; } = 5;
}

/// <summary>IterNorm: whitening towards ZCA by a few Newton-Schulz steps, matrix products alone.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>With t = tr(S): Y = S/t, Z = I; T times R = (3I - Z Y)/2, Y = Y R, Z = R Z; W = Z/sqrt(t). Forward, backward and state:
/// <see cref="WhiteningNormalizer{T}"/>. This coupled form has the paper's W in exact arithmetic; the paper's recursion P = (3P - P^3 S/t)/2
/// multiplies rounding errors in every step where the condition number exceeds 2.5, and this one does not.</para>
/// <para>Along an eigenvector the output's deviation, of S, is y_T with y_0 = sqrt(l/t) and y = y (3 - y^2)/2: it grows by half a step while it is
/// small and reaches 1 from below. T = 5 whitens variances above about t/16 and leaves smaller ones smaller, which keeps their noise down; as T
/// grows the limit is ZCA. W's condition number is at most 1.5^T.</para>
/// <para>Gradient: exact for every T, that of the polynomial and not of its limit; see <see cref="NewtonSchulz"/>. No pole at equal eigenvalues.</para>
/// <para>Source: Huang, Zhou, Zhu, Liu and Shao 2019, arXiv:1904.03441; the coupled form: Higham, Functions of Matrices, 2008, section 6.3. The
/// authors' code averages W for inference (<see cref="WhiteningRunning.WhiteningMatrix"/>); the default here keeps the covariance. d = 1 is batch
/// normalization for every T.</para>
/// </remarks>
public sealed class IterNorm<T> : WhiteningNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int MostIterations = 100;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The group size does not divide C, or an option is out of range.</exception>
    public IterNorm(int channels, IterNormOptions? options = null)
        : base(channels, options ?? new IterNormOptions(), NewtonSchulz.Saved(RequireIterations(options)), NewtonSchulz.Kept(RequireIterations(options)))
    {
        Iterations = RequireIterations(options);
    }

    /// <summary>T.</summary>
    public int Iterations { get; }

    /// <inheritdoc/>
    public override NormalizerClaims Claims => base.Claims | (IsWhole ? NormalizerClaims.RotationEquivariance : NormalizerClaims.None);

    private protected override string SingularityFollows => "";

    private protected override void ComputeMatrices(WhiteningStatistics statistics, int groups, Regularization regularization) =>
        WhiteningMatrices.Compute(new NewtonSchulz(Iterations), statistics, groups, GroupSize, regularization);

    private protected override unsafe void DifferentiateMatrices(
        WhiteningStatistics statistics, int groups, Regularization regularization, double* gradients, double factor) =>
        WhiteningMatrices.Differentiate(new NewtonSchulz(Iterations), statistics, groups, GroupSize, regularization, gradients, factor);

    private protected override void RequireCovariance(int group, Spectrum spectrum)
    {
        if (spectrum.Greatest <= 0)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                $"{Name}: the covariance of channel group {group} has the trace {spectrum.Greatest:g3}, by which it would be divided. Use an epsilon above 0 or an input that varies."));
        }

        if (!spectrum.Converged)
        {
            throw new InvalidOperationException(
                $"{Name}: {Iterations} Newton-Schulz steps on the covariance of channel group {group} gave no finite matrix: it is no covariance. Check the running_covariance that was loaded.");
        }
    }

    private static int RequireIterations(IterNormOptions? options)
    {
        int iterations = (options ?? new IterNormOptions()).Iterations;
        return iterations is >= 0 and <= MostIterations ? iterations : throw new ArgumentException(
            $"The number of Newton-Schulz iterations must be in [0, {MostIterations}]; got {iterations}. From about 20 on the result is ZCA's: use ZcaWhitening for that.",
            nameof(options));
    }
}

/// <summary>W = p_T(S/t)/sqrt(t), t = tr(S), by T coupled Newton-Schulz steps. Saved: Y, Z and R of every step, and t.</summary>
/// <remarks>
/// <para>Y R = (3Y - YZY)/2 and R Z = (3Z - ZYZ)/2 are symmetric whatever symmetric Y and Z are: half of such a product is multiplied and the rest
/// copied. Z Y is symmetric in exact arithmetic alone, and with half of it copied the iteration would no longer be stable.</para>
/// <para>Gradient: the derivative of a polynomial at a symmetric matrix is self-adjoint, hence dL/d(S/t) is the derivative of Z in the direction
/// sym(dL/dW)/sqrt(t). The steps are differentiated going forward again, dR = -(dZ Y + Z dY)/2, dY = dY R + Y dR, dZ = dR Z + R dZ, of which the last
/// two are symmetric again; going back none would be. Then t: dL/dS = dZ/t - (tr(dZ S/t) + tr((dL/dW) W)/2)/t I.</para>
/// </remarks>
internal readonly unsafe struct NewtonSchulz(int iterations) : IWhiteningMatrix
{
    private const int OfStep = 3; // Y, Z, R

    // 1.5^6 is 11.4, the square root of the largest condition number for float products 16.
    private const double Growth = 1.5;

    /// <summary>Matrices that the gradient of so many steps wants.</summary>
    public static int Saved(int iterations) => OfStep * iterations;

    /// <summary>Matrices that W alone wants: of the last two steps.</summary>
    public static int Kept(int iterations) => OfStep * Math.Min(iterations, 2);

    public nint WorkSize(int size) => 5 * WhiteningStatistics.MatrixSize(size);

    public Spectrum Compute(in WhiteningGroup group, double* sigma, double epsilon, double* work)
    {
        double trace = 0;
        for (int i = 0; i < group.Size; i++)
        {
            trace += sigma[(i * group.Pitch) + i];
        }

        group.Values[0] = trace;
        double inverseRoot = 1 / Math.Sqrt(trace);
        if (iterations == 0)
        {
            Set(group, group.Matrix, 0, sigma, inverseRoot);
            return new Spectrum(double.NaN, trace, 1, double.NaN, Converged: true);
        }

        Set(group, Y(group, 0), 1 / trace, sigma, 0);
        double largest = LargestRowSum(group, Y(group, 0));
        for (int step = 0; step < iterations; step++)
        {
            double* y = Y(group, step);
            double* z = Z(group, step); // of the first step I, and not stored
            double* r = R(group, step);
            if (step > 0)
            {
                group.Multiply(r, group.Rows(z), y);
            }

            Set(group, r, -0.5, step > 0 ? r : y, 1.5);
            bool isLast = step == iterations - 1;
            double* next = isLast ? group.Matrix : Z(group, step + 1);
            if (step > 0)
            {
                group.Multiply(next, group.Rows(r), z, symmetric: true);
            }
            else
            {
                Set(group, next, 1, r, 0);
            }

            if (!isLast)
            {
                group.Multiply(Y(group, step + 1), group.Rows(y), r, symmetric: true);
            }
        }

        Set(group, group.Matrix, inverseRoot, group.Matrix, 0);
        double bound = LargestRowSum(group, group.Matrix);
        double condition = Math.Min(Math.Pow(Growth, iterations), bound / (inverseRoot * Slowest(largest)));
        return new Spectrum(double.NaN, trace, condition * condition, double.NaN, Converged: double.IsFinite(bound));
    }

    public void Differentiate(in WhiteningGroup group, double* gradient, double* work)
    {
        nint matrix = WhiteningStatistics.MatrixSize(group.Size);
        double trace = group.Values[0];
        double* dy = work;
        double* dz = work + matrix;
        double* dr = work + (2 * matrix);
        double* nextY = work + (3 * matrix);
        double* nextZ = work + (4 * matrix);
        double ofScale = 0.5 * Dot(group, gradient, group.Matrix);
        if (iterations == 0)
        {
            Set(group, gradient, 0, gradient, -ofScale / trace);
            return;
        }

        Symmetrize(group, gradient, 1 / Math.Sqrt(trace), dy);
        for (int step = 0; step < iterations; step++)
        {
            double* y = Y(group, step);
            double* z = Z(group, step);
            double* r = R(group, step);
            bool isLast = step == iterations - 1;
            if (step > 0)
            {
                group.Multiply(dr, group.Rows(dz), y, group.Rows(z), dy);
                Set(group, dr, -0.5, dr, 0);
                group.Multiply(nextZ, group.Rows(dr), z, group.Rows(r), dz, symmetric: true);
            }
            else
            {
                Set(group, dr, -0.5, dy, 0);
                Set(group, nextZ, 1, dr, 0);
            }

            if (!isLast)
            {
                group.Multiply(nextY, group.Rows(dy), r, group.Rows(y), dr, symmetric: true);
            }

            double* before = dy;
            dy = nextY;
            nextY = before;
            before = dz;
            dz = nextZ;
            nextZ = before;
        }

        double ofTrace = Dot(group, dz, Y(group, 0)) + ofScale;
        Set(group, gradient, 1 / trace, dz, -ofTrace / trace);
    }

    // Where nothing but W is wanted the steps take turns.
    private static double* OfMatrix(in WhiteningGroup group, int step, int which) =>
        group.Saved((step % (group.SavedMatrices / OfStep) * OfStep) + which);

    private static double* Y(in WhiteningGroup group, int step) => OfMatrix(group, step, 0);

    private static double* Z(in WhiteningGroup group, int step) => OfMatrix(group, step, 1);

    private static double* R(in WhiteningGroup group, int step) => OfMatrix(group, step, 2);

    // p_T(s) decreases from 1.5^T at 0 to 1 at 1, so that its value at a bound of the largest eigenvalue is a bound from below.
    private double Slowest(double largest)
    {
        double s = Math.Min(largest, 1);
        double p = 1;
        for (int step = 0; step < iterations; step++)
        {
            p *= 0.5 * (3 - (p * p * s));
        }

        return p;
    }

    // result = factor * matrix + diagonal * I; whole rows, padding and all.
    private static void Set(in WhiteningGroup group, double* result, double factor, double* matrix, double diagonal)
    {
        for (int i = 0; i < group.Size; i++)
        {
            double* row = matrix + (i * group.Pitch);
            double* to = result + (i * group.Pitch);
            for (nint j = 0; j < group.Pitch; j += Simd.Lanes)
            {
                (factor * Vector512.Load(row + j)).Store(to + j);
            }

            to[i] += diagonal;
        }
    }

    private static void Symmetrize(in WhiteningGroup group, double* matrix, double factor, double* result)
    {
        for (int i = 0; i < group.Size; i++)
        {
            for (int j = 0; j < group.Size; j++)
            {
                result[(i * group.Pitch) + j] = factor * (0.5 * (matrix[(i * group.Pitch) + j] + matrix[(j * group.Pitch) + i]));
            }
        }
    }

    private static double Dot(in WhiteningGroup group, double* a, double* b)
    {
        Vector512<double> sum = default;
        for (int i = 0; i < group.Size; i++, a += group.Pitch, b += group.Pitch)
        {
            for (nint j = 0; j < group.Size; j += Simd.Lanes)
            {
                nint count = Math.Min(group.Size - j, Simd.Lanes);
                sum = Simd.MultiplyAdd(Simd.LoadPart<double, double>(a + j, count, default), Simd.LoadPart<double, double>(b + j, count, default), sum);
            }
        }

        return Simd.Sum(sum);
    }

    private static double LargestRowSum(in WhiteningGroup group, double* matrix)
    {
        double largest = 0;
        for (int i = 0; i < group.Size; i++, matrix += group.Pitch)
        {
            Vector512<double> sum = default;
            for (nint j = 0; j < group.Size; j += Simd.Lanes)
            {
                sum += Vector512.Abs(Simd.LoadPart<double, double>(matrix + j, Math.Min(group.Size - j, Simd.Lanes), default));
            }

            largest = Math.Max(largest, Simd.Sum(sum));
        }

        return largest;
    }
}

/// <summary>The catalog's view of <see cref="IterNorm{T}"/>.</summary>
internal readonly struct IterNormStrategy : IStrategy
{
    public static string Id => "iter-norm";

    public static string Axes => "the covariance of all channels (or of each channel group), over all samples and positions";

    public static IReadOnlyList<string> Tensors => WhiteningOptions.Tensors;

    public static string Options(StrategySettings settings) => string.Create(CultureInfo.InvariantCulture,
        $"{settings.Iterations} iterations, {settings.Whitening()}");

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new IterNorm<T>(shape.Channels, new IterNormOptions(settings.ToWhiteningOptions()) { Iterations = settings.Iterations });
}

/// <content>Options of <see cref="IterNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>iter-norm: Newton-Schulz steps T. Default 5.</summary>
    [Setting("--iterations", "iter-norm: Newton-Schulz steps. Default 5.", Placeholder = "T", Maximum = 100)]
    public int Iterations { get; init; } = 5;
}
