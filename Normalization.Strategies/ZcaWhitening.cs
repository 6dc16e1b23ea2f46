using System.Buffers;
using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Options of <see cref="ZcaWhitening{T}"/>.</summary>
public sealed record ZcaWhiteningOptions : RunningStatisticsOptions
{
    /// <summary>The defaults.</summary>
    public ZcaWhiteningOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy with running statistics has.</param>
    public ZcaWhiteningOptions(RunningStatisticsOptions options)
        : base(options)
    {
    }

    /// <summary>d, the channels whitened together; a divisor of C. Null, the default, whitens all C together.</summary>
    public int? GroupSize { get; init; }

    /// <summary>alpha in [0, 1]: the covariance becomes (1 - alpha) S + alpha tr(S)/d I. Default 0.</summary>
    public double Shrinkage { get; init; }

    /// <summary>What is kept for inference. Default the covariance.</summary>
    public WhiteningRunning Running { get; init; }
}

/// <summary>ZCA whitening: channels decorrelated and scaled to unit variance by the symmetric inverse root of their covariance.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>With X the C x M matrix of a batch, M = N*S: y = weight[c] * (W (X - mean))[c] + bias[c], W = S^(-1/2), S = covariance (divisor M) +
/// epsilon I, in groups of d channels. The output's covariance is cov (cov + epsilon I)^-1, not the identity.</para>
/// <para>Gradient: exact, with the divided difference of f(l) = l^(-1/2), -1 / (sqrt(a) sqrt(b) (sqrt(a) + sqrt(b))), which has no pole at
/// equal eigenvalues; nothing is masked or clamped there.</para>
/// <para>Shapes: weight, bias, running_mean (C); running_covariance or running_whitening (C, C), in groups (C/d, d, d);
/// num_batches_tracked []. The running covariance starts at I and takes in the sample covariance unless told otherwise.</para>
/// <para>Degenerate: M at most d leaves the covariance singular but for epsilon (<see cref="NormalizerWarnings.RankDeficient"/>; with epsilon
/// 0 and no shrinkage an error).</para>
/// <para>Source: Huang, Yang, Lang and Deng 2018, arXiv:1804.08450 (Decorrelated BN); the gradient is Daleckii and Krein's. d = 1 is
/// batch normalization. Cost: d^2 M multiplications forward, 3 d^2 M backward, one eigen-decomposition a group.</para>
/// </remarks>
public sealed class ZcaWhitening<T> : Normalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly int _channels;
    private readonly int _group;
    private readonly ZcaWhiteningOptions _options;
    private readonly StateBuffer<T>? _runningMean;
    private readonly StateBuffer<T>? _runningMatrix; // covariance or whitening matrix, groups x d x d
    private readonly StateBuffer<T>? _tracked;
    private readonly double[] _saved;
    private double[] _inference;
    private bool _savedRunning;

    /// <summary>A layer for activations of C channels.</summary>
    /// <param name="channels">C, at least 1.</param>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">The group size does not divide C, or an option is out of range.</exception>
    public ZcaWhitening(int channels, ZcaWhiteningOptions? options = null)
        : base(options ?? new ZcaWhiteningOptions())
    {
        _channels = Guard.Channels(channels);
        _options = options ?? new ZcaWhiteningOptions();
        _group = _options.GroupSize ?? channels;
        if (_group < 1 || channels % _group != 0)
        {
            throw new ArgumentException(
                $"The number of channels (C) must be divisible by the whitening group size (d), d at least 1; got C = {channels}, d = {_group}.", nameof(options));
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
            for (int i = 0; i < channels; i++)
            {
                _runningMatrix.Values[(i * _group) + (i % _group)] = T.One;
            }
        }
        else if (_options.SingleValue == SingleValuePolicy.UseRunning)
        {
            throw new ArgumentException(
                $"{Name} keeps no running statistics, so SingleValuePolicy.UseRunning has nothing to use. Choose Throw or BiasOnly, or track running statistics.",
                nameof(options));
        }

        _saved = new double[Workspace.Size(channels, _group)];
        _inference = new double[Workspace.Size(channels, _group)];
    }

    /// <summary>d, the channels whitened together.</summary>
    public int GroupSize => _group;

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.ShiftInvariance | NormalizerClaims.ChannelShiftInvariance | NormalizerClaims.ScaleInvariance
        | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.BatchDependence
        | (_group == _channels ? NormalizerClaims.RotationEquivariance : NormalizerClaims.None)
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
            LoadRunning(Workspace.Carve(memory, _channels, _group));
        }

        _inference = made;
    }

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, _channels);

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        ChannelView view = ChannelView.Of(shape, order, _group);
        bool singleValue = view.Columns == 1;
        bool usesRunning = _runningMatrix is not null && (UsesRunning || (singleValue && SingleValue == SingleValuePolicy.UseRunning));
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
                    Whiten(view, x, y, Workspace.Carve(memory, _channels, _group));
                }

                return;
            }

            double[] rented = ArrayPool<double>.Shared.Rent(Workspace.Size(_channels, _group));
            fixed (double* memory = rented)
            {
                Workspace workspace = Workspace.Carve(memory, _channels, _group);
                TakeStatistics(shape, order, view, x, workspace);
                Whiten(view, x, y, workspace);
            }

            ArrayPool<double>.Shared.Return(rented);
            return;
        }

        bool updates = _runningMatrix is not null && UpdatesRunning && !singleValue;
        fixed (double* memory = _saved)
        {
            Workspace saved = Workspace.Carve(memory, _channels, _group);
            if (usesRunning)
            {
                LoadRunning(saved);
                Whiten(view, x, y, saved);
            }

            if (!usesRunning || updates)
            {
                double[]? rented = usesRunning ? ArrayPool<double>.Shared.Rent(Workspace.Size(_channels, _group)) : null;
                fixed (double* other = rented)
                {
                    Workspace batch = usesRunning ? Workspace.Carve(other, _channels, _group) : saved;
                    TakeStatistics(shape, order, view, x, batch);
                    if (!usesRunning)
                    {
                        Whiten(view, x, y, batch);
                    }

                    Update(batch, view.Columns, updates);
                }

                if (rented is not null)
                {
                    ArrayPool<double>.Shared.Return(rented);
                }
            }

            _savedRunning = usesRunning;
        }
    }

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        ChannelView view = ChannelView.Of(shape, order, _group);
        bool usesRunning = Training ? _savedRunning : _runningMatrix is not null && UsesRunning;
        double[]? rented = null;
        double[] statistics = Training ? _saved : _inference;
        if (!Training && !usesRunning)
        {
            statistics = rented = ArrayPool<double>.Shared.Rent(Workspace.Size(_channels, _group));
        }

        fixed (double* memory = statistics)
        {
            Workspace workspace = Workspace.Carve(memory, _channels, _group);
            if (rented is not null)
            {
                TakeStatistics(shape, order, view, x, workspace);
            }

            Differentiate(view, x, g, dx, workspace, constantStatistics: usesRunning);
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
                $"{Name} has {columns} values (N*S of {shape}) for {_group} channels whitened together: the covariance is singular but for epsilon, " +
                "and all batches are mapped to one figure up to rotation. Use smaller groups, shrinkage or a larger batch.");
        }
    }

    private unsafe void TakeStatistics(ActivationShape shape, MemoryOrder order, ChannelView view, T* x, Workspace workspace)
    {
        // The eigenvalues' place is free until the decomposition: the variances, not wanted here, go there.
        double* spare = workspace.Values;
        double[] rented = ArrayPool<double>.Shared.Rent(_channels);
        fixed (double* inverse = rented)
        {
            Standardizer.Moments(
                Layouts.PerChannel(shape, order), x,
                new Statistics { Mean = workspace.Mean, PopulationVariance = spare, InverseStd = inverse }, epsilon: 1);
        }

        ArrayPool<double>.Shared.Return(rented);
        Whitening.CrossProducts(view, x, null, workspace.Mean, workspace.Covariance, null);
        nint width = Product.Padded(_group);
        for (nint i = 0; i < view.Groups * Whitening.MatrixSize(_group); i++)
        {
            workspace.Covariance[i] /= view.Columns;
        }

        for (int group = 0; group < view.Groups; group++)
        {
            Decompose(workspace, group, width);
        }
    }

    // S = (1 - alpha) S0 + (alpha tr(S0)/d + epsilon) I, its eigenvectors, and W = S^(-1/2).
    private unsafe void Decompose(Workspace workspace, int group, nint width)
    {
        nint size = Whitening.MatrixSize(_group);
        double* covariance = workspace.Covariance + (group * size);
        double* vectors = workspace.Vectors + (group * size);
        double* values = workspace.Values + (group * _group);
        double* matrix = workspace.Matrix + (group * size);
        double trace = 0;
        double largest = 0;
        bool finite = true;
        for (int i = 0; i < _group; i++)
        {
            trace += covariance[(i * width) + i];
            for (int j = 0; j < _group; j++)
            {
                finite &= double.IsFinite(covariance[(i * width) + j]);
                largest = Math.Max(largest, Math.Abs(covariance[(i * width) + j]));
            }
        }

        if (!finite)
        {
            // A NaN in the input makes the whole group NaN, forward and backward.
            new Span<double>(vectors, (int)size).Fill(double.NaN);
            new Span<double>(matrix, (int)size).Fill(double.NaN);
            new Span<double>(values, _group).Fill(double.NaN);
            return;
        }

        double alpha = _options.Shrinkage;
        NativeScratch scratch = NativeScratch.Begin((size + SymmetricEigen.WorkSize(_group)) * sizeof(double));
        double* work = scratch.Take<double>(size);
        double* decomposition = scratch.Take<double>(SymmetricEigen.WorkSize(_group));
        for (int i = 0; i < _group; i++)
        {
            for (int j = 0; j < width; j++)
            {
                double symmetric = j < _group ? 0.5 * (covariance[(i * width) + j] + covariance[(j * width) + i]) : 0;
                work[(i * width) + j] = ((1 - alpha) * symmetric) + (i == j ? (alpha * trace / _group) + Epsilon : 0);
            }
        }

        bool converged = SymmetricEigen.Decompose(work, _group, width, vectors, values, decomposition);
        double smallest = double.PositiveInfinity;
        double greatest = 0;
        for (int i = 0; i < _group; i++)
        {
            smallest = Math.Min(smallest, values[i]);
            greatest = Math.Max(greatest, values[i]);
        }

        if (!converged)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                $"{Name}: the eigen-decomposition of a {_group} x {_group} covariance did not converge (condition number about {greatest / smallest:g3}). Use smaller groups or shrinkage."));
        }

        if (Epsilon == 0 && smallest <= _group * Math.ScaleB(1, -52) * greatest)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                $"{Name}: the covariance of channel group {group} is singular (eigenvalues {smallest:g3} to {greatest:g3}, condition number {greatest / smallest:g3}) and epsilon is 0. Use an epsilon above 0, shrinkage or smaller groups."));
        }

        // Storage in T moves eigenvalues by its rounding of the largest; a clearly negative one is no covariance.
        double rounding = typeof(T) == typeof(float) ? 1e-5 : 1e-10;
        if (smallest - Epsilon < -rounding * Math.Max(greatest, Epsilon))
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                $"{Name}: the covariance of channel group {group} has the eigenvalue {smallest - Epsilon:g3} beside {greatest - Epsilon:g3}; a covariance has none below 0. Check the running_covariance that was loaded."));
        }

        for (int i = 0; i < _group; i++)
        {
            // Rounding may take a zero eigenvalue a little below epsilon, never by more than this.
            values[i] = Epsilon > 0 ? Math.Max(values[i], Epsilon * (1 - 1e-6)) : values[i];
            double root = 1 / Math.Sqrt(values[i]);
            for (nint j = 0; j < width; j++)
            {
                work[(i * width) + j] = j < _group ? root * vectors[(i * width) + j] : 0;
            }
        }

        new Span<double>(matrix, (int)size).Clear();
        Product.Add(matrix, width, _group, width, _group, new LeftOperand(vectors, 1, width), work, width);
    }

    private unsafe void Whiten(ChannelView view, T* x, T* y, Workspace workspace)
    {
        fixed (T* weight = Weight?.Values, bias = Bias?.Values)
        {
            Whitening.Apply(view, x, y, workspace.Mean, workspace.Matrix, weight, bias);
        }
    }

    private unsafe void Differentiate(ChannelView view, T* x, T* g, T* dx, Workspace workspace, bool constantStatistics)
    {
        nint size = Whitening.MatrixSize(_group);
        nint width = Product.Padded(_group);
        bool wantsWeight = LearnParameters && Weight is not null;
        bool wantsBias = LearnParameters && Bias is not null;
        nint matrices = view.Groups * size;
        double[] rented = ArrayPool<double>.Shared.Rent(checked((int)((3 * matrices) + _channels)));
        fixed (double* memory = rented)
        {
            double* products = memory; // g (x - mean)^T
            double* first = memory + matrices;
            double* second = memory + (2 * matrices);
            double* sums = memory + (3 * matrices);
            if (!constantStatistics || wantsWeight || wantsBias)
            {
                Whitening.CrossProducts(view, x, g, workspace.Mean, products, sums);
            }

            for (int c = 0; c < _channels; c++)
            {
                if (wantsBias)
                {
                    Bias!.Gradient[c] = T.CreateTruncating(double.CreateTruncating(Bias.Gradient[c]) + sums[c]);
                }

                if (wantsWeight)
                {
                    // Sum over columns of g * (W (x - mean)) at channel c.
                    nint row = (c / _group * size) + (c % _group * width);
                    double sum = 0;
                    for (int k = 0; k < _group; k++)
                    {
                        sum += workspace.Matrix[row + k] * products[row + k];
                    }

                    Weight!.Gradient[c] = T.CreateTruncating(double.CreateTruncating(Weight.Gradient[c]) + sum);
                }
            }

            for (int group = 0; group < view.Groups; group++)
            {
                if (!constantStatistics)
                {
                    CovarianceGradient(workspace, group, products + (group * size), second + (group * size));
                    for (nint i = 0; i < size; i++)
                    {
                        second[(group * size) + i] *= 2.0 / view.Columns;
                    }
                }

                // W^T diag(weight), and its transpose where columns multiply from the right.
                for (int i = 0; i < _group; i++)
                {
                    for (int j = 0; j < width; j++)
                    {
                        int learned = (group * _group) + (view.ByColumns ? i : j);
                        double factor = j >= _group ? 0 : Weight is null ? 1 : double.CreateTruncating(Weight.Values[learned]);
                        first[(group * size) + (i * width) + j] = j < _group ? workspace.Matrix[(group * size) + (i * width) + j] * factor : 0;
                    }
                }
            }

            for (int c = 0; c < _channels; c++)
            {
                sums[c] /= view.Columns;
            }

            Whitening.ApplyGradient(
                view, x, g, dx, workspace.Mean, constantStatistics ? null : sums, first, constantStatistics ? null : second);
        }

        ArrayPool<double>.Shared.Return(rented);
    }

    // S = V^T (K o (V sym(A) V^T)) V with A = diag(weight) g (x - mean)^T: the gradient with respect to the covariance, symmetric.
    private unsafe void CovarianceGradient(Workspace workspace, int group, double* products, double* result)
    {
        nint size = Whitening.MatrixSize(_group);
        nint width = Product.Padded(_group);
        double* vectors = workspace.Vectors + (group * size);
        double* values = workspace.Values + (group * _group);
        NativeScratch scratch = NativeScratch.Begin(3 * size * sizeof(double));
        double* a = scratch.Take<double>(size);
        double* b = scratch.Take<double>(size);
        double* transposed = scratch.Take<double>(size);
        for (int i = 0; i < _group; i++)
        {
            double rowWeight = WeightOf(group, i);
            for (int j = 0; j < width; j++)
            {
                a[(i * width) + j] = j >= _group ? 0
                    : 0.5 * ((rowWeight * products[(i * width) + j]) + (WeightOf(group, j) * products[(j * width) + i]));
                transposed[(i * width) + j] = j < _group ? vectors[(j * width) + i] : 0;
            }
        }

        new Span<double>(b, (int)size).Clear();
        Product.Add(b, width, _group, width, _group, new LeftOperand(vectors, width, 1), a, width);
        new Span<double>(a, (int)size).Clear();
        Product.Add(a, width, _group, width, _group, new LeftOperand(b, width, 1), transposed, width);
        for (int i = 0; i < _group; i++)
        {
            double si = Math.Sqrt(values[i]);
            for (int j = 0; j < _group; j++)
            {
                // (f(li) - f(lj)) / (li - lj) with the factor sqrt(li) - sqrt(lj) cancelled by hand: smooth where they meet.
                double sj = Math.Sqrt(values[j]);
                a[(i * width) + j] *= -1 / (si * sj * (si + sj));
            }
        }

        new Span<double>(b, (int)size).Clear();
        for (int i = 0; i < _group; i++)
        {
            // Vectors as a right operand: padding must be zero.
            for (nint j = _group; j < width; j++)
            {
                vectors[(i * width) + j] = 0;
            }
        }

        Product.Add(b, width, _group, width, _group, new LeftOperand(a, width, 1), vectors, width);
        new Span<double>(result, (int)size).Clear();
        Product.Add(result, width, _group, width, _group, new LeftOperand(vectors, 1, width), b, width);
        if (_options.Shrinkage > 0)
        {
            double trace = 0;
            for (int i = 0; i < _group; i++)
            {
                trace += result[(i * width) + i];
            }

            for (int i = 0; i < _group; i++)
            {
                for (int j = 0; j < _group; j++)
                {
                    result[(i * width) + j] = ((1 - _options.Shrinkage) * result[(i * width) + j])
                        + (i == j ? _options.Shrinkage * trace / _group : 0);
                }
            }
        }
    }

    private double WeightOf(int group, int channel) =>
        Weight is null ? 1 : double.CreateTruncating(Weight.Values[(group * _group) + channel]);

    private unsafe void LoadRunning(Workspace workspace)
    {
        nint width = Product.Padded(_group);
        double* target = _options.Running == WhiteningRunning.Covariance ? workspace.Covariance : workspace.Matrix;
        for (int c = 0; c < _channels; c++)
        {
            workspace.Mean[c] = double.CreateTruncating(_runningMean!.Values[c]);
            for (int j = 0; j < width; j++)
            {
                nint row = (c / _group * Whitening.MatrixSize(_group)) + (c % _group * width);
                target[row + j] = j < _group ? double.CreateTruncating(_runningMatrix!.Values[(c * _group) + j]) : 0;
            }
        }

        for (int group = 0; group < _channels / _group && _options.Running == WhiteningRunning.Covariance; group++)
        {
            Decompose(workspace, group, width);
        }
    }

    // All or nothing: the batch's statistics and the new running ones must fit T.
    private unsafe void Update(Workspace batch, nint columns, bool updates)
    {
        bool storesCovariance = _options.Running == WhiteningRunning.Covariance;
        double correction = storesCovariance && _options.RunningVariance == RunningVariance.Sample && columns > 1 ? (double)columns / (columns - 1) : 1;
        double* source = storesCovariance ? batch.Covariance : batch.Matrix;
        double rate = _options.Momentum ?? 1.0 / ((_tracked?.Count ?? 0) + 1);
        nint width = Product.Padded(_group);
        nint size = Whitening.MatrixSize(_group);
        if (!updates && NonFinite != NonFinitePolicy.Throw)
        {
            return;
        }

        for (int pass = 0; pass < (updates ? 2 : 1); pass++)
        {
            for (int c = 0; c < _channels; c++)
            {
                double mean = batch.Mean[c];
                double newMean = updates ? ((1 - rate) * double.CreateTruncating(_runningMean!.Values[c])) + (rate * mean) : mean;
                if (pass == 1)
                {
                    _runningMean!.Values[c] = T.CreateTruncating(newMean);
                }
                else if (!Simd.Fits<T>(mean) || !Simd.Fits<T>(newMean))
                {
                    Refuse("mean", c, mean);
                    return;
                }

                for (int j = 0; j < _group; j++)
                {
                    double value = source[(c / _group * size) + (c % _group * width) + j] * correction;
                    double newValue = updates
                        ? ((1 - rate) * double.CreateTruncating(_runningMatrix!.Values[(c * _group) + j])) + (rate * value)
                        : value;
                    if (pass == 1)
                    {
                        _runningMatrix!.Values[(c * _group) + j] = T.CreateTruncating(newValue);
                    }
                    else if (!Simd.Fits<T>(value) || !Simd.Fits<T>(newValue))
                    {
                        Refuse(storesCovariance ? "covariance" : "whitening matrix", c, value);
                        return;
                    }
                }
            }
        }

        if (updates)
        {
            _tracked!.Count++;
        }
    }

    private void Refuse(string statistic, int channel, double value)
    {
        if (NonFinite == NonFinitePolicy.Throw)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                $"{Name}: the {statistic} of channel {channel} is {value}, which {typeof(T).Name} cannot hold as a finite number. Nothing was updated. Mend the input, or choose NonFinitePolicy.SkipUpdate."));
        }

        SkippedUpdates++;
    }

    /// <summary>A batch's statistics in one array: mean (C), then by group covariance, eigenvectors (rows), eigenvalues and W.</summary>
    private unsafe struct Workspace
    {
        public double* Mean;
        public double* Covariance;
        public double* Vectors;
        public double* Values;
        public double* Matrix;

        public static int Size(int channels, int group) =>
            checked((int)((2 * channels) + (3 * (channels / group) * Whitening.MatrixSize(group))));

        public static Workspace Carve(double* memory, int channels, int group)
        {
            nint matrices = channels / group * Whitening.MatrixSize(group);
            double* matrix = memory + (2 * channels);
            return new Workspace
            {
                Mean = memory,
                Values = memory + channels,
                Covariance = matrix,
                Vectors = matrix + matrices,
                Matrix = matrix + (2 * matrices),
            };
        }
    }
}

/// <summary>The catalog's view of <see cref="ZcaWhitening{T}"/>.</summary>
internal readonly struct ZcaWhiteningStrategy : IStrategy
{
    public static string Id => "zca-whitening";

    public static string Axes => "the covariance of all channels (or of each channel group), over all samples and positions";

    public static string Options(StrategySettings settings) => string.Create(CultureInfo.InvariantCulture,
        $"{(settings.GroupSize is { } size ? $"groups of {size}" : "all channels together")}, shrinkage {settings.Shrinkage}, running {Words.Of(settings.WhiteningRunning)}, {settings.Running()}");

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new ZcaWhitening<T>(shape.Channels, new ZcaWhiteningOptions(settings.ToRunningOptions(trackByDefault: true))
        {
            GroupSize = settings.GroupSize,
            Shrinkage = settings.Shrinkage,
            Running = settings.WhiteningRunning,
        });
}
