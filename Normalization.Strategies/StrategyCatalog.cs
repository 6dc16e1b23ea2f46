using System.Numerics;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Strategies;

/// <summary>The list of strategies; tests, comparisons, the command line and reports iterate it.</summary>
public static class StrategyCatalog
{
    /// <summary>The ids in the order they are reported.</summary>
    public static IReadOnlyList<string> Ids { get; } =
        ["none", "batch-norm", "layer-norm", "instance-norm", "group-norm", "ghost-batch-norm", "zca-whitening"];

    /// <summary>A fresh instance of a strategy, in training mode.</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <param name="id">One of <see cref="Ids"/>.</param>
    /// <param name="shape">The activations it will see.</param>
    /// <param name="settings">Options; those the strategy does not have are ignored.</param>
    /// <exception cref="ArgumentException">The id is unknown, an option is out of range or the strategy cannot carry the shape.</exception>
    public static INormalizer<T> Create<T>(string id, ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => throw new NotImplementedException();

    /// <summary>The strategies as contestants of a comparison.</summary>
    /// <param name="settings">Options for all of them; null is what <c>compare</c> uses: 4 groups, ghost size 8 balanced, full whitening.</param>
    public static IReadOnlyList<Contestant> Contestants(StrategySettings? settings = null) => throw new NotImplementedException();
}
