using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Oracles;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>What tells the whitening strategies apart: what they make of a covariance, how they turn with the input, where their gradients end.</summary>
[TestClass]
public sealed class WhiteningPropertyTests
{
    private static readonly ActivationShape Shape = new(40, 6, 5);
    private static readonly StrategySettings Plain = new() { Weight = false, Bias = false };

    public static IEnumerable<object[]> AllIds => StrategyCases.All.Where(one => one.Whitens).Select(one => new object[] { one.Id });

    // ---------------------------------------------------------------- the output's covariance

    [TestMethod]
    [DataRow(TestData.ZcaWhitening)]
    [DataRow(WhiteningCase.Pca)]
    [DataRow(WhiteningCase.Cholesky)]
    public void Forward_ExactWhitening_MatrixTimesRegularizedCovarianceIsTheIdentity(string id)
    {
        double[] x = WithSpectrum(1, 100, 30, 9, 2, 0.5, 0.04);
        double[,] whitening = MatrixOf(id, Plain, x);
        double[,] sigma = Covariance(x);
        for (int c = 0; c < 6; c++)
        {
            sigma[c, c] += 1e-5;
        }

        double[,] white = NaiveNormalizer.Product(NaiveNormalizer.Product(whitening, sigma), NaiveNormalizer.Transposed(whitening));
        for (int i = 0; i < 36; i++)
        {
            Assert.AreEqual(i / 6 == i % 6 ? 1 : 0, white[i / 6, i % 6], 1e-10, $"{id} [{i / 6}, {i % 6}]");
        }
    }

    [TestMethod]
    public void Forward_Pca_GivesComponentsByDescendingVarianceEachWithItsLargestEntryPositive()
    {
        double[] x = WithSpectrum(1, 4, 100, 0.5, 9, 2, 30);
        double[,] whitening = MatrixOf(WhiteningCase.Pca, Plain, x);
        double before = double.PositiveInfinity;
        for (int row = 0; row < 6; row++)
        {
            double[] axis = [.. Enumerable.Range(0, 6).Select(c => whitening[row, c])];
            double variance = 1 / axis.Sum(value => value * value);
            Assert.IsLessThan(before, variance, $"row {row}");
            Assert.AreEqual(axis.Max(Math.Abs), axis.Max(), $"row {row}");
            before = variance;
        }

        Assert.AreEqual(0.5, before, 1e-4);
    }

    [TestMethod]
    public void Forward_Pca_EqualVariancesOfUncorrelatedChannels_StayInPlace()
    {
        INormalizer<double> normalizer = Runs.Create<double>(WhiteningCase.Pca, new ActivationShape(1, 5), Plain);
        normalizer.Training = false;
        double[] x = [3, -1, 2, 0.5, -4];
        NumericAssert.NearLargest<double>([.. x.Select(value => value / Math.Sqrt(1 + 1e-5))], Runs.Forward(normalizer, new ActivationShape(1, 5), x), 1e-14, "fresh");
    }

    [TestMethod]
    public void Forward_Cholesky_AChannelDependsOnThoseBeforeItAlone()
    {
        double[] x = TestData.Activations(1, Shape);
        double[] y = Runs.Forward(Runs.Create<double>(WhiteningCase.Cholesky, Shape, Plain), Shape, x);
        double[] changed = [.. x.Select((value, i) => i / 5 % 6 == 3 ? value * value : value)];
        double[] z = Runs.Forward(Runs.Create<double>(WhiteningCase.Cholesky, Shape, Plain), Shape, changed);
        for (int c = 0; c < 6; c++)
        {
            double[] Of(double[] values) => [.. values.Where((_, i) => i / 5 % 6 == c)];
            if (c < 3)
            {
                NumericAssert.SameBits<double>(Of(y), Of(z), $"channel {c}");
            }
            else
            {
                NumericAssert.Differs<double>(Of(y), Of(z), 1e-3, $"channel {c}");
            }
        }
    }

