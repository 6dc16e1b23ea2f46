using Normalization.Core;

namespace Normalization.Bench.Speed;

/// <summary>What is timed of a strategy.</summary>
internal enum Direction
{
    /// <summary>The forward pass in training: the batch's statistics normalize, running statistics are updated where there are any.</summary>
    Forward,

    /// <summary>The backward pass alone, given the statistics that a forward pass saved: gradients of input, weight and bias.</summary>
    Backward,

    /// <summary>The forward pass outside training: running statistics where the strategy has them.</summary>
    Inference,
}

/// <summary>One cell of the benchmark: a strategy on a tensor in a direction.</summary>
/// <param name="Strategy">The catalog id. layer-norm is over all axes but the batch, group-norm has 32 groups, ghost-batch-norm ghosts of 8.</param>
/// <param name="Shape">The activations.</param>
/// <param name="ChannelsLast">Whether channels lie innermost in memory; of no effect for (N, C).</param>
/// <param name="Direction">What is timed.</param>
internal sealed record SpeedCell(string Strategy, ActivationShape Shape, bool ChannelsLast, Direction Direction)
{
    /// <summary>Channel groups of group-norm in every cell.</summary>
    public const int Groups = 32;

    /// <summary>Samples per ghost of ghost-batch-norm in every cell.</summary>
    public const int GhostSize = 8;
}
