namespace Normalization.Core;

/// <summary>Mean and population variance of data that comes in parts: exact whatever the parts are.</summary>
internal static class StreamingMoments
{
    /// <summary>Folds a part into what came before it (Chan, Golub and LeVeque 1979).</summary>
    /// <param name="mean">Of what came before; of both afterwards.</param>
    /// <param name="variance">Population variance of what came before; of both afterwards.</param>
    /// <param name="partMean">The part's mean.</param>
    /// <param name="partVariance">The part's population variance.</param>
    /// <param name="share">The part's number of values over that of both, in (0, 1]; 1 where nothing came before.</param>
    public static void Merge(ref double mean, ref double variance, double partMean, double partVariance, double share)
    {
        double delta = partMean - mean;
        mean = share == 1 ? partMean : mean + (share * delta);
        variance = (variance * (1 - share)) + (partVariance * share) + (delta * delta * share * (1 - share));
    }
}
