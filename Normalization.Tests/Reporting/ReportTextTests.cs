using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class ReportTextTests
{
    [TestMethod]
    [DataRow(0.0, "0")]
    [DataRow(-0.0, "0")]
    [DataRow(1.0, "1")]
    [DataRow(999999.0, "999999")]
    [DataRow(1e6, "1.00e6")]
    [DataRow(1.2345, "1.23")]
    [DataRow(-1.2345, "-1.23")]
    [DataRow(9.996, "10.0")]
    [DataRow(99.96, "100")]
    [DataRow(12345.6, "12300")]
    [DataRow(99999.9, "1.00e5")]
    [DataRow(0.001234, "0.00123")]
    [DataRow(0.00099996, "0.00100")]
    [DataRow(1.5e-7, "1.50e-7")]
    [DataRow(double.NaN, "NaN")]
    [DataRow(double.PositiveInfinity, "∞")]
    [DataRow(double.NegativeInfinity, "-∞")]
    public void Number_AnyValue_HasThreeDigits(double value, string expected) => Assert.AreEqual(expected, ReportText.Number(value));
}
