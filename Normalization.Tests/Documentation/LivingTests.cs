using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Documentation;

/// <summary>The example of docs/living.md, compiled and run; its text must be the page's, line by line.</summary>
[TestClass]
public sealed class LivingTests
{
    private static readonly ActivationShape Shape = new(4, 3, 5, 5);

    [TestMethod]
    public void Example_OfLiving_Runs()
    {
        var model = new TwoNorms();
        float[][] batches = [.. Enumerable.Range(1, 3).Select(seed => TestData.As<float>(TestData.Activations(seed, Shape)))];

        // example: begin
        BatchNorm<float> bn1 = model.FirstNorm, bn2 = model.SecondNorm;
        IReadOnlyList<RecalibrationCount> counts = Recalibration.Run([bn1, bn2], batches, batch => model.Forward(batch));
        // example: end

        CollectionAssert.AreEqual(new[] { new RecalibrationCount(3, 12, 0), new RecalibrationCount(3, 12, 0) }, counts.ToArray());
    }

    [TestMethod]
    public void Example_OfLiving_IsTheCompiledOne() => PageExample.IsOn("docs/living.md");

    private sealed class TwoNorms
    {
        public BatchNorm<float> FirstNorm { get; } = new(3);

        public BatchNorm<float> SecondNorm { get; } = new(3);

        public void Forward(float[] x)
        {
            float[] y = new float[x.Length], z = new float[x.Length];
            FirstNorm.Forward(Shape, x, y);
            SecondNorm.Forward(Shape, y, z);
        }
    }
}
