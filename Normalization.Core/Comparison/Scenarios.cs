namespace Normalization.Core.Comparison;

/// <summary>The scenarios of the comparison. (N, 16, 8, 8) unless they say otherwise.</summary>
public static class Scenarios
{
    private const int Channels = 16;
    private const int Side = 8;
    private const int Positions = Side * Side;

    /// <summary>The scenario that <c>features</c> names: the only one without spatial axes.</summary>
    public const string FeaturesId = "features";

    /// <summary>The scenario made of images; see <see cref="Activations"/>.</summary>
    public const string ActivationsId = "activations";

    /// <summary>The ids in the order they are reported.</summary>
    public static IReadOnlyList<string> Ids { get; } =
        ["gaussian", "correlated", "heavy-tails", "large-mean", "dead-channel", FeaturesId, ActivationsId];

    /// <summary>All scenarios, the activations from digits.</summary>
    /// <param name="seed">Fixes what a scenario draws once: bases and filters.</param>
    /// <param name="digits">The images; null draws 1024 with <see cref="GeneratedDigits"/>.</param>
    public static IReadOnlyList<Scenario> WithDigits(long seed, DigitSet? digits = null)
    {
        digits ??= GeneratedDigits.Generate(1024, (int)(seed & int.MaxValue));
        return [.. Synthetic(seed), Activations(digits.Pixels.ToArray(), digits.Count, digits.Height, digits.Width, digits.Source, seed)];
    }

    /// <summary>All but the activations, which need images.</summary>
    /// <param name="seed">Fixes what a scenario draws once: the correlated scenario's basis.</param>
    public static IReadOnlyList<Scenario> Synthetic(long seed) =>
    [
        PerElement("gaussian", "Gaussian", "independent standard normal values", (_, stream) => stream.NextGaussian()),
        Correlated(seed),
        PerElement("heavy-tails", "heavy tails", "independent Student t values with 3 degrees of freedom: variance 3, no fourth moment",
            (_, stream) => StudentT3(stream)),
        PerElement("large-mean", "large mean", "independent normal values of mean 10000 and variance 1, where sloppy variances break",
            (_, stream) => 1e4 + stream.NextGaussian()),
        PerElement("dead-channel", "dead channel", "independent standard normal values, but channel 3 is 1.5 everywhere",
            (channel, stream) => channel == 3 ? 1.5 : stream.NextGaussian()),
        Features(),
    ];

    /// <summary>Real activations: images through a fixed random 3x3 convolution with 16 channels, padding 1, stride 2, bias.</summary>
    /// <param name="pixels">Row-major 8-bit images, one after the other.</param>
    /// <param name="count">How many, at least 1.</param>
    /// <param name="height">Rows of an image.</param>
    /// <param name="width">Columns of an image.</param>
    /// <param name="source">Where the images are from, for the description.</param>
    /// <param name="seed">Fixes the filters.</param>
    /// <exception cref="ArgumentException">The pixels are not count * height * width bytes, or there are none.</exception>
    public static Scenario Activations(byte[] pixels, int count, int height, int width, string source, long seed)
    {
        ArgumentNullException.ThrowIfNull(pixels);
        if (count < 1 || height < 1 || width < 1 || pixels.LongLength != (long)count * height * width)
        {
            throw new ArgumentException(
                $"{count} images of {height} x {width} need {(long)count * height * width} bytes, at least 1; got {pixels.LongLength}.", nameof(pixels));
        }

        var filterStream = new RandomStream(seed, ActivationsId, "filters");
        var filters = new double[Channels * 9]; // (16, 3, 3)
        var biases = new double[Channels];
        filterStream.FillGaussian(filters);
        filterStream.FillGaussian(biases);
        int outHeight = (height + 1) / 2;
        int outWidth = (width + 1) / 2;

        double[] Draw(int samples, RandomStream stream)
        {
            var values = new double[samples * Channels * outHeight * outWidth];
            for (int sample = 0; sample < samples; sample++)
            {
                ReadOnlySpan<byte> image = pixels.AsSpan(stream.NextInt32(count) * height * width, height * width);
                Convolve(image, height, width, filters, biases, values.AsSpan(sample * Channels * outHeight * outWidth, Channels * outHeight * outWidth));
            }

            return values;
        }

        return new Scenario(ActivationsId, "activations of a convolution",
            $"{source} through a fixed random 3x3 convolution (16 channels, padding 1, stride 2, bias), (N, 16, {outHeight}, {outWidth}). 16 channels of 9 taps each are linearly dependent: their covariance has rank 9.",
            new ActivationShape(1, Channels, outHeight, outWidth), Draw);
    }

