using System.Numerics.Tensors;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E5: the loss along the direction of a step, with and without batch norm: Santurkar, Tsipras, Ilyas and Madry 2018.</summary>
internal sealed class E5LossLandscape : Experiment
{
    private const string Plain = "none";
    private const string BatchNorm = "batch-norm";
    private const string Noisy = "batch-norm-noisy";
    private const double Rate = 0.1;
    private const int BatchSize = 128;
    private const int Width = 64;
    private const int Depth = 8;
    private const int Every = 10;
    private const int Windows = 20;

    public override string Id => "E5";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Plain, "no normalization, biases"), (BatchNorm, "before each ReLU"),
        (Noisy, "batch norm, then noise: in each step each unit has a shift about a centre in [-0.5, 0.5] and a scale about a centre in [1, 1.25], drawn anew; inference takes the noise's mean"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Loss landscape and gradient predictiveness",
        "Does batch normalization make the loss smoother along the steps that training takes, and is it that, rather than the distribution staying in place, that helps? Santurkar, Tsipras, Ilyas and Madry 2018, arXiv:1805.11604, sections 2 and 3, figures 2 and 4.",
        [
            $"784-{Depth} x {Width}-10, ReLU, He's initialization, softmax cross-entropy; standardized images;",
            $"plain gradient descent, rate {Rate}, batches of {BatchSize}, {Steps(scale)} steps;",
            $"at every {Every}th step the loss and gradient of the step's batch are computed anew at 8 points, 0.5, 1, ... 4 times the step ahead, statistics of the batch; nothing of that enters training;",
            "of noisy batch norm the step's noise is held at these points; the range of distances is the specification's (the paper's is not known to us).",
        ],
        [
            new("Least and greatest loss ahead of a step", "probe_loss", "step", "step", LogX: true, LogY: true),
            new("Change of the gradient ahead of a step", "gradient_distance", "step", "step", LogX: true, LogY: true),
            new("Relative change of the gradient", "gradient_change", "step", "step", LogX: true, LogY: true),
            new("Effective smoothness", "effective_beta", "step", "step", LogX: true, LogY: true),
        ],
        [
            Share("band-mean", "The band of the loss with batch norm is at most a fifth of that without, on the mean over training", "loss_band_mean", 0.2, "figure 4(a), VGG on CIFAR-10: a band far narrower throughout, no table"),
            Share("band-median", "The band of the loss with batch norm is at most a fifth of that without at the median step too", "loss_band_median", 0.2, "figure 4(a), VGG on CIFAR-10: no table"),
            Share("gradient-change", "The relative change of the gradient is smaller with batch norm, on the mean over training", "gradient_change_mean", 1, "figure 4(b), VGG on CIFAR-10, of the absolute change: smaller throughout, no table"),
            Share("effective-beta", "The effective smoothness constant is smaller with batch norm, on the mean over training", "effective_beta_mean", 1, "figure 4(c), VGG on CIFAR-10: smaller throughout, no table"),
            new ExperimentClaim
            {
                Id = "noisy-trains",
                Text = "With noise after batch norm test accuracy is within 3 points of batch norm's",
                Left = new(BatchNorm, "test_accuracy"),
                Right = new(Noisy, "test_accuracy"),
                Above = false,
                Threshold = 0.03,
                Published = "figure 2, VGG on CIFAR-10: nearly the same curve, no table; 3 points are ours",
            },
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in new[] { Plain, BatchNorm, Noisy }
        from seed in Seeds(scale)
        select new Trial(strategy, seed, Steps(scale) * 1.5e-3, log => Run(data, strategy, seed, Steps(scale), log));

    private static int Steps(ExperimentScale scale) => scale.Quick ? 600 : 3000;

    // With batch norm over without: the other way round a seed whose band is very wide without would widen the interval as well.
    private static ExperimentClaim Share(string id, string text, string metric, double threshold, string published) => new()
    {
        Id = id,
        Text = text,
        Left = new(BatchNorm, metric),
        Right = new(Plain, metric),
        Combination = ClaimCombination.Ratio,
        Above = false,
        Threshold = threshold,
        Published = published,
    };

    private void Run(DigitData data, string strategy, long seed, int steps, TrialLog log)
    {
        (Examples Train, Examples Test) examples = data.Standardized;
        var noises = new List<BatchNoise<float>>();
        var noise = new RandomStream(seed, Id, "noise");
        Sequential<float> network = Networks.Perceptron(
            examples.Train.Size, Width, Depth, strategy == Plain ? null : BatchNorm, new StrategySettings(), Activation, new RandomStream(seed, Id, "weights"));
        var training = new Training(network, examples, BatchSize, new RandomStream(seed, Id, "order"));
        var landscape = new Landscape(network, Rate);
        var seen = new List<View>();
        int window = steps / Every / Windows;
        for (int step = 1; step <= steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            training.Gradients();
            if (training.DivergedAt is not null)
            {
                break;
            }

            if (step % Every == 0)
            {
                noises.ForEach(layer => layer.Held = true);
                seen.Add(landscape.LookAhead(training.Batch.Images, training.Batch.Labels));
                noises.ForEach(layer => layer.Held = false);
                if (seen.Count % window == 0)
                {
                    Chart(seen[^window..], step);
                }
            }

            training.Update(Rate);
        }

        Add("loss_band_mean", seen.Count > 0 ? seen.Average(view => view.Band) : null);
        Add("loss_band_median", seen.Count > 0 ? Checkpoints.Percentile([.. seen.Select(view => view.Band)], 50) : null);
        Add("gradient_change_mean", seen.Count > 0 ? seen.Average(view => view.RelativeChange) : null);
        Add("effective_beta_mean", seen.Count > 0 ? seen.Average(view => view.Beta) : null);
        Add("test_accuracy", training.TestAccuracy());

        Layer<float> Activation()
        {
            if (strategy != Noisy)
            {
                return new Relu<float>();
            }

            noises.Add(new BatchNoise<float>(noise));
            return new Sequential<float>(noises[^1], new Relu<float>());
        }

        void Add(string metric, double? value) => log.Add(metric, value, training.Note);

        void Chart(List<View> views, long step)
        {
            log.Add("probe_loss", views.Average(view => view.Least), null, ("edge", "least"), ("step", step));
            log.Add("probe_loss", views.Average(view => view.Greatest), null, ("edge", "greatest"), ("step", step));
            log.Add("gradient_distance", views.Average(view => view.Change), null, ("step", step));
            log.Add("gradient_change", views.Average(view => view.RelativeChange), null, ("step", step));
            log.Add("effective_beta", views.Average(view => view.Beta), null, ("step", step));
        }
    }
}

/// <summary>What lies ahead of one step, over all distances looked at.</summary>
/// <param name="Least">The least loss.</param>
/// <param name="Greatest">The greatest; infinite where a loss was not finite.</param>
/// <param name="Change">The greatest Euclidean distance between the gradient there and here.</param>
/// <param name="RelativeChange">The same over the gradient's norm here.</param>
/// <param name="Beta">The greatest ratio of the gradient's change to the way gone.</param>
internal readonly record struct View(double Least, double Greatest, double Change, double RelativeChange, double Beta)
{
    /// <summary>The width of the band that the loss takes.</summary>
    public double Band => Greatest - Least;
}

/// <summary>Looks along the negative gradient and leaves the network as it was: parameters, gradients, running statistics.</summary>
/// <param name="network">After a forward pass, so that its parameters are there.</param>
/// <param name="rate">eta: a step is eta times the gradient.</param>
internal sealed class Landscape(Layer<float> network, double rate)
{
    /// <summary>The distances, in steps.</summary>
    private static readonly double[] Distances = [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4];

    private readonly Parameter<float>[] _parameters = [.. network.Parameters];
    private readonly StateBuffer<float>[] _buffers = [.. network.Normalizers.SelectMany(normalizer => normalizer.Buffers)];
    private readonly SoftmaxCrossEntropy<float> _loss = new();

    /// <summary>Loss and gradient at each distance, on one batch in training mode.</summary>
    /// <param name="images">The batch whose gradient the parameters hold.</param>
    /// <param name="labels">Its labels.</param>
    public View LookAhead(Activations<float> images, byte[] labels)
    {
        float[][] values = [.. _parameters.Select(parameter => (float[])parameter.Values.Clone())];
        float[][] gradients = [.. _parameters.Select(parameter => (float[])parameter.Gradient.Clone())];
        (float[] Values, long Count)[] state = [.. _buffers.Select(buffer => ((float[])buffer.Values.Clone(), buffer.Count))];
        double norm = Norm(gradients, i => TensorPrimitives.Norm<float>(gradients[i]));
        var view = new View(double.PositiveInfinity, double.NegativeInfinity, 0, 0, 0);
        foreach (double distance in Distances)
        {
            for (int i = 0; i < values.Length; i++)
            {
                TensorPrimitives.MultiplyAdd(gradients[i], (float)(-rate * distance), values[i], _parameters[i].Values);
                Array.Clear(_parameters[i].Gradient);
            }

            double loss = _loss.Forward(network.Forward(images, training: true), labels);
            network.Backward(_loss.Gradient, wantsInput: false);
            double change = Norm(gradients, i => TensorPrimitives.Distance<float>(_parameters[i].Gradient, gradients[i]));
            loss = double.IsFinite(loss) ? loss : double.PositiveInfinity;
            change = double.IsFinite(change) ? change : double.PositiveInfinity;

            // A gradient of 0 leads nowhere, so nothing changes.
            view = new View(
                Math.Min(view.Least, loss), Math.Max(view.Greatest, loss), Math.Max(view.Change, change),
                norm > 0 ? Math.Max(view.RelativeChange, change / norm) : 0, norm > 0 ? Math.Max(view.Beta, change / (rate * distance * norm)) : 0);
        }

        for (int i = 0; i < values.Length; i++)
        {
            values[i].CopyTo(_parameters[i].Values, 0);
            gradients[i].CopyTo(_parameters[i].Gradient, 0);
        }

        for (int i = 0; i < state.Length; i++)
        {
            state[i].Values.CopyTo(_buffers[i].Values, 0);
            if (_buffers[i].IsCounter)
            {
                _buffers[i].Count = state[i].Count;
            }
        }

        return view;
    }

    private static double Norm(float[][] parts, Func<int, double> norm) =>
        Math.Sqrt(Enumerable.Range(0, parts.Length).Sum(i => norm(i) * norm(i)));
}
