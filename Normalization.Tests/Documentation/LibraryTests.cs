using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Documentation;

/// <summary>The example of docs/library.md, compiled and run; its text must be the page's, line by line.</summary>
[TestClass]
public sealed class LibraryTests
{
    [TestMethod]
    public void Example_OfLibrary_Runs()
    {
        float[] embedded = TestData.As<float>(TestData.Normal(1, 2 * 6 * 10)), normalized = new float[embedded.Length];
        float[] image = TestData.As<float>(TestData.Normal(2, 8 * 6 * 25)), result = new float[image.Length];
        double[] point = TestData.Normal(3, 4 * 6 * 5);

        // example: begin
        // (B, T, D) of a transformer: statistics of each token's D values. Over all trailing axes, LayerNorm<float>([T, D]), tokens would see each other.
        var tokens = new ActivationShape(2, 6, 10);
        var layerNorm = new LayerNorm<float>(10, new NormalizerOptions { Epsilon = 1e-6 });
        layerNorm.Forward(tokens, embedded, normalized);

        // Options are records; what a strategy has beyond the shared ones is in a record of its own.
        var batchNorm = new BatchNorm<float>(6, new RunningStatisticsOptions { Momentum = 0.01, Epsilon = 1e-3, SingleValue = SingleValuePolicy.UseRunning });
        var whitening = new ZcaWhitening<float>(6, new ZcaWhiteningOptions { GroupSize = 3 });

        // Instance norm starts without weight, bias and running statistics; new RunningStatisticsOptions { ... } would switch on all three.
        var instanceNorm = new InstanceNorm<float>(6, InstanceNorm<float>.DefaultOptions with { Epsilon = 1e-3 });
        batchNorm.WarningRaised = (kind, message) => Console.Error.WriteLine(message); // once for each kind; nobody listens by default

        // Channels-last memory, (N, C, H, W) = (8, 6, 5, 5): the same shape with other strides, worked on as it lies.
        nint[] lengths = [8, 6, 5, 5], strides = [150, 1, 30, 6];
        batchNorm.Forward(new ReadOnlyTensorSpan<float>(image, lengths, strides), new TensorSpan<float>(result, lengths, strides));

        // One file for a model: each layer behind a prefix of its own.
        StateDictionary model = batchNorm.GetState("layers.0.");
        model.Add(whitening.GetState("layers.1."));
        model.Save("model.safetensors");
        batchNorm.LoadState(StateDictionary.Load("model.safetensors"), prefix: "layers.0.");

        // Differences against Backward, in double: a right gradient is below 1e-6, and below 1e-9 where input and function are well scaled, as here.
        // A forgotten term comes out above 1e-3 or so.
        foreach (GradientCheck check in new GradientChecker().Check(new GroupNorm<double>(groups: 3, channels: 6), new ActivationShape(4, 6, 5), point))
            Console.WriteLine($"{check.Quantity}: {check.RelativeError:0.0e+0} over {check.CheckedElements} elements");
        // example: end

        // A fresh options record switches on what instance norm has off by default.
        var surprising = new InstanceNorm<float>(6, new RunningStatisticsOptions { Epsilon = 1e-3 });
        Assert.IsTrue(instanceNorm is { Epsilon: 1e-3, Parameters: [], Buffers: [] } && surprising is { Parameters.Count: 2, Buffers.Count: 3 });

        // A token's values alone decide; channels lie side by side.
        float[] before = [.. normalized];
        embedded[^1] += 1;
        layerNorm.Forward(tokens, embedded, normalized);
        CollectionAssert.AreEqual(before[..^10], normalized[..^10]);
        Assert.AreNotEqual(before[^1], normalized[^1]);
        Assert.AreEqual(0, Enumerable.Range(0, 200).Average(i => (double)result[6 * i]), 1e-6);
        foreach (GradientCheck check in new GradientChecker().Check(new GroupNorm<double>(3, 6), new ActivationShape(4, 6, 5), point))
        {
            Assert.IsLessThan(1e-9, check.RelativeError, check.Quantity);
        }
    }

    [TestMethod]
    public void Example_OfLibrary_IsTheCompiledOne() => PageExample.IsOn("docs/library.md");

    [TestMethod]
    public void Classes_OfLibrary_AreThoseOfTheAssembly()
    {
        string[] expected =
        [
            .. from type in typeof(BatchNorm<>).Assembly.GetExportedTypes()
               where type is { IsAbstract: false, IsGenericTypeDefinition: true } && type.MakeGenericType(typeof(float)).IsAssignableTo(typeof(INormalizer<float>))
               from made in type.GetConstructors().Cast<System.Reflection.MethodBase>().Concat(type.GetMethods(System.Reflection.BindingFlags.Public | System.Reflection.BindingFlags.Static).Where(method => method.ReturnType == type))
               select Row(type.Name[..type.Name.IndexOf('`', StringComparison.Ordinal)], made),
        ];
        string[] rows = [.. File.ReadLines(PageExample.PathOf("docs/library.md")).TakeWhile(line => line != "## Companions").Where(line => line.Contains("<T>", StringComparison.Ordinal) && line.StartsWith("| `", StringComparison.Ordinal))];

        foreach (string row in expected)
        {
            Assert.IsTrue(rows.Any(line => line.StartsWith(row, StringComparison.Ordinal)), $"docs/library.md has no row that begins: {row}");
        }

        Assert.HasCount(expected.Length, rows);

        static string Row(string name, System.Reflection.MethodBase made)
        {
            System.Reflection.ParameterInfo[] parameters = made.GetParameters();
            Type? options = parameters is [.., { Name: "options" } last] ? last.ParameterType : null;
            string arguments = string.Join(", ", parameters.Take(parameters.Length - (options is null ? 0 : 1)).Select(parameter => parameter.Name));
            return $"| `{name}<T>{(made.IsConstructor ? "" : $".{made.Name}")}({arguments})` | {(options is null ? "none" : $"`{options.Name}`")}";
        }
    }

    [TestCleanup]
    public void Clean() => File.Delete("model.safetensors");
}
