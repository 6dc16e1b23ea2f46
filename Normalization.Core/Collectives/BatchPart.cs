using System.Globalization;
using Normalization.Core.Kernels;

namespace Normalization.Core.Collectives;

/// <summary>What a rank is about to do; ranks must be about to do the same.</summary>
[Flags]
internal enum PartCall
{
    Forward = 1,
    Backward = 2,
    Training = 4,
    RunningStatistics = 8,
    Update = 16,
    Refused = 32,
}

/// <summary>One rank's part of a batch: its moments and gradient sums, combined with those of the others.</summary>
/// <remarks>
/// Every pass begins with <see cref="Meet"/>, in which the ranks show each other their shapes, so that whoever disagrees is named before
/// anything else is exchanged. Moments are merged by Chan's rule in rank order, hence to the same bits on every rank (Chan, Golub and
/// LeVeque 1979; the gradient as in PyTorch's SyncBatchNorm).
/// </remarks>
internal sealed unsafe class BatchPart(ICollective collective, int channels)
{
    // The call, the number of axes and as many lengths as a shape can have.
    public const int NoteLength = 2 + ActivationShape.MaximumRank;
    private const int FirstLength = 2;

    private readonly double[] _note = new double[NoteLength];
    private readonly double[] _notes = new double[NoteLength * collective.Size];
    private readonly double[] _own = new double[2 * channels];
    private readonly double[] _gathered = new double[2 * channels * collective.Size];
    private readonly double[] _counts = new double[collective.Size];
    private readonly double[] _lines = new double[3 * channels];

    /// <summary>Values of a channel over all ranks, n, as of the last <see cref="Meet"/>.</summary>
    public nint Count { get; private set; }

    /// <summary>This rank's sums of g and of g * xhat by channel, as of the last <see cref="Gradients"/>.</summary>
    public ReadOnlySpan<double> OwnSums => _own;

    /// <summary>The sums of g and of g * xhat by channel over all ranks, as of the last <see cref="Gradients"/>.</summary>
    public ReadOnlySpan<double> Sums => _gathered.AsSpan(0, 2 * channels);

    /// <summary>Adds sums of g and of g * xhat by channel to the gradients of bias and weight, where they are wanted.</summary>
    public static void AddParameterGradients<T>(ReadOnlySpan<double> sums, T* weightGradient, T* biasGradient)
        where T : unmanaged
    {
        int channels = sums.Length / 2;
        for (int c = 0; c < channels; c++)
        {
            if (weightGradient != null)
            {
                Simd.Set(weightGradient + c, Simd.Get(weightGradient + c) + sums[channels + c]);
            }

            if (biasGradient != null)
            {
                Simd.Set(biasGradient + c, Simd.Get(biasGradient + c) + sums[c]);
            }
        }
    }

    /// <summary>Shows the others this rank's shape and what it is about to do with it, and sees theirs.</summary>
    /// <exception cref="CollectiveException">On every rank: two disagree. On those that have not refused their part: another has.</exception>
    public void Meet(ReadOnlySpan<nint> lengths, PartCall call)
    {
        Array.Clear(_note);
        _note[0] = (double)call;
        _note[1] = lengths.Length;
        for (int axis = 0; axis < Math.Min(lengths.Length, ActivationShape.MaximumRank); axis++)
        {
            _note[FirstLength + axis] = lengths[axis];
        }

        collective.AllGather(_note, _notes);
        double count = 0;
        for (int rank = 0; rank < collective.Size; rank++)
        {
            if (!AgreesWithFirst(rank))
            {
                throw new CollectiveException(
                    $"The parts of a batch must be equal in all axes but the first; rank 0 has {ShapeOf(0)}, rank {rank} has {ShapeOf(rank)}. Nothing was computed, on any rank.");
            }
        }

        for (int rank = 0; rank < collective.Size && (call & PartCall.Refused) == 0; rank++)
        {
            if ((CallOf(rank) & PartCall.Refused) != 0)
            {
                throw new CollectiveException($"Rank {rank} refused its part {ShapeOf(rank)} of the batch; its own message says why. Nothing was computed, on any rank.");
            }

            if (CallOf(rank) != CallOf(0))
            {
                throw new CollectiveException(
                    $"The ranks must do the same with the parts of a batch; rank 0 is at {CallOf(0)}, rank {rank} at {CallOf(rank)}. Set modes and switches alike on every rank.");
            }

            Span<double> note = NoteOf(rank);
            _counts[rank] = note[FirstLength];
            for (int axis = 2; axis < (int)note[1]; axis++)
            {
                _counts[rank] *= note[FirstLength + axis];
            }

            count += _counts[rank];
        }

        Count = checked((nint)count);
    }

