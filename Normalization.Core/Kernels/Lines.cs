using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>A straight line through a center: (value - center) * slope + intercept, in arithmetic A.</summary>
/// <remarks>
/// Every element-wise kernel is made of these. The center is the mean rounded to A and the intercept carries what the rounding left, so
/// that a mean far above the deviation costs no digits in float: the subtraction is exact where value and center are close.
/// </remarks>
internal interface ILine<A>
    where A : unmanaged
{
    /// <summary>(value - center) * slope + intercept at column j of a row.</summary>
    Vector512<A> At(Vector512<A> value, nint row, nint j);

    /// <summary>(value - center) * slope + addend.</summary>
    Vector512<A> Plus(Vector512<A> value, Vector512<A> addend, nint row, nint j);
}

/// <summary>A run of elements that share statistics and perhaps a weight, with what a pass has made of them.</summary>
internal struct Run<T>
    where T : unmanaged
{
    public nint Offset; // of its first element
    public nint Affine; // of its first weight where those go by element
    public double Gradient; // sum of its gradients
    public double Product; // sum of gradients times deviations
    public T Center;
    public T Slope;
    public T Intercept;
    public T GradientCenter;
    public T GradientSlope;
    public T Weight;
    public T UnitSlope; // the line that gives xhat, through the same center
    public T UnitIntercept;
}

/// <summary>What of a value is summed for moments.</summary>
internal interface IDeviation
{
    /// <summary>Whether anything is taken off.</summary>
    static abstract bool TakesOff { get; }

    /// <summary>The value, or what is left of it.</summary>
    /// <param name="value">Eight values.</param>
    /// <param name="middle">The center, negated.</param>
    static abstract Vector512<double> Of(Vector512<double> value, Vector512<double> middle);
}

/// <summary>The value itself: for sets about 0, and for all whose mean turns out to be no larger than their deviations by much.</summary>
internal readonly struct WholeValue : IDeviation
{
    public static bool TakesOff => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> Of(Vector512<double> value, Vector512<double> middle) => value;
}

/// <summary>Its distance from a center, by a fused multiply-add: exact as well, while conversions and sums keep the adders busy.</summary>
internal readonly struct CenteredValue : IDeviation
{
    public static bool TakesOff => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> Of(Vector512<double> value, Vector512<double> middle) => Vector512.FusedMultiplyAdd(value, Vector512<double>.One, middle);
}

/// <summary>A run that is summed.</summary>
internal struct SummedRun
{
    public nint Offset; // of its first element
    public double Center; // what was taken off
}

/// <summary>One line for every element of a run.</summary>
internal readonly struct ConstantLine<A> : ILine<A>
    where A : unmanaged
{
    private readonly Vector512<A> _center;
    private readonly Vector512<A> _slope;
    private readonly Vector512<A> _intercept;

    public ConstantLine(A center, A slope, A intercept)
    {
        _center = Vector512.Create(center);
        _slope = Vector512.Create(slope);
        _intercept = Vector512.Create(intercept);
    }

    public ConstantLine(Vector512<A> center, Vector512<A> slope, Vector512<A> intercept)
    {
        _center = center;
        _slope = slope;
        _intercept = intercept;
    }

    public ConstantLine(double center, double slope, double intercept)
        : this(Simd.Scalar<A>(center), Simd.Scalar<A>(slope), Simd.Scalar<A>(intercept))
    {
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> At(Vector512<A> value, nint row, nint j) => Simd.MultiplyAdd(value - _center, _slope, _intercept);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Plus(Vector512<A> value, Vector512<A> addend, nint row, nint j) => Simd.MultiplyAdd(value - _center, _slope, addend);
}

/// <summary>value - center: slope 1, what rounding the center to A left not taken off.</summary>
internal readonly struct Difference<A> : ILine<A>
    where A : unmanaged
{
    private readonly Vector512<A> _center;

    public Difference(A center) => _center = Vector512.Create(center);

    public Difference(Vector512<A> center) => _center = center;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> At(Vector512<A> value, nint row, nint j) => value - _center;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Plus(Vector512<A> value, Vector512<A> addend, nint row, nint j) => value - _center + addend;
}

/// <summary>A line for each column, in arrays padded to whole vectors; the intercepts may be absent where only Plus is used.</summary>
internal readonly unsafe struct ColumnLine<A>(A* centers, A* slopes, A* intercepts) : ILine<A>
    where A : unmanaged
{
    private readonly A* _centers = centers;
    private readonly A* _slopes = slopes;
    private readonly A* _intercepts = intercepts;

    /// <summary>The lines from a column on.</summary>
    public ColumnLine<A> From(nint column) => new(_centers + column, _slopes + column, _intercepts + column);

    /// <summary>The lines of the vector of columns that begins at one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ConstantLine<A> Of(nint column) =>
        new(Vector512.Load(_centers + column), Vector512.Load(_slopes + column), _intercepts == null ? default : Vector512.Load(_intercepts + column));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> At(Vector512<A> value, nint row, nint j) =>
        Simd.MultiplyAdd(value - Vector512.Load(_centers + j), Vector512.Load(_slopes + j), Vector512.Load(_intercepts + j));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Plus(Vector512<A> value, Vector512<A> addend, nint row, nint j) =>
        Simd.MultiplyAdd(value - Vector512.Load(_centers + j), Vector512.Load(_slopes + j), addend);
}

/// <summary>value - center for each column, in arrays padded to whole vectors: slope 1, whatever rounding the centers to A left not taken off.</summary>
internal readonly unsafe struct ColumnDifference<A>(A* centers) : ILine<A>
    where A : unmanaged
{
    private readonly A* _centers = centers;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> At(Vector512<A> value, nint row, nint j) => value - Vector512.Load(_centers + j);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Plus(Vector512<A> value, Vector512<A> addend, nint row, nint j) => value - Vector512.Load(_centers + j) + addend;
}

/// <summary>A line for each row.</summary>
internal readonly unsafe struct RowLine<A>(A* centers, A* slopes, A* intercepts) : ILine<A>
    where A : unmanaged
{
    private readonly A* _centers = centers;
    private readonly A* _slopes = slopes;
    private readonly A* _intercepts = intercepts;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> At(Vector512<A> value, nint row, nint j) =>
        Simd.MultiplyAdd(value - Vector512.Create(_centers[row]), Vector512.Create(_slopes[row]), Vector512.Create(_intercepts[row]));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Plus(Vector512<A> value, Vector512<A> addend, nint row, nint j) =>
        Simd.MultiplyAdd(value - Vector512.Create(_centers[row]), Vector512.Create(_slopes[row]), addend);
}

/// <summary>Weight and bias where a line does not hold them already.</summary>
internal interface IAffine<A>
    where A : unmanaged
{
    /// <summary>value * weight, at column j, of which count lanes exist.</summary>
    Vector512<A> Scale(Vector512<A> value, nint j, nint count);

    /// <summary>value * weight + bias.</summary>
    Vector512<A> Apply(Vector512<A> value, nint j, nint count);
}

/// <summary>Weight 1, bias 0.</summary>
internal readonly struct NoAffine<A> : IAffine<A>
    where A : unmanaged
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Scale(Vector512<A> value, nint j, nint count) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Apply(Vector512<A> value, nint j, nint count) => value;
}