    private static Scenario PerElement(string id, string title, string distribution, Func<int, RandomStream, double> draw) =>
        new(id, title, $"(N, {Channels}, {Side}, {Side}): {distribution}.", new ActivationShape(1, Channels, Side, Side), (samples, stream) =>
        {
            var values = new double[samples * Channels * Positions];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = draw(i / Positions % Channels, stream);
            }

            return values;
        });

    private static double StudentT3(RandomStream stream)
    {
        double a = stream.NextGaussian();
        double b = stream.NextGaussian();
        double c = stream.NextGaussian();
        return stream.NextGaussian() / Math.Sqrt(((a * a) + (b * b) + (c * c)) / 3);
    }

    // Covariance Q diag(lambda) Q^T with lambda falling evenly on a log scale from 1 to 1e-4.
    private static Scenario Correlated(long seed)
    {
        double[] basis = new RandomStream(seed, "correlated", "basis").NextOrthogonal(Channels);
        double[] deviations = [.. Enumerable.Range(0, Channels).Select(i => Math.Pow(10, -2.0 * i / (Channels - 1)))];

        double[] Draw(int samples, RandomStream stream)
        {
            var values = new double[samples * Channels * Positions];
            var independent = new double[Channels];
            for (int sample = 0; sample < samples; sample++)
            {
                for (int position = 0; position < Positions; position++)
                {
                    for (int i = 0; i < Channels; i++)
                    {
                        independent[i] = deviations[i] * stream.NextGaussian();
                    }

                    for (int channel = 0; channel < Channels; channel++)
                    {
                        double sum = 0;
                        for (int i = 0; i < Channels; i++)
                        {
                            sum += basis[(i * Channels) + channel] * independent[i];
                        }

                        values[(((sample * Channels) + channel) * Positions) + position] = sum;
                    }
                }
            }

            return values;
        }

        return new Scenario("correlated", "correlated channels",
            $"(N, {Channels}, {Side}, {Side}): Gaussian, the channel covariance has a random orthogonal basis and condition number 1e4.",
            new ActivationShape(1, Channels, Side, Side), Draw);
    }

    private static Scenario Features()
    {
        double[] scales = [.. Enumerable.Range(0, Channels).Select(i => Math.Pow(10, -1 + (2.0 * i / (Channels - 1))))];
        return new Scenario(FeaturesId, "features",
            $"(N, {Channels}): independent Gaussian features without spatial axes, standard deviations from 0.1 to 10.",
            new ActivationShape(1, Channels), (samples, stream) =>
            {
                var values = new double[samples * Channels];
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = scales[i % Channels] * stream.NextGaussian();
                }

                return values;
            });
    }

    private static void Convolve(
        ReadOnlySpan<byte> image, int height, int width, ReadOnlySpan<double> filters, ReadOnlySpan<double> biases, Span<double> destination)
    {
        int outHeight = (height + 1) / 2;
        int outWidth = (width + 1) / 2;
        for (int channel = 0; channel < Channels; channel++)
        {
            ReadOnlySpan<double> filter = filters.Slice(channel * 9, 9);
            for (int outRow = 0; outRow < outHeight; outRow++)
            {
                for (int outColumn = 0; outColumn < outWidth; outColumn++)
                {
                    double sum = biases[channel];
                    for (int tap = 0; tap < 9; tap++)
                    {
                        int row = (2 * outRow) + (tap / 3) - 1;
                        int column = (2 * outColumn) + (tap % 3) - 1;
                        if (row >= 0 && row < height && column >= 0 && column < width)
                        {
                            sum += filter[tap] * image[(row * width) + column] / 255.0;
                        }
                    }

                    destination[(((channel * outHeight) + outRow) * outWidth) + outColumn] = sum;
                }
            }
        }
    }
}
