using System.Numerics;

namespace Normalization.Core.Comparison;

/// <summary>A strategy as the harness sees it: an id and a way to make fresh instances in both precisions.</summary>
public sealed class Contestant
{
    private readonly Func<ActivationShape, double, INormalizer<float>> _createSingle;
    private readonly Func<ActivationShape, double, INormalizer<double>> _createDouble;

    /// <summary>Names a strategy and says how to make it.</summary>
    /// <param name="id">A permanent kebab-case id; it keys the records.</param>
    /// <param name="createSingle">Makes a float instance for activations of a shape and an epsilon.</param>
    /// <param name="createDouble">Makes a double instance likewise; it is the precision reference.</param>
    /// <exception cref="ArgumentException">The id is empty.</exception>
    public Contestant(
        string id,
        Func<ActivationShape, double, INormalizer<float>> createSingle,
        Func<ActivationShape, double, INormalizer<double>> createDouble)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(id);
        ArgumentNullException.ThrowIfNull(createSingle);
        ArgumentNullException.ThrowIfNull(createDouble);
        Id = id;
        _createSingle = createSingle;
        _createDouble = createDouble;
    }

    /// <summary>The permanent id.</summary>
    public string Id { get; }

    /// <summary>Which elements share statistics, in words; shown by reports.</summary>
    public string Axes { get; init; } = "not described";

    /// <summary>The options this contestant runs with, in words; shown by reports.</summary>
    public string Options { get; init; } = "";

    /// <summary>A fresh instance, in training mode.</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <param name="shape">The activations it will see.</param>
    /// <param name="epsilon">Its epsilon; 1e-5 unless a probe of the scale laws asks otherwise.</param>
    /// <exception cref="ArgumentException">The strategy cannot carry this shape; the message says why.</exception>
    public INormalizer<T> Create<T>(ActivationShape shape, double epsilon)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        object normalizer = typeof(T) == typeof(float) ? _createSingle(shape, epsilon)
            : typeof(T) == typeof(double) ? _createDouble(shape, epsilon)
            : throw new NotSupportedException($"Contestants come in float and double; got {ElementTypes.NameOf<T>()}.");
        return (INormalizer<T>)normalizer;
    }
}
