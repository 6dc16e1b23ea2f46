using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies;

[TestClass]
public sealed class LayerNormTests
{
    [TestMethod]
    public void Constructor_FeaturesAlone_NormalizesTheLastAxis()
    {
        ActivationShape shape = new(2, 3, 5);
        float[] x = [.. Enumerable.Range(0, 30).Select(i => (float)Math.Sin(i))];
        float[] one = new float[30];
        float[] other = new float[30];
        new LayerNorm<float>(5).Forward(shape, x, one);
        new LayerNorm<float>([5]).Forward(shape, x, other);
        CollectionAssert.AreEqual(other, one);
        new RmsNorm<float>(5).Forward(shape, x, one);
        new RmsNorm<float>([5]).Forward(shape, x, other);
        CollectionAssert.AreEqual(other, one);
    }

    [TestMethod]
    public void Constructor_NoFeatures_IsRefused()
    {
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new LayerNorm<float>(0)).Message, "0");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => new RmsNorm<float>(0)).Message, "0");
    }

    // Many long rows wait in the cache until they are written; few, or rows without weight gradients, are summed in one sweep and written in another.
    [TestMethod]
    [DoNotParallelize] // the thread count is the process's
    [DataRow("layer-norm", 8208, DisplayName = "whole vectors, in two chunks")]
    [DataRow("rms-norm", 8199, DisplayName = "in two chunks, not centred")]
    [DataRow("layer-norm", 33000, DisplayName = "in five chunks")]
    public void Backward_LongRows_KeepTheirBitsAmongMoreOfThemWithoutLearningAndOnSeveralThreads(string strategy, int features)
    {
        CheckLongRows<float>(strategy, features);
        if (features < 10000)
        {
            CheckLongRows<double>(strategy, features);
        }
    }

    private static void CheckLongRows<T>(string strategy, int features)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var shape = new ActivationShape(128, features);
        T[] input = Values(1), upstream = Values(2);
        for (int i = 5 * features; i < 6 * features; i++)
        {
            input[i] *= T.CreateChecked(1e-33); // a row whose sums do not suit float
        }

        int threads = KernelThreads.Count;
        try
        {
            KernelThreads.Count = 1;
            T[] expected = Gradient(shape, learns: true);
            NumericAssert.SameBits<T>(expected.AsSpan(0, 64 * features), Gradient(new ActivationShape(64, features), learns: true), "half as many");
            NumericAssert.SameBits<T>(expected, Gradient(shape, learns: false), "nothing learns");
            KernelThreads.Count = 4;
            NumericAssert.SameBits<T>(expected, Gradient(shape, learns: true), "four threads");
        }
        finally
        {
            KernelThreads.Count = threads;
        }

        T[] Values(int seed)
        {
            var random = new Random(seed);
            return [.. Enumerable.Range(0, 128 * features).Select(_ => T.CreateChecked(random.NextDouble() - 0.3))];
        }

        T[] Gradient(ActivationShape some, bool learns)
        {
            var norm = (Normalizer<T>)StrategyCatalog.Create<T>(strategy, some, new StrategySettings { Epsilon = 1e-100 });
            norm.LearnParameters = learns;
            int count = (int)some.Count;
            T[] result = new T[count];
            norm.Forward(some, input.AsSpan(0, count), result);
            norm.Backward(some, input.AsSpan(0, count), upstream.AsSpan(0, count), result);
            return result;
        }
    }

    // Rows of more than 1.25 MB with their weights go some columns of all rows at a time, one alone as it comes. Neither the columns nor
    // where a row begins are whole tiles and vectors.
    [TestMethod]
    [DoNotParallelize]
    [DataRow("layer-norm", 120_007)]
    [DataRow("rms-norm", 170_009)]
    public void Backward_RowsWhoseWeightsDoNotStay_HaveTheBitsOfARowAlone(string strategy, int features)
    {
        CheckByTiles<float>(strategy, features);
        CheckByTiles<double>(strategy, features);
    }

    private static void CheckByTiles<T>(string strategy, int features)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        const int Rows = 3;
        var random = new Random(3);
        T[] input = [.. Enumerable.Range(0, Rows * features).Select(_ => T.CreateChecked(random.NextDouble() - 0.3))];
        for (int i = features; i < 2 * features; i++)
        {
            input[i] *= T.CreateChecked(1e-33); // a row that does not suit float
        }

        T[] weight = [.. Enumerable.Range(0, features).Select(_ => T.CreateChecked(random.NextDouble() + 0.5))];
        T[] upstream = [.. Enumerable.Range(0, Rows * features).Select(_ => T.CreateChecked(random.NextDouble() - 0.6))];
        T[] output = new T[input.Length], gradient = new T[input.Length];
        for (int row = 0; row < Rows; row++)
        {
            Pass(1, row * features, output, gradient);
        }

        int threads = KernelThreads.Count;
        try
        {
            foreach (int count in new[] { 1, 4 })
            {
                KernelThreads.Count = count;
                T[] outputOfAll = new T[input.Length], gradientOfAll = new T[input.Length];
                Pass(Rows, 0, outputOfAll, gradientOfAll);
                NumericAssert.SameBits<T>(output, outputOfAll, $"output, {count} threads");
                NumericAssert.SameBits<T>(gradient, gradientOfAll, $"gradient, {count} threads");
            }
        }
        finally
        {
            KernelThreads.Count = threads;
        }

        void Pass(int rows, int from, T[] y, T[] dx)
        {
            var shape = new ActivationShape(rows, features);
            int length = rows * features;
            var norm = (Normalizer<T>)StrategyCatalog.Create<T>(strategy, shape, new StrategySettings { Epsilon = 1e-100 });
            foreach (Parameter<T> parameter in norm.Parameters)
            {
                weight.CopyTo(parameter.Values, 0);
            }

            norm.Forward(shape, input.AsSpan(from, length), y.AsSpan(from, length));
            norm.Backward(shape, input.AsSpan(from, length), upstream.AsSpan(from, length), dx.AsSpan(from, length));
        }
    }
}
