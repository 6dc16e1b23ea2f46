using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Comparison;

[TestClass]
public sealed class ScenariosTests
{
    private static readonly byte[] Images = [.. Enumerable.Range(0, 3 * 28 * 28).Select(i => (byte)(i * 37 % 251))];

    public static IEnumerable<object[]> AllIds => All(1).Select(scenario => new object[] { scenario.Id });

    [TestMethod]
    public void Ids_NameEveryScenarioInOrder() =>
        CollectionAssert.AreEqual(Scenarios.Ids.ToArray(), All(1).Select(scenario => scenario.Id).ToArray());

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Draw_SameStream_SameFloatValuesOfTheShape(string id)
    {
        Scenario scenario = All(1).Single(scenario => scenario.Id == id);
        double[] first = scenario.Draw(9, new RandomStream(4, id));

        Assert.AreEqual((long)scenario.Shape(9).Count, first.LongLength);
        Assert.AreEqual(16, scenario.Shape(9).Channels);
        CollectionAssert.AreEqual(first, All(1).Single(scenario => scenario.Id == id).Draw(9, new RandomStream(4, id)));
        CollectionAssert.AreNotEqual(first, scenario.Draw(9, new RandomStream(5, id)));
        Assert.IsTrue(first.All(value => (float)value == value));
    }

    [TestMethod]
    public void Correlated_Covariance_HasConditionNumber1e4()
    {
        Scenario scenario = All(1).Single(scenario => scenario.Id == "correlated");
        double condition = new ChannelCovariance(scenario.Shape(400), scenario.Draw(400, new RandomStream(2, "test"))).ConditionNumber();
        Assert.AreEqual(1e4, condition, 500);
    }

    [TestMethod]
    [DataRow("gaussian", 0.0, 1.0)]
    [DataRow("heavy-tails", 0.0, 3.0)]
    [DataRow("large-mean", 1e4, 1.0)]
    public void Draw_Moments_AreTheDescribedOnes(string id, double mean, double variance)
    {
        Scenario scenario = All(1).Single(scenario => scenario.Id == id);
        double[] values = scenario.Draw(500, new RandomStream(2, "test"));
        double average = values.Average();
        Assert.AreEqual(mean, average, 0.02);
        Assert.AreEqual(variance, values.Average(value => (value - average) * (value - average)), 0.1 * variance);
    }

    [TestMethod]
    public void DeadChannel_OneChannel_IsConstant()
    {
        Scenario scenario = All(1).Single(scenario => scenario.Id == "dead-channel");
        Assert.AreEqual(1, new ChannelCovariance(scenario.Shape(4), scenario.Draw(4, new RandomStream(2, "test"))).ConstantChannels);
    }

    [TestMethod]
    public void Activations_OneBrightPixel_ReachesTheWindowsThatSeeIt()
    {
        // Pixel (2, 3) of an image is in row window 1 (rows 1 to 3) and in column windows 1 and 2 (1 to 3, 3 to 5).
        byte[] image = new byte[28 * 28];
        Scenario dark = Scenarios.Activations([.. image], 1, 28, 28, "a dot", 1);
        image[(2 * 28) + 3] = 255;
        Scenario lit = Scenarios.Activations(image, 1, 28, 28, "a dot", 1);

        double[] difference = [.. lit.Draw(1, new RandomStream(1, "x")).Zip(dark.Draw(1, new RandomStream(1, "x")), (a, b) => a - b)];

        Assert.AreEqual(new ActivationShape(1, 16, 14, 14), lit.Shape(1));
        int[] reached = [.. Enumerable.Range(0, 14 * 14).Where(position => difference[position] != 0)];
        CollectionAssert.AreEqual(new[] { 15, 16 }, reached);
    }

    [TestMethod]
    public void Activations_WrongPixelCount_NamesBoth()
    {
        var error = Assert.ThrowsExactly<ArgumentException>(() => Scenarios.Activations(new byte[10], 1, 28, 28, "none", 1));
        StringAssert.Contains(error.Message, "784");
        StringAssert.Contains(error.Message, "10");
    }

    [TestMethod]
    public void RandomStream_Purposes_AreIndependent()
    {
        var words = new[]
        {
            new RandomStream(1, "ab", "c"), new RandomStream(1, "a", "bc"), new RandomStream(2, "ab", "c"), new RandomStream(1, "c", "ab"), new RandomStream(1),
        };
        Assert.AreEqual(words.Length, words.Select(stream => stream.NextUInt64()).Distinct().Count());
    }

    [TestMethod]
    public void NextOrthogonal_TimesItsTranspose_IsTheIdentity()
    {
        double[] q = new RandomStream(1, "q").NextOrthogonal(16);
        for (int i = 0; i < 16; i++)
        {
            for (int j = 0; j < 16; j++)
            {
                double dot = Enumerable.Range(0, 16).Sum(k => q[(i * 16) + k] * q[(j * 16) + k]);
                Assert.AreEqual(i == j ? 1 : 0, dot, 1e-14);
            }
        }
    }

    [TestMethod]
    public void NextPermutation_Holds_EveryNumberOnce()
    {
        int[] order = new RandomStream(1, "order").NextPermutation(50);
        CollectionAssert.AreEqual(Enumerable.Range(0, 50).ToArray(), order.Order().ToArray());
        CollectionAssert.AreNotEqual(Enumerable.Range(0, 50).ToArray(), order);
    }

    private static IReadOnlyList<Scenario> All(long seed) => [.. Scenarios.Synthetic(seed), Scenarios.Activations(Images, 3, 28, 28, "stripes", seed)];
}
