using System.Numerics;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Sync;

/// <summary>A network of linear, norm, tanh, linear, norm over the channels of (N, C, L), half the squared distance to a target, and SGD.</summary>
/// <remarks>
/// Smooth throughout, so that a difference in the last bit stays one. The same on a whole batch and on a rank's part of it: what differs
/// is the normalization and how sums over samples become sums over ranks.
/// </remarks>
internal sealed class LayerStack<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    public const int Inputs = 6;
    public const int Hidden = 8;
    public const int Outputs = 3;
    public const int Positions = 5;

    private const double LearningRate = 0.1;

    private readonly INormalizer<T> _firstNorm;
    private readonly INormalizer<T> _secondNorm;
    private readonly Linear _first;
    private readonly Linear _second;
    private readonly nint _batch;

    /// <param name="normalize">A normalization of so many channels.</param>
    /// <param name="batch">Samples of the whole batch.</param>
    /// <param name="seed">Of the weights.</param>
    public LayerStack(Func<int, INormalizer<T>> normalize, nint batch, long seed)
    {
        _firstNorm = normalize(Hidden);
        _secondNorm = normalize(Outputs);
        _first = new Linear(Inputs, Hidden, new RandomStream(seed, "first"));
        _second = new Linear(Hidden, Outputs, new RandomStream(seed, "second"));
        _batch = batch;
    }

    /// <summary>The first normalization of the stack.</summary>
    public INormalizer<T> FirstNorm => _firstNorm;

    /// <summary>Every learned value and running statistic.</summary>
    public double[] State =>
    [
        .. _first.Weights.Concat(_second.Weights).Select(double.CreateTruncating),
        .. from norm in new[] { _firstNorm, _secondNorm } from parameter in norm.Parameters from value in parameter.Values select double.CreateTruncating(value),
        .. from norm in new[] { _firstNorm, _secondNorm } from buffer in norm.Buffers from value in buffer.Values select double.CreateTruncating(value),
    ];

    /// <summary>One step of SGD on samples of the batch, which may be none.</summary>
    /// <param name="input">(n, 6, 5), row-major.</param>
    /// <param name="target">(n, 3, 5), row-major.</param>
    /// <param name="sum">Replaces values by their sums over ranks.</param>
    /// <returns>The loss before the step: the squared distance over the whole batch, by 2 N.</returns>
    public double Step(ReadOnlySpan<T> input, ReadOnlySpan<T> target, Action<double[]> sum)
    {
        nint samples = input.Length / (Inputs * Positions);
        var hiddenShape = new ActivationShape(samples, Hidden, Positions);
        var outputShape = new ActivationShape(samples, Outputs, Positions);
        T[] hidden = _first.Forward(samples, input);
        var normalized = new T[hidden.Length];
        _firstNorm.Forward(hiddenShape, hidden, normalized);
        T[] activated = Array.ConvertAll(normalized, T.Tanh);
        T[] linear = _second.Forward(samples, activated);
        var output = new T[linear.Length];
        _secondNorm.Forward(outputShape, linear, output);

        double loss = 0;
        var outputGradient = new T[output.Length];
        for (int i = 0; i < output.Length; i++)
        {
            double difference = double.CreateTruncating(output[i]) - double.CreateTruncating(target[i]);
            loss += difference * difference / (2 * _batch);
            outputGradient[i] = T.CreateTruncating(difference / _batch);
        }

        _firstNorm.ZeroGradients();
        _secondNorm.ZeroGradients();
        var linearGradient = new T[linear.Length];
        _secondNorm.Backward(outputShape, linear, outputGradient, linearGradient);
        T[] gradient = _second.Backward(samples, activated, linearGradient);
        for (int i = 0; i < gradient.Length; i++)
        {
            gradient[i] *= T.One - (activated[i] * activated[i]);
        }

        var hiddenGradient = new T[hidden.Length];
        _firstNorm.Backward(hiddenShape, hidden, gradient, hiddenGradient);
        _first.Backward(samples, input, hiddenGradient);
        Descend(sum);
        double[] total = [loss];
        sum(total);
        return total[0];
    }

    // One sum over ranks for all gradients, as data-parallel training does it.
    private void Descend(Action<double[]> sum)
    {
        T[][] values =
        [
            _first.Weights, _second.Weights,
            .. from norm in new[] { _firstNorm, _secondNorm } from parameter in norm.Parameters select parameter.Values,
        ];
        double[] gradients =
        [
            .. _first.Gradient, .. _second.Gradient,
            .. from norm in new[] { _firstNorm, _secondNorm } from parameter in norm.Parameters from value in parameter.Gradient select double.CreateTruncating(value),
        ];
        sum(gradients);
        int next = 0;
        foreach (T[] parameter in values)
        {
            for (int i = 0; i < parameter.Length; i++)
            {
                parameter[i] = T.CreateTruncating(double.CreateTruncating(parameter[i]) - (LearningRate * gradients[next++]));
            }
        }
    }

    /// <summary>y[n, o, l] = sum over i of w[o, i] x[n, i, l], in double.</summary>
    private sealed class Linear
    {
        private readonly int _inputs;
        private readonly int _outputs;

        public Linear(int inputs, int outputs, RandomStream random)
        {
            _inputs = inputs;
            _outputs = outputs;
            Gradient = new double[inputs * outputs];
            Weights = [.. Gradient.Select(_ => T.CreateTruncating(random.NextGaussian() / Math.Sqrt(inputs)))];
        }

        public T[] Weights { get; }

        /// <summary>Of the last Backward.</summary>
        public double[] Gradient { get; }

        public T[] Forward(nint samples, ReadOnlySpan<T> x)
        {
            var y = new T[samples * _outputs * Positions];
            for (int i = 0; i < y.Length; i++)
            {
                int at = (i / (_outputs * Positions) * _inputs * Positions) + (i % Positions);
                int row = i / Positions % _outputs * _inputs;
                double sum = 0;
                for (int k = 0; k < _inputs; k++)
                {
                    sum += double.CreateTruncating(Weights[row + k]) * double.CreateTruncating(x[at + (k * Positions)]);
                }

                y[i] = T.CreateTruncating(sum);
            }

            return y;
        }

        public T[] Backward(nint samples, ReadOnlySpan<T> x, ReadOnlySpan<T> outputGradient)
        {
            Array.Clear(Gradient);
            var dx = new double[samples * _inputs * Positions];
            for (int i = 0; i < outputGradient.Length; i++)
            {
                int at = (i / (_outputs * Positions) * _inputs * Positions) + (i % Positions);
                int row = i / Positions % _outputs * _inputs;
                double g = double.CreateTruncating(outputGradient[i]);
                for (int k = 0; k < _inputs; k++)
                {
                    Gradient[row + k] += g * double.CreateTruncating(x[at + (k * Positions)]);
                    dx[at + (k * Positions)] += g * double.CreateTruncating(Weights[row + k]);
                }
            }

            return Array.ConvertAll(dx, T.CreateTruncating);
        }
    }
}
