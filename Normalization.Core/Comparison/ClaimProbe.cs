namespace Normalization.Core.Comparison;

/// <summary>Measures every property of <see cref="NormalizerClaims"/>, declared or not. Double, weight 1, bias 0.</summary>
internal static class ClaimProbe
{
    // Rounding in double, with room for means 1e4 times the deviation and condition numbers of 1e4.
    private const double ExactTolerance = 1e-8;

    // Factors that differ by channel or by sample leave no epsilon that makes the law exact: it holds as epsilon becomes negligible.
    private const double NegligibleTolerance = 1e-6;
    private const double NegligibleEpsilon = 1e-10;

    /// <summary>A property's name in the records: <c>shift-invariance</c>.</summary>
    public static string Name(NormalizerClaims claim) =>
        string.Concat(claim.ToString().Select((letter, index) => char.IsUpper(letter) && index > 0 ? $"-{letter}" : $"{letter}")).ToLowerInvariant();

    /// <summary>Adds a row for each property.</summary>
    public static void Measure(ProbeCase probe, ActivationShape shape, double[] input, NormalizerClaims declared)
    {
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        int sampleLength = channels * positions;
        int samples = (int)shape.Samples;
        double epsilon = probe.Settings.Epsilon;
        double[] reference = Run(input, epsilon);
        RandomStream stream = probe.Stream("claims");

        (_, double[] channelVariances) = ReductionSets.Channels(shape).Moments(input);
        double deviation = Math.Sqrt(channelVariances.Average());
        double[] channelShifts = Gaussians(channels);
        double[] sampleShifts = Gaussians(samples);
        double[] channelFactors = Factors(channels);
        double[] sampleFactors = Factors(samples);
        double[] rotation = stream.NextOrthogonal(channels);
        int[] order = stream.NextPermutation(samples);

        Invariance(NormalizerClaims.ShiftInvariance, (_, _, x) => x + (3 * deviation), epsilon, ExactTolerance);
        Invariance(NormalizerClaims.ChannelShiftInvariance, (_, channel, x) => x + channelShifts[channel], epsilon, ExactTolerance);
        Invariance(NormalizerClaims.SampleShiftInvariance, (sample, _, x) => x + sampleShifts[sample], epsilon, ExactTolerance);
        const double Factor = 3.7;
        Invariance(NormalizerClaims.ScaleInvariance, (_, _, x) => Factor * x, epsilon * Factor * Factor, ExactTolerance);
        ScaleByPart(NormalizerClaims.ChannelScaleInvariance, (_, channel, x) => channelFactors[channel] * x);
        ScaleByPart(NormalizerClaims.SampleScaleInvariance, (sample, _, x) => sampleFactors[sample] * x);
        Check(NormalizerClaims.RotationEquivariance, ExactTolerance, () => Deviation(
            Run(Arithmetic.MixChannels(shape, rotation, input), epsilon), Arithmetic.MixChannels(shape, rotation, reference)));
        Check(NormalizerClaims.Whitening, NegligibleTolerance, () => Arithmetic.Largest(
            (new ChannelCovariance(shape, reference).Matrix - new ChannelCovariance(shape, input).Whitened(epsilon)).ToRowMajorArray()));
        Check(NormalizerClaims.BatchPermutationEquivariance, ExactTolerance, () => Deviation(Run(Permute(input), epsilon), Permute(reference)));

        double change = double.NaN;
        Check(NormalizerClaims.SampleIndependence, 0, () => change = ChangeWithOthers());
        Check(NormalizerClaims.BatchDependence, ExactTolerance, () => double.IsNaN(change) ? ChangeWithOthers() : change, above: true);

        double[] Run(double[] x, double itsEpsilon) => ProbeCase.Forward(probe.Create<double>(shape, Affine.Plain, itsEpsilon), shape, x);

        double[] Gaussians(int count)
        {
            var values = new double[count];
            stream.FillGaussian(values);
            return [.. values.Select(value => value * deviation)];
        }

        double[] Factors(int count) => [.. Enumerable.Range(0, count).Select(_ => Math.Pow(2, (2 * stream.NextDouble()) - 1))];

        double[] Map(Func<int, int, double, double> change)
        {
            var result = new double[input.Length];
            for (int i = 0; i < result.Length; i++)
            {
                result[i] = change(i / sampleLength, i / positions % channels, input[i]);
            }

            return result;
        }

        double[] Permute(double[] values)
        {
            var result = new double[values.Length];
            for (int sample = 0; sample < samples; sample++)
            {
                Array.Copy(values, order[sample] * sampleLength, result, sample * sampleLength, sampleLength);
            }

            return result;
        }

        double Deviation(double[] changed, double[] expected) =>
            Arithmetic.Ratio(Arithmetic.LargestDifference(changed, expected), Arithmetic.Largest(expected));

        // Keeps one sample in its place and replaces all others.
        double ChangeWithOthers()
        {
            double largest = 0;
            foreach (int kept in new[] { 0, samples / 2, samples - 1 })
            {
                double[] others = probe.Scenario.Draw(samples, probe.Stream("others"));
                Array.Copy(input, kept * sampleLength, others, kept * sampleLength, sampleLength);
                double[] output = Run(others, epsilon);
                Range own = (kept * sampleLength)..((kept + 1) * sampleLength);
                largest = Math.Max(largest, Arithmetic.LargestDifference(output.AsSpan()[own], reference.AsSpan()[own]));
            }

            return Arithmetic.Ratio(largest, Arithmetic.Largest(reference));
        }

        void Invariance(NormalizerClaims claim, Func<int, int, double, double> change, double itsEpsilon, double tolerance) =>
            Check(claim, tolerance, () => Deviation(Run(Map(change), itsEpsilon), reference));

        void ScaleByPart(NormalizerClaims claim, Func<int, int, double, double> change) => Check(claim, NegligibleTolerance, () =>
            Deviation(Run(Map(change), epsilon * NegligibleEpsilon), Run(input, epsilon * NegligibleEpsilon)));

        void Check(NormalizerClaims claim, double tolerance, Func<double> measure, bool above = false)
        {
            bool isDeclared = declared.HasFlag(claim);
            var parameters = new Dictionary<string, object>(StringComparer.Ordinal)
            {
                ["claim"] = Name(claim),
                ["declared"] = isDeclared,
                ["verdict"] = "not measured",
                ["tolerance"] = tolerance,
            };
            probe.Attempt(["claim"], () =>
            {
                double value = measure();
                bool holds = above ? value > tolerance : value <= tolerance;
                parameters["verdict"] = (isDeclared, holds) switch
                {
                    (true, true) => "verified",
                    (true, false) => "refuted",
                    (false, true) => "holds undeclared",
                    (false, false) => "not claimed",
                };
                probe.Add("claim", value, parameters: parameters, note: above ? "holds where the value is above the tolerance" : null);
            }, parameters);
        }
    }
}
