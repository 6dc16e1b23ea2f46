using System.Buffers;
using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>What a domain has seen.</summary>
/// <param name="Mean">By channel; 0 before any value.</param>
/// <param name="PopulationVariance">By channel, divisor <paramref name="Count"/>; 0 before any value.</param>
/// <param name="Count">Values per channel: N*S of every batch.</param>
public sealed record DomainStatistics(double[] Mean, double[] PopulationVariance, long Count);

/// <summary>Adaptive batch normalization: a trained layer whose statistics are those of the domain it is used on, one set for each domain.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>With <see cref="Domain"/> null this is batch normalization, to be trained on the source. With a domain selected, weight and bias
/// stay the source's, and y = weight[c] * (x - mean[c]) / sqrt(populationVariance[c] + epsilon) + bias[c] has the moments of every value of that domain
/// so far. A training Forward merges its batch into them first and normalizes by the result; inference normalizes by what there
/// is, and by the source's statistics while the domain has seen nothing. A batch is of one domain: select it before the batch comes.</para>
/// <para>The moments are exact, whatever the batches: merged in double by count (Chan), not averaged over batches; momentum plays no part.</para>
/// <para>Gradient: in a domain the statistics are constants, dx = weight * r * dy, as in inference.</para>
/// <para>Shapes: weight, bias, running_mean, running_var (C) and num_batches_tracked [] are the source's, as PyTorch's BatchNorm has them. A domain NAME
/// has NAME.mean and NAME.var (2, C), the population variance, and NAME.count [], values per channel. Their second row is what rounding to T left of the first: a
/// merge goes on from the sum of both, so that a float layer does not lose small steps far from 0.</para>
/// <para>Degenerate: the first value of a channel alone follows <see cref="SingleValuePolicy"/>; <see cref="Adapt"/> takes it.</para>
/// <para>Source: Li, Wang, Shi, Liu and Hou 2016, arXiv:1603.04779, Algorithm 1, which has no epsilon. Their order, layer by layer, and the
/// usual single sweep are in <see cref="DomainAdaptation"/>. A negative factor between domains (inverted images) it cannot mend.</para>
/// </remarks>
public sealed class AdaBatchNorm<T> : StandardizingNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;
    private readonly Dictionary<string, DomainState> _domains = new(StringComparer.Ordinal);
    private readonly double[] _merged; // what the last training Forward in a domain normalized by: mean, variance, 1 / deviation
    private DomainState? _domain;
    private DomainState? _savedDomain; // of the last training Forward, whose statistics are in _merged; null is the source

    /// <summary>A layer for activations of C channels, on the source.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Of the source's batch normalization; null is PyTorch's defaults. Running statistics must be tracked.</param>
    /// <exception cref="ArgumentException">An option is out of range, or running statistics are off.</exception>
    public AdaBatchNorm(int channels, RunningStatisticsOptions? options = null)
        : base(options ?? new RunningStatisticsOptions(), Guard.Channels(channels), channels)
    {
        if (Running is null)
        {
            throw new ArgumentException("AdaBatchNorm is about running statistics and cannot be without them. Track them, or use BatchNorm.", nameof(options));
        }

        _channels = channels;
        _merged = new double[3 * channels];
    }

    /// <summary>The names of the domains there are, in the order they were added.</summary>
    public IReadOnlyCollection<string> Domains => _domains.Keys;

    /// <summary>The domain that input belongs to; null, as at first, is the source.</summary>
    /// <exception cref="ArgumentException">There is no such domain.</exception>
    public string? Domain
    {
        get => _domain?.Name;
        set => _domain = value is null ? null : Find(value);
    }

    /// <inheritdoc/>
    /// <remarks>In a domain, what came before takes part, so that no shift or scale of one batch goes unseen.</remarks>
    public override NormalizerClaims Claims => NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.BatchDependence | (_domain is not null
        ? NormalizerClaims.None
        : NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance | NormalizerClaims.ChannelScaleInvariance);

    /// <summary>Whether statistics alone are wanted of a Forward, so that a first value alone, whose output is the bias, will do.</summary>
    internal bool OutputIsUnused { get; set; }

    private protected override string SetName => "channel";

    // As LoadRunning: the domain's own, or the source's while the domain has seen nothing.
    internal override IEnumerable<StateBuffer<T>> InferenceBuffers =>
        _domain is { Count.Count: > 0 } domain ? [domain.Mean, domain.Variance] : [Running!.Mean, Running.Spread];

    /// <summary>Adds a domain that has seen nothing; its buffers come after those there are.</summary>
    /// <param name="name">A new name, at least one character: the prefix of its buffers.</param>
    /// <exception cref="ArgumentException">The name is taken or empty.</exception>
    public void AddDomain(string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var domain = new DomainState(name, _channels);
        if (!_domains.TryAdd(name, domain))
        {
            throw new ArgumentException($"There is a domain '{name}' already; choose another name, or ResetDomain to begin it anew.", nameof(name));
        }

        AddBuffer(domain.Mean);
        AddBuffer(domain.Variance);
        AddBuffer(domain.Count);
    }

    /// <summary>Makes a domain forget what it has seen.</summary>
    /// <param name="name">One of <see cref="Domains"/>.</param>
    /// <exception cref="ArgumentException">There is no such domain.</exception>
    public void ResetDomain(string name) => Find(name).Clear();

    /// <summary>A copy of what a domain has seen.</summary>
    /// <param name="name">One of <see cref="Domains"/>.</param>
    /// <exception cref="ArgumentException">There is no such domain.</exception>
    public DomainStatistics GetDomain(string name)
    {
        DomainState domain = Find(name);
        var statistics = new DomainStatistics(new double[_channels], new double[_channels], domain.Count.Count);
        domain.Read(statistics.Mean, statistics.PopulationVariance);
        return statistics;
    }

    /// <summary>Merges a batch into the selected domain's statistics without normalizing it; a single value is as good as many.</summary>
    /// <param name="input">Shape (N, C, ...), any strides.</param>
    /// <exception cref="InvalidOperationException">No domain is selected, statistics are frozen, or they are not finite under <see cref="NonFinitePolicy.Throw"/>.</exception>
    public unsafe void Adapt(in ReadOnlyTensorSpan<T> input)
    {
        var shape = new ActivationShape(input.Lengths);
        CheckShape(shape);
        if (_domain is null || Frozen)
        {
            throw new InvalidOperationException(Frozen
                ? "AdaBatchNorm.Adapt: statistics are frozen. Unfreeze them first."
                : "AdaBatchNorm.Adapt: no domain is selected, and the source's statistics come from training. Set Domain to the domain of this batch.");
        }

        if (shape.Count == 0)
        {
            return;
        }

        double[] rented = ArrayPool<double>.Shared.Rent(3 * _channels);
        DenseOperand<T> source = default;
        try
        {
            fixed (T* x = &TensorMarshal.GetReference(input))
            fixed (double* memory = rented)
            {
                MemoryOrder inputOrder = DenseTensor.OrderOf(shape, input.Strides);
                MemoryOrder order = inputOrder == MemoryOrder.Strided ? MemoryOrder.ChannelsFirst : inputOrder;
                source = DenseOperand<T>.Read(shape, x, input.Strides, inputOrder, order);
                Standardizer.Moments(Layouts.PerChannel(shape, order), source.Pointer, Carve(memory), Epsilon);
            }

            Take(shape, rented.AsSpan(0, _channels), rented.AsSpan(_channels, _channels), []);
        }
        finally
        {
            source.Dispose();
            ArrayPool<double>.Shared.Return(rented);
        }
    }

    /// <inheritdoc/>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => channel;

    /// <summary>Checks the domains' statistics, which may have been loaded.</summary>
    /// <exception cref="InvalidOperationException">A variance is negative, or there are statistics without the count of values that they are of.</exception>
    public override void OnStateChanged()
    {
        foreach (DomainState domain in _domains.Values)
        {
            domain.Check();
        }
    }

    internal override void BeginPass(RecalibratedVariance variance)
    {
        if (_domain is not null)
        {
            throw new InvalidOperationException(
                $"AdaBatchNorm is on the domain '{_domain.Name}', whose statistics are exact as they are. Set Domain to null to recalibrate the source's, or use DomainAdaptation.");
        }

        base.BeginPass(variance);
    }

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override int WriteLayouts(ActivationShape shape, MemoryOrder order, Span<ReductionLayout> layouts)
    {
        layouts[0] = Layouts.PerChannel(shape, order);
        return 1;
    }

    // Statistics are of the domain's values together. Two of them are as good as many: no gradient goes through the statistics.
    private protected override nint ValuesBehind(nint setSize) =>
        _domain is null ? setSize : setSize + _domain.Count.Count == 1 && !OutputIsUnused ? 1 : nint.Max(setSize, 3);

    internal override unsafe void LoadRunning(Statistics statistics)
    {
        if (_domain is not { Count.Count: > 0 })
        {
            base.LoadRunning(statistics);
            return;
        }

        _domain.Read(new Span<double>(statistics.Mean, _channels), new Span<double>(statistics.PopulationVariance, _channels));
        for (int c = 0; c < _channels; c++)
        {
            statistics.InverseStd[c] = Standardizer.InverseStd(statistics.PopulationVariance[c], Epsilon);
        }
    }

    internal override unsafe void StandardizeSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* y, T* weight, T* bias, Statistics statistics)
    {
        if (Training && HoldConstants && _domain is not null && _savedDomain != _domain)
        {
            throw new InvalidOperationException(
                "AdaBatchNorm: HoldConstants keeps the statistics that the last Forward in training merged in this domain, and there has been none. Run one Forward in training first.");
        }

        if (Training)
        {
            _savedDomain = _domain;
        }

        if (_domain is null)
        {
            base.StandardizeSets(shape, order, layout, x, y, weight, bias, statistics);
            return;
        }

        // The kernel works on the first three numbers of a channel, which begin as the batch's and end as the merged ones.
        double[] rented = ArrayPool<double>.Shared.Rent(8 * _channels);
        fixed (double* memory = rented, saved = _merged)
        {
            Merging merging = MergingOf(layout, statistics, memory + (3 * _channels));
            merging.Applied = Carve(memory);
            merging.Merged = Carve(Training ? saved : memory + (5 * _channels)); // inference writes no field
            merging.Holds = Training && HoldConstants;
            Standardizer.Forward(layout, x, y, weight, bias, merging.Applied, Epsilon, adjustment: new Adjustment { State = &merging, Function = &Merge });
            base.RequirePositiveVariance(layout, merging.Applied);
        }

        ArrayPool<double>.Shared.Return(rented);
    }

    internal override unsafe void DifferentiateSets(
        ActivationShape shape, MemoryOrder order, in ReductionLayout layout, T* x, T* g, T* dx, T* weight, Statistics statistics, T* weightGradient, T* biasGradient)
    {
        if ((Training ? _savedDomain : _domain) is null)
        {
            base.DifferentiateSets(shape, order, layout, x, g, dx, weight, statistics, weightGradient, biasGradient);
            return;
        }

        double[] rented = ArrayPool<double>.Shared.Rent(5 * _channels);
        fixed (double* memory = rented, saved = _merged)
        {
            Statistics merged = Carve(Training ? saved : memory);
            if (!Training)
            {
                Merging merging = MergingOf(layout, statistics, memory + (3 * _channels));
                merging.Merged = merged;
                merging.Take(0, _channels);
            }

            Standardizer.Backward(layout, x, g, dx, weight, merged, weightGradient, biasGradient, constantStatistics: true);
        }

        ArrayPool<double>.Shared.Return(rented);
    }

    internal override string? UpdateRunning(
        ActivationShape shape, ReadOnlySpan<double> mean, ReadOnlySpan<double> populationVariance, ReadOnlySpan<ReductionLayout> layouts) =>
        _domain is null
            ? base.UpdateRunning(shape, mean, populationVariance, layouts)
            : _domain.Merge(mean, populationVariance, shape.Samples * shape.SpatialSize);

    // In a domain the merged variance divides, not the batch's: a constant batch is as good as any.
    private protected override unsafe void RequirePositiveVariance(in ReductionLayout layout, Statistics statistics)
    {
        if (_domain is null)
        {
            base.RequirePositiveVariance(layout, statistics);
        }
    }

    private static unsafe void Merge(void* state, nint channel, nint count) => ((Merging*)state)->Apply(channel, count);

    private unsafe Statistics Carve(double* memory) =>
        new() { Mean = memory, PopulationVariance = memory + _channels, InverseStd = memory + (2 * _channels) };

    // The memory has room for two numbers a channel: what the domain had before this batch.
    private unsafe Merging MergingOf(in ReductionLayout layout, Statistics batch, double* memory)
    {
        _domain!.Read(new Span<double>(memory, _channels), new Span<double>(memory + _channels, _channels));
        return new Merging
        {
            Batch = batch,
            DomainMean = memory,
            DomainVariance = memory + _channels,
            Share = layout.SetSize / ((double)_domain.Count.Count + layout.SetSize),
            Epsilon = Epsilon,
        };
    }

    private DomainState Find(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return _domains.TryGetValue(name, out DomainState? domain)
            ? domain
            : throw new ArgumentException($"There is no domain '{name}'; there are {(_domains.Count == 0 ? "none" : string.Join(", ", _domains.Keys))}. AddDomain makes one.", nameof(name));
    }

    /// <summary>From a batch's statistics to those of the domain with the batch in it.</summary>
    private unsafe struct Merging
    {
        public Statistics Batch;
        public Statistics Applied;
        public Statistics Merged;
        public double* DomainMean;
        public double* DomainVariance;
        public double Share;
        public double Epsilon;
        public bool Holds;

        public readonly void Take(nint first, nint count)
        {
            for (nint c = first; c < first + count; c++)
            {
                double mean = DomainMean[c];
                double variance = DomainVariance[c];
                StreamingMoments.Merge(ref mean, ref variance, Batch.Mean[c], Batch.PopulationVariance[c], Share);
                Merged.Mean[c] = mean;
                Merged.PopulationVariance[c] = variance;
                Merged.InverseStd[c] = Standardizer.InverseStd(variance, Epsilon);
            }
        }

        public readonly void Apply(nint first, nint count)
        {
            Copy(Applied, Batch, first, count);
            if (!Holds)
            {
                Take(first, count);
            }

            Copy(Merged, Applied, first, count);
        }

        private static void Copy(Statistics from, Statistics to, nint first, nint count)
        {
            for (nint c = first; c < first + count; c++)
            {
                to.Mean[c] = from.Mean[c];
                to.PopulationVariance[c] = from.PopulationVariance[c];
                to.InverseStd[c] = from.InverseStd[c];
            }
        }
    }

    /// <summary>One domain's buffers: doubles, each kept as a T and what rounding to it left.</summary>
    private sealed class DomainState(string name, int channels)
    {
        private readonly double[] _mean = new double[channels];
        private readonly double[] _variance = new double[channels];

        public string Name { get; } = name;

        public StateBuffer<T> Mean { get; } = new($"{name}.mean", [2, channels], T.Zero);

        public StateBuffer<T> Variance { get; } = new($"{name}.var", [2, channels], T.Zero);

        public StateBuffer<T> Count { get; } = new($"{name}.count");

        public void Clear()
        {
            Array.Clear(Mean.Values);
            Array.Clear(Variance.Values);
            Count.Count = 0;
        }

        public void Read(Span<double> mean, Span<double> variance)
        {
            Join(Mean.Values, mean);
            Join(Variance.Values, variance);
        }

        // Null, or what does not fit T; then nothing has changed.
        public string? Merge(ReadOnlySpan<double> mean, ReadOnlySpan<double> variance, nint values)
        {
            Read(_mean, _variance);
            double share = values / ((double)Count.Count + values);
            for (int c = 0; c < channels; c++)
            {
                StreamingMoments.Merge(ref _mean[c], ref _variance[c], mean[c], variance[c], share);
                if (!Simd.Fits<T>(mean[c]) || !Simd.Fits<T>(variance[c]) || !Simd.Fits<T>(_mean[c]) || !Simd.Fits<T>(_variance[c]))
                {
                    return "the batch has a mean or a variance that the storage type cannot hold as finite numbers";
                }
            }

            Split(_mean, Mean.Values);
            Split(_variance, Variance.Values);
            Count.Count += values;
            return null;
        }

        public void Check()
        {
            Read(_mean, _variance);
            for (int c = 0; c < channels; c++)
            {
                if (!(_variance[c] >= 0) || !double.IsFinite(_mean[c]))
                {
                    throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                        $"The domain '{Name}' has mean {_mean[c]} and variance {_variance[c]} in channel {c}; a mean is finite and a variance at least 0. Check '{Variance.Name}', whose second row is what rounding left of the first."));
                }

                if (Count.Count == 0 && (_mean[c] != 0 || _variance[c] != 0))
                {
                    throw new InvalidOperationException(
                        $"The domain '{Name}' has statistics, but '{Count.Name}' is 0: the next batch could not be weighed against them. Set it to the number of values per channel that they are of.");
                }
            }
        }

        private static void Join(ReadOnlySpan<T> rows, Span<double> values)
        {
            for (int c = 0; c < values.Length; c++)
            {
                values[c] = double.CreateTruncating(rows[c]) + double.CreateTruncating(rows[values.Length + c]);
            }
        }

        private static void Split(ReadOnlySpan<double> values, Span<T> rows)
        {
            for (int c = 0; c < values.Length; c++)
            {
                rows[c] = T.CreateTruncating(values[c]);
                rows[values.Length + c] = T.CreateTruncating(values[c] - double.CreateTruncating(rows[c]));
            }
        }
    }
}

