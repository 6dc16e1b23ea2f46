using System.Buffers;
using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>What whitening keeps for inference.</summary>
public enum WhiteningRunning
{
    /// <summary>The running covariance, from which the inference matrix is computed. The default.</summary>
    Covariance,

    /// <summary>The running average of the whitening matrix itself, as the Decorrelated BN and IterNorm authors' code keeps; it over-whitens.</summary>
    WhiteningMatrix,
}

/// <summary>Options that every whitening strategy has.</summary>
public record WhiteningOptions : RunningStatisticsOptions
{
    /// <summary>The defaults.</summary>
    public WhiteningOptions()
    {
    }

    /// <summary>The given options, with the defaults of whitening.</summary>
    /// <param name="options">What every strategy with running statistics has.</param>
    public WhiteningOptions(RunningStatisticsOptions options)
        : base(options)
    {
    }

    /// <summary>d, the channels whitened together; a divisor of C. Null, the default, whitens all C together.</summary>
    public int? GroupSize { get; init; }

    /// <summary>alpha in [0, 1]: the covariance becomes (1 - alpha) S + alpha tr(S)/d I. Default 0.</summary>
    public double Shrinkage { get; init; }

    /// <summary>What is kept for inference. Default the covariance.</summary>
    public WhiteningRunning Running { get; init; }

    /// <summary>The names of every tensor that a whitening strategy has under some setting.</summary>
    internal static IReadOnlyList<string> Tensors { get; } =
        ["weight", "bias", "running_mean", "running_covariance", "running_whitening", "num_batches_tracked"];
}

