using System.Globalization;
using System.Numerics;
using System.Runtime.Intrinsics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="CholeskyWhitening{T}"/>.</summary>
public sealed record CholeskyWhiteningOptions : WhiteningOptions
{
    /// <summary>The defaults.</summary>
    public CholeskyWhiteningOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every whitening strategy has.</param>
    public CholeskyWhiteningOptions(WhiteningOptions options)
        : base(options)
    {
    }
}

/// <summary>Cholesky whitening, for contrast: each channel less what the channels before it tell of it, scaled to unit variance.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>S = L L^T with L lower triangular and a positive diagonal, W = L^(-1): output channel k depends on input channels 0 to k alone. Forward,
/// backward and state: <see cref="WhiteningNormalizer{T}"/>.</para>
/// <para>Why only for contrast: output and gradient depend on the order of the channels, which a network has no reason to give a meaning. There is
/// no eigen-decomposition and no pole.</para>
/// <para>Gradient: -sym(W^T P W), P the lower triangle of (dL/dW) W^T with half its diagonal. (With dL/dL = -tril(W^T (dL/dW) W^T) the usual
/// form tril(L^T dL/dL) is -tril((dL/dW) W^T): what is left out above the diagonal, L^T keeps there.)</para>
/// <para>Source: the factorization is in Golub and Van Loan, Matrix Computations, chapter 4; as a whitening in Kessy, Lewin and Strimmer, arXiv:1512.00809.</para>
/// </remarks>
public sealed class CholeskyWhitening<T> : WhiteningNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The group size does not divide C, or an option is out of range.</exception>
    public CholeskyWhitening(int channels, CholeskyWhiteningOptions? options = null)
        : base(channels, options ?? new CholeskyWhiteningOptions(), savedMatrices: 0)
    {
    }

    private protected override void ComputeMatrices(WhiteningStatistics statistics, int groups, Regularization regularization) =>
        WhiteningMatrices.Compute(default(InverseCholesky), statistics, groups, GroupSize, regularization);

    private protected override unsafe void DifferentiateMatrices(
        WhiteningStatistics statistics, int groups, Regularization regularization, double* gradients, double factor) =>
        WhiteningMatrices.Differentiate(default(InverseCholesky), statistics, groups, GroupSize, regularization, gradients, factor);

    private protected override string Describe(Spectrum spectrum) => string.Create(CultureInfo.InvariantCulture,
        $"pivots {spectrum.Smallest:g3} beside a variance of {spectrum.Greatest:g3}, condition number {spectrum.Greatest / spectrum.Smallest:g3} or more");
}

