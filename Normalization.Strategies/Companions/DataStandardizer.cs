using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies.Companions;

/// <summary>What <see cref="DataStandardizer{T}"/> does with a channel whose values were all equal, so that its deviation is 0.</summary>
public enum ConstantChannelPolicy
{
    /// <summary>The mean is subtracted and nothing divided: the channel becomes 0, and the inverse is exact. The default.</summary>
    CenterOnly,

    /// <summary>Apply and Invert throw, naming the channels.</summary>
    Throw,
}

/// <summary>Standardization of a data set per channel, the preprocessing before any network: moments gathered over a stream, then applied and inverted.</summary>
/// <typeparam name="T">The storage type of the data, float or double; moments are kept in double either way.</typeparam>
/// <remarks>
/// <para>Apply: z = (x - mean[c]) / sqrt(populationVariance[c]); Invert: x = z * sqrt(populationVariance[c]) + mean[c]. The divisor of the
/// variance is the number of values in the channel, N*S over all batches (not that less one), and there is no epsilon.</para>
/// <para>Batches may have any size, rank and memory order: each is merged by Chan's rule in double, so that no data has to be kept. Merging in
/// another order or other portions changes the moments by rounding only.</para>
/// <para>Invert(Apply(x)) is x to the rounding of <typeparamref name="T"/>: within 2^-23 (2^-50 of double) of |x - mean| + |mean|.</para>
/// <para>Apply and Invert write no field: many threads may use one instance while none adds to it.</para>
/// <para>State: mean and population_variance, F64 of shape (C), and count, I64 of shape []: the values in each channel. With a prefix they
/// lie in one file with the model. A standardizer read back goes on exactly where the saved one stood.</para>
/// <para>Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.</para>
/// </remarks>
public sealed class DataStandardizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly StateBuffer<double> _mean;
    private readonly StateBuffer<double> _variance;
    private readonly StateBuffer<double> _count = new("count");
    private readonly double[] _batch;

    /// <summary>A standardizer that has seen nothing.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="constantChannels">What a channel without variance does.</param>
    /// <exception cref="ArgumentOutOfRangeException">Channels is below 1.</exception>
    /// <exception cref="NotSupportedException">T is neither float nor double.</exception>
    public DataStandardizer(int channels, ConstantChannelPolicy constantChannels = ConstantChannelPolicy.CenterOnly)
    {
        if (typeof(T) != typeof(float) && typeof(T) != typeof(double))
        {
            throw new NotSupportedException($"Data is float or double; got {ElementTypes.NameOf<T>()}.");
        }

        Channels = Guard.Channels(channels);
        ConstantChannelPolicy = constantChannels;
        _mean = new StateBuffer<double>("mean", [channels], 0);
        _variance = new StateBuffer<double>("population_variance", [channels], 0);
        _batch = new double[3 * channels];
    }

    /// <summary>C.</summary>
    public int Channels { get; }

    /// <summary>What a channel without variance does.</summary>
    public ConstantChannelPolicy ConstantChannelPolicy { get; }

    /// <summary>Values seen in each channel: N*S summed over the batches.</summary>
    public long Count => _count.Count;

    /// <summary>The mean of every channel, (C); zeros before any data.</summary>
    public ReadOnlySpan<double> Mean => _mean.Values;

    /// <summary>The variance of every channel, (C), with the divisor <see cref="Count"/>; zeros before any data.</summary>
    public ReadOnlySpan<double> PopulationVariance => _variance.Values;

    /// <summary>The channels whose values were all equal (or differed by less than 1e-162), in order; empty before any data.</summary>
    public IReadOnlyList<int> ConstantChannels => Count == 0 ? [] : [.. Enumerable.Range(0, Channels).Where(c => _variance.Values[c] == 0)];

    /// <summary>Takes a batch's values into the moments.</summary>
    /// <param name="batch">(N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), with any strides; an empty one changes nothing.</param>
    /// <exception cref="ArgumentException">The shape is none of these, or has other channels.</exception>
    /// <exception cref="InvalidOperationException">A value is NaN or infinite, or too large for its square to be a double: nothing was taken in.</exception>
    public unsafe void Add(in ReadOnlyTensorSpan<T> batch)
    {
        var shape = new ActivationShape(batch.Lengths);
        RequireChannels(shape);
        if (shape.Count == 0)
        {
            return;
        }

        fixed (T* x = &TensorMarshal.GetReference(batch))
        fixed (double* moments = _batch)
        {
            MemoryOrder present = DenseTensor.OrderOf(shape, batch.Strides);
            MemoryOrder order = present == MemoryOrder.Strided ? MemoryOrder.ChannelsFirst : present;
            DenseOperand<T> source = DenseOperand<T>.Read(shape, x, batch.Strides, present, order);
            try
            {
                var statistics = new Statistics { Mean = moments, PopulationVariance = moments + Channels, InverseStd = moments + (2 * Channels) };
                Standardizer.Moments(Layouts.PerChannel(shape, order), source.Pointer, statistics, epsilon: 0);
            }
            finally
            {
                source.Dispose();
            }
        }

        Merge((long)shape.Samples * shape.SpatialSize, _batch.AsSpan(0, Channels), _batch.AsSpan(Channels, Channels));
    }

    /// <summary>Takes a dense channels-first batch's values into the moments.</summary>
    /// <param name="shape">(N, C, ...), whose count is the length of the span.</param>
    /// <param name="batch">The values, row-major.</param>
    /// <exception cref="ArgumentException">The length is not the shape's count, or the shape has other channels.</exception>
    /// <exception cref="InvalidOperationException">A value is NaN or infinite, or too large for its square to be a double: nothing was taken in.</exception>
    public void Add(ActivationShape shape, ReadOnlySpan<T> batch)
    {
        NormalizerExtensions.RequireLength(shape, batch.Length, nameof(batch));
        Span<nint> lengths = stackalloc nint[ActivationShape.MaximumRank];
        Add(NormalizerExtensions.View(batch, shape.CopyTo(lengths)));
    }

    /// <summary>Takes in what another standardizer has seen, such as that of another part of the data set.</summary>
    /// <param name="other">Stays as it is.</param>
    /// <exception cref="ArgumentException">It has other channels.</exception>
    public void Merge(DataStandardizer<T> other)
    {
        ArgumentNullException.ThrowIfNull(other);
        if (other.Channels != Channels)
        {
            throw new ArgumentException($"Standardizers of one data set have equal channels; got {Channels} and {other.Channels}.", nameof(other));
        }

        if (other.Count > 0)
        {
            Merge(other.Count, other.Mean, other.PopulationVariance);
        }
    }

    /// <summary>Forgets all data.</summary>
    public void Reset()
    {
        Array.Clear(_mean.Values);
        Array.Clear(_variance.Values);
        _count.Count = 0;
    }

    /// <summary>Standardizes data: z = (x - mean) / deviation.</summary>
    /// <param name="data">(N, C, ...), any strides.</param>
    /// <param name="standardized">Receives z, of the same shape; may be exactly the data, and must not overlap it otherwise.</param>
    /// <exception cref="ArgumentException">Shapes disagree, or the tensors overlap in part.</exception>
    /// <exception cref="InvalidOperationException">There are no moments yet, or a channel is constant and the policy is to throw.</exception>
    public void Apply(in ReadOnlyTensorSpan<T> data, in TensorSpan<T> standardized) => Map(data, standardized, invert: false);

    /// <summary>Standardizes dense channels-first data held in spans.</summary>
    /// <param name="shape">(N, C, ...), whose count is the length of both spans.</param>
    /// <param name="data">x, row-major.</param>
    /// <param name="standardized">Receives z, row-major; may be the data's own memory.</param>
    /// <exception cref="ArgumentException">A length is not the shape's count, or the spans overlap in part.</exception>
    /// <exception cref="InvalidOperationException">There are no moments yet, or a channel is constant and the policy is to throw.</exception>
    public void Apply(ActivationShape shape, ReadOnlySpan<T> data, Span<T> standardized) => Map(shape, data, standardized, invert: false);

    /// <summary>Takes standardized data back: x = z * deviation + mean.</summary>
    /// <param name="standardized">(N, C, ...), any strides.</param>
    /// <param name="data">Receives x, of the same shape; may be exactly the standardized data, and must not overlap it otherwise.</param>
    /// <exception cref="ArgumentException">Shapes disagree, or the tensors overlap in part.</exception>
    /// <exception cref="InvalidOperationException">There are no moments yet, or a channel is constant and the policy is to throw.</exception>
    public void Invert(in ReadOnlyTensorSpan<T> standardized, in TensorSpan<T> data) => Map(standardized, data, invert: true);

    /// <summary>Takes standardized dense channels-first data held in spans back.</summary>
    /// <param name="shape">(N, C, ...), whose count is the length of both spans.</param>
    /// <param name="standardized">z, row-major.</param>
    /// <param name="data">Receives x, row-major; may be the standardized data's own memory.</param>
    /// <exception cref="ArgumentException">A length is not the shape's count, or the spans overlap in part.</exception>
    /// <exception cref="InvalidOperationException">There are no moments yet, or a channel is constant and the policy is to throw.</exception>
    public void Invert(ActivationShape shape, ReadOnlySpan<T> standardized, Span<T> data) => Map(shape, standardized, data, invert: true);

    /// <summary>The moments as a state.</summary>
    /// <param name="prefix">Put before every name, its dot included, so that a model's file can hold them.</param>
    public StateDictionary GetState(string prefix = "") => StateEntries.Get(Entries(), prefix);

    /// <summary>Takes the moments of a state: all of it or, on any error, nothing.</summary>
    /// <param name="state">From <see cref="GetState"/>, of data of either type.</param>
    /// <param name="strict">Whether missing and surplus names are errors.</param>
    /// <param name="prefix">Stands before every name; names without it belong to others.</param>
    /// <returns>What was missing and surplus, and let be.</returns>
    /// <exception cref="ArgumentException">Names every entry that is missing, surplus, misshapen, of the wrong type or no statistic.</exception>
    public StateMisfit LoadState(StateDictionary state, bool strict = true, string prefix = "") =>
        StateEntries.Load(Entries(), state, strict, prefix, StateEntries.NameOf<T>(this), static () => { });

    private StateEntry<double>[] Entries() => [new(_mean.Name, _mean), new(_variance.Name, _variance), new(_count.Name, _count)];

    // Chan's rule, with variances in place of sums of squares so that the state is the moments themselves.
    private void Merge(long count, ReadOnlySpan<double> mean, ReadOnlySpan<double> variance)
    {
        double share = count / ((double)Count + count);
        double rest = Count / ((double)Count + count);
        var merged = new double[2 * Channels];
        for (int c = 0; c < Channels; c++)
        {
            double difference = mean[c] - _mean.Values[c];
            double newMean = _mean.Values[c] + (share * difference);
            double newVariance = _variance.Values[c] + (share * ((variance[c] - _variance.Values[c]) + (rest * difference * difference)));
            if (!double.IsFinite(newMean) || !double.IsFinite(newVariance))
            {
                throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                    $"Channel {c} of the batch has mean {mean[c]} and variance {variance[c]}: with them the data set's would be {newMean} and {newVariance}. Remove NaN, infinite and huge values first. Nothing was taken in."));
            }

            merged[c] = newMean;
            merged[Channels + c] = newVariance;
        }

        merged.AsSpan(0, Channels).CopyTo(_mean.Values);
        merged.AsSpan(Channels).CopyTo(_variance.Values);
        _count.Count = checked(Count + count);
    }

    private void Map(ActivationShape shape, ReadOnlySpan<T> source, Span<T> destination, bool invert)
    {
        NormalizerExtensions.RequireLength(shape, source.Length, nameof(source));
        NormalizerExtensions.RequireLength(shape, destination.Length, nameof(destination));
        Span<nint> all = stackalloc nint[ActivationShape.MaximumRank];
        ReadOnlySpan<nint> lengths = shape.CopyTo(all);
        Map(NormalizerExtensions.View(source, lengths), NormalizerExtensions.View(destination, lengths), invert);
    }

    private unsafe void Map(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output, bool invert)
    {
        var shape = new ActivationShape(input.Lengths);
        RequireChannels(shape);
        Normalizer<T>.RequireSameShape(shape, output.Lengths, nameof(output));
        Normalizer<T>.RequireDistinct(shape, output.Strides, nameof(output));
        RequireMoments();
        if (shape.Count == 0)
        {
            return;
        }

        fixed (T* x = &TensorMarshal.GetReference(input))
        fixed (T* y = &TensorMarshal.GetReference(output))
        {
            bool inPlace = x == y && input.Strides.SequenceEqual(output.Strides);
            if (!inPlace && Normalizer<T>.Overlap(shape, x, input.Strides, y, output.Strides))
            {
                throw new ArgumentException("The result may be written over exactly the tensor it is made from, but must not overlap it in part. Give it other memory.", nameof(output));
            }

            MemoryOrder inputOrder = DenseTensor.OrderOf(shape, input.Strides);
            MemoryOrder order = inputOrder == MemoryOrder.Strided ? MemoryOrder.ChannelsFirst : inputOrder;
            DenseOperand<T> source = default;
            DenseOperand<T> destination = default;
            try
            {
                source = DenseOperand<T>.Read(shape, x, input.Strides, inputOrder, order);
                destination = DenseOperand<T>.Write(shape, y, output.Strides, DenseTensor.OrderOf(shape, output.Strides), order);
                MapDense(shape, order, source.Pointer, destination.Pointer, invert);
                destination.CopyOut();
            }
            finally
            {
                destination.Dispose();
                source.Dispose();
            }
        }
    }

    private unsafe void MapDense(ActivationShape shape, MemoryOrder order, T* x, T* y, bool invert)
    {
        double[] deviations = Deviations();
        nint positions = shape.SpatialSize;
        fixed (double* mean = _mean.Values, deviation = deviations)
        {
            if (order == MemoryOrder.ChannelsLast || positions == 1)
            {
                for (nint row = 0; row < shape.Samples * positions; row++)
                {
                    MapRun(x + (row * Channels), y + (row * Channels), Channels, mean, deviation, step: 1, invert);
                }

                return;
            }

            for (nint run = 0; run < shape.Samples * Channels; run++)
            {
                nint c = run % Channels;
                MapRun(x + (run * positions), y + (run * positions), positions, mean + c, deviation + c, step: 0, invert);
            }
        }
    }

    // In double whatever T is; step 1 takes a mean and a deviation for each element, step 0 the same ones for all.
    private static unsafe void MapRun(T* x, T* y, nint count, double* mean, double* deviation, nint step, bool invert)
    {
        nint i = 0;
        Vector512<double> center = Vector512.Create(*mean);
        Vector512<double> scale = Vector512.Create(*deviation);
        for (; i <= count - Simd.Lanes; i += Simd.Lanes)
        {
            if (step == 1)
            {
                center = Vector512.Load(mean + i);
                scale = Vector512.Load(deviation + i);
            }

            Vector512<double> value = Simd.Load(x + i);
            Simd.Store(y + i, invert ? (value * scale) + center : (value - center) / scale);
        }

        for (; i < count; i++)
        {
            double value = double.CreateTruncating(x[i]);
            double m = mean[i * step];
            double d = deviation[i * step];
            y[i] = T.CreateTruncating(invert ? (value * d) + m : (value - m) / d);
        }
    }

    private double[] Deviations()
    {
        var deviations = new double[Channels];
        for (int c = 0; c < Channels; c++)
        {
            deviations[c] = _variance.Values[c] == 0 ? 1 : Math.Sqrt(_variance.Values[c]);
        }

        return deviations;
    }

    private void RequireChannels(ActivationShape shape)
    {
        if (shape.Channels != Channels)
        {
            throw new ArgumentException(
                $"The standardizer was made for {Channels} channels; got data {shape} with {shape.Channels}. Channels are the second axis, in channels-last memory too.");
        }
    }

    private void RequireMoments()
    {
        if (Count == 0)
        {
            throw new InvalidOperationException("The standardizer has seen no data: Add the training set first, or LoadState what was saved of it.");
        }

        if (ConstantChannelPolicy == ConstantChannelPolicy.Throw && ConstantChannels is { Count: > 0 } constant)
        {
            throw new InvalidOperationException(
                $"Channels without variance cannot be divided by their deviation: {string.Join(", ", constant.Select(c => c.ToString(CultureInfo.InvariantCulture)))} " +
                $"(all {Count} values equal). Remove them from the data, or choose ConstantChannelPolicy.CenterOnly.");
        }
    }
}
