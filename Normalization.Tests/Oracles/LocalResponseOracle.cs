using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Oracles;

/// <summary>Local response normalization from its definition: every pair of channels at a position.</summary>
internal sealed class LocalResponseOracle(StrategySettings settings) : Oracle
{
    private readonly int _below = settings.Window == ResponseWindowKind.Onnx ? (settings.WindowSize - 1) / 2 : settings.WindowSize / 2;
    private readonly double _scale = settings.DivideAlpha ? settings.Alpha / settings.WindowSize : settings.Alpha;

    public override double[] Forward(ActivationShape shape, double[] x)
    {
        double[] divisor = Divisors(shape, x);
        double[] y = [.. x.Zip(divisor, (value, d) => value * Math.Pow(d, -settings.Beta))];
        OutputScale = Array.ConvertAll(y, Math.Abs);
        return y;
    }

    public override double[] Backward(ActivationShape shape, double[] x, double[] dy)
    {
        int positions = (int)shape.SpatialSize;
        double[] divisor = Divisors(shape, x);
        var dx = new double[x.Length];
        InputGradientScale = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            dx[i] += dy[i] * Math.Pow(divisor[i], -settings.Beta);
            InputGradientScale[i] += Math.Abs(dx[i]);

            // y[j] = x[j] d[j]^-beta hears of x[i] through d[j].
            int c = i / positions % shape.Channels;
            for (int j = 0; j < shape.Channels; j++)
            {
                int other = i + ((j - c) * positions);
                if (InWindow(j, c))
                {
                    double term = dy[other] * x[other] * -settings.Beta * Math.Pow(divisor[other], -settings.Beta - 1) * _scale * 2 * x[i];
                    dx[i] += term;
                    InputGradientScale[i] += Math.Abs(term);
                }
            }
        }

        return dx;
    }

    // Whether the window of channel c holds channel j.
    private bool InWindow(int c, int j) => j >= c - _below && j < c - _below + settings.WindowSize;

    private double[] Divisors(ActivationShape shape, double[] x)
    {
        int positions = (int)shape.SpatialSize;
        var divisor = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / positions % shape.Channels;
            double sum = 0;
            for (int j = 0; j < shape.Channels; j++)
            {
                double value = x[i + ((j - c) * positions)];
                sum += InWindow(c, j) ? value * value : 0;
            }

            divisor[i] = settings.K + (_scale * sum);
        }

        return divisor;
    }
}

/// <summary>What the conformance tests have to know of local response normalization.</summary>
internal sealed class LocalResponseCase : StrategyCase
{
    public override string Id => "local-response-norm";

    public override int Modes => 1;

    public override bool KnowsChannels => false;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) => new LocalResponseOracle(settings);

    // The default alpha hardly changes a value of 1.
    public override StrategySettings Adapt(StrategySettings settings, ActivationShape shape) => settings with { Alpha = 2 };

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings { Alpha = 2 };
        yield return new StrategySettings();
        yield return plain;
        yield return plain with { WindowSize = 4, DivideAlpha = false, K = 2 };
        yield return plain with { WindowSize = 4, Window = ResponseWindowKind.Onnx, Beta = 0.5 };
        yield return plain with { WindowSize = 1, Beta = 1.75 };
        yield return plain with { WindowSize = 40, Window = ResponseWindowKind.Onnx, Beta = 0.6 };
        yield return plain with { Beta = 2.3, K = 1e-3 };
    }
}
