using System.Numerics;
using System.Numerics.Tensors;

namespace Normalization.Core;

/// <summary>Calls on plain arrays: dense, channels-first memory.</summary>
public static class NormalizerExtensions
{
    /// <summary>Normalizes a dense channels-first batch held in spans.</summary>
    /// <param name="normalizer">The strategy.</param>
    /// <param name="shape">(N, C, ...), whose count is the length of both spans.</param>
    /// <param name="input">x, row-major.</param>
    /// <param name="output">Receives y, row-major.</param>
    /// <exception cref="ArgumentException">A span's length is not the shape's count, or what Forward refuses.</exception>
    public static void Forward<T>(this INormalizer<T> normalizer, ActivationShape shape, ReadOnlySpan<T> input, Span<T> output)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        RequireLength(shape, input.Length, nameof(input));
        RequireLength(shape, output.Length, nameof(output));
        Span<nint> all = stackalloc nint[ActivationShape.MaximumRank];
        ReadOnlySpan<nint> lengths = shape.CopyTo(all);
        normalizer.Forward(View(input, lengths), View(output, lengths));
    }

    /// <summary>The gradient of a dense channels-first batch held in spans.</summary>
    /// <param name="normalizer">The strategy.</param>
    /// <param name="shape">(N, C, ...), whose count is the length of every span.</param>
    /// <param name="input">x, row-major, as the last Forward saw it.</param>
    /// <param name="outputGradient">dL/dy, row-major.</param>
    /// <param name="inputGradient">Receives dL/dx, row-major.</param>
    /// <exception cref="ArgumentException">A span's length is not the shape's count, or what Backward refuses.</exception>
    public static void Backward<T>(
        this INormalizer<T> normalizer, ActivationShape shape, ReadOnlySpan<T> input, ReadOnlySpan<T> outputGradient, Span<T> inputGradient)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        RequireLength(shape, input.Length, nameof(input));
        RequireLength(shape, outputGradient.Length, nameof(outputGradient));
        RequireLength(shape, inputGradient.Length, nameof(inputGradient));
        Span<nint> all = stackalloc nint[ActivationShape.MaximumRank];
        ReadOnlySpan<nint> lengths = shape.CopyTo(all);
        normalizer.Backward(View(input, lengths), View(outputGradient, lengths), View(inputGradient, lengths));
    }

    // The tensor types refuse a default span even where there is nothing to hold.
    internal static ReadOnlyTensorSpan<T> View<T>(ReadOnlySpan<T> values, scoped ReadOnlySpan<nint> lengths)
        where T : unmanaged => new(values.IsEmpty ? Array.Empty<T>() : values, lengths);

    internal static TensorSpan<T> View<T>(Span<T> values, scoped ReadOnlySpan<nint> lengths)
        where T : unmanaged => new(values.IsEmpty ? Array.Empty<T>() : values, lengths);

    internal static void RequireLength(ActivationShape shape, int length, string name)
    {
        if (length != shape.Count)
        {
            throw new ArgumentException($"A dense {shape} tensor has {shape.Count} elements; '{name}' has {length}.", name);
        }
    }
}
