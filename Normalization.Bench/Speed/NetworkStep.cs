using System.Diagnostics;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Speed;

/// <summary>Our training step of a case: forward, loss, backward and plain gradient descent on one batch.</summary>
internal sealed class NetworkStep
{
    private readonly Sequential<float> _network;
    private readonly Activations<float> _input = new();
    private readonly SoftmaxCrossEntropy<float> _loss = new();
    private readonly Sgd<float> _optimizer;

    /// <param name="planned">The case.</param>
    /// <param name="seed">Where weights and batch come from.</param>
    public NetworkStep(NetworkCase planned, long seed)
    {
        _network = planned.Create(seed);
        var random = new RandomStream(seed, "networks", "batch");
        foreach (ref float value in _input.Resize(planned.Shape).Values)
        {
            value = (float)random.NextGaussian();
        }

        Labels = [.. Enumerable.Range(0, (int)planned.Shape.Samples).Select(_ => (byte)random.NextInt32(10))];
        _network.Forward(_input, training: false); // so that normalizers, and their parameters, are there
        Parameters = [.. _network.Parameters];
        _optimizer = new Sgd<float>(Parameters);
    }

    /// <summary>The batch, in memory's order.</summary>
    public ReadOnlySpan<float> Input => _input.Values;

    /// <summary>Its classes, of ten.</summary>
    public byte[] Labels { get; }

    /// <summary>All that the step moves, layer by layer.</summary>
    public IReadOnlyList<Parameter<float>> Parameters { get; }

    /// <summary>One step.</summary>
    public void Run(double rate)
    {
        _loss.Forward(_network.Forward(_input, training: true), Labels);
        _network.Backward(_loss.Gradient, wantsInput: false);
        _optimizer.Step(rate);
    }

    /// <summary>Seconds that a number of steps take.</summary>
    public double Seconds(int steps)
    {
        long began = Stopwatch.GetTimestamp();
        for (int step = 0; step < steps; step++)
        {
            Run(NetworkBench.Rate);
        }

        return Stopwatch.GetElapsedTime(began).TotalSeconds;
    }
}
