using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Normalization.Strategies;

namespace Normalization.Tests.Conformance;

/// <summary>Memory and magnitudes that the kernels' widest paths must not trip over.</summary>
[TestClass]
public class UnusualMemoryTests
{
    [TestMethod]
    public void ForwardBackward_LargeTensorsThatBeginInsideAnElement_MatchAlignedOnes()
    {
        // Large enough for stores past the caches, which want aligned vectors.
        nint[] lengths = [5, 8, 330, 330];
        int count = 5 * 8 * 330 * 330;
        float[] values = [.. Enumerable.Range(0, count).Select(i => ((i * 7919) % 10007) / 10007f)];
        float[] aligned = Run(values, new float[count], new float[count], lengths);
        byte[] output = new byte[(count * sizeof(float)) + 1];
        byte[] gradient = new byte[(count * sizeof(float)) + 1];
        float[] unaligned = Run(values, MemoryMarshal.Cast<byte, float>(output.AsSpan(1)), MemoryMarshal.Cast<byte, float>(gradient.AsSpan(1)), lengths);
        Assert.IsTrue(aligned.AsSpan().SequenceEqual(unaligned));
    }

    [TestMethod]
    [DataRow(5)]
    [DataRow(8)]
    public void Backward_DoubleConstantNearTheLargest_IsFiniteWhateverTheLength(int features)
    {
        var normalizer = new LayerNorm<double>([features]);
        double[] input = [.. Enumerable.Repeat(1e306, 2 * features)];
        double[] upstream = [.. Enumerable.Range(0, 2 * features).Select(i => i - 3.0)];
        var result = new double[2 * features];
        nint[] lengths = [2, features];
        normalizer.Forward(new ReadOnlyTensorSpan<double>(input, lengths), new TensorSpan<double>(result, lengths));
        normalizer.Backward(
            new ReadOnlyTensorSpan<double>(input, lengths), new ReadOnlyTensorSpan<double>(upstream, lengths), new TensorSpan<double>(result, lengths));
        Assert.IsTrue(result.All(double.IsFinite), string.Join(", ", result));
    }

    private static float[] Run(float[] values, Span<float> output, Span<float> gradient, nint[] lengths)
    {
        var normalizer = new BatchNorm<float>((int)lengths[1]);
        var input = new ReadOnlyTensorSpan<float>(values, lengths);
        normalizer.Forward(input, new TensorSpan<float>(output, lengths));
        normalizer.Backward(input, input, new TensorSpan<float>(gradient, lengths));
        return [.. output, .. gradient];
    }
}
