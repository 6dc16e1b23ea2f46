using System.Numerics;
using System.Runtime.Intrinsics;
using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>The vector operations that kernels are made of, in every storage and arithmetic, at the very end of memory.</summary>
[TestClass]
public sealed unsafe class SimdTests
{
    [TestMethod]
    public void AllFit_EveryPlaceOfEveryCount_IsFitsOfEach()
    {
        Check<float>([0, -1, 3.4028235677973362e38, Math.BitIncrement(3.4028235677973362e38), -3.5e38, double.MaxValue, double.NaN, double.NegativeInfinity]);
        Check<double>([0, -1, 3.5e38, double.MaxValue, double.MinValue, double.NaN, double.PositiveInfinity, double.NegativeInfinity]);

        static void Check<T>(double[] odd)
            where T : unmanaged
        {
            for (int count = 0; count <= 19; count++)
            {
                Assert.IsTrue(Simd.AllFit<T>(new double[count]));
                for (int i = 0; i < count; i++)
                {
                    foreach (double value in odd)
                    {
                        var values = new double[count];
                        values[i] = value;
                        Assert.AreEqual(Simd.Fits<T>(value), Simd.AllFit<T>(values), $"{typeof(T).Name}: {value} at {i} of {count}");
                    }
                }
            }
        }
    }

    [TestMethod]
    public void LoadPart_EveryCount_ReadsThatManyAndKeepsTheOthers()
    {
        LoadParts<float, float>();
        LoadParts<float, double>();
        LoadParts<double, double>();

        static void LoadParts<T, A>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
        {
            Vector512<A> others = Vector512<A>.Indices + Vector512.Create(A.CreateChecked(1000));
            for (int count = 0; count <= Simd.Count<A>(); count++)
            {
                foreach (int gap in new[] { 0, 1, 5 })
                {
                    double[] values = TestData.Normal(count, count);
                    using var memory = new GuardedMemory<T>(values, gap);
                    Vector512<A> loaded = Simd.LoadPart(memory.Pointer, count, others);
                    for (int lane = 0; lane < Simd.Count<A>(); lane++)
                    {
                        A expected = lane < count ? A.CreateChecked(T.CreateChecked(values[lane])) : others[lane];
                        Assert.AreEqual(expected, loaded[lane], $"{typeof(T).Name} as {typeof(A).Name}, {count} lanes, gap {gap}: lane {lane}");
                    }
                }
            }
        }
    }

    [TestMethod]
    public void StorePart_EveryCount_WritesThatManyAndNoneBeyond()
    {
        StoreParts<float, float>();
        StoreParts<float, double>();
        StoreParts<double, double>();

        static void StoreParts<T, A>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
        {
            // Thirds are no floats: rounding shows.
            Vector512<A> value = (Vector512<A>.Indices + Vector512<A>.One) / A.CreateChecked(3);
            for (int count = 0; count <= Simd.Count<A>(); count++)
            {
                foreach (int gap in new[] { 0, 1, 5, 20 })
                {
                    string what = $"{typeof(A).Name} as {typeof(T).Name}, {count} lanes, gap {gap}";
                    using var memory = new GuardedMemory<T>(new double[count], gap);
                    Simd.StorePart(memory.Pointer, count, value);
                    ReadOnlySpan<T> stored = memory.Read(what);
                    for (int lane = 0; lane < count; lane++)
                    {
                        Assert.AreEqual(T.CreateChecked(value[lane]), stored[lane], $"{what}: lane {lane}");
                    }
                }
            }
        }
    }

