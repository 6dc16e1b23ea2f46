using System.Globalization;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.State;

[TestClass]
public class NormalizerStateTests
{
    private static readonly string[] Names = ["weight", "bias", "running_mean", "covariance", "num_batches_tracked"];

    [TestMethod]
    public void GetState_OfALayer_HasParametersThenBuffers()
    {
        FakeNormalizer<float> layer = Filled<float>(1);

        StateDictionary state = layer.GetState();

        CollectionAssert.AreEqual(Names, state.Keys.ToArray());
        CollectionAssert.AreEqual(layer.Parameters[0].Values, state["weight"].ToArray<float>());
        CollectionAssert.AreEqual(new nint[] { 2, 3 }, state["covariance"].Shape.ToArray());
        Assert.AreEqual(0, state["num_batches_tracked"].Shape.Length);
        Assert.AreEqual(layer.Buffers[^1].Count, state["num_batches_tracked"].ToArray<long>()[0]);
    }

    [TestMethod]
    public void GetState_LayerChangedAfterwards_StateIsUnchanged()
    {
        FakeNormalizer<double> layer = Filled<double>(2);
        StateDictionary state = layer.GetState();
        double before = layer.Parameters[0].Values[0];
        layer.Parameters[0].Values[0] = 77;

        Assert.AreEqual(before, state["weight"].ToArray<double>()[0]);
    }

    [TestMethod]
    public void LoadState_OfAnotherLayer_MakesThemEqual()
    {
        FakeNormalizer<float> from = Filled<float>(3);
        FakeNormalizer<float> to = Filled<float>(4);

        to.LoadState(from.GetState());

        CollectionAssert.AreEqual(from.Everything, to.Everything);
        Assert.AreEqual(1, to.StateChanges);
    }

    [TestMethod]
    public void LoadState_StrictWithSeveralFaults_NamesAllInOneErrorAndChangesNothing()
    {
        FakeNormalizer<float> layer = Filled<float>(5);
        double[] before = layer.Everything;
        var state = new StateDictionary
        {
            { "weight", StateTensor.Create<float>([1, 2, 3], 3) },
            { "bias", StateTensor.Create<float>([1, 2, 3, 4], 4) },
            { "gamma", StateTensor.Create<float>([1, 2], 1, 2) },
            { "covariance", StateTensor.Create<double>([1, 2, 3, 4, 5, 6], 2, 3) },
            { "num_batches_tracked", StateTensor.Create<long>([-4]) },
        };

        string message = Assert.ThrowsExactly<ArgumentException>(() => layer.LoadState(state)).Message;

        StringAssert.Contains(message, "FakeNormalizer");
        StringAssert.Contains(message, "'running_mean' is missing");
        StringAssert.Contains(message, "'gamma' of shape (1, 2) is surplus");
        StringAssert.Contains(message, "'bias' has the shape (4), not (3)");
        StringAssert.Contains(message, "'covariance' is F64, but a layer of float holds F32 (state.ConvertTo(StateElementType.F32) converts)");
        StringAssert.Contains(message, "'num_batches_tracked' is -4");
        StringAssert.Contains(message, "strict: false");
        Assert.IsFalse(message.Contains("'weight'", StringComparison.Ordinal), message);
        CollectionAssert.AreEqual(before, layer.Everything);
        Assert.AreEqual(0, layer.StateChanges);
    }

    [TestMethod]
    public void LoadState_EmptyState_NamesEveryEntry()
    {
        string message = Assert.ThrowsExactly<ArgumentException>(() => new FakeNormalizer<float>().LoadState([])).Message;

        foreach (string name in Names)
        {
            StringAssert.Contains(message, $"'{name}' is missing");
        }
    }

    [TestMethod]
    public void LoadState_WrongPrefix_SaysWhatTheStateHolds()
    {
        StateDictionary state = Filled<double>(6).GetState("layers.1.");
        FakeNormalizer<double> layer = Filled<double>(7);
        double[] before = layer.Everything;

        string message = Assert.ThrowsExactly<ArgumentException>(() => layer.LoadState(state, prefix: "layer1.")).Message;

        StringAssert.Contains(message, "'layer1.running_mean'");
        StringAssert.Contains(message, "holds 'layers.1.");
        StringAssert.Contains(message, "Check the prefix 'layer1.'");
        StateMisfit misfit = layer.LoadState(state, strict: false, "layer1.");
        CollectionAssert.AreEquivalent(Names.Select(name => "layer1." + name).ToArray(), misfit.Missing.ToArray());
        Assert.IsEmpty(misfit.Surplus);
        CollectionAssert.AreEqual(before, layer.Everything);
    }

    [TestMethod]
    public void LoadState_Lenient_TouchesOnlyPresentNames()
    {
        FakeNormalizer<double> layer = Filled<double>(6);
        double[] expected = layer.Everything;
        expected[3] = 10;
        expected[4] = 11;
        expected[5] = 12;

        StateMisfit misfit = layer.LoadState(new StateDictionary { { "bias", StateTensor.Create<double>([10, 11, 12], 3) }, { "unknown", StateTensor.Create<double>([1], 1) } }, strict: false);

        CollectionAssert.AreEquivalent(Names.Where(name => name != "bias").ToArray(), misfit.Missing.ToArray());
        CollectionAssert.AreEqual(new[] { "unknown" }, misfit.Surplus.ToArray());
        CollectionAssert.AreEqual(expected, layer.Everything);
        Assert.AreEqual(1, layer.StateChanges);
    }

