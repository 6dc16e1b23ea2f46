using System.Numerics.Tensors;
using Normalization.Bench.Models;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E16: what normalization forgives of the initialization's scale and of depth, and what it does to gradients on the way.</summary>
internal sealed class E16Initialization : Experiment
{
    private const string Plain = "none";
    private const string BatchNorm = "batch-norm";
    private const string LayerNorm = "layer-norm";
    private const double Rate = 0.05;
    private const int BatchSize = 128;
    private const int Width = 100;
    private const int UsualDepth = 5;
    private const int Deep = 50;
    private const int Watched = 500;
    private const int Tested = 2000;
    private static readonly int[] Depths = [2, 5, 10, 20, Deep];

    /// <summary>The factor by which a layer of batch norm and ReLU enlarges the squared gradient on its way back, in infinitely wide layers.</summary>
    private static readonly double Explosion = Math.PI / (Math.PI - 1);

    public override string Id => "E16";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
        [(Plain, "no normalization, biases from 0"), (BatchNorm, "before each ReLU"), (LayerNorm, "before each ReLU, over the units of a sample")];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Initialization scale and depth",
        "Does normalization free training from the scale of the initial weights (Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.3) and from He's rule for it (He et al. 2015, arXiv:1502.01852), and what does it do to gradients in deep networks without shortcuts (Yang et al. 2019, arXiv:1902.08129)?",
        [
            $"784-depth x {Width}-10, ReLU, standardized images; all weights Gaussian with scale x sqrt(2 / inputs), 1 is He's;",
            $"scales {string.Join(", ", Scales(scale))} at {UsualDepth} hidden layers; depths {string.Join(", ", Depths)} at He's scale;",
            $"plain gradient descent, rate {Rate} for all, batches of {BatchSize}, {Steps(scale)} steps; the first {Tested} test images;",
            $"dead ReLUs and gradients of the {Deep}-layer network before training: one pass in training mode over the first {Watched} training images. A ReLU is dead that passes none of them.",
        ],
        [
            new("Test accuracy against the initialization's scale", "test_accuracy", "init_scale", "weights over He's", LogX: true),
            new("Test accuracy against depth", "test_accuracy", "depth", "hidden layers", LogX: true),
            new($"Gradient of each layer's weights before training, {Deep} layers", "layer_gradient_norm", "layer", "hidden layer, from the input", LogY: true),
            new($"Dead ReLUs of each layer before training, {Deep} layers", "dead_relu_share", "layer", "hidden layer, from the input"),
            new("Dead ReLUs after training", "dead_relu_share", "init_scale", "weights over He's", LogX: true),
        ],
        [
            Beats("trains-from-small-weights", "At a hundredth of He's scale", "init_scale", 0.01, 0.5, "that training without normalization fails there follows from the product of layers: gradients of 1e-10 times He's"),
            Beats("trains-from-large-weights", "At 10 times He's scale", "init_scale", 10.0, 0.5, "that training without normalization fails there follows from the product of layers: logits of 1e6 times He's"),
            Near("small-weights-cost-nothing", "a hundredth of He's scale", 0.01),
            Near("large-weights-cost-nothing", "10 times He's scale", 10.0),
            Beats("helps-at-50-layers", $"At {Deep} layers and He's scale", "depth", (long)Deep, 0.1, "none; that batch norm makes deep networks trainable is common knowledge, and at this depth without shortcuts disputed by the next claim"),
            new ExperimentClaim
            {
                Id = "50-layers-cost",
                Text = $"Batch norm does not train everything: at {Deep} layers it loses more than 10 points of its accuracy at {UsualDepth}",
                Left = new(BatchNorm, "test_accuracy", With("depth", (long)UsualDepth)),
                Right = new(BatchNorm, "test_accuracy", With("depth", (long)Deep)),
                Threshold = 0.1,
                Published = "Yang et al. 2019: deep networks with batch norm and without shortcuts do not train, in figures; 10 points are ours",
            },
            Predicted(BatchNorm, "With batch norm gradients explode on their way back: the squared norm grows by pi / (pi - 1) = 1.467 a layer, to 0.1", "pi / (pi - 1), of infinitely wide layers and large batches (Yang et al. 2019, arXiv:1902.08129); here 100 units"),
            Predicted(Plain, "At He's scale without normalization it stays: 1 a layer, to 0.1", "1, of infinitely wide layers (He et al. 2015, arXiv:1502.01852)"),
            Predicted(LayerNorm, "With layer norm it stays: 1 a layer, to 0.1", "1, derived as He's: a layer's variance is 1 with or without the norm"),
            new ExperimentClaim
            {
                Id = "fewer-dead-units",
                Text = $"Before training at {Deep} layers, the share of dead ReLUs without normalization exceeds batch norm's by more than 10 points, on the mean over layers",
                Left = new(Plain, "dead_relu_share", With("at", "start")),
                Right = new(BatchNorm, "dead_relu_share", With("at", "start")),
                Over = ClaimOver.Mean,
                Threshold = 0.1,
                Published = "none; without normalization deep layers see all images alike, so that a unit is on for all or for none, while batch norm centres each unit; 10 points are ours",
            },
        ]);

    // A trial has all scales and depths of a strategy and seed.
    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(strategy.Id, seed, Steps(scale) * 1.2e-2, log => Run(data, strategy.Id, seed, scale, log));

    private static int Steps(ExperimentScale scale) => scale.Quick ? 300 : 1500;

    private static double[] Scales(ExperimentScale scale) => scale.Quick ? [0.01, 0.1, 1, 10] : [0.01, 0.03, 0.1, 0.3, 1, 3, 10];

    private static ExperimentClaim Beats(string id, string where, string parameter, object value, double by, string published) => new()
    {
        Id = id,
        Text = $"{where} test accuracy with batch norm exceeds that without by more than {100 * by:0} points",
        Left = new(BatchNorm, "test_accuracy", With(parameter, value)),
        Right = new(Plain, "test_accuracy", With(parameter, value)),
        Threshold = by,
        Published = published,
    };

    private static ExperimentClaim Near(string id, string where, double value) => new()
    {
        Id = id,
        Text = $"Batch norm's test accuracy at {where} is within 10 points of its own at He's",
        Left = new(BatchNorm, "test_accuracy", With("init_scale", 1.0)),
        Right = new(BatchNorm, "test_accuracy", With("init_scale", value)),
        Above = false,
        Threshold = 0.1,
        Published = "none; the invariance is exact, but a scale a divides the rate by a^2 (E6), which is what 10 points are left for",
    };

    private static ExperimentClaim Predicted(string strategy, string text, string published) => new()
    {
        Id = $"{strategy}-gradients",
        Text = text,
        Left = new(strategy, "gradient_growth_departure"),
        Above = false,
        Threshold = 0.1,
        Published = published,
    };

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples train, Examples test) = data.Standardized;
        test = test.Take(Math.Min(test.Count, Tested));
        LookBeforeTraining(train.Take(Watched));
        foreach (double factor in Scales(scale))
        {
            Train(UsualDepth, factor, ("init_scale", factor));
        }

        foreach (int depth in Depths)
        {
            Train(depth, 1, ("depth", (long)depth));
        }

        Sequential<float> Create(int depth, double factor)
        {
            Sequential<float> network = Networks.Perceptron(
                train.Size, Width, depth, strategy == Plain ? null : strategy, new StrategySettings(), () => new Relu<float>(), new RandomStream(seed, Id, "weights"));
            foreach (Linear<float> layer in network.Layers.OfType<Linear<float>>())
            {
                float[] weight = layer.Parameters.First().Values;
                TensorPrimitives.Multiply(weight, (float)factor, weight);
            }

            return network;
        }

        void Train(int depth, double factor, (string, object) parameter)
        {
            Sequential<float> network = Create(depth, factor);
            var training = new Training(network, (train, test), BatchSize, new RandomStream(seed, Id, "order"));
            for (int step = 0; step < Steps(scale); step++)
            {
                log.Cancellation.ThrowIfCancellationRequested();
                training.Step(Rate);
            }

            log.Add("test_accuracy", training.TestAccuracy(), training.Note, parameter);
            double[] dead = DeadShares(network, Batch(train.Take(Watched)), training: false);
            log.Add("dead_relu_share", dead.Average(), training.Note, ("at", "end"), parameter);
        }

        void LookBeforeTraining(Examples images)
        {
            Sequential<float> network = Create(Deep, 1);
            double[] dead = DeadShares(network, Batch(images), training: true);
            var loss = new SoftmaxCrossEntropy<float>();
            loss.Forward(network.Forward(Batch(images), training: true), images.Labels);
            network.Backward(loss.Gradient, wantsInput: false);
            double[] norms = [.. network.Layers.OfType<Linear<float>>().Take(Deep).Select(layer => (double)TensorPrimitives.Norm<float>(layer.Parameters.First().Gradient))];
            for (int layer = 0; layer < Deep; layer++)
            {
                log.Add("layer_gradient_norm", norms[layer], null, ("layer", layer + 1L));
                log.Add("dead_relu_share", dead[layer], null, ("at", "start"), ("layer", layer + 1L));
            }

            // From the second layer on weights have one shape.
            double growth = Math.Pow(norms[1] / norms[^1], 2.0 / (Deep - 2));
            log.Add("gradient_growth", growth);
            log.Add("gradient_growth_departure", Math.Abs(growth - (strategy == BatchNorm ? Explosion : 1)));
        }
    }

    private static Activations<float> Batch(Examples images)
    {
        Activations<float> batch = new Activations<float>().Resize(new(images.Count, images.Size));
        images.Pixels.CopyTo(batch.Values);
        return batch;
    }

    // Layer by layer, the share of ReLUs that pass no sample.
    private static double[] DeadShares(Sequential<float> network, Activations<float> batch, bool training)
    {
        var shares = new List<double>();
        foreach (Layer<float> layer in network.Layers)
        {
            batch = layer.Forward(batch, training);
            if (layer is Relu<float>)
            {
                int units = batch.Features;
                var alive = new bool[units];
                for (int i = 0; i < batch.Values.Length; i++)
                {
                    alive[i % units] |= batch.Values[i] > 0;
                }

                shares.Add(alive.Count(lives => !lives) / (double)units);
            }
        }

        return [.. shares];
    }
}
