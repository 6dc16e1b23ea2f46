using System.Numerics.Tensors;

namespace Normalization.Core.Comparison;

/// <summary>What checking one gradient found.</summary>
/// <param name="Quantity"><c>input</c>, or the parameter's name.</param>
/// <param name="RelativeError">Largest |analytic - numeric| over largest |numeric|, over the checked elements; NaN where a value is not finite.</param>
/// <param name="CheckedElements">How many elements were checked.</param>
/// <param name="WorstIndex">The row-major index of the element with the largest difference; -1 where none was checked.</param>
/// <param name="Analytic">Backward's value there.</param>
/// <param name="Numeric">The five-point difference there.</param>
public sealed record GradientCheck(
    string Quantity, double RelativeError, int CheckedElements, int WorstIndex, double Analytic, double Numeric);

/// <summary>Compares a normalizer's backward pass with five-point central differences of its forward pass.</summary>
/// <remarks>
/// <para>The loss is the sum of g * y with g standard normal, so that errors which a constant g would hide show. The difference
/// (y(-2h) - 8 y(-h) + 8 y(h) - y(2h)) / 12h has an error of order h^4; a right backward pass of a well scaled
/// input comes out at 1e-9 or better, and below 1e-6 where the mean is 1e4 times the deviation or the function is steep.</para>
/// <para>The instance is checked in the mode it is in. Running statistics are put back before every forward pass and at the end,
/// so that a strategy whose training output depends on them is differentiated at one point. Parameters end as they began;
/// their gradients end as the analytic ones.</para>
/// </remarks>
public sealed class GradientChecker
{
    // A difference that agrees to this part of the gradient is taken; else up to three nearer ones are tried.
    private const double Agreement = 1e-7;
    private const int NearerSteps = 3;

    /// <summary>The step, as a part of the standard deviation of the element's channel (of a parameter: of the larger of 1 and its size). Default 1e-3.</summary>
    public double RelativeStep { get; init; } = 1e-3;

    /// <summary>How many elements of each quantity are checked, chosen at random; null, the default, checks all.</summary>
    /// <remarks>Each takes four forward passes.</remarks>
    public int? MaximumElements { get; init; }

    /// <summary>The seed of the upstream gradient and of the choice of elements. Default 1.</summary>
    public long Seed { get; init; } = 1;

    /// <summary>Checks the input gradient and every parameter's.</summary>
    /// <param name="normalizer">The instance, in training or inference.</param>
    /// <param name="shape">The shape of the input.</param>
    /// <param name="input">x, dense and channels-first.</param>
    /// <param name="cancellation">Ends the check between two elements.</param>
    /// <returns>The input's check first, then the parameters' in their order.</returns>
    /// <exception cref="ArgumentException">The input has another length than the shape.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public IReadOnlyList<GradientCheck> Check(
        INormalizer<double> normalizer, ActivationShape shape, double[] input, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        ArgumentNullException.ThrowIfNull(input);
        var stream = new RandomStream(Seed, "gradient-checker");
        var outputGradient = new double[input.Length];
        stream.FillGaussian(outputGradient);
        var run = new Run(normalizer, shape, (double[])input.Clone(), outputGradient);

        normalizer.ZeroGradients();
        run.Forward(new double[input.Length]);
        var inputGradient = new double[input.Length];
        normalizer.Backward(shape, run.Input, outputGradient, inputGradient);
        double[][] parameterGradients = [.. normalizer.Parameters.Select(parameter => (double[])parameter.Gradient.Clone())];

        double[] scales = InputScales(shape, input);
        var checks = new List<GradientCheck>();
        bool held = normalizer.HoldConstants;
        normalizer.HoldConstants = true;
        try
        {
            checks.Add(Compare("input", inputGradient, run, run.Input, index => scales[index], stream, cancellation));
            for (int i = 0; i < normalizer.Parameters.Count; i++)
            {
                Parameter<double> parameter = normalizer.Parameters[i];
                checks.Add(Compare(parameter.Name, parameterGradients[i], run, parameter.Values, index => Math.Max(1, Math.Abs(parameter.Values[index])), stream, cancellation));
            }
        }
        finally
        {
            normalizer.HoldConstants = held;
            run.RestoreBuffers();
        }

