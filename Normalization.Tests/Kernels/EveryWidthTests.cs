using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>What whole strategies promise at any vector width; <see cref="VectorWidthTests"/> runs this in processes of each.</summary>
[TestClass]
[DoNotParallelize]
public sealed class EveryWidthTests
{
    /// <summary>Names a file that holds the digests of another width; without it the process is held against itself.</summary>
    public const string DigestVariable = "NORMALIZATION_EXPECTED_DIGESTS";

    // Widths and lengths that no vector divides; the fourth takes whitening past its small decomposition, the last has samples that are long rows.
    private static readonly ActivationShape[] Shapes = [new(4, 6, 5), new(66, 12), new(3, 12, 259), new(40, 70, 2), new(4, 12, 7, 5), new(5, 12, 700)];

    private int _before;

    public static IEnumerable<object[]> AllIds => StrategyCatalog.Ids.Select(id => new object[] { id });

    [TestInitialize]
    public void OneThread()
    {
        _before = KernelThreads.Count;
        KernelThreads.Count = 1;
    }

    [TestCleanup]
    public void Restore() => KernelThreads.Count = _before;

    [TestMethod]
    public void ForwardBackward_SeededInputs_GivesTheBitsOfEveryOtherWidth()
    {
        string[] actual = Digests();
        string[] expected = Environment.GetEnvironmentVariable(DigestVariable) is { } file ? File.ReadAllLines(file) : Digests();
        Assert.HasCount(expected.Length, actual);
        string[] different = [.. actual.Where((line, i) => line != expected[i])];
        Assert.IsEmpty(different, string.Join(Environment.NewLine, different));
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void ForwardBackward_Warm_AllocatesNothing(string id)
    {
        foreach (ActivationShape shape in Shapes.Where(shape => Carries(id, shape)))
        {
            foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
            {
                Measure<float>(shape, layout);
                Measure<double>(shape, layout);
            }
        }

        void Measure<T>(ActivationShape shape, Layout layout)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            INormalizer<T> normalizer = Runs.Create<T>(id, shape, Settings(id, shape), 1);
            var input = new PlacedTensor<T>(shape, layout, TestData.Activations(2, shape));
            var outputGradient = new PlacedTensor<T>(shape, layout, TestData.Normal(3, shape.Count));
            var result = new PlacedTensor<T>(shape, layout);
            foreach (bool training in new[] { true, false })
            {
                normalizer.Training = training;

                // The least of several, of this thread alone: the runtime and the test host allocate now and then.
                long allocated = long.MaxValue;
                for (int i = 0; i < 12 && allocated > 0; i++)
                {
                    long before = GC.GetAllocatedBytesForCurrentThread();
                    normalizer.Forward(input.ReadOnly, result.Span);
                    normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, result.Span);
                    allocated = Math.Min(allocated, GC.GetAllocatedBytesForCurrentThread() - before);
                }

                Assert.AreEqual(0L, allocated, $"{typeof(T).Name} {shape} {layout}, training {training}");
            }
        }
    }

    /// <summary>A line for each strategy, type, shape, layout and setting: what went in and every array that came out, hashed.</summary>
    internal static string[] Digests()
    {
        var lines = new List<string>();
        foreach (string id in StrategyCatalog.Ids)
        {
            foreach (ActivationShape shape in Shapes.Where(shape => Carries(id, shape)))
            {
                StrategySettings[] configurations = shape.Count < 200 && id != "none"
                    ? [.. TestData.Configurations(id, shape)]
                    : [Settings(id, shape)];
                foreach (StrategySettings settings in configurations)
                {
                    foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast, Layout.Gapped })
                    {
                        string what = string.Create(CultureInfo.InvariantCulture, $"{id} {shape} {layout} {lines.Count}");
                        lines.Add(Digest<float>(id, shape, settings, layout, what));
                        lines.Add(Digest<double>(id, shape, settings, layout, what));
                    }
                }
            }
        }

        return [.. lines];
    }

    private static string Digest<T>(string id, ActivationShape shape, StrategySettings settings, Layout layout, string what)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        INormalizer<T> normalizer = Runs.Create<T>(id, shape, settings, 3);
        double[] x = TestData.Activations(1, shape);
        var input = new PlacedTensor<T>(shape, layout, x);
        var outputGradient = new PlacedTensor<T>(shape, layout, TestData.Normal(2, shape.Count));
        string digest = $"{typeof(T).Name} {what}: input {Hash<double>(x)}";
        foreach (bool training in new[] { true, false })
        {
            normalizer.Training = training;
            var output = new PlacedTensor<T>(shape, layout);
            var inputGradient = new PlacedTensor<T>(shape, layout);
            normalizer.Forward(input.ReadOnly, output.Span);
            normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);
            digest += $", {(training ? "training" : "inference")} output {Hash<T>(output.Read())}, input gradient {Hash<T>(inputGradient.Read())}";
        }

        return digest
            + string.Concat(normalizer.Parameters.Select(parameter => $", {parameter.Name} gradient {Hash<T>(parameter.Gradient)}"))
            + string.Concat(normalizer.Buffers.Select(buffer => $", {buffer.Name} {Hash<T>(buffer.Values)}"));
    }

    private static string Hash<T>(ReadOnlySpan<T> values)
        where T : unmanaged => Convert.ToHexString(SHA256.HashData(MemoryMarshal.AsBytes(values)), 0, 6);

    private static bool Carries(string id, ActivationShape shape) => id == "none" || StrategyCases.Of(id).Carries(shape);

    private static StrategySettings Settings(string id, ActivationShape shape)
    {
        StrategySettings settings = new()
        {
            Groups = shape.Channels % 3 == 0 ? 3 : 2,
            GhostSize = 6,
            GhostRemainder = GhostRemainder.Balanced,
            RunningStatistics = true,
        };
        return id == "none" ? settings : StrategyCases.Of(id).Adapt(settings, shape);
    }
}
