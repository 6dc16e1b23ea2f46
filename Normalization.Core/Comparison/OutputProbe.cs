using MathNet.Numerics.LinearAlgebra;

namespace Normalization.Core.Comparison;

/// <summary>What comes out: statistics against their exact values, precision, distances, decorrelation, train/inference gap.</summary>
internal static class OutputProbe
{
    private const int TrainingBatches = 150;

    // Of the scale that the legend of float_error names: a few roundings of a float where each set is standardized by itself; a
    // strategy that mixes sets adds up many products, and one that names none is held to the same.
    public const double SetLimit = 5e-7;
    public const double TensorLimit = 1e-5;

    // The mean and variance of what claims to be centred and scaled, in float: as the standardized values' own tolerance.
    private const double MomentLimit = 1e-6;

    /// <summary>Measures one contestant; <paramref name="all"/> are those it is compared with.</summary>
    public static void Measure(ProbeCase probe, ScenarioPool pool, IReadOnlyList<Contestant> all)
    {
        int samples = probe.Settings.Thorough ? 128 : 32;
        ActivationShape shape = probe.Scenario.Shape(samples);
        double[] input = probe.Scenario.Draw(samples, probe.Stream("batch"));
        if (!probe.CanCarry(shape, input))
        {
            return;
        }

        INormalizer<double> plain = probe.Create<double>(shape, Affine.Plain);
        double[] normalized = ProbeCase.Forward(plain, shape, input);
        if (!normalized.All(double.IsFinite))
        {
            probe.Fail("The output of a finite batch is not finite.");
        }

        ReductionSets? sets = ReductionSets.Of(plain, shape);
        bool standardizes = sets is not null && probe.StandardizesWithinSets(shape, input, sets);
        if (sets is not null && !standardizes && !plain.MixesReductionSets)
        {
            probe.Fail("An element's output changes with other reduction sets than the one ReductionSetOf names for it, and MixesReductionSets is false.");
        }

        var covariance = new ChannelCovariance(shape, input);
        Matrix<double> whitened = covariance.Whitened(probe.Settings.Epsilon);

        probe.Attempt(["set_mean_error", "set_variance_error"], () =>
            SetMoments(probe, shape, input, sets, standardizes, ProbeCase.Whitens(plain) ? whitened : null));
        probe.Attempt(["float_error"], () => FloatError(probe, shape, input, standardizes ? sets : null));
        Distances(probe, shape, input, normalized, all);
        Decorrelation(probe, shape, normalized, whitened);
        ClaimProbe.Measure(probe, shape, input, plain.Claims);
        probe.Attempt(["train_inference_gap"], () => Gap(probe, shape, input, pool), ProbeCase.Parameters("batches", (long)TrainingBatches));
        probe.Attempt(["input_recovery_error"], () => Recovery(probe, shape, input));
    }

    private static void SetMoments(
        ProbeCase probe, ActivationShape shape, double[] input, ReductionSets? sets, bool standardizes, Matrix<double>? whitened)
    {
        if (sets is null)
        {
            probe.Missing(["set_mean_error", "set_variance_error"], "the strategy declares no reduction sets");
            return;
        }

        INormalizer<float> single = probe.Create<float>(shape, Affine.Plain);
        double[] output = Arithmetic.ToDouble(ProbeCase.Forward(single, shape, Arithmetic.ToSingle(input)));
        (double[] means, double[] variances) = sets.Moments(output);
        NormalizerClaims claims = single.Claims;
        probe.AddJudged("set_mean_error", Arithmetic.Largest(means), claims.HasFlag(NormalizerClaims.ShiftInvariance) ? MomentLimit : null);
        double? limit = claims.HasFlag(NormalizerClaims.ScaleInvariance | NormalizerClaims.ShiftInvariance) ? MomentLimit : null;
        if (whitened is not null && sets.Count == shape.Channels)
        {
            probe.AddJudged("set_variance_error", Arithmetic.LargestDifference(variances, [.. whitened.Diagonal()]), limit is null ? null : TensorLimit);
        }
        else if (standardizes)
        {
            (_, double[] inputVariances) = sets.Moments(input);
            double[] exact = [.. inputVariances.Select(variance => Arithmetic.Ratio(variance, variance + probe.Settings.Epsilon))];
            probe.AddJudged("set_variance_error", Arithmetic.LargestDifference(variances, exact), limit);
        }
        else
        {
            probe.Missing(["set_variance_error"], "the strategy mixes its reduction sets in a way the harness has no exact variance for");
        }
    }

