using System.Numerics;

namespace Normalization.Core.Comparison;

/// <summary>What the probes are told beside whom and what to measure.</summary>
internal sealed record ProbeSettings
{
    /// <summary>The epsilon of every instance.</summary>
    public double Epsilon { get; init; } = 1e-5;

    /// <summary>The seed every stream is derived from.</summary>
    public required long Seed { get; init; }

    /// <summary>Whether to take more samples and repeats.</summary>
    public bool Thorough { get; init; }

    /// <summary>The threads the kernels use.</summary>
    public int Threads { get; init; } = 1;

    /// <summary>Ends a probe inside its loops.</summary>
    public CancellationToken Cancellation { get; init; }
}

/// <summary>Which weight and bias an instance gets.</summary>
internal enum Affine
{
    /// <summary>Weight 1, bias 0.</summary>
    Plain,

    /// <summary>Random: |weight| in [0.5, 1.5] of either sign, bias normal with deviation 0.5.</summary>
    Random,

    /// <summary>The random weight, bias 0.</summary>
    RandomWeight,
}

/// <summary>One contestant on one scenario for one aspect: makes instances and data, collects the rows.</summary>
internal sealed class ProbeCase(string aspect, Contestant contestant, Scenario scenario, ProbeSettings settings)
{
    private readonly List<Measurement> _rows = [];
    private readonly List<string> _failures = [];
    private bool _carries;

    public Contestant Contestant => contestant;

    public Scenario Scenario => scenario;

    public ProbeSettings Settings => settings;

    public IReadOnlyList<Measurement> Rows => _rows;

    /// <summary>Null, or every check that failed.</summary>
    public string? Failure => _failures.Count == 0 ? null : string.Join(" ", _failures);

    /// <summary>Whether an exception says that a strategy cannot carry what it was given; others are bugs.</summary>
    public static bool IsRefusal(Exception exception) =>
        exception is ArgumentException or InvalidOperationException or ArithmeticException;

    /// <summary>An exception's message without the parameter name that .NET appends.</summary>
    public static string Reason(Exception exception)
    {
        string message = exception.Message;
        int tail = message.LastIndexOf(" (Parameter '", StringComparison.Ordinal);
        return tail < 0 ? message : message[..tail];
    }

    /// <summary>A stream of this scenario; the same for every contestant.</summary>
    public RandomStream Stream(params ReadOnlySpan<string> purpose) => new(settings.Seed, [aspect, scenario.Id, .. purpose]);

    /// <summary>Records a value.</summary>
    public void Add(
        string metric, double? value, IReadOnlyList<double>? spread = null, IReadOnlyDictionary<string, object>? parameters = null, string? note = null) =>
        _rows.Add(new Measurement
        {
            Aspect = aspect,
            Strategy = contestant.Id,
            Scenario = scenario.Id,
            Metric = metric,
            Value = value,
            Unit = Metrics.Get(metric).Unit,
            Spread = spread,
            Parameters = parameters,
            Note = note,
        });

    /// <summary>Records a value whose exact counterpart is known; above the limit the check fails. Null judges nothing.</summary>
    public void AddJudged(string metric, double value, double? limit)
    {
        Add(metric, value);
        if (limit is { } most && !(value <= most))
        {
            Fail(FormattableString.Invariant($"{metric} is {value:0.0e+0}, above {most:0.0e+0}."));
        }
    }

    /// <summary>Records rows that could not be formed, and why.</summary>
    public void Missing(IEnumerable<string> metrics, string note, IReadOnlyDictionary<string, object>? parameters = null)
    {
        foreach (string metric in metrics)
        {
            Add(metric, null, parameters: parameters, note: note);
        }
    }

    /// <summary>Records a check that failed.</summary>
    public void Fail(string what) => _failures.Add(what);

    /// <summary>Runs one measurement; where the strategy refuses, the rows it did not get to state why.</summary>
    /// <remarks>Once <see cref="CanCarry"/> has seen it carry the batch, a refusal is a fault and fails the case.</remarks>
    public void Attempt(IReadOnlyList<string> metrics, Action measure, IReadOnlyDictionary<string, object>? parameters = null)
    {
        settings.Cancellation.ThrowIfCancellationRequested();
        int first = _rows.Count;
        try
        {
            measure();
        }
        catch (Exception refusal) when (IsRefusal(refusal))
        {
            if (_carries || refusal is FaultException)
            {
                Fail($"{metrics[0]}: {refusal.GetBaseException().GetType().Name}: {Reason(refusal)}");
            }

            Missing([.. metrics.Except(_rows.Skip(first).Select(row => row.Metric))], Reason(refusal), parameters);
        }
    }

