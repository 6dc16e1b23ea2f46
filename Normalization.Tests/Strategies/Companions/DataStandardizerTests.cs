using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Strategies.Companions;
using Normalization.Tests.Golden;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies.Companions;

[TestClass]
public sealed class DataStandardizerTests
{
    private static readonly StandardizerGolden[] Goldens = CompanionGolden<StandardizerGolden>.Of("data-standardizer").Cases;

    public static IEnumerable<object[]> Cases => Goldens.Select(golden => (object[])[golden.Id]);

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Add_GoldenBatches_MatchesTorchInBothTypes(string id)
    {
        StandardizerGolden golden = Goldens.Single(golden => golden.Id == id);
        CheckGolden<double>(golden, 1e-12);
        CheckGolden<float>(golden, 2.4e-7);
    }

    [TestMethod]
    public void Add_AnyPortions_GivesTheMomentsOfTheWhole()
    {
        foreach (double mean in new[] { 0.0, 1e3, 1e6 })
        {
            const int Channels = 3, Positions = 7, Samples = 101;
            double[] data = TestData.Rounded<float>(TestData.Normal(1, Samples * Channels * Positions, mean));
            (double[] means, double[] variances) = Oracle(data, Channels, Positions);
            foreach (int portion in new[] { 1, 2, 10, 64, Samples })
            {
                var standardizer = new DataStandardizer<float>(Channels);
                foreach (double[] batch in data.Chunk(portion * Channels * Positions))
                {
                    standardizer.Add(new ActivationShape(batch.Length / (Channels * Positions), Channels, Positions), TestData.As<float>(batch));
                }

                Assert.AreEqual(Samples * Positions, standardizer.Count);
                NumericAssert.NearLargest<double>(means, standardizer.Mean, 1e-14, $"mean {mean}, portions of {portion}");
                NumericAssert.NearLargest<double>(variances, standardizer.PopulationVariance, 1e-8, $"variance at mean {mean}, portions of {portion}");
                if (mean <= 1e3)
                {
                    NumericAssert.NearLargest<double>(variances, standardizer.PopulationVariance, 1e-12, $"variance at mean {mean}, portions of {portion}");
                }
            }
        }
    }

    [TestMethod]
    public void Add_AMillionValuesOneByOne_KeepsThePrecision()
    {
        var standardizer = new DataStandardizer<double>(1);
        var random = new Random(3);
        var one = new double[1];
        double[] all = new double[200_000];
        for (int i = 0; i < all.Length; i++)
        {
            one[0] = all[i] = 100 + random.NextDouble();
            standardizer.Add(new ActivationShape(1, 1), one);
        }

        (double[] mean, double[] variance) = Oracle(all, 1, 1);
        NumericAssert.NearLargest<double>(mean, standardizer.Mean, 1e-13, "mean");
        NumericAssert.NearLargest<double>(variance, standardizer.PopulationVariance, 1e-11, "variance");
    }

    [TestMethod]
    public void Merge_OfParts_IsTheWhole()
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        double[][] parts = [.. Enumerable.Range(1, 3).Select(seed => TestData.Activations(seed, shape))];
        var whole = new DataStandardizer<double>(4);
        var merged = new DataStandardizer<double>(4);
        foreach (double[] part in parts)
        {
            whole.Add(shape, part);
            var shard = new DataStandardizer<double>(4);
            shard.Add(shape, part);
            merged.Merge(shard);
            merged.Merge(new DataStandardizer<double>(4)); // an empty shard
        }

