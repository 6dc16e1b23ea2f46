using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="PcaWhitening{T}"/>.</summary>
public sealed record PcaWhiteningOptions : WhiteningOptions
{
    /// <summary>The defaults.</summary>
    public PcaWhiteningOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every whitening strategy has.</param>
    public PcaWhiteningOptions(WhiteningOptions options)
        : base(options)
    {
    }

    /// <summary>
    /// delta in (0, 1]: the gradient divides by no difference of eigenvalues smaller than delta times the larger of the two, which biases it. Null,
    /// the default, keeps it exact, and batches with eigenvalues closer than 1e-10 of the larger are refused.
    /// </summary>
    public double? GapClamp { get; init; }
}

/// <summary>PCA whitening, for contrast: the channels become their principal components, the largest first, each of unit variance.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>S = V^T diag(l) V with eigenvectors as rows of V, W = diag(l)^(-1/2) V: rows by descending eigenvalue, each with its largest entry
/// positive (of entries within a millionth of the largest, the first). Output channel k is component k of the batch, not channel k of the input.
/// Forward, backward and state: <see cref="WhiteningNormalizer{T}"/>.</para>
/// <para>Why only for contrast: components swap places and signs between mini-batches, so that what follows cannot learn from them, and the
/// gradient has a pole where two eigenvalues meet: its size is inverse to their difference. That is of the strategy, not of its computation. Where
/// the difference falls below 1e-10 of the larger, or below what rounding leaves of it, the eigenvectors are arbitrary, and a batch that would have to
/// be differentiated is refused (two constant channels, M at most d - 1); <see cref="PcaWhiteningOptions.GapClamp"/> takes it, with a biased gradient.</para>
/// <para>Gradient with B = (dL/dW) V^T: V^T E V, E_ii = -l_i^(-3/2) B_ii / 2, E_ij = (B_ji l_j^(-1/2) - B_ij l_i^(-1/2)) / (2 (l_j - l_i)).</para>
/// <para>Unlike ZCA it turns with nothing: PCA(Q x) = PCA(x) up to signs for orthogonal Q. A running average of W is meaningless here; keep the covariance.</para>
/// <para>Source: Huang, Yang, Lang and Deng 2018, arXiv:1804.08450, section 3.2 (stochastic axis swapping).</para>
/// </remarks>
public sealed class PcaWhitening<T> : WhiteningNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const double SmallestGap = 1e-10;

    private readonly double? _gapClamp;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The group size does not divide C, or an option is out of range.</exception>
    public PcaWhitening(int channels, PcaWhiteningOptions? options = null)
        : base(channels, options ?? new PcaWhiteningOptions(), savedMatrices: 1)
    {
        _gapClamp = options?.GapClamp;
        if (_gapClamp is { } clamp && !(clamp is > 0 and <= 1))
        {
            throw new ArgumentException(
                $"The gap clamp is a fraction of an eigenvalue and must be in (0, 1], or null for none; got {clamp.ToString(CultureInfo.InvariantCulture)}.",
                nameof(options));
        }
    }

    private PrincipalAxes Axes => new(_gapClamp ?? 0);

    private protected override void ComputeMatrices(WhiteningStatistics statistics, int groups, Regularization regularization) =>
        WhiteningMatrices.Compute(Axes, statistics, groups, GroupSize, regularization);

    private protected override unsafe void DifferentiateMatrices(
        WhiteningStatistics statistics, int groups, Regularization regularization, double* gradients, double factor) =>
        WhiteningMatrices.Differentiate(Axes, statistics, groups, GroupSize, regularization, gradients, factor);

    private protected override unsafe void RequireGradient(int group, WhiteningGroup matrices)
    {
        double* values = matrices.Values;
        double rounding = 4 * matrices.Size * Math.ScaleB(1, -52) * values[0]; // a few units of the decomposition's residual
        for (int i = 1; i < matrices.Size && _gapClamp is null; i++)
        {
            double gap = values[i - 1] - values[i];
            if (gap < Math.Max(SmallestGap * values[i - 1], rounding))
            {
                throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                    $"{Name}: eigenvalues {i} and {i + 1} of channel group {group}, {values[i - 1]:g6} and {values[i]:g6}, have the relative gap {gap / values[i - 1]:0.0e+0}, below {SmallestGap:0.0e+0} or rounding: their eigenvectors are arbitrary and the gradient has a pole. ")
                    + "Use ZcaWhitening, which has none, a larger batch or smaller groups, or set GapClamp and accept a biased gradient.");
            }
        }
    }
}

