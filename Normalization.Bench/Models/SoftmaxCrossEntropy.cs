using System.Numerics;
using System.Numerics.Tensors;

namespace Normalization.Bench.Models;

/// <summary>The loss of a classifier: the mean over the batch of -log softmax(logits)[label].</summary>
internal sealed class SoftmaxCrossEntropy<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>dL/dlogits of the last call, (N, classes): (softmax - one-hot) / N.</summary>
    public Activations<T> Gradient { get; } = new();

    /// <summary>How many samples of the last call had their largest logit at the label; ties go to the first, and none where the loss is no finite number.</summary>
    public int Correct { get; private set; }

    /// <summary>Computes loss and gradient.</summary>
    /// <param name="logits">(N, classes).</param>
    /// <param name="labels">(N), each below the number of classes.</param>
    /// <returns>The mean loss; NaN or infinite where the network has diverged.</returns>
    public double Forward(Activations<T> logits, ReadOnlySpan<byte> labels)
    {
        int classes = logits.Features;
        int samples = (int)logits.Shape.Samples;
        if (labels.Length != samples)
        {
            throw new ArgumentException($"A batch of {samples} samples has as many labels; got {labels.Length}.", nameof(labels));
        }

        Gradient.Resize(logits.Shape);
        Correct = 0;
        double loss = 0;
        for (int n = 0; n < samples; n++)
        {
            ReadOnlySpan<T> row = logits.Values.Slice(n * classes, classes);
            Span<T> gradient = Gradient.Values.Slice(n * classes, classes);
            T largest = TensorPrimitives.Max(row);
            double sum = 0;
            for (int k = 0; k < classes; k++)
            {
                double power = Math.Exp(double.CreateTruncating(row[k] - largest));
                gradient[k] = T.CreateTruncating(power);
                sum += power;
            }

            int label = labels[n];
            double own = Math.Log(sum) - double.CreateTruncating(row[label] - largest);
            loss += own;
            TensorPrimitives.Multiply(gradient, T.CreateTruncating(1 / (sum * samples)), gradient);
            gradient[label] -= T.CreateTruncating(1.0 / samples);
            Correct += double.IsFinite(own) && row.IndexOf(largest) == label ? 1 : 0;
        }

        return loss / samples;
    }
}
