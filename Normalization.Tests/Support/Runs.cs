using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Support;

/// <summary>What one forward and backward gave; all arrays row-major.</summary>
internal sealed record Pass<T>(INormalizer<T> Normalizer, T[] Output, T[] InputGradient, IReadOnlyDictionary<string, T[]> Gradients)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>Empty where there is no weight.</summary>
    public T[] WeightGradient => Gradients.GetValueOrDefault("weight", []);

    /// <summary>Empty where there is no bias.</summary>
    public T[] BiasGradient => Gradients.GetValueOrDefault("bias", []);
}

/// <summary>Short ways to run a strategy on dense channels-first arrays.</summary>
internal static class Runs
{
    /// <summary>A strategy of the catalog whose parameters are random, or as they start without a seed.</summary>
    public static INormalizer<T> Create<T>(string id, ActivationShape shape, StrategySettings settings, int? seed = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        INormalizer<T> normalizer = StrategyCatalog.Create<T>(id, shape, settings);
        if (seed is { } first)
        {
            foreach (Parameter<T> parameter in normalizer.Parameters)
            {
                double[] initial = TestData.AsDouble(parameter.Values);
                TestData.As<T>(TestData.ParameterValues(parameter.Name, first, initial)).CopyTo(parameter.Values, 0);
            }
        }

        return normalizer;
    }

    public static Normalizer<T> CreateBase<T>(string id, ActivationShape shape, StrategySettings settings, int? seed = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => (Normalizer<T>)Create<T>(id, shape, settings, seed);

    public static T[] Forward<T>(INormalizer<T> normalizer, ActivationShape shape, T[] x)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var output = new T[x.Length];
        normalizer.Forward(shape, x, output);
        return output;
    }

    public static T[] Backward<T>(INormalizer<T> normalizer, ActivationShape shape, T[] x, T[] dy)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var gradient = new T[x.Length];
        normalizer.Backward(shape, x, dy, gradient);
        return gradient;
    }

    /// <summary>Gradients of the parameters start from zero.</summary>
    public static Pass<T> Once<T>(INormalizer<T> normalizer, ActivationShape shape, T[] x, T[] dy)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        normalizer.ZeroGradients();
        T[] output = Forward(normalizer, shape, x);
        T[] inputGradient = Backward(normalizer, shape, x, dy);
        return new Pass<T>(normalizer, output, inputGradient, normalizer.Parameters.ToDictionary(p => p.Name, p => (T[])p.Gradient.Clone()));
    }

    public static Pass<double> Once(string id, ActivationShape shape, StrategySettings settings, double[] x, double[] dy, int? seed = null) =>
        Once(Create<double>(id, shape, settings, seed), shape, x, dy);

    public static T[] Buffer<T>(INormalizer<T> normalizer, string name)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => normalizer.Buffers.Single(b => b.Name == name).Values;

    /// <summary>Values and counters of all buffers, copied, by name.</summary>
    public static Dictionary<string, (long Count, T[] Values)> State<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => normalizer.Buffers.ToDictionary(b => b.Name, b => (b.Count, (T[])b.Values.Clone()));

    /// <summary>Puts back what <see cref="State"/> copied.</summary>
    public static void Restore<T>(Dictionary<string, (long Count, T[] Values)> state, INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            (buffer.Count, T[] values) = state[buffer.Name];
            values.CopyTo(buffer.Values, 0);
        }

        normalizer.OnStateChanged();
    }

    public static void AssertState<T>(Dictionary<string, (long Count, T[] Values)> expected, INormalizer<T> normalizer, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            Assert.AreEqual(expected[buffer.Name].Count, buffer.Count, $"{what}: {buffer.Name}");
            NumericAssert.SameBits<T>(expected[buffer.Name].Values, buffer.Values, $"{what}: {buffer.Name}");
        }
    }

    public static void AssertSame<T>(Pass<T> expected, Pass<T> actual, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        NumericAssert.SameBits<T>(expected.Output, actual.Output, $"{what}: output");
        NumericAssert.SameBits<T>(expected.InputGradient, actual.InputGradient, $"{what}: input gradient");
        foreach ((string name, T[] gradient) in expected.Gradients)
        {
            NumericAssert.SameBits<T>(gradient, actual.Gradients[name], $"{what}: gradient of {name}");
        }
    }

    public static void AssertNear(Pass<double> expected, Pass<double> actual, double tolerance, string what)
    {
        NumericAssert.NearLargest<double>(expected.Output, actual.Output, tolerance, $"{what}: output");
        NumericAssert.NearLargest<double>(expected.InputGradient, actual.InputGradient, tolerance, $"{what}: input gradient");
        NumericAssert.NearLargest<double>(expected.WeightGradient, actual.WeightGradient, tolerance, $"{what}: weight gradient");
        NumericAssert.NearLargest<double>(expected.BiasGradient, actual.BiasGradient, tolerance, $"{what}: bias gradient");
    }

    /// <summary>The samples in another order: new sample i is old sample order[i].</summary>
    public static T[] Samples<T>(ActivationShape shape, T[] values, params int[] order)
    {
        int length = (int)(shape.Count / shape.Samples);
        var result = new T[order.Length * length];
        for (int i = 0; i < order.Length; i++)
        {
            Array.Copy(values, order[i] * length, result, i * length, length);
        }

        return result;
    }

    /// <summary>The channels in another order: new channel c is old channel order[c].</summary>
    public static T[] Channels<T>(ActivationShape shape, T[] values, params int[] order)
    {
        int spatial = (int)shape.SpatialSize;
        var result = new T[values.Length];
        for (int i = 0; i < values.Length; i += spatial)
        {
            int row = i / spatial;
            Array.Copy(values, (row / shape.Channels * shape.Channels + order[row % shape.Channels]) * spatial, result, i, spatial);
        }

        return result;
    }
}
