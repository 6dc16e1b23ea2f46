using MathNet.Numerics.LinearAlgebra;

namespace Normalization.Core.Comparison;

/// <summary>What goes back: gradients against differences, exact identities, gain, behaviour behind a linear layer. Double.</summary>
internal static class GradientProbe
{
    private const int Samples = 32;
    private const int TrainingBatches = 20;

    // 4 x 4 positions of 16 channels: 256 singular values, of which 32 evenly spaced ones are recorded.
    private const int JacobianSide = 4;
    private const int RecordedSingularValues = 32;

    // Differences in double come to 1e-9 or better at mean 0 and 1e-7 at mean 1e4.
    private const double Limit = 1e-6;

    // The exact identities hold to rounding; the worst of the built-in strategies is 1e-12.
    private const double IdentityLimit = 1e-9;

    /// <summary>Measures one contestant.</summary>
    public static void Measure(ProbeCase probe, ScenarioPool pool)
    {
        ActivationShape shape = probe.Scenario.Shape(Samples);
        double[] input = probe.Scenario.Draw(Samples, probe.Stream("batch"));
        if (!probe.CanCarry(shape, input))
        {
            return;
        }

        var upstream = new double[input.Length];
        probe.Stream("upstream").FillGaussian(upstream);
        double[] weights = LinearLayer(shape.Channels, probe.Stream("linear-layer"));

        Differences(probe, shape, input, pool, training: true);
        Differences(probe, shape, input, pool, training: false);
        probe.Attempt(["gradient_sum_error", "bias_before_gradient"], () => Sums(probe, shape, input, upstream));
        probe.Attempt(["gradient_projection_error", "gradient_gain"], () => Projection(probe, shape, input, upstream));
        foreach (double factor in new[] { 0.1, 3, 100 })
        {
            probe.Attempt(["weight_scale_output_error", "weight_scale_gradient_error"],
                () => ScaledWeights(probe, shape, input, upstream, weights, factor), ProbeCase.Parameters("a", factor));
        }

        probe.Attempt(["jacobian_singular_value", "jacobian_condition"], () => Jacobian(probe, shape, input, weights));
    }

