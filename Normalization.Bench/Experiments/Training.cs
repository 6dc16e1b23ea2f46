using System.Globalization;
using System.Numerics.Tensors;
using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Experiments;

/// <summary>How examples become batches.</summary>
internal enum BatchComposition
{
    /// <summary>A fresh shuffle of all examples every epoch.</summary>
    Fresh,

    /// <summary>Batches composed once, in a fresh order every epoch: the same examples always meet.</summary>
    Fixed,

    /// <summary>A batch has two of the ten classes, as many of each, drawn anew for every batch: not independent, not identically distributed.</summary>
    TwoClasses,
}

/// <summary>Changes one image in place as it enters a batch.</summary>
internal delegate void Distortion(Span<float> image, int height, int width, RandomStream random);

/// <summary>What an experiment may choose of how a network is trained, beside its rate.</summary>
internal sealed record TrainingOptions
{
    /// <summary>Whether the network takes (N, 1, H, W), else (N, pixels).</summary>
    public bool IsConvolutional { get; init; }

    /// <summary>Of gradient descent, in [0, 1).</summary>
    public double Momentum { get; init; }

    /// <summary>The factor of L2 regularization.</summary>
    public double WeightDecay { get; init; }

    /// <summary>Where the gradients' common norm is clipped; null does not.</summary>
    public double? Clip { get; init; }

    /// <summary>How many micro-batches of the batch size make one update; statistics are of each micro-batch, gradients are averaged.</summary>
    public int MicroBatches { get; init; } = 1;

    /// <summary>How examples become batches.</summary>
    public BatchComposition Composition { get; init; }

    /// <summary>Applied to every training image anew; null for none.</summary>
    public Distortion? Distortion { get; init; }
}

/// <summary>A classifier of digits in training: batches, steps, tests.</summary>
internal sealed class Training
{
    private const int TestBatch = 250;

    private readonly Layer<float> _network;
    private readonly Examples _train;
    private readonly Examples _test;
    private readonly TrainingOptions _options;
    private readonly ActivationShape _sample;
    private readonly RandomStream _order;
    private readonly Activations<float> _batch = new();
    private readonly Activations<float> _testBatch = new();
    private readonly SoftmaxCrossEntropy<float> _loss = new();
    private readonly SoftmaxCrossEntropy<float> _testLoss = new();
    private readonly byte[] _labels;
    private readonly Sgd<float> _optimizer;
    private readonly int[][] _byClass;
    private int[] _permutation = [];
    private int _next;

    /// <param name="network">The network.</param>
    /// <param name="examples">What it learns and what it is tested on.</param>
    /// <param name="batchSize">N.</param>
    /// <param name="order">Draws the order of the examples, and distortions.</param>
    /// <param name="options">The other choices.</param>
    public Training(Layer<float> network, (Examples Train, Examples Test) examples, int batchSize, RandomStream order, TrainingOptions? options = null)
    {
        _network = network;
        (_train, _test) = examples;
        _order = order;
        _options = options ?? new TrainingOptions();
        _sample = _options.IsConvolutional ? new ActivationShape(1, 1, _train.Height, _train.Width) : new ActivationShape(1, _train.Size);
        _labels = new byte[batchSize];
        _batch.Resize(_sample.WithSamples(batchSize));
        _byClass = _options.Composition == BatchComposition.TwoClasses
            ? [.. Enumerable.Range(0, _train.Count).GroupBy(index => _train.Labels[index]).OrderBy(group => group.Key).Select(group => group.ToArray())]
            : [];
        Draw();
        network.Forward(_batch, training: false); // so that normalizers, and their parameters, are there
        _next = 0;
        _optimizer = new Sgd<float>(network.Parameters, _options.Momentum, _options.WeightDecay);
    }

    /// <summary>The number of the step after which the loss was no finite number; null where it always was one.</summary>
    public int? DivergedAt { get; private set; }

    /// <summary>Steps taken.</summary>
    public int Steps { get; private set; }

    /// <summary>The batch of the last step, (N, pixels) or (N, 1, H, W), and its labels.</summary>
    public (Activations<float> Images, byte[] Labels) Batch => (_batch, _labels);

