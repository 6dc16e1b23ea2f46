using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;
using Normalization.Strategies.Companions;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Models;

/// <summary>Every layer, alone and in networks, against differences in double; and what layers promise beside gradients.</summary>
[TestClass]
public sealed class LayerTests
{
    private static readonly ActivationShape Images = new(3, 2, 5, 6);

    private static readonly (string Name, ActivationShape Shape, Func<RandomStream, Layer<double>> Create)[] Networks =
    [
        ("linear", new(4, 7), random => new Linear<double>(7, 5, random)),
        ("linear without bias, of images", Images, random => new Linear<double>(60, 3, random, bias: false)),
        ("convolution", Images, random => new Conv2d<double>(2, 5, 3, 1, random)),
        ("convolution, stride 2", Images, random => new Conv2d<double>(2, 3, 3, 2, random)),
        ("convolution 1 x 1, stride 3", Images, random => new Conv2d<double>(2, 4, 1, 3, random)),
        ("convolution 5 x 5 without bias", Images, random => new Conv2d<double>(2, 3, 5, 1, random, bias: false)),
        ("sigmoid", new(3, 5), _ => new Sigmoid<double>()),
        ("tanh", new(3, 5), _ => new Tanh<double>()),
        ("relu", new(5, 9), _ => new Relu<double>()),
        ("average pool", Images, _ => new GlobalAveragePool<double>()),
        ("lstm", new(4, 15), _ => Rows(LstmNormalization.None)),
        ("lstm with layer norm", new(4, 15), _ => Rows(LstmNormalization.Layer)),
        ("lstm with batch norm", new(6, 15), _ => Rows(LstmNormalization.Batch)),
        ("sigmoid network with batch norm", new(6, 4), random => new Sequential<double>(
            new Linear<double>(4, 5, random, bias: false), BatchNorm(), new Sigmoid<double>(),
            new Linear<double>(5, 5, random, bias: false), BatchNorm(), new Sigmoid<double>(), new Linear<double>(5, 3, random))),
        ("convolutional network with group norm and a residual block", Images, random => new Sequential<double>(
            new Conv2d<double>(2, 4, 3, 1, random, bias: false), GroupNorm(), new Tanh<double>(),
            new Residual<double>(new Sequential<double>(new Conv2d<double>(4, 4, 3, 1, random, bias: false), BatchNorm(), new Tanh<double>())),
            new Residual<double>(new Conv2d<double>(4, 6, 3, 2, random), new Conv2d<double>(4, 6, 1, 2, random)),
            new GlobalAveragePool<double>(), new Linear<double>(6, 3, random))),
    ];

    public static IEnumerable<object[]> Names => Networks.Select(network => new object[] { network.Name });

    [TestMethod]
    [DynamicData(nameof(Names))]
    public void Backward_FivePointDifferences_AgreeForInputAndParameters(string name)
    {
        (_, ActivationShape shape, Func<RandomStream, Layer<double>> create) = Networks.Single(network => network.Name == name);
        var random = new RandomStream(3, name);
        Layer<double> network = create(random);
        Activations<double> input = Draw(shape, random);
        var upstream = new Activations<double>();
        random.FillGaussian(upstream.Resize(network.Forward(input, training: true).Shape).Values);
        Parameter<double>[] parameters = [.. network.Parameters];
        foreach (Parameter<double> parameter in parameters)
        {
            random.FillGaussian(parameter.Values);
        }

        network.Forward(input, training: true);
        double[] inputGradient = network.Backward(upstream, wantsInput: true).Values.ToArray();
        Check(input.Values.ToArray(), inputGradient, values => values.CopyTo(input.Values), "input");
        foreach (Parameter<double> parameter in parameters)
        {
            Check((double[])parameter.Values.Clone(), (double[])parameter.Gradient.Clone(), values => values.CopyTo(parameter.Values), parameter.Name);
        }

        void Check(double[] at, double[] analytic, Action<double[]> set, string what)
        {
            const double Step = 2e-4; // at 1e-3 a batch-normalized recurrence of few samples bends too much for five points
            var numeric = new double[at.Length];
            var moved = (double[])at.Clone();
            for (int i = 0; i < at.Length; i++)
            {
                numeric[i] = ((8 * (Loss(i, Step) - Loss(i, -Step))) - (Loss(i, 2 * Step) - Loss(i, -2 * Step))) / (12 * Step);
                moved[i] = at[i];
            }

            set(at);
            NumericAssert.NearLargest<double>(numeric, analytic, 1e-8, $"{name}: {what}");

            double Loss(int i, double step)
            {
                moved[i] = at[i] + step;
                set(moved);
                double loss = 0;
                ReadOnlySpan<double> y = network.Forward(input, training: true).Values;
                for (int k = 0; k < y.Length; k++)
                {
                    loss += y[k] * upstream.Values[k];
                }

                return loss;
            }
        }
    }

