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
    private const string Renorm = "batch-renorm";
    private const string Instance = "instance-norm";
    private const string Perceptron = "mlp";
    private const string Convolutional = "cnn";
    private const double RateAt32 = 0.05;
    private const double Momentum = 0.9;
    private const double RenormMomentum = 0.05;
    private static readonly int[] Sizes = [32, 16, 8, 4, 2];
    private static readonly (int Channels, int Stride)[] Plan = [(8, 2), (16, 2), (32, 2)];

    private static readonly StrategySettings Settings = new()
    {
        Groups = 8,
        GhostSize = 8,
        GhostRemainder = GhostRemainder.Balanced,
        GroupSize = 16,
        Epsilon = 1e-3,
    };

    private static readonly StrategySettings ConvolutionalSettings = Settings with { Groups = 4, GroupSize = 8 };

    public override string Id => "E3";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Batch, "epsilon 1e-3"),
        (Group, "8 groups on the mlp, 4 on the cnn, epsilon 1e-3"),
        ("layer-norm", "epsilon 1e-3"),
        ("ghost-batch-norm", "ghosts of 8 samples (of all where N is below 8), epsilon 1e-3"),
        (Renorm, $"limits from (1, 0) after a twelfth of all steps to r 3, d 5 at a third, as in E15; momentum {RenormMomentum}, epsilon 1e-3"),
        ("zca-whitening", "groups of 16 channels on the mlp, of 8 on the cnn, epsilon 1e-3"),
        (Instance, "cnn only: a perceptron has one value a channel and sample; epsilon 1e-3"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Error against batch size",
        "Does the error of batch statistics grow as batches shrink, while strategies that look at one sample keep theirs? Wu and He 2018, arXiv:1803.08494, section 4.1, table 2.",
        [
            "mlp: pixels-128-128-128-10; cnn: 3 x 3 convolutions of 8, 16 and 32 channels, stride 2 each (28 x 28 become 4 x 4), and a linear layer;",
            "ReLU after each normalization, He's initialization, standardized images;",
            $"gradient descent with momentum {Momentum}, rate {RateAt32} at N = 32 and in proportion to N, so that every size takes the same way in an epoch;",
            $"mlp {Examples(scale)} training images, {Epochs(scale)} epochs each, cnn {ConvolutionalExamples(scale)}, {ConvolutionalEpochs(scale)} epochs.",
            "The cnn decides nothing here and has no claim: its statistics are of N * H * W values, at N = 2 still of 32 in the last layer and 392 in the first.",
        ],
        [
            new("Test error after training, mlp", "test_error", "batch_size", "batch size N, samples", LogX: true, Only: With("network", Perceptron)),
            new("Test error after training, cnn", "test_error", "batch_size", "batch size N, samples", LogX: true, Only: With("network", Convolutional)),
        ],
        [
            new ExperimentClaim
            {
                Id = "collapse-at-2",
                Text = "At N = 2 batch norm's test error on the mlp exceeds group norm's by more than 5 points",
                Left = new(Batch, "test_error", At(2)),
                Right = new(Group, "test_error", At(2)),
                Threshold = 0.05,
                Published = "10.6 points (34.7 % against 24.1 %), ResNet-50 on ImageNet: a deep convolutional network; here a perceptron, where N = 2 leaves the normalized values +1 and -1",
            },
            new ExperimentClaim
            {
                Id = "group-norm-stays",
                Text = "Group norm's test error on the mlp at N = 2 is within 3 points of its own at N = 32",
                Left = new(Group, "test_error", At(2)),
                Right = new(Group, "test_error", At(32)),
                Above = false,
                Threshold = 0.03,
                Published = "0.0 points (24.1 % at 2 and at 32), ResNet-50 on ImageNet",
            },
            new ExperimentClaim
            {
                Id = "batch-norm-grows",
                Text = "Batch norm's test error on the mlp at N = 2 exceeds its own at N = 32 by more than 5 points",
                Left = new(Batch, "test_error", At(2)),
                Right = new(Batch, "test_error", At(32)),
                Threshold = 0.05,
                Published = "11.1 points (34.7 % against 23.6 %), ResNet-50 on ImageNet",
            },
        ]);

    // A trial has both networks and all sizes of a strategy and seed.
    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(strategy.Id, seed, CostOf(strategy.Id, scale), log => Run(data, strategy.Id, seed, scale, log));

    private static double CostOf(string strategy, ExperimentScale scale) => (strategy == "zca-whitening" ? 2.5 : 1)
        * ((ConvolutionalExamples(scale) * ConvolutionalEpochs(scale) * 2e-4) + (strategy == Instance ? 0 : Examples(scale) * Epochs(scale) * 1.4e-4));

    private static Dictionary<string, object> At(long size) => new(StringComparer.Ordinal) { ["network"] = Perceptron, ["batch_size"] = size };

    private static int Examples(ExperimentScale scale) => scale.Quick ? 3000 : 8000;

    private static int Epochs(ExperimentScale scale) => scale.Quick ? 3 : 5;

    private static int ConvolutionalExamples(ExperimentScale scale) => scale.Quick ? 1000 : 3000;

    private static int ConvolutionalEpochs(ExperimentScale scale) => scale.Quick ? 3 : 5;

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        foreach (string network in strategy == Instance ? new[] { Convolutional } : [Perceptron, Convolutional])
        {
            bool isConvolutional = network == Convolutional;
            (Examples train, Examples test) = data.Standardized;
            train = train.Take(Math.Min(train.Count, isConvolutional ? ConvolutionalExamples(scale) : Examples(scale)));
            foreach (int size in Sizes)
            {
                int steps = train.Count / size * (isConvolutional ? ConvolutionalEpochs(scale) : Epochs(scale));
                var weights = new RandomStream(seed, Id, "weights");
                Sequential<float> layers = isConvolutional
                    ? Networks.Convolutional<float>(Plan, Slot(strategy, ConvolutionalSettings, steps), weights, (train.Height, train.Width))
                    : Networks.Perceptron<float>(train.Size, 128, 3, Slot(strategy, Settings, steps), () => new Relu<float>(), weights);
                var training = new Training(
                    layers, (train, test), size, new RandomStream(seed, Id, "order"), new TrainingOptions { IsConvolutional = isConvolutional, Momentum = Momentum });
                for (int step = 0; step < steps; step++)
                {
                    log.Cancellation.ThrowIfCancellationRequested();
                    training.Step(RateAt32 * size / 32);
                }

                log.Add("test_error", 1 - training.TestAccuracy(), training.Note, ("network", network), ("batch_size", (long)size));
            }
        }
    }

    private static Func<Layer<float>> Slot(string strategy, StrategySettings settings, int steps) => () => strategy != Renorm
        ? Networks.Normalizer<float>(strategy, settings)
        : new Normalized<float>(shape => new BatchRenorm<float>(shape.Channels, new BatchRenormOptions
        {
            Epsilon = settings.Epsilon,
            Momentum = RenormMomentum,
            Schedule = new BatchRenormSchedule { PlainSteps = steps / 12, RSteps = steps / 3, DSteps = steps / 3 },
        }));
}
