namespace Normalization.Core.Kernels;

/// <summary>W = S^(-1/2) of each group's regularized covariance S, and the gradient back through it.</summary>
/// <remarks>Groups are shared among threads; each is the work of one, so its bits do not depend on their number.</remarks>
internal static unsafe class InverseRoot
{
    /// <summary>S = (1 - shrinkage) S0 + (shrinkage tr(S0)/d + epsilon) I from the covariance; its eigenvalues, eigenvectors and W.</summary>
    /// <remarks>
    /// A group whose covariance is not finite gets NaN throughout. Whether a spectrum is one of a covariance is for the caller to judge, by
    /// <see cref="WhiteningStatistics.Spectra"/>; rounding may take an eigenvalue a little below epsilon, and W takes it as epsilon then.
    /// </remarks>
    public static void Compute(WhiteningStatistics statistics, int groups, int group, double epsilon, double shrinkage)
    {
        long started = WhiteningClock.Start();
        var job = new InverseRootJob { Statistics = statistics, Group = group, Epsilon = epsilon, Shrinkage = shrinkage };
        job.Share(groups);
        WhiteningClock.Stop(WhiteningPhase.Decomposition, started);
    }

    /// <summary>The gradient with respect to each covariance, symmetric, from A = dL/dW; times factor.</summary>
    /// <remarks>
    /// V^T (K o (V sym(A) V^T)) V with K the divided differences of l^(-1/2) (Daleckii and Krein), then the shrinkage's. Gradients may lie where A does.
    /// </remarks>
    public static void Gradient(
        WhiteningStatistics statistics, int groups, int group, double shrinkage, double* matrixGradients, double factor, double* gradients)
    {
        long started = WhiteningClock.Start();
        var job = new CovarianceGradientJob
        {
            Statistics = statistics,
            Group = group,
            Shrinkage = shrinkage,
            MatrixGradients = matrixGradients,
            Factor = factor,
            Gradients = gradients,
        };
        job.Share(groups);
        WhiteningClock.Stop(WhiteningPhase.Decomposition, started);
    }
}

/// <summary>A piece is a group.</summary>
internal unsafe struct InverseRootJob : IPieceJob
{
    public WhiteningStatistics Statistics;
    public int Group;
    public double Epsilon;
    public double Shrinkage;
    private nint _size;
    private nint _pitch;
    private nint _workSize;
    private double* _work;
    private Slots _slots;

    public void Share(int groups)
    {
        _size = WhiteningStatistics.MatrixSize(Group);
        _pitch = Product.MatrixPitch(Group);
        _workSize = SymmetricEigen.WorkSize(Group, _pitch);
        int slots = Slots.CountFor(groups);
        nint doubles = slots * (_size + _workSize);
        _work = NativeScratch.Begin(doubles * sizeof(double)).Take<double>(doubles);
        _slots = new Slots(slots);
        WorkTeam.Run(ref this, groups, groups * (nint)Group * Group * Group);
    }

    public void Run(int piece)
    {
        int slot = _slots.Take();
        double* work = _work + (slot * (_size + _workSize));
        double* vectors = Statistics.Vectors + (piece * _size);
        double* values = Statistics.Values + (piece * Group);
        double* matrix = Statistics.Matrix + (piece * _size);
        if (!Regularize(Statistics.Covariance + (piece * _size), work, out double largestVariance))
        {
            new Span<double>(vectors, (int)_size).Fill(double.NaN);
            new Span<double>(matrix, (int)_size).Fill(double.NaN);
            new Span<double>(values, Group).Fill(double.NaN);
            Statistics.Spectra[piece] = Spectrum.Unknown;
            _slots.Return(slot);
            return;
        }

        bool converged = SymmetricEigen.Decompose(work, Group, _pitch, vectors, values, work + _size);
        double smallest = double.PositiveInfinity;
        double greatest = 0;
        for (int i = 0; i < Group; i++)
        {
            smallest = Math.Min(smallest, values[i]);
            greatest = Math.Max(greatest, values[i]);

            // Rounding may take a zero eigenvalue a little below epsilon, never by more than this.
            values[i] = Epsilon > 0 ? Math.Max(values[i], Epsilon * (1 - 1e-6)) : values[i];
            double root = 1 / Math.Sqrt(Math.Sqrt(values[i]));
            for (nint j = 0; j < _pitch; j++)
            {
                work[(i * _pitch) + j] = root * vectors[(i * _pitch) + j];
            }
        }

        // W is the product of the vectors, each times the fourth root, with themselves: symmetric to the bit.
        Product.Set(matrix, _pitch, Group, Group, Group, new LeftOperand<double>(work, 1, _pitch), work, _pitch, upper: true);
        Product.Mirror(matrix, Group, _pitch);
        Statistics.Spectra[piece] = new Spectrum(smallest, greatest, largestVariance, converged);
        _slots.Return(slot);
    }

