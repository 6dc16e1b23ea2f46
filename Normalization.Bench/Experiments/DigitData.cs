using System.Security.Cryptography;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies.Companions;

namespace Normalization.Bench.Experiments;

/// <summary>Images with their labels as a network takes them: (N, pixels), one value a pixel.</summary>
internal sealed record Examples(float[] Pixels, byte[] Labels, int Height, int Width)
{
    public int Count => Labels.Length;

    public int Size => Height * Width;

    /// <summary>The examples with another value for each pixel.</summary>
    public Examples Map(Func<float, float> value) => this with { Pixels = Array.ConvertAll(Pixels, pixel => value(pixel)) };

    /// <summary>The examples with a share of the labels replaced by any of the ten, drawn evenly: a tenth of those stay right.</summary>
    public Examples WithLabelNoise(double share, RandomStream random) =>
        this with { Labels = Array.ConvertAll(Labels, label => random.NextDouble() < share ? (byte)random.NextInt32(10) : label) };

    /// <summary>The first of them.</summary>
    public Examples Take(int count) => this with { Pixels = Pixels[..(count * Size)], Labels = Labels[..count] };

    /// <summary>All but the first of them.</summary>
    public Examples Skip(int count) => this with { Pixels = Pixels[(count * Size)..], Labels = Labels[count..] };
}

/// <summary>The digits an experiment trains and is tested on: MNIST where the user has it, else drawn ones.</summary>
/// <remarks>Pixels are standardized by the mean and population deviation of all training pixels (one channel), except where an experiment says otherwise.</remarks>
internal sealed class DigitData
{
    /// <summary>The fewest images of training and test that every experiment can do with.</summary>
    public const int LeastTrain = 6000;

    /// <inheritdoc cref="LeastTrain"/>
    public const int LeastTest = 1000;

    /// <summary>The source's name where the images are MNIST's.</summary>
    public const string Mnist = "MNIST";

    // SHA-256 of MNIST's pixels and labels, training and then test, without the files' headers.
    private const string MnistContent = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16";

    private readonly Lazy<(Examples Train, Examples Test)> _standardized;
    private readonly Lazy<(Examples Train, Examples Test)> _binary;

    private DigitData(DigitSet train, DigitSet test, string source)
    {
        Source = source;
        Examples rawTrain = Of(train);
        Examples rawTest = Of(test);
        Raw = (rawTrain, rawTest);
        _binary = new(() => (rawTrain.Map(Binary), rawTest.Map(Binary)));
        _standardized = new(() =>
        {
            var standardizer = new DataStandardizer<float>(channels: 1);
            standardizer.Add(Shape(rawTrain), rawTrain.Pixels);
            return (Standard(rawTrain), Standard(rawTest));

            Examples Standard(Examples examples)
            {
                float[] pixels = new float[examples.Pixels.Length];
                standardizer.Apply(Shape(examples), examples.Pixels, pixels);
                return examples with { Pixels = pixels };
            }
        });
    }

    /// <summary>Where the images come from, for every plot.</summary>
    public string Source { get; }

    /// <summary>Images as they are, 0 paper to 1 full ink.</summary>
    public (Examples Train, Examples Test) Raw { get; }

    /// <summary>Standardized images.</summary>
    public (Examples Train, Examples Test) Standardized => _standardized.Value;

    /// <summary>Images of 0 and 1, ink from half of full.</summary>
    public (Examples Train, Examples Test) Binarized => _binary.Value;

    /// <summary>MNIST's files (or any set in their form) from a folder: all training and test images.</summary>
    public static DigitData Load(string directory)
    {
        DigitSet train = DigitSet.Load(directory, part: "train");
        DigitSet test = DigitSet.Load(directory, part: "t10k");
        if (train.Count < LeastTrain || test.Count < LeastTest)
        {
            throw new InvalidDataException($"'{directory}' holds {train.Count} training and {test.Count} test images; the experiments take at least {LeastTrain} and {LeastTest}.");
        }

        return train.Height == test.Height && train.Width == test.Width
            ? new DigitData(train, test, $"{train.Count} training and {test.Count} test images of {Name(train, test)}")
            : throw new InvalidDataException(
                $"'{directory}': training images are {train.Height} x {train.Width} and test images {test.Height} x {test.Width}; the two files are of different sets.");
    }

    /// <summary>Digits drawn by the program; the same for a seed.</summary>
    public static DigitData Generate(int train, int test, long seed)
    {
        DigitSet all = GeneratedDigits.Generate(train + test, (int)(seed & int.MaxValue));
        return new DigitData(Part(0, train), Part(train, test), $"{train} training and {test} test images drawn by the built-in digit generator, seed {seed}; not MNIST");

        DigitSet Part(int first, int count) => new(
            all.Height, all.Width, all.Pixels.Slice(first * all.Height * all.Width, count * all.Height * all.Width).ToArray(), all.Labels.Slice(first, count).ToArray(), all.Source);
    }

    // Other sets come under MNIST's file names: the content says which it is, so that pages, resumed runs and joined shards do too.
    private static string Name(DigitSet train, DigitSet test)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (DigitSet set in new[] { train, test })
        {
            hash.AppendData(set.Pixels);
            hash.AppendData(set.Labels);
        }

        string content = Convert.ToHexStringLower(hash.GetHashAndReset());
        return content == MnistContent ? Mnist : $"{train.Source} and {test.Source}, not MNIST (SHA-256 of the content {content[..12]})";
    }

    private static ActivationShape Shape(Examples examples) => new(examples.Count, 1, examples.Height, examples.Width);

    private static float Binary(float pixel) => pixel >= 0.5f ? 1 : 0;

    private static Examples Of(DigitSet set) => new([.. set.Pixels.ToArray().Select(pixel => pixel / 255f)], set.Labels.ToArray(), set.Height, set.Width);
}