/// <summary>What the whitening strategies share: channel groups, running statistics, forward, backward but for the matrix, errors.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>With X the C x M matrix of a batch, M = N*S: y = weight[c] * (W (X - mean))[c] + bias[c], in groups of d channels. W is what a strategy
/// makes of S = (1 - alpha) cov + (alpha tr(cov)/d + epsilon) I, cov with divisor M; where it whitens exactly W S W^T = I, and any two such W differ by
/// a rotation.</para>
/// <para>Gradient, G = weight * g: dX = W^T (G - row means) + (2/M) Q (X - mean), where the strategy makes Q = dL/dS from dL/dW = G (X - mean)^T.</para>
/// <para>Shapes: weight, bias, running_mean (C); running_covariance or running_whitening (C, C), in groups (C/d, d, d);
/// num_batches_tracked []. The running covariance starts at I and takes in the sample covariance unless told otherwise.</para>
/// <para>Degenerate: M at most d leaves the covariance singular but for epsilon (<see cref="NormalizerWarnings.RankDeficient"/>; with epsilon
/// 0 and no shrinkage an error). A loaded covariance with an eigenvalue below 0 by more than T rounds is refused.</para>
/// <para>Precision: the covariance and all that follows from it are computed in double; of float activations the other products are float, summed
/// a few tens of terms at a time, where W's condition number is small enough for that to cost no accuracy, else double.</para>
/// </remarks>
public abstract class WhiteningNormalizer<T> : Normalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;
    private readonly int _group;
    private readonly WhiteningOptions _options;
    private readonly int _savedMatrices;
    private readonly int _inferenceMatrices;
    private readonly StateBuffer<T>? _runningMean;
    private readonly StateBuffer<T>? _runningMatrix; // covariance or whitening matrix, groups x d x d
    private readonly StateBuffer<T>? _tracked;
    private readonly double[] _saved;
    private double[] _inference;
    private PassStatistics? _pass;
    private bool _savedRunning;

    /// <param name="channels">C.</param>
    /// <param name="options">The options.</param>
    /// <param name="savedMatrices">How many d x d matrices a group keeps for the gradient.</param>
    /// <param name="inferenceMatrices">How many of them W is computed with where no gradient follows; null is all.</param>
    private protected WhiteningNormalizer(int channels, WhiteningOptions options, int savedMatrices, int? inferenceMatrices = null)
        : base(options)
    {
        _channels = Guard.Channels(channels);
        _options = options;
        _group = _options.GroupSize ?? channels;
        _savedMatrices = savedMatrices;
        _inferenceMatrices = inferenceMatrices ?? savedMatrices;
        if (_group < 1 || channels % _group != 0)
        {
            throw new ArgumentException(
                $"The number of channels (C) must be divisible by the whitening group size (d), d at least 1; got C = {channels}, d = {_group}. Choose a d that divides C.", nameof(options));
        }

        if (!(_options.Shrinkage is >= 0 and <= 1))
        {
            throw new ArgumentException(
                $"Shrinkage must be in [0, 1]; got {_options.Shrinkage.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }

        RunningStatisticsOptions.Validate(_options);
        AddAffine(_options, channels);
        if (_options.TrackRunningStatistics)
        {
            string name = _options.Running == WhiteningRunning.Covariance ? "running_covariance" : "running_whitening";
            AddBuffer(_runningMean = new StateBuffer<T>("running_mean", [channels], T.Zero));
            AddBuffer(_runningMatrix = _group == channels
                ? new StateBuffer<T>(name, [channels, channels], T.Zero)
                : new StateBuffer<T>(name, [channels / _group, _group, _group], T.Zero));
            AddBuffer(_tracked = new StateBuffer<T>("num_batches_tracked"));
            WriteInitialStatistics();
        }
        else if (_options.SingleValue == SingleValuePolicy.UseRunning)
        {
            throw new ArgumentException(
                $"{Name} keeps no running statistics, so SingleValuePolicy.UseRunning has nothing to use. Choose Throw or BiasOnly, or track running statistics.",
                nameof(options));
        }

        _saved = new double[BatchSize];
        _inference = new double[WhiteningStatistics.Size(channels, _group, _inferenceMatrices)];
    }

    /// <summary>d, the channels whitened together.</summary>
    public int GroupSize => _group;

    /// <summary>Whether all channels are whitened together.</summary>
    private protected bool IsWhole => _group == _channels;

    /// <inheritdoc/>
    /// <remarks>What every whitening has; groups of one channel are batch normalization.</remarks>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.BatchDependence
        | (_group == 1 ? NormalizerClaims.ChannelScaleInvariance : NormalizerClaims.None);

    /// <inheritdoc/>
    public override bool MixesReductionSets => _group > 1;

    /// <inheritdoc/>
    /// <remarks>Elements of a channel share a mean; their variance after whitening depends on the other channels of the group.</remarks>
    public override long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => channel;

    /// <summary>Computes the matrix that inference applies from the running statistics.</summary>
    public override unsafe void OnStateChanged()
    {
        if (_runningMatrix is null || (Training && !Frozen))
        {
            return;
        }

        // Made apart and swapped in, so that a refusal leaves the old one.
        double[] made = new double[_inference.Length];
        fixed (double* memory = made)
        {
            LoadRunning(CarveInference(memory));
        }

        _inference = made;
    }

    internal override unsafe InferenceMap? InferenceMap
    {
        get
        {
            if (_runningMatrix is null || !UsesRunning)
            {
                return null;
            }

            double[] memory = new double[_inference.Length];
            double[] matrix = new double[_channels * _group];
            fixed (double* pointer = memory)
            {
                WhiteningStatistics statistics = CarveInference(pointer);
                LoadRunning(statistics);
                for (int c = 0; c < _channels; c++)
                {
                    new ReadOnlySpan<double>(statistics.MatrixRow(_group, c), _group).CopyTo(matrix.AsSpan(c * _group));
                }

                return Core.InferenceMap.Create(
                    _group, matrix, new ReadOnlySpan<double>(statistics.Mean, _channels), Weight?.Values, Bias?.Values);
            }
        }
    }

    internal override void BeginPass(RecalibratedVariance variance)
    {
        if (_runningMatrix is null)
        {
            base.BeginPass(variance);
        }

        _pass = _pass is null ? new PassStatistics(_channels, variance, _group) : throw PassStatistics.UnderWay();
    }

    internal override unsafe string? PassFault()
    {
        if (_pass!.Fault is { } fault)
        {
            return $"{Name}, {fault}";
        }

        try
        {
            (T[] mean, T[] matrix) = FinishPass();
            if (!mean.Concat(matrix).All(T.IsFinite))
            {
                return $"{Name}, has statistics that {ElementTypes.NameOf<T>()} cannot hold as finite numbers.";
            }

            // As stored: rounding to T may leave a covariance singular that was not.
            fixed (double* memory = new double[_inference.Length])
            {
                Load<T>(CarveInference(memory), mean, matrix, KeepsCovariance);
            }

            return null;
        }
        catch (InvalidOperationException refused)
        {
            return refused.Message;
        }
    }

    internal override RecalibrationCount EndPass(bool keep)
    {
        RecalibrationCount count = _pass!.Count;
        if (keep)
        {
            (T[] mean, T[] matrix) = FinishPass();
            mean.CopyTo(_runningMean!.Values, 0);
            matrix.CopyTo(_runningMatrix!.Values, 0);
            _tracked!.Count = count.Batches;
        }

        _pass = null;
        return count;
    }

    private protected override void WriteInitialStatistics()
    {
        for (int i = 0; _runningMatrix is not null && i < _channels; i++)
        {
            _runningMatrix.Values[(i * _group) + (i % _group)] = T.One;
        }
    }

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        ChannelView view = ChannelView.Of(shape, order, _group);
        bool singleValue = view.Columns == 1;
        bool usesRunning = WhitensByRunning(view);
        if (!usesRunning)
        {
            CheckColumns(shape, view);
        }

        if (!Training)
        {
            if (usesRunning)
            {
                fixed (double* memory = _inference)
                {
                    Whiten(view, x, y, CarveInference(memory));
                }

                return;
            }

            double[] rented = ArrayPool<double>.Shared.Rent(BatchSize);
            fixed (double* memory = rented)
            {
                WhiteningStatistics statistics = Carve(memory);
                TakeStatistics(view, x, statistics, forGradient: false);
                Whiten(view, x, y, statistics);
            }

            ArrayPool<double>.Shared.Return(rented);
            return;
        }

        bool updates = _runningMatrix is not null && UpdatesRunning && !singleValue;
        fixed (double* memory = _saved)
        {
            WhiteningStatistics saved = Carve(memory);
            if (usesRunning)
            {
                LoadRunning(saved);
                Whiten(view, x, y, saved);
            }

            if (!usesRunning || updates)
            {
                double[]? rented = usesRunning ? ArrayPool<double>.Shared.Rent(BatchSize) : null;
                fixed (double* other = rented)
                {
                    WhiteningStatistics batch = usesRunning ? Carve(other) : saved;
                    TakeStatistics(view, x, batch, forGradient: !usesRunning);
                    if (!usesRunning)
                    {
                        Whiten(view, x, y, batch);
                    }

                    Update(shape, Layouts.PerChannel(shape, order), batch, updates);
                }

                if (rented is not null)
                {
                    ArrayPool<double>.Shared.Return(rented);
                }
            }

            _savedRunning = usesRunning;
        }
    }

    // The same in both directions.
    private bool WhitensByRunning(in ChannelView view) =>
        _runningMatrix is not null && (UsesRunning || (view.Columns == 1 && SingleValue == SingleValuePolicy.UseRunning));

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        ChannelView view = ChannelView.Of(shape, order, _group);
        bool usesRunning = Training ? _savedRunning : WhitensByRunning(view);
        double[]? rented = null;
        double[] kept = Training ? _saved : _inference;
        if (!Training && !usesRunning)
        {
            kept = rented = ArrayPool<double>.Shared.Rent(BatchSize);
        }

        fixed (double* memory = kept)
        {
            WhiteningStatistics statistics = kept == _inference ? CarveInference(memory) : Carve(memory);
            if (rented is not null)
            {
                TakeStatistics(view, x, statistics);
            }

            Differentiate(view, x, g, dx, statistics, constantStatistics: usesRunning);
        }

        if (rented is not null)
        {
            ArrayPool<double>.Shared.Return(rented);
        }
    }

    private void CheckColumns(ActivationShape shape, ChannelView view)
    {
        nint columns = view.Columns;
        if (columns == 1 && SingleValue != SingleValuePolicy.BiasOnly)
        {
            throw new InvalidOperationException(
                $"{Name} needs more than 1 value per channel to take statistics, got input {shape} (batch size {shape.Samples}) with 1. " +
                (_runningMatrix is null
                    ? "Use a larger batch, or choose SingleValuePolicy.BiasOnly."
                    : "Use a larger batch, switch to inference (Training = false), or choose SingleValuePolicy.UseRunning or BiasOnly."));
        }

        if (columns > _group)
        {
            return;
        }

        if (Epsilon == 0 && _options.Shrinkage == 0)
        {
            throw new InvalidOperationException(
                $"{Name}: {columns} values (N*S of {shape}) for {_group} channels whitened together leave their covariance singular, and epsilon is 0. " +
                "Use an epsilon above 0, shrinkage, smaller groups or a larger batch.");
        }

        if (IsNews(NormalizerWarnings.RankDeficient))
        {
            Warn(NormalizerWarnings.RankDeficient,
                $"{Name} has {columns} values (N*S of {shape}) for {_group} channels whitened together: the covariance is singular but for epsilon" +
                $"{SingularityFollows}. Use smaller groups, shrinkage or a larger batch.");
        }
    }

    private int BatchSize => WhiteningStatistics.Size(_channels, _group, _savedMatrices);

    private unsafe WhiteningStatistics Carve(double* memory) => new(memory, _channels, _group, _savedMatrices);

    private unsafe WhiteningStatistics CarveInference(double* memory) => new(memory, _channels, _group, _inferenceMatrices);

    private unsafe void TakeStatistics(ChannelView view, T* x, WhiteningStatistics statistics, bool forGradient = true)
    {
        Whitening.Moments(view, x, statistics);
        TakeMatrices(statistics);
        for (int group = 0; group < view.Groups && forGradient && view.Columns > 1; group++)
        {
            RequireGradient(group, new WhiteningGroup(statistics, group, _group));
        }
    }

    private unsafe void TakeMatrices(WhiteningStatistics statistics)
    {
        ComputeMatrices(statistics, _channels / _group, new Regularization(Epsilon, _options.Shrinkage));
        for (int group = 0; group < _channels / _group; group++)
        {
            RequireCovariance(group, statistics.Spectra[group]);
        }
    }

    /// <summary><see cref="WhiteningMatrices.Compute"/> with the strategy's matrix.</summary>
    private protected abstract void ComputeMatrices(WhiteningStatistics statistics, int groups, Regularization regularization);

    /// <summary><see cref="WhiteningMatrices.Differentiate"/> with the strategy's matrix.</summary>
    private protected abstract unsafe void DifferentiateMatrices(
        WhiteningStatistics statistics, int groups, Regularization regularization, double* gradients, double factor);

    /// <summary>What follows from a covariance that is singular but for epsilon, as the end of a sentence.</summary>
    private protected virtual string SingularityFollows => ", and all batches are mapped to one figure up to rotation";

    /// <summary>The numbers that a spectrum holds, in words, with the covariance's condition number.</summary>
    private protected virtual string Describe(Spectrum spectrum) => string.Create(CultureInfo.InvariantCulture,
        $"eigenvalues {spectrum.Smallest:g3} to {spectrum.Greatest:g3}, condition number {spectrum.Condition:g3}");

    /// <summary>Throws where batch statistics have no gradient.</summary>
    private protected virtual void RequireGradient(int group, WhiteningGroup matrices)
    {
    }

    /// <summary>Throws where a covariance cannot be whitened, by its spectrum.</summary>
    private protected virtual void RequireCovariance(int group, Spectrum spectrum)
    {
        double smallest = spectrum.Smallest;
        double greatest = spectrum.Greatest;
        if (!spectrum.Converged)
        {
            throw new InvalidOperationException(
                $"{Name}: the decomposition of a {_group} x {_group} covariance did not converge ({Describe(spectrum)}). Use smaller groups or shrinkage.");
        }

        if (Epsilon == 0 && smallest <= _group * Math.ScaleB(1, -52) * greatest)
        {
            throw new InvalidOperationException(
                $"{Name}: the covariance of channel group {group} is singular ({Describe(spectrum)}) and epsilon is 0. Use an epsilon above 0, shrinkage or smaller groups.");
        }
    }

    // A loaded covariance as it is, before shrinkage and epsilon hide what is wrong with it.
    private unsafe void RequireNoNegativeEigenvalue(WhiteningStatistics statistics)
    {
        // Storage in T moves eigenvalues by its rounding of the largest; a clearly negative one is no covariance.
        double rounding = typeof(T) == typeof(float) ? 1e-5 : 1e-10;
        nint size = WhiteningStatistics.MatrixSize(_group);
        double[] rented = ArrayPool<double>.Shared.Rent((int)size);
        fixed (double* sigma = rented)
        {
            for (int index = 0; index < _channels / _group; index++)
            {
                var group = new WhiteningGroup(statistics, index, _group);
                double* covariance = statistics.Covariance + (index * size);
                group.ClearPadding(sigma);
                if (!default(Regularization).Apply(covariance, _group, group.Pitch, sigma, out _) || InverseCholesky.IsSemidefinite(group, sigma, rounding))
                {
                    continue;
                }

                default(Regularization).Apply(covariance, _group, group.Pitch, sigma, out _);
                fixed (double* work = new double[size + SymmetricEigen.WorkSize(_group, group.Pitch)])
                {
                    Spectrum spectrum = group.Decompose(sigma, work, 0, work + size);
                    throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                        $"{Name}: the covariance of channel group {index} has the eigenvalue {spectrum.Smallest:g3} beside {spectrum.Greatest:g3}; a covariance has none below 0. Check the running_covariance that was loaded."));
                }
            }
        }

        ArrayPool<double>.Shared.Return(rented);
    }

    private unsafe void Whiten(ChannelView view, T* x, T* y, WhiteningStatistics statistics)
    {
        fixed (T* weight = Weight?.Values, bias = Bias?.Values)
        {
            Whitening.Apply(view, x, y, statistics, weight, bias);
        }
    }

    private unsafe void Differentiate(ChannelView view, T* x, T* g, T* dx, WhiteningStatistics statistics, bool constantStatistics)
    {
        nint matrices = view.Groups * WhiteningStatistics.MatrixSize(_group);
        double[] rented = ArrayPool<double>.Shared.Rent(checked((int)(matrices + _channels)));
        fixed (double* products = rented)
        fixed (T* weight = Weight?.Values)
        {
            double* sums = products + matrices;
            bool wantsGradients = LearnParameters && (Weight is not null || Bias is not null);
            if (!constantStatistics || wantsGradients)
            {
                Whitening.GradientProducts(view, x, g, statistics, products, sums);
            }

            if (wantsGradients)
            {
                AddParameterGradients(statistics, products, sums);
            }

            if (constantStatistics)
            {
                Whitening.ApplyGradient(view, x, g, dx, statistics, weight, gradientMean: null, second: null);
            }
            else
            {
                WeighRows(products);
                DifferentiateMatrices(statistics, view.Groups, new Regularization(Epsilon, _options.Shrinkage), products, 2.0 / view.Columns);
                for (int c = 0; c < _channels; c++)
                {
                    sums[c] /= view.Columns;
                }

                Whitening.ApplyGradient(view, x, g, dx, statistics, weight, sums, products);
            }
        }

        ArrayPool<double>.Shared.Return(rented);
    }

    // Products are g (x - mean)^T, sums those of g; the weight's gradient is the sum over columns of g * (W (x - mean)).
    private unsafe void AddParameterGradients(WhiteningStatistics statistics, double* products, double* sums)
    {
        for (int c = 0; c < _channels; c++)
        {
            if (Bias is not null)
            {
                Bias.Gradient[c] = T.CreateTruncating(double.CreateTruncating(Bias.Gradient[c]) + sums[c]);
            }

            if (Weight is not null)
            {
                double* row = statistics.MatrixRow(_group, c);
                double* product = products + (row - statistics.Matrix);
                double sum = 0;
                for (int k = 0; k < _group; k++)
                {
                    sum += row[k] * product[k];
                }

                Weight.Gradient[c] = T.CreateTruncating(double.CreateTruncating(Weight.Gradient[c]) + sum);
            }
        }
    }

    // dL/dW = diag(weight) g (x - mean)^T.
    private unsafe void WeighRows(double* products)
    {
        nint pitch = Product.MatrixPitch(_group);
        for (int c = 0; c < _channels && Weight is not null; c++)
        {
            double factor = double.CreateTruncating(Weight.Values[c]);
            double* row = products + (c / _group * WhiteningStatistics.MatrixSize(_group)) + (c % _group * pitch);
            for (int k = 0; k < _group; k++)
            {
                row[k] *= factor;
            }
        }
    }

    private bool KeepsCovariance => _options.Running == WhiteningRunning.Covariance;

    private void LoadRunning(WhiteningStatistics statistics) => Load<T>(statistics, _runningMean!.Values, _runningMatrix!.Values, KeepsCovariance);

    // A mean and, by group, a covariance from which W is made, or W itself.
    private unsafe void Load<TValue>(WhiteningStatistics statistics, ReadOnlySpan<TValue> mean, ReadOnlySpan<TValue> matrix, bool isCovariance)
        where TValue : unmanaged, IBinaryFloatingPointIeee754<TValue>
    {
        for (int c = 0; c < _channels; c++)
        {
            statistics.Mean[c] = double.CreateTruncating(mean[c]);
            statistics.Spectra[c / _group] = Spectrum.Unknown;
            double* row = Row(isCovariance ? statistics.Covariance : statistics.Matrix, c);
            for (int j = 0; j < _group; j++)
            {
                row[j] = double.CreateTruncating(matrix[(c * _group) + j]);
            }
        }

        if (isCovariance)
        {
            RequireNoNegativeEigenvalue(statistics);
            TakeMatrices(statistics);
        }
    }

    private unsafe double* Row(double* matrices, int channel) =>
        matrices + (channel / _group * WhiteningStatistics.MatrixSize(_group)) + (channel % _group * Product.MatrixPitch(_group));

    // All or nothing: the batch's statistics and the new running ones must fit T.
    private unsafe void Update(ActivationShape shape, ReductionLayout channels, WhiteningStatistics batch, bool updates)
    {
        if (!updates && NonFinite != NonFinitePolicy.Throw)
        {
            return;
        }

        double columns = channels.SetSize;
        double correction = KeepsCovariance && _options.RunningVariance == RunningVariance.Sample && columns > 1 ? columns / (columns - 1) : 1;
        double* source = KeepsCovariance ? batch.Covariance : batch.Matrix;
        double rate = _options.Momentum ?? 1.0 / ((_tracked?.Count ?? 0) + 1);
        bool stores = updates && _pass is null;
        for (int round = 0; round < (stores ? 2 : 1); round++)
        {
            for (int c = 0; c < _channels; c++)
            {
                double mean = batch.Mean[c];
                double newMean = stores ? ((1 - rate) * double.CreateTruncating(_runningMean!.Values[c])) + (rate * mean) : mean;
                if (round == 1)
                {
                    _runningMean!.Values[c] = T.CreateTruncating(newMean);
                }
                else if (!Simd.Fits<T>(mean) || !Simd.Fits<T>(newMean))
                {
                    Refuse("mean", c, mean);
                    return;
                }

                double* row = Row(source, c);
                for (int j = 0; j < _group; j++)
                {
                    double value = row[j] * correction;
                    double newValue = stores
                        ? ((1 - rate) * double.CreateTruncating(_runningMatrix!.Values[(c * _group) + j])) + (rate * value)
                        : value;
                    if (round == 1)
                    {
                        _runningMatrix!.Values[(c * _group) + j] = T.CreateTruncating(newValue);
                    }
                    else if (!Simd.Fits<T>(value) || !Simd.Fits<T>(newValue))
                    {
                        Refuse(KeepsCovariance ? "covariance" : "whitening matrix", c, value);
                        return;
                    }
                }
            }
        }

        if (stores)
        {
            _tracked!.Count++;
        }
        else if (updates)
        {
            TakeIntoPass(shape, channels, batch, source, correction);
        }
    }

    private unsafe void TakeIntoPass(ActivationShape shape, ReductionLayout channels, WhiteningStatistics batch, double* source, double correction)
    {
        var averageMean = new double[_channels];
        var averageMatrix = new double[_channels * _group];
        var covariance = new double[_channels * _group];
        _pass!.Averages(averageMean, averageMatrix);
        double rate = 1.0 / (_pass.Entries + 1);
        for (int c = 0; c < _channels; c++)
        {
            averageMean[c] = ((1 - rate) * averageMean[c]) + (rate * batch.Mean[c]);
            double* row = Row(source, c);
            for (int j = 0; j < _group; j++)
            {
                int at = (c * _group) + j;
                averageMatrix[at] = ((1 - rate) * averageMatrix[at]) + (rate * correction * row[j]);
                covariance[at] = Row(batch.Covariance, c)[j];
            }
        }

        _pass.Take(shape, new ReadOnlySpan<double>(batch.Mean, _channels), covariance, [channels], averageMean, averageMatrix, _pass.Entries + 1);
    }

    // What the pass would store. Pooled, a running whitening matrix is that of the pooled covariance: matrices do not pool.
    private unsafe (T[] Mean, T[] Matrix) FinishPass()
    {
        var mean = new double[_channels];
        var matrix = new double[_channels * _group];
        _pass!.Finish(mean, matrix);
        if (!KeepsCovariance && _pass.Variance == RecalibratedVariance.Pooled)
        {
            fixed (double* memory = new double[_inference.Length])
            {
                WhiteningStatistics statistics = CarveInference(memory);
                Load<double>(statistics, mean, matrix, isCovariance: true);
                for (int c = 0; c < _channels; c++)
                {
                    new ReadOnlySpan<double>(statistics.MatrixRow(_group, c), _group).CopyTo(matrix.AsSpan(c * _group));
                }
            }
        }

        return (Array.ConvertAll(mean, T.CreateTruncating), Array.ConvertAll(matrix, T.CreateTruncating));
    }

    private void Refuse(string statistic, int channel, double value)
    {
        Refuse(string.Create(CultureInfo.InvariantCulture, $"the {statistic} of channel {channel} is {value}, which {ElementTypes.NameOf<T>()} cannot hold as a finite number"));
        _pass?.Skip();
    }
}

