using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

/// <content>Sets of one chunk that lie along memory.</content>
internal unsafe partial struct BackwardJob<T>
{
    // As in the forward pass, a few sets are summed before they are written. What a run costs beside its elements counts here: loops take
    // the runs of all these sets in one call.
    [SkipLocalsInit]
    private readonly void Rows<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        int together = Standardizer.PanelsTogether(Layout, Standardizer.BackwardTogether);
        Run<T>* runs = stackalloc Run<T>[checked((int)(together * Layout.PanelElements / RowRun))];
        for (int first = start; first < end; first += together)
        {
            int count = Math.Min(together, end - first);
            SumRows(first, 1, count, runs);
            WriteRows<TStore>(first, 1, count, 0, RowRun, runs);
        }
    }

    // Elements that share a line, or lie along the weights.
    private readonly nint RowRun => Layout.RunLength == 0 ? Layout.BlockLength : Layout.RunLength;

    // The sums of panels a step apart, and from them the means of the input gradient. Sums that float does not hold are taken again in double.
    private readonly void SumRows(int first, int step, int count, Run<T>* runs)
    {
        nint length = RowRun;
        bool byElement = Layout.RunLength == 0;
        Run<T>* next = runs;
        for (int i = 0, panel = first; i < count; i++, panel += step)
        {
            PanelPlace place = Layout.Place(panel);
            double mean = Statistics.Mean[place.Slot];
            T center = Simd.Scalar<T>(mean);
            nint offset = place.Offset;
            for (int block = 0; block < Layout.Blocks; block++, offset += Layout.BlockStride)
            {
                for (nint done = 0; done < Layout.BlockLength; done += length, next++)
                {
                    next->Offset = offset + done;
                    next->Affine = place.Affine;
                    next->Center = center;
                }
            }
        }

        Loops.GradientSumsOfRuns(X, G, Store == StoreKind.Fetching && DX != G ? DX : null, byElement ? Weight : null, runs, (int)(next - runs), length, SumsAhead);
        next = runs;
        int perPanel = SumsPerPanel(Layout);
        int runsPerBlock = byElement ? 1 : Layout.Runs;
        for (int i = 0, panel = first; i < count; i++, panel += step)
        {
            PanelPlace place = Layout.Place(panel);
            double mean = Statistics.Mean[place.Slot];
            double inverse = Statistics.InverseStd[place.Slot];
            double left = Simd.Round<T>(mean) - mean;
            double* sums = Sums + ((nint)panel * 2 * perPanel);
            Clear(sums, perPanel);
            double* gradients = byElement ? sums : sums + 2;
            double* products = gradients + runsPerBlock;
            for (int block = 0; block < Layout.Blocks; block++)
            {
                for (int run = 0; run < runsPerBlock; run++, next++)
                {
                    if (Simd.HoldsSingle(next->Gradient, next->Product))
                    {
                        gradients[run] += next->Gradient;
                        products[run] += Math.FusedMultiplyAdd(left, next->Gradient, next->Product) * inverse;
                    }
                    else if (byElement)
                    {
                        WideRunSums(
                            place.Slot, next->Offset, length, new ElementAffine<T, double>(Weight + place.Affine, null), ref gradients[run], ref products[run]);
                    }
                    else
                    {
                        WideRunSums(place.Slot, next->Offset, length, default(NoAffine<double>), ref gradients[run], ref products[run]);
                    }
                }
            }

            FinishSums(place, sums);
        }
    }

    // Runs that do not suit float are written at once, in double. Where weights go by element, a run is any part of the row.
    private readonly void WriteRows<TStore>(int first, int step, int count, nint start, nint length, Run<T>* runs)
        where TStore : struct, IStore
    {
        bool byElement = Layout.RunLength == 0;
        bool folded = Layout.OneWeightPerSet;
        nint end = byElement ? start + length : Layout.BlockLength;
        Run<T>* next = runs;
        for (int i = 0, panel = first; i < count; i++, panel += step)
        {
            PanelPlace place = Layout.Place(panel);
            RunLines lines = LinesOf(place.Slot, folded && Weight != null ? Simd.Get(Weight + place.Affine) : 1);
            nint offset = place.Offset;
            for (int block = 0; block < Layout.Blocks; block++, offset += Layout.BlockStride)
            {
                nint run = place.Affine;
                for (nint done = start; done < end; done += length, run++)
                {
                    if (!lines.SuitsSingle && typeof(T) == typeof(float))
                    {
                        ApplyRow<TStore>(place.Slot, place.Affine, offset + done, done, length);
                        continue;
                    }

                    next->Offset = offset + done;
                    next->Affine = place.Affine + done;
                    next->Center = Simd.Scalar<T>(lines.Mean);
                    next->Slope = Simd.Scalar<T>(lines.Slope);
                    next->Intercept = Simd.Scalar<T>(lines.Intercept);
                    next->GradientCenter = Simd.Scalar<T>(lines.MeanGradient);
                    next->GradientSlope = Simd.Scalar<T>(lines.Scale);
                    next->Weight = Simd.Scalar<T>(folded || byElement || Weight == null ? 1 : Simd.Get(Weight + run));
                    next++;
                }
            }
        }

        Loops.InputGradientOfRuns<T, TStore>(X, G, DX, byElement ? Weight : null, runs, (int)(next - runs), length, Ahead);
    }
}
