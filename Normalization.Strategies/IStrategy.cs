using System.Numerics;
using Normalization.Core;

namespace Normalization.Strategies;

/// <summary>What the catalog knows of a strategy: each strategy's file ends with its own.</summary>
internal interface IStrategy
{
    /// <summary>The permanent kebab-case id.</summary>
    static abstract string Id { get; }

    /// <summary>Which elements share statistics, in words.</summary>
    static abstract string Axes { get; }

    /// <summary>The names of every parameter and buffer that the strategy has under some setting.</summary>
    static virtual IReadOnlyList<string> Tensors => ["weight", "bias"];

    /// <summary>Whether the strategy adds the epsilon of the settings to anything.</summary>
    static virtual bool ReadsEpsilon(StrategySettings settings) => true;

    /// <summary>The settings the strategy reads beside epsilon, weight and bias, in words.</summary>
    static abstract string Options(StrategySettings settings);

    /// <summary>A fresh instance for activations of a shape.</summary>
    static abstract INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>;
}
