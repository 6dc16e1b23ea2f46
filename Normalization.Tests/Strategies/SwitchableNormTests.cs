using Normalization.Core;
using Normalization.Core.Kernels;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies;

/// <summary>What inference by running statistics does with samples that it takes range by range.</summary>
[TestClass]
[DoNotParallelize]
public sealed unsafe class SwitchableNormTests
{
    // More samples than one range has; of the larger ones each is a range.
    [TestMethod]
    [DataRow(40, 300)]
    [DataRow(6, 2101)]
    public void ForwardBackward_InferenceOfManySamples_GiveTheBitsOfEachAlone(int samples, int positions)
    {
        const int Channels = 8;
        var shape = new ActivationShape(samples, Channels, positions);
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        float[] g = TestData.As<float>(TestData.Normal(2, shape.Count));
        var norm = new SwitchableNorm<float>(Channels);
        Runs.Forward(norm, shape, x);
        norm.Training = false;
        int before = KernelThreads.Count;
        try
        {
            foreach (MemoryOrder order in new[] { MemoryOrder.ChannelsFirst, MemoryOrder.ChannelsLast })
            {
                foreach (bool backward in new[] { false, true })
                {
                    KernelThreads.Count = 1;
                    float[] alone = Result(order, backward, 1);
                    NumericAssert.SameBits<float>(alone, Result(order, backward, samples), $"{order}, one thread");
                    KernelThreads.Count = 3;
                    NumericAssert.SameBits<float>(alone, Result(order, backward, samples), $"{order}, three threads");
                }
            }
        }
        finally
        {
            KernelThreads.Count = before;
        }

        float[] Result(MemoryOrder order, bool backward, int together)
        {
            float[] result = new float[x.Length];
            int sample = Channels * positions;
            fixed (float* input = x, upstream = g, to = result)
            {
                for (int start = 0; start < x.Length; start += together * sample)
                {
                    ActivationShape some = shape.WithSamples(together);
                    if (backward)
                    {
                        norm.BackwardDense(some, order, input + start, upstream + start, to + start);
                    }
                    else
                    {
                        norm.ForwardDense(some, order, input + start, to + start);
                    }
                }
            }

            return result;
        }
    }

    // The statistics that normalize are not those of the batch, which are learned all the same.
    [TestMethod]
    public void Forward_TrainingByRunningStatistics_LearnsThoseOfTheBatch()
    {
        var shape = new ActivationShape(6, 4, 5);
        float[] first = TestData.As<float>(TestData.Activations(2, shape));
        float[] second = TestData.As<float>(TestData.Activations(3, shape));
        var own = new SwitchableNorm<float>(4);
        var running = new SwitchableNorm<float>(4) { StatisticsSource = StatisticsSource.Running };
        foreach (float[] x in new[] { first, second })
        {
            Runs.Forward(own, shape, x);
            Runs.Forward(running, shape, x);
        }

        for (int i = 0; i < own.Buffers.Count; i++)
        {
            NumericAssert.SameBits<float>(own.Buffers[i].Values, running.Buffers[i].Values, own.Buffers[i].Name);
        }
    }
}
