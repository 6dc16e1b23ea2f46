using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.State;

[TestClass]
public sealed class StateConventionTests
{
    private static readonly ActivationShape Shape = new(4, 3, 5);
    private static readonly string[] Keras = ["bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"];
    private static readonly string[] Onnx = ["scale", "B", "input_mean", "input_var"];
    private static readonly string[] Flax = ["scale", "bias", "mean", "var"];
    private static readonly string[] KerasOfLayerNorm = ["gamma", "beta"];

    [TestMethod]
    public void GetState_InAConvention_HasItsNamesAndNoCounter()
    {
        BatchNorm<float> layer = Trained();

        CollectionAssert.AreEqual(Keras, layer.GetState("bn/", StateConvention.Keras).Keys.ToArray());
        CollectionAssert.AreEqual(Onnx, layer.GetState(convention: StateConvention.Onnx).Keys.ToArray());
        CollectionAssert.AreEqual(Flax, layer.GetState(convention: StateConvention.Flax).Keys.ToArray());
        CollectionAssert.AreEqual(layer.GetState().Keys.ToArray(), layer.GetState(convention: StateConvention.PyTorch).Keys.ToArray());
        CollectionAssert.AreEqual(KerasOfLayerNorm, new LayerNorm<float>([3]).GetState(convention: StateConvention.Keras).Keys.ToArray());
    }

    [TestMethod]
    public void LoadState_InEveryConvention_RestoresInferenceToTheBitAndKeepsTheCounter()
    {
        BatchNorm<float> from = Trained();
        float[] expected = Infer(from);
        foreach (StateConvention convention in new[] { StateConvention.Keras, StateConvention.Onnx, StateConvention.Flax, StateConvention.PyTorch })
        {
            var to = new BatchNorm<float>(3);
            to.LoadState(from.GetState("model/bn/", convention), prefix: "model/bn/", convention: convention);

            NumericAssert.SameBits<float>(expected, Infer(to), convention.Name);
            Assert.AreEqual(convention == StateConvention.PyTorch ? from.Buffers[2].Count : 0, to.Buffers[2].Count, convention.Name);
        }
    }

    [TestMethod]
    public void LoadState_OnnxInputsOfTheOtherOperators_AreConventionsOfOnesOwn()
    {
        var layer = new GroupNorm<double>(1, 3);
        StateDictionary state = new() { { "scale", StateTensor.Create<double>([2, 3, 4], 3) }, { "bias", StateTensor.Create<double>([5, 6, 7], 3) } };

        layer.LoadState(state, convention: StateConvention.Onnx with { Bias = "bias" });

        CollectionAssert.AreEqual(new double[] { 2, 3, 4, 5, 6, 7 }, layer.Weight!.Values.Concat(layer.Bias!.Values).ToArray());
    }

    [TestMethod]
    public void LoadState_WrongNamesInAConvention_NamesThemInThatConvention()
    {
        StateDictionary state = new()
        {
            { "bn/gamma", StateTensor.Create<float>([1, 2, 3], 3) },
            { "bn/weight", StateTensor.Create<float>([1, 2, 3], 3) },
            { "bn/moving_mean", StateTensor.Create<float>([1, 2], 2) },
            { "bn/moving_variance", StateTensor.Create<float>([1, -2, 3], 3) },
            { "other/gamma", StateTensor.Create<float>([1], 1) },
        };

        string message = Assert.ThrowsExactly<ArgumentException>(
            () => new BatchNorm<float>(3).LoadState(state, prefix: "bn/", convention: StateConvention.Keras)).Message;

        StringAssert.Contains(message, "'bn/beta' is missing");
        StringAssert.Contains(message, "'bn/weight' of shape (3) is surplus");
        StringAssert.Contains(message, "'bn/moving_mean' has the shape (2), not (3)");
        StringAssert.Contains(message, "'bn/moving_variance' has -2 at element 1, but a variance is finite and at least 0");
        Assert.DoesNotContain("num_batches_tracked", message);
        Assert.DoesNotContain("other", message);
    }

    [TestMethod]
    public void GetState_ArrayWithoutANameInTheConvention_SaysSo()
    {
        string message = Assert.ThrowsExactly<NotSupportedException>(() => new ZcaWhitening<float>(3).GetState(convention: StateConvention.Keras)).Message;

        StringAssert.Contains(message, "Keras has no name for 'running_covariance' of the ZcaWhitening of float");
        StringAssert.Contains(message, "gamma, beta, moving_mean, moving_variance");
    }