    private static void FloatError(ProbeCase probe, ActivationShape shape, double[] input, ReductionSets? sets)
    {
        double[] exact = ProbeCase.Forward(probe.Create<double>(shape, Affine.Random), shape, input);
        double[] weighted = ProbeCase.Forward(probe.Create<double>(shape, Affine.RandomWeight), shape, input);
        double[] measured = Arithmetic.ToDouble(ProbeCase.Forward(probe.Create<float>(shape, Affine.Random), shape, Arithmetic.ToSingle(input)));

        // The largest |measured - exact| over the largest scale of its reduction set, or of the tensor without sets.
        double[] errors = [.. measured.Zip(exact, (a, b) => Math.Abs(a - b))];
        double[] scales = [.. weighted.Zip(exact, (product, whole) => Math.Abs(product) + Math.Abs(whole - product))];
        double error = sets is null
            ? Arithmetic.Ratio(Arithmetic.Largest(errors), Arithmetic.Largest(scales))
            : Arithmetic.Largest([.. sets.Max(errors).Zip(sets.Max(scales), Arithmetic.Ratio)]);
        probe.Add("float_error", error, note: sets is null ? "relative to the largest value of the tensor" : null);
        double limit = sets is null ? TensorLimit : SetLimit;
        if (!(error <= limit))
        {
            probe.Fail(FormattableString.Invariant($"float_error is {error:0.0e+0}, above {limit:0.0e+0}."));
        }
    }

    private static void Distances(ProbeCase probe, ActivationShape shape, double[] input, double[] normalized, IReadOnlyList<Contestant> all)
    {
        foreach (Contestant other in all)
        {
            if (other.Id == probe.Contestant.Id)
            {
                continue;
            }

            IReadOnlyDictionary<string, object> parameters = ProbeCase.Parameters("other", other.Id);
            try
            {
                INormalizer<double> instance = other.Create<double>(shape, probe.Settings.Epsilon);
                probe.SetAffine(instance, Affine.Plain);
                probe.Add("distance", Arithmetic.RootMeanSquareDifference(normalized, ProbeCase.Forward(instance, shape, input)), parameters: parameters);
            }
            catch (Exception exception) when (exception is not (OperationCanceledException or OutOfMemoryException))
            {
                // Whatever is wrong with the other is for its own case to judge.
                probe.Missing(["distance"], ProbeCase.Reason(exception), parameters);
            }
        }
    }

    private static void Decorrelation(ProbeCase probe, ActivationShape shape, double[] normalized, Matrix<double> whitened)
    {
        var covariance = new ChannelCovariance(shape, normalized);
        int constant = covariance.ConstantChannels;
        string? note = constant == 0 ? null : FormattableString.Invariant($"without {constant} constant channel(s)");
        double? correlation = covariance.LargestCorrelation();
        probe.Add("correlation_left", correlation, note: correlation is null ? "fewer than two channels vary" : note);
        if (normalized.All(double.IsFinite))
        {
            double condition = covariance.ConditionNumber();
            probe.Add("condition_number_left", condition, note: double.IsInfinity(condition) ? "the channels are linearly dependent" : note);
        }
        else
        {
            probe.Missing(["condition_number_left"], "the output is not finite");
        }

        probe.Add("whiteness_error", Arithmetic.Largest((covariance.Matrix - whitened).ToRowMajorArray()));
    }

    private static void Gap(ProbeCase probe, ActivationShape shape, double[] input, ScenarioPool pool)
    {
        INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Random);
        var batch = new double[input.Length];
        var output = new double[input.Length];
        RandomStream stream = probe.Stream("training-batches");
        for (int i = 0; i < TrainingBatches; i++)
        {
            probe.Settings.Cancellation.ThrowIfCancellationRequested();
            pool.Gather(pool.Values, pool.Choose((int)shape.Samples, stream), batch);
            normalizer.Forward(shape, batch, output);
        }

        // Where running statistics take part in training too, those of the trained layer do.
        INormalizer<double> other = probe.Create<double>(shape, Affine.Random);
        ProbeCase.CopyBuffers(normalizer, other);
        double[] training = ProbeCase.Forward(other, shape, input);
        normalizer.Training = false;
        normalizer.Forward(shape, input, output);
        probe.Add("train_inference_gap",
            Arithmetic.Ratio(Arithmetic.RootMeanSquareDifference(training, output), Arithmetic.RootMeanSquare(training)),
            parameters: ProbeCase.Parameters("batches", (long)TrainingBatches));
    }

    private static void Recovery(ProbeCase probe, ActivationShape shape, double[] input)
    {
        INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Plain);
        Parameter<double>? weight = normalizer.Parameters.FirstOrDefault(parameter => parameter.Name == "weight");
        Parameter<double>? bias = normalizer.Parameters.FirstOrDefault(parameter => parameter.Name == "bias");
        if (weight is null || bias is null || weight.Shape.Length == 0 || weight.Shape[0] != shape.Channels || bias.Values.Length != weight.Values.Length)
        {
            probe.Missing(["input_recovery_error"], "the strategy has no weight and bias by channel");
            return;
        }

        (double[] means, double[] variances) = ReductionSets.Channels(shape).Moments(input);
        int perChannel = weight.Values.Length / shape.Channels;
        for (int i = 0; i < weight.Values.Length; i++)
        {
            weight.Values[i] = Math.Sqrt(variances[i / perChannel] + probe.Settings.Epsilon);
            bias.Values[i] = means[i / perChannel];
        }

        double[] output = ProbeCase.Forward(normalizer, shape, input);
        probe.Add("input_recovery_error", Arithmetic.Ratio(Arithmetic.LargestDifference(output, input), Arithmetic.Largest(input)));
    }
}
