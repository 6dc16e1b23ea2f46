using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Oracles;

namespace Normalization.Tests.Support;

/// <summary>A strategy and the oracle with the same settings and, rounded to T, the same weight, bias and data.</summary>
internal sealed class Subject<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly string _id;

    public Subject(string id, ActivationShape shape, StrategySettings settings, int seed)
    {
        _id = id;
        Normalizer = StrategyCatalog.Create<T>(id, shape, settings);
        Oracle = StrategyCases.Of(id).CreateOracle(shape, settings, TestData.LargestOf<T>());
        CollectionAssert.AreEqual(Oracle.Parameters.Keys.ToArray(), Normalizer.Parameters.Select(p => p.Name).ToArray(), $"{id}: parameters");
        foreach ((string name, OracleParameter parameter) in Oracle.Parameters)
        {
            SetParameter(name, TestData.ParameterValues(name, seed, parameter.Values));
        }
    }

    public INormalizer<T> Normalizer { get; }

    public Oracle Oracle { get; }

    public Layout InputLayout { get; set; }

    public Layout OutputLayout { get; set; }

    public Layout OutputGradientLayout { get; set; }

    public Layout InputGradientLayout { get; set; }

    /// <summary>Of the scales of the oracle.</summary>
    public double Tolerance { get; set; } = -1;

    /// <summary>All four tensors in one layout.</summary>
    public Subject<T> In(Layout layout)
    {
        (InputLayout, OutputLayout, OutputGradientLayout, InputGradientLayout) = (layout, layout, layout, layout);
        return this;
    }

    /// <summary>Sets a parameter on both sides.</summary>
    public void SetParameter(string name, double[] values)
    {
        Parameter<T> parameter = Normalizer.Parameters.Single(p => p.Name == name);
        Assert.HasCount(values.Length, parameter.Values, $"{_id}: elements of '{name}'");
        values = TestData.Rounded<T>(values);
        values.CopyTo(Oracle.Parameters[name].Values, 0);
        TestData.As<T>(values).CopyTo(parameter.Values, 0);
    }

    /// <summary>Sets running statistics on both sides.</summary>
    public void SetBuffer(string name, double[] values)
    {
        StateBuffer<T> buffer = Normalizer.Buffers.Single(b => b.Name == name);
        Assert.AreEqual(values.Length, buffer.Values.Length, $"{_id}: elements of '{name}'");
        values = TestData.Rounded<T>(values);
        values.CopyTo(Oracle.Buffers[name], 0);
        TestData.As<T>(values).CopyTo(buffer.Values, 0);
        Normalizer.OnStateChanged();
    }

    /// <summary>Sets the mode of both; the oracle goes on from the strategy's buffers as they were rounded to T.</summary>
    public void SetTraining(bool training)
    {
        CheckBuffers($"{_id} at a change of mode");
        foreach (StateBuffer<T> buffer in Normalizer.Buffers.Where(b => !b.IsCounter))
        {
            TestData.AsDouble(buffer.Values).CopyTo(Oracle.Buffers[buffer.Name], 0);
        }

        Normalizer.Training = training;
        Oracle.Training = training;
    }

    /// <summary>One forward and one backward on both sides; output, gradients and buffers compared.</summary>
    public void Check(ActivationShape shape, double[] x, double[] dy, string what)
    {
        what = $"{_id} {typeof(T).Name} {shape} {(Oracle.Training ? "training" : "inference")} {InputLayout}->{OutputLayout} {what}";
        double tolerance = Tolerance < 0 ? TestData.Tolerance<T>(_id) : Tolerance;
        x = AwayFromKinks(shape, TestData.Rounded<T>(x));
        dy = TestData.Rounded<T>(dy);
        var input = new PlacedTensor<T>(shape, InputLayout, x);
        var output = new PlacedTensor<T>(shape, OutputLayout);
        var outputGradient = new PlacedTensor<T>(shape, OutputGradientLayout, dy);
        var inputGradient = new PlacedTensor<T>(shape, InputGradientLayout);

        Normalizer.ZeroGradients();
        Normalizer.Forward(input.ReadOnly, output.Span);
        Normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);
        double[] y = Oracle.Forward(shape, x);
        double[] dx = Oracle.Backward(shape, x, dy);

        NumericAssert.Near<T>(y, output.Read(), Oracle.OutputScale, tolerance, $"{what}: output");
        NumericAssert.Near<T>(dx, inputGradient.Read(), Oracle.InputGradientScale, tolerance, $"{what}: input gradient");
        foreach (Parameter<T> parameter in Normalizer.Parameters)
        {
            OracleParameter expected = Oracle.Parameters[parameter.Name];
            NumericAssert.Near<T>(expected.Gradient, parameter.Gradient, expected.GradientScale, tolerance, $"{what}: gradient of {parameter.Name}");
        }

        CheckBuffers(what);
    }

    // At a tie either side's gradient is one: the test wants data that has none.
    private double[] AwayFromKinks(ActivationShape shape, double[] x)
    {
        for (int attempt = 1; attempt <= 20 && typeof(T) == typeof(float) && Oracle.HasKinks; attempt++)
        {
            Oracle.Forward(shape, x);
            if (!Oracle.AtKink)
            {
                break;
            }

            double[] noise = TestData.Normal(attempt, x.Length, 0, 0.01);
            x = TestData.Rounded<T>([.. x.Zip(noise, (value, difference) => value * (1 + difference))]);
        }

        return x;
    }

    public void SetCounter(long count)
    {
        Normalizer.Buffers.Single(b => b.IsCounter).Count = count;
        Oracle.BatchesTracked = count;
        Normalizer.OnStateChanged();
    }

    /// <summary>The same names and values on both sides, to rounding.</summary>
    public void CheckBuffers(string what)
    {
        string[] names = [.. Oracle.Buffers.Keys, .. Oracle.Buffers.Count > 0 ? new[] { "num_batches_tracked" } : []];
        CollectionAssert.AreEquivalent(names, Normalizer.Buffers.Select(b => b.Name).ToArray(), $"{what}: buffers");
        foreach (StateBuffer<T> buffer in Normalizer.Buffers)
        {
            if (buffer.IsCounter)
            {
                Assert.AreEqual(Oracle.BatchesTracked, buffer.Count, $"{what}: {buffer.Name}");
            }
            else
            {
                NumericAssert.NearLargest<T>(
                    Oracle.Buffers[buffer.Name], buffer.Values, TestData.BufferTolerance<T>(_id, buffer.Name),
                    $"{what}: {buffer.Name}");
            }
        }
    }
}
