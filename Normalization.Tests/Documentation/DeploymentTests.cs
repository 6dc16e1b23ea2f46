using Normalization.Core;
using Normalization.Strategies;
using Normalization.Strategies.Companions;
using Normalization.Tests.Support;

namespace Normalization.Tests.Documentation;

/// <summary>The example of docs/deployment.md, compiled and run; its text must be the page's, line by line.</summary>
[TestClass]
public sealed class DeploymentTests
{
    [TestMethod]
    public void Example_OfDeployment_Runs()
    {
        var shape = new ActivationShape(2, 3, 4, 4);
        float[][] batches = [TestData.As<float>(TestData.Activations(1, shape)), TestData.As<float>(TestData.Activations(2, shape))];
        float[] x = [.. batches[0]], weights = TestData.As<float>(TestData.Normal(3, 8 * 3 * 9)), bias = new float[8];
        new BatchNorm<float>(3).GetState("bn/", StateConvention.Keras).Save("keras.safetensors");

        // example: begin
        var input = new DataStandardizer<float>(channels: 3);
        foreach (float[] batch in batches) input.Add(shape, batch); // one batch at a time: the data need not fit in memory
        input.Apply(shape, x, x);

        var norm = new BatchNorm<float>(channels: 3, Preset.Keras.BatchNorm);
        norm.LoadState(StateDictionary.Load("keras.safetensors"), prefix: "bn/", convention: StateConvention.Keras);

        norm.Training = false;
        var convolution = new LinearWeights<float>(weights, [8, 3, 3, 3], bias);
        LinearWeights<float> folded = Folding.IntoFollowing(norm, convolution, ConvolutionPadding.None);

        StateDictionary model = norm.GetState("layers.1.bn.");
        model.Add(input.GetState("input."));
        model.Save("model.safetensors");
        // example: end

        // A fresh Keras layer divides by sqrt(1 + 1e-3).
        Assert.AreEqual(weights[5] / Math.Sqrt(1.001), folded.Weight[5], 1e-6);
        CollectionAssert.Contains(StateDictionary.Load("model.safetensors").Keys.ToArray(), "input.population_variance");
    }

    [TestMethod]
    public void Example_OfDeployment_IsTheCompiledOne() => PageExample.IsOn("docs/deployment.md");

    [TestCleanup]
    public void Clean()
    {
        File.Delete("keras.safetensors");
        File.Delete("model.safetensors");
    }
}
