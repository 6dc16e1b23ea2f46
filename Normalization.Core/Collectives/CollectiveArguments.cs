namespace Normalization.Core.Collectives;

/// <summary>What the implementations of <see cref="ICollective"/> check and say alike.</summary>
internal static class CollectiveArguments
{
    public static void RequireRoom(ReadOnlySpan<double> values, Span<double> gathered, int size)
    {
        if (gathered.Length != (long)values.Length * size)
        {
            throw new ArgumentException(
                $"The gathered values of {size} ranks need {(long)values.Length * size} elements, {values.Length} of each; got room for {gathered.Length}.", nameof(gathered));
        }
    }

    /// <summary>"rank 2", "ranks 1, 2".</summary>
    public static string Ranks(IReadOnlyList<int> ranks) => $"{(ranks.Count == 1 ? "rank" : "ranks")} {string.Join(", ", ranks)}";
}
