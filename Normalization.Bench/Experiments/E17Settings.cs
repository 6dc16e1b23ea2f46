using System.Numerics.Tensors;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E17: what epsilon and momentum do to batch norm, and to the gap between training and inference.</summary>
internal sealed class E17Settings : Experiment
{
    private const string BatchNorm = "batch-norm";
    private const string Gap = "logit_gap";
    private const string Error = "test_error";
    private const double RateAt32 = 0.05;
    private const double Momentum = 0.9;
    private const int GapImages = 1000;
    private const int Few = 100;
    private const int Many = 1000;
    private static readonly double[] Momenta = [1e-4, 1e-3, 1e-2, 0.1, 0.5, 1];
    private static readonly double[] Epsilons = [1e-8, 1e-5, 1e-3, 0.1, 1, 100];
    private static readonly int[] Sizes = [32, 4];

    public override string Id => "E17";

    public override IReadOnlyList<(string Id, string Options)> Strategies => [(BatchNorm, "momentum 0.1 and epsilon 1e-5, but for what is varied")];

    // The figures in the reasons are of a unit with variance v = 1.4 and mean 0.76 at the start: what He's weights make of images of mean square 1
    // of which some three tenths are the mean image.
    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Epsilon and momentum",
        "How small may the momentum of running statistics be for a given number of steps, how large for a given batch, and when does epsilon begin to matter? No paper: the claims are derived, each with its reason beside it.",
        [
            "784-128-128-128-10, batch norm before each ReLU, He's initialization, standardized images;",
            $"gradient descent with momentum {Momentum}, rate {RateAt32} at N = 32 and in proportion to N, batches of {string.Join(" and ", Sizes)};",
            $"momentum (of the running statistics: the new batch's weight) {string.Join(", ", Momenta)} after {string.Join(", ", StepsOfMomentum(scale))} steps; the weights do not depend on it;",
            $"epsilon {string.Join(", ", Epsilons)} after {Many} steps; the gap is over the first {GapImages} test images.",
        ],
        [
            new("Training/inference gap against momentum, N = 32", Gap, "momentum", "momentum", LogX: true, LogY: true, Line: "step", Only: With("batch_size", 32L)),
            new("Test error against momentum, N = 32", Error, "momentum", "momentum", LogX: true, Line: "step", Only: With("batch_size", 32L)),
            new("Test error against momentum, N = 4", Error, "momentum", "momentum", LogX: true, Line: "step", Only: With("batch_size", 4L)),
            new("Training/inference gap against epsilon", Gap, "epsilon", "epsilon", LogX: true, LogY: true, Line: "batch_size"),
            new("Test error against epsilon", Error, "epsilon", "epsilon", LogX: true, Line: "batch_size"),
        ],
        [
            Claim("too-few-steps", $"With momentum 1e-4 the gap after {Few} steps of 32 is above 0.5", Side(Gap, "momentum", 1e-4, 32, Few), null, 0.5,
                "derived: the start, mean 0 and variance 1, still weighs (1 - 1e-4)^100 = 0.99, and to the first layer's units it is off by 0.64 of a deviation (root mean square) and a factor of 1.2"),
            Claim("default", "With momentum 0.1 the gap with batches of 32 is below 0.5 after every number of steps", Side(Gap, "momentum", 0.1, 32), null, 0.5,
                "derived: the start weighs 3e-5; what is left is the noise of a batch of 32, 1/sqrt(32) in the mean and 1/sqrt(64) in the deviation, 0.22 a layer and at most 0.38 over three", above: false),
            Claim("forgets", $"With momentum 1e-3 the gap with batches of 32 is larger after {Few} steps than after {Many}", Side(Gap, "momentum", 1e-3, 32, Few), Side(Gap, "momentum", 1e-3, 32, Many), 0,
                "derived: the start weighs 0.90 and then 0.37"),
            Claim("last-batch", $"With N = 4 the test error of momentum 1 after {Many} steps is above that of 0.1", Side(Error, "momentum", 1.0, 4, Many), Side(Error, "momentum", 0.1, 4, Many), 0,
                "derived: the mean is off by 1/2 of a deviation where only the last batch counts, by 1/sqrt(76) where momentum 0.1 averages 19 of them"),
            Claim("small-epsilon", "Up to 1e-3 epsilon does not matter: the test error with N = 32 exceeds that of 1e-8 by less than a point", Side(Error, "epsilon", 1e-3, 32, Many),
                Side(Error, "epsilon", 1e-8, 32, Many), 0.01, "derived: normalized values change by epsilon / 2v = 0.04 %", above: false),
            Claim("huge-epsilon", "Epsilon 100 costs more than 5 points against 1e-5, N = 32", Side(Error, "epsilon", 100.0, 32, Many), Side(Error, "epsilon", 1e-5, 32, Many), 0.05,
                "derived: a first layer's values come out with a deviation of sqrt(v / (v + 100)), about a tenth; then v itself is a hundredth and less, and every further layer takes away more: next to nothing reaches the logits, and of the gradient next to nothing comes back"),
            Claim("epsilon-closes-gap", "With N = 4 the gap is larger with epsilon 1e-5 than with 1", Side(Gap, "epsilon", 1e-5, 4, Many), Side(Gap, "epsilon", 1.0, 4, Many), 0,
                "derived: epsilon is the part of the divisor that does not depend on the batch"),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from seed in Seeds(scale) select new Trial(BatchNorm, seed, scale.Quick ? 5 : 20, log => Run(data, seed, scale, log));

    private static int[] StepsOfMomentum(ExperimentScale scale) => scale.Quick ? [Few, Many] : [Few, Many, 10_000];

    private static ExperimentClaim Claim(string id, string text, ClaimSide left, ClaimSide? right, double threshold, string reason, bool above = true) =>
        new() { Id = id, Text = text, Left = left, Right = right, Threshold = threshold, Published = reason, Above = above };

    private static ClaimSide Side(string metric, string varied, double value, int size, int? steps = null)
    {
        var parameters = new Dictionary<string, object>(StringComparer.Ordinal) { [varied] = value, ["batch_size"] = (long)size };
        if (steps is { } step)
        {
            parameters.Add("step", (long)step);
        }

        return new ClaimSide(BatchNorm, metric, parameters);
    }

    private void Run(DigitData data, long seed, ExperimentScale scale, TrialLog log)
    {
        foreach (int size in Sizes)
        {
            foreach (double momentum in Momenta)
            {
                Train(data, seed, size, new StrategySettings { Momentum = momentum }, ("momentum", momentum), StepsOfMomentum(scale), log);
            }

            foreach (double epsilon in Epsilons)
            {
                Train(data, seed, size, new StrategySettings { Epsilon = epsilon }, ("epsilon", epsilon), [Many], log);
            }
        }
    }

    private void Train(DigitData data, long seed, int size, StrategySettings settings, (string Name, object Value) varied, int[] looks, TrialLog log)
    {
        (Examples Train, Examples Test) examples = data.Standardized;
        Sequential<float> network = Networks.Perceptron(
            examples.Train.Size, 128, 3, BatchNorm, settings, () => new Relu<float>(), new RandomStream(seed, Id, "weights"));
        var training = new Training(network, examples, size, new RandomStream(seed, Id, "order"), new TrainingOptions { Momentum = Momentum });
        Examples part = examples.Test.Take(Math.Min(examples.Test.Count, GapImages));
        for (int step = 1; step <= looks[^1]; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            training.Step(RateAt32 * size / 32);
            if (looks.Contains(step))
            {
                log.Add(Error, 1 - training.TestAccuracy(), training.Note, varied, ("batch_size", (long)size), ("step", (long)step));
                log.Add(Gap, training.DivergedAt is null ? GapOf(network, part, size) : null, training.Note, varied, ("batch_size", (long)size), ("step", (long)step));
            }
        }
    }

    // Root mean square of the difference between the two modes' logits, over that of training's.
    private static double GapOf(Sequential<float> network, Examples examples, int size)
    {
        Normalizer<float>[] normalizers = [.. network.Normalizers.Cast<Normalizer<float>>()];
        Array.ForEach(normalizers, normalizer => normalizer.UpdateRunningStatistics = false);
        var batch = new Activations<float>();
        batch.Resize(new ActivationShape(size, examples.Size));
        double difference = 0;
        double square = 0;
        for (int first = 0; first + size <= examples.Count; first += size)
        {
            examples.Pixels.AsSpan(first * examples.Size, size * examples.Size).CopyTo(batch.Values);
            float[] trained = network.Forward(batch, training: true).Values.ToArray();
            ReadOnlySpan<float> inferred = network.Forward(batch, training: false).Values;
            difference += Math.Pow(TensorPrimitives.Distance(trained, inferred), 2);
            square += TensorPrimitives.SumOfSquares<float>(trained);
        }

        Array.ForEach(normalizers, normalizer => normalizer.UpdateRunningStatistics = true);
        return Math.Sqrt(difference / square);
    }
}
