using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Comparison;

[TestClass]
public sealed class GradientCheckerTests
{
    private static readonly ActivationShape Shape = new(5, 3, 7);

    [TestMethod]
    [DataRow(true)]
    [DataRow(false)]
    public void Check_ExactGradient_AgreesTo1e9(bool training)
    {
        var normalizer = MakeTrained(Flaw.None);
        normalizer.Training = training;
        var checks = new GradientChecker().Check(normalizer, Shape, Input());

        CollectionAssert.AreEqual(new[] { "input", "weight", "bias" }, checks.Select(check => check.Quantity).ToArray());
        foreach (var check in checks)
        {
            Assert.IsLessThan(1e-9, check.RelativeError, check.ToString());
        }

        Assert.AreEqual((int)Shape.Count, checks[0].CheckedElements);
    }

    [TestMethod]
    [DataRow(Flaw.WrongInputGradient, "input")]
    [DataRow(Flaw.WrongWeightGradient, "weight")]
    public void Check_WrongGradient_IsCaughtInItsQuantityAlone(Flaw flaw, string quantity)
    {
        var checks = new GradientChecker().Check(MakeTrained(flaw), Shape, Input());

        foreach (var check in checks)
        {
            Assert.AreEqual(check.Quantity == quantity, check.RelativeError > 1e-2, check.ToString());
        }
    }

    [TestMethod]
    public void Check_Subset_ChecksThatManyAndCatchesTheError()
    {
        var checks = new GradientChecker { MaximumElements = 10 }.Check(MakeTrained(Flaw.WrongInputGradient), Shape, Input());

        Assert.AreEqual(10, checks[0].CheckedElements);
        Assert.AreEqual(3, checks[1].CheckedElements);
        Assert.IsGreaterThan(1e-2, checks[0].RelativeError);
    }

    [TestMethod]
    public void Check_InTraining_LeavesRunningStatisticsParametersAndInput()
    {
        var normalizer = MakeTrained(Flaw.None);
        double[] mean = [.. normalizer.Buffers[0].Values];
        double[] weight = [.. normalizer.Parameters[0].Values];
        double[] input = Input();
        double[] before = [.. input];

        new GradientChecker().Check(normalizer, Shape, input);

        CollectionAssert.AreEqual(mean, normalizer.Buffers[0].Values);
        CollectionAssert.AreEqual(weight, normalizer.Parameters[0].Values);
        CollectionAssert.AreEqual(before, input);
    }

    [TestMethod]
    public void Check_TwoValuesPerSet_ZeroAgreesWithZero()
    {
        var shape = new ActivationShape(2, 3);
        double[] input = [1, 2, -1, 4, -3, 0.5];
        var checks = new GradientChecker().Check(new PlainStandardizer<double>(shape, 0), shape, input);

        Assert.AreEqual(0, checks[0].RelativeError);
    }

    [TestMethod]
    public void Check_OutputNotFinite_ReportsNaN()
    {
        var checks = new GradientChecker().Check(new PlainStandardizer<double>(Shape, 1e-5, Flaw.NotANumber), Shape, Input());

        Assert.IsTrue(double.IsNaN(checks[0].RelativeError));
    }

    [TestMethod]
    public void Check_Cancelled_Throws()
    {
        Assert.ThrowsExactly<OperationCanceledException>(() =>
            new GradientChecker().Check(MakeTrained(Flaw.None), Shape, Input(), new CancellationToken(true)));
    }

    private static INormalizer<double> MakeTrained(Flaw flaw)
    {
        INormalizer<double> normalizer = new PlainStandardizer<double>(Shape, 1e-5, flaw);
        var stream = new RandomStream(7, "parameters");
        foreach (var parameter in normalizer.Parameters)
        {
            stream.FillGaussian(parameter.Values);
        }

        normalizer.Forward(Shape, Input(), new double[Shape.Count]);
        return normalizer;
    }

    private static double[] Input()
    {
        double[] input = new double[Shape.Count];
        new RandomStream(3, "input").FillGaussian(input);
        for (int i = 0; i < input.Length; i++)
        {
            input[i] = (input[i] * (1 + (i / 7 % 3))) + 5;
        }

        return input;
    }
}
