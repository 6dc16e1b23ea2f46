using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies.Companions;

namespace Normalization.Bench.Models;

/// <summary>The block of RepVGG: a 3 x 3 convolution, a 1 x 1 convolution and, where shapes stay, the input itself, each normalized, summed.</summary>
/// <remarks>Source: Ding et al. 2021, arXiv:2101.03697. In inference the three are one 3 x 3 convolution: <see cref="Fold"/>.</remarks>
internal sealed class RepVggBlock<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int Kernel = 3;

    private readonly int _channels;
    private readonly int _outputs;
    private readonly int _stride;
    private readonly (Conv2d<T> Convolution, Normalized<T> Norm) _wide;
    private readonly (Conv2d<T> Convolution, Normalized<T> Norm) _narrow;
    private readonly Normalized<T>? _identity;
    private readonly Residual<T> _sum;

    /// <param name="channels">C, channels of the input.</param>
    /// <param name="outputs">Channels of the output; with stride 1 and as many as the input there is the third branch.</param>
    /// <param name="stride">Of both convolutions.</param>
    /// <param name="normalizer">Makes each branch's normalizer, one that folds in inference.</param>
    /// <param name="random">Draws the weights.</param>
    public RepVggBlock(int channels, int outputs, int stride, Func<Normalized<T>> normalizer, RandomStream random)
    {
        (_channels, _outputs, _stride) = (channels, outputs, stride);
        _wide = (new Conv2d<T>(channels, outputs, Kernel, stride, random, bias: false), normalizer());
        _narrow = (new Conv2d<T>(channels, outputs, 1, stride, random, bias: false), normalizer());
        _identity = channels == outputs && stride == 1 ? normalizer() : null;
        var narrow = new Sequential<T>(_narrow.Convolution, _narrow.Norm);
        _sum = new Residual<T>(new Sequential<T>(_wide.Convolution, _wide.Norm), _identity is null ? narrow : new Residual<T>(narrow, _identity));
    }

    public override IEnumerable<Parameter<T>> Parameters => _sum.Parameters;

    public override IEnumerable<INormalizer<T>> Normalizers => _sum.Normalizers;

    public override Activations<T> Forward(Activations<T> input, bool training) => _sum.Forward(input, training);

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput) => _sum.Backward(outputGradient, wantsInput);

    /// <summary>One convolution with the block's inference: kernels and biases of the branches summed, smaller ones in the middle.</summary>
    /// <exception cref="InvalidOperationException">The normalizers are not in inference, or no constant map then.</exception>
    public Conv2d<T> Fold()
    {
        var folded = new Conv2d<T>(_channels, _outputs, Kernel, _stride, new RandomStream(0));
        T[] weight = folded.Parameters.First().Values;
        T[] bias = folded.Parameters.Last().Values;
        LinearWeights<T> wide = Folded(_wide, Kernel);
        wide.Weight.CopyTo(weight, 0);
        wide.Bias!.CopyTo(bias, 0);
        Add(Folded(_narrow, 1), _channels, output => 0);
        if (_identity is not null)
        {
            Add(Folding.ToLayer(_identity.Normalizers.Single()), 1, output => output);
        }

        return folded;

        // Memory has the kernel's positions before the channels, so that the middle is one run of a row.
        void Add(LinearWeights<T> branch, int count, Func<int, int> first)
        {
            for (int o = 0; o < _outputs; o++)
            {
                Span<T> middle = weight.AsSpan((((o * Kernel * Kernel) + (Kernel * Kernel / 2)) * _channels) + first(o), count);
                TensorPrimitives.Add(middle, branch.Weight.AsSpan(o * count, count), middle);
            }

            TensorPrimitives.Add(bias, branch.Bias, bias);
        }
    }

    // Folding into the layer before only scales rows: that a row has the channels last here, and first in LinearWeights, does not matter.
    private LinearWeights<T> Folded((Conv2d<T> Convolution, Normalized<T> Norm) branch, int kernel) => Folding.IntoPreceding(
        new LinearWeights<T>(branch.Convolution.Parameters.Single().Values, [_outputs, _channels, kernel, kernel]), branch.Norm.Normalizers.Single());
}