        Assert.AreEqual(whole.Count, merged.Count);
        NumericAssert.SameBits(whole.Mean, merged.Mean, "mean");
        NumericAssert.SameBits(whole.PopulationVariance, merged.PopulationVariance, "variance");
        Assert.ThrowsExactly<ArgumentException>(() => merged.Merge(new DataStandardizer<double>(5)));
    }

    [TestMethod]
    public void Invert_OfApply_IsTheDataToItsRounding()
    {
        CheckInverse<float>(Math.ScaleB(1, -23));
        CheckInverse<double>(Math.ScaleB(1, -50));
    }

    [TestMethod]
    public void Apply_TrainingSet_HasMeanZeroAndVarianceOne()
    {
        var shape = new ActivationShape(50, 3, 7);
        var standardizer = new DataStandardizer<double>(3);
        double[] data = TestData.Activations(4, shape);
        standardizer.Add(shape, data);
        standardizer.Apply(shape, data, data);

        (double[] mean, double[] variance) = Oracle(data, 3, 7);
        NumericAssert.Near([0, 0, 0], mean, [1, 1, 1], 1e-14, "mean");
        NumericAssert.Near([1, 1, 1], variance, [1, 1, 1], 1e-13, "variance");
    }

    [TestMethod]
    public void Tensors_OfAnyMemoryOrder_GiveTheSameBits()
    {
        var shape = new ActivationShape(3, 5, 4, 6);
        float[] data = TestData.As<float>(TestData.Activations(5, shape));
        nint[][] orders = [[120, 24, 6, 1], [120, 1, 30, 5], [1, 72, 3, 12]];
        var expected = new float[data.Length];
        var first = new DataStandardizer<float>(5);
        first.Add(shape, data);
        first.Apply(shape, data, expected);
        foreach (nint[] strides in orders)
        {
            float[] placed = Place(data, strides);
            var standardizer = new DataStandardizer<float>(5);
            standardizer.Add(new ReadOnlyTensorSpan<float>(placed, shape.ToArray(), strides));
            NumericAssert.Near(first.PopulationVariance.ToArray(), standardizer.PopulationVariance, first.PopulationVariance.ToArray(), 1e-14, "variance");

            foreach (nint[] outputStrides in orders)
            {
                var output = new float[data.Length];
                first.Apply(new ReadOnlyTensorSpan<float>(placed, shape.ToArray(), strides), new TensorSpan<float>(output, shape.ToArray(), outputStrides));
                NumericAssert.SameBits<float>(Place(expected, outputStrides), output, "standardized");
            }

            first.Apply(new ReadOnlyTensorSpan<float>(placed, shape.ToArray(), strides), new TensorSpan<float>(placed, shape.ToArray(), strides));
            NumericAssert.SameBits<float>(Place(expected, strides), placed, "in place");
        }

        static float[] Place(float[] dense, nint[] strides)
        {
            var placed = new float[dense.Length];
            for (int i = 0; i < dense.Length; i++)
            {
                placed[(i / 120 * strides[0]) + (i / 24 % 5 * strides[1]) + (i / 6 % 4 * strides[2]) + (i % 6 * strides[3])] = dense[i];
            }

            return placed;
        }
    }

    [TestMethod]
    public void ConstantChannels_AreNamedCenteredAndInvertedExactly()
    {
        var shape = new ActivationShape(4, 3, 5);
        float[] data = TestData.As<float>(TestData.Activations(6, shape));
        for (int i = 0; i < data.Length; i++)
        {
            data[i] = i / 5 % 3 == 1 ? 0.1f : data[i];
        }

        var standardizer = new DataStandardizer<float>(3);
        var throwing = new DataStandardizer<float>(3, ConstantChannelPolicy.Throw);
        Assert.IsEmpty(standardizer.ConstantChannels);
        for (int batch = 0; batch < 3; batch++)
        {
            standardizer.Add(shape, data);
            throwing.Add(shape, data);
        }

        CollectionAssert.AreEqual(new[] { 1 }, standardizer.ConstantChannels.ToArray());
        float[] z = new float[data.Length], back = new float[data.Length];
        standardizer.Apply(shape, data, z);
        standardizer.Invert(shape, z, back);
        for (int i = 0; i < data.Length; i++)
        {
            if (i / 5 % 3 == 1)
            {
                Assert.AreEqual(0f, z[i]);
                Assert.AreEqual(0.1f, back[i]);
            }
        }

        string message = Assert.ThrowsExactly<InvalidOperationException>(() => throwing.Apply(shape, data, z)).Message;
        StringAssert.Contains(message, "deviation: 1 (all 60 values equal)");
        StringAssert.Contains(message, "ConstantChannelPolicy.CenterOnly");
    }

    [TestMethod]
    [DataRow(double.NaN)]
    [DataRow(double.PositiveInfinity)]
    [DataRow(1e200)]
    public void Add_ValueWithoutAVariance_ThrowsNamingTheChannelAndTakesNothingIn(double value)
    {
        var shape = new ActivationShape(4, 3, 5);
        var standardizer = new DataStandardizer<double>(3);
        double[] data = TestData.Activations(6, shape);
        standardizer.Add(shape, data);
        double[] before = [.. standardizer.Mean, .. standardizer.PopulationVariance];
        data[(2 * 15) + (2 * 5) + 1] = value;

        string message = Assert.ThrowsExactly<InvalidOperationException>(() => standardizer.Add(shape, data)).Message;

        StringAssert.Contains(message, "Channel 2");
        StringAssert.Contains(message, "Nothing was taken in");
        Assert.AreEqual(20, standardizer.Count);
        CollectionAssert.AreEqual(before, standardizer.Mean.ToArray().Concat(standardizer.PopulationVariance.ToArray()).ToArray());
    }

    [TestMethod]
    public void LoadState_SavedWithAModel_GoesOnWhereItStood()
    {
        using var folder = new TemporaryFolder();
        var shape = new ActivationShape(4, 3, 5);
        float[] data = TestData.As<float>(TestData.Activations(6, shape));
        float[] more = TestData.As<float>(TestData.Activations(7, shape));
        var saved = new DataStandardizer<float>(3);
        saved.Add(shape, data);
        StateDictionary model = new Normalization.Strategies.BatchNorm<float>(3).GetState("bn.");
        model.Add(saved.GetState("input."));
        model.Save(folder.File("model.safetensors"));

        var loaded = new DataStandardizer<float>(3);
        loaded.LoadState(StateDictionary.Load(folder.File("model.safetensors")), prefix: "input.");

        float[] expected = new float[data.Length], actual = new float[data.Length];
        saved.Apply(shape, data, expected);
        loaded.Apply(shape, data, actual);
        NumericAssert.SameBits<float>(expected, actual, "standardized");
        saved.Add(shape, more);
        loaded.Add(shape, more);
        NumericAssert.SameBits(saved.PopulationVariance, loaded.PopulationVariance, "variance after going on");
        NumericAssert.SameBits(saved.Mean, loaded.Mean, "mean after going on");
        CollectionAssert.AreEqual(new[] { "mean", "population_variance", "count" }, saved.GetState().Keys.ToArray());
    }

    [TestMethod]
    public void LoadState_WrongState_NamesEverythingAndChangesNothing()
    {
        var standardizer = new DataStandardizer<float>(3);
        StateDictionary state = new()
        {
            { "mean", StateTensor.Create<double>([1, 2, 3], 3) },
            { "population_variance", StateTensor.Create<double>([1, -2, 3], 3) },
            { "std", StateTensor.Create<double>([1], 1) },
        };

        string message = Assert.ThrowsExactly<ArgumentException>(() => standardizer.LoadState(state)).Message;

        StringAssert.Contains(message, "DataStandardizer of float");
        StringAssert.Contains(message, "'count' is missing");
        StringAssert.Contains(message, "'std' of shape (1) is surplus");
        StringAssert.Contains(message, "'population_variance' has -2 at element 1, but a variance is finite and at least 0");
        Assert.AreEqual(0, standardizer.Mean[0]);
    }

    [TestMethod]
    public void Standardizer_WrongUse_Teaches()
    {
        var shape = new ActivationShape(4, 3);
        var standardizer = new DataStandardizer<double>(3);
        double[] data = TestData.Normal(1, 14);

        StringAssert.Contains(
            Assert.ThrowsExactly<InvalidOperationException>(() => standardizer.Apply(shape, data.AsSpan(0, 12), new double[12])).Message, "has seen no data");
        standardizer.Add(new ActivationShape(0, 3, 2), []);
        Assert.AreEqual(0, standardizer.Count);
        standardizer.Add(shape, data.AsSpan(0, 12));
        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => standardizer.Add(new ActivationShape(6, 2), data.AsSpan(0, 12))).Message, "made for 3 channels; got data (6, 2) with 2");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => standardizer.Add(shape, data)).Message, "12 elements; 'batch' has 14");
        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => standardizer.Apply(shape, data.AsSpan(0, 12), data.AsSpan(1, 12))).Message, "overlap it in part");
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => new DataStandardizer<double>(0));
        Assert.ThrowsExactly<NotSupportedException>(() => new DataStandardizer<Half>(1));

        standardizer.Reset();
        Assert.AreEqual(0, standardizer.Count);
        Assert.AreEqual(0, standardizer.PopulationVariance[0]);
    }

    private static void CheckGolden<T>(StandardizerGolden golden, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var standardizer = new DataStandardizer<T>(golden.Mean.Length);
        for (int i = 0; i < golden.Batches.Length; i++)
        {
            standardizer.Add(Shape(golden.Shapes[i]), TestData.As<T>(golden.Batches[i]));
        }

        Assert.AreEqual(golden.Count, standardizer.Count);
        NumericAssert.NearLargest<double>(golden.Mean, standardizer.Mean, 1e-13, "mean");
        NumericAssert.NearLargest<double>(golden.PopulationVariance, standardizer.PopulationVariance, 1e-11, "variance");
        var z = new T[golden.Standardized.Length];
        standardizer.Apply(Shape(golden.Shapes[0]), TestData.As<T>(golden.Batches[0]), z);
        NumericAssert.NearLargest<T>(golden.Standardized, z, tolerance, "standardized");
    }

    private static void CheckInverse<T>(double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        foreach (double mean in new[] { 0.0, 1, 1e4 })
        {
            var shape = new ActivationShape(5, 3, 37);
            double[] data = TestData.Rounded<T>([.. TestData.Activations(8, shape).Select(value => value + mean)]);
            var standardizer = new DataStandardizer<T>(3);
            standardizer.Add(shape, TestData.As<T>(data));
            T[] there = new T[data.Length], back = new T[data.Length];
            standardizer.Apply(shape, TestData.As<T>(data), there);
            standardizer.Invert(shape, there, back);

            double[] scale = [.. data.Select((value, i) => Math.Abs(value - standardizer.Mean[i / 37 % 3]) + Math.Abs(standardizer.Mean[i / 37 % 3]))];
            NumericAssert.Near<T>(data, back, scale, tolerance, $"{typeof(T).Name}, mean {mean}");
        }
    }

    private static (double[] Mean, double[] PopulationVariance) Oracle(double[] data, int channels, int positions)
    {
        var mean = new double[channels];
        var variance = new double[channels];
        for (int c = 0; c < channels; c++)
        {
            double[] values = [.. data.Where((_, i) => i / positions % channels == c)];
            double shift = values[0];
            double rest = values.Sum(value => value - shift) / values.Length;
            mean[c] = shift + rest;
            variance[c] = values.Sum(value => (value - shift - rest) * (value - shift - rest)) / values.Length;
        }

        return (mean, variance);
    }

    private static ActivationShape Shape(int[] lengths) => new(Array.ConvertAll(lengths, length => (nint)length));
}
