namespace Normalization.Core;

/// <summary>Mean and population variance or covariance of data that comes in parts: exact whatever the parts are.</summary>
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

    /// <summary>Folds a part of several channels into what came before it, variances and covariances alike.</summary>
    /// <param name="mean">By channel, (C).</param>
    /// <param name="covariance">Population covariance within groups of d channels, (C, d): of channel c with those of its group. With d = 1 the variance.</param>
    /// <param name="partMean">The part's mean, (C).</param>
    /// <param name="partCovariance">The part's population covariance, (C, d).</param>
    /// <param name="group">d, a divisor of C.</param>
    /// <param name="share">The part's number of values over that of both, in (0, 1]; 1 where nothing came before.</param>
    public static void Merge(
        Span<double> mean, Span<double> covariance, ReadOnlySpan<double> partMean, ReadOnlySpan<double> partCovariance, int group, double share)
    {
        for (int c = 0; c < mean.Length; c++)
        {
            int first = c - (c % group);
            double delta = partMean[c] - mean[c];
            for (int j = 0; j < group; j++)
            {
                int at = (c * group) + j;
                double between = delta * (partMean[first + j] - mean[first + j]) * share * (1 - share);
                covariance[at] = (covariance[at] * (1 - share)) + (partCovariance[at] * share) + between;
            }
        }

        for (int c = 0; c < mean.Length; c++)
        {
            mean[c] = share == 1 ? partMean[c] : mean[c] + (share * (partMean[c] - mean[c]));
        }
    }
}
