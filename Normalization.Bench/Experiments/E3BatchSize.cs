using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E3: error against batch size, Wu and He 2018, section 4.1.</summary>
internal sealed class E3BatchSize : Experiment
{
    private const string Batch = "batch-norm";
    private const string Group = "group-norm";
    private const double RateAt32 = 0.05;
    private const double Momentum = 0.9;
    private static readonly int[] Sizes = [32, 16, 8, 4, 2];
    private static readonly StrategySettings Settings = new() { Groups = 8, GhostSize = 8, GhostRemainder = GhostRemainder.Balanced, GroupSize = 16, Epsilon = 1e-3 };

    public override string Id => "E3";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Batch, "epsilon 1e-3"), (Group, "8 groups, epsilon 1e-3"), ("layer-norm", "epsilon 1e-3"), ("ghost-batch-norm", "ghosts of 8 samples (of all where N is below 8), epsilon 1e-3"),
        ("zca-whitening", "groups of 16 channels, epsilon 1e-3"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Error against batch size",
        "Does the error of batch statistics grow as batches shrink, while strategies that look at one sample keep theirs? Wu and He 2018, arXiv:1803.08494, section 4.1, table 2.",
        [
            "784-128-128-128-10, ReLU after each normalization, He's initialization, standardized images;",
            $"gradient descent with momentum {Momentum}, rate {RateAt32} at N = 32 and in proportion to N, so that every size takes the same way in an epoch;",
            $"{Examples(scale)} training images, {Epochs(scale)} epochs each.",
        ],
        [new("Test error after training", "test_error", "batch_size", "batch size N, samples", LogX: true)],
        [
            new ExperimentClaim
            {
                Id = "collapse-at-2",
                Text = "At N = 2 batch norm's test error exceeds group norm's by more than 5 points",
                Left = new(Batch, "test_error", With("batch_size", 2L)),
                Right = new(Group, "test_error", With("batch_size", 2L)),
                Threshold = 0.05,
                Published = "10.6 points (34.7 % against 24.1 %), ResNet-50 on ImageNet: a deep convolutional network; here a perceptron, where N = 2 leaves the normalized values +1 and -1",
            },
            new ExperimentClaim
            {
                Id = "group-norm-stays",
                Text = "Group norm's test error at N = 2 is within 3 points of its own at N = 32",
                Left = new(Group, "test_error", With("batch_size", 2L)),
                Right = new(Group, "test_error", With("batch_size", 32L)),
                Above = false,
                Threshold = 0.03,
                Published = "0.0 points (24.1 % at 2 and at 32), ResNet-50 on ImageNet",
            },
            new ExperimentClaim
            {
                Id = "batch-norm-grows",
                Text = "Batch norm's test error at N = 2 exceeds its own at N = 32 by more than 5 points",
                Left = new(Batch, "test_error", With("batch_size", 2L)),
                Right = new(Batch, "test_error", With("batch_size", 32L)),
                Threshold = 0.05,
                Published = "11.1 points (34.7 % against 23.6 %), ResNet-50 on ImageNet",
            },
        ]);

    // A trial has all sizes of a strategy and seed.
    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(strategy.Id, seed, Examples(scale) * Epochs(scale) * 1.2e-4, log => Run(data, strategy.Id, seed, scale, log));

    private static int Examples(ExperimentScale scale) => scale.Quick ? 3000 : 10_000;

    private static int Epochs(ExperimentScale scale) => scale.Quick ? 3 : 10;

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples train, Examples test) = data.Standardized;
        train = train.Take(Math.Min(train.Count, Examples(scale)));
        foreach (int size in Sizes)
        {
            Sequential<float> network = Networks.Perceptron(
                train.Size, 128, 3, strategy, Settings, () => new Relu<float>(), new RandomStream(seed, Id, "weights"));
            var training = new Training(network, (train, test), size, new RandomStream(seed, Id, "order"), new TrainingOptions { Momentum = Momentum });
            int steps = train.Count / size * Epochs(scale);
            for (int step = 0; step < steps; step++)
            {
                log.Cancellation.ThrowIfCancellationRequested();
                training.Step(RateAt32 * size / 32);
            }

            log.Add("test_error", 1 - training.TestAccuracy(), training.Note, ("batch_size", (long)size));
        }
    }
}
