using Normalization.Bench.Experiments;
using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Experiments;

[TestClass]
public sealed class E10DomainShiftTests
{
    // Of the network that is trained: a layer on a domain would gather its moments, leave the source's as they were, and train by constants.
    [TestMethod]
    public void Create_OneTrainingBatch_MovesTheSourcesStatisticsAndIsBatchNorms()
    {
        DigitData data = DigitData.Generate(16, 1, 1);
        Sequential<float> network = E10DomainShift.Create(data.Raw.Train, new RandomStream(1));
        Activations<float> images = new Activations<float>().Resize(new(16, 1, data.Raw.Train.Height, data.Raw.Train.Width));
        data.Raw.Train.Pixels.CopyTo(images.Values);
        float[] logits = network.Forward(images, training: true).Values.ToArray();

        foreach (AdaBatchNorm<float> layer in network.Normalizers.Cast<AdaBatchNorm<float>>())
        {
            Assert.IsNull(layer.Domain);
            Assert.IsTrue(Array.TrueForAll(layer.Buffers.Single(buffer => buffer.Name == "running_var").Values, value => value != 1));
        }

        Sequential<float> twin = Networks.Convolutional<float>(
            [(8, 2), (16, 2), (32, 2)], () => Networks.Normalizer<float>("batch-norm", new StrategySettings()), new RandomStream(1), (data.Raw.Train.Height, data.Raw.Train.Width));
        NumericAssert.SameBits<float>(twin.Forward(images, training: true).Values.ToArray(), logits, "logits");
    }
}
