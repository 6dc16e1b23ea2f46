namespace Normalization.Core;

/// <summary>What a state that was loaded leniently did not share with the layer; both empty where it fits, as a strict one does.</summary>
/// <param name="Missing">The layer's names, prefix included, that the state lacks: their values stayed. All of the layer's where the prefix is wrong.</param>
/// <param name="Surplus">The state's names behind the prefix that the layer does not know.</param>
public sealed record StateMisfit(IReadOnlyList<string> Missing, IReadOnlyList<string> Surplus);
