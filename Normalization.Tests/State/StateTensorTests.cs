using System.Globalization;
using Normalization.Core;

namespace Normalization.Tests.State;

[TestClass]
public class StateTensorTests
{
    [TestMethod]
    public void Create_Float_KeepsValuesShapeAndLittleEndianBytes()
    {
        StateTensor tensor = StateTensor.Create<float>([1f, -2.5f], 2, 1);

        Assert.AreEqual(StateElementType.F32, tensor.ElementType);
        CollectionAssert.AreEqual(new nint[] { 2, 1 }, tensor.Shape.ToArray());
        Assert.AreEqual(2, tensor.Count);
        CollectionAssert.AreEqual(new byte[] { 0, 0, 0x80, 0x3F, 0, 0, 0x20, 0xC0 }, tensor.Bytes.ToArray());
        CollectionAssert.AreEqual(new[] { 1f, -2.5f }, tensor.ToArray<float>());
    }

    [TestMethod]
    public void Create_ChangedSourceAfterwards_TensorIsUnchanged()
    {
        double[] values = [3, 4];
        StateTensor tensor = StateTensor.Create<double>(values, 2);
        values[0] = 9;

        CollectionAssert.AreEqual(new double[] { 3, 4 }, tensor.ToArray<double>());
    }

    [TestMethod]
    public void Create_NoShape_IsASingleNumber()
    {
        StateTensor tensor = StateTensor.Create<long>([7]);

        Assert.AreEqual(0, tensor.Shape.Length);
        CollectionAssert.AreEqual(new[] { 7L }, tensor.ToArray<long>());
    }

    [TestMethod]
    [DataRow(new long[] { 3 })]
    [DataRow(new long[] { -2, -1 })]
    [DataRow(new long[] { 2, 0 })]
    [DataRow(new long[] { long.MaxValue, 2, 1 })]
    public void Create_ShapeOfAnotherCount_Throws(long[] shape)
    {
        nint[] lengths = [.. shape.Select(length => (nint)length)];

        ArgumentException error = Assert.ThrowsExactly<ArgumentException>(() => StateTensor.Create<float>([1f, 2f], lengths));

        StringAssert.Contains(error.Message, "2 values");
        StringAssert.Contains(error.Message, shape[0].ToString(CultureInfo.InvariantCulture));
    }

    [TestMethod]
    public void Create_OtherType_Throws() =>
        StringAssert.Contains(Assert.ThrowsExactly<NotSupportedException>(() => StateTensor.Create<int>([1], 1)).Message, "Int32");

    [TestMethod]
    public void ToArray_OtherType_ThrowsAndNamesTheConversion()
    {
        StateTensor tensor = StateTensor.Create<float>([1f], 1);

        StringAssert.Contains(Assert.ThrowsExactly<InvalidOperationException>(() => tensor.ToArray<double>()).Message, "ConvertTo(StateElementType.F64)");
        StringAssert.Contains(Assert.ThrowsExactly<InvalidOperationException>(() => tensor.ToArray<long>()).Message, "F32, not I64");
    }

    [TestMethod]
    public void ConvertTo_F64AndBack_IsExact()
    {
        float[] values = [0.1f, -0f, float.Epsilon, float.MaxValue, float.NaN, float.NegativeInfinity];
        StateTensor tensor = StateTensor.Create<float>(values, 2, 3);

        StateTensor wide = tensor.ConvertTo(StateElementType.F64);

        CollectionAssert.AreEqual(values.Select(value => (double)value).ToArray(), wide.ToArray<double>());
        CollectionAssert.AreEqual(new nint[] { 2, 3 }, wide.Shape.ToArray());
        CollectionAssert.AreEqual(tensor.Bytes.ToArray(), wide.ConvertTo(StateElementType.F32).Bytes.ToArray());
    }

    [TestMethod]
    public void ConvertTo_F32_RoundsToNearest()
    {
        StateTensor tensor = StateTensor.Create<double>([0.1, 1 + 1e-12], 2);

        CollectionAssert.AreEqual(new[] { 0.1f, 1f }, tensor.ConvertTo(StateElementType.F32).ToArray<float>());
    }

    [TestMethod]
    public void ConvertTo_F32BeyondRange_ThrowsAndNamesTheElement()
    {
        StateTensor tensor = StateTensor.Create<double>([1, -1.5e300], 2);

        StringAssert.Contains(Assert.ThrowsExactly<OverflowException>(() => tensor.ConvertTo(StateElementType.F32)).Message, "Element 1, -1.5E+300");
    }

    [TestMethod]
    public void ConvertTo_Counter_Throws()
    {
        Assert.ThrowsExactly<ArgumentException>(() => StateTensor.Create<long>([1]).ConvertTo(StateElementType.F32));
        Assert.ThrowsExactly<ArgumentException>(() => StateTensor.Create<float>([1]).ConvertTo(StateElementType.I64));
    }
}
