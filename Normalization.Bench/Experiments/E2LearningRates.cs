using System.Collections.Concurrent;
using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E2: what learning rates batch norm allows, and the other changes that it makes possible: Ioffe and Szegedy 2015, section 4.2.</summary>
internal sealed class E2LearningRates : Experiment
{
    private const double BaseRate = 0.02;
    private const double Momentum = 0.9;
    private const int BatchSize = 64;
    private const int Width = 64;
    private const int Depth = 6;
    private const double Keep = 0.6;
    private const double Decay = 5e-4;
    private const double Degrees = 10;
    private const double Pixels = 2;
    private static readonly StrategySettings Response = new() { K = 2, DivideAlpha = false };

    private static readonly Variant[] Variants =
    [
        // The sweep over rates; the first is the baseline.
        new("none", 1, IsNormalized: false) { InSweep = true, HasCurve = true },
        new("none-x5", 5, IsNormalized: false) { InSweep = true },
        new("none-x30", 30, IsNormalized: false) { InSweep = true },
        new("none-x100", 100, IsNormalized: false) { InSweep = true },
        new("batch-norm", 1) { InSweep = true, HasCurve = true },
        new("batch-norm-x5", 5) { InSweep = true, HasCurve = true },
        new("batch-norm-x30", 30) { InSweep = true, HasCurve = true },
        new("batch-norm-x100", 100) { InSweep = true },

        // Sigmoids in place of ReLU.
        new("none-sigmoid", 1, IsNormalized: false) { IsSigmoid = true, HasCurve = true },
        new("batch-norm-x5-sigmoid", 5) { IsSigmoid = true, HasCurve = true },

        // Batch norm and dropout as regularizers, all four at the base rate with the two above.
        new("none-dropout", 1, IsNormalized: false) { Keep = Keep },
        new("batch-norm-dropout", 1) { Keep = Keep },

        // The paper's other changes, one switch each; L2 and the rate's decay are in two strengths.
        new("batch-norm-x5-dropout", 5) { Keep = Keep },
        new("batch-norm-x5-l2", 5) { WeightDecay = Decay },
        new("batch-norm-x5-l2-fifth", 5) { WeightDecay = Decay / 5 },
        new("batch-norm-x5-decay", 5) { Halvings = 1 },
        new("batch-norm-x5-decay-x6", 5) { Halvings = 6 },
        new("batch-norm-x5-fixed-batches", 5) { Composition = BatchComposition.Fixed },
        new("batch-norm-x5-response-norm", 5) { HasResponseNorm = true },
        new("batch-norm-x5-distorted", 5) { IsDistorted = true },
    ];

    public override string Id => "E2";

