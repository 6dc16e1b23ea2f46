namespace Normalization.Core.Kernels;

/// <summary>What whitening takes from a batch, carved from one array of doubles.</summary>
internal readonly unsafe struct WhiteningStatistics
{
    private const int SpectrumDoubles = 5;

    /// <summary>(C).</summary>
    public readonly double* Mean;

    /// <summary>One for each group.</summary>
    public readonly Spectrum* Spectra;

    /// <summary>Numbers that the strategy keeps for its gradient, such as eigenvalues of the regularized covariance, (C).</summary>
    public readonly double* Values;

    /// <summary>By group d x d, rows and columns padded.</summary>
    public readonly double* Covariance;

    /// <summary>W, the matrix that whitens.</summary>
    public readonly double* Matrix;

    /// <summary>Matrices that the strategy keeps for its gradient, such as eigenvectors as rows: <see cref="SavedMatrices"/> a group.</summary>
    public readonly double* Saved;

    /// <summary>How many matrices a group has in <see cref="Saved"/>.</summary>
    public readonly int SavedMatrices;

    /// <summary>Carves an array of <see cref="Size"/> doubles.</summary>
    public WhiteningStatistics(double* memory, int channels, int group, int savedMatrices)
    {
        int groups = channels / group;
        nint matrices = groups * MatrixSize(group);
        Mean = memory;
        Values = memory + channels;
        Spectra = (Spectrum*)(memory + (2 * channels));
        Covariance = memory + (2 * channels) + (SpectrumDoubles * groups);
        Matrix = Covariance + matrices;
        Saved = Matrix + matrices;
        SavedMatrices = savedMatrices;
    }

    /// <summary>Doubles that the statistics of C channels in groups of d take, with so many saved matrices a group.</summary>
    public static int Size(int channels, int group, int savedMatrices) =>
        checked((int)((2 * channels) + (channels / group * (SpectrumDoubles + ((2 + savedMatrices) * MatrixSize(group))))));

    /// <summary>Doubles that a d x d matrix takes with rows and columns padded.</summary>
    public static nint MatrixSize(int group) => Product.PaddedRows(group) * Product.MatrixPitch(group);

    /// <summary>The row of W that makes a channel.</summary>
    public double* MatrixRow(int group, int channel) =>
        Matrix + (channel / group * MatrixSize(group)) + (channel % group * Product.MatrixPitch(group));
}

/// <summary>What is known of the eigenvalues of a group's regularized covariance.</summary>
/// <param name="Smallest">The least one as computed, or another number that is 0 or below where the covariance is singular; NaN where nothing is known.</param>
/// <param name="Greatest">The largest one, or a number of its order.</param>
/// <param name="Condition">An upper bound of the square of W's condition number; for exact whitening that is the covariance's condition number.</param>
/// <param name="LargestVariance">The largest variance of a channel, before the regularization.</param>
/// <param name="Converged">Whether the decomposition did.</param>
internal readonly record struct Spectrum(double Smallest, double Greatest, double Condition, double LargestVariance, bool Converged)
{
    /// <summary>No eigenvalues are known: the covariance is not finite, or W was given.</summary>
    public static Spectrum Unknown => new(double.NaN, double.NaN, double.NaN, double.NaN, true);

    /// <summary>Whether products with W may be float; never where nothing is known.</summary>
    public bool AllowsSingle =>
        Condition is > 0 and <= Whitening.LargestSingleCondition && ChannelView.FitsSingle(Math.Sqrt(LargestVariance));
}
