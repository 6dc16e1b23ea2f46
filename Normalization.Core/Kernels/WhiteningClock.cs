using System.Diagnostics;

namespace Normalization.Core.Kernels;

/// <summary>What whitening spends its time on.</summary>
internal enum WhiteningPhase
{
    /// <summary>Means and covariances: C d M.</summary>
    Covariance,

    /// <summary>Eigenvectors, inverse roots and their gradients: C d^2.</summary>
    Decomposition,

    /// <summary>Matrices times activations, forward and backward: C d M.</summary>
    Products,
}

/// <summary>Adds up whitening's time by phase for a benchmark; off until it is asked for, and then meant for one caller at a time.</summary>
internal static class WhiteningClock
{
    private static readonly long[] Ticks = new long[3];

    /// <summary>Whether time is taken.</summary>
    public static bool Enabled { get; set; }

    /// <summary>Seconds spent in a phase since <see cref="Reset"/>.</summary>
    public static double Seconds(WhiteningPhase phase) => (double)Ticks[(int)phase] / Stopwatch.Frequency;

    /// <summary>Starts from zero.</summary>
    public static void Reset() => Array.Clear(Ticks);

    internal static long Start() => Enabled ? Stopwatch.GetTimestamp() : 0;

    internal static void Stop(WhiteningPhase phase, long started)
    {
        if (started != 0)
        {
            Ticks[(int)phase] += Stopwatch.GetTimestamp() - started;
        }
    }
}
