namespace Normalization.Core.Kernels;

/// <summary>What whitening takes from a batch, carved from one array of doubles.</summary>
internal readonly unsafe struct WhiteningStatistics
{
    private const int SpectrumDoubles = 4;

    /// <summary>(C).</summary>
    public readonly double* Mean;

    /// <summary>One for each group.</summary>
    public readonly Spectrum* Spectra;

    /// <summary>Eigenvalues of the regularized covariance, (C).</summary>
    public readonly double* Values;

    /// <summary>By group d x d, rows and columns padded.</summary>
    public readonly double* Covariance;

    /// <summary>Eigenvectors of the regularized covariance, as rows.</summary>
    public readonly double* Vectors;

    /// <summary>W, the matrix that whitens.</summary>
    public readonly double* Matrix;

    /// <summary>Carves an array of <see cref="Size"/> doubles.</summary>
    public WhiteningStatistics(double* memory, int channels, int group)
    {
        int groups = channels / group;
        nint matrices = groups * MatrixSize(group);
        Mean = memory;
        Values = memory + channels;
        Spectra = (Spectrum*)(memory + (2 * channels));
        Covariance = memory + (2 * channels) + (SpectrumDoubles * groups);
        Vectors = Covariance + matrices;
        Matrix = Vectors + matrices;
    }

    /// <summary>Doubles that the statistics of C channels in groups of d take.</summary>
    public static int Size(int channels, int group) =>
        checked((int)((2 * channels) + (channels / group * (SpectrumDoubles + (3 * MatrixSize(group))))));

    /// <summary>Doubles that a d x d matrix takes with rows and columns padded.</summary>
    public static nint MatrixSize(int group) => Product.PaddedRows(group) * Product.MatrixPitch(group);

    /// <summary>The row of W that makes a channel.</summary>
    public double* MatrixRow(int group, int channel) =>
        Matrix + (channel / group * MatrixSize(group)) + (channel % group * Product.MatrixPitch(group));
}

/// <summary>How the decomposition of a group's regularized covariance went.</summary>
/// <param name="Smallest">The least eigenvalue as computed.</param>
/// <param name="Greatest">The largest one.</param>
/// <param name="LargestVariance">The largest variance of a channel, before the regularization.</param>
/// <param name="Converged">Whether the decomposition did.</param>
internal readonly record struct Spectrum(double Smallest, double Greatest, double LargestVariance, bool Converged)
{
    /// <summary>No eigenvalues are known: the covariance is not finite, or W was given.</summary>
    public static Spectrum Unknown => new(double.NaN, double.NaN, double.NaN, true);

    /// <summary>The largest eigenvalue over the smallest.</summary>
    public double Condition => Greatest / Smallest;

    /// <summary>Whether products with W may be float; never where nothing is known.</summary>
    public bool AllowsSingle =>
        Smallest > 0 && Greatest <= Whitening.LargestSingleCondition * Smallest && ChannelView.FitsSingle(Math.Sqrt(LargestVariance));
}
