namespace Normalization.Strategies;

/// <summary>Argument checks that run before a base constructor.</summary>
internal static class Guard
{
    public static int Channels(int channels) =>
        channels >= 1 ? channels : throw new ArgumentOutOfRangeException(nameof(channels), channels, $"There must be at least 1 channel; got {channels}.");
}
