using System.Numerics.Tensors;

namespace Normalization.Core.Comparison;

/// <summary>What the double instance of a strategy makes of a workload's tensors, in channels-first order; each direction is computed once, when it is first asked for.</summary>
/// <param name="data">The tensors.</param>
/// <param name="create">Makes a double instance with the parameters and the state of the float one.</param>
internal sealed class SpeedReference(SpeedTensors data, Func<INormalizer<double>> create)
{
    private readonly Dictionary<string, double[]> _results = new(StringComparer.Ordinal);
    private INormalizer<double>? _trained; // one training forward pass behind it
    private double? _sumOfUpstream;

    /// <summary>Whether inference takes its running statistics from one training forward pass, in place of those the instance was made with.</summary>
    public bool TrainsBeforeInference { get; init; } = true;

    /// <summary>The sum of the upstream gradient's magnitudes: the size of what a parameter's gradient adds up.</summary>
    public double SumOfUpstream => _sumOfUpstream ??= TensorPrimitives.SumOfMagnitudes<double>(data.ExactUpstream);

    /// <summary>The parameters with their gradients, once the backward result was asked for.</summary>
    public IReadOnlyList<Parameter<double>> Parameters => _trained?.Parameters ?? [];

    /// <summary>The result of one call: the output, or of a backward pass the input gradient.</summary>
    /// <remarks>On all processors, whatever is timed: no bit hangs on their number.</remarks>
    public double[] Result(string direction)
    {
        if (_results.TryGetValue(direction, out double[]? result))
        {
            return result;
        }

        int threads = KernelThreads.Count;
        try
        {
            KernelThreads.Count = KernelThreads.Default;
            return Compute(direction);
        }
        finally
        {
            KernelThreads.Count = threads;
        }
    }

    private double[] Compute(string direction)
    {
        ActivationShape shape = data.Workload.Shape;
        if (direction == SpeedTensors.Inference)
        {
            INormalizer<double> normalizer = create();
            if (TrainsBeforeInference)
            {
                ProbeCase.Forward(normalizer, shape, data.ExactInput);

                // As a float instance holds them: where eigenvectors hang on the last bits of a covariance, those are to be the same.
                foreach (StateBuffer<double> buffer in normalizer.Buffers)
                {
                    for (int i = 0; i < buffer.Values.Length; i++)
                    {
                        buffer.Values[i] = (float)buffer.Values[i];
                    }
                }
            }

            normalizer.Training = false;
            return _results[direction] = ProbeCase.Forward(normalizer, shape, data.ExactInput);
        }

        if (_trained is null)
        {
            INormalizer<double> normalizer = create();
            _results[SpeedTensors.Forward] = ProbeCase.Forward(normalizer, shape, data.ExactInput);
            _trained = normalizer;
        }

        return direction == SpeedTensors.Forward ? _results[direction]
            : _results[direction] = ProbeCase.Backward(_trained, shape, data.ExactInput, data.ExactUpstream);
    }
}
