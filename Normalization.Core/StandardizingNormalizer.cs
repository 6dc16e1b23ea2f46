using System.Buffers;
using System.Numerics;
using System.Runtime.CompilerServices;
using Normalization.Core.Kernels;

namespace Normalization.Core;

/// <summary>A strategy that subtracts a mean, divides by a standard deviation and applies weight and bias: it only chooses the sets.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// y = weight * (x - mean) / sqrt(populationVariance + epsilon) + bias over each reduction set;
/// dx = r * (weight * dy - mean(weight * dy) - xhat * mean(weight * dy * xhat)) with r = 1 / sqrt(populationVariance + epsilon).
/// With running statistics: dx = weight * r * dy. Exact for every epsilon.
/// </remarks>
public abstract class StandardizingNormalizer<T> : Normalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly RunningStatistics<T>? _running;
    private double[] _mean = [];
    private double[] _variance = [];
    private double[] _inverseStd = [];
    private bool _savedRunning;

    private protected StandardizingNormalizer(NormalizerOptions options, int channels, params ReadOnlySpan<nint> affineShape)
        : this(options, options is RunningStatisticsOptions { TrackRunningStatistics: true } running ? new RunningStatistics<T>(channels, running) : null, affineShape)
    {
    }

    private protected StandardizingNormalizer(NormalizerOptions options, RunningStatistics<T>? running, params ReadOnlySpan<nint> affineShape)
        : base(options)
    {
        AddAffine(options, affineShape);
        if (running is not null)
        {
            _running = running;
            AddBuffer(running.Mean);
            AddBuffer(running.Spread);
            AddBuffer(running.Tracked);
        }
        else if (options.SingleValue == SingleValuePolicy.UseRunning)
        {
            throw new ArgumentException(
                $"{Name} keeps no running statistics, so SingleValuePolicy.UseRunning has nothing to use. Choose Throw or BiasOnly, or track running statistics.",
                nameof(options));
        }
    }

    /// <summary>Which elements share a mean, in words for messages: "channel", "sample".</summary>
    private protected abstract string SetName { get; }

    /// <summary>What is added under the root.</summary>
    private protected virtual double AddedEpsilon => Epsilon;

    /// <summary>Whether running statistics take one step for each group rather than one for the batch.</summary>
    private protected virtual bool SequentialRunning => false;

    private protected override RunningStatistics<T>? Running => _running;

    /// <summary>How many values the statistics are of that normalize a set of a batch: its own, unless others are kept from before.</summary>
    private protected virtual nint ValuesBehind(nint setSize) => setSize;

    /// <summary>Writes the layouts that make up the batch's reduction sets (at most two) and returns how many.</summary>
    internal abstract int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts);

    /// <summary>Whether weights go by element of a channels-first sample while memory is channels-last.</summary>
    internal virtual bool NeedsTransposedAffine(ActivationShape shape, MemoryOrder order) => false;

    internal override unsafe InferenceMap? InferenceMap
    {
        get
        {
            if (_running is null || !UsesRunning)
            {
                return null;
            }

            int channels = _running.Mean.Values.Length;
            double[] memory = new double[3 * channels];
            fixed (double* pointer = memory)
            {
                LoadRunning(Carve(pointer, channels));
            }

            return Core.InferenceMap.Create(1, memory[(2 * channels)..], memory.AsSpan(0, channels), Weight?.Values, Bias?.Values);
        }
    }

    /// <summary>The layout of the whole batch, of which the given one may be a part: what set sizes and running statistics go by.</summary>
    internal virtual ReductionLayout Whole(in ReductionLayout layout) => layout;

    /// <summary>Takes the moments of every set, without writing an output.</summary>
    internal virtual unsafe void MomentsOfSets(ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, Statistics statistics) =>
        Standardizer.Moments(layout, x, statistics, AddedEpsilon);

    /// <summary>Takes the moments of every set and writes the output.</summary>
    internal virtual unsafe void StandardizeSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics) =>
        Standardizer.Forward(layout, x, y, weight, bias, statistics, AddedEpsilon);

    /// <summary>Writes the input gradient of <see cref="StandardizeSets"/> and adds to the parameter gradients that are not null.</summary>
    internal virtual unsafe void DifferentiateSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient) =>
        Standardizer.Backward(layout, x, g, dx, weight, statistics, weightGradient, biasGradient, constantStatistics: false);

    /// <summary>What normalizes in place of the batch's statistics, by channel.</summary>
    internal virtual unsafe void LoadRunning(Statistics statistics)
    {
        int channels = _running!.Mean.Values.Length;
        _running.CopyTo(
            new Span<double>(statistics.Mean, channels), new Span<double>(statistics.PopulationVariance, channels),
            new Span<double>(statistics.InverseStd, channels), Epsilon);
    }

    /// <summary>Takes a batch's own moments into the running statistics; null, or what could not be stored, and then nothing was.</summary>
    internal virtual string? UpdateRunning(
        ActivationShape shape, ReadOnlySpan<double> mean, ReadOnlySpan<double> populationVariance, ReadOnlySpan<ReductionLayout> layouts) =>
        _running!.Update(shape, mean, populationVariance, layouts, SequentialRunning);

    internal override int TensorsReadTwice(ActivationShape shape, MemoryOrder order, bool backward, nint cacheBytes)
    {
        if (_running is not null && UsesRunning)
        {
            return 0;
        }

        // Forward what the affine map reads; backward the weight, and the sums of the gradients.
        int weightArrays = backward ? (Weight is null ? 0 : 2) + (Bias is null ? 0 : 1) : (Weight is null ? 0 : 1) + (Bias is null ? 0 : 1);
        int tensors = backward ? 2 : 1;
        Span<ReductionLayout> layouts = stackalloc ReductionLayout[2];
        foreach (ReductionLayout layout in layouts[..WriteLayouts(shape, order, layouts)])
        {
            // A smaller remainder may fit: then all of it is not to be read twice.
            tensors = Math.Min(tensors, SecondReads.Of(layout, tensors, weightArrays, Unsafe.SizeOf<T>(), cacheBytes));
        }

        return tensors;
    }

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        Span<ReductionLayout> layouts = stackalloc ReductionLayout[2];
        layouts = layouts[..WriteLayouts(shape, order, layouts)];
        nint slots = 0;
        foreach (ReductionLayout layout in layouts)
        {
            slots += layout.Slots;
        }

        nint smallest = SmallestSet(layouts);
        bool usesRunning = NormalizesByRunning(smallest);
        bool updates = _running is not null && UpdatesRunning && smallest != 1;
        if (!usesRunning)
        {
            CheckSetSize(shape, smallest);
        }

        if (!Training)
        {
            double[] rented = ArrayPool<double>.Shared.Rent(checked((int)(3 * Math.Max(slots, shape.Channels))));
            try
            {
                fixed (double* statistics = rented)
                {
                    Normalize(shape, order, x, y, layouts, Carve(statistics, Math.Max(slots, shape.Channels)), usesRunning);
                }
            }
            finally
            {
                ArrayPool<double>.Shared.Return(rented);
            }

            return;
        }

        Reserve(Math.Max(slots, shape.Channels));
        fixed (double* mean = _mean, variance = _variance, inverse = _inverseStd)
        {
            var statistics = new Statistics { Mean = mean, PopulationVariance = variance, InverseStd = inverse };
            Normalize(shape, order, x, y, layouts, statistics, usesRunning);
            _savedRunning = usesRunning;
            if (!usesRunning)
            {
                RequireFinite(slots);
            }
        }

        if (updates && usesRunning)
        {
            TakeBatch(shape, order, x, layouts, slots);
        }
        else if (updates)
        {
            Take(shape, _mean, _variance, layouts);
        }
    }

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        Span<ReductionLayout> layouts = stackalloc ReductionLayout[2];
        layouts = layouts[..WriteLayouts(shape, order, layouts)];
        if (Training)
        {
            fixed (double* mean = _mean, variance = _variance, inverse = _inverseStd)
            {
                var saved = new Statistics { Mean = mean, PopulationVariance = variance, InverseStd = inverse };
                Differentiate(shape, order, x, g, dx, layouts, saved, _savedRunning);
            }

            return;
        }

        nint slots = shape.Channels;
        foreach (ReductionLayout layout in layouts)
        {
            slots += layout.Slots;
        }

        double[] rented = ArrayPool<double>.Shared.Rent(checked((int)(3 * slots)));
        try
        {
            fixed (double* pointer = rented)
            {
                Statistics statistics = Carve(pointer, slots);
                bool usesRunning = NormalizesByRunning(SmallestSet(layouts));
                if (usesRunning)
                {
                    LoadChecked(statistics);
                }
                else
                {
                    TakeMoments(shape, order, x, layouts, statistics);
                }

                Differentiate(shape, order, x, g, dx, layouts, statistics, usesRunning);
            }
        }
        finally
        {
            ArrayPool<double>.Shared.Return(rented);
        }
    }

    // Values behind each statistic, of the set that has fewest.
    private nint SmallestSet(ReadOnlySpan<ReductionLayout> layouts)
    {
        nint smallest = nint.MaxValue;
        foreach (ReductionLayout layout in layouts)
        {
            smallest = nint.Min(smallest, Whole(layout).SetSize);
        }

        return ValuesBehind(smallest);
    }

    // A pass by statistics of sets of which the smallest has so many values, or by the running ones; the same in both directions.
    private bool NormalizesByRunning(nint smallest) =>
        _running is not null && (UsesRunning || (smallest == 1 && SingleValue == SingleValuePolicy.UseRunning));

    private static unsafe Statistics Carve(double* memory, nint slots) =>
        new() { Mean = memory, PopulationVariance = memory + slots, InverseStd = memory + (2 * slots) };

    private unsafe void Normalize(
        ActivationShape shape, MemoryOrder order, T* x, T* y, ReadOnlySpan<ReductionLayout> layouts, Statistics statistics, bool usesRunning)
    {
        bool transposed = NeedsTransposedAffine(shape, order);
        T[]? weightCopy = transposed ? RentTransposed(shape, Weight?.Values) : null;
        T[]? biasCopy = transposed ? RentTransposed(shape, Bias?.Values) : null;
        fixed (T* weight = weightCopy ?? Weight?.Values)
        fixed (T* bias = biasCopy ?? Bias?.Values)
        {
            if (usesRunning)
            {
                LoadChecked(statistics);
                if (shape.Count > 0)
                {
                    Standardizer.Apply(Layouts.PerGivenChannel(shape, order), x, y, weight, bias, statistics);
                }
            }
            else
            {
                foreach (ReductionLayout layout in layouts)
                {
                    StandardizeSets(shape, order, layout, x, y, weight, bias, statistics);
                    RequirePositiveVariance(layout, statistics);
                    Advance(ref statistics, layout.Slots);
                }
            }
        }

        Return(weightCopy);
        Return(biasCopy);
    }

    private unsafe void Differentiate(
        ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx, ReadOnlySpan<ReductionLayout> layouts, Statistics statistics, bool usesRunning)
    {
        T[]? weightGradient = LearnParameters ? Weight?.Gradient : null;
        T[]? biasGradient = LearnParameters ? Bias?.Gradient : null;
        bool transposed = NeedsTransposedAffine(shape, order);
        T[]? weightCopy = transposed ? RentTransposed(shape, Weight?.Values) : null;
        T[]? weightSums = transposed ? RentCleared(weightGradient) : weightGradient;
        T[]? biasSums = transposed ? RentCleared(biasGradient) : biasGradient;
        fixed (T* weight = weightCopy ?? Weight?.Values)
        fixed (T* weightTarget = weightSums, biasTarget = biasSums)
        {
            if (usesRunning)
            {
                if (shape.Count > 0)
                {
                    Standardizer.Backward(Layouts.PerChannel(shape, order), x, g, dx, weight, statistics, weightTarget, biasTarget, constantStatistics: true);
                }
            }
            else
            {
                foreach (ReductionLayout layout in layouts)
                {
                    DifferentiateSets(shape, order, layout, x, g, dx, weight, statistics, weightTarget, biasTarget);
                    Advance(ref statistics, layout.Slots);
                }
            }
        }

        if (transposed)
        {
            AddTransposed(shape, weightSums, weightGradient);
            AddTransposed(shape, biasSums, biasGradient);
            Return(weightSums);
            Return(biasSums);
        }

        Return(weightCopy);
    }

    private static T[]? RentCleared(T[]? like)
    {
        if (like is null)
        {
            return null;
        }

        T[] rented = ArrayPool<T>.Shared.Rent(like.Length);
        Array.Clear(rented, 0, like.Length);
        return rented;
    }

    // Memory is position * C + channel, the parameter channel * S + position.
    private static unsafe void AddTransposed(ActivationShape shape, T[]? sums, T[]? gradient)
    {
        if (sums is null || gradient is null)
        {
            return;
        }

        nint channels = shape.Channels;
        nint positions = shape.SpatialSize;
        T[] transposed = ArrayPool<T>.Shared.Rent(gradient.Length);
        fixed (T* from = sums, to = transposed, target = gradient)
        {
            Transposition.Copy(from, positions, channels, channels, to, positions);
            Simd.AddTo(target, to, gradient.Length);
        }

        Return(transposed);
    }

    private static unsafe T[]? RentTransposed(ActivationShape shape, T[]? values)
    {
        if (values is null)
        {
            return null;
        }

        nint channels = shape.Channels;
        nint positions = shape.SpatialSize;
        T[] rented = ArrayPool<T>.Shared.Rent(values.Length);
        fixed (T* from = values, to = rented)
        {
            Transposition.Copy(from, channels, positions, positions, to, channels);
        }

        return rented;
    }

    private static void Return(T[]? rented)
    {
        if (rented is not null)
        {
            ArrayPool<T>.Shared.Return(rented);
        }
    }

    private static unsafe void Advance(ref Statistics statistics, nint slots)
    {
        statistics.Mean += slots;
        statistics.PopulationVariance += slots;
        statistics.InverseStd += slots;
    }

    private unsafe void TakeMoments(ActivationShape shape, MemoryOrder order, T* x, ReadOnlySpan<ReductionLayout> layouts, Statistics statistics)
    {
        foreach (ReductionLayout layout in layouts)
        {
            MomentsOfSets(shape, order, layout, x, statistics);
            Advance(ref statistics, layout.Slots);
        }
    }

    // Running statistics normalized this batch; its own moments are only taken in, after that.
    private unsafe void TakeBatch(ActivationShape shape, MemoryOrder order, T* x, ReadOnlySpan<ReductionLayout> layouts, nint slots)
    {
        double[] rented = ArrayPool<double>.Shared.Rent(checked((int)(3 * slots)));
        fixed (double* pointer = rented)
        {
            TakeMoments(shape, order, x, layouts, Carve(pointer, slots));
        }

        Take(shape, rented.AsSpan(0, (int)slots), rented.AsSpan((int)slots, (int)slots), layouts);
        ArrayPool<double>.Shared.Return(rented);
    }

    /// <summary>Takes a batch's moments in; what cannot be stored is skipped or refused, as the policy says.</summary>
    private protected void Take(ActivationShape shape, ReadOnlySpan<double> mean, ReadOnlySpan<double> variance, ReadOnlySpan<ReductionLayout> layouts)
    {
        Span<ReductionLayout> whole = stackalloc ReductionLayout[2];
        for (int i = 0; i < layouts.Length; i++)
        {
            whole[i] = Whole(layouts[i]);
        }

        Refuse(UpdateRunning(shape, mean, variance, whole[..layouts.Length]));
    }

    private void Reserve(nint slots)
    {
        if (_mean.Length < slots)
        {
            _mean = new double[slots];
            _variance = new double[slots];
            _inverseStd = new double[slots];
        }
    }

    private protected virtual void CheckSetSize(ActivationShape shape, nint smallest)
    {
        if (smallest == 1 && SingleValue != SingleValuePolicy.BiasOnly)
        {
            string remedy = _running is null
                ? "Give it more values to share statistics, or choose SingleValuePolicy.BiasOnly."
                : "Use a larger batch, switch to inference (Training = false), or choose SingleValuePolicy.UseRunning or BiasOnly.";
            throw new InvalidOperationException(
                $"{Name} needs more than 1 value per {SetName} to take statistics, got input {shape} (batch size {shape.Samples}) with 1. {remedy}");
        }

        if (smallest == 2 && IsNews(NormalizerWarnings.NoInputGradient))
        {
            Warn(NormalizerWarnings.NoInputGradient,
                $"{Name} has 2 values per {SetName} in input {shape}: they become +1 and -1 whatever they are, and no gradient reaches the input.");
        }
    }

    /// <summary>The running statistics; with epsilon 0 a variance of 0 is refused.</summary>
    private protected unsafe void LoadChecked(Statistics statistics)
    {
        LoadRunning(statistics);
        for (int c = 0; Epsilon == 0 && c < _running!.Mean.Values.Length; c++)
        {
            if (statistics.PopulationVariance[c] == 0)
            {
                throw RunningVarianceIsZero(c);
            }
        }
    }

    /// <summary>With epsilon 0, refuses statistics that a set was divided by and that are 0.</summary>
    private protected virtual unsafe void RequirePositiveVariance(in ReductionLayout layout, Statistics statistics)
    {
        if (AddedEpsilon > 0)
        {
            return;
        }

        for (nint slot = 0; slot < layout.Slots; slot++)
        {
            if (statistics.PopulationVariance[slot] == 0)
            {
                throw new DivideByZeroException(
                    $"{Name}: with epsilon 0 every {SetName} must {(layout.Uncentered ? "hold a value other than 0" : "vary")}, but one (number {slot}) {(layout.Uncentered ? "is all 0: its mean square" : "is constant: its variance")} 0 would be divided by. Use an epsilon above 0.");
            }
        }
    }

    private void RequireFinite(nint slots)
    {
        if (NonFinite != NonFinitePolicy.Throw || (Simd.AllFit<T>(_mean.AsSpan(0, (int)slots)) && Simd.AllFit<T>(_variance.AsSpan(0, (int)slots))))
        {
            return;
        }

        for (nint slot = 0; slot < slots; slot++)
        {
            if (!Simd.Fits<T>(_mean[slot]) || !Simd.Fits<T>(_variance[slot]))
            {
                throw new InvalidOperationException(string.Create(System.Globalization.CultureInfo.InvariantCulture,
                    $"{Name}: a {SetName} (number {slot}) has mean {_mean[slot]} and variance {_variance[slot]}, which {ElementTypes.NameOf<T>()} cannot hold as finite numbers. Nothing was updated. Mend the input, or choose NonFinitePolicy.SkipUpdate."));
            }
        }
    }
}
