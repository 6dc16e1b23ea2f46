namespace Normalization.Core.Comparison;

/// <summary>A normalization and its gradients, computed from elementary operations.</summary>
/// <param name="Output">y.</param>
/// <param name="InputGradient">dL/dx.</param>
/// <param name="WeightGradient">dL/dweight; null without a weight.</param>
/// <param name="BiasGradient">dL/dbias; null without a bias.</param>
public sealed record ComposedResult(double[] Output, double[] InputGradient, double[]? WeightGradient, double[]? BiasGradient);

/// <summary>
/// Standardization and whitening written as a composition of elementary operations (add, subtract, multiply, divide, root, mean,
/// matrix product) with the gradient taken through each of them in turn.
/// </summary>
/// <remarks>
/// In double, slow and plain: the closed-form backward pass of a fast strategy must agree with it to 1e-9 or better. It
/// shares no code with the kernels.
/// </remarks>
public static class ComposedReference
{
    /// <summary>y = weight * (x - mean) / sqrt(population variance + epsilon) + bias, with mean and variance over reduction sets.</summary>
    /// <param name="input">x, in any order of elements.</param>
    /// <param name="reductionSetOfElement">For each element the number of its reduction set; see <see cref="INormalizer{T}.ReductionSetOf"/>.</param>
    /// <param name="weightIndexOfElement">For each element the index of its weight and bias; ignored without either.</param>
    /// <param name="weight">The weights; null for none.</param>
    /// <param name="bias">The biases; null for none.</param>
    /// <param name="epsilon">Added to the population variance under the root.</param>
    /// <param name="outputGradient">dL/dy.</param>
    /// <exception cref="ArgumentException">The per-element arrays have different lengths.</exception>
    public static ComposedResult Standardize(
        double[] input, long[] reductionSetOfElement, int[] weightIndexOfElement, double[]? weight, double[]? bias, double epsilon, double[] outputGradient)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(reductionSetOfElement);
        ArgumentNullException.ThrowIfNull(outputGradient);
        RequireLength(input.Length, reductionSetOfElement.Length, nameof(reductionSetOfElement));
        RequireLength(input.Length, outputGradient.Length, nameof(outputGradient));
        var numbers = new Dictionary<long, int>();
        int[] setOf = [.. reductionSetOfElement.Select(set => numbers.TryGetValue(set, out int known) ? known : numbers[set] = numbers.Count)];

