using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E6: what batch norm makes of the scale of the weights before it, in double: Ioffe and Szegedy 2015, section 3.3.</summary>
internal sealed class E6ScaleInvariance : Experiment
{
    private const string BatchNorm = "batch-norm";
    private const int Samples = 32;
    private const int Inputs = 20;
    private const int Units = 12;
    private const int Steps = 200;
    private const double Rate = 0.1;
    private static readonly double[] Scales = [0.1, 1, 4, 100];

    public override string Id => "E6";

    public override IReadOnlyList<(string Id, string Options)> Strategies => [(BatchNorm, "without weight and bias; epsilon 0, then 1e-5")];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Weight-scale invariance",
        "Behind batch norm, does the output not depend on the scale of the weights, their gradient fall with it and stand at right angles to them, so that plain gradient descent only lets them grow? Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.3; the growth is van Laarhoven's and others'.",
        [
            $"a linear layer of {Inputs} inputs and {Units} units, batch norm without weight and bias, {Samples} Gaussian samples, double;",
            $"loss 1/2 |y - t|^2 / N with Gaussian t; scales {string.Join(", ", Scales)}; growth over {Steps} steps of rate {Rate}, epsilon 0.",
        ],
        [new("Gradient against the scale of the weights", "gradient_norm", "scale", "factor of the weights", LogX: true, LogY: true)],
        [
            Exact("scale-law", "With epsilon 0 outputs and a * gradient(a W) do not depend on a", "scale_law_error", 1e-9),
            Exact("orthogonal", "With epsilon 0 each unit's gradient is orthogonal to its weights", "orthogonality_error", 1e-9),
            Exact("growth", "Under gradient descent the squared norm of the weights grows by exactly the squared steps", "growth_error", 1e-9),
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from seed in Seeds(scale) select new Trial(BatchNorm, seed, 0.1, log => Run(seed, log));

    private static ExperimentClaim Exact(string id, string text, string metric, double limit) => new()
    {
        Id = id,
        Text = text,
        Left = new(BatchNorm, metric),
        Over = ClaimOver.Greatest,
        Above = false,
        Threshold = limit,
        Exact = true,
        Published = "derived, not measured; the threshold is rounding's",
    };

    private void Run(long seed, TrialLog log)
    {
        var random = new RandomStream(seed, Id);
        Activations<double> input = Gaussian(Inputs);
        double[] targets = Gaussian(Units).Values.ToArray();
        double[]? outputs = null;
        double[]? gradients = null;
        double law = 0;
        foreach (double scale in Scales)
        {
            foreach (double epsilon in new[] { 0, 1e-5 })
            {
                (Sequential<double> network, Parameter<double> weight) = Create(seed, epsilon);
                System.Numerics.Tensors.TensorPrimitives.Multiply(weight.Values, scale, weight.Values);
                double[] y = Step(network);
                double[] gradient = weight.Gradient;
                log.Add("gradient_norm", Norm(gradient), null, ("scale", scale), ("epsilon", epsilon));
                if (epsilon != 0)
                {
                    continue;
                }

                if (scale == 1)
                {
                    (outputs, gradients) = (y, (double[])gradient.Clone());
                    log.Add("orthogonality_error", Enumerable.Range(0, Units).Max(unit => Along(gradient, weight.Values, unit)));
                }
            }
        }

        foreach (double scale in Scales)
        {
            (Sequential<double> network, Parameter<double> weight) = Create(seed, 0);
            System.Numerics.Tensors.TensorPrimitives.Multiply(weight.Values, scale, weight.Values);
            double[] y = Step(network);
            law = Math.Max(law, y.Zip(outputs!, (a, b) => Math.Abs(a - b)).Max() / outputs!.Max(Math.Abs));
            law = Math.Max(law, weight.Gradient.Zip(gradients!, (a, b) => Math.Abs((scale * a) - b)).Max() / gradients!.Max(Math.Abs));
        }

        log.Add("scale_law_error", law);

        (Sequential<double> descending, Parameter<double> weights) = Create(seed, 0);
        var optimizer = new Sgd<double>(descending.Parameters);
        double start = Square(weights.Values);
        double steps = 0;
        for (int step = 0; step < Steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            Step(descending);
            steps += Rate * Rate * Square(weights.Gradient);
            optimizer.Step(Rate);
        }

        log.Add("growth_error", Math.Abs(Square(weights.Values) - start - steps) / Square(weights.Values));

        Activations<double> Gaussian(int features)
        {
            Activations<double> values = new Activations<double>().Resize(new ActivationShape(Samples, features));
            random.FillGaussian(values.Values);
            return values;
        }

        double[] Step(Sequential<double> network)
        {
            Activations<double> y = network.Forward(input, training: true);
            Activations<double> gradient = new Activations<double>().Resize(y.Shape);
            for (int i = 0; i < targets.Length; i++)
            {
                gradient.Values[i] = (y.Values[i] - targets[i]) / Samples;
            }

            network.Backward(gradient, wantsInput: false);
            return y.Values.ToArray();
        }
    }

    private (Sequential<double> Network, Parameter<double> Weight) Create(long seed, double epsilon)
    {
        var linear = new Linear<double>(Inputs, Units, new RandomStream(seed, Id, "weights"), bias: false);
        var settings = new StrategySettings { Epsilon = epsilon, Weight = false, Bias = false };
        return (new Sequential<double>(linear, Networks.Normalizer<double>(BatchNorm, settings)), linear.Parameters.Single());
    }

    private static double Along(double[] gradient, double[] weights, int unit)
    {
        double[] g = gradient[(unit * Inputs)..((unit + 1) * Inputs)];
        double[] w = weights[(unit * Inputs)..((unit + 1) * Inputs)];
        return Math.Abs(g.Zip(w, (a, b) => a * b).Sum()) / (Norm(g) * Norm(w));
    }

    private static double Square(double[] values) => values.Sum(value => value * value);

    private static double Norm(double[] values) => Math.Sqrt(Square(values));
}
