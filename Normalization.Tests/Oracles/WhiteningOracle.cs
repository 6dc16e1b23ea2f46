using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>The oracle of PCA whitening, Cholesky whitening and IterNorm.</summary>
/// <remarks>
/// It differs from the strategies wherever mathematics leaves a choice: IterNorm is the scalar recursion on eigenvalues, not products of matrices, and its
/// gradient that recursion's divided difference; the gradient of Cholesky whitening goes through dL/dL and the factor.
/// </remarks>
internal sealed class WhiteningOracle : Oracle
{
    private readonly string _id;
    private readonly StrategySettings _settings;
    private readonly double _largest;
    private readonly int _channels;
    private readonly int _size;
    private readonly bool _tracks;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;
    private double[] _normalized = [];

    public WhiteningOracle(string id, ActivationShape shape, StrategySettings settings, double largest)
    {
        _id = id;
        _settings = settings;
        _largest = largest;
        _channels = shape.Channels;
        _size = settings.GroupSize ?? _channels;
        _tracks = settings.RunningStatistics ?? true;
        _weight = new OracleParameter(Filled(_channels, 1));
        _bias = new OracleParameter(Filled(_channels, 0));
        if (settings.Weight)
        {
            AddParameter("weight", _weight);
        }

        if (settings.Bias)
        {
            AddParameter("bias", _bias);
        }

        if (_tracks)
        {
            Buffers["running_mean"] = Filled(_channels, 0);
            Buffers[SecondBuffer] = [.. Enumerable.Range(0, _channels * _size).Select(i => i % _size == i / _size % _size ? 1.0 : 0)];
        }
    }

    private bool KeepsMatrix => _settings.WhiteningRunning == WhiteningRunning.WhiteningMatrix;

    private string SecondBuffer => KeepsMatrix ? "running_whitening" : "running_covariance";

    private bool UsesBatch => Training || !_tracks;

    public override int[] SetOfElements(ActivationShape shape) =>
        UsesBatch ? [.. ChannelOf(shape).Select(channel => channel / _size)] : ChannelOf(shape);

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        var means = new double[_channels];
        var kept = new double[_channels * _size];
        _normalized = new double[x.Length];
        int count = x.Length / _channels;
        for (int group = 0; group < _channels / _size && count > 0; group++)
        {
            Whitened whitened = Whiten(shape, x, group);
            Store(shape, NaiveNormalizer.Product(whitened.Matrix, whitened.Centred), _normalized, group);
            Array.Copy(whitened.Mean, 0, means, group * _size, _size);
            double[,] statistic = KeepsMatrix ? whitened.Matrix : whitened.Covariance;
            double factor = !KeepsMatrix && _settings.RunningVariance == RunningVariance.Sample ? count / (count - 1.0) : 1;
            for (int i = 0; i < _size * _size; i++)
            {
                kept[(group * _size * _size) + i] = factor * statistic[i / _size, i % _size];
            }
        }

        if (Training && _tracks && count > 0)
        {
            Update(means, kept);
        }

        int[] channel = ChannelOf(shape);
        double[] y = [.. _normalized.Select((value, i) => (value * (_settings.Weight ? _weight.Values[channel[i]] : 1)) + (_settings.Bias ? _bias.Values[channel[i]] : 0))];
        OutputScale = Filled(y.Length, Largest(y));
        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int[] channel = ChannelOf(shape);
        var upstream = new double[x.Length];
        Array.Clear(_weight.Gradient);
        Array.Clear(_bias.Gradient);
        for (int i = 0; i < x.Length; i++)
        {
            upstream[i] = dy[i] * (_settings.Weight ? _weight.Values[channel[i]] : 1);
            _weight.Gradient[channel[i]] += dy[i] * _normalized[i];
            _bias.Gradient[channel[i]] += dy[i];
        }

        Array.Fill(_weight.GradientScale, Largest(_weight.Gradient));
        Array.Fill(_bias.GradientScale, Largest(_bias.Gradient));
        var dx = new double[x.Length];
        int count = x.Length / _channels;
        for (int group = 0; group < _channels / _size && count > 0; group++)
        {
            Whitened whitened = Whiten(shape, x, group);
            double[,] gradient = Columns(shape, upstream, group);
            if (!UsesBatch)
            {
                Store(shape, NaiveNormalizer.Product(NaiveNormalizer.Transposed(whitened.Matrix), gradient), dx, group);
                continue;
            }

            double[,] ofMatrix = NaiveNormalizer.Product(gradient, NaiveNormalizer.Transposed(whitened.Centred));
            double[,] s = Shrunk(_id switch
            {
                WhiteningCase.Pca => PcaGradient(whitened.Regularized, ofMatrix),
                WhiteningCase.Cholesky => CholeskyGradient(whitened.Regularized, ofMatrix),
                _ => IterNormGradient(whitened.Regularized, ofMatrix),
            });
            for (int c = 0; c < _size; c++)
            {
                double average = Enumerable.Range(0, count).Average(j => gradient[c, j]);
                for (int j = 0; j < count; j++)
                {
                    gradient[c, j] -= average;
                }
            }

            double[,] direct = NaiveNormalizer.Product(NaiveNormalizer.Transposed(whitened.Matrix), gradient);
            double[,] through = NaiveNormalizer.Product(s, whitened.Centred);
            for (int i = 0; i < _size * count; i++)
            {
                direct[i / count, i % count] += 2.0 / count * through[i / count, i % count];
            }

            Store(shape, direct, dx, group);
        }

