using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Strategies.Companions;

/// <summary>How an LSTM normalizes its pre-activations and its cell state.</summary>
public enum LstmNormalization
{
    /// <summary>Not at all: the plain LSTM.</summary>
    None,

    /// <summary>Each sample's 4H pre-activations together, and its H cell values (Ba, Kiros and Hinton 2016, arXiv:1607.06450, equations 20 to 22).</summary>
    Layer,

    /// <summary>Each unit over the batch, with statistics of each time step's own (Cooijmans et al. 2017, arXiv:1603.09025, equations 6 to 8).</summary>
    Batch,
}

/// <summary>Options of <see cref="LstmCell{T}"/>.</summary>
public sealed record LstmOptions
{
    /// <summary>What is normalized. Default nothing.</summary>
    public LstmNormalization Normalization { get; init; }

    /// <summary>T_max: batch normalization keeps statistics for so many time steps; training sequences are at most that long. At least 1. Default 100.</summary>
    public int MaximumSteps { get; init; } = 100;

    /// <summary>Added to the population variance under the root; finite, at least 0. Default 1e-5.</summary>
    public double Epsilon { get; init; } = 1e-5;

    /// <summary>The initial weight (gamma) of the three normalizations. Null, the default: 0.1 for batch, so that tanh stays where it has a slope; 1 for layer.</summary>
    public double? InitialScale { get; init; }

    /// <summary>The initial bias of the forget gate; the other biases start at 0. Default 1.</summary>
    public double ForgetBias { get; init; } = 1;

    /// <summary>The weight of the new batch in the population statistics, in [0, 1]; null is the cumulative average. Default 0.05, as the authors of batch normalization's have it.</summary>
    public double? Momentum { get; init; } = 0.05;

    /// <summary>The divisor of the stored variance. Default the population's, as the authors have it.</summary>
    public RunningVariance RunningVariance { get; init; } = RunningVariance.Population;

    /// <summary>What batch normalization does in training with a step that one sample is left in. Default to throw.</summary>
    public SingleValuePolicy SingleValue { get; init; } = SingleValuePolicy.Throw;

    /// <summary>What non-finite statistics of a batch do in training. Default to skip the update of that step's.</summary>
    public NonFinitePolicy NonFinite { get; init; } = NonFinitePolicy.SkipUpdate;

    /// <summary>The standard deviation of Gaussian noise on the first h in training. Default 0.</summary>
    /// <remarks>Equal rows of h, such as zeros, have no variance, and batch normalization multiplies their gradients by 1 / sqrt(epsilon).</remarks>
    public double InitialNoise { get; init; }

    /// <summary>The seed of the initial weights and of the noise. Default 1.</summary>
    public long Seed { get; init; } = 1;
}

