using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Oracles;

namespace Normalization.Tests.Support;

/// <summary>One of the strategies whose oracle is <see cref="NaiveNormalizer"/>.</summary>
internal sealed class BasicCase(string id) : StrategyCase
{
    public override string Id => id;

    public override Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest) =>
        new NaiveNormalizer(id, shape, settings, largest);

    public override bool FixesTrailingAxes => id == TestData.LayerNorm;

    public override bool Carries(ActivationShape shape) => id != TestData.InstanceNorm || shape.SpatialSize > 1;

    public override bool Whitens => id == TestData.ZcaWhitening;

    public override double Tolerance<T>() =>
        !Whitens ? base.Tolerance<T>() : typeof(T) == typeof(float) ? 1e-5 : 1e-10;

    public override IEnumerable<StrategySettings> Configurations(ActivationShape shape)
    {
        var plain = new StrategySettings();
        switch (Id)
        {
            case TestData.BatchNorm:
                yield return plain;
                yield return plain with { Momentum = null, RunningVariance = RunningVariance.Population };
                yield return plain with { RunningStatistics = false, Epsilon = 1e-3 };
                break;
            case TestData.LayerNorm:
                for (int axes = shape.Rank - 1; axes >= 1; axes--)
                {
                    if (Enumerable.Range(shape.Rank - axes, axes).Aggregate(1L, (product, axis) => product * (long)shape[axis]) > 1)
                    {
                        yield return plain with { NormalizedDimensions = axes };
                    }
                }

                yield return plain with { Epsilon = 1e-2 };
                break;
            case TestData.InstanceNorm:
                if (shape.SpatialSize > 1)
                {
                    yield return plain;
                    yield return plain with { RunningStatistics = true };
                    yield return plain with { RunningStatistics = true, Momentum = null, RunningVariance = RunningVariance.Population };
                }

                break;
            case TestData.GroupNorm:
                foreach (int groups in new[] { 1, 2, 3, shape.Channels })
                {
                    if (shape.Channels % groups == 0 && shape.Channels / groups * shape.SpatialSize > 1)
                    {
                        yield return plain with { Groups = groups };
                    }
                }

                break;
            case TestData.GhostBatchNorm:
                StrategySettings ghost = plain with { GhostSize = 2 };
                if (shape.SpatialSize > 1)
                {
                    yield return ghost with { GhostRemainder = GhostRemainder.Balanced };
                    yield return ghost with { GhostRemainder = GhostRemainder.Balanced, GhostGrouping = GhostGrouping.Strided };
                    yield return ghost with { GhostRemainder = GhostRemainder.SmallerLast, GhostRunning = GhostRunning.Sequential };
                    yield return ghost with { GhostRemainder = GhostRemainder.Balanced, GhostRunning = GhostRunning.Sequential, Momentum = null };
                    yield return ghost with { GhostSize = 1 };
                }

                yield return plain with { GhostRemainder = GhostRemainder.SmallerLast };
                break;
            case TestData.ZcaWhitening:
                yield return plain;
                yield return plain with { GroupSize = 2 };
                yield return plain with { Shrinkage = 0.1, Momentum = null };
                yield return plain with { WhiteningRunning = WhiteningRunning.WhiteningMatrix, Epsilon = 1e-3 };
                if (shape.Channels % 3 == 0)
                {
                    yield return plain with { GroupSize = 3, Shrinkage = 0.05, RunningVariance = RunningVariance.Population };
                    yield return plain with { GroupSize = 1 };
                }

                break;
            default:
                throw new ArgumentException(Id);
        }
    }
}
