using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Oracles;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>Identities that hold whatever an implementation looks like: gradients by differences, laws of scale and symmetry, equivalences.</summary>
[TestClass]
public sealed class PropertyTests
{
    private static readonly StrategySettings Plain = new() { Groups = 2, GhostSize = 3 };

    public static IEnumerable<object[]> AllIds => StrategyCases.Ids.Select(id => new object[] { id });

    public static IEnumerable<object[]> UnmixedIds => StrategyCases.All.Where(one => !one.Whitens).Select(one => new object[] { one.Id });

    public static IEnumerable<object[]> BasicIds => TestData.Ids.Select(id => new object[] { id });

    // ---------------------------------------------------------------- gradients

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_FivePointDifferences_AgreeForInputAndParameters(string id)
    {
        ActivationShape[] shapes = [new(5, 4), new(3, 4, 5), new(2, 4, 3, 2), new(2, 4, 2, 1, 3)];
        foreach (ActivationShape shape in shapes.Where(StrategyCases.Of(id).Carries))
        {
            int seed = 20;
            foreach (StrategySettings settings in TestData.Configurations(id, shape))
            {
                seed++;
                CheckGradient(id, shape, settings with { Epsilon = 0.3 }, TestData.Activations(seed, shape), true, seed);
                CheckGradient(id, shape, settings with { Epsilon = 0.3 }, TestData.Activations(seed, shape), false, seed);
            }
        }

        var ample = new ActivationShape(6, 4, 7);
        StrategySettings plain = StrategyCases.Of(id).Adapt(Plain, ample);
        CheckGradient(id, ample, plain, TestData.Activations(3, ample), true, 3);
        CheckGradient(id, ample, plain, TestData.Activations(4, ample), false, 4);
    }

    [TestMethod]
    [DataRow(1.0, 1.0, 1.0, 1.0)]
    [DataRow(2.0, 1.0, 2.0, 1.0)]
    [DataRow(1.0, 1.0 + 5e-10, 2.0, 2.0 + 1e-9)]
    [DataRow(1.0, 1.0 + 1e-13, 1.0 + 2e-13, 1.0 + 3e-13)]
    public void Backward_WhiteningOfEqualEigenvalues_AgreesWithDifferences(double first, double second, double third, double fourth)
    {
        double[] scales = [first, second, third, fourth];
        var shape = new ActivationShape(8, 4);
        double[] x = Hadamard(8);
        for (int i = 0; i < x.Length; i++)
        {
            x[i] *= scales[i % 4];
        }

        CheckGradient(TestData.ZcaWhitening, shape, Plain, x, true, 5);

        // The same spectrum in a rotated basis, where eigenvectors are not the axes.
        double[] rotated = Rotate(shape, x, Orthogonal(9, 4));
        CheckGradient(TestData.ZcaWhitening, shape, Plain, rotated, true, 6);
    }

    private static void CheckGradient(string id, ActivationShape shape, StrategySettings settings, double[] x, bool training, int seed)
    {
        string what = $"{id} {shape} {(training ? "training" : "inference")} {settings}";
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, settings, seed);
        double[] dy = TestData.Normal(seed + 5, shape.Count);
        if (!training)
        {
            Runs.Forward(normalizer, shape, TestData.Activations(seed + 6, shape));
            normalizer.Training = false;
        }

        var state = Runs.State(normalizer);
        Pass<double> pass = Runs.Once(normalizer, shape, x, dy);
        normalizer.HoldConstants = true;
        Compare(x, pass.InputGradient, "input gradient");
        foreach (Parameter<double> parameter in normalizer.Parameters)
        {
            Compare(parameter.Values, pass.Gradients[parameter.Name], parameter.Name);
        }

        void Compare(double[] point, double[] analytic, string name)
        {
            var numeric = new double[point.Length];
            double largest = analytic.Max(Math.Abs);
            for (int i = 0; i < point.Length; i++)
            {
                numeric[i] = Derivative(point, i, 1e-3);

                // Where a maximum or a clip lies within the step, a nearer difference tells; a wrong gradient is wrong at every step.
                for (double h = 1e-4; h >= 1e-5 && Math.Abs(numeric[i] - analytic[i]) > 1e-8 * largest; h /= 10)
                {
                    double nearer = Derivative(point, i, h);
                    numeric[i] = Math.Abs(nearer - analytic[i]) < Math.Abs(numeric[i] - analytic[i]) ? nearer : numeric[i];
                }
            }

            NumericAssert.NearLargest<double>(numeric, analytic, 1e-8, $"{what}: {name}");
        }

        double Derivative(double[] point, int i, double h)
        {
            double at = point[i];
            double derivative = (8 * (Loss(at + h) - Loss(at - h)) - (Loss(at + 2 * h) - Loss(at - 2 * h))) / (12 * h);
            point[i] = at;
            return derivative;

            double Loss(double value)
            {
                point[i] = value;
                Runs.Restore(state, normalizer);
                double[] y = Runs.Forward(normalizer, shape, x);
                double loss = 0;
                for (int j = 0; j < y.Length; j++)
                {
                    loss += dy[j] * y[j];
                }

                return loss;
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(BasicIds))]
    public void Backward_Training_SumsToZeroAndObeysTheEpsilonIdentity(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        StrategySettings settings = Plain with { Epsilon = 0.2 };
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, settings, 3);
        Pass<double> pass = Runs.Once(normalizer, shape, x, dy);
        if (id == TestData.ZcaWhitening)
        {
            double[,] dx = Columns(shape, pass.InputGradient);
            for (int c = 0; c < 4; c++)
            {
                double sum = 0;
                for (int j = 0; j < dx.GetLength(1); j++)
                {
                    sum += dx[c, j];
                }

                NumericAssert.Near(0, sum, 1, 1e-11, $"sum of channel {c}");
            }

            return;
        }

