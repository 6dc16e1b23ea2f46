namespace Normalization.Core;

/// <summary>A learnable array and its gradient.</summary>
/// <typeparam name="T">float or double.</typeparam>
public sealed class Parameter<T>
    where T : unmanaged
{
    private readonly nint[] _shape;

    /// <summary>Creates a parameter filled with one value.</summary>
    /// <param name="name">The name PyTorch gives it, such as <c>weight</c>.</param>
    /// <param name="shape">Axis lengths; row-major.</param>
    /// <param name="initialValue">The value of every element.</param>
    public Parameter(string name, ReadOnlySpan<nint> shape, T initialValue)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        Name = name;
        _shape = shape.ToArray();
        nint count = 1;
        foreach (nint length in shape)
        {
            count = checked(count * length);
        }

        Values = new T[count];
        Gradient = new T[count];
        Array.Fill(Values, initialValue);
    }

    /// <summary>The name in the state dictionary.</summary>
    public string Name { get; }

    /// <summary>Axis lengths; row-major.</summary>
    public ReadOnlySpan<nint> Shape => _shape;

    /// <summary>The values, row-major; written by an optimizer.</summary>
    public T[] Values { get; }

    /// <summary>The loss's gradient, row-major; <c>Backward</c> adds to it, <c>ZeroGradients</c> clears it.</summary>
    public T[] Gradient { get; }

    /// <summary>Name and shape, such as weight (6).</summary>
    public override string ToString() => $"{Name} {ActivationShape.Format(_shape)}";
}

/// <summary>A piece of state that is not learned: a running statistic, or the counter of batches.</summary>
/// <typeparam name="T">float or double.</typeparam>
public sealed class StateBuffer<T>
    where T : unmanaged
{
    private readonly nint[] _shape;
    private readonly T _initialValue;

    /// <summary>Creates a running statistic of the given shape.</summary>
    /// <param name="name">The name in the state dictionary, such as <c>running_mean</c>.</param>
    /// <param name="shape">Axis lengths; row-major.</param>
    /// <param name="initialValue">The value of every element.</param>
    public StateBuffer(string name, ReadOnlySpan<nint> shape, T initialValue)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        Name = name;
        _shape = shape.ToArray();
        nint count = 1;
        foreach (nint length in shape)
        {
            count = checked(count * length);
        }

        _initialValue = initialValue;
        Values = new T[count];
        Array.Fill(Values, initialValue);
    }

    /// <summary>Creates a counter: a 64-bit integer of shape [].</summary>
    /// <param name="name">The name in the state dictionary, such as <c>num_batches_tracked</c>.</param>
    public StateBuffer(string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        Name = name;
        _shape = [];
        Values = [];
        IsCounter = true;
    }

    /// <summary>The name in the state dictionary.</summary>
    public string Name { get; }

    /// <summary>Axis lengths; row-major; empty for a counter.</summary>
    public ReadOnlySpan<nint> Shape => _shape;

    /// <summary>Whether this is a 64-bit counter, held in <see cref="Count"/>, rather than an array.</summary>
    public bool IsCounter { get; }

    /// <summary>The values, row-major; empty for a counter.</summary>
    /// <remarks>After writing them directly, call <see cref="INormalizer{T}.OnStateChanged"/>.</remarks>
    public T[] Values { get; }

    /// <summary>The counter's value; 0 for an array.</summary>
    public long Count { get; set; }

    /// <summary>The initial value everywhere; 0 of a counter.</summary>
    internal void Reset()
    {
        Array.Fill(Values, _initialValue);
        Count = 0;
    }
}
