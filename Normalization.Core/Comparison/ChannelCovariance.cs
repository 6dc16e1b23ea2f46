using MathNet.Numerics.LinearAlgebra;

namespace Normalization.Core.Comparison;

/// <summary>The C x C population covariance of a batch's channels over samples and positions.</summary>
internal sealed class ChannelCovariance
{
    private readonly int _positions;

    /// <summary>Takes the covariance in two passes.</summary>
    public ChannelCovariance(ActivationShape shape, double[] values)
    {
        int channels = shape.Channels;
        int positions = _positions = (int)shape.SpatialSize;
        int columns = (int)shape.Samples * positions;
        Centered = new double[channels][]; // (C, M)
        for (int channel = 0; channel < channels; channel++)
        {
            double[] row = new double[columns];
            for (int column = 0; column < columns; column++)
            {
                row[column] = values[(((column / positions * channels) + channel) * positions) + (column % positions)];
            }

            // Twice: the second pass takes away what rounding left in the first mean.
            for (int pass = 0; pass < 2; pass++)
            {
                double mean = 0;
                foreach (double value in row)
                {
                    mean += value;
                }

                mean /= columns;
                for (int column = 0; column < columns; column++)
                {
                    row[column] -= mean;
                }
            }

            Centered[channel] = row;
        }

        Matrix = Matrix<double>.Build.Dense(channels, channels);
        for (int i = 0; i < channels; i++)
        {
            for (int j = 0; j <= i; j++)
            {
                double sum = 0;
                for (int column = 0; column < columns; column++)
                {
                    sum += Centered[i][column] * Centered[j][column];
                }

                Matrix[i, j] = Matrix[j, i] = sum / columns;
            }
        }
    }

    /// <summary>Each channel's values less its mean, samples by positions: (C, M).</summary>
    public double[][] Centered { get; }

    /// <summary>The covariance.</summary>
    public Matrix<double> Matrix { get; }

    /// <summary>The centred values as a dense channels-first tensor.</summary>
    public double[] CenteredTensor()
    {
        var tensor = new double[Centered.Length * Centered[0].Length];
        for (int i = 0; i < tensor.Length; i++)
        {
            int row = i / _positions;
            tensor[i] = Centered[row % Centered.Length][(row / Centered.Length * _positions) + (i % _positions)];
        }

        return tensor;
    }

    /// <summary>How many channels do not vary at all.</summary>
    public int ConstantChannels => Matrix.Diagonal().Count(variance => variance == 0);

    /// <summary>The largest |correlation| between two different channels that vary; null for fewer than two of them.</summary>
    public double? LargestCorrelation()
    {
        double? largest = null;
        for (int i = 0; i < Matrix.RowCount; i++)
        {
            for (int j = 0; j < i; j++)
            {
                if (Matrix[i, i] > 0 && Matrix[j, j] > 0)
                {
                    double correlation = Math.Abs(Matrix[i, j]) / Math.Sqrt(Matrix[i, i]) / Math.Sqrt(Matrix[j, j]);
                    largest = Math.Max(largest ?? 0, correlation);
                }
            }
        }

        return largest;
    }

    /// <summary>Largest over smallest eigenvalue of the channels that vary; infinite for a singular covariance.</summary>
    public double ConditionNumber()
    {
        int[] varying = [.. Enumerable.Range(0, Matrix.RowCount).Where(i => Matrix[i, i] > 0)];
        if (varying.Length == 0)
        {
            return double.NaN;
        }

        Matrix<double> part = Matrix<double>.Build.Dense(varying.Length, varying.Length, (i, j) => Matrix[varying[i], varying[j]]);
        double[] eigenvalues = [.. Eigen(part).Values];
        double largest = eigenvalues.Max();
        double smallest = eigenvalues.Min();
        return smallest <= varying.Length * 2.2e-16 * largest ? double.PositiveInfinity : largest / smallest;
    }

    /// <summary>S (S + epsilon I)^-1: what the covariance of a whitened output is.</summary>
    public Matrix<double> Whitened(double epsilon)
    {
        (double[] values, Matrix<double> vectors) = Eigen(Matrix);
        Matrix<double> scaled = vectors.Clone();
        for (int j = 0; j < values.Length; j++)
        {
            // Below zero only by rounding.
            double eigenvalue = Math.Max(values[j], 0);
            scaled.SetColumn(j, vectors.Column(j) * (eigenvalue == 0 ? 0 : eigenvalue / (eigenvalue + epsilon)));
        }

        return scaled.TransposeAndMultiply(vectors);
    }

    /// <summary>Eigenvalues and orthonormal eigenvectors (columns) of a symmetric matrix.</summary>
    public static (double[] Values, Matrix<double> Vectors) Eigen(Matrix<double> symmetric)
    {
        var evd = symmetric.Evd(Symmetricity.Symmetric);
        return ([.. evd.EigenValues.Select(value => value.Real)], evd.EigenVectors);
    }
}
