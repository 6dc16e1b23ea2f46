namespace Normalization.Core.Collectives;

/// <summary>Ranks do not go together: one did not come in time, left, or came with another shape or call.</summary>
public sealed class CollectiveException : InvalidOperationException
{
    /// <summary>An exception that says nothing yet.</summary>
    public CollectiveException()
    {
    }

    /// <summary>An exception with its message.</summary>
    /// <param name="message">Which rank, and what it did.</param>
    public CollectiveException(string message)
        : base(message)
    {
    }

    /// <summary>An exception with its message and cause.</summary>
    /// <param name="message">Which rank, and what it did.</param>
    /// <param name="innerException">What went wrong on that rank.</param>
    public CollectiveException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