        InputGradientScale = Filled(x.Length, Largest(dx));
        return dx;
    }

    private void Update(double[] means, double[] kept)
    {
        if (means.Concat(kept).Any(value => !(Math.Abs(value) <= _largest)))
        {
            SkippedUpdates++;
            return;
        }

        BatchesTracked++;
        double rate = _settings.Momentum ?? 1.0 / BatchesTracked;
        foreach ((double[] running, double[] batch) in new[] { (Buffers["running_mean"], means), (Buffers[SecondBuffer], kept) })
        {
            for (int i = 0; i < running.Length; i++)
            {
                running[i] = ((1 - rate) * running[i]) + (rate * batch[i]);
            }
        }
    }

    private sealed record Whitened(double[] Mean, double[,] Centred, double[,] Covariance, double[,] Regularized, double[,] Matrix);

    private Whitened Whiten(ActivationShape shape, double[] x, int group)
    {
        double[,] data = Columns(shape, x, group);
        int count = data.GetLength(1);
        var mean = new double[_size];
        for (int c = 0; c < _size; c++)
        {
            // Differences from the first value: a mean far from zero costs no digits.
            double origin = UsesBatch ? data[c, 0] : Buffers["running_mean"][(group * _size) + c];
            double offset = UsesBatch ? Enumerable.Range(0, count).Average(j => data[c, j] - origin) : 0;
            mean[c] = origin + offset;
            for (int j = 0; j < count; j++)
            {
                data[c, j] = data[c, j] - origin - offset;
            }
        }

        double[,] second = UsesBatch ? NaiveNormalizer.Product(data, NaiveNormalizer.Transposed(data)) : new double[_size, _size];
        for (int i = 0; i < _size * _size; i++)
        {
            second[i / _size, i % _size] = UsesBatch ? second[i / _size, i % _size] / count : Buffers[SecondBuffer][(group * _size * _size) + i];
        }

        if (!UsesBatch && KeepsMatrix)
        {
            return new Whitened(mean, data, second, second, second);
        }

        double trace = Enumerable.Range(0, _size).Sum(c => second[c, c]);
        var regularized = new double[_size, _size];
        for (int i = 0; i < _size * _size; i++)
        {
            regularized[i / _size, i % _size] = ((1 - _settings.Shrinkage) * second[i / _size, i % _size])
                + (i / _size == i % _size ? (_settings.Shrinkage * trace / _size) + _settings.Epsilon : 0);
        }

        double[,] matrix = _id switch
        {
            WhiteningCase.Pca => PcaMatrix(regularized),
            WhiteningCase.Cholesky => LowerInverse(Factor(regularized)),
            _ => IterNormMatrix(regularized),
        };
        return new Whitened(mean, data, second, regularized, matrix);
    }

    private double[,] Shrunk(double[,] s)
    {
        double trace = Enumerable.Range(0, _size).Sum(c => s[c, c]);
        var result = new double[_size, _size];
        for (int i = 0; i < _size * _size; i++)
        {
            result[i / _size, i % _size] = ((1 - _settings.Shrinkage) * s[i / _size, i % _size]) + (i / _size == i % _size ? _settings.Shrinkage * trace / _size : 0);
        }

        return result;
    }

    // ---------------------------------------------------------------- PCA

    // Eigenvectors in columns by descending eigenvalue, the largest entry of each positive.
    private static (double[] Values, double[,] Vectors) Principal(double[,] sigma)
    {
        int d = sigma.GetLength(0);
        (double[] values, double[,] vectors) = NaiveNormalizer.Eigen(sigma);
        int[] order = [.. Enumerable.Range(0, d).OrderByDescending(i => values[i])];
        var sorted = new double[d, d];
        for (int k = 0; k < d; k++)
        {
            double largest = Enumerable.Range(0, d).Max(i => Math.Abs(vectors[i, order[k]]));
            int decides = Enumerable.Range(0, d).FirstOrDefault(i => Math.Abs(vectors[i, order[k]]) >= (1 - 1e-6) * largest);
            double sign = vectors[decides, order[k]] < 0 ? -1 : 1;
            for (int i = 0; i < d; i++)
            {
                sorted[i, k] = sign * vectors[i, order[k]];
            }
        }

        return ([.. order.Select(i => values[i])], sorted);
    }

    private static double[,] PcaMatrix(double[,] sigma)
    {
        (double[] values, double[,] vectors) = Principal(sigma);
        double[,] matrix = NaiveNormalizer.Transposed(vectors);
        for (int i = 0; i < matrix.Length; i++)
        {
            matrix[i / values.Length, i % values.Length] /= Math.Sqrt(values[i / values.Length]);
        }

        return matrix;
    }

    private double[,] PcaGradient(double[,] sigma, double[,] ofMatrix)
    {
        (double[] values, double[,] vectors) = Principal(sigma);
        double[,] turned = NaiveNormalizer.Product(ofMatrix, vectors);
        var e = new double[_size, _size];
        for (int i = 0; i < _size; i++)
        {
            for (int j = 0; j < _size; j++)
            {
                double gap = values[j] - values[i];
                gap = (j > i ? -1 : 1) * Math.Max(Math.Abs(gap), (_settings.GapClamp ?? 0) * Math.Max(values[i], values[j]));
                e[i, j] = i == j ? -0.5 * Math.Pow(values[i], -1.5) * turned[i, i]
                    : 0.5 * ((turned[j, i] / Math.Sqrt(values[j])) - (turned[i, j] / Math.Sqrt(values[i]))) / gap;
            }
        }

        return NaiveNormalizer.Product(NaiveNormalizer.Product(vectors, e), NaiveNormalizer.Transposed(vectors));
    }

    // ---------------------------------------------------------------- Cholesky

    private static double[,] Factor(double[,] sigma)
    {
        int d = sigma.GetLength(0);
        var factor = new double[d, d];
        for (int i = 0; i < d; i++)
        {
            for (int j = 0; j <= i; j++)
            {
                double rest = sigma[i, j];
                for (int k = 0; k < j; k++)
                {
                    rest -= factor[i, k] * factor[j, k];
                }

                factor[i, j] = i == j ? Math.Sqrt(rest) : rest / factor[j, j];
            }
        }

        return factor;
    }

    private static double[,] LowerInverse(double[,] factor)
    {
        int d = factor.GetLength(0);
        var inverse = new double[d, d];
        for (int column = 0; column < d; column++)
        {
            for (int i = column; i < d; i++)
            {
                double rest = i == column ? 1 : 0;
                for (int k = column; k < i; k++)
                {
                    rest -= factor[i, k] * inverse[k, column];
                }

                inverse[i, column] = rest / factor[i, i];
            }
        }

        return inverse;
    }

    private double[,] CholeskyGradient(double[,] sigma, double[,] ofMatrix)
    {
        double[,] factor = Factor(sigma);
        double[,] inverse = LowerInverse(factor);
        double[,] ofFactor = NaiveNormalizer.Product(
            NaiveNormalizer.Transposed(inverse), NaiveNormalizer.Product(ofMatrix, NaiveNormalizer.Transposed(inverse)));
        for (int i = 0; i < _size * _size; i++)
        {
            ofFactor[i / _size, i % _size] = i % _size <= i / _size ? -ofFactor[i / _size, i % _size] : 0;
        }

        double[,] phi = NaiveNormalizer.Product(NaiveNormalizer.Transposed(factor), ofFactor);
        for (int i = 0; i < _size * _size; i++)
        {
            phi[i / _size, i % _size] *= i % _size < i / _size ? 1 : i % _size == i / _size ? 0.5 : 0;
        }

        double[,] s = NaiveNormalizer.Product(NaiveNormalizer.Transposed(inverse), NaiveNormalizer.Product(phi, inverse));
        var symmetric = new double[_size, _size];
        for (int i = 0; i < _size * _size; i++)
        {
            symmetric[i / _size, i % _size] = 0.5 * (s[i / _size, i % _size] + s[i % _size, i / _size]);
        }

        return symmetric;
    }

    // ---------------------------------------------------------------- IterNorm

    private double[,] IterNormMatrix(double[,] sigma)
    {
        (double[] values, double[,] vectors) = NaiveNormalizer.Eigen(sigma);
        double trace = values.Sum();
        double[] roots = [.. values.Select(value => Polynomial(value / trace, value / trace).Value / Math.Sqrt(trace))];
        var scaled = (double[,])vectors.Clone();
        for (int i = 0; i < scaled.Length; i++)
        {
            scaled[i / _size, i % _size] *= roots[i % _size];
        }

        return NaiveNormalizer.Product(scaled, NaiveNormalizer.Transposed(vectors));
    }

    // p_T at the greater of two points, and its divided difference between them: p = (3 p - p^3 s) / 2.
    private (double Value, double Difference) Polynomial(double greater, double smaller)
    {
        double p = 1;
        double other = 1;
        double difference = 0;
        for (int step = 0; step < _settings.Iterations; step++)
        {
            difference = (1.5 * difference) - (0.5 * ((p * p * p) + (smaller * ((p * p) + (p * other) + (other * other)) * difference)));
            p = (1.5 * p) - (0.5 * p * p * p * greater);
            other = (1.5 * other) - (0.5 * other * other * other * smaller);
        }

        return (p, difference);
    }

    private double[,] IterNormGradient(double[,] sigma, double[,] ofMatrix)
    {
        (double[] values, double[,] vectors) = NaiveNormalizer.Eigen(sigma);
        double trace = values.Sum();
        double[,] turned = NaiveNormalizer.Product(NaiveNormalizer.Product(NaiveNormalizer.Transposed(vectors), ofMatrix), vectors);
        var inner = new double[_size, _size];
        double ofTrace = 0;
        for (int i = 0; i < _size; i++)
        {
            for (int j = 0; j < _size; j++)
            {
                double difference = Polynomial(Math.Max(values[i], values[j]) / trace, Math.Min(values[i], values[j]) / trace).Difference;
                inner[i, j] = 0.5 * (turned[i, j] + turned[j, i]) / Math.Sqrt(trace) * difference / trace;
            }

            double s = values[i] / trace;
            ofTrace += (inner[i, i] * s) + (0.5 * turned[i, i] * Polynomial(s, s).Value / Math.Sqrt(trace) / trace);
        }

        for (int i = 0; i < _size; i++)
        {
            inner[i, i] -= ofTrace;
        }

        return NaiveNormalizer.Product(NaiveNormalizer.Product(vectors, inner), NaiveNormalizer.Transposed(vectors));
    }

    // ---------------------------------------------------------------- a group's channels as rows, its columns (n, s)

    private double[,] Columns(ActivationShape shape, double[] values, int group)
    {
        int spatial = (int)shape.SpatialSize;
        var columns = new double[_size, (int)shape.Samples * spatial];
        for (int i = 0; i < columns.Length; i++)
        {
            (int c, int j) = Math.DivRem(i, columns.GetLength(1));
            columns[c, j] = values[(((j / spatial * _channels) + (group * _size) + c) * spatial) + (j % spatial)];
        }

        return columns;
    }

    private void Store(ActivationShape shape, double[,] columns, double[] values, int group)
    {
        int spatial = (int)shape.SpatialSize;
        for (int i = 0; i < columns.Length; i++)
        {
            (int c, int j) = Math.DivRem(i, columns.GetLength(1));
            values[(((j / spatial * _channels) + (group * _size) + c) * spatial) + (j % spatial)] = columns[c, j];
        }
    }
}

