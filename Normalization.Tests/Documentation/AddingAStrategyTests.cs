using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Documentation;

/// <summary>The strategy of docs/adding-a-strategy.md, compiled and compared; the text of MyNorm.cs must be the page's, line by line.</summary>
[TestClass]
public sealed class AddingAStrategyTests
{
    private static readonly ActivationShape Shape = new(4, 6, 5);

    [TestMethod]
    public void MyNorm_AgainstDifferences_HasTheRightGradient()
    {
        IReadOnlyList<GradientCheck> checks = new GradientChecker().Check(new MyNorm<double>(1e-5), Shape, TestData.Normal(1, (int)Shape.Count));

        Assert.HasCount(2, checks);
        foreach (GradientCheck check in checks)
        {
            Assert.IsLessThan(1e-9, check.RelativeError, check.Quantity);
        }
    }

    [TestMethod]
    public void MyNorm_AnyStrides_GivesTheSame()
    {
        float[] x = TestData.As<float>(TestData.Normal(1, (int)Shape.Count)), y = new float[x.Length], expected = new float[x.Length];
        new RmsNorm<float>([6, 5]).Forward(Shape, x, expected);

        // x channels-last, y channels-first.
        float[] turned = new float[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            turned[(i / 30 * 30) + (i % 5 * 6) + (i / 5 % 6)] = x[i];
        }

        nint[] lengths = [4, 6, 5];
        new MyNorm<float>(1e-5).Forward(new ReadOnlyTensorSpan<float>(turned, lengths, [30, 1, 6]), new TensorSpan<float>(y, lengths, [30, 5, 1]));

        NumericAssert.NearLargest<float>(Array.ConvertAll(expected, value => (double)value), y, 1e-6, "output");
        Assert.ThrowsExactly<ArgumentException>(() => new MyNorm<float>(1e-5).Forward(new ReadOnlyTensorSpan<float>(x, lengths), new TensorSpan<float>(y, [3, 6, 5])));
    }

    [TestMethod]
    public void MyNorm_InAComparison_FailsNoCheck()
    {
        using var folder = new TemporaryFolder();
        var mine = new Contestant("my-norm", (shape, epsilon) => new MyNorm<float>(epsilon), (shape, epsilon) => new MyNorm<double>(epsilon));
        RunData run = new Comparer([StrategyCatalog.Contestant("rms-norm"), mine])
        {
            Aspects = [Aspects.Outputs, Aspects.Gradients],
            Scenarios = [Scenarios.Synthetic(1).Single(scenario => scenario.Id == "gaussian")],
        }.WriteReport(Path.Combine(folder.Path, "mine"));

        Assert.HasCount(4, run.Cases);
        Assert.IsTrue(run.Cases.All(record => record.Failure is null), string.Join("; ", run.Cases.Select(record => record.Failure)));
        foreach (Measurement claim in run.Measurements.Where(row => row is { Strategy: "my-norm", Metric: "claim" } && row.Parameters!["declared"] is true))
        {
            Assert.AreEqual("verified", claim.Parameters!["verdict"], $"{claim.Parameters["claim"]}");
        }
    }

    [TestMethod]
    public void Example_OfAddingAStrategy_IsTheCompiledOne() => PageExample.IsOn("docs/adding-a-strategy.md", indent: 0, PageExample.PathOf("Normalization.Tests/Documentation/MyNorm.cs"));
}
