using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>
/// Moments, standardization and its gradient over every layout, against plain loops in double that know of a layout only which
/// elements share statistics and which a weight. Buffers end where memory ends.
/// </summary>
[TestClass]
[DoNotParallelize]
public sealed unsafe partial class StandardizerTests
{
    private const double Epsilon = 1e-5;
    private static readonly int[] Lengths = [1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65, 70];

    // Large enough to be worked on in the order of memory, in ghosts of half the samples too; runs are no whole vectors. Float leaves past the caches.
    private static readonly ActivationShape TurnsShape = new(24, 663, 101);

    // The same with blocks longer than a chunk, of sets that do not stay in the second-level cache; in ghosts, backward does.
    private static readonly ActivationShape LongTurnsShape = new(24, 6, 11003);

    // Large enough for panels to be written while others are summed: of several chunks, of one, and past the caches.
    private static readonly ActivationShape[] StepShapes = [new(12, 6, 7301), new(90, 6, 983), new(14, 6, 12512)];

    // Channels of several blocks and groups of several runs go in step backward here, of floats and of doubles, whatever the second-level cache; the second
    // shape leaves past the caches as floats too.
    private static readonly ActivationShape[] BackwardStepShapes = [new(4, 18, 7304), new(2, 44, 12512)];

    private int _before;

    [TestInitialize]
    public void OneThread()
    {
        _before = KernelThreads.Count;
        KernelThreads.Count = 1;
    }

    [TestCleanup]
    public void Restore() => KernelThreads.Count = _before;

    [TestMethod]
    public void ForwardBackward_AwkwardNumbersOfPositions_MatchPlainLoops()
    {
        foreach (int positions in Lengths)
        {
            CheckAll(new ActivationShape(4, 3, positions), positions);
        }
    }

    [TestMethod]
    public void ForwardBackward_AwkwardNumbersOfChannels_MatchPlainLoops()
    {
        foreach (int channels in Lengths)
        {
            CheckAll(new ActivationShape(4, channels, 2), channels);
            CheckAll(new ActivationShape(4, channels), channels);
        }
    }

    [TestMethod]
    [DataRow(4, 2, 8999)]
    [DataRow(4, 523, 3)]
    [DataRow(70, 131, 1)]
    [DataRow(70, 144, 1)]
    [DataRow(300, 70, 1, DisplayName = "columns of several chunks")]
    [DataRow(3, 41, 500, DisplayName = "columns of several chunks in each sample")]
    [DataRow(6, 195, 1, DisplayName = "groups wider than small sets")]
    [DataRow(7, 192, 1, DisplayName = "the same, in whole vectors")]
    [DataRow(2600, 6, 4, DisplayName = "small sets, several tasks")]
    public void ForwardBackward_SeveralChunksAndTiles_MatchPlainLoops(int samples, int channels, int positions) =>
        CheckAll(new ActivationShape(samples, channels, positions), samples);

    [TestMethod]
    [DataRow(1, DisplayName = "no affine")]
    [DataRow(2, DisplayName = "over the output gradient")]
    public void ForwardBackward_BlocksThatTakeTurns_MatchPlainLoops(int seed)
    {
        foreach ((ActivationShape shape, Case layout) in InTurns())
        {
            Inputs inputs = new(shape, layout, seed) { HasAffine = seed != 1 };
            Check<float>(layout, inputs.Rounded<float>(), Epsilon, inPlace: seed == 2);
            Check<double>(layout, inputs.Rounded<double>(), Epsilon, inPlace: seed == 2);
            CheckLines<float>(layout, (inputs with { HasAffine = false }).Rounded<float>());
        }
    }

    [TestMethod]
    public void Forward_PanelsInStep_MatchPlainLoops()
    {
        foreach ((ActivationShape shape, Case layout) in InStep().Where(inStep => inStep.Shape == StepShapes[1]))
        {
            Check<float>(layout, new Inputs(shape, layout, 8).Rounded<float>(), Epsilon, inPlace: true);
        }
    }

    // Whose ways are held against plain loops by the other tests.
    [TestMethod]
    public void Forward_PanelsInStep_GivesTheBitsOfMomentsAndApplyApart()
    {
        foreach ((ActivationShape shape, Case layout) in InStep())
        {
            Inputs inputs = new Inputs(shape, layout, 8).Rounded<float>();
            CompareApart<float>(layout, inputs);
            if (shape == StepShapes[0])
            {
                CompareApart<double>(layout, inputs);
                CompareApart<float>(layout with { Layout = layout.Layout with { Uncentered = true } }, inputs);
            }
        }
    }

    [TestMethod]
    public void Forward_RowsInStepWithoutBias_GivesTheBitsOfMomentsAndApplyApart()
    {
        foreach ((ActivationShape shape, Case layout) in InStep().Where(inStep => inStep.Layout.Layout.RunLength == 0))
        {
            Case uncentered = layout with { Layout = layout.Layout with { Uncentered = true } };
            Inputs inputs = new Inputs(shape, layout, 10) { Bias = null };
            for (int i = 0; i < inputs.X.Length; i++)
            {
                inputs.X[i] *= layout.Set[i] == 1 ? 1e25 : 1;
            }

            CompareApart<float>(uncentered, inputs.Rounded<float>());
        }
    }

    // A panel alone is too little to go in step; its way is held against plain loops by the other tests.
    [TestMethod]
    public void Backward_PanelsInStep_GivesTheBitsOfEachPanelAlone()
    {
        foreach ((ActivationShape shape, Case layout) in BackwardInStep())
        {
            var inputs = new Inputs(shape, layout, 9);
            ComparePanelsAlone<float>(layout, inputs.Rounded<float>());
            ComparePanelsAlone<double>(layout, inputs.Rounded<double>());
            ComparePanelsAlone<float>(layout, (inputs with { HasAffine = false }).Rounded<float>());
            ComparePanelsAlone<float>(layout with { Layout = layout.Layout with { Uncentered = true } }, inputs.Rounded<float>());

            // One set whose lines do not suit float, one whose sums do not hold in it.
            for (int i = 0; i < inputs.X.Length; i++)
            {
                inputs.X[i] *= layout.Set[i] == 1 ? 1e25 : 1;
                inputs.G[i] *= layout.Set[i] == 4 ? 1e-33 : 1;
            }

            ComparePanelsAlone<float>(layout, inputs.Rounded<float>());
        }
    }

