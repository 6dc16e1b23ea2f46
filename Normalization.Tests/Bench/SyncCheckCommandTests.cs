using System.Diagnostics;
using Normalization.Core.Collectives;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench;

/// <summary>The verb over threads, and over processes where there is mpirun.</summary>
[TestClass]
public sealed class SyncCheckCommandTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    [DataRow("1")]
    [DataRow("2")]
    [DataRow("5")]
    public void SyncCheck_Threads_AgreeWithOneProcess(string replicas)
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "sync-check", "--replicas", replicas);

        Assert.AreEqual(0, result.ExitCode, result.Error + result.Output);
        AssertPassed(result);
    }

    [TestMethod]
    [DataRow("die", "rank 1: it was told to die")]
    [DataRow("stall", "rank 1 did not come within 2 s")]
    [DataRow("shape", "rank 0 has (4, 8, 5), rank 1 has (1, 8, 6)")]
    public void SyncCheck_ThreadThatGoesWrong_IsNamedWith1(string fault, string words)
    {
        BenchResult result = BenchProcess.Run(
            _folder.Path, "sync-check", "--replicas", "3", "--simulate", fault, "--simulate-rank", "1", "--deadline", "2");

        Assert.AreEqual(1, result.ExitCode, result.Error);
        Assert.Contains(words, result.ErrorLines.Single());
    }

    [TestMethod]
    public void SyncCheck_RankThatIsNone_NamesTheRanks()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "sync-check", "--replicas", "3", "--simulate-rank", "3");

        Assert.AreEqual(2, result.ExitCode);
        Assert.Contains("one of the ranks 0 to 2; got '3'", result.ErrorLines.Single());
    }

    [TestMethod]
    [DataRow(2)]
    [DataRow(4)]
    public void SyncCheck_Processes_AgreeWithOneProcess(int ranks)
    {
        BenchResult result = RunByMpi(ranks, "sync-check", "--deadline", "60");

        Assert.AreEqual(0, result.ExitCode, result.Error + result.Output);
        AssertPassed(result);
        Assert.Contains("processes over Open MPI", result.Output);
    }

    // The launcher itself sees a process die; what it does not see is one that lives and does not come.
    [TestMethod]
    [DataRow("die", "20", "rank 2 with PID")]
    [DataRow("stall", "3", "rank 2 did not come to an all-gather within 3 s")]
    [DataRow("shape", "20", "rank 0 has (5, 8, 5), rank 2 has (1, 8, 6)")]
    public void SyncCheck_ProcessThatGoesWrong_IsNamedWithin30Seconds(string fault, string deadline, string words)
    {
        long start = Stopwatch.GetTimestamp();
        BenchResult result = RunByMpi(4, "sync-check", "--simulate", fault, "--simulate-rank", "2", "--deadline", deadline);

        Assert.AreNotEqual(0, result.ExitCode);
        Assert.Contains(words, result.Error + result.Output);
        Assert.IsLessThan(30, Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    private static void AssertPassed(BenchResult result)
    {
        string[] lines = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.AreEqual("passed", lines[^1].Trim());
        Assert.AreEqual(8, lines.Count(line => line.Contains("; within 1e-", StringComparison.Ordinal)), result.Output);
        Assert.Contains("all-gather of moments", result.Output);
    }

    private BenchResult RunByMpi(int ranks, params string[] arguments)
    {
        if (OpenMpi.Load(out string? missing) is null || !IsOnPath("mpirun"))
        {
            Assert.Inconclusive(missing ?? "mpirun is not on the path (Debian: apt-get install openmpi-bin).");
        }

        // Loopback and shared memory only, whatever networks the machine has.
        string[] launch =
        [
            "--allow-run-as-root", "--oversubscribe", "--mca", "btl", "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo",
            "--mca", "oob_tcp_if_include", "lo", "-n", $"{ranks}", "dotnet", Path.Combine(AppContext.BaseDirectory, "Normalization.Bench.dll"),
        ];
        var start = new ProcessStartInfo("mpirun", [.. launch, .. arguments])
        {
            WorkingDirectory = _folder.Path,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        return BenchProcess.Finish(process);
    }

    private static bool IsOnPath(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, program)));
}
