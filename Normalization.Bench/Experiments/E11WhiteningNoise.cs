using System.Globalization;
using System.Numerics.Tensors;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E11: how far a sample's output depends on the batch it is in, for each whitening: Huang et al. 2019 and 2020.</summary>
internal sealed class E11WhiteningNoise : Experiment
{
    private const string Zca = "zca-whitening";
    private const string Iterative = "iter-norm";
    private const int Dimensions = 16;
    private const int BatchSize = 64;
    private const int Mixtures = 8;
    private const int Points = 4;
    private static readonly int[] BatchSizes = [32, 64, 128, 256, 512];
    private static readonly int[] GroupSizes = [1, 2, 4, 8, 16];
    private static readonly int[] Iterations = [1, 3, 5, 7, 9, 15];

    private static readonly (string Id, string Words)[] Order =
        [("batch-norm", "batch norm"), (Iterative, "IterNorm of 5 iterations"), (Zca, "ZCA whitening"), ("cholesky-whitening", "Cholesky whitening"), ("pca-whitening", "PCA whitening")];

    public override string Id => "E11";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
        [.. Order.Select(strategy => (strategy.Id, $"double, statistics of the batch, epsilon 0, no weight and bias{(strategy.Id == Iterative ? "; 5 iterations where no other number is stated" : "")}"))];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Stochasticity of batch whitening",
        "How much does a sample's output depend on which other samples are in its batch, and does that order the ways to whiten? Huang et al. 2019, arXiv:1904.03441, and 2020, arXiv:2003.12327 (the definition of SND as the specification recalls it).",
        [
            $"x = A z in {Dimensions} dimensions, z standard Gaussian, A of independent Gaussian entries: {Mixtures} of them, {Points} samples x each;",
            $"SND of x: the mean over {Draws(scale)} batches that contain x of |F(x; batch) - mean of F(x; batch)|, averaged over x; the other samples are drawn anew for each batch, and are the same for every strategy;",
            $"batches of {BatchSize}, all {Dimensions} dimensions whitened together and 5 iterations of IterNorm except where stated.",
        ],
        [
            new("SND against batch size", "snd", "batch_size", "batch size N, samples", LogX: true, LogY: true),
            new("SND of ZCA against group size", "snd", "group_size", "channels whitened together", LogX: true),
            new("SND of IterNorm against iterations", "snd", "iterations", "iterations T"),
        ],
        [
            .. Order.Zip(Order.Skip(1), (less, more) => new ExperimentClaim
            {
                Id = $"{less.Id}-below-{more.Id}",
                Text = $"At {BatchSize} samples the SND of {less.Words} is below that of {more.Words}",
                Left = new(more.Id, "snd", With("batch_size", (long)BatchSize)),
                Right = new(less.Id, "snd", With("batch_size", (long)BatchSize)),
                Threshold = 0,
                Published = "Huang et al. 2019 and 2020: this order, in figures",
            }),
            Rise("batch-size", "The SND of ZCA falls at every doubling of the batch from 32 to 512", "snd_over_next_batch"),
            Rise("group-size", "The SND of ZCA falls at every halving of the group from 16 to 1", "snd_over_next_group"),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Order
        from seed in Seeds(scale)
        select new Trial(strategy.Id, seed, Draws(scale) * 0.015, log => Run(strategy.Id, seed, Draws(scale), log));

    private static int Draws(ExperimentScale scale) => scale.Quick ? 50 : 200;

    private static ExperimentClaim Rise(string id, string text, string metric) => new()
    {
        Id = id,
        Text = text,
        Left = new(Zca, metric),
        Threshold = 1,
        Published = "Huang et al. 2019: so, in figures",
    };

    private void Run(string strategy, long seed, int draws, TrialLog log)
    {
        double[] byBatch = [.. BatchSizes.Select(size => Measure(size, Dimensions, 5))];
        for (int i = 0; i < byBatch.Length; i++)
        {
            log.Add("snd", byBatch[i], null, ("batch_size", (long)BatchSizes[i]));
            if (strategy == Zca && i + 1 < byBatch.Length)
            {
                log.Add("snd_over_next_batch", byBatch[i] / byBatch[i + 1], null, ("batch_size", (long)BatchSizes[i]));
            }
        }

        if (strategy == Iterative)
        {
            foreach (int iterations in Iterations)
            {
                log.Add("snd", Measure(BatchSize, Dimensions, iterations), null, ("iterations", (long)iterations));
            }
        }

        if (strategy == Zca)
        {
            double[] byGroup = [.. GroupSizes.Select(size => Measure(BatchSize, size, 5))];
            for (int i = 0; i < byGroup.Length; i++)
            {
                log.Add("snd", byGroup[i], null, ("group_size", (long)GroupSizes[i]));
                if (i > 0)
                {
                    log.Add("snd_over_next_group", byGroup[i] / byGroup[i - 1], null, ("group_size", (long)GroupSizes[i]));
                }
            }
        }

        double Measure(int batchSize, int groupSize, int iterations)
        {
            var settings = new StrategySettings { Epsilon = 0, Weight = false, Bias = false, RunningStatistics = false, GroupSize = groupSize, Iterations = iterations };
            return Disturbance(StrategyCatalog.Create<double>(strategy, new ActivationShape(batchSize, Dimensions), settings), batchSize, seed, draws, log.Cancellation);
        }
    }

    private double Disturbance(INormalizer<double> normalizer, int batchSize, long seed, int draws, CancellationToken cancellation)
    {
        Activations<double> batch = new Activations<double>().Resize(new ActivationShape(batchSize, Dimensions));
        Activations<double> output = new Activations<double>().Resize(batch.Shape);
        var mixing = new double[Dimensions * Dimensions];
        var z = new double[Dimensions];
        var x = new double[Dimensions];
        var outputs = new double[draws][];
        double sum = 0;
        var mixtures = new RandomStream(seed, Id, "mixtures");
        var others = new RandomStream(seed, Id, "batches", batchSize.ToString(CultureInfo.InvariantCulture));
        for (int point = 0; point < Mixtures * Points; point++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (point % Points == 0)
            {
                mixtures.FillGaussian(mixing);
            }

            Draw(mixtures, x);
            for (int draw = 0; draw < draws; draw++)
            {
                x.CopyTo(batch.Values);
                for (int n = 1; n < batchSize; n++)
                {
                    Draw(others, batch.Values.Slice(n * Dimensions, Dimensions));
                }

                normalizer.Forward(batch.AsInput(), output.AsOutput());
                outputs[draw] = output.Values[..Dimensions].ToArray();
            }

            double[] mean = [.. Enumerable.Range(0, Dimensions).Select(i => outputs.Average(one => one[i]))];
            sum += outputs.Average(one => TensorPrimitives.Distance<double>(one, mean));
        }

        return sum / (Mixtures * Points);

        void Draw(RandomStream random, Span<double> sample)
        {
            random.FillGaussian(z);
            for (int i = 0; i < Dimensions; i++)
            {
                sample[i] = TensorPrimitives.Dot<double>(mixing.AsSpan(i * Dimensions, Dimensions), z);
            }
        }
    }
}