    // False: the covariance is not finite.
    private readonly bool Regularize(double* covariance, double* result, out double largestVariance)
    {
        double trace = 0;
        largestVariance = 0;
        bool finite = true;
        for (int i = 0; i < Group; i++)
        {
            trace += covariance[(i * _pitch) + i];
            largestVariance = Math.Max(largestVariance, covariance[(i * _pitch) + i]);
            for (int j = 0; j < Group; j++)
            {
                double symmetric = 0.5 * (covariance[(i * _pitch) + j] + covariance[(j * _pitch) + i]);
                finite &= double.IsFinite(covariance[(i * _pitch) + j]);
                result[(i * _pitch) + j] = (1 - Shrinkage) * symmetric;
            }
        }

        for (int i = 0; i < Group; i++)
        {
            result[(i * _pitch) + i] += (Shrinkage * trace / Group) + Epsilon;
        }

        return finite;
    }
}

/// <summary>A piece is a group.</summary>
internal unsafe struct CovarianceGradientJob : IPieceJob
{
    public WhiteningStatistics Statistics;
    public int Group;
    public double Shrinkage;
    public double* MatrixGradients;
    public double Factor;
    public double* Gradients;
    private nint _size;
    private nint _pitch;
    private double* _work;
    private Slots _slots;

    public void Share(int groups)
    {
        _size = WhiteningStatistics.MatrixSize(Group);
        _pitch = Product.MatrixPitch(Group);
        int slots = Slots.CountFor(groups);
        nint doubles = slots * 3 * _size;
        _work = NativeScratch.Begin(doubles * sizeof(double)).Take<double>(doubles);
        _slots = new Slots(slots);
        WorkTeam.Run(ref this, groups, groups * (nint)Group * Group * Group);
    }

    public void Run(int piece)
    {
        int slot = _slots.Take();
        double* a = _work + (slot * 3 * _size);
        double* b = a + _size;
        double* transposed = b + _size;
        double* given = MatrixGradients + (piece * _size);
        double* vectors = Statistics.Vectors + (piece * _size);
        double* result = Gradients + (piece * _size);
        var rows = new LeftOperand<double>(vectors, _pitch, 1);
        var columns = new LeftOperand<double>(vectors, 1, _pitch);
        for (int i = 0; i < Group; i++)
        {
            for (int j = 0; j < Group; j++)
            {
                a[(i * _pitch) + j] = 0.5 * (given[(i * _pitch) + j] + given[(j * _pitch) + i]);
            }
        }

        // V a V^T = V (V a)^T, a being symmetric.
        Product.Set(b, _pitch, Group, Group, Group, rows, a, _pitch);
        Transposition.Copy(b, Group, Group, _pitch, transposed, _pitch);
        Product.Set(a, _pitch, Group, Group, Group, rows, transposed, _pitch, upper: true);
        MultiplyByDifferences(a, Statistics.Values + (piece * Group));
        Product.Set(b, _pitch, Group, Group, Group, new LeftOperand<double>(a, _pitch, 1), vectors, _pitch);
        Product.Set(result, _pitch, Group, Group, Group, columns, b, _pitch, upper: true);
        Product.Mirror(result, Group, _pitch);
        Regularize(result);
        _slots.Return(slot);
    }

    // (f(li) - f(lj)) / (li - lj) with the factor sqrt(li) - sqrt(lj) cancelled by hand: smooth where they meet. Upper triangle in, both out.
    private readonly void MultiplyByDifferences(double* a, double* values)
    {
        for (int i = 0; i < Group; i++)
        {
            double si = Math.Sqrt(values[i]);
            for (int j = i; j < Group; j++)
            {
                double sj = Math.Sqrt(values[j]);
                double product = a[(i * _pitch) + j] * (-1 / (si * sj * (si + sj)));
                a[(i * _pitch) + j] = product;
                a[(j * _pitch) + i] = product;
            }
        }
    }

    // What the shrinkage passes on, times the factor.
    private readonly void Regularize(double* gradient)
    {
        double trace = 0;
        for (int i = 0; i < Group; i++)
        {
            trace += gradient[(i * _pitch) + i];
        }

        for (int i = 0; i < Group; i++)
        {
            for (int j = 0; j < Group; j++)
            {
                gradient[(i * _pitch) + j] *= Factor * (1 - Shrinkage);
            }

            gradient[(i * _pitch) + i] += Factor * Shrinkage * trace / Group;
        }
    }
}