/// <summary>An LSTM cell run over sequences, plain, layer-normalized or batch-normalized, with exact gradients through time.</summary>
/// <typeparam name="T">The storage type, float or double. Gates and statistics are computed in double, matrix products in T.</typeparam>
/// <remarks>
/// <para>With Norm the normalization, z in the gate order i, f, g, o (PyTorch's), sigma the logistic function:</para>
/// <para>z = Norm(h W_hh^T; norm_hh) + Norm(x W_ih^T; norm_ih) + b;  c' = sigma(f) c + sigma(i) tanh(g);  h' = sigma(o) tanh(Norm(c'; norm_c)).</para>
/// <para>Norm has a weight, and for c' a bias too: the other two biases are b's. The recurrence c' itself is not normalized.</para>
/// <para>Shapes: x (T, N, D), h and c (N, H); weight_ih (4H, D), weight_hh (4H, H), bias, norm_ih.weight, norm_hh.weight (4H), norm_c.weight,
/// norm_c.bias (H). Weights start uniform in +-1/sqrt(H). PyTorch's LSTM is the plain one with bias = bias_ih + bias_hh.</para>
/// <para>Batch normalization: means and variances over the samples of each time step, three sets a step (hidden, input, cell). State holds
/// them as norm_hh.t.running_mean, .running_var and .num_batches_tracked for t from 0 to T_max - 1, and so norm_ih.t and norm_c.t: the names that a PyTorch
/// ModuleList of BatchNorm1d has. In inference a step beyond the last one with statistics takes that one's.</para>
/// <para>Masks: a sample that is masked out of a step keeps its h and c through it (the output repeats h), and does not enter its statistics.</para>
/// <para>Degenerate: one sample in a step follows <see cref="SingleValuePolicy"/>; two pass no gradient through batch normalization
/// (<see cref="NormalizerWarnings.NoInputGradient"/>).</para>
/// <para>Threads: an instance belongs to one thread, in inference too. Working memory of the largest call is kept: about 29 T N H values and, with
/// layer normalization, arrays of 18 H for each step of the longest training sequence.</para>
/// <para>Source: as <see cref="LstmNormalization"/> says; the authors' code orders the gates g, f, i, o.</para>
/// </remarks>
public sealed class LstmCell<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly LstmOptions _options;
    private readonly LstmNormalizer<T>? _inputNorm;
    private readonly LstmNormalizer<T>? _hiddenNorm;
    private readonly LstmNormalizer<T>? _cellNorm;
    private readonly LstmNormalizer<T>[] _norms;
    private readonly RandomStream _noise;
    private readonly Tape _tape;

    // Working memory, kept from call to call: weights as products read them, h and c (in Backward their gradients), a step's and all steps' rows.
    private readonly LstmMatrix<T> _weightByInput;
    private readonly LstmMatrix<T> _weightByHidden;
    private readonly LstmMatrix<T> _weightByInputOutput;
    private readonly LstmMatrix<T> _weightByHiddenOutput;
    private readonly LstmMatrix<T> _h;
    private readonly LstmMatrix<T> _c;
    private readonly LstmMatrix<T> _fromInput;
    private readonly LstmMatrix<T> _fromHidden;
    private readonly LstmMatrix<T> _normalizedCell;
    private readonly LstmMatrix<T> _cellGradient;
    private readonly LstmMatrix<T> _gateGradient;
    private readonly LstmMatrix<T> _inputProductGradient;
    private readonly LstmMatrix<T> _hiddenProductGradient;
    private readonly LstmMatrix<T> _hiddenGradient;
    private readonly LstmMatrix<T> _packedInputGradient;
    private bool _canGoBack;
    private bool _tookBatches; // whether the Forward that Backward would follow normalized by batch
    private bool _training = true;

    /// <summary>A cell with initial weights.</summary>
    /// <param name="inputs">D, at least 1.</param>
    /// <param name="hidden">H, at least 1.</param>
    /// <param name="options">Null is the defaults: a plain LSTM.</param>
    /// <exception cref="ArgumentException">A size is below 1 or an option out of range.</exception>
    public LstmCell(int inputs, int hidden, LstmOptions? options = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(inputs, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(hidden, 1);
        _options = options ?? new LstmOptions();
        Validate(_options);
        if (hidden < 2 && _options.Normalization == LstmNormalization.Layer)
        {
            throw new ArgumentException("Layer normalization of the cell state needs at least 2 hidden units; one value would always become its bias.", nameof(hidden));
        }

        Inputs = inputs;
        Hidden = hidden;
        InputWeight = new Parameter<T>("weight_ih", [4 * hidden, inputs], T.Zero);
        HiddenWeight = new Parameter<T>("weight_hh", [4 * hidden, hidden], T.Zero);
        Bias = new Parameter<T>("bias", [4 * hidden], T.Zero);
        Bias.Values.AsSpan(hidden, hidden).Fill(T.CreateTruncating(_options.ForgetBias));
        var stream = new RandomStream(_options.Seed, "lstm", "weights");
        foreach (T[] values in new[] { InputWeight.Values, HiddenWeight.Values })
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = T.CreateTruncating(((2 * stream.NextDouble()) - 1) / Math.Sqrt(hidden));
            }
        }

        _noise = new RandomStream(_options.Seed, "lstm", "noise");
        if (_options.Normalization != LstmNormalization.None)
        {
            _inputNorm = new LstmNormalizer<T>("norm_ih", 4 * hidden, hasBias: false, _options);
            _hiddenNorm = new LstmNormalizer<T>("norm_hh", 4 * hidden, hasBias: false, _options);
            _cellNorm = new LstmNormalizer<T>("norm_c", hidden, hasBias: true, _options);
        }

        _norms = _inputNorm is null ? [] : [_inputNorm, _hiddenNorm!, _cellNorm!];
        foreach (LstmNormalizer<T> norm in _norms)
        {
            norm.WarningRaised = Warn;
        }

        _tape = new Tape(inputs, hidden);
        (_weightByInput, _weightByHidden) = (new(4 * hidden), new(4 * hidden));
        (_weightByInputOutput, _weightByHiddenOutput) = (new(inputs), new(hidden));
        (_h, _c) = (new(hidden), new(hidden));
        (_fromInput, _fromHidden, _normalizedCell) = (new(4 * hidden), new(4 * hidden), new(hidden));
        (_cellGradient, _gateGradient) = (new(hidden), new(4 * hidden));
        _inputProductGradient = _inputNorm is null ? _gateGradient : new(4 * hidden);
        _hiddenProductGradient = _hiddenNorm is null ? _gateGradient : new(4 * hidden);
        (_hiddenGradient, _packedInputGradient) = (new(hidden), new(inputs));
        Parameters = [InputWeight, HiddenWeight, Bias, .. _norms.SelectMany(norm => norm.Bias is null ? [norm.Weight] : new[] { norm.Weight, norm.Bias })];
    }

    /// <summary>D.</summary>
    public int Inputs { get; }

    /// <summary>H.</summary>
    public int Hidden { get; }

    /// <summary>W_ih, (4H, D), rows in the gate order i, f, g, o.</summary>
    public Parameter<T> InputWeight { get; }

    /// <summary>W_hh, (4H, H), rows in the gate order i, f, g, o.</summary>
    public Parameter<T> HiddenWeight { get; }

    /// <summary>b, (4H), in the gate order i, f, g, o.</summary>
    public Parameter<T> Bias { get; }

    /// <summary>All learnable arrays: weight_ih, weight_hh, bias and, where there is normalization, norm_ih.weight, norm_hh.weight, norm_c.weight, norm_c.bias.</summary>
    public IReadOnlyList<Parameter<T>> Parameters { get; }

    /// <summary>True: a step's own statistics normalize it and population statistics are updated. False: the population's normalize, nothing is updated.</summary>
    public bool Training
    {
        get => _training;
        set
        {
            _training = value;
            SetMode(TakesBatches);
        }
    }

    /// <summary>Whether population statistics normalize and none are updated, whatever <see cref="Training"/> says; Backward then treats them as constants.</summary>
    public bool Frozen { get; private set; }

    /// <summary>Updates of a step's statistics that were skipped because the batch's were not finite.</summary>
    public long SkippedUpdates => _norms.Sum(norm => norm.SkippedUpdates);

    /// <summary>Everything <see cref="WarningRaised"/> has said so far.</summary>
    public NormalizerWarnings Warnings { get; private set; }

    /// <summary>Called with a sentence the first time each kind of warning occurs in training.</summary>
    public Action<NormalizerWarnings, string>? WarningRaised { get; set; }

    /// <summary>The mask of sequences that begin together and end one by one: (T, N) row-major, true where step t is within sequence n.</summary>
    /// <param name="steps">T.</param>
    /// <param name="lengths">The number of steps of each of the N sequences, 0 to T.</param>
    /// <exception cref="ArgumentException">A length is outside 0 to T.</exception>
    public static bool[] Mask(int steps, params ReadOnlySpan<int> lengths)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(steps);
        var mask = new bool[checked(steps * lengths.Length)];
        for (int n = 0; n < lengths.Length; n++)
        {
            if (lengths[n] < 0 || lengths[n] > steps)
            {
                throw new ArgumentException($"Sequence {n} has length {lengths[n]}; within {steps} steps lengths are 0 to {steps}.", nameof(lengths));
            }

            for (int t = 0; t < lengths[n]; t++)
            {
                mask[(t * lengths.Length) + n] = true;
            }
        }

        return mask;
    }

    /// <summary>Freezes the population statistics until <see cref="Unfreeze"/>.</summary>
    public void Freeze()
    {
        Frozen = true;
        SetMode(TakesBatches);
    }

    /// <summary>Ends <see cref="Freeze"/>.</summary>
    public void Unfreeze()
    {
        Frozen = false;
        SetMode(TakesBatches);
    }

    /// <summary>Sets every parameter's gradient to zero.</summary>
    public void ZeroGradients()
    {
        foreach (Parameter<T> parameter in Parameters)
        {
            Array.Clear(parameter.Gradient);
        }
    }

    /// <summary>Runs the cell over sequences.</summary>
    /// <param name="steps">T.</param>
    /// <param name="samples">N.</param>
    /// <param name="input">x, (T, N, D) row-major. What lies at masked places is not read.</param>
    /// <param name="output">Receives every step's h, (T, N, H) row-major.</param>
    /// <param name="mask">(T, N) row-major, true where a sample takes part in a step; empty for all.</param>
    /// <param name="state">h and c before the first step, replaced by those after the last; null begins at step 0 with zeros.</param>
    /// <exception cref="ArgumentException">A length does not agree with T, N, D and H.</exception>
    /// <exception cref="InvalidOperationException">
    /// In training with batch normalization: a step has one sample or statistics that are not finite and the policy is to throw, or the sequence is longer than
    /// <see cref="LstmOptions.MaximumSteps"/>. Whatever is thrown, the population statistics of every step and the state are as they were before.
    /// </exception>
    public void Forward(
        int steps, int samples, ReadOnlySpan<T> input, Span<T> output, ReadOnlySpan<bool> mask = default, LstmState<T>? state = null)
    {
        RequireLength(input.Length, nameof(input), steps, samples, Inputs);
        RequireLength(output.Length, nameof(output), steps, samples, Hidden);
        if (!mask.IsEmpty)
        {
            RequireLength(mask.Length, nameof(mask), steps, samples, 1);
        }

        RequireState(state, samples);
        _canGoBack = false; // a Forward that throws leaves nothing for Backward
        int firstStep = state?.Step ?? 0;
        Tape tape = _tape;
        tape.Begin(steps, samples, firstStep, mask);
        RequireSteps();

        for (int r = 0; r < tape.Count; r++)
        {
            input.Slice(tape.Place[r] * Inputs, Inputs).CopyTo(tape.X.Row(r));
        }

        tape.InputProduct.SetProduct(tape.X, _weightByInput.SetTransposed(InputWeight.Values, Inputs), 0, tape.Count);
        LstmMatrix<T> hiddenWeight = _weightByHidden.SetTransposed(HiddenWeight.Values, Hidden);
        Start(_h, state?.Hidden, samples);
        Start(_c, state?.Cell, samples);
        for (int n = 0; n < samples && Training && firstStep == 0 && _options.InitialNoise > 0; n++)
        {
            foreach (ref T value in _h.Row(n))
            {
                value += T.CreateTruncating(_options.InitialNoise * _noise.NextGaussian());
            }
        }

        foreach (LstmNormalizer<T> norm in _norms)
        {
            norm.Begin(firstStep);
        }

        try
        {
            Run(hiddenWeight, samples, steps, firstStep, output);
        }
        catch
        {
            foreach (LstmNormalizer<T> norm in _norms)
            {
                norm.Undo();
            }

            throw;
        }

        if (state is not null)
        {
            Finish(_h, state.Hidden);
            Finish(_c, state.Cell);
            state.Step += steps;
        }

        _canGoBack = Training;
        _tookBatches = TakesBatches;
    }

    /// <summary>Takes the gradient of the last training Forward's outputs back through time, whatever was frozen or switched since.</summary>
    /// <param name="outputGradient">dL/dh of every step, (T, N, H) row-major.</param>
    /// <param name="inputGradient">Receives dL/dx, (T, N, D) row-major; 0 at masked places. Empty where it is not wanted. Parameter gradients are added to theirs.</param>
    /// <param name="stateGradient">dL/dh and dL/dc of the state after the last step, replaced by those of the state before the first; null for none.</param>
    /// <exception cref="ArgumentException">A length does not agree with the Forward's.</exception>
    /// <exception cref="InvalidOperationException">No training Forward came before.</exception>
    public void Backward(ReadOnlySpan<T> outputGradient, Span<T> inputGradient, LstmState<T>? stateGradient = null)
    {
        if (!_canGoBack)
        {
            throw new InvalidOperationException("LstmCell.Backward needs a Forward in training before it: the values of its steps are used.");
        }

        Tape tape = _tape;
        int samples = tape.Samples;
        RequireLength(outputGradient.Length, nameof(outputGradient), tape.Steps, samples, Hidden);
        if (!inputGradient.IsEmpty)
        {
            RequireLength(inputGradient.Length, nameof(inputGradient), tape.Steps, samples, Inputs);
        }

        RequireState(stateGradient, samples);

        LstmMatrix<T> hiddenWeight = _weightByHiddenOutput.Set(HiddenWeight.Values, 4 * Hidden);
        Start(_h, stateGradient?.Hidden, samples);
        Start(_c, stateGradient?.Cell, samples);
        _gateGradient.Resize(tape.Count);
        _inputProductGradient.Resize(tape.Count);
        _hiddenProductGradient.Resize(tape.Count);
        _hiddenGradient.Resize(tape.Count);
        SetMode(_tookBatches);
        try
        {
            BackwardSteps(hiddenWeight, outputGradient);
        }
        finally
        {
            SetMode(TakesBatches);
        }

        LstmMatrix<T>.AddTransposedProduct(_inputProductGradient, tape.X, tape.Count, InputWeight.Gradient);
        LstmMatrix<T>.AddTransposedProduct(_hiddenProductGradient, tape.PreviousHidden, tape.Count, HiddenWeight.Gradient);
        _gateGradient.AddRows(tape.Count, Bias.Gradient);
        if (!inputGradient.IsEmpty)
        {
            WriteInputGradient(inputGradient);
        }

        if (stateGradient is not null)
        {
            Finish(_h, stateGradient.Hidden);
            Finish(_c, stateGradient.Cell);
        }
    }

    /// <summary>Copies parameters and population statistics; see the remarks of the class for their names.</summary>
    /// <param name="prefix">Put before every name, its dot included.</param>
    public StateDictionary GetState(string prefix = "") => StateEntries.Get(Entries(), prefix);

    /// <summary>Puts a state into the cell: all of it or, on any error, nothing.</summary>
    /// <param name="state">Values by name, as <see cref="GetState"/> gives them.</param>
    /// <param name="strict">Whether missing and surplus names are errors.</param>
    /// <param name="prefix">Stands before every name; names without it belong to others.</param>
    /// <returns>What was missing and surplus, and let be.</returns>
    /// <exception cref="ArgumentException">Names every entry that is missing, surplus, misshapen, of the wrong type or no statistic.</exception>
    public StateMisfit LoadState(StateDictionary state, bool strict = true, string prefix = "") =>
        StateEntries.Load(Entries(), state, strict, prefix, StateEntries.NameOf<T>(this), static () => { });

    private static void Validate(LstmOptions options)
    {
        if (options.MaximumSteps < 1)
        {
            throw new ArgumentException($"MaximumSteps is the number of steps with statistics and at least 1; got {options.MaximumSteps}.", nameof(options));
        }

        if (!(options.Epsilon >= 0) || !double.IsFinite(options.Epsilon))
        {
            throw new ArgumentException(
                $"Epsilon is added to a variance and must be finite and at least 0; got {options.Epsilon.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }

        if (!double.IsFinite(options.InitialScale ?? 0) || !double.IsFinite(options.ForgetBias))
        {
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture,
                $"InitialScale and ForgetBias are initial values and must be finite; got {options.InitialScale} and {options.ForgetBias}."), nameof(options));
        }

        if (!(options.InitialNoise >= 0) || !double.IsFinite(options.InitialNoise))
        {
            throw new ArgumentException(
                $"InitialNoise is a standard deviation, finite and at least 0; got {options.InitialNoise.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }
    }

    // All steps, from h and c before the first to those after the last.
    private void Run(LstmMatrix<T> hiddenWeight, int samples, int steps, int firstStep, Span<T> output)
    {
        Tape tape = _tape;
        for (int t = 0; t < steps; t++)
        {
            int first = tape.First[t];
            int count = tape.First[t + 1] - first;
            for (int r = first; r < first + count; r++)
            {
                int n = tape.Place[r] % samples;
                _h.Row(n).CopyTo(tape.PreviousHidden.Row(r));
                _c.Row(n).CopyTo(tape.PreviousCell.Row(r));
            }

            if (count > 0)
            {
                tape.HiddenProduct.SetProduct(tape.PreviousHidden, hiddenWeight, first, count);
                Step(firstStep + t, first, count);
            }

            for (int n = 0; n < samples; n++)
            {
                _h.Row(n).CopyTo(output[(((t * samples) + n) * Hidden)..]);
            }
        }
    }

    // From the products of a step's rows to their gates, c and h.
    private unsafe void Step(int step, int first, int count)
    {
        Tape tape = _tape;
        (LstmMatrix<T> fromInput, int inputRow) = Normalize(_inputNorm, step, tape.InputProduct, first, count, _fromInput);
        (LstmMatrix<T> fromHidden, int hiddenRow) = Normalize(_hiddenNorm, step, tape.HiddenProduct, first, count, _fromHidden);
        fixed (T* bias = Bias.Values)
        {
            for (int r = 0; r < count; r++)
            {
                LstmGates<T>.Open(
                    fromInput.RowAddress(inputRow + r), fromHidden.RowAddress(hiddenRow + r), bias, tape.PreviousCell.RowAddress(first + r),
                    tape.Gates.RowAddress(first + r), tape.Cell.RowAddress(first + r), Hidden);
            }
        }

        (LstmMatrix<T> normalizedCell, int cellRow) = Normalize(_cellNorm, step, tape.Cell, first, count, _normalizedCell);
        for (int r = 0; r < count; r++)
        {
            int n = tape.Place[first + r] % tape.Samples;
            LstmGates<T>.Emit(
                normalizedCell.RowAddress(cellRow + r), tape.Gates.RowAddress(first + r), tape.Squashed.RowAddress(first + r), _h.RowAddress(n), Hidden);
            tape.Cell.Row(first + r).CopyTo(_c.Row(n));
        }
    }

    // From dL/dh of all steps, last to first, to the gradients of their products and of what normalized them.
    private void BackwardSteps(LstmMatrix<T> hiddenWeight, ReadOnlySpan<T> outputGradient)
    {
        Tape tape = _tape;
        int samples = tape.Samples;
        for (int t = tape.Steps - 1; t >= 0; t--)
        {
            for (int n = 0; n < samples; n++)
            {
                Span<T> dh = _h.Row(n);
                TensorPrimitives.Add(dh, outputGradient.Slice(((t * samples) + n) * Hidden, Hidden), dh);
            }

            int first = tape.First[t];
            int count = tape.First[t + 1] - first;
            if (count == 0)
            {
                continue;
            }

            BackwardStep(tape.FirstStep + t, first, count);
            _hiddenGradient.SetProduct(_hiddenProductGradient, hiddenWeight, first, count);
            for (int r = first; r < first + count; r++)
            {
                _hiddenGradient.Row(r).CopyTo(_h.Row(tape.Place[r] % samples));
            }
        }

        foreach (LstmNormalizer<T> norm in _norms)
        {
            norm.AddParameterGradients();
        }
    }

    // From dL/dh and dL/dc to the gradients of a step's products.
    private unsafe void BackwardStep(int step, int first, int count)
    {
        Tape tape = _tape;
        _cellGradient.Resize(count);
        for (int r = 0; r < count; r++)
        {
            int n = tape.Place[first + r] % tape.Samples;
            LstmGates<T>.BackwardEmit(
                _h.RowAddress(n), tape.Gates.RowAddress(first + r), tape.Squashed.RowAddress(first + r), _cellGradient.RowAddress(r),
                _gateGradient.RowAddress(first + r), Hidden);
        }

        _cellNorm?.Backward(step, tape.Cell, first, count, _cellGradient, 0, _cellGradient, 0);
        for (int r = 0; r < count; r++)
        {
            int n = tape.Place[first + r] % tape.Samples;
            LstmGates<T>.BackwardGates(
                _c.RowAddress(n), _cellGradient.RowAddress(r), tape.Gates.RowAddress(first + r), tape.PreviousCell.RowAddress(first + r),
                _gateGradient.RowAddress(first + r), Hidden);
        }

        _inputNorm?.Backward(step, tape.InputProduct, first, count, _gateGradient, first, _inputProductGradient, first);
        _hiddenNorm?.Backward(step, tape.HiddenProduct, first, count, _gateGradient, first, _hiddenProductGradient, first);
    }

    // Where there is no normalization, the rows themselves.
    private static (LstmMatrix<T> Rows, int First) Normalize(LstmNormalizer<T>? norm, int step, LstmMatrix<T> x, int first, int count, LstmMatrix<T> y)
    {
        if (norm is null)
        {
            return (x, first);
        }

        norm.Forward(step, x, first, count, y.Resize(count));
        return (y, 0);
    }

    private static void Start(LstmMatrix<T> rows, T[]? state, int samples)
    {
        rows.Resize(samples);
        for (int n = 0; n < samples; n++)
        {
            if (state is null)
            {
                rows.Row(n).Clear();
            }
            else
            {
                state.AsSpan(n * rows.Columns, rows.Columns).CopyTo(rows.Row(n));
            }
        }
    }

    private static void Finish(LstmMatrix<T> rows, T[] state)
    {
        for (int n = 0; n < state.Length / rows.Columns; n++)
        {
            rows.Row(n).CopyTo(state.AsSpan(n * rows.Columns));
        }
    }

    private void WriteInputGradient(Span<T> inputGradient)
    {
        _packedInputGradient.Resize(_tape.Count).SetProduct(_inputProductGradient, _weightByInputOutput.Set(InputWeight.Values, 4 * Hidden), 0, _tape.Count);
        inputGradient.Clear();
        for (int r = 0; r < _tape.Count; r++)
        {
            _packedInputGradient.Row(r).CopyTo(inputGradient[(_tape.Place[r] * Inputs)..]);
        }
    }

    private StateEntry<T>[] Entries() =>
        [.. Parameters.Select(parameter => new StateEntry<T>(parameter.Name, parameter)), .. _norms.SelectMany(norm => norm.Statistics)];

    private bool TakesBatches => Training && !Frozen;

    private void SetMode(bool takesBatches)
    {
        foreach (LstmNormalizer<T> norm in _norms)
        {
            norm.Training = takesBatches;
        }
    }

    private void Warn(NormalizerWarnings warning, string message)
    {
        if ((Warnings & warning) == 0)
        {
            Warnings |= warning;
            WarningRaised?.Invoke(warning, message);
        }
    }

    // Before anything is computed, so that a refusal leaves all statistics as they were.
    private void RequireSteps()
    {
        Tape tape = _tape;
        if (_options.Normalization != LstmNormalization.Batch || !TakesBatches)
        {
            return;
        }

        if (tape.FirstStep + tape.Steps > _options.MaximumSteps)
        {
            throw new InvalidOperationException(
                $"Training reaches time step {tape.FirstStep + tape.Steps}, but statistics are kept for {_options.MaximumSteps}. " +
                "Make the cell with MaximumSteps of the longest training sequence, or set the state's Step to 0 where a new piece begins. Only inference goes beyond.");
        }

        for (int t = 0; t < tape.Steps && _options.SingleValue == SingleValuePolicy.Throw; t++)
        {
            if (tape.First[t + 1] - tape.First[t] == 1)
            {
                throw new InvalidOperationException(
                    $"Batch normalization needs more than 1 sample in a time step to take statistics; step {tape.FirstStep + t} has 1 of {tape.Samples}. " +
                    "Use a larger batch, sequences of nearer lengths, inference (Training = false), or choose SingleValuePolicy.UseRunning or BiasOnly.");
            }
        }
    }

    private void RequireState(LstmState<T>? state, int samples)
    {
        if (state is not null && (state.Samples, state.HiddenUnits) != (samples, Hidden))
        {
            throw new ArgumentException(
                $"The state must be of {samples} samples and {Hidden} hidden units; got one of {state.Samples} and {state.HiddenUnits}.", nameof(state));
        }
    }

    private static void RequireLength(int length, string name, int steps, int samples, int width)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(steps);
        ArgumentOutOfRangeException.ThrowIfNegative(samples);
        if (length != (long)steps * samples * width)
        {
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture,
                $"'{name}' has {length} elements; ({steps}, {samples}{(width == 1 ? "" : $", {width}")}) has {(long)steps * samples * width}."), name);
        }
    }

    /// <summary>What Backward needs of a Forward, the samples that take part in a step packed row upon row.</summary>
    private sealed class Tape(int inputs, int hidden)
    {
        public int Steps { get; private set; }

        public int Samples { get; private set; }

        public int FirstStep { get; private set; }

        /// <summary>By step its first row; after the last step the number of rows.</summary>
        public int[] First { get; private set; } = [0];

        /// <summary>By row its place t * N + n.</summary>
        public int[] Place { get; private set; } = [];

        public int Count => First[Steps];

        /// <summary>x of every row.</summary>
        public LstmMatrix<T> X { get; } = new(inputs);

        /// <summary>x W_ih^T, before its normalization.</summary>
        public LstmMatrix<T> InputProduct { get; } = new(4 * hidden);

        /// <summary>h W_hh^T of the step before, before its normalization.</summary>
        public LstmMatrix<T> HiddenProduct { get; } = new(4 * hidden);

        /// <summary>i, f, g, o after their functions.</summary>
        public LstmMatrix<T> Gates { get; } = new(4 * hidden);

        public LstmMatrix<T> PreviousHidden { get; } = new(hidden);

        public LstmMatrix<T> PreviousCell { get; } = new(hidden);

        /// <summary>The new c, before its normalization.</summary>
        public LstmMatrix<T> Cell { get; } = new(hidden);

        /// <summary>tanh of the normalized c.</summary>
        public LstmMatrix<T> Squashed { get; } = new(hidden);

        /// <summary>Takes the places of a Forward; rows are then undefined.</summary>
        public void Begin(int steps, int samples, int firstStep, ReadOnlySpan<bool> mask)
        {
            (Steps, Samples, FirstStep) = (steps, samples, firstStep);
            if (First.Length <= steps)
            {
                First = new int[steps + 1];
            }

            if (Place.Length < steps * samples)
            {
                Place = new int[steps * samples];
            }

            int count = 0;
            for (int t = 0; t < steps; t++)
            {
                for (int place = t * samples; place < (t + 1) * samples; place++)
                {
                    if (mask.IsEmpty || mask[place])
                    {
                        Place[count++] = place;
                    }
                }

                First[t + 1] = count;
            }

            foreach (LstmMatrix<T> rows in new[] { X, InputProduct, HiddenProduct, Gates, PreviousHidden, PreviousCell, Cell, Squashed })
            {
                rows.Resize(count);
            }
        }
    }
}
