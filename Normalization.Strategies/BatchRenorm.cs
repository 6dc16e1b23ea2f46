using System.Buffers;
using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="BatchRenorm{T}"/>.</summary>
public sealed record BatchRenormOptions : NormalizerOptions
{
    /// <summary>The defaults.</summary>
    public BatchRenormOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy has.</param>
    public BatchRenormOptions(NormalizerOptions options)
        : base(options)
    {
    }

    /// <summary>
    /// The weight of the new batch, in [0, 1], as PyTorch counts it; null is the cumulative average. Default 0.1 as elsewhere here; the paper
    /// takes 0.01, so that the statistics it corrects towards are steadier than a batch's.
    /// </summary>
    public double? Momentum { get; init; } = 0.1;

    /// <summary>r stays in [1 / RMax, RMax]; at least 1, infinity for no limit. Default 3, where the paper's schedule ends.</summary>
    public double RMax { get; init; } = 3;

    /// <summary>d stays in [-DMax, DMax]; at least 0, infinity for no limit. Default 5, where the paper's schedule ends.</summary>
    public double DMax { get; init; } = 5;

    /// <summary>How the limits grow from 1 and 0; null, the default, has them fixed, as a trained layer has. For training from the start: <see cref="BatchRenormSchedule.Paper"/>.</summary>
    public BatchRenormSchedule? Schedule { get; init; }
}

/// <summary>Limits of batch renormalization that grow with the number of batches: none of it first, then in a straight line.</summary>
/// <remarks>
/// Steps are counted by <c>num_batches_tracked</c>, hence saved with the layer; a layer whose running statistics stand still stays at its step.
/// </remarks>
public sealed record BatchRenormSchedule
{
    /// <summary>The paper's: batch normalization for 5000 steps, RMax reached at 40000, DMax at 25000.</summary>
    public static BatchRenormSchedule Paper { get; } = new();

    /// <summary>Steps with r = 1 and d = 0, at least 0.</summary>
    public long PlainSteps { get; init; } = 5_000;

    /// <summary>The step at which r may reach its limit; not below <see cref="PlainSteps"/>.</summary>
    public long RSteps { get; init; } = 40_000;

    /// <summary>The step at which d may reach its limit; not below <see cref="PlainSteps"/>.</summary>
    public long DSteps { get; init; } = 25_000;

    /// <summary>The limits for the next batch.</summary>
    /// <param name="step">The batches seen so far.</param>
    /// <param name="rMax">The limit that r ends with.</param>
    /// <param name="dMax">The limit that d ends with.</param>
    public (double R, double D) Limits(long step, double rMax, double dMax) =>
        (Between(1, rMax, step, RSteps), Between(0, dMax, step, DSteps));

    internal void Validate()
    {
        if (PlainSteps < 0 || RSteps < PlainSteps || DSteps < PlainSteps)
        {
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture,
                $"A schedule has 0 <= PlainSteps <= RSteps and DSteps; got PlainSteps {PlainSteps}, RSteps {RSteps}, DSteps {DSteps}."));
        }
    }

    private double Between(double start, double end, long step, long last) =>
        step < PlainSteps ? start
        : step >= last ? end
        : step == PlainSteps ? start
        : start + ((end - start) * (step - PlainSteps) / (last - PlainSteps));
}

