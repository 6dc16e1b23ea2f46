using Normalization.Core.Comparison;

namespace Normalization.Bench.Experiments;

/// <summary>What makes a target domain of images with pixels in [0, 1].</summary>
/// <param name="Id">Its name in records.</param>
/// <param name="Words">What happens to a pixel x.</param>
/// <param name="Pixel">A pixel's new value; the stream draws noise.</param>
internal sealed record DomainShift(string Id, string Words, Func<float, RandomStream, float> Pixel)
{
    private const double NoiseDeviation = 0.3;

    /// <summary>A third of the contrast, on gray.</summary>
    public static DomainShift LowContrast { get; } = new("low-contrast", "0.3 x + 0.5", (x, _) => (0.3f * x) + 0.5f);

    /// <summary>Three times the contrast, darker.</summary>
    public static DomainShift HighContrast { get; } = new("high-contrast", "3 x - 1", (x, _) => (3 * x) - 1);

    /// <summary>Noise on every pixel.</summary>
    public static DomainShift Noise { get; } = new("noise", $"x + N(0, {NoiseDeviation}^2)", (x, random) => x + (float)(NoiseDeviation * random.NextGaussian()));

    /// <summary>Ink and paper exchanged.</summary>
    public static DomainShift Inversion { get; } = new("inversion", "1 - x", (x, _) => 1 - x);

    /// <summary>The images in the domain.</summary>
    /// <param name="source">Images with pixels in [0, 1].</param>
    /// <param name="random">Draws noise.</param>
    public Examples Apply(Examples source, RandomStream random) => source.Map(x => Pixel(x, random));
}
