using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E9: the variance that dropout shifts between training and inference, Li, Chen, Hu and Yang 2018.</summary>
internal sealed class E9DropoutShift : Experiment
{
    private const string None = "no-dropout";
    private const string Before = "dropout-before-every-bn";
    private const string After = "dropout-after-last-bn";
    private const string Formulas = "formulas";
    private const double Keep = 0.5;
    private const double Rate = 0.05;
    private const double Momentum = 0.9;
    private const int BatchSize = 64;
    private const int Width = 128;
    private const int Depth = 3;
    private const int Inputs = 10;
    private const int Samples = 50;
    private static readonly double[] FormulaKeeps = [0.3, 0.5, 0.9];

    public override string Id => "E9";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (None, "batch norm alone"), (Before, $"dropout, p = {Keep} kept, before the linear layer of every batch norm"),
        (After, $"dropout, p = {Keep} kept, between the last batch norm's ReLU and the last layer"), (Formulas, "the variance behind dropout over every mask, no network"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Dropout before batch norm",
        "Does dropout before batch norm make running variances that inference does not have, more so layer by layer, and is it harmless after the last one? Li, Chen, Hu and Yang 2018, arXiv:1801.05134.",
        [
            $"pixels-{Width}-{Width}-{Width}-10, linear layer, batch norm (epsilon 1e-5, momentum 0.1), ReLU; standardized images, He's initialization;",
            $"inverted dropout, p = {Keep} the probability of being kept; gradient descent with momentum {Momentum}, rate {Rate}, batches of {BatchSize}, {Examples(scale)} training images, {Epochs(scale)} epochs;",
            $"shift: running_var against the variance over all test images in inference. Formulas: {Samples} Gaussian samples of mean 1, {Inputs} inputs, Gaussian weights, double.",
        ],
        [new("Variance shift of each batch norm", "variance_shift", "layer", "batch norm, from the input")],
        [
            new ExperimentClaim
            {
                Id = "shifted-in-every-layer",
                Text = "With dropout before every batch norm the variance shift is above 1.2 in each",
                Left = new(Before, "variance_shift"),
                Threshold = 1.2,
                Published = "in figures, for deep convolutional networks on CIFAR; here a perceptron",
            },
            new ExperimentClaim
            {
                Id = "grows-with-depth",
                Text = "With dropout before every batch norm the variance shift grows from each to the next",
                Left = new(Before, "variance_shift_growth"),
                Threshold = 0,
                Published = "in the same figures",
            },
            new ExperimentClaim
            {
                Id = "not-after-the-last",
                Text = "With dropout only after the last batch norm it is below 1.2 in each",
                Left = new(After, "variance_shift"),
                Above = false,
                Threshold = 1.2,
                Published = "the paper's advice is to drop after all batch norms; accuracy is reported here and not claimed, digits being easy: DenseNet on CIFAR-100 falls from 77.42 % to 68.55 % with dropout 0.5 in each bottleneck",
            },
            new ExperimentClaim
            {
                Id = "formulas",
                Text = "The variance behind dropout is (v + mean^2) / p - mean^2, and behind a linear unit v + (1 - p) / p * sum of w^2 E[x^2]",
                Left = new(Formulas, "variance_formula_error"),
                Over = ClaimOver.Greatest,
                Above = false,
                Threshold = 1e-12,
                Exact = true,
                Published = "derived, not measured; the threshold is rounding's",
            },
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select strategy.Id == Formulas
            ? new Trial(Formulas, seed, 0.01, log => RunFormulas(seed, log))
            : new Trial(strategy.Id, seed, Examples(scale) * Epochs(scale) * 1.2e-5, log => Run(data, strategy.Id, seed, scale, log));

    private static int Examples(ExperimentScale scale) => scale.Quick ? 5000 : 20_000;

    private static int Epochs(ExperimentScale scale) => scale.Quick ? 5 : 10;

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples train, Examples test) = data.Standardized;
        train = train.Take(Math.Min(train.Count, Examples(scale)));
        var weights = new RandomStream(seed, Id, "weights");
        var masks = new RandomStream(seed, Id, "masks");
        var layers = new List<Layer<float>>();
        var norms = new List<(ChannelMoments<float> Input, Normalized<float> Norm)>();
        for (int i = 0; i < Depth; i++)
        {
            if (strategy == Before)
            {
                layers.Add(new Dropout<float>(Keep, masks));
            }

            norms.Add((new ChannelMoments<float>(), Networks.Normalizer<float>("batch-norm", new StrategySettings())));
            layers.AddRange([new Linear<float>(i == 0 ? train.Size : Width, Width, weights, bias: false), norms[i].Input, norms[i].Norm, new Relu<float>()]);
        }

        if (strategy == After)
        {
            layers.Add(new Dropout<float>(Keep, masks));
        }

        var network = new Sequential<float>([.. layers, new Linear<float>(Width, 10, weights)]);
        var training = new Training(network, (train, test), BatchSize, new RandomStream(seed, Id, "order"), new TrainingOptions { Momentum = Momentum });
        int steps = train.Count / BatchSize * Epochs(scale);
        for (int step = 0; step < steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            training.Step(Rate);
        }

        norms.ForEach(norm => norm.Input.Begin());
        log.Add("test_accuracy", training.TestAccuracy(), training.Note, ("keep", Keep));
        if (training.DivergedAt is not null)
        {
            return;
        }

        double last = double.NaN;
        for (int i = 0; i < Depth; i++)
        {
            double[] inference = norms[i].Input.End().PopulationVariance;
            float[] running = norms[i].Norm.Normalizers.Single().Buffers.Single(buffer => buffer.Name == "running_var").Values;
            double shift = inference.Zip(running, (v, stored) => Math.Max(stored / v, v / stored)).Average();
            log.Add("variance_shift", shift, null, ("keep", Keep), ("layer", i + 1L));
            if (i > 0)
            {
                log.Add("variance_shift_growth", shift - last, null, ("keep", Keep), ("layer", i + 1L));
            }

            last = shift;
        }
    }

