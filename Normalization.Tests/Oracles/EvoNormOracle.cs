using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>EvoNorm-B0 and EvoNorm-S0 as the paper writes them, with gradients by the chain rule.</summary>
internal sealed class EvoNormOracle : Oracle
{
    private readonly bool _usesBatch; // B0
    private readonly StrategySettings _settings;
    private readonly double _largest;
    private readonly int _channels;
    private readonly bool _tracks;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;
    private readonly OracleParameter _v;

    public EvoNormOracle(bool usesBatch, ActivationShape shape, StrategySettings settings, double largest)
    {
        _usesBatch = usesBatch;
        _settings = settings;
        _largest = largest;
        _channels = shape.Channels;
        _weight = new OracleParameter(Filled(_channels, 1));
        _bias = new OracleParameter(Filled(_channels, 0));
        _v = new OracleParameter(Filled(_channels, 1));
        if (settings.Weight)
        {
            AddParameter("weight", _weight);
        }

        if (settings.Bias)
        {
            AddParameter("bias", _bias);
        }

        if (settings.Nonlinearity)
        {
            AddParameter("v", _v);
        }

        _tracks = usesBatch && settings.Nonlinearity && (settings.RunningStatistics ?? true);
        if (_tracks)
        {
            Buffers["running_var"] = Filled(_channels, 1);
        }
    }

    // Of B0 an element hears of its channel only as far as its own denominator is the batch's: no partition.
    public override int[]? SetOfElements(ActivationShape shape) => _usesBatch || !_settings.Nonlinearity ? null : GroupOf(shape);

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        int[] channel = ChannelOf(shape);
        double[] quotient = Quotients(shape, x);
        double[] y = [.. quotient.Select((q, i) => q * _weight.Values[channel[i]] + _bias.Values[channel[i]])];
        OutputScale = LargestOfSet(ScaleSets(shape), i => Math.Abs(quotient[i] * _weight.Values[channel[i]]) + Math.Abs(_bias.Values[channel[i]]));
        if (_tracks && Training && x.Length > 0)
        {
            Track(shape, x);
        }

        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int[] channel = ChannelOf(shape);
        double[] quotient = Quotients(shape, x);
        foreach (OracleParameter parameter in new[] { _weight, _bias, _v })
        {
            Array.Clear(parameter.Gradient);
            Array.Clear(parameter.GradientScale);
        }

        for (int i = 0; i < x.Length; i++)
        {
            Accumulate(_weight, channel[i], dy[i] * quotient[i]);
            Accumulate(_bias, channel[i], dy[i]);
        }

