using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

[TestClass]
public sealed class RunShardsTests
{
    private static readonly RunData Whole = SampleRun.Build();

    [TestMethod]
    public void Join_AllShardsInAnyOrder_IsTheWholeRun()
    {
        RunData joined = RunShards.Join([("c", Part(3)), ("a", Part(1)), ("b", Part(2))]);
        CollectionAssert.AreEqual(Whole.InOrder().Cases.ToArray(), joined.Cases.ToArray());
        Assert.AreEqual(Whole.Cases.Count, joined.Header.CaseCount);
        CollectionAssert.AreEquivalent(Whole.Header.Settings.ToArray(), joined.Header.Settings.ToArray());
        Assert.IsTrue(joined.Complete);
    }

    [TestMethod]
    public void Join_OneMissing_NamesIt() => Refuses("shard 2/3 is missing", ("a", Part(1)), ("c", Part(3)));

    [TestMethod]
    public void Join_OneTwice_NamesBothFolders() => Refuses("shard 1/3 is there twice: 'a' and 'again'", ("a", Part(1)), ("again", Part(1)));

    [TestMethod]
    public void Join_OneIncomplete_SaysWhichAndHowToGoOn()
    {
        RunData torn = Part(2);
        Refuses("shard 2/3 in 'b' is incomplete", ("a", Part(1)), ("b", torn with { Cases = [.. torn.Cases.SkipLast(1)] }), ("c", Part(3)));
    }

    [TestMethod]
    public void Join_OtherSettings_NamesTheDifference()
    {
        RunData other = Part(2);
        other = other with { Header = other.Header with { Settings = new Dictionary<string, string>(other.Header.Settings) { ["seeds"] = "99" } } };
        Refuses("seeds was not set and is now 99", ("a", Part(1)), ("b", other), ("c", Part(3)));
    }

    [TestMethod]
    public void Join_AnotherSplitOrAWholeRun_IsRefused()
    {
        Refuses("different splits", ("a", Part(1)), ("b", Part(2, of: 2)));
        Refuses("no shard but a whole run", ("a", Part(1)), ("whole", Whole));
    }

    [TestMethod]
    public void MachineDifferences_AnotherProcessor_NamesItAndTheJoinedRunHasBoth()
    {
        RunData other = Part(2, of: 2);
        other = other with { Header = other.Header with { Environment = other.Header.Environment with { Cpu = "another processor" } } };
        (string, RunData)[] shards = [("a", Part(1, of: 2)), ("b", other)];
        StringAssert.Contains(RunShards.MachineDifferences(shards).Single(), "another processor");
        StringAssert.Contains(RunShards.Join(shards).Header.Environment.Cpu, " and another processor");
    }

    [TestMethod]
    public void Of_CasesOfUnlikeCost_DealsOutEveryOneOnceAndEvenly()
    {
        double[] costs = [50, 1, 2, 40, 3, 30, 20, 4, 5, 10];
        double[][] shares = [.. Enumerable.Range(1, 3).Select(number => new Shard(number, 3).Of(costs, cost => cost).ToArray())];
        CollectionAssert.AreEquivalent(costs, shares.SelectMany(share => share).ToArray());
        Assert.IsLessThan(costs.Sum() / 2, shares.Max(share => share.Sum()));
    }

    [TestMethod]
    [DataRow("0/3")]
    [DataRow("4/3")]
    [DataRow("1/0")]
    [DataRow("-1/3")]
    [DataRow("1")]
    [DataRow("1/2/3")]
    [DataRow("a/b")]
    [DataRow(null)]
    public void TryParse_NoPartOfAWhole_IsFalse(string? text) => Assert.IsFalse(Shard.TryParse(text, out _));

    private static void Refuses(string part, params (string, RunData)[] shards) =>
        StringAssert.Contains(Assert.ThrowsExactly<InvalidDataException>(() => RunShards.Join(shards)).Message, part);

    private static RunData Part(int number, int of = 3)
    {
        IReadOnlyList<CaseRecord> cases = new Shard(number, of).Of(Whole.Cases, record => record.Seconds);
        var settings = new Dictionary<string, string>(Whole.Header.Settings) { [RunShards.Setting] = new Shard(number, of).ToString() };
        return new RunData(Whole.Header with { Settings = settings, CaseCount = cases.Count }, cases);
    }
}
