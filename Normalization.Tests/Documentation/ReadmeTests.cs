using System.Runtime.CompilerServices;
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
        var shape = new ActivationShape(32, 8, 4, 4); // (N, C, H, W)
        INormalizer<float> norm = new BatchNorm<float>(channels: 8);
        float[] x = Batch(shape), target = Batch(shape), y = new float[x.Length], dy = new float[x.Length], dx = new float[x.Length];
        for (int step = 0; step < 50; step++)
        {
            norm.Forward(shape, x, y); // x: what your layer before it put out
            for (int i = 0; i < y.Length; i++)
            {
                dy[i] = (y[i] - target[i]) / y.Length; // dL/dy: what your layer after it hands back
            }

            norm.ZeroGradients();
            norm.Backward(shape, x, dy, dx); // dx: hand it to the layer before
            foreach (Parameter<float> p in norm.Parameters) // weight, bias: any optimizer; here plain gradient descent
            {
                for (int i = 0; i < p.Values.Length; i++)
                {
                    p.Values[i] -= 1f * p.Gradient[i];
                }
            }
        }

        norm.Training = false; // from here on the running statistics normalize
        norm.GetState().Save(path); // weight, bias, running_mean, ... as PyTorch names them
        // example: end
        Assert.IsLessThan(0.9 * Loss(x), Loss(y));
        Assert.Contains("running_var", StateDictionary.Load(path).Keys);

        double Loss(float[] values) => values.Zip(target, (a, b) => (a - b) * (double)(a - b)).Average();
    }

    [TestMethod]
    public void Example_OfReadme_IsTheCompiledOne()
    {
        string[] source = File.ReadAllLines(SourcePath());
        int begin = Array.FindIndex(source, line => line.Contains("// example: begin", StringComparison.Ordinal));
        int end = Array.FindIndex(source, line => line.Contains("// example: end", StringComparison.Ordinal));
        string readme = File.ReadAllText(Path.Combine(Path.GetDirectoryName(SourcePath())!, "..", "..", "README.md")).ReplaceLineEndings("\n");
        string example = string.Join("\n", source[(begin + 1)..end].Select(line => line.Length > 8 ? line[8..] : ""));
        Assert.Contains(example, readme);
    }

    private readonly string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName() + ".safetensors");

    [TestCleanup]
    public void Clean() => File.Delete(path);

    private static float[] Batch(ActivationShape shape)
    {
        var random = new Random((int)shape.Count);
        return [.. Enumerable.Range(0, (int)shape.Count).Select(i => (float)((3 * random.NextDouble()) + (i / 16 % 8)))];
    }

    private static string SourcePath([CallerFilePath] string path = "") => path;
}