    /// <summary>Whether the strategy carries a training batch; where not, every metric of the aspect gets a row that says why.</summary>
    public bool CanCarry(ActivationShape shape, double[] input)
    {
        try
        {
            Forward(Create<double>(shape, Affine.Plain), shape, input);
            return _carries = true;
        }
        catch (Exception refusal) when (IsRefusal(refusal))
        {
            Missing(Metrics.All.Where(metric => metric.Aspect == aspect).Select(metric => metric.Id), Reason(refusal));
            return false;
        }
    }

    /// <summary>Gives an instance another's running statistics.</summary>
    public static void CopyBuffers(INormalizer<double> from, INormalizer<double> to)
    {
        for (int i = 0; i < to.Buffers.Count; i++)
        {
            from.Buffers[i].Values.CopyTo(to.Buffers[i].Values, 0);
            to.Buffers[i].Count = from.Buffers[i].Count;
        }

        to.OnStateChanged();
    }

    /// <summary>A fresh instance in training mode.</summary>
    public INormalizer<T> Create<T>(ActivationShape shape, Affine affine, double? epsilon = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        INormalizer<T> normalizer = contestant.Create<T>(shape, epsilon ?? settings.Epsilon);
        SetAffine(normalizer, affine);
        return normalizer;
    }

    /// <summary>Writes weight and bias; other parameters keep their initial values.</summary>
    public void SetAffine<T>(INormalizer<T> normalizer, Affine affine)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            if (parameter.Name is not ("weight" or "bias"))
            {
                continue;
            }

            var stream = new RandomStream(settings.Seed, "affine", parameter.Name);
            for (int i = 0; i < parameter.Values.Length; i++)
            {
                double random = parameter.Name == "weight"
                    ? (0.5 + stream.NextDouble()) * (stream.NextInt32(2) == 0 ? 1 : -1)
                    : 0.5 * stream.NextGaussian();
                bool plain = affine == Affine.Plain || (affine == Affine.RandomWeight && parameter.Name == "bias");

                // Rounded to float, so that both precisions have the same.
                parameter.Values[i] = T.CreateChecked(!plain ? (float)random : parameter.Name == "weight" ? 1 : 0);
            }
        }
    }

    /// <summary>
    /// Whether an output depends on its own reduction set alone, as of a standardization; whitening mixes them. Measured: one set's
    /// input is changed, and the other sets' output must not move.
    /// </summary>
    public bool StandardizesWithinSets(ActivationShape shape, double[] input, ReductionSets sets)
    {
        var changed = (double[])input.Clone();
        RandomStream stream = Stream("one-set");
        for (int i = 0; i < changed.Length; i++)
        {
            changed[i] += sets.SetOfElement[i] == 0 ? stream.NextGaussian() : 0;
        }

        double[] before = Forward(Create<double>(shape, Affine.Plain), shape, input);
        double[] after = Forward(Create<double>(shape, Affine.Plain), shape, changed);
        return !sets.SetOfElement.Where((set, i) => set != 0 && before[i] != after[i]).Any();
    }

    /// <summary>The normalized batch.</summary>
    public static T[] Forward<T>(INormalizer<T> normalizer, ActivationShape shape, T[] input)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var output = new T[input.Length];
        normalizer.Forward(shape, input, output);
        return output;
    }

    /// <summary>The input gradient of the last forward pass.</summary>
    public static T[] Backward<T>(INormalizer<T> normalizer, ActivationShape shape, T[] input, T[] outputGradient)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var inputGradient = new T[input.Length];
        Backward(normalizer, shape, input, outputGradient, inputGradient);
        return inputGradient;
    }

    /// <summary>The input gradient of the last forward pass; a strategy that carried the batch forward must carry it back.</summary>
    public static void Backward<T>(INormalizer<T> normalizer, ActivationShape shape, T[] input, T[] outputGradient, T[] inputGradient)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        try
        {
            normalizer.Backward(shape, input, outputGradient, inputGradient);
        }
        catch (Exception refusal) when (IsRefusal(refusal))
        {
            throw new FaultException(refusal);
        }
    }

    /// <summary>Whether a strategy says that it whitens all channels without rotating them.</summary>
    public static bool Whitens<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        normalizer.MixesReductionSets && normalizer.Claims.HasFlag(NormalizerClaims.Whitening);

    public static IReadOnlyDictionary<string, object> Parameters(string name, object value) =>
        new Dictionary<string, object>(StringComparer.Ordinal) { [name] = value };
}

/// <summary>A refusal where the strategy had already carried the batch: a fault of its own.</summary>
internal sealed class FaultException(Exception cause) : InvalidOperationException(cause.Message, cause);
