namespace Normalization.Core.Kernels;

/// <summary>How a strategy makes the matrix W that whitens a group from the group's regularized covariance S, and how dL/dS follows from dL/dW.</summary>
/// <remarks>Implemented by structs of a few numbers, one for each strategy; a call is the work of one thread and its bits depend on nothing else.</remarks>
internal unsafe interface IWhiteningMatrix
{
    /// <summary>Doubles of working memory that either way takes.</summary>
    /// <param name="size">d.</param>
    nint WorkSize(int size);

    /// <summary>W = f(S), into the group's matrix, beside what the gradient will need.</summary>
    /// <param name="group">Receives W, values and saved matrices.</param>
    /// <param name="sigma">S: finite, symmetric, padded as the group's matrices; may be overwritten.</param>
    /// <param name="epsilon">What S has had added to its diagonal, and none of its eigenvalues may fall below but for rounding.</param>
    /// <param name="work">Working memory.</param>
    /// <returns>What is known of S; the largest variance is filled in by the caller.</returns>
    Spectrum Compute(in WhiteningGroup group, double* sigma, double epsilon, double* work);

    /// <summary>dL/dS, symmetric, in place of dL/dW.</summary>
    /// <param name="group">As <see cref="Compute"/> left it.</param>
    /// <param name="gradient">dL/dW, padded as the group's matrices; becomes dL/dS.</param>
    /// <param name="work">Working memory.</param>
    void Differentiate(in WhiteningGroup group, double* gradient, double* work);
}

/// <summary>One group's share of <see cref="WhiteningStatistics"/>.</summary>
internal readonly unsafe struct WhiteningGroup(WhiteningStatistics statistics, int index, int size)
{
    private readonly double* _saved = statistics.Saved + (index * statistics.SavedMatrices * WhiteningStatistics.MatrixSize(size));

    /// <summary>d.</summary>
    public readonly int Size = size;

    /// <summary>Doubles from one row of a matrix to the next.</summary>
    public readonly nint Pitch = Product.MatrixPitch(size);

    /// <summary>How many matrices are saved.</summary>
    public readonly int SavedMatrices = statistics.SavedMatrices;

    /// <summary>Numbers for the gradient, (d).</summary>
    public readonly double* Values = statistics.Values + (index * size);

    /// <summary>W.</summary>
    public readonly double* Matrix = statistics.Matrix + (index * WhiteningStatistics.MatrixSize(size));

    /// <summary>One of the matrices kept for the gradient.</summary>
    public double* Saved(int number) => _saved + (number * WhiteningStatistics.MatrixSize(Size));

    /// <summary>A matrix as the left operand of a product.</summary>
    public LeftOperand<double> Rows(double* matrix) => new(matrix, Pitch, 1);

    /// <summary>A matrix's transpose as the left operand of a product.</summary>
    public LeftOperand<double> Columns(double* matrix) => new(matrix, 1, Pitch);

    /// <summary>Writes zeros into a matrix's padding, as <see cref="Product.ClearPadding"/> does.</summary>
    public void ClearPadding(double* matrix) => Product.ClearPadding(matrix, Size, Size, Pitch, Product.Rows, Product.Width<double>());

    /// <summary>result = left * right; of a product known to be symmetric, half is multiplied and the rest is copied.</summary>
    public void Multiply(double* result, LeftOperand<double> left, double* right, bool symmetric = false) =>
        Multiply(result, left, right, default, null, symmetric);

    /// <summary>result = left * right + secondLeft * secondRight; without a second right operand the first product alone.</summary>
    public void Multiply(
        double* result, LeftOperand<double> left, double* right, LeftOperand<double> secondLeft, double* secondRight, bool symmetric = false)
    {
        var job = new MatrixProductJob
        {
            Size = Size,
            Pitch = Pitch,
            Result = result,
            Left = left,
            Right = right,
            SecondLeft = secondLeft,
            SecondRight = secondRight,
            Upper = symmetric,
        };
        job.Share();
        if (symmetric)
        {
            Product.Mirror(result, Size, Pitch);
        }
    }

    /// <summary>S = V^T diag(values) V: the vectors as rows, the values ascending in the group's, none below epsilon but for rounding.</summary>
    public Spectrum Decompose(double* sigma, double* vectors, double epsilon, double* work)
    {
        bool converged = SymmetricEigen.Decompose(sigma, Size, Pitch, vectors, Values, work);
        double smallest = double.PositiveInfinity;
        double greatest = 0;
        for (int i = 0; i < Size; i++)
        {
            smallest = Math.Min(smallest, Values[i]);
            greatest = Math.Max(greatest, Values[i]);

            // Rounding may take a zero eigenvalue a little below epsilon, never by more than this.
            Values[i] = epsilon > 0 ? Math.Max(Values[i], epsilon * (1 - 1e-6)) : Values[i];
        }

        return new Spectrum(smallest, greatest, greatest / smallest, double.NaN, converged);
    }
}

