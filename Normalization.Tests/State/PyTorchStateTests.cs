using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.State;

/// <summary>A state file that PyTorch wrote gives PyTorch's own output: Golden/generate_pytorch_state.py wrote both.</summary>
[TestClass]
public sealed class PyTorchStateTests
{
    public static IEnumerable<object[]> Layers =>
        [["layers.0.bn"], ["layers.1.bn"], ["layers.2.bn"], ["layers.3.norm"], ["layers.4.norm"], ["layers.5.norm"]];

    [TestMethod]
    [DynamicData(nameof(Layers))]
    public void LoadState_FileOfPyTorch_GivesItsFloatOutput(string layer)
    {
        StateDictionary expected = Load("pytorch-outputs.safetensors");
        foreach (bool training in new[] { false, true })
        {
            Normalizer<float> normalizer = Made<float>(layer);
            normalizer.LoadState(Load("pytorch-state.safetensors"), prefix: layer + ".");

            float[] output = Run(normalizer, expected[layer + ".input"], training);

            float[] theirs = expected[layer + (training ? ".training" : ".inference")].ToArray<float>();
            NumericAssert.NearLargest<float>(TestData.AsDouble(theirs), output, 5e-7, $"{layer}, training {training}");
        }
    }

    [TestMethod]
    [DynamicData(nameof(Layers))]
    public void LoadState_FileOfPyTorchIntoDouble_GivesItsDoubleOutputAndStatistics(string layer)
    {
        StateDictionary expected = Load("pytorch-outputs.safetensors").ConvertTo(StateElementType.F64);
        foreach (bool training in new[] { false, true })
        {
            Normalizer<double> normalizer = Made<double>(layer);
            normalizer.LoadState(Load("pytorch-state.safetensors").ConvertTo(StateElementType.F64), prefix: layer + ".");

            double[] output = Run(normalizer, expected[layer + ".input"], training);

            double[] theirs = expected[layer + (training ? ".training64" : ".inference64")].ToArray<double>();
            NumericAssert.NearLargest<double>(theirs, output, 1e-12, $"{layer}, training {training}");
            foreach (StateBuffer<double> buffer in normalizer.Buffers.Where(buffer => training && !buffer.IsCounter))
            {
                NumericAssert.NearLargest<double>(expected[$"{layer}.after.{buffer.Name}"].ToArray<double>(), buffer.Values, 1e-12, $"{layer}, {buffer.Name}");
            }
        }
    }

    [TestMethod]
    public void GetState_AllLayersLoaded_IsPyTorchsFile()
    {
        StateDictionary theirs = Load("pytorch-state.safetensors");
        var ours = new StateDictionary();
        foreach (string layer in Layers.Select(row => (string)row[0]))
        {
            Normalizer<float> normalizer = Made<float>(layer);
            normalizer.LoadState(theirs, prefix: layer + ".");
            ours.Add(normalizer.GetState(layer + "."));
        }

        CollectionAssert.AreEquivalent(theirs.Keys.ToArray(), ours.Keys.ToArray());
        foreach (string name in theirs.Keys)
        {
            Assert.AreEqual(theirs[name].ElementType, ours[name].ElementType, name);
            CollectionAssert.AreEqual(theirs[name].Shape.ToArray(), ours[name].Shape.ToArray(), name);
            CollectionAssert.AreEqual(theirs[name].Bytes.ToArray(), ours[name].Bytes.ToArray(), name);
        }
    }

    [TestMethod]
    public void LoadState_PrefixOfAnotherLayer_NamesWhatIsMissingAndSurplus()
    {
        string message = Assert.ThrowsExactly<ArgumentException>(
            () => Made<float>("layers.0.bn").LoadState(Load("pytorch-state.safetensors"), prefix: "layers.4.")).Message;

        StringAssert.Contains(message, "'layers.4.running_mean' is missing");
        StringAssert.Contains(message, "'layers.4.norm.weight' of shape (3, 4) is surplus");
    }

    private static Normalizer<T> Made<T>(string layer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        return layer switch
        {
            "layers.0.bn" => new BatchNorm<T>(5),
            "layers.1.bn" => new BatchNorm<T>(3, new() { Epsilon = 1e-3, Momentum = 0.3 }),
            "layers.2.bn" => new BatchNorm<T>(2, new() { Momentum = null }),
            "layers.3.norm" => new InstanceNorm<T>(3, new() { TrackRunningStatistics = true }),
            "layers.4.norm" => new LayerNorm<T>([3, 4]),
            _ => new GroupNorm<T>(2, 6),
        };
    }

    private static T[] Run<T>(Normalizer<T> normalizer, StateTensor input, bool training)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        normalizer.Training = training;
        var output = new T[input.Count];
        normalizer.Forward(new ActivationShape(input.Shape), input.AsSpan<T>(), output);
        return output;
    }

    private static StateDictionary Load(string name) => StateDictionary.Load(Path.Combine(AppContext.BaseDirectory, "Golden", name));
}
