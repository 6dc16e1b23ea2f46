using System.Runtime;

namespace Normalization.Core.Comparison;

/// <summary>Runs code until the runtime has compiled it for speed.</summary>
/// <remarks>
/// Methods are compiled twice or three times: at their first call, then, once they were called often, in the background, first to be
/// profiled. What was timed before the last of these can be ten times slower.
/// </remarks>
internal static class WarmUp
{
    /// <summary>Repeats until a repetition and the pause behind it in which nothing was compiled.</summary>
    /// <param name="run">Calls what is to be timed, dozens of times if it is short.</param>
    /// <param name="least">Repetitions at least.</param>
    /// <param name="most">Repetitions at most: something else may compile for ever.</param>
    /// <param name="pause">Time for the background to finish, after each repetition.</param>
    /// <param name="cancellation">Ends it between repetitions.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static void UntilCompiled(Action run, int least, int most, TimeSpan pause, CancellationToken cancellation)
    {
        for (int round = 1; round <= most; round++)
        {
            cancellation.ThrowIfCancellationRequested();
            long before = JitInfo.GetCompiledMethodCount();
            run();
            cancellation.WaitHandle.WaitOne(pause);
            if (round >= least && JitInfo.GetCompiledMethodCount() == before)
            {
                return;
            }
        }
    }
}
