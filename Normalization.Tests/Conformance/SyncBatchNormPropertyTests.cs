using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Identities of synchronized batch norm: what cutting a batch must not change, and what leaving out the exchange would.</summary>
[TestClass]
public sealed class SyncBatchNormPropertyTests
{
    private const string Sync = "sync-batch-norm";

    public static IEnumerable<object[]> Cuts =>
    [
        [new[] { 12 }], [new[] { 6, 6 }], [new[] { 3, 5, 0, 4 }], [new[] { 1, 1, 10 }], [new[] { 0, 12, 0 }], [Enumerable.Repeat(1, 12).ToArray()],
    ];

    [TestMethod]
    [DynamicData(nameof(Cuts))]
    public void ForwardBackward_AnyShards_EqualBatchNorm(int[] shards)
    {
        var shape = new ActivationShape(12, 6, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        Pass<double> whole = Runs.Once(TestData.BatchNorm, shape, new(), x, dy, 3);
        Pass<double> cut = Runs.Once(Sync, shape, new() { Shards = shards }, x, dy, 3);
        Runs.AssertNear(whole, cut, 1e-13, string.Join(",", shards));
        foreach (StateBuffer<double> buffer in whole.Normalizer.Buffers.Where(buffer => !buffer.IsCounter))
        {
            NumericAssert.NearLargest<double>(buffer.Values, Runs.Buffer(cut.Normalizer, buffer.Name), 1e-13, buffer.Name);
        }
    }

    // Means far apart between the shards: merging must not lose digits, nor average variances.
    [TestMethod]
    [DataRow(1e3)]
    [DataRow(1e6)]
    public void Forward_ShardsWithMeansFarApart_EqualsBatchNorm(double distance)
    {
        var shape = new ActivationShape(9, 3, 7);
        double[] x = TestData.Normal(1, shape.Count);
        for (int i = 0; i < x.Length; i++)
        {
            x[i] += distance * (i / 21 / 3);
        }

        StrategySettings settings = new() { Shards = [3, 3, 3] };
        double[] whole = Runs.Forward(Runs.Create<double>(TestData.BatchNorm, shape, settings, 2), shape, x);
        double[] cut = Runs.Forward(Runs.Create<double>(Sync, shape, settings, 2), shape, x);
        NumericAssert.NearLargest<double>(whole, cut, 1e-12, $"{distance}");
    }

    [TestMethod]
    public void ForwardBackward_WithoutTheExchange_IsContiguousGhosts()
    {
        var shape = new ActivationShape(8, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        var settings = new StrategySettings { GhostSize = 4, Replicas = 2 };
        Pass<double> ghost = Runs.Once(TestData.GhostBatchNorm, shape, settings, x, dy, 3);
        ActivationShape half = shape.WithSamples(4);
        Pass<double>[] alone =
        [
            .. Enumerable.Range(0, 2).Select(k => Runs.Once(
                TestData.BatchNorm, half, settings, x[(k * 80)..((k + 1) * 80)], dy[(k * 80)..((k + 1) * 80)], 3)),
        ];
        NumericAssert.NearLargest<double>(ghost.Output, [.. alone[0].Output, .. alone[1].Output], 1e-13, "output");
        NumericAssert.NearLargest<double>(ghost.InputGradient, [.. alone[0].InputGradient, .. alone[1].InputGradient], 1e-13, "input gradient");
        NumericAssert.Differs<double>(ghost.Output, Runs.Once(Sync, shape, settings, x, dy, 3).Output, 1e-2, "synchronized");
    }

    [TestMethod]
    public void ForwardBackward_AgainAndOnAnyThreads_GivesTheSameBits()
    {
        var shape = new ActivationShape(9, 6, 17, 19);
        float[] x = TestData.As<float>(TestData.Activations(1, shape));
        float[] dy = TestData.As<float>(TestData.Normal(2, shape.Count));
        StrategySettings settings = new() { Shards = [2, 0, 6, 1] };
        Pass<float> first = Runs.Once(Runs.Create<float>(Sync, shape, settings, 3), shape, x, dy);
        INormalizer<float> warm = Runs.Create<float>(Sync, shape, settings, 3);
        for (int turn = 0; turn < 5; turn++)
        {
            Runs.AssertSame(first, Runs.Once(warm, shape, x, dy), $"turn {turn}");
        }

        Exception?[] failures = Ranks.Run(3, _ => Runs.AssertSame(first, Runs.Once(Runs.Create<float>(Sync, shape, settings, 3), shape, x, dy), "beside others"));
        Assert.IsTrue(failures.All(failure => failure is null), string.Join(Environment.NewLine, failures.AsEnumerable()));
    }
}
