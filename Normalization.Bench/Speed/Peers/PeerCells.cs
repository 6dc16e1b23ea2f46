namespace Normalization.Bench.Speed;

/// <summary>What the peers agree on about cells.</summary>
internal static class PeerCells
{
    /// <summary>Null where the five standardizing strategies, as the cells set them, accept the shape; else why not, in a few words.</summary>
    public static string? Refusal(SpeedCell cell) => cell.Strategy switch
    {
        "batch-norm" or "layer-norm" => null,
        "instance-norm" => cell.Shape.SpatialSize > 1 ? null : "instance normalization needs more than 1 position",
        "group-norm" => cell.Shape.Channels % SpeedCell.Groups == 0 ? null : $"{cell.Shape.Channels} channels are not divisible by {SpeedCell.Groups} groups",
        "ghost-batch-norm" => cell.Shape.Samples % GhostSize(cell) == 0 ? null : $"{cell.Shape.Samples} samples are not divisible by ghosts of {SpeedCell.GhostSize}",
        _ => $"it has no {cell.Strategy}",
    };

    /// <summary>Samples per ghost: a batch smaller than a ghost is one ghost.</summary>
    public static int GhostSize(SpeedCell cell) => (int)Math.Clamp(cell.Shape.Samples, 1, SpeedCell.GhostSize);

    /// <summary>Whether the cell is the affine map of batch normalization with running statistics.</summary>
    public static bool UsesRunning(SpeedCell cell) =>
        cell.Direction == Direction.Inference && cell.Strategy is ("batch-norm" or "ghost-batch-norm");

    /// <summary>Whether channels lie innermost in memory: channels-last, and every (N, C).</summary>
    public static bool ChannelsInnermost(SpeedCell cell) => cell.ChannelsLast || cell.Shape.SpatialSize == 1;
}
