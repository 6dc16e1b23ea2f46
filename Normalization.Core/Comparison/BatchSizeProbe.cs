using System.Numerics.Tensors;

namespace Normalization.Core.Comparison;

/// <summary>How it changes with N: noise of one fixed sample, error of the estimated moments, train/inference gap. Double.</summary>
internal static class BatchSizeProbe
{
    private const int FirstSizeBatches = 150;
    private const int GapBatches = 8;

    // From here on noise is taken from half as many batches, unless thoroughly: they cost the most and vary the least.
    private const int LargeSize = 128;

    private static readonly string[] MetricIds =
        ["output_noise", "mean_estimate_error", "variance_estimate_error", "gradient_noise", "batch_train_inference_gap"];

    /// <summary>The batch sizes; 1 to state what cannot be formed.</summary>
    public static IReadOnlyList<int> Sizes { get; } = [1, 2, 4, 8, 16, 32, 64, 128, 256];

    /// <summary>Measures one contestant.</summary>
    public static void Measure(ProbeCase probe, ScenarioPool pool)
    {
        INormalizer<double>? previous = null;
        foreach (int size in Sizes)
        {
            int batches = probe.Settings.Thorough ? 200 : 32;
            int repeats = probe.Settings.Thorough || size < LargeSize ? batches : batches / 2;
            IReadOnlyDictionary<string, object> parameters = ProbeCase.Parameters("n", (long)size);
            ActivationShape shape = probe.Scenario.Shape(size);
            probe.Attempt(MetricIds, () =>
            {
                ProbeCase.Forward(probe.Create<double>(shape, Affine.Random), shape, pool.Batch(pool.Choose(size, probe.Stream("trial"))));
                if (size > 1)
                {
                    Noise(probe, shape, pool, repeats, parameters);
                }
                else
                {
                    probe.Missing(["output_noise", "gradient_noise"], "a batch of one has no other samples", parameters);
                }

                previous = Train(probe, shape, pool, batches, previous, parameters);
                Gap(probe, shape, pool, previous, parameters);
            }, parameters);
        }
    }

    // The fixed sample is the population's first, at the head of every batch; the others are random.
    private static void Noise(ProbeCase probe, ActivationShape shape, ScenarioPool pool, int repeats, IReadOnlyDictionary<string, object> parameters)
    {
        int size = (int)shape.Samples;
        RandomStream stream = probe.Stream("noise", FormattableString.Invariant($"{size}"));
        INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Random);
        var input = new double[shape.Count];
        var upstream = new double[shape.Count];
        var output = new double[shape.Count];
        var gradient = new double[shape.Count];
        var outputs = new double[repeats][];
        var gradients = new double[repeats][];
        for (int repeat = 0; repeat < repeats; repeat++)
        {
            probe.Settings.Cancellation.ThrowIfCancellationRequested();
            int[] chosen = pool.Choose(size, stream);
            chosen[0] = 0;
            pool.Gather(pool.Values, chosen, input);
            pool.Gather(pool.Gradients, chosen, upstream);
            normalizer.Forward(shape, input, output);
            ProbeCase.Backward(normalizer, shape, input, upstream, gradient);
            outputs[repeat] = output[..pool.SampleLength];
            gradients[repeat] = gradient[..pool.SampleLength];
        }

