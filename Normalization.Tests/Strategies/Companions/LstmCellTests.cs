using System.Globalization;
using System.Numerics;
using System.Text.Json;
using Normalization.Core;
using Normalization.Strategies.Companions;
using Normalization.Tests.Golden;
using Normalization.Tests.Oracles;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies.Companions;

[TestClass]
public sealed class LstmCellTests
{
    private static readonly LstmGolden[] Goldens = CompanionGolden<LstmGolden>.Of("lstm").Cases;

    public static IEnumerable<object[]> Cases => Goldens.Select(golden => (object[])[golden.Id]);

    public static IEnumerable<object[]> Kinds => [[LstmNormalization.None], [LstmNormalization.Layer], [LstmNormalization.Batch]];

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Oracle_GoldenCase_MatchesTorch(string id)
    {
        LstmGolden golden = Goldens.Single(golden => golden.Id == id);
        LstmOracle oracle = OracleOf(golden);
        bool[][] mask = MaskOf(golden);
        double[][] zeros = Rows(new double[golden.Samples * golden.Hidden], golden.Hidden);
        foreach (double[] batch in golden.Warmup)
        {
            oracle.Forward(Cube(batch, golden.Samples, golden.Inputs), mask, zeros, zeros, 0);
        }

        oracle.Training = golden.Training;
        oracle.Frozen = golden.Frozen;
        double[][] h = golden.InitialState is null ? zeros : Rows(golden.InitialState[0], golden.Hidden);
        double[][] c = golden.InitialState is null ? zeros : Rows(golden.InitialState[1], golden.Hidden);
        double[][][] output = oracle.Forward(Cube(golden.Input, golden.Samples, golden.Inputs), mask, h, c, golden.FirstStep);
        Near(golden.Output, Flat(output), "output");
        Near(golden.FinalState[0], Flat(oracle.H), "h");
        Near(golden.FinalState[1], Flat(oracle.C), "c");
        foreach ((string name, JsonElement expected) in golden.Buffers)
        {
            string[] parts = name.Split('.');
            (double[] mean, double[] variance, int count) = oracle.Population[(parts[0], int.Parse(parts[1], CultureInfo.InvariantCulture))];
            if (parts[2] == "num_batches_tracked")
            {
                Assert.AreEqual(expected.GetInt32(), count, name);
            }
            else
            {
                Near(expected.Deserialize<double[]>()!, parts[2] == "running_mean" ? mean : variance, name);
            }
        }

        if (golden.OutputGradient is null)
        {
            return;
        }

        double[][] dh = golden.FinalStateGradient is null ? zeros : Rows(golden.FinalStateGradient[0], golden.Hidden);
        double[][] dc = golden.FinalStateGradient is null ? zeros : Rows(golden.FinalStateGradient[1], golden.Hidden);
        double[][][] dx = oracle.Backward(Cube(golden.OutputGradient, golden.Samples, golden.Hidden), dh, dc);
        Near(golden.InputGradient!, Flat(dx), "input gradient");
        Near(golden.InitialStateGradient![0], Flat(oracle.H), "gradient of h");
        Near(golden.InitialStateGradient[1], Flat(oracle.C), "gradient of c");
        foreach ((string name, double[] expected) in golden.ParameterGradients!)
        {
            Near(expected, oracle.Gradients[name], name);
        }
    }

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Cell_GoldenCaseInDouble_MatchesTorch(string id) => CheckGolden<double>(Goldens.Single(golden => golden.Id == id), 1e-11);

    [TestMethod]
    [DynamicData(nameof(Cases))]
    public void Cell_GoldenCaseInFloat_MatchesTorch(string id) => CheckGolden<float>(Goldens.Single(golden => golden.Id == id), 1e-6);

