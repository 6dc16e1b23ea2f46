namespace Normalization.Core.Comparison;

/// <summary>A measured number and the interval it lies in with 95 % confidence.</summary>
/// <param name="Value">The number.</param>
/// <param name="Low">The interval's lower end.</param>
/// <param name="High">The interval's upper end.</param>
internal readonly record struct Estimate(double Value, double Low, double High)
{
    /// <summary>The interval as records hold it.</summary>
    public IReadOnlyList<double> Spread => [Low, High];

    /// <summary>The same quantity in another unit.</summary>
    /// <param name="factor">What to multiply by, above 0.</param>
    public Estimate Times(double factor) => new(Value * factor, Low * factor, High * factor);

    /// <summary>An amount over the quantity, such as bytes over seconds.</summary>
    /// <param name="amount">The amount, above 0.</param>
    public Estimate Under(double amount) => new(amount / Value, amount / High, amount / Low);
}

/// <summary>Confidence intervals by resampling, for which no distribution has to be assumed.</summary>
/// <remarks>Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (the percentile interval).</remarks>
internal static class Bootstrap
{
    private const int Resamples = 1000;
    private const double Outside = 0.05;

    /// <summary>The median and its 95 % percentile interval.</summary>
    /// <param name="values">At least one; with fewer than about ten the interval is hardly narrower than their range.</param>
    /// <param name="stream">Draws the resamples: the same stream gives the same interval.</param>
    public static Estimate Median(IReadOnlyList<double> values, RandomStream stream)
    {
        var resample = new double[values.Count];
        var medians = new double[Resamples];
        for (int i = 0; i < Resamples; i++)
        {
            for (int k = 0; k < resample.Length; k++)
            {
                resample[k] = values[stream.NextInt32(values.Count)];
            }

            Array.Sort(resample);
            medians[i] = Arithmetic.Percentile(resample, 0.5);
        }

        Array.Sort(medians);
        return new Estimate(Arithmetic.Median(values), Arithmetic.Percentile(medians, Outside / 2), Arithmetic.Percentile(medians, 1 - (Outside / 2)));
    }
}