        var tape = new Tape();
        Node x = new(input);
        Node centered = tape.Subtract(x, tape.Gather(tape.Mean(x, setOf, numbers.Count), setOf));
        Node variance = tape.Mean(tape.Multiply(centered, centered), setOf, numbers.Count);
        Node deviation = tape.Sqrt(tape.Shift(variance, epsilon));
        Node normalized = tape.Divide(centered, tape.Gather(deviation, setOf));
        return Finish(tape, x, normalized, weightIndexOfElement, weight, bias, outputGradient);
    }

    /// <summary>
    /// ZCA whitening in groups of channels: y = weight * (S^(-1/2) (x - mean)) + bias per channel, with
    /// S = (1 - shrinkage) C + (shrinkage * trace(C) / d + epsilon) I and C the population covariance of a group's d channels.
    /// </summary>
    /// <remarks>The inverse root comes from a coupled Newton-Schulz iteration, differentiated step by step; no eigenvectors.</remarks>
    /// <param name="shape">The shape of the input.</param>
    /// <param name="input">x, dense and channels-first.</param>
    /// <param name="groupSize">d, channels per group; divides C.</param>
    /// <param name="shrinkage">In [0, 1].</param>
    /// <param name="epsilon">Added to the covariance's diagonal.</param>
    /// <param name="weight">One per channel; null for none.</param>
    /// <param name="bias">One per channel; null for none.</param>
    /// <param name="outputGradient">dL/dy.</param>
    /// <exception cref="ArgumentException">A length disagrees, or the group size does not divide C.</exception>
    /// <exception cref="InvalidOperationException">The covariance is singular.</exception>
    public static ComposedResult Whiten(
        ActivationShape shape, double[] input, int groupSize, double shrinkage, double epsilon, double[]? weight, double[]? bias, double[] outputGradient)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(outputGradient);
        RequireLength((int)shape.Count, input.Length, nameof(input));
        RequireLength(input.Length, outputGradient.Length, nameof(outputGradient));
        int channels = shape.Channels;
        int positions = (int)shape.SpatialSize;
        if (groupSize < 1 || channels % groupSize != 0)
        {
            throw new ArgumentException($"The group size must divide the {channels} channels; got {groupSize}.", nameof(groupSize));
        }

        var tape = new Tape();
        Node x = new(input);
        var parts = new Node[channels / groupSize];
        var placeOf = new int[input.Length]; // where an element stands in the groups laid end to end
        int columns = (int)shape.Samples * positions;
        for (int group = 0; group < parts.Length; group++)
        {
            var elements = new int[groupSize * columns]; // (d, M), row-major
            for (int entry = 0; entry < elements.Length; entry++)
            {
                int channel = (group * groupSize) + (entry / columns);
                int column = entry % columns;
                elements[entry] = (((column / positions * channels) + channel) * positions) + (column % positions);
                placeOf[elements[entry]] = (group * elements.Length) + entry;
            }

            parts[group] = WhitenGroup(tape, tape.Gather(x, elements), groupSize, columns, shrinkage, epsilon);
        }

        int[] channelOf = [.. Enumerable.Range(0, input.Length).Select(index => index / positions % channels)];
        return Finish(tape, x, tape.Gather(tape.Concatenate(parts), placeOf), channelOf, weight, bias, outputGradient);
    }

    private static Node WhitenGroup(Tape tape, Node x, int size, int columns, double shrinkage, double epsilon)
    {
        int[] rowOf = [.. Enumerable.Range(0, size * columns).Select(entry => entry / columns)];
        int[] diagonal = [.. Enumerable.Range(0, size).Select(i => i * (size + 1))];
        int[] one = new int[size]; // size elements, one set
        int[] everywhere = new int[size * size]; // element 0 for each entry
        var identity = new double[size * size];
        foreach (int entry in diagonal)
        {
            identity[entry] = 1;
        }

        Node unit = new(identity);
        Node centered = tape.Subtract(x, tape.Gather(tape.Mean(x, rowOf, size), rowOf));
        Node covariance = tape.Scale(tape.Product(centered, tape.Transpose(centered, size, columns), size, columns, size), 1.0 / columns);
        Node meanVariance = tape.Mean(tape.Gather(covariance, diagonal), one, 1); // trace / d
        Node ridge = tape.Shift(tape.Scale(meanVariance, shrinkage), epsilon);
        Node sigma = tape.Add(tape.Scale(covariance, 1 - shrinkage), tape.Multiply(unit, tape.Gather(ridge, everywhere)));

        // Divided by the trace, every eigenvalue is in (0, 1] and the iteration converges; y -> root, z -> inverse root.
        Node trace = tape.Scale(tape.Mean(tape.Gather(sigma, diagonal), one, 1), size);
        Node y = tape.Divide(sigma, tape.Gather(trace, everywhere));
        Node z = unit;
        double previous = double.PositiveInfinity;
        for (int step = 0; ; step++)
        {
            Node product = tape.Product(z, y, size, size, size);
            double residual = 0;
            for (int i = 0; i < identity.Length; i++)
            {
                residual = Math.Max(residual, Math.Abs(identity[i] - product.Values[i]));
            }

            // Quadratic convergence ends in rounding, where the residual stops falling.
            if (residual < 1e-15 || (residual < 1e-6 && residual >= previous))
            {
                break;
            }

            if (step == 100 || !double.IsFinite(residual))
            {
                throw new InvalidOperationException(
                    "The covariance is singular, so that it has no inverse root; use an epsilon above 0, shrinkage, or more values than channels.");
            }

            previous = residual;
            Node correction = tape.Subtract(tape.Scale(unit, 1.5), tape.Scale(product, 0.5));
            y = tape.Product(y, correction, size, size, size);
            z = tape.Product(correction, z, size, size, size);
        }

        Node inverseRoot = tape.Divide(z, tape.Gather(tape.Sqrt(trace), everywhere));
        return tape.Product(inverseRoot, centered, size, size, columns);
    }

    private static ComposedResult Finish(
        Tape tape, Node input, Node normalized, int[] weightIndexOfElement, double[]? weight, double[]? bias, double[] outputGradient)
    {
        Node output = normalized;
        Node? weights = null;
        Node? biases = null;
        if (weight is not null || bias is not null)
        {
            ArgumentNullException.ThrowIfNull(weightIndexOfElement);
            RequireLength(outputGradient.Length, weightIndexOfElement.Length, nameof(weightIndexOfElement));
        }

        if (weight is not null)
        {
            weights = new Node(weight);
            output = tape.Multiply(output, tape.Gather(weights, weightIndexOfElement));
        }

        if (bias is not null)
        {
            biases = new Node(bias);
            output = tape.Add(output, tape.Gather(biases, weightIndexOfElement));
        }

        tape.Backward(output, outputGradient);
        return new ComposedResult(output.Values, input.Gradient, weights?.Gradient, biases?.Gradient);
    }

    private static void RequireLength(int expected, int length, string name)
    {
        if (length != expected)
        {
            throw new ArgumentException($"'{name}' must have one entry for each of {expected} elements; it has {length}.", name);
        }
    }

    // A value and the gradient of the loss with respect to it.
    private sealed class Node(double[] values)
    {
        public double[] Values { get; } = values;

        public double[] Gradient { get; } = new double[values.Length];
    }

    // Operations in the order they were made; Backward runs their adjoints in reverse.
    private sealed class Tape
    {
        private readonly List<Action> _adjoints = [];

        public void Backward(Node output, double[] gradient)
        {
            gradient.CopyTo(output.Gradient, 0);
            for (int i = _adjoints.Count - 1; i >= 0; i--)
            {
                _adjoints[i]();
            }
        }

        public Node Add(Node a, Node b) => Elementwise(a, b, (u, v) => u + v, (_, _) => 1, (_, _) => 1);

        public Node Subtract(Node a, Node b) => Elementwise(a, b, (u, v) => u - v, (_, _) => 1, (_, _) => -1);

        public Node Multiply(Node a, Node b) => Elementwise(a, b, (u, v) => u * v, (_, v) => v, (u, _) => u);

        public Node Divide(Node a, Node b) => Elementwise(a, b, (u, v) => u / v, (_, v) => 1 / v, (u, v) => -u / (v * v));

        public Node Scale(Node a, double factor) => Elementwise(a, u => u * factor, (_, _) => factor);

        public Node Shift(Node a, double term) => Elementwise(a, u => u + term, (_, _) => 1);

        public Node Sqrt(Node a) => Elementwise(a, Math.Sqrt, (_, root) => 0.5 / root);

        // Element i of the result is element index[i] of a.
        public Node Gather(Node a, int[] index)
        {
            var result = new Node([.. index.Select(i => a.Values[i])]);
            _adjoints.Add(() =>
            {
                for (int i = 0; i < index.Length; i++)
                {
                    a.Gradient[index[i]] += result.Gradient[i];
                }
            });
            return result;
        }

        // The mean of each set; setOf[i] is the set of element i.
        public Node Mean(Node a, int[] setOf, int sets)
        {
            var counts = new int[sets];
            var means = new double[sets];
            for (int i = 0; i < setOf.Length; i++)
            {
                counts[setOf[i]]++;
                means[setOf[i]] += a.Values[i];
            }

            for (int set = 0; set < sets; set++)
            {
                means[set] /= counts[set];
            }

            var result = new Node(means);
            _adjoints.Add(() =>
            {
                for (int i = 0; i < setOf.Length; i++)
                {
                    a.Gradient[i] += result.Gradient[setOf[i]] / counts[setOf[i]];
                }
            });
            return result;
        }

        public Node Concatenate(Node[] parts)
        {
            var result = new Node([.. parts.SelectMany(part => part.Values)]);
            _adjoints.Add(() =>
            {
                int offset = 0;
                foreach (Node part in parts)
                {
                    for (int i = 0; i < part.Values.Length; i++)
                    {
                        part.Gradient[i] += result.Gradient[offset + i];
                    }

                    offset += part.Values.Length;
                }
            });
            return result;
        }

        public Node Transpose(Node a, int rows, int columns) =>
            Gather(a, [.. Enumerable.Range(0, rows * columns).Select(i => (i % rows * columns) + (i / rows))]);

        // a (rows, inner) times b (inner, columns).
        public Node Product(Node a, Node b, int rows, int inner, int columns)
        {
            var values = new double[rows * columns];
            for (int i = 0; i < rows; i++)
            {
                for (int k = 0; k < inner; k++)
                {
                    for (int j = 0; j < columns; j++)
                    {
                        values[(i * columns) + j] += a.Values[(i * inner) + k] * b.Values[(k * columns) + j];
                    }
                }
            }

            var result = new Node(values);
            _adjoints.Add(() =>
            {
                for (int i = 0; i < rows; i++)
                {
                    for (int k = 0; k < inner; k++)
                    {
                        double sum = 0;
                        for (int j = 0; j < columns; j++)
                        {
                            double g = result.Gradient[(i * columns) + j];
                            sum += g * b.Values[(k * columns) + j];
                            b.Gradient[(k * columns) + j] += g * a.Values[(i * inner) + k];
                        }

                        a.Gradient[(i * inner) + k] += sum;
                    }
                }
            });
            return result;
        }

        private Node Elementwise(Node a, Func<double, double> value, Func<double, double, double> slope)
        {
            var result = new Node([.. a.Values.Select(value)]);
            _adjoints.Add(() =>
            {
                for (int i = 0; i < result.Values.Length; i++)
                {
                    a.Gradient[i] += result.Gradient[i] * slope(a.Values[i], result.Values[i]);
                }
            });
            return result;
        }

        private Node Elementwise(
            Node a, Node b, Func<double, double, double> value, Func<double, double, double> slopeOfA, Func<double, double, double> slopeOfB)
        {
            var result = new Node([.. a.Values.Zip(b.Values, value)]);
            _adjoints.Add(() =>
            {
                for (int i = 0; i < result.Values.Length; i++)
                {
                    a.Gradient[i] += result.Gradient[i] * slopeOfA(a.Values[i], b.Values[i]);
                    b.Gradient[i] += result.Gradient[i] * slopeOfB(a.Values[i], b.Values[i]);
                }
            });
            return result;
        }
    }
}
