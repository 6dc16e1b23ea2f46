using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Normalization.Core.Kernels;

namespace Normalization.Strategies.Companions;

/// <summary>The element-wise half of an LSTM's step and of its gradient, a sample's H units at a time.</summary>
/// <typeparam name="T">The storage, float or double; the arithmetic is double.</typeparam>
/// <remarks>gates are the sample's 4H values i, f, g, o; all pointers are to rows of a sample's own.</remarks>
internal static unsafe class LstmGates<T>
    where T : unmanaged
{
    private static Vector512<double> One => Vector512<double>.One;

    /// <summary>z = fromInput + fromHidden + bias; i, f and o its logistic function, g its tanh; cell = f previousCell + i g.</summary>
    public static void Open(T* fromInput, T* fromHidden, T* bias, T* previousCell, T* gates, T* cell, nint hidden)
    {
        for (nint j = 0; j < hidden; j += Simd.Lanes)
        {
            nint count = Count(hidden, j);
            Vector512<double> i = Sigmoid(Z(j));
            Vector512<double> f = Sigmoid(Z(hidden + j));
            Vector512<double> g = Tanh(Z((2 * hidden) + j));
            Vector512<double> o = Sigmoid(Z((3 * hidden) + j));
            Store(gates + j, count, i);
            Store(gates + hidden + j, count, f);
            Store(gates + (2 * hidden) + j, count, g);
            Store(gates + (3 * hidden) + j, count, o);
            Store(cell + j, count, (f * Load(previousCell + j, count)) + (i * g));

            Vector512<double> Z(nint at) => Load(fromInput + at, count) + Load(fromHidden + at, count) + Load(bias + at, count);
        }
    }

    /// <summary>squashed = tanh(normalizedCell); h = o squashed.</summary>
    public static void Emit(T* normalizedCell, T* gates, T* squashed, T* h, nint hidden)
    {
        for (nint j = 0; j < hidden; j += Simd.Lanes)
        {
            nint count = Count(hidden, j);
            Vector512<double> q = Tanh(Load(normalizedCell + j, count));
            Store(squashed + j, count, q);
            Store(h + j, count, Load(gates + (3 * hidden) + j, count) * q);
        }
    }

    /// <summary>From dL/dh to the gradient of the normalized cell and of the output gate's z.</summary>
    public static void BackwardEmit(T* dh, T* gates, T* squashed, T* cellGradient, T* gateGradient, nint hidden)
    {
        for (nint j = 0; j < hidden; j += Simd.Lanes)
        {
            nint count = Count(hidden, j);
            Vector512<double> d = Load(dh + j, count);
            Vector512<double> o = Load(gates + (3 * hidden) + j, count);
            Vector512<double> q = Load(squashed + j, count);
            Store(cellGradient + j, count, d * o * (One - (q * q)));
            Store(gateGradient + (3 * hidden) + j, count, d * q * o * (One - o));
        }
    }

    /// <summary>From dL/dc to the other gates' z; dc becomes that of the step before.</summary>
    public static void BackwardGates(T* dc, T* cellGradient, T* gates, T* previousCell, T* gateGradient, nint hidden)
    {
        for (nint j = 0; j < hidden; j += Simd.Lanes)
        {
            nint count = Count(hidden, j);
            Vector512<double> i = Load(gates + j, count);
            Vector512<double> f = Load(gates + hidden + j, count);
            Vector512<double> g = Load(gates + (2 * hidden) + j, count);
            Vector512<double> d = Load(dc + j, count) + Load(cellGradient + j, count);
            Store(gateGradient + j, count, d * g * i * (One - i));
            Store(gateGradient + hidden + j, count, d * Load(previousCell + j, count) * f * (One - f));
            Store(gateGradient + (2 * hidden) + j, count, d * i * (One - (g * g)));
            Store(dc + j, count, d * f);
        }
    }

    private static nint Count(nint hidden, nint j) => Math.Min(hidden - j, Simd.Lanes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Sigmoid(Vector512<double> z)
    {
        Exponential.Sigmoid(z, One, out Vector512<double> value, out _);
        return value;
    }

    // (1 - exp(-2 z)) / (1 + exp(-2 z)), as the difference of the logistic function and its complement.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Tanh(Vector512<double> z)
    {
        Exponential.Sigmoid(z, One + One, out Vector512<double> value, out Vector512<double> complement);
        return value - complement;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> Load(T* source, nint count) => Simd.LoadPart<T, double>(source, count, default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(T* destination, nint count, Vector512<double> value) => Simd.StorePart<T, double>(destination, count, value);
}