        AddNoise(probe, "output_noise", outputs, parameters);
        AddNoise(probe, "gradient_noise", gradients, parameters);
    }

    private static void AddNoise(ProbeCase probe, string metric, double[][] repeats, IReadOnlyDictionary<string, object> parameters)
    {
        var mean = new double[repeats[0].Length];
        foreach (double[] values in repeats)
        {
            TensorPrimitives.MultiplyAdd(values, 1.0 / repeats.Length, mean, mean);
        }

        double scale = Arithmetic.RootMeanSquare(mean);

        // Rounding of the mean of equal values is not noise.
        bool equal = Array.TrueForAll(mean, double.IsFinite) && repeats.All(values => values.AsSpan().SequenceEqual(repeats[0]));
        double[] deviations = [.. repeats.Select(values =>
            equal ? 0 : Arithmetic.Ratio(Arithmetic.RootMeanSquareDifference(values, mean), scale))];
        probe.Add(metric, Arithmetic.RootMeanSquare(deviations), Arithmetic.Spread(deviations), parameters);
    }

    // Feeds random batches to an instance and holds the statistics of its reduction sets against the population's.
    private static INormalizer<double> Train(
        ProbeCase probe, ActivationShape shape, ScenarioPool pool, int repeats, INormalizer<double>? previous, IReadOnlyDictionary<string, object> parameters)
    {
        int size = (int)shape.Samples;
        RandomStream stream = probe.Stream("training", FormattableString.Invariant($"{size}"));
        INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Random);
        var input = new double[shape.Count];
        var output = new double[shape.Count];
        if (previous is null)
        {
            for (int i = 0; i < FirstSizeBatches; i++)
            {
                probe.Settings.Cancellation.ThrowIfCancellationRequested();
                pool.Gather(pool.Values, pool.Choose(size, stream), input);
                normalizer.Forward(shape, input, output);
            }
        }
        else
        {
            ProbeCase.CopyBuffers(previous, normalizer);
        }

        ReductionSets? sets = ReductionSets.Of(normalizer, shape);
        (double[] means, double[] variances) = sets is null ? ([], []) : PopulationMoments(sets, shape, pool);
        int[] varying = [.. Enumerable.Range(0, variances.Length).Where(set => variances[set] > 0)];
        var errors = new double[varying.Length];
        var meanErrors = new double[repeats];
        var varianceErrors = new double[repeats];
        for (int repeat = 0; repeat < repeats; repeat++)
        {
            probe.Settings.Cancellation.ThrowIfCancellationRequested();
            pool.Gather(pool.Values, pool.Choose(size, stream), input);
            normalizer.Forward(shape, input, output);
            if (sets is null)
            {
                continue;
            }

            (double[] batchMeans, double[] batchVariances) = sets.Moments(input);
            for (int i = 0; i < errors.Length; i++)
            {
                errors[i] = (batchMeans[varying[i]] - means[varying[i]]) / Math.Sqrt(variances[varying[i]]);
            }

            meanErrors[repeat] = Arithmetic.RootMeanSquare(errors);
            for (int i = 0; i < errors.Length; i++)
            {
                errors[i] = (batchVariances[varying[i]] / variances[varying[i]]) - 1;
            }

            varianceErrors[repeat] = Arithmetic.RootMeanSquare(errors);
        }

        if (sets is null)
        {
            probe.Missing(["mean_estimate_error", "variance_estimate_error"], "the strategy declares no reduction sets", parameters);
        }
        else
        {
            probe.Add("mean_estimate_error", Arithmetic.RootMeanSquare(meanErrors), Arithmetic.Spread(meanErrors), parameters);
            probe.Add("variance_estimate_error", Arithmetic.RootMeanSquare(varianceErrors), Arithmetic.Spread(varianceErrors), parameters);
        }

        return normalizer;
    }

    // What a set's mean and variance would be over the whole population: those of the mixture of its elements' channels.
    private static (double[] Means, double[] Variances) PopulationMoments(ReductionSets sets, ActivationShape shape, ScenarioPool pool)
    {
        // Each element stands for its channel: the mean of the channels' means, and of their variances beside the variance of the means.
        int positions = (int)shape.SpatialSize;
        var channelMeans = new double[shape.Count];
        var channelVariances = new double[shape.Count];
        for (int row = 0; row * positions < channelMeans.Length; row++)
        {
            channelMeans.AsSpan(row * positions, positions).Fill(pool.ChannelMeans[row % shape.Channels]);
            channelVariances.AsSpan(row * positions, positions).Fill(pool.ChannelVariances[row % shape.Channels]);
        }

        (double[] means, double[] variances) = sets.Moments(channelMeans);
        (double[] within, _) = sets.Moments(channelVariances);
        return (means, [.. variances.Zip(within, (between, inside) => between + inside)]);
    }

    private static void Gap(ProbeCase probe, ActivationShape shape, ScenarioPool pool, INormalizer<double> trained, IReadOnlyDictionary<string, object> parameters)
    {
        RandomStream stream = probe.Stream("gap", FormattableString.Invariant($"{shape.Samples}"));
        INormalizer<double> training = probe.Create<double>(shape, Affine.Random);
        ProbeCase.CopyBuffers(trained, training);
        trained.Training = false;
        var gaps = new double[GapBatches];
        var input = new double[shape.Count];
        var reference = new double[shape.Count];
        var output = new double[shape.Count];
        for (int i = 0; i < gaps.Length; i++)
        {
            pool.Gather(pool.Values, pool.Choose((int)shape.Samples, stream), input);
            training.Forward(shape, input, reference);
            trained.Forward(shape, input, output);
            gaps[i] = Arithmetic.Ratio(Arithmetic.RootMeanSquareDifference(reference, output), Arithmetic.RootMeanSquare(reference));
        }

        probe.Add("batch_train_inference_gap", Arithmetic.RootMeanSquare(gaps), Arithmetic.Spread(gaps), parameters);
    }
}