    // Along each eigenvector of the covariance, by the scalar recursion and nothing else.
    [TestMethod]
    [DataRow(0)]
    [DataRow(1)]
    [DataRow(3)]
    [DataRow(5)]
    [DataRow(7)]
    [DataRow(12)]
    [DataRow(25)]
    public void Forward_IterNorm_EigenvaluesOfTheOutputFollowTheScalarRecursion(int iterations)
    {
        const double Epsilon = 0.01;
        double[] variances = [8, 4, 2, 0.5, 0.1, 0.003];
        double[] x = WithSpectrum(2, variances);
        double[] y = Runs.Forward(
            Runs.Create<double>(WhiteningCase.IterNorm, Shape, Plain with { Iterations = iterations, Epsilon = Epsilon }), Shape, x);
        double trace = variances.Sum() + (6 * Epsilon);
        double[] expected = new double[6];
        for (int i = 0; i < 6; i++)
        {
            double deviation = Math.Sqrt((variances[i] + Epsilon) / trace);
            for (int step = 0; step < iterations; step++)
            {
                deviation *= 0.5 * (3 - (deviation * deviation));
            }

            expected[i] = deviation * deviation * variances[i] / (variances[i] + Epsilon);
        }

        double[] actual = NaiveNormalizer.Eigen(Covariance(y)).Values;
        NumericAssert.NearLargest<double>([.. expected.Order()], [.. actual.Order()], 1e-12, $"T = {iterations}");
    }

    [TestMethod]
    [DataRow(1.0)]
    [DataRow(30.0)]
    [DataRow(1e3)]
    public void ForwardBackward_IterNormOf40Steps_IsZca(double condition)
    {
        double[] x = WithSpectrum(3, [.. Enumerable.Range(0, 6).Select(c => Math.Pow(condition, -c / 5.0))]);
        double[] dy = TestData.Normal(4, Shape.Count);
        StrategySettings settings = Plain with { Epsilon = 1e-9, Iterations = 40 };
        Pass<double> zca = Runs.Once(TestData.ZcaWhitening, Shape, settings, x, dy);
        Pass<double> iterated = Runs.Once(WhiteningCase.IterNorm, Shape, settings, x, dy);
        NumericAssert.NearLargest<double>(zca.Output, iterated.Output, 1e-12, "output");
        NumericAssert.NearLargest<double>(zca.InputGradient, iterated.InputGradient, 1e-11, "input gradient");
    }

    // The paper's recursion is at 1e27 here; this one stays where it is.
    [TestMethod]
    [DataRow(12, 1e5)]
    [DataRow(90, 1e5)]
    [DataRow(100, 1e7)]
    public void Forward_IterNormOfManyStepsAtAnyCondition_StaysNearTheExactPolynomial(int iterations, double condition)
    {
        double[] x = WithSpectrum(3, [.. Enumerable.Range(0, 6).Select(c => Math.Pow(condition, -c / 5.0))]);
        StrategySettings settings = Plain with { Epsilon = 1e-12, Iterations = iterations };
        Oracle oracle = StrategyCases.Of(WhiteningCase.IterNorm).CreateOracle(Shape, settings);
        double[] expected = oracle.Forward(Shape, x);
        NumericAssert.NearLargest<double>(expected, Runs.Forward(Runs.Create<double>(WhiteningCase.IterNorm, Shape, settings), Shape, x), 1e-17 * condition * 100, "output");
    }

    [TestMethod]
    [DataRow(TestData.ZcaWhitening, 5)]
    [DataRow(WhiteningCase.Pca, 5)]
    [DataRow(WhiteningCase.Cholesky, 5)]
    [DataRow(WhiteningCase.IterNorm, 0)]
    [DataRow(WhiteningCase.IterNorm, 1)]
    [DataRow(WhiteningCase.IterNorm, 5)]
    [DataRow(WhiteningCase.IterNorm, 30)]
    public void ForwardBackward_GroupsOfOneChannel_AreBatchNorm(string id, int iterations)
    {
        double[] x = TestData.Activations(1, Shape);
        double[] dy = TestData.Normal(2, Shape.Count);
        Pass<double> batch = Runs.Once(TestData.BatchNorm, Shape, new StrategySettings(), x, dy, 3);
        Pass<double> whitening = Runs.Once(id, Shape, new StrategySettings { GroupSize = 1, Iterations = iterations }, x, dy, 3);
        Runs.AssertNear(batch, whitening, 1e-11, id);
        NumericAssert.NearLargest<double>(
            Runs.Buffer(batch.Normalizer, "running_var"), Runs.Buffer(whitening.Normalizer, "running_covariance"), 1e-12, "running statistics");
    }

