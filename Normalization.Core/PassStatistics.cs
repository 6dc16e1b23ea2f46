using System.Globalization;
using Normalization.Core.Kernels;

namespace Normalization.Core;

/// <summary>What one layer has seen of a pass over data: exact pooled moments, and averages over batches. Doubles throughout.</summary>
/// <param name="channels">C.</param>
/// <param name="variance">Which of the two is the result.</param>
/// <param name="group">d: spreads are (C, d), of channel c with the d channels of its group. With d = 1 the variance by channel.</param>
internal sealed class PassStatistics(int channels, RecalibratedVariance variance, int group = 1)
{
    private readonly double[] _pooledMean = new double[channels];
    private readonly double[] _pooledSpread = new double[channels * group];
    private readonly double[] _averageMean = new double[channels];
    private readonly double[] _averageSpread = new double[channels * group];
    private double _values;

    public RecalibratedVariance Variance => variance;

    /// <summary>How much has been taken in.</summary>
    public RecalibrationCount Count { get; private set; }

    /// <summary>Why there is no result, as what follows the layer's name; null where there is one.</summary>
    public string? Fault => Count.Batches > 0 ? null : string.Create(CultureInfo.InvariantCulture,
        $"has taken in no batch ({Count.Skipped} skipped): the forward function must call its Forward in training, with more than 1 value per channel, all finite.");

    /// <summary>The refusal of a pass within a pass.</summary>
    public static InvalidOperationException UnderWay() => new("A recalibration of this layer is under way already. Let it end before another begins.");

    /// <summary>The batches, or ghosts, that the averages are over.</summary>
    public long Entries { get; private set; }

    /// <summary>The averages so far of what each batch would bring into running statistics.</summary>
    public void Averages(Span<double> mean, Span<double> spread)
    {
        _averageMean.CopyTo(mean);
        _averageSpread.CopyTo(spread);
    }

    /// <summary>Takes a batch in: the moments of its sets, one (C) and (C, d) after the other, and the averages with it.</summary>
    public void Take(
        ActivationShape shape, ReadOnlySpan<double> mean, ReadOnlySpan<double> populationSpread, ReadOnlySpan<ReductionLayout> layouts,
        ReadOnlySpan<double> averageMean, ReadOnlySpan<double> averageSpread, long entries)
    {
        averageMean.CopyTo(_averageMean);
        averageSpread.CopyTo(_averageSpread);
        Entries = entries;
        Count = Count with { Batches = Count.Batches + 1, Samples = Count.Samples + shape.Samples };
        int slot = 0;
        foreach (ReductionLayout layout in layouts)
        {
            for (nint part = 0; part < layout.Slots / channels; part++, slot += channels)
            {
                double share = layout.SetSize / (_values + layout.SetSize);
                StreamingMoments.Merge(
                    _pooledMean, _pooledSpread, mean.Slice(slot, channels), populationSpread.Slice(slot * group, channels * group), group, share);
                _values += layout.SetSize;
            }
        }
    }

    /// <summary>Counts a batch that could not be taken in.</summary>
    public void Skip() => Count = Count with { Skipped = Count.Skipped + 1 };

    /// <summary>The pass's result: pooled population moments, or the averages.</summary>
    public void Finish(Span<double> mean, Span<double> spread)
    {
        if (variance == RecalibratedVariance.AveragedOverBatches)
        {
            Averages(mean, spread);
            return;
        }

        _pooledMean.CopyTo(mean);
        _pooledSpread.CopyTo(spread);
    }
}