    [TestMethod]
    public void LoadStore_WholeVectorsAtAnyAddress_KeepEveryLane()
    {
        Copy<float, float>();
        Copy<float, double>();
        Copy<double, double>();

        static void Copy<T, A>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
        {
            double[] values = TestData.Rounded<T>(TestData.Normal(1, Simd.Count<A>()));
            for (int gap = 0; gap <= Simd.Count<A>(); gap++)
            {
                string what = $"{typeof(T).Name} as {typeof(A).Name}, gap {gap}";
                using var source = new GuardedMemory<T>(values, gap);
                using var destination = new GuardedMemory<T>(new double[values.Length], gap);
                Simd.Store(destination.Pointer, Simd.Load<T, A>(source.Pointer));
                NumericAssert.SameBits<T>(TestData.As<T>(values), destination.Read(what), what);
                if ((nuint)destination.Pointer % (nuint)(Simd.Count<A>() * sizeof(T)) == 0)
                {
                    new Span<T>(destination.Pointer, values.Length).Clear();
                    Simd.StoreStreaming(destination.Pointer, Simd.Load<T, A>(source.Pointer));
                    NumericAssert.SameBits<T>(TestData.As<T>(values), destination.Read(what), $"{what}, streamed");
                }
            }
        }
    }

    [TestMethod]
    public void Store_DoublesAsFloats_RoundToNearestEvenAndOverflowToInfinity()
    {
        double[] values = [1 + 5.9604644775390625e-8, 1 + 1.78813934326171875e-7, -1e39, 1e-46, 1.4e-45, double.NaN, -0.0, 3.4028235677973366e38];
        float[] actual = new float[8];
        fixed (double* source = values)
        fixed (float* destination = actual)
        {
            Simd.Store(destination, Simd.Load(source));
        }

        float[] expected = Array.ConvertAll(values, value => (float)value);
        Assert.AreEqual(float.NegativeInfinity, expected[2]);
        Assert.IsTrue(float.IsNaN(actual[5]));
        actual[5] = expected[5];
        NumericAssert.SameBits<float>(expected, actual, "rounded");
    }

    [TestMethod]
    public void MultiplyAdd_ProductThatRounds_RoundsOnce()
    {
        double close = 1 + 9.31322574615478515625e-10;
        Assert.AreEqual(
            Math.FusedMultiplyAdd(close, close, -1), Simd.MultiplyAdd(Vector512.Create(close), Vector512.Create(close), Vector512.Create(-1.0))[7]);
        Assert.IsTrue((close * close) - 1 != Math.FusedMultiplyAdd(close, close, -1), "the double product must round");
        float near = 1 + 1.220703125e-4f;
        Assert.AreEqual(
            MathF.FusedMultiplyAdd(near, near, -1), Simd.MultiplyAdd(Vector512.Create(near), Vector512.Create(near), Vector512.Create(-1f))[15]);
        Assert.IsTrue((near * near) - 1 != MathF.FusedMultiplyAdd(near, near, -1), "the float product must round");
    }

    [TestMethod]
    public void Sum_LanesWhoseOrderMatters_AddsInOneFixedTree()
    {
        double[] l = [1e16, 1, 1, 1, -1e16, 1, 1, 1];
        double expected = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
        Assert.IsTrue(l.Sum() != expected, "the order must matter");
        Assert.AreEqual(expected, Simd.Sum(Vector512.Create(l)));
    }

    [TestMethod]
    public unsafe void SumEach_EightVectors_AddsEachInThatTree()
    {
        double[] l = [.. Enumerable.Range(0, 64).Select(i => i % 8 == 4 ? -1e16 : i % 8 == 0 ? 1e16 + (4 * i) : Math.Sin(i))];
        fixed (double* vectors = l)
        {
            Vector512<double> sums = Simd.SumEach(vectors);
            for (int k = 0; k < 8; k++)
            {
                Assert.AreEqual(Simd.Sum(Vector512.Load(vectors + (8 * k))), sums[k]);
            }

            Assert.HasCount(8, Enumerable.Range(0, 8).Select(k => sums[k]).Distinct());
        }
    }

