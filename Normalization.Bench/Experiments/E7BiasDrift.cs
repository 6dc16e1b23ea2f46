using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E7: the bias that grows without end when the mean's own gradient is left out, and a network so trained: Ioffe and Szegedy 2015, section 2.</summary>
internal sealed class E7BiasDrift : Experiment
{
    private const string Ignored = "mean-as-constant";
    private const string Taken = "mean-differentiated";
    private const string Constants = "statistics-as-constants";
    private const string Differentiated = "statistics-differentiated";
    private const int Samples = 64;
    private const int Steps = 200;
    private const double Rate = 0.1;
    private const int BatchSize = 60;
    private const double Deviation = 0.1;
    private static readonly double[] NetworkRates = [0.1, 0.5, 2.5, 12.5];
    private static readonly double GuessingLoss = Math.Log(10);

    public override string Id => "E7";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Ignored, "x = u + b, xhat = x - mean(x), the mean taken as a constant in the gradient"), (Taken, "the mean differentiated too"),
        (Constants, "a network with batch norm, mean and variance taken as constants in the gradient"), (Differentiated, "the same network, batch norm differentiated wholly"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "The bias that grows when the mean's gradient is ignored",
        "If a layer subtracts its mean and gradient descent does not know it, does the bias before it grow without end while the loss stays as it is? Ioffe and Szegedy 2015, arXiv:1502.03167, section 2.",
        [
            $"One bias: xhat = u + b - mean(u + b) over {Samples} Gaussian u, loss mean((xhat - t)^2) with t = u/2 + 1, b from 0, {Steps} steps of rate {Rate}, double.",
            $"Network: E1's, pixels-100-100-100-10 with batch norm before each sigmoid, here with biases before it; binarized images, weights N(0, {Deviation}^2),",
            $"plain gradient descent, rates {string.Join(", ", NetworkRates)} (E1's 0.5 was tried first; the others were added when nothing blew up there), batches of {BatchSize}, {NetworkSteps(scale)} steps.",
        ],
        [
            new("The bias", "bias_value", "step", "step"), new("The loss", "loss_value", "step", "step"),
            .. NetworkRates.Select(rate => new ExperimentChart($"A network's training loss, rate {rate}", "train_loss", "step", "step", LogX: true, LogY: true, Only: With("rate", rate))),
        ],
        [
            Exact("linear", "With the mean as a constant the bias grows along the straight line predicted", Ignored, "bias_drift_error", 1e-9),
            Exact("loss-constant", "With the mean as a constant the loss does not change while the bias grows", Ignored, "loss_change", 1e-9),
            Exact("true-gradient", "With the mean differentiated the bias stays where it is", Taken, "bias_drift_error", 1e-9),
            new ExperimentClaim
            {
                Id = "network-blows-up",
                Text = "In a network, with mean and variance as constants in the gradient, weights and biases before normalizations reach, at some rate and step, more than 10 times the norm they have with the whole gradient",
                Left = new(Constants, "weight_growth"),
                Right = new(Differentiated, "weight_growth"),
                Combination = ClaimCombination.Ratio,
                Over = ClaimOver.Greatest,
                Threshold = 10,
                Published = "section 2: \"the model blows up\", no figure, network and rate not given; here the greatest over four rates and all checkpoints, three of the rates added after one alone showed nothing",
            },
            new ExperimentClaim
            {
                Id = "network-diverges",
                Text = "In a network, with mean and variance as constants in the gradient, the training loss is at some rate and step above that with the whole gradient by more than ln 10, the loss of guessing",
                Left = new(Constants, "train_loss"),
                Right = new(Differentiated, "train_loss"),
                Over = ClaimOver.Greatest,
                Threshold = GuessingLoss,
                Published = "section 2: \"the model blows up\", no figure, network and rate not given; here the greatest over four rates and all checkpoints, three of the rates added after one alone showed nothing",
            },
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select strategy.Id is Ignored or Taken
            ? new Trial(strategy.Id, seed, 0.01, log => Run(strategy.Id, seed, log))
            : new Trial(strategy.Id, seed, NetworkSteps(scale) * NetworkRates.Length * 0.3e-3, log =>
            {
                foreach (double rate in NetworkRates)
                {
                    RunNetwork(data, strategy.Id, rate, seed, NetworkSteps(scale), log);
                }
            });

    private static int NetworkSteps(ExperimentScale scale) => scale.Quick ? 1000 : 5000;

    private static ExperimentClaim Exact(string id, string text, string strategy, string metric, double limit) => new()
    {
        Id = id,
        Text = text,
        Left = new(strategy, metric),
        Over = ClaimOver.Greatest,
        Above = false,
        Threshold = limit,
        Exact = true,
        Published = "derived in the paper, no figure; the threshold is rounding's",
    };

    private void Run(string strategy, long seed, TrialLog log)
    {
        var u = new double[Samples];
        new RandomStream(seed, Id).FillGaussian(u);
        double[] t = Array.ConvertAll(u, value => (0.5 * value) + 1);
        double slope = strategy == Ignored ? Rate * 2 * t.Average() : 0;
        double b = 0;
        double least = double.PositiveInfinity;
        double greatest = double.NegativeInfinity;
        double departure = 0;
        for (int step = 0; step <= Steps; step++)
        {
            double shift = b;
            double mean = u.Average(value => value + shift);
            double[] residuals = [.. u.Zip(t, (value, target) => value + shift - mean - target)];
            double loss = residuals.Average(residual => residual * residual);
            (least, greatest) = (Math.Min(least, loss), Math.Max(greatest, loss));
            departure = Math.Max(departure, Math.Abs(b - (step * slope)) / Math.Max(1, Math.Abs(step * slope)));
            if (step % 20 == 0)
            {
                log.Add("bias_value", b, null, ("step", (long)step));
                log.Add("loss_value", loss, null, ("step", (long)step));
            }

            // b enters every x: its gradient is the sum of dL/dx, which is dL/dxhat less, through the mean, its own mean.
            double[] gradients = Array.ConvertAll(residuals, residual => 2 * residual / Samples);
            double throughMean = strategy == Taken ? gradients.Average() : 0;
            b -= Rate * gradients.Sum(gradient => gradient - throughMean);
        }

        log.Add("bias_drift_error", departure);
        if (strategy == Ignored)
        {
            log.Add("loss_change", greatest - least);
        }
    }

    private void RunNetwork(DigitData data, string strategy, double rate, long seed, int steps, TrialLog log)
    {
        (Examples Train, Examples Test) examples = data.Binarized;
        Sequential<float> network = Networks.Perceptron<float>(
            examples.Train.Size, 100, 3,
            strategy == Constants ? () => new DetachedBatchNorm<float>() : () => Networks.Normalizer<float>("batch-norm", new StrategySettings()),
            () => new Sigmoid<float>(), new RandomStream(seed, Id, "weights"), Deviation, biases: true);
        Parameter<float>[] before = [.. network.Layers.SkipLast(1).OfType<Linear<float>>().SelectMany(layer => layer.Parameters)];
        var training = new Training(network, examples, BatchSize, new RandomStream(seed, Id, "order"));
        double start = Norm(before);
        double sum = 0;
        int since = 0;
        for (int step = 1; step <= steps && training.DivergedAt is null; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            double loss = training.Step(rate);
            double growth = Norm(before) / start;
            if (training.DivergedAt is not null || !double.IsFinite(growth))
            {
                log.Add("train_loss", null, training.Note ?? $"weights were not finite after step {step}", ("rate", rate), ("step", (long)step));
                return;
            }

            (sum, since) = (sum + loss, since + 1);
            if (Checkpoints.IsOne(step) || step == steps)
            {
                log.Add("train_loss", sum / since, null, ("rate", rate), ("step", (long)step));
                log.Add("weight_growth", growth, null, ("rate", rate), ("step", (long)step));
                (sum, since) = (0, 0);
            }
        }
    }

    private static double Norm(Parameter<float>[] parameters) => Math.Sqrt(parameters.Sum(parameter => (double)System.Numerics.Tensors.TensorPrimitives.SumOfSquares<float>(parameter.Values)));
}
