namespace Normalization.Bench;

/// <summary>What the process ends with.</summary>
internal static class ExitCodes
{
    public const string Legend =
        """
        Exit codes: 0 all is well; 1 a check failed (a refuted claim is a result, not a failure) or, of diff, something is slower; 2 the
        command line or a file cannot be used; 4 nothing was measured or, of diff, cannot be compared; 130 stopped by Ctrl-C, 143 by SIGTERM.
        """;

    public const int Success = 0;

    /// <summary>A check failed, or diff found something slower; a refuted claim is a result and no failure.</summary>
    public const int Failed = 1;

    /// <summary>The command line or a file it names cannot be used.</summary>
    public const int Usage = 2;

    /// <summary>Nothing was measured, or what was cannot be compared.</summary>
    public const int NothingMeasured = 4;

    /// <summary>128 + SIGINT.</summary>
    public const int Interrupted = 130;

    /// <summary>128 + SIGTERM.</summary>
    public const int Terminated = 143;
}