/// <summary>A product of d x d matrices, or the sum of two; a piece is a strip of columns. Where groups share the threads already it is one thread's work.</summary>
internal unsafe struct MatrixProductJob : IPieceJob
{
    // Products as large as d = 128 are worth waking a thread for.
    private const int TermsAnElement = 64;

    public int Size;
    public nint Pitch;
    public double* Result;
    public LeftOperand<double> Left;
    public double* Right;
    public LeftOperand<double> SecondLeft;
    public double* SecondRight;
    public bool Upper;

    public void Share() => WorkTeam.Run(ref this, (int)(Pitch / Product.Width<double>()), (nint)Size * Size * Size / TermsAnElement);

    public readonly void Run(int piece)
    {
        nint column = piece * Product.Width<double>();
        nint columns = Math.Min(Product.Width<double>(), Size - column);
        nint rows = Upper ? Math.Min(Size, column + Product.Width<double>()) : Size;
        Product.Set(Result + column, Pitch, rows, columns, Size, Left, Right + column, Pitch);
        if (SecondRight != null)
        {
            Product.Accumulate(Result + column, Pitch, 0, rows, columns, Size, SecondLeft, SecondRight + column, Pitch, upper: false);
        }
    }
}

/// <summary>S = (1 - shrinkage) S0 + (shrinkage tr(S0)/d + epsilon) I of a covariance S0.</summary>
internal readonly unsafe struct Regularization(double epsilon, double shrinkage)
{
    /// <summary>What is added to the diagonal beside the shrinkage.</summary>
    public readonly double Epsilon = epsilon;

    private readonly double _shrinkage = shrinkage;

    /// <summary>S, symmetric to the bit.</summary>
    /// <returns>False: the covariance is not finite.</returns>
    public bool Apply(double* covariance, int size, nint pitch, double* result, out double largestVariance)
    {
        double trace = 0;
        largestVariance = 0;
        bool finite = true;
        for (int i = 0; i < size; i++)
        {
            trace += covariance[(i * pitch) + i];
            largestVariance = Math.Max(largestVariance, covariance[(i * pitch) + i]);
            for (int j = 0; j < size; j++)
            {
                double symmetric = 0.5 * (covariance[(i * pitch) + j] + covariance[(j * pitch) + i]);
                finite &= double.IsFinite(covariance[(i * pitch) + j]);
                result[(i * pitch) + j] = (1 - _shrinkage) * symmetric;
            }
        }

        for (int i = 0; i < size; i++)
        {
            result[(i * pitch) + i] += (_shrinkage * trace / size) + Epsilon;
        }

        return finite;
    }

    /// <summary>From dL/dS to dL/dS0 times a factor, in place.</summary>
    public void Differentiate(double* gradient, int size, nint pitch, double factor)
    {
        double trace = 0;
        for (int i = 0; i < size; i++)
        {
            trace += gradient[(i * pitch) + i];
        }

        for (int i = 0; i < size; i++)
        {
            for (int j = 0; j < size; j++)
            {
                gradient[(i * pitch) + j] *= factor * (1 - _shrinkage);
            }

            gradient[(i * pitch) + i] += factor * _shrinkage * trace / size;
        }
    }
}