    [TestMethod]
    public void Backward_PanelsInStepOverTheOutputGradient_MatchPlainLoops()
    {
        foreach ((ActivationShape shape, Case layout) in BackwardInStep())
        {
            Check<float>(layout, new Inputs(shape, layout, 8).Rounded<float>(), Epsilon, inPlace: true);
        }
    }

    [TestMethod]
    public void Backward_OrdinaryPanelBesideUnsuitedOneInStep_KeepsItsBits()
    {
        foreach ((ActivationShape shape, Case layout) in BackwardInStep())
        {
            CheckBesideUnsuited(shape, layout, 5, buffers => InputGradient(layout, buffers));
        }
    }

    // What is written in step on one thread is the last of a task on three.
    [TestMethod]
    public void Backward_InfiniteGradientsInStep_SameBitsOnThreeThreads()
    {
        foreach ((ActivationShape shape, Case layout) in BackwardInStep())
        {
            Inputs inputs = new Inputs(shape, layout, 4).Rounded<double>();
            var seen = new HashSet<int>();
            for (int i = 0; i < inputs.G.Length; i++)
            {
                inputs.G[i] = seen.Add(layout.Set[i]) ? double.PositiveInfinity : inputs.G[i];
            }

            double[] one = Written();
            KernelThreads.Count = 3;
            double[] three = Written();
            KernelThreads.Count = 1;
            NumericAssert.SameBits<double>(one, three, layout.Name);

            double[] Written()
            {
                using var buffers = new Buffers<double>(layout, inputs);
                Standardizer.Moments(layout.Layout, buffers.X.Pointer, buffers.Statistics, Epsilon);
                Standardizer.Backward(
                    layout.Layout, buffers.X.Pointer, buffers.G.Pointer, buffers.DX.Pointer, buffers.Weight!.Pointer, buffers.Statistics,
                    buffers.WeightGradient.Pointer, buffers.BiasGradient.Pointer, constantStatistics: false);
                return buffers.DX.Read(layout.Name).ToArray();
            }
        }
    }

    // Of one weight a set and 800 KB, which go in step where the second-level cache has 1.6 MB and more.
    [TestMethod]
    public void Forward_LargePanelsOfOneWeight_GiveTheBitsOfMomentsAndApplyApart()
    {
        var shape = new ActivationShape(3, 2, 200_003);
        Case layout = Cases(shape).First(one => one.Sets == 6 && one.Layout is { Columns: 1, Blocks: 1 } && one.Layout.RunLength == one.Layout.BlockLength);
        CompareApart<float>(layout, new Inputs(shape, layout, 8).Rounded<float>());
    }

    // Rows of 64 and more, eight at a time and some left over; groups whose weights go by element and channels with one each.
    [TestMethod]
    [DataRow(new[] { 19, 70 })]
    [DataRow(new[] { 8, 128 })]
    [DataRow(new[] { 5, 3, 96 })]
    [DataRow(new[] { 9, 3, 64 })]
    [DataRow(new[] { 8200, 2, 64 }, DisplayName = "past the caches")]
    public void Forward_RunsInStep_GiveTheBitsOfMomentsAndApplyApart(int[] lengths)
    {
        var shape = new ActivationShape([.. lengths.Select(length => (nint)length)]);
        foreach (Case layout in RunsInStep(shape))
        {
            var inputs = new Inputs(shape, layout, 8);
            CompareApart<float>(layout, inputs.Rounded<float>());
            CompareApart<double>(layout, inputs.Rounded<double>());
            CompareApart<float>(layout with { Layout = layout.Layout with { Uncentered = true } }, inputs.Rounded<float>());
            CompareApart<double>(layout with { Layout = layout.Layout with { Uncentered = true } }, inputs.Rounded<double>());
        }
    }

    [TestMethod]
    [DataRow(19, 70)]
    [DataRow(21, 96)]
    public void Forward_OrdinaryRunBesideUnsuitedOneInStep_KeepsItsBits(int samples, int features)
    {
        var shape = new ActivationShape(samples, features);
        foreach (Case layout in RunsInStep(shape))
        {
            CheckBesideUnsuited(shape, layout, 5, buffers => Output(layout, buffers));
        }
    }

    // Whole values are summed first: where the mean is tens of deviations and more, once more about a value.
    [TestMethod]
    [DataRow(60.0)]
    [DataRow(70.0)]
    [DataRow(1e4)]
    [DataRow(-1e6)]
    public void Forward_RowsFarFromZeroBesideOthers_KeepTheDigitsOfTheirVariance(double far)
    {
        var shape = new ActivationShape(21, 100);
        Case layout = Cases(shape).First(layout => layout.Name.StartsWith("per sample", StringComparison.Ordinal));
        Inputs inputs = new Inputs(shape, layout, 3).Rounded<float>();
        for (int i = 0; i < inputs.X.Length; i++)
        {
            inputs.X[i] = (layout.Set[i] % 3) switch { 0 => far, 1 => inputs.X[i] + far, _ => inputs.X[i] };
        }

        inputs = inputs.Rounded<float>();
        Check<float>(layout, inputs, Epsilon, inPlace: false);
        using var buffers = new Buffers<float>(layout, inputs);
        Standardizer.Forward(layout.Layout, buffers.X.Pointer, buffers.Y.Pointer, null, null, buffers.Statistics, Epsilon);
        for (int set = 0; set < layout.Sets; set++)
        {
            double[] row = [.. inputs.X.Where((_, i) => layout.Set[i] == set)];
            double mean = row[0] + row.Average(value => value - row[0]);
            double variance = row.Average(value => (value - mean) * (value - mean));
            Assert.AreEqual(mean, buffers.Statistics.Mean[set], 1e-15 * Math.Abs(mean));
            Assert.AreEqual(variance, buffers.Statistics.PopulationVariance[set], 1e-12 * variance, $"row {set}");
        }
    }

    [TestMethod]
    public void Forward_OrdinaryPanelBesideUnsuitedOneInStep_KeepsItsBits()
    {
        foreach ((ActivationShape shape, Case layout) in InStep().Where(inStep => inStep.Shape == StepShapes[1]))
        {
            CheckBesideUnsuited(shape, layout, 5, buffers => Output(layout, buffers));
        }
    }

    [TestMethod]
    public void ForwardBackward_TurnsAndPanelsInStep_SameBitsOnThreeThreads()
    {
        foreach ((ActivationShape shape, Case layout) in InTurns().Concat(InStep().Where(inStep => inStep.Shape == StepShapes[0])))
        {
            CompareThreads(layout, new Inputs(shape, layout, 3).Rounded<float>());
        }
    }

