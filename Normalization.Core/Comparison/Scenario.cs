namespace Normalization.Core.Comparison;

/// <summary>A named distribution of activations.</summary>
public sealed class Scenario
{
    private readonly ActivationShape _shape;
    private readonly Func<int, RandomStream, double[]> _draw;

    /// <summary>Names a distribution and says how to draw from it.</summary>
    /// <param name="id">A permanent kebab-case id; it keys the records.</param>
    /// <param name="title">A few words.</param>
    /// <param name="description">Distribution, shape and what it is for, in a sentence or two.</param>
    /// <param name="sampleShape">The shape of a batch; its N is ignored.</param>
    /// <param name="draw">Draws independent samples: count and stream to a dense channels-first array.</param>
    /// <exception cref="ArgumentException">The id is empty.</exception>
    public Scenario(string id, string title, string description, ActivationShape sampleShape, Func<int, RandomStream, double[]> draw)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(id);
        ArgumentNullException.ThrowIfNull(draw);
        Id = id;
        Title = title;
        Description = description;
        _shape = sampleShape;
        _draw = draw;
    }

    /// <summary>The permanent id.</summary>
    public string Id { get; }

    /// <summary>A few words.</summary>
    public string Title { get; }

    /// <summary>Distribution, shape and what it is for.</summary>
    public string Description { get; }

    /// <summary>The shape of a batch of this scenario.</summary>
    /// <param name="samples">N, at least 0.</param>
    public ActivationShape Shape(int samples) => _shape.WithSamples(samples);

    /// <summary>Draws independent samples, dense and channels-first.</summary>
    /// <remarks>Every value is rounded to float, so that float and double instances see the same input.</remarks>
    /// <param name="samples">N, at least 0.</param>
    /// <param name="stream">Where the randomness comes from.</param>
    /// <exception cref="InvalidOperationException">The scenario drew an array of another length than its shape says.</exception>
    public double[] Draw(int samples, RandomStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        double[] values = _draw(samples, stream);
        ActivationShape shape = Shape(samples);
        if (values.Length != shape.Count)
        {
            throw new InvalidOperationException(
                $"Scenario '{Id}' must draw {shape.Count} values for {shape}; it drew {values.Length}.");
        }

        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)values[i];
        }

        return values;
    }
}
