namespace Normalization.Bench;

/// <summary>Something the user can put right; the message is one sentence or two for stderr, naming the value and the way out.</summary>
internal sealed class UsageException(string message) : Exception(message);
