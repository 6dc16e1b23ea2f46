using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Oracles;

/// <summary>The oracle of the strategies that center and scale sets of elements, and of ZCA whitening.</summary>
internal sealed class NaiveNormalizer : Oracle
{
    private readonly string _strategy;
    private readonly StrategySettings _settings;
    private readonly double _largest;
    private readonly int _channels;
    private readonly bool _tracks;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;

    /// <param name="strategy">An id of the catalog, other than none.</param>
    /// <param name="shape">The activations; N may differ later.</param>
    /// <param name="settings">The options.</param>
    /// <param name="largest">The largest value the storage type holds; a batch with a greater statistic updates nothing.</param>
    public NaiveNormalizer(string strategy, ActivationShape shape, StrategySettings settings, double largest = double.MaxValue)
    {
        _strategy = strategy;
        _settings = settings;
        _largest = largest;
        _channels = shape.Channels;
        int parameters = strategy == "layer-norm" ? Inner(shape) : _channels;
        _weight = new OracleParameter(Filled(parameters, 1));
        _bias = new OracleParameter(Filled(parameters, 0));
        if (settings.Weight)
        {
            AddParameter("weight", _weight);
        }

        if (settings.Bias)
        {
            AddParameter("bias", _bias);
        }

        bool canTrack = strategy is "batch-norm" or "instance-norm" or "ghost-batch-norm" or "zca-whitening";
        _tracks = canTrack && (settings.RunningStatistics ?? strategy != "instance-norm");
        if (!_tracks)
        {
            return;
        }

        Buffers["running_mean"] = Filled(_channels, 0);
        if (strategy == "zca-whitening")
        {
            int d = GroupSize;
            var identity = new double[_channels * d];
            for (int c = 0; c < _channels; c++)
            {
                identity[c * d + c % d] = 1;
            }

            Buffers[SecondBuffer] = identity;
        }
        else
        {
            Buffers[SecondBuffer] = Filled(_channels, 1);
        }
    }

    public double[]? Weight => _settings.Weight ? _weight.Values : null;

    public double[]? Bias => _settings.Bias ? _bias.Values : null;

    /// <summary>After Backward; of a weight of ones where there is none.</summary>
    public double[] WeightGradient => _weight.Gradient;

    /// <summary>After Backward; of a bias of zeros where there is none.</summary>
    public double[] BiasGradient => _bias.Gradient;

    /// <summary>After Forward: the values before weight and bias.</summary>
    public double[] Normalized { get; private set; } = [];

    /// <summary>The reduction set of every element: the channel where running statistics normalize.</summary>
    public override int[] SetOfElements(ActivationShape shape) => UsesBatch ? BatchSets(shape) : ChannelOf(shape);

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        double[] y = _strategy == "zca-whitening" ? Whiten(shape, x, null) : Standardize(shape, x, null);
        int[] parameter = ParameterOf(shape);
        for (int i = 0; i < y.Length; i++)
        {
            y[i] = y[i] * (Weight?[parameter[i]] ?? 1) + (Bias?[parameter[i]] ?? 0);
        }

