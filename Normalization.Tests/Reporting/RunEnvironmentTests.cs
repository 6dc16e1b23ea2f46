using System.Globalization;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class RunEnvironmentTests
{
    [TestMethod]
    public void Capture_ThisMachine_FillsEveryMember()
    {
        var environment = RunEnvironment.Capture("Normalization.Bench", ["compare", "--out", "my reports/1"], seed: 12, threads: 3);

        Assert.IsTrue(DateTime.TryParseExact(environment.Started, "yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal, out var started));
        Assert.IsLessThan(60, Math.Abs((DateTime.UtcNow - started).TotalSeconds));
        CollectionAssert.Contains(new[] { 0, 128, 256, 512 }, environment.SimdBits);
        Assert.AreEqual(Environment.ProcessorCount, environment.Cores);
        Assert.AreEqual("11.0.0", environment.Packages["System.Numerics.Tensors"]);
        StringAssert.StartsWith(environment.Packages["MathNet.Numerics"], "5.0.0");
        StringAssert.StartsWith(environment.Commit, "0.1.0");
        Assert.AreEqual("Normalization.Bench compare --out 'my reports/1'", environment.CommandLine);
        Assert.AreEqual((12L, 3), (environment.Seed, environment.Threads));
        foreach (string text in new[] { environment.Cpu, environment.Os, environment.Runtime }) Assert.AreNotEqual("", text.Trim());
    }

    [TestMethod]
    [DataRow("/opt/somewhere/bin/Normalization.Bench.dll", "Normalization.Bench")]
    [DataRow("C:\\Users\\me\\Normalization.Bench.exe", "Normalization.Bench")]
    [DataRow("Normalization.Bench", "Normalization.Bench")]
    public void Capture_ProgramWithPath_KeepsItsNameAlone(string program, string expected) =>
        Assert.AreEqual(expected, RunEnvironment.Capture(program, [], 1, 1).CommandLine);

    [TestMethod]
    public void Capture_AnyCall_HoldsNoPathOfThisMachine()
    {
        var environment = RunEnvironment.Capture(Path.Combine(AppContext.BaseDirectory, "Normalization.Bench.dll"), ["list"], 1, 1);
        string all = string.Join('\n', environment.Cpu, environment.Os, environment.Runtime, environment.Commit, environment.CommandLine, string.Join('\n', environment.Packages));
        foreach (string path in new[] { AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar), Environment.CurrentDirectory })
            Assert.IsFalse(all.Contains(path, StringComparison.Ordinal), path);
    }
}