    // ---------------------------------------------------------------- rotations

    [TestMethod]
    [DataRow(TestData.ZcaWhitening)]
    [DataRow(WhiteningCase.IterNorm)]
    [DataRow(WhiteningCase.Pca)]
    [DataRow(WhiteningCase.Cholesky)]
    public void Forward_RotatedChannels_TurnsZcaAndIterNormLeavesPcaAndChangesCholesky(string id)
    {
        double[] x = WithSpectrum(1, 50, 20, 8, 3, 1, 0.2);
        double[] dy = TestData.Normal(2, Shape.Count);
        double[,] q = Orthogonal(7, 6);
        StrategySettings settings = Plain with { Epsilon = 0.1, Shrinkage = 0.1 };
        Pass<double> plain = Runs.Once(id, Shape, settings, x, dy);
        Pass<double> rotated = Runs.Once(id, Shape, settings, Rotate(x, q), Rotate(dy, q));
        switch (id)
        {
            case WhiteningCase.Pca:
                for (int c = 0; c < 6; c++)
                {
                    double[] before = [.. plain.Output.Where((_, i) => i / 5 % 6 == c)];
                    double[] after = [.. rotated.Output.Where((_, i) => i / 5 % 6 == c)];
                    double sign = Math.Sign(before[0] * after[0]);
                    NumericAssert.NearLargest<double>(before, [.. after.Select(value => sign * value)], 1e-11, $"component {c}");
                }

                break;
            case WhiteningCase.Cholesky:
                NumericAssert.Differs<double>(Rotate(plain.Output, q), rotated.Output, 1e-2, "turned with the input");
                NumericAssert.Differs<double>(plain.Output, rotated.Output, 1e-2, "left as it was");
                break;
            default:
                NumericAssert.NearLargest<double>(Rotate(plain.Output, q), rotated.Output, 1e-11, "output");
                NumericAssert.NearLargest<double>(Rotate(plain.InputGradient, q), rotated.InputGradient, 1e-11, "input gradient");
                break;
        }
    }

    // Any whitening is ZCA's but for a rotation, and further from the input.
    [TestMethod]
    [DataRow(WhiteningCase.Pca)]
    [DataRow(WhiteningCase.Cholesky)]
    public void Forward_OtherWhitenings_AreZcaTurned(string id)
    {
        double[] x = WithSpectrum(1, 50, 20, 8, 3, 1, 0.2);
        double[,] turn = NaiveNormalizer.Product(MatrixOf(id, Plain, x), Inverse(MatrixOf(TestData.ZcaWhitening, Plain, x)));
        double[,] identity = NaiveNormalizer.Product(turn, NaiveNormalizer.Transposed(turn));
        for (int i = 0; i < 36; i++)
        {
            Assert.AreEqual(i / 6 == i % 6 ? 1 : 0, identity[i / 6, i % 6], 1e-9);
        }

        double Distance(string of) => Runs.Forward(Runs.Create<double>(of, Shape, Plain), Shape, x).Zip(x, (a, b) => (a - b) * (a - b)).Sum();
        Assert.IsGreaterThan(Distance(TestData.ZcaWhitening), Distance(id));
    }

    // ---------------------------------------------------------------- gradients at equal eigenvalues

    [TestMethod]
    [DataRow(WhiteningCase.IterNorm, 0.0)]
    [DataRow(WhiteningCase.IterNorm, 1e-9)]
    [DataRow(WhiteningCase.Cholesky, 0.0)]
    [DataRow(WhiteningCase.Cholesky, 1e-9)]
    public void Backward_EqualEigenvalues_AgreesWithDifferences(string id, double gap)
    {
        double[] x = WithSpectrum(5, 2, 2 + gap, 1, 1 + gap, 1 - gap, 1);
        double[] dy = TestData.Normal(6, Shape.Count);
        Pass<double> pass = Runs.Once(id, Shape, Plain, x, dy);
        var random = new Random(7);
        for (int trial = 0; trial < 12; trial++)
        {
            int i = random.Next(x.Length);
            double At(double step)
            {
                double[] moved = [.. x];
                moved[i] += step;
                return Runs.Forward(Runs.Create<double>(id, Shape, Plain), Shape, moved).Zip(dy, (a, b) => a * b).Sum();
            }

            const double H = 1e-3;
            double numeric = ((8 * (At(H) - At(-H))) - (At(2 * H) - At(-2 * H))) / (12 * H);
            NumericAssert.Near(numeric, pass.InputGradient[i], pass.InputGradient.Max(Math.Abs), 1e-8, $"{id} [{i}]");
        }
    }

