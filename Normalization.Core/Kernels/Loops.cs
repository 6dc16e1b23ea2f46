using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>The loops that every standardizing strategy shares, over one contiguous run (n) or one matrix (rows x n, rows pitch apart).</summary>
/// <remarks>
/// Sums end in double: runs reduce along memory into scalars, columns down the matrix into arrays; those that take an arithmetic A add up to
/// eight vectors, or four rows, in it first. What is written element by element, and weight gradients by element, take A throughout. All are written once, over the storage T.
/// </remarks>
internal static unsafe partial class Loops
{
    private const nint LongRun = 256;
    private const nint TogetherElements = 1024;
    private const nint RowVectors = 8;

    /// <summary>Vectors of sums that are taken side by side, of deviations and then of their squares.</summary>
    public const int MomentAccumulators = 8;

    // How far ahead rows are fetched into the first-level cache, in bytes; two tensors push each other out where it is farther.
    private const nint OneStreamAhead = 1 << 14;
    internal const nint TwoStreamsAhead = 1 << 12;

    /// <summary>Sum of x, in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Sum<T>(T* x, nint n)
        where T : unmanaged
    {
        Vector512<double> a = default, b = default, c = default, d = default;
        nint j = 0;
        for (; j <= n - (4 * Simd.Lanes); j += 4 * Simd.Lanes)
        {
            a += Simd.Load(x + j);
            b += Simd.Load(x + j + Simd.Lanes);
            c += Simd.Load(x + j + (2 * Simd.Lanes));
            d += Simd.Load(x + j + (3 * Simd.Lanes));
        }

        for (; j <= n - Simd.Lanes; j += Simd.Lanes)
        {
            a += Simd.Load(x + j);
        }

        double sum = Simd.Sum((a + b) + (c + d));
        for (; j < n; j++)
        {
            sum += Simd.Get(x + j);
        }

        return sum;
    }

