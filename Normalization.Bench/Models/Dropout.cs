using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Models;

/// <summary>Inverted dropout: in training an element is kept with probability p and divided by it, else 0; in inference nothing happens.</summary>
/// <remarks>Source: Srivastava et al. 2014. A seed gives the same masks in the same order of steps.</remarks>
internal sealed class Dropout<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly double _keep;
    private readonly RandomStream _random;
    private readonly Activations<T> _mask = new();
    private bool _drops;

    /// <param name="keep">p in (0, 1]: the probability of being kept (not of being dropped, as PyTorch's argument is).</param>
    /// <param name="random">Draws the masks.</param>
    public Dropout(double keep, RandomStream random)
    {
        if (!(keep is > 0 and <= 1))
        {
            throw new ArgumentOutOfRangeException(nameof(keep), keep, $"The probability of keeping an element is in (0, 1]; got {keep:R}.");
        }

        _keep = keep;
        _random = random;
    }

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        _drops = training && _keep < 1;
        if (!_drops)
        {
            return input;
        }

        T kept = T.CreateTruncating(1 / _keep);
        foreach (ref T factor in _mask.Resize(input.Shape).Values)
        {
            factor = _random.NextDouble() < _keep ? kept : T.Zero;
        }

        TensorPrimitives.Multiply(input.Values, _mask.Values, Output.Resize(input.Shape).Values);
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        if (!_drops)
        {
            return outputGradient;
        }

        TensorPrimitives.Multiply(outputGradient.Values, _mask.Values, InputGradient.Resize(outputGradient.Shape).Values);
        return InputGradient;
    }
}
