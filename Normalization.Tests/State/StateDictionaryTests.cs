using Normalization.Core;

namespace Normalization.Tests.State;

[TestClass]
public class StateDictionaryTests
{
    private static StateTensor One => StateTensor.Create<float>([1f], 1);

    [TestMethod]
    public void Add_SeveralNames_KeepsTheirOrder()
    {
        StateDictionary state = new() { { "z", One }, { "a", One }, { "", One }, { "m", One } };

        CollectionAssert.AreEqual(new[] { "z", "a", "", "m" }, state.Keys.ToArray());
        Assert.AreEqual(4, state.Count);
    }

    [TestMethod]
    public void Add_TakenName_Throws()
    {
        StateDictionary state = new() { { "a", One } };

        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => state.Add("a", One)).Message, "'a'");
    }

    [TestMethod]
    public void Add_ReservedName_Throws() =>
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new StateDictionary().Add("__metadata__", One)).Message, "reserved");

    [TestMethod]
    public void Add_OtherState_AppendsAll()
    {
        StateDictionary state = new() { { "a", One } };
        state.Add(new StateDictionary { { "c", One }, { "b", One } });

        CollectionAssert.AreEqual(new[] { "a", "c", "b" }, state.Keys.ToArray());
    }

    [TestMethod]
    public void Indexer_UnknownName_ListsTheNames()
    {
        StateDictionary state = new() { { "weight", One }, { "bias", One } };

        StringAssert.Contains(Assert.ThrowsExactly<KeyNotFoundException>(() => state["Weight"]).Message, "weight, bias");
    }

    [TestMethod]
    public void ConvertTo_F64_ConvertsAllButCountersAndKeepsTexts()
    {
        StateDictionary state = new() { { "w", One }, { "n", StateTensor.Create<long>([5]) }, { "d", StateTensor.Create<double>([0.1], 1) } };
        state.Metadata["format"] = "pt";

        StateDictionary converted = state.ConvertTo(StateElementType.F64);

        CollectionAssert.AreEqual(new[] { "w", "n", "d" }, converted.Keys.ToArray());
        CollectionAssert.AreEqual(new[] { 1.0 }, converted["w"].ToArray<double>());
        CollectionAssert.AreEqual(new[] { 5L }, converted["n"].ToArray<long>());
        CollectionAssert.AreEqual(new[] { 0.1 }, converted["d"].ToArray<double>());
        Assert.AreEqual("pt", converted.Metadata["format"]);
    }

    [TestMethod]
    public void ConvertTo_I64_Throws() =>
        Assert.ThrowsExactly<ArgumentException>(() => new StateDictionary { { "w", One } }.ConvertTo(StateElementType.I64));
}
