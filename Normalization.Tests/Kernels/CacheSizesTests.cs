using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

[TestClass]
public sealed class CacheSizesTests
{
    [TestMethod]
    [DataRow("1024K\n", 1 << 20)]
    [DataRow("2M\n", 2 << 20)]
    [DataRow("524288", 1 << 19)]
    [DataRow("unknown", null)]
    [DataRow("0K", null)]
    public void Read_FoldersOfCaches_TakesThatOfTheLevel(string size, int? expected)
    {
        using var folder = new TemporaryFolder();
        foreach ((string name, string level, string bytes) in new[] { ("index0", "1\n", "48K"), ("index1", "1\n", "32K"), ("index2", "3\n", "32768K"), ("index3", "2\n", size) })
        {
            Directory.CreateDirectory(folder.File(name));
            File.WriteAllText(Path.Combine(folder.File(name), "level"), level);
            File.WriteAllText(Path.Combine(folder.File(name), "size"), bytes);
        }

        Assert.AreEqual((nint?)expected, CacheSizes.Read(folder.Path, 2));
        Assert.AreEqual((nint)32 << 20, CacheSizes.Read(folder.Path, 3));
        Assert.IsNull(CacheSizes.Read(folder.Path, 4));
    }

    [TestMethod]
    public void Read_NoSuchFolder_IsNull() => Assert.IsNull(CacheSizes.Read(Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString()), 2));
}
