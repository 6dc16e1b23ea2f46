using Normalization.Core;
using Normalization.Tests.Support;

namespace Normalization.Tests.Data;

[TestClass]
public sealed class DigitSetTests : IDisposable
{
    // Two images of 1 x 3.
    private static readonly byte[] Images = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60];
    private static readonly byte[] Labels = [0, 0, 8, 1, 0, 0, 0, 2, 7, 4];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    [DataRow("train-images-idx3-ubyte", "train-labels-idx1-ubyte", false)]
    [DataRow("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", true)]
    [DataRow("train-images.idx3-ubyte", "train-labels.idx1-ubyte", false)]
    [DataRow("train-images.idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", true)]
    [DataRow("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", true)]
    [DataRow("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte", false)]
    public void Load_KnownNames_ReadsImagesAndLabels(string imagesName, string labelsName, bool gzip)
    {
        _folder.Write(imagesName, gzip ? IdxFileTests.Gzip(Images) : Images);
        _folder.Write(labelsName, gzip ? IdxFileTests.Gzip(Labels) : Labels);

        DigitSet set = DigitSet.Load(_folder.Path);

        Assert.AreEqual((2, 1, 3), (set.Count, set.Height, set.Width));
        CollectionAssert.AreEqual(new byte[] { 40, 50, 60 }, set.Image(1).ToArray());
        CollectionAssert.AreEqual(new byte[] { 10, 20, 30, 40, 50, 60 }, set.Pixels.ToArray());
        CollectionAssert.AreEqual(new byte[] { 7, 4 }, set.Labels.ToArray());
        Assert.AreEqual(imagesName, set.Source);
    }

    [TestMethod]
    public void Load_BothParts_PrefersTraining()
    {
        _folder.Write("t10k-images-idx3-ubyte", 1);
        _folder.Write("train-images-idx3-ubyte", Images);
        _folder.Write("train-labels-idx1-ubyte", Labels);

        Assert.AreEqual("train-images-idx3-ubyte", DigitSet.Load(_folder.Path).Source);
    }

    [TestMethod]
    public void Load_MissingFolder_ThrowsAndListsTheNames()
    {
        string message = Assert.ThrowsExactly<DirectoryNotFoundException>(() => DigitSet.Load(_folder.File("none"))).Message;

        StringAssert.Contains(message, _folder.File("none"));
        AssertListsAllImageNames(message);
    }

    [TestMethod]
    public void Load_FolderWithoutImages_ThrowsAndListsTheNames()
    {
        _folder.Write("train-labels-idx1-ubyte", Labels);
        _folder.Write("notes.txt", 1, 2);

        string message = Assert.ThrowsExactly<FileNotFoundException>(() => DigitSet.Load(_folder.Path)).Message;

        StringAssert.Contains(message, _folder.Path);
        AssertListsAllImageNames(message);
    }

    [TestMethod]
    public void Load_ImagesWithoutLabels_ThrowsAndNamesBoth()
    {
        _folder.Write("train-images-idx3-ubyte", Images);
        _folder.Write("t10k-labels-idx1-ubyte", Labels);

        string message = Assert.ThrowsExactly<FileNotFoundException>(() => DigitSet.Load(_folder.Path)).Message;

        StringAssert.Contains(message, _folder.File("train-images-idx3-ubyte"));
        StringAssert.Contains(message, "train-labels-idx1-ubyte.gz");
    }

    [TestMethod]
    public void Load_OtherNumberOfLabels_ThrowsAndNamesBothFiles()
    {
        _folder.Write("train-images-idx3-ubyte", Images);
        _folder.Write("train-labels-idx1-ubyte", 0, 0, 8, 1, 0, 0, 0, 3, 7, 4, 1);

        AssertRefused("labels of shape (3) for the 2 images", "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    }

    [TestMethod]
    public void Load_LabelsFileHoldsImages_Throws()
    {
        _folder.Write("train-images-idx3-ubyte", Images);
        _folder.Write("train-labels-idx1-ubyte", Images);

        AssertRefused("labels of shape (2, 1, 3)");
    }

    [TestMethod]
    public void Load_ImagesFileHoldsLabels_Throws()
    {
        _folder.Write("train-images-idx3-ubyte", Labels);
        _folder.Write("train-labels-idx1-ubyte", Labels);

        AssertRefused("three axes (N, H, W)", "(2)");
    }

    [TestMethod]
    public void Load_NoImagesInTheFile_Throws()
    {
        _folder.Write("train-images-idx3-ubyte", 0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 28);
        _folder.Write("train-labels-idx1-ubyte", 0, 0, 8, 1, 0, 0, 0, 0);

        AssertRefused("(0, 28, 28)");
    }

    [TestMethod]
    public void Load_LabelAboveNine_ThrowsAndNamesIt()
    {
        _folder.Write("train-images-idx3-ubyte", Images);
        _folder.Write("train-labels-idx1-ubyte", 0, 0, 8, 1, 0, 0, 0, 2, 7, 10);

        AssertRefused("train-labels-idx1-ubyte", "label 1 is 10");
    }

    [TestMethod]
    public void Constructor_LengthsThatDoNotFit_Throws()
    {
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new DigitSet(2, 3, new byte[11], [1, 2], "test")).Message, "11 pixels");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new DigitSet(2, 3, new byte[12], [1, 12], "test")).Message, "label 1 is 12");
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => new DigitSet(0, 3, [], [], "test"));
    }

    [TestMethod]
    [DataRow(-1)]
    [DataRow(2)]
    public void Image_OutOfRange_Throws(int index) =>
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => new DigitSet(1, 1, [1, 2], [3, 4], "test").Image(index));

    private static void AssertListsAllImageNames(string message)
    {
        foreach (string part in new[] { "train", "t10k" })
        {
            foreach (string ending in new[] { "-idx3-ubyte", "-idx3-ubyte.gz", ".idx3-ubyte", ".idx3-ubyte.gz" })
            {
                StringAssert.Contains(message, $"{part}-images{ending}");
            }
        }
    }

    private void AssertRefused(params string[] expected)
    {
        string message = Assert.ThrowsExactly<InvalidDataException>(() => DigitSet.Load(_folder.Path)).Message;
        foreach (string part in expected)
        {
            StringAssert.Contains(message, part);
        }
    }
}