    private static void CompareThreads(Case layout, Inputs inputs, int aside = 3)
    {
        float[][] one = Results(layout, inputs, aside);
        KernelThreads.Count = 3;
        float[][] three = Results(layout, inputs, aside);
        KernelThreads.Count = 1;
        for (int i = 0; i < one.Length; i++)
        {
            NumericAssert.SameBits<float>(one[i], three[i], $"{layout.Name}: result {i}");
        }

        static float[][] Results(Case layout, Inputs inputs, int aside)
        {
            using var buffers = new Buffers<float>(layout, inputs, aside);
            Standardizer.Forward(layout.Layout, buffers.X.Pointer, buffers.Y.Pointer, buffers.Weight!.Pointer, buffers.Bias!.Pointer, buffers.Statistics, Epsilon);
            Standardizer.Backward(
                layout.Layout, buffers.X.Pointer, buffers.G.Pointer, buffers.DX.Pointer, buffers.Weight.Pointer, buffers.Statistics,
                buffers.WeightGradient.Pointer, buffers.BiasGradient.Pointer, constantStatistics: false);
            return [.. new[] { buffers.Y, buffers.DX, buffers.WeightGradient, buffers.BiasGradient }.Select(memory => memory.Read(layout.Name).ToArray())];
        }
    }

    [TestMethod]
    public void Forward_TurnsThatBeginLater_AreThoseOfTheSamplesFromThere()
    {
        const int Skipped = 2;
        int rest = (int)TurnsShape.Samples - Skipped;
        nint sample = TurnsShape.Channels * TurnsShape.SpatialSize;
        ReductionLayout whole = Layouts.PerChannelOf(TurnsShape, MemoryOrder.ChannelsFirst, Skipped, 1, 0, rest, 1);
        ReductionLayout part = Layouts.PerChannel(TurnsShape.WithSamples(rest), MemoryOrder.ChannelsFirst);
        Assert.IsTrue(Standardizer.InTurns<float>(whole, tensors: 2) && Standardizer.InTurns<float>(part, tensors: 2));
        Case layout = InTurns()[0].Layout;
        Inputs inputs = new Inputs(TurnsShape, layout, 5).Rounded<float>();
        using var later = new Buffers<float>(layout, inputs);
        using var alone = new Buffers<float>(layout, inputs);
        Pass(whole, later, 0);
        Pass(part, alone, Skipped * sample);
        NumericAssert.SameBits<float>(alone.Y.Read("part"), later.Y.Read("whole"), "output");
        NumericAssert.SameBits<float>(alone.DX.Read("part"), later.DX.Read("whole"), "input gradient");
        NumericAssert.SameBits<float>(alone.WeightGradient.Read("part"), later.WeightGradient.Read("whole"), "weight gradient");

        static void Pass(ReductionLayout layout, Buffers<float> buffers, nint start)
        {
            float* x = buffers.X.Pointer + start;
            Standardizer.Forward(layout, x, buffers.Y.Pointer + start, buffers.Weight!.Pointer, null, buffers.Statistics, Epsilon);
            Standardizer.Backward(
                layout, x, buffers.G.Pointer + start, buffers.DX.Pointer + start, buffers.Weight.Pointer, buffers.Statistics,
                buffers.WeightGradient.Pointer, null, constantStatistics: false);
        }
    }

    [TestMethod]
    public void Forward_TurnsAndRunsThatAreAdjusted_AreWrittenWithWhatTheyAreAdjustedTo()
    {
        var runs = new ActivationShape(5, 4, 64);
        foreach ((ActivationShape shape, Case layout) in InTurns().Concat(RunsInStep(runs).Select(layout => (runs, layout))))
        {
            Inputs inputs = new Inputs(shape, layout, 6).Rounded<float>();
            using var plain = new Buffers<float>(layout, inputs);
            using var adjusted = new Buffers<float>(layout, inputs);
            Statistics statistics = adjusted.Statistics;
            Standardizer.Forward(layout.Layout, plain.X.Pointer, plain.Y.Pointer, null, null, plain.Statistics, Epsilon);
            Standardizer.Forward(
                layout.Layout, adjusted.X.Pointer, adjusted.Y.Pointer, null, null, statistics, Epsilon, null, new() { State = &statistics, Function = &Double });
            float[] expected = [.. plain.Y.Read("plain").ToArray().Select(value => 2 * value)];
            NumericAssert.SameBits<float>(expected, adjusted.Y.Read("adjusted"), layout.Name);
        }

        static void Double(void* state, nint first, nint count)
        {
            for (nint slot = first; slot < first + count; slot++)
            {
                ((Statistics*)state)->InverseStd[slot] *= 2;
            }
        }
    }

    private static Case[] RunsInStep(ActivationShape shape)
    {
        Case[] cases = [.. Cases(shape).Where(layout => Standardizer.RunsInStep<float>(layout.Layout, new Chunking(layout.Layout)))];
        Assert.IsNotEmpty(cases);
        return cases;
    }

    // Of each shape one with blocks of a channel or a ghost, one with groups of several runs, one with weights by element.
    private static (ActivationShape Shape, Case Layout)[] InStep()
    {
        (ActivationShape Shape, Case Layout)[] cases =
        [
            .. from shape in StepShapes
               from layout in Cases(shape).Take(7)
               where Standardizer.InStep<float>(layout.Layout, StoreKind.Cached, tensors: 1, weightArrays: 2, cacheBytes: 1 << 20) && !Standardizer.InTurns<float>(layout.Layout, tensors: 1)
               group (Shape: shape, Layout: layout) by (shape, layout.Layout.Blocks > 1, layout.Layout.Runs > 1, layout.Layout.RunLength == 0) into alike
               where alike.Key.Item2 || alike.Key.Item3 || alike.Key.Item4
               select alike.First(),
        ];
        Assert.HasCount(9, cases);
        return cases;
    }

    // Of each shape one with blocks of a channel, one with sets of one chunk, one with groups of several runs.
    private static (ActivationShape Shape, Case Layout)[] BackwardInStep()
    {
        (ActivationShape Shape, Case Layout)[] cases =
        [
            .. from shape in BackwardStepShapes
               from layout in Cases(shape).Take(7)
               where GoesInStep<float>(layout.Layout) && GoesInStep<double>(layout.Layout)
               group (Shape: shape, Layout: layout) by (shape, layout.Layout.Blocks > 1, layout.Layout.Runs > 1) into alike
               select alike.First(),
        ];
        Assert.HasCount(6, cases);
        return cases;

        static bool GoesInStep<T>(ReductionLayout layout)
            where T : unmanaged
        {
            StoreKind store = layout.Elements * sizeof(T) < 4 << 20 ? StoreKind.Cached : StoreKind.Streaming;
            return Standardizer.InStep<T>(layout, store, tensors: 2, weightArrays: 1, cacheBytes: 1 << 20) && !Standardizer.InTurns<T>(layout, tensors: 2)
                && Standardizer.ByPanel<T>(layout, new Chunking(layout));
        }
    }

