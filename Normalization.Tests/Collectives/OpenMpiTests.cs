using Normalization.Core.Collectives;

namespace Normalization.Tests.Collectives;

/// <summary>What is said where Open MPI is missing; ranks over it are tested through the command line.</summary>
[TestClass]
public sealed class OpenMpiTests
{
    [TestMethod]
    public void Load_NoSuchLibrary_NamesItAndThePackage()
    {
        Assert.IsNull(OpenMpi.Load(out string? missing, "libmpi-of-nowhere.so.40"));
        Assert.Contains("libmpi-of-nowhere.so.40 was not found", missing!);
        Assert.Contains("openmpi-bin", missing!);
    }

    [TestMethod]
    public void Load_AnotherLibrary_SaysThatItIsNotOpenMpi()
    {
        if (OperatingSystem.IsLinux())
        {
            Assert.IsNull(OpenMpi.Load(out string? missing, "libc.so.6"));
            Assert.Contains("libc.so.6 is not the Open MPI", missing!);
        }
    }
}
