using Normalization.Core;

namespace Normalization.Tests.Documentation;

/// <summary>The example of tensor files of docs/library.md, compiled and run; its text must be the page's, line by line.</summary>
[TestClass]
public sealed class TensorFileTests
{
    [TestMethod]
    public void Example_OfTensorFiles_Runs()
    {
        // example: begin
        float[] x = new float[4 * 3 * 5], dy = new float[x.Length];
        for (int i = 0; i < x.Length; i++) (x[i], dy[i]) = (MathF.Sin(i), MathF.Cos(i));

        var file = new StateDictionary();
        file.Add("input", StateTensor.Create<float>(x, 4, 3, 5)); // values, then the lengths of the axes; float, double or long
        file.Add("output_gradient", StateTensor.Create<float>(dy, 4, 3, 5));
        file.Add("weight", StateTensor.Create<float>([1, 2, 3], 3));
        file.Save("in.safetensors");

        StateTensor input = StateDictionary.Load("in.safetensors")["input"]; // an error that lists the names where there is none such
        nint[] lengths = input.Shape.ToArray(); // 4, 3, 5
        float[] values = input.ToArray<float>(); // a copy; AsSpan<float>() is the values in place. The type must be the file's
        double[] precise = input.ConvertTo(StateElementType.F64).ToArray<double>();
        // example: end

        CollectionAssert.AreEqual(new nint[] { 4, 3, 5 }, lengths);
        CollectionAssert.AreEqual(x, values);
        Assert.AreEqual(x[7], precise[7]);
    }

    [TestMethod]
    public void Example_OfTensorFiles_IsTheCompiledOne() => PageExample.IsOn("docs/library.md");

    [TestCleanup]
    public void Clean() => File.Delete("in.safetensors");
}