    // The pole is genuine: a tenth of the gap, ten times the gradient.
    [TestMethod]
    public void Backward_PcaNearEqualEigenvalues_GrowsInverselyToTheGap()
    {
        double Norm(double gap) => Math.Sqrt(Runs.Once(
            WhiteningCase.Pca, Shape, Plain, WithSpectrum(5, 9, 5, 2 + gap, 2, 1, 0.3), TestData.Normal(6, Shape.Count)).InputGradient.Sum(value => value * value));
        Assert.AreEqual(10, Norm(1e-5) / Norm(1e-4), 0.2);
        Assert.AreEqual(10, Norm(1e-6) / Norm(1e-5), 0.2);
    }

    [TestMethod]
    [DataRow(TestData.ZcaWhitening)]
    [DataRow(WhiteningCase.Pca)]
    [DataRow(WhiteningCase.Cholesky)]
    [DataRow(WhiteningCase.IterNorm)]
    public void Forward_ConstantBatch_PcaAloneRefusesNamingGapAndWayOut(string id)
    {
        INormalizer<double> normalizer = Runs.Create<double>(id, Shape, Plain);
        var before = Runs.State(normalizer);
        double[] x = new double[Shape.Count];
        if (id == WhiteningCase.Pca)
        {
            string message = Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(normalizer, Shape, x)).Message;
            foreach (string part in new[] { "relative gap 0", "1.0e-10", "ZcaWhitening", "GapClamp", "biased" })
            {
                Assert.Contains(part, message);
            }

            Runs.AssertState(before, normalizer, id);
            return;
        }

