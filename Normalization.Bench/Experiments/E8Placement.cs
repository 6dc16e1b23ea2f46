using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E8: batch norm before or after the activation, with and without weight and bias, in a perceptron and a convolutional network.</summary>
internal sealed class E8Placement : Experiment
{
    private const string Plain = "none";
    private const string Before = "batch-norm-before";
    private const string After = "batch-norm-after";
    private const string BatchNorm = "batch-norm";
    private const string Perceptron = "mlp";
    private const string Convolutional = "cnn";
    private const double Rate = 0.05;
    private const double Momentum = 0.9;
    private const int BatchSize = 64;
    private const double LargestPublished = 0.025;

    private static readonly (int Channels, int Stride)[] Plan = [(8, 2), (16, 2), (32, 2)];

    public override string Id => "E8";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
        [(Plain, "no normalization, biases"), (Before, "linear, batch norm, ReLU; no bias before the norm"), (After, "linear with bias, ReLU, batch norm")];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Batch norm before or after the activation",
        "Is batch normalization better placed before the activation, as in Ioffe and Szegedy 2015, arXiv:1502.03167, or after it? Public comparisons on ImageNet at 128 x 128 went either way (github.com/ducha-aiki/caffenet-benchmark); the claims bound the difference on both sides and name no winner.",
        [
            "mlp: 784-128-128-128-10; cnn: 3 x 3 convolutions of 8, 16 and 32 channels with stride 2, average over positions, linear; ReLU, He's initialization, standardized images;",
            "weight and bias of the norm learned, or left out;",
            $"gradient descent with momentum {Momentum}, rate {Rate}, batches of {BatchSize}, {Examples(scale)} training images, {Epochs(scale)} epochs; all test images.",
        ],
        [Chart("Test accuracy of the perceptron", Perceptron), Chart("Test accuracy of the convolutional network", Convolutional)],
        [
            Bound("mlp-before", "perceptron", Perceptron, Before, After, scale),
            Bound("mlp-after", "perceptron", Perceptron, After, Before, scale),
            Bound("cnn-before", "convolutional network", Convolutional, Before, After, scale),
            Bound("cnn-after", "convolutional network", Convolutional, After, Before, scale),
        ]);

    // A trial has both networks of a placement and seed, with and without weight and bias.
    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in new[] { Plain, Before, After }
        from seed in Seeds(scale)
        select new Trial(
            strategy, seed, Examples(scale) * Epochs(scale) * (strategy == Plain ? 5e-5 : 1e-4), log => Run(data, strategy, seed, scale, log));

    private static int Examples(ExperimentScale scale) => scale.Quick ? 6000 : 20_000;

    private static int Epochs(ExperimentScale scale) => scale.Quick ? 6 : 8;

    private static ExperimentChart Chart(string title, string network) => new(title, "test_accuracy", "epoch", "epochs", Only: With("network", network));

    private static ExperimentClaim Bound(string id, string words, string network, string better, string other, ExperimentScale scale)
    {
        var at = new Dictionary<string, object>(StringComparer.Ordinal) { ["network"] = network, ["epoch"] = (long)Epochs(scale) };
        return new()
        {
            Id = id,
            Text = $"In the {words} the norm {(better == Before ? "before" : "after")} the activation is better by less than 2.5 points, with weight and bias and without",
            Left = new(better, "test_accuracy", at),
            Right = new(other, "test_accuracy", at),
            Over = ClaimOver.Greatest,
            Above = false,
            Threshold = LargestPublished,
            Published = "ImageNet at 128 x 128: caffenet before .474, after .499 (with weight and bias .478, .493); googlenet without .619, before .607, after .596. The largest difference, 2.5 points, is the threshold; digits are far easier",
        };
    }

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples train, Examples test) = data.Standardized;
        train = train.Take(Math.Min(train.Count, Examples(scale)));
        foreach (string kind in new[] { Perceptron, Convolutional })
        {
            foreach (bool affine in strategy == Plain ? [false] : new[] { false, true })
            {
                Sequential<float> network = Create(kind, strategy, affine, train.Size, new RandomStream(seed, Id, "weights"));
                var training = new Training(
                    network, (train, test), BatchSize, new RandomStream(seed, Id, "order"), new TrainingOptions { Momentum = Momentum, IsConvolutional = kind == Convolutional });
                for (int epoch = 1; epoch <= Epochs(scale); epoch++)
                {
                    for (int step = 0; step < train.Count / BatchSize; step++)
                    {
                        log.Cancellation.ThrowIfCancellationRequested();
                        training.Step(Rate);
                    }

                    var parameters = new List<(string, object)> { ("network", kind), ("epoch", (long)epoch) };
                    if (strategy != Plain)
                    {
                        parameters.Add(("weight_and_bias", affine));
                    }

                    log.Add("test_accuracy", training.TestAccuracy(), training.Note, [.. parameters]);
                }
            }
        }
    }

    private static Sequential<float> Create(string kind, string strategy, bool affine, int pixels, RandomStream random)
    {
        var settings = new StrategySettings { Weight = affine, Bias = affine };
        string? before = strategy == Before ? BatchNorm : null;
        return kind == Perceptron
            ? Networks.Perceptron(pixels, 128, 3, before, settings, Activation, random)
            : Networks.Convolutional(Plan, before, settings, random, Activation);

        Layer<float> Activation() =>
            strategy == After ? new Sequential<float>(new Relu<float>(), Networks.Normalizer<float>(BatchNorm, settings)) : new Relu<float>();
    }
}
