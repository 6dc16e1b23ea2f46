namespace Normalization.Bench.Experiments;

/// <summary>When an experiment looks, and order statistics of what it sees.</summary>
internal static class Checkpoints
{
    /// <summary>Whether a step is one of 100, 200, 300, 500, 700, 1000, 2000, ...</summary>
    public static bool IsOne(int step)
    {
        int unit = 1;
        while (step >= 10 * unit)
        {
            unit *= 10;
        }

        return unit >= 100 && step % unit == 0 && step / unit is 1 or 2 or 3 or 5 or 7;
    }

    /// <summary>A percentile by linear interpolation between neighbours.</summary>
    public static double Percentile(double[] values, double percentile)
    {
        double[] sorted = [.. values.Order()];
        double place = percentile / 100 * (sorted.Length - 1);
        int below = (int)place;
        return below + 1 < sorted.Length ? sorted[below] + ((place - below) * (sorted[below + 1] - sorted[below])) : sorted[below];
    }
}
