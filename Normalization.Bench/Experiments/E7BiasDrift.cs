using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Bench.Experiments;

/// <summary>E7: the bias that grows without end when the mean's own gradient is left out, Ioffe and Szegedy 2015, section 2.</summary>
internal sealed class E7BiasDrift : Experiment
{
    private const string Ignored = "mean-as-constant";
    private const string Taken = "mean-differentiated";
    private const int Samples = 64;
    private const int Steps = 200;
    private const double Rate = 0.1;

    public override string Id => "E7";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
        [(Ignored, "x = u + b, xhat = x - mean(x), the mean taken as a constant in the gradient"), (Taken, "the mean differentiated too")];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "The bias that grows when the mean's gradient is ignored",
        "If a layer subtracts its mean and gradient descent does not know it, does the bias before it grow without end while the loss stays as it is? Ioffe and Szegedy 2015, arXiv:1502.03167, section 2.",
        [$"xhat = u + b - mean(u + b) over {Samples} Gaussian u, loss mean((xhat - t)^2) with t = u/2 + 1, b from 0, {Steps} steps of rate {Rate}, double."],
        [new("The bias", "bias_value", "step", "step"), new("The loss", "loss_value", "step", "step")],
        [
            Exact("linear", "With the mean as a constant the bias grows along the straight line predicted", Ignored, "bias_drift_error", 1e-9),
            Exact("loss-constant", "and the loss does not change", Ignored, "loss_change", 1e-9),
            Exact("true-gradient", "With the mean differentiated the bias stays where it is", Taken, "bias_drift_error", 1e-9),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in new[] { Ignored, Taken }
        from seed in Seeds(scale)
        select new Trial(strategy, seed, 0.01, log => Run(strategy, seed, log));

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
}