/// <content>Options of the whitening strategies.</content>
public sealed partial record StrategySettings
{
    /// <summary>The whitening strategies: channels per whitened group d; null whitens all C together.</summary>
    [Setting("--group-size", "zca-whitening and the other whitenings: channels whitened together. Default all.", Placeholder = "D", Minimum = 1)]
    public int? GroupSize { get; init; }

    /// <summary>The whitening strategies: alpha in [0, 1], how far the covariance is drawn toward a multiple of the identity.</summary>
    [Setting("--shrinkage", "zca-whitening and the other whitenings: how far the covariance is drawn to a multiple of the identity. Default 0.", Placeholder = "a", Maximum = 1)]
    public double Shrinkage { get; init; }

    /// <summary>The whitening strategies: what is kept for inference.</summary>
    public WhiteningRunning WhiteningRunning { get; init; }

    internal WhiteningOptions ToWhiteningOptions() => new(ToRunningOptions(trackByDefault: true))
    {
        GroupSize = GroupSize,
        Shrinkage = Shrinkage,
        Running = WhiteningRunning,
    };

    internal string Whitening() => string.Create(CultureInfo.InvariantCulture,
        $"{(GroupSize is { } size ? $"groups of {size}" : "all channels together")}, shrinkage {Shrinkage}, running {Words.Of(WhiteningRunning)}, {Running()}");
}
