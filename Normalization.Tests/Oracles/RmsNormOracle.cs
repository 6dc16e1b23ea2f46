using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>RMS normalization from its definition: x divided by the root of the mean square of the first elements of its set.</summary>
internal sealed class RmsNormOracle : Oracle
{
    private readonly StrategySettings _settings;
    private readonly int _length;
    private readonly int _counted;
    private readonly OracleParameter _weight;
    private double[] _normalized = [];
    private double[] _root = [];
    private double[] _divisor = [];

    public RmsNormOracle(ActivationShape shape, StrategySettings settings)
    {
        _settings = settings;
        int dimensions = settings.NormalizedDimensions ?? shape.Rank - 1;
        _length = Enumerable.Range(shape.Rank - dimensions, dimensions).Aggregate(1, (product, axis) => product * (int)shape[axis]);
        _counted = Math.Max(1, (int)Math.Floor(settings.Partial * _length));
        _weight = new OracleParameter(Filled(_length, 1));
        if (settings.Weight)
        {
            AddParameter("weight", _weight);
        }
    }

    /// <summary>Sets are consecutive runs of the dense array.</summary>
    public override int[] SetOfElements(ActivationShape shape) => [.. Enumerable.Range(0, (int)shape.Count).Select(i => i / _length)];

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        int sets = x.Length / _length;
        _root = new double[sets];
        _divisor = new double[sets];
        _normalized = new double[x.Length];
        var y = new double[x.Length];
        for (int r = 0; r < sets; r++)
        {
            double meanSquare = 0;
            for (int j = 0; j < _counted; j++)
            {
                double value = x[(r * _length) + j];
                meanSquare += value * value / _counted;
            }

            _root[r] = Math.Sqrt(meanSquare);
            _divisor[r] = _settings.EpsilonPlacement == EpsilonPlacement.Outside
                ? _root[r] + _settings.Epsilon
                : Math.Sqrt(meanSquare + _settings.Epsilon);
            for (int j = 0; j < _length; j++)
            {
                int i = (r * _length) + j;
                _normalized[i] = x[i] / _divisor[r];
                y[i] = _normalized[i] * _weight.Values[j];
            }
        }

        OutputScale = LargestOfSet(SetOfElements(shape), i => y[i]);
        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        Array.Clear(_weight.Gradient);
        Array.Clear(_weight.GradientScale);
        InputGradientScale = new double[x.Length];
        var dx = new double[x.Length];
        for (int r = 0; r < x.Length / _length; r++)
        {
            // dL/d(divisor), and from there to the mean square: d(divisor) / d(mean square) is 1 / (2 divisor) inside, 1 / (2 root) outside.
            double toDivisor = 0;
            double sizes = 0;
            double largest = 0;
            for (int j = 0; j < _length; j++)
            {
                int i = (r * _length) + j;
                double upstream = dy[i] * _weight.Values[j];
                toDivisor -= upstream * _normalized[i] / _divisor[r];
                sizes += Math.Abs(upstream * _normalized[i] / _divisor[r]);
                largest = Math.Max(largest, Math.Abs(upstream));
                _weight.Gradient[j] += dy[i] * _normalized[i];
                _weight.GradientScale[j] += Math.Abs(dy[i] * _normalized[i]);
            }

            double chain = _settings.EpsilonPlacement == EpsilonPlacement.Outside ? _root[r] : _divisor[r];
            for (int j = 0; j < _length; j++)
            {
                int i = (r * _length) + j;
                double through = j < _counted && x[i] != 0 ? x[i] / chain / _counted : 0;
                dx[i] = (dy[i] * _weight.Values[j] / _divisor[r]) + (toDivisor * through);

                // Of a partial mean square the second term can be much the larger.
                InputGradientScale[i] = (largest / _divisor[r]) + (_counted < _length ? Math.Abs(through) * sizes : 0);
            }
        }

        return dx;
    }
}

/// <summary>What the conformance tests have to know of RMS normalization.</summary>
internal sealed class RmsNormCase : StrategyCase
{
    public override string Id => "rms-norm";

    public override int Modes => 1;

    public override bool FixesTrailingAxes => true;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new RmsNormOracle(shape, settings);

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        for (int axes = shape.Rank - 1; axes >= 1; axes--)
        {
            yield return plain with { NormalizedDimensions = axes };
            yield return plain with { NormalizedDimensions = axes, Partial = 0.4 };
        }

        yield return plain with { Epsilon = 1e-2 };
        yield return plain with { EpsilonPlacement = EpsilonPlacement.Outside, Epsilon = 1e-3 };
        yield return plain with { EpsilonPlacement = EpsilonPlacement.Outside, Partial = 0.7, NormalizedDimensions = 1 };
    }
}
