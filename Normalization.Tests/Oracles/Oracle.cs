using Normalization.Core;

namespace Normalization.Tests.Oracles;

/// <summary>
/// A strategy from its definition: double, plain loops, dense row-major (N, C, ...) arrays, nothing shared with the kernels. Slow and
/// obvious on purpose. It knows no single-value policy, no freezing and no layouts.
/// </summary>
internal abstract class Oracle
{
    private readonly Dictionary<string, OracleParameter> _parameters = [];

    public bool Training { get; set; } = true;

    /// <summary>By the strategy's own names, in its order.</summary>
    public IReadOnlyDictionary<string, OracleParameter> Parameters => _parameters;

    /// <summary>By name, without the counter.</summary>
    public Dictionary<string, double[]> Buffers { get; } = [];

    /// <summary>The counter of strategies that have buffers.</summary>
    public long BatchesTracked { get; set; }

    public long SkippedUpdates { get; protected set; }

    /// <summary>After Forward, an element: what its error is measured against, such as the largest output of its reduction set.</summary>
    public double[] OutputScale { get; protected set; } = [];

    /// <summary>After Backward, the same of the input gradient.</summary>
    public double[] InputGradientScale { get; protected set; } = [];

    /// <summary>Whether there are maxima, so that the gradient jumps somewhere.</summary>
    public virtual bool HasKinks => false;

    /// <summary>After Forward: whether an element lies so near the tie of a maximum that float may take its other side, with another gradient.</summary>
    public bool AtKink { get; protected set; }

    public abstract double[] Forward(ActivationShape shape, double[] x);

    /// <summary>dL/dx of the statistics of x itself; the parameter gradients are overwritten, not accumulated.</summary>
    public abstract double[] Backward(ActivationShape shape, double[] x, double[] dy);

    /// <summary>Elements of equal number hear of each other in the present mode, others do not; null where that is no partition.</summary>
    public virtual int[]? SetOfElements(ActivationShape shape) => null;

    protected OracleParameter AddParameter(string name, int count, double initialValue) => AddParameter(name, new OracleParameter(Filled(count, initialValue)));

    protected OracleParameter AddParameter(string name, OracleParameter parameter)
    {
        _parameters.Add(name, parameter);
        return parameter;
    }

    protected static double[] Filled(int count, double value)
    {
        var values = new double[count];
        Array.Fill(values, value);
        return values;
    }

    protected static double Largest(double[] values) => values.Length == 0 ? 0 : values.Max(Math.Abs);

    /// <summary>An element: the largest |value| of its set.</summary>
    protected static double[] LargestOfSet(int[] set, Func<int, double> value)
    {
        var largest = new double[set.Length == 0 ? 0 : set.Max() + 1];
        for (int i = 0; i < set.Length; i++)
        {
            largest[set[i]] = Math.Max(largest[set[i]], Math.Abs(value(i)));
        }

        return [.. set.Select(r => largest[r])];
    }

    protected static int[] ChannelOf(ActivationShape shape)
    {
        var channel = new int[shape.Count];
        for (int i = 0; i < channel.Length; i++)
        {
            channel[i] = i / (int)shape.SpatialSize % shape.Channels;
        }

        return channel;
    }
}

/// <summary>A learnable array of an oracle.</summary>
internal sealed class OracleParameter(double[] values)
{
    public double[] Values { get; } = values;

    /// <summary>After Backward.</summary>
    public double[] Gradient { get; } = new double[values.Length];

    /// <summary>After Backward: what the gradient's error is measured against, such as the sum of its terms' sizes.</summary>
    public double[] GradientScale { get; } = new double[values.Length];
}
