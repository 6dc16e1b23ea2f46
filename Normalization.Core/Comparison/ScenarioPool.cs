using System.Numerics.Tensors;

namespace Normalization.Core.Comparison;

/// <summary>A finite population of samples of a scenario: batches are drawn from it with replacement, so its moments are exactly known.</summary>
internal sealed class ScenarioPool
{
    /// <summary>Draws the population.</summary>
    public ScenarioPool(Scenario scenario, long seed, int samples)
    {
        Samples = samples;
        ActivationShape shape = scenario.Shape(samples);
        SampleLength = (int)(shape.Count / samples);
        double[] values = scenario.Draw(samples, new RandomStream(seed, scenario.Id, "pool"));
        (ChannelMeans, ChannelVariances) = ReductionSets.Channels(shape).Moments(values);
        Values = Arithmetic.ToSingle(values);
        Gradients = new float[Values.Length];
        var gradientStream = new RandomStream(seed, scenario.Id, "pool-gradients");
        for (int i = 0; i < Gradients.Length; i++)
        {
            Gradients[i] = (float)gradientStream.NextGaussian();
        }
    }

    /// <summary>How many samples there are.</summary>
    public int Samples { get; }

    /// <summary>Elements of a sample, C * S.</summary>
    public int SampleLength { get; }

    /// <summary>(Samples, C, S); scenarios draw values that float holds exactly.</summary>
    public float[] Values { get; }

    /// <summary>An upstream gradient for each sample, standard normal: (Samples, C, S).</summary>
    public float[] Gradients { get; }

    /// <summary>Each channel's mean over the population.</summary>
    public double[] ChannelMeans { get; }

    /// <summary>Each channel's population variance over the population.</summary>
    public double[] ChannelVariances { get; }

    /// <summary>Random members, with replacement.</summary>
    public int[] Choose(int count, RandomStream stream)
    {
        var chosen = new int[count];
        for (int i = 0; i < count; i++)
        {
            chosen[i] = stream.NextInt32(Samples);
        }

        return chosen;
    }

    /// <summary>Copies the chosen samples' rows of <see cref="Values"/> or <see cref="Gradients"/>, one after the other.</summary>
    public void Gather(float[] rows, ReadOnlySpan<int> chosen, double[] destination)
    {
        for (int i = 0; i < chosen.Length; i++)
        {
            TensorPrimitives.ConvertTruncating<float, double>(
                rows.AsSpan(chosen[i] * SampleLength, SampleLength), destination.AsSpan(i * SampleLength, SampleLength));
        }
    }

    /// <summary>The chosen samples as a batch.</summary>
    public double[] Batch(ReadOnlySpan<int> chosen)
    {
        var batch = new double[chosen.Length * SampleLength];
        Gather(Values, chosen, batch);
        return batch;
    }
}
