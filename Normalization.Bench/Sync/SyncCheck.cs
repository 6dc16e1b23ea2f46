using System.Diagnostics;
using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Collectives;
using Normalization.Core.Comparison;
using Normalization.Strategies;

namespace Normalization.Bench.Sync;

/// <summary>What one rank is made to do wrong, so that the others can be watched.</summary>
internal enum Fault
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>Ends in the midst of training, without a word.</summary>
    Die,

    /// <summary>Waits forever in the midst of training.</summary>
    Stall,

    /// <summary>Comes with one position more than the others.</summary>
    Shape,
}

/// <summary>One rank's part in showing that batches cut over ranks give what one process gives on the whole batch.</summary>
/// <remarks>Every rank computes the reference for itself, from the same seed, and looks at its own part; the largest error of all is shown.</remarks>
internal sealed class SyncCheck
{
    private const int Samples = 24;
    private const int Steps = 10;
    private const int StepOfFault = 5;
    private const long Seed = 2026;

    // N, C and no, one or two spatial axes.
    private static readonly ActivationShape[] Shapes = [new(Samples, 24), new(Samples, 6, 35), new(Samples, 64, 7, 9)];

    private readonly ICollective _collective;
    private readonly MeasuredCollective _ofLayer;
    private readonly MeasuredCollective _ofTraining;
    private readonly int[] _shards;
    private readonly Action<string> _print;
    private readonly Fault _fault;
    private bool _failed;

    /// <param name="collective">This rank's.</param>
    /// <param name="fault">What this rank is made to do wrong.</param>
    /// <param name="print">Where a line goes; called on rank 0 only.</param>
    public SyncCheck(ICollective collective, Fault fault, Action<string> print)
    {
        _collective = collective;
        _fault = fault;
        _print = collective.Rank == 0 ? print : _ => { };
        _ofLayer = new MeasuredCollective(collective, NameInLayer);
        _ofTraining = new MeasuredCollective(collective, (operation, _) => $"{operation} of the parameter gradients and the loss");
        _shards = Shards(collective.Size);
    }

    /// <summary>The samples of every rank: uneven, and none on the last but one where there are four or more.</summary>
    public static int[] Shards(int ranks)
    {
        int[] shares = [.. Enumerable.Range(1, ranks).Select(share => ranks >= 4 && share == ranks - 1 ? 0 : share)];
        int[] shards = [.. shares.Select(share => Samples * share / shares.Sum())];
        shards[0] += Samples - shards.Sum();
        return shards;
    }

    /// <summary>Runs all checks.</summary>
    /// <returns>Whether all ranks agree with one process.</returns>
    public bool Run()
    {
        _print($"{_collective.Size} ranks with {string.Join(", ", _shards)} of {Samples} samples; errors relative to the largest value, of all ranks");
        Check<float>("float", 1e-5);
        Check<double>("double", 1e-12);
        PrintCosts();
        _print(_failed ? "failed: the ranks do not give what one process gives" : "passed");
        return !_failed;
    }

    private static string NameInLayer(string operation, int length) => operation == "all-reduce"
        ? "all-reduce of the layer's gradient sums"
        : length == BatchPart.NoteLength ? "all-gather of shapes" : "all-gather of moments";

    private void Check<T>(string type, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        foreach (ActivationShape shape in Shapes)
        {
            CheckPass<T>(type, shape, tolerance);
        }

        CheckTraining<T>(type, tolerance);
    }

    private void CheckPass<T>(string type, ActivationShape shape, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        T[] x = Draw<T>(shape.Count, "input", 3);
        T[] dy = Draw<T>(shape.Count, "gradient", 0);
        var whole = new BatchNorm<T>(shape.Channels);
        var part = new SyncBatchNorm<T>(shape.Channels, _ofLayer);
        foreach (Normalizer<T> layer in new Normalizer<T>[] { whole, part })
        {
            Draw<T>(shape.Channels, "weight", 1).CopyTo(layer.Weight!.Values, 0);
            Draw<T>(shape.Channels, "bias", 0).CopyTo(layer.Bias!.Values, 0);
        }

        T[] y = new T[x.Length], dx = new T[x.Length];
        whole.Forward(shape, x, y);
        whole.Backward(shape, x, dy, dx);

        (Range range, ActivationShape own) = Own(shape);
        T[] ownOutput = new T[own.Count], ownGradient = new T[own.Count];
        part.Forward(own, x.AsSpan(range), ownOutput);
        part.Backward(own, x.AsSpan(range), dy.AsSpan(range), ownGradient);
        double[] parameters = [.. part.Weight!.Gradient.Concat(part.Bias!.Gradient).Select(double.CreateTruncating)];
        _collective.AllReduceSum(parameters);

        Report($"{type}, forward and backward of {shape}", tolerance,
            ("output", Error<T>(y, y.AsSpan(range), ownOutput)),
            ("input gradient", Error<T>(dx, dx.AsSpan(range), ownGradient)),
            ("parameter gradients", Error([.. whole.Weight!.Gradient.Concat(whole.Bias!.Gradient).Select(double.CreateTruncating)], parameters)),
            ("running statistics", Error(Running(whole), Running(part))));
    }

