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

    /// <summary>The six that center and scale, or whiten, sets of elements; <see cref="StrategyCases.Ids"/> has all.</summary>
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

    /// <summary>See <see cref="StrategyCase.Configurations"/>.</summary>
    public static IEnumerable<StrategySettings> Configurations(string id, ActivationShape shape) => StrategyCases.Of(id).Configurations(shape);

    /// <summary>See <see cref="StrategyCase.Tolerance"/>.</summary>
    public static double Tolerance<T>(string id)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => StrategyCases.Of(id).Tolerance<T>();

    /// <summary>What a running statistic is held to: sums are as exact as they get, an inverse root as exact as the strategy's output.</summary>
    public static double BufferTolerance<T>(string id, string buffer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Tolerance<T>(buffer == "running_whitening" ? id : BatchNorm);

    /// <summary>Random values of a parameter: weights around 0.5, biases around 0, others around where they start.</summary>
    public static double[] ParameterValues(string name, int seed, double[] initial) => name switch
    {
        "weight" => Normal(seed + 1, initial.Length, 0.5),
        "bias" => Normal(seed + 2, initial.Length),
        _ => [.. Normal(seed + 3 + name.Length, initial.Length, 0, 0.25).Zip(initial, (difference, start) => start + difference)],
    };
}