    [TestMethod]
    public void LoadState_LenientWithMisshapenEntry_ThrowsAndChangesNothing()
    {
        FakeNormalizer<double> layer = Filled<double>(7);
        double[] before = layer.Everything;
        StateDictionary state = new() { { "weight", StateTensor.Create<double>([1, 2, 3], 3) }, { "bias", StateTensor.Create<double>([1, 2, 3], 1, 3, 1, 1) } };

        string message = Assert.ThrowsExactly<ArgumentException>(() => layer.LoadState(state, strict: false)).Message;

        StringAssert.Contains(message, "'bias' has the shape (1, 3, 1, 1), not (3)");
        Assert.IsFalse(message.Contains("strict: false", StringComparison.Ordinal), message);
        CollectionAssert.AreEqual(before, layer.Everything);
    }

    [TestMethod]
    public void LoadState_StateOfFloatIntoDouble_NeedsConversion()
    {
        FakeNormalizer<float> from = Filled<float>(8);
        FakeNormalizer<double> to = Filled<double>(9);
        StateDictionary state = from.GetState();

        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => to.LoadState(state)).Message, "state.ConvertTo(StateElementType.F64)");
        to.LoadState(state.ConvertTo(StateElementType.F64));

        CollectionAssert.AreEqual(from.Everything, to.Everything);
    }

    [TestMethod]
    public void LoadState_CounterOfShapeOne_IsAccepted()
    {
        FakeNormalizer<float> layer = Filled<float>(10);

        layer.LoadState(new StateDictionary { { "num_batches_tracked", StateTensor.Create<long>([123], 1) } }, strict: false);

        Assert.AreEqual(123, layer.Buffers[^1].Count);
    }

    [TestMethod]
    [DataRow(2)]
    [DataRow(0)]
    public void LoadState_CounterOfOtherShape_Throws(int length)
    {
        StateDictionary state = new() { { "num_batches_tracked", StateTensor.Create<long>(new long[length], length) } };

        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => new FakeNormalizer<float>().LoadState(state, strict: false)).Message, $"I64 of shape ({length})");
    }

    [TestMethod]
    public void LoadState_CounterThatIsNotI64_Throws()
    {
        StateDictionary state = new() { { "num_batches_tracked", StateTensor.Create<float>([3f]) } };

        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => new FakeNormalizer<float>().LoadState(state, strict: false)).Message, "F32 of shape ()");
    }

    [TestMethod]
    [DataRow("running_mean", float.NaN)]
    [DataRow("running_mean", float.PositiveInfinity)]
    [DataRow("running_var", -1f)]
    public void LoadState_StatisticThatNoBatchHas_Throws(string name, float value)
    {
        var layer = new BatchNorm<float>(3);
        StateDictionary state = new() { { name, StateTensor.Create<float>([0.5f, value, 1f], 3) } };

        string message = Assert.ThrowsExactly<ArgumentException>(() => layer.LoadState(state, strict: false)).Message;

        Assert.Contains($"'{name}' has {value.ToString(CultureInfo.InvariantCulture)} at element 1", message);
        CollectionAssert.AreEqual(new[] { 0f, 0f, 0f }, layer.Buffers[0].Values);
    }

    [TestMethod]
    public void LoadState_WithPrefix_OneStateHoldsTwoLayers()
    {
        FakeNormalizer<float> first = Filled<float>(12);
        FakeNormalizer<float> second = Filled<float>(13);
        StateDictionary model = first.GetState("layer1.bn.");
        model.Add(second.GetState("layer2.bn."));
        FakeNormalizer<float> to = Filled<float>(14);

        Assert.AreEqual("layer1.bn.weight", model.Keys.First());
        to.LoadState(model, prefix: "layer2.bn.");
        CollectionAssert.AreEqual(second.Everything, to.Everything);
        to.LoadState(model, prefix: "layer1.bn.");
        CollectionAssert.AreEqual(first.Everything, to.Everything);
    }

    [TestMethod]
    public void LoadState_WithPrefix_JudgesSurplusWithinItOnly()
    {
        StateDictionary model = new FakeNormalizer<float>().GetState("a.");
        model.Add("b.extra", StateTensor.Create<float>([1], 1));
        model.Add("a.extra", StateTensor.Create<float>([1], 1));

        string message = Assert.ThrowsExactly<ArgumentException>(() => new FakeNormalizer<float>().LoadState(model, prefix: "a.")).Message;

        StringAssert.Contains(message, "'a.extra' of shape (1) is surplus");
        Assert.IsFalse(message.Contains("b.extra", StringComparison.Ordinal), message);
    }

    [TestMethod]
    public void LoadState_LayerRejectsItsNewState_OldStateReturns()
    {
        var layer = new FakeNormalizer<double> { Unbearable = 666 };
        layer.FillWithDistinctValues(15);
        double[] before = layer.Everything;
        var other = Filled<double>(16);
        other.Buffers[0].Values[0] = 666;

        Assert.ThrowsExactly<InvalidOperationException>(() => layer.LoadState(other.GetState()));

        CollectionAssert.AreEqual(before, layer.Everything);
        Assert.AreEqual(2, layer.StateChanges);
    }

    private static FakeNormalizer<T> Filled<T>(int seed)
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
    {
        var layer = new FakeNormalizer<T>();
        layer.FillWithDistinctValues(seed);
        return layer;
    }
}
