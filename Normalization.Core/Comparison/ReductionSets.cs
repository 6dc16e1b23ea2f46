using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Comparison;

/// <summary>The reduction sets of a batch, numbered from 0, as the strategy itself declares them.</summary>
internal sealed class ReductionSets
{
    private readonly int[] _counts;
    private readonly int[] _runs; // where a stretch of one set begins; the last entry is the end

    private ReductionSets(int[] setOfElement, int[] counts)
    {
        SetOfElement = setOfElement;
        _counts = counts;
        _runs = [.. Enumerable.Range(0, setOfElement.Length).Where(i => i == 0 || setOfElement[i] != setOfElement[i - 1]), setOfElement.Length];
    }

    /// <summary>For each element of the dense channels-first batch the number of its set.</summary>
    public int[] SetOfElement { get; }

    /// <summary>How many sets there are.</summary>
    public int Count => _counts.Length;

    /// <summary>The sets of a batch; null where the strategy does not say.</summary>
    public static ReductionSets? Of<T>(INormalizer<T> normalizer, ActivationShape shape)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var numbers = new Dictionary<long, int>();
        var counts = new List<int>();
        var setOfElement = new int[shape.Count];
        int element = 0;
        for (nint sample = 0; sample < shape.Samples; sample++)
        {
            for (int channel = 0; channel < shape.Channels; channel++)
            {
                for (nint position = 0; position < shape.SpatialSize; position++)
                {
                    long declared = normalizer.ReductionSetOf(shape, sample, channel, position);
                    if (declared < 0)
                    {
                        return null;
                    }

                    if (!numbers.TryGetValue(declared, out int number))
                    {
                        numbers[declared] = number = counts.Count;
                        counts.Add(0);
                    }

                    counts[number]++;
                    setOfElement[element++] = number;
                }
            }
        }

        return new ReductionSets(setOfElement, [.. counts]);
    }

    /// <summary>The channels: each over samples and positions.</summary>
    public static ReductionSets Channels(ActivationShape shape)
    {
        var counts = new int[shape.Channels];
        Array.Fill(counts, (int)(shape.Samples * shape.SpatialSize));
        var channelOf = new int[shape.Count];
        for (int i = 0; i < channelOf.Length; i++)
        {
            channelOf[i] = i / (int)shape.SpatialSize % shape.Channels;
        }

        return new ReductionSets(channelOf, counts);
    }

    /// <summary>The sum over each set.</summary>
    public double[] Sum(double[] values)
    {
        var sums = new double[Count];
        for (int run = 0; run < _runs.Length - 1; run++)
        {
            sums[SetOfElement[_runs[run]]] += TensorPrimitives.Sum<double>(values.AsSpan(_runs[run].._runs[run + 1]));
        }

        return sums;
    }

    /// <summary>The mean and the population variance of each set, in two passes.</summary>
    public (double[] Means, double[] Variances) Moments(double[] values)
    {
        double[] means = Sum(values);
        for (int set = 0; set < Count; set++)
        {
            means[set] /= _counts[set];
        }

        var squares = new double[Count];
        var remainders = new double[Count];
        for (int run = 0; run < _runs.Length - 1; run++)
        {
            int set = SetOfElement[_runs[run]];
            AddDeviations(values.AsSpan(_runs[run].._runs[run + 1]), means[set], ref remainders[set], ref squares[set]);
        }

        for (int set = 0; set < Count; set++)
        {
            // The remainder is what rounding left in the mean; it counts where the mean is large.
            double correction = remainders[set] / _counts[set];
            means[set] += correction;
            squares[set] = (squares[set] / _counts[set]) - (correction * correction);
        }

        return (means, squares);
    }

    private static void AddDeviations(ReadOnlySpan<double> values, double mean, ref double sum, ref double squares)
    {
        Vector512<double> sums = default, products = default;
        int i = 0;
        for (; i <= values.Length - Vector512<double>.Count; i += Vector512<double>.Count)
        {
            Vector512<double> deviation = Vector512.Create(values.Slice(i, Vector512<double>.Count)) - Vector512.Create(mean);
            sums += deviation;
            products += deviation * deviation;
        }

        for (; i < values.Length; i++)
        {
            double deviation = values[i] - mean;
            sum += deviation;
            squares += deviation * deviation;
        }

        sum += Vector512.Sum(sums);
        squares += Vector512.Sum(products);
    }

    /// <summary>The largest of the values in each set.</summary>
    public double[] Max(double[] values)
    {
        var largest = new double[Count];
        Array.Fill(largest, double.NegativeInfinity);
        for (int i = 0; i < values.Length; i++)
        {
            largest[SetOfElement[i]] = Math.Max(largest[SetOfElement[i]], values[i]);
        }

        return largest;
    }
}
