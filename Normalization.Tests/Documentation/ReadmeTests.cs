using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Documentation;

/// <summary>The README's example, compiled and run; its text must be the README's, line by line.</summary>
[TestClass]
public sealed class ReadmeTests
{
    [TestMethod]
    public void TrainingLoop_OfReadme_Learns()
    {
        // example: begin
        var shape = new ActivationShape(32, 8, 4, 4); // (N, C, H, W), row-major; TensorSpan<T> with strides for any other layout
        var norm = new BatchNorm<float>(channels: 8);
        float[] x = new float[shape.Count], y = new float[x.Length], dy = new float[x.Length], dx = new float[x.Length];
        for (int step = 1; step <= 100; step++)
        {
            for (int i = 0; i < x.Length; i++) x[i] = MathF.Sin(i * step) + (i % 5); // the output of your layer before
            norm.Forward(shape, x, y);
            for (int i = 0; i < y.Length; i++) dy[i] = (y[i] - 1) / y.Length; // dL/dy, from your layer after; here L is half the mean of (y - 1)^2
            norm.ZeroGradients();
            norm.Backward(shape, x, dy, dx); // dx goes to your layer before
            foreach (Parameter<float> p in norm.Parameters) // weight and bias; any optimizer
                for (int i = 0; i < p.Values.Length; i++) p.Values[i] -= 0.5f * p.Gradient[i];
        }
        norm.Training = false; // from here on running_mean and running_var normalize
        norm.GetState().Save("norm.safetensors"); // named as PyTorch names them
        // example: end
        Assert.AreEqual(1f, norm.Bias!.Values.Average(), 0.05f);
        Assert.IsLessThan(0.5f, MathF.Abs(norm.Weight!.Values.Average()));
        Assert.Contains("running_var", StateDictionary.Load("norm.safetensors").Keys);
    }

    [TestMethod]
    public void Example_OfReadme_IsTheCompiledOne() => PageExample.IsOn("README.md");

    [TestCleanup]
    public void Clean() => File.Delete("norm.safetensors");
}