    // Every mask of ten inputs with its probability: an expectation, not an estimate.
    private void RunFormulas(long seed, TrialLog log)
    {
        var random = new RandomStream(seed, Id);
        double[][] samples = [.. Enumerable.Range(0, Samples).Select(_ => Gaussian(1))];
        double[] weights = Gaussian(0);
        foreach (double keep in FormulaKeeps)
        {
            double mean = samples.Average(x => x[0]);
            double square = samples.Average(x => x[0] * x[0]);
            log.Add("variance_formula_error", Departure(Behind([1]), (square / keep) - (mean * mean)), null, ("formula", "direct"), ("keep", keep));

            double output = samples.Average(x => Dot(x, weights));
            double variance = samples.Average(x => Math.Pow(Dot(x, weights) - output, 2));
            double second = Enumerable.Range(0, Inputs).Sum(i => weights[i] * weights[i] * samples.Average(x => x[i] * x[i]));
            log.Add("variance_formula_error", Departure(Behind(weights), variance + ((1 - keep) / keep * second)), null, ("formula", "linear"), ("keep", keep));

            double Behind(double[] unit)
            {
                double first = 0;
                double secondMoment = 0;
                for (int mask = 0; mask < 1 << unit.Length; mask++)
                {
                    int kept = System.Numerics.BitOperations.PopCount((uint)mask);
                    double probability = Math.Pow(keep, kept) * Math.Pow(1 - keep, unit.Length - kept);
                    double[] dropped = [.. unit.Select((weight, i) => (mask >> i & 1) == 0 ? 0 : weight / keep)];
                    first += probability * samples.Average(x => Dot(x, dropped));
                    secondMoment += probability * samples.Average(x => Math.Pow(Dot(x, dropped), 2));
                }

                return secondMoment - (first * first);
            }
        }

        double[] Gaussian(double mean) => [.. Enumerable.Range(0, Inputs).Select(_ => mean + random.NextGaussian())];
        static double Dot(double[] x, double[] unit) => Enumerable.Range(0, unit.Length).Sum(i => x[i] * unit[i]);
        static double Departure(double actual, double formula) => Math.Abs(actual - formula) / formula;
    }
}
