using System.Numerics.Tensors;

namespace Normalization.Core.Comparison;

/// <summary>Arithmetic that several probes share.</summary>
internal static class Arithmetic
{
    // Of values that are worked on at a time where an array of all of them would be too much.
    private const int Block = 1024;

    public static float[] ToSingle(double[] values) => Array.ConvertAll(values, value => (float)value);

    public static double[] ToDouble(ReadOnlySpan<float> values)
    {
        var result = new double[values.Length];
        TensorPrimitives.ConvertTruncating<float, double>(values, result);
        return result;
    }

    public static double RootMeanSquare(ReadOnlySpan<double> values) =>
        values.IsEmpty ? 0 : Math.Sqrt(TensorPrimitives.SumOfSquares(values) / values.Length);

    public static double RootMeanSquareDifference(ReadOnlySpan<double> a, ReadOnlySpan<double> b) =>
        a.IsEmpty ? 0 : TensorPrimitives.Distance(a, b) / Math.Sqrt(a.Length);

    /// <summary>NaN where a value is.</summary>
    public static double Largest(ReadOnlySpan<double> values)
    {
        return values.IsEmpty ? 0 : Math.Abs(TensorPrimitives.MaxMagnitude(values));
    }

    public static double LargestDifference(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        Span<double> differences = stackalloc double[Block];
        double largest = 0;
        for (int start = 0; start < a.Length; start += Block)
        {
            int length = Math.Min(Block, a.Length - start);
            TensorPrimitives.Subtract(a.Slice(start, length), b.Slice(start, length), differences);
            largest = Math.Max(largest, Largest(differences[..length]));
        }

        return largest;
    }

    /// <summary>The same of float values against double ones, without an array of either's length.</summary>
    public static double LargestDifference(ReadOnlySpan<float> a, ReadOnlySpan<double> b)
    {
        Span<double> exact = stackalloc double[Block];
        double largest = 0;
        for (int start = 0; start < a.Length; start += Block)
        {
            int length = Math.Min(Block, a.Length - start);
            TensorPrimitives.ConvertTruncating(a.Slice(start, length), exact);
            largest = Math.Max(largest, LargestDifference(exact[..length], b.Slice(start, length)));
        }

        return largest;
    }

    /// <summary>A ratio that is 0 where the numerator is, whatever the denominator.</summary>
    public static double Ratio(double numerator, double denominator) => numerator == 0 ? 0 : numerator / denominator;

    /// <summary>The 10th and the 90th percentile, interpolated.</summary>
    public static double[] Spread(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return [Percentile(sorted, 0.1), Percentile(sorted, 0.9)];
    }

    public static double Median(IEnumerable<double> values) => Percentile([.. values.Order()], 0.5);

    /// <summary>The value below which a fraction of sorted values lies, interpolated.</summary>
    public static double Percentile(double[] sorted, double fraction)
    {
        double place = fraction * (sorted.Length - 1);
        int below = (int)place;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((place - below) * (sorted[above] - sorted[below]));
    }

    /// <summary>matrix (rows, C) applied to the channels at every sample and position.</summary>
    public static double[] MixChannels(ActivationShape shape, double[] matrix, double[] values)
    {
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        var result = new double[values.Length];
        for (int sample = 0; sample < shape.Samples; sample++)
        {
            for (int to = 0; to < channels; to++)
            {
                Span<double> target = result.AsSpan(((sample * channels) + to) * positions, positions);
                for (int from = 0; from < channels; from++)
                {
                    double factor = matrix[(to * channels) + from];
                    ReadOnlySpan<double> source = values.AsSpan(((sample * channels) + from) * positions, positions);
                    for (int position = 0; position < positions; position++)
                    {
                        target[position] += factor * source[position];
                    }
                }
            }
        }

        return result;
    }
}