    [TestMethod]
    public void ConvertingVariance_PopulationFileIntoSampleLayer_TrainsOnAsIfAlwaysSample()
    {
        const int M = 4 * 5;
        var population = new BatchNorm<double>(3, new() { RunningVariance = RunningVariance.Population, Momentum = 1 });
        var sample = new BatchNorm<double>(3, new() { RunningVariance = RunningVariance.Sample, Momentum = 1 });
        double[] batch = TestData.Activations(2, Shape);
        population.Forward(Shape, batch, new double[batch.Length]);
        sample.Forward(Shape, batch, new double[batch.Length]);
        StateConvention converting = StateConvention.Keras.ConvertingVariance(RunningVariance.Sample, M);
        var loaded = new BatchNorm<double>(3);

        loaded.LoadState(population.GetState(convention: StateConvention.Keras), convention: converting);

        NumericAssert.NearLargest<double>(sample.Buffers[1].Values, loaded.Buffers[1].Values, 1e-15, "sample variance");
        NumericAssert.NearLargest<double>(
            population.Buffers[1].Values, loaded.GetState(convention: converting)["moving_variance"].ToArray<double>(), 1e-15, "and back");
        NumericAssert.SameBits<double>(population.Buffers[0].Values, loaded.Buffers[0].Values, "mean");
        Assert.AreEqual(1, StateConvention.Keras.ConvertingVariance(RunningVariance.Population, M).VarianceFactor);
        Assert.AreEqual(0.95, StateConvention.PyTorch.ConvertingVariance(RunningVariance.Population, M).VarianceFactor, 1e-15);
        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => StateConvention.Keras.ConvertingVariance(RunningVariance.Sample, 1)).Message, "at least 2");
    }

    [TestMethod]
    public void ConvertingVariance_OfPyTorch_KeepsTheNamesBeyondTheFive()
    {
        StateConvention converting = StateConvention.PyTorch.ConvertingVariance(RunningVariance.Population, 20);
        foreach (string id in new[] { "switchable-norm", "evonorm-b0" })
        {
            var layer = (Normalizer<double>)StrategyCatalog.Create<double>(id, Shape, new StrategySettings());
            StateDictionary state = layer.GetState(convention: converting);
            CollectionAssert.AreEquivalent(layer.GetState().Keys.ToArray(), state.Keys.ToArray(), id);
            layer.LoadState(state, convention: converting);
        }
    }

    [TestMethod]
    public void ToMomentum_OfPresets_IsOurs()
    {
        Assert.AreEqual(Preset.Keras.BatchNorm.Momentum, Preset.Keras.State.ToMomentum(0.99));
        Assert.AreEqual(Preset.Flax.BatchNorm.Momentum, Preset.Flax.State.ToMomentum(0.99));
        Assert.AreEqual(Preset.Onnx.BatchNorm.Momentum, Preset.Onnx.State.ToMomentum(0.9));
        Assert.AreEqual(Preset.PyTorch.BatchNorm.Momentum, Preset.PyTorch.State.ToMomentum(0.1));
        Assert.AreEqual(0.99, StateConvention.Keras.FromMomentum(0.01));

        // No short decimal numbers: their complements are exact, and come back.
        foreach (double momentum in new[] { 2.0 / 3, 1 - Math.Pow(2, -40) })
        {
            Assert.AreEqual(1 - momentum, StateConvention.Keras.ToMomentum(momentum));
            Assert.AreEqual(momentum, StateConvention.Keras.FromMomentum(StateConvention.Keras.ToMomentum(momentum)));
        }

        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => StateConvention.Keras.ToMomentum(1.5));
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => StateConvention.Keras.ToMomentum(double.NaN));
    }

    [TestMethod]
    public void StoredVariance_OfEveryPreset_IsItsLayersDivisor()
    {
        foreach (Preset preset in Preset.All)
        {
            Assert.AreEqual(preset.BatchNorm.RunningVariance, preset.State.StoredVariance, preset.Name);
        }
    }

    [TestMethod]
    public void KerasBatchNorm_TrainedAndSaved_IsTheKerasFormula()
    {
        // Keras: moving = 0.99 moving + 0.01 batch, population variance, epsilon 1e-3.
        var layer = new BatchNorm<double>(3, Preset.Keras.BatchNorm);
        double[] batch = TestData.Activations(3, Shape);
        layer.Forward(Shape, batch, new double[batch.Length]);
        layer.Training = false;
        double[] output = new double[batch.Length];
        layer.Forward(Shape, batch, output);
        StateDictionary state = layer.GetState(convention: Preset.Keras.State);

        double[] channel = [.. batch.Where((_, i) => i / 5 % 3 == 1)];
        double mean = channel.Average();
        double variance = channel.Average(value => (value - mean) * (value - mean));
        Assert.AreEqual(0.01 * mean, state["moving_mean"].ToArray<double>()[1], 1e-15);
        Assert.AreEqual(0.99 + (0.01 * variance), state["moving_variance"].ToArray<double>()[1], 1e-14);
        Assert.AreEqual((batch[5] - (0.01 * mean)) / Math.Sqrt(0.99 + (0.01 * variance) + 1e-3), output[5], 1e-13);
    }

    private static BatchNorm<float> Trained()
    {
        var layer = new BatchNorm<float>(3);
        layer.Forward(Shape, TestData.As<float>(TestData.Activations(1, Shape)), new float[Shape.Count]);
        TestData.As<float>(TestData.Normal(5, 3)).CopyTo(layer.Weight!.Values, 0);
        TestData.As<float>(TestData.Normal(6, 3)).CopyTo(layer.Bias!.Values, 0);
        return layer;
    }

    private static float[] Infer(BatchNorm<float> layer)
    {
        layer.Training = false;
        var output = new float[Shape.Count];
        layer.Forward(Shape, TestData.As<float>(TestData.Activations(9, Shape)), output);
        return output;
    }
}
