using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E10: a trained network on shifted images, with the source's statistics and with the target's, Li et al. 2016.</summary>
internal sealed class E10DomainShift : Experiment
{
    private const string Source = "batch-norm";
    private const string Adapted = "ada-batch-norm";
    private const double Rate = 0.02;
    private const double Momentum = 0.9;
    private const double Large = 0.8;
    private const double Little = 0.2;
    private const double LeastLoss = 0.02;
    private const int BatchSize = 64;
    private static readonly int[] TargetImages = [10, 30, 100, 300, 1000];
    private static readonly (int Channels, int Stride)[] Plan = [(8, 2), (16, 2), (32, 2)];
    private static readonly DomainShift[] Shifts = [DomainShift.LowContrast, DomainShift.HighContrast, DomainShift.Noise, DomainShift.Inversion];

    public override string Id => "E10";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
        [(Source, "the source's running statistics"), (Adapted, $"statistics of {TargetImages[^1]} images of the target, all layers in one batch, which is the paper's algorithm")];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Domain shift and adaptive batch norm",
        "If images come otherwise than in training, how much of the loss do statistics of the new images win back, with no label and no training? Li, Wang, Shi, Liu and Hou 2016, arXiv:1603.04779.",
        [
            "3 x 3 convolutions of 8, 16 and 32 channels, stride 2 each, batch norm before each ReLU, a linear layer over all positions; pixels in [0, 1], not standardized;",
            $"{Examples(scale)} training images, {Epochs(scale)} epochs of batches of {BatchSize}, gradient descent with momentum {Momentum}, rate {Rate} (0.05, tried too, had the same verdicts on MNIST);",
            $"targets: {string.Join(", ", Shifts.Select(shift => $"{shift.Id} ({shift.Words})"))}; adapted on the first test images of the target without their labels (the paper: on all of them), tested on {Tests(scale)};",
            "oracle: the network trained on the target the same way. Recovery: (adapted - source's) / (oracle's - source's) accuracy.",
        ],
        [.. Shifts.Select(shift => new ExperimentChart($"Accuracy on {shift.Id} against the images adapted on", "adapted_accuracy", "target_images", "images of the target", LogX: true, Only: With("domain", shift.Id)))],
        [
            Recovers(DomainShift.LowContrast, "Adaptation wins back more than 0.8 of what 0.3 x + 0.5 costs", Large, above: true),
            Recovers(DomainShift.HighContrast, "Adaptation wins back more than 0.8 of what 3 x - 1 costs", Large, above: true),
            Recovers(DomainShift.Noise, "Adaptation wins back some of what noise costs", 0, above: true),
            Recovers(DomainShift.Noise, "Adaptation wins back less than 0.8 of what noise costs", Large, above: false) with { Id = "noise-not-all" },
            Recovers(DomainShift.Inversion, "Adaptation wins back less than 0.2 of what inversion costs", Little, above: false),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(
            strategy.Id, seed, Examples(scale) * Epochs(scale) * (strategy.Id == Source ? 1 : Shifts.Length + 1) * 3e-5, log => Run(data, strategy.Id, seed, scale, log));

    private static int Examples(ExperimentScale scale) => scale.Quick ? 3000 : 10_000;

    private static int Epochs(ExperimentScale scale) => scale.Quick ? 3 : 5;

    private static int Tests(ExperimentScale scale) => scale.Quick ? 1000 : 4000;

    private static ExperimentClaim Recovers(DomainShift shift, string text, double threshold, bool above) => new()
    {
        Id = shift.Id,
        Text = text,
        Left = new(Adapted, "recovery", With("domain", shift.Id)),
        Above = above,
        Threshold = threshold,
        Published = "other shifts: Office-31, average of six, Inception 75.5 % with the source's statistics, 76.7 % with the target's; A to W 70.3 and 74.2 %. No oracle there",
    };

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples train, Examples test) = data.Raw;
        train = train.Take(Math.Min(train.Count, Examples(scale)));
        test = test.Take(Math.Min(test.Count, Tests(scale)));
        (Training training, Sequential<float> network) = Train(train, seed, scale, log);
        AdaBatchNorm<float>[] layers = [.. network.Normalizers.Cast<AdaBatchNorm<float>>()];
        if (strategy == Source)
        {
            log.Add("test_accuracy", training.Evaluate(test).Accuracy, training.Note, ("domain", "source"));
        }

        foreach (DomainShift shift in Shifts)
        {
            Examples target = shift.Apply(test, new RandomStream(seed, Id, shift.Id, "test"));
            double source = training.Evaluate(target).Accuracy;
            double adapted = double.NaN;
            foreach (int images in TargetImages.Select(count => Math.Min(count, target.Count)).Distinct())
            {
                if (strategy == Adapted && training.DivergedAt is null)
                {
                    Activations<float> batch = new Activations<float>().Resize(new ActivationShape(images, 1, target.Height, target.Width));
                    target.Pixels.AsSpan(0, images * target.Size).CopyTo(batch.Values);
                    DomainAdaptation.OneSweep(layers, shift.Id, [batch], whole => network.Forward(whole, training: true));
                }

                adapted = training.Evaluate(target).Accuracy;
                log.Add("adapted_accuracy", adapted, training.Note, ("domain", shift.Id), ("target_images", (long)images));
            }

            log.Add("test_accuracy", adapted, training.Note, ("domain", shift.Id));
            Array.ForEach(layers, layer => layer.Domain = null);
            if (strategy == Source)
            {
                continue;
            }

            (Training oracle, _) = Train(shift.Apply(train, new RandomStream(seed, Id, shift.Id, "train")), seed, scale, log);
            double best = oracle.Evaluate(target).Accuracy;
            string? unfit = training.Note ?? oracle.Note ?? (best - source < LeastLoss ? "the shift costs less than 2 points" : null);
            log.Add("oracle_accuracy", best, oracle.Note, ("domain", shift.Id));
            log.Add("recovery", unfit is null ? (adapted - source) / (best - source) : null, unfit, ("domain", shift.Id));
        }
    }

    /// <summary>The network, its norms on no domain: trained, they are batch norm. The catalog's would be on a domain from the first batch on.</summary>
    /// <param name="examples">What it is to be trained on.</param>
    /// <param name="random">Draws the weights.</param>
    internal static Sequential<float> Create(Examples examples, RandomStream random) =>
        Networks.Convolutional<float>(Plan, () => new Normalized<float>(shape => new AdaBatchNorm<float>(shape.Channels)), random, (examples.Height, examples.Width));

    private (Training Training, Sequential<float> Network) Train(Examples train, long seed, ExperimentScale scale, TrialLog log)
    {
        Sequential<float> network = Create(train, new RandomStream(seed, Id, "weights"));
        var training = new Training(
            network, (train, train), BatchSize, new RandomStream(seed, Id, "order"), new TrainingOptions { IsConvolutional = true, Momentum = Momentum });
        int steps = train.Count / BatchSize * Epochs(scale);
        for (int step = 0; step < steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            training.Step(Rate);
        }

        return (training, network);
    }
}
