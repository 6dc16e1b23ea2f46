using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>Filter response normalization from its definition: a channel of a sample at a time.</summary>
internal sealed class FilterResponseOracle : Oracle
{
    private readonly double _epsilon;
    private readonly OracleParameter _weight;
    private readonly OracleParameter _bias;
    private readonly OracleParameter? _threshold;
    private readonly OracleParameter? _learned;

    public FilterResponseOracle(ActivationShape shape, StrategySettings settings)
    {
        _epsilon = settings.Epsilon;
        _weight = new OracleParameter(Filled(shape.Channels, 1));
        _bias = new OracleParameter(Filled(shape.Channels, 0));
        if (settings.Weight)
        {
            AddParameter("weight", _weight);
        }

        if (settings.Bias)
        {
            AddParameter("bias", _bias);
        }

        _threshold = settings.Threshold ? AddParameter("tau", shape.Channels, 0) : null;
        _learned = settings.LearnedEpsilon ? AddParameter("eps", 1, 1e-4) : null;
    }

    public override bool HasKinks => _threshold is not null;

    public override int[] SetOfElements(ActivationShape shape) =>
        [.. Enumerable.Range(0, (int)shape.Count).Select(i => i / (int)shape.SpatialSize)];

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        int positions = (int)shape.SpatialSize;
        var y = new double[x.Length];
        OutputScale = new double[x.Length];
        AtKink = false;
        for (int row = 0; row * positions < x.Length; row++)
        {
            int c = row % shape.Channels;
            double inverse = 1 / Divisor(x, row * positions, positions);
            double largest = 0;
            for (int i = row * positions; i < (row + 1) * positions; i++)
            {
                double value = (_weight.Values[c] * x[i] * inverse) + _bias.Values[c];
                AtKink |= _threshold is not null && Math.Abs(value - _threshold.Values[c]) < 5e-7 * (Math.Abs(value) + Math.Abs(_bias.Values[c]));
                y[i] = _threshold is null ? value : Math.Max(value, _threshold.Values[c]);
                largest = Math.Max(largest, Math.Abs(_weight.Values[c] * x[i] * inverse) + Math.Abs(_bias.Values[c]));
            }

            Array.Fill(OutputScale, largest, row * positions, positions);
        }

        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        foreach (OracleParameter parameter in new[] { _weight, _bias, _threshold, _learned }.OfType<OracleParameter>())
        {
            Array.Clear(parameter.Gradient);
            Array.Clear(parameter.GradientScale);
        }

        int positions = (int)shape.SpatialSize;
        var dx = new double[x.Length];
        InputGradientScale = new double[x.Length];
        for (int row = 0; row * positions < x.Length; row++)
        {
            int c = row % shape.Channels;
            int start = row * positions;
            double divisor = Divisor(x, start, positions);
            double toDivisor = 0;
            double sizes = 0;
            double largest = 0;
            var upstream = new double[positions]; // with respect to xhat
            for (int s = 0; s < positions; s++)
            {
                double xhat = x[start + s] / divisor;
                double g = dy[start + s];
                if (_threshold is not null && (_weight.Values[c] * xhat) + _bias.Values[c] <= _threshold.Values[c])
                {
                    Add(_threshold, c, g);
                    continue;
                }

                Add(_bias, c, g);
                Add(_weight, c, g * xhat);
                upstream[s] = g * _weight.Values[c];
                toDivisor -= upstream[s] * xhat / divisor;
                sizes += Math.Abs(upstream[s] * xhat / divisor);
            }

            // divisor = sqrt(mean square + epsilon): d(divisor)/dx = x / (S divisor), d(divisor)/d(epsilon) = 1 / (2 divisor).
            for (int s = 0; s < positions; s++)
            {
                dx[start + s] = (upstream[s] / divisor) + (toDivisor * x[start + s] / positions / divisor);
                largest = Math.Max(largest, Math.Abs(upstream[s]));
            }

            Array.Fill(InputGradientScale, largest / divisor, start, positions);
            if (_learned is not null)
            {
                _learned.Gradient[0] += Math.Sign(_learned.Values[0]) * toDivisor / (2 * divisor);
                _learned.GradientScale[0] += sizes / (2 * divisor);
            }
        }

        return dx;
    }

    private static void Add(OracleParameter parameter, int c, double term)
    {
        parameter.Gradient[c] += term;
        parameter.GradientScale[c] += Math.Abs(term);
    }

    private double Divisor(double[] x, int start, int positions)
    {
        double meanSquare = 0;
        for (int i = start; i < start + positions; i++)
        {
            meanSquare += x[i] * x[i] / positions;
        }

        return Math.Sqrt(meanSquare + _epsilon + Math.Abs(_learned?.Values[0] ?? 0));
    }
}

/// <summary>What the conformance tests have to know of filter response normalization.</summary>
internal sealed class FilterResponseCase : StrategyCase
{
    public override string Id => "filter-response-norm";

    public override int Modes => 1;

    public override bool IsOdd => false;

    public override bool StopsGradients => true;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new FilterResponseOracle(shape, settings);

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        yield return plain;
        yield return plain with { Threshold = false, Epsilon = 1e-3 };
        yield return plain with { LearnedEpsilon = true };
        yield return plain with { LearnedEpsilon = true, Threshold = false };
    }
}