    public override IReadOnlyList<(string Id, string Options)> Strategies => [.. Variants.Select(variant => (variant.Id, variant.Words))];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Higher learning rates and what comes with them",
        "Does a network with batch norm train at rates that a plain one does not survive, does it get to the plain one's accuracy in fewer steps, and do dropout, L2, response norm and fixed batches become unneeded? Ioffe and Szegedy 2015, arXiv:1502.03167, section 4.2 and its table.",
        [
            $"{Depth} hidden layers of {Width}, ReLU, He's initialization, standardized images, softmax cross-entropy;",
            $"gradient descent with momentum {Momentum}, rate {BaseRate} times the multiplier, constant but for the decay switches (2^-h over the run, h = 1 and 6), batches of {BatchSize};",
            $"{Steps(scale)} steps on {Count(scale)} training images, tested at steps 10, 12, 14 and so on, each 15 % later;",
            $"dropout keeps {Keep} before the last layer, as Inception did; L2 {Decay} and a fifth of it (the paper's is not given); distortion turns by up to {Degrees} degrees and shifts by up to {Pixels} pixels (the paper's is photometric, of colour images);",
            "local response norm stands after every activation with AlexNet's constants, its window running over units, which have as little order as channels have.",
        ],
        [
            new("Test accuracy", "test_accuracy", "step", "step", LogX: true),
            new("Test accuracy after training", "test_accuracy", "multiplier", "multiplier of the learning rate", LogX: true, Line: "network"),
        ],
        [
            Claim("plain-diverges", "At 30 times the rate the plain network is at chance or has diverged: its accuracy is below 0.2 (chance is 0.1)", Final("none-x30", 30), null, 0.2,
                "plain Inception diverged at 5 times its rate of 0.0015: deeper, and ImageNet", above: false),
            Claim("batch-norm-trains", "At 30 times the rate the network with batch norm trains: its accuracy is above 0.9", Final("batch-norm-x30", 30), null, 0.9, "74.8 % on ImageNet, the best of the table"),
            Claim("limit-at-x100", "Batch norm has a limit too: at 100 times the rate its accuracy is below 0.2", Final("batch-norm-x100", 100), null, 0.2,
                "no figure; 0.13 in this project's calibration on 8 x 8 digits", above: false),
            Ratio("x5-faster", "The baseline takes more steps to its best accuracy than batch norm at 5 times the rate takes to it", "batch-norm-x5", "14.8 times (31.0 M against 2.1 M), Inception on ImageNet"),
            Ratio("same-rate-faster", "The baseline takes more steps to its best accuracy than batch norm at the same rate takes to it", "batch-norm", "2.3 times (31.0 M against 13.3 M), Inception on ImageNet"),
            Best("x30-better", "At 30 times the rate batch norm's best accuracy is above the baseline's", "batch-norm-x30", "none", 0, "2.6 points (74.8 % against 72.2 %), Inception on ImageNet"),
            Best("sigmoid", "With sigmoids batch norm trains and the plain network does not: best accuracies differ by more than 0.5", "batch-norm-x5-sigmoid", "none-sigmoid", 0.5,
                "69.8 % against chance (0.1 %), Inception on ImageNet; batch norm at 5 times the rate, the plain one at the base rate"),
            Best("without-dropout", "Without dropout batch norm's best accuracy is higher than with it", "batch-norm-x5", "batch-norm-x5-dropout", 0, "\"higher validation accuracy\", no figure"),
            Best("less-l2", "With a fifth of L2 batch norm's best accuracy is higher than with all of it", "batch-norm-x5-l2-fifth", "batch-norm-x5-l2", 0, "\"improves the accuracy on the held-out validation data\", no figure"),
            Best("fresh-batches", "With batches composed anew every epoch the best accuracy is higher than with the same ones", "batch-norm-x5", "batch-norm-x5-fixed-batches", 0, "about 1 point"),
            Best("without-response-norm", "Local response norm is not needed: it adds less than a point", "batch-norm-x5-response-norm", "batch-norm-x5", 0.01, "\"not necessary\", no figure", above: false),
            Claim("regularizer", "Batch norm regularizes: the gap between training and test accuracy is smaller with it", new("none", "train_test_gap"), new("batch-norm", "train_test_gap"), 0,
                "said of the noise of batches, section 3.4; no figure"),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale)
    {
        // Every variant is held against the best of its seed's baseline, which is trained once.
        var baselines = new ConcurrentDictionary<long, Lazy<Course>>();
        return
            from variant in Variants
            from seed in Seeds(scale)
            select new Trial(variant.Id, seed, (scale.Quick ? 0.15 : 1.4) * (variant.IsDistorted ? 3 : 1), log =>
            {
                Course baseline = baselines.GetOrAdd(seed, _ => new Lazy<Course>(() => Train(data, Variants[0], seed, scale, log.Cancellation))).Value;
                Record(variant, variant == Variants[0] ? baseline : Train(data, variant, seed, scale, log.Cancellation), baseline.Best, log);
            });
    }

    private static int Steps(ExperimentScale scale) => scale.Quick ? 500 : 6000;

    private static int Count(ExperimentScale scale) => scale.Quick ? 3000 : 20_000;

    private static ExperimentClaim Claim(string id, string text, ClaimSide left, ClaimSide? right, double threshold, string published, bool above = true) =>
        new() { Id = id, Text = text, Left = left, Right = right, Threshold = threshold, Published = published, Above = above };

    private static ClaimSide Final(string variant, long multiplier) => new(variant, "test_accuracy", With("multiplier", multiplier));

    private static ExperimentClaim Best(string id, string text, string left, string right, double threshold, string published, bool above = true) =>
        Claim(id, text, new(left, "best_accuracy"), new(right, "best_accuracy"), threshold, published, above);

    private static ExperimentClaim Ratio(string id, string text, string than, string published) =>
        Claim(id, text, new("none", "steps_to_baseline"), new(than, "steps_to_baseline"), 1, published) with { Combination = ClaimCombination.Ratio };

    private static void Record(Variant variant, Course course, double baseline, TrialLog log)
    {
        // Every third: tests are dense for the sake of the steps to an accuracy.
        for (int i = (course.Tests.Count - 1) % 3; i < course.Tests.Count && variant.HasCurve; i += 3)
        {
            log.Add("test_accuracy", course.Tests[i].Accuracy, course.Note, ("step", (long)course.Tests[i].Step));
        }

        if (variant.InSweep)
        {
            log.Add("test_accuracy", course.Tests[^1].Accuracy, course.Note, ("network", variant.IsNormalized ? "batch-norm" : "none"), ("multiplier", (long)variant.Multiplier));
        }

        int reached = course.Tests.FindIndex(test => test.Accuracy >= baseline);
        log.Add("steps_to_baseline", course.Tests[reached < 0 ? ^1 : reached].Step, reached < 0 ? "never reached; the number of all steps stands for it" : course.Note);
        log.Add("best_accuracy", course.Best, course.Note);
        log.Add("train_test_gap", course.Gap, course.Note);
    }

