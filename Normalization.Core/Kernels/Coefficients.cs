using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

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