/// <summary>One weight and bias for a run.</summary>
internal readonly struct ConstantAffine<A>(A weight, A bias) : IAffine<A>
    where A : unmanaged
{
    private readonly Vector512<A> _weight = Vector512.Create(weight);
    private readonly Vector512<A> _bias = Vector512.Create(bias);

    public ConstantAffine(double weight, double bias)
        : this(Simd.Scalar<A>(weight), Simd.Scalar<A>(bias))
    {
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Scale(Vector512<A> value, nint j, nint count) => value * _weight;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Apply(Vector512<A> value, nint j, nint count) => Simd.MultiplyAdd(value, _weight, _bias);
}

/// <summary>A weight and a bias for each element of a row, stored as T; without a bias, null, nothing is read for it.</summary>
internal readonly unsafe struct ElementAffine<T, A>(T* weight, T* bias) : IAffine<A>
    where T : unmanaged
    where A : unmanaged
{
    private readonly T* _weight = weight;
    private readonly T* _bias = bias;

    /// <summary>Those from an element on.</summary>
    public ElementAffine<T, A> From(nint element) => new(_weight + element, _bias == null ? null : _bias + element);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Scale(Vector512<A> value, nint j, nint count) => value * Load(_weight + j, count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Apply(Vector512<A> value, nint j, nint count) =>
        _bias == null ? Scale(value, j, count) : Simd.MultiplyAdd(value, Load(_weight + j, count), Load(_bias + j, count));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> Load(T* source, nint count) =>
        count >= Vector512<A>.Count ? Simd.Load<T, A>(source) : Simd.LoadPart<T, A>(source, count, default);
}

/// <summary>One least value for a run, after a line that holds weight and bias. A NaN stays one.</summary>
internal readonly struct ConstantThreshold<A>(double threshold) : IAffine<A>
    where A : unmanaged
{
    private readonly Vector512<A> _threshold = Simd.Create<A>(threshold);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Scale(Vector512<A> value, nint j, nint count) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Apply(Vector512<A> value, nint j, nint count) =>
        Vector512.ConditionalSelect(Vector512.LessThanOrEqual(value, _threshold), _threshold, value);
}

/// <summary>A least value for each column, in an array padded as those of <see cref="ColumnLine{A}"/>.</summary>
internal readonly unsafe struct ColumnThreshold<A>(A* thresholds) : IAffine<A>
    where A : unmanaged
{
    private readonly A* _thresholds = thresholds;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Scale(Vector512<A> value, nint j, nint count) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<A> Apply(Vector512<A> value, nint j, nint count)
    {
        Vector512<A> threshold = Vector512.Load(_thresholds + j);
        return Vector512.ConditionalSelect(Vector512.LessThanOrEqual(value, threshold), threshold, value);
    }
}
