using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <content>Panels of one short run each, eight at a time: they are written while the next eight are summed, and what a set costs beside its elements is taken in vectors.</content>
internal unsafe partial struct ForwardJob<T>
{
    private const int Eight = Simd.Lanes;

    // The same bits as one after the other.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private readonly void RowsInStep<TStore, TDeviation>(int start, int end)
        where TStore : struct, IStore
        where TDeviation : struct, IDeviation
    {
        Chunk chunk = Chunks[0];
        Run<T>* runs = stackalloc Run<T>[Eight];
        SummedRun* next = stackalloc SummedRun[Eight];
        byte* memory = stackalloc byte[(2 * Eight * Simd.LineBytes) + Simd.LineBytes];
        double* lanes = Simd.Aligned<double>(memory);
        SumRows(start, Math.Min(end, start + Eight), chunk);
        for (int first = start, last; first < end; first = last)
        {
            last = Math.Min(end, first + Eight);
            int following = Math.Min(end - last, Eight);
            FinishColumns(Statistics.PopulationVariance + first, Statistics.InverseStd + first, chunk.Elements, last - first);
            Adjustment.Run(first, last - first);
            if (!LinesOf(first, last - first, runs))
            {
                WriteRows<TStore>(first, last, chunk.Length, runs);
                SumRows(last, last + following, chunk);
                continue;
            }

            for (int k = 0; k < following; k++)
            {
                next[k].Offset = Layout.Place(last + k).Offset;
            }

            T* weight = Layout.RunLength == 0 ? Weight : null;
            T* bias = Layout.RunLength == 0 ? Bias : null;
            Loops.StandardizeRunsInStep<T, TDeviation, TStore>(X, Y, weight, bias, runs, next, following, chunk.Length, Ahead, lanes);
            Loops.StandardizeRuns<T, TStore>(X, Y, weight, bias, runs + following, last - first - following, chunk.Length, Ahead);
            MomentsOf(last, following, next, lanes, chunk);
        }
    }

    private readonly void SumRows(int first, int last, Chunk chunk)
    {
        for (int panel = first; panel < last; panel++)
        {
            RowMoments(X + Layout.Place(panel).Offset, chunk, out Statistics.Mean[panel], out Statistics.PopulationVariance[panel]);
        }
    }

    // Moments, for as many panels from one on.
    [SkipLocalsInit]
    private readonly void MomentsOf(int panel, int count, SummedRun* sums, double* lanes, Chunk chunk)
    {
        double* centers = stackalloc double[Eight];
        for (int k = 0; k < count; k++)
        {
            centers[k] = sums[k].Center;
        }

        Vector512<double> firsts = Simd.SumEach(lanes);
        Vector512<double> seconds = Simd.SumEach(lanes + (Eight * Eight));
        Vector512<double> shifts = Layout.Uncentered ? default : firsts * (1.0 / chunk.Elements);
        Vector512<double> squares = seconds - (firsts * shifts);
        Simd.StorePart(Statistics.Mean + panel, count, Vector512.Load(centers) + shifts);
        Simd.StorePart(Statistics.PopulationVariance + panel, count, squares);
        if (typeof(T) == typeof(double) || Layout.Uncentered || Vector512.GreaterThanOrEqualAll(squares, seconds * LeastShare))
        {
            return;
        }

        for (int k = 0; k < count; k++)
        {
            if (!(squares[k] >= seconds[k] * LeastShare))
            {
                CenteredMoments(X + sums[k].Offset, chunk, out Statistics.Mean[panel + k], out Statistics.PopulationVariance[panel + k]);
            }
        }
    }

    // LineOf, for up to eight panels of one run each; false where one does not suit float.
    [SkipLocalsInit]
    private readonly bool LinesOf(int first, int count, Run<T>* runs)
    {
        bool byElement = Layout.RunLength == 0;
        double* scales = stackalloc double[2 * Eight];
        double* biases = scales + Eight;
        T* lines = stackalloc T[3 * Eight];
        for (int k = 0; k < count; k++)
        {
            PanelPlace place = Layout.Place(first + k);
            runs[k].Offset = place.Offset;
            runs[k].Affine = place.Affine;
            scales[k] = byElement || Weight == null ? 1 : Simd.Get(Weight + place.Affine);
            biases[k] = byElement || Bias == null ? 0 : Simd.Get(Bias + place.Affine);
        }

        Vector512<double> mean = Simd.LoadPart<double, double>(Statistics.Mean + first, count, default);
        Vector512<double> inverse = Simd.LoadPart<double, double>(Statistics.InverseStd + first, count, default);
        Vector512<double> slope = inverse * Simd.LoadPart<double, double>(scales, count, default);
        Simd.Store(lines, mean);
        Simd.Store(lines + Eight, slope);
        Simd.Store(lines + (2 * Eight), Simd.LoadPart<double, double>(biases, count, default) + ((Simd.Load(lines) - mean) * slope));
        for (int k = 0; k < count; k++)
        {
            runs[k].Center = lines[k];
            runs[k].Slope = lines[Eight + k];
            runs[k].Intercept = lines[(2 * Eight) + k];
        }

        return typeof(T) == typeof(double) || !Vector512.AnyWhereAllBitsSet(ColumnLines.Unsuited(mean, inverse, slope));
    }
}
