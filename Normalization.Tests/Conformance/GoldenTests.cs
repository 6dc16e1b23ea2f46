using System.Numerics;
using System.Text.Json;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Golden;
using Normalization.Tests.Oracles;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Every strategy, and the oracle itself, against values that PyTorch computed in float64.</summary>
[TestClass]
public sealed class GoldenTests
{
    private const double DoubleTolerance = 1e-10;

    public static IEnumerable<object[]> Cases => from id in StrategyCases.Ids from golden in GoldenFile.Of(id).Cases select new object[] { id, golden.Id };

    [TestMethod]
    public void GoldenFiles_EveryStrategy_CoversModesRanksAndAffine()
    {
        foreach (string id in StrategyCases.Ids)
        {
            GoldenCase[] cases = GoldenFile.Of(id).Cases;
            Assert.IsGreaterThanOrEqualTo(15, cases.Length, id);
            Assert.AreEqual(
                StrategyCases.Of(id).Carries(new ActivationShape(6, 4)) ? 4 : 3, cases.Select(c => c.Shape.Length).Distinct().Count(), $"{id}: ranks");
            Assert.HasCount(StrategyCases.Of(id).Modes, cases.Select(c => c.Training).Distinct(), $"{id}: modes");
            Assert.IsTrue(cases.Any(c => c.Weight is null && c.Bias is null), $"{id}: no affine");
            Assert.IsTrue(cases.All(c => c.Forwards == c.Warmup.Length + 1), id);
        }
    }

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Oracle_GoldenCase_MatchesTorch(string strategy, string name)
    {
        GoldenCase golden = Find(strategy, name);
        Oracle oracle = RunOracle(strategy, golden, double.MaxValue, out double[] output, out double[] inputGradient);
        NumericAssert.NearLargest<double>(golden.Output, output, DoubleTolerance, "output");
        NumericAssert.NearLargest<double>(golden.InputGradient, inputGradient, DoubleTolerance, "input gradient");
        foreach ((string parameter, _, double[] gradient) in golden.AllParameters)
        {
            NumericAssert.NearLargest<double>(gradient, oracle.Parameters[parameter].Gradient, DoubleTolerance, $"gradient of {parameter}");
        }

        foreach ((string buffer, JsonElement expected) in golden.Buffers)
        {
            if (expected.ValueKind == JsonValueKind.Number)
            {
                Assert.AreEqual(expected.GetInt64(), oracle.Counters[buffer], buffer);
            }
            else
            {
                NumericAssert.NearLargest<double>(expected.Deserialize<double[]>()!, oracle.Buffers[buffer], DoubleTolerance, buffer);
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Strategy_GoldenCaseInDouble_MatchesTorch(string strategy, string name)
    {
        foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
        {
            Check<double>(strategy, Find(strategy, name), layout);
        }
    }

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Strategy_GoldenCaseInFloat_KeepsTheAccuracyRule(string strategy, string name)
    {
        foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
        {
            Check<float>(strategy, Find(strategy, name), layout);
        }
    }

    private static void Check<T>(string strategy, GoldenCase golden, Layout layout)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ActivationShape shape = golden.ActivationShape;
        INormalizer<T> normalizer = StrategyCatalog.Create<T>(strategy, shape, golden.Settings);
        CollectionAssert.AreEquivalent(golden.AllParameters.Select(p => p.Name).ToArray(), normalizer.Parameters.Select(p => p.Name).ToArray(), "parameters");
        foreach ((string name, double[] values, _) in golden.AllParameters)
        {
            TestData.As<T>(values).CopyTo(normalizer.Parameters.Single(p => p.Name == name).Values, 0);
        }

        CollectionAssert.AreEquivalent(golden.Buffers.Keys, normalizer.Buffers.Select(b => b.Name).ToArray(), "buffers");
        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            JsonElement initial = golden.InitialBuffers[buffer.Name];
            if (buffer.IsCounter)
            {
                buffer.Count = initial.GetInt64();
            }
            else
            {
                TestData.As<T>(initial.Deserialize<double[]>()!).CopyTo(buffer.Values, 0);
            }
        }

        normalizer.OnStateChanged();
        var output = new PlacedTensor<T>(shape, layout);
        foreach (double[] batch in golden.Warmup)
        {
            normalizer.Forward(new PlacedTensor<T>(shape, layout, batch).ReadOnly, output.Span);
        }

        normalizer.Training = golden.Training;
        var input = new PlacedTensor<T>(shape, layout, golden.Input);
        var outputGradient = new PlacedTensor<T>(shape, layout, golden.OutputGradient);
        var inputGradient = new PlacedTensor<T>(shape, layout);
        normalizer.Forward(input.ReadOnly, output.Span);
        normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);

        // Only the scales of the accuracy rule are the oracle's; the expected values are torch's.
        Oracle oracle = RunOracle(strategy, golden, TestData.LargestOf<T>(), out _, out _);
        bool isFloat = typeof(T) == typeof(float);
        string where = $"{strategy} {golden.Id} {layout}";
        Near(golden.Output, output.Read(), oracle.OutputScale, "output");
        Near(golden.InputGradient, inputGradient.Read(), oracle.InputGradientScale, "input gradient");
        foreach ((string name, _, double[] gradient) in golden.AllParameters)
        {
            Near(gradient, normalizer.Parameters.Single(p => p.Name == name).Gradient, oracle.Parameters[name].GradientScale, $"gradient of {name}");
        }

        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            JsonElement expected = golden.Buffers[buffer.Name];
            if (buffer.IsCounter)
            {
                Assert.AreEqual(expected.GetInt64(), buffer.Count, $"{where}: {buffer.Name}");
            }
            else
            {
                double tolerance = !isFloat ? DoubleTolerance : TestData.BufferTolerance<T>(strategy, buffer.Name);
                NumericAssert.NearLargest<T>(expected.Deserialize<double[]>()!, buffer.Values, tolerance, $"{where}: {buffer.Name}");
            }
        }

        void Near(double[] expected, T[] actual, double[] scale, string what)
        {
            if (isFloat)
            {
                NumericAssert.Near<T>(expected, actual, scale, TestData.Tolerance<T>(strategy), $"{where}: {what}");
            }
            else
            {
                NumericAssert.NearLargest<T>(expected, actual, DoubleTolerance, $"{where}: {what}");
            }
        }
    }

    private static Oracle RunOracle(
        string strategy, GoldenCase golden, double largest, out double[] output, out double[] inputGradient)
    {
        ActivationShape shape = golden.ActivationShape;
        Oracle oracle = StrategyCases.Of(strategy).CreateOracle(shape, golden.Settings, largest);
        foreach ((string name, double[] values, _) in golden.AllParameters)
        {
            values.CopyTo(oracle.Parameters[name].Values, 0);
        }

        foreach ((string buffer, JsonElement initial) in golden.InitialBuffers)
        {
            if (initial.ValueKind == JsonValueKind.Number)
            {
                oracle.Counters[buffer] = initial.GetInt64();
            }
            else
            {
                initial.Deserialize<double[]>()!.CopyTo(oracle.Buffers[buffer], 0);
            }
        }

        foreach (double[] batch in golden.Warmup)
        {
            oracle.Forward(shape, batch);
        }

        oracle.Training = golden.Training;
        output = oracle.Forward(shape, golden.Input);
        inputGradient = oracle.Backward(shape, golden.Input, golden.OutputGradient);
        return oracle;
    }

    private static GoldenCase Find(string strategy, string name) => GoldenFile.Of(strategy).Cases.Single(golden => golden.Id == name);
}