    [TestMethod]
    [DynamicData(nameof(Kinds))]
    public void Cell_SizesBeyondABlock_MatchesTheOracle(LstmNormalization kind)
    {
        // Sizes coprime to the vectors' and blocks': T = 5, N = 11, D = 37, H = 19.
        const int T = 5, N = 11, D = 37, H = 19;
        LstmCell<double> cell = Randomized<double>(kind, D, H, T);
        LstmOracle oracle = OracleOf(cell, kind, T);
        bool[] mask = LstmCell<double>.Mask(T, 5, 4, 3, 5, 5, 2, 4, 5, 3, 1, 0);
        double[] x = TestData.Normal(1, T * N * D);
        double[] g = TestData.Normal(2, T * N * H);
        var state = new LstmState<double>(N, H);
        TestData.Normal(3, N * H).CopyTo(state.Hidden, 0);
        TestData.Normal(4, N * H).CopyTo(state.Cell, 0);
        double[][] h = Rows(state.Hidden, H);
        double[][] c = Rows(state.Cell, H);
        var stateGradient = new LstmState<double>(N, H);
        TestData.Normal(5, N * H).CopyTo(stateGradient.Hidden, 0);
        double[][] dh = Rows(stateGradient.Hidden, H);
        double[][] dc = Rows(stateGradient.Cell, H);
        var y = new double[g.Length];
        var dx = new double[x.Length];

        cell.Forward(T, N, x, y, mask, state);
        cell.Backward(g, dx, stateGradient);

        bool[][] masks = [.. mask.Chunk(N)];
        double[][][] expected = oracle.Forward(Cube(x, N, D), masks, h, c, 0);
        Near(Flat(expected), y, "output");
        Near(Flat(oracle.H), state.Hidden, "h");
        Near(Flat(oracle.C), state.Cell, "c");
        double[][][] expectedGradient = oracle.Backward(Cube(g, N, H), dh, dc);
        Near(Flat(expectedGradient), dx, "input gradient");
        Near(Flat(oracle.H), stateGradient.Hidden, "gradient of h");
        Near(Flat(oracle.C), stateGradient.Cell, "gradient of c");
        foreach (Parameter<double> parameter in cell.Parameters)
        {
            Near(oracle.Gradients[parameter.Name], parameter.Gradient, parameter.Name);
        }
    }

    [TestMethod]
    [DynamicData(nameof(Kinds))]
    public void Backward_FiniteDifferences_AgreeTo1e8(LstmNormalization kind)
    {
        const int T = 4, N = 5, D = 3, H = 3;
        LstmCell<double> cell = Randomized<double>(kind, D, H, T);
        bool[] mask = LstmCell<double>.Mask(T, 4, 2, 4, 3, 4);
        double[] x = TestData.Normal(1, T * N * D);
        double[] g = TestData.Normal(2, T * N * H);
        double[] h = TestData.Normal(3, N * H, 0, 0.5);
        double[] c = TestData.Normal(4, N * H);
        double[] gh = TestData.Normal(5, N * H);
        double[] gc = TestData.Normal(6, N * H);

        Loss();
        var dx = new double[x.Length];
        var stateGradient = new LstmState<double>(N, H);
        gh.CopyTo(stateGradient.Hidden, 0);
        gc.CopyTo(stateGradient.Cell, 0);
        cell.Backward(g, dx, stateGradient);

        Check("input", x, dx);
        Check("h", h, stateGradient.Hidden);
        Check("c", c, stateGradient.Cell);
        foreach (Parameter<double> parameter in cell.Parameters)
        {
            Check(parameter.Name, parameter.Values, (double[])parameter.Gradient.Clone());
        }

        double Loss()
        {
            var state = new LstmState<double>(N, H);
            h.CopyTo(state.Hidden, 0);
            c.CopyTo(state.Cell, 0);
            var y = new double[g.Length];
            cell.Forward(T, N, x, y, mask, state);
            return Dot(g, y) + Dot(gh, state.Hidden) + Dot(gc, state.Cell);
        }

        void Check(string name, double[] point, double[] analytic)
        {
            const double Step = 1.0 / 8192;
            var numeric = new double[point.Length];
            for (int i = 0; i < point.Length; i++)
            {
                double value = point[i];
                double At(int steps)
                {
                    point[i] = value + (steps * Step);
                    return Loss();
                }

                numeric[i] = (At(-2) - (8 * At(-1)) + (8 * At(1)) - At(2)) / (12 * Step);
                point[i] = value;
            }

            NumericAssert.NearLargest<double>(numeric, analytic, 1e-8, $"{kind}, {name}");
        }
    }

