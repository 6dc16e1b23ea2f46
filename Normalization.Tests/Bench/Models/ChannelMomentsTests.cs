using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Models;

/// <summary>The layer that looks at what goes through it.</summary>
[TestClass]
public sealed class ChannelMomentsTests
{
    [TestMethod]
    public void End_SeveralBatchesInInference_GivesTheMomentsOfAllAndOfNothingElse()
    {
        var random = new RandomStream(1, "moments");
        var layer = new ChannelMoments<double>();
        Assert.AreSame(layer, Through(layer, random, 4, training: false, []));
        layer.Begin();
        var first = new List<double>();
        Through(layer, random, 5, training: false, first);
        Through(layer, random, 9, training: true, []);
        Through(layer, random, 2, training: false, first);
        DomainStatistics statistics = layer.End();
        Through(layer, random, 3, training: false, []);
        Assert.AreEqual((long)first.Count, statistics.Count);
        double mean = first.Average();
        NumericAssert.Near(mean, statistics.Mean[1], 1, 1e-12, "mean");
        NumericAssert.Near(first.Average(value => (value - mean) * (value - mean)), statistics.PopulationVariance[1], 1, 1e-12, "variance");

        layer.Begin();
        Assert.Throws<InvalidOperationException>(() => layer.End());
    }

    // Keeps what channel 1 of (N, 3, 2, 2) was given.
    private static ChannelMoments<double> Through(ChannelMoments<double> layer, RandomStream random, int samples, bool training, List<double> values)
    {
        Activations<double> input = new Activations<double>().Resize(new(samples, 3, 2, 2));
        random.FillGaussian(input.Values);
        Assert.AreSame(input, layer.Forward(input, training));
        Assert.AreSame(input, layer.Backward(input, wantsInput: true));
        for (int i = 1; i < input.Values.Length; i += 3)
        {
            values.Add(input.Values[i]);
        }

        return layer;
    }
}