/// <summary>One of the whitening strategies beside ZCA.</summary>
internal sealed class WhiteningCase(string id) : StrategyCase
{
    public const string Pca = "pca-whitening";
    public const string Cholesky = "cholesky-whitening";
    public const string IterNorm = "iter-norm";

    public override string Id => id;

    public override bool Whitens => true;

    // As the variances go to epsilon, or a batch is constant, all eigenvalues become one: PCA refuses it.
    public override bool HoldsAtAnyMagnitude => id != Pca;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new WhiteningOracle(id, shape, settings, largest);

    public override double Tolerance<T>() => typeof(T) == typeof(float) ? 1e-5 : 1e-10;

    public override StrategySettings Adapt(StrategySettings settings, ActivationShape shape)
    {
        if (id != Pca)
        {
            return settings;
        }

        // Whole samples of few values have no distinct eigenvalues beyond them.
        int most = (int)Math.Clamp((long)(shape.Samples * shape.SpatialSize - 1) / 2, 1, settings.GroupSize ?? shape.Channels);
        return settings with { GroupSize = Enumerable.Range(1, most).Last(size => shape.Channels % size == 0) };
    }

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        StrategySettings[] all =
        [
            plain,
            plain with { GroupSize = 2 },
            plain with { Shrinkage = 0.1, Momentum = null },
            plain with { WhiteningRunning = WhiteningRunning.WhiteningMatrix, Epsilon = 1e-3 },
            plain with { GroupSize = 3, Shrinkage = 0.05, RunningVariance = RunningVariance.Population },
            plain with { GroupSize = 1 },
            .. id == IterNorm ? new[] { plain with { Iterations = 0 }, plain with { Iterations = 1 }, plain with { Iterations = 2, GroupSize = 2 }, plain with { Iterations = 9 } } : [],
            .. id == Pca ? new[] { plain with { GapClamp = 0.3, GroupSize = 2 } } : [],
        ];
        return all.Where(settings => shape.Channels % (settings.GroupSize ?? 1) == 0)
            .Where(settings => id != Pca || (settings.GroupSize ?? shape.Channels) < (long)(shape.Samples * shape.SpatialSize));
    }
}
