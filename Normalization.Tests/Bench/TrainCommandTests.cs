using System.Diagnostics;
using System.Text.Json;
using Normalization.Core.Reporting;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench;

[TestClass]
public sealed class TrainCommandTests : IDisposable
{
    private static readonly string[] Names = ["results.json", "results.csv", "report.md", "index.html"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    public void Train_ExperimentsOfSeconds_WritesClaimsAndTheSameReportAgain()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "train", "E6", "E7", "--quick", "--seeds", "2", "--out", "run");

        Assert.AreEqual(0, result.ExitCode, result.Error);
        StringAssert.Contains(result.Output, "E7 HELD: ");
        StringAssert.Contains(result.Error, "trials, about");
        using JsonDocument results = JsonDocument.Parse(File.ReadAllBytes(_folder.File("run/results.json")));
        JsonElement[] claims = [.. results.RootElement.GetProperty("claims").EnumerateArray()];
        Assert.HasCount(8, claims);
        foreach (JsonElement claim in claims)
        {
            StringAssert.Matches(claim.GetProperty("experiment").GetString(), new("^E[67]$"));
            Assert.AreEqual(2, claim.GetProperty("seeds").GetInt32());
        }

        // E7's network is trained: what comes of its two claims is no matter of two seeds.
        JsonElement[] exact = [.. claims.Where(claim => !claim.TryGetProperty("interval", out _))];
        Assert.HasCount(6, exact);
        foreach (JsonElement claim in exact)
        {
            Assert.AreEqual("HELD", claim.GetProperty("verdict").GetString(), claim.ToString());
            Assert.IsLessThan(claim.GetProperty("threshold").GetDouble(), claim.GetProperty("observed").GetDouble());
        }

