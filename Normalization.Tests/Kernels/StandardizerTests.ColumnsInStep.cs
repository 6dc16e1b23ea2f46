using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>Some columns are written while the sums of others are taken: the bits of panels that go one by one, which the other tests hold against plain loops.</summary>
public sealed unsafe partial class StandardizerTests
{
    // In step as floats, and forward as doubles, where the second-level cache has 512 KB and more; past the caches. Four chunks of 200 rows and one of 3.
    private static readonly ActivationShape ColumnStepShape = new(24, 64, 803);

    // Past the caches on several threads too, whatever the third-level cache.
    private static readonly ActivationShape ManyColumnsShape = new(56, 64, 803);

    [TestMethod]
    public void Forward_ColumnsInStep_GivesTheBitsOfEachPanelAlone()
    {
        foreach (Case layout in ColumnsInStep(ColumnStepShape))
        {
            var inputs = new Inputs(ColumnStepShape, layout, 9);
            CompareForwardAlone<double>(layout, inputs.Rounded<double>());
            CompareForwardAlone<float>(layout, (inputs with { HasAffine = false }).Rounded<float>());
            CompareForwardAlone<float>(layout, Unsuited(layout, inputs).Rounded<float>());
        }
    }

    [TestMethod]
    public void Forward_ColumnsInStepWithThreshold_GivesTheBitsOfEachPanelAlone()
    {
        Case layout = ColumnsInStep(ColumnStepShape).First(layout => layout.Layout.ColumnsPerSet == 1);
        Inputs inputs = new Inputs(ColumnStepShape, layout, 10).Rounded<float>();
        CompareForwardAlone<float>(layout with { Layout = layout.Layout with { Uncentered = true } }, inputs, threshold: 0.25f);
    }

    [TestMethod]
    public void Backward_ColumnsInStep_GivesTheBitsOfEachPanelAlone()
    {
        foreach (Case layout in ColumnsInStep(ColumnStepShape))
        {
            var inputs = new Inputs(ColumnStepShape, layout, 11);
            ComparePanelsAlone<float>(layout, (inputs with { HasAffine = false }).Rounded<float>(), aside: 0);
            ComparePanelsAlone<float>(layout with { Layout = layout.Layout with { Uncentered = true } }, inputs.Rounded<float>(), aside: 0);
            ComparePanelsAlone<float>(layout, Unsuited(layout, inputs).Rounded<float>(), aside: 0);
        }
    }

    // What does not begin with a cache line goes panel by panel.
    [TestMethod]
    public void Backward_ColumnsInStep_GivesTheParameterGradientsOfPanelsOneByOne()
    {
        foreach (Case layout in ColumnsInStep(ColumnStepShape))
        {
            Inputs inputs = new Inputs(ColumnStepShape, layout, 14).Rounded<float>();
            using var inStep = new Buffers<float>(layout, inputs, aside: 0);
            using var oneByOne = new Buffers<float>(layout, inputs, aside: 3);
            NumericAssert.SameBits<float>(InputGradient(layout, oneByOne).Read(layout.Name), InputGradient(layout, inStep).Read(layout.Name), layout.Name);
            NumericAssert.SameBits<float>(oneByOne.WeightGradient.Read(layout.Name), inStep.WeightGradient.Read(layout.Name), $"{layout.Name}: weight gradient");
            NumericAssert.SameBits<float>(oneByOne.BiasGradient.Read(layout.Name), inStep.BiasGradient.Read(layout.Name), $"{layout.Name}: bias gradient");
        }
    }

    [TestMethod]
    public void ForwardBackward_ColumnsInStepOverTheOutputGradient_MatchPlainLoops()
    {
        foreach (Case layout in ColumnsInStep(ColumnStepShape))
        {
            Check<float>(layout, new Inputs(ColumnStepShape, layout, 12).Rounded<float>(), Epsilon, inPlace: true);
        }
    }

    // The first columns of each task are summed alone.
    [TestMethod]
    public void ForwardBackward_ColumnsInStep_SameBitsOnThreeThreads()
    {
        foreach (Case layout in ColumnsInStep(ManyColumnsShape))
        {
            CompareThreads(layout, new Inputs(ManyColumnsShape, layout, 13).Rounded<float>(), aside: 0);
        }
    }

