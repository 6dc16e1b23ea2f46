using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Every strategy against the plain-loop oracle: layouts, ranks, lengths, settings, extreme magnitudes.</summary>
[TestClass]
public sealed class OracleTests
{
    private static readonly ActivationShape[] Shapes =
    [
        new(5, 6), new(5, 6, 7), new(3, 6, 5, 2), new(2, 6, 2, 3, 5), new(4, 6, 1), new(2, 6, 1, 7), new(3, 2, 5, 1),
    ];

    public static IEnumerable<object[]> IdsAndLayouts => from id in StrategyCases.Ids from layout in Enum.GetValues<Layout>() select new object[] { id, layout };

    public static IEnumerable<object[]> AnyMagnitudeIdsAndDenseLayouts =>
        IdsAndDenseLayouts.Where(row => StrategyCases.Of((string)row[0]).HoldsAtAnyMagnitude);

    public static IEnumerable<object[]> IdsAndDenseLayouts =>
        from id in StrategyCases.Ids from layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast } select new object[] { id, layout };

    [TestMethod]
    [DynamicData(nameof(IdsAndLayouts))]
    public void ForwardBackward_EveryRankSettingAndMode_MatchOracle(string id, Layout layout)
    {
        EveryRank<float>(id, layout);
        EveryRank<double>(id, layout);
    }

    private static void EveryRank<T>(string id, Layout layout)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int seed = 1000 * (int)layout;
        foreach (ActivationShape shape in Shapes.Where(StrategyCases.Of(id).Carries))
        {
            foreach (StrategySettings configuration in TestData.Configurations(id, shape))
            {
                seed++;
                StrategySettings settings = configuration with { Weight = seed % 4 < 2, Bias = seed % 3 > 0 };
                var subject = new Subject<T>(id, shape, settings, seed)
                {
                    InputLayout = layout,
                    OutputLayout = (Layout)((seed + (int)layout) % 6),
                    OutputGradientLayout = (Layout)(seed / 2 % 6),
                    InputGradientLayout = (Layout)(seed / 3 % 6),
                };
                TwoBatchesThenInference(subject, shape, seed, settings.ToString());
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(IdsAndDenseLayouts))]
    public void ForwardBackward_DenseLayoutThroughout_MatchOracle(string id, Layout layout)
    {
        foreach (ActivationShape shape in Shapes.Where(StrategyCases.Of(id).Carries))
        {
            int seed = 7;
            foreach (StrategySettings settings in TestData.Configurations(id, shape))
            {
                TwoBatchesThenInference(new Subject<float>(id, shape, settings, ++seed).In(layout), shape, seed, settings.ToString());
                TwoBatchesThenInference(new Subject<double>(id, shape, settings, seed).In(layout), shape, seed, settings.ToString());
            }
        }
    }

    // The second batch has more samples than the first, so that scratch has to grow, and inference fewer.
    private static void TwoBatchesThenInference<T>(Subject<T> subject, ActivationShape shape, int seed, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ActivationShape larger = shape.WithSamples(shape.Samples + 2);
        ActivationShape smaller = shape.WithSamples(shape.Samples - 1);
        subject.Check(shape, TestData.Activations(seed, shape), TestData.Normal(seed + 50, shape.Count), what);
        subject.Check(larger, TestData.Activations(seed + 1, larger), TestData.Normal(seed + 51, larger.Count), what);
        subject.SetTraining(false);
        subject.Check(smaller, TestData.Activations(seed + 2, smaller), TestData.Normal(seed + 52, smaller.Count), what);
        subject.SetTraining(true);
        subject.Check(shape, TestData.Activations(seed + 3, shape), TestData.Normal(seed + 53, shape.Count), what);
    }

    [TestMethod]
    [DynamicData(nameof(IdsAndDenseLayouts))]
    public void ForwardBackward_Affine_EveryCombinationMatchesOracle(string id, Layout layout)
    {
        var shape = new ActivationShape(4, 6, 3, 7);
        foreach ((bool weight, bool bias) in new[] { (true, true), (true, false), (false, true), (false, false) })
        {
            foreach (StrategySettings settings in TestData.Configurations(id, shape))
            {
                var subject = new Subject<float>(id, shape, settings with { Weight = weight, Bias = bias }, 11).In(layout);
                TwoBatchesThenInference(subject, shape, 12, $"weight {weight}, bias {bias}");
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(IdsAndDenseLayouts))]
    public void ForwardBackward_SpatialLengths1To70_MatchOracle(string id, Layout layout)
    {
        for (int length = 1; length <= 70; length++)
        {
            var shape = new ActivationShape(4, 3, length);
            if (!StrategyCases.Of(id).Carries(shape))
            {
                continue;
            }

            StrategySettings settings = StrategyCases.Of(id).Adapt(new() { Groups = 1, GhostSize = 2 }, shape);
            TwoModes(new Subject<float>(id, shape, settings, length).In(layout), shape, length);
            TwoModes(new Subject<double>(id, shape, settings, length).In(layout), shape, length);
        }
    }

    [TestMethod]
    [DynamicData(nameof(IdsAndDenseLayouts))]
    public void ForwardBackward_ChannelCounts1To70_MatchOracle(string id, Layout layout)
    {
        for (int channels = 1; channels <= 70; channels++)
        {
            var shape = new ActivationShape(4, channels, 3);
            int groups = channels % 5 == 0 ? 5 : channels % 3 == 0 ? 3 : channels % 2 == 0 ? 2 : 1;
            StrategySettings settings = StrategyCases.Of(id).Adapt(new() { Groups = groups, GhostSize = 2, GroupSize = channels / groups }, shape);
            TwoModes(new Subject<float>(id, shape, settings, channels).In(layout), shape, channels);
            TwoModes(new Subject<double>(id, shape, WellConditioned(id, settings), channels).In(layout), shape, channels);
        }
    }

    // Few values for many channels: with epsilon 1e-5 the covariance's condition number of 1e7 would be most of the difference in double.
    private static StrategySettings WellConditioned(string id, StrategySettings settings) =>
        StrategyCases.Of(id).Whitens ? settings with { Epsilon = 0.05 } : settings;

    [TestMethod]
    [DynamicData(nameof(IdsAndLayouts))]
    public void ForwardBackward_FeatureCounts1To70_MatchOracle(string id, Layout layout)
    {
        // Whitening 70 channels takes the oracle its time: all counts in one layout, some in the others.
        int step = StrategyCases.Of(id).Whitens && layout != Layout.ChannelsFirst ? 11 : 1;
        for (int channels = id is TestData.LayerNorm or TestData.GroupNorm ? 2 : 1; channels <= 70; channels += step)
        {
            var shape = new ActivationShape(6, channels);
            if (!StrategyCases.Of(id).Carries(shape))
            {
                continue; // Those that have no statistics to take of features: EdgeCaseTests.
            }

            StrategySettings settings = StrategyCases.Of(id).Adapt(new() { Groups = 1, GhostSize = 3, GroupSize = StrategyCases.Of(id).Whitens && channels % 4 == 0 ? channels / 4 : null }, shape);
            TwoModes(new Subject<float>(id, shape, settings, channels).In(layout), shape, channels);
            if (!StrategyCases.Of(id).Whitens || channels % 10 == 1)
            {
                TwoModes(new Subject<double>(id, shape, WellConditioned(id, settings), channels).In(layout), shape, channels);
            }
        }
    }

    private static void TwoModes<T>(Subject<T> subject, ActivationShape shape, int seed)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        subject.Check(shape, TestData.Activations(seed, shape), TestData.Normal(seed + 1, shape.Count), "");
        subject.SetTraining(false);
        subject.Check(shape, TestData.Activations(seed + 2, shape), TestData.Normal(seed + 3, shape.Count), "");
    }

    [TestMethod]
    [DynamicData(nameof(IdsAndDenseLayouts))]
    public void ForwardBackward_LargeBatch_MatchesOracle(string id, Layout layout)
    {
        StrategySettings settings = new() { Groups = 3, GhostSize = 11, GroupSize = StrategyCases.Of(id).Whitens ? 4 : null };
        ActivationShape[] shapes = [new(33, 12, 17, 19), new(2, 12, 9011), new(10021, 12), new(11, 12, 1, 509)];
        foreach (ActivationShape large in shapes)
        {
            if (!StrategyCases.Of(id).Carries(large))
            {
                continue;
            }

            var shape = id == TestData.GhostBatchNorm ? large.WithSamples(large.Samples / 11 * 11 + 11) : large;
            TwoModes(new Subject<float>(id, shape, StrategyCases.Of(id).Adapt(settings, shape), 5).In(layout), shape, 6);
        }

        switch (id)
        {
            case TestData.LayerNorm:
                for (int axes = 1; axes <= 3; axes++)
                {
                    Large(new ActivationShape(3, 12, 7, 401), settings with { NormalizedDimensions = axes });
                }

                break;
            case TestData.GhostBatchNorm:
                Large(new ActivationShape(46, 12, 13, 17), settings with { GhostGrouping = GhostGrouping.Strided, GhostRemainder = GhostRemainder.Balanced });
                Large(new ActivationShape(46, 12, 13, 17), settings with { GhostRemainder = GhostRemainder.SmallerLast, GhostRunning = GhostRunning.Sequential });
                break;
            case var _ when StrategyCases.Of(id).Whitens:
                // More than 64 channels at once take another eigen-decomposition.
                Large(new ActivationShape(17, 67, 5, 7), new StrategySettings());
                Large(new ActivationShape(503, 67), new StrategySettings { Shrinkage = 0.1 });
                break;
        }

        void Large(ActivationShape shape, StrategySettings chosen)
        {
            TwoModes(new Subject<float>(id, shape, chosen, 7).In(layout), shape, 8);
            TwoModes(new Subject<double>(id, shape, chosen, 7).In(layout), shape, 8);
        }
    }

    [TestMethod]
    [DynamicData(nameof(AnyMagnitudeIdsAndDenseLayouts))]
    public void Float_LargeMeans_KeepTheAccuracyRule(string id, Layout layout)
    {
        foreach (double mean in new[] { 0, 1e2, 1e4, 1e5, 1e6, -1e6 })
        {
            ForEachMagnitudeSetting<float>(id, layout, 5e-7, (seed, shape) => TestData.Normal(seed, shape.Count, mean), $"mean {mean}");
        }
    }

    [TestMethod]
    [DynamicData(nameof(AnyMagnitudeIdsAndDenseLayouts))]
    public void Float_ExtremeScales_KeepTheAccuracyRule(string id, Layout layout)
    {
        foreach (double scale in new[] { 1e30, 1e15, 1e-3, 1e-15, 1e-30, 1e-38, 1e-41 })
        {
            ForEachMagnitudeSetting<float>(id, layout, 5e-7, (seed, shape) => TestData.Normal(seed, shape.Count, 0.5 * scale, scale), $"scale {scale}");
        }
    }

    // The mean itself is a rounded double here: its error, 2^-53 |mean| / sigma, is one of the input. Sets of few values may have any
    // sigma, so there are none here.
    [TestMethod]
    [DynamicData(nameof(AnyMagnitudeIdsAndDenseLayouts))]
    public void Double_LargeMeansAndScales_MatchOracleToTheConditionOfTheInput(string id, Layout layout)
    {
        foreach (double mean in new[] { 1e2, 1e4, 1e6 })
        {
            ForEachMagnitudeSetting<double>(id, layout, 1e-12 + 8 * Math.Pow(2, -53) * mean, (seed, shape) => TestData.Normal(seed, shape.Count, mean), $"mean {mean}");
        }

        foreach (double scale in new[] { 1e30, 1e-30, 1e-305 })
        {
            ForEachMagnitudeSetting<double>(id, layout, 1e-12, (seed, shape) => TestData.Normal(seed, shape.Count, 0.5 * scale, scale), $"scale {scale}");
        }
    }

    [TestMethod]
    [DynamicData(nameof(AnyMagnitudeIdsAndDenseLayouts))]
    public void Float_ConstantChannelsAmongOthers_KeepTheAccuracyRule(string id, Layout layout)
    {
        foreach (double constant in new[] { 0, 0.1, -3.7, 1e6, 123456.7, 1e30, 1e-30 })
        {
            ForEachMagnitudeSetting<float>(id, layout, 5e-7, (seed, shape) => WithConstantChannel(seed, shape, constant), $"constant {constant}");
        }
    }

    // Every channel of every sample constant: all reduction sets that lie within a channel have variance zero.
    [TestMethod]
    [DynamicData(nameof(AnyMagnitudeIdsAndDenseLayouts))]
    public void Float_EverythingConstant_KeepsTheAccuracyRule(string id, Layout layout)
    {
        foreach (double constant in new[] { 0, 0.1, -123456.7, 1e6, 3e30 })
        {
            ForEachMagnitudeSetting<float>(id, layout, 5e-7, (_, shape) => Array.ConvertAll(new double[shape.Count], _ => constant), $"all {constant}");
        }
    }

    [TestMethod]
    [DynamicData(nameof(AnyMagnitudeIdsAndDenseLayouts))]
    public void Float_OneOutlierInManyValues_KeepsTheAccuracyRule(string id, Layout layout)
    {
        // Whitening works on squares: beyond a ratio of 1e8 the small channels are below the rounding of the large ones' covariance. The
        // square of 1e18 is the last that the running variance holds.
        double[] outliers = StrategyCases.Of(id).Whitens ? [1e4, -1e6] : [1e4, -1e8, 1e18];
        foreach (double outlier in outliers)
        {
            ForEachMagnitudeSetting<float>(id, layout, 5e-7, (seed, shape) =>
            {
                double[] x = TestData.Normal(seed, shape.Count);
                x[0] = outlier;
                x[^1] = -outlier;
                return x;
            }, $"outlier {outlier}");
        }
    }

    private static double[] WithConstantChannel(int seed, ActivationShape shape, double constant)
    {
        double[] x = TestData.Normal(seed, shape.Count);
        for (int i = 0; i < x.Length; i++)
        {
            if (i / (int)shape.SpatialSize % shape.Channels == 1)
            {
                x[i] = constant;
            }
        }

        return x;
    }

    private static void ForEachMagnitudeSetting<T>(string id, Layout layout, double tolerance, Func<int, ActivationShape, double[]> draw, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int seed = 0;
        ActivationShape[] shapes = typeof(T) == typeof(double) ? [new(8, 4, 9, 5), new(4, 4, 131)] : [new(8, 4, 9, 5), new(4, 4, 131), new(46, 4)];
        foreach (ActivationShape shape in shapes.Where(StrategyCases.Of(id).Carries))
        {
            foreach ((bool weight, bool bias) in new[] { (true, true), (false, false), (true, false) })
            {
                seed++;
                StrategySettings settings = StrategyCases.Of(id).Adapt(new() { Groups = 2, GhostSize = 2, Weight = weight, Bias = bias }, shape);
                var subject = new Subject<T>(id, shape, settings, seed).In(layout);
                if (!StrategyCases.Of(id).Whitens || typeof(T) == typeof(double))
                {
                    subject.Tolerance = StrategyCases.Of(id).Whitens ? 1e4 * tolerance : tolerance;
                }

                subject.Check(shape, draw(seed, shape), TestData.Normal(seed + 1, shape.Count), $"{what}, weight {weight}, bias {bias}");
                subject.SetTraining(false);
                subject.Check(shape, draw(seed + 2, shape), TestData.Normal(seed + 3, shape.Count), $"{what}, weight {weight}, bias {bias}");
            }
        }
    }
}
