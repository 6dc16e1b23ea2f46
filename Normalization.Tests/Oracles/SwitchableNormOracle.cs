using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>Switchable normalization from its definition: every statistic from the elements themselves, every gradient along its own path.</summary>
internal sealed class SwitchableNormOracle : Oracle
{
    private readonly StrategySettings _settings;
    private readonly double _largest;
    private readonly int _channels;
    private readonly bool _tracks;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;
    private readonly OracleParameter _meanWeight;
    private readonly OracleParameter _varianceWeight;

    public SwitchableNormOracle(ActivationShape shape, StrategySettings settings, double largest)
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

        _meanWeight = AddParameter("mean_weight", 3, 1);
        _varianceWeight = AddParameter("var_weight", 3, 1);
        _tracks = settings.RunningStatistics ?? true;
        if (_tracks)
        {
            Buffers["running_mean"] = Filled(_channels, 0);
            Buffers["running_var"] = Filled(_channels, 1);
        }
    }

    private bool UsesRunning => _tracks && !Training;

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        int[] channel = ChannelOf(shape);
        State state = Normalize(shape, x);
        double[] y = [.. state.Normalized.Select((value, i) => value * _weight.Values[channel[i]] + _bias.Values[channel[i]])];
        OutputScale = LargestOfSet(
            state.Set[0], i => Math.Abs(state.Normalized[i] * _weight.Values[channel[i]]) + Math.Abs(_bias.Values[channel[i]]));
        if (_tracks && Training && x.Length > 0)
        {
            Track(shape, x);
        }

        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int[] channel = ChannelOf(shape);
        State state = Normalize(shape, x);
        foreach (OracleParameter parameter in new[] { _weight, _bias, _meanWeight, _varianceWeight })
        {
            Array.Clear(parameter.Gradient);
            Array.Clear(parameter.GradientScale);
        }

        var dx = new double[x.Length];
        var scale = new double[x.Length];
        for (int k = 0; k < 3; k++)
        {
            // What reaches the mean and the variance of each set of kind k, and the size of its terms.
            int sets = state.Mean[k].Length;
            var toMean = new double[sets];
            var toVariance = new double[sets];
            var toMeanScale = new double[sets];
            var toVarianceScale = new double[sets];
            var size = new double[sets];
            for (int i = 0; i < x.Length; i++)
            {
                double upstream = dy[i] * _weight.Values[channel[i]];
                int set = state.Set[k][i];
                double throughMean = -upstream * state.Inverse[i];
                double throughVariance = -0.5 * upstream * state.Normalized[i] * state.Inverse[i] * state.Inverse[i];
                size[set]++;
                toMean[set] += throughMean;
                toVariance[set] += throughVariance;
                toMeanScale[set] += Math.Abs(throughMean);
                toVarianceScale[set] += Math.Abs(throughVariance);

                // The softmax takes only how far a statistic is from the mixture.
                Accumulate(_meanWeight, k, state.MeanShares[k] * throughMean * (state.Mean[k][set] - state.MixedMean[i]));
                Accumulate(_varianceWeight, k, state.VarianceShares[k] * throughVariance * (state.Variance[k][set] - state.MixedVariance[i]));
            }

            for (int i = 0; i < x.Length && !(k == 2 && UsesRunning); i++)
            {
                int set = state.Set[k][i];
                double distance = x[i] - state.Mean[k][set];
                dx[i] += (state.MeanShares[k] * toMean[set] + 2 * state.VarianceShares[k] * toVariance[set] * distance) / size[set];
                scale[i] += (state.MeanShares[k] * toMeanScale[set] + 2 * state.VarianceShares[k] * toVarianceScale[set] * Math.Abs(distance)) / size[set];
            }
        }

        for (int i = 0; i < x.Length; i++)
        {
            double own = dy[i] * _weight.Values[channel[i]] * state.Inverse[i];
            dx[i] += own;
            scale[i] += Math.Abs(own);
            Accumulate(_weight, channel[i], dy[i] * state.Normalized[i]);
            Accumulate(_bias, channel[i], dy[i]);
        }

        InputGradientScale = LargestOfSet(state.Set[0], i => scale[i]);
        return dx;
    }

    private static void Accumulate(OracleParameter parameter, int index, double term)
    {
        parameter.Gradient[index] += term;
        parameter.GradientScale[index] += Math.Abs(term);
    }

    private static double[] Softmax(double[] logits)
    {
        double[] powers = Array.ConvertAll(logits, logit => Math.Exp(logit - logits.Max()));
        return Array.ConvertAll(powers, power => power / powers.Sum());
    }

    private State Normalize(ActivationShape shape, double[] x)
    {
        int spatial = (int)shape.SpatialSize;
        int[] channel = ChannelOf(shape);
        int[][] set = [[.. channel.Select((_, i) => i / spatial)], [.. channel.Select((_, i) => i / spatial / _channels)], channel];
        var mean = new double[3][];
        var variance = new double[3][];
        for (int k = 0; k < 3; k++)
        {
            (mean[k], variance[k]) = k == 2 && UsesRunning ? (Buffers["running_mean"], Buffers["running_var"]) : Moments(set[k], x);
        }

        double[] meanShares = Softmax(_meanWeight.Values);
        double[] varianceShares = Softmax(_varianceWeight.Values);
        var mixedMean = new double[x.Length];
        var mixedVariance = new double[x.Length];
        var inverse = new double[x.Length];
        var normalized = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            double distance = 0;
            for (int k = 0; k < 3; k++)
            {
                distance += meanShares[k] * (x[i] - mean[k][set[k][i]]);
                mixedVariance[i] += varianceShares[k] * variance[k][set[k][i]];
            }

            mixedMean[i] = x[i] - distance;
            inverse[i] = 1 / Math.Sqrt(mixedVariance[i] + _settings.Epsilon);
            normalized[i] = distance * inverse[i];
        }

        return new State(set, mean, variance, meanShares, varianceShares, mixedMean, mixedVariance, inverse, normalized);
    }

    private static (double[] Mean, double[] Variance) Moments(int[] set, double[] x)
    {
        int sets = set.Length == 0 ? 0 : set.Max() + 1;
        var members = new List<double>[sets];
        for (int i = 0; i < x.Length; i++)
        {
            (members[set[i]] ??= []).Add(x[i]);
        }

        var mean = new double[sets];
        var variance = new double[sets];
        for (int r = 0; r < sets; r++)
        {
            // Differences from the first value, and once more around the mean found.
            double origin = members[r][0];
            double offset = members[r].Average(value => value - origin);
            offset += members[r].Average(value => value - origin - offset);
            mean[r] = origin + offset;
            variance[r] = members[r].Average(value => (value - origin - offset) * (value - origin - offset));
        }

        return (mean, variance);
    }

    private void Track(ActivationShape shape, double[] x)
    {
        double m = x.Length / _channels;
        (double[] mean, double[] variance) = Moments(ChannelOf(shape), x);
        if (_settings.RunningVariance == RunningVariance.Sample)
        {
            variance = Array.ConvertAll(variance, value => value * m / (m - 1));
        }

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

    // Kinds in the order instance, layer, batch; the rest by element.
    private sealed record State(
        int[][] Set, double[][] Mean, double[][] Variance, double[] MeanShares, double[] VarianceShares,
        double[] MixedMean, double[] MixedVariance, double[] Inverse, double[] Normalized);
}

/// <summary>switchable-norm.</summary>
internal sealed class SwitchableNormCase : StrategyCase
{
    public override string Id => "switchable-norm";

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new SwitchableNormOracle(shape, settings, largest);

    public override bool Carries(ActivationShape shape) => shape.SpatialSize > 1;

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        yield return plain;
        yield return plain with { Momentum = null, RunningVariance = RunningVariance.Population };
        yield return plain with { RunningStatistics = false, Epsilon = 1e-3 };
    }
}