        double[] upstream = [.. dy.Select((value, i) => value * _weight.Values[channel[i]])];
        double[] scale = new double[x.Length];
        double[] dx = !_settings.Nonlinearity ? Affine(upstream, scale)
            : _usesBatch ? BackwardB0(shape, x, upstream, scale) : BackwardS0(shape, x, upstream, scale);
        InputGradientScale = LargestOfSet(ScaleSets(shape), i => scale[i]);
        return dx;
    }

    private static double[] Affine(double[] upstream, double[] scale)
    {
        upstream.CopyTo(scale, 0);
        return upstream;
    }

    private static double Sigmoid(double z) => z >= 0 ? 1 / (1 + Math.Exp(-z)) : Math.Exp(z) / (1 + Math.Exp(z));

    private static void Accumulate(OracleParameter parameter, int channel, double term)
    {
        parameter.Gradient[channel] += term;
        parameter.GradientScale[channel] += Math.Abs(term);
    }

    // What weight and bias are applied to.
    private double[] Quotients(ActivationShape shape, double[] x)
    {
        if (!_settings.Nonlinearity)
        {
            return x;
        }

        int[] channel = ChannelOf(shape);
        var quotient = new double[x.Length];
        if (_usesBatch)
        {
            (double[] a, double[] s, int[] instance) = Deviations(shape, x);
            for (int i = 0; i < x.Length; i++)
            {
                double v = _v.Values[channel[i]];
                quotient[i] = x[i] / (IsLine(x[i], v, a[channel[i]], s[instance[i]]) ? v * x[i] + s[instance[i]] : a[channel[i]]);
            }

            return quotient;
        }

        int[] group = GroupOf(shape);
        (_, double[] variance) = Moments(group, x);
        for (int i = 0; i < x.Length; i++)
        {
            quotient[i] = x[i] * Sigmoid(_v.Values[channel[i]] * x[i]) / Root(variance[group[i]]);
        }

        return quotient;
    }

    private double[] BackwardB0(ActivationShape shape, double[] x, double[] upstream, double[] scale)
    {
        int[] channel = ChannelOf(shape);
        (double[] a, double[] s, int[] instance) = Deviations(shape, x);
        (double[] instanceMean, _) = Moments(instance, x);
        (double[] channelMean, _) = Moments(channel, x);
        var da = new double[a.Length];
        var daScale = new double[a.Length];
        var ds = new double[s.Length];
        var dsScale = new double[s.Length];
        var dx = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            double v = _v.Values[channel[i]];
            bool isLine = IsLine(x[i], v, a[channel[i]], s[instance[i]]);
            double denominator = isLine ? v * x[i] + s[instance[i]] : a[channel[i]];
            double throughDenominator = -upstream[i] * x[i] / denominator / denominator;

            // d(x / (v x + s))/dx = s / (v x + s)^2: the two terms are of one size and opposite where v x is most of the sum.
            dx[i] = isLine ? upstream[i] / denominator * (s[instance[i]] / denominator) : upstream[i] / denominator;
            scale[i] = Math.Abs(dx[i]);
            if (isLine)
            {
                ds[instance[i]] += throughDenominator;
                dsScale[instance[i]] += Math.Abs(throughDenominator);
                Accumulate(_v, channel[i], throughDenominator * x[i]);
            }
            else
            {
                da[channel[i]] += throughDenominator;
                daScale[channel[i]] += Math.Abs(throughDenominator);
            }
        }

        double positions = shape.SpatialSize;
        double batch = shape.Samples * positions;
        bool running = _tracks && !Training;
        for (int i = 0; i < x.Length; i++)
        {
            double fromInstance = x[i] - instanceMean[instance[i]];
            double fromBatch = running ? 0 : x[i] - channelMean[channel[i]];
            dx[i] += ds[instance[i]] * fromInstance / (positions * s[instance[i]]) + da[channel[i]] * fromBatch / (batch * a[channel[i]]);
            scale[i] += Math.Abs(dsScale[instance[i]] * fromInstance / (positions * s[instance[i]])) + Math.Abs(daScale[channel[i]] * fromBatch / (batch * a[channel[i]]));
        }

        return dx;
    }

    private double[] BackwardS0(ActivationShape shape, double[] x, double[] upstream, double[] scale)
    {
        int[] channel = ChannelOf(shape);
        int[] group = GroupOf(shape);
        (double[] mean, double[] variance) = Moments(group, x);
        var ds = new double[mean.Length];
        var dsScale = new double[mean.Length];
        var dx = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            double v = _v.Values[channel[i]];
            double s = Root(variance[group[i]]);
            double p = Sigmoid(v * x[i]);
            double complement = Sigmoid(-v * x[i]);
            dx[i] = upstream[i] / s * (p + x[i] * (v * (p * complement)));
            scale[i] = Math.Abs(upstream[i] / s);
            double term = upstream[i] * x[i] * p / s / s;
            ds[group[i]] -= term;
            dsScale[group[i]] += Math.Abs(term);
            Accumulate(_v, channel[i], upstream[i] / s * (x[i] * (x[i] * (p * complement))));
        }

        double size = (double)x.Length / mean.Length;
        for (int i = 0; i < x.Length; i++)
        {
            double factor = (x[i] - mean[group[i]]) / (size * Root(variance[group[i]]));
            dx[i] += ds[group[i]] * factor;
            scale[i] += Math.Abs(dsScale[group[i]] * factor);
        }

        return dx;
    }

    // v x + s > a, put so that it is decided where epsilon hides the variances in both roots.
    private static bool IsLine(double x, double v, double a, double s) => v * x > a - s;

    private double Root(double variance) => Math.Sqrt(variance + _settings.Epsilon);

    private (double[] Batch, double[] Instance, int[] InstanceOf) Deviations(ActivationShape shape, double[] x)
    {
        int[] instance = [.. Enumerable.Range(0, x.Length).Select(i => i / (int)shape.SpatialSize)];
        (_, double[] instanceVariance) = Moments(instance, x);
        double[] batchVariance = _tracks && !Training ? Buffers["running_var"] : Moments(ChannelOf(shape), x).Variance;
        return ([.. batchVariance.Select(Root)], [.. instanceVariance.Select(Root)], instance);
    }

    private static (double[] Mean, double[] Variance) Moments(int[] set, double[] x)
    {
        int sets = set.Length == 0 ? 0 : set.Max() + 1;
        var origin = new double[sets];
        var offset = new double[sets];
        var rest = new double[sets];
        var variance = new double[sets];
        var count = new int[sets];
        for (int i = x.Length - 1; i >= 0; i--)
        {
            origin[set[i]] = x[i];
            count[set[i]]++;
        }

        // Differences from the first value, and once more around the mean found.
        for (int i = 0; i < x.Length; i++)
        {
            offset[set[i]] += (x[i] - origin[set[i]]) / count[set[i]];
        }

        for (int i = 0; i < x.Length; i++)
        {
            rest[set[i]] += (x[i] - origin[set[i]] - offset[set[i]]) / count[set[i]];
        }

        for (int i = 0; i < x.Length; i++)
        {
            double deviation = x[i] - origin[set[i]] - (offset[set[i]] + rest[set[i]]);
            variance[set[i]] += deviation * deviation / count[set[i]];
        }

        return ([.. origin.Select((value, r) => value + (offset[r] + rest[r]))], variance);
    }

    private void Track(ActivationShape shape, double[] x)
    {
        double m = x.Length / _channels;
        double[] variance = Moments(ChannelOf(shape), x).Variance;
        if (_settings.RunningVariance == RunningVariance.Sample)
        {
            variance = Array.ConvertAll(variance, value => value * m / (m - 1));
        }

        if (variance.Any(value => !(Math.Abs(value) <= _largest)))
        {
            SkippedUpdates++;
            return;
        }

        BatchesTracked++;
        double rate = _settings.Momentum ?? 1.0 / BatchesTracked;
        double[] running = Buffers["running_var"];
        for (int c = 0; c < _channels; c++)
        {
            running[c] = (1 - rate) * running[c] + rate * variance[c];
        }
    }

    private int[] ScaleSets(ActivationShape shape) => _usesBatch || !_settings.Nonlinearity ? ChannelOf(shape) : GroupOf(shape);

    private int[] GroupOf(ActivationShape shape)
    {
        int size = _channels / _settings.Groups * (int)shape.SpatialSize;
        return [.. Enumerable.Range(0, (int)shape.Count).Select(i => i / size)];
    }
}