        if (_strategy == "zca-whitening")
        {
            OutputScale = Filled(y.Length, Largest(y));
        }
        else
        {
            double[] xhat = Normalized;
            OutputScale = LargestOfSet(
                SetOfElements(shape), i => Math.Abs(xhat[i] * (Weight?[parameter[i]] ?? 1)) + Math.Abs(Bias?[parameter[i]] ?? 0));
        }

        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int[] parameter = ParameterOf(shape);
        var upstream = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            upstream[i] = dy[i] * (Weight?[parameter[i]] ?? 1);
        }

        double[] dx = _strategy == "zca-whitening" ? Whiten(shape, x, upstream) : Standardize(shape, x, upstream);
        Array.Clear(WeightGradient);
        Array.Clear(BiasGradient);
        Array.Clear(_weight.GradientScale);
        Array.Clear(_bias.GradientScale);
        for (int i = 0; i < x.Length; i++)
        {
            WeightGradient[parameter[i]] += dy[i] * Normalized[i];
            BiasGradient[parameter[i]] += dy[i];
            _weight.GradientScale[parameter[i]] += Math.Abs(dy[i] * Normalized[i]);
            _bias.GradientScale[parameter[i]] += Math.Abs(dy[i]);
        }

        if (_strategy == "zca-whitening")
        {
            InputGradientScale = Filled(x.Length, Largest(dx));
            Array.Fill(_weight.GradientScale, Largest(WeightGradient));
            Array.Fill(_bias.GradientScale, Largest(BiasGradient));
        }

        return dx;
    }

    private bool UsesBatch => Training || !_tracks;

    private int GroupSize => _settings.GroupSize ?? _channels;

    private string SecondBuffer => _strategy != "zca-whitening" ? "running_var"
        : _settings.WhiteningRunning == WhiteningRunning.WhiteningMatrix ? "running_whitening" : "running_covariance";

    // xhat where upstream is null (and one running update in training), dx = d(xhat)/dx^T upstream where it is not.
    private double[] Standardize(ActivationShape shape, double[] x, double[]? upstream)
    {
        int[] set = SetOfElements(shape);
        int sets = set.Length == 0 ? 0 : set.Max() + 1;
        var members = new List<int>[sets];
        for (int r = 0; r < sets; r++)
        {
            members[r] = [];
        }

        for (int i = 0; i < x.Length; i++)
        {
            members[set[i]].Add(i);
        }

        var xhat = new double[x.Length];
        var dx = new double[x.Length];
        var mean = new double[sets];
        var variance = new double[sets];
        InputGradientScale = new double[x.Length];
        for (int r = 0; r < sets; r++)
        {
            int m = members[r].Count;
            // Differences from the first value: a mean far from zero costs no digits.
            double origin = UsesBatch ? x[members[r][0]] : Buffers["running_mean"][r];
            double offset = 0;
            if (UsesBatch)
            {
                foreach (int i in members[r])
                {
                    offset += x[i] - origin;
                }

                // Once more around the mean found, since a long plain sum loses digits.
                offset /= m;
                double rest = 0;
                foreach (int i in members[r])
                {
                    rest += x[i] - origin - offset;
                }

                offset += rest / m;
                foreach (int i in members[r])
                {
                    double deviation = x[i] - origin - offset;
                    variance[r] += deviation * deviation / m;
                }
            }
            else
            {
                variance[r] = Buffers["running_var"][r];
            }

            mean[r] = origin + offset;
            double inverse = 1 / Math.Sqrt(variance[r] + _settings.Epsilon);
            foreach (int i in members[r])
            {
                xhat[i] = (x[i] - origin - offset) * inverse;
            }

            if (upstream is null)
            {
                continue;
            }

            double first = 0;
            double second = 0;
            double largest = 0;
            foreach (int i in members[r])
            {
                first += upstream[i] / m;
                second += upstream[i] * xhat[i] / m;
                largest = Math.Max(largest, Math.Abs(upstream[i]));
            }

            foreach (int i in members[r])
            {
                dx[i] = UsesBatch ? inverse * (upstream[i] - first - xhat[i] * second) : inverse * upstream[i];
                InputGradientScale[i] = largest * inverse;
            }
        }

        Normalized = xhat;
        if (upstream is null && Training && _tracks && x.Length > 0)
        {
            UpdateMoments(shape, members, mean, variance);
        }

        return upstream is null ? (double[])xhat.Clone() : dx;
    }

    private void UpdateMoments(ActivationShape shape, List<int>[] members, double[] mean, double[] variance)
    {
        int per = members.Length / _channels;
        var means = new double[per][];
        var variances = new double[per][];
        var samples = new double[per];
        for (int k = 0; k < per; k++)
        {
            means[k] = new double[_channels];
            variances[k] = new double[_channels];
            for (int c = 0; c < _channels; c++)
            {
                double m = members[k * _channels + c].Count;
                samples[k] = m / shape.SpatialSize;
                means[k][c] = mean[k * _channels + c];
                variances[k][c] = variance[k * _channels + c] * (_settings.RunningVariance == RunningVariance.Sample ? m / (m - 1) : 1);
            }
        }

        if (_strategy == "ghost-batch-norm" && _settings.GhostRunning == GhostRunning.Sequential)
        {
            Update(means, variances);
            return;
        }

        var averageMean = new double[_channels];
        var averageVariance = new double[_channels];
        double total = samples.Sum();
        for (int k = 0; k < per; k++)
        {
            for (int c = 0; c < _channels; c++)
            {
                averageMean[c] += means[k][c] * samples[k] / total;
                averageVariance[c] += variances[k][c] * samples[k] / total;
            }
        }

        Update([averageMean], [averageVariance]);
    }

    private void Update(double[][] first, double[][] second)
    {
        if (first.Concat(second).Any(statistic => statistic.Any(value => !(Math.Abs(value) <= _largest))))
        {
            SkippedUpdates++;
            return;
        }

        for (int k = 0; k < first.Length; k++)
        {
            BatchesTracked++;
            double rate = _settings.Momentum ?? 1.0 / BatchesTracked;
            Average(Buffers["running_mean"], first[k], rate);
            Average(Buffers[SecondBuffer], second[k], rate);
        }
    }

    private static void Average(double[] running, double[] statistic, double rate)
    {
        for (int i = 0; i < running.Length; i++)
        {
            running[i] = (1 - rate) * running[i] + rate * statistic[i];
        }
    }

    private double[] Whiten(ActivationShape shape, double[] x, double[]? upstream)
    {
        int d = GroupSize;
        int spatial = (int)shape.SpatialSize;
        int count = (int)shape.Samples * spatial;
        var y = new double[x.Length];
        var dx = new double[x.Length];
        var means = new double[_channels];
        var kept = new double[_channels * d];
        for (int group = 0; group < _channels / d && count > 0; group++)
        {
            // Rows are channels, columns are (n, s).
            double[,] data = Columns(x, group);
            var mean = new double[d];
            double[,] whitening;
            double[,]? root = null;
            if (UsesBatch)
            {
                for (int c = 0; c < d; c++)
                {
                    double origin = data[c, 0];
                    double offset = 0;
                    for (int j = 0; j < count; j++)
                    {
                        offset += (data[c, j] - origin) / count;
                    }

                    mean[c] = origin + offset;
                    for (int j = 0; j < count; j++)
                    {
                        data[c, j] = data[c, j] - origin - offset;
                    }
                }

                double[,] covariance = Scaled(Product(data, Transposed(data)), 1.0 / count);
                (whitening, root) = InverseRoot(Regularized(covariance));
                double stored = _settings.RunningVariance == RunningVariance.Sample ? count / (count - 1.0) : 1;
                for (int i = 0; i < d * d; i++)
                {
                    kept[group * d * d + i] = _settings.WhiteningRunning == WhiteningRunning.WhiteningMatrix
                        ? whitening[i / d, i % d] : covariance[i / d, i % d] * stored;
                }
            }
            else
            {
                var running = new double[d, d];
                for (int i = 0; i < d * d; i++)
                {
                    running[i / d, i % d] = Buffers[SecondBuffer][group * d * d + i];
                }

                whitening = _settings.WhiteningRunning == WhiteningRunning.WhiteningMatrix ? running : InverseRoot(Regularized(running)).Inverse;
                for (int c = 0; c < d; c++)
                {
                    mean[c] = Buffers["running_mean"][group * d + c];
                    for (int j = 0; j < count; j++)
                    {
                        data[c, j] -= mean[c];
                    }
                }
            }

            Array.Copy(mean, 0, means, group * d, d);
            Store(Product(whitening, data), y, group);
            if (upstream is null)
            {
                continue;
            }

            double[,] gradient = Columns(upstream, group);
            if (!UsesBatch)
            {
                Store(Product(Transposed(whitening), gradient), dx, group);
                continue;
            }

            // L depends on X through W (A = G X^T) and through W X directly; W = Sigma^(-1/2) gives R S + S R = -W sym(A) W.
            double[,] a = Product(gradient, Transposed(data));
            double[,] right = Scaled(Product(Product(whitening, Scaled(Sum(a, Transposed(a)), 0.5)), whitening), -1);
            double[,] s = SolveLyapunov(root!, right);
            double trace = 0;
            for (int c = 0; c < d; c++)
            {
                trace += s[c, c];
            }

            s = Scaled(s, 1 - _settings.Shrinkage);
            for (int c = 0; c < d; c++)
            {
                s[c, c] += _settings.Shrinkage * trace / d;
                double average = 0;
                for (int j = 0; j < count; j++)
                {
                    average += gradient[c, j] / count;
                }

                for (int j = 0; j < count; j++)
                {
                    gradient[c, j] -= average;
                }
            }

            Store(Sum(Product(Transposed(whitening), gradient), Scaled(Product(s, data), 2.0 / count)), dx, group);
        }

        Normalized = y;
        if (upstream is null && Training && _tracks && count > 0)
        {
            Update([means], [kept]);
        }

        return upstream is null ? (double[])y.Clone() : dx;

        double[,] Columns(double[] values, int group)
        {
            var columns = new double[d, count];
            for (int c = 0; c < d; c++)
            {
                for (int j = 0; j < count; j++)
                {
                    columns[c, j] = values[(j / spatial * _channels + group * d + c) * spatial + j % spatial];
                }
            }

            return columns;
        }

        void Store(double[,] columns, double[] values, int group)
        {
            for (int c = 0; c < d; c++)
            {
                for (int j = 0; j < count; j++)
                {
                    values[(j / spatial * _channels + group * d + c) * spatial + j % spatial] = columns[c, j];
                }
            }
        }
    }

    private double[,] Regularized(double[,] covariance)
    {
        int d = covariance.GetLength(0);
        double alpha = _settings.Shrinkage;
        double trace = 0;
        for (int c = 0; c < d; c++)
        {
            trace += covariance[c, c];
        }

        double[,] result = Scaled(covariance, 1 - alpha);
        for (int c = 0; c < d; c++)
        {
            result[c, c] += alpha * trace / d + _settings.Epsilon;
        }

        return result;
    }

    /// <summary>Sigma^(-1/2) and Sigma^(1/2) by cyclic Jacobi.</summary>
    internal static (double[,] Inverse, double[,] Root) InverseRoot(double[,] sigma)
    {
        int d = sigma.GetLength(0);
        (double[] values, double[,] vectors) = Eigen(sigma);
        var inverse = new double[d, d];
        var root = new double[d, d];
        for (int i = 0; i < d; i++)
        {
            for (int j = 0; j < d; j++)
            {
                for (int k = 0; k < d; k++)
                {
                    inverse[i, j] += vectors[i, k] * vectors[j, k] / Math.Sqrt(values[k]);
                    root[i, j] += vectors[i, k] * vectors[j, k] * Math.Sqrt(values[k]);
                }
            }
        }

        return (inverse, root);
    }

    /// <summary>Eigenvalues and, in columns, eigenvectors of a symmetric matrix; all NaN for a matrix that is not finite.</summary>
    internal static (double[] Values, double[,] Vectors) Eigen(double[,] symmetric)
    {
        int d = symmetric.GetLength(0);
        var a = (double[,])symmetric.Clone();
        var vectors = new double[d, d];
        double norm = 0;
        for (int i = 0; i < d; i++)
        {
            vectors[i, i] = 1;
            for (int j = 0; j < d; j++)
            {
                norm = Math.Max(norm, Math.Abs(a[i, j]));
                if (!double.IsFinite(a[i, j]))
                {
                    return (Filled(d, double.NaN), vectors);
                }
            }
        }

        for (int sweep = 0; sweep < 60; sweep++)
        {
            double off = 0;
            for (int p = 0; p < d; p++)
            {
                for (int q = p + 1; q < d; q++)
                {
                    off = Math.Max(off, Math.Abs(a[p, q]));
                    if (a[p, q] == 0)
                    {
                        continue;
                    }

                    double angle = 0.5 * Math.Atan2(2 * a[p, q], a[q, q] - a[p, p]);
                    double cosine = Math.Cos(angle);
                    double sine = Math.Sin(angle);
                    for (int k = 0; k < d; k++)
                    {
                        (a[k, p], a[k, q]) = (cosine * a[k, p] - sine * a[k, q], sine * a[k, p] + cosine * a[k, q]);
                    }

                    for (int k = 0; k < d; k++)
                    {
                        (a[p, k], a[q, k]) = (cosine * a[p, k] - sine * a[q, k], sine * a[p, k] + cosine * a[q, k]);
                        (vectors[k, p], vectors[k, q]) =
                            (cosine * vectors[k, p] - sine * vectors[k, q], sine * vectors[k, p] + cosine * vectors[k, q]);
                    }

                    // What the rotation leaves there is rounding, which each sweep would find anew.
                    (a[p, q], a[q, p]) = (0, 0);
                }
            }

            if (off <= 1e-17 * norm)
            {
                break;
            }
        }

        var values = new double[d];
        for (int i = 0; i < d; i++)
        {
            values[i] = a[i, i];
        }

        return (values, vectors);
    }

    /// <summary>The X of R X + X R = B for a symmetric positive R, by conjugate gradients: no eigenvalue is ever divided by another.</summary>
    internal static double[,] SolveLyapunov(double[,] root, double[,] right)
    {
        int d = root.GetLength(0);
        var x = new double[d, d];
        double[,] residual = (double[,])right.Clone();
        double[,] direction = (double[,])right.Clone();
        double squared = Dot(residual, residual);
        double goal = squared * 1e-32;
        for (int iteration = 0; iteration < 2000 && squared > goal; iteration++)
        {
            double[,] image = Sum(Product(root, direction), Product(direction, root));
            double alpha = squared / Dot(direction, image);
            double next = 0;
            for (int i = 0; i < d; i++)
            {
                for (int j = 0; j < d; j++)
                {
                    x[i, j] += alpha * direction[i, j];
                    residual[i, j] -= alpha * image[i, j];
                    next += residual[i, j] * residual[i, j];
                }
            }

            direction = Sum(residual, Scaled(direction, next / squared));
            squared = next;
        }

        return x;
    }

    internal static double[,] Product(double[,] a, double[,] b)
    {
        int rows = a.GetLength(0);
        int inner = a.GetLength(1);
        int columns = b.GetLength(1);
        var result = new double[rows, columns];
        for (int i = 0; i < rows; i++)
        {
            for (int k = 0; k < inner; k++)
            {
                double factor = a[i, k];
                for (int j = 0; j < columns; j++)
                {
                    result[i, j] += factor * b[k, j];
                }
            }
        }

        return result;
    }

    internal static double[,] Transposed(double[,] a)
    {
        var result = new double[a.GetLength(1), a.GetLength(0)];
        for (int i = 0; i < a.GetLength(0); i++)
        {
            for (int j = 0; j < a.GetLength(1); j++)
            {
                result[j, i] = a[i, j];
            }
        }

        return result;
    }

    private static double[,] Sum(double[,] a, double[,] b)
    {
        var result = new double[a.GetLength(0), a.GetLength(1)];
        for (int i = 0; i < a.GetLength(0); i++)
        {
            for (int j = 0; j < a.GetLength(1); j++)
            {
                result[i, j] = a[i, j] + b[i, j];
            }
        }

        return result;
    }

    private static double[,] Scaled(double[,] a, double factor)
    {
        var result = new double[a.GetLength(0), a.GetLength(1)];
        for (int i = 0; i < a.GetLength(0); i++)
        {
            for (int j = 0; j < a.GetLength(1); j++)
            {
                result[i, j] = a[i, j] * factor;
            }
        }

        return result;
    }

    private static double Dot(double[,] a, double[,] b)
    {
        double sum = 0;
        for (int i = 0; i < a.GetLength(0); i++)
        {
            for (int j = 0; j < a.GetLength(1); j++)
            {
                sum += a[i, j] * b[i, j];
            }
        }

        return sum;
    }

    // The number of the reduction set of every element in training; for BatchNorm's family k * C + c, k the instance or ghost.
    private int[] BatchSets(ActivationShape shape)
    {
        int spatial = (int)shape.SpatialSize;
        int inner = Inner(shape);
        int[] ghost = _strategy == "ghost-batch-norm" ? GhostOf((int)shape.Samples) : [];
        Func<int, int, int, int> setOf = _strategy switch
        {
            "batch-norm" => (_, _, c) => c,
            "layer-norm" => (i, _, _) => i / inner,
            "instance-norm" => (_, n, c) => n * _channels + c,
            "group-norm" => (_, n, c) => n * _settings.Groups + c / (_channels / _settings.Groups),
            "ghost-batch-norm" => (_, n, c) => ghost[n] * _channels + c,
            "zca-whitening" => (_, _, c) => c / GroupSize,
            _ => throw new ArgumentException(_strategy),
        };
        var set = new int[shape.Count];
        for (int i = 0; i < set.Length; i++)
        {
            set[i] = setOf(i, i / (_channels * spatial), i / spatial % _channels);
        }

        return set;
    }

    private int[] ParameterOf(ActivationShape shape)
    {
        if (_strategy != "layer-norm")
        {
            return ChannelOf(shape);
        }

        int inner = Inner(shape);
        var parameter = new int[shape.Count];
        for (int i = 0; i < parameter.Length; i++)
        {
            parameter[i] = i % inner;
        }

        return parameter;
    }

    private int Inner(ActivationShape shape)
    {
        int axes = _settings.NormalizedDimensions ?? shape.Rank - 1;
        int inner = 1;
        for (int axis = shape.Rank - axes; axis < shape.Rank; axis++)
        {
            inner *= (int)shape[axis];
        }

        return inner;
    }

    private int[] GhostOf(int samples)
    {
        int size = _settings.GhostSize;
        int ghosts = (samples + size - 1) / size;
        if (_settings.GhostRemainder == GhostRemainder.Throw && samples % size != 0)
        {
            throw new InvalidOperationException("The batch cannot be cut into whole ghosts.");
        }

        int run = _settings.GhostRemainder == GhostRemainder.Balanced ? (samples + ghosts - 1) / ghosts : size;
        var ghost = new int[samples];
        for (int n = 0; n < samples; n++)
        {
            ghost[n] = _settings.GhostGrouping == GhostGrouping.Strided ? n % ghosts : n / run;
        }

        return ghost;
    }
}
