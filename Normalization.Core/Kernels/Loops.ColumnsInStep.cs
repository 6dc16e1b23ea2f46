using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>Some columns of rows that are a pitch apart are written while sums are taken of others: the same bits as one after the other.</summary>
internal static unsafe partial class Loops
{
    /// <summary>Columns that are worked on in step: two vectors, and two cache lines, of each row.</summary>
    public static int StepColumns<T>()
        where T : unmanaged => 2 * Simd.Count<T>();

    /// <summary>y = affine(line(x)) of some columns, as <see cref="Standardize"/> writes them, and meanwhile the sums of <see cref="AddCenteredColumns"/> of as many others.</summary>
    /// <param name="x">Input.</param>
    /// <param name="y">Output; past the caches only where it is aligned.</param>
    /// <param name="rows">Of both.</param>
    /// <param name="pitch">From one row to the next.</param>
    /// <param name="ahead">How far ahead what is summed is fetched, in elements; only by stores that fetch.</param>
    /// <param name="lines">What is written.</param>
    /// <param name="affine">What the lines do not hold.</param>
    /// <param name="summed">What is summed.</param>
    /// <param name="center">By column that is summed.</param>
    /// <param name="first">To what deviations are added.</param>
    /// <param name="second">To what their squares are.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void StandardizeColumnsInStep<T, TAffine, TStore>(
        T* x, T* y, nint rows, nint pitch, nint ahead, ColumnLine<T> lines, TAffine affine, T* summed, double* center, double* first, double* second)
        where T : unmanaged
        where TAffine : struct, IAffine<T>
        where TStore : struct, IStore
    {
        const int L = Simd.Lanes;
        nint lanes = Simd.Count<T>();
        bool four = sizeof(T) == sizeof(float); // vectors of double columns; else there are two
        ConstantLine<T> line1 = lines.Of(0), line2 = lines.Of(lanes);
        Vector512<double> center1 = Vector512.Load(center), center2 = Vector512.Load(center + L);
        Vector512<double> first1 = Vector512.Load(first), first2 = Vector512.Load(first + L);
        Vector512<double> second1 = Vector512.Load(second), second2 = Vector512.Load(second + L);
        Vector512<double> center3 = default, center4 = default, first3 = default, first4 = default, second3 = default, second4 = default;
        if (four)
        {
            center3 = Vector512.Load(center + (2 * L));
            center4 = Vector512.Load(center + (3 * L));
            first3 = Vector512.Load(first + (2 * L));
            first4 = Vector512.Load(first + (3 * L));
            second3 = Vector512.Load(second + (2 * L));
            second4 = Vector512.Load(second + (3 * L));
        }

        for (; rows >= 4; rows -= 4, x += 4 * pitch, y += 4 * pitch, summed += 4 * pitch)
        {
            if (TStore.Fetches)
            {
                PrefetchRows(summed + ahead, pitch);
                PrefetchRows(summed + ahead + lanes, pitch);
            }

            AddCenteredFour(summed, pitch, center1, ref first1, ref second1);
            AddCenteredFour(summed + L, pitch, center2, ref first2, ref second2);
            if (four)
            {
                AddCenteredFour(summed + (2 * L), pitch, center3, ref first3, ref second3);
                AddCenteredFour(summed + (3 * L), pitch, center4, ref first4, ref second4);
            }

            StandardizePair<T, TAffine, TStore>(x, y, line1, line2, affine);
            StandardizePair<T, TAffine, TStore>(x + pitch, y + pitch, line1, line2, affine);
            StandardizePair<T, TAffine, TStore>(x + (2 * pitch), y + (2 * pitch), line1, line2, affine);
            StandardizePair<T, TAffine, TStore>(x + (3 * pitch), y + (3 * pitch), line1, line2, affine);
        }

        first1.Store(first);
        first2.Store(first + L);
        second1.Store(second);
        second2.Store(second + L);
        if (four)
        {
            first3.Store(first + (2 * L));
            first4.Store(first + (3 * L));
            second3.Store(second + (2 * L));
            second4.Store(second + (3 * L));
        }

        for (; rows > 0; rows--, x += pitch, y += pitch, summed += pitch)
        {
            AddCentered(summed, 0, 2 * lanes, center, first, second);
            StandardizePair<T, TAffine, TStore>(x, y, line1, line2, affine);
        }
    }

    /// <summary>
    /// dx of some columns, as <see cref="InputGradient"/> writes them, and meanwhile the sums of <see cref="AddWideGradientColumns"/> in T, of deviations, of as
    /// many others. Parameters are those of <see cref="StandardizeColumnsInStep"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void InputGradientColumnsInStep<T, TAffine, TStore>(
        T* x, T* g, T* dx, nint rows, nint pitch, nint ahead, ColumnLine<T> gradientLines, ColumnLine<T> lines, TAffine affine,
        T* summedX, T* summedG, T* center, double* gradients, double* products)
        where T : unmanaged
        where TAffine : struct, IAffine<T>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<T>();
        nint upper = lanes - Simd.Lanes; // where T is double there is no upper half: the lower is loaded twice and stored last
        ConstantLine<T> gradientLine1 = gradientLines.Of(0), gradientLine2 = gradientLines.Of(lanes);
        ConstantLine<T> line1 = lines.Of(0), line2 = lines.Of(lanes);
        var difference1 = new Difference<T>(Vector512.Load(center));
        var difference2 = new Difference<T>(Vector512.Load(center + lanes));
        Vector512<double> gradient1 = Vector512.Load(gradients), gradient2 = Vector512.Load(gradients + upper);
        Vector512<double> gradient3 = Vector512.Load(gradients + lanes), gradient4 = Vector512.Load(gradients + lanes + upper);
        Vector512<double> product1 = Vector512.Load(products), product2 = Vector512.Load(products + upper);
        Vector512<double> product3 = Vector512.Load(products + lanes), product4 = Vector512.Load(products + lanes + upper);
        for (; rows >= 4; rows -= 4, x += 4 * pitch, g += 4 * pitch, dx += 4 * pitch, summedX += 4 * pitch, summedG += 4 * pitch)
        {
            T* nextX = summedX + ahead;
            T* nextG = summedG + ahead;
            AddWideFour<T, T, Difference<T>>(summedX, summedG, pitch, 0, difference1, ref gradient1, ref gradient2, ref product1, ref product2);
            AddWideFour<T, T, Difference<T>>(summedX + lanes, summedG + lanes, pitch, 0, difference2, ref gradient3, ref gradient4, ref product3, ref product4);
            FetchPair<T, TStore>(nextX, nextG);
            InputGradientPair<T, TAffine, TStore>(x, g, dx, gradientLine1, gradientLine2, line1, line2, affine);
            FetchPair<T, TStore>(nextX + pitch, nextG + pitch);
            InputGradientPair<T, TAffine, TStore>(x + pitch, g + pitch, dx + pitch, gradientLine1, gradientLine2, line1, line2, affine);
            FetchPair<T, TStore>(nextX + (2 * pitch), nextG + (2 * pitch));
            InputGradientPair<T, TAffine, TStore>(x + (2 * pitch), g + (2 * pitch), dx + (2 * pitch), gradientLine1, gradientLine2, line1, line2, affine);
            FetchPair<T, TStore>(nextX + (3 * pitch), nextG + (3 * pitch));
            InputGradientPair<T, TAffine, TStore>(x + (3 * pitch), g + (3 * pitch), dx + (3 * pitch), gradientLine1, gradientLine2, line1, line2, affine);
        }

        gradient2.Store(gradients + upper);
        gradient1.Store(gradients);
        gradient4.Store(gradients + lanes + upper);
        gradient3.Store(gradients + lanes);
        product2.Store(products + upper);
        product1.Store(products);
        product4.Store(products + lanes + upper);
        product3.Store(products + lanes);
        for (; rows > 0; rows--, x += pitch, g += pitch, dx += pitch, summedX += pitch, summedG += pitch)
        {
            AddWideGradient<T, T, ColumnDifference<T>>(summedX, summedG, 0, 2 * lanes, new(center), gradients, products);
            InputGradientPair<T, TAffine, TStore>(x, g, dx, gradientLine1, gradientLine2, line1, line2, affine);
        }
    }

    // Between stores: all at once they would be in the way of what is read.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FetchPair<T, TStore>(T* x, T* g)
        where T : unmanaged
        where TStore : struct, IStore
    {
        if (TStore.Fetches)
        {
            Prefetch(x);
            Prefetch(x + Simd.Count<T>());
            Prefetch(g);
            Prefetch(g + Simd.Count<T>());
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StandardizePair<T, TAffine, TStore>(T* x, T* y, in ConstantLine<T> line1, in ConstantLine<T> line2, TAffine affine)
        where T : unmanaged
        where TAffine : struct, IAffine<T>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<T>();
        Store<T, T, TStore>(y, affine.Apply(line1.At(Vector512.Load(x), 0, 0), 0, lanes));
        Store<T, T, TStore>(y + lanes, affine.Apply(line2.At(Vector512.Load(x + lanes), 0, 0), lanes, lanes));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void InputGradientPair<T, TAffine, TStore>(
        T* x, T* g, T* dx, in ConstantLine<T> gradientLine1, in ConstantLine<T> gradientLine2, in ConstantLine<T> line1, in ConstantLine<T> line2, TAffine affine)
        where T : unmanaged
        where TAffine : struct, IAffine<T>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<T>();
        Vector512<T> p = affine.Scale(Vector512.Load(g), 0, lanes), q = affine.Scale(Vector512.Load(g + lanes), lanes, lanes);
        Store<T, T, TStore>(dx, gradientLine1.Plus(p, line1.At(Vector512.Load(x), 0, 0), 0, 0));
        Store<T, T, TStore>(dx + lanes, gradientLine2.Plus(q, line2.At(Vector512.Load(x + lanes), 0, 0), 0, 0));
    }
}