    private static (ActivationShape Shape, Case Layout)[] InTurns()
    {
        (ActivationShape Shape, Case Layout)[] cases =
        [
            .. from shape in new[] { TurnsShape, LongTurnsShape }
               from layout in Cases(shape)
               where layout.Layout.TakesTurns
               select (shape, layout),
        ];
        Assert.HasCount(4, cases);
        foreach ((ActivationShape shape, Case layout) in cases)
        {
            bool backward = shape == TurnsShape || layout.Layout.Outer == 1;
            Assert.IsTrue(Standardizer.InTurns<float>(layout.Layout, tensors: 1) && Standardizer.InTurns<double>(layout.Layout, tensors: 1));
            Assert.AreEqual(backward, Standardizer.InTurns<float>(layout.Layout, tensors: 2), layout.Name);
        }

        return cases;
    }

    // Means taken apart and lines filled from them: what strategies do that combine the sums of several sets.
    [TestMethod]
    public void GradientMeans_FilledIntoGradientLines_GiveTheInputGradient()
    {
        foreach (ActivationShape shape in new ActivationShape[] { new(4, 6, 5), new(6, 33), new(4, 3, 2999), new(70, 131), new(4, 20, 3, 3) })
        {
            foreach (Case layout in Cases(shape).Where(layout => layout.Sets < shape.Count))
            {
                Inputs inputs = new(shape, layout, 11) { HasAffine = false };
                CheckLines<float>(layout, inputs.Rounded<float>());
                CheckLines<double>(layout, inputs.Rounded<double>());
            }
        }
    }

