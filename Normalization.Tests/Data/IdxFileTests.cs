using System.IO.Compression;
using Normalization.Core;
using Normalization.Tests.Support;

namespace Normalization.Tests.Data;

[TestClass]
public sealed class IdxFileTests : IDisposable
{
    private static readonly byte[] Images = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    [DataRow(false, "images")]
    [DataRow(true, "images.gz")]
    [DataRow(true, "gzipped-under-a-plain-name")]
    [DataRow(false, "plain-under-a-gzip-name.gz")]
    public void Load_Images_GivesLengthsAndValues(bool gzip, string name)
    {
        IdxFile file = IdxFile.Load(_folder.Write(name, gzip ? Gzip(Images) : Images));

        CollectionAssert.AreEqual(new[] { 2, 1, 3 }, file.Dimensions.ToArray());
        CollectionAssert.AreEqual(new byte[] { 10, 20, 30, 40, 50, 60 }, file.Values);
    }

    [TestMethod]
    public void Load_Labels_GivesOneAxis()
    {
        IdxFile file = IdxFile.Load(_folder.Write("labels", 0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9));

        CollectionAssert.AreEqual(new[] { 3 }, file.Dimensions.ToArray());
        CollectionAssert.AreEqual(new byte[] { 7, 0, 9 }, file.Values);
    }

    [TestMethod]
    [DataRow(false)]
    [DataRow(true)]
    public void Load_LargerThanTheFirstBuffer_ReadsAll(bool gzip)
    {
        var values = new byte[3_000_001];
        new Random(1).NextBytes(values);
        byte[] file = [0, 0, 8, 1, 0, 0x2D, 0xC6, 0xC1, .. values];

        CollectionAssert.AreEqual(values, IdxFile.Load(_folder.Write("f", gzip ? Gzip(file) : file)).Values);
    }

    [TestMethod]
    [DataRow(new byte[] { 1, 0, 8, 3 }, "offset 0: the magic number is 0x01000803")]
    [DataRow(new byte[] { 0x89, 0x50, 0x4E, 0x47 }, "offset 0: the magic number is 0x89504E47")]
    [DataRow(new byte[] { 0, 0, 8, 0 }, "offset 0: the magic number is 0x00000800")]
    [DataRow(new byte[] { 0, 0, 0x0D, 3 }, "offset 2: the element type is 0x0D")]
    public void Load_OtherMagicNumber_Throws(byte[] magic, string expected) => AssertRefused([.. magic, .. Images[4..]], expected);

    [TestMethod]
    [DataRow(0, "offset 0: the file ends here, 4 bytes short of the 4")]
    [DataRow(1, "offset 1: the file ends here, 3 bytes short of the 4")]
    [DataRow(3, "offset 3:")]
    [DataRow(4, "offset 4: the file ends here, 4 bytes short")]
    [DataRow(15, "offset 15: the file ends here, 1 bytes short")]
    [DataRow(16, "offset 16: the file ends here, after 0 of the 6 values")]
    [DataRow(21, "offset 21: the file ends here, after 5 of the 6 values")]
    public void Load_CutOff_Throws(int length, string expected) => AssertRefused(Images[..length], expected);

    [TestMethod]
    public void Load_CutOffInsideGzip_Throws() => AssertRefused(Gzip(Images[..20]), "offset 20: the file ends here, after 4 of the 6 values");

    [TestMethod]
    [DataRow(false)]
    [DataRow(true)]
    public void Load_SurplusByte_Throws(bool gzip)
    {
        byte[] file = [.. Images, 99];

        AssertRefused(gzip ? Gzip(file) : file, "offset 22: the header announces 6 values, which end here");
    }

    [TestMethod]
    [DataRow(new byte[] { 0, 0, 8, 1, 0x80, 0, 0, 0 }, "offset 4: with the length 2147483648 of axis 0")]
    [DataRow(new byte[] { 0, 0, 8, 2, 0, 1, 0, 0, 0, 1, 0, 0 }, "offset 8: with the length 65536 of axis 1")]
    [DataRow(new byte[] { 0, 0, 8, 3, 0x7F, 0xFF, 0xFF, 0, 0x7F, 0xFF, 0xFF, 0, 0, 0, 0, 0 }, "offset 8: with the length 2147483392 of axis 1")]
    [DataRow(new byte[] { 0, 0, 8, 2, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF }, "offset 8: with the length 4294967295 of axis 1")]
    public void Load_CountThatOverflows_Throws(byte[] file, string expected) => AssertRefused(file, expected);

    [TestMethod]
    public void Load_FalseHugeCount_ThrowsWithoutAllocatingIt()
    {
        string path = _folder.Write("f", 0, 0, 8, 1, 0x7F, 0, 0, 0, 1, 2, 3);
        long before = GC.GetAllocatedBytesForCurrentThread();

        Assert.ThrowsExactly<InvalidDataException>(() => IdxFile.Load(path));

        Assert.IsTrue(GC.GetAllocatedBytesForCurrentThread() - before < 16 << 20);
    }

    [TestMethod]
    public void Load_EveryTruncationOfGzip_ThrowsUnlessEveryValueIsThere()
    {
        byte[] whole = Gzip(Images);
        int accepted = 0;
        for (int length = 0; length < whole.Length; length++)
        {
            string path = _folder.Write("f", whole.AsSpan(0, length));
            try
            {
                CollectionAssert.AreEqual(Images[16..], IdxFile.Load(path).Values, $"{length} bytes");
                accepted++;
            }
            catch (InvalidDataException exception)
            {
                StringAssert.StartsWith(exception.Message, path);
            }
        }

        // At most the end mark of the compressed data and the 8 bytes of checksum and length.
        Assert.IsTrue(accepted <= 9, $"{accepted} of {whole.Length} accepted");
    }

    [TestMethod]
    public void Load_DamagedGzip_Throws()
    {
        var values = new byte[5000];
        new Random(2).NextBytes(values);
        byte[] damaged = Gzip([0, 0, 8, 1, 0, 0, 0x13, 0x88, .. values]);
        damaged[damaged.Length / 2] ^= 0x10;

        AssertRefused(damaged, "gzip data is damaged");
    }

    [TestMethod]
    public void Load_GzipWithFalseChecksum_Throws()
    {
        byte[] damaged = Gzip(Images);
        damaged[^8] ^= 1;

        AssertRefused(damaged, "gzip data is damaged");
    }

    [TestMethod]
    public void Load_MissingFile_Throws() => Assert.ThrowsExactly<FileNotFoundException>(() => IdxFile.Load(_folder.File("none")));

    internal static byte[] Gzip(byte[] content)
    {
        using var memory = new MemoryStream();
        using (var gzip = new GZipStream(memory, CompressionLevel.Optimal))
        {
            gzip.Write(content);
        }

        return memory.ToArray();
    }

    private void AssertRefused(byte[] content, string expected)
    {
        string path = _folder.Write("f", content);

        string message = Assert.ThrowsExactly<InvalidDataException>(() => IdxFile.Load(path)).Message;

        StringAssert.StartsWith(message, path);
        StringAssert.Contains(message, expected);
    }
}
