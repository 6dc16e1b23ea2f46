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

    [TestMethod]
    public void Footnotes_DifferingInNumbersOnly_ShareOneThatStatesThemAll()
    {
        var notes = new Footnotes();
        int[] numbers = [.. new[]
        {
            "input (1, 16) has 1", "rank is 16", "input (8, 16) has 8", "input (32, 16) has 32", "no rank", "rank is 16",
        }.Select(notes.Number)];
        CollectionAssert.AreEqual(new[] { 1, 2, 1, 1, 3, 2 }, numbers);
        CollectionAssert.AreEqual(new[] { "input (1 / 8 / 32, 16) has 1 / 8 / 32", "rank is 16", "no rank" }, notes.Texts.ToArray());

        foreach (int n in new[] { 64, 2, 4 }) Assert.AreEqual(1, notes.Number($"input ({n}, 16) has 2"));
        Assert.AreEqual("input (1 … 64, 16) has 1 / 2 / 8 / 32", notes.Texts.First());
    }
}
