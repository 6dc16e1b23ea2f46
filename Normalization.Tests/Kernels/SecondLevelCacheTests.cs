using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

[TestClass]
public sealed class SecondLevelCacheTests
{
    [TestMethod]
    [DataRow("1024K\n", 1 << 20)]
    [DataRow("2M\n", 2 << 20)]
    [DataRow("524288", 1 << 19)]
    [DataRow("unknown", null)]
    [DataRow("0K", null)]
    public void Read_FoldersOfCaches_TakesThatOfTheSecondLevel(string size, int? expected)
    {
        using var folder = new TemporaryFolder();
        foreach ((string name, string level, string bytes) in new[] { ("index0", "1\n", "48K"), ("index1", "1\n", "32K"), ("index2", "3\n", "32768K"), ("index3", "2\n", size) })
        {
            Directory.CreateDirectory(folder.File(name));
            File.WriteAllText(Path.Combine(folder.File(name), "level"), level);
            File.WriteAllText(Path.Combine(folder.File(name), "size"), bytes);
        }

        Assert.AreEqual((nint?)expected, SecondLevelCache.Read(folder.Path));
    }

    [TestMethod]
    public void Read_NoSuchFolder_IsNull() => Assert.IsNull(SecondLevelCache.Read(Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString())));
}
