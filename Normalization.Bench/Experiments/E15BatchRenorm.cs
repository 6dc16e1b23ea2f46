using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E15: batch renormalization on batches that are small, or no independent draws: Ioffe 2017, sections 4.2 and 4.3.</summary>
internal sealed class E15BatchRenorm : Experiment
{
    private const string Batch = "batch-norm";
    private const string Renorm = "batch-renorm";
    private const string Layer = "layer-norm";
    private const string TwoClasses = "two classes, 32";
    private const string Four = "independent, 4";
    private const int Steps = 1200;
    private const double Rate = 0.02;
    private const double Momentum = 0.9;
    private const double Clip = 5;
    private static readonly StrategySettings Settings = new() { Momentum = 0.05 };
    private static readonly BatchRenormSchedule Schedule = new() { PlainSteps = 100, RSteps = 400, DSteps = 400 };
    private static readonly (string Name, int Size, BatchComposition Composition)[] Batches =
        [("independent, 32", 32, BatchComposition.Fresh), (TwoClasses, 32, BatchComposition.TwoClasses), (Four, 4, BatchComposition.Fresh)];

    public override string Id => "E15";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Batch, "momentum 0.05"), (Renorm, "momentum 0.05, r within 1 to 3 and d within 0 to 5, both growing from step 100 to 400"), (Layer, "all units of a layer"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Batch renormalization on small and non-independent batches",
        "Where a batch's statistics are not those of the data, because it is small or all of two classes, does correcting them to the running ones keep the accuracy that batch norm loses? Ioffe 2017, arXiv:1702.03275, sections 4.2 and 4.3.",
        [
            $"784-128-128-128-10, ReLU after each normalization, He's initialization, standardized images, all training images;",
            $"{Steps} steps, rate {Rate} (momentum {Momentum}) whatever the batch, gradients clipped at a norm of {Clip};",
            "batches of 32 and of 4 independent images, and of 32 of two classes, 16 of each, which two drawn anew for every batch; tests are in inference.",
        ],
        [.. Batches.Select(batches => new ExperimentChart($"Test accuracy, batches {batches.Name}", "test_accuracy", "step", "step", LogX: true, Only: With("batches", batches.Name)))],
        [
            Claim("two-classes", "On batches of two classes batch norm's test error is above batch renormalization's", TwoClasses,
                "batch norm collapses to 67 % and batch renormalization stays at 78.5 %, as on independent batches; Inception-v3 on ImageNet, from memory"),
            Claim("batches-of-4", "On batches of 4 batch norm's test error is above batch renormalization's", Four, "batch norm 74.2 %, batch renormalization 76.5 %, batches of 4; Inception-v3 on ImageNet, from memory"),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(strategy.Id, seed, scale.Quick ? 0.8 : 1.5, log => Run(data, strategy.Id, seed, log));

    private static ExperimentClaim Claim(string id, string text, string batches, string published) => new()
    {
        Id = id,
        Text = text,
        Left = new(Batch, "test_error", With("batches", batches)),
        Right = new(Renorm, "test_error", With("batches", batches)),
        Threshold = 0,
        Published = published,
    };

    private static Normalized<float> Normalizer(string strategy) => strategy == Renorm
        ? new(shape => new BatchRenorm<float>(shape.Channels, new BatchRenormOptions { Momentum = Settings.Momentum, Schedule = Schedule }))
        : Networks.Normalizer<float>(strategy, Settings);

    private void Run(DigitData data, string strategy, long seed, TrialLog log)
    {
        (Examples Train, Examples Test) examples = data.Standardized;
        foreach ((string name, int size, BatchComposition composition) in Batches)
        {
            Sequential<float> network = Networks.Perceptron<float>(
                examples.Train.Size, 128, 3, bias: false, _ => [Normalizer(strategy), new Relu<float>()], new RandomStream(seed, Id, "weights"));
            var options = new TrainingOptions { Momentum = Momentum, Clip = Clip, Composition = composition };
            var training = new Training(network, examples, size, new RandomStream(seed, Id, "order"), options);
            for (int step = 1; step <= Steps; step++)
            {
                log.Cancellation.ThrowIfCancellationRequested();
                training.Step(Rate);
                if (Checkpoints.IsOne(step) || step == Steps)
                {
                    log.Add("test_accuracy", training.TestAccuracy(), training.Note, ("batches", name), ("step", (long)step));
                }
            }

            log.Add("test_error", 1 - training.TestAccuracy(), training.Note, ("batches", name));
        }
    }
}
