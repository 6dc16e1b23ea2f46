using Normalization.Bench;
using Normalization.Bench.Speed;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Speed;

[TestClass]
public sealed class SpeedTierTests
{
    [TestMethod]
    [DataRow("dry", 227, 21)]
    [DataRow("short", 634, 90)]
    [DataRow("full", 634, 102)]
    public void Cases_OfATier_HaveIdsOfTheirOwnAndEveryCell(string name, int cells, int series)
    {
        SpeedTier tier = SpeedTier.All.Single(tier => tier.Name == name);
        string[] ids = [.. tier.Cases.Select(planned => planned.Id)];

        CollectionAssert.AllItemsAreUnique(ids);
        Assert.HasCount(cells, tier.Cases.Where(planned => planned.Scaling is null && planned.Strategy != "zca-whitening" && !planned.IsCrossCheck));
        Assert.HasCount(12 * tier.Threads.Count, tier.Cases.Where(planned => planned.Scaling is null && planned.Strategy == "zca-whitening"));
        Assert.HasCount(series, tier.Cases.Where(planned => planned.Scaling is not null));
        CollectionAssert.Contains(ids, "batch-norm/forward/32x64x56x56/channels-first/1");
        CollectionAssert.Contains(ids, "ghost-batch-norm/inference/2x64x8x8/channels-last/1");
        CollectionAssert.DoesNotContain(ids, "ghost-batch-norm/forward/2x64x8x8/channels-last/1");
        CollectionAssert.Contains(ids, "zca-whitening-in-groups-of-16/forward+backward/32x256x14x14/channels-first/1");
        CollectionAssert.Contains(ids, "iter-norm/forward+backward/32x256x14x14/channels-first/1");
        CollectionAssert.Contains(ids, "rms-norm/forward/8x128x28x28/channels-first/1");
        CollectionAssert.Contains(ids, "scaling/layer-norm/backward/64x64x32x32/channels-first/1");
    }

    [TestMethod]
    public void Cases_OfEveryTier_AreAcceptedByTheirStrategies()
    {
        // The lengths that a strategy looks at, on tensors small enough for a test: fewer samples in the same ghosts, fewer positions.
        foreach (SpeedCase planned in SpeedTier.All.SelectMany(tier => tier.Cases).DistinctBy(planned => (planned.Strategy, planned.Shape, planned.GroupSize, planned.Direction)))
        {
            nint[] lengths = planned.Shape.ToArray();
            lengths[0] = lengths[0] % 8 == 0 ? 8 : Math.Min(lengths[0], 16);
            for (int axis = 2; axis < lengths.Length; axis++)
            {
                // A covariance wants more values than channels.
                lengths[axis] = planned.Direction == SpeedCase.ForwardAndBackward ? lengths[axis] : 2;
            }

            var shape = new ActivationShape(lengths);
            INormalizer<float> normalizer = StrategyCatalog.Create<float>(planned.Strategy, shape, planned.Settings);
            normalizer.Training = planned.Direction != SpeedTensors.Inference;
            Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Normal(1, (int)shape.Count)));
        }
    }

    [TestMethod]
    public void Cases_SeriesOverElements_DoubleFromOneToTheNext()
    {
        long[] counts = [.. SpeedTier.Full.Cases.Where(planned => planned.Scaling == "elements").Select(planned => (long)planned.Shape.Count).Distinct()];

        CollectionAssert.AreEqual(Enumerable.Range(12, 16).Select(exponent => 1L << exponent).ToArray(), counts);
    }

    [TestMethod]
    [DataRow("batch-norm/*/32x64x56x56/*", 6)]
    [DataRow("*/channels-last/1", 70)]
    [DataRow("scaling/zca*", 3)]
    public void Select_Glob_TakesTheIdsThatMatch(string glob, int count) => Assert.HasCount(count, SpeedCommand.Select(SpeedTier.Dry.Cases, glob));

    [TestMethod]
    public void Seat_PeersThatAreMissing_AreStatedUnlessTheyWereNamed()
    {
        static IPeer? Find(string id, out string? missing)
        {
            missing = $"{id} is not installed: get the package";
            return null;
        }

        PeerSeat[] seats = SpeedCommand.Seat(["all"], Find);
        var error = Assert.ThrowsExactly<UsageException>(() => SpeedCommand.Seat(["onednn"], Find));

        CollectionAssert.AreEqual(Normalization.Bench.Speed.Peers.Ids.ToArray(), seats.Select(seat => seat.Id).ToArray());
        Assert.AreEqual("missing: pytorch is not installed: get the package", seats[0].Description);
        Assert.AreEqual("onednn is not installed: get the package", error.Message);
    }

    [TestMethod]
    public void Select_NothingMatches_ListsIds()
    {
        var error = Assert.ThrowsExactly<UsageException>(() => SpeedCommand.Select(SpeedTier.Dry.Cases, "batchnorm/*"));

        StringAssert.Contains(error.Message, "'batchnorm/*' matches none of 260 cases");
        StringAssert.Contains(error.Message, "batch-norm/forward/4096x768/channels-first/1");
    }
}