    /// <summary>What to say beside a number of a network that has diverged.</summary>
    public string? Note => DivergedAt is { } step ? string.Create(CultureInfo.InvariantCulture, $"the loss was not finite at step {step}") : null;

    /// <summary>One step; nothing happens once the network has diverged.</summary>
    /// <param name="rate">The learning rate.</param>
    /// <returns>The mean loss of its batches.</returns>
    public double Step(double rate)
    {
        double loss = Gradients();
        if (DivergedAt is null)
        {
            Update(rate);
        }

        return loss;
    }

    /// <summary>The first half of a step: draws a batch (or the micro-batches) and leaves its gradients in the parameters.</summary>
    /// <returns>The mean loss; NaN or infinite where the network has diverged.</returns>
    public double Gradients()
    {
        Steps++;
        double sum = 0;
        for (int micro = 0; micro < _options.MicroBatches && DivergedAt is null; micro++)
        {
            Draw();
            double loss = _loss.Forward(_network.Forward(_batch, training: true), _labels);
            sum += loss;
            if (!double.IsFinite(loss))
            {
                DivergedAt = Steps;
                return loss;
            }

            if (_options.MicroBatches > 1)
            {
                TensorPrimitives.Divide(_loss.Gradient.Values, _options.MicroBatches, _loss.Gradient.Values);
            }

            _network.Backward(_loss.Gradient, wantsInput: false);
        }

        return DivergedAt is null ? sum / _options.MicroBatches : double.NaN;
    }

    /// <summary>The second half of a step: clips if asked, moves the parameters, clears the gradients.</summary>
    /// <param name="rate">The learning rate.</param>
    public void Update(double rate)
    {
        if (_options.Clip is { } limit)
        {
            _optimizer.Clip(limit);
        }

        _optimizer.Step(rate);
    }

    /// <summary>The share of the test images that are recognized, in inference; 0 once the network has diverged.</summary>
    public double TestAccuracy() => Evaluate(_test).Accuracy;

    /// <summary>The share of images that are recognized and their mean loss, in inference; 0 and NaN once the network has diverged.</summary>
    /// <param name="examples">Images of the training set's size.</param>
    public (double Accuracy, double Loss) Evaluate(Examples examples)
    {
        int correct = 0;
        double loss = DivergedAt is null ? 0 : double.NaN;
        for (int first = 0; first < examples.Count && DivergedAt is null; first += TestBatch)
        {
            int count = Math.Min(TestBatch, examples.Count - first);
            examples.Pixels.AsSpan(first * examples.Size, count * examples.Size).CopyTo(_testBatch.Resize(_sample.WithSamples(count)).Values);
            loss += count * _testLoss.Forward(_network.Forward(_testBatch, training: false), examples.Labels.AsSpan(first, count));
            correct += _testLoss.Correct;
        }

        return (correct / (double)examples.Count, loss / examples.Count);
    }

    private void Draw()
    {
        if (_options.Composition == BatchComposition.TwoClasses)
        {
            int[] two = _order.NextPermutation(_byClass.Length);
            for (int i = 0; i < _labels.Length; i++)
            {
                int[] members = _byClass[two[i % 2]];
                Take(i, members[_order.NextInt32(members.Length)]);
            }

            return;
        }

        // An epoch takes whole batches: what is left over comes in another order the next time.
        if (_next + _labels.Length > _permutation.Length)
        {
            _permutation = _permutation.Length > 0 && _options.Composition == BatchComposition.Fixed ? SameBatches() : _order.NextPermutation(_train.Count);
            _next = 0;
        }

        for (int i = 0; i < _labels.Length; i++)
        {
            Take(i, _permutation[_next + i]);
        }

        _next += _labels.Length;
    }

    private void Take(int place, int index)
    {
        Span<float> image = _batch.Values.Slice(place * _train.Size, _train.Size);
        _train.Pixels.AsSpan(index * _train.Size, _train.Size).CopyTo(image);
        _options.Distortion?.Invoke(image, _train.Height, _train.Width, _order);
        _labels[place] = _train.Labels[index];
    }

    private int[] SameBatches() =>
        [.. _order.NextPermutation(_permutation.Length / _labels.Length).SelectMany(batch => _permutation.AsSpan(batch * _labels.Length, _labels.Length).ToArray())];
}