        Pass<double> pass = Runs.Once(normalizer, Shape, x, TestData.Normal(1, Shape.Count));
        Assert.IsTrue(pass.Output.All(value => value == 0));
        NumericAssert.Finite<double>(pass.InputGradient, id);
    }

    [TestMethod]
    public void ForwardBackward_PcaWithGapClamp_TakesEqualEigenvaluesAndIsExactWhereNothingIsClamped()
    {
        double[] dy = TestData.Normal(6, Shape.Count);
        StrategySettings clamped = Plain with { GapClamp = 1e-3 };
        Pass<double> equal = Runs.Once(WhiteningCase.Pca, Shape, clamped, new double[Shape.Count], dy);
        NumericAssert.Finite<double>(equal.InputGradient, "equal eigenvalues");

        double[] apart = WithSpectrum(5, 9, 5, 3, 2, 1, 0.3);
        Runs.AssertSame(Runs.Once(WhiteningCase.Pca, Shape, Plain, apart, dy), Runs.Once(WhiteningCase.Pca, Shape, clamped, apart, dy), "apart");
        double[] near = WithSpectrum(5, 9, 5, 2.0001, 2, 1, 0.3);
        NumericAssert.Differs<double>(
            Runs.Once(WhiteningCase.Pca, Shape, Plain, near, dy).InputGradient, Runs.Once(WhiteningCase.Pca, Shape, clamped, near, dy).InputGradient, 1e-2, "near");
    }

    // Running statistics have no gradient to go through, and a covariance of ones on the diagonal must serve.
    [TestMethod]
    public void ForwardBackward_PcaOfFreshRunningStatistics_HasNoPole()
    {
        Normalizer<double> normalizer = Runs.CreateBase<double>(WhiteningCase.Pca, Shape, Plain);
        normalizer.StatisticsSource = StatisticsSource.Running;
        double[] x = new double[Shape.Count];
        NumericAssert.Finite<double>(Runs.Once(normalizer, Shape, x, TestData.Normal(1, Shape.Count)).InputGradient, "training by running statistics");
        Assert.AreEqual(1, normalizer.Buffers.Single(buffer => buffer.IsCounter).Count);
    }

    // ---------------------------------------------------------------- sums, refusals, state

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_Training_SumsToZeroInEveryChannel(string id)
    {
        double[] gradient = Runs.Once(id, Shape, new StrategySettings { Epsilon = 0.2 }, TestData.Activations(1, Shape), TestData.Normal(2, Shape.Count), 3).InputGradient;
        for (int c = 0; c < 6; c++)
        {
            NumericAssert.Near(0, gradient.Where((_, i) => i / 5 % 6 == c).Sum(), 1, 1e-11, $"{id}: channel {c}");
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_OneColumn_ThrowsInTrainingAndServesInInference(string id)
    {
        var one = new ActivationShape(1, 6);
        INormalizer<double> normalizer = Runs.Create<double>(id, one, Plain);
        Assert.Contains("more than 1 value", Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(normalizer, one, new double[6])).Message);
        normalizer.Training = false;
        double scale = id == WhiteningCase.IterNorm ? 0.999 : 1 - 1e-5; // S = I is t/6 in each direction: whitened by 5 steps to a thousandth
        Assert.AreEqual(scale, Runs.Forward(normalizer, one, [1, 0, 0, 0, 0, 0])[0], 2e-3);
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void ForwardBackward_OneColumnAndBiasOnly_GivesTheBiasAndNoGradient(string id)
    {
        var one = new ActivationShape(1, 6);
        Pass<double> pass = Runs.Once(id, one, new StrategySettings { SingleValue = SingleValuePolicy.BiasOnly }, TestData.Normal(1, 6), TestData.Normal(2, 6), 3);
        NumericAssert.SameBits<double>(pass.Normalizer.Parameters.Single(p => p.Name == "bias").Values, pass.Output, id);
        Assert.IsTrue(pass.InputGradient.All(value => value == 0), id);
        Assert.IsTrue(pass.WeightGradient.All(value => value == 0), id);
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_AsManyColumnsAsChannelsWithoutEpsilon_ThrowsNamingTheWayOut(string id)
    {
        var few = new ActivationShape(6, 6);
        INormalizer<double> normalizer = Runs.Create<double>(id, few, Plain with { Epsilon = 0 });
        string message = Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(normalizer, few, TestData.Normal(1, 36))).Message;
        Assert.Contains("epsilon", message);
        Assert.Contains("shrinkage", message);
    }

    [TestMethod]
    [DataRow(TestData.ZcaWhitening)]
    [DataRow(WhiteningCase.Pca)]
    [DataRow(WhiteningCase.Cholesky)]
    public void Forward_SingularCovarianceWithoutEpsilon_ThrowsNamingTheCondition(string id)
    {
        double[] x = TestData.Normal(1, Shape.Count);
        for (int i = 0; i < x.Length; i++)
        {
            x[i] = i / 5 % 6 == 4 ? x[i - 5] + x[i - 10] : x[i];
        }

        INormalizer<double> normalizer = Runs.Create<double>(id, Shape, Plain with { Epsilon = 0 });
        string message = Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(normalizer, Shape, x)).Message;
        Assert.Contains("condition number", message);
        Assert.Contains("epsilon", message);
        Assert.AreEqual(0, normalizer.Buffers.Single(buffer => buffer.IsCounter).Count);
    }

    [TestMethod]
    public void Forward_IterNormOfAConstantWithoutEpsilon_ThrowsNamingTheTrace()
    {
        INormalizer<double> normalizer = Runs.Create<double>(WhiteningCase.IterNorm, Shape, Plain with { Epsilon = 0 });
        Assert.Contains("trace 0", Assert.ThrowsExactly<InvalidOperationException>(() => Runs.Forward(normalizer, Shape, new double[Shape.Count])).Message);
    }

    // The same rule and the same words for all four, whatever shrinkage and epsilon would make of it: float's 1e-5 of the largest is let be.
    [TestMethod]
    [DataRow(TestData.ZcaWhitening)]
    [DataRow(WhiteningCase.Pca)]
    [DataRow(WhiteningCase.Cholesky)]
    [DataRow(WhiteningCase.IterNorm)]
    public void OnStateChanged_RunningCovarianceWithANegativeEigenvalue_Throws(string id)
    {
        foreach (StrategySettings settings in new[] { Plain, Plain with { Epsilon = 0 }, Plain with { Epsilon = 3, Shrinkage = 0.5 }, Plain with { Iterations = 1 } })
        {
            Check(2, "eigenvalue -1 beside 3", settings);
            Check(1.001f, "eigenvalue -0.001 beside 2", settings);
        }

        Check(1.000001f, null, Plain);

        void Check(float covariance, string? says, StrategySettings settings)
        {
            INormalizer<float> normalizer = Runs.Create<float>(id, Shape, settings);
            Runs.Buffer(normalizer, "running_covariance")[1] = Runs.Buffer(normalizer, "running_covariance")[6] = covariance;
            if (says is null)
            {
                normalizer.Training = false;
                return;
            }

            string message = Assert.ThrowsExactly<InvalidOperationException>(() => normalizer.Training = false).Message;
            Assert.Contains(says, message);
            Assert.Contains("running_covariance", message);
            Assert.IsTrue(normalizer.Training);
        }
    }

    [TestMethod]
    [DataRow(TestData.ZcaWhitening)]
    [DataRow(WhiteningCase.IterNorm)]
    public void OnStateChanged_NegativeEigenvalueInALaterGroup_ThrowsNamingTheGroup(string id)
    {
        INormalizer<double> normalizer = Runs.Create<double>(id, Shape, Plain with { GroupSize = 3 });
        Runs.Buffer(normalizer, "running_covariance")[9 + 8] = -0.5;
        Assert.Contains("channel group 1 has the eigenvalue -0.5 beside 1", Assert.ThrowsExactly<InvalidOperationException>(() => normalizer.Training = false).Message);
    }

    [TestMethod]
    [DataRow(-1)]
    [DataRow(101)]
    public void Create_IterationsOutOfRange_ThrowsNamingThem(int iterations)
    {
        string message = Assert.ThrowsExactly<ArgumentException>(() => new IterNorm<float>(4, new IterNormOptions { Iterations = iterations })).Message;
        Assert.Contains(iterations.ToString(System.Globalization.CultureInfo.InvariantCulture), message);
    }

    [TestMethod]
    [DataRow(0.0)]
    [DataRow(-0.1)]
    [DataRow(1.5)]
    [DataRow(double.NaN)]
    public void Create_GapClampOutOfRange_Throws(double clamp) =>
        Assert.Contains("(0, 1]", Assert.ThrowsExactly<ArgumentException>(() => new PcaWhitening<float>(4, new PcaWhiteningOptions { GapClamp = clamp })).Message);

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Create_GroupSizeThatDoesNotDivide_ThrowsNamingBoth(string id)
    {
        string message = Assert.ThrowsExactly<ArgumentException>(() => Runs.Create<float>(id, Shape, Plain with { GroupSize = 4 })).Message;
        Assert.Contains("C = 6", message);
        Assert.Contains("d = 4", message);
    }

    // Float products on either side of the rule, against the same strategy in double.
    [TestMethod]
    [DataRow(WhiteningCase.Pca, 5, 200.0)]
    [DataRow(WhiteningCase.Pca, 5, 1e4)]
    [DataRow(WhiteningCase.Cholesky, 5, 10.0)]
    [DataRow(WhiteningCase.Cholesky, 5, 1e4)]
    [DataRow(WhiteningCase.IterNorm, 5, 1.0)]
    [DataRow(WhiteningCase.IterNorm, 5, 1e6)]
    [DataRow(WhiteningCase.IterNorm, 6, 1e6)]
    [DataRow(WhiteningCase.IterNorm, 9, 100.0)]
    [DataRow(WhiteningCase.IterNorm, 12, 1e5)]
    public void ForwardBackward_FloatAtAnyCondition_IsNearDouble(string id, int iterations, double condition)
    {
        var shape = new ActivationShape(6, 40, 50);
        double[] x = TestData.Rounded<float>([.. Spread(shape, condition)]);
        double[] dy = TestData.Rounded<float>(TestData.Normal(9, shape.Count));
        StrategySettings settings = new() { Iterations = iterations };
        Pass<double> exact = Runs.Once(Runs.Create<double>(id, shape, settings), shape, x, dy);
        Pass<float> single = Runs.Once(Runs.Create<float>(id, shape, settings), shape, TestData.As<float>(x), TestData.As<float>(dy));
        NumericAssert.NearLargest<float>(exact.Output, single.Output, 1e-6, "output");
        NumericAssert.NearLargest<float>(exact.InputGradient, single.InputGradient, 1e-6, "input gradient");
    }

    // ---------------------------------------------------------------- helpers

    // The matrix itself: the output of unit steps from the mean, by running statistics that are this batch's.
    private static double[,] MatrixOf(string id, StrategySettings settings, double[] x)
    {
        INormalizer<double> normalizer = Runs.Create<double>(id, Shape, settings with { Momentum = 1, RunningVariance = RunningVariance.Population });
        Runs.Forward(normalizer, Shape, x);
        normalizer.Training = false;
        double[] mean = Runs.Buffer(normalizer, "running_mean");
        var one = new ActivationShape(6, 6);
        double[] rows = Runs.Forward(normalizer, one, [.. Enumerable.Range(0, 36).Select(i => mean[i % 6] + (i / 6 == i % 6 ? 1 : 0))]);
        var matrix = new double[6, 6];
        for (int i = 0; i < 36; i++)
        {
            matrix[i % 6, i / 6] = rows[i];
        }

        return matrix;
    }

    // Columns whose covariance has exactly these eigenvalues, to rounding, along rotated axes: white columns scaled and turned.
    private static double[] WithSpectrum(int seed, params double[] variances)
    {
        double[] noise = TestData.Normal(seed, Shape.Count);
        double[] means = [.. Enumerable.Range(0, 6).Select(c => noise.Where((_, i) => i / 5 % 6 == c).Average())];
        noise = [.. noise.Select((value, i) => value - means[i / 5 % 6])];
        double[,] white = NaiveNormalizer.InverseRoot(Covariance(noise)).Inverse;
        double[] x = Rotate(noise, white);
        return Rotate([.. x.Select((value, i) => value * Math.Sqrt(variances[i / 5 % 6]))], Orthogonal(seed + 1, 6));
    }

    private static IEnumerable<double> Spread(ActivationShape shape, double condition)
    {
        double[] x = TestData.Normal(4, shape.Count);
        int spatial = (int)shape.SpatialSize;
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / spatial % shape.Channels;
            yield return (x[i] * Math.Pow(condition, -0.5 * c / (shape.Channels - 1))) + (c > 0 ? 0.3 * x[i - spatial] * Math.Pow(condition, -0.5 * c / (shape.Channels - 1)) : 0) + c;
        }
    }

    private static double[,] Covariance(double[] x)
    {
        var columns = new double[6, 200];
        for (int i = 0; i < x.Length; i++)
        {
            columns[i / 5 % 6, (i / 30 * 5) + (i % 5)] = x[i];
        }

        for (int c = 0; c < 6; c++)
        {
            double mean = Enumerable.Range(0, 200).Average(j => columns[c, j]);
            for (int j = 0; j < 200; j++)
            {
                columns[c, j] -= mean;
            }
        }

        double[,] covariance = NaiveNormalizer.Product(columns, NaiveNormalizer.Transposed(columns));
        for (int i = 0; i < 36; i++)
        {
            covariance[i / 6, i % 6] /= 200;
        }

        return covariance;
    }

    private static double[] Rotate(double[] x, double[,] q)
    {
        var result = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / 5 % 6;
            for (int k = 0; k < 6; k++)
            {
                result[i] += q[c, k] * x[i + ((k - c) * 5)];
            }
        }

        return result;
    }

    // The eigenvectors of a random symmetric matrix.
    private static double[,] Orthogonal(int seed, int size)
    {
        double[] random = TestData.Normal(seed + 900, size * size);
        var symmetric = new double[size, size];
        for (int i = 0; i < random.Length; i++)
        {
            symmetric[i / size, i % size] = random[i] + random[(i % size * size) + (i / size)];
        }

        return NaiveNormalizer.Eigen(symmetric).Vectors;
    }

    private static double[,] Inverse(double[,] symmetric)
    {
        (double[] values, double[,] vectors) = NaiveNormalizer.Eigen(symmetric);
        var scaled = (double[,])vectors.Clone();
        for (int i = 0; i < scaled.Length; i++)
        {
            scaled[i / values.Length, i % values.Length] /= values[i % values.Length];
        }

        return NaiveNormalizer.Product(scaled, NaiveNormalizer.Transposed(vectors));
    }
}