/// <summary>Batch renormalization: batch normalization corrected, within limits, to what inference will compute.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>Training: y = weight[c] * ((x - mean) / s * r + d) + bias[c] with s = sqrt(populationVariance + epsilon) of the batch,
/// r = s / running_sigma within [1 / RMax, RMax] and d = (mean - running_mean) / running_sigma within [-DMax, DMax], both of the
/// running statistics before this batch. Inside the limits that is inference's formula, y = weight * (x - running_mean) / running_sigma + bias.</para>
/// <para>Gradient: r and d are constants by definition, dx = K*(dy * weight * r) with batch normalization's three terms.</para>
/// <para>Shapes: weight, bias, running_mean, running_sigma (C); num_batches_tracked []. running_sigma is a deviation with epsilon in it,
/// not a variance; it starts at 1 and counts as sqrt(epsilon) where it is below. Running statistics are the strategy: it cannot be without.</para>
/// <para>A new layer corrects towards mean 0 and deviation 1 and so hardly normalizes: train it with a <see cref="BatchRenormSchedule"/>.
/// Limits of 1 and 0 are batch normalization to the bit.</para>
/// <para>Degenerate: N*S = 1 in training follows <see cref="SingleValuePolicy"/>; BiasOnly leaves d out.</para>
/// <para>Source: Ioffe 2017, arXiv:1702.03275, Algorithm 1. Differs from Keras, which keeps a moving variance for inference apart from the
/// renorm statistics, and by default limits nothing.</para>
/// </remarks>
public sealed class BatchRenorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;
    private readonly BatchRenormOptions _options;
    private readonly double[] _correction; // r, then d, of the last training Forward
    private bool _corrected; // whether there was one

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public BatchRenorm(int channels, BatchRenormOptions? options = null)
        : base(options ?? new BatchRenormOptions(), RunningOf(Guard.Channels(channels), options ?? new BatchRenormOptions()), channels)
    {
        _channels = channels;
        _options = options ?? new BatchRenormOptions();
        if (!(_options.RMax >= 1))
        {
            throw new ArgumentException(
                $"r-max bounds r to [1 / r-max, r-max] and must be at least 1; got {_options.RMax.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }

        if (!(_options.DMax >= 0))
        {
            throw new ArgumentException(
                $"d-max bounds d to [-d-max, d-max] and must be at least 0; got {_options.DMax.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }

        _options.Schedule?.Validate();
        _correction = new double[2 * channels];
    }

    /// <summary>The limits of r and d for the next training batch.</summary>
    public (double R, double D) Limits =>
        _options.Schedule?.Limits(Running!.Tracked.Count, _options.RMax, _options.DMax) ?? (_options.RMax, _options.DMax);

    /// <inheritdoc/>
    /// <remarks>Within the limits the output is that of running statistics, which neither a shift nor a scale of the batch moves.</remarks>
    public override NormalizerClaims Claims => NormalizerClaims.BatchPermutationEquivariance | (_options is not { RMax: 1, DMax: 0 }
        ? NormalizerClaims.None
        : NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance
            | NormalizerClaims.ChannelScaleInvariance | NormalizerClaims.BatchDependence);

    private protected override string SetName => "channel";

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => channel;

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerChannel(shape, order);
        return 1;
    }

    // r and d are a weight and a bias that the batch's statistics determine: (z r + d) weight + bias = z (r weight) + (d weight + bias).
    internal override unsafe void StandardizeSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
    {
        double[]? rented = Training ? null : ArrayPool<double>.Shared.Rent(2 * _channels); // inference writes no field
        double[] targets = ArrayPool<double>.Shared.Rent(3 * _channels);
        T[] affine = ArrayPool<T>.Shared.Rent(2 * _channels);
        fixed (double* correction = rented ?? _correction, target = targets)
        fixed (T* scale = affine)
        {
            Correction state = CorrectionOf(layout, statistics, correction, target);
            if (state is { RMax: 1, DMax: 0, Holds: false })
            {
                base.StandardizeSets(shape, order, layout, x, y, weight, bias, statistics);
                new Span<double>(state.R, _channels).Fill(1);
                new Span<double>(state.D, _channels).Clear();
            }
            else
            {
                state.Weight = weight;
                state.Bias = bias;
                state.Scale = scale;
                state.Shift = scale + _channels;
                Standardizer.Forward(layout, x, y, state.Scale, state.Shift, statistics, Epsilon, adjustment: new Adjustment { State = &state, Function = &Correct });
            }
        }

        _corrected |= Training;
        ArrayPool<T>.Shared.Return(affine);
        ArrayPool<double>.Shared.Return(targets);
        if (rented is not null)
        {
            ArrayPool<double>.Shared.Return(rented);
        }
    }

    internal override unsafe void DifferentiateSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
    {
        double[]? rented = Training ? null : ArrayPool<double>.Shared.Rent(5 * _channels);
        T[] memory = ArrayPool<T>.Shared.Rent(3 * _channels);
        fixed (double* correction = rented ?? _correction)
        fixed (T* scale = memory)
        {
            double* r = correction;
            double* d = correction + _channels;
            if (rented is not null)
            {
                Correction state = CorrectionOf(layout, statistics, correction, correction + (2 * _channels));
                state.Take(0, _channels);
            }

            bool isPlain = true;
            for (int c = 0; c < _channels; c++)
            {
                isPlain &= r[c] == 1 && d[c] == 0;
                scale[c] = weight == null ? T.CreateTruncating(r[c]) : T.CreateTruncating(r[c] * double.CreateTruncating(weight[c]));
            }

            if (isPlain)
            {
                Standardizer.Backward(layout, x, g, dx, weight, statistics, weightGradient, biasGradient, constantStatistics: false);
            }
            else
            {
                T* products = weightGradient == null ? null : scale + _channels; // sums of g z by channel
                T* sums = weightGradient == null && biasGradient == null ? null : scale + (2 * _channels); // and of g
                new Span<T>(scale + _channels, 2 * _channels).Clear();
                Standardizer.Backward(layout, x, g, dx, scale, statistics, products, sums, constantStatistics: false);
                for (int c = 0; c < _channels && sums != null; c++)
                {
                    double sum = double.CreateTruncating(sums[c]);
                    if (products != null)
                    {
                        weightGradient[c] += T.CreateTruncating((r[c] * double.CreateTruncating(products[c])) + (d[c] * sum));
                    }

                    if (biasGradient != null)
                    {
                        biasGradient[c] += sums[c];
                    }
                }
            }
        }

        ArrayPool<T>.Shared.Return(memory);
        if (rented is not null)
        {
            ArrayPool<double>.Shared.Return(rented);
        }
    }

    private static RunningStatistics<T> RunningOf(int channels, BatchRenormOptions options) =>
        new(channels, new RunningStatisticsOptions(options) { Momentum = options.Momentum }, keepsDeviation: true);

    private static unsafe void Correct(void* state, nint channel, nint count) => ((Correction*)state)->Apply(channel, count);

    // The target has room for three numbers a channel; what is corrected towards is the running statistics before this batch.
    private unsafe Correction CorrectionOf(in ReductionLayout layout, Statistics batch, double* correction, double* target)
    {
        var running = new Statistics { Mean = target, PopulationVariance = target + _channels, InverseStd = target + (2 * _channels) };
        (double rMax, double dMax) = layout.SetSize == 1 ? (1, 0) : Limits;
        if (rMax == 1 && dMax == 0)
        {
            LoadRunning(running);
        }
        else
        {
            LoadChecked(running);
        }

        bool holds = Training && HoldConstants;
        if (holds && !_corrected)
        {
            throw new InvalidOperationException(
                "BatchRenorm: HoldConstants keeps the correction (r and d) of the last Forward in training, and there has been none. Run one Forward in training first.");
        }

        return new Correction
        {
            Batch = batch,
            Running = running,
            R = correction,
            D = correction + _channels,
            Epsilon = Epsilon,
            RMax = rMax,
            DMax = dMax,
            Holds = holds,
        };
    }

    /// <summary>From a batch's statistics to r and d, and on to the weight and bias that have them in.</summary>
    private unsafe struct Correction
    {
        public Statistics Batch;
        public Statistics Running;
        public double* R;
        public double* D;
        public double Epsilon;
        public double RMax;
        public double DMax;
        public bool Holds;
        public T* Weight;
        public T* Bias;
        public T* Scale;
        public T* Shift;

        public readonly void Take(nint first, nint count)
        {
            for (nint c = first; c < first + count; c++)
            {
                R[c] = Math.Clamp(Math.Sqrt(Batch.PopulationVariance[c] + Epsilon) * Running.InverseStd[c], 1 / RMax, RMax);
                D[c] = Math.Clamp((Batch.Mean[c] - Running.Mean[c]) * Running.InverseStd[c], -DMax, DMax);
            }
        }

        public readonly void Apply(nint first, nint count)
        {
            if (!Holds)
            {
                Take(first, count);
            }

            for (nint c = first; c < first + count; c++)
            {
                double weight = Weight == null ? 1 : double.CreateTruncating(Weight[c]);
                double bias = Bias == null ? 0 : double.CreateTruncating(Bias[c]);
                Scale[c] = T.CreateTruncating(weight * R[c]);
                Shift[c] = T.CreateTruncating(D[c] == 0 ? bias : (weight * D[c]) + bias);
            }
        }
    }
}

/// <summary>The catalog's view of <see cref="BatchRenorm{T}"/>.</summary>
internal readonly struct BatchRenormStrategy : IStrategy
{
    public static string Id => "batch-renorm";

    public static string Axes => "each channel, over all samples and positions, corrected to the running statistics";

    public static IReadOnlyList<string> Tensors => ["weight", "bias", "running_mean", "running_sigma", "num_batches_tracked"];

    public static string Options(StrategySettings settings) => string.Create(CultureInfo.InvariantCulture,
        $"r within 1/{settings.RMax} to {settings.RMax}, d within {settings.DMax}, {(settings.Momentum is { } momentum ? $"momentum {momentum}" : "cumulative average")}{(settings.RunningStatistics == false ? ", no running statistics" : "")}");

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (settings.RunningStatistics == false)
        {
            throw new ArgumentException("Batch renormalization corrects towards running statistics and cannot be without them. Keep them, or use batch-norm.");
        }

        return new BatchRenorm<T>(shape.Channels, new BatchRenormOptions(settings.ToOptions()) { Momentum = settings.Momentum, RMax = settings.RMax, DMax = settings.DMax });
    }
}

/// <content>Options of <see cref="BatchRenorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>batch-renorm: see <see cref="BatchRenormOptions.RMax"/>.</summary>
    [Setting("--r-max", "batch-renorm: r stays within 1/R and R; 1 is no correction. Default 3, as at the end of the paper's schedule.", Placeholder = "R", Minimum = 1)]
    public double RMax { get; init; } = 3;

    /// <summary>batch-renorm: see <see cref="BatchRenormOptions.DMax"/>.</summary>
    [Setting("--d-max", "batch-renorm: d stays within -D and D; 0 is no correction. Default 5, as at the end of the paper's schedule.", Placeholder = "D")]
    public double DMax { get; init; } = 5;
}