        return checks;
    }

    private GradientCheck Compare(
        string quantity, double[] analytic, Run run, double[] point, Func<int, double> scaleOf, RandomStream stream, CancellationToken cancellation)
    {
        IEnumerable<int> chosen = MaximumElements is int limit && limit < point.Length
            ? stream.NextPermutation(point.Length).Take(limit)
            : Enumerable.Range(0, point.Length);
        int count = 0;
        int worst = -1;
        double worstNumeric = 0;
        double largestDifference = -1;
        double largestNumeric = 0;
        double largestAnalytic = 0;
        double smallestScale = double.PositiveInfinity;
        foreach (int index in chosen)
        {
            cancellation.ThrowIfCancellationRequested();
            double scale = scaleOf(index);
            double numeric = run.Derivative(point, index, scale * RelativeStep);
            double difference = Math.Abs(analytic[index] - numeric);

            // A kink (a maximum, a clip) within the step makes its difference no derivative; a nearer one then tells. A gradient that is
            // wrong is wrong at every step.
            double step = RelativeStep;
            for (int i = 0; i < NearerSteps && difference > Agreement * Math.Max(largestNumeric, Math.Abs(numeric)); i++)
            {
                step /= 32;
                double nearer = run.Derivative(point, index, scale * step);
                if (Math.Abs(analytic[index] - nearer) < difference)
                {
                    (numeric, difference) = (nearer, Math.Abs(analytic[index] - nearer));
                }
            }

            count++;
            if (!double.IsFinite(difference))
            {
                return new GradientCheck(quantity, double.NaN, count, index, analytic[index], numeric);
            }

            largestNumeric = Math.Max(largestNumeric, Math.Abs(numeric));
            largestAnalytic = Math.Max(largestAnalytic, Math.Abs(analytic[index]));
            smallestScale = Math.Min(smallestScale, scale);
            if (difference > largestDifference)
            {
                (worst, worstNumeric, largestDifference) = (index, numeric, difference);
            }
        }

        if (count == 0)
        {
            return new GradientCheck(quantity, 0, 0, -1, 0, 0);
        }

        // Where the gradient is zero (sets of two values), the difference is nothing but its own rounding: 0 agrees with 0.
        double zero = 1e-10 * run.LargestProduct / smallestScale;
        double error = largestNumeric <= zero && largestAnalytic <= zero ? 0 : largestDifference / largestNumeric;
        return new GradientCheck(quantity, error, count, worst, analytic[worst], worstNumeric);
    }

    // The standard deviation of the element's channel. A channel that is (nearly) constant gets a hundredth of the tensor's:
    // there epsilon sets the scale on which the function bends.
    private static double[] InputScales(ActivationShape shape, double[] input)
    {
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        double[] channelScale = Array.ConvertAll(ReductionSets.Channels(shape).Moments(input).Variances, Math.Sqrt);
        double floor = 0.01 * Math.Sqrt(channelScale.Average(scale => scale * scale));
        if (floor == 0)
        {
            floor = 1;
        }

        return [.. Enumerable.Range(0, input.Length).Select(index => Math.Max(floor, channelScale[index / positions % channels]))];
    }

    private sealed class Run
    {
        private static readonly int[] Offsets = [-2, -1, 1, 2];

        private readonly INormalizer<double> _normalizer;
        private readonly ActivationShape _shape;
        private readonly double[] _outputGradient;
        private readonly double[][] _bufferValues;
        private readonly long[] _bufferCounts;
        private readonly double[][] _outputs;
        private readonly double[] _products;

        public Run(INormalizer<double> normalizer, ActivationShape shape, double[] input, double[] outputGradient)
        {
            _normalizer = normalizer;
            _shape = shape;
            Input = input;
            _outputGradient = outputGradient;
            _bufferValues = [.. normalizer.Buffers.Select(buffer => (double[])buffer.Values.Clone())];
            _bufferCounts = [.. normalizer.Buffers.Select(buffer => buffer.Count)];
            _outputs = [.. Offsets.Select(_ => new double[input.Length])];
            _products = new double[input.Length];
        }

        public double[] Input { get; }

        // Largest |g * y| of the last derivative: what a gradient of size one would be made of.
        public double LargestProduct { get; private set; }

        public void Forward(double[] output)
        {
            RestoreBuffers();
            _normalizer.Forward(_shape, Input, output);
        }

        public void RestoreBuffers()
        {
            if (!_normalizer.Training)
            {
                return; // Inference writes nothing.
            }

            for (int i = 0; i < _bufferValues.Length; i++)
            {
                StateBuffer<double> buffer = _normalizer.Buffers[i];
                _bufferValues[i].CopyTo(buffer.Values, 0);
                buffer.Count = _bufferCounts[i];
            }

            _normalizer.OnStateChanged();
        }

        public double Derivative(double[] point, int index, double step)
        {
            // A power of two: value +- 2 step is then exact, and the step taken is the step divided by.
            step = Math.ScaleB(1, (int)Math.Floor(Math.Log2(step)));
            double value = point[index];
            try
            {
                for (int i = 0; i < Offsets.Length; i++)
                {
                    point[index] = value + (Offsets[i] * step);
                    Forward(_outputs[i]);
                }
            }
            finally
            {
                point[index] = value;
            }

            TensorPrimitives.Multiply(_outputGradient, _outputs[0], _products);
            LargestProduct = Math.Max(LargestProduct, Arithmetic.Largest(_products));

            // Differences first, sums second: outputs that the step does not reach cancel exactly.
            TensorPrimitives.Subtract(_outputs[0], _outputs[3], _outputs[0]);
            TensorPrimitives.Subtract(_outputs[2], _outputs[1], _outputs[1]);
            TensorPrimitives.MultiplyAdd(_outputs[1], 8, _outputs[0], _outputs[0]);
            return TensorPrimitives.Dot<double>(_outputGradient, _outputs[0]) / (12 * step);
        }
    }
}
