using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Support;

/// <summary>Seeded numbers and the settings that the conformance tests run every strategy with.</summary>
internal static class TestData
{
    public const string BatchNorm = "batch-norm";
    public const string LayerNorm = "layer-norm";
    public const string InstanceNorm = "instance-norm";
    public const string GroupNorm = "group-norm";
    public const string GhostBatchNorm = "ghost-batch-norm";
    public const string ZcaWhitening = "zca-whitening";

    /// <summary>Every strategy that computes something.</summary>
    public static readonly string[] Ids = [BatchNorm, LayerNorm, InstanceNorm, GroupNorm, GhostBatchNorm, ZcaWhitening];

    /// <summary>Gaussian numbers.</summary>
    public static double[] Normal(int seed, long count, double mean = 0, double scale = 1)
    {
        var random = new Random(seed);
        var values = new double[count];
        for (int i = 0; i < values.Length; i++)
        {
            double radius = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble()));
            values[i] = mean + scale * radius * Math.Cos(2 * Math.PI * random.NextDouble());
        }

        return values;
    }

    /// <summary>Gaussian activations; channel c has mean c / 2 - 1, and every channel leans on the one before it.</summary>
    public static double[] Activations(int seed, ActivationShape shape)
    {
        double[] x = Normal(seed, shape.Count);
        int spatial = (int)shape.SpatialSize;
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / spatial % shape.Channels;
            x[i] = (1 + 0.25 * (c % 5)) * x[i] + (c > 0 ? 0.4 * x[i - spatial] : 0) + 0.5 * (c % 7) - 1;
        }

        return x;
    }

    /// <summary>The nearest values of T, as double.</summary>
    public static double[] Rounded<T>(double[] values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Array.ConvertAll(values, value => double.CreateChecked(T.CreateChecked(value)));

    public static T[] As<T>(double[] values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Array.ConvertAll(values, T.CreateChecked);

    public static double[] AsDouble<T>(T[] values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Array.ConvertAll(values, double.CreateChecked);

    public static double LargestOf<T>()
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => typeof(T) == typeof(float) ? float.MaxValue : double.MaxValue;

    /// <summary>
    /// The accuracy that is promised, relative to the scales of the oracle: float 5e-7 (whitening 1e-5); double 1e-12 (whitening
    /// 1e-10), which holds where neither the mean nor the condition number is extreme.
    /// </summary>
    public static double Tolerance<T>(string id)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        (typeof(T) == typeof(float), id == ZcaWhitening) switch
        {
            (true, false) => 5e-7,
            (true, true) => 1e-5,
            (false, false) => 1e-12,
            (false, true) => 1e-10,
        };

    /// <summary>Settings that any shape of 2 or more samples and even channel count can carry, in the order of what they exercise.</summary>
    public static IEnumerable<StrategySettings> Configurations(string id, ActivationShape shape)
    {
        var plain = new StrategySettings();
        switch (id)
        {
            case BatchNorm:
                yield return plain;
                yield return plain with { Momentum = null, RunningVariance = RunningVariance.Population };
                yield return plain with { RunningStatistics = false, Epsilon = 1e-3 };
                break;
            case LayerNorm:
                for (int axes = shape.Rank - 1; axes >= 1; axes--)
                {
                    if (Enumerable.Range(shape.Rank - axes, axes).Aggregate(1L, (product, axis) => product * (long)shape[axis]) > 1)
                    {
                        yield return plain with { NormalizedDimensions = axes };
                    }
                }

                yield return plain with { Epsilon = 1e-2 };
                break;
            case InstanceNorm:
                if (shape.SpatialSize > 1)
                {
                    yield return plain;
                    yield return plain with { RunningStatistics = true };
                    yield return plain with { RunningStatistics = true, Momentum = null, RunningVariance = RunningVariance.Population };
                }

                break;
            case GroupNorm:
                foreach (int groups in new[] { 1, 2, 3, shape.Channels })
                {
                    if (shape.Channels % groups == 0 && shape.Channels / groups * shape.SpatialSize > 1)
                    {
                        yield return plain with { Groups = groups };
                    }
                }

                break;
            case GhostBatchNorm:
                StrategySettings ghost = plain with { GhostSize = 2 };
                if (shape.SpatialSize > 1)
                {
                    yield return ghost with { GhostRemainder = GhostRemainder.Balanced };
                    yield return ghost with { GhostRemainder = GhostRemainder.Balanced, GhostGrouping = GhostGrouping.Strided };
                    yield return ghost with { GhostRemainder = GhostRemainder.SmallerLast, GhostRunning = GhostRunning.Sequential };
                    yield return ghost with { GhostRemainder = GhostRemainder.Balanced, GhostRunning = GhostRunning.Sequential, Momentum = null };
                    yield return ghost with { GhostSize = 1 };
                }

                yield return plain with { GhostRemainder = GhostRemainder.SmallerLast };
                break;
            case ZcaWhitening:
                yield return plain;
                yield return plain with { GroupSize = 2 };
                yield return plain with { Shrinkage = 0.1, Momentum = null };
                yield return plain with { WhiteningRunning = WhiteningRunning.WhiteningMatrix, Epsilon = 1e-3 };
                if (shape.Channels % 3 == 0)
                {
                    yield return plain with { GroupSize = 3, Shrinkage = 0.05, RunningVariance = RunningVariance.Population };
                    yield return plain with { GroupSize = 1 };
                }

                break;
            default:
                throw new ArgumentException(id);
        }
    }
}
