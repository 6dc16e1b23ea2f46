using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <content>Sets of one chunk that lie along memory, and blocks that take turns.</content>
internal unsafe partial struct BackwardJob<T>
{
    private const int Eight = Simd.Lanes;

    // As in the forward pass, a few sets are summed before they are written. What a run costs beside its elements counts here: loops take
    // the runs of all these sets in one call, unless weights go by element.
    [SkipLocalsInit]
    private readonly void Rows<TStore>(int start, int end)
        where TStore : struct, IStore
    {
        int together = Standardizer.PanelsTogether(Layout, Standardizer.TogetherBackward(Layout));
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
        int together = Standardizer.PanelsTogether(Layout, Standardizer.TogetherBackward(Layout));
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
                AddSums(runs + i, Layout.Place(first + i).Slot, RowRun, ref *gradient, ref *product);
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
            SumRow(run, length, SumsAhead);
        }
    }

    // Of a chunk, weighted by element; the bits of a row in SumRowsAndColumns.
    private readonly void SumRow(Run<T>* run, nint length, nint ahead)
    {
        T* written = FetchedToWrite == null ? null : FetchedToWrite + run->Offset;
        Loops.GradientSumsOfRows(X + run->Offset, G + run->Offset, written, Weight + run->Affine, run, 1, length, 0, ahead, null, null);
    }

    // What is fetched before it is written: what is read there is fetched already, and what is streamed is not read.
    private readonly T* FetchedToWrite => Store == StoreKind.Fetching && DX != G ? DX : null;

    // The sums of the runs, and from them the means of the input gradient.
    private readonly void SumRows(int first, int count, Run<T>* runs)
    {
        SumRuns(first, count, runs);
        int runsPerBlock = Layout.RunLength == 0 ? 1 : Layout.Runs;
        bool byEights = Layout.RunLength != 0 && (Layout.Blocks == 1 || runsPerBlock == 1);
        for (int done = 0, some; done < count; done += some, runs += some * Layout.Blocks * runsPerBlock)
        {
            bool eight = byEights && count - done >= Eight;
            some = eight ? Eight : count - done;
            if (!eight || !SumSets(first + done, runs, Layout.Blocks * runsPerBlock))
            {
                SumPanels(first + done, some, runs, runsPerBlock);
            }
        }
    }

    // Eight panels of one block, or of one weight each, what a set costs beside its elements in vectors; false where float does not hold the sums of a
    // run. The same bits as one by one.
    [SkipLocalsInit]
    private readonly bool SumSets(int first, Run<T>* runs, int runsPerPanel)
    {
        double* gradients = stackalloc double[3 * Eight];
        double* products = gradients + Eight;
        double* weights = products + Eight;
        T* centers = stackalloc T[Eight];
        double* sums = SumsOf(first) + 2;
        nint pitch = SumsPitch;
        bool folded = Layout.OneWeightPerSet;
        Vector512<double> mean = Vector512.Load(Statistics.Mean + first);
        Vector512<double> inverse = Vector512.Load(Statistics.InverseStd + first);
        Simd.Store(centers, mean);
        Vector512<double> left = Simd.Load(centers) - mean;
        Vector512<double> gradient = default, product = default;
        for (int index = 0; index < runsPerPanel; index++)
        {
            Run<T>* run = runs + index;
            for (int k = 0; k < Eight; k++, run += runsPerPanel)
            {
                gradients[k] = run->Gradient;
                products[k] = run->Product;
            }

            Vector512<double> some = Vector512.Load(gradients);
            Vector512<double> scaled = Vector512.Load(products);
            if (Vector512.AnyWhereAllBitsSet(~Simd.HoldSingle(some, scaled).AsInt64()))
            {
                return false;
            }

            scaled = Vector512.FusedMultiplyAdd(left, some, scaled) * inverse;
            if (!folded)
            {
                scaled.Store(products);
                StoreSums(gradients, products, sums + index, runsPerPanel, pitch);
                Vector512<double> weight = WeightsOf(runs, index, runsPerPanel, weights);
                some *= weight;
                scaled *= weight;
            }

            gradient += some;
            product += scaled;
        }

        if (folded)
        {
            gradient.Store(gradients);
            product.Store(products);
            StoreSums(gradients, products, sums, 1, pitch);
        }

        Vector512<double> size = Vector512.Create((double)Layout.SetSize);
        product /= size;
        if (Statistics.ProductFactor != null)
        {
            product *= Vector512.Load(Statistics.ProductFactor + first);
        }

        (Layout.Uncentered ? default : gradient / size).Store(MeanGradient + first);
        product.Store(MeanProduct + first);
        return true;
    }

    // To where the sums of eight panels lie, a pitch apart; a product so many places after its gradient.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreSums(double* gradients, double* products, double* sums, int apart, nint pitch)
    {
        for (int k = 0; k < Eight; k++, sums += pitch)
        {
            sums[0] = gradients[k];
            sums[apart] = products[k];
        }
    }

    private readonly Vector512<double> WeightsOf(Run<T>* runs, int index, int runsPerPanel, double* weights)
    {
        if (Weight == null)
        {
            return Vector512<double>.One;
        }

        for (int k = 0; k < Eight; k++, runs += runsPerPanel)
        {
            weights[k] = Simd.Get(Weight + runs->Affine + index);
        }

        return Vector512.Load(weights);
    }

    private readonly void SumPanels(int first, int count, Run<T>* next, int runsPerBlock)
    {
        bool byElement = Layout.RunLength == 0;
        int perPanel = SumsPerPanel(Layout);
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
                    AddSums(next, place.Slot, RowRun, ref gradients[run], ref products[run]);
                }
            }

            FinishSums(place, sums);
        }
    }

    // A run's sums as parts of its set's; taken again in double where float does not hold them.
    private readonly void AddSums(Run<T>* run, nint slot, nint length, ref double gradient, ref double product)
    {
        double mean = Statistics.Mean[slot];
        if (Simd.HoldsSingle(run->Gradient, run->Product))
        {
            gradient += run->Gradient;
            product += Math.FusedMultiplyAdd(Simd.Round<T>(mean) - mean, run->Gradient, run->Product) * Statistics.InverseStd[slot];
        }
        else if (Layout.RunLength == 0)
        {
            WideRunSums(slot, run->Offset, length, new ElementAffine<T, double>(Weight + run->Affine, null), ref gradient, ref product);
        }
        else
        {
            WideRunSums(slot, run->Offset, length, default(NoAffine<double>), ref gradient, ref product);
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
            if (!byElement && i % Eight == 0 && count - i >= Eight && LinesOfSets(panel, next))
            {
                i += Eight - 1;
                panel += Eight - 1;
                next += Eight * Layout.PanelElements / length;
                continue;
            }

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

    // The runs of eight panels, with their lines; false where one of them does not suit float. The same bits as one by one.
    [SkipLocalsInit]
    private readonly bool LinesOfSets(int first, Run<T>* runs)
    {
        // Within one outer panel, weights and statistics follow each other too.
        if ((first % Layout.Inner) + Eight > Layout.Inner)
        {
            return false;
        }

        PanelPlace place = Layout.Place(first);
        nint slot = place.Slot;
        bool folded = Layout.OneWeightPerSet;
        double* weights = stackalloc double[Eight];
        T* lines = stackalloc T[5 * Eight];
        for (int k = 0; k < Eight; k++)
        {
            weights[k] = !folded || Weight == null ? 1 : Simd.Get(Weight + place.Affine + (k * Layout.AffinePerInner));
        }

        Vector512<double> mean = Vector512.Load(Statistics.Mean + slot);
        Vector512<double> inverse = Vector512.Load(Statistics.InverseStd + slot);
        Vector512<double> middle = Vector512.Load(MeanGradient + slot);
        Vector512<double> scale = inverse * Vector512.Load(weights);
        Vector512<double> slope = -(inverse * scale) * Vector512.Load(MeanProduct + slot);
        if (typeof(T) == typeof(float) && Vector512.AnyWhereAllBitsSet(
            ColumnLines.Unsuited(mean, inverse, scale) | ColumnLines.Beyond(slope) | ColumnLines.Beyond(middle) | ColumnLines.Vanishing(slope, inverse)))
        {
            return false;
        }

        Simd.Store(lines, mean);
        Simd.Store(lines + Eight, slope);
        Simd.Store(lines + (3 * Eight), middle);
        Simd.Store(lines + (4 * Eight), scale);
        Vector512<double> left = folded ? (Simd.Load(lines + (3 * Eight)) - middle) * scale : default;
        left = Vector512.FusedMultiplyAdd(Simd.Load(lines) - mean, slope, left);
        Simd.Store(lines + (2 * Eight), typeof(T) == typeof(double) ? default : left); // as Left has it
        for (int k = 0; k < Eight; k++)
        {
            T* weight = folded || Weight == null ? null : Weight + place.Affine + (k * Layout.AffinePerInner);
            nint offset = place.Offset + (k * Layout.InnerStride);
            for (int block = 0; block < Layout.Blocks; block++, offset += Layout.BlockStride)
            {
                for (nint run = 0, done = 0; done < Layout.BlockLength; done += Layout.RunLength, run++, runs++)
                {
                    runs->Offset = offset + done;
                    runs->Center = lines[k];
                    runs->Slope = lines[Eight + k];
                    runs->Intercept = lines[(2 * Eight) + k];
                    runs->GradientCenter = lines[(3 * Eight) + k];
                    runs->GradientSlope = lines[(4 * Eight) + k];
                    runs->Weight = weight == null ? Simd.Scalar<T>(1) : weight[run];
                }
            }
        }

        return true;
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
