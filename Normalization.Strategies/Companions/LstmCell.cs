using System.Globalization;
using System.Numerics;
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
/// <para>Threads: an instance belongs to one thread, in inference too.</para>
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
    private Tape? _tape;
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
            SetMode();
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
        SetMode();
    }

    /// <summary>Ends <see cref="Freeze"/>.</summary>
    public void Unfreeze()
    {
        Frozen = false;
        SetMode();
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
    /// In training with batch normalization: a step has one sample and the policy is to throw, or the sequence is longer than <see cref="LstmOptions.MaximumSteps"/>.
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
        _tape = null; // a Forward that throws leaves nothing for Backward
        int firstStep = state?.Step ?? 0;
        var tape = new Tape(steps, samples, firstStep, mask, Inputs, Hidden);
        RequireSteps(tape);

        for (int r = 0; r < tape.Count; r++)
        {
            input.Slice(tape.Place[r] * Inputs, Inputs).CopyTo(tape.X.Row(r));
        }

        tape.InputProduct.SetProduct(tape.X, LstmMatrix<T>.Of(InputWeight.Values, 4 * Hidden, Inputs, transposed: true), 0, tape.Count);
        LstmMatrix<T> hiddenWeight = LstmMatrix<T>.Of(HiddenWeight.Values, 4 * Hidden, Hidden, transposed: true);
        T[] h = state is null ? new T[samples * Hidden] : [.. state.Hidden];
        T[] c = state is null ? new T[samples * Hidden] : [.. state.Cell];
        for (int i = 0; i < h.Length && Training && firstStep == 0 && _options.InitialNoise > 0; i++)
        {
            h[i] += T.CreateTruncating(_options.InitialNoise * _noise.NextGaussian());
        }

        var fromInput = new LstmMatrix<T>(samples, 4 * Hidden);
        var fromHidden = new LstmMatrix<T>(samples, 4 * Hidden);
        var normalizedCell = new LstmMatrix<T>(samples, Hidden);
        for (int t = 0; t < steps; t++)
        {
            int first = tape.First[t];
            int count = tape.First[t + 1] - first;
            for (int r = first; r < first + count; r++)
            {
                int n = tape.Place[r] % samples;
                h.AsSpan(n * Hidden, Hidden).CopyTo(tape.PreviousHidden.Row(r));
                c.AsSpan(n * Hidden, Hidden).CopyTo(tape.PreviousCell.Row(r));
            }

            if (count > 0)
            {
                tape.HiddenProduct.SetProduct(tape.PreviousHidden, hiddenWeight, first, count);
                Normalize(_inputNorm, firstStep + t, tape.InputProduct, first, count, fromInput);
                Normalize(_hiddenNorm, firstStep + t, tape.HiddenProduct, first, count, fromHidden);
                for (int r = 0; r < count; r++)
                {
                    OpenGates(fromInput.Row(r), fromHidden.Row(r), tape.PreviousCell.Row(first + r), tape.Gates.Row(first + r), tape.Cell.Row(first + r));
                }

                Normalize(_cellNorm, firstStep + t, tape.Cell, first, count, normalizedCell);
            }

            for (int r = 0; r < count; r++)
            {
                int n = tape.Place[first + r] % samples;
                Emit(normalizedCell.Row(r), tape.Gates.Row(first + r), tape.Squashed.Row(first + r), h.AsSpan(n * Hidden, Hidden));
                tape.Cell.Row(first + r).CopyTo(c.AsSpan(n * Hidden));
            }

            h.CopyTo(output[(t * h.Length)..]);
        }

        if (state is not null)
        {
            h.CopyTo(state.Hidden, 0);
            c.CopyTo(state.Cell, 0);
            state.Step += steps;
        }

        _tape = Training ? tape : null;
    }

    /// <summary>Takes the gradient of the last training Forward's outputs back through time.</summary>
    /// <param name="outputGradient">dL/dh of every step, (T, N, H) row-major.</param>
    /// <param name="inputGradient">Receives dL/dx, (T, N, D) row-major; 0 at masked places. Parameter gradients are added to theirs.</param>
    /// <param name="stateGradient">dL/dh and dL/dc of the state after the last step, replaced by those of the state before the first; null for none.</param>
    /// <exception cref="ArgumentException">A length does not agree with the Forward's.</exception>
    /// <exception cref="InvalidOperationException">No training Forward came before.</exception>
    public void Backward(ReadOnlySpan<T> outputGradient, Span<T> inputGradient, LstmState<T>? stateGradient = null)
    {
        if (_tape is not { } tape)
        {
            throw new InvalidOperationException("LstmCell.Backward needs a Forward in training before it: the values of its steps are used.");
        }

        int samples = tape.Samples;
        RequireLength(outputGradient.Length, nameof(outputGradient), tape.Steps, samples, Hidden);
        RequireLength(inputGradient.Length, nameof(inputGradient), tape.Steps, samples, Inputs);
        RequireState(stateGradient, samples);

        LstmMatrix<T> hiddenWeight = LstmMatrix<T>.Of(HiddenWeight.Values, 4 * Hidden, Hidden);
        double[] dh = stateGradient is null ? new double[samples * Hidden] : Array.ConvertAll(stateGradient.Hidden, double.CreateTruncating);
        double[] dc = stateGradient is null ? new double[samples * Hidden] : Array.ConvertAll(stateGradient.Cell, double.CreateTruncating);
        var gateGradient = new LstmMatrix<T>(tape.Count, 4 * Hidden);
        LstmMatrix<T> inputProductGradient = _inputNorm is null ? gateGradient : new LstmMatrix<T>(tape.Count, 4 * Hidden);
        LstmMatrix<T> hiddenProductGradient = _hiddenNorm is null ? gateGradient : new LstmMatrix<T>(tape.Count, 4 * Hidden);
        var cellGradient = new LstmMatrix<T>(samples, Hidden);
        var hiddenGradient = new LstmMatrix<T>(tape.Count, Hidden);
        for (int t = tape.Steps - 1; t >= 0; t--)
        {
            int step = tape.FirstStep + t;
            int first = tape.First[t];
            int count = tape.First[t + 1] - first;
            for (int i = 0; i < dh.Length; i++)
            {
                dh[i] += double.CreateTruncating(outputGradient[(t * dh.Length) + i]);
            }

            if (count == 0)
            {
                continue;
            }

            for (int r = 0; r < count; r++)
            {
                int place = tape.Place[first + r] % samples * Hidden;
                BackwardEmit(dh.AsSpan(place, Hidden), tape.Gates.Row(first + r), tape.Squashed.Row(first + r), cellGradient.Row(r), gateGradient.Row(first + r));
            }

            _cellNorm?.Backward(step, tape.Cell, first, count, cellGradient, 0, cellGradient, 0);
            for (int r = 0; r < count; r++)
            {
                int place = tape.Place[first + r] % samples * Hidden;
                BackwardGates(dc.AsSpan(place, Hidden), cellGradient.Row(r), tape.Gates.Row(first + r), tape.PreviousCell.Row(first + r), gateGradient.Row(first + r));
            }

            _inputNorm?.Backward(step, tape.InputProduct, first, count, gateGradient, first, inputProductGradient, first);
            _hiddenNorm?.Backward(step, tape.HiddenProduct, first, count, gateGradient, first, hiddenProductGradient, first);
            hiddenGradient.SetProduct(hiddenProductGradient, hiddenWeight, first, count);
            for (int r = first; r < first + count; r++)
            {
                Span<double> destination = dh.AsSpan(tape.Place[r] % samples * Hidden, Hidden);
                Span<T> source = hiddenGradient.Row(r);
                for (int j = 0; j < Hidden; j++)
                {
                    destination[j] = double.CreateTruncating(source[j]);
                }
            }
        }

        foreach (LstmNormalizer<T> norm in _norms)
        {
            norm.AddParameterGradients();
        }

        AddParameterGradients(tape, gateGradient, inputProductGradient, hiddenProductGradient);
        WriteInputGradient(tape, inputProductGradient, inputGradient);
        for (int i = 0; i < dh.Length && stateGradient is not null; i++)
        {
            stateGradient.Hidden[i] = T.CreateTruncating(dh[i]);
            stateGradient.Cell[i] = T.CreateTruncating(dc[i]);
        }
    }

    /// <summary>Copies parameters and population statistics; see the remarks of the class for their names.</summary>
    /// <param name="prefix">Put before every name, its dot included.</param>
    public StateDictionary GetState(string prefix = "") => StateEntries.Get(Entries(), prefix);

    /// <summary>Puts a state into the cell: all of it or, on any error, nothing.</summary>
    /// <param name="state">Values by name, as <see cref="GetState"/> gives them.</param>
    /// <param name="strict">Whether missing and surplus names are errors.</param>
    /// <param name="prefix">Stands before every name; names without it belong to others.</param>
    /// <exception cref="ArgumentException">Names every entry that is missing, surplus, misshapen, of the wrong type or no statistic.</exception>
    public void LoadState(StateDictionary state, bool strict = true, string prefix = "") =>
        StateEntries.Load(Entries(), state, strict, prefix, StateEntries.NameOf<T>(this), static () => { });

    private static void Validate(LstmOptions options)
    {
        if (options.MaximumSteps < 1)
        {
            throw new ArgumentException($"MaximumSteps is the number of steps with statistics and at least 1; got {options.MaximumSteps}.", nameof(options));
        }

        if (!(options.InitialNoise >= 0) || !double.IsFinite(options.InitialNoise))
        {
            throw new ArgumentException(
                $"InitialNoise is a standard deviation, finite and at least 0; got {options.InitialNoise.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }
    }

    // z, then i, f, g and o in its place, and the new c.
    private void OpenGates(ReadOnlySpan<T> fromInput, ReadOnlySpan<T> fromHidden, ReadOnlySpan<T> previousCell, Span<T> gates, Span<T> cell)
    {
        for (int k = 0; k < gates.Length; k++)
        {
            double z = double.CreateTruncating(fromInput[k]) + double.CreateTruncating(fromHidden[k]) + double.CreateTruncating(Bias.Values[k]);
            gates[k] = T.CreateTruncating(k / Hidden == 2 ? Math.Tanh(z) : 1 / (1 + Math.Exp(-z)));
        }

        for (int j = 0; j < Hidden; j++)
        {
            (double i, double f, double g, _) = GatesOf(gates, j);
            cell[j] = T.CreateTruncating((f * double.CreateTruncating(previousCell[j])) + (i * g));
        }
    }

    private void Emit(ReadOnlySpan<T> normalizedCell, ReadOnlySpan<T> gates, Span<T> squashed, Span<T> h)
    {
        for (int j = 0; j < Hidden; j++)
        {
            squashed[j] = T.CreateTruncating(Math.Tanh(double.CreateTruncating(normalizedCell[j])));
            h[j] = T.CreateTruncating(GatesOf(gates, j).O * double.CreateTruncating(squashed[j]));
        }
    }

    // From dL/dh to the gradient of the normalized cell and of the output gate's z.
    private void BackwardEmit(ReadOnlySpan<double> dh, ReadOnlySpan<T> gates, ReadOnlySpan<T> squashed, Span<T> cellGradient, Span<T> gateGradient)
    {
        for (int j = 0; j < Hidden; j++)
        {
            double o = GatesOf(gates, j).O;
            double q = double.CreateTruncating(squashed[j]);
            cellGradient[j] = T.CreateTruncating(dh[j] * o * (1 - (q * q)));
            gateGradient[(3 * Hidden) + j] = T.CreateTruncating(dh[j] * q * o * (1 - o));
        }
    }

    // From dL/dc to the other gates' z; dc becomes that of the step before.
    private void BackwardGates(Span<double> dc, ReadOnlySpan<T> cellGradient, ReadOnlySpan<T> gates, ReadOnlySpan<T> previousCell, Span<T> gateGradient)
    {
        for (int j = 0; j < Hidden; j++)
        {
            (double i, double f, double g, _) = GatesOf(gates, j);
            double d = dc[j] + double.CreateTruncating(cellGradient[j]);
            gateGradient[j] = T.CreateTruncating(d * g * i * (1 - i));
            gateGradient[Hidden + j] = T.CreateTruncating(d * double.CreateTruncating(previousCell[j]) * f * (1 - f));
            gateGradient[(2 * Hidden) + j] = T.CreateTruncating(d * i * (1 - (g * g)));
            dc[j] = d * f;
        }
    }

    private (double I, double F, double G, double O) GatesOf(ReadOnlySpan<T> gates, int unit) =>
        (double.CreateTruncating(gates[unit]), double.CreateTruncating(gates[Hidden + unit]),
            double.CreateTruncating(gates[(2 * Hidden) + unit]), double.CreateTruncating(gates[(3 * Hidden) + unit]));

    private static void Normalize(LstmNormalizer<T>? norm, int step, LstmMatrix<T> x, int first, int count, LstmMatrix<T> y)
    {
        if (norm is not null)
        {
            norm.Forward(step, x, first, count, y);
            return;
        }

        for (int r = 0; r < count; r++)
        {
            x.Row(first + r).CopyTo(y.Row(r));
        }
    }

    private void AddParameterGradients(Tape tape, LstmMatrix<T> gates, LstmMatrix<T> inputProduct, LstmMatrix<T> hiddenProduct)
    {
        LstmMatrix<T>.AddTransposedProduct(inputProduct, tape.X, tape.Count, InputWeight.Gradient);
        LstmMatrix<T>.AddTransposedProduct(hiddenProduct, tape.PreviousHidden, tape.Count, HiddenWeight.Gradient);
        for (int k = 0; k < 4 * Hidden; k++)
        {
            double sum = double.CreateTruncating(Bias.Gradient[k]);
            for (int r = 0; r < tape.Count; r++)
            {
                sum += double.CreateTruncating(gates.Row(r)[k]);
            }

            Bias.Gradient[k] = T.CreateTruncating(sum);
        }
    }

    private void WriteInputGradient(Tape tape, LstmMatrix<T> inputProductGradient, Span<T> inputGradient)
    {
        var packed = new LstmMatrix<T>(tape.Count, Inputs);
        packed.SetProduct(inputProductGradient, LstmMatrix<T>.Of(InputWeight.Values, 4 * Hidden, Inputs), 0, tape.Count);
        inputGradient.Clear();
        for (int r = 0; r < tape.Count; r++)
        {
            packed.Row(r).CopyTo(inputGradient[(tape.Place[r] * Inputs)..]);
        }
    }

    private StateEntry<T>[] Entries() =>
        [.. Parameters.Select(parameter => new StateEntry<T>(parameter.Name, parameter)), .. _norms.SelectMany(norm => norm.Statistics)];

    private void SetMode()
    {
        foreach (LstmNormalizer<T> norm in _norms)
        {
            norm.Training = Training && !Frozen;
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
    private void RequireSteps(Tape tape)
    {
        if (_options.Normalization != LstmNormalization.Batch || !Training || Frozen)
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
        if (state is not null && state.Hidden.Length != samples * Hidden)
        {
            throw new ArgumentException(
                $"A state of {samples} samples and {Hidden} hidden units has {samples * Hidden} values of h; got {state.Hidden.Length}.", nameof(state));
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
    private sealed class Tape
    {
        public Tape(int steps, int samples, int firstStep, ReadOnlySpan<bool> mask, int inputs, int hidden)
        {
            Steps = steps;
            Samples = samples;
            FirstStep = firstStep;
            First = new int[steps + 1];
            var places = new List<int>();
            for (int t = 0; t < steps; t++)
            {
                for (int place = t * samples; place < (t + 1) * samples; place++)
                {
                    if (mask.IsEmpty || mask[place])
                    {
                        places.Add(place);
                    }
                }

                First[t + 1] = places.Count;
            }

            Place = [.. places];
            X = new LstmMatrix<T>(Count, inputs);
            InputProduct = new LstmMatrix<T>(Count, 4 * hidden);
            HiddenProduct = new LstmMatrix<T>(Count, 4 * hidden);
            Gates = new LstmMatrix<T>(Count, 4 * hidden);
            PreviousHidden = new LstmMatrix<T>(Count, hidden);
            PreviousCell = new LstmMatrix<T>(Count, hidden);
            Cell = new LstmMatrix<T>(Count, hidden);
            Squashed = new LstmMatrix<T>(Count, hidden);
        }

        public int Steps { get; }

        public int Samples { get; }

        public int FirstStep { get; }

        /// <summary>By step its first row; after the last step the number of rows.</summary>
        public int[] First { get; }

        /// <summary>By row its place t * N + n.</summary>
        public int[] Place { get; }

        public int Count => Place.Length;

        /// <summary>x of every row.</summary>
        public LstmMatrix<T> X { get; }

        /// <summary>x W_ih^T, before its normalization.</summary>
        public LstmMatrix<T> InputProduct { get; }

        /// <summary>h W_hh^T of the step before, before its normalization.</summary>
        public LstmMatrix<T> HiddenProduct { get; }

        /// <summary>i, f, g, o after their functions.</summary>
        public LstmMatrix<T> Gates { get; }

        public LstmMatrix<T> PreviousHidden { get; }

        public LstmMatrix<T> PreviousCell { get; }

        /// <summary>The new c, before its normalization.</summary>
        public LstmMatrix<T> Cell { get; }

        /// <summary>tanh of the normalized c.</summary>
        public LstmMatrix<T> Squashed { get; }
    }
}
