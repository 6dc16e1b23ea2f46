using Normalization.Core;
using Normalization.Strategies.Companions;

namespace Normalization.Tests.Documentation;

/// <summary>The example of the LSTM cell of docs/library.md, compiled and run; its text must be the page's, line by line.</summary>
[TestClass]
public sealed class LstmTests
{
    [TestMethod]
    public void Example_OfLstmCell_Runs()
    {
        // example: begin
        const int steps = 6, samples = 3, inputs = 4, hidden = 5;
        var cell = new LstmCell<float>(inputs, hidden, new LstmOptions { Normalization = LstmNormalization.Layer });
        float[] x = new float[steps * samples * inputs], dx = new float[x.Length]; // (T, N, D)
        float[] h = new float[steps * samples * hidden], dh = new float[h.Length]; // (T, N, H)
        for (int i = 0; i < x.Length; i++) x[i] = MathF.Sin(i);

        bool[] mask = LstmCell<float>.Mask(steps, 6, 4, 2); // sequences of 6, 4 and 2 steps
        cell.Forward(steps, samples, x, h, mask); // beyond its end a sequence's h is repeated
        for (int i = h.Length - (samples * hidden); i < h.Length; i++) dh[i] = h[i]; // L is half the sum of the last step's h^2
        cell.ZeroGradients();
        cell.Backward(dh, dx); // 0 beyond a sequence's end
        foreach (Parameter<float> p in cell.Parameters)
            for (int i = 0; i < p.Values.Length; i++) p.Values[i] -= 0.01f * p.Gradient[i];
        // example: end

        Assert.IsTrue(dx[(1 * samples * inputs) + (2 * inputs)] != 0 && dx[(2 * samples * inputs) + (2 * inputs)] == 0);
        float before = dh.Sum(value => value * value);
        cell.Forward(steps, samples, x, h, mask);
        Assert.IsLessThan(before, h[^(samples * hidden)..].Sum(value => value * value));
    }

    [TestMethod]
    public void Example_OfLstmCell_IsTheCompiledOne() => PageExample.IsOn("docs/library.md");
}
