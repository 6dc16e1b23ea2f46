using System.Numerics.Tensors;

namespace Normalization.Bench.Speed;

/// <summary>How far two float results are apart.</summary>
internal static class Agreement
{
    /// <summary>How far a peer's result may be from ours, over our largest value: its own rounding, and that of sums in another order.</summary>
    public const double Limit = 1e-4;

    private const int Block = 4096;

    /// <summary>The largest difference over the larger of the reference's largest value and a scale; NaN where either holds one.</summary>
    public static double Difference(ReadOnlySpan<float> values, ReadOnlySpan<float> reference, double scale)
    {
        Span<float> difference = stackalloc float[Block];
        float largest = 0;
        for (int start = 0; start < values.Length; start += Block)
        {
            int length = Math.Min(Block, values.Length - start);
            TensorPrimitives.Subtract(values.Slice(start, length), reference.Slice(start, length), difference);
            largest = Math.Max(largest, Math.Abs(TensorPrimitives.MaxMagnitude<float>(difference[..length])));
        }

        return largest == 0 ? 0 : largest / Math.Max(scale, Math.Abs(TensorPrimitives.MaxMagnitude(reference)));
    }

    public static double SumOfMagnitudes(ReadOnlySpan<float> values) => TensorPrimitives.SumOfMagnitudes(values);
}