        byte[][] before = [.. Names.Select(name => File.ReadAllBytes(_folder.File($"run/{name}")))];
        Assert.AreEqual(0, BenchProcess.Run(_folder.Path, "report", "run").ExitCode);
        for (int i = 0; i < Names.Length; i++)
        {
            CollectionAssert.AreEqual(before[i], File.ReadAllBytes(_folder.File($"run/{Names[i]}")), Names[i]);
        }
    }

    [TestMethod]
    public void Train_KilledAndResumedOnAnotherNumberOfThreads_EndsWithTheSameRecords()
    {
        string[] arguments = ["train", "E6", "E18", "--quick", "--seeds", "1"];
        BenchResult whole = BenchProcess.Run(_folder.Path, [.. arguments, "--threads", "1", "--out", "whole"]);
        Assert.AreEqual(0, whole.ExitCode, whole.Error);
        using (Process process = BenchProcess.Start(_folder.Path, [.. arguments, "--threads", "1", "--out", "killed"]))
        {
            while (!process.HasExited && !(File.Exists(_folder.File("killed/records.jsonl")) && Lines("killed") >= 2))
            {
                Thread.Sleep(20);
            }

            process.Kill();
            process.WaitForExit();
        }

        Assert.IsLessThan(RunFile.Load(_folder.File("whole")).Cases.Count, RunFile.Load(_folder.File("killed")).Cases.Count);
        BenchResult resumed = BenchProcess.Run(_folder.Path, [.. arguments, "--threads", "1", "--resume", "killed"]);
        Assert.AreEqual(0, resumed.ExitCode, resumed.Error);
        BenchResult parallel = BenchProcess.Run(_folder.Path, [.. arguments, "--threads", "2", "--out", "parallel"]);
        Assert.AreEqual(0, parallel.ExitCode, parallel.Error);
        CollectionAssert.AreEqual(Measurements("whole"), Measurements("killed"));
        CollectionAssert.AreEqual(Measurements("whole"), Measurements("parallel"));

        int Lines(string name)
        {
            using var stream = new FileStream(_folder.File($"{name}/records.jsonl"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            using var reader = new StreamReader(stream);
            return reader.ReadToEnd().Count(letter => letter == '\n');
        }
    }

    [TestMethod]
    public void Train_InShards_MergesToTheRecordsOfTheWholeRun()
    {
        string[] arguments = ["train", "E6", "E7", "--quick", "--seeds", "2"];
        Assert.AreEqual(0, BenchProcess.Run(_folder.Path, [.. arguments, "--out", "whole"]).ExitCode);
        for (int shard = 1; shard <= 2; shard++)
        {
            BenchResult part = BenchProcess.Run(_folder.Path, [.. arguments, "--shard", $"{shard}/2", "--out", $"part-{shard}"]);
            Assert.AreEqual(0, part.ExitCode, part.Error);
            StringAssert.Contains(part.Output, $"shard {shard}/2");
            using JsonDocument results = JsonDocument.Parse(File.ReadAllBytes(_folder.File($"part-{shard}/results.json")));
            foreach (JsonElement claim in results.RootElement.GetProperty("claims").EnumerateArray())
            {
                Assert.AreEqual("NOT RUN", claim.GetProperty("verdict").GetString(), claim.ToString());
            }
        }

        BenchResult alone = BenchProcess.Run(_folder.Path, "report", "merge", "part-2", "--out", "merged");
        Assert.AreEqual(2, alone.ExitCode);
        StringAssert.Contains(alone.Error, "shard 1/2 is missing");
        Assert.IsFalse(Directory.Exists(_folder.File("merged")));

        BenchResult merged = BenchProcess.Run(_folder.Path, "report", "merge", "part-2", "part-1", "--out", "merged");
        Assert.AreEqual(0, merged.ExitCode, merged.Error);
        StringAssert.Contains(merged.Output, "E7 HELD: ");
        CollectionAssert.AreEqual(Measurements("whole"), Measurements("merged"));
        CollectionAssert.AreEquivalent(RunFile.Load(_folder.File("whole")).Header.Settings.ToArray(), RunFile.Load(_folder.File("merged")).Header.Settings.ToArray());
    }

    // A limit on the length of files stands for a full disk; the signal that comes with it is ignored, as programs that write much do.
    [TestMethod]
    [OSCondition(OperatingSystems.Linux)]
    public void Train_DiskFullWhileRecording_StopsAndKeepsWhatWasComplete()
    {
        string program = Path.Combine(AppContext.BaseDirectory, "Normalization.Bench.dll");
        var start = new ProcessStartInfo("bash", ["-c", $"trap '' XFSZ; ulimit -f 24; exec dotnet '{program}' train E6 --quick --seeds 40 --out run"])
        {
            WorkingDirectory = _folder.Path,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["DOTNET_EnableWriteXorExecute"] = "0"; // else the runtime itself needs a file longer than that
        using Process process = Process.Start(start)!;
        BenchResult result = BenchProcess.Finish(process);

        Assert.AreEqual(2, result.ExitCode, result.Error);
        StringAssert.Contains(result.Error, "error: ");
        RunData kept = RunFile.Load(_folder.File("run"));
        Assert.IsGreaterThan(0, kept.Cases.Count);
        Assert.IsFalse(kept.Complete);
        BenchResult resumed = BenchProcess.Run(_folder.Path, "train", "--resume", "run");
        Assert.AreEqual(0, resumed.ExitCode, resumed.Error);
        Assert.IsTrue(RunFile.Load(_folder.File("run")).Complete);
    }

    [TestMethod]
    [DataRow("E99", "E99")]
    [DataRow("", "needs experiments")]
    public void Train_UnknownOrNoExperiment_SaysWhichThereAre(string argument, string expected)
    {
        BenchResult result = BenchProcess.Run(_folder.Path, argument.Length == 0 ? ["train"] : ["train", argument]);
        Assert.AreEqual(2, result.ExitCode);
        StringAssert.Contains(result.Error, expected);
        StringAssert.Contains(result.Error, "E1");
    }

    [TestMethod]
    public void Train_DataFolderWithoutTestImages_NamesTheFilesLookedFor()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "train", "E7", "--data", ".");
        Assert.AreEqual(2, result.ExitCode);
        StringAssert.Contains(result.Error, "train-images-idx3-ubyte");
    }

    private string[] Measurements(string name) =>
        [.. RunFile.Load(_folder.File(name)).Cases.Select(record => $"{record.Case} {JsonSerializer.Serialize(record.Measurements)} {record.Failure}")];
}
