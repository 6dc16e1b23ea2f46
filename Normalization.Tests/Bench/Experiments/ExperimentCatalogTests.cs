using Normalization.Bench.Experiments;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Bench.Experiments;

/// <summary>What every experiment owes its readers.</summary>
[TestClass]
public sealed class ExperimentCatalogTests
{
    private static readonly ExperimentScale Scale = new(Quick: true, Seeds: 3, Seed: 1);

    public static IEnumerable<object[]> Claims =>
        from experiment in ExperimentCatalog.All from claim in experiment.Describe(Scale).Claims select new object[] { experiment.Id, claim.Id };

    [TestMethod]
    public void All_EachExperiment_HasItsIdClaimsSetUpAndKnownMetrics()
    {
        CollectionAssert.AllItemsAreUnique(ExperimentCatalog.Ids.ToArray());
        foreach (Experiment experiment in ExperimentCatalog.All)
        {
            ExperimentDescription description = experiment.Describe(Scale);
            StringAssert.Matches(experiment.Id, new("^E([1-9]|1[0-8])$"));
            Assert.AreEqual(experiment.Id, description.Id);
            Assert.IsNotEmpty(description.Claims, experiment.Id);
            CollectionAssert.AllItemsAreUnique(description.Claims.Select(claim => claim.Id).ToArray());
            Assert.IsNotEmpty(description.SetUp, experiment.Id);
            string[] strategies = [.. experiment.Strategies.Select(strategy => strategy.Id)];
            foreach (ExperimentClaim claim in description.Claims)
            {
                foreach (ClaimSide side in new[] { claim.Left, claim.Right }.OfType<ClaimSide>())
                {
                    Assert.Contains(side.Strategy, strategies, $"{experiment.Id} {claim.Id}");
                    Assert.IsNotNull(Metrics.Find(side.Metric), $"{experiment.Id} {claim.Id}: {side.Metric}");
                }
            }

            foreach (ExperimentChart chart in description.Charts)
            {
                Assert.IsNotNull(Metrics.Find(chart.Metric), $"{experiment.Id}: {chart.Metric}");
            }
        }
    }

    // Rows made to order: each claim can come out each way.
    [TestMethod]
    [DynamicData(nameof(Claims))]
    public void Claim_RowsOnEitherSideAndAcross_GetsEveryVerdict(string experiment, string id)
    {
        ExperimentClaim claim = ExperimentCatalog.All.Single(one => one.Id == experiment).Describe(Scale).Claims.Single(one => one.Id == id);
        double beyond = Math.Max(1, Math.Abs(claim.Threshold));
        double sign = claim.Above ? 1 : -1;
        Assert.AreEqual(ExperimentVerdict.Held, Judge(sign * beyond, 0.01 * beyond));
        Assert.AreEqual(ExperimentVerdict.Refuted, Judge(-sign * beyond, 0.01 * beyond));
        Assert.AreEqual(ExperimentVerdict.Inconclusive, claim.Exact ? Judge(double.NaN, 0) : Judge(sign * 0.1 * beyond, beyond));

        string Judge(double distance, double spread)
        {
            var rows = new List<Measurement>();
            for (int seed = 1; seed <= 3; seed++)
            {
                double right = claim.Combination == ClaimCombination.Ratio ? 1 : 0;
                Add(claim.Left, claim.Threshold + distance + ((seed - 2) * spread));
                if (claim.Right is not null)
                {
                    Add(claim.Right, right);
                }

                void Add(ClaimSide side, double value)
                {
                    var parameters = new Dictionary<string, object>(side.Parameters ?? new Dictionary<string, object>()) { ["seed"] = (long)seed };
                    rows.Add(new Measurement
                    {
                        Aspect = Aspects.Training,
                        Strategy = side.Strategy,
                        Scenario = experiment,
                        Metric = side.Metric,
                        Unit = "1",
                        Value = value,
                        Parameters = parameters,
                    });
                }
            }

            return ExperimentVerdict.Judge(experiment, claim, rows).Verdict;
        }
    }
}