    [TestMethod]
    public void Forward_BatchNormalizedInOnePieceOrTwo_StatisticsGoOnWithTheSteps()
    {
        const int T = 4, N = 6, D = 2, H = 3;
        double[] x = TestData.Normal(1, T * N * D);
        LstmCell<double> whole = Randomized<double>(LstmNormalization.Batch, D, H, T);
        LstmCell<double> pieces = Randomized<double>(LstmNormalization.Batch, D, H, T);
        var expected = new double[T * N * H];
        var actual = new double[T * N * H];
        var state = new LstmState<double>(N, H);

        whole.Forward(T, N, x, expected);
        pieces.Forward(1, N, x.AsSpan(0, N * D), actual.AsSpan(0, N * H), state: state);
        pieces.Forward(3, N, x.AsSpan(N * D), actual.AsSpan(N * H), state: state);

        Assert.AreEqual(4, state.Step);
        NumericAssert.SameBits<double>(expected, actual, "output");
        foreach ((string name, StateTensor tensor) in whole.GetState())
        {
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), pieces.GetState()[name].Bytes.ToArray(), name);
        }
    }

    [TestMethod]
    [DynamicData(nameof(Kinds))]
    public void Forward_MaskedSteps_KeepStateAndReadNothing(LstmNormalization kind)
    {
        const int T = 3, N = 4, D = 2, H = 3;
        LstmCell<double> cell = Randomized<double>(kind, D, H, T);
        LstmCell<double> alone = Randomized<double>(kind, D, H, T);
        double[] x = TestData.Normal(1, T * N * D);
        double[] y = new double[T * N * H];
        bool[] mask = LstmCell<double>.Mask(T, 3, 3, 3, 1);
        for (int t = 1; t < T; t++)
        {
            x.AsSpan(((t * N) + 3) * D, D).Fill(double.NaN);
        }

        cell.Forward(T, N, x, y, mask);

        NumericAssert.Finite<double>(y, "output");
        NumericAssert.SameBits<double>(y.AsSpan(3 * H, H), y.AsSpan(((2 * N) + 3) * H, H), "the ended sequence's h");

        // From the second step on the others are a batch of three.
        var state = new LstmState<double>(N, H);
        alone.Forward(1, N, x.AsSpan(0, N * D), new double[N * H], state: state);
        var three = new LstmState<double>(3, H) { Step = 1 };
        state.Hidden.AsSpan(0, 3 * H).CopyTo(three.Hidden);
        state.Cell.AsSpan(0, 3 * H).CopyTo(three.Cell);
        double[] rest = [.. Enumerable.Range(1, 2).SelectMany(t => x[(t * N * D)..(((t * N) + 3) * D)])];
        double[] expected = new double[2 * 3 * H];
        alone.Forward(2, 3, rest, expected, state: three);
        NumericAssert.SameBits<double>(expected.AsSpan(3 * H), y.AsSpan(2 * N * H, 3 * H), "the others");
        foreach ((string name, StateTensor tensor) in alone.GetState())
        {
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), cell.GetState()[name].Bytes.ToArray(), name);
        }
    }

    [TestMethod]
    public void Forward_OneSampleInAStep_ThrowsNamingTheStepAndLeavesStatistics()
    {
        LstmCell<double> cell = Randomized<double>(LstmNormalization.Batch, 2, 3, 4);
        StateDictionary before = cell.GetState();

        string message = Assert.ThrowsExactly<InvalidOperationException>(
            () => cell.Forward(4, 3, TestData.Normal(1, 24), new double[36], LstmCell<double>.Mask(4, 2, 4, 3))).Message;

        StringAssert.Contains(message, "step 3 has 1 of 3");
        StringAssert.Contains(message, "SingleValuePolicy.UseRunning");
        foreach ((string name, StateTensor tensor) in before)
        {
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), cell.GetState()[name].Bytes.ToArray(), name);
        }

        Assert.ThrowsExactly<InvalidOperationException>(() => cell.Backward(new double[36], new double[24]));
        cell.Training = false;
        cell.Forward(4, 1, TestData.Normal(1, 8), new double[12]);
    }

    // Steps 0 and 1 have updated their statistics by the time step 2 throws.
    [TestMethod]
    [DataRow(double.NaN, 1e-5, "NaN")]
    [DataRow(1e200, 1e-5, "cannot hold")]
    [DataRow(0.0, 0.0, "epsilon")]
    public void Forward_LaterStepThrows_LeavesStatisticsAndStateOfEveryStep(double value, double epsilon, string says)
    {
        var options = new LstmOptions { Normalization = LstmNormalization.Batch, MaximumSteps = 4, NonFinite = NonFinitePolicy.Throw, Epsilon = epsilon };
        var cell = new LstmCell<double>(2, 3, options);
        LstmState<double> state = new(3, 3);
        TestData.Normal(5, 9).CopyTo(state.Hidden, 0);
        cell.Forward(4, 3, TestData.Normal(1, 24), new double[36], state: state);
        state.Step = 0;
        double[] hidden = [.. state.Hidden];
        StateDictionary before = cell.GetState();
        double[] bad = TestData.Normal(2, 24);
        Array.Fill(bad, value, 12, value == 0 ? 6 : 1);

        string message = Assert.Throws<SystemException>(() => cell.Forward(4, 3, bad, new double[36], state: state)).Message;

        StringAssert.Contains(message, says);
        foreach ((string name, StateTensor tensor) in before)
        {
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), cell.GetState()[name].Bytes.ToArray(), name);
        }

        CollectionAssert.AreEqual(hidden, state.Hidden);
        Assert.AreEqual(0, state.Step);
        Assert.ThrowsExactly<InvalidOperationException>(() => cell.Backward(new double[36], new double[24]));
    }

    [TestMethod]
    public void Forward_OneSampleInAStepUsingRunning_IsAllowed()
    {
        var cell = new LstmCell<double>(2, 3, new() { Normalization = LstmNormalization.Batch, MaximumSteps = 3, SingleValue = SingleValuePolicy.UseRunning });
        double[] y = new double[18];

        cell.Forward(3, 2, TestData.Normal(1, 12), y, LstmCell<double>.Mask(3, 3, 1));
        cell.Backward(TestData.Normal(2, 18), new double[12]);

        NumericAssert.Finite<double>(y, "output");
        StateDictionary state = cell.GetState();
        Assert.AreEqual(1L, state["norm_hh.0.num_batches_tracked"].ToArray<long>()[0]);
        Assert.AreEqual(0L, state["norm_hh.1.num_batches_tracked"].ToArray<long>()[0]);
    }

    [TestMethod]
    public void Forward_TwoSamples_WarnsOnceAndPassesNoGradientThroughNormalization()
    {
        var heard = new List<string>();
        var cell = new LstmCell<double>(2, 3, new() { Normalization = LstmNormalization.Batch, MaximumSteps = 3, Epsilon = 1e-12 }) { WarningRaised = (_, message) => heard.Add(message) };
        double[] dx = new double[12];

        cell.Forward(3, 2, TestData.Normal(1, 12), new double[18]);
        cell.Backward(TestData.Normal(2, 18), dx);

        Assert.HasCount(1, heard);
        StringAssert.Contains(heard[0], "norm_ih, step 0: ");
        Assert.AreEqual(NormalizerWarnings.NoInputGradient, cell.Warnings);
        Assert.IsLessThan(1e-8, dx.Max(Math.Abs));
    }

    [TestMethod]
    public void Forward_LongerThanMaximumSteps_ThrowsInTrainingOnly()
    {
        LstmCell<double> cell = Randomized<double>(LstmNormalization.Batch, 2, 3, 2);

        StringAssert.Contains(
            Assert.ThrowsExactly<InvalidOperationException>(() => cell.Forward(3, 4, new double[24], new double[36])).Message, "reaches time step 3, but statistics are kept for 2");
        StringAssert.Contains(
            Assert.ThrowsExactly<InvalidOperationException>(
                () => cell.Forward(2, 4, new double[16], new double[24], state: new LstmState<double>(4, 3) { Step = 1 })).Message, "MaximumSteps");

        cell.Training = false;
        cell.Forward(3, 4, new double[24], new double[36]);
        LstmCell<double> layer = Randomized<double>(LstmNormalization.Layer, 2, 3, 2);
        layer.Forward(3, 4, new double[24], new double[36]);
    }

    [TestMethod]
    public void Forward_Inference_LeavesStateAndDoesNotMixSamples()
    {
        const int T = 3, N = 4, D = 2, H = 3;
        LstmCell<double> cell = Randomized<double>(LstmNormalization.Batch, D, H, T);
        double[] x = TestData.Normal(1, T * N * D);
        cell.Forward(T, N, x, new double[T * N * H]);
        cell.Training = false;
        StateDictionary before = cell.GetState();
        double[] y = new double[T * N * H];
        cell.Forward(T, N, x, y);
        double[] first = [.. Enumerable.Range(0, T).SelectMany(t => x[(t * N * D)..((t * N * D) + D)])];
        double[] alone = new double[T * H];
        cell.Forward(T, 1, first, alone);

        NumericAssert.SameBits<double>(alone.AsSpan(2 * H), y.AsSpan(2 * N * H, H), "the first sample");
        foreach ((string name, StateTensor tensor) in before)
        {
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), cell.GetState()[name].Bytes.ToArray(), name);
        }

        Assert.ThrowsExactly<InvalidOperationException>(() => cell.Backward(new double[T * H], new double[T * D]));
    }

    [TestMethod]
    public void Forward_InitialNoise_IsOfItsSizeAndOnlyInTraining()
    {
        const int N = 400, H = 2;
        LstmOptions options = new() { InitialNoise = 0.1 };
        var noisy = new LstmCell<double>(1, H, options);
        var quiet = new LstmCell<double>(1, H, options with { InitialNoise = 0 });
        foreach (LstmCell<double> cell in new[] { noisy, quiet })
        {
            // o = 1/2 and c stays, so that h does not pass through: only W_hh shows it.
            Array.Clear(cell.InputWeight.Values);
            Array.Clear(cell.Bias.Values);
            Array.Clear(cell.HiddenWeight.Values);
            cell.HiddenWeight.Values[(2 * H * H) + 0] = 1e-3; // g of unit 0 sees h of unit 0
        }

        double[] x = new double[N];
        double[] y = new double[N * H];
        noisy.Forward(1, N, x, y);
        double[] h = [.. Enumerable.Range(0, N).Select(n => y[n * H] / (1e-3 / 4))]; // c = g/2, h = tanh(c)/2
        Assert.AreEqual(0.1, Math.Sqrt(h.Average(value => value * value)), 0.01);

        double[] second = new double[N * H];
        noisy.Forward(1, N, x, second);
        NumericAssert.Differs<double>(y, second, 1e-6, "noise of two calls");
        noisy.Forward(1, N, x, y, state: new LstmState<double>(N, H) { Step = 1 });
        Assert.AreEqual(0, y.Max(Math.Abs), "later pieces have none");
        noisy.Training = false;
        noisy.Forward(1, N, x, y);
        Assert.AreEqual(0, y.Max(Math.Abs));
        quiet.Forward(1, N, x, y);
        Assert.AreEqual(0, y.Max(Math.Abs));
    }

    [TestMethod]
    public void Cell_New_HasTheDocumentedInitialValues()
    {
        foreach (LstmNormalization kind in Enum.GetValues<LstmNormalization>())
        {
            var cell = new LstmCell<float>(5, 4, new() { Normalization = kind, MaximumSteps = 2 });
            string[] names = kind == LstmNormalization.None
                ? ["weight_ih", "weight_hh", "bias"]
                : ["weight_ih", "weight_hh", "bias", "norm_ih.weight", "norm_hh.weight", "norm_c.weight", "norm_c.bias"];

            CollectionAssert.AreEqual(names, cell.Parameters.Select(parameter => parameter.Name).ToArray());
            CollectionAssert.AreEqual(new float[] { 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0 }, cell.Bias.Values);
            Assert.IsLessThanOrEqualTo(0.5f, cell.InputWeight.Values.Max(Math.Abs));
            Assert.IsGreaterThan(0.3f, cell.InputWeight.Values.Max(Math.Abs));
            foreach (Parameter<float> scale in cell.Parameters.Skip(3).Take(3))
            {
                Assert.IsTrue(scale.Values.All(value => value == (kind == LstmNormalization.Batch ? 0.1f : 1)), scale.Name);
            }
        }
    }

    [TestMethod]
    public void LoadState_SavedFile_RestoresTrainingToTheBit()
    {
        const int T = 3, N = 4, D = 2, H = 3;
        using var folder = new TemporaryFolder();
        LstmCell<float> cell = Randomized<float>(LstmNormalization.Batch, D, H, T);
        float[] x = TestData.As<float>(TestData.Normal(1, T * N * D));
        cell.Forward(T, N, x, new float[T * N * H]);
        cell.GetState("rnn.").Save(folder.File("cell.safetensors"));
        var other = new LstmCell<float>(D, H, new() { Normalization = LstmNormalization.Batch, MaximumSteps = T, Seed = 9 });

        other.LoadState(StateDictionary.Load(folder.File("cell.safetensors")), prefix: "rnn.");

        Assert.HasCount(7 + (3 * 3 * T), cell.GetState());
        foreach (bool training in new[] { true, false })
        {
            cell.Training = other.Training = training;
            float[] expected = new float[T * N * H], actual = new float[T * N * H];
            cell.Forward(T, N, x, expected);
            other.Forward(T, N, x, actual);
            NumericAssert.SameBits<float>(expected, actual, $"training {training}");
        }
    }

    [TestMethod]
    public void LoadState_OfAnotherCell_NamesWhatIsMissing()
    {
        LstmCell<float> plain = Randomized<float>(LstmNormalization.None, 2, 3, 1);
        LstmCell<float> batch = Randomized<float>(LstmNormalization.Batch, 2, 3, 1);

        string message = Assert.ThrowsExactly<ArgumentException>(() => batch.LoadState(plain.GetState())).Message;
        StringAssert.Contains(message, "LstmCell of float");
        StringAssert.Contains(message, "'norm_c.bias' is missing");
        StringAssert.Contains(message, "'norm_hh.0.running_var' is missing");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => plain.LoadState(batch.GetState())).Message, "'norm_ih.0.running_mean' of shape (12) is surplus");
    }

    [TestMethod]
    public void Cell_WrongArguments_Teach()
    {
        LstmCell<double> cell = Randomized<double>(LstmNormalization.None, 2, 3, 1);
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => cell.Forward(2, 3, new double[11], new double[18])).Message, "'input' has 11 elements; (2, 3, 2) has 12");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => cell.Forward(2, 3, new double[12], new double[17])).Message, "'output' has 17");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => cell.Forward(2, 3, new double[12], new double[18], new bool[5])).Message, "'mask' has 5 elements; (2, 3) has 6");
        StringAssert.Contains(
            Assert.ThrowsExactly<ArgumentException>(() => cell.Forward(2, 3, new double[12], new double[18], state: new LstmState<double>(2, 3))).Message, "got one of 2 and 3");
        StringAssert.Contains(Assert.ThrowsExactly<ArgumentException>(() => LstmCell<double>.Mask(3, 1, 4)).Message, "Sequence 1 has length 4");
        Assert.ThrowsExactly<ArgumentOutOfRangeException>(() => new LstmCell<double>(0, 3));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 3, new() { MaximumSteps = 0 }));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 3, new() { InitialNoise = double.NaN }));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 3, new() { InitialScale = double.NaN }));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 3, new() { ForgetBias = double.PositiveInfinity }));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 3, new() { Normalization = LstmNormalization.Layer, Epsilon = -1 }));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 1, new() { Normalization = LstmNormalization.Layer }));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 3, new() { Normalization = LstmNormalization.Batch, Momentum = 2 }));
        Assert.ThrowsExactly<ArgumentException>(() => new LstmCell<double>(2, 3, new() { Normalization = LstmNormalization.Batch, Epsilon = -1 }));
    }

    [TestMethod]
    [DynamicData(nameof(Kinds))]
    public void Forward_NothingToDo_ChangesNothing(LstmNormalization kind)
    {
        LstmCell<double> cell = Randomized<double>(kind, 2, 3, 4);
        StateDictionary before = cell.GetState();

        cell.Forward(0, 3, [], []);
        cell.Backward([], []);
        cell.Forward(2, 0, [], []);
        cell.Backward([], []);
        double[] y = TestData.Normal(1, 18);
        cell.Forward(2, 3, new double[12], y, new bool[6]);
        cell.Backward(y, new double[12]);

        Assert.AreEqual(0, y.Max(Math.Abs));
        Assert.IsTrue(cell.Parameters.All(parameter => parameter.Gradient.All(value => value == 0)));
        foreach ((string name, StateTensor tensor) in before)
        {
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), cell.GetState()[name].Bytes.ToArray(), name);
        }
    }

    // The values of the Forward are used, so its mode is the gradient's.
    [TestMethod]
    [DynamicData(nameof(Kinds))]
    public void Backward_ModeChangedSinceForward_IsTheForwardsGradient(LstmNormalization kind)
    {
        double[] x = TestData.Normal(1, 3 * 4 * 2);
        foreach (bool frozenBefore in new[] { false, true })
        {
            double[] expected = Gradient(_ => { });
            CollectionAssert.AreEqual(expected, Gradient(cell => Toggle(cell, !frozenBefore)), "frozen or not since");
            CollectionAssert.AreEqual(expected, Gradient(cell => cell.Training = false), "inference since");

            double[] Gradient(Action<LstmCell<double>> between)
            {
                var cell = new LstmCell<double>(2, 3, new LstmOptions { Normalization = kind, InitialNoise = 0.5 });
                Toggle(cell, frozenBefore);
                var dx = new double[x.Length];
                cell.Forward(3, 4, x, new double[3 * 4 * 3]);
                between(cell);
                cell.Backward(TestData.Normal(2, 3 * 4 * 3), dx);
                return [.. dx, .. cell.Parameters.SelectMany(parameter => parameter.Gradient)];
            }
        }

        static void Toggle(LstmCell<double> cell, bool frozen)
        {
            if (frozen)
            {
                cell.Freeze();
            }
            else
            {
                cell.Unfreeze();
            }
        }
    }

    // A layer for each step that was ever taken would be one for each token served.
    [TestMethod]
    public void Forward_LayerNormalizedStepByStepInInference_KeepsNoLayerForEachStep()
    {
        var cell = new LstmCell<float>(2, 64, new LstmOptions { Normalization = LstmNormalization.Layer }) { Training = false };
        var state = new LstmState<float>(1, 64);
        var output = new float[64];
        cell.Forward(1, 1, [0.1f, -0.2f], output, state: state);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int step = 0; step < 100; step++)
        {
            cell.Forward(1, 1, [0.1f, -0.2f], output, state: state);
        }

        Assert.IsLessThan(100 * 1000, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.AreEqual(101, state.Step);
        Assert.Throws<ArgumentException>(() => cell.Forward(2, 2, new float[8], new float[256], state: new LstmState<float>(64, 2)));
    }

    [TestMethod]
    public void Backward_Twice_AddsUp()
    {
        LstmCell<double> cell = Randomized<double>(LstmNormalization.Batch, 2, 3, 2);
        double[] g = TestData.Normal(2, 24);
        cell.Forward(2, 4, TestData.Normal(1, 16), new double[24]);
        cell.Backward(g, new double[16]);
        double[][] once = [.. cell.Parameters.Select(parameter => (double[])parameter.Gradient.Clone())];
        cell.Backward(g, new double[16]);

        for (int i = 0; i < once.Length; i++)
        {
            NumericAssert.NearLargest<double>([.. once[i].Select(value => 2 * value)], cell.Parameters[i].Gradient, 1e-15, cell.Parameters[i].Name);
        }

        cell.ZeroGradients();
        Assert.IsTrue(cell.Parameters.All(parameter => parameter.Gradient.All(value => value == 0)));
    }

    private static void CheckGolden<T>(LstmGolden golden, double tolerance)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var cell = new LstmCell<T>(golden.Inputs, golden.Hidden, new()
        {
            Normalization = Enum.Parse<LstmNormalization>(golden.Normalization, ignoreCase: true),
            MaximumSteps = golden.MaximumSteps,
            Epsilon = golden.Epsilon,
            Momentum = golden.Momentum,
            RunningVariance = Enum.Parse<RunningVariance>(golden.RunningVariance, ignoreCase: true),
        });
        cell.LoadState(StateOf<T>(cell, golden));
        foreach (double[] batch in golden.Warmup)
        {
            cell.Forward(golden.Steps, golden.Samples, TestData.As<T>(batch), new T[golden.Output.Length], golden.Mask);
        }

        cell.Training = golden.Training;
        if (golden.Frozen)
        {
            cell.Freeze();
        }

        var state = new LstmState<T>(golden.Samples, golden.Hidden) { Step = golden.FirstStep };
        Fill(state, golden.InitialState);
        var output = new T[golden.Output.Length];
        cell.Forward(golden.Steps, golden.Samples, TestData.As<T>(golden.Input), output, golden.Mask, state);
        NumericAssert.NearLargest<T>(golden.Output, output, tolerance, "output");
        NumericAssert.NearLargest<T>(golden.FinalState[0], state.Hidden, tolerance, "h");
        NumericAssert.NearLargest<T>(golden.FinalState[1], state.Cell, tolerance, "c");
        Assert.AreEqual(golden.FirstStep + golden.Steps, state.Step);
        StateDictionary after = cell.GetState();
        foreach ((string name, JsonElement expected) in golden.Buffers)
        {
            if (expected.ValueKind == JsonValueKind.Number)
            {
                Assert.AreEqual(expected.GetInt64(), after[name].ToArray<long>()[0], name);
            }
            else
            {
                NumericAssert.NearLargest<T>(expected.Deserialize<double[]>()!, after[name].ToArray<T>(), tolerance, name);
            }
        }

        if (golden.OutputGradient is null)
        {
            return;
        }

        var stateGradient = new LstmState<T>(golden.Samples, golden.Hidden);
        Fill(stateGradient, golden.FinalStateGradient);
        var inputGradient = new T[golden.Input.Length];
        cell.Backward(TestData.As<T>(golden.OutputGradient), inputGradient, stateGradient);
        NumericAssert.NearLargest<T>(golden.InputGradient!, inputGradient, tolerance, "input gradient");
        NumericAssert.NearLargest<T>(golden.InitialStateGradient![0], stateGradient.Hidden, tolerance, "gradient of h");
        NumericAssert.NearLargest<T>(golden.InitialStateGradient[1], stateGradient.Cell, tolerance, "gradient of c");

        // Normalization makes some gradients small differences of large terms, and sets of two to five samples have small variances whose
        // inverse roots multiply the rounding: in float these are held to the largest gradient of the case, and to five times the tolerance.
        double largest = golden.ParameterGradients!.Values.Max(values => values.Max(Math.Abs));
        foreach (Parameter<T> parameter in cell.Parameters)
        {
            double[] expected = golden.ParameterGradients[parameter.Name];
            double scale = typeof(T) == typeof(double) ? expected.Max(Math.Abs) : 5 * largest;
            NumericAssert.Near<T>(expected, parameter.Gradient, [.. expected.Select(_ => scale)], tolerance, parameter.Name);
        }
    }

    private static void Fill<T>(LstmState<T> state, double[][]? values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (values is not null)
        {
            TestData.As<T>(values[0]).CopyTo(state.Hidden, 0);
            TestData.As<T>(values[1]).CopyTo(state.Cell, 0);
        }
    }

    private static StateDictionary StateOf<T>(LstmCell<T> cell, LstmGolden golden)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var state = new StateDictionary();
        foreach ((string name, StateTensor tensor) in cell.GetState())
        {
            if (golden.InitialBuffers.TryGetValue(name, out JsonElement initial) && initial.ValueKind == JsonValueKind.Number)
            {
                state.Add(name, StateTensor.Create<long>([initial.GetInt64()]));
            }
            else
            {
                double[] values = golden.Parameters.TryGetValue(name, out double[]? parameter) ? parameter : initial.Deserialize<double[]>()!;
                state.Add(name, StateTensor.Create<T>(TestData.As<T>(values), tensor.Shape));
            }
        }

        return state;
    }

    private static LstmCell<T> Randomized<T>(LstmNormalization kind, int inputs, int hidden, int maximumSteps)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var cell = new LstmCell<T>(inputs, hidden, new() { Normalization = kind, MaximumSteps = maximumSteps });
        int seed = 60;
        foreach (Parameter<T> parameter in cell.Parameters)
        {
            bool isWeight = parameter.Shape.Length == 2;
            double mean = parameter.Name.StartsWith("norm", StringComparison.Ordinal) ? 0.5 : 0;
            TestData.As<T>(TestData.Normal(seed++, parameter.Values.Length, mean, isWeight ? 1 / Math.Sqrt(parameter.Shape[1]) : 0.5)).CopyTo(parameter.Values, 0);
        }

        return cell;
    }

    private static LstmOracle OracleOf(LstmGolden golden)
    {
        var oracle = new LstmOracle(golden.Normalization, golden.Inputs, golden.Hidden, golden.MaximumSteps)
        {
            Epsilon = golden.Epsilon,
            Momentum = golden.Momentum,
            StoresSampleVariance = golden.RunningVariance == "sample",
        };
        foreach ((string name, double[] values) in golden.Parameters)
        {
            oracle.Parameters[name] = values;
        }

        oracle.StartPopulation();
        foreach ((string norm, int t) in oracle.Population.Keys.ToArray())
        {
            string prefix = string.Create(CultureInfo.InvariantCulture, $"{norm}.{t}.");
            oracle.Population[(norm, t)] = (
                golden.InitialBuffers[prefix + "running_mean"].Deserialize<double[]>()!, golden.InitialBuffers[prefix + "running_var"].Deserialize<double[]>()!,
                golden.InitialBuffers[prefix + "num_batches_tracked"].GetInt32());
        }

        return oracle;
    }

    private static LstmOracle OracleOf(LstmCell<double> cell, LstmNormalization kind, int maximumSteps)
    {
        string word = kind == LstmNormalization.None ? "none" : kind == LstmNormalization.Layer ? "layer" : "batch";
        var oracle = new LstmOracle(word, cell.Inputs, cell.Hidden, maximumSteps);
        foreach (Parameter<double> parameter in cell.Parameters)
        {
            oracle.Parameters[parameter.Name] = (double[])parameter.Values.Clone();
        }

        oracle.StartPopulation();
        return oracle;
    }

    private static bool[][] MaskOf(LstmGolden golden) =>
        [.. (golden.Mask ?? [.. Enumerable.Repeat(true, golden.Steps * golden.Samples)]).Chunk(golden.Samples)];

    private static double[][] Rows(double[] values, int width) => [.. values.Chunk(width).Select(row => row.ToArray())];

    private static double[][][] Cube(double[] values, int samples, int width) => [.. values.Chunk(samples * width).Select(step => Rows(step, width))];

    private static double[] Flat(double[][] rows) => [.. rows.SelectMany(row => row)];

    private static double[] Flat(double[][][] cube) => [.. cube.SelectMany(Flat)];

    private static double Dot(double[] a, double[] b) => a.Zip(b, (x, y) => x * y).Sum();

    private static void Near(double[] expected, double[] actual, string what) => NumericAssert.NearLargest<double>(expected, actual, 1e-11, what);
}