    /// <summary>sum(x - center) and sum((x - center)^2) over blocks of n elements, stride apart.</summary>
    /// <param name="x">The first block.</param>
    /// <param name="written">What will be written for it, where that is fetched too; null is not.</param>
    /// <param name="blocks">How many.</param>
    /// <param name="stride">From one to the next.</param>
    /// <param name="n">Elements in each.</param>
    /// <param name="ahead">How far ahead to fetch, in elements; 0 is not at all.</param>
    /// <param name="center">What is taken off by deviations that take anything off.</param>
    /// <param name="first">The sum.</param>
    /// <param name="second">The sum of squares.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void MomentSums<T, TDeviation>(
        T* x, T* written, nint blocks, nint stride, nint n, nint ahead, double center, out double first, out double second)
        where T : unmanaged
        where TDeviation : struct, IDeviation
    {
        const int L = Simd.Lanes;
        Vector512<double> middle = Vector512.Create(-center);
        Vector512<double> a1 = default, b1 = default, c1 = default, d1 = default;
        Vector512<double> a2 = default, b2 = default, c2 = default, d2 = default;
        for (nint block = 0; block < blocks; block++, x += stride)
        {
            if (written != null && ahead != 0)
            {
                PrefetchRun(written + (block * stride) + ahead, n);
            }

            nint j = 0;
            for (; j <= n - (4 * L); j += 4 * L)
            {
                Vector512<double> p = TDeviation.Of(Simd.Load(x + j), middle);
                Vector512<double> q = TDeviation.Of(Simd.Load(x + j + L), middle);
                Vector512<double> r = TDeviation.Of(Simd.Load(x + j + (2 * L)), middle);
                Vector512<double> s = TDeviation.Of(Simd.Load(x + j + (3 * L)), middle);
                a1 += p;
                b1 += q;
                c1 += r;
                d1 += s;
                a2 = Vector512.FusedMultiplyAdd(p, p, a2);
                b2 = Vector512.FusedMultiplyAdd(q, q, b2);
                c2 = Vector512.FusedMultiplyAdd(r, r, c2);
                d2 = Vector512.FusedMultiplyAdd(s, s, d2);
                if (ahead != 0)
                {
                    Prefetch(x + j + ahead);
                    Prefetch(x + j + (2 * L) + ahead);
                    if (sizeof(T) == sizeof(double))
                    {
                        Prefetch(x + j + L + ahead);
                        Prefetch(x + j + (3 * L) + ahead);
                    }
                }
            }

            for (; j <= n - L; j += L)
            {
                AddDeviation<TDeviation>(Simd.Load(x + j), middle, ref a1, ref a2);
            }

            if (j < n)
            {
                AddDeviation<TDeviation>(LoadDeviating<T, TDeviation>(x + j, n - j, middle), middle, ref b1, ref b2);
            }
        }

        first = Simd.Sum((a1 + b1) + (c1 + d1));
        second = Simd.Sum((a2 + b2) + (c2 + d2));
    }

    // Lanes beyond the end deviate by 0.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<double> LoadDeviating<T, TDeviation>(T* x, nint count, Vector512<double> middle)
        where T : unmanaged
        where TDeviation : struct, IDeviation => Simd.LoadPart<T, double>(x, count, TDeviation.TakesOff ? -middle : default);

    /// <summary>y = affine(line(x)) of one run, and meanwhile the sums of <see cref="MomentSums"/> of what it is given to sum, as far as whole steps come.</summary>
    /// <param name="x">Input.</param>
    /// <param name="y">Output.</param>
    /// <param name="n">Elements.</param>
    /// <param name="ahead">How far ahead to fetch both, in elements; only by stores that fetch.</param>
    /// <param name="run">The run's line.</param>
    /// <param name="affine">Weight and bias where the line does not hold them.</param>
    /// <param name="summed">What is to be summed next.</param>
    /// <param name="rest">How many elements that are.</param>
    /// <param name="center">What is taken off them.</param>
    /// <param name="sums">The sums so far.</param>
    /// <returns>How many elements were added.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static nint StandardizeInStep<T, TDeviation, TAffine, TStore>(
        T* x, T* y, nint n, nint ahead, Run<T>* run, TAffine affine, T* summed, nint rest, double center, Vector512<double>* sums)
        where T : unmanaged
        where TDeviation : struct, IDeviation
        where TAffine : struct, IAffine<T>
        where TStore : struct, IStore
    {
        const int L = Simd.Lanes;
        nint lanes = Simd.Count<T>();
        var line = new ConstantLine<T>(run->Center, run->Slope, run->Intercept);
        nint i = Head<T, T, TStore>(y, n);
        if (i > 0)
        {
            Simd.StorePart(y, i, affine.Apply(line.At(Simd.LoadPart<T, T>(x, i, default), 0, 0), 0, i));
        }

        nint steps = Math.Min(n - i, rest) / (4 * L);
        if (steps > 0)
        {
            Vector512<double> middle = Vector512.Create(-center);
            Vector512<double> a1 = sums[0], b1 = sums[1], c1 = sums[2], d1 = sums[3];
            Vector512<double> a2 = sums[4], b2 = sums[5], c2 = sums[6], d2 = sums[7];
            for (nint end = i + (steps * 4 * L); i < end; i += 4 * L, summed += 4 * L)
            {
                Vector512<double> p = TDeviation.Of(Simd.Load(summed), middle);
                Vector512<double> q = TDeviation.Of(Simd.Load(summed + L), middle);
                Vector512<double> r = TDeviation.Of(Simd.Load(summed + (2 * L)), middle);
                Vector512<double> s = TDeviation.Of(Simd.Load(summed + (3 * L)), middle);
                a1 += p;
                b1 += q;
                c1 += r;
                d1 += s;
                a2 = Vector512.FusedMultiplyAdd(p, p, a2);
                b2 = Vector512.FusedMultiplyAdd(q, q, b2);
                c2 = Vector512.FusedMultiplyAdd(r, r, c2);
                d2 = Vector512.FusedMultiplyAdd(s, s, d2);
                for (nint k = i; k < i + (4 * L); k += lanes)
                {
                    if (TStore.Fetches)
                    {
                        Prefetch(summed + (k - i) + ahead);
                    }

                    Store<T, T, TStore>(y + k, affine.Apply(line.At(Vector512.Load(x + k), 0, k), k, lanes));
                }
            }

            sums[0] = a1;
            sums[1] = b1;
            sums[2] = c1;
            sums[3] = d1;
            sums[4] = a2;
            sums[5] = b2;
            sums[6] = c2;
            sums[7] = d2;
        }

        for (; i <= n - lanes; i += lanes)
        {
            Store<T, T, TStore>(y + i, affine.Apply(line.At(Vector512.Load(x + i), 0, i), i, lanes));
        }

        if (i < n)
        {
            Simd.StorePart(y + i, n - i, affine.Apply(line.At(Simd.LoadPart<T, T>(x + i, n - i, default), 0, i), i, n - i));
        }

        return steps * 4 * L;
    }

    /// <summary>Adds to the sums of <see cref="MomentSums"/> a block of n elements, of which those before one are added up already.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void AddMoments<T, TDeviation>(T* x, nint j, nint n, double center, Vector512<double>* sums)
        where T : unmanaged
        where TDeviation : struct, IDeviation
    {
        const int L = Simd.Lanes;
        Vector512<double> middle = Vector512.Create(-center);
        for (; j <= n - (4 * L); j += 4 * L)
        {
            for (int k = 0; k < 4; k++)
            {
                AddDeviation<TDeviation>(Simd.Load(x + j + (k * L)), middle, ref sums[k], ref sums[k + 4]);
            }
        }

        for (; j <= n - L; j += L)
        {
            AddDeviation<TDeviation>(Simd.Load(x + j), middle, ref sums[0], ref sums[4]);
        }

        if (j < n)
        {
            AddDeviation<TDeviation>(LoadDeviating<T, TDeviation>(x + j, n - j, middle), middle, ref sums[1], ref sums[5]);
        }
    }

    /// <summary>What the sums of <see cref="MomentSums"/> come to.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TotalMoments(Vector512<double>* sums, out double first, out double second)
    {
        first = Simd.Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
        second = Simd.Sum((sums[4] + sums[5]) + (sums[6] + sums[7]));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddDeviation<TDeviation>(Vector512<double> value, Vector512<double> middle, ref Vector512<double> first, ref Vector512<double> second)
        where TDeviation : struct, IDeviation
    {
        Vector512<double> p = TDeviation.Of(value, middle);
        first += p;
        second = Vector512.FusedMultiplyAdd(p, p, second);
    }

    /// <summary>Adds sum(g * w) to gradient and sum(g * w * line(x)) to product, along a run.</summary>
    /// <remarks>
    /// With w = 1 these are the bias and weight gradients; with w = weight the two terms of the input gradient. Up to eight vectors are added
    /// in the arithmetic A, then in double. What is ahead is fetched meanwhile; 0 is not at all.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void GradientSums<T, A, TLine, TAffine>(T* x, T* g, nint n, nint ahead, TLine line, TAffine affine, ref double gradient, ref double product)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A> => AddGradientSums<T, A, TLine, TAffine>(x, g, n, ahead, line, affine, ref gradient, ref product);

    /// <summary>The sums of several runs of n elements, in their own fields: of g and of g * (x - center).</summary>
    /// <remarks>What is ahead is fetched meanwhile, and of what will be written too where that is not null; 0 is not at all.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void GradientSumsOfRuns<T>(T* x, T* g, T* written, Run<T>* runs, int count, nint n, nint ahead)
        where T : unmanaged
    {
        for (Run<T>* run = runs; run < runs + count; run++)
        {
            var line = new Difference<T>(run->Center);
            double gradient = 0;
            double product = 0;
            if (written != null && ahead != 0)
            {
                PrefetchRun(written + run->Offset + ahead, n);
            }

            AddGradientSums<T, T, Difference<T>, NoAffine<T>>(x + run->Offset, g + run->Offset, n, ahead, line, default, ref gradient, ref product);
            run->Gradient = gradient;
            run->Product = product;
        }
    }

    /// <summary>The input gradient of one run, as <see cref="InputGradientOfRuns"/> writes it, and meanwhile the sums of another run, as <see cref="GradientSumsOfRuns"/> takes them.</summary>
    /// <param name="x">Input.</param>
    /// <param name="g">Output gradient.</param>
    /// <param name="dx">Input gradient.</param>
    /// <param name="n">Elements of each run.</param>
    /// <param name="ahead">How far ahead what is summed is fetched, in elements; only by stores that fetch.</param>
    /// <param name="run">What is written.</param>
    /// <param name="summed">What is summed, into its own fields.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void InputGradientInStep<T, TStore>(T* x, T* g, T* dx, nint n, nint ahead, Run<T>* run, Run<T>* summed)
        where T : unmanaged
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<T>();
        var gradientLine = new ConstantLine<T>(run->GradientCenter, run->GradientSlope, default);
        var line = new ConstantLine<T>(run->Center, run->Slope, run->Intercept);
        var affine = new ConstantAffine<T>(run->Weight, default);
        var difference = new Difference<T>(summed->Center);
        T* summedX = x + summed->Offset;
        T* summedG = g + summed->Offset;
        x += run->Offset;
        g += run->Offset;
        dx += run->Offset;
        nint i = Head<T, T, TStore>(dx, n);
        if (i > 0)
        {
            WriteInputGradientPart(x, g, dx, i, gradientLine, line, affine);
        }

        Vector512<double> sum1 = default, sum2 = default, other1 = default, other2 = default;
        nint j = 0;
        for (; i <= n - (8 * lanes); j += 8 * lanes)
        {
            AddEight<T, T, Difference<T>, NoAffine<T>>(summedX, summedG, j, difference, default, ref sum1, ref other1, ref sum2, ref other2);
            for (nint start = i; i < start + (8 * lanes); i += lanes)
            {
                if (TStore.Fetches)
                {
                    Prefetch(summedX + j + (i - start) + ahead);
                    Prefetch(summedG + j + (i - start) + ahead);
                }

                Vector512<T> p = affine.Scale(Vector512.Load(g + i), 0, lanes);
                Store<T, T, TStore>(dx + i, gradientLine.Plus(p, line.At(Vector512.Load(x + i), 0, 0), 0, 0));
            }
        }

        for (; i <= n - lanes; i += lanes)
        {
            Vector512<T> p = affine.Scale(Vector512.Load(g + i), 0, lanes);
            Store<T, T, TStore>(dx + i, gradientLine.Plus(p, line.At(Vector512.Load(x + i), 0, 0), 0, 0));
        }

        if (i < n)
        {
            WriteInputGradientPart(x + i, g + i, dx + i, n - i, gradientLine, line, affine);
        }

        AddGradientSums<T, T, Difference<T>, NoAffine<T>>(
            summedX, summedG, j, n, ahead: 0, difference, default, ref sum1, ref other1, ref sum2, ref other2);
        summed->Gradient = Simd.Sum(sum1 + other1);
        summed->Product = Simd.Sum(sum2 + other2);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteInputGradientPart<T>(
        T* x, T* g, T* dx, nint count, ConstantLine<T> gradientLine, ConstantLine<T> line, ConstantAffine<T> affine)
        where T : unmanaged
    {
        Vector512<T> p = affine.Scale(Simd.LoadPart<T, T>(g, count, default), 0, count);
        Simd.StorePart(dx, count, gradientLine.Plus(p, line.At(Simd.LoadPart<T, T>(x, count, default), 0, 0), 0, 0));
    }

    /// <summary>Adds each column's sum to sums.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddColumns<T>(T* x, nint rows, nint n, nint pitch, double* sums)
        where T : unmanaged
    {
        for (nint row = 0; row < rows; row++, x += pitch)
        {
            Simd.AddTo(sums, x, n);
        }
    }

    /// <summary>Adds each column's sum(x - center) to first and sum((x - center)^2) to second.</summary>
    /// <remarks>Four rows at a time; where rows are short, several times four while the sums stay in registers.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddCenteredColumns<T>(T* x, nint rows, nint n, nint pitch, double* center, double* first, double* second)
        where T : unmanaged
    {
        const int L = Simd.Lanes;
        nint ahead = Ahead<T>(pitch, OneStreamAhead);
        nint blocked = n / (2 * L) * (2 * L);
        while (rows >= 4)
        {
            nint fours = FoursTogether(rows, pitch);
            for (nint j = 0; j < blocked; j += 2 * L)
            {
                Vector512<double> middle = Vector512.Load(center + j), first1 = Vector512.Load(first + j), second1 = Vector512.Load(second + j);
                Vector512<double> other = Vector512.Load(center + j + L), first2 = Vector512.Load(first + j + L), second2 = Vector512.Load(second + j + L);
                T* four = x + j;
                for (nint i = 0; i < fours; i++, four += 4 * pitch)
                {
                    PrefetchRowsNear(four + ahead, pitch);
                    AddCenteredFour(four, pitch, middle, ref first1, ref second1);
                    AddCenteredFour(four + L, pitch, other, ref first2, ref second2);
                }

                first1.Store(first + j);
                second1.Store(second + j);
                first2.Store(first + j + L);
                second2.Store(second + j + L);
            }

            for (nint i = 0; i < 4 * fours && blocked < n; i++)
            {
                AddCentered(x + (i * pitch), blocked, n, center, first, second);
            }

            rows -= 4 * fours;
            x += 4 * fours * pitch;
        }

        for (; rows > 0; rows--, x += pitch)
        {
            AddCentered(x, 0, n, center, first, second);
        }
    }

    /// <summary>Adds g to gradients[j] and g * line(x) to products[j], for each row; arrays padded to whole vectors.</summary>
    /// <remarks>As <see cref="AddGradientColumns"/>, with sums in double: four rows at a time are added in the arithmetic A first.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddWideGradientColumns<T, A, TLine>(
        T* x, T* g, nint rows, nint n, nint pitch, TLine line, double* gradients, double* products)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        nint lanes = Simd.Count<A>();
        nint upper = lanes - Simd.Lanes; // where A is double there is no upper half: the lower is loaded twice and stored last
        while (rows >= 4)
        {
            nint fours = FoursTogether(rows, pitch);
            nint fetched = 0;
            T* nextX = x + (4 * fours * pitch);
            T* nextG = g + (4 * fours * pitch);
            nint j = 0;
            for (; j <= n - lanes; j += lanes)
            {
                Vector512<double> gradient1 = Vector512.Load(gradients + j), gradient2 = Vector512.Load(gradients + j + upper);
                Vector512<double> product1 = Vector512.Load(products + j), product2 = Vector512.Load(products + j + upper);
                T* value = x + j;
                T* slope = g + j;
                for (nint i = 0; i < fours; i++, value += 4 * pitch, slope += 4 * pitch)
                {
                    PrefetchRowsNear(nextX + fetched, lanes);
                    PrefetchRowsNear(nextG + fetched, lanes);
                    fetched += 4 * lanes;
                    if (fetched >= n)
                    {
                        fetched = 0;
                        nextX += pitch;
                        nextG += pitch;
                    }

                    AddWideFour<T, A, TLine>(value, slope, pitch, j, line, ref gradient1, ref gradient2, ref product1, ref product2);
                }

                gradient2.Store(gradients + j + upper);
                gradient1.Store(gradients + j);
                product2.Store(products + j + upper);
                product1.Store(products + j);
            }

            for (nint i = 0; i < 4 * fours && j < n; i++)
            {
                AddWideGradient<T, A, TLine>(x + (i * pitch), g + (i * pitch), j, n, line, gradients, products);
            }

            rows -= 4 * fours;
            x += 4 * fours * pitch;
            g += 4 * fours * pitch;
        }

        for (; rows > 0; rows--, x += pitch, g += pitch)
        {
            AddWideGradient<T, A, TLine>(x, g, 0, n, line, gradients, products);
        }
    }

    /// <summary>
    /// The sums of up to four rows along memory and down their columns in one read: each row's sums of g * w and of g * w * (x - center) to
    /// its fields, g and g * line(x) added to gradients[j] and products[j], arrays padded to whole vectors.
    /// </summary>
    /// <remarks>
    /// Along a row eight vectors are added in T, then in double; its bits are the same whatever rows are beside it. The columns' sums of one row may be unwanted: null.
    /// What is ahead in each row is fetched meanwhile, and of what will be written too where that is not null; 0 is not at all.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void GradientSumsOfRows<T>(
        T* x, T* g, T* written, T* weight, Run<T>* runs, int rows, nint n, nint pitch, nint ahead, T* gradients, T* products)
        where T : unmanaged
    {
        for (int row = 0; row < rows && written != null && ahead != 0; row++)
        {
            PrefetchRun(written + (row * pitch) + ahead, n);
        }

        if (rows == 4)
        {
            GradientSumsOfFour(x, g, weight, runs, n, pitch, ahead, gradients, products);
            return;
        }

        for (int row = 0; row < rows; row++)
        {
            GradientSumsOfRow(x + (row * pitch), g + (row * pitch), weight, runs + row, n, ahead, gradients, products);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void GradientSumsOfFour<T>(
        T* x, T* g, T* weight, Run<T>* runs, nint n, nint pitch, nint ahead, T* gradients, T* products)
        where T : unmanaged
    {
        nint lanes = Simd.Count<T>();
        nint together = RowVectors * lanes;
        Vector512<T> center1 = Vector512.Create(runs[0].Center), center2 = Vector512.Create(runs[1].Center);
        Vector512<T> center3 = Vector512.Create(runs[2].Center), center4 = Vector512.Create(runs[3].Center);
        Vector512<double>* totals = stackalloc Vector512<double>[8];
        for (int i = 0; i < 8; i++)
        {
            totals[i] = default;
        }

        for (nint start = 0; start < n; start += together)
        {
            nint end = Math.Min(start + together, n);
            Vector512<T> gradient1 = default, gradient2 = default, gradient3 = default, gradient4 = default;
            Vector512<T> product1 = default, product2 = default, product3 = default, product4 = default;
            nint j = start;
            for (; j <= end - lanes; j += lanes)
            {
                T* value = x + j;
                T* slope = g + j;
                if (ahead != 0)
                {
                    PrefetchRows(value + ahead, pitch);
                    PrefetchRows(slope + ahead, pitch);
                }

                Vector512<T> w = Vector512.Load(weight + j);
                Vector512<T> p = Vector512.Load(slope), q = Vector512.Load(slope + pitch);
                Vector512<T> r = Vector512.Load(slope + (2 * pitch)), s = Vector512.Load(slope + (3 * pitch));
                Vector512<T> even = AddToRow(p * w, Vector512.Load(value) - center1, runs, ref gradient1, ref product1) * p;
                Vector512<T> odd = AddToRow(q * w, Vector512.Load(value + pitch) - center2, runs + 1, ref gradient2, ref product2) * q;
                even = Simd.MultiplyAdd(AddToRow(r * w, Vector512.Load(value + (2 * pitch)) - center3, runs + 2, ref gradient3, ref product3), r, even);
                odd = Simd.MultiplyAdd(AddToRow(s * w, Vector512.Load(value + (3 * pitch)) - center4, runs + 3, ref gradient4, ref product4), s, odd);
                (Vector512.Load(gradients + j) + ((p + q) + (r + s))).Store(gradients + j);
                (Vector512.Load(products + j) + (even + odd)).Store(products + j);
            }

            if (j < end)
            {
                AddPartToRow(x + j, g + j, weight + j, j, end - j, runs, gradients, products, ref gradient1, ref product1);
                AddPartToRow(x + pitch + j, g + pitch + j, weight + j, j, end - j, runs + 1, gradients, products, ref gradient2, ref product2);
                AddPartToRow(x + (2 * pitch) + j, g + (2 * pitch) + j, weight + j, j, end - j, runs + 2, gradients, products, ref gradient3, ref product3);
                AddPartToRow(x + (3 * pitch) + j, g + (3 * pitch) + j, weight + j, j, end - j, runs + 3, gradients, products, ref gradient4, ref product4);
            }

            totals[0] += Simd.Widened(gradient1);
            totals[1] += Simd.Widened(product1);
            totals[2] += Simd.Widened(gradient2);
            totals[3] += Simd.Widened(product2);
            totals[4] += Simd.Widened(gradient3);
            totals[5] += Simd.Widened(product3);
            totals[6] += Simd.Widened(gradient4);
            totals[7] += Simd.Widened(product4);
        }

        for (int row = 0; row < 4; row++)
        {
            runs[row].Gradient = Simd.Sum(totals[2 * row]);
            runs[row].Product = Simd.Sum(totals[(2 * row) + 1]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void GradientSumsOfRow<T>(T* x, T* g, T* weight, Run<T>* run, nint n, nint ahead, T* gradients, T* products)
        where T : unmanaged
    {
        nint lanes = Simd.Count<T>();
        nint together = RowVectors * lanes;
        Vector512<T> center = Vector512.Create(run->Center);
        Vector512<double> gradientTotal = default, productTotal = default;
        for (nint start = 0; start < n; start += together)
        {
            nint end = Math.Min(start + together, n);
            Vector512<T> gradient = default, product = default;
            nint j = start;
            for (; j <= end - lanes; j += lanes)
            {
                if (ahead != 0)
                {
                    Prefetch(x + j + ahead);
                    Prefetch(g + j + ahead);
                }

                Vector512<T> p = Vector512.Load(g + j);
                Vector512<T> line = AddToRow(p * Vector512.Load(weight + j), Vector512.Load(x + j) - center, run, ref gradient, ref product);
                if (gradients != null)
                {
                    (Vector512.Load(gradients + j) + p).Store(gradients + j);
                    Simd.MultiplyAdd(p, line, Vector512.Load(products + j)).Store(products + j);
                }
            }

            if (j < end)
            {
                AddPartToRow(x + j, g + j, weight + j, j, end - j, run, gradients, products, ref gradient, ref product);
            }

            gradientTotal += Simd.Widened(gradient);
            productTotal += Simd.Widened(product);
        }

        run->Gradient = Simd.Sum(gradientTotal);
        run->Product = Simd.Sum(productTotal);
    }

    // To a row's sums; what its line gives for the columns.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<T> AddToRow<T>(
        Vector512<T> scaled, Vector512<T> deviation, Run<T>* run, ref Vector512<T> gradient, ref Vector512<T> product)
        where T : unmanaged
    {
        gradient += scaled;
        product = Simd.MultiplyAdd(scaled, deviation, product);
        return Simd.MultiplyAdd(deviation, Vector512.Create(run->Slope), Vector512.Create(run->Intercept));
    }

    // Lanes beyond the row are 0 times a deviation of 0.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddPartToRow<T>(
        T* x, T* g, T* weight, nint j, nint count, Run<T>* run, T* gradients, T* products, ref Vector512<T> gradient, ref Vector512<T> product)
        where T : unmanaged
    {
        Vector512<T> p = Simd.LoadPart<T, T>(g, count, default);
        Vector512<T> center = Vector512.Create(run->Center);
        Vector512<T> scaled = p * Simd.LoadPart<T, T>(weight, count, default);
        Vector512<T> line = AddToRow(scaled, Simd.LoadPart<T, T>(x, count, center) - center, run, ref gradient, ref product);
        if (gradients != null)
        {
            Simd.StorePart(gradients + j, count, Simd.LoadPart<T, T>(gradients + j, count, default) + p);
            Simd.StorePart(products + j, count, Simd.MultiplyAdd(p, line, Simd.LoadPart<T, T>(products + j, count, default)));
        }
    }

    /// <summary>Adds g * w to gradients[j] and g * w * line(x) to products[j], for each row; arrays padded to whole vectors.</summary>
    /// <remarks>What is ahead in each row is fetched meanwhile; 0 is not at all.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddGradientColumns<T, A, TLine>(
        T* x, T* g, nint rows, nint n, nint pitch, nint ahead, TLine line, double weight, A* gradients, A* products)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        nint lanes = Simd.Count<A>();
        Vector512<A> factor = Simd.Create<A>(weight);
        nint row = 0;
        for (; row <= rows - 4; row += 4, x += 4 * pitch, g += 4 * pitch)
        {
            nint j = 0;
            for (; j <= n - lanes; j += lanes)
            {
                if (ahead != 0)
                {
                    PrefetchRows(x + j + ahead, pitch);
                    PrefetchRows(g + j + ahead, pitch);
                }

                Vector512<A> p = Simd.Load<T, A>(g + j), q = Simd.Load<T, A>(g + pitch + j);
                Vector512<A> r = Simd.Load<T, A>(g + (2 * pitch) + j), s = Simd.Load<T, A>(g + (3 * pitch) + j);
                Vector512<A> even = p * line.At(Simd.Load<T, A>(x + j), row, j);
                Vector512<A> odd = q * line.At(Simd.Load<T, A>(x + pitch + j), row + 1, j);
                even = Simd.MultiplyAdd(r, line.At(Simd.Load<T, A>(x + (2 * pitch) + j), row + 2, j), even);
                odd = Simd.MultiplyAdd(s, line.At(Simd.Load<T, A>(x + (3 * pitch) + j), row + 3, j), odd);
                Simd.MultiplyAdd((p + q) + (r + s), factor, Vector512.Load(gradients + j)).Store(gradients + j);
                Simd.MultiplyAdd(even + odd, factor, Vector512.Load(products + j)).Store(products + j);
            }

            for (int i = 0; i < 4 && j < n; i++)
            {
                AddGradientPart<T, A, TLine>(x + (i * pitch) + j, g + (i * pitch) + j, row + i, j, n - j, line, factor, gradients, products);
            }
        }

        for (; row < rows; row++, x += pitch, g += pitch)
        {
            nint j = 0;
            for (; j <= n - lanes; j += lanes)
            {
                Vector512<A> p = Simd.Load<T, A>(g + j) * factor;
                (Vector512.Load(gradients + j) + p).Store(gradients + j);
                Simd.MultiplyAdd(p, line.At(Simd.Load<T, A>(x + j), row, j), Vector512.Load(products + j)).Store(products + j);
            }

            if (j < n)
            {
                AddGradientPart<T, A, TLine>(x + j, g + j, row, j, n - j, line, factor, gradients, products);
            }
        }
    }

    /// <summary>y = affine(line(x)), element after element; coefficients repeat with the given period.</summary>
    /// <param name="x">Input.</param>
    /// <param name="y">Output.</param>
    /// <param name="n">Elements.</param>
    /// <param name="period">Columns in a row of the matrix these elements are; n where there is one row.</param>
    /// <param name="ahead">How far ahead to fetch what is read next, in elements; only by stores that fetch.</param>
    /// <param name="line">The standardization.</param>
    /// <param name="affine">Weight and bias.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void Standardize<T, A, TLine, TAffine, TStore>(T* x, T* y, nint n, nint period, nint ahead, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore => WriteStandardized<T, A, TLine, TAffine, TStore>(x, y, n, period, ahead, line, affine);

    /// <summary>The same for several runs of n elements; null weight and bias where the lines hold them, null bias where there is none.</summary>
    /// <remarks>Runs that follow each other in memory are written as one: a vector that lies across an end takes its lanes from both lines.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void StandardizeRuns<T, TStore>(T* x, T* y, T* weight, T* bias, Run<T>* runs, int count, nint n, nint ahead)
        where T : unmanaged
        where TStore : struct, IStore
    {
        nint done = 0;
        for (Run<T>* run = runs; run < runs + count; run++)
        {
            var line = new ConstantLine<T>(run->Center, run->Slope, run->Intercept);
            T* from = x + run->Offset;
            T* to = y + run->Offset;
            if (weight != null)
            {
                WriteStandardized<T, T, ConstantLine<T>, ElementAffine<T, T>, TStore>(
                    from, to, n, period: 0, ahead, line, new ElementAffine<T, T>(weight, bias).From(run->Affine));
                continue;
            }

            bool joins = run + 1 < runs + count && Joins(run, n);
            nint i = StandardizeVectors<T, T, ConstantLine<T>, NoAffine<T>, TStore>(from, to, done, n, joins, period: 0, ahead, line, default);
            done = 0;
            if (i < n && joins)
            {
                Vector512<T> value = Vector512.Load(from + i);
                var next = new ConstantLine<T>(run[1].Center, run[1].Slope, run[1].Intercept);
                Store<T, T, TStore>(to + i, Simd.FirstOf(n - i, line.At(value, 0, 0), next.At(value, 0, 0)));
                done = Simd.Count<T>() - (n - i);
            }
            else if (i < n)
            {
                Simd.StorePart(to + i, n - i, line.At(Simd.LoadPart<T, T>(from + i, n - i, default), 0, 0));
            }
        }
    }

    /// <summary>The same, and meanwhile the sums of <see cref="MomentSums"/> of as many runs of n elements more: what is written waits for memory, sums for arithmetic.</summary>
    /// <remarks>Stores past the caches take runs of whole vectors, each aligned.</remarks>
    /// <param name="x">Input.</param>
    /// <param name="y">Output.</param>
    /// <param name="weight">By element; null where the lines hold it.</param>
    /// <param name="bias">By element; null where there is none, or the lines hold it.</param>
    /// <param name="runs">What is written.</param>
    /// <param name="next">What is summed: its offsets are read, its centers written.</param>
    /// <param name="count">How many of either.</param>
    /// <param name="n">Elements of each.</param>
    /// <param name="ahead">How far ahead of what is summed to fetch, in elements; only by stores that fetch.</param>
    /// <param name="sums">Receives eight lanes of the sum of each of up to eight runs, then of the sums of squares; aligned.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void StandardizeRunsInStep<T, TDeviation, TStore>(
        T* x, T* y, T* weight, T* bias, Run<T>* runs, SummedRun* next, int count, nint n, nint ahead, double* sums)
        where T : unmanaged
        where TDeviation : struct, IDeviation
        where TStore : struct, IStore
    {
        for (Run<T>* run = runs; run < runs + count; run++, next++, sums += Simd.Lanes)
        {
            T* summed = x + next->Offset;
            next->Center = TDeviation.TakesOff ? Simd.Get(summed) : 0;
            var line = new ConstantLine<T>(run->Center, run->Slope, run->Intercept);
            if (weight == null)
            {
                WriteAndSum<T, TDeviation, NoAffine<T>, TStore>(x + run->Offset, y + run->Offset, n, line, default(NoAffine<T>), summed, next->Center, ahead, sums);
            }
            else
            {
                WriteAndSum<T, TDeviation, ElementAffine<T, T>, TStore>(x + run->Offset, y + run->Offset, n, line, new ElementAffine<T, T>(weight, bias).From(run->Affine), summed, next->Center, ahead, sums);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteAndSum<T, TDeviation, TAffine, TStore>(
        T* x, T* y, nint n, ConstantLine<T> line, TAffine affine, T* summed, double center, nint ahead, double* sums)
        where T : unmanaged
        where TDeviation : struct, IDeviation
        where TStore : struct, IStore
        where TAffine : struct, IAffine<T>
    {
        const int L = Simd.Lanes;
        nint lanes = Simd.Count<T>();
        Vector512<double> middle = Vector512.Create(-center);
        Vector512<double> a1 = default, b1 = default, c1 = default, d1 = default;
        Vector512<double> a2 = default, b2 = default, c2 = default, d2 = default;
        nint i = 0;
        for (; i <= n - (4 * L); i += 4 * L)
        {
            if (TStore.Fetches)
            {
                Prefetch(summed + i + ahead);
                Prefetch(summed + i + ahead + (2 * L));
                if (sizeof(T) == sizeof(double))
                {
                    Prefetch(summed + i + ahead + L);
                    Prefetch(summed + i + ahead + (3 * L));
                }
            }

            Vector512<double> p = TDeviation.Of(Simd.Load(summed + i), middle);
            Vector512<double> q = TDeviation.Of(Simd.Load(summed + i + L), middle);
            Vector512<double> r = TDeviation.Of(Simd.Load(summed + i + (2 * L)), middle);
            Vector512<double> s = TDeviation.Of(Simd.Load(summed + i + (3 * L)), middle);
            Store<T, T, TStore>(y + i, affine.Apply(line.At(Vector512.Load(x + i), 0, i), i, lanes));
            a1 += p;
            b1 += q;
            c1 += r;
            d1 += s;
            Store<T, T, TStore>(y + i + lanes, affine.Apply(line.At(Vector512.Load(x + i + lanes), 0, i), i + lanes, lanes));
            if (sizeof(T) == sizeof(double))
            {
                Store<T, T, TStore>(y + i + (2 * lanes), affine.Apply(line.At(Vector512.Load(x + i + (2 * lanes)), 0, i), i + (2 * lanes), lanes));
                Store<T, T, TStore>(y + i + (3 * lanes), affine.Apply(line.At(Vector512.Load(x + i + (3 * lanes)), 0, i), i + (3 * lanes), lanes));
            }

            a2 = Vector512.FusedMultiplyAdd(p, p, a2);
            b2 = Vector512.FusedMultiplyAdd(q, q, b2);
            c2 = Vector512.FusedMultiplyAdd(r, r, c2);
            d2 = Vector512.FusedMultiplyAdd(s, s, d2);
        }

        nint j = i;
        for (; j <= n - L; j += L)
        {
            AddDeviation<TDeviation>(Simd.Load(summed + j), middle, ref a1, ref a2);
        }

        if (j < n)
        {
            AddDeviation<TDeviation>(LoadDeviating<T, TDeviation>(summed + j, n - j, middle), middle, ref b1, ref b2);
        }

        ((a1 + b1) + (c1 + d1)).Store(sums);
        ((a2 + b2) + (c2 + d2)).Store(sums + (Simd.Lanes * Simd.Lanes));
        for (; i <= n - lanes; i += lanes)
        {
            Store<T, T, TStore>(y + i, affine.Apply(line.At(Vector512.Load(x + i), 0, i), i, lanes));
        }

        if (i < n)
        {
            Simd.StorePart(y + i, n - i, affine.Apply(line.At(Simd.LoadPart<T, T>(x + i, n - i, default), 0, i), i, n - i));
        }
    }

    /// <summary>dx = (g * w - meanGradient) * r + line(x): the gradient line has center meanGradient and slope r.</summary>
    /// <remarks>
    /// Term 1 is the gradient itself, term 2 what flows through the mean, and line(x) = -r * xhat * mean(g * w * xhat) what flows through the
    /// variance. Term 1 is rounded as its mean was, not fused, so that a set of one value gives exactly 0. Elements, period and ahead are
    /// those of <see cref="Standardize"/>.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void InputGradient<T, A, TLine, TAffine, TStore>(
        T* x, T* g, T* dx, nint n, nint period, nint ahead, TLine gradientLine, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore =>
        WriteInputGradient<T, A, TLine, TAffine, TStore>(x, g, dx, n, period, ahead, gradientLine, line, affine);

    /// <summary>The same for several runs of n elements, as in <see cref="StandardizeRuns"/>; null weight where each has one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static void InputGradientOfRuns<T, TStore>(T* x, T* g, T* dx, T* weight, Run<T>* runs, int count, nint n, nint ahead)
        where T : unmanaged
        where TStore : struct, IStore
    {
        nint done = 0;
        for (Run<T>* run = runs; run < runs + count; run++)
        {
            var gradientLine = new ConstantLine<T>(run->GradientCenter, run->GradientSlope, default);
            var line = new ConstantLine<T>(run->Center, run->Slope, run->Intercept);
            T* value = x + run->Offset;
            T* gradient = g + run->Offset;
            T* to = dx + run->Offset;
            if (weight != null)
            {
                WriteInputGradient<T, T, ConstantLine<T>, ElementAffine<T, T>, TStore>(
                    value, gradient, to, n, period: 0, ahead, gradientLine, line, new(weight + run->Affine, null));
                continue;
            }

            bool joins = run + 1 < runs + count && Joins(run, n);
            var affine = new ConstantAffine<T>(run->Weight, default);
            nint i = InputGradientVectors<T, T, ConstantLine<T>, ConstantAffine<T>, TStore>(
                value, gradient, to, done, n, joins, period: 0, ahead, gradientLine, line, affine);
            done = 0;
            if (i < n && joins)
            {
                Vector512<T> v = Vector512.Load(value + i);
                Vector512<T> p = Vector512.Load(gradient + i);
                var nextGradientLine = new ConstantLine<T>(run[1].GradientCenter, run[1].GradientSlope, default);
                var nextLine = new ConstantLine<T>(run[1].Center, run[1].Slope, run[1].Intercept);
                Vector512<T> first = gradientLine.Plus(affine.Scale(p, 0, 0), line.At(v, 0, 0), 0, 0);
                Vector512<T> second = nextGradientLine.Plus(p * Vector512.Create(run[1].Weight), nextLine.At(v, 0, 0), 0, 0);
                Store<T, T, TStore>(to + i, Simd.FirstOf(n - i, first, second));
                done = Simd.Count<T>() - (n - i);
            }
            else if (i < n)
            {
                WriteInputGradientPart(value + i, gradient + i, to + i, n - i, gradientLine, line, affine);
            }
        }
    }

    /// <summary>
    /// The input gradient of up to four rows whose weights go by element, and what they add to the columns' sums, in one read: g to
    /// gradients[j] and g * xhat to products[j].
    /// </summary>
    /// <remarks>
    /// A row's bits are those of <see cref="InputGradientOfRuns"/>, and none hang on where memory lies or how it is stored. What is ahead in each row is
    /// fetched meanwhile, by stores that fetch.
    /// </remarks>
    public static void InputGradientOfRows<T, TStore>(
        T* x, T* g, T* dx, T* weight, Run<T>* runs, int rows, nint n, nint pitch, nint ahead, T* gradients, T* products)
        where T : unmanaged
        where TStore : struct, IStore
    {
        // Rows are worked on together where their vectors are aligned alike.
        if (rows == 4 && pitch % Simd.Count<T>() == 0)
        {
            InputGradientOfFour<T, TStore>(x, g, dx, weight, runs, n, pitch, ahead, gradients, products);
            return;
        }

        for (int row = 0; row < rows; row++, x += pitch, g += pitch, dx += pitch)
        {
            InputGradientOfRow<T, TStore>(x, g, dx, weight, runs + row, n, ahead, gradients, products);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void InputGradientOfFour<T, TStore>(
        T* x, T* g, T* dx, T* weight, Run<T>* runs, nint n, nint pitch, nint ahead, T* gradients, T* products)
        where T : unmanaged
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<T>();
        nint j = Head<T, T, TStore>(dx, n);
        InputGradientPartOfFour(x, g, dx, weight, runs, 0, j, pitch, gradients, products);
        for (; j <= n - lanes; j += lanes)
        {
            T* value = x + j;
            T* slope = g + j;
            T* result = dx + j;
            if (TStore.Fetches)
            {
                PrefetchRows(value + ahead, pitch);
                PrefetchRows(slope + ahead, pitch);
            }

            Vector512<T> w = Vector512.Load(weight + j);
            Vector512<T> p = Vector512.Load(slope), q = Vector512.Load(slope + pitch);
            Vector512<T> r = Vector512.Load(slope + (2 * pitch)), s = Vector512.Load(slope + (3 * pitch));
            Vector512<T> even = p * WriteRow<T, TStore>(Vector512.Load(value), p * w, result, runs);
            Vector512<T> odd = q * WriteRow<T, TStore>(Vector512.Load(value + pitch), q * w, result + pitch, runs + 1);
            even = Simd.MultiplyAdd(r, WriteRow<T, TStore>(Vector512.Load(value + (2 * pitch)), r * w, result + (2 * pitch), runs + 2), even);
            odd = Simd.MultiplyAdd(s, WriteRow<T, TStore>(Vector512.Load(value + (3 * pitch)), s * w, result + (3 * pitch), runs + 3), odd);
            (Vector512.Load(gradients + j) + ((p + q) + (r + s))).Store(gradients + j);
            (Vector512.Load(products + j) + (even + odd)).Store(products + j);
        }

        InputGradientPartOfFour(x, g, dx, weight, runs, j, n - j, pitch, gradients, products);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void InputGradientOfRow<T, TStore>(T* x, T* g, T* dx, T* weight, Run<T>* run, nint n, nint ahead, T* gradients, T* products)
        where T : unmanaged
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<T>();
        nint j = Head<T, T, TStore>(dx, n);
        InputGradientPart(x, g, dx, weight, run, 0, j, gradients, products);
        for (; j <= n - lanes; j += lanes)
        {
            if (TStore.Fetches)
            {
                Prefetch(x + j + ahead);
                Prefetch(g + j + ahead);
            }

            Vector512<T> p = Vector512.Load(g + j);
            Vector512<T> unit = WriteRow<T, TStore>(Vector512.Load(x + j), p * Vector512.Load(weight + j), dx + j, run);
            (Vector512.Load(gradients + j) + p).Store(gradients + j);
            Simd.MultiplyAdd(p, unit, Vector512.Load(products + j)).Store(products + j);
        }

        InputGradientPart(x, g, dx, weight, run, j, n - j, gradients, products);
    }

    // Writes a vector of a row's input gradient; its xhat.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<T> WriteRow<T, TStore>(Vector512<T> value, Vector512<T> scaled, T* result, Run<T>* run)
        where T : unmanaged
        where TStore : struct, IStore
    {
        Vector512<T> deviation = value - Vector512.Create(run->Center);
        Store<T, T, TStore>(result, GradientAt(deviation, scaled, run));
        return Simd.MultiplyAdd(deviation, Vector512.Create(run->UnitSlope), Vector512.Create(run->UnitIntercept));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<T> GradientAt<T>(Vector512<T> deviation, Vector512<T> scaled, Run<T>* run)
        where T : unmanaged
    {
        Vector512<T> line = Simd.MultiplyAdd(deviation, Vector512.Create(run->Slope), Vector512.Create(run->Intercept));
        return Simd.MultiplyAdd(scaled - Vector512.Create(run->GradientCenter), Vector512.Create(run->GradientSlope), line);
    }

    // Fewer columns than a vector, added up as whole ones are.
    private static void InputGradientPartOfFour<T>(
        T* x, T* g, T* dx, T* weight, Run<T>* runs, nint j, nint count, nint pitch, T* gradients, T* products)
        where T : unmanaged
    {
        if (count == 0)
        {
            return;
        }

        Vector512<T> w = Simd.LoadPart<T, T>(weight + j, count, default);
        Vector512<T> even = WritePart(x + j, g + j, dx + j, w, runs, count, out Vector512<T> p) * p;
        Vector512<T> odd = WritePart(x + pitch + j, g + pitch + j, dx + pitch + j, w, runs + 1, count, out Vector512<T> q) * q;
        nint third = (2 * pitch) + j;
        even = Simd.MultiplyAdd(WritePart(x + third, g + third, dx + third, w, runs + 2, count, out Vector512<T> r), r, even);
        nint fourth = (3 * pitch) + j;
        odd = Simd.MultiplyAdd(WritePart(x + fourth, g + fourth, dx + fourth, w, runs + 3, count, out Vector512<T> s), s, odd);
        Simd.StorePart(gradients + j, count, Simd.LoadPart<T, T>(gradients + j, count, default) + ((p + q) + (r + s)));
        Simd.StorePart(products + j, count, Simd.LoadPart<T, T>(products + j, count, default) + (even + odd));
    }

    private static void InputGradientPart<T>(T* x, T* g, T* dx, T* weight, Run<T>* run, nint j, nint count, T* gradients, T* products)
        where T : unmanaged
    {
        if (count == 0)
        {
            return;
        }

        Vector512<T> unit = WritePart(x + j, g + j, dx + j, Simd.LoadPart<T, T>(weight + j, count, default), run, count, out Vector512<T> p);
        Simd.StorePart(gradients + j, count, Simd.LoadPart<T, T>(gradients + j, count, default) + p);
        Simd.StorePart(products + j, count, Simd.MultiplyAdd(p, unit, Simd.LoadPart<T, T>(products + j, count, default)));
    }

    // WriteRow of count lanes; the others' gradients are 0.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<T> WritePart<T>(T* x, T* g, T* dx, Vector512<T> weight, Run<T>* run, nint count, out Vector512<T> gradient)
        where T : unmanaged
    {
        gradient = Simd.LoadPart<T, T>(g, count, default);
        Vector512<T> center = Vector512.Create(run->Center);
        Vector512<T> deviation = Simd.LoadPart<T, T>(x, count, center) - center;
        Simd.StorePart(dx, count, GradientAt(deviation, gradient * weight, run));
        return Simd.MultiplyAdd(deviation, Vector512.Create(run->UnitSlope), Vector512.Create(run->UnitIntercept));
    }

    // Whether the next run begins where this one of n elements ends, and both are long enough for a vector to lie across two at most.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Joins<T>(Run<T>* run, nint n)
        where T : unmanaged => run[1].Offset == run->Offset + n && n >= Simd.Count<T>();

    // The loops themselves, compiled into one run's method and into several runs' one. Period 0: nothing repeats, a column is an element.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddGradientSums<T, A, TLine, TAffine>(
        T* x, T* g, nint n, nint ahead, TLine line, TAffine affine, ref double gradient, ref double product)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
    {
        Vector512<double> sum1 = default, sum2 = default, other1 = default, other2 = default;
        AddGradientSums<T, A, TLine, TAffine>(x, g, 0, n, ahead, line, affine, ref sum1, ref other1, ref sum2, ref other2);
        gradient += Simd.Sum(sum1 + other1);
        product += Simd.Sum(sum2 + other2);
    }

    // From element i on, of which those before are added up already; eights of vectors have been.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddGradientSums<T, A, TLine, TAffine>(
        T* x, T* g, nint i, nint n, nint ahead, TLine line, TAffine affine,
        ref Vector512<double> sum1, ref Vector512<double> other1, ref Vector512<double> sum2, ref Vector512<double> other2)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
    {
        nint lanes = Simd.Count<A>();
        for (; i <= n - (8 * lanes); i += 8 * lanes)
        {
            nint half = i + (4 * lanes);
            if (ahead != 0)
            {
                PrefetchRows(x + i + ahead, lanes);
                PrefetchRows(g + i + ahead, lanes);
                PrefetchRows(x + half + ahead, lanes);
                PrefetchRows(g + half + ahead, lanes);
            }

            AddEight<T, A, TLine, TAffine>(x, g, i, line, affine, ref sum1, ref other1, ref sum2, ref other2);
        }

        if (i < n)
        {
            Vector512<A> gradients = default, products = default;
            for (; i <= n - lanes; i += lanes)
            {
                if (ahead != 0)
                {
                    Prefetch(x + i + ahead);
                    Prefetch(g + i + ahead);
                }

                Vector512<A> p = affine.Scale(Simd.Load<T, A>(g + i), i, lanes);
                gradients += p;
                products = Simd.MultiplyAdd(p, line.At(Simd.Load<T, A>(x + i), 0, i), products);
            }

            if (i < n)
            {
                // Lanes beyond the run repeat a value of it: 0 might lie beyond what the line can hold, and 0 times that is no 0.
                nint count = n - i;
                Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g + i, count, default), i, count);
                gradients += p;
                products = Simd.MultiplyAdd(p, line.At(Simd.LoadPart<T, A>(x + i, count, Simd.Create<A>(Simd.Get(x + i))), 0, i), products);
            }

            Simd.AddWidened(gradients, ref sum1, ref other1);
            Simd.AddWidened(products, ref sum2, ref other2);
        }
    }

    // Eight vectors in A, then in double.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddEight<T, A, TLine, TAffine>(
        T* x, T* g, nint i, TLine line, TAffine affine,
        ref Vector512<double> sum1, ref Vector512<double> other1, ref Vector512<double> sum2, ref Vector512<double> other2)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
    {
        Vector512<A> even = default, odd = default;
        Vector512<A> first = AddFour<T, A, TLine, TAffine>(x, g, i, line, affine, ref even, ref odd);
        Vector512<A> second = AddFour<T, A, TLine, TAffine>(x, g, i + (4 * Simd.Count<A>()), line, affine, ref even, ref odd);
        Simd.AddWidened(first + second, ref sum1, ref other1);
        Simd.AddWidened(even + odd, ref sum2, ref other2);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<A> AddFour<T, A, TLine, TAffine>(T* x, T* g, nint i, TLine line, TAffine affine, ref Vector512<A> even, ref Vector512<A> odd)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
    {
        nint lanes = Simd.Count<A>();
        nint j = i + lanes, k = j + lanes, l = k + lanes;
        Vector512<A> p = affine.Scale(Simd.Load<T, A>(g + i), i, lanes);
        Vector512<A> q = affine.Scale(Simd.Load<T, A>(g + j), j, lanes);
        Vector512<A> r = affine.Scale(Simd.Load<T, A>(g + k), k, lanes);
        Vector512<A> s = affine.Scale(Simd.Load<T, A>(g + l), l, lanes);
        even = Simd.MultiplyAdd(p, line.At(Simd.Load<T, A>(x + i), 0, i), even);
        odd = Simd.MultiplyAdd(q, line.At(Simd.Load<T, A>(x + j), 0, j), odd);
        even = Simd.MultiplyAdd(r, line.At(Simd.Load<T, A>(x + k), 0, k), even);
        odd = Simd.MultiplyAdd(s, line.At(Simd.Load<T, A>(x + l), 0, l), odd);
        return (p + q) + (r + s);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteStandardized<T, A, TLine, TAffine, TStore>(T* x, T* y, nint n, nint period, nint ahead, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint i = StandardizeVectors<T, A, TLine, TAffine, TStore>(x, y, 0, n, joins: false, period, ahead, line, affine);
        if (i < n)
        {
            nint count = n - i;
            nint j = period == 0 ? i : i % period;
            Simd.StorePart(y + i, count, affine.Apply(line.At(Simd.LoadPart<T, A>(x + i, count, default), 0, j), j, count));
        }
    }

    // Whole vectors from an element on, what lies before the first aligned one included where nothing is done yet; where it ended.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint StandardizeVectors<T, A, TLine, TAffine, TStore>(
        T* x, T* y, nint done, nint n, bool joins, nint period, nint ahead, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        nint step = period == 0 || lanes < period ? lanes : lanes % period;
        nint i = done;
        if (done == 0)
        {
            i = Head<T, A, TStore>(y, n, joins);
            if (i > 0)
            {
                Simd.StorePart(y, i, affine.Apply(line.At(Simd.LoadPart<T, A>(x, i, default), 0, 0), 0, i));
            }
        }

        nint j = period == 0 || i < period ? i : i % period;
        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> result = affine.Apply(line.At(Simd.Load<T, A>(x + i), 0, j), j, lanes);
            if (TStore.Fetches)
            {
                Prefetch(x + i + ahead);
            }

            Store<T, A, TStore>(y + i, result);
            j += step;
            j -= period != 0 && j >= period ? period : 0;
        }

        return i;
    }

    /// <summary><see cref="Standardize"/> of rows of whole vectors, four at a time: each coefficient is read once for four rows.</summary>
    public static void StandardizeRows<T, A, TStore>(T* x, T* y, nint n, nint pitch, nint ahead, ColumnLine<A> line)
        where T : unmanaged
        where A : unmanaged
        where TStore : struct, IStore
    {
        // Rows are cut where the result is aligned.
        nint head = Math.Min(n, Simd.BeforeAligned<T, A>(y));
        nint fours = (n - head) / (4 * pitch);
        nint end = head + (fours * 4 * pitch);
        ColumnLine<A> shifted = line.From(head);
        Standardize<T, A, ColumnLine<A>, NoAffine<A>, TStore>(x, y, head, pitch, ahead, line, default);
        StandardizeFours<T, A, ColumnLine<A>, TStore>(x + head, y + head, fours, pitch, shifted);
        Standardize<T, A, ColumnLine<A>, NoAffine<A>, TStore>(x + end, y + end, n - end, pitch, ahead, shifted, default);
    }

    /// <summary><see cref="InputGradient"/> of rows of whole vectors, four at a time: each coefficient is read once for four rows.</summary>
    public static void InputGradientRows<T, A, TStore>(
        T* x, T* g, T* dx, nint n, nint pitch, nint ahead, ColumnLine<A> gradientLine, ColumnLine<A> line)
        where T : unmanaged
        where A : unmanaged
        where TStore : struct, IStore
    {
        nint head = Math.Min(n, Simd.BeforeAligned<T, A>(dx));
        nint fours = (n - head) / (4 * pitch);
        nint end = head + (fours * 4 * pitch);
        ColumnLine<A> shiftedGradient = gradientLine.From(head);
        ColumnLine<A> shifted = line.From(head);
        InputGradient<T, A, ColumnLine<A>, NoAffine<A>, TStore>(x, g, dx, head, pitch, ahead, gradientLine, line, default);
        InputGradientFours<T, A, ColumnLine<A>, TStore>(x + head, g + head, dx + head, fours, pitch, shiftedGradient, shifted);
        InputGradient<T, A, ColumnLine<A>, NoAffine<A>, TStore>(
            x + end, g + end, dx + end, n - end, pitch, ahead, shiftedGradient, shifted, default);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteInputGradient<T, A, TLine, TAffine, TStore>(
        T* x, T* g, T* dx, nint n, nint period, nint ahead, TLine gradientLine, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint i = InputGradientVectors<T, A, TLine, TAffine, TStore>(x, g, dx, 0, n, joins: false, period, ahead, gradientLine, line, affine);
        if (i < n)
        {
            nint count = n - i;
            nint j = period == 0 ? i : i % period;
            Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g + i, count, default), j, count);
            Simd.StorePart(dx + i, count, gradientLine.Plus(p, line.At(Simd.LoadPart<T, A>(x + i, count, default), 0, j), 0, j));
        }
    }

    // As StandardizeVectors.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint InputGradientVectors<T, A, TLine, TAffine, TStore>(
        T* x, T* g, T* dx, nint done, nint n, bool joins, nint period, nint ahead, TLine gradientLine, TLine line, TAffine affine)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TAffine : struct, IAffine<A>
        where TStore : struct, IStore
    {
        nint lanes = Simd.Count<A>();
        nint step = period == 0 || lanes < period ? lanes : lanes % period;
        nint i = done;
        if (done == 0)
        {
            i = Head<T, A, TStore>(dx, n, joins);
            if (i > 0)
            {
                Vector512<A> p = affine.Scale(Simd.LoadPart<T, A>(g, i, default), 0, i);
                Simd.StorePart(dx, i, gradientLine.Plus(p, line.At(Simd.LoadPart<T, A>(x, i, default), 0, 0), 0, 0));
            }
        }

        nint j = period == 0 || i < period ? i : i % period;
        for (; i <= n - lanes; i += lanes)
        {
            Vector512<A> p = affine.Scale(Simd.Load<T, A>(g + i), j, lanes);
            Vector512<A> result = gradientLine.Plus(p, line.At(Simd.Load<T, A>(x + i), 0, j), 0, j);
            if (TStore.Fetches)
            {
                Prefetch(x + i + ahead);
                Prefetch(g + i + ahead);
            }

            Store<T, A, TStore>(dx + i, result);
            j += step;
            j -= period != 0 && j >= period ? period : 0;
        }

        return i;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void StandardizeFours<T, A, TLine, TStore>(T* x, T* y, nint fours, nint pitch, TLine line)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TStore : struct, IStore
    {
        nint ahead = Ahead<T>(pitch, OneStreamAhead);
        for (; fours > 0; fours--, x += 4 * pitch, y += 4 * pitch)
        {
            for (nint j = 0; j < pitch; j += Simd.Count<A>())
            {
                T* value = x + j;
                T* result = y + j;
                Vector512<A> p = line.At(Simd.Load<T, A>(value), 0, j);
                Vector512<A> q = line.At(Simd.Load<T, A>(value + pitch), 0, j);
                Vector512<A> r = line.At(Simd.Load<T, A>(value + (2 * pitch)), 0, j);
                Vector512<A> s = line.At(Simd.Load<T, A>(value + (3 * pitch)), 0, j);
                if (TStore.Fetches)
                {
                    PrefetchRowsNear(value + ahead, pitch);
                }

                Store<T, A, TStore>(result, p);
                Store<T, A, TStore>(result + pitch, q);
                Store<T, A, TStore>(result + (2 * pitch), r);
                Store<T, A, TStore>(result + (3 * pitch), s);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void InputGradientFours<T, A, TLine, TStore>(
        T* x, T* g, T* dx, nint fours, nint pitch, TLine gradientLine, TLine line)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
        where TStore : struct, IStore
    {
        nint ahead = Ahead<T>(pitch, TwoStreamsAhead);
        for (; fours > 0; fours--, x += 4 * pitch, g += 4 * pitch, dx += 4 * pitch)
        {
            for (nint j = 0; j < pitch; j += Simd.Count<A>())
            {
                T* value = x + j;
                T* slope = g + j;
                T* result = dx + j;
                Vector512<A> p = gradientLine.Plus(Simd.Load<T, A>(slope), line.At(Simd.Load<T, A>(value), 0, j), 0, j);
                Vector512<A> q = gradientLine.Plus(Simd.Load<T, A>(slope + pitch), line.At(Simd.Load<T, A>(value + pitch), 0, j), 0, j);
                Vector512<A> r = gradientLine.Plus(Simd.Load<T, A>(slope + (2 * pitch)), line.At(Simd.Load<T, A>(value + (2 * pitch)), 0, j), 0, j);
                Vector512<A> s = gradientLine.Plus(Simd.Load<T, A>(slope + (3 * pitch)), line.At(Simd.Load<T, A>(value + (3 * pitch)), 0, j), 0, j);
                if (TStore.Fetches)
                {
                    PrefetchRowsNear(value + ahead, pitch);
                    PrefetchRowsNear(slope + ahead, pitch);
                }

                Store<T, A, TStore>(result, p);
                Store<T, A, TStore>(result + pitch, q);
                Store<T, A, TStore>(result + (2 * pitch), r);
                Store<T, A, TStore>(result + (3 * pitch), s);
            }
        }
    }

    // The center is taken off by a fused multiply-add, which is exact as well: conversions and sums keep the adders busy.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddCenteredFour<T>(T* x, nint pitch, Vector512<double> center, ref Vector512<double> first, ref Vector512<double> second)
        where T : unmanaged
    {
        Vector512<double> one = Vector512<double>.One;
        Vector512<double> p = Vector512.FusedMultiplyAdd(Simd.Load(x), one, -center);
        Vector512<double> q = Vector512.FusedMultiplyAdd(Simd.Load(x + pitch), one, -center);
        Vector512<double> r = Vector512.FusedMultiplyAdd(Simd.Load(x + (2 * pitch)), one, -center);
        Vector512<double> s = Vector512.FusedMultiplyAdd(Simd.Load(x + (3 * pitch)), one, -center);
        first += (p + q) + (r + s);
        second = Vector512.FusedMultiplyAdd(s, s, Vector512.FusedMultiplyAdd(q, q, second)) + Vector512.FusedMultiplyAdd(r, r, p * p);
    }

    private static void AddCentered<T>(T* x, nint j, nint n, double* center, double* first, double* second)
        where T : unmanaged
    {
        for (; j <= n - Simd.Lanes; j += Simd.Lanes)
        {
            Vector512<double> p = Simd.Load(x + j) - Vector512.Load(center + j);
            (Vector512.Load(first + j) + p).Store(first + j);
            Vector512.FusedMultiplyAdd(p, p, Vector512.Load(second + j)).Store(second + j);
        }

        for (; j < n; j++)
        {
            double p = Simd.Get(x + j) - center[j];
            first[j] += p;
            second[j] = Math.FusedMultiplyAdd(p, p, second[j]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store<T, A, TStore>(T* destination, Vector512<A> value)
        where T : unmanaged
        where A : unmanaged
        where TStore : struct, IStore
    {
        if (TStore.Streams)
        {
            Simd.StoreStreaming(destination, value);
        }
        else
        {
            Simd.Store(destination, value);
        }
    }

    // A vector of columns of four rows, in A and then in double.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddWideFour<T, A, TLine>(
        T* x, T* g, nint pitch, nint j, TLine line,
        ref Vector512<double> gradient, ref Vector512<double> otherGradient, ref Vector512<double> product, ref Vector512<double> otherProduct)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        Vector512<A> p = Simd.Load<T, A>(g), q = Simd.Load<T, A>(g + pitch);
        Vector512<A> r = Simd.Load<T, A>(g + (2 * pitch)), s = Simd.Load<T, A>(g + (3 * pitch));
        Vector512<A> even = p * line.At(Simd.Load<T, A>(x), 0, j);
        Vector512<A> odd = q * line.At(Simd.Load<T, A>(x + pitch), 0, j);
        even = Simd.MultiplyAdd(r, line.At(Simd.Load<T, A>(x + (2 * pitch)), 0, j), even);
        odd = Simd.MultiplyAdd(s, line.At(Simd.Load<T, A>(x + (3 * pitch)), 0, j), odd);
        Simd.AddWidened((p + q) + (r + s), ref gradient, ref otherGradient);
        Simd.AddWidened(even + odd, ref product, ref otherProduct);
    }

    private static void AddWideGradient<T, A, TLine>(T* x, T* g, nint j, nint n, TLine line, double* gradients, double* products)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        nint lanes = Simd.Count<A>();
        for (; j < n; j += lanes)
        {
            nint count = n - j;
            bool whole = count >= lanes;
            Vector512<A> p = whole ? Simd.Load<T, A>(g + j) : Simd.LoadPart<T, A>(g + j, count, default);
            Vector512<A> value = whole ? Simd.Load<T, A>(x + j) : Simd.LoadPart<T, A>(x + j, count, default);
            Simd.AddWidened(p, gradients + j);
            Simd.AddWidened(p * line.At(value, 0, j), products + j);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddGradientPart<T, A, TLine>(
        T* x, T* g, nint row, nint j, nint count, TLine line, Vector512<A> factor, A* gradients, A* products)
        where T : unmanaged
        where A : unmanaged
        where TLine : struct, ILine<A>
    {
        // What lies beyond the run belongs to others: it is neither read nor written.
        Vector512<A> p = Simd.LoadPart<T, A>(g, count, default) * factor;
        Vector512<A> gradient = Simd.LoadPart<A, A>(gradients + j, count, default);
        Vector512<A> product = Simd.LoadPart<A, A>(products + j, count, default);
        Simd.StorePart(gradients + j, count, gradient + p);
        Simd.StorePart(products + j, count, Simd.MultiplyAdd(p, line.At(Simd.LoadPart<T, A>(x, count, default), row, j), product));
    }

    // Rows that are read a moment later, into the first-level cache: a hint, as below.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void PrefetchRowsNear<T>(T* address, nint pitch)
        where T : unmanaged
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch0(address);
            Sse.Prefetch0(address + pitch);
            Sse.Prefetch0(address + (2 * pitch));
            Sse.Prefetch0(address + (3 * pitch));
        }
    }

    // The same into the second level.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchRows<T>(T* address, nint pitch)
        where T : unmanaged
    {
        Prefetch(address);
        Prefetch(address + pitch);
        Prefetch(address + (2 * pitch));
        Prefetch(address + (3 * pitch));
    }

    // Whole blocks of four rows.
    internal static nint Ahead<T>(nint pitch, nint bytes)
        where T : unmanaged => Math.Max(1, bytes / (4 * pitch * sizeof(T))) * 4 * pitch;

    // How many times four rows are summed before the sums are put back: more than one where rows are short.
    private static nint FoursTogether(nint rows, nint pitch) => Math.Clamp(TogetherElements / (4 * pitch), 1, rows / 4);

    // A hint: an address beyond the tensor does no harm.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Prefetch<T>(T* address)
        where T : unmanaged
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch1(address);
        }
    }

    // All lines of a short run.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchRun<T>(T* address, nint n)
        where T : unmanaged
    {
        for (nint i = 0; i < n; i += Simd.LineBytes / sizeof(T))
        {
            Prefetch(address + i);
        }
    }

    // The elements before the first aligned vector: streaming stores want those, and others gain where the run, or what it joins, is long.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static nint Head<T, A, TStore>(T* destination, nint n, bool joins = false)
        where T : unmanaged
        where TStore : struct, IStore =>
        TStore.Streams || n >= LongRun || joins ? Math.Min(n, Simd.BeforeAligned<T, A>(destination)) : 0;
}
