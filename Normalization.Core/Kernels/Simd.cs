using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>Eight double lanes over storage of either type: every kernel computes in double, T is only how values are stored.</summary>
/// <remarks>
/// The lane count is fixed at eight on every machine (narrower hardware runs a 512-bit operation as two or four), and products
/// are fused explicitly, so sums have one order and results one set of bits whatever the vector width.
/// </remarks>
internal static unsafe class Simd
{
    public const int Lanes = 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> Load<T>(T* source)
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            return Vector512.Load((double*)source);
        }

        Vector256<float> single = Vector256.Load((float*)source);
        return Avx512F.IsSupported
            ? Avx512F.ConvertToVector512Double(single)
            : Vector512.Create(Vector256.WidenLower(single), Vector256.WidenUpper(single));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(T* destination, Vector512<double> value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            value.Store((double*)destination);
        }
        else if (Avx512F.IsSupported)
        {
            Avx512F.ConvertToVector256Single(value).Store((float*)destination);
        }
        else
        {
            Vector256.Narrow(value.GetLower(), value.GetUpper()).Store((float*)destination);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Get<T>(T* source)
        where T : unmanaged => typeof(T) == typeof(double) ? *(double*)source : *(float*)source;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set<T>(T* destination, double value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            *(double*)destination = value;
        }
        else
        {
            *(float*)destination = (float)value;
        }
    }

    /// <summary>The eight lanes added in one fixed tree; Vector512.Sum promises no order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Sum(Vector512<double> lanes)
    {
        Vector256<double> four = lanes.GetLower() + lanes.GetUpper();
        Vector128<double> two = four.GetLower() + four.GetUpper();
        return two.GetElement(0) + two.GetElement(1);
    }

    /// <summary>Whether a double survives rounding to T as a finite number.</summary>
    public static bool Fits<T>(double value)
        where T : unmanaged => typeof(T) == typeof(double) ? double.IsFinite(value) : float.IsFinite((float)value);
}

/// <summary>A factor or a term of an element-wise kernel at position j: one value for all, or one for each position.</summary>
internal interface ICoefficient
{
    Vector512<double> Vector(nint j);

    double Scalar(nint j);
}

/// <summary>The same value at every position.</summary>
internal readonly struct Constant(double value) : ICoefficient
{
    private readonly Vector512<double> _vector = Vector512.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<double> Vector(nint j) => _vector;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public double Scalar(nint j) => _vector.GetElement(0);
}

/// <summary>A value for each position, stored as T: a weight, a bias, or (T = double) a statistic of each column.</summary>
internal readonly unsafe struct Stored<T>(T* values) : ICoefficient
    where T : unmanaged
{
    private readonly T* _values = values;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<double> Vector(nint j) => Simd.Load(_values + j);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public double Scalar(nint j) => Simd.Get(_values + j);
}

/// <summary>A value for each position, or one for all where there is no array.</summary>
internal readonly unsafe struct StoredOr<T>(T* values, double otherwise) : ICoefficient
    where T : unmanaged
{
    private readonly T* _values = values;
    private readonly Vector512<double> _otherwise = Vector512.Create(otherwise);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<double> Vector(nint j) => _values == null ? _otherwise : Simd.Load(_values + j);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public double Scalar(nint j) => _values == null ? _otherwise.GetElement(0) : Simd.Get(_values + j);
}
