using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E13: networks trained with whitening in place of batch norm: Huang, Yang, Lang and Deng 2018; Huang et al. 2019.</summary>
internal sealed class E13WhiteningTraining : Experiment
{
    private const string Plain = "none";
    private const string BatchNorm = "batch-norm";
    private const string Zca = "zca-whitening";
    private const string Iterative = "iter-norm";
    private const string Pca = "pca-whitening";
    private const double Rate = 0.1;
    private const int BatchSize = 128;
    private const int Windows = 20;
    private static readonly StrategySettings Settings = new() { GroupSize = 16, Epsilon = 1e-3, Iterations = 5, GapClamp = 1e-10 };

    public override string Id => "E13";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Plain, "no normalization, biases"), (BatchNorm, "epsilon 1e-3"), (Zca, "groups of 16 channels, epsilon 1e-3"),
        (Iterative, "5 iterations, groups of 16 channels, epsilon 1e-3"), (Pca, "groups of 16 channels, epsilon 1e-3; its gradient exact but where eigenvalues lie within 1e-10 of each other"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Training with whitening",
        "Does a network learn behind whitened activations, and does it matter which of the whitening matrices is taken? Huang, Yang, Lang and Deng 2018, arXiv:1804.08450, section 3.2 (PCA swaps axes between batches; ZCA does not), and Huang et al. 2019, arXiv:1904.03441 (IterNorm).",
        [
            "784-4 x 64-10, whitening before each ReLU, He's initialization, standardized images;",
            $"plain gradient descent, rate {Rate}, batches of {BatchSize}, {Steps(scale)} steps; inference by running covariances, momentum 0.1.",
        ],
        [
            new("Training loss", "train_loss", "step", "step", LogX: true, LogY: true),
            new("Test accuracy", "test_accuracy", "step", "step", LogX: true),
        ],
        [
            new ExperimentClaim
            {
                Id = "pca-loss",
                Text = "PCA whitening fails to train: at the end its training loss is above half of where it began (ln 10)",
                Left = new(Pca, "train_loss", With("step", (long)Steps(scale))),
                Threshold = Math.Log(10) / 2,
                Published = "Huang et al. 2018: networks with PCA whitening fail to train, in figures of perceptrons; no table",
            },
            new ExperimentClaim
            {
                Id = "pca-accuracy",
                Text = "PCA whitening fails to train: at the end its test accuracy is below a half",
                Left = new(Pca, "test_accuracy", With("step", (long)Steps(scale))),
                Above = false,
                Threshold = 0.5,
                Published = "none; a half is ours",
            },
            Reaches(Zca, "ZCA whitening", scale),
            Reaches(Iterative, "IterNorm", scale),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(strategy.Id, seed, Steps(scale) * 1.2e-3, log => Run(data, strategy.Id, seed, Steps(scale), log));

    private static int Steps(ExperimentScale scale) => scale.Quick ? 400 : 3000;

    private static ExperimentClaim Reaches(string strategy, string words, ExperimentScale scale) => new()
    {
        Id = $"{strategy}-reaches-batch-norm",
        Text = $"{words} trains: its test accuracy is within 2 points of batch norm's at the end",
        Left = new(BatchNorm, "test_accuracy", With("step", (long)Steps(scale))),
        Right = new(strategy, "test_accuracy", With("step", (long)Steps(scale))),
        Above = false,
        Threshold = 0.02,
        Published = "on CIFAR-10 and ImageNet both reach batch norm's accuracy or better, in convolutional networks; 2 points are ours",
    };

    private void Run(DigitData data, string strategy, long seed, int steps, TrialLog log)
    {
        (Examples Train, Examples Test) examples = data.Standardized;
        Sequential<float> network = Networks.Perceptron(
            examples.Train.Size, 64, 4, strategy == Plain ? null : strategy, Settings, () => new Relu<float>(), new RandomStream(seed, Id, "weights"));
        var training = new Training(network, examples, BatchSize, new RandomStream(seed, Id, "order"));
        int window = steps / Windows;
        double sum = 0;
        for (int step = 1; step <= steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            sum += training.Step(Rate);
            if (step % window == 0)
            {
                log.Add("train_loss", double.IsFinite(sum) ? sum / window : null, training.Note, ("step", (long)step));
                sum = 0;
            }

            if (step % (steps / 4) == 0)
            {
                log.Add("test_accuracy", training.TestAccuracy(), training.Note, ("step", (long)step));
            }
        }
    }
}
