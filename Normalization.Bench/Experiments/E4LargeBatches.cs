using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E4: the generalization gap of large batches and ghost batch norm, Hoffer, Hubara and Soudry 2017.</summary>
internal sealed class E4LargeBatches : Experiment
{
    private const int Small = 32;
    private const int Large = 512;
    private const int Ratio = Large / Small;
    private const int Epochs = 30;
    private const double BaseRate = 0.1;
    private const double Momentum = 0.9;
    private const double WeightDecay = 1e-4;
    private const double Clip = 5;
    private const double Noise = 0.2;
    private const int Checks = 10;
    private const string Batch = "batch-norm";
    private const string Ghost = "ghost-batch-norm";
    private const string Scaled = "batch-norm-large-scaled";
    private const string GhostScaled = "ghost-batch-norm-large-scaled";
    private const string Adapted = "ghost-batch-norm-large-adapted";
    private static readonly StrategySettings Settings = new() { GhostSize = Small };
    private static readonly double ScaledRate = BaseRate * Math.Sqrt(Ratio);

    // The columns of the paper's table: small batch, large batch, + rate, + ghosts, + regime adaptation.
    private static readonly Variant[] Variants =
    [
        new("batch-norm-small", Batch, Small, BaseRate, 1),
        new("batch-norm-large", Batch, Large, BaseRate, 1),
        new(Scaled, Batch, Large, ScaledRate, 1),
        new(GhostScaled, Ghost, Large, ScaledRate, 1),
        new(Adapted, Ghost, Large, ScaledRate, Ratio),
    ];

    public override string Id => "E4";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        .. Variants.Select(variant => (variant.Id, FormattableString.Invariant(
            $"N = {variant.BatchSize}, rate {variant.Rate}, {Epochs * variant.Longer} epochs{(variant.Strategy == Ghost ? $", ghosts of {Small}" : "")}"))),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Ghost batch norm and the large-batch gap",
        "Does a network trained on large batches generalize worse, and do ghosts of the small batch's size and as many updates as it had bring that back? Hoffer, Hubara and Soudry 2017, arXiv:1705.08741, table 1.",
        [
            $"784-128-128-128-10, batch norm before each ReLU, He's initialization, standardized images (the authors' F1 has 5 layers of 512, batches of 128 and 4096 and all images);",
            $"{Count(scale)} training images, of whose labels {Noise} are drawn anew among the ten: without that digits are all but solved by every variant;",
            $"the authors' recipe: gradient descent, momentum {Momentum}, L2 {WeightDecay}, gradients clipped at a norm of {Clip}, rate {BaseRate} divided by 10 after 1/5, 2/5 and 3/5 of the way (theirs: epochs 10, 20, 30 of 50), {Epochs} epochs;",
            $"large batches of {Large} against {Small} with the rate times sqrt({Ratio}); regime adaptation: ghosts, and {Ratio} times the epochs, as many updates as small batches had.",
        ],
        [new("Test accuracy on the way", "test_accuracy", "progress", "share of the training, %")],
        [
            new ExperimentClaim
            {
                Id = "ghosts-above",
                Text = "At equal scaled rate and epochs the large batch's test error is larger without ghosts than with them",
                Left = new(Scaled, "test_error"),
                Right = new(GhostScaled, "test_error"),
                Threshold = 0,
                Published = "0.05 points of accuracy (97.55 % against 97.60 %), F1 on MNIST without label noise, from memory",
            },
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from variant in Variants
        from seed in Seeds(scale)
        select new Trial(variant.Id, seed, Count(scale) * Epochs * variant.Longer * 5e-6, log => Run(data, variant, seed, scale, log));

    private static int Count(ExperimentScale scale) => scale.Quick ? 2560 : 10_240;

    private void Run(DigitData data, Variant variant, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples train, Examples test) = data.Standardized;
        train = train.Take(Math.Min(train.Count, Count(scale))).WithLabelNoise(Noise, new RandomStream(seed, Id, "labels"));
        Sequential<float> network = Networks.Perceptron(
            train.Size, 128, 3, variant.Strategy, Settings, () => new Relu<float>(), new RandomStream(seed, Id, "weights"));
        var options = new TrainingOptions { Momentum = Momentum, WeightDecay = WeightDecay, Clip = Clip };
        var training = new Training(network, (train, test), variant.BatchSize, new RandomStream(seed, Id, "order"), options);
        int steps = train.Count / variant.BatchSize * Epochs * variant.Longer;
        for (int step = 0; step < steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            training.Step(variant.Rate * Math.Pow(10, -Math.Min(3, 5L * step / steps)));
            long check = (step + 1L) * Checks / steps;
            if (check > (long)step * Checks / steps)
            {
                log.Add("test_accuracy", training.TestAccuracy(), training.Note, ("progress", check * 100 / Checks));
            }
        }

        log.Add("test_error", 1 - training.TestAccuracy(), training.Note);
    }

    /// <param name="Id">Its name in reports.</param>
    /// <param name="Strategy">What normalizes.</param>
    /// <param name="BatchSize">N.</param>
    /// <param name="Rate">At the start.</param>
    /// <param name="Longer">How many times the epochs.</param>
    private sealed record Variant(string Id, string Strategy, int BatchSize, double Rate, int Longer);
}
