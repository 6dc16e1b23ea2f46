using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>Adaptive batch normalization on the domain "target": sums of values and of squares about the mean of everything seen so far.</summary>
internal sealed class AdaBatchNormOracle : Oracle
{
    private readonly StrategySettings _settings;
    private readonly double _largest;
    private readonly int _channels;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;
    private readonly double[] _applied; // mean, offset to add to it, 1 / deviation of the last Forward, by channel

    public AdaBatchNormOracle(ActivationShape shape, StrategySettings settings, double largest)
    {
        _settings = settings;
        _largest = largest;
        _channels = shape.Channels;
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

        // The target's buffers have a second row: what rounding to the storage type left of the first. A double has none.
        Buffers["running_mean"] = Filled(_channels, 0);
        Buffers["running_var"] = Filled(_channels, 1);
        Buffers["target.mean"] = Filled(2 * _channels, 0);
        Buffers["target.var"] = Filled(2 * _channels, 0);
        Counters["target.count"] = 0;
        _applied = new double[3 * _channels];
    }

    public override int[] SetOfElements(ActivationShape shape) => ChannelOf(shape);

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        int[] channel = ChannelOf(shape);
        long count = (long)(shape.Samples * shape.SpatialSize);
        var means = new double[_channels];
        var variances = new double[_channels];
        bool fits = true;
        for (int c = 0; c < _channels && x.Length > 0; c++)
        {
            if (!Training)
            {
                bool adapted = Counters["target.count"] > 0;
                double variance = adapted ? Target("target.var", c) : Buffers["running_var"][c];
                Apply(c, adapted ? Target("target.mean", c) : Buffers["running_mean"][c], 0, variance);
                continue;
            }

            fits &= Merge(c, [.. x.Where((_, i) => channel[i] == c)], out means[c], out variances[c]);
        }

        double[] size = new double[x.Length];
        var y = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int c = channel[i];
            double xhat = Normalized(x[i], c);
            y[i] = (xhat * _weight.Values[c]) + _bias.Values[c];
            size[i] = Math.Abs(xhat * _weight.Values[c]) + Math.Abs(_bias.Values[c]);
        }

        OutputScale = LargestOfSet(channel, i => size[i]);
        if (Training && x.Length > 0 && !fits)
        {
            SkippedUpdates++;
        }
        else if (Training && x.Length > 0)
        {
            Counters["target.count"] += count;
            Buffers["target.mean"] = [.. means, .. new double[_channels]];
            Buffers["target.var"] = [.. variances, .. new double[_channels]];
        }

        return y;
    }

    // The statistics are constants.
    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int[] channel = ChannelOf(shape);
        foreach (OracleParameter parameter in new[] { _weight, _bias })
        {
            Array.Clear(parameter.Gradient);
            Array.Clear(parameter.GradientScale);
        }

        var dx = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int c = channel[i];
            double xhat = Normalized(x[i], c);
            dx[i] = dy[i] * _weight.Values[c] * _applied[(2 * _channels) + c];
            _weight.Gradient[c] += dy[i] * xhat;
            _weight.GradientScale[c] += Math.Abs(dy[i] * xhat);
            _bias.Gradient[c] += dy[i];
            _bias.GradientScale[c] += Math.Abs(dy[i]);
        }

        InputGradientScale = LargestOfSet(channel, i => dx[i]);
        return dx;
    }

    private double Target(string name, int c) => Buffers[name][c] + Buffers[name][_channels + c];

    private double Normalized(double value, int c) => (value - _applied[c] - _applied[_channels + c]) * _applied[(2 * _channels) + c];

    private void Apply(int c, double origin, double offset, double variance)
    {
        _applied[c] = origin;
        _applied[_channels + c] = offset;
        _applied[(2 * _channels) + c] = 1 / Math.Sqrt(variance + _settings.Epsilon);
    }

    // Moments of what was seen (n values of which mean and variance are known) and the batch together, about a value of the batch.
    private bool Merge(int c, double[] values, out double mean, out double variance)
    {
        double n = Counters["target.count"];
        double total = n + values.Length;
        double origin = values[0];
        double old = n == 0 ? 0 : Target("target.mean", c) - origin;
        double oldVariance = Target("target.var", c);
        double offset = ((n * old) + values.Sum(value => value - origin)) / total;
        offset += values.Sum(value => value - origin - offset) / total + (n * (old - offset) / total);
        double squares = (n * (oldVariance + ((old - offset) * (old - offset)))) + values.Sum(value => Math.Pow(value - origin - offset, 2));
        mean = origin + offset;
        variance = squares / total;
        Apply(c, origin, offset, variance);
        double batchMean = values.Average();
        double batchVariance = values.Average(value => Math.Pow(value - batchMean, 2));
        return new[] { mean, variance, batchMean, batchVariance }.All(statistic => Math.Abs(statistic) <= _largest);
    }
}

/// <summary>ada-batch-norm on its target domain.</summary>
internal sealed class AdaBatchNormCase : StrategyCase
{
    public override string Id => "ada-batch-norm";

    public override bool TrainingReadsState => true;

    public override bool DifferentiatesStatistics => false;

    public override long CountOf(string counter, ActivationShape batch) =>
        counter == "target.count" ? (long)(batch.Samples * batch.SpatialSize) : 0;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new AdaBatchNormOracle(shape, settings, largest);

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        yield return new StrategySettings();
        yield return new StrategySettings { Epsilon = 1e-3, Momentum = null };
    }
}
