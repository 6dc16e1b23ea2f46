using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Models;

/// <summary>Noise whose distribution itself changes at random from step to step: what makes batch norm "noisy" in Santurkar et al. 2018.</summary>
/// <remarks>
/// y = s * x + m. In each training step a channel draws the centre of its shifts, uniform in [-0.5, 0.5], and of its scales, uniform in
/// [1, 1.25]; around them each element draws its own m, uniform within 0.1, and its own s, Gaussian with deviation 0.1. So a channel's
/// mean is not 0 and its variance not 1, and both move all the time. In inference there is no noise but its mean: s = 1.125, m = 0.
/// Source: Santurkar, Tsipras, Ilyas and Madry 2018, arXiv:1805.11604, section 2.1; the constants are recalled, not read again.
/// </remarks>
/// <param name="random">Draws the noise.</param>
internal sealed class BatchNoise<T>(RandomStream random) : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const double ShiftCentre = 0.5;
    private const double LargestScaleCentre = 1.25;
    private const double Reach = 0.1;

    private readonly Activations<T> _scales = new();
    private readonly Activations<T> _shifts = new();
    private (double Shift, double Scale)[] _centres = [];
    private bool _noisy;

    /// <summary>s in inference.</summary>
    public static double MeanScale => (1 + LargestScaleCentre) / 2;

    /// <summary>Whether training passes repeat the last one's noise, so that the loss is one function of the weights; of the same shape only.</summary>
    public bool Held { get; set; }

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        _noisy = training;
        Output.Resize(input.Shape);
        if (!training)
        {
            TensorPrimitives.Multiply(input.Values, T.CreateTruncating(MeanScale), Output.Values);
            return Output;
        }

        if (!Held)
        {
            Draw(input);
        }

        TensorPrimitives.MultiplyAdd(input.Values, _scales.Values, _shifts.Values, Output.Values);
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        Span<T> result = InputGradient.Resize(Output.Shape).Values;
        if (_noisy)
        {
            TensorPrimitives.Multiply(outputGradient.Values, _scales.Values, result);
        }
        else
        {
            TensorPrimitives.Multiply(outputGradient.Values, T.CreateTruncating(MeanScale), result);
        }

        return InputGradient;
    }

    private void Draw(Activations<T> input)
    {
        int channels = input.Shape.Channels;
        if (_centres.Length != channels)
        {
            _centres = new (double, double)[channels];
        }

        foreach (ref (double Shift, double Scale) centre in _centres.AsSpan())
        {
            centre = (ShiftCentre * Symmetric(), 1 + ((LargestScaleCentre - 1) * random.NextDouble()));
        }

        Span<T> scales = _scales.Resize(input.Shape).Values;
        Span<T> shifts = _shifts.Resize(input.Shape).Values;
        for (int i = 0; i < scales.Length; i++)
        {
            (double shift, double scale) = _centres[i % channels];
            shifts[i] = T.CreateTruncating(shift + (Reach * Symmetric()));
            scales[i] = T.CreateTruncating(scale + (Reach * random.NextGaussian()));
        }
    }

    private double Symmetric() => (2 * random.NextDouble()) - 1;
}