/// <summary>W = L^(-1), S = L L^T. Nothing is saved: the gradient wants W alone.</summary>
internal readonly unsafe struct InverseCholesky : IWhiteningMatrix
{
    public nint WorkSize(int size) => 2 * WhiteningStatistics.MatrixSize(size);

    public Spectrum Compute(in WhiteningGroup group, double* sigma, double epsilon, double* work)
    {
        double largest = 0;
        for (int i = 0; i < group.Size; i++)
        {
            largest = Math.Max(largest, sigma[(i * group.Pitch) + i]);
        }

        double norm = LargestRowSum(group, sigma);
        double smallest = Factorize(group, sigma, epsilon);
        Invert(group, sigma);

        // The largest row sum bounds the norm of a symmetric matrix: here S and its inverse.
        group.Multiply(work, group.Columns(group.Matrix), group.Matrix, symmetric: true);
        double condition = norm * LargestRowSum(group, work);
        return new Spectrum(smallest, largest, condition, double.NaN, Converged: true);
    }

    public void Differentiate(in WhiteningGroup group, double* gradient, double* work)
    {
        double* a = work;
        double* b = a + WhiteningStatistics.MatrixSize(group.Size);
        Transposition.Copy(group.Matrix, group.Size, group.Size, group.Pitch, a, group.Pitch);
        group.Multiply(b, group.Rows(gradient), a);
        for (int i = 0; i < group.Size; i++)
        {
            b[(i * group.Pitch) + i] *= 0.5;
            new Span<double>(b + (i * group.Pitch) + i + 1, group.Size - i - 1).Clear();
        }

        group.Multiply(a, group.Rows(b), group.Matrix);
        group.Multiply(b, group.Columns(group.Matrix), a);
        for (int i = 0; i < group.Size; i++)
        {
            for (int j = 0; j < group.Size; j++)
            {
                gradient[(i * group.Pitch) + j] = -0.5 * (b[(i * group.Pitch) + j] + b[(j * group.Pitch) + i]);
            }
        }
    }

    /// <summary>Whether no eigenvalue of a symmetric matrix, overwritten, is below -tolerance times its largest row sum, which bounds them all.</summary>
    /// <remarks>Adding that much to the diagonal makes every pivot positive then, and only then. A third of d^3 multiplications.</remarks>
    public static bool IsSemidefinite(in WhiteningGroup group, double* matrix, double tolerance)
    {
        double shift = tolerance * LargestRowSum(group, matrix);
        for (int i = 0; i < group.Size; i++)
        {
            matrix[(i * group.Pitch) + i] += shift;
        }

        return Factorize(group, matrix, epsilon: 0) >= 0;
    }

    // S becomes U = L^T in its upper triangle; rows are eliminated whole vectors at a time. Returns the least pivot.
    private static double Factorize(in WhiteningGroup group, double* s, double epsilon)
    {
        double smallest = double.PositiveInfinity;
        for (int k = 0; k < group.Size; k++)
        {
            double* row = s + (k * group.Pitch);
            double pivot = row[k];
            smallest = pivot < smallest ? pivot : smallest; // NaN follows a pivot that is none

            // No pivot is below the least eigenvalue, hence below epsilon, but for rounding.
            double root = 1 / Math.Sqrt(epsilon > 0 ? Math.Max(pivot, epsilon * (1 - 1e-6)) : pivot);
            Scale(row, root, k, group.Size);
            row[k] = 1 / root;
            for (int i = k + 1; i < group.Size; i++)
            {
                AddScaled(s + (i * group.Pitch), -row[i], row, i, group.Size);
            }
        }

        return smallest;
    }

    // Solves L W = I row by row, L^T = U.
    private static void Invert(in WhiteningGroup group, double* u)
    {
        new Span<double>(group.Matrix, (int)WhiteningStatistics.MatrixSize(group.Size)).Clear();
        for (int i = 0; i < group.Size; i++)
        {
            double* row = group.Matrix + (i * group.Pitch);
            row[i] = 1;
            for (int k = 0; k < i; k++)
            {
                AddScaled(row, -u[(k * group.Pitch) + i], group.Matrix + (k * group.Pitch), 0, k + 1);
            }

            Scale(row, 1 / u[(i * group.Pitch) + i], 0, i + 1);
        }
    }

    // Whole vectors, beyond first and last where they must: below the diagonal and in the padding nothing is read again.
    private static void AddScaled(double* result, double factor, double* values, int first, int last)
    {
        var by = Vector512.Create(factor);
        for (nint j = first & -Simd.Lanes; j < last; j += Simd.Lanes)
        {
            Simd.MultiplyAdd(by, Vector512.Load(values + j), Vector512.Load(result + j)).Store(result + j);
        }
    }

    private static void Scale(double* values, double factor, int first, int last)
    {
        for (nint j = first & -Simd.Lanes; j < last; j += Simd.Lanes)
        {
            (factor * Vector512.Load(values + j)).Store(values + j);
        }
    }

    private static double LargestRowSum(in WhiteningGroup group, double* matrix)
    {
        double largest = 0;
        for (int i = 0; i < group.Size; i++)
        {
            double sum = 0;
            for (int j = 0; j < group.Size; j++)
            {
                sum += Math.Abs(matrix[(i * group.Pitch) + j]);
            }

            largest = Math.Max(largest, sum);
        }

        return largest;
    }
}

/// <summary>The catalog's view of <see cref="CholeskyWhitening{T}"/>.</summary>
internal readonly struct CholeskyWhiteningStrategy : IStrategy
{
    public static string Id => "cholesky-whitening";

    public static string Axes =>
        "the covariance of all channels (or of each channel group), over all samples and positions; for contrast: output and gradient depend on the order of the channels";

    public static IReadOnlyList<string> Tensors => WhiteningOptions.Tensors;

    public static string Options(StrategySettings settings) => settings.Whitening();

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new CholeskyWhitening<T>(shape.Channels, new CholeskyWhiteningOptions(settings.ToWhiteningOptions()));
}
