using System.Runtime.CompilerServices;

namespace Normalization.Core.Kernels;

/// <content>Sets of one chunk that lie along memory, and blocks that take turns.</content>
internal unsafe partial struct BackwardJob<T>
{
    // As in the forward pass, a few sets are summed before they are written. What a run costs beside its elements counts here: loops take
    // the runs of all these sets in one call, unless weights go by element.
    [SkipLocalsInit]
    private readonly void Rows<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        int together = Standardizer.PanelsTogether(Layout, Standardizer.BackwardTogether);
        Run<T>* runs = stackalloc Run<T>[checked((int)(together * Layout.PanelElements / RowRun))];
        for (int first = start; first < end; first += together)
        {
            int count = Math.Min(together, end - first);
            if (_phase == BackwardPhase.Panels)
            {
                SumRows(first, count, runs);
            }

            WriteRows<TStore>(first, 1, count, 0, RowRun, runs);
        }
    }

    // Blocks that take turns, each by itself.
    [SkipLocalsInit]
    private readonly void SumBlocks(int start, int end)
    {
        int together = Standardizer.PanelsTogether(Layout, Standardizer.BackwardTogether);
        Run<T>* runs = stackalloc Run<T>[together];
        for (int first = start; first < end; first += together)
        {
            int count = Math.Min(together, end - first);
            SumRuns(first, count, runs);
            for (int i = 0; i < count; i++)
            {
                double* gradient = BlockSums + first + i;
                double* product = gradient + Layout.Panels;
                *gradient = 0;
                *product = 0;
                AddSums(runs + i, Layout.Place(first + i), ref *gradient, ref *product);
            }
        }
    }

    /// <summary>Adds the blocks' sums, in block order, to make those of panels whose blocks take turns, and from them the means of the input gradient.</summary>
    public readonly void CombineBlocks()
    {
        nint width = Layout.Inner;
        nint all = (nint)Layout.Panels * Layout.Blocks;
        for (int outer = 0, panel = 0; outer < Layout.Outer; outer++)
        {
            double* gradients = BlockSums + (outer * Layout.Blocks * width);
            double* products = gradients + all;
            for (nint block = 1; block < Layout.Blocks; block++)
            {
                Simd.AddTo(gradients, gradients + (block * width), width);
                Simd.AddTo(products, products + (block * width), width);
            }

            for (nint inner = 0; inner < width; inner++, panel++)
            {
                double* sums = SumsOf(panel);
                Clear(sums, SumsPerPanel(Layout));
                sums[2] = gradients[inner];
                sums[3] = products[inner];
                FinishSums(Layout.Place(panel), sums);
            }
        }
    }

    /// <summary>Makes the lines that outer panels share once, as <see cref="ForwardJob{T}.ShareLines"/> does.</summary>
    /// <param name="runs">Room for as many as there are slots.</param>
    public void ShareLines(Run<T>* runs)
    {
        Run<T>* next = runs;
        for (int outer = 0; outer < Layout.Outer; outer += Layout.SharingOuters)
        {
            for (int inner = 0; inner < Layout.Inner; inner++, next++)
            {
                PanelPlace place = Layout.Place((outer * Layout.Inner) + inner);
                RunLines lines = LinesOf(place.Slot, Weight == null ? 1 : Simd.Get(Weight + place.Affine));
                if (!lines.SuitsSingle && typeof(T) == typeof(float))
                {
                    return;
                }

                lines.To(next);
                next->Offset = inner * Layout.InnerStride;
                next->Weight = Simd.Scalar<T>(1);
            }
        }

        _repeated = runs;
    }

    private readonly void WriteRepeated<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        for (int panel = start, count; panel < end; panel += count)
        {
            (nint offset, nint slot, count) = Layout.InnerPanels(panel, end);
            Loops.InputGradientOfRuns<T, TStore>(X + offset, G + offset, DX + offset, null, _repeated + slot, count, Layout.BlockLength, Ahead);
        }
    }

    // Elements that share a line, or lie along the weights.
    private readonly nint RowRun => Layout.RunLength == 0 ? Layout.BlockLength : Layout.RunLength;

    // The sums of the runs of consecutive panels, in T.
    private readonly void SumRuns(int first, int count, Run<T>* runs)
    {
        nint length = RowRun;
        bool byElement = Layout.RunLength == 0;
        Run<T>* next = runs;
        for (int panel = first; panel < first + count; panel++)
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

        if (!byElement)
        {
            Loops.GradientSumsOfRuns(X, G, FetchedToWrite, runs, (int)(next - runs), length, SumsAhead);
            return;
        }

        for (Run<T>* run = runs; run < next; run++)
        {
            SumRow(run, SumsAhead);
        }
    }

    // Weighted by element; the bits of a row in SumRowsAndColumns.
    private readonly void SumRow(Run<T>* run, nint ahead)
    {
        T* written = FetchedToWrite == null ? null : FetchedToWrite + run->Offset;
        Loops.GradientSumsOfRows(X + run->Offset, G + run->Offset, written, Weight + run->Affine, run, 1, RowRun, 0, ahead, null, null);
    }

    // What is fetched before it is written: what is read there is fetched already, and what is streamed is not read.
    private readonly T* FetchedToWrite => Store == StoreKind.Fetching && DX != G ? DX : null;

    // The sums of the runs, and from them the means of the input gradient.
    private readonly void SumRows(int first, int count, Run<T>* runs)
    {
        SumRuns(first, count, runs);
        bool byElement = Layout.RunLength == 0;
        Run<T>* next = runs;
        int perPanel = SumsPerPanel(Layout);
        int runsPerBlock = byElement ? 1 : Layout.Runs;
        for (int panel = first; panel < first + count; panel++)
        {
            PanelPlace place = Layout.Place(panel);
            double* sums = SumsOf(panel);
            Clear(sums, perPanel);
            double* gradients = byElement ? sums : sums + 2;
            double* products = gradients + runsPerBlock;
            for (int block = 0; block < Layout.Blocks; block++)
            {
                for (int run = 0; run < runsPerBlock; run++, next++)
                {
                    AddSums(next, place, ref gradients[run], ref products[run]);
                }
            }

            FinishSums(place, sums);
        }
    }

    // A run's sums as parts of its set's; taken again in double where float does not hold them.
    private readonly void AddSums(Run<T>* run, PanelPlace place, ref double gradient, ref double product)
    {
        double mean = Statistics.Mean[place.Slot];
        if (Simd.HoldsSingle(run->Gradient, run->Product))
        {
            gradient += run->Gradient;
            product += Math.FusedMultiplyAdd(Simd.Round<T>(mean) - mean, run->Gradient, run->Product) * Statistics.InverseStd[place.Slot];
        }
        else if (Layout.RunLength == 0)
        {
            WideRunSums(place.Slot, run->Offset, RowRun, new ElementAffine<T, double>(Weight + place.Affine, null), ref gradient, ref product);
        }
        else
        {
            WideRunSums(place.Slot, run->Offset, RowRun, default(NoAffine<double>), ref gradient, ref product);
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
                    lines.To(next);
                    next->Weight = Simd.Scalar<T>(folded || byElement || Weight == null ? 1 : Simd.Get(Weight + run));
                    next++;
                }
            }
        }

        Loops.InputGradientOfRuns<T, TStore>(X, G, DX, byElement ? Weight : null, runs, (int)(next - runs), length, Ahead);
    }

    // WriteRows of a tile of columns that begins at start, whose gradients are added to those staged in the same read. Where a row does not suit
    // float the two are done apart, and the other rows have the same bits.
    private readonly void WriteRowsAndColumns<TStore>(int firstPanel, int rows, nint start, nint length, T* gradients, T* products, Run<T>* runs)
        where TStore : struct, IStore
    {
        bool suits = true;
        for (int row = 0, panel = firstPanel; row < rows; row++, panel += Layout.Inner)
        {
            RunLines lines = LinesOf(panel, 1);
            double inverse = Statistics.InverseStd[panel];
            suits &= typeof(T) == typeof(double) || (lines.SuitsSingle && ElementGradientsSuit(panel));
            lines.To(runs + row);
            runs[row].UnitSlope = Simd.Scalar<T>(inverse);
            runs[row].UnitIntercept = Simd.Scalar<T>((Simd.Round<T>(lines.Mean) - lines.Mean) * inverse);
        }

        if (suits)
        {
            PanelPlace place = Layout.Place(firstPanel);
            nint offset = place.Offset + start;
            Loops.InputGradientOfRows<T, TStore>(
                X + offset, G + offset, DX + offset, Weight + place.Affine + start, runs, rows, length, Layout.OuterStride, Ahead, gradients, products);
            return;
        }

        AddElementGradients(firstPanel, rows, start, length, Ahead, gradients, products);
        WriteRows<TStore>(firstPanel, Layout.Inner, rows, start, length, runs);
    }
}
