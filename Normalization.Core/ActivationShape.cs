using System.Globalization;
using System.Runtime.CompilerServices;

namespace Normalization.Core;

/// <summary>The logical shape of an activation tensor: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).</summary>
/// <remarks>
/// N counts samples, C channels (features), and S = L, H*W or D*H*W spatial positions; S is 1 for (N, C).
/// The shape says nothing about memory: channels-last is the same shape with other strides.
/// </remarks>
public readonly struct ActivationShape : IEquatable<ActivationShape>
{
    /// <summary>The smallest supported number of axes: (N, C).</summary>
    public const int MinimumRank = 2;

    /// <summary>The largest supported number of axes: (N, C, D, H, W).</summary>
    public const int MaximumRank = 5;

    private readonly Axes _lengths; // 1 from the rank on; 0 throughout in a default shape

    /// <summary>Reads a shape from axis lengths, batch first, channels second.</summary>
    /// <param name="lengths">Two to five lengths; N and the spatial lengths may be 0 (an empty batch), C from 1 to 2^31 - 1.</param>
    /// <exception cref="ArgumentException">The rank is unsupported, a length is negative, C is out of range, or the element count overflows.</exception>
    public ActivationShape(params ReadOnlySpan<nint> lengths)
    {
        if (lengths.Length is < MinimumRank or > MaximumRank)
        {
            throw new ArgumentException(
                $"An activation has 2 to 5 axes, (N, C) to (N, C, D, H, W); got {lengths.Length}: {Format(lengths)}. " +
                "Add a batch axis of length 1 to a single sample; merge axes beyond the fifth.", nameof(lengths));
        }

        long count = 1;
        foreach (nint length in lengths)
        {
            if (length < 0)
            {
                throw new ArgumentException($"Axis lengths must not be negative; got {Format(lengths)}.", nameof(lengths));
            }

            try
            {
                count = checked(count * Math.Max(length, 1));
            }
            catch (OverflowException)
            {
                throw new ArgumentException($"The element count of {Format(lengths)} does not fit in 64 bits.", nameof(lengths));
            }
        }

        if (lengths[1] is 0 or > int.MaxValue)
        {
            throw new ArgumentException($"The channel axis (the second) must have 1 to {int.MaxValue} channels; got {Format(lengths)}.", nameof(lengths));
        }

        Rank = lengths.Length;
        for (int axis = 0; axis < MaximumRank; axis++)
        {
            _lengths[axis] = axis < lengths.Length ? lengths[axis] : 1;
        }
    }

    /// <summary>Number of axes, 2 to 5.</summary>
    public int Rank { get; }

    /// <summary>N, the number of samples; 0 for an empty batch.</summary>
    public nint Samples => _lengths[0];

    /// <summary>C, the number of channels; at least 1.</summary>
    public int Channels => (int)_lengths[1];

    /// <summary>S, the number of spatial positions of a sample: 1 for (N, C), else the product of the trailing lengths.</summary>
    public nint SpatialSize => _lengths[2] * _lengths[3] * _lengths[4];

    /// <summary>N*C*S, the number of elements.</summary>
    public nint Count => _lengths[0] * _lengths[1] * SpatialSize;

    /// <summary>The length of one axis.</summary>
    /// <param name="axis">0 for N, 1 for C, then the spatial axes.</param>
    /// <exception cref="ArgumentOutOfRangeException">The axis is not one of this shape's.</exception>
    public nint this[int axis]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            ArgumentOutOfRangeException.ThrowIfNegative(axis);
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(axis, Rank);
            return _lengths[axis];
        }
    }

    /// <summary>The axis lengths as a new array, batch first.</summary>
    public nint[] ToArray()
    {
        var lengths = new nint[Rank];
        for (int axis = 0; axis < Rank; axis++)
        {
            lengths[axis] = this[axis];
        }

        return lengths;
    }

    internal ReadOnlySpan<nint> CopyTo(Span<nint> lengths)
    {
        for (int axis = 0; axis < Rank; axis++)
        {
            lengths[axis] = this[axis];
        }

        return lengths[..Rank];
    }

    /// <summary>The same shape with another number of samples.</summary>
    /// <param name="samples">The new N, at least 0.</param>
    public ActivationShape WithSamples(nint samples)
    {
        Span<nint> lengths = stackalloc nint[MaximumRank];
        CopyTo(lengths);
        lengths[0] = samples;
        return new ActivationShape(lengths[..Rank]);
    }

    /// <inheritdoc/>
    public bool Equals(ActivationShape other) =>
        Rank == other.Rank && ((ReadOnlySpan<nint>)_lengths).SequenceEqual(other._lengths);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is ActivationShape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Rank, _lengths[0], _lengths[1], _lengths[2], _lengths[3], _lengths[4]);

    /// <summary>Whether two shapes have the same axes.</summary>
    public static bool operator ==(ActivationShape left, ActivationShape right) => left.Equals(right);

    /// <summary>Whether two shapes differ in an axis.</summary>
    public static bool operator !=(ActivationShape left, ActivationShape right) => !left.Equals(right);

    /// <summary>The shape as (N, C, H, W), the way error messages quote it.</summary>
    public override string ToString() => Rank == 0 ? "()" : Format(ToArray());

    internal static string Format(ReadOnlySpan<nint> lengths)
    {
        var parts = new string[lengths.Length];
        for (int axis = 0; axis < lengths.Length; axis++)
        {
            parts[axis] = lengths[axis].ToString(CultureInfo.InvariantCulture);
        }

        return "(" + string.Join(", ", parts) + ")";
    }

    [InlineArray(MaximumRank)]
    private struct Axes
    {
        private nint _first;
    }
}
