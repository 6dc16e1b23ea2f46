using System.Globalization;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Experiments;

/// <summary>A classifier of digits in training: batches in a fresh order every epoch, steps, tests.</summary>
internal sealed class Training
{
    private const int TestBatch = 250;

    private readonly Layer<float> _network;
    private readonly Examples _train;
    private readonly Examples _test;
    private readonly ActivationShape _sample;
    private readonly RandomStream _order;
    private readonly Activations<float> _batch = new();
    private readonly Activations<float> _testBatch = new();
    private readonly SoftmaxCrossEntropy<float> _loss = new();
    private readonly byte[] _labels;
    private readonly Sgd<float> _optimizer;
    private int[] _permutation = [];
    private int _next;

    /// <param name="network">The network.</param>
    /// <param name="examples">What it learns and what it is tested on.</param>
    /// <param name="batchSize">N.</param>
    /// <param name="order">Draws the order of the examples.</param>
    /// <param name="isConvolutional">Whether it takes (N, 1, H, W), else (N, pixels).</param>
    /// <param name="momentum">Of the optimizer.</param>
    /// <param name="weightDecay">Of the optimizer.</param>
    public Training(
        Layer<float> network, (Examples Train, Examples Test) examples, int batchSize, RandomStream order, bool isConvolutional = false,
        double momentum = 0, double weightDecay = 0)
    {
        _network = network;
        (_train, _test) = examples;
        _order = order;
        _sample = isConvolutional ? new ActivationShape(1, 1, _train.Height, _train.Width) : new ActivationShape(1, _train.Size);
        _labels = new byte[batchSize];
        _batch.Resize(_sample.WithSamples(batchSize));
        Draw();
        network.Forward(_batch, training: false); // so that normalizers, and their parameters, are there
        _next = 0;
        _optimizer = new Sgd<float>(network.Parameters, momentum, weightDecay);
    }

    /// <summary>The number of the step after which the loss was no finite number; null where it always was one.</summary>
    public int? DivergedAt { get; private set; }

    /// <summary>Steps taken.</summary>
    public int Steps { get; private set; }

    /// <summary>Clips the gradients' common norm; null, the default, does not.</summary>
    public double? Clip { get; init; }

    /// <summary>What to say beside a number of a network that has diverged.</summary>
    public string? Note => DivergedAt is { } step ? string.Create(CultureInfo.InvariantCulture, $"the loss was not finite at step {step}") : null;

    /// <summary>One step; nothing happens once the network has diverged.</summary>
    /// <param name="rate">The learning rate.</param>
    /// <returns>The batch's loss.</returns>
    public double Step(double rate)
    {
        Steps++;
        if (DivergedAt is not null)
        {
            return double.NaN;
        }

        Draw();
        double loss = _loss.Forward(_network.Forward(_batch, training: true), _labels);
        if (!double.IsFinite(loss))
        {
            DivergedAt = Steps;
            return loss;
        }

        _network.Backward(_loss.Gradient, wantsInput: false);
        if (Clip is { } limit)
        {
            _optimizer.Clip(limit);
        }

        _optimizer.Step(rate);
        return loss;
    }

    /// <summary>The share of the test images that are recognized, in inference; 0 once the network has diverged.</summary>
    public double TestAccuracy()
    {
        int correct = 0;
        for (int first = 0; first < _test.Count && DivergedAt is null; first += TestBatch)
        {
            int count = Math.Min(TestBatch, _test.Count - first);
            _test.Pixels.AsSpan(first * _test.Size, count * _test.Size).CopyTo(_testBatch.Resize(_sample.WithSamples(count)).Values);
            _loss.Forward(_network.Forward(_testBatch, training: false), _test.Labels.AsSpan(first, count));
            correct += _loss.Correct;
        }

        return correct / (double)_test.Count;
    }

    // An epoch takes whole batches: what is left over comes in another order the next time.
    private void Draw()
    {
        int count = _labels.Length;
        if (_next + count > _permutation.Length)
        {
            _permutation = _order.NextPermutation(_train.Count);
            _next = 0;
        }

        for (int i = 0; i < count; i++)
        {
            int index = _permutation[_next + i];
            _train.Pixels.AsSpan(index * _train.Size, _train.Size).CopyTo(_batch.Values[(i * _train.Size)..]);
            _labels[i] = _train.Labels[index];
        }

        _next += count;
    }
}