    [TestMethod]
    public void SoftmaxCrossEntropy_FivePointDifferences_Agree()
    {
        var random = new RandomStream(4, "loss");
        Activations<double> logits = Draw(new(5, 4), random);
        byte[] labels = [0, 3, 1, 3, 2];
        var loss = new SoftmaxCrossEntropy<double>();
        loss.Forward(logits, labels);
        double[] analytic = loss.Gradient.Values.ToArray();
        var numeric = new double[analytic.Length];
        for (int i = 0; i < numeric.Length; i++)
        {
            double at = logits.Values[i];
            numeric[i] = ((8 * (Loss(1e-3) - Loss(-1e-3))) - (Loss(2e-3) - Loss(-2e-3))) / 12e-3;
            logits.Values[i] = at;

            double Loss(double step)
            {
                logits.Values[i] = at + step;
                return loss.Forward(logits, labels);
            }
        }

        NumericAssert.NearLargest<double>(numeric, analytic, 1e-9, "loss");
    }

    [TestMethod]
    public void SoftmaxCrossEntropy_HugeLogits_StaysFinite()
    {
        Activations<float> logits = new Activations<float>().Resize(new(2, 3));
        new[] { 1e4f, -1e4f, 0, -3e38f, 3e38f, 0 }.CopyTo(logits.Values);
        var loss = new SoftmaxCrossEntropy<float>();
        Assert.AreEqual(0.0, loss.Forward(logits, [0, 1]));
        Assert.AreEqual(2, loss.Correct);
        NumericAssert.Finite<float>(loss.Gradient.Values.ToArray(), "gradient");
    }

    [TestMethod]
    public void SoftmaxCrossEntropy_LogitsThatAreNoNumbers_AreNotCorrect()
    {
        Activations<float> logits = new Activations<float>().Resize(new(3, 2));
        new[] { float.NaN, float.NaN, float.PositiveInfinity, 0, 1, 0 }.CopyTo(logits.Values);
        var loss = new SoftmaxCrossEntropy<float>();
        Assert.AreEqual(double.NaN, loss.Forward(logits, [0, 0, 0]));
        Assert.AreEqual(1, loss.Correct);
    }

