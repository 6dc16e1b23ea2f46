namespace Normalization.Tests.Support;

/// <summary>Each assertion fails when it should, and says where.</summary>
[TestClass]
public sealed class NumericAssertTests
{
    [TestMethod]
    public void Near_OutsideTheTolerance_FailsNamingIndexValuesAndScale()
    {
        NumericAssert.Near<double>([1, 2], [1, 2 + 1.9e-6], [1, 2], 1e-6, "inside");
        AssertFailedException failure = Fails(() => NumericAssert.Near<double>([1, 2, 3], [1, 2.5, 3], [1, 4, 1], 1e-6, "outside"));
        foreach (string part in new[] { "outside", "[1]", "2.5", "expected 2", "scale 4" })
        {
            Assert.Contains(part, failure.Message);
        }

        Fails(() => NumericAssert.Near<float>([1], [1.000001f], [1], 5e-7, "float"));
        Fails(() => NumericAssert.Near<double>([1], [1 + 1e-9], [0], 1, "no scale, no tolerance"));
        Fails(() => NumericAssert.Near<double>([1], [double.NaN], [1], 1e9, "NaN for a number"));
        Fails(() => NumericAssert.Near<double>([double.NaN], [1], [1], 1e9, "number for a NaN"));
        Fails(() => NumericAssert.Near<double>([1, 1], [double.NaN, 3], [1, 1], 1e9, "NaN first"));
        Fails(() => NumericAssert.Near<double>([double.PositiveInfinity], [double.NegativeInfinity], [1], 1e9, "infinities"));
        Fails(() => NumericAssert.Near<double>([1], [double.PositiveInfinity], [double.PositiveInfinity], 1, "infinity for a number"));
        Fails(() => NumericAssert.Near<double>([1], [1, 1], [1], 1, "length"));
        Fails(() => NumericAssert.Near(1, 1.1, 1, 1e-3, "one number"));
        NumericAssert.Near<double>([double.NaN, double.NegativeInfinity], [double.NaN, double.NegativeInfinity], [1, 1], 0, "the same");
    }

    [TestMethod]
    public void NearLargest_OutsideTheTolerance_Fails()
    {
        NumericAssert.NearLargest<double>([1e-9, 100], [2e-9, 100], 1e-10, "inside");
        Fails(() => NumericAssert.NearLargest<double>([1e-9, 100], [2e-8, 100], 1e-10, "outside"));
    }

    [TestMethod]
    public void SameBits_OneBitOff_Fails()
    {
        NumericAssert.SameBits<float>([1, float.NaN], [1, float.NaN], "the same");
        Fails(() => NumericAssert.SameBits<float>([1, 2, 3], [1, 2, float.BitIncrement(3)], "last bit"));
        Fails(() => NumericAssert.SameBits<double>([0.0], [-0.0], "sign of zero"));
        Fails(() => NumericAssert.SameBits<double>([1], [1, 2], "length"));
    }

    [TestMethod]
    public void Differs_TooAlike_Fails()
    {
        NumericAssert.Differs<double>([1, 2], [1, 2.5], 0.1, "different");
        Fails(() => NumericAssert.Differs<double>([1, 2], [1, 2.05], 0.1, "alike"));
        Fails(() => NumericAssert.Differs<double>([1], [double.NaN], 0.1, "NaN is no difference"));
    }

    [TestMethod]
    public void Finite_NaNOrInfinity_Fails()
    {
        NumericAssert.Finite<float>([1, float.MaxValue], "finite");
        Fails(() => NumericAssert.Finite<float>([1, float.NaN], "NaN"));
        Fails(() => NumericAssert.Finite<double>([double.NegativeInfinity], "infinity"));
    }

    private static AssertFailedException Fails(Action action) => Assert.ThrowsExactly<AssertFailedException>(action);
}
