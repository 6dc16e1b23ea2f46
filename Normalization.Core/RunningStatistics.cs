using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core.Kernels;

namespace Normalization.Core;

/// <summary>The running mean and variance of each channel, as buffers named by PyTorch.</summary>
/// <remarks>
/// running = (1 - momentum) * running + momentum * batch; a null momentum is the cumulative average over batches, whose first
/// batch replaces the initial values. Mean starts at 0, variance at 1 (Ioffe and Szegedy 2015, Algorithm 2).
/// </remarks>
internal sealed class RunningStatistics<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly RunningStatisticsOptions _options;
    private readonly double[] _mean;
    private readonly double[] _variance;
    private readonly double[] _batchMean;
    private readonly double[] _batchVariance;

    public RunningStatistics(int channels, RunningStatisticsOptions options)
    {
        RunningStatisticsOptions.Validate(options);
        _options = options;
        Mean = new StateBuffer<T>("running_mean", [channels], T.Zero);
        Variance = new StateBuffer<T>("running_var", [channels], T.One);
        Tracked = new StateBuffer<T>("num_batches_tracked");
        _mean = new double[channels];
        _variance = new double[channels];
        _batchMean = new double[channels];
        _batchVariance = new double[channels];
    }

    public StateBuffer<T> Mean { get; }

    public StateBuffer<T> Variance { get; }

    public StateBuffer<T> Tracked { get; }

    /// <summary>The statistics as the kernels want them: mean and 1 / sqrt(running_var + epsilon) by channel.</summary>
    public void CopyTo(Span<double> mean, Span<double> variance, Span<double> inverseStd, double epsilon)
    {
        TensorPrimitives.ConvertTruncating<T, double>(Mean.Values, mean);
        TensorPrimitives.ConvertTruncating<T, double>(Variance.Values, variance);
        TensorPrimitives.Add(variance, epsilon, inverseStd);
        TensorPrimitives.ReciprocalSqrt<double>(inverseStd, inverseStd);
    }

    /// <summary>Takes a batch in: one step with the groups averaged by size, or one step for each group.</summary>
    /// <remarks>
    /// Mean and population variance are numbered group * C + channel; a layout's groups have equal set sizes. Returns null when the
    /// buffers were updated, else what could not be stored; then nothing has changed, the counter included.
    /// </remarks>
    public string? Update(
        ReadOnlySpan<double> mean, ReadOnlySpan<double> populationVariance, ReadOnlySpan<ReductionLayout> layouts, bool sequential)
    {
        int channels = _mean.Length;
        TensorPrimitives.ConvertTruncating<T, double>(Mean.Values, _mean);
        TensorPrimitives.ConvertTruncating<T, double>(Variance.Values, _variance);

        double total = 0;
        foreach (ReductionLayout layout in layouts)
        {
            total += (double)(layout.Slots / channels) * layout.SetSize;
        }

        long tracked = Tracked.Count;
        Array.Clear(_batchMean);
        Array.Clear(_batchVariance);
        int slot = 0;
        foreach (ReductionLayout layout in layouts)
        {
            double size = layout.SetSize;
            double correction = _options.RunningVariance == RunningVariance.Sample ? size / (size - 1) : 1;
            double share = sequential ? 1 : size / total;
            for (nint group = 0; group < layout.Slots / channels; group++, slot += channels)
            {
                if (sequential)
                {
                    Array.Clear(_batchMean);
                    Array.Clear(_batchVariance);
                }

                bool fits = Simd.AddFitting<T>(mean.Slice(slot, channels), 1, share, _batchMean)
                    & Simd.AddFitting<T>(populationVariance.Slice(slot, channels), correction, share, _batchVariance);
                if (!fits)
                {
                    return Describe(mean.Slice(slot, channels), populationVariance.Slice(slot, channels), correction);
                }

                if (sequential)
                {
                    Step(++tracked);
                }
            }
        }

        if (!sequential)
        {
            Step(++tracked);
        }

        for (int c = 0; c < channels; c++)
        {
            if (!Simd.Fits<T>(_mean[c]) || !Simd.Fits<T>(_variance[c]))
            {
                return Describe(_mean, _variance, 1);
            }
        }

        TensorPrimitives.ConvertTruncating<double, T>(_mean, Mean.Values);
        TensorPrimitives.ConvertTruncating<double, T>(_variance, Variance.Values);

        Tracked.Count = tracked;
        return null;
    }

    private void Step(long tracked)
    {
        double rate = _options.Momentum ?? 1.0 / tracked;
        Step(_mean, _batchMean, rate);
        Step(_variance, _batchVariance, rate);
    }

    // (1 - rate) * running + rate * batch; the batch's values are scaled in place, since they are of no further use.
    private static void Step(Span<double> running, Span<double> batch, double rate)
    {
        TensorPrimitives.Multiply(batch, rate, batch);
        TensorPrimitives.MultiplyAdd(running, 1 - rate, batch, running);
    }

    // Names the first channel that does not fit. Built only when asked for: the warm path skips without a string.
    private string Describe(ReadOnlySpan<double> mean, ReadOnlySpan<double> populationVariance, double correction)
    {
        int channel = 0;
        while (channel < mean.Length - 1 && Simd.Fits<T>(mean[channel]) && Simd.Fits<T>(populationVariance[channel] * correction))
        {
            channel++;
        }

        return _options.NonFinite == NonFinitePolicy.SkipUpdate
            ? "skipped"
            : string.Create(CultureInfo.InvariantCulture,
                $"channel {channel} has mean {mean[channel]} and variance {populationVariance[channel] * correction}, which {typeof(T).Name} cannot hold as finite numbers");
    }
}
