using System.Numerics;
using Normalization.Core;

namespace Normalization.Bench.Models;

/// <summary>Any normalizer as a layer: the whole of what plugging one into a model takes.</summary>
/// <remarks>
/// A normalizer is made for a shape, so it is created when the first batch shows it. Its memory is the caller's: this layer gives it the
/// batch and two buffers of its own, over channels-last strides.
/// </remarks>
internal sealed class Normalized<T>(Func<ActivationShape, INormalizer<T>> create) : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private INormalizer<T>? _normalizer;
    private Activations<T> _input = new();

    public override IEnumerable<Parameter<T>> Parameters => _normalizer?.Parameters ?? [];

    public override IEnumerable<INormalizer<T>> Normalizers => _normalizer is null ? [] : [_normalizer];

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        _normalizer ??= create(input.Shape);
        if (_normalizer.Training != training)
        {
            _normalizer.Training = training;
        }

        _input = input;
        _normalizer.Forward(input.AsInput(), Output.Resize(input.Shape).AsOutput());
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        _normalizer!.Backward(_input.AsInput(), outputGradient.AsInput(), InputGradient.Resize(_input.Shape).AsOutput());
        return InputGradient;
    }
}