/// <summary>W = diag(l)^(-1/2) V. Saved: V, the eigenvectors as rows by descending eigenvalue, and the eigenvalues.</summary>
/// <param name="gapClamp">The least difference of eigenvalues that the gradient divides by, as a fraction of the larger; 0 is none.</param>
internal readonly unsafe struct PrincipalAxes(double gapClamp) : IWhiteningMatrix
{
    // Entries of equal size by symmetry differ by rounding: the first of them decides the sign.
    private const double Alike = 1 - 1e-6;

    public nint WorkSize(int size) =>
        Math.Max(WhiteningStatistics.MatrixSize(size) + SymmetricEigen.WorkSize(size, Product.MatrixPitch(size)), 2 * WhiteningStatistics.MatrixSize(size));

    public Spectrum Compute(in WhiteningGroup group, double* sigma, double epsilon, double* work)
    {
        double* ascending = work;
        Spectrum spectrum = group.Decompose(sigma, ascending, epsilon, work + WhiteningStatistics.MatrixSize(group.Size));
        int row = 0;
        for (int last = group.Size - 1; last >= 0;)
        {
            // Equal eigenvalues keep their order, so that a diagonal covariance of equal variances leaves the channels in place.
            int first = last;
            while (first > 0 && group.Values[first - 1] == group.Values[last])
            {
                first--;
            }

            for (int i = first; i <= last; i++, row++)
            {
                Orient(ascending + (i * group.Pitch), group.Size, 1 / Math.Sqrt(group.Values[i]), group.Saved(0) + (row * group.Pitch), group.Matrix + (row * group.Pitch));
            }

            last = first - 1;
        }

        new Span<double>(group.Values, group.Size).Reverse();
        return spectrum;
    }

    public void Differentiate(in WhiteningGroup group, double* gradient, double* work)
    {
        double* a = work;
        double* b = a + WhiteningStatistics.MatrixSize(group.Size);
        double* vectors = group.Saved(0);
        Transposition.Copy(vectors, group.Size, group.Size, group.Pitch, a, group.Pitch);
        group.Multiply(b, group.Rows(gradient), a);
        DivideByGaps(group, b, a);
        group.Multiply(b, group.Rows(a), vectors);
        group.Multiply(gradient, group.Columns(vectors), b, symmetric: true);
    }

    private static void Orient(double* vector, int size, double scale, double* oriented, double* scaled)
    {
        double largest = 0;
        for (int j = 0; j < size; j++)
        {
            largest = Math.Max(largest, Math.Abs(vector[j]));
        }

        int decides = 0;
        while (Math.Abs(vector[decides]) < Alike * largest)
        {
            decides++;
        }

        double sign = vector[decides] < 0 ? -1 : 1;
        for (int j = 0; j < size; j++)
        {
            oriented[j] = sign * vector[j];
            scaled[j] = scale * oriented[j];
        }
    }

    // E from B, symmetric.
    private void DivideByGaps(in WhiteningGroup group, double* b, double* e)
    {
        double* values = group.Values;
        for (int i = 0; i < group.Size; i++)
        {
            double ri = 1 / Math.Sqrt(values[i]);
            e[(i * group.Pitch) + i] = -0.5 * ri * ri * ri * b[(i * group.Pitch) + i];
            for (int j = i + 1; j < group.Size; j++)
            {
                double rj = 1 / Math.Sqrt(values[j]);
                double gap = Math.Max(values[i] - values[j], gapClamp * values[i]);
                double difference = 0.5 * ((b[(i * group.Pitch) + j] * ri) - (b[(j * group.Pitch) + i] * rj));
                double quotient = difference == 0 ? 0 : difference / gap; // a single column has neither
                e[(i * group.Pitch) + j] = quotient;
                e[(j * group.Pitch) + i] = quotient;
            }
        }
    }
}

/// <summary>The catalog's view of <see cref="PcaWhitening{T}"/>.</summary>
internal readonly struct PcaWhiteningStrategy : IStrategy
{
    public static string Id => "pca-whitening";

    public static string Axes =>
        "the covariance of all channels (or of each channel group), over all samples and positions; for contrast: its gradient has a pole at equal eigenvalues";

    public static IReadOnlyList<string> Tensors => WhiteningOptions.Tensors;

    public static string Options(StrategySettings settings) => string.Create(CultureInfo.InvariantCulture,
        $"{settings.Whitening()}, {(settings.GapClamp is { } clamp ? $"gaps clamped at {clamp} (biased gradient)" : "no gap clamp")}");

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new PcaWhitening<T>(shape.Channels, new PcaWhiteningOptions(settings.ToWhiteningOptions()) { GapClamp = settings.GapClamp });
}

/// <content>Options of <see cref="PcaWhitening{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>pca-whitening: see <see cref="PcaWhiteningOptions.GapClamp"/>.</summary>
    [Setting("--gap-clamp", "pca-whitening: the least difference of two eigenvalues, over the larger, that its gradient divides by; biases it. Default none.", Placeholder = "delta", Maximum = 1)]
    public double? GapClamp { get; init; }
}