        var oracle = new NaiveNormalizer(id, shape, settings);
        oracle.Forward(shape, x);
        double[] xhat = oracle.Normalized;
        int[] set = oracle.SetOfElements(shape);
        double[] weight = normalizer.Parameters.Single(p => p.Name == "weight").Values;
        int spatial = (int)shape.SpatialSize;
        for (int r = 0; r <= set.Max(); r++)
        {
            int[] members = [.. Enumerable.Range(0, x.Length).Where(i => set[i] == r)];
            double mean = members.Average(i => x[i]);
            double variance = members.Average(i => (x[i] - mean) * (x[i] - mean));
            double Upstream(int i) => dy[i] * weight[id == TestData.LayerNorm ? i % weight.Length : i / spatial % 4];
            NumericAssert.Near(0, members.Sum(i => pass.InputGradient[i]), 1, 1e-11, $"{id}: sum of set {r}");
            NumericAssert.Near(
                0.2 * Math.Pow(variance + 0.2, -1.5) * members.Sum(i => Upstream(i) * xhat[i]),
                members.Sum(i => pass.InputGradient[i] * xhat[i]), 1, 1e-10, $"{id}: sum dx xhat of set {r}");
        }
    }

    [TestMethod]
    public void Backward_Whitening_ObeysTheEpsilonIdentityAlongEigenvectors()
    {
        var shape = new ActivationShape(9, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        const double Epsilon = 0.3;
        Pass<double> pass = Runs.Once(TestData.ZcaWhitening, shape, Plain with { Epsilon = Epsilon, Weight = false, Bias = false }, x, dy);
        double[,] centred = Centred(Columns(shape, x));
        (double[] values, double[,] vectors) = NaiveNormalizer.Eigen(Covariance(centred));
        double[,] left = InBasis(Columns(shape, pass.InputGradient));
        double[,] right = InBasis(Columns(shape, dy));
        for (int i = 0; i < 4; i++)
        {
            NumericAssert.Near(Epsilon * right[i, i] * Math.Pow(values[i] + Epsilon, -1.5), left[i, i], 1, 1e-10, $"direction {i}");
        }

        double[,] InBasis(double[,] gradient) => NaiveNormalizer.Product(
            NaiveNormalizer.Product(NaiveNormalizer.Transposed(vectors), NaiveNormalizer.Product(gradient, NaiveNormalizer.Transposed(centred))), vectors);
    }

    [TestMethod]
    public void Backward_TwoValuesPerStatisticWithoutEpsilon_PassesNothing()
    {
        var shape = new ActivationShape(2, 5);
        Pass<double> pass = Runs.Once(TestData.BatchNorm, shape, Plain with { Epsilon = 0 }, TestData.Normal(1, 10), TestData.Normal(2, 10), 3);
        NumericAssert.Near<double>(new double[10], pass.InputGradient, [.. Enumerable.Repeat(1.0, 10)], 1e-11, "input gradient");
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Backward_CalledTwice_AccumulatesParameterGradientsAndRepeatsTheInputGradient(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, StrategyCases.Of(id).Adapt(Plain, shape), 3);
        Pass<double> pass = Runs.Once(normalizer, shape, x, dy);
        double[] again = Runs.Backward(normalizer, shape, x, dy);
        NumericAssert.SameBits<double>(pass.InputGradient, again, "input gradient");
        foreach (Parameter<double> parameter in normalizer.Parameters)
        {
            NumericAssert.SameBits<double>(Array.ConvertAll(pass.Gradients[parameter.Name], value => 2 * value), parameter.Gradient, parameter.Name);
        }

        normalizer.ZeroGradients();
        Assert.IsTrue(normalizer.Parameters.All(p => p.Gradient.All(value => value == 0)));
    }

    // ---------------------------------------------------------------- scale and shift

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_ScaledAndShiftedInput_ObeysTheScaleLaw(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 2);
        double[] x = TestData.Activations(1, shape);
        StrategySettings settings = StrategyCases.Of(id).Adapt(Plain with { Weight = false, Bias = false, Epsilon = 0.05 }, shape);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, settings);
        if (!normalizer.Claims.HasFlag(NormalizerClaims.ScaleInvariance))
        {
            return; // The harness's own claims test says what it does not claim.
        }

        bool shifts = normalizer.Claims.HasFlag(NormalizerClaims.ShiftInvariance);
        double[] y = Runs.Forward(normalizer, shape, x);
        foreach ((double factor, double b) in new[] { (3.0, -2.0), (-0.25, 7.0), (1e-3, 0.5), (-400.0, 1e3) })
        {
            double a = StrategyCases.Of(id).IsOdd ? factor : Math.Abs(factor);
            double[] moved = Array.ConvertAll(x, value => a * value + (shifts ? b : 0));
            double[] z = Runs.Forward(Runs.Create<double>(id, shape, settings with { Epsilon = 0.05 * a * a }), shape, moved);
            NumericAssert.NearLargest<double>(Array.ConvertAll(y, value => Math.Sign(a) * value), z, 1e-10, $"{id}: {a} x + {b}");
        }
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.LayerNorm)]
    [DataRow(TestData.GroupNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Backward_LinearLayerBeforeIt_GradientIsOrthogonalAndInverseInTheWeights(string id)
    {
        const int Samples = 11;
        const int Inputs = 5;
        var shape = new ActivationShape(Samples, 4);
        double[] u = TestData.Normal(1, Samples * Inputs);
        double[] w = TestData.Normal(2, 4 * Inputs);
        double[] dy = TestData.Normal(3, shape.Count);
        StrategySettings settings = Plain with { Groups = 1, Epsilon = 0 };
        double[] reference = WeightGradient(1);
        if (id is TestData.BatchNorm)
        {
            for (int c = 0; c < 4; c++)
            {
                NumericAssert.Near(0, Enumerable.Range(0, Inputs).Sum(k => reference[c * Inputs + k] * w[c * Inputs + k]), 1, 1e-10, $"row {c}");
            }
        }

        NumericAssert.Near(0, reference.Zip(w, (gradient, weight) => gradient * weight).Sum(), 1, 1e-10, $"{id}: <dW, W>");
        foreach (double a in new[] { 0.1, 4, 100 })
        {
            NumericAssert.NearLargest<double>(Array.ConvertAll(reference, value => value / a), WeightGradient(a), 1e-10, $"{id}: {a} W");
        }

        double[] WeightGradient(double a)
        {
            var z = new double[shape.Count];
            for (int n = 0; n < Samples; n++)
            {
                for (int c = 0; c < 4; c++)
                {
                    for (int k = 0; k < Inputs; k++)
                    {
                        z[n * 4 + c] += a * w[c * Inputs + k] * u[n * Inputs + k];
                    }
                }
            }

            double[] dz = Runs.Once(id, shape, settings, z, dy, 4).InputGradient;
            var gradient = new double[w.Length];
            for (int n = 0; n < Samples; n++)
            {
                for (int c = 0; c < 4; c++)
                {
                    for (int k = 0; k < Inputs; k++)
                    {
                        gradient[c * Inputs + k] += dz[n * 4 + c] * u[n * Inputs + k];
                    }
                }
            }

            return gradient;
        }
    }

    // ---------------------------------------------------------------- samples

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_OneSampleChanged_OthersKeepEveryBitWhereIndependent(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        foreach (bool training in new[] { true, false })
        {
            INormalizer<float> normalizer = Runs.Create<float>(id, shape, StrategyCases.Of(id).Adapt(Plain, shape), 1);
            Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(2, shape)));
            normalizer.Training = training;
            float[] x = TestData.As<float>(TestData.Activations(3, shape));
            float[] y = Runs.Forward(normalizer, shape, x);
            for (int i = 2 * 60; i < 3 * 60; i++)
            {
                x[i] = -3 * x[i] + 8;
            }

            float[] z = Runs.Forward(normalizer, shape, x);
            int[] others = [0, 1, 3, 4, 5];
            float[] before = Runs.Samples(shape, y, others);
            float[] after = Runs.Samples(shape, z, others);
            if (training && normalizer.Claims.HasFlag(NormalizerClaims.BatchDependence))
            {
                NumericAssert.Differs<float>(before, after, 1e-2, $"{id}: the batch has to matter");
            }
            else if (!training || normalizer.Claims.HasFlag(NormalizerClaims.SampleIndependence))
            {
                NumericAssert.SameBits<float>(before, after, $"{id} {(training ? "training" : "inference")}");
            }

            NumericAssert.Differs<float>(Runs.Samples(shape, y, 2), Runs.Samples(shape, z, 2), 1e-2, $"{id}: its own sample");
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Forward_SamplesPermuted_PermutesTheOutput(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = StrategyCases.Of(id).Adapt(Plain, shape);
        bool anyOrder = Runs.Create<double>(id, shape, settings).Claims.HasFlag(NormalizerClaims.BatchPermutationEquivariance);
        Assert.AreEqual(id != TestData.GhostBatchNorm, anyOrder, $"{id}: only ghosts mind the order, and only between each other");
        int[] order = anyOrder ? [5, 2, 0, 4, 1, 3] : [2, 0, 1, 4, 5, 3];
        Pass<double> plain = Runs.Once(id, shape, settings, x, dy, 3);
        Pass<double> permuted = Runs.Once(id, shape, settings, Runs.Samples(shape, x, order), Runs.Samples(shape, dy, order), 3);
        NumericAssert.NearLargest<double>(Runs.Samples(shape, plain.Output, order), permuted.Output, 1e-12, $"{id}: output");
        NumericAssert.NearLargest<double>(Runs.Samples(shape, plain.InputGradient, order), permuted.InputGradient, 1e-11, $"{id}: input gradient");
        foreach ((string name, double[] gradient) in plain.Gradients)
        {
            NumericAssert.NearLargest<double>(gradient, permuted.Gradients[name], 1e-11, $"{id}: gradient of {name}");
        }

        foreach (StateBuffer<double> buffer in plain.Normalizer.Buffers.Where(b => !b.IsCounter))
        {
            NumericAssert.NearLargest<double>(buffer.Values, Runs.Buffer(permuted.Normalizer, buffer.Name), 1e-12, $"{id}: {buffer.Name}");
        }
    }

    [TestMethod]
    public void Forward_SamplesPermutedAcrossGhosts_ChangesTheOutput()
    {
        var shape = new ActivationShape(6, 4, 3);
        double[] x = TestData.Activations(1, shape);
        int[] order = [3, 1, 2, 0, 4, 5];
        double[] plain = Runs.Forward(Runs.Create<double>(TestData.GhostBatchNorm, shape, Plain), shape, x);
        double[] permuted = Runs.Forward(Runs.Create<double>(TestData.GhostBatchNorm, shape, Plain), shape, Runs.Samples(shape, x, order));
        NumericAssert.Differs<double>(Runs.Samples(shape, plain, order), permuted, 1e-2, "across ghosts");
    }

    [TestMethod]
    public void Forward_ChannelsPermutedInsideAGroup_PermutesAndAcrossGroupsDoesNot()
    {
        var shape = new ActivationShape(3, 6, 5);
        double[] x = TestData.Activations(1, shape);
        double[] y = Runs.Forward(Runs.Create<double>(TestData.GroupNorm, shape, Plain), shape, x);
        int[] inside = [2, 0, 1, 4, 3, 5];
        double[] permuted = Runs.Forward(Runs.Create<double>(TestData.GroupNorm, shape, Plain), shape, Runs.Channels(shape, x, inside));
        NumericAssert.NearLargest<double>(Runs.Channels(shape, y, inside), permuted, 1e-12, "inside");
        int[] across = [3, 1, 2, 0, 4, 5];
        permuted = Runs.Forward(Runs.Create<double>(TestData.GroupNorm, shape, Plain), shape, Runs.Channels(shape, x, across));
        NumericAssert.Differs<double>(Runs.Channels(shape, y, across), permuted, 1e-2, "across");
    }

    // ---------------------------------------------------------------- equivalences

    [TestMethod]
    [DataRow(Layout.ChannelsFirst)]
    [DataRow(Layout.ChannelsLast)]
    public void GroupNorm_AsManyGroupsAsChannels_IsInstanceNormToTheBit(Layout layout)
    {
        var shape = new ActivationShape(3, 5, 7, 2);
        AssertSamePass(
            Placed(TestData.GroupNorm, shape, Plain with { Groups = 5 }, layout), Placed(TestData.InstanceNorm, shape, Plain, layout));
    }

    [TestMethod]
    public void GroupNorm_OneGroup_IsLayerNormBeforeWeightAndBias()
    {
        var shape = new ActivationShape(3, 5, 7, 2);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = Plain with { Groups = 1, Weight = false, Bias = false };
        Runs.AssertNear(Runs.Once(TestData.LayerNorm, shape, settings, x, dy), Runs.Once(TestData.GroupNorm, shape, settings, x, dy), 1e-12, "GN(1), LN");
    }

    [TestMethod]
    public void GroupNorm_OneGroup_IsNotLayerNormOverTheLastAxis()
    {
        var shape = new ActivationShape(3, 4, 7);
        double[] x = TestData.Activations(1, shape);
        StrategySettings settings = Plain with { Groups = 1, Weight = false, Bias = false };
        NumericAssert.Differs<double>(
            Runs.Forward(Runs.Create<double>(TestData.LayerNorm, shape, settings with { NormalizedDimensions = 1 }), shape, x),
            Runs.Forward(Runs.Create<double>(TestData.GroupNorm, shape, settings), shape, x), 1e-2, "LN over the last axis, GN(1)");
    }

    [TestMethod]
    [DataRow(GhostGrouping.Contiguous, GhostRunning.Averaged)]
    [DataRow(GhostGrouping.Strided, GhostRunning.Averaged)]
    [DataRow(GhostGrouping.Contiguous, GhostRunning.Sequential)]
    public void GhostBatchNorm_OneGhost_IsBatchNorm(GhostGrouping grouping, GhostRunning running)
    {
        var shape = new ActivationShape(5, 3, 7);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = Plain with { GhostSize = 5, GhostGrouping = grouping, GhostRunning = running };
        Pass<double> batch = Runs.Once(TestData.BatchNorm, shape, settings, x, dy, 3);
        Pass<double> ghost = Runs.Once(TestData.GhostBatchNorm, shape, settings, x, dy, 3);
        Runs.AssertNear(batch, ghost, 1e-12, "GBN(N), BN");
        foreach (StateBuffer<double> buffer in batch.Normalizer.Buffers)
        {
            StateBuffer<double> other = ghost.Normalizer.Buffers.Single(b => b.Name == buffer.Name);
            Assert.AreEqual(buffer.Count, other.Count, buffer.Name);
            NumericAssert.NearLargest<double>(buffer.Values, other.Values, 1e-12, buffer.Name);
        }
    }

    [TestMethod]
    public void GhostBatchNorm_GhostsOfOneSample_IsInstanceNorm()
    {
        var shape = new ActivationShape(5, 3, 7);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        StrategySettings settings = Plain with { GhostSize = 1, RunningStatistics = true };
        Pass<double> instance = Runs.Once(TestData.InstanceNorm, shape, settings, x, dy, 3);
        Pass<double> ghost = Runs.Once(TestData.GhostBatchNorm, shape, settings, x, dy, 3);
        Runs.AssertNear(instance, ghost, 1e-12, "GBN(1), IN");
        NumericAssert.NearLargest<double>(Runs.Buffer(instance.Normalizer, "running_var"), Runs.Buffer(ghost.Normalizer, "running_var"), 1e-12, "running_var");
    }

    [TestMethod]
    public void GhostBatchNorm_Sequential_ObeysTheClosedForm()
    {
        var shape = new ActivationShape(9, 2, 5);
        double[] x = TestData.Activations(1, shape);
        StrategySettings settings = Plain with { GhostRunning = GhostRunning.Sequential, Momentum = 0.3 };
        INormalizer<double> ghost = Runs.Create<double>(TestData.GhostBatchNorm, shape, settings);
        Runs.Forward(ghost, shape, x);
        var expected = new double[2];
        for (int k = 0; k < 3; k++)
        {
            for (int c = 0; c < 2; c++)
            {
                double mean = Enumerable.Range(0, x.Length).Where(i => i / 10 / 3 == k && i / 5 % 2 == c).Average(i => x[i]);
                expected[c] += 0.3 * Math.Pow(0.7, 2 - k) * mean;
            }
        }

        NumericAssert.NearLargest<double>(expected, Runs.Buffer(ghost, "running_mean"), 1e-13, "running_mean");
        Assert.AreEqual(3, ghost.Buffers.Single(b => b.IsCounter).Count);
    }

    [TestMethod]
    public void ZcaWhitening_GroupsOfOneChannel_IsBatchNorm()
    {
        var shape = new ActivationShape(5, 3, 7);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        Pass<double> batch = Runs.Once(TestData.BatchNorm, shape, Plain, x, dy, 3);
        Pass<double> whitening = Runs.Once(TestData.ZcaWhitening, shape, Plain with { GroupSize = 1 }, x, dy, 3);
        Runs.AssertNear(batch, whitening, 1e-11, "ZCA(1), BN");
        NumericAssert.NearLargest<double>(
            Runs.Buffer(batch.Normalizer, "running_var"), Runs.Buffer(whitening.Normalizer, "running_covariance"), 1e-12, "running statistics");
    }

    [TestMethod]
    public void ZcaWhitening_DiagonalCovariance_IsBatchNormGoingForward()
    {
        var shape = new ActivationShape(8, 4);
        double[] x = Hadamard(8);
        for (int i = 0; i < x.Length; i++)
        {
            x[i] = x[i] * (1 + i % 4) + i % 4;
        }

        NumericAssert.NearLargest<double>(
            Runs.Forward(Runs.Create<double>(TestData.BatchNorm, shape, Plain, 1), shape, x),
            Runs.Forward(Runs.Create<double>(TestData.ZcaWhitening, shape, Plain, 1), shape, x), 1e-12, "diagonal covariance");
    }

    [TestMethod]
    public void BatchNorm_WeightSigmaAndBiasMean_GivesTheInputBack()
    {
        var shape = new ActivationShape(5, 3, 7);
        double[] x = TestData.Activations(1, shape);
        INormalizer<double> normalizer = Runs.Create<double>(TestData.BatchNorm, shape, Plain with { RunningVariance = RunningVariance.Population, Momentum = 1 });
        Runs.Forward(normalizer, shape, x);
        for (int c = 0; c < 3; c++)
        {
            normalizer.Parameters.Single(p => p.Name == "weight").Values[c] = Math.Sqrt(Runs.Buffer(normalizer, "running_var")[c] + 1e-5);
            normalizer.Parameters.Single(p => p.Name == "bias").Values[c] = Runs.Buffer(normalizer, "running_mean")[c];
        }

        NumericAssert.NearLargest<double>(x, Runs.Forward(normalizer, shape, x), 1e-12, "identity");
    }

    // An oracle without sets stands for a strategy that names none. Whitening's are single channels, though it mixes those of a group.
    [TestMethod]
    [DynamicData(nameof(UnmixedIds))]
    public void ReductionSetOf_EveryElement_GroupsThemAsTheOracleDoes(string id)
    {
        var shape = new ActivationShape(7, 6, 3, 5);
        StrategyCase one = StrategyCases.Of(id);
        foreach (StrategySettings settings in one.Configurations(shape))
        {
            INormalizer<float> normalizer = StrategyCatalog.Create<float>(id, shape, settings);
            // With its nonlinearity the output of a set has no statistics of its own.
            bool named = id != "evonorm-s0" || !settings.Nonlinearity;
            if (!named || one.CreateOracle(shape, settings).SetOfElements(shape) is not { } expected)
            {
                Assert.AreEqual(-1, normalizer.ReductionSetOf(shape, 0, 0, 0), $"{id} {settings}");
                continue;
            }

            var numbers = new Dictionary<int, long>();
            for (int i = 0; i < expected.Length; i++)
            {
                long number = normalizer.ReductionSetOf(shape, i / 90, i / 15 % 6, i % 15);
                Assert.IsGreaterThanOrEqualTo(0, number);
                if (!numbers.TryAdd(expected[i], number))
                {
                    Assert.AreEqual(numbers[expected[i]], number, $"{id} [{i}] {settings}");
                }
            }

            Assert.HasCount(numbers.Count, numbers.Values.Distinct(), $"{id} {settings}");
        }
    }

    // ---------------------------------------------------------------- whitening

    [TestMethod]
    [DataRow(1.0, 1e-12)]
    [DataRow(1e2, 1e-12)]
    [DataRow(1e4, 1e-11)]
    [DataRow(1e8, 1e-7)]
    public void ZcaWhitening_Covariance_IsWhiteButForEpsilon(double condition, double tolerance)
    {
        var shape = new ActivationShape(40, 6, 5);
        double[] x = TestData.Normal(1, shape.Count);
        for (int i = 0; i < x.Length; i++)
        {
            x[i] *= Math.Pow(condition, -0.5 * (i / 5 % 6) / 5.0);
        }

        x = Rotate(shape, x, Orthogonal(3, 6));
        const double Epsilon = 1e-9;
        double[] y = Runs.Forward(Runs.Create<double>(TestData.ZcaWhitening, shape, Plain with { Epsilon = Epsilon }), shape, x);
        double[,] covariance = Covariance(Centred(Columns(shape, x)));
        double[,] regularized = (double[,])covariance.Clone();
        for (int c = 0; c < 6; c++)
        {
            regularized[c, c] += Epsilon;
        }

        double[,] product = NaiveNormalizer.Product(Covariance(Columns(shape, y)), regularized);
        NumericAssert.NearLargest<double>([.. covariance.Cast<double>()], [.. product.Cast<double>()], tolerance, "cov(Y) (Sigma + epsilon I) = Sigma");
        double[,] centred = Columns(shape, y);
        for (int c = 0; c < 6; c++)
        {
            NumericAssert.Near(0, Enumerable.Range(0, 200).Sum(j => centred[c, j]), 1, 1e-9, $"sum of channel {c}");
        }
    }

    [TestMethod]
    public void Forward_RotatedChannels_RotatesWhiteningAndNotBatchNorm()
    {
        var shape = new ActivationShape(7, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] dy = TestData.Normal(2, shape.Count);
        double[,] q = Orthogonal(3, 4);
        StrategySettings settings = Plain with { Weight = false, Bias = false, Epsilon = 0.1, Shrinkage = 0.2 };
        foreach (string id in new[] { TestData.ZcaWhitening, TestData.BatchNorm })
        {
            Pass<double> plain = Runs.Once(id, shape, settings, x, dy);
            Pass<double> rotated = Runs.Once(id, shape, settings, Rotate(shape, x, q), Rotate(shape, dy, q));
            if (id == TestData.ZcaWhitening)
            {
                NumericAssert.NearLargest<double>(Rotate(shape, plain.Output, q), rotated.Output, 1e-11, "output");
                NumericAssert.NearLargest<double>(Rotate(shape, plain.InputGradient, q), rotated.InputGradient, 1e-11, "input gradient");
            }
            else
            {
                NumericAssert.Differs<double>(Rotate(shape, plain.Output, q), rotated.Output, 1e-2, "batch-norm");
            }
        }
    }

    [TestMethod]
    public void ZcaWhitening_AmongAllWhitenings_IsTheClosestToTheInput()
    {
        var shape = new ActivationShape(11, 4, 5);
        double[] x = TestData.Activations(1, shape);
        double[] y = Runs.Forward(Runs.Create<double>(TestData.ZcaWhitening, shape, Plain), shape, x);
        double[,] centred = Centred(Columns(shape, x));
        double own = Distance(y);
        for (int seed = 0; seed < 30; seed++)
        {
            Assert.IsGreaterThan(own, Distance(Rotate(shape, y, Orthogonal(seed, 4))), $"rotation {seed}");
        }

        double Distance(double[] values)
        {
            double[,] columns = Columns(shape, values);
            return centred.Cast<double>().Zip(columns.Cast<double>(), (a, b) => (a - b) * (a - b)).Sum();
        }
    }

    [TestMethod]
    public void ZcaWhitening_FewerValuesThanChannels_MapsEveryBatchToTheSimplex()
    {
        var shape = new ActivationShape(4, 9);
        double[] x = TestData.Normal(1, shape.Count);
        double[] y = Runs.Forward(Runs.Create<double>(TestData.ZcaWhitening, shape, Plain with { Epsilon = 1e-9 }), shape, x);
        double[,] columns = Columns(shape, y);
        double[,] gram = NaiveNormalizer.Product(NaiveNormalizer.Transposed(columns), columns);
        double[] expected = [.. Enumerable.Range(0, 16).Select(i => i / 4 == i % 4 ? 3.0 : -1.0)];
        NumericAssert.NearLargest<double>(expected, [.. gram.Cast<double>()], 1e-6, "Y'Y = M (I - 11'/M)");
    }

    [TestMethod]
    public void ZcaWhitening_DuplicatedAndConstantChannels_StayFinite()
    {
        var shape = new ActivationShape(6, 5, 4);
        float[] x = TestData.As<float>(TestData.Normal(1, shape.Count));
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / 4 % 5;
            x[i] = c == 1 ? x[i - 4] : c == 3 ? 0.7f : x[i];
        }

        Pass<float> pass = Runs.Once(Runs.Create<float>(TestData.ZcaWhitening, shape, Plain, 1), shape, x, TestData.As<float>(TestData.Normal(2, shape.Count)));
        NumericAssert.Finite<float>(pass.Output, "output");
        NumericAssert.Finite<float>(pass.InputGradient, "input gradient");
        NumericAssert.Finite<float>(pass.WeightGradient, "weight gradient");
    }

    // ---------------------------------------------------------------- inference

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.GhostBatchNorm)]
    [DataRow(TestData.InstanceNorm)]
    public void Inference_AfterOneStepOfMomentumOne_UsesMeanAndSampleVariance(string id)
    {
        var shape = new ActivationShape(6, 3, 5);
        double[] x = TestData.Activations(1, shape);
        INormalizer<double> normalizer = Runs.Create<double>(
            id, shape, Plain with { Momentum = 1, GhostSize = 6, RunningStatistics = true, Weight = false, Bias = false });
        Runs.Forward(normalizer, shape, x);
        normalizer.Training = false;
        double[] y = Runs.Forward(normalizer, shape, x);
        var expected = new double[x.Length];
        for (int c = 0; c < 3; c++)
        {
            int[] members = [.. Enumerable.Range(0, x.Length).Where(i => i / 5 % 3 == c)];
            double mean = members.Average(i => x[i]);
            double variance = id == TestData.InstanceNorm
                ? members.GroupBy(i => i / 15).Average(g => g.Sum(i => Math.Pow(x[i] - g.Average(j => x[j]), 2)) / 4)
                : members.Sum(i => Math.Pow(x[i] - mean, 2)) / 29;
            foreach (int i in members)
            {
                expected[i] = (x[i] - mean) / Math.Sqrt(variance + 1e-5);
            }
        }

        NumericAssert.NearLargest<double>(expected, y, 1e-12, id);
        var before = Runs.State(normalizer);
        NumericAssert.SameBits<double>(y, Runs.Forward(normalizer, shape, x), "the same again");
        Runs.AssertState(before, normalizer, "inference");
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void Inference_BatchSplitAndDuplicated_GivesEverySampleTheSameBits(string id)
    {
        var shape = new ActivationShape(6, 4, 3, 5);
        foreach (Layout layout in new[] { Layout.ChannelsFirst, Layout.ChannelsLast })
        {
            INormalizer<float> normalizer = Runs.Create<float>(id, shape, StrategyCases.Of(id).Adapt(Plain with { RunningStatistics = true }, shape), 1);
            Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(2, shape)));
            normalizer.Training = false;
            double[] x = TestData.Activations(3, shape);
            float[] whole = In(shape, x);
            int[][] batches = [[0], [5, 0], [3, 3, 3], [1, 2, 3, 4], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 4, 4, 4, 4, 4]];
            foreach (int[] batch in batches)
            {
                float[] part = In(shape.WithSamples(batch.Length), Runs.Samples(shape, x, batch));
                NumericAssert.SameBits<float>(Runs.Samples(shape, whole, batch), part, $"{id} {layout}: samples {string.Join(' ', batch)}");
            }

            float[] In(ActivationShape of, double[] values)
            {
                var output = new PlacedTensor<float>(of, layout);
                normalizer.Forward(new PlacedTensor<float>(of, layout, values).ReadOnly, output.Span);
                return output.Read();
            }
        }
    }

    [TestMethod]
    [DynamicData(nameof(AllIds))]
    public void State_TrainInferTrain_AndCopiedToAFreshInstance_GoesOnToTheBit(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        StrategySettings settings = StrategyCases.Of(id).Adapt(Plain with { RunningStatistics = true, Momentum = null }, shape);
        INormalizer<float> straight = Runs.Create<float>(id, shape, settings, 1);
        INormalizer<float> detour = Runs.Create<float>(id, shape, settings, 1);
        float[] first = TestData.As<float>(TestData.Activations(2, shape));
        float[] second = TestData.As<float>(TestData.Activations(3, shape));
        float[] dy = TestData.As<float>(TestData.Normal(4, shape.Count));
        Runs.Once(straight, shape, first, dy);
        Runs.Once(detour, shape, first, dy);
        detour.Training = false;
        var state = Runs.State(detour);
        Runs.Once(detour, shape, second, dy);
        Runs.AssertState(state, detour, "inference");
        detour.Training = true;

        INormalizer<float> copy = Runs.Create<float>(id, shape, settings, 1);
        foreach (StateBuffer<float> buffer in copy.Buffers)
        {
            (buffer.Count, float[] values) = state[buffer.Name];
            values.CopyTo(buffer.Values, 0);
        }

        copy.OnStateChanged();
        Pass<float> expected = Runs.Once(straight, shape, second, dy);
        Runs.AssertSame(expected, Runs.Once(detour, shape, second, dy), "after inference");
        Runs.AssertSame(expected, Runs.Once(copy, shape, second, dy), "copied");
        Runs.AssertState(Runs.State(straight), detour, "after inference");
        Runs.AssertState(Runs.State(straight), copy, "copied");
        straight.Training = false;
        copy.Training = false;
        Runs.AssertSame(Runs.Once(straight, shape, first, dy), Runs.Once(copy, shape, first, dy), "copied, inference");
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void OnStateChanged_BuffersWrittenDuringInference_TheNewOnesNormalize(string id)
    {
        var shape = new ActivationShape(6, 4, 5);
        double[] x = TestData.Activations(1, shape);
        INormalizer<double> normalizer = Runs.Create<double>(id, shape, Plain);
        normalizer.Training = false;
        double[] before = Runs.Forward(normalizer, shape, x);
        StateBuffer<double> second = normalizer.Buffers.Single(b => b.Name is "running_var" or "running_covariance");
        for (int i = 0; i < second.Values.Length; i++)
        {
            second.Values[i] *= 4;
        }

        normalizer.OnStateChanged();
        double[] after = Runs.Forward(normalizer, shape, x);
        double factor = Math.Sqrt((1 + 1e-5) / (4 + 1e-5));
        NumericAssert.NearLargest<double>(Array.ConvertAll(before, value => value * factor), after, 1e-12, id);
    }

    [TestMethod]
    [DataRow(TestData.BatchNorm)]
    [DataRow(TestData.ZcaWhitening)]
    public void Inference_FoldedIntoThePrecedingLinearLayer_GivesTheSameOutput(string id)
    {
        const int Samples = 9;
        const int Inputs = 5;
        var shape = new ActivationShape(Samples, 4);
        double[] u = TestData.Normal(1, Samples * Inputs);
        double[] w = TestData.Normal(2, 4 * Inputs);
        double[] b = TestData.Normal(3, 4);
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, Plain, 4);
        for (int step = 0; step < 3; step++)
        {
            Runs.Forward(normalizer, shape, TestData.As<float>(TestData.Activations(5 + step, shape)));
        }

        normalizer.Training = false;
        float[] y = Runs.Forward(normalizer, shape, TestData.As<float>(Linear(w, b)));

        // diag(weight) W_inference, which for BatchNorm is diagonal itself.
        double[] mean = TestData.AsDouble(Runs.Buffer(normalizer, "running_mean"));
        double[] second = TestData.AsDouble(Runs.Buffer(normalizer, id == TestData.BatchNorm ? "running_var" : "running_covariance"));
        var regularized = new double[4, 4];
        for (int c = 0; c < 4; c++)
        {
            for (int k = 0; k < 4; k++)
            {
                regularized[c, k] = id == TestData.BatchNorm ? (c == k ? second[c] : 0) : second[c * 4 + k];
            }

            regularized[c, c] += 1e-5;
        }

        double[,] inference = NaiveNormalizer.InverseRoot(regularized).Inverse;
        float[] weight = normalizer.Parameters.Single(p => p.Name == "weight").Values;
        float[] bias = normalizer.Parameters.Single(p => p.Name == "bias").Values;
        var foldedWeight = new double[w.Length];
        double[] foldedBias = TestData.AsDouble(bias);
        for (int c = 0; c < 4; c++)
        {
            for (int k = 0; k < 4; k++)
            {
                double factor = weight[c] * inference[c, k];
                foldedBias[c] += factor * (b[k] - mean[k]);
                for (int i = 0; i < Inputs; i++)
                {
                    foldedWeight[c * Inputs + i] += factor * w[k * Inputs + i];
                }
            }
        }

        NumericAssert.NearLargest<float>(Linear(foldedWeight, foldedBias), y, 1e-6, id);

        double[] Linear(double[] matrix, double[] offset)
        {
            var z = new double[Samples * 4];
            for (int i = 0; i < z.Length; i++)
            {
                z[i] = offset[i % 4];
                for (int k = 0; k < Inputs; k++)
                {
                    z[i] += matrix[i % 4 * Inputs + k] * u[i / 4 * Inputs + k];
                }
            }

            return z;
        }
    }

    // ---------------------------------------------------------------- numerics

    [TestMethod]
    [DynamicData(nameof(BasicIds))]
    public void Forward_FloatWithLargeMean_HasMeanZeroAndVarianceOne(string id)
    {
        var shape = new ActivationShape(6, 4, 16, 16);
        StrategySettings settings = Plain with { Weight = false, Bias = false };
        foreach (double mean in new[] { 0, 1e2, 1e4, 1e5, 1e6 })
        {
            float[] x = TestData.As<float>(TestData.Normal(1, shape.Count, mean));
            float[] y = Runs.Forward(Runs.Create<float>(id, shape, settings), shape, x);
            int[] set = id == TestData.ZcaWhitening
                ? new NaiveNormalizer(TestData.BatchNorm, shape, settings).SetOfElements(shape)
                : new NaiveNormalizer(id, shape, settings).SetOfElements(shape);
            foreach (IGrouping<int, int> members in Enumerable.Range(0, x.Length).GroupBy(i => set[i]))
            {
                double average = members.Average(i => (double)y[i]);
                double square = members.Average(i => (y[i] - average) * (y[i] - average));
                double center = members.Average(i => (double)x[i]);
                double variance = members.Average(i => (x[i] - center) * (x[i] - center));
                NumericAssert.Near(0, average, 1, 1e-6, $"{id}, mean {mean}: mean of set {members.Key}");
                NumericAssert.Near(
                    id == TestData.ZcaWhitening ? 1 : variance / (variance + 1e-5), square, 1,
                    id == TestData.ZcaWhitening ? 2e-5 : 1e-6, $"{id}, mean {mean}: variance of set {members.Key}");
            }
        }
    }

    // ---------------------------------------------------------------- helpers

    // (samples, 4): columns 1 to 4 of a Hadamard matrix, orthogonal to each other and to the ones.
    private static double[] Hadamard(int samples)
    {
        var x = new double[samples * 4];
        for (int n = 0; n < samples; n++)
        {
            for (int c = 0; c < 4; c++)
            {
                x[n * 4 + c] = int.IsOddInteger(System.Numerics.BitOperations.PopCount((uint)(n & (c + 1)))) ? -1 : 1;
            }
        }

        return x;
    }

    /// <summary>A random orthogonal matrix by Gram-Schmidt, twice over.</summary>
    private static double[,] Orthogonal(int seed, int size)
    {
        double[] random = TestData.Normal(seed + 700, size * size);
        var q = new double[size, size];
        for (int i = 0; i < size; i++)
        {
            double[] row = random[(i * size)..((i + 1) * size)];
            for (int pass = 0; pass < 2; pass++)
            {
                for (int k = 0; k < i; k++)
                {
                    double dot = Enumerable.Range(0, size).Sum(j => row[j] * q[k, j]);
                    row = [.. row.Select((value, j) => value - dot * q[k, j])];
                }
            }

            double norm = Math.Sqrt(row.Sum(value => value * value));
            for (int j = 0; j < size; j++)
            {
                q[i, j] = row[j] / norm;
            }
        }

        return q;
    }

    private static double[] Rotate(ActivationShape shape, double[] x, double[,] q)
    {
        int spatial = (int)shape.SpatialSize;
        int channels = shape.Channels;
        var result = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int c = i / spatial % channels;
            for (int k = 0; k < channels; k++)
            {
                result[i] += q[c, k] * x[i + (k - c) * spatial];
            }
        }

        return result;
    }

    private static double[,] Columns(ActivationShape shape, double[] x)
    {
        int spatial = (int)shape.SpatialSize;
        var columns = new double[shape.Channels, (int)shape.Samples * spatial];
        for (int i = 0; i < x.Length; i++)
        {
            columns[i / spatial % shape.Channels, i / spatial / shape.Channels * spatial + i % spatial] = x[i];
        }

        return columns;
    }

    private static double[,] Centred(double[,] columns)
    {
        var centred = (double[,])columns.Clone();
        int count = columns.GetLength(1);
        for (int c = 0; c < columns.GetLength(0); c++)
        {
            double mean = Enumerable.Range(0, count).Average(j => columns[c, j]);
            for (int j = 0; j < count; j++)
            {
                centred[c, j] -= mean;
            }
        }

        return centred;
    }

    private static double[,] Covariance(double[,] centred)
    {
        double[,] product = NaiveNormalizer.Product(centred, NaiveNormalizer.Transposed(centred));
        for (int i = 0; i < product.GetLength(0); i++)
        {
            for (int j = 0; j < product.GetLength(1); j++)
            {
                product[i, j] /= centred.GetLength(1);
            }
        }

        return product;
    }

    private static (float[] Output, float[] InputGradient, float[] WeightGradient) Placed(
        string id, ActivationShape shape, StrategySettings settings, Layout layout)
    {
        INormalizer<float> normalizer = Runs.Create<float>(id, shape, settings, 3);
        var input = new PlacedTensor<float>(shape, layout, TestData.Activations(1, shape));
        var outputGradient = new PlacedTensor<float>(shape, layout, TestData.Normal(2, shape.Count));
        var output = new PlacedTensor<float>(shape, layout);
        var inputGradient = new PlacedTensor<float>(shape, layout);
        normalizer.Forward(input.ReadOnly, output.Span);
        normalizer.Backward(input.ReadOnly, outputGradient.ReadOnly, inputGradient.Span);
        return (output.Read(), inputGradient.Read(), normalizer.Parameters.Single(p => p.Name == "weight").Gradient);
    }

    private static void AssertSamePass(
        (float[] Output, float[] InputGradient, float[] WeightGradient) expected, (float[] Output, float[] InputGradient, float[] WeightGradient) actual)
    {
        NumericAssert.SameBits<float>(expected.Output, actual.Output, "output");
        NumericAssert.SameBits<float>(expected.InputGradient, actual.InputGradient, "input gradient");
        NumericAssert.SameBits<float>(expected.WeightGradient, actual.WeightGradient, "weight gradient");
    }
}