/// <summary>Gives the layers of a model the statistics of a target domain, from a pass over its data or several.</summary>
/// <remarks>
/// Both select the domain in every layer, adding it where it is missing, begin its statistics anew, and leave it selected. Switches are
/// as before afterwards. Where anything fails, the domain is left empty and what was selected before is selected again.
/// </remarks>
public static class DomainAdaptation
{
    /// <summary>
    /// One pass for each layer, in order: a layer takes its statistics when those before it have theirs. The same, to rounding, however
    /// the data are cut into batches, and exactly Algorithm 1 of Li et al. 2016.
    /// </summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <typeparam name="TBatch">Whatever the model takes.</typeparam>
    /// <param name="layers">The layers in the order activations go through them.</param>
    /// <param name="domain">The domain's name.</param>
    /// <param name="batches">The target's data; gone through once for each layer, so it must be the same data every time.</param>
    /// <param name="forward">The model's forward pass; it must not change switches, weights or domains.</param>
    /// <exception cref="ArgumentException">A layer is listed twice, or one of the arguments is null.</exception>
    /// <exception cref="InvalidOperationException">A layer is frozen, or saw no batch that could be taken in.</exception>
    public static void LayerSequential<T, TBatch>(
        IReadOnlyList<AdaBatchNorm<T>> layers, string domain, IEnumerable<TBatch> batches, Action<TBatch> forward)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Run(layers, domain, batches, forward, sweep =>
        {
            foreach (AdaBatchNorm<T> layer in layers)
            {
                layer.Training = true;
                layer.OutputIsUnused = true;
                sweep();
                layer.OutputIsUnused = false;
                layer.Training = false;
            }
        });