    private Course Train(DigitData data, Variant variant, long seed, ExperimentScale scale, CancellationToken cancellation)
    {
        (Examples train, Examples test) = data.Standardized;
        train = train.Take(Math.Min(train.Count, Count(scale)));
        int steps = Steps(scale);
        var options = new TrainingOptions
        {
            Momentum = Momentum,
            WeightDecay = variant.WeightDecay,
            Composition = variant.Composition,
            Distortion = variant.IsDistorted ? Distortions.TurnAndShift(Degrees, Pixels) : null,
        };
        var training = new Training(variant.Network(train.Size, seed, Id), (train, test), BatchSize, new RandomStream(seed, Id, "order"), options);
        var tests = new List<(int Step, double Accuracy)>();
        double next = 10;
        for (int step = 1; step <= steps; step++)
        {
            cancellation.ThrowIfCancellationRequested();
            training.Step(BaseRate * variant.Multiplier * Math.Pow(2, -variant.Halvings * (step - 1) / (double)steps));
            if (step >= next || step == steps)
            {
                tests.Add((step, training.TestAccuracy()));
                next = Math.Max(step + 1, next * 1.15);
            }
        }

        double gap = training.Evaluate(train.Take(Math.Min(train.Count, test.Count))).Accuracy - tests[^1].Accuracy;
        return new Course(tests, training.DivergedAt is null ? gap : null, training.Note);
    }

    /// <summary>How a training went.</summary>
    /// <param name="Tests">Test accuracy, checkpoint by checkpoint.</param>
    /// <param name="Gap">Training less test accuracy at the end; null where the network diverged.</param>
    /// <param name="Note">Says that it diverged, and when.</param>
    private sealed record Course(List<(int Step, double Accuracy)> Tests, double? Gap, string? Note)
    {
        public double Best { get; } = Tests.Max(test => test.Accuracy);
    }

    /// <summary>One network and how it is trained.</summary>
    private sealed record Variant(string Id, int Multiplier, bool IsNormalized = true)
    {
        /// <summary>Whether it is a point of the sweep over rates.</summary>
        public bool InSweep { get; init; }

        /// <summary>Whether its test accuracy is drawn over steps.</summary>
        public bool HasCurve { get; init; }

        public bool IsSigmoid { get; init; }

        /// <summary>The probability with which dropout keeps a unit of the last hidden layer.</summary>
        public double Keep { get; init; } = 1;

        public double WeightDecay { get; init; }

        /// <summary>How often the rate is halved on the whole way.</summary>
        public int Halvings { get; init; }

        public BatchComposition Composition { get; init; }

        public bool HasResponseNorm { get; init; }

        public bool IsDistorted { get; init; }

        public string Words => string.Join(", ", new[]
        {
            IsNormalized ? "batch norm before each activation" : "no normalization, biases", $"rate x{Multiplier}", IsSigmoid ? "sigmoid" : null, Keep < 1 ? $"dropout keeping {Keep}" : null,
            WeightDecay > 0 ? $"L2 {WeightDecay}" : null, Halvings > 0 ? $"rate down to 2^-{Halvings}" : null, Composition == BatchComposition.Fixed ? "the same batches every epoch" : null,
            HasResponseNorm ? "local response norm" : null, IsDistorted ? "distorted images" : null,
        }.OfType<string>());

        public Sequential<float> Network(int inputs, long seed, string experiment)
        {
            return Networks.Perceptron(inputs, Width, Depth, bias: !IsNormalized, After, new RandomStream(seed, experiment, "weights"));

            IReadOnlyList<Layer<float>> After(int layer) =>
            [
                .. IsNormalized ? new[] { Networks.Normalizer<float>("batch-norm", new StrategySettings()) } : [],
                IsSigmoid ? new Sigmoid<float>() : new Relu<float>(),
                .. HasResponseNorm ? new[] { Networks.Normalizer<float>("local-response-norm", Response) } : [],
                .. Keep < 1 && layer == Depth - 1 ? new[] { new Dropout<float>(Keep, new RandomStream(seed, experiment, "dropout")) } : [],
            ];
        }
    }
}
