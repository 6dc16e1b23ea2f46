using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>Synchronized batch norm from its definition: moments of each part, their combination, gradient sums of each part, their sum.</summary>
internal sealed class SyncBatchNormOracle : Oracle
{
    private readonly StrategySettings _settings;
    private readonly double _largest;
    private readonly int _channels;
    private readonly bool _tracks;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;

    // By channel, as the last Forward left them: x - (origin + offset), so that a mean far from zero costs no digits.
    private double[] _origin = [];
    private double[] _offset = [];
    private double[] _inverse = [];

    public SyncBatchNormOracle(ActivationShape shape, StrategySettings settings, double largest)
    {
        _settings = settings;
        _largest = largest;
        _channels = shape.Channels;
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
            Buffers["running_var"] = Filled(_channels, 1);
        }
    }

    private bool UsesBatch => Training || !_tracks;

    public override int[] SetOfElements(ActivationShape shape) => ChannelOf(shape);

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        TakeStatistics(shape, x);
        int[] channel = ChannelOf(shape);
        var y = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            y[i] = Normalized(x, i, channel[i]) * _weight.Values[channel[i]] + _bias.Values[channel[i]];
        }

        OutputScale = LargestOfSet(channel, i => Math.Abs(Normalized(x, i, channel[i]) * _weight.Values[channel[i]]) + Math.Abs(_bias.Values[channel[i]]));
        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int[] channel = ChannelOf(shape);
        List<int>[][] parts = Parts(shape);
        Array.Clear(_weight.Gradient);
        Array.Clear(_bias.Gradient);
        Array.Clear(_weight.GradientScale);
        Array.Clear(_bias.GradientScale);
        var dx = new double[x.Length];
        InputGradientScale = LargestOfSet(channel, i => dy[i] * _weight.Values[channel[i]] * _inverse[channel[i]]);
        for (int c = 0; c < _channels; c++)
        {
            double count = 0;
            double gradients = 0; // A of the specification
            double products = 0; // B r
            foreach (List<int>[] part in parts)
            {
                double partGradients = 0;
                double partProducts = 0;
                foreach (int i in part[c])
                {
                    double xhat = Normalized(x, i, c);
                    partGradients += dy[i];
                    partProducts += dy[i] * xhat;
                    _weight.GradientScale[c] += Math.Abs(dy[i] * xhat);
                    _bias.GradientScale[c] += Math.Abs(dy[i]);
                }

                _bias.Gradient[c] += partGradients;
                _weight.Gradient[c] += partProducts;
                count += part[c].Count;
                gradients += partGradients;
                products += partProducts;
            }

            foreach (int i in parts.SelectMany(part => part[c]))
            {
                double batch = UsesBatch ? gradients / count + Normalized(x, i, c) * products / count : 0;
                dx[i] = _weight.Values[c] * _inverse[c] * (dy[i] - batch);
            }
        }

        return dx;
    }

    private double Normalized(double[] x, int i, int c) => (x[i] - _origin[c] - _offset[c]) * _inverse[c];

    private void TakeStatistics(ActivationShape shape, double[] x)
    {
        _origin = new double[_channels];
        _offset = new double[_channels];
        _inverse = new double[_channels];
        var variance = new double[_channels];
        double count = (double)(shape.Samples * shape.SpatialSize);
        List<int>[][] parts = Parts(shape);
        for (int c = 0; c < _channels && count > 0; c++)
        {
            if (UsesBatch)
            {
                _origin[c] = parts.SelectMany(part => part[c]).Select(i => x[i]).First();
                Combine([.. parts.Select(part => part[c].Select(i => x[i] - _origin[c]).ToArray())], out _offset[c], out variance[c]);
            }
            else
            {
                _origin[c] = Buffers["running_mean"][c];
                variance[c] = Buffers["running_var"][c];
            }

            _inverse[c] = 1 / Math.Sqrt(variance[c] + _settings.Epsilon);
        }

        if (Training && _tracks && count > 0)
        {
            double correction = _settings.RunningVariance == RunningVariance.Sample ? count / (count - 1) : 1;
            Update([.. _origin.Zip(_offset, (origin, offset) => origin + offset)], [.. variance.Select(value => value * correction)]);
        }
    }

    // The mean of the parts' means by size, and of their variances with what lies between their means.
    private static void Combine(double[][] parts, out double mean, out double variance)
    {
        double count = parts.Sum(part => (double)part.Length);
        double[] means = [.. parts.Select(MeanOf)];
        double combined = parts.Select((part, k) => part.Length * means[k]).Sum() / count;
        mean = combined;
        variance = parts.Select((part, k) => part.Sum(value => (value - means[k]) * (value - means[k])) + part.Length * (means[k] - combined) * (means[k] - combined)).Sum() / count;
    }

    // Once more around the mean found, since a long plain sum loses digits.
    private static double MeanOf(double[] values)
    {
        double first = values.Length == 0 ? 0 : values.Sum() / values.Length;
        return values.Length == 0 ? 0 : first + values.Sum(value => value - first) / values.Length;
    }

    private void Update(double[] mean, double[] variance)
    {
        if (mean.Concat(variance).Any(value => !(Math.Abs(value) <= _largest)))
        {
            SkippedUpdates++;
            return;
        }

        BatchesTracked++;
        double rate = _settings.Momentum ?? 1.0 / BatchesTracked;
        for (int c = 0; c < _channels; c++)
        {
            Buffers["running_mean"][c] = (1 - rate) * Buffers["running_mean"][c] + rate * mean[c];
            Buffers["running_var"][c] = (1 - rate) * Buffers["running_var"][c] + rate * variance[c];
        }
    }

    // The elements of each part, by channel.
    private List<int>[][] Parts(ActivationShape shape)
    {
        int replicas = _settings.Shards?.Count ?? _settings.Replicas;
        int samples = (int)shape.Samples;
        int sample = _channels * (int)shape.SpatialSize;
        int[] channel = ChannelOf(shape);
        var parts = new List<int>[replicas][];
        int next = 0;
        for (int k = 0; k < replicas; k++)
        {
            parts[k] = [.. Enumerable.Range(0, _channels).Select(_ => new List<int>())];
            int end = (next / sample) + (_settings.Shards?[k] ?? (samples / replicas + (k < samples % replicas ? 1 : 0)));
            for (; next < end * sample; next++)
            {
                parts[k][channel[next]].Add(next);
            }
        }

        Assert.AreEqual(samples * sample, next, "shards have to add up");
        return parts;
    }
}

/// <summary>Synchronized batch norm, over replicas of this process.</summary>
internal sealed class SyncBatchNormCase : StrategyCase
{
    public override string Id => "sync-batch-norm";

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new SyncBatchNormOracle(shape, settings, largest);

    // More replicas than samples leave some without any. Fixed shards are for tests whose batches keep their size.
    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        yield return plain;
        yield return plain with { Replicas = 3, Momentum = null, RunningVariance = RunningVariance.Population };
        yield return plain with { Replicas = 5, Epsilon = 1e-3 };
        yield return plain with { Replicas = 1, RunningStatistics = false };
    }
}
