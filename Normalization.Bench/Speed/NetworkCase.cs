using Normalization.Bench.Experiments;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;

namespace Normalization.Bench.Speed;

/// <summary>A training step of a whole network, to be timed beside PyTorch's.</summary>
/// <param name="Network"><see cref="Perceptron"/> or <see cref="Convolutional"/>.</param>
/// <param name="Strategy">The normalization: batch-norm, or none (and biases in its place).</param>
/// <param name="Threads">Threads of both.</param>
internal sealed record NetworkCase(string Network, string Strategy, int Threads)
{
    /// <summary>784-100-100-100-10, sigmoid: the network of Ioffe and Szegedy 2015, section 4.1, batches of 60.</summary>
    public const string Perceptron = "sigmoid-perceptron";

    /// <summary>Convolutions of 3 x 3 to 16, 32, 32 and 64 channels with strides 1, 2, 1, 2 on 28 x 28, ReLU, the mean over positions, batches of 32.</summary>
    public const string Convolutional = "convolutional";

    /// <summary>Every case on so many threads.</summary>
    public static IReadOnlyList<NetworkCase> On(int threads) =>
    [
        new(Perceptron, "batch-norm", threads), new(Perceptron, "none", threads),
        new(Convolutional, "batch-norm", threads), new(Convolutional, "none", threads),
    ];

    /// <summary>The permanent id, such as networks/convolutional/batch-norm/2.</summary>
    public string Id => FormattableString.Invariant($"networks/{Network}/{Strategy}/{Threads}");

    /// <summary>The batch.</summary>
    public ActivationShape Shape => Network == Perceptron ? new(60, 784) : new(32, 1, 28, 28);

    /// <summary>How many times PyTorch's speed was asked for.</summary>
    public double Asked => Network == Perceptron ? 2 : 0.8;

    /// <summary>What identifies the case's rows.</summary>
    public IReadOnlyDictionary<string, object> Parameters => new Dictionary<string, object>(StringComparer.Ordinal)
    {
        ["network"] = Network,
        ["shape"] = Shape.ToString(),
        ["direction"] = "training-step",
        ["threads"] = (long)Threads,
        ["asked"] = Asked,
        ["engine"] = "interleaved",
    };

    /// <summary>A fresh network; the same weights for a seed.</summary>
    public Sequential<float> Create(long seed)
    {
        string? strategy = Strategy == "none" ? null : Strategy;
        var random = new RandomStream(seed, "networks", "weights");
        return Network == Perceptron
            ? Networks.Perceptron((int)(Shape.Count / Shape.Samples), 100, 3, strategy, new StrategySettings(), () => new Sigmoid<float>(), random)
            : Networks.Convolutional<float>([(16, 1), (32, 2), (32, 1), (64, 2)], strategy, new StrategySettings(), random);
    }
}
