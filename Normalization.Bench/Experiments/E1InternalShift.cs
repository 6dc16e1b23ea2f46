using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E1: the sigmoid network of Ioffe and Szegedy 2015, section 4.1 and figure 1.</summary>
internal sealed class E1InternalShift : Experiment
{
    private const string Plain = "none";
    private const string BatchNorm = "batch-norm";
    private const double Rate = 0.5;
    private const double Deviation = 0.1;
    private const int BatchSize = 60;
    private const double Reached = 0.9;
    private static readonly double[] Percentiles = [15, 50, 85];

    public override string Id => "E1";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
        [(Plain, "no normalization, biases"), (BatchNorm, "before each sigmoid, no biases")];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Batch norm on a sigmoid network",
        "Does batch normalization make a network of three sigmoid layers learn faster and better, and does it keep the distribution of a hidden unit's input in place? Ioffe and Szegedy 2015, arXiv:1502.03167, section 4.1, figure 1.",
        [
            "784-100-100-100-10, sigmoid, softmax cross-entropy; images binarized at half of full ink;", $"weights N(0, {Deviation}^2), as the paper's \"small random Gaussian values\" (its deviation is not given);",
            $"plain gradient descent, rate {Rate} (not given), batches of {BatchSize};", $"{Steps(scale)} steps (the paper: 50000); the unit of the percentiles is the first of the last hidden layer, over the training batch.",
        ],
        [
            new("Test accuracy", "test_accuracy", "step", "step", LogX: true),
            new("Percentiles of one unit's input (15, 50, 85)", "activation_percentile", "step", "step", LogX: true),
        ],
        [
            new ExperimentClaim
            {
                Id = "above-at-every-checkpoint",
                Text = "Test accuracy with batch norm is above that without at every checkpoint, from step 100 on",
                Left = new(BatchNorm, "test_accuracy"),
                Right = new(Plain, "test_accuracy"),
                Threshold = 0,
                Published = "figure 1(a), MNIST: above throughout, no table",
            },
            new ExperimentClaim
            {
                Id = "faster",
                Text = $"Without batch norm it takes more steps to a test accuracy of {Reached}",
                Left = new(Plain, "steps_to_accuracy"),
                Right = new(BatchNorm, "steps_to_accuracy"),
                Combination = ClaimCombination.Ratio,
                Threshold = 1,
                Published = "figure 1(a), MNIST: faster, no table",
            },
            new ExperimentClaim
            {
                Id = "band-stays",
                Text = "The 15-85 band of a unit's input grows more without batch norm",
                Left = new(Plain, "band_growth"),
                Right = new(BatchNorm, "band_growth"),
                Threshold = 0,
                Published = "figure 1(b, c): the baseline's distribution changes over time, batch norm's is stable; no numbers",
            },
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in new[] { Plain, BatchNorm }
        from seed in Seeds(scale)
        select new Trial(strategy, seed, Steps(scale) * 0.5e-3, log => Run(data, strategy, seed, Steps(scale), log));

    private static int Steps(ExperimentScale scale) => scale.Quick ? 6000 : 50_000;

    private void Run(DigitData data, string strategy, long seed, int steps, TrialLog log)
    {
        (Examples Train, Examples Test) examples = data.Binarized;
        Sequential<float> network = Networks.Perceptron(
            examples.Train.Size, 100, 3, strategy == Plain ? null : strategy, new StrategySettings(), () => new Sigmoid<float>(), new RandomStream(seed, Id, "weights"), Deviation);
        Layer<float> lastSigmoid = network.Layers[^2];
        var watched = new Watched<float>(lastSigmoid);
        network = new Sequential<float>([.. network.Layers.SkipLast(2), watched, network.Layers[^1]]);
        var training = new Training(network, examples, BatchSize, new RandomStream(seed, Id, "order"));
        double? reached = null;
        double early = double.NaN;
        double band = double.NaN;
        for (int step = 1; step <= steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            training.Step(Rate);
            if (!Checkpoints.IsOne(step) && step != steps)
            {
                continue;
            }

            double accuracy = training.TestAccuracy();
            log.Add("test_accuracy", accuracy, training.Note, ("step", (long)step));
            reached ??= accuracy >= Reached ? step : null;
            double[] values = watched.FirstUnit();
            foreach (double percentile in Percentiles)
            {
                log.Add("activation_percentile", Checkpoints.Percentile(values, percentile), training.Note, ("percentile", (long)percentile), ("step", (long)step));
            }

            band = Checkpoints.Percentile(values, Percentiles[^1]) - Checkpoints.Percentile(values, Percentiles[0]);
            early = step >= 100 && double.IsNaN(early) ? band : early;
        }

        log.Add("steps_to_accuracy", reached ?? steps, reached is null ? $"never reached; the number of all steps stands for it" : null, ("accuracy", Reached));
        log.Add("band_growth", band / early, training.Note);
    }
}

/// <summary>A layer whose last training input can be looked at.</summary>
internal sealed class Watched<T>(Layer<T> layer) : Layer<T>
    where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
{
    private double[] _first = [];

    public override IEnumerable<Normalization.Core.Parameter<T>> Parameters => layer.Parameters;

    /// <summary>What the first unit was given in the last training batch, one value a sample.</summary>
    public double[] FirstUnit() => _first;

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        if (training)
        {
            int samples = (int)input.Shape.Samples;
            Array.Resize(ref _first, samples);
            for (int n = 0; n < samples; n++)
            {
                _first[n] = double.CreateTruncating(input.Values[n * input.Features]);
            }
        }

        return layer.Forward(input, training);
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput) => layer.Backward(outputGradient, wantsInput);
}
