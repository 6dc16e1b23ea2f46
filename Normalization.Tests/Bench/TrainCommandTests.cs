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
        Assert.HasCount(6, claims);
        foreach (JsonElement claim in claims)
        {
            StringAssert.Matches(claim.GetProperty("experiment").GetString(), new("^E[67]$"));
            Assert.AreEqual("held", claim.GetProperty("verdict").GetString(), claim.ToString());
            Assert.IsLessThan(claim.GetProperty("threshold").GetDouble(), claim.GetProperty("observed").GetDouble());
            Assert.AreEqual(2, claim.GetProperty("seeds").GetInt32());
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
        string[] arguments = ["train", "E1", "E7", "--quick", "--seeds", "1"];
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

        string[] Measurements(string name) =>
            [.. RunFile.Load(_folder.File(name)).Cases.Select(record => $"{record.Case} {JsonSerializer.Serialize(record.Measurements)} {record.Failure}")];
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
}