    [TestMethod]
    public unsafe void AddWidened_FloatLanes_AreWidenedBeforeTheyAreAdded()
    {
        // 2^24 + 1 is no float: an addition before the widening would lose the 1.
        float[] lanes = [.. Enumerable.Range(0, 16).Select(i => 16777216f + (2 * i))];
        Vector512<double> lower = Vector512.Create(1.0);
        Vector512<double> upper = Vector512.Create(3.0);
        double* sums = stackalloc double[16];
        new Span<double>(sums, 16).Fill(1);
        Simd.AddWidened(Vector512.Create(lanes), ref lower, ref upper);
        Simd.AddWidened(Vector512.Create(lanes), sums);
        for (int i = 0; i < 16; i++)
        {
            Assert.AreEqual(lanes[i] + (i < 8 ? 1.0 : 3.0), i < 8 ? lower[i] : upper[i - 8]);
            Assert.AreEqual(lanes[i] + 1.0, sums[i]);
        }

        Simd.AddWidened(Vector512.Create(0.25), ref lower, ref upper);
        Assert.AreEqual(lanes[0] + 1.25, lower[0]);
    }

    [TestMethod]
    public void AddTo_EveryLength_AddsEachElementOnce()
    {
        Add<float>();
        Add<double>();

        static void Add<T>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            for (int n = 0; n <= 70; n++)
            {
                double[] start = TestData.Normal(1, n);
                double[] added = TestData.Rounded<T>(TestData.Normal(2, n));
                using var destination = new GuardedMemory<double>(start, n % 3);
                using var source = new GuardedMemory<T>(added);
                Simd.AddTo(destination.Pointer, source.Pointer, n);
                double[] expected = [.. start.Zip(added, (a, b) => a + b)];
                NumericAssert.SameBits<double>(expected, destination.Read($"{n} elements"), $"{n} of {typeof(T).Name}");
            }
        }
    }

    [TestMethod]
    public void First_EveryCount_MasksThatManyLanes()
    {
        for (int count = 0; count <= Simd.Lanes; count++)
        {
            for (int lane = 0; lane < Simd.Lanes; lane++)
            {
                Assert.AreEqual(lane < count ? -1L : 0L, Simd.First(count)[lane]);
            }
        }
    }

    [TestMethod]
    [DataRow(0.0, true)]
    [DataRow(-1.0, true)]
    [DataRow(0.9e15, true)]
    [DataRow(-1.1e15, false)]
    [DataRow(1.1e-15, true)]
    [DataRow(0.9e-15, false)]
    [DataRow(-1e-300, false)]
    [DataRow(double.PositiveInfinity, true)]
    [DataRow(double.NaN, true)]
    public void SuitsSingle_Factor_RefusesHugeAndTiny(double factor, bool expected) => Assert.AreEqual(expected, Simd.SuitsSingle(factor));

    [TestMethod]
    [DataRow(0.0, true)]
    [DataRow(1e-300, true)]
    [DataRow(-0.9e30, true)]
    [DataRow(-1.1e30, false)]
    [DataRow(double.NegativeInfinity, true)]
    [DataRow(double.NaN, true)]
    public void CentersSingle_Center_RefusesHuge(double center, bool expected) => Assert.AreEqual(expected, Simd.CentersSingle(center));

    [TestMethod]
    [DataRow(0.0, true)]
    [DataRow(1.1e-60, true)]
    [DataRow(0.9e-60, false)]
    [DataRow(1e300, true)]
    [DataRow(double.NaN, true)]
    public void ReachesSingle_Variance_RefusesSubnormalDeviations(double variance, bool expected) =>
        Assert.AreEqual(expected, Simd.ReachesSingle(variance));

    [TestMethod]
    public void Fits_ValuesAboutTheEndOfFloat_DependsOnTheType()
    {
        Assert.IsTrue(Simd.Fits<float>(float.MaxValue));
        Assert.IsFalse(Simd.Fits<float>(1e39));
        Assert.IsTrue(Simd.Fits<double>(1e39));
        Assert.IsFalse(Simd.Fits<double>(double.NaN));
    }
}