/// <summary>W of every group from its covariance, and the gradient back through it. Groups are shared among threads.</summary>
internal static unsafe class WhiteningMatrices
{
    /// <summary>Every group's W and its <see cref="WhiteningStatistics.Spectra"/>.</summary>
    /// <remarks>
    /// A group whose covariance is not finite gets NaN throughout. Whether a spectrum is one of a covariance is for the caller to judge.
    /// </remarks>
    public static void Compute<TMatrix>(TMatrix matrix, WhiteningStatistics statistics, int groups, int size, Regularization regularization)
        where TMatrix : unmanaged, IWhiteningMatrix
    {
        long started = WhiteningClock.Start();
        var job = new WhiteningMatrixJob<TMatrix> { Matrix = matrix, Statistics = statistics, Size = size, Regularization = regularization };
        job.Share(groups);
        WhiteningClock.Stop(WhiteningPhase.Decomposition, started);
    }

    /// <summary>The gradient with respect to each covariance, symmetric and times a factor, in place of dL/dW.</summary>
    public static void Differentiate<TMatrix>(
        TMatrix matrix, WhiteningStatistics statistics, int groups, int size, Regularization regularization, double* gradients, double factor)
        where TMatrix : unmanaged, IWhiteningMatrix
    {
        long started = WhiteningClock.Start();
        var job = new WhiteningMatrixJob<TMatrix>
        {
            Matrix = matrix,
            Statistics = statistics,
            Size = size,
            Regularization = regularization,
            Gradients = gradients,
            Factor = factor,
        };
        job.Share(groups);
        WhiteningClock.Stop(WhiteningPhase.Decomposition, started);
    }
}

/// <summary>A piece is a group: forward where there are no gradients, else backward.</summary>
internal unsafe struct WhiteningMatrixJob<TMatrix> : IPieceJob
    where TMatrix : unmanaged, IWhiteningMatrix
{
    private const int MostMultiplied = 8;

    public TMatrix Matrix;
    public WhiteningStatistics Statistics;
    public int Size;
    public Regularization Regularization;
    public double* Gradients;
    public double Factor;
    private nint _matrixSize;
    private nint _workSize;
    private double* _work;
    private Slots _slots;

    public void Share(int groups)
    {
        _matrixSize = WhiteningStatistics.MatrixSize(Size);
        _workSize = _matrixSize + Matrix.WorkSize(Size);
        int slots = Slots.CountFor(groups);
        _work = NativeScratch.Begin(slots * _workSize * sizeof(double)).Take<double>(slots * _workSize);
        _slots = new Slots(slots);
        WorkTeam.Run(ref this, groups, groups * (nint)Size * Size * Size);
    }

    public void Run(int piece)
    {
        int slot = _slots.Take();
        var group = new WhiteningGroup(Statistics, piece, Size);
        double* work = _work + (slot * _workSize);

        // Padding that is zero stays so from product to product; of working memory, as many matrices as a strategy may multiply.
        for (nint matrix = 0; matrix < Math.Min(MostMultiplied, _workSize / _matrixSize); matrix++)
        {
            group.ClearPadding(work + (matrix * _matrixSize));
        }

        if (Gradients == null)
        {
            Compute(piece, group, work);
        }
        else
        {
            double* gradient = Gradients + (piece * _matrixSize);
            Matrix.Differentiate(group, gradient, work);
            Regularization.Differentiate(gradient, Size, group.Pitch, Factor);
        }

        _slots.Return(slot);
    }

    private void Compute(int piece, in WhiteningGroup group, double* work)
    {
        // The statistics may lie in memory that held others.
        group.ClearPadding(group.Matrix);
        for (int number = 0; number < group.SavedMatrices; number++)
        {
            group.ClearPadding(group.Saved(number));
        }

        if (Regularization.Apply(Statistics.Covariance + (piece * _matrixSize), Size, group.Pitch, work, out double largestVariance))
        {
            Statistics.Spectra[piece] = Matrix.Compute(group, work, Regularization.Epsilon, work + _matrixSize) with { LargestVariance = largestVariance };
            return;
        }

        new Span<double>(group.Values, Size).Fill(double.NaN);
        new Span<double>(group.Matrix, (int)_matrixSize).Fill(double.NaN);
        for (int number = 0; number < group.SavedMatrices; number++)
        {
            new Span<double>(group.Saved(number), (int)_matrixSize).Fill(double.NaN);
        }

        Statistics.Spectra[piece] = Spectrum.Unknown;
    }
}
