using Normalization.Core.Kernels;

namespace Normalization.Core;

/// <summary>What one layer has seen of a pass over data: exact pooled moments by channel, and averages over batches. Doubles throughout.</summary>
internal sealed class PassStatistics(int channels, RecalibratedVariance variance)
{
    private readonly double[] _pooledMean = new double[channels];
    private readonly double[] _pooledVariance = new double[channels];
    private readonly double[] _averageMean = new double[channels];
    private readonly double[] _averageSpread = new double[channels];
    private double _values;

    public RecalibratedVariance Variance => variance;

    /// <summary>How much has been taken in.</summary>
    public RecalibrationCount Count { get; private set; }

    /// <summary>The batches, or ghosts, that the averages are over.</summary>
    public long Entries { get; private set; }

    /// <summary>The averages so far of what each batch would bring into running statistics.</summary>
    public void Averages(Span<double> mean, Span<double> spread)
    {
        _averageMean.CopyTo(mean);
        _averageSpread.CopyTo(spread);
    }

    /// <summary>Takes a batch in: its moments, numbered group * C + channel, and the averages with it.</summary>
    public void Take(
        ActivationShape shape, ReadOnlySpan<double> mean, ReadOnlySpan<double> populationVariance, ReadOnlySpan<ReductionLayout> layouts,
        ReadOnlySpan<double> averageMean, ReadOnlySpan<double> averageSpread, long entries)
    {
        averageMean.CopyTo(_averageMean);
        averageSpread.CopyTo(_averageSpread);
        Entries = entries;
        Count = Count with { Batches = Count.Batches + 1, Samples = Count.Samples + shape.Samples };
        int slot = 0;
        foreach (ReductionLayout layout in layouts)
        {
            for (nint group = 0; group < layout.Slots / channels; group++, slot += channels)
            {
                double share = layout.SetSize / (_values + layout.SetSize);
                for (int c = 0; c < channels; c++)
                {
                    StreamingMoments.Merge(ref _pooledMean[c], ref _pooledVariance[c], mean[slot + c], populationVariance[slot + c], share);
                }

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
        _pooledVariance.CopyTo(spread);
    }
}
