using System.Text.RegularExpressions;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench;

[TestClass]
public sealed class UsageTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    [DataRow("comparee", "'comparee'", "'compare'")]
    [DataRow("--scenarioss gaussian", "'--scenarioss'", "'--scenarios'")]
    [DataRow("--strategies batchnorm", "'batchnorm'", "'batch-norm'")]
    [DataRow("--strategies zca", "'zca'", "'zca-whitening'")]
    [DataRow("--aspects output", "'output'", "'outputs'")]
    [DataRow("--scenarios gaussian,heavytails", "'heavytails'", "'heavy-tails'")]
    [DataRow("--strategies batch-norm, none", "'none'", "commas")]
    [DataRow("--strategies --seed 3", "--seed", "batch-norm")]
    [DataRow("--threads 0", "'0'", "1 to 256")]
    [DataRow("--seed 1.5", "'1.5'", "whole number")]
    [DataRow("--seed 1 --seed 2", "--seed", "--help")]
    [DataRow("--data", "--data", "--help")]
    [DataRow("--data nowhere", "nowhere", "train-images-idx3-ubyte")]
    [DataRow("--data taken --aspects speed", "--data", "leave --data out")]
    [DataRow("--out a --resume b", "--resume", "one of them")]
    [DataRow("--resume nowhere", "nowhere", "--out")]
    [DataRow("train --resume nowhere", "nowhere", "--out")]
    [DataRow("--out taken --strategies none --aspects outputs", "taken", "--out DIR")]
    [DataRow("--out taken/file --strategies none --aspects outputs", "taken/file", "--out DIR")]
    [DataRow("speed --filter batchnorm/*", "'batchnorm/*'", "batch-norm/forward/")]
    [DataRow("speed --tier quick", "'quick'", "dry or short or full")]
    [DataRow("speed --peers torch", "'torch'", "'pytorch'")]
    [DataRow("speed --threads 257", "'257'", "1 to 256")]
    [DataRow("speed --python nowhere --filter layer-norm/forward/64x128/*", "'nowhere'", "leave --python out")]
    [DataRow("networks --python nowhere", "'nowhere'", "leave --python out")]
    [DataRow("speed --out a --resume b", "--resume", "one of them")]
    [DataRow("sync-check --replicas 2 --simulate-rank 1", "--simulate-rank", "--simulate too")]
    [DataRow("report", "folder", "reports/")]
    [DataRow("report nowhere", "nowhere", "a run wrote")]
    [DataRow("report taken", "records.jsonl", "--out")]
    [DataRow("report merge", "shards", "--out")]
    [DataRow("train E7 --shard 3/2", "'3/2'", "2/4")]
    [DataRow("apply", "strategy", "batch-norm")]
    [DataRow("apply grup-norm --input in --output out", "'grup-norm'", "'group-norm'")]
    [DataRow("apply batch-norm --input in", "--output", "--help")]
    [DataRow("apply batch-norm --input nowhere --output out", "nowhere", "--input")]
    [DataRow("apply batch-norm --input taken/file --output out", "taken/file", "safetensors")]
    [DataRow("apply batch-norm --input taken/file --output nowhere/out", "nowhere", "make it")]
    [DataRow("apply batch-norm --input taken/file --output taken", "taken", "--output")]
    [DataRow("apply batch-norm --epsilon -1", "'-1'", "at least 0")]
    [DataRow("apply batch-norm --momentum nne", "'nne'", "none")]
    [DataRow("apply zca-whitening --shrinkage 1.01", "'1.01'", "0 to 1")]
    [DataRow("apply ghost-batch-norm --ghost-remainder balance", "'balance'", "'balanced'")]
    [DataRow("apply batch-norm --running-stats yes", "'yes'", "on or off")]
    [DataRow("apply group-norm --groups @file", "'@file'", "whole number")]
    public void BadArguments_ExitWith2AndOneLineOnStderr(string arguments, string value, string wayOut)
    {
        Directory.CreateDirectory(_folder.File("taken"));
        File.WriteAllText(_folder.File("taken/file"), "text");

        BenchResult result = BenchProcess.Run(_folder.Path, arguments.Split(' '));

        Assert.AreEqual(2, result.ExitCode, result.Error);
        Assert.AreEqual("", result.Output);
        Assert.HasCount(1, result.ErrorLines, result.Error);
        StringAssert.StartsWith(result.Error, "error: ");
        StringAssert.Contains(result.Error, value);
        StringAssert.Contains(result.Error, wayOut);
        CollectionAssert.AreEqual(new[] { "taken" }, Directory.GetFileSystemEntries(_folder.Path).Select(Path.GetFileName).ToArray());
        Assert.HasCount(1, Directory.GetFileSystemEntries(_folder.File("taken")));
    }

    [TestMethod]
    [DataRow("--help", "compare speed networks apply report list 130")]
    [DataRow("compare --help", "--strategies --aspects --scenarios --data --seed --threads --out --resume --thorough")]
    [DataRow("apply --help", "--input --output --mode --epsilon --momentum --no-affine --running-stats --running-variance --groups --normalized-dims "
        + "--ghost-size --ghost-grouping --ghost-remainder --ghost-running --group-size --shrinkage NAME_gradient")]
    [DataRow("speed --help", "--tier --peers --python --filter --threads --seed --out --resume")]
    [DataRow("networks --help", "--quick --python --filter --threads --seed --out --resume")]
    [DataRow("report --help", "DIR index.html")]
    [DataRow("help speed", "--tier --peers")]
    public void Help_OfEachVerb_NamesEveryOptionAndGivesExamples(string arguments, string words)
    {
        BenchResult result = BenchProcess.Run(_folder.Path, arguments.Split(' '));

        Assert.AreEqual(0, result.ExitCode);
        Assert.AreEqual("", result.Error);
        foreach (string word in words.Split(' ').Append("Examples:"))
        {
            StringAssert.Contains(result.Output, word);
        }
    }

    [TestMethod]
    public void Version_IsANumberAndWhereKnownACommit()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "--version");

        Assert.AreEqual(0, result.ExitCode);
        StringAssert.Matches(result.Output.Trim(), new Regex(@"^\d+\.\d+\.\d+(\+[0-9a-f]{7,40})?$"));
    }

    [TestMethod]
    public void List_ShowsEveryStrategyWithStateAndClaims()
    {
        BenchResult result = BenchProcess.Run(_folder.Path, "list");

        Assert.AreEqual(0, result.ExitCode);
        string[] lines = result.Output.Split('\n');
        foreach (string id in StrategyCatalog.Ids)
        {
            CollectionAssert.Contains(lines, id);
        }

        StringAssert.Contains(result.Output, "weight (C, H, W), bias (C, H, W)");
        StringAssert.Contains(result.Output, "running_covariance (C, C), num_batches_tracked ()");
        StringAssert.Contains(result.Output, "batch-permutation-equivariance, sample-independence");
    }
}
