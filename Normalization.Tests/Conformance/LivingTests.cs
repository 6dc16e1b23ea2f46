using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>A trained layer's life: statistics reset, and gradients accumulated over micro-batches. What docs/living.md says, held to.</summary>
[TestClass]
public sealed class LivingTests
{
    private static readonly StrategySettings Plain = new() { Groups = 2, GhostSize = 3, RunningStatistics = true };

    public static IEnumerable<object[]> AllIds => StrategyCases.Ids.Select(id => new object[] { id });

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void ResetStatistics_AfterTraining_LeavesTheBuffersOfANewLayer(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        foreach (StrategySettings settings in TestData.Configurations(id, shape).Append(StrategyCases.Of(id).Adapt(Plain, shape)))
        {
            Normalizer<float> layer = Runs.CreateBase<float>(id, shape, settings, 1);
            Normalizer<float> fresh = Runs.CreateBase<float>(id, shape, settings, 1);
            float[] x = TestData.As<float>(TestData.Activations(2, shape));
            float[] dy = TestData.As<float>(TestData.Normal(3, shape.Count));
            Runs.Once(layer, shape, x, dy);
            float[] weight = [.. layer.Weight?.Values ?? []];
            layer.Training = false;
            layer.ResetStatistics();
            Runs.AssertState(Runs.State(fresh), layer, $"{id} {settings}");
            NumericAssert.SameBits<float>(weight, layer.Weight?.Values ?? [], "parameters stay");
            Assert.IsFalse(layer.Training);

            // What inference applies is made anew as well.
            fresh.Training = false;
            NumericAssert.SameBits<float>(Runs.Forward(fresh, shape, x), Runs.Forward(layer, shape, x), $"{id} {settings}: inference");
        }
    }

    [TestMethod]
    public void ResetStatistics_Frozen_ResetsAndStaysFrozen()
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        var layer = new BatchNorm<double>(4);
        Runs.Forward(layer, shape, x);
        layer.Freeze();
        layer.ResetStatistics();
        Assert.IsTrue(layer.Frozen);
        NumericAssert.NearLargest<double>(Array.ConvertAll(x, value => value / Math.Sqrt(1 + 1e-5)), Runs.Forward(layer, shape, x), 1e-13, "mean 0, variance 1");
    }

    // K micro-batches forward and backward before one step: output, input gradients and summed parameter gradients are those of ghosts.
    [TestMethod]
    public void MicroBatches_AccumulatedGradients_AreGhostBatchNormsAndNotTheBigBatchs()
    {
        var whole = new ActivationShape(12, 4, 5);
        ActivationShape micro = whole.WithSamples(4);
        double[] x = [.. TestData.Activations(1, whole).Select((value, i) => value + (0.3 * (i / 20)))];
        double[] dy = TestData.Normal(2, whole.Count);
        INormalizer<double> layer = Runs.Create<double>(TestData.BatchNorm, whole, Plain, 3);
        INormalizer<double> ghosts = Runs.Create<double>(
            TestData.GhostBatchNorm, whole, Plain with { GhostSize = 4, GhostRunning = GhostRunning.Sequential }, 3);
        Pass<double> big = Runs.Once(TestData.BatchNorm, whole, Plain, x, dy, 3);
        Pass<double> ghost = Runs.Once(ghosts, whole, x, dy);

        var output = new List<double>();
        var inputGradient = new List<double>();
        for (int k = 0; k < 3; k++)
        {
            int[] samples = [.. Enumerable.Range(4 * k, 4)];
            double[] part = Runs.Samples(whole, x, samples);
            output.AddRange(Runs.Forward(layer, micro, part));
            inputGradient.AddRange(Runs.Backward(layer, micro, part, Runs.Samples(whole, dy, samples)));
        }

        NumericAssert.NearLargest<double>(ghost.Output, output.ToArray(), 1e-13, "output");
        NumericAssert.NearLargest<double>(ghost.InputGradient, inputGradient.ToArray(), 1e-13, "input gradient");
        foreach (Parameter<double> parameter in layer.Parameters)
        {
            NumericAssert.NearLargest<double>(ghost.Gradients[parameter.Name], parameter.Gradient, 1e-13, $"summed gradient of {parameter.Name}");
        }

        // One step of running statistics for each micro-batch.
        foreach (StateBuffer<double> buffer in ghosts.Buffers)
        {
            StateBuffer<double> own = layer.Buffers.Single(b => b.Name == buffer.Name);
            Assert.AreEqual(buffer.Count, own.Count);
            NumericAssert.NearLargest<double>(buffer.Values, own.Values, 1e-13, buffer.Name);
        }

        Assert.AreEqual(3, layer.Buffers.Single(b => b.IsCounter).Count);
        NumericAssert.Differs<double>(big.Output, output.ToArray(), 0.1, "the big batch's output");
        NumericAssert.Differs<double>(big.WeightGradient, layer.Parameters[0].Gradient, 0.1, "the big batch's weight gradient");
        NumericAssert.NearLargest<double>(big.BiasGradient, layer.Parameters[1].Gradient, 1e-12, "the bias alone has the same gradient");
    }

    // What does not look at other samples does not care how they are cut; frozen statistics make batch normalization one of these.
    [TestMethod]
    [DataRow(TestData.LayerNorm, false)]
    [DataRow(TestData.GroupNorm, false)]
    [DataRow(TestData.InstanceNorm, false)]
    [DataRow(TestData.BatchNorm, true)]
    public void MicroBatches_SampleIndependentOrFrozen_AreTheBigBatch(string id, bool frozen)
    {
        var whole = new ActivationShape(12, 4, 5);
        ActivationShape micro = whole.WithSamples(4);
        double[] x = TestData.Activations(1, whole);
        double[] dy = TestData.Normal(2, whole.Count);
        StrategySettings settings = Plain with { RunningStatistics = frozen };
        Pass<double> big = Runs.Once(Create(), whole, x, dy);
        INormalizer<double> layer = Create();
        for (int k = 0; k < 3; k++)
        {
            int[] samples = [.. Enumerable.Range(4 * k, 4)];
            double[] part = Runs.Samples(whole, x, samples);
            NumericAssert.SameBits<double>(Runs.Samples(whole, big.Output, samples), Runs.Forward(layer, micro, part), $"output {k}");
            NumericAssert.SameBits<double>(
                Runs.Samples(whole, big.InputGradient, samples), Runs.Backward(layer, micro, part, Runs.Samples(whole, dy, samples)), $"input gradient {k}");
        }

        foreach (Parameter<double> parameter in layer.Parameters)
        {
            NumericAssert.NearLargest<double>(big.Gradients[parameter.Name], parameter.Gradient, 1e-13, $"summed gradient of {parameter.Name}");
        }

        INormalizer<double> Create()
        {
            INormalizer<double> normalizer = Runs.Create<double>(id, whole, settings, 3);
            if (frozen)
            {
                Runs.Forward(normalizer, whole, TestData.Activations(9, whole));
                normalizer.Freeze();
            }

            return normalizer;
        }
    }
}
