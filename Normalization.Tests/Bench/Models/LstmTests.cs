using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies.Companions;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench.Models;

/// <summary>How images become sequences of rows; the cell itself is tested as a companion, the layer's gradients in LayerTests.</summary>
[TestClass]
public sealed class LstmTests
{
    private const int Samples = 5;
    private const int Height = 4;
    private const int Width = 3;
    private const int Units = 6;

    public static IEnumerable<object[]> Kinds => [[LstmNormalization.None], [LstmNormalization.Layer], [LstmNormalization.Batch]];

    [TestMethod]
    [DynamicData(nameof(Kinds))]
    public void ForwardBackward_ImagesOfSeveralLengths_AreTheCellsMaskedSequences(LstmNormalization kind)
    {
        int[] lengths = [4, 2, 3, 2, 4];
        LstmCell<double> expected = Create(kind);
        var random = new RandomStream(1, "images");
        Activations<double> images = new Activations<double>().Resize(new(Samples, Height * Width));
        random.FillGaussian(images.Values);
        var sequences = new double[Height * Samples * Width];
        for (int n = 0; n < Samples; n++)
        {
            for (int row = 0; row < Height; row++)
            {
                Span<double> pixels = images.Values.Slice(((n * Height) + row) * Width, Width);
                if (row >= lengths[n])
                {
                    pixels.Fill(double.NaN);
                }

                pixels.CopyTo(sequences.AsSpan(((row * Samples) + n) * Width));
            }
        }

        LstmCell<double> cell = Create(kind);
        var layer = new Lstm<double>(cell, Height);
        double[] output = layer.Forward(images, training: true).Values.ToArray();
        Activations<double> upstream = new Activations<double>().Resize(new(Samples, Units));
        random.FillGaussian(upstream.Values);
        double[] gradient = layer.Backward(upstream, wantsInput: true).Values.ToArray();

        var states = new double[Height * Samples * Units];
        expected.Forward(Height, Samples, sequences, states, LstmCell<double>.Mask(Height, lengths));
        var upstreams = new double[states.Length];
        upstream.Values.CopyTo(upstreams.AsSpan((Height - 1) * Samples * Units));
        var gradients = new double[sequences.Length];
        expected.Backward(upstreams, gradients);

        NumericAssert.SameBits<double>(states.AsSpan()[^(Samples * Units)..], output, "last states");
        for (int n = 0; n < Samples; n++)
        {
            for (int row = 0; row < Height; row++)
            {
                double[] own = gradients.AsSpan(((row * Samples) + n) * Width, Width).ToArray();
                NumericAssert.SameBits<double>(own, gradient.AsSpan(((n * Height) + row) * Width, Width), $"gradient of row {row} of image {n}");
                Assert.AreEqual(row >= lengths[n], Array.TrueForAll(own, value => value == 0), $"row {row} of image {n}");
            }
        }

        foreach ((Parameter<double> one, Parameter<double> other) in expected.Parameters.Zip(cell.Parameters))
        {
            NumericAssert.SameBits<double>(one.Gradient, other.Gradient, one.Name);
        }
    }

    [TestMethod]
    public void Forward_ShorterImagesAfterLonger_ForgetsWhatTheLongerHad()
    {
        Activations<double> images = new Activations<double>().Resize(new(1, Height * Width));
        new RandomStream(2, "images").FillGaussian(images.Values);
        var layer = new Lstm<double>(Create(LstmNormalization.None), Height);
        double[] whole = layer.Forward(images, training: false).Values.ToArray();
        images.Values[(2 * Width)..].Fill(double.NaN);
        double[] half = layer.Forward(images, training: false).Values.ToArray();
        NumericAssert.Differs<double>(whole, half, 1e-3, "half the rows");
        double[] alone = new Lstm<double>(Create(LstmNormalization.None), 2).Forward(Half(images), training: false).Values.ToArray();
        NumericAssert.SameBits<double>(alone, half, "half the rows and an image of half the height");

        static Activations<double> Half(Activations<double> images)
        {
            Activations<double> half = new Activations<double>().Resize(new(1, 2 * Width));
            images.Values[..(2 * Width)].CopyTo(half.Values);
            return half;
        }
    }

    [TestMethod]
    public void Backward_InputNotWanted_LeavesParameterGradientsAsTheyAre()
    {
        Activations<double> images = new Activations<double>().Resize(new(Samples, Height * Width));
        new RandomStream(3, "images").FillGaussian(images.Values);
        LstmCell<double>[] cells = [Create(LstmNormalization.Batch), Create(LstmNormalization.Batch)];
        for (int i = 0; i < 2; i++)
        {
            var layer = new Lstm<double>(cells[i], Height);
            layer.Backward(layer.Forward(images, training: true), wantsInput: i == 0);
        }

        foreach ((Parameter<double> one, Parameter<double> other) in cells[0].Parameters.Zip(cells[1].Parameters))
        {
            NumericAssert.SameBits<double>(one.Gradient, other.Gradient, one.Name);
        }
    }

    [TestMethod]
    public void Forward_OtherPixels_ThrowsNamingBoth()
    {
        var layer = new Lstm<double>(Create(LstmNormalization.None), Height);
        StringAssert.Contains(Assert.Throws<ArgumentException>(() => layer.Forward(new Activations<double>().Resize(new(2, 13)), true)).Message, "4 rows of 3 pixels");
        Assert.Throws<ArgumentOutOfRangeException>(() => new Lstm<double>(Create(LstmNormalization.None), 0));
    }

    [TestMethod]
    public void RmsProp_TwoSteps_MatchTheFormula()
    {
        var parameter = new Parameter<double>("weight", [2], 1);
        var optimizer = new RmsProp<double>([parameter], decay: 0.9);
        double[] gradients = [0.5, -3, 0.25, 2];
        double[] squares = new double[2], expected = [1, 1];
        for (int step = 0; step < 2; step++)
        {
            for (int i = 0; i < 2; i++)
            {
                double g = parameter.Gradient[i] = gradients[(2 * step) + i];
                squares[i] = (0.9 * squares[i]) + (0.1 * g * g);
                expected[i] -= 0.01 * g / (Math.Sqrt(squares[i]) + 1e-8);
            }

            optimizer.Step(0.01);
            Assert.IsTrue(Array.TrueForAll(parameter.Gradient, value => value == 0));
        }

        NumericAssert.NearLargest<double>(expected, parameter.Values, 1e-15, "weights");
    }

    private static LstmCell<double> Create(LstmNormalization kind) => new(Width, Units, new LstmOptions { Normalization = kind, MaximumSteps = Height });
}