    private static void CheckLines<T>(Case layout, Inputs inputs)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        string what = $"{typeof(T).Name}, {layout.Name}";
        double tolerance = typeof(T) == typeof(float) ? 5e-7 : 1e-13;
        var expected = new Expected(layout, inputs, Epsilon);
        using var buffers = new Buffers<T>(layout, inputs);
        ReductionLayout reduction = layout.Layout;
        Standardizer.Moments(reduction, buffers.X.Pointer, buffers.Statistics, Epsilon);
        var slopes = new double[reduction.Slots];
        var offsets = new double[reduction.Slots];
        fixed (double* slope = slopes, offset = offsets)
        {
            Standardizer.GradientMeans(reduction, buffers.X.Pointer, buffers.G.Pointer, buffers.Statistics, offset, slope);
            for (nint slot = 0; slot < reduction.Slots; slot++)
            {
                double inverse = buffers.Statistics.InverseStd[slot];
                offset[slot] *= -inverse;
                slope[slot] *= -inverse * inverse;
            }

            var lines = new GradientLines { Mean = buffers.Statistics.Mean, GradientSlope = buffers.Statistics.InverseStd, Slope = slope, Offset = offset };
            Standardizer.ApplyGradient(reduction, buffers.X.Pointer, buffers.G.Pointer, buffers.DX.Pointer, lines);
            NumericAssert.Near(expected.DX, buffers.DX.Read(what), expected.DXScale, tolerance, what);
        }
    }

    // Each spoils float arithmetic in its own way, in every third set: a factor or a center that float cannot hold or multiplies badly.
    [TestMethod]
    [DataRow(1e-25f, 0f, 1f, 1f, DisplayName = "inverse deviation huge")]
    [DataRow(1e-41f, 0f, 1f, 1e-30f, DisplayName = "inverse deviation beyond float")]
    [DataRow(1e19f, 0f, 1f, 1f, DisplayName = "inverse deviation tiny")]
    [DataRow(1e36f, 1e38f, 1f, 1f, DisplayName = "center huge")]
    [DataRow(1f, 0f, 1e30f, 1f, DisplayName = "weight huge")]
    [DataRow(1f, 0f, 1e-30f, 1f, DisplayName = "weight tiny")]
    [DataRow(1f, 0f, 1f, 1e36f, DisplayName = "gradient huge")]
    [DataRow(1e-14f, 0f, 1e-3f, 1e4f, DisplayName = "slope of the variance's gradient huge")]
    public void ForwardBackward_FloatSetsThatDoNotSuitFloat_AreAsExactAsOthers(float deviation, float mean, float weight, float gradient)
    {
        foreach (ActivationShape shape in new ActivationShape[] { new(5, 6, 7), new(6, 9), new(4, 6, 301) })
        {
            // Sets of one value do not deviate.
            foreach (Case layout in Cases(shape).Where(layout => layout.Sets < shape.Count))
            {
                CheckUnsuited(shape, layout, deviation, mean, weight, gradient);
            }
        }
    }

    [TestMethod]
    [DataRow(1e-25f, 1f, DisplayName = "inverse deviation huge")]
    [DataRow(1e-33f, 1f, DisplayName = "products tiny")]
    [DataRow(1f, 1e36f, DisplayName = "gradient huge")]
    public void ForwardBackward_BlocksThatTakeTurnsAndDoNotSuitFloat_AreAsExactAsOthers(float deviation, float gradient)
    {
        // Those whose parameter gradients float holds.
        foreach ((ActivationShape shape, Case layout) in InTurns().Where(turns => Math.Sqrt(turns.Layout.Layout.SetSize) * gradient < 1e38))
        {
            CheckUnsuited(shape, layout, deviation, 0, 1, gradient);
        }
    }

    private static void CheckUnsuited(ActivationShape shape, Case layout, float deviation, float mean, float weight, float gradient)
    {
        var inputs = new Inputs(shape, layout, 7);
        for (int i = 0; i < inputs.X.Length; i++)
        {
            if (layout.Set[i] % 3 == 1)
            {
                inputs.X[i] = (inputs.X[i] * deviation) + mean;
                inputs.G[i] *= gradient;
            }
        }

        for (int k = 0; k < layout.Weights; k++)
        {
            inputs.Weight![k] *= k % 3 == 1 ? weight : 1;
        }

        // An epsilon that does not hide the deviation.
        Check<float>(layout, inputs.Rounded<float>(), 1e-100, inPlace: false);
    }

    [TestMethod]
    public void ForwardBackward_SubnormalDeviations_KeepTheDigitsOfTheWeightGradient()
    {
        var shape = new ActivationShape(5, 6, 7);
        foreach (Case layout in Cases(shape))
        {
            var inputs = new Inputs(shape, layout, 8);
            for (int i = 0; i < inputs.X.Length; i++)
            {
                inputs.X[i] *= 1e-42;
                inputs.G[i] *= 1e8;
            }

            Check<float>(layout, inputs.Rounded<float>(), Epsilon, inPlace: false);
        }
    }

    [TestMethod]
    public void Forward_OrdinarySetBesideUnsuitedOne_KeepsItsBitsWhereTheyAreRows()
    {
        var shape = new ActivationShape(2, 4, 37);
        foreach (Case layout in Cases(shape).Where(layout => layout.Layout.Columns == 1 && layout.Sets > 1))
        {
            CheckBesideUnsuited(shape, layout, 9, buffers =>
            {
                Standardizer.Forward(layout.Layout, buffers.X.Pointer, buffers.Y.Pointer, null, null, buffers.Statistics, Epsilon);
                return buffers.Y;
            });
        }
    }

    // Sets of one weight each, of several, and of two blocks, that are finished eight at a time; the last sample's end before eight. The smaller ones'
    // sums do not suit float, the others' lines.
    [TestMethod]
    public void Backward_OrdinarySetBesideUnsuitedOne_KeepsItsBitsWhereEightAreFinishedTogether()
    {
        var shape = new ActivationShape(2, 22, 50);
        foreach (Case layout in Cases(shape).Where(layout => layout.Layout is { Columns: 1, RunLength: > 0 } && layout.Sets > 8))
        {
            CheckBesideUnsuited(shape, layout, 13, buffers => InputGradient(layout, buffers));
            CheckBesideUnsuited(shape, layout, 14, buffers => InputGradient(layout, buffers), factor: 1e-33);
        }
    }

    [TestMethod]
    [DataRow(66, 16384, DisplayName = "rows of whole vectors, stored together")]
    [DataRow(67, 16391, DisplayName = "rows that are aligned each in its own way, and three left over")]
    [DataRow(131, 8199, DisplayName = "four rows wait together until they are written, and three left over")]
    [DataRow(130, 20003, DisplayName = "three rows of floats, one of doubles, and one left over")]
    public void ForwardBackward_LongRowsOfManySamples_MatchPlainLoops(int samples, int features)
    {
        var shape = new ActivationShape(samples, features);
        Case layout = Cases(shape).First(layout => layout.Sets == samples && layout.Layout is { Columns: 1, RunLength: 0 });
        Check<float>(layout, new Inputs(shape, layout, 1).Rounded<float>(), Epsilon, inPlace: true);
        Check<double>(layout, new Inputs(shape, layout, 2), Epsilon, inPlace: false);
    }

    // Their lines are made once for all samples, unless one of them is not for float.
    [TestMethod]
    public void ForwardBackward_OrdinaryTurnsBesideUnsuitedOne_KeepTheirBits()
    {
        foreach ((ActivationShape shape, Case layout) in InTurns().Where(turns => turns.Layout.Layout.Outer == 1))
        {
            CheckBesideUnsuited(shape, layout, 5, buffers => Output(layout, buffers));
            CheckBesideUnsuited(shape, layout, 6, buffers => InputGradient(layout, buffers));
        }
    }

    // Rows that are summed four together, with their weight gradients; long ones are written so.
    [TestMethod]
    [DataRow(7, 133)]
    [DataRow(7, 9000)]
    [DataRow(128, 8199)]
    public void Backward_OrdinaryRowBesideUnsuitedOne_KeepsItsBits(int samples, int features)
    {
        var shape = new ActivationShape(samples, features);
        Case layout = Cases(shape).First(layout => layout.Sets == samples && layout.Layout is { Columns: 1, RunLength: 0 });
        CheckBesideUnsuited(shape, layout, 12, buffers => InputGradient(layout, buffers));
    }

    [TestMethod]
    [DataRow(64, 8192, 1, StoreKind.Cached, true, DisplayName = "2 MB")]
    [DataRow(63, 8192, 1, StoreKind.Cached, false, DisplayName = "less")]
    [DataRow(4096, 512, 1, StoreKind.Streaming, true, DisplayName = "rows of 512")]
    [DataRow(4096, 511, 1, StoreKind.Cached, false, DisplayName = "shorter ones")]
    [DataRow(4096, 515, 1, StoreKind.Cached, true, DisplayName = "no whole vectors")]
    [DataRow(4096, 515, 1, StoreKind.Streaming, false, DisplayName = "those past the caches")]
    [DataRow(8, 131072, 1, StoreKind.Streaming, true, DisplayName = "rows of 512 KB")]
    [DataRow(8, 131088, 1, StoreKind.Streaming, false, DisplayName = "of a line more")]
    public void InStep_AtItsLimits_LooksAtRunsAndPanels(int samples, int features, int positions, object store, bool expected) =>
        Assert.AreEqual(expected, Standardizer.InStep<float>(Layouts.Trailing(new ActivationShape(samples, features, positions), MemoryOrder.ChannelsFirst, 2), (StoreKind)store, tensors: 1, weightArrays: 1, cacheBytes: 1 << 20));

    [TestMethod]
    [DataRow(131072, 1, 1, true, DisplayName = "512 KB beside 1 MB")]
    [DataRow(131088, 1, 1, false, DisplayName = "a line more than 512 KB")]
    [DataRow(262144, 1, 2, true, DisplayName = "1 MB beside 2 MB")]
    [DataRow(262160, 1, 2, false, DisplayName = "a line more than 1 MB")]
    [DataRow(65536, 2, 1, true, DisplayName = "two of 256 KB beside 1 MB")]
    [DataRow(65552, 2, 1, false, DisplayName = "two of a line more")]
    public void InStep_OneWeightAPanel_FillsTheCacheTwice(int positions, int tensors, int cacheMegabytes, bool expected)
    {
        ReductionLayout layout = Layouts.PerSampleAndChannel(new ActivationShape(8, 2, positions), MemoryOrder.ChannelsFirst);
        Assert.AreEqual(expected, Standardizer.InStep<float>(layout, StoreKind.Streaming, tensors, weightArrays: 1, (nint)cacheMegabytes << 20));
    }

    [TestMethod]
    public void InStep_WeightsByElement_OnlyForward()
    {
        ReductionLayout layout = Layouts.Trailing(new ActivationShape(64, 8192), MemoryOrder.ChannelsFirst, 1);
        Assert.IsTrue(Standardizer.InStep<float>(layout, StoreKind.Cached, tensors: 1, weightArrays: 2, cacheBytes: 1 << 20));
        Assert.IsFalse(Standardizer.InStep<float>(layout, StoreKind.Cached, tensors: 2, weightArrays: 1, cacheBytes: 1 << 20));
    }

    [TestMethod]
    [DataRow(131072, 1, 1, true, DisplayName = "512 KB beside 1 MB")]
    [DataRow(131088, 1, 1, false, DisplayName = "a line more than 512 KB")]
    [DataRow(209712, 1, 2, true, DisplayName = "two fifths of 2 MB")]
    [DataRow(209728, 1, 2, false, DisplayName = "a line more than two fifths")]
    [DataRow(109216, 2, 2, true, DisplayName = "with a bias, a third of 1.25 MB")]
    [DataRow(109232, 2, 2, false, DisplayName = "with a bias, a line more")]
    public void InStep_WeightsByElement_LeavesRoomForThem(int features, int weightArrays, int cacheMegabytes, bool expected)
    {
        ReductionLayout layout = Layouts.Trailing(new ActivationShape(8, features), MemoryOrder.ChannelsFirst, 1);
        Assert.AreEqual(expected, Standardizer.InStep<float>(layout, StoreKind.Streaming, tensors: 1, weightArrays, (nint)cacheMegabytes << 20));
    }

    private static void ComparePanelsAlone<T>(Case layout, Inputs inputs, int aside = 3)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        using var together = new Buffers<T>(layout, inputs, aside);
        using var alone = new Buffers<T>(layout, inputs, aside);
        ReductionLayout panels = layout.Layout;
        Standardizer.Moments(panels, together.X.Pointer, together.Statistics, Epsilon);
        Pass(panels, together, 0, together.Statistics);
        for (int panel = 0; panel < panels.Panels; panel++)
        {
            PanelPlace place = panels.Place(panel);
            Pass(panels with { Outer = 1, Inner = 1, Offset = place.Offset }, alone, place.Affine, together.Statistics.From(place.Slot));
        }

        NumericAssert.SameBits<T>(alone.DX.Read(layout.Name), together.DX.Read(layout.Name), layout.Name);
        if (panels.Outer == 1)
        {
            NumericAssert.SameBits<T>(alone.WeightGradient.Read(layout.Name), together.WeightGradient.Read(layout.Name), $"{layout.Name}: weight gradient");
            NumericAssert.SameBits<T>(alone.BiasGradient.Read(layout.Name), together.BiasGradient.Read(layout.Name), $"{layout.Name}: bias gradient");
        }

        static void Pass(ReductionLayout layout, Buffers<T> buffers, nint affine, Statistics statistics) =>
            Standardizer.Backward(
                layout, buffers.X.Pointer, buffers.G.Pointer, buffers.DX.Pointer, buffers.Weight is null ? null : buffers.Weight.Pointer + affine, statistics,
                buffers.WeightGradient.Pointer + affine, buffers.BiasGradient.Pointer + affine, constantStatistics: false);
    }

    private static void CompareApart<T>(Case layout, Inputs inputs)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        using var buffers = new Buffers<T>(layout, inputs);
        T* bias = buffers.Bias is null ? null : buffers.Bias.Pointer;
        Standardizer.Forward(layout.Layout, buffers.X.Pointer, buffers.Y.Pointer, buffers.Weight!.Pointer, bias, buffers.Statistics, Epsilon);
        double[] statistics = buffers.AllStatistics.Read(layout.Name).ToArray();
        Standardizer.Apply(layout.Layout, buffers.X.Pointer, buffers.DX.Pointer, buffers.Weight.Pointer, bias, buffers.Statistics);
        NumericAssert.SameBits<T>(buffers.DX.Read(layout.Name), buffers.Y.Read(layout.Name), layout.Name);
        Standardizer.Moments(layout.Layout, buffers.X.Pointer, buffers.Statistics, Epsilon);
        NumericAssert.SameBits<double>(statistics, buffers.AllStatistics.Read(layout.Name), $"{layout.Name}: moments");
    }

    // Without an epsilon that would hide how small a deviation is.
    private static GuardedMemory<float> Output(Case layout, Buffers<float> buffers)
    {
        Standardizer.Forward(layout.Layout, buffers.X.Pointer, buffers.Y.Pointer, buffers.Weight!.Pointer, buffers.Bias!.Pointer, buffers.Statistics, 1e-100);
        return buffers.Y;
    }

    private static GuardedMemory<float> InputGradient(Case layout, Buffers<float> buffers)
    {
        Output(layout, buffers);
        Standardizer.Backward(
            layout.Layout, buffers.X.Pointer, buffers.G.Pointer, buffers.DX.Pointer, buffers.Weight!.Pointer, buffers.Statistics,
            buffers.WeightGradient.Pointer, buffers.BiasGradient.Pointer, constantStatistics: false);
        return buffers.DX;
    }

    private static void CheckBesideUnsuited(
        ActivationShape shape, Case layout, int seed, Func<Buffers<float>, GuardedMemory<float>> pass, double factor = 1e-25)
    {
        Inputs inputs = new Inputs(shape, layout, seed).Rounded<float>();
        float[] alone = Written();
        for (int i = 0; i < inputs.X.Length; i++)
        {
            inputs.X[i] *= layout.Set[i] == 1 ? factor : 1;
        }

        inputs = inputs.Rounded<float>();
        float[] beside = Written();
        for (int i = 0; i < alone.Length; i++)
        {
            Assert.IsTrue(layout.Set[i] == 1 || alone[i] == beside[i], $"{layout.Name}: [{i}] of set {layout.Set[i]}");
        }

        float[] Written()
        {
            using var buffers = new Buffers<float>(layout, inputs);
            return pass(buffers).Read(layout.Name).ToArray();
        }
    }

    // 512 KB of x forward, 1 MB backward; blocks of 65536; 3 MB in all.
    [TestMethod]
    [DataRow(128, 1024, 8, false, false, DisplayName = "channels of 512 KB")]
    [DataRow(129, 1024, 8, true, false, DisplayName = "of a block more")]
    [DataRow(256, 1024, 8, true, false, DisplayName = "of 1 MB")]
    [DataRow(257, 1024, 8, true, true, DisplayName = "of a block more than that")]
    [DataRow(5, 65536, 8, true, true, DisplayName = "the longest blocks")]
    [DataRow(5, 65537, 8, false, false, DisplayName = "longer ones")]
    [DataRow(257, 1024, 2, false, false, DisplayName = "2 MB in all")]
    [DataRow(300, 512, 8, true, true, DisplayName = "blocks of half a page")]
    public void InTurns_AtItsLimits_LooksAtWhatChannelsTake(int samples, int positions, int channels, bool forward, bool backward)
    {
        ReductionLayout layout = Layouts.PerChannel(new ActivationShape(samples, channels, positions), MemoryOrder.ChannelsFirst);
        Assert.AreEqual(forward, Standardizer.InTurns<float>(layout, tensors: 1), "forward");
        Assert.AreEqual(backward, Standardizer.InTurns<float>(layout, tensors: 2), "backward");
    }

    private static void CheckAll(ActivationShape shape, int seed)
    {
        foreach (Case layout in Cases(shape))
        {
            seed++;
            Inputs inputs = new(shape, layout, seed) { HasAffine = seed % 3 > 0 };
            Check<float>(layout, inputs.Rounded<float>(), Epsilon, inPlace: seed % 2 == 0);
            Check<double>(layout, inputs.Rounded<double>(), Epsilon, inPlace: seed % 2 == 0);
        }
    }

    private static void Check<T>(Case layout, Inputs inputs, double epsilon, bool inPlace)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        bool single = typeof(T) == typeof(float);
        double tolerance = single ? 5e-7 : 1e-13;
        string what = $"{typeof(T).Name}, {layout.Name}";
        var expected = new Expected(layout, inputs, epsilon);
        using var buffers = new Buffers<T>(layout, inputs);
        ReductionLayout reduction = layout.Layout;
        T* weight = buffers.Weight is null ? null : buffers.Weight.Pointer;
        T* bias = buffers.Bias is null ? null : buffers.Bias.Pointer;

        Standardizer.Forward(reduction, buffers.X.Pointer, buffers.Y.Pointer, weight, bias, buffers.Statistics, epsilon);
        NumericAssert.Near(expected.Y, buffers.Y.Read(what), expected.YScale, tolerance, $"{what}: output");

        double[] statistics = buffers.AllStatistics.Read(what).ToArray();
        Standardizer.Moments(reduction, buffers.X.Pointer, buffers.Statistics, epsilon);
        NumericAssert.SameBits<double>(statistics, buffers.AllStatistics.Read(what), $"{what}: moments taken alone");

        Standardizer.Backward(
            reduction, buffers.X.Pointer, buffers.G.Pointer, buffers.DX.Pointer, weight, buffers.Statistics,
            buffers.WeightGradient.Pointer, buffers.BiasGradient.Pointer, constantStatistics: false);
        NumericAssert.Near(expected.DX, buffers.DX.Read(what), expected.DXScale, tolerance, $"{what}: input gradient");
        NumericAssert.Near(expected.WeightGradient, buffers.WeightGradient.Read(what), expected.WeightScale, tolerance, $"{what}: weight gradient");
        NumericAssert.Near(expected.BiasGradient, buffers.BiasGradient.Read(what), expected.BiasScale, tolerance, $"{what}: bias gradient");

        if (inPlace)
        {
            T[] apart = buffers.DX.Read(what).ToArray();
            Standardizer.Backward<T>(
                reduction, buffers.X.Pointer, buffers.G.Pointer, buffers.G.Pointer, weight, buffers.Statistics, null, null, constantStatistics: false);
            NumericAssert.Near(TestData.AsDouble(apart), buffers.G.Read(what), expected.DXScale, tolerance, $"{what}: over the output gradient");
            return;
        }

        if (layout.PerChannel)
        {
            Standardizer.Backward<T>(
                reduction, buffers.X.Pointer, buffers.G.Pointer, buffers.DX.Pointer, weight, buffers.Statistics, null, null, constantStatistics: true);
            NumericAssert.Near(expected.ConstantDX, buffers.DX.Read(what), expected.DXScale, tolerance, $"{what}: constant statistics");
        }
    }

    // The layouts of every strategy, and what each means: element by element of memory its set and its weight.
    private static IEnumerable<Case> Cases(ActivationShape shape)
    {
        int samples = (int)shape.Samples;
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        foreach (MemoryOrder order in new[] { MemoryOrder.ChannelsFirst, MemoryOrder.ChannelsLast })
        {
            yield return Make("per channel", Layouts.PerChannel(shape, order), (n, c, s) => c, (n, c, s) => c) with { PerChannel = true };
            if (samples % 2 == 0)
            {
                int half = samples / 2;
                yield return Make(
                    "ghosts", Layouts.PerChannelOf(shape, order, 0, 2, half, half, 1), (n, c, s) => (n / half * channels) + c, (n, c, s) => c);
                yield return Make(
                    "strided ghosts", Layouts.PerChannelOf(shape, order, 0, 2, 1, half, 2), (n, c, s) => (n % 2 * channels) + c, (n, c, s) => c);
            }

            foreach (int groups in new[] { 1, 3, channels, channels / 2 }.Distinct().Where(groups => groups > 0 && channels % groups == 0))
            {
                int width = channels / groups;
                yield return Make(
                    $"{groups} groups", Layouts.PerSampleAndGroup(shape, order, groups), (n, c, s) => (n * groups) + (c / width), (n, c, s) => c);
            }

            yield return Make(
                "per sample", Layouts.Trailing(shape, order, shape.Rank - 1), (n, c, s) => n,
                (n, c, s) => order == MemoryOrder.ChannelsFirst ? (c * positions) + s : (s * channels) + c);
            yield return Make("per position", Layouts.PerPosition(shape, order), (n, c, s) => (n * positions) + s, (n, c, s) => c);
            if (shape.Rank > 2)
            {
                yield return Make(
                    "per sample and channel, weights by position", Layouts.Trailing(shape, order, shape.Rank - 2), (n, c, s) => (n * channels) + c,
                    (n, c, s) => s);
            }

            Case Make(string name, ReductionLayout layout, Func<int, int, int, int> set, Func<int, int, int, int> weight)
            {
                int[] sets = new int[shape.Count];
                int[] weights = new int[shape.Count];
                for (int i = 0; i < sets.Length; i++)
                {
                    int within = i % (channels * positions);
                    int c = order == MemoryOrder.ChannelsFirst ? within / positions : within % channels;
                    int s = order == MemoryOrder.ChannelsFirst ? within % positions : within / channels;
                    int n = i / (channels * positions);
                    sets[i] = set(n, c, s);
                    weights[i] = weight(n, c, s);
                }

                return new Case($"{name}, {shape}, {order}", layout, sets, weights);
            }
        }
    }

    private sealed record Case(string Name, ReductionLayout Layout, int[] Set, int[] Weight)
    {
        public int Sets { get; } = Set.Max() + 1;

        public int Weights { get; } = Weight.Max() + 1;

        public bool PerChannel { get; init; }
    }

    // x, dy, weight and bias as memory has them.
    private sealed record Inputs(double[] X, double[] G, double[]? Weight, double[]? Bias)
    {
        public Inputs(ActivationShape shape, Case layout, int seed)
            : this(
                TestData.Normal(seed, shape.Count, 1, 2), TestData.Normal(seed + 1, shape.Count),
                TestData.Normal(seed + 2, layout.Weights, 0.5), TestData.Normal(seed + 3, layout.Weights))
        {
        }

        public bool HasAffine { get; init; } = true;

        public Inputs Rounded<T>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
            new(TestData.Rounded<T>(X), TestData.Rounded<T>(G), HasAffine ? TestData.Rounded<T>(Weight!) : null, HasAffine && Bias is not null ? TestData.Rounded<T>(Bias) : null);
    }

    private sealed class Buffers<T>(Case layout, Inputs inputs, int aside = 3) : IDisposable
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        public GuardedMemory<T> X { get; } = new(inputs.X);

        public GuardedMemory<T> G { get; } = new(inputs.G, 1);

        public GuardedMemory<T> Y { get; } = new(new double[inputs.X.Length]);

        public GuardedMemory<T> DX { get; } = new(new double[inputs.X.Length], aside);

        public GuardedMemory<T>? Weight { get; } = inputs.Weight is null ? null : new(inputs.Weight);

        public GuardedMemory<T>? Bias { get; } = inputs.Bias is null ? null : new(inputs.Bias);

        public GuardedMemory<T> WeightGradient { get; } = new(new double[layout.Weights]);

        public GuardedMemory<T> BiasGradient { get; } = new(new double[layout.Weights]);

        public GuardedMemory<double> AllStatistics { get; } = new(new double[3 * layout.Layout.Slots]);

        public Statistics Statistics => new()
        {
            Mean = AllStatistics.Pointer,
            PopulationVariance = AllStatistics.Pointer + layout.Layout.Slots,
            InverseStd = AllStatistics.Pointer + (2 * layout.Layout.Slots),
        };

        public void Dispose()
        {
            X.Dispose();
            G.Dispose();
            Y.Dispose();
            DX.Dispose();
            Weight?.Dispose();
            Bias?.Dispose();
            WeightGradient.Dispose();
            BiasGradient.Dispose();
            AllStatistics.Dispose();
        }
    }

    // Plain loops; each scale is the sum of the magnitudes of what was added.
    private sealed class Expected
    {
        public Expected(Case layout, Inputs inputs, double epsilon)
        {
            double[] x = inputs.X;
            double[] count = new double[layout.Sets];
            double[] mean = new double[layout.Sets];
            double[] inverse = new double[layout.Sets];
            Add(count, _ => 1);
            for (int pass = 0; pass < 2; pass++)
            {
                double[] sum = new double[layout.Sets];
                Add(sum, i => (x[i] - mean[layout.Set[i]]) / count[layout.Set[i]]);
                mean = [.. mean.Zip(sum, (a, b) => a + b)];
            }

            Add(inverse, i => (x[i] - mean[layout.Set[i]]) * (x[i] - mean[layout.Set[i]]) / count[layout.Set[i]]);
            inverse = Array.ConvertAll(inverse, variance => 1 / Math.Sqrt(variance + epsilon));
            double[] meanGradient = new double[layout.Sets];
            double[] meanProduct = new double[layout.Sets];
            double[] gradientScale = new double[layout.Sets];
            double[] productScale = new double[layout.Sets];
            Add(meanGradient, i => Given(i) / count[layout.Set[i]]);
            Add(meanProduct, i => Given(i) * Normalized(i) / count[layout.Set[i]]);
            Add(gradientScale, i => Math.Abs(Given(i)) / count[layout.Set[i]]);
            Add(productScale, i => Math.Abs(Given(i)) * NormalizedScale(i) / count[layout.Set[i]]);
            WeightGradient = new double[layout.Weights];
            BiasGradient = new double[layout.Weights];
            WeightScale = new double[layout.Weights];
            BiasScale = new double[layout.Weights];
            Y = new double[x.Length];
            YScale = new double[x.Length];
            DX = new double[x.Length];
            DXScale = new double[x.Length];
            ConstantDX = new double[x.Length];
            for (int i = 0; i < x.Length; i++)
            {
                int set = layout.Set[i];
                int k = layout.Weight[i];
                double scaled = Normalized(i) * Weight(i);
                double bias = inputs.Bias is null ? 0 : inputs.Bias[k];
                Y[i] = scaled + bias;
                YScale[i] = (NormalizedScale(i) * Math.Abs(Weight(i))) + Math.Abs(bias);
                DX[i] = inverse[set] * (Given(i) - meanGradient[set] - (Normalized(i) * meanProduct[set]));
                DXScale[i] = inverse[set] * (Math.Abs(Given(i)) + gradientScale[set] + (NormalizedScale(i) * productScale[set]));
                ConstantDX[i] = inverse[set] * Given(i);
                WeightGradient[k] += inputs.G[i] * Normalized(i);
                WeightScale[k] += Math.Abs(inputs.G[i]) * NormalizedScale(i);
                BiasGradient[k] += inputs.G[i];
                BiasScale[k] += Math.Abs(inputs.G[i]);
            }

            void Add(double[] sums, Func<int, double> term)
            {
                for (int i = 0; i < x.Length; i++)
                {
                    sums[layout.Set[i]] += term(i);
                }
            }

            double Weight(int i) => inputs.Weight is null ? 1 : inputs.Weight[layout.Weight[i]];

            double Given(int i) => inputs.G[i] * Weight(i);

            double Normalized(int i) => (x[i] - mean[layout.Set[i]]) * inverse[layout.Set[i]];

            // Near its mean a value has no more digits than what it was taken from, nor than a deviation has.
            double NormalizedScale(int i)
            {
                int set = layout.Set[i];
                return Math.Abs(Normalized(i)) + Math.Min(1, (Math.Abs(x[i]) + Math.Abs(mean[set])) * inverse[set]);
            }
        }

        public double[] Y { get; }

        public double[] YScale { get; }

        public double[] DX { get; }

        public double[] DXScale { get; }

        public double[] ConstantDX { get; }

        public double[] WeightGradient { get; }

        public double[] WeightScale { get; }

        public double[] BiasGradient { get; }

        public double[] BiasScale { get; }
    }
}
