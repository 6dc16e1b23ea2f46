using System.Globalization;
using System.Numerics;
using Normalization.Core;

namespace Normalization.Strategies.Companions;

/// <summary>One of the three places where an LSTM normalizes: a layer for each time step, all with the same weight and bias.</summary>
/// <typeparam name="T">float or double.</typeparam>
/// <remarks>
/// A layer of its own for each step keeps what that step's Backward needs and, in batch normalization, that step's population statistics.
/// Layer normalization has no statistics to keep: layers are made as a training sequence's steps come, and one serves all steps of inference.
/// </remarks>
internal sealed class LstmNormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly LstmOptions _options;
    private readonly int _width;
    private readonly List<Normalizer<T>> _steps = [];
    private readonly List<(Normalizer<T> Layer, long[] Counts, T[][] Values)> _before = [];
    private readonly double[] _weightSums;
    private readonly double[] _biasSums;
    private bool _training = true;
    private int _firstStep;

    public LstmNormalizer(string name, int width, bool hasBias, LstmOptions options)
    {
        Name = name;
        _width = width;
        _options = options;
        Weight = new Parameter<T>(name + ".weight", [width], T.CreateTruncating(options.InitialScale ?? (IsBatch ? 0.1 : 1)));
        Bias = hasBias ? new Parameter<T>(name + ".bias", [width], T.Zero) : null;
        _weightSums = new double[width];
        _biasSums = new double[hasBias ? width : 0];
        if (IsBatch)
        {
            Grow(options.MaximumSteps);
        }
    }

    public string Name { get; }

    public Parameter<T> Weight { get; }

    public Parameter<T>? Bias { get; }

    /// <summary>Hears the first warning of every step's layer.</summary>
    public Action<NormalizerWarnings, string>? WarningRaised { get; set; }

    public long SkippedUpdates => _steps.Sum(step => step.SkippedUpdates);

    private bool IsBatch => _options.Normalization == LstmNormalization.Batch;

    /// <summary>The running statistics under the names they have in a state, such as norm_hh.3.running_mean.</summary>
    public IEnumerable<StateEntry<T>> Statistics => _steps.SelectMany((step, t) =>
        step.Buffers.Select(buffer => new StateEntry<T>(string.Create(CultureInfo.InvariantCulture, $"{Name}.{t}.{buffer.Name}"), buffer)));

    /// <summary>True: a step's own statistics normalize it. False: the population's do, which are then left alone.</summary>
    public bool Training
    {
        get => _training;
        set
        {
            _training = value;
            _steps.ForEach(step => step.Training = value);
        }
    }

    /// <summary>Begins a sequence: from here on, statistics are remembered as they are before a Forward, for <see cref="Undo"/>.</summary>
    /// <param name="firstStep">The step it begins at.</param>
    public void Begin(int firstStep)
    {
        _before.Clear();
        _firstStep = firstStep;
    }

    /// <summary>Puts the statistics of every step since <see cref="Begin"/> back.</summary>
    public void Undo()
    {
        foreach ((Normalizer<T> layer, long[] counts, T[][] values) in _before)
        {
            for (int i = 0; i < counts.Length; i++)
            {
                layer.Buffers[i].Count = counts[i];
                values[i].CopyTo(layer.Buffers[i].Values, 0);
            }

            layer.OnStateChanged();
        }

        _before.Clear();
    }

    /// <summary>Normalizes rows of x into the first rows of y.</summary>
    public void Forward(int step, LstmMatrix<T> x, int first, int count, LstmMatrix<T> y)
    {
        Normalizer<T> layer = LayerOf(step);
        Weight.Values.CopyTo(layer.Weight!.Values, 0);
        Bias?.Values.CopyTo(layer.Bias!.Values, 0);
        if (IsBatch && Training)
        {
            _before.Add((layer, [.. layer.Buffers.Select(buffer => buffer.Count)], [.. layer.Buffers.Select(buffer => (T[])buffer.Values.Clone())]));
        }

        layer.Forward(x.Batch(first, count), y.Batch(0, count));
    }

    /// <summary>The gradient of a Forward; <see cref="AddParameterGradients"/> follows when all steps are through.</summary>
    public void Backward(int step, LstmMatrix<T> x, int first, int count, LstmMatrix<T> g, int gFirst, LstmMatrix<T> dx, int dxFirst)
    {
        Normalizer<T> layer = LayerOf(step);
        layer.ZeroGradients();
        layer.Backward(x.Batch(first, count), g.Batch(gFirst, count), dx.Batch(dxFirst, count));
        Add(layer.Weight!.Gradient, _weightSums);
        Add(layer.Bias?.Gradient ?? [], _biasSums);
    }

    /// <summary>Adds the steps' sums to the shared parameters' gradients.</summary>
    public void AddParameterGradients()
    {
        Move(_weightSums, Weight.Gradient);
        Move(_biasSums, Bias?.Gradient ?? []);
    }

    private static void Add(T[] source, double[] sums)
    {
        for (int i = 0; i < sums.Length; i++)
        {
            sums[i] += double.CreateTruncating(source[i]);
        }
    }

    private static void Move(double[] sums, T[] gradient)
    {
        for (int i = 0; i < sums.Length; i++)
        {
            gradient[i] = T.CreateTruncating(double.CreateTruncating(gradient[i]) + sums[i]);
            sums[i] = 0;
        }
    }

    // By the population, the statistics of the last step that has any serve all later ones.
    private Normalizer<T> LayerOf(int step)
    {
        if (!IsBatch)
        {
            step = Training ? step - _firstStep : 0;
            Grow(step + 1);
        }
        else if (!Training)
        {
            step = Math.Min(step, Math.Max(0, _steps.FindLastIndex(layer => layer.Buffers[^1].Count > 0)));
        }

        return _steps[step];
    }

    private void Grow(int steps)
    {
        var options = new RunningStatisticsOptions
        {
            Epsilon = _options.Epsilon,
            Bias = Bias is not null,
            Momentum = _options.Momentum,
            RunningVariance = _options.RunningVariance,
            SingleValue = _options.SingleValue,
            NonFinite = _options.NonFinite,
        };
        while (_steps.Count < steps)
        {
            int t = _steps.Count;
            Normalizer<T> step = IsBatch
                ? new BatchNorm<T>(_width, options)
                : new LayerNorm<T>([_width], new NormalizerOptions { Epsilon = _options.Epsilon, Bias = options.Bias });
            step.Training = Training;
            step.WarningRaised = (warning, message) => WarningRaised?.Invoke(warning, string.Create(CultureInfo.InvariantCulture, $"{Name}, step {t}: {message}"));
            _steps.Add(step);
        }
    }
}
