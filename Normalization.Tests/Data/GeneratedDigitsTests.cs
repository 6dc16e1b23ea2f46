using System.Security.Cryptography;
using Normalization.Core;

namespace Normalization.Tests.Data;

[TestClass]
public class GeneratedDigitsTests
{
    private static readonly DigitSet Set = GeneratedDigits.Generate(4000, seed: 1);

    [TestMethod]
    public void Generate_FixedSeed_GivesTheseBytesOnEveryMachine()
    {
        DigitSet set = GeneratedDigits.Generate(200, seed: 1);

        Assert.AreEqual("CD9A237938A6EC7C3FF26D9C10FB745245DF8540822F5231F4471A9CCB2EE5D8", Convert.ToHexString(SHA256.HashData([.. set.Labels, .. set.Pixels])));
    }

    [TestMethod]
    public void Generate_Shorter_IsTheBeginningOfLonger()
    {
        DigitSet few = GeneratedDigits.Generate(37, seed: 1);

        Assert.IsTrue(few.Pixels.SequenceEqual(Set.Pixels[..few.Pixels.Length]));
        Assert.IsTrue(few.Labels.SequenceEqual(Set.Labels[..37]));
    }

    [TestMethod]
    [DataRow(2)]
    [DataRow(-1)]
    [DataRow(int.MinValue)]
    public void Generate_OtherSeed_GivesOtherImages(int seed)
    {
        DigitSet other = GeneratedDigits.Generate(50, seed);

        for (int i = 0; i < other.Count; i++)
        {
            for (int j = 0; j < 50; j++)
            {
                Assert.IsFalse(other.Image(i).SequenceEqual(Set.Image(j)), $"images {i} and {j}");
            }
        }
    }

    [TestMethod]
    public void Generate_ManyImages_AllDiffer()
    {
        var seen = new HashSet<string>();
        for (int i = 0; i < Set.Count; i++)
        {
            Assert.IsTrue(seen.Add(Convert.ToBase64String(Set.Image(i))), $"image {i}");
        }
    }

    [TestMethod]
    public void Generate_ManyImages_ClassesAreBalanced()
    {
        int[] counts = new int[10];
        foreach (byte label in Set.Labels)
        {
            counts[label]++;
        }

        // 400 expected of each; the standard deviation is 19.
        Assert.IsTrue(counts.All(count => count is > 320 and < 480), string.Join(" ", counts));
    }

    [TestMethod]
    public void Generate_EveryImage_HasInkWithinItsMarginAndNearTheCentre()
    {
        for (int i = 0; i < Set.Count; i++)
        {
            ReadOnlySpan<byte> image = Set.Image(i);
            double ink = 0;
            double row = 0;
            double column = 0;
            double border = 0;
            for (int p = 0; p < image.Length; p++)
            {
                (int y, int x) = Math.DivRem(p, GeneratedDigits.Size);
                ink += image[p];
                row += image[p] * (y + 0.5);
                column += image[p] * (x + 0.5);
                border += y is 0 or 27 || x is 0 or 27 ? image[p] : 0;
            }

            Assert.IsTrue(ink / (255 * image.Length) is > 0.02 and < 0.35, $"image {i}: ink {ink / (255 * image.Length)}");
            Assert.IsTrue(Math.Abs((row / ink) - 14) < 4 && Math.Abs((column / ink) - 14) < 4, $"image {i}: centre {row / ink}, {column / ink}");
            Assert.IsTrue(border < 0.02 * ink, $"image {i}: {border} of {ink} on the border");
        }
    }

    [TestMethod]
    public void Generate_ManyImages_HaveAsMuchInkAsHandwriting()
    {
        double ink = 0;
        foreach (byte pixel in Set.Pixels)
        {
            ink += pixel;
        }

        // MNIST's training images: 0.131.
        Assert.AreEqual(0.13, ink / (255.0 * Set.Pixels.Length), 0.02);
    }

    [TestMethod]
    public void Generate_HeldOutImages_NearestClassMeanFindsTheDigit()
    {
        const int Half = 2000;
        double[][] means = MeansOfFirst(Half);
        int right = 0;
        for (int i = Half; i < Set.Count; i++)
        {
            right += Nearest(means, Set.Image(i)) == Set.Labels[i] ? 1 : 0;
        }

        Assert.IsTrue(right > 0.8 * (Set.Count - Half), $"{right} of {Set.Count - Half}");
    }

    [TestMethod]
    [DataRow(0)]
    [DataRow(-1)]
    [DataRow(int.MaxValue)]
    public void Generate_CountOutOfRange_Throws(int count) =>
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => GeneratedDigits.Generate(count, 1));

    private static double[][] MeansOfFirst(int count)
    {
        double[][] means = [.. Enumerable.Range(0, 10).Select(_ => new double[GeneratedDigits.Size * GeneratedDigits.Size])];
        int[] counts = new int[10];
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> image = Set.Image(i);
            counts[Set.Labels[i]]++;
            for (int p = 0; p < image.Length; p++)
            {
                means[Set.Labels[i]][p] += image[p];
            }
        }

        for (int digit = 0; digit < 10; digit++)
        {
            for (int p = 0; p < means[digit].Length; p++)
            {
                means[digit][p] /= counts[digit];
            }
        }

        return means;
    }

    private static int Nearest(double[][] means, ReadOnlySpan<byte> image)
    {
        int nearest = -1;
        double least = double.PositiveInfinity;
        for (int digit = 0; digit < means.Length; digit++)
        {
            double distance = 0;
            for (int p = 0; p < image.Length; p++)
            {
                double difference = image[p] - means[digit][p];
                distance += difference * difference;
            }

            if (distance < least)
            {
                (least, nearest) = (distance, digit);
            }
        }

        return nearest;
    }
}
