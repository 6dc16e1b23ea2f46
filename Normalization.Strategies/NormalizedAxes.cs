using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>The axes that layer and RMS normalization reduce over: the trailing ones, or the channels of each position.</summary>
internal sealed class NormalizedAxes
{
    private readonly nint[] _lengths;
    private readonly bool _overChannels;

    private NormalizedAxes(nint[] lengths, bool overChannels)
    {
        _lengths = lengths;
        _overChannels = overChannels;
        Count = lengths.Aggregate((nint)1, (product, length) => checked(product * length));
    }

    /// <summary>Their lengths: the shape of the weight.</summary>
    public ReadOnlySpan<nint> Lengths => _lengths;

    /// <summary>Elements in a set.</summary>
    public nint Count { get; }

    /// <summary>One set, in words for messages.</summary>
    public string SetName => _overChannels ? "sample and position" : "index of the leading axes";

    /// <summary>The trailing axes of these lengths.</summary>
    public static NormalizedAxes Trailing(ReadOnlySpan<nint> normalizedShape)
    {
        bool valid = normalizedShape.Length is >= 1 and < ActivationShape.MaximumRank;
        foreach (nint length in normalizedShape)
        {
            valid &= length >= 1;
        }

        return valid
            ? new NormalizedAxes(normalizedShape.ToArray(), overChannels: false)
            : throw new ArgumentException(
                $"A normalized shape has 1 to {ActivationShape.MaximumRank - 1} trailing lengths of at least 1; got {ActivationShape.Format(normalizedShape)}.",
                nameof(normalizedShape));
    }

    /// <summary>The channels of each position.</summary>
    public static NormalizedAxes OverChannels(int channels) => new([Guard.Channels(channels)], overChannels: true);

    /// <summary>The lengths of the last axes of a shape, as many as the settings ask for; all but the batch axis where they do not say.</summary>
    public static ReadOnlySpan<nint> Of(ActivationShape shape, StrategySettings settings, string what)
    {
        int dimensions = settings.NormalizedDimensions ?? shape.Rank - 1;
        return dimensions >= 1 && dimensions < shape.Rank
            ? shape.ToArray().AsSpan(shape.Rank - dimensions)
            : throw new ArgumentException(
                $"{what} normalizes the last 1 to {shape.Rank - 1} axes of a {shape} input (never the batch axis); got {dimensions}.", nameof(settings));
    }

    /// <summary>What the settings ask for, in words.</summary>
    public static string Describe(StrategySettings settings) =>
        settings.NormalizedDimensions is { } dimensions ? $"over the last {dimensions} axes" : "over all axes but the batch";

    /// <summary>Whether a shape ends in these lengths, or has as many channels.</summary>
    public bool Fit(ActivationShape shape)
    {
        if (_overChannels)
        {
            return shape.Channels == _lengths[0];
        }

        int leading = shape.Rank - _lengths.Length;
        bool matches = leading >= 1;
        for (int axis = 0; matches && axis < _lengths.Length; axis++)
        {
            matches = shape[leading + axis] == _lengths[axis];
        }

        return matches;
    }

    /// <summary>What to throw at a shape that does not.</summary>
    public ArgumentException Misfit(ActivationShape shape, string name) => new(_overChannels
        ? $"{name} was made for {_lengths[0]} channels; got input {shape} with {shape.Channels}. Channels are the second axis, in channels-last memory too."
        : $"{name} was made for inputs that end in {ActivationShape.Format(_lengths)} after at least a batch axis; got {shape}.");

    /// <summary>The set of an element.</summary>
    public long SetOf(ActivationShape shape, nint sample, int channel, nint position) =>
        _overChannels
            ? ((long)sample * shape.SpatialSize) + position
            : (((((long)sample * shape.Channels) + channel) * shape.SpatialSize) + position) / Count;

    /// <summary>The sets in memory.</summary>
    public ReductionLayout Layout(ActivationShape shape, MemoryOrder order) =>
        _overChannels ? Layouts.PerPosition(shape, order) : Layouts.Trailing(shape, order, _lengths.Length);

    /// <summary>Whether weights, stored by channel and position, lie in memory by position and channel.</summary>
    public bool Transposes(ActivationShape shape, MemoryOrder order) =>
        !_overChannels && order == MemoryOrder.ChannelsLast && _lengths.Length == shape.Rank - 1;
}
