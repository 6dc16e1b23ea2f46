using System.Numerics;
using System.Text.Json;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Models;

/// <summary>Two training steps of whole networks against PyTorch's from the same weights and batch: Golden/generate_networks.py.</summary>
[TestClass]
public sealed class NetworkGoldenTests
{
    private static readonly Case[] Cases = JsonSerializer.Deserialize<Case[]>(
        File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Golden", "networks.json")), JsonSerializerOptions.Web)!;

    public static IEnumerable<object[]> Names => Cases.Select(golden => new object[] { golden.Name });

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void TwoSteps_OfADoubleNetwork_MatchTorch(string name) => Check<double>(name, 1e-10);

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void TwoSteps_OfAFloatNetwork_MatchTorch(string name) => Check<float>(name, 1e-5);

    private static void Check<T>(string name, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Case golden = Cases.Single(golden => golden.Name == name);
        Layer<T> network = golden.Shape.Length == 2 ? Perceptron<T>() : Convolutional<T>();
        var loss = new SoftmaxCrossEntropy<T>();
        Activations<T> input = new Activations<T>().Resize(new ActivationShape(Array.ConvertAll(golden.Shape, length => (nint)length)));
        TestData.As<T>(golden.Input).CopyTo(input.Values);
        network.Forward(input, training: false); // so that normalizers, and their parameters, are there
        Parameter<T>[] parameters = [.. network.Parameters];
        Assert.HasCount(golden.Initial.Length, parameters);
        for (int i = 0; i < parameters.Length; i++)
        {
            TestData.As<T>(golden.Initial[i]).CopyTo(parameters[i].Values, 0);
        }

        var optimizer = new Sgd<T>(parameters, golden.Momentum, golden.WeightDecay);
        foreach (double expected in golden.Losses)
        {
            NumericAssert.Near(expected, loss.Forward(network.Forward(input, training: true), golden.Labels), 1, tolerance, $"{name}: loss");
            network.Backward(loss.Gradient, wantsInput: false);
            optimizer.Step(golden.Rate);
        }

        for (int i = 0; i < parameters.Length; i++)
        {
            NumericAssert.NearLargest<T>(golden.Trained[i], parameters[i].Values, tolerance, $"{name}: parameter {i}, {parameters[i].Name}");
        }
    }

    private static Sequential<T> Perceptron<T>()
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var random = new RandomStream(1, "golden");
        return new Sequential<T>(
            new Linear<T>(9, 8, random, bias: false), BatchNorm<T>(), new Sigmoid<T>(),
            new Linear<T>(8, 7, random, bias: false), BatchNorm<T>(), new Sigmoid<T>(), new Linear<T>(7, 4, random));
    }

    private static Sequential<T> Convolutional<T>()
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var random = new RandomStream(2, "golden");
        var layers = new List<Layer<T>>();
        foreach ((int inputs, int outputs, int stride) in new[] { (1, 4, 1), (4, 6, 2), (6, 6, 1), (6, 8, 2) })
        {
            layers.AddRange([new Conv2d<T>(inputs, outputs, 3, stride, random, bias: false), BatchNorm<T>(), new Relu<T>()]);
        }

        return new Sequential<T>([.. layers, new GlobalAveragePool<T>(), new Linear<T>(8, 5, random)]);
    }

    private static Normalized<T> BatchNorm<T>()
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => new(shape => new BatchNorm<T>(shape.Channels));

    private sealed record Case(
        string Name, int[] Shape, double[] Input, int[] LabelList, double Rate, double Momentum, double WeightDecay, double[][] Initial, double[] Losses, double[][] Trained)
    {
        public byte[] Labels => [.. LabelList.Select(label => (byte)label)];
    }
}
