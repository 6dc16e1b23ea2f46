using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="ZcaWhitening{T}"/>.</summary>
public sealed record ZcaWhiteningOptions : WhiteningOptions
{
    /// <summary>The defaults.</summary>
    public ZcaWhiteningOptions()
    {
    }

    /// <summary>The given options, with the defaults of whitening.</summary>
    /// <param name="options">What every strategy with running statistics has.</param>
    public ZcaWhiteningOptions(RunningStatisticsOptions options)
        : base(options)
    {
    }

    /// <summary>The given options.</summary>
    /// <param name="options">What every whitening strategy has.</param>
    public ZcaWhiteningOptions(WhiteningOptions options)
        : base(options)
    {
    }
}

/// <summary>ZCA whitening: channels decorrelated and scaled to unit variance by the symmetric inverse root of their covariance.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>W = S^(-1/2), S = covariance (divisor M) + epsilon I, in groups of d channels: of all whitenings the one whose output is closest to its
/// input. The output's covariance is cov (cov + epsilon I)^-1, not the identity. Forward, backward and state: <see cref="WhiteningNormalizer{T}"/>.</para>
/// <para>Gradient: exact, with the divided difference of f(l) = l^(-1/2), -1 / (sqrt(a) sqrt(b) (sqrt(a) + sqrt(b))), which has no pole at
/// equal eigenvalues; nothing is masked or clamped there.</para>
/// <para>Source: Huang, Yang, Lang and Deng 2018, arXiv:1804.08450 (Decorrelated BN); the gradient is Daleckii and Krein's. d = 1 is
/// batch normalization. Cost by group: 1.5 d^2 M multiplications forward, 3 d^2 M backward, one eigen-decomposition and four products of d^3.</para>
/// </remarks>
public sealed class ZcaWhitening<T> : WhiteningNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The group size does not divide C, or an option is out of range.</exception>
    public ZcaWhitening(int channels, ZcaWhiteningOptions? options = null)
        : base(channels, options ?? new ZcaWhiteningOptions(), savedMatrices: 1)
    {
    }

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        base.Claims | (IsWhole ? NormalizerClaims.RotationEquivariance | NormalizerClaims.Whitening : NormalizerClaims.None);

    private protected override void ComputeMatrices(WhiteningStatistics statistics, int groups, Regularization regularization) =>
        WhiteningMatrices.Compute(default(InverseRoot), statistics, groups, GroupSize, regularization);

    private protected override unsafe void DifferentiateMatrices(
        WhiteningStatistics statistics, int groups, Regularization regularization, double* gradients, double factor) =>
        WhiteningMatrices.Differentiate(default(InverseRoot), statistics, groups, GroupSize, regularization, gradients, factor);
}

/// <summary>W = S^(-1/2). Saved: the eigenvectors as rows, and the eigenvalues.</summary>
internal readonly unsafe struct InverseRoot : IWhiteningMatrix
{
    public nint WorkSize(int size) =>
        Math.Max(SymmetricEigen.WorkSize(size, Product.MatrixPitch(size)), 3 * WhiteningStatistics.MatrixSize(size));

    public Spectrum Compute(in WhiteningGroup group, double* sigma, double epsilon, double* work)
    {
        double* vectors = group.Saved(0);
        double* halves = sigma;
        Spectrum spectrum = group.Decompose(sigma, vectors, epsilon, work);
        for (int i = 0; i < group.Size; i++)
        {
            double root = 1 / Math.Sqrt(Math.Sqrt(group.Values[i]));
            for (nint j = 0; j < group.Pitch; j++)
            {
                halves[(i * group.Pitch) + j] = root * vectors[(i * group.Pitch) + j];
            }
        }

        // W is the product of the vectors, each times the fourth root, with themselves: symmetric to the bit.
        group.Multiply(group.Matrix, group.Columns(halves), halves, symmetric: true);
        return spectrum;
    }

    // V^T (K o (V sym(A) V^T)) V with K the divided differences of l^(-1/2) (Daleckii and Krein).
    public void Differentiate(in WhiteningGroup group, double* gradient, double* work)
    {
        nint matrix = WhiteningStatistics.MatrixSize(group.Size);
        double* a = work;
        double* b = a + matrix;
        double* transposed = b + matrix;
        double* vectors = group.Saved(0);
        for (int i = 0; i < group.Size; i++)
        {
            for (int j = 0; j < group.Size; j++)
            {
                a[(i * group.Pitch) + j] = 0.5 * (gradient[(i * group.Pitch) + j] + gradient[(j * group.Pitch) + i]);
            }
        }

        // V a V^T = V (V a)^T, a being symmetric.
        group.Multiply(b, group.Rows(vectors), a);
        Transposition.Copy(b, group.Size, group.Size, group.Pitch, transposed, group.Pitch);
        group.Multiply(a, group.Rows(vectors), transposed, symmetric: true);
        MultiplyByDifferences(group, a, roots: b);
        Product.Mirror(a, group.Size, group.Pitch);
        group.Multiply(b, group.Rows(a), vectors);
        group.Multiply(gradient, group.Columns(vectors), b, symmetric: true);
    }

    // (f(li) - f(lj)) / (li - lj) with the factor sqrt(li) - sqrt(lj) cancelled by hand: smooth where they meet. The upper triangle.
    private static void MultiplyByDifferences(in WhiteningGroup group, double* a, double* roots)
    {
        for (int i = 0; i < group.Size; i++)
        {
            roots[i] = Math.Sqrt(group.Values[i]);
        }

        for (int i = 0; i < group.Size; i++)
        {
            for (int j = i; j < group.Size; j++)
            {
                a[(i * group.Pitch) + j] *= -1 / (roots[i] * roots[j] * (roots[i] + roots[j]));
            }
        }
    }
}

/// <summary>The catalog's view of <see cref="ZcaWhitening{T}"/>.</summary>
internal readonly struct ZcaWhiteningStrategy : IStrategy
{
    public static string Id => "zca-whitening";

    public static string Axes => "the covariance of all channels (or of each channel group), over all samples and positions";

    public static IReadOnlyList<string> Tensors => WhiteningOptions.Tensors;

    public static string Options(StrategySettings settings) => settings.Whitening();

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new ZcaWhitening<T>(shape.Channels, new ZcaWhiteningOptions(settings.ToWhiteningOptions()));
}
