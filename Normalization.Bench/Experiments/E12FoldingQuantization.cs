using System.Numerics.Tensors;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E12: RepVGG's branches folded into one convolution, and its weights in few bits: Ding et al. 2021, Chu et al. 2022.</summary>
internal sealed class E12FoldingQuantization : Experiment
{
    private const string Tensor = "per-tensor";
    private const string Channel = "per-channel";
    private const string TensorScaled = "per-tensor-heterogeneous";
    private const string ChannelScaled = "per-channel-heterogeneous";
    private const double Rate = 0.05;
    private const double Momentum = 0.9;
    private const double Spread = 2;
    private const int BatchSize = 64;
    private const int TestBatch = 250;
    private const long FloatBits = 32;
    private static readonly long[] Bits = [8, 6, 4];
    private static readonly (int Channels, int Stride)[] Plan = [(16, 2), (16, 1), (32, 2), (32, 1)];

    public override string Id => "E12";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Tensor, "one scale a weight tensor"), (Channel, "one scale an output channel"),
        (TensorScaled, "one scale a weight tensor, after the channels of a layer were rescaled"), (ChannelScaled, "one scale an output channel, after the channels of a layer were rescaled"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Folding, then weights of few bits",
        "Is a network of normalized branches one plain convolution a block in inference, do weights of 8 bits then do, and do they still where channels differ in scale? Ding et al. 2021, arXiv:2101.03697; Chu et al. 2022, arXiv:2212.01593.",
        [
            "RepVGG blocks (3 x 3, 1 x 1 and, with stride 1, the input; each with batch norm) of 16, 16, 32 and 32 channels, strides 2, 1, 2, 1, each followed by ReLU, then a linear layer over all positions;",
            $"standardized images, {Examples(scale)} for training, {Epochs(scale)} epochs of batches of {BatchSize}, gradient descent with momentum {Momentum}, rate {Rate};",
            "weights of b bits: w becomes s * round(w / s) with s = max|w| / (2^(b - 1) - 1); biases and activations stay float; 32 bits are the float network.",
            $"Heterogeneous: channel c of the third block is multiplied by exp(N(0, {Spread}^2)) and its weights in the fourth divided by it, which ReLU lets through: the same function.",
        ],
        [new("Test accuracy against the bits of the weights", "test_accuracy", "bits", "bits of a weight", LogX: true)],
        [
            new ExperimentClaim
            {
                Id = "folding-exact",
                Text = "The folded network's logits differ by less than 1e-5",
                Left = new(Tensor, "fold_difference"),
                Over = ClaimOver.Greatest,
                Above = false,
                Threshold = 1e-5,
                Exact = true,
                Published = "the same by construction (RepVGG)",
            },
            new ExperimentClaim
            {
                Id = "folding-exact-to-rounding",
                Text = "The folded network's logits differ by less than 1e-6 of the largest logit",
                Left = new(Tensor, "fold_difference_relative"),
                Over = ClaimOver.Greatest,
                Above = false,
                Threshold = 1e-6,
                Exact = true,
                Published = "the same by construction; the threshold is what folding is held to everywhere in this project, in float",
            },
            new ExperimentClaim
            {
                Id = "eight-bits-lossless",
                Text = "8 bits with one scale a tensor cost less than half a point of accuracy",
                Left = new(Tensor, "test_accuracy", With("bits", FloatBits)),
                Right = new(Tensor, "test_accuracy", With("bits", 8L)),
                Above = false,
                Threshold = 0.005,
                Published = "QARepVGG-A0, made for it, has 70.4 % in INT8 on ImageNet, activations quantized too",
            },
            new ExperimentClaim
            {
                Id = "heterogeneous-collapse",
                Text = "The same network with channels of different scales loses more than 20 points more at 8 bits with one scale a tensor",
                Left = new(Tensor, "test_accuracy", With("bits", 8L)),
                Right = new(TensorScaled, "test_accuracy", With("bits", 8L)),
                Threshold = 0.2,
                Published = "RepVGG-A0 on ImageNet: 52.2 % in INT8 where QARepVGG-A0 has 70.4 %; there the scales come from training, here they are drawn",
            },
        ]);

    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(strategy.Id, seed, Examples(scale) * Epochs(scale) * 2e-4, log => Run(data, strategy.Id, seed, scale, log));

    private static int Examples(ExperimentScale scale) => scale.Quick ? 2000 : 8000;

    private static int Epochs(ExperimentScale scale) => scale.Quick ? 3 : 5;

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples train, Examples test) = data.Standardized;
        train = train.Take(Math.Min(train.Count, Examples(scale)));
        Sequential<float> network = Create(train, new RandomStream(seed, Id, "weights"));
        var training = new Training(network, (train, test), BatchSize, new RandomStream(seed, Id, "order"), new TrainingOptions { IsConvolutional = true, Momentum = Momentum });
        int steps = train.Count / BatchSize * Epochs(scale);
        for (int step = 0; step < steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            training.Step(Rate);
        }

        log.Add("test_accuracy", training.TestAccuracy(), training.Note, ("bits", FloatBits));
        if (training.DivergedAt is not null)
        {
            return;
        }

        Sequential<float> folded = Fold(network);
        if (strategy is TensorScaled or ChannelScaled)
        {
            Rescale(folded, new RandomStream(seed, Id, "scales"));
        }

        (double difference, double logit) = Difference(network, folded, test);
        log.Add("fold_difference", difference);
        log.Add("fold_difference_relative", difference / logit);
        float[][] weights = [.. Weights(folded).Select(weight => (float[])weight.Values.Clone())];
        foreach (long bits in Bits)
        {
            foreach ((Parameter<float> weight, float[] original) in Weights(folded).Zip(weights))
            {
                original.CopyTo(weight.Values, 0);
                int run = strategy is Tensor or TensorScaled ? original.Length : original.Length / (int)weight.Shape[0];
                for (int first = 0; first < original.Length; first += run)
                {
                    Quantize(weight.Values.AsSpan(first, run), (int)bits);
                }
            }

            // Never trained: it only tests.
            var tested = new Training(folded, (test, test), 1, new RandomStream(seed, Id, "order"), new TrainingOptions { IsConvolutional = true });
            log.Add("test_accuracy", tested.TestAccuracy(), null, ("bits", bits));
        }
    }

    /// <summary>Rounds weights to the nearest of 2^bits - 1 multiples of one scale, symmetric about 0, the largest weight staying as it is.</summary>
    /// <param name="weights">All that share the scale, in place.</param>
    /// <param name="bits">At least 2.</param>
    internal static void Quantize(Span<float> weights, int bits)
    {
        float scale = Math.Abs(TensorPrimitives.MaxMagnitude<float>(weights)) / ((1 << (bits - 1)) - 1);
        for (int i = 0; i < weights.Length && scale > 0; i++)
        {
            weights[i] = scale * MathF.Round(weights[i] / scale);
        }
    }

    private static Sequential<float> Create(Examples examples, RandomStream random)
    {
        var layers = new List<Layer<float>>();
        (int channels, int height, int width) = (1, examples.Height, examples.Width);
        foreach ((int outputs, int stride) in Plan)
        {
            layers.AddRange([new RepVggBlock<float>(channels, outputs, stride, () => Networks.Normalizer<float>("batch-norm", new StrategySettings()), random), new Relu<float>()]);
            (channels, height, width) = (outputs, ((height - 1) / stride) + 1, ((width - 1) / stride) + 1);
        }

        return new Sequential<float>([.. layers, new Linear<float>(channels * height * width, 10, random)]);
    }

    // The last layer is a copy: its weights will be rounded.
    private static Sequential<float> Fold(Sequential<float> network)
    {
        foreach (INormalizer<float> normalizer in network.Normalizers)
        {
            normalizer.Training = false;
        }

        Parameter<float>[] last = [.. network.Layers[^1].Parameters];
        var linear = new Linear<float>((int)last[0].Shape[1], (int)last[0].Shape[0], new RandomStream(0));
        foreach ((Parameter<float> to, Parameter<float> from) in linear.Parameters.Zip(last))
        {
            from.Values.CopyTo(to.Values, 0);
        }

        return new Sequential<float>([.. network.Layers.SkipLast(1).Select<Layer<float>, Layer<float>>(layer => layer is RepVggBlock<float> block ? block.Fold() : new Relu<float>()), linear]);
    }

    // From the third convolution to the fourth; weights are (outputs, k, k, channels).
    private static void Rescale(Sequential<float> folded, RandomStream random)
    {
        Conv2d<float>[] convolutions = [.. folded.Layers.OfType<Conv2d<float>>()];
        Parameter<float>[] third = [.. convolutions[2].Parameters];
        float[] next = convolutions[3].Parameters.First().Values;
        int channels = third[1].Values.Length;
        int row = third[0].Values.Length / channels;
        for (int c = 0; c < channels; c++)
        {
            float factor = (float)Math.Exp(Spread * random.NextGaussian());
            Span<float> weights = third[0].Values.AsSpan(c * row, row);
            TensorPrimitives.Multiply(weights, factor, weights);
            third[1].Values[c] *= factor;
            for (int i = c; i < next.Length; i += channels)
            {
                next[i] /= factor;
            }
        }
    }

    private static IEnumerable<Parameter<float>> Weights(Layer<float> network) => network.Parameters.Where(parameter => parameter.Name == "weight");

    private static (double Difference, double Logit) Difference(Layer<float> first, Layer<float> second, Examples examples)
    {
        var batch = new Activations<float>();
        double largest = 0;
        double logit = 0;
        for (int at = 0; at < examples.Count; at += TestBatch)
        {
            int count = Math.Min(TestBatch, examples.Count - at);
            batch.Resize(new ActivationShape(count, 1, examples.Height, examples.Width));
            examples.Pixels.AsSpan(at * examples.Size, count * examples.Size).CopyTo(batch.Values);
            ReadOnlySpan<float> a = first.Forward(batch, training: false).Values;
            ReadOnlySpan<float> b = second.Forward(batch, training: false).Values;
            for (int i = 0; i < a.Length; i++)
            {
                largest = Math.Max(largest, Math.Abs(a[i] - b[i]));
                logit = Math.Max(logit, Math.Abs(a[i]));
            }
        }

        return (largest, logit);
    }
}