    [TestMethod]
    [DataRow(32, 32, 3276, 1, StoreKind.Streaming, 0, true, DisplayName = "four fifths of 512 KB")]
    [DataRow(32, 32, 3277, 1, StoreKind.Streaming, 0, false, DisplayName = "a row more")]
    [DataRow(32, 32, 1638, 2, StoreKind.Streaming, 0, true, DisplayName = "of two tensors")]
    [DataRow(32, 32, 1639, 2, StoreKind.Streaming, 0, false, DisplayName = "of two, a row more")]
    [DataRow(96, 3, 64, 1, StoreKind.Fetching, 4, true, DisplayName = "64 rows, stored by way of the caches")]
    [DataRow(96, 3, 63, 1, StoreKind.Fetching, 4, false, DisplayName = "63 rows")]
    [DataRow(48, 3, 64, 1, StoreKind.Streaming, 0, false, DisplayName = "columns that leave some over")]
    [DataRow(96, 2, 64, 1, StoreKind.Streaming, 0, false, DisplayName = "sets that 32 columns cut")]
    [DataRow(96, 3, 64, 1, StoreKind.Cached, 0, false, DisplayName = "nothing is fetched")]
    [DataRow(96, 3, 64, 1, StoreKind.Streaming, 4, false, DisplayName = "past the caches amid a line")]
    public void ColumnsInStep_AtItsLimits_LooksAtColumnsAndPanels(
        int channels, int groups, int positions, int tensors, object store, int address, bool expected)
    {
        ReductionLayout layout = Layouts.PerSampleAndGroup(new ActivationShape(8, channels, positions), MemoryOrder.ChannelsLast, groups);
        Assert.AreEqual(expected, Standardizer.ColumnsInStep(layout, (StoreKind)store, (float*)address, tensors, cacheBytes: 1 << 19));
    }

    [TestMethod]
    public void ColumnsInStep_Doubles_OnlyForward()
    {
        ReductionLayout layout = Layouts.PerSampleAndGroup(new ActivationShape(8, 16, 64), MemoryOrder.ChannelsLast, 16);
        Assert.IsTrue(Standardizer.ColumnsInStep<double>(layout, StoreKind.Streaming, null, tensors: 1, cacheBytes: 1 << 20));
        Assert.IsFalse(Standardizer.ColumnsInStep<double>(layout, StoreKind.Streaming, null, tensors: 2, cacheBytes: 1 << 20));
    }

    // With sets of one column and of several.
    private static Case[] ColumnsInStep(ActivationShape shape)
    {
        Case[] cases = [.. Cases(shape).Where(layout => Takes<float>(layout, tensors: 2) && Takes<double>(layout, tensors: 1))];
        Assert.HasCount(2, cases);
        return cases;

        static bool Takes<T>(Case layout, int tensors)
            where T : unmanaged =>
            Standardizer.ColumnsInStep<T>(layout.Layout, StoreKind.Streaming, null, tensors, cacheBytes: 1 << 19)
            && Standardizer.ByPanel<T>(layout.Layout, new Chunking(layout.Layout));
    }

    // One set whose lines do not suit float, one whose gradients' sums do not hold in it: of the first columns and of the last.
    private static Inputs Unsuited(Case layout, Inputs inputs)
    {
        for (int i = 0; i < inputs.X.Length; i++)
        {
            inputs.X[i] *= layout.Set[i] == 1 ? 1e25 : 1;
            inputs.G[i] *= layout.Set[i] == layout.Sets - 1 ? 1e-33 : 1;
        }

        return inputs;
    }

    private static void CompareForwardAlone<T>(Case layout, Inputs inputs, T? threshold = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        using var together = new Buffers<T>(layout, inputs);
        using var alone = new Buffers<T>(layout, inputs);
        ReductionLayout panels = layout.Layout;
        T[] least = [.. Enumerable.Repeat(threshold ?? T.Zero, panels.Columns)];
        fixed (T* values = least)
        {
            T* thresholds = threshold is null ? null : values;
            Pass(panels, together, together.Statistics, thresholds);
            for (int panel = 0; panel < panels.Panels; panel++)
            {
                PanelPlace place = panels.Place(panel);
                Pass(panels with { Outer = 1, Offset = place.Offset }, alone, alone.Statistics.From(place.Slot), thresholds);
            }
        }

        NumericAssert.SameBits<T>(alone.Y.Read(layout.Name), together.Y.Read(layout.Name), layout.Name);
        NumericAssert.SameBits<double>(alone.AllStatistics.Read(layout.Name), together.AllStatistics.Read(layout.Name), $"{layout.Name}: moments");

        static void Pass(ReductionLayout layout, Buffers<T> buffers, Statistics statistics, T* threshold) => Standardizer.Forward(
            layout, buffers.X.Pointer, buffers.Y.Pointer, buffers.Weight is null ? null : buffers.Weight.Pointer, buffers.Bias is null ? null : buffers.Bias.Pointer,
            statistics, Epsilon, threshold);
    }
}
