using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;

namespace Normalization.Core;

/// <summary>The element types a state file may hold here, named as safetensors names them.</summary>
public enum StateElementType
{
    /// <summary>float, 4 bytes.</summary>
    F32,

    /// <summary>double, 8 bytes.</summary>
    F64,

    /// <summary>long, 8 bytes: counters.</summary>
    I64,
}

/// <summary>One immutable array of a state: element type, shape, and little-endian row-major bytes.</summary>
public sealed class StateTensor
{
    private readonly nint[] _shape;
    private readonly byte[] _bytes;

    /// <summary>Takes over checked parts: the bytes are exactly the shape's count times the element's size.</summary>
    internal StateTensor(StateElementType elementType, nint[] shape, byte[] bytes)
    {
        ElementType = elementType;
        _shape = shape;
        _bytes = bytes;
    }

    /// <summary>What the elements are.</summary>
    public StateElementType ElementType { get; }

    /// <summary>Axis lengths; empty for a single number, and a length of 0 is legal.</summary>
    public ReadOnlySpan<nint> Shape => _shape;

    /// <summary>The number of elements: the product of the shape, 1 for an empty shape.</summary>
    public int Count => _bytes.Length / SizeOf(ElementType);

    /// <summary>The elements as the file has them: little-endian, row-major.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>Type and shape, such as F32 (6, 3).</summary>
    public override string ToString() => $"{ElementType} {ActivationShape.Format(_shape)}";

    /// <summary>Copies values into a tensor.</summary>
    /// <typeparam name="T">float, double or long.</typeparam>
    /// <param name="values">The elements, row-major.</param>
    /// <param name="shape">Axis lengths, none negative; none at all for a single number.</param>
    /// <exception cref="ArgumentException">The shape's count is not the number of values, or a length is negative.</exception>
    /// <exception cref="NotSupportedException">T is another type.</exception>
    public static StateTensor Create<T>(ReadOnlySpan<T> values, params ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        StateElementType elementType = ElementTypeOf<T>();
        if (!TryCount(shape, out long count) || count != values.Length)
        {
            throw new ArgumentException(
                $"The shape {ActivationShape.Format(shape)} does not describe {values.Length} values: their number must be the product of the lengths.",
                nameof(shape));
        }

        return new StateTensor(elementType, shape.ToArray(), MemoryMarshal.AsBytes(values).ToArray());
    }

    /// <summary>The elements in place.</summary>
    /// <typeparam name="T">The type that <see cref="ElementType"/> names; nothing is converted.</typeparam>
    /// <exception cref="InvalidOperationException">The tensor holds another type; <see cref="ConvertTo"/> is the way across.</exception>
    public ReadOnlySpan<T> AsSpan<T>()
        where T : unmanaged
    {
        StateElementType asked = ElementTypeOf<T>();
        if (asked != ElementType)
        {
            throw new InvalidOperationException(
                $"The tensor holds {ElementType}, not {asked}" +
                (CanConvert(ElementType, asked) ? $"; convert it with ConvertTo(StateElementType.{asked}) first." : "; these do not convert into each other."));
        }

        return MemoryMarshal.Cast<byte, T>(_bytes);
    }

    /// <summary>A copy of the elements, row-major.</summary>
    /// <typeparam name="T">The type that <see cref="ElementType"/> names; nothing is converted.</typeparam>
    /// <exception cref="InvalidOperationException">The tensor holds another type; <see cref="ConvertTo"/> is the way across.</exception>
    public T[] ToArray<T>()
        where T : unmanaged => AsSpan<T>().ToArray();

    /// <summary>The same values as F32 or F64: exact towards F64, rounded to the nearest towards F32.</summary>
    /// <param name="elementType">The type wanted; the tensor's own returns the tensor itself.</param>
    /// <exception cref="ArgumentException">One of the two types is I64, which is never converted.</exception>
    /// <exception cref="OverflowException">A finite value is too large for F32. NaN and infinity are carried over.</exception>
    public StateTensor ConvertTo(StateElementType elementType)
    {
        if (elementType == ElementType)
        {
            return this;
        }

        if (!CanConvert(ElementType, elementType))
        {
            throw new ArgumentException($"Only F32 and F64 convert into each other; asked for {ElementType} to {elementType}.", nameof(elementType));
        }

        return elementType == StateElementType.F64 ? Convert<float, double>() : Convert<double, float>();
    }

    internal static StateElementType ElementTypeOf<T>()
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            return StateElementType.F32;
        }

        if (typeof(T) == typeof(double))
        {
            return StateElementType.F64;
        }

        return typeof(T) == typeof(long)
            ? StateElementType.I64
            : throw new NotSupportedException($"A state holds float, double or long; {ElementTypes.NameOf<T>()} is none of them.");
    }

    internal static int SizeOf(StateElementType elementType) => elementType == StateElementType.F32 ? sizeof(float) : sizeof(double);

    /// <summary>The product of the lengths; false if one is negative or the product of those above 0 leaves 64 bits.</summary>
    internal static bool TryCount(ReadOnlySpan<nint> shape, out long count)
    {
        count = 1;
        bool empty = false;
        foreach (nint length in shape)
        {
            if (length < 0 || Math.BigMul(count, Math.Max(length, 1)) > long.MaxValue)
            {
                return false;
            }

            count *= Math.Max(length, 1);
            empty |= length == 0;
        }

        count = empty ? 0 : count;
        return true;
    }

    private static bool CanConvert(StateElementType from, StateElementType to) => from != StateElementType.I64 && to != StateElementType.I64;

    private StateTensor Convert<TFrom, TTo>()
        where TFrom : unmanaged, IFloatingPoint<TFrom>
        where TTo : unmanaged, IFloatingPoint<TTo>
    {
        ReadOnlySpan<TFrom> values = AsSpan<TFrom>();
        var converted = new TTo[values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            converted[i] = TTo.CreateSaturating(values[i]);
            if (TFrom.IsFinite(values[i]) && !TTo.IsFinite(converted[i]))
            {
                throw new OverflowException(string.Create(
                    CultureInfo.InvariantCulture, $"Element {i}, {values[i]}, is beyond the range of {ElementTypeOf<TTo>()}; keep the tensor as {ElementType}."));
            }
        }

        return Create<TTo>(converted, _shape);
    }
}