    private void CheckTraining<T>(string type, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var inputShape = new ActivationShape(Samples, LayerStack<T>.Inputs, LayerStack<T>.Positions);
        var targetShape = new ActivationShape(Samples, LayerStack<T>.Outputs, LayerStack<T>.Positions);
        var whole = new LayerStack<T>(channels => new BatchNorm<T>(channels), Samples, Seed);
        var part = new LayerStack<T>(channels => new SyncBatchNorm<T>(channels, _ofLayer), Samples, Seed);
        (Range inputs, _) = Own(inputShape);
        (Range targets, _) = Own(targetShape);
        double worstLoss = 0;
        for (int step = 0; step < Steps; step++)
        {
            if (step == StepOfFault)
            {
                DoWrong(part);
            }

            T[] input = Draw<T>(inputShape.Count, $"input {step}", 1);
            T[] target = Draw<T>(targetShape.Count, $"target {step}", 0);
            double expected = whole.Step(input, target, _ => { });
            double loss = part.Step(input.AsSpan(inputs), target.AsSpan(targets), values => _ofTraining.AllReduceSum(values));
            worstLoss = Math.Max(worstLoss, Math.Abs(loss - expected) / expected);
        }

        Report($"{type}, {Steps} training steps", tolerance, ("loss of every step", worstLoss), ("parameters and running statistics", Error(whole.State, part.State)));
    }

    private void DoWrong<T>(LayerStack<T> stack)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        switch (_fault)
        {
            case Fault.Die when _collective is InProcessCollective:
                throw new InvalidOperationException("it was told to die.");
            case Fault.Die:
                Process.GetCurrentProcess().Kill();
                break;
            case Fault.Stall:
                Thread.Sleep(Timeout.Infinite);
                break;
            case Fault.Shape:
                var shape = new ActivationShape(1, LayerStack<T>.Hidden, LayerStack<T>.Positions + 1);
                stack.FirstNorm.Forward(shape, new T[shape.Count], new T[shape.Count]);
                break;
        }
    }

    private (Range Elements, ActivationShape Shape) Own(ActivationShape shape)
    {
        int sample = (int)(shape.Count / shape.Samples);
        int first = _shards[.._collective.Rank].Sum();
        int count = _shards[_collective.Rank];
        return (new Range(first * sample, (first + count) * sample), shape.WithSamples(count));
    }

    private void Report(string what, double tolerance, params (string Name, double Error)[] errors)
    {
        double[] own = [.. errors.Select(error => error.Error)];
        double[] all = new double[own.Length * _collective.Size];
        _collective.AllGather(own, all);
        var words = new List<string>();
        bool passed = true;
        for (int i = 0; i < errors.Length; i++)
        {
            double worst = Enumerable.Range(0, _collective.Size).Select(rank => all[(rank * own.Length) + i]).Aggregate(0.0, Math.Max);
            passed &= worst <= tolerance; // NaN is no agreement
            words.Add(string.Create(CultureInfo.InvariantCulture, $"{errors[i].Name} {worst:0.0e+0}"));
        }

        _failed |= !passed;
        _print(string.Create(CultureInfo.InvariantCulture, $"{what}: {string.Join(", ", words)}; {(passed ? "within" : "NOT within")} {tolerance:0e+0}"));
    }

    private void PrintCosts()
    {
        string[][] lines =
        [
            ["collective, as rank 0 saw it", "calls", "bytes sent", "received", "least us", "median us", "longest us"],
            .. from cost in _ofLayer.Costs.Concat(_ofTraining.Costs)
               orderby cost.Name, cost.BytesSent
               let sorted = cost.Seconds.Order().ToArray()
               select new[]
               {
                   cost.Name, Text(sorted.Length), Text(cost.BytesSent), Text(cost.BytesReceived),
                   Text(1e6 * sorted[0]), Text(1e6 * sorted[sorted.Length / 2]), Text(1e6 * sorted[^1]),
               },
        ];
        int[] widths = [.. lines[0].Select((_, column) => lines.Max(line => line[column].Length))];
        foreach (string[] line in lines)
        {
            _print(string.Join("  ", line.Select((text, column) => column == 0 ? text.PadRight(widths[0]) : text.PadLeft(widths[column]))));
        }

        static string Text(double value) => value.ToString("0.#", CultureInfo.InvariantCulture);
    }

    private static T[] Draw<T>(nint count, string purpose, double mean)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var random = new RandomStream(Seed, purpose);
        var values = new T[count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = T.CreateTruncating(mean + random.NextGaussian());
        }

        return values;
    }

    private static double[] Running<T>(INormalizer<T> layer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        [.. layer.Buffers.SelectMany(buffer => buffer.IsCounter ? [buffer.Count] : buffer.Values.Select(double.CreateTruncating))];

    private static double Error<T>(T[] scale, ReadOnlySpan<T> expected, ReadOnlySpan<T> actual)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Error(Largest([.. scale.Select(double.CreateTruncating)]), Doubles(expected), Doubles(actual));

    private static double[] Doubles<T>(ReadOnlySpan<T> values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => [.. values.ToArray().Select(double.CreateTruncating)];

    private static double Error(double[] expected, double[] actual) => Error(Largest(expected), expected, actual);

    private static double Error(double scale, double[] expected, double[] actual) =>
        Largest([.. expected.Zip(actual, (one, other) => one - other)]) / scale;

    private static double Largest(double[] values) => values.Aggregate(0.0, (largest, value) => Math.Max(largest, Math.Abs(value)));
}
