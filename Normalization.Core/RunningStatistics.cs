using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core.Kernels;

namespace Normalization.Core;

/// <summary>The running mean and variance of each channel, as buffers named by PyTorch.</summary>
/// <remarks>
/// <para>running = (1 - momentum) * running + momentum * batch; a null momentum is the cumulative average over batches, whose first
/// batch replaces the initial values. Mean starts at 0, variance at 1 (Ioffe and Szegedy 2015, Algorithm 2).</para>
/// <para>Batch renormalization keeps a deviation in place of the variance, sqrt(population variance + epsilon), as running_sigma.</para>
/// <para>During a <see cref="Recalibration"/> batches go into its pass, and the buffers stay as they are until the end.</para>
/// </remarks>
internal sealed class RunningStatistics<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly RunningStatisticsOptions _options;
    private readonly bool _keepsDeviation;
    private readonly double[] _mean;
    private readonly double[] _spread;
    private readonly double[] _batchMean;
    private readonly double[] _batchSpread;
    private readonly double[] _deviation;
    private PassStatistics? _pass;

    public RunningStatistics(int channels, RunningStatisticsOptions options, bool keepsDeviation = false)
    {
        RunningStatisticsOptions.Validate(options);
        _options = options;
        _keepsDeviation = keepsDeviation;
        Mean = new StateBuffer<T>("running_mean", [channels], T.Zero);
        Spread = new StateBuffer<T>(keepsDeviation ? "running_sigma" : "running_var", [channels], T.One);
        Tracked = new StateBuffer<T>("num_batches_tracked");
        _mean = new double[channels];
        _spread = new double[channels];
        _batchMean = new double[channels];
        _batchSpread = new double[channels];
        _deviation = keepsDeviation ? new double[channels] : [];
    }

    public StateBuffer<T> Mean { get; }

    /// <summary>The variance, or the deviation.</summary>
    public StateBuffer<T> Spread { get; }

    public StateBuffer<T> Tracked { get; }

    /// <summary>The statistics as the kernels want them: mean and 1 / sqrt(running_var + epsilon) by channel, or 1 / running_sigma.</summary>
    public void CopyTo(Span<double> mean, Span<double> variance, Span<double> inverseStd, double epsilon)
    {
        TensorPrimitives.ConvertTruncating<T, double>(Mean.Values, mean);
        TensorPrimitives.ConvertTruncating<T, double>(Spread.Values, variance);
        if (_keepsDeviation)
        {
            // Epsilon is in the deviation already; one below its root was never a batch's.
            TensorPrimitives.Max(variance, Math.Sqrt(epsilon), inverseStd);
            TensorPrimitives.Multiply(inverseStd, inverseStd, variance);
            TensorPrimitives.Reciprocal<double>(inverseStd, inverseStd);
            return;
        }

        TensorPrimitives.Add(variance, epsilon, inverseStd);
        TensorPrimitives.ReciprocalSqrt<double>(inverseStd, inverseStd);
    }

    /// <summary>Takes a batch in: one step with the groups averaged by size, or one step for each group.</summary>
    /// <remarks>
    /// Mean and population variance are numbered group * C + channel; a layout's groups have equal set sizes. Returns null when the
    /// buffers were updated, else what could not be stored; then nothing has changed, the counter included.
    /// </remarks>
    public string? Update(
        ActivationShape shape, ReadOnlySpan<double> mean, ReadOnlySpan<double> populationVariance, ReadOnlySpan<ReductionLayout> layouts, bool sequential)
    {
        int channels = _mean.Length;
        long tracked = Load();
        double total = 0;
        foreach (ReductionLayout layout in layouts)
        {
            total += (double)(layout.Slots / channels) * layout.SetSize;
        }

        Array.Clear(_batchMean);
        Array.Clear(_batchSpread);
        int slot = 0;
        foreach (ReductionLayout layout in layouts)
        {
            double size = layout.SetSize;
            double correction = _options.RunningVariance == RunningVariance.Sample && !_keepsDeviation ? size / (size - 1) : 1;
            double share = sequential ? 1 : size / total;
            for (nint group = 0; group < layout.Slots / channels; group++, slot += channels)
            {
                if (sequential)
                {
                    Array.Clear(_batchMean);
                    Array.Clear(_batchSpread);
                }

                ReadOnlySpan<double> variance = populationVariance.Slice(slot, channels);
                bool fits = Simd.AddFitting<T>(mean.Slice(slot, channels), 1, share, _batchMean)
                    & Simd.AddFitting<T>(_keepsDeviation ? Deviation(variance) : variance, correction, share, _batchSpread);
                if (!fits)
                {
                    return Refuse(mean.Slice(slot, channels), variance, correction);
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

        if (!Simd.AllFit<T>(_mean) || !Simd.AllFit<T>(_spread))
        {
            return Refuse(_mean, _spread, 1);
        }

        if (_pass is { } pass)
        {
            pass.Take(shape, mean, populationVariance, layouts, _mean, _spread, tracked);
            return null;
        }

        Store(_mean, _spread, tracked);
        return null;
    }

    /// <summary>From here on, batches go into statistics of a whole pass.</summary>
    public void BeginPass(RecalibratedVariance variance) =>
        _pass = _pass is null ? new PassStatistics(_mean.Length, variance) : throw PassStatistics.UnderWay();

    /// <summary>What keeps the pass from being stored, or null.</summary>
    public string? PassFault()
    {
        if (_pass!.Fault is { } fault)
        {
            return fault;
        }

        Finish();
        return !Simd.AllFit<T>(_mean) || !Simd.AllFit<T>(_spread) ? $"has statistics that {ElementTypes.NameOf<T>()} cannot hold as finite numbers." : null;
    }

    /// <summary>Ends the pass, and keeps its statistics if told so.</summary>
    public RecalibrationCount EndPass(bool keep)
    {
        PassStatistics pass = _pass!;
        if (keep)
        {
            Finish();
            Store(_mean, _spread, pass.Count.Batches);
        }

        _pass = null;
        return pass.Count;
    }

    private void Finish()
    {
        _pass!.Finish(_mean, _spread);
        if (_keepsDeviation && _pass.Variance == RecalibratedVariance.Pooled)
        {
            Deviation(_spread).CopyTo(_spread);
        }
    }

    private long Load()
    {
        if (_pass is { } pass)
        {
            pass.Averages(_mean, _spread);
            return pass.Entries;
        }

        TensorPrimitives.ConvertTruncating<T, double>(Mean.Values, _mean);
        TensorPrimitives.ConvertTruncating<T, double>(Spread.Values, _spread);
        return Tracked.Count;
    }

    private void Store(ReadOnlySpan<double> mean, ReadOnlySpan<double> spread, long tracked)
    {
        TensorPrimitives.ConvertTruncating<double, T>(mean, Mean.Values);
        TensorPrimitives.ConvertTruncating<double, T>(spread, Spread.Values);
        Tracked.Count = tracked;
    }

    private ReadOnlySpan<double> Deviation(ReadOnlySpan<double> populationVariance)
    {
        TensorPrimitives.Add(populationVariance, _options.Epsilon, _deviation);
        TensorPrimitives.Sqrt<double>(_deviation, _deviation);
        return _deviation;
    }

    private void Step(long tracked)
    {
        double rate = _pass is null && _options.Momentum is { } momentum ? momentum : 1.0 / tracked;
        Step(_mean, _batchMean, rate);
        Step(_spread, _batchSpread, rate);
    }

    private string Refuse(ReadOnlySpan<double> mean, ReadOnlySpan<double> populationVariance, double correction)
    {
        _pass?.Skip();
        return Describe(mean, populationVariance, correction);
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
                $"channel {channel} has mean {mean[channel]} and variance {populationVariance[channel] * correction}, which {ElementTypes.NameOf<T>()} cannot hold as finite numbers");
    }
}
