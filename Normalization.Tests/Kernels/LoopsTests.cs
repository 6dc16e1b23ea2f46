using System.Numerics;
using System.Runtime.Intrinsics;
using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>The shared loops against plain ones in double: every length from 1 to 70, any address, and nothing touched beyond.</summary>
[TestClass]
public sealed unsafe class LoopsTests
{
    private const int Longest = 70;

    // Gradient sums take 128 float at a time.
    private const int LongestRun = 150;

    // Beyond those, runs long enough to be begun at an aligned address.
    private static readonly int[] Lengths = [.. Enumerable.Range(1, Longest), 255, 256, 257, 300, 511];

    private const double Center = 0.75;
    private const double Slope = 1.5;
    private const double Intercept = -0.25;
    private const double Weight = 0.625;
    private const double Bias = 2.5;

    [TestMethod]
    public void Sum_EveryLength_MatchesPlainSum()
    {
        Check<float>();
        Check<double>();

        static void Check<T>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            for (int n = 0; n <= Longest; n++)
            {
                double[] values = Numbers<T>(n, n);
                using var x = new GuardedMemory<T>(values, n % 2);
                Near(values.Sum(), Loops.Sum(x.Pointer, n), values.Sum(Math.Abs), $"{typeof(T).Name}, {n} elements");
            }
        }
    }

    [TestMethod]
    public void MomentSums_EveryLengthInOneBlockAndInSeveral_MatchPlainSums()
    {
        Check<float, CenteredValue>(Center);
        Check<double, CenteredValue>(Center);
        Check<float, WholeValue>(0);
        Check<double, WholeValue>(0);

        static void Check<T, TDeviation>(double center)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where TDeviation : struct, IDeviation
        {
            for (int n = 1; n <= Longest; n++)
            {
                int blocks = 1 + (n % 3);
                int stride = n + (n % 5);
                double[] values = Numbers<T>(n, ((blocks - 1) * stride) + n);
                double[] deviations = [.. values.Where((_, i) => i % stride < n).Select(value => value - center)];
                using var x = new GuardedMemory<T>(values, n % 2);
                foreach (nint ahead in new nint[] { 0, n })
                {
                    Loops.MomentSums<T, TDeviation>(x.Pointer, x.Pointer, blocks, stride, n, ahead, Center, out double first, out double second);
                    Near(deviations.Sum(), first, deviations.Sum(Math.Abs), $"{n}, {blocks} blocks: first");
                    Near(deviations.Sum(value => value * value), second, second, $"{n}, {blocks} blocks: second");
                }
            }
        }
    }

    [TestMethod]
    public void StandardizeRunsInStep_EveryLength_WritesAndSumsAsOneAfterTheOther()
    {
        Check<float, WholeValue>();
        Check<float, CenteredValue>();
        Check<double, WholeValue>();
        Check<double, CenteredValue>();

        static void Check<T, TDeviation>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where TDeviation : struct, IDeviation
        {
            const int Count = 3;
            double* lanes = stackalloc double[2 * Simd.Lanes * Simd.Lanes];
            Run<T>* runs = stackalloc Run<T>[Count];
            SummedRun* next = stackalloc SummedRun[Count];
            for (int n = 1; n <= Longest; n++)
            {
                using var x = new GuardedMemory<T>(Numbers<T>(n, 2 * Count * n), n % 2);
                using var together = new GuardedMemory<T>(new double[Count * n], n % 2);
                using var alone = new GuardedMemory<T>(new double[Count * n], n % 2);
                using var weight = new GuardedMemory<T>(Numbers<T>(n + 1, n), 0);
                using var bias = new GuardedMemory<T>(Numbers<T>(n + 2, n), 1);
                for (int k = 0; k < Count; k++)
                {
                    runs[k] = new Run<T> { Offset = k * n, Center = T.CreateTruncating(k), Slope = T.CreateTruncating(k + 2), Intercept = T.CreateTruncating(0.25) };
                    next[k].Offset = (Count + k) * n;
                }

                foreach (bool byElement in new[] { false, true })
                {
                    T* weights = byElement ? weight.Pointer : null;
                    T* biases = byElement ? bias.Pointer : null;
                    Loops.StandardizeRunsInStep<T, TDeviation, CachedStore>(x.Pointer, together.Pointer, weights, biases, runs, next, Count, n, ahead: 0, lanes);
                    Loops.StandardizeRuns<T, CachedStore>(x.Pointer, alone.Pointer, weights, biases, runs, Count, n, ahead: 0);
                    string what = $"{typeof(T).Name}, {n} elements, {(byElement ? "weights" : "no weights")}";
                    NumericAssert.SameBits<T>(alone.Read(what), together.Read(what), what);
                    for (int k = 0; k < Count; k++)
                    {
                        T* run = x.Pointer + next[k].Offset;
                        Assert.AreEqual(TDeviation.TakesOff ? double.CreateTruncating(*run) : 0, next[k].Center);
                        Loops.MomentSums<T, TDeviation>(run, null, 1, 0, n, 0, next[k].Center, out double first, out double second);
                        Assert.AreEqual(first, Simd.Sum(Vector512.Load(lanes + (k * Simd.Lanes))), $"{n} elements: first");
                        Assert.AreEqual(second, Simd.Sum(Vector512.Load(lanes + ((Simd.Lanes + k) * Simd.Lanes))), $"{n} elements: second");
                    }
                }
            }
        }
    }

    [TestMethod]
    public void GradientSums_EveryLengthAndAffine_MatchPlainSums()
    {
        Check<float, float>(4e-7);
        Check<float, double>(1e-14);
        Check<double, double>(1e-14);

        static void Check<T, A>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
        {
            for (int n = 1; n <= LongestRun; n++)
            {
                double[] weights = Numbers<T>(3, n);
                using var weight = new GuardedMemory<T>(weights, n % 3);
                Run<T, A, NoAffine<A>>(n, [.. Enumerable.Repeat(1.0, n)], default, tolerance);
                Run<T, A, ConstantAffine<A>>(n, [.. Enumerable.Repeat(Weight, n)], new(Weight, Bias), tolerance);
                Run<T, A, ElementAffine<T, A>>(n, weights, new(weight.Pointer, null), tolerance);
            }
        }

        static void Run<T, A, TAffine>(int n, double[] weights, TAffine affine, double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
            where TAffine : struct, IAffine<A>
        {
            double[] values = Numbers<T>(n, n);
            double[] gradients = Numbers<T>(n + 100, n);
            using var x = new GuardedMemory<T>(values, n % 2);
            using var g = new GuardedMemory<T>(gradients);
            double gradient = 10;
            double product = 20;
            Loops.GradientSums<T, A, ConstantLine<A>, TAffine>(
                x.Pointer, g.Pointer, n, ahead: n % 2 * n, new(Center, Slope, Intercept), affine, ref gradient, ref product);
            double[] terms = [.. gradients.Zip(weights, (a, b) => a * b)];
            double[] products = [.. terms.Zip(values, (term, value) => term * Line(value))];
            string what = $"{typeof(T).Name} in {typeof(A).Name}, {n} elements, {typeof(TAffine).Name}";
            NumericAssert.Near(10 + terms.Sum(), gradient, 10 + terms.Sum(Math.Abs), tolerance, $"{what}: gradient");
            NumericAssert.Near(20 + products.Sum(), product, 20 + products.Sum(Math.Abs), tolerance, $"{what}: product");
        }
    }

    [TestMethod]
    public void AddColumns_EveryWidthAndOddRows_MatchPlainSums()
    {
        Check<float>();
        Check<double>();

        static void Check<T>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            for (int n = 1; n <= Longest; n++)
            {
                int rows = 1 + (n % 23);
                int pitch = n + (n % 4);
                double[] values = Numbers<T>(n, ((rows - 1) * pitch) + n);
                using var x = new GuardedMemory<T>(values);
                using var sums = new GuardedMemory<double>(TestData.Normal(1, n));
                using var centers = new GuardedMemory<double>(TestData.Normal(2, n));
                using var first = new GuardedMemory<double>(TestData.Normal(3, n));
                using var second = new GuardedMemory<double>(TestData.Normal(4, n));
                double[] expectedSums = TestData.Normal(1, n);
                double[] middles = TestData.Normal(2, n);
                double[] expectedFirst = TestData.Normal(3, n);
                double[] expectedSecond = TestData.Normal(4, n);
                for (int row = 0; row < rows; row++)
                {
                    for (int j = 0; j < n; j++)
                    {
                        double value = values[(row * pitch) + j];
                        expectedSums[j] += value;
                        expectedFirst[j] += value - middles[j];
                        expectedSecond[j] += (value - middles[j]) * (value - middles[j]);
                    }
                }

                Loops.AddColumns(x.Pointer, rows, n, pitch, sums.Pointer);
                Loops.AddCenteredColumns(x.Pointer, rows, n, pitch, centers.Pointer, first.Pointer, second.Pointer);
                string what = $"{typeof(T).Name}, {rows} rows of {n}";
                NumericAssert.NearLargest(expectedSums, sums.Read(what), 1e-14, $"{what}: sums");
                NumericAssert.NearLargest(expectedFirst, first.Read(what), 1e-14, $"{what}: first");
                NumericAssert.NearLargest(expectedSecond, second.Read(what), 1e-14, $"{what}: second");
            }
        }
    }

    [TestMethod]
    public void AddGradientColumns_EveryWidthAndOddRows_MatchPlainSums()
    {
        Check<float, float>(1e-6);
        Check<float, double>(1e-14);
        Check<double, double>(1e-14);

        static void Check<T, A>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
        {
            for (int n = 1; n <= Longest; n++)
            {
                int rows = 1 + (n % 7);
                int pitch = n + (n % 4);
                int size = ((rows - 1) * pitch) + n;
                double[] values = Numbers<T>(n, size);
                double[] given = Numbers<T>(n + 100, size);
                double[] gradients = Numbers<A>(1, n);
                double[] products = Numbers<A>(2, n);
                using var x = new GuardedMemory<T>(values);
                using var g = new GuardedMemory<T>(given);
                using var gradientSums = new GuardedMemory<A>(gradients);
                using var productSums = new GuardedMemory<A>(products);
                double[] slopes = Numbers<A>(5, rows);
                using var centers = new GuardedMemory<A>(Enumerable.Repeat(Center, rows).ToArray());
                using var rowSlopes = new GuardedMemory<A>(slopes);
                using var intercepts = new GuardedMemory<A>(Enumerable.Repeat(Intercept, rows).ToArray());
                for (int i = 0; i < rows * n; i++)
                {
                    (int row, int j) = Math.DivRem(i, n);
                    double term = Weight * given[(row * pitch) + j];
                    gradients[j] += term;
                    products[j] += term * (((values[(row * pitch) + j] - Center) * slopes[row]) + Intercept);
                }

                var line = new RowLine<A>(centers.Pointer, rowSlopes.Pointer, intercepts.Pointer);
                Loops.AddGradientColumns(x.Pointer, g.Pointer, rows, n, pitch, ahead: n % 2, line, Weight, gradientSums.Pointer, productSums.Pointer);
                string what = $"{typeof(T).Name} in {typeof(A).Name}, {rows} rows of {n}";
                NumericAssert.Near(gradients, gradientSums.Read(what), Scale(n, rows), tolerance, $"{what}: gradients");
                NumericAssert.Near(products, productSums.Read(what), Scale(n, rows * 4), tolerance, $"{what}: products");
            }
        }

        static double[] Scale(int n, double size) => [.. Enumerable.Repeat(size, n)];
    }

    [TestMethod]
    public void AddWideGradientColumns_EveryWidthAndOddRows_MatchPlainSums()
    {
        Check<float, float>(4e-7);
        Check<float, double>(1e-14);
        Check<double, double>(1e-14);

        static void Check<T, A>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
        {
            for (int n = 1; n <= Longest; n++)
            {
                int rows = 1 + (n % 23);
                int pitch = n + (n % 4);
                int size = ((rows - 1) * pitch) + n;
                int padded = (n + 15) / 16 * 16;
                double[] values = Numbers<T>(n, size);
                double[] given = Numbers<T>(n + 100, size);
                double[] gradients = Numbers<double>(1, padded);
                double[] products = Numbers<double>(2, padded);
                using var x = new GuardedMemory<T>(values);
                using var g = new GuardedMemory<T>(given);
                using var gradientSums = new GuardedMemory<double>(gradients);
                using var productSums = new GuardedMemory<double>(products);
                double[] slopes = Numbers<A>(5, n);
                for (int i = 0; i < rows * n; i++)
                {
                    (int row, int j) = Math.DivRem(i, n);
                    double term = given[(row * pitch) + j];
                    gradients[j] += term;
                    products[j] += term * (((values[(row * pitch) + j] - Center) * slopes[j]) + Intercept);
                }

                using var columns = new Columns<A>(slopes);
                Loops.AddWideGradientColumns<T, A, ColumnLine<A>>(
                    x.Pointer, g.Pointer, rows, n, pitch, columns.Line, gradientSums.Pointer, productSums.Pointer);
                string what = $"{typeof(T).Name} in {typeof(A).Name}, {rows} rows of {n}";
                double[] scale = [.. Enumerable.Repeat(rows * 4.0, n)];
                NumericAssert.Near(gradients[..n], gradientSums.Read(what)[..n], scale, tolerance, $"{what}: gradients");
                NumericAssert.Near(products[..n], productSums.Read(what)[..n], scale, tolerance, $"{what}: products");
            }
        }
    }

    [TestMethod]
    public void StandardizeRuns_OneBehindTheOtherAndApart_MatchPlainLoops()
    {
        Check<float, CachedStore>(1e-6);
        Check<float, StreamingStore>(1e-6);
        Check<double, CachedStore>(1e-15);
        Check<double, StreamingStore>(1e-15);

        static void Check<T, TStore>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where TStore : struct, IStore =>
            CheckRuns<T>(tolerance, (runs, count, n, x, _, y) => Loops.StandardizeRuns<T, TStore>(x, y, null, null, runs, count, n, n), (x, _) => x,
                (run, value, _) => ((value - At(run.Center)) * At(run.Slope)) + At(run.Intercept));
    }

    [TestMethod]
    public void InputGradientOfRuns_OneBehindTheOtherAndApart_MatchPlainLoops()
    {
        Check<float, CachedStore>(1e-6);
        Check<float, StreamingStore>(1e-6);
        Check<double, CachedStore>(1e-15);
        Check<double, StreamingStore>(1e-15);

        static void Check<T, TStore>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where TStore : struct, IStore =>
            CheckRuns<T>(tolerance, (runs, count, n, x, g, y) => Loops.InputGradientOfRuns<T, TStore>(x, g, y, null, runs, count, n, n), (_, g) => g,
                (run, value, gradient) => (((gradient * At(run.Weight)) - At(run.GradientCenter)) * At(run.GradientSlope))
                    + ((value - At(run.Center)) * At(run.Slope)) + At(run.Intercept));
    }

    [TestMethod]
    public void GradientSumsOfRuns_EveryLength_MatchPlainSums()
    {
        Check<float>(4e-7);
        Check<double>(1e-14);

        static void Check<T>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            Run<T>* runs = stackalloc Run<T>[3];
            for (int n = 1; n <= LongestRun; n++)
            {
                double[] values = Numbers<T>(n, 3 * n);
                double[] gradients = Numbers<T>(n + 100, 3 * n);
                using var x = new GuardedMemory<T>(values);
                using var g = new GuardedMemory<T>(gradients);
                foreach (nint ahead in new nint[] { 0, n })
                {
                    for (int i = 0; i < 3; i++)
                    {
                        runs[i] = new Run<T> { Offset = i * n, Center = T.CreateChecked(0.25 * i) };
                    }

                    Loops.GradientSumsOfRuns(x.Pointer, g.Pointer, g.Pointer, runs, 3, n, ahead);
                    for (int i = 0; i < 3; i++)
                    {
                        double[] terms = gradients[(i * n)..((i + 1) * n)];
                        double[] products = [.. terms.Select((term, j) => term * (values[(i * n) + j] - (0.25 * i)))];
                        NumericAssert.Near(terms.Sum(), runs[i].Gradient, terms.Sum(Math.Abs), tolerance, $"{n}: gradient of run {i}");
                        NumericAssert.Near(products.Sum(), runs[i].Product, products.Sum(Math.Abs), tolerance, $"{n}: product of run {i}");
                    }
                }
            }
        }
    }

    [TestMethod]
    public void GradientSumsOfRows_EveryLengthAndNumberOfRows_MatchPlainSums()
    {
        Check<float>(1e-6);
        Check<double>(1e-14);

        static void Check<T>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            for (int n = 1; n <= LongestRun; n++)
            {
                for (int rows = 1; rows <= 4; rows++)
                {
                    CheckRows<T>(n, rows, ahead: (n + rows) % 3 * n, tolerance);
                }
            }
        }

        static void CheckRows<T>(int n, int rows, nint ahead, double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            Run<T>* runs = stackalloc Run<T>[4];
            Run<T>* alone = stackalloc Run<T>[1];
            int pitch = n + (n % 3);
            int size = ((rows - 1) * pitch) + n;
            double[] values = Numbers<T>(n, size);
            double[] given = Numbers<T>(n + 100, size);
            double[] weights = Numbers<T>(7, n);
            double[] gradients = Numbers<T>(1, n);
            double[] products = Numbers<T>(2, n);
            using var x = new GuardedMemory<T>(values, n % 2);
            using var g = new GuardedMemory<T>(given);
            using var weight = new GuardedMemory<T>(weights);
            using var gradientSums = new GuardedMemory<T>(gradients);
            using var productSums = new GuardedMemory<T>(products);
            for (int row = 0; row < rows; row++)
            {
                runs[row] = new Run<T>
                {
                    Center = T.CreateChecked(0.25 * row),
                    Slope = T.CreateChecked(1 + (0.5 * row)),
                    Intercept = T.CreateChecked(Intercept),
                };
            }

            string what = $"{typeof(T).Name}, {rows} rows of {n}";
            Loops.GradientSumsOfRows(x.Pointer, g.Pointer, g.Pointer, weight.Pointer, runs, rows, n, pitch, ahead, gradientSums.Pointer, productSums.Pointer);
            for (int row = 0; row < rows; row++)
            {
                double[] terms = given[(row * pitch)..((row * pitch) + n)];
                double[] deviations = [.. values[(row * pitch)..((row * pitch) + n)].Select(value => value - (0.25 * row))];
                double[] weighted = [.. terms.Zip(weights, (term, w) => term * w)];
                double[] weightedProducts = [.. weighted.Zip(deviations, (term, deviation) => term * deviation)];
                NumericAssert.Near(weighted.Sum(), runs[row].Gradient, weighted.Sum(Math.Abs), tolerance, $"{what}: gradient of row {row}");
                NumericAssert.Near(weightedProducts.Sum(), runs[row].Product, weightedProducts.Sum(Math.Abs), tolerance, $"{what}: product of row {row}");
                for (int j = 0; j < n; j++)
                {
                    gradients[j] += terms[j];
                    products[j] += terms[j] * ((deviations[j] * (1 + (0.5 * row))) + Intercept);
                }

                alone[0] = runs[row];
                Loops.GradientSumsOfRows<T>(x.Pointer + (row * pitch), g.Pointer + (row * pitch), null, weight.Pointer, alone, 1, n, 0, ahead, null, null);
                Assert.AreEqual(runs[row].Gradient, alone[0].Gradient, $"{what}: gradient of row {row}, alone");
                Assert.AreEqual(runs[row].Product, alone[0].Product, $"{what}: product of row {row}, alone");
            }

            double[] scale = [.. Enumerable.Repeat(4.0 * rows, n)];
            NumericAssert.Near(gradients, gradientSums.Read(what), scale, tolerance, $"{what}: gradients");
            NumericAssert.Near(products, productSums.Read(what), scale, tolerance, $"{what}: products");
        }
    }

    [TestMethod]
    public void InputGradientOfRows_EveryLengthAndNumberOfRows_MatchPlainLoops()
    {
        Check<float, CachedStore>(1e-6);
        Check<float, StreamingStore>(1e-6);
        Check<double, FetchingStore>(1e-14);
        Check<double, StreamingStore>(1e-14);

        static void Check<T, TStore>(double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where TStore : struct, IStore
        {
            for (int n = 1; n <= LongestRun; n++)
            {
                for (int rows = 1; rows <= 4; rows++)
                {
                    // Rows of whole vectors are stored together, others apart.
                    int pitch = n % 2 == 0 ? n + (n % 3) : (n + Simd.Count<T>() - 1) / Simd.Count<T>() * Simd.Count<T>();
                    CheckRows<T, TStore>(n, rows, pitch, tolerance);
                }
            }
        }

        static void CheckRows<T, TStore>(int n, int rows, int pitch, double tolerance)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where TStore : struct, IStore
        {
            Run<T>* runs = stackalloc Run<T>[4];
            int size = ((rows - 1) * pitch) + n;
            double[] values = Numbers<T>(n, size);
            double[] given = Numbers<T>(n + 100, size);
            double[] weights = Numbers<T>(7, n);
            double[] gradients = Numbers<T>(1, n);
            double[] products = Numbers<T>(2, n);
            double[] expected = new double[size];
            using var x = new GuardedMemory<T>(values, n % 2);
            using var g = new GuardedMemory<T>(given);
            using var dx = new GuardedMemory<T>(expected, n % 5);
            using var alone = new GuardedMemory<T>(expected, n % 5);
            using var elsewhere = new GuardedMemory<T>(expected, (n % 5) + 3);
            using var weight = new GuardedMemory<T>(weights);
            using var gradientSums = new GuardedMemory<T>(gradients);
            using var productSums = new GuardedMemory<T>(products);
            using var otherGradientSums = new GuardedMemory<T>(gradients);
            using var otherProductSums = new GuardedMemory<T>(products);
            for (int row = 0; row < rows; row++)
            {
                runs[row] = new Run<T>
                {
                    Offset = row * pitch,
                    Center = T.CreateChecked(0.25 * row),
                    Slope = T.CreateChecked(0.5 - row),
                    Intercept = T.CreateChecked(Intercept),
                    GradientCenter = T.CreateChecked(0.125 * row),
                    GradientSlope = T.CreateChecked(1 + (0.5 * row)),
                    UnitSlope = T.CreateChecked(2 - (0.25 * row)),
                    UnitIntercept = T.CreateChecked(Intercept),
                };
                for (int j = 0; j < n; j++)
                {
                    int i = (row * pitch) + j;
                    double deviation = values[i] - (0.25 * row);
                    expected[i] = (((given[i] * weights[j]) - (0.125 * row)) * (1 + (0.5 * row))) + (deviation * (0.5 - row)) + Intercept;
                    gradients[j] += given[i];
                    products[j] += given[i] * ((deviation * (2 - (0.25 * row))) + Intercept);
                }
            }

            string what = $"{typeof(T).Name}, {typeof(TStore).Name}, {rows} rows of {n}, {pitch} apart";
            Loops.InputGradientOfRuns<T, TStore>(x.Pointer, g.Pointer, alone.Pointer, weight.Pointer, runs, rows, n, n);
            Loops.InputGradientOfRows<T, TStore>(
                x.Pointer, g.Pointer, dx.Pointer, weight.Pointer, runs, rows, n, pitch, n, gradientSums.Pointer, productSums.Pointer);
            Loops.InputGradientOfRows<T, CachedStore>(
                x.Pointer, g.Pointer, elsewhere.Pointer, weight.Pointer, runs, rows, n, pitch, n, otherGradientSums.Pointer, otherProductSums.Pointer);
            double[] scale = [.. Enumerable.Repeat(8.0 * rows, size)];
            NumericAssert.Near(expected, dx.Read(what), scale, tolerance, what);
            NumericAssert.SameBits<T>(alone.Read(what), dx.Read(what), $"{what}: as runs");
            NumericAssert.Near(gradients, gradientSums.Read(what), scale[..n], tolerance, $"{what}: gradients");
            NumericAssert.Near(products, productSums.Read(what), scale[..n], tolerance, $"{what}: products");
            NumericAssert.SameBits<T>(dx.Read(what), elsewhere.Read(what), $"{what}: elsewhere");
            NumericAssert.SameBits<T>(gradientSums.Read(what), otherGradientSums.Read(what), $"{what}: gradients, elsewhere");
            NumericAssert.SameBits<T>(productSums.Read(what), otherProductSums.Read(what), $"{what}: products, elsewhere");
        }
    }

    [TestMethod]
    public void Standardize_EveryLengthLineAffineAndStore_MatchesPlainLoop()
    {
        CheckStandardize<float, float, CachedStore>(5e-7);
        CheckStandardize<float, double, CachedStore>(1e-7);
        CheckStandardize<double, double, CachedStore>(1e-15);
    }

    [TestMethod]
    public void Standardize_Streaming_MatchesPlainLoop()
    {
        CheckStandardize<float, float, StreamingStore>(5e-7);
        CheckStandardize<double, double, StreamingStore>(1e-15);
    }

    [TestMethod]
    public void Standardize_StreamingFloatsInDouble_MatchesPlainLoop() => CheckStandardize<float, double, StreamingStore>(1e-7);

    [TestMethod]
    public void InputGradient_EveryLengthLineAffineAndStore_MatchesPlainLoop()
    {
        CheckInputGradient<float, float, CachedStore>(5e-7);
        CheckInputGradient<float, double, CachedStore>(1e-7);
        CheckInputGradient<double, double, CachedStore>(1e-15);
    }

    [TestMethod]
    public void InputGradient_Streaming_MatchesPlainLoop()
    {
        CheckInputGradient<float, float, StreamingStore>(5e-7);
        CheckInputGradient<double, double, StreamingStore>(1e-15);
    }

    [TestMethod]
    public void InputGradient_StreamingFloatsInDouble_MatchesPlainLoop() => CheckInputGradient<float, double, StreamingStore>(1e-7);

    [TestMethod]
    public void StandardizeAndInputGradientRows_AnyRowsAndAddress_GiveTheBitsOfOneRun()
    {
        Check<float, float, CachedStore>();
        Check<float, float, StreamingStore>();
        Check<float, double, FetchingStore>();
        Check<double, double, StreamingStore>();

        static void Check<T, A, TStore>()
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
            where A : unmanaged, IBinaryFloatingPointIeee754<A>
            where TStore : struct, IStore
        {
            for (int rows = 1; rows < 14; rows++)
            {
                int pitch = rows % 3 == 0 ? 16 : 48;
                int n = rows * pitch;
                using var columns = new Columns<A>(Numbers<A>(1, pitch));
                using var gradientColumns = new Columns<A>(Numbers<A>(2, pitch));
                using var x = new GuardedMemory<T>(Numbers<T>(3, n), rows % 2);
                using var g = new GuardedMemory<T>(Numbers<T>(4, n));
                using var expected = new GuardedMemory<T>(new double[n], rows);
                using var actual = new GuardedMemory<T>(new double[n], rows % 5);
                string what = $"{typeof(T).Name} in {typeof(A).Name}, {rows} rows of {pitch}, {typeof(TStore).Name}";

                Loops.Standardize<T, A, ColumnLine<A>, NoAffine<A>, CachedStore>(x.Pointer, expected.Pointer, n, pitch, 0, columns.Line, default);
                Loops.StandardizeRows<T, A, TStore>(x.Pointer, actual.Pointer, n, pitch, 0, columns.Line);
                NumericAssert.SameBits<T>(expected.Read(what), actual.Read(what), what);

                Loops.InputGradient<T, A, ColumnLine<A>, NoAffine<A>, CachedStore>(
                    x.Pointer, g.Pointer, expected.Pointer, n, pitch, 0, gradientColumns.Line, columns.Line, default);
                Loops.InputGradientRows<T, A, TStore>(x.Pointer, g.Pointer, actual.Pointer, n, pitch, 0, gradientColumns.Line, columns.Line);
                NumericAssert.SameBits<T>(expected.Read(what), actual.Read(what), $"{what}: gradient");
            }
        }
    }

    private delegate void WriteRuns<T>(Run<T>* runs, int count, nint n, T* x, T* g, T* y)
        where T : unmanaged;

    private delegate T* Place<T>(T* x, T* g)
        where T : unmanaged;

    private static double At<T>(T value)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => double.CreateChecked(value);

    // Five runs: three one behind the other, then, past a gap that must stay as it is, two more.
    private static void CheckRuns<T>(double tolerance, WriteRuns<T> write, Place<T> written, Func<Run<T>, double, double, double> expected)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        const int Count = 5;
        const int Gap = 3;
        const double Untouched = 0.5;
        Run<T>* runs = stackalloc Run<T>[Count];
        for (int n = 1; n <= LongestRun; n++)
        {
            int size = (Count * n) + Gap;
            double[] values = Numbers<T>(n, size);
            double[] gradients = Numbers<T>(n + 100, size);
            double[] results = [.. Enumerable.Repeat(Untouched, size)];
            using var x = new GuardedMemory<T>(values, n % 5);
            using var g = new GuardedMemory<T>(gradients, n % 5);
            using var y = new GuardedMemory<T>(results, n % 5);
            for (int i = 0; i < Count; i++)
            {
                runs[i] = new Run<T>
                {
                    Offset = (i * n) + (i < 3 ? 0 : Gap),
                    Center = T.CreateChecked(0.25 * i),
                    Slope = T.CreateChecked(1.5 - i),
                    Intercept = T.CreateChecked(0.125 * i),
                    GradientCenter = T.CreateChecked(0.5 - i),
                    GradientSlope = T.CreateChecked(2 + i),
                    Weight = T.CreateChecked(0.75 + i),
                };
                for (int j = (int)runs[i].Offset; j < (int)runs[i].Offset + n; j++)
                {
                    results[j] = expected(runs[i], values[j], gradients[j]);
                }
            }

            using var apart = new GuardedMemory<T>([.. Enumerable.Repeat(Untouched, size)], n % 5);
            for (int i = 0; i < Count; i++)
            {
                write(runs + i, 1, n, x.Pointer, g.Pointer, apart.Pointer);
            }

            string what = $"{typeof(T).Name}, runs of {n}";
            write(runs, Count, n, x.Pointer, g.Pointer, y.Pointer);
            NumericAssert.NearLargest(results, y.Read(what), tolerance, what);
            NumericAssert.SameBits(apart.Read(what), y.Read(what), $"{what}: joined and one by one");
            write(runs, Count, n, x.Pointer, g.Pointer, written(x.Pointer, g.Pointer));
            NumericAssert.SameBits(y.Read(what)[..(3 * n)], new ReadOnlySpan<T>(written(x.Pointer, g.Pointer), 3 * n), $"{what}: in place");
        }
    }

    private static void CheckStandardize<T, A, TStore>(double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
        where A : unmanaged, IBinaryFloatingPointIeee754<A>
        where TStore : struct, IStore
    {
        foreach (int n in Lengths)
        {
            double[] weights = Numbers<T>(1, n);
            double[] biases = Numbers<T>(2, n);
            using var weight = new GuardedMemory<T>(weights);
            using var bias = new GuardedMemory<T>(biases, 1);
            var line = new ConstantLine<A>(Center, Slope, Intercept);
            Run<ConstantLine<A>, NoAffine<A>>(n, n, line, default, _ => Slope, _ => 1, _ => 0);
            Run<ConstantLine<A>, ElementAffine<T, A>>(n, n, line, new(weight.Pointer, bias.Pointer), _ => Slope, j => weights[j], j => biases[j]);

            // Three rows as one run: the columns' lines repeat, for one vector past their end.
            double[] slopes = Numbers<A>(3, n);
            using var columns = new Columns<A>(slopes);
            Run<ColumnLine<A>, ConstantAffine<A>>(3 * n, n, columns.Line, new(Weight, Bias), j => slopes[j], _ => Weight, _ => Bias);
        }

        void Run<TLine, TAffine>(
            int n, int period, TLine line, TAffine affine, Func<int, double> slope, Func<int, double> weight, Func<int, double> bias)
            where TLine : struct, ILine<A>
            where TAffine : struct, IAffine<A>
        {
            double[] values = Numbers<T>(n, n);
            string what = $"{typeof(T).Name} in {typeof(A).Name}, {n} elements of period {period}, {typeof(TLine).Name}, {typeof(TAffine).Name}";
            using var x = new GuardedMemory<T>(values, n % 2);
            using var y = new GuardedMemory<T>(new double[n], n % 5);
            Loops.Standardize<T, A, TLine, TAffine, TStore>(x.Pointer, y.Pointer, n, period, n % 2 * 1000, line, affine);
            double[] expected = new double[n];
            double[] scale = new double[n];
            for (int i = 0; i < n; i++)
            {
                int j = i % period;
                double term = (values[i] - Center) * slope(j);
                expected[i] = ((term + Intercept) * weight(j)) + bias(j);
                scale[i] = ((Math.Abs(term) + 1) * Math.Abs(weight(j))) + Math.Abs(bias(j));
            }

            NumericAssert.Near(expected, y.Read(what), scale, tolerance, what);
        }
    }

    private static void CheckInputGradient<T, A, TStore>(double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
        where A : unmanaged, IBinaryFloatingPointIeee754<A>
        where TStore : struct, IStore
    {
        foreach (int n in Lengths)
        {
            double[] weights = Numbers<T>(1, n);
            using var weight = new GuardedMemory<T>(weights);
            var line = new ConstantLine<A>(Center, Slope, Intercept);
            Run<ConstantLine<A>, NoAffine<A>>(n, n, line, default, _ => Slope, _ => 1);
            Run<ConstantLine<A>, ElementAffine<T, A>>(n, n, line, new(weight.Pointer, null), _ => Slope, j => weights[j]);
            double[] slopes = Numbers<A>(3, n);
            using var columns = new Columns<A>(slopes);
            Run<ColumnLine<A>, ConstantAffine<A>>(3 * n, n, columns.Line, new(Weight, 0), j => slopes[j], _ => Weight);
        }

        void Run<TLine, TAffine>(int n, int period, TLine line, TAffine affine, Func<int, double> slope, Func<int, double> weight)
            where TLine : struct, ILine<A>
            where TAffine : struct, IAffine<A>
        {
            double[] values = Numbers<T>(n, n);
            double[] given = Numbers<T>(n + 100, n);
            string what = $"{typeof(T).Name} in {typeof(A).Name}, {n} elements of period {period}, {typeof(TLine).Name}, {typeof(TAffine).Name}";
            using var x = new GuardedMemory<T>(values, n % 2);
            using var g = new GuardedMemory<T>(given);
            using var dx = new GuardedMemory<T>(new double[n], n % 5);
            Loops.InputGradient<T, A, TLine, TAffine, TStore>(x.Pointer, g.Pointer, dx.Pointer, n, period, n % 2 * 1000, line, line, affine);
            double[] expected = new double[n];
            double[] scale = new double[n];
            for (int i = 0; i < n; i++)
            {
                int j = i % period;
                double gradient = given[i] * weight(j);
                double term = (values[i] - Center) * slope(j);
                expected[i] = ((gradient - Center) * slope(j)) + term + Intercept;
                scale[i] = ((Math.Abs(gradient) + Center) * Math.Abs(slope(j))) + Math.Abs(term) + 1;
            }

            NumericAssert.Near(expected, dx.Read(what), scale, tolerance, what);
        }
    }

    private static double Line(double value) => ((value - Center) * Slope) + Intercept;

    private static double[] Numbers<T>(int seed, int count)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => TestData.Rounded<T>(TestData.Normal(seed, count));

    private static void Near(double expected, double actual, double scale, string what) => NumericAssert.Near(expected, actual, scale, 1e-14, what);

    // A line for each column, each through the same center.
    private sealed class Columns<A>(double[] slopes) : IDisposable
        where A : unmanaged, IBinaryFloatingPointIeee754<A>
    {
        private readonly GuardedMemory<A> _centers = Repeated(slopes, _ => Center);
        private readonly GuardedMemory<A> _slopes = Repeated(slopes, slope => slope);
        private readonly GuardedMemory<A> _intercepts = Repeated(slopes, _ => Intercept);

        public ColumnLine<A> Line => new(_centers.Pointer, _slopes.Pointer, _intercepts.Pointer);

        public void Dispose()
        {
            _centers.Dispose();
            _slopes.Dispose();
            _intercepts.Dispose();
        }

        private static GuardedMemory<A> Repeated(double[] columns, Func<double, double> value) =>
            new([.. Enumerable.Range(0, columns.Length + Simd.Count<A>()).Select(j => value(columns[j % columns.Length]))]);
    }
}