    /// <summary>
    /// One pass for all layers: cheaper, and what is usually done in PyTorch by resetting running statistics. Approximate beyond the first
    /// layer, whose successors see its output under the statistics it had by then; exact where the data are one batch.
    /// </summary>
    /// <inheritdoc cref="LayerSequential"/>
    public static void OneSweep<T, TBatch>(IReadOnlyList<AdaBatchNorm<T>> layers, string domain, IEnumerable<TBatch> batches, Action<TBatch> forward)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Run(layers, domain, batches, forward, sweep =>
        {
            foreach (AdaBatchNorm<T> layer in layers)
            {
                layer.Training = true;
            }

            sweep();
        });

    // All is checked before a domain is emptied.
    private static void Run<T, TBatch>(
        IReadOnlyList<AdaBatchNorm<T>> layers, string domain, IEnumerable<TBatch> batches, Action<TBatch> forward, Action<Action> adapt)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(layers);
        ArgumentNullException.ThrowIfNull(batches);
        ArgumentNullException.ThrowIfNull(forward);
        Recalibration.RequireEachOnce(layers);
        foreach (AdaBatchNorm<T> layer in layers)
        {
            if (layer.Frozen)
            {
                throw new InvalidOperationException("A layer to adapt is frozen: its statistics are to stay. Unfreeze it, or leave it out.");
            }

            if (!layer.Domains.Contains(domain))
            {
                layer.AddDomain(domain);
            }
        }