    [TestMethod]
    public void Dropout_Training_KeepsTheMeanAndPassesTheSameMaskBack()
    {
        var random = new RandomStream(5, "dropout");
        var layer = new Dropout<double>(0.25, random);
        Activations<double> input = new Activations<double>().Resize(new(200, 50));
        input.Values.Fill(1);
        double[] output = layer.Forward(input, training: true).Values.ToArray();
        Assert.IsTrue(output.All(value => value is 0 or 4));
        NumericAssert.Near(1, output.Average(), 1, 0.05, "mean");
        CollectionAssert.AreEqual(output, layer.Backward(input, wantsInput: true).Values.ToArray());
        Assert.AreSame(input, layer.Forward(input, training: false));
        Assert.AreSame(input, layer.Backward(input, wantsInput: true));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Dropout<double>(0, random));
    }

    [TestMethod]
    [DoNotParallelize] // the thread count is the process's
    public void ForwardBackward_OnOneTwoAndFiveThreads_GivesTheSameBits()
    {
        int before = KernelThreads.Count;
        try
        {
            float[][]? expected = null;
            foreach (int threads in new[] { 1, 2, 5 })
            {
                KernelThreads.Count = threads;
                var random = new RandomStream(6, "threads");
                var layer = new Conv2d<float>(16, 24, 3, 1, random);
                Activations<float> input = new Activations<float>().Resize(new(11, 16, 13, 9));
                foreach (ref float value in input.Values)
                {
                    value = (float)random.NextGaussian();
                }

                float[] output = layer.Forward(input, training: true).Values.ToArray();
                Activations<float> upstream = new Activations<float>().Resize(new(11, 24, 13, 9));
                output.CopyTo(upstream.Values);
                float[] gradient = layer.Backward(upstream, wantsInput: true).Values.ToArray();
                float[][] actual = [output, gradient, .. layer.Parameters.Select(parameter => parameter.Gradient)];
                expected ??= actual;
                for (int i = 0; i < actual.Length; i++)
                {
                    NumericAssert.SameBits<float>(expected[i], actual[i], $"{threads} threads, array {i}");
                }
            }
        }
        finally
        {
            KernelThreads.Count = before;
        }
    }

    // Fewer samples than outputs are multiplied the other way round.
    [TestMethod]
    [DataRow(1)]
    [DataRow(5)]
    [DataRow(18)]
    public void Forward_LinearOfFewSamples_GivesTheBitsOfTheSameSamplesAmongMany(int few)
    {
        var random = new RandomStream(9, "turned");
        var layer = new Linear<float>(45, 19, random);
        Fill(layer.Parameters.Last().Values);
        Activations<float> many = new Activations<float>().Resize(new(40, 45));
        Fill(many.Values);
        Activations<float> some = new Activations<float>().Resize(new(few, 45));
        many.Values[..(few * 45)].CopyTo(some.Values);
        float[] expected = layer.Forward(many, training: true).Values[..(few * 19)].ToArray();
        NumericAssert.SameBits<float>(expected, layer.Forward(some, training: true).Values, $"{few} samples");

        void Fill(Span<float> values)
        {
            foreach (ref float value in values)
            {
                value = (float)random.NextGaussian();
            }
        }
    }

    [TestMethod]
    public void Step_Warm_AllocatesNothing()
    {
        var random = new RandomStream(7, "warm");
        var network = new Sequential<float>(
            new Conv2d<float>(1, 4, 3, 2, random, bias: false), new Normalized<float>(shape => new BatchNorm<float>(shape.Channels)), new Relu<float>(),
            new GlobalAveragePool<float>(), new Dropout<float>(0.5, random), new Linear<float>(4, 3, random));
        Activations<float> input = new Activations<float>().Resize(new(6, 1, 9, 9));
        foreach (ref float value in input.Values)
        {
            value = (float)random.NextGaussian();
        }

        byte[] labels = [0, 1, 2, 0, 1, 2];
        var loss = new SoftmaxCrossEntropy<float>();
        network.Forward(input, training: true);
        var optimizer = new Sgd<float>(network.Parameters, momentum: 0.9, weightDecay: 1e-4);
        long least = long.MaxValue;
        for (int i = 0; i < 12 && least > 0; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            loss.Forward(network.Forward(input, training: true), labels);
            network.Backward(loss.Gradient, wantsInput: false);
            optimizer.Clip(1);
            optimizer.Step(0.1);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.AreEqual(0L, least);
    }

    [TestMethod]
    public void Forward_BatchOfAnotherShape_ThrowsNamingBoth()
    {
        var random = new RandomStream(8, "shapes");
        var linear = new Linear<float>(7, 2, random);
        StringAssert.Contains(Assert.Throws<ArgumentException>(() => linear.Forward(new Activations<float>().Resize(new(3, 8)), true)).Message, "(3, 8)");
        var convolution = new Conv2d<float>(2, 2, 3, 1, random);
        StringAssert.Contains(Assert.Throws<ArgumentException>(() => convolution.Forward(new Activations<float>().Resize(new(3, 3, 4, 4)), true)).Message, "(3, 3, 4, 4)");
        Assert.Throws<ArgumentException>(() => new Conv2d<float>(2, 2, 2, 1, random));
        var residual = new Residual<float>(new Linear<float>(7, 2, random));
        StringAssert.Contains(Assert.Throws<ArgumentException>(() => residual.Forward(new Activations<float>().Resize(new(3, 7)), true)).Message, "shortcut");
    }

    private static Normalized<double> BatchNorm() => new(shape => new BatchNorm<double>(shape.Channels));

    private static Lstm<double> Rows(LstmNormalization kind) => new(new LstmCell<double>(3, 4, new LstmOptions { Normalization = kind, MaximumSteps = 5 }), 5);

    private static Normalized<double> GroupNorm() => new(shape => new GroupNorm<double>(2, shape.Channels));

    private static Activations<double> Draw(ActivationShape shape, RandomStream random)
    {
        Activations<double> drawn = new Activations<double>().Resize(shape);
        random.FillGaussian(drawn.Values);
        return drawn;
    }
}