    /// <summary>Takes this part's moments and merges them with the others'; every rank receives those of the whole batch.</summary>
    public void Moments<T>(in ReductionLayout layout, T* x, Statistics statistics, double epsilon)
        where T : unmanaged
    {
        double own = _counts[collective.Rank];
        Array.Clear(_own);
        if (own > 0)
        {
            Standardizer.Moments(layout, x, statistics, epsilon);
            for (int c = 0; c < channels; c++)
            {
                _own[c] = statistics.Mean[c];
                _own[channels + c] = statistics.PopulationVariance[c] * own;
            }
        }

        collective.AllGather(_own, _gathered);
        for (int c = 0; c < channels; c++)
        {
            Merge(c, out statistics.Mean[c], out statistics.PopulationVariance[c]);
            statistics.InverseStd[c] = Standardizer.InverseStd(statistics.PopulationVariance[c], epsilon);
        }
    }

    /// <summary>Takes this part's gradient sums, adds the others' and writes this part's input gradient.</summary>
    /// <remarks>dx = w r (g - sum(g) / n - (x - mean) r^2 sum(g (x - mean)) / n), sums and n those of the whole batch; null weight stands for 1.</remarks>
    public void Gradients<T>(ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics)
        where T : unmanaged
    {
        double own = _counts[collective.Rank];
        Array.Clear(_own);
        if (own > 0)
        {
            fixed (double* sums = _own)
            {
                Standardizer.GradientMeans(layout, x, g, statistics, sums, sums + channels);
            }

            for (int i = 0; i < _own.Length; i++)
            {
                _own[i] *= own;
            }
        }

        Span<double> total = _gathered.AsSpan(0, 2 * channels);
        _own.CopyTo(total);
        collective.AllReduceSum(total);
        if (own > 0)
        {
            ApplyGradient(Layouts.PerGivenChannel(shape, order), x, g, dx, weight, statistics, total);
        }
    }

    private void ApplyGradient<T>(in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, ReadOnlySpan<double> sums)
        where T : unmanaged
    {
        fixed (double* lines = _lines)
        {
            var gradient = new GradientLines { Mean = statistics.Mean, GradientSlope = lines, Slope = lines + channels, Offset = lines + (2 * channels) };
            for (int c = 0; c < channels; c++)
            {
                double inverse = statistics.InverseStd[c];
                double scale = (weight == null ? 1 : Simd.Get(weight + c)) * inverse;
                gradient.GradientSlope[c] = scale;
                gradient.Slope[c] = -(scale * inverse) * (sums[channels + c] / Count);
                gradient.Offset[c] = -scale * (sums[c] / Count);
            }

            Standardizer.ApplyGradient(layout, x, g, dx, gradient);
        }
    }

    // Chan's rule: delta = mean_b - mean_a; mean = mean_a + delta n_b / n; M2 = M2_a + M2_b + delta^2 n_a n_b / n.
    private void Merge(int channel, out double mean, out double populationVariance)
    {
        double count = 0;
        double squares = 0;
        mean = 0;
        for (int rank = 0; rank < _counts.Length; rank++)
        {
            if (_counts[rank] == 0)
            {
                continue;
            }

            double next = _counts[rank];
            int at = (2 * channels * rank) + channel;
            double delta = count == 0 ? 0 : _gathered[at] - mean;
            double whole = count + next;
            mean = count == 0 ? _gathered[at] : mean + (delta * (next / whole));
            squares += _gathered[at + channels] + (delta * delta * (count * (next / whole)));
            count = whole;
        }

        populationVariance = count == 0 ? 0 : squares / count;
    }

    private bool AgreesWithFirst(int rank)
    {
        ReadOnlySpan<double> first = NoteOf(0);
        ReadOnlySpan<double> note = NoteOf(rank);
        return note[1] == first[1] && note[(FirstLength + 1)..].SequenceEqual(first[(FirstLength + 1)..]);
    }

    private Span<double> NoteOf(int rank) => _notes.AsSpan(rank * NoteLength, NoteLength);

    private PartCall CallOf(int rank) => (PartCall)(int)NoteOf(rank)[0];

    // More axes than a shape can have are only counted.
    private string ShapeOf(int rank)
    {
        ReadOnlySpan<double> note = NoteOf(rank);
        int axes = (int)note[1];
        var lengths = new nint[Math.Min(axes, ActivationShape.MaximumRank)];
        for (int axis = 0; axis < lengths.Length; axis++)
        {
            lengths[axis] = (nint)note[FirstLength + axis];
        }

        return axes <= ActivationShape.MaximumRank
            ? ActivationShape.Format(lengths)
            : string.Create(CultureInfo.InvariantCulture, $"{ActivationShape.Format(lengths)[..^1]}, ...) of {axes} axes");
    }
}
