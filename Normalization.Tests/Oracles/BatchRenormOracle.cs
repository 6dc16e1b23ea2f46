using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>Batch renormalization channel by channel, from Algorithm 1 of Ioffe 2017; r and d of the last Forward are constants of Backward.</summary>
internal sealed class BatchRenormOracle : Oracle
{
    private readonly StrategySettings _settings;
    private readonly double _largest;
    private readonly int _channels;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;
    private readonly double[] _r;
    private readonly double[] _d;

    public BatchRenormOracle(ActivationShape shape, StrategySettings settings, double largest)
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

        Buffers["running_mean"] = Filled(_channels, 0);
        Buffers["running_sigma"] = Filled(_channels, 1);
        _r = Filled(_channels, 1);
        _d = Filled(_channels, 0);
    }

    public override int[] SetOfElements(ActivationShape shape) => ChannelOf(shape);

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        int[] channel = ChannelOf(shape);
        var y = new double[x.Length];
        var size = new double[x.Length];
        var means = new double[_channels];
        var deviations = new double[_channels];
        for (int c = 0; c < _channels && x.Length > 0; c++)
        {
            double running = Math.Max(Buffers["running_sigma"][c], Math.Sqrt(_settings.Epsilon));
            if (Training)
            {
                (means[c], double offset, double origin, deviations[c]) = Moments(x, channel, c);
                _r[c] = Math.Min(Math.Max(deviations[c] / running, 1 / _settings.RMax), _settings.RMax);
                _d[c] = Math.Min(Math.Max((means[c] - Buffers["running_mean"][c]) / running, -_settings.DMax), _settings.DMax);
                ForEach(channel, c, i =>
                {
                    double z = (x[i] - origin - offset) / deviations[c];
                    y[i] = (((z * _r[c]) + _d[c]) * _weight.Values[c]) + _bias.Values[c];
                    size[i] = ((Math.Abs(z * _r[c]) + Math.Abs(_d[c])) * Math.Abs(_weight.Values[c])) + Math.Abs(_bias.Values[c]);
                });
            }
            else
            {
                ForEach(channel, c, i =>
                {
                    double z = (x[i] - Buffers["running_mean"][c]) / running;
                    y[i] = (z * _weight.Values[c]) + _bias.Values[c];
                    size[i] = Math.Abs(z * _weight.Values[c]) + Math.Abs(_bias.Values[c]);
                });
            }
        }

        // d is rounded to the storage type before it is added: two roundings, each of a subnormal's spacing below the least normal number.
        double leastNormal = 4 / _largest;
        OutputScale = LargestOfSet(channel, i => Math.Max(size[i], leastNormal));
        if (Training && x.Length > 0)
        {
            Update(means, deviations);
        }

        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int[] channel = ChannelOf(shape);
        var dx = new double[x.Length];
        InputGradientScale = new double[x.Length];
        foreach (OracleParameter parameter in new[] { _weight, _bias })
        {
            Array.Clear(parameter.Gradient);
            Array.Clear(parameter.GradientScale);
        }

        for (int c = 0; c < _channels; c++)
        {
            double weight = _weight.Values[c];
            if (!Training)
            {
                double sigma = Math.Max(Buffers["running_sigma"][c], Math.Sqrt(_settings.Epsilon));
                ForEach(channel, c, i =>
                {
                    dx[i] = dy[i] * weight / sigma;
                    InputGradientScale[i] = Math.Abs(dx[i]);
                    AddParameters(c, dy[i], (x[i] - Buffers["running_mean"][c]) / sigma, 0);
                });
                continue;
            }

            // xhat = r z + d with z standardized: r times the derivative of z.
            (_, double offset, double origin, double deviation) = Moments(x, channel, c);
            double count = 0;
            double first = 0;
            double second = 0;
            double largest = 0;
            ForEach(channel, c, i =>
            {
                double z = (x[i] - origin - offset) / deviation;
                double upstream = dy[i] * weight * _r[c];
                count++;
                first += upstream;
                second += upstream * z;
                largest = Math.Max(largest, Math.Abs(upstream));
                AddParameters(c, dy[i], z * _r[c], _d[c]);
            });
            ForEach(channel, c, i =>
            {
                double z = (x[i] - origin - offset) / deviation;
                dx[i] = ((dy[i] * weight * _r[c]) - (first / count) - (z * second / count)) / deviation;
                InputGradientScale[i] = largest / deviation;
            });
        }

        return dx;
    }

    private void AddParameters(int c, double gradient, double scaled, double shift)
    {
        _weight.Gradient[c] += gradient * (scaled + shift);
        _weight.GradientScale[c] += Math.Abs(gradient) * (Math.Abs(scaled) + Math.Abs(shift));
        _bias.Gradient[c] += gradient;
        _bias.GradientScale[c] += Math.Abs(gradient);
    }

    // The mean is origin + offset: differences from a value of the set cost no digits where the mean is far from 0.
    private (double Mean, double Offset, double Origin, double Deviation) Moments(double[] x, int[] channel, int c)
    {
        double origin = double.NaN;
        double count = 0;
        double sum = 0;
        ForEach(channel, c, i =>
        {
            origin = count == 0 ? x[i] : origin;
            count++;
            sum += x[i] - origin;
        });
        double offset = sum / count;
        double rest = 0;
        ForEach(channel, c, i => rest += x[i] - origin - offset);
        offset += rest / count;
        double squares = 0;
        ForEach(channel, c, i => squares += Math.Pow(x[i] - origin - offset, 2));
        return (origin + offset, offset, origin, Math.Sqrt((squares / count) + _settings.Epsilon));
    }

    private void Update(double[] means, double[] deviations)
    {
        if (means.Concat(deviations).Any(value => !(Math.Abs(value) <= _largest)))
        {
            SkippedUpdates++;
            return;
        }

        BatchesTracked++;
        double rate = _settings.Momentum ?? 1.0 / BatchesTracked;
        for (int c = 0; c < _channels; c++)
        {
            Buffers["running_mean"][c] += rate * (means[c] - Buffers["running_mean"][c]);
            Buffers["running_sigma"][c] += rate * (deviations[c] - Buffers["running_sigma"][c]);
        }
    }

    private static void ForEach(int[] channel, int c, Action<int> action)
    {
        for (int i = 0; i < channel.Length; i++)
        {
            if (channel[i] == c)
            {
                action(i);
            }
        }
    }
}

/// <summary>batch-renorm: limits that bind, that never do, and none of it.</summary>
internal sealed class BatchRenormCase : StrategyCase
{
    public override string Id => "batch-renorm";

    public override bool TrainingReadsState => true;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new BatchRenormOracle(shape, settings, largest);

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        yield return plain;
        yield return plain with { RMax = 1, DMax = 0 };
        yield return plain with { RMax = 1.1, DMax = 0.3, Momentum = null };
        yield return plain with { RMax = 1e6, DMax = 1e6, Epsilon = 1e-3, Momentum = 0.5 };
    }
}