        (bool Training, StatisticsSource Source, bool Updates, string? Domain)[] before =
            [.. layers.Select(layer => (layer.Training, layer.StatisticsSource, layer.UpdateRunningStatistics, layer.Domain))];
        bool done = false;
        try
        {
            foreach (AdaBatchNorm<T> layer in layers)
            {
                layer.ResetDomain(domain);
                layer.Domain = domain;
                layer.Training = false;
                layer.StatisticsSource = StatisticsSource.FollowTraining;
                layer.UpdateRunningStatistics = true;
            }

            adapt(() =>
            {
                foreach (TBatch batch in batches)
                {
                    forward(batch);
                }
            });
            for (int i = 0; i < layers.Count; i++)
            {
                if (layers[i].GetDomain(domain).Count == 0)
                {
                    throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                        $"Layer {i} saw no batch of the domain '{domain}' that could be taken in. The forward function must call its Forward; the data must be finite."));
                }
            }

            done = true;
        }
        finally
        {
            for (int i = 0; i < layers.Count; i++)
            {
                layers[i].OutputIsUnused = false;
                (layers[i].Training, layers[i].StatisticsSource, layers[i].UpdateRunningStatistics) = (before[i].Training, before[i].Source, before[i].Updates);
                if (!done)
                {
                    layers[i].ResetDomain(domain);
                    layers[i].Domain = before[i].Domain;
                }
            }
        }
    }
}

/// <summary>The catalog's view of <see cref="AdaBatchNorm{T}"/>: on a domain named target.</summary>
internal readonly struct AdaBatchNormStrategy : IStrategy
{
    private const string Domain = "target";

    public static string Id => "ada-batch-norm";

    public static string Axes => "each channel, over all values of its domain so far";

    public static IReadOnlyList<string> Tensors =>
        ["weight", "bias", "running_mean", "running_var", "num_batches_tracked", $"{Domain}.mean", $"{Domain}.var", $"{Domain}.count"];

    public static string Options(StrategySettings settings) =>
        settings.RunningStatistics == false ? settings.Running() : $"one domain, '{Domain}', with exact moments of all its batches";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var normalizer = new AdaBatchNorm<T>(shape.Channels, settings.ToRunningOptions(trackByDefault: true));
        normalizer.AddDomain(Domain);
        normalizer.Domain = Domain;
        return normalizer;
    }
}