    private static void Differences(ProbeCase probe, ActivationShape shape, double[] input, ScenarioPool pool, bool training)
    {
        string mode = training ? "training" : "inference";
        probe.Attempt(["gradient_error_input", "gradient_error_parameter"], () =>
        {
            INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Random);
            if (!training)
            {
                RandomStream stream = probe.Stream("training-batches");
                for (int i = 0; i < TrainingBatches; i++)
                {
                    ProbeCase.Forward(normalizer, shape, pool.Batch(pool.Choose(Samples, stream)));
                }

                normalizer.Training = false;
            }

            var checker = new GradientChecker { MaximumElements = probe.Settings.Thorough ? 256 : 48, Seed = probe.Settings.Seed };
            foreach (GradientCheck check in checker.Check(normalizer, shape, input, probe.Settings.Cancellation))
            {
                if (check.Quantity == "input")
                {
                    probe.Add("gradient_error_input", check.RelativeError, parameters: ProbeCase.Parameters("mode", mode));
                }
                else
                {
                    probe.Add("gradient_error_parameter", check.RelativeError, parameters: new Dictionary<string, object>(StringComparer.Ordinal)
                    {
                        ["parameter"] = check.Quantity,
                        ["mode"] = mode,
                    });
                }

                if (!(check.RelativeError <= Limit))
                {
                    probe.Fail(FormattableString.Invariant(
                        $"The {check.Quantity} gradient in {mode} is off by {check.RelativeError:0.0e+0}, above {Limit:0.0e+0}: element {check.WorstIndex} is {check.Analytic:g6}, five-point difference {check.Numeric:g6}."));
                }
            }
        }, ProbeCase.Parameters("mode", mode));
    }

    private static void Sums(ProbeCase probe, ActivationShape shape, double[] input, double[] upstream)
    {
        INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Random);
        double[] gradient = Gradient(normalizer, shape, input, upstream);
        if (ReductionSets.Of(normalizer, shape) is { } sets)
        {
            probe.AddJudged("gradient_sum_error", Arithmetic.Largest([.. RelativeSums(sets, gradient)]),
                normalizer.Claims.HasFlag(NormalizerClaims.ShiftInvariance) ? IdentityLimit : null);
        }
        else
        {
            probe.Missing(["gradient_sum_error"], "the strategy declares no reduction sets");
        }

        probe.Add("bias_before_gradient", Arithmetic.Largest([.. RelativeSums(ReductionSets.Channels(shape), gradient)]));
    }

    private static IEnumerable<double> RelativeSums(ReductionSets sets, double[] values) =>
        sets.Sum(values).Zip(sets.Sum(Array.ConvertAll(values, Math.Abs)), Arithmetic.Ratio);

    private static void Projection(ProbeCase probe, ActivationShape shape, double[] input, double[] upstream)
    {
        INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Plain);
        double[] normalized = ProbeCase.Forward(normalizer, shape, input);
        double[] gradient = ProbeCase.Backward(normalizer, shape, input, upstream);
        double epsilon = probe.Settings.Epsilon;
        if (ProbeCase.Whitens(normalizer))
        {
            probe.Add("gradient_projection_error", WhiteningProjection(shape, input, upstream, gradient, epsilon),
                note: "whitening: over eigenvectors of the covariance in place of reduction sets");
        }
        else if (normalizer.MixesReductionSets)
        {
            probe.Missing(["gradient_projection_error"], "the strategy mixes its reduction sets in a way the harness has no exact identity for");
        }
        else if (ReductionSets.Of(normalizer, shape) is { } sets)
        {
            (_, double[] variances) = sets.Moments(input);
            double[] left = sets.Sum(Product(gradient, normalized));
            double[] products = Product(upstream, normalized);
            double[] right = sets.Sum(products);
            double[] scale = sets.Sum(Array.ConvertAll(products, Math.Abs));
            double worst = 0;
            for (int set = 0; set < left.Length; set++)
            {
                double inverse = 1 / Math.Sqrt(variances[set] + epsilon);
                worst = Math.Max(worst, Arithmetic.Ratio(Math.Abs(left[set] - (epsilon * inverse * inverse * inverse * right[set])), inverse * scale[set]));
            }

            probe.AddJudged("gradient_projection_error", worst,
                normalizer.Claims.HasFlag(NormalizerClaims.ScaleInvariance | NormalizerClaims.ShiftInvariance) ? IdentityLimit : null);
        }
        else
        {
            probe.Missing(["gradient_projection_error"], "the strategy declares no reduction sets");
        }

        probe.Add("gradient_gain", Arithmetic.RootMeanSquare(gradient) / Arithmetic.RootMeanSquare(upstream));
    }

    // diag(D^T dX Xc^T D)_i = epsilon * lambda_i^(-3/2) * diag(D^T G Xc^T D)_i, with D and lambda of S + epsilon I.
    private static double WhiteningProjection(ActivationShape shape, double[] input, double[] upstream, double[] gradient, double epsilon)
    {
        var covariance = new ChannelCovariance(shape, input);
        (double[] eigenvalues, Matrix<double> vectors) = ChannelCovariance.Eigen(covariance.Matrix);
        double[] rotation = vectors.Transpose().ToRowMajorArray();
        double[] centered = Arithmetic.MixChannels(shape, rotation, covariance.CenteredTensor());
        double[] products = Product(Arithmetic.MixChannels(shape, rotation, upstream), centered);
        ReductionSets directions = ReductionSets.Channels(shape);
        double[] left = directions.Sum(Product(Arithmetic.MixChannels(shape, rotation, gradient), centered));
        double[] right = directions.Sum(products);
        double[] scale = directions.Sum(Array.ConvertAll(products, Math.Abs));
        double worst = 0;
        double largest = eigenvalues.Max();
        for (int i = 0; i < left.Length; i++)
        {
            // Along a direction without variance both sides are rounding alone.
            if (eigenvalues[i] <= 1e-12 * largest)
            {
                continue;
            }

            double inverse = 1 / Math.Sqrt(eigenvalues[i] + epsilon);
            worst = Math.Max(worst, Arithmetic.Ratio(Math.Abs(left[i] - (epsilon * inverse * inverse * inverse * right[i])), inverse * scale[i]));
        }

        return worst;
    }

    private static void ScaledWeights(ProbeCase probe, ActivationShape shape, double[] input, double[] upstream, double[] weights, double factor)
    {
        (double[] output, double[] gradient) = Run(1);
        (double[] scaledOutput, double[] scaledGradient) = Run(factor);
        IReadOnlyDictionary<string, object> parameters = ProbeCase.Parameters("a", factor);
        probe.Add("weight_scale_output_error",
            Arithmetic.Ratio(Arithmetic.LargestDifference(scaledOutput, output), Arithmetic.Largest(output)), parameters: parameters);
        double[] expected = Array.ConvertAll(scaledGradient, value => value * factor);
        probe.Add("weight_scale_gradient_error",
            Arithmetic.Ratio(Arithmetic.LargestDifference(expected, gradient), Arithmetic.Largest(gradient)), parameters: parameters);

        (double[] Output, double[] WeightGradient) Run(double scale)
        {
            double[] before = Arithmetic.MixChannels(shape, Array.ConvertAll(weights, weight => scale * weight), input);
            INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Random, probe.Settings.Epsilon * scale * scale);
            double[] after = ProbeCase.Forward(normalizer, shape, before);
            return (after, WeightGradient(shape, ProbeCase.Backward(normalizer, shape, before, upstream), input));
        }
    }

    // dL/dW of h = W u: the sum over samples and positions of dL/dh u^T, (C, C) row-major.
    private static double[] WeightGradient(ActivationShape shape, double[] gradient, double[] input)
    {
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        var result = new double[channels * channels];
        for (int sample = 0; sample < shape.Samples; sample++)
        {
            for (int to = 0; to < channels; to++)
            {
                ReadOnlySpan<double> g = gradient.AsSpan(((sample * channels) + to) * positions, positions);
                for (int from = 0; from < channels; from++)
                {
                    ReadOnlySpan<double> u = input.AsSpan(((sample * channels) + from) * positions, positions);
                    double sum = 0;
                    for (int position = 0; position < positions; position++)
                    {
                        sum += g[position] * u[position];
                    }

                    result[(to * channels) + from] += sum;
                }
            }
        }

        return result;
    }

    // One sample's output by the same sample's input of the linear layer; the other samples are held fixed.
    private static void Jacobian(ProbeCase probe, ActivationShape full, double[] input, double[] weights)
    {
        (ActivationShape shape, double[] cropped) = Crop(full, input, JacobianSide);
        double[] before = Arithmetic.MixChannels(shape, weights, cropped);
        INormalizer<double> normalizer = probe.Create<double>(shape, Affine.Plain);
        ProbeCase.Forward(normalizer, shape, before);
        int size = (int)(shape.Count / shape.Samples);
        ActivationShape one = shape.WithSamples(1);
        double[] transposed = Matrix<double>.Build.DenseOfRowMajor(shape.Channels, shape.Channels, weights).Transpose().ToRowMajorArray();
        var jacobian = Matrix<double>.Build.Dense(size, size);
        var upstream = new double[cropped.Length];
        for (int row = 0; row < size; row++)
        {
            probe.Settings.Cancellation.ThrowIfCancellationRequested();
            upstream[row] = 1;
            double[] gradient = ProbeCase.Backward(normalizer, shape, before, upstream);
            jacobian.SetRow(row, Arithmetic.MixChannels(one, transposed, gradient[..size]));
            upstream[row] = 0;
        }

        if (!Array.TrueForAll(jacobian.ToColumnMajorArray(), double.IsFinite))
        {
            probe.Missing(["jacobian_singular_value", "jacobian_condition"], "the Jacobian is not finite");
            probe.Fail("The Jacobian of a finite batch is not finite.");
            return;
        }

        double[] values = [.. jacobian.Svd(computeVectors: false).S.OrderDescending()];
        int recorded = Math.Min(values.Length, RecordedSingularValues);
        for (int i = 0; i < recorded; i++)
        {
            int index = recorded == 1 ? 0 : (int)((long)i * (values.Length - 1) / (recorded - 1));
            probe.Add("jacobian_singular_value", values[index], parameters: ProbeCase.Parameters("index", index + 1L));
        }

        // 0 / 0 of a strategy that passes nothing on is no number, and infinity of one that passes half the directions on is one.
        probe.Add("jacobian_condition", values[0] / Arithmetic.Median(values));
    }

    // Evenly spaced positions, at most `side` along each spatial axis: a Jacobian of C * S rows has to stay small.
    private static (ActivationShape Shape, double[] Values) Crop(ActivationShape shape, double[] values, int side)
    {
        nint[] lengths = shape.ToArray();
        int[] positions = [0];
        for (int axis = 2; axis < shape.Rank; axis++)
        {
            int length = (int)shape[axis];
            int kept = Math.Min(length, side);
            lengths[axis] = kept;
            positions = [.. positions.SelectMany(outer => Enumerable.Range(0, kept).Select(i => (outer * length) + (((2 * i) + 1) * length / (2 * kept))))];
        }

        int spatial = (int)shape.SpatialSize;
        int rows = (int)shape.Samples * shape.Channels;
        var result = new double[rows * positions.Length];
        for (int i = 0; i < result.Length; i++)
        {
            result[i] = values[(i / positions.Length * spatial) + positions[i % positions.Length]];
        }

        return (new ActivationShape(lengths), result);
    }

    private static double[] LinearLayer(int channels, RandomStream stream)
    {
        var weights = new double[channels * channels];
        stream.FillGaussian(weights);
        return Array.ConvertAll(weights, weight => weight / Math.Sqrt(channels));
    }

    private static double[] Gradient(INormalizer<double> normalizer, ActivationShape shape, double[] input, double[] upstream)
    {
        ProbeCase.Forward(normalizer, shape, input);
        return ProbeCase.Backward(normalizer, shape, input, upstream);
    }

    private static double[] Product(double[] a, double[] b) => [.. a.Zip(b, (u, v) => u * v)];
}