/// <summary>evonorm-b0.</summary>
internal sealed class EvoNormB0Case : StrategyCase
{
    public override string Id => "evonorm-b0";

    public override bool IsOdd => false;

    public override bool ClaimsHowSamplesMix => false;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new EvoNormOracle(usesBatch: true, shape, settings, largest);

    public override bool Carries(ActivationShape shape) => shape.SpatialSize > 1;

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        yield return plain;
        yield return plain with { Momentum = null, RunningVariance = RunningVariance.Population };
        yield return plain with { RunningStatistics = false, Epsilon = 1e-3 };
        yield return plain with { Nonlinearity = false };
    }
}

/// <summary>evonorm-s0.</summary>
internal sealed class EvoNormS0Case : StrategyCase
{
    public override string Id => "evonorm-s0";

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new EvoNormOracle(usesBatch: false, shape, settings, largest);

    public override bool Carries(ActivationShape shape) => shape.Channels * shape.SpatialSize > 1;

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        foreach (int groups in new[] { 1, 2, 3, shape.Channels })
        {
            if (shape.Channels % groups == 0 && shape.Channels / groups * shape.SpatialSize > 1)
            {
                yield return plain with { Groups = groups };
            }
        }

        yield return plain with { Groups = 1, Nonlinearity = false };
    }
}
