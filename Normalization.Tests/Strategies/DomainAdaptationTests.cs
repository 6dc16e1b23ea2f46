using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Strategies;

/// <summary>Adapting a net of two layers: layer by layer, in one sweep, and what either leaves behind.</summary>
[TestClass]
public sealed class DomainAdaptationTests
{
    private const int Samples = 48;

    private static readonly ActivationShape Whole = new(Samples, 3);

    // The truth: the whole target as one batch, through the first layer and then the second.
    [TestMethod]
    public void LayerSequential_AnyCutIntoBatches_IsTheWholeTargetAtOnce()
    {
        double[] target = Target();
        var truth = new Net();
        DomainAdaptation.LayerSequential(truth.Layers, "target", [target], truth.Forward);
        double[] expected = truth.Infer(target);
        foreach (int size in new[] { 1, 6, 16, 47 })
        {
            var net = new Net();
            DomainAdaptation.LayerSequential(net.Layers, "target", Cut(target, size), net.Forward);
            NumericAssert.NearLargest<double>(expected, net.Infer(target), 1e-12, $"batches of {size}");
            Assert.AreEqual(Samples, net.Layers[1].GetDomain("target").Count);
        }
    }

    [TestMethod]
    public void OneSweep_OneBatch_IsExactAndManyAreNotBeyondTheFirstLayer()
    {
        double[] target = Target();
        var sequential = new Net();
        DomainAdaptation.LayerSequential(sequential.Layers, "target", [target], sequential.Forward);
        var whole = new Net();
        DomainAdaptation.OneSweep(whole.Layers, "target", [target], whole.Forward);
        NumericAssert.NearLargest<double>(sequential.Infer(target), whole.Infer(target), 1e-12, "one batch");

        var many = new Net();
        DomainAdaptation.OneSweep(many.Layers, "target", Cut(target, 6), many.Forward);
        NumericAssert.NearLargest<double>(
            sequential.Layers[0].GetDomain("target").Mean, many.Layers[0].GetDomain("target").Mean, 1e-13, "the first layer's mean");
        NumericAssert.Differs<double>(
            sequential.Layers[1].GetDomain("target").PopulationVariance, many.Layers[1].GetDomain("target").PopulationVariance, 1e-4, "the second layer's variance");
    }

    [TestMethod]
    public void LayerSequential_LayerTwiceOrNoForward_ThrowsBeforeADomainIsEmptied()
    {
        var net = new Net();
        DomainAdaptation.LayerSequential(net.Layers, "target", [Target()], net.Forward);
        Assert.Throws<ArgumentException>(() => DomainAdaptation.LayerSequential([net.Layers[0], net.Layers[0]], "target", [Target()], net.Forward));
        Assert.Throws<ArgumentNullException>(() => DomainAdaptation.OneSweep(net.Layers, "target", [Target()], null!));
        Assert.AreEqual(Samples, net.Layers[0].GetDomain("target").Count);
    }

    // The merged variance divides, not the batch's.
    [TestMethod]
    public void Forward_ConstantBatchOfAVaryingDomainWithEpsilon0_IsNormalized()
    {
        var layer = new AdaBatchNorm<double>(1, new RunningStatisticsOptions { Epsilon = 0 });
        layer.AddDomain("target");
        layer.Domain = "target";
        Assert.Throws<DivideByZeroException>(() => layer.Forward(new ActivationShape(3, 1), [5.0, 5, 5], new double[3]));
        layer.ResetDomain("target");
        layer.Forward(new ActivationShape(4, 1), [1.0, 2, 3, 4], new double[4]);
        var y = new double[1];
        layer.Forward(new ActivationShape(1, 1), [5.0], y);
        Assert.AreEqual(2 / Math.Sqrt(2), y[0], 1e-14);
    }

    [TestMethod]
    public void LayerSequential_AfterIt_SwitchesAreAsBeforeAndTheSourceIsUntouched()
    {
        var net = new Net();
        var source = net.Layers.Select(layer => (double[])Runs.Buffer(layer, "running_mean").Clone()).ToArray();
        net.Layers[0].Training = false;
        net.Layers[1].UpdateRunningStatistics = false;
        DomainAdaptation.LayerSequential(net.Layers, "target", Cut(Target(), 16), net.Forward);
        Assert.IsFalse(net.Layers[0].Training);
        Assert.IsTrue(net.Layers[1].Training);
        Assert.IsFalse(net.Layers[1].UpdateRunningStatistics);
        for (int i = 0; i < 2; i++)
        {
            Assert.AreEqual("target", net.Layers[i].Domain);
            NumericAssert.SameBits<double>(source[i], Runs.Buffer(net.Layers[i], "running_mean"), $"layer {i}");
        }

        // Once more begins anew.
        DomainAdaptation.LayerSequential(net.Layers, "target", Cut(Target(), 16), net.Forward);
        Assert.AreEqual(Samples, net.Layers[0].GetDomain("target").Count);
    }

    [TestMethod]
    public void OneSweep_ForwardThrowsOrSeesNothing_LeavesTheDomainEmptyAndTheSelectionAsItWas()
    {
        var net = new Net();
        int calls = 0;
        Assert.Throws<IOException>(() => DomainAdaptation.OneSweep(net.Layers, "target", Cut(Target(), 16), batch =>
        {
            net.Forward(batch);
            if (++calls == 2)
            {
                throw new IOException("The data ended early.");
            }
        }));
        Check();
        Assert.Contains("no batch", Assert.Throws<InvalidOperationException>(
            () => DomainAdaptation.OneSweep(net.Layers, "target", Array.Empty<double[]>(), net.Forward)).Message);
        Check();
        net.Layers[1].Freeze();
        Assert.Contains("frozen", Assert.Throws<InvalidOperationException>(
            () => DomainAdaptation.OneSweep(net.Layers, "target", Cut(Target(), 16), net.Forward)).Message);

        void Check()
        {
            foreach (AdaBatchNorm<double> layer in net.Layers)
            {
                Assert.IsNull(layer.Domain);
                Assert.IsTrue(layer.Training);
                Assert.AreEqual(0, layer.GetDomain("target").Count);
            }
        }
    }

    private static double[] Target() => [.. TestData.Normal(5, Whole.Count).Select((value, i) => (0.3 * value) + 2 + (0.02 * (i / 3)))];

    private static IEnumerable<double[]> Cut(double[] values, int samples) => values.Chunk(3 * samples);

    /// <summary>Linear, normalize, ReLU, linear, normalize; trained statistics of a standard normal source.</summary>
    private sealed class Net
    {
        private readonly double[] _first = TestData.Normal(1, 5 * 3);
        private readonly double[] _second = TestData.Normal(2, 4 * 5);

        public Net()
        {
            for (int step = 0; step < 5; step++)
            {
                Forward(TestData.Normal(10 + step, 3 * 16));
            }
        }

        public AdaBatchNorm<double>[] Layers { get; } = [new(5), new(4)];

        public void Forward(double[] x) => Run(x);

        public double[] Infer(double[] x)
        {
            foreach (AdaBatchNorm<double> layer in Layers)
            {
                layer.Training = false;
            }

            return Run(x);
        }

        private double[] Run(double[] x)
        {
            double[] hidden = Array.ConvertAll(Normalized(Layers[0], Linear(x, _first, 3, 5), 5), value => Math.Max(0, value));
            return Normalized(Layers[1], Linear(hidden, _second, 5, 4), 4);
        }

        private static double[] Normalized(AdaBatchNorm<double> layer, double[] x, int channels) =>
            Runs.Forward(layer, new ActivationShape(x.Length / channels, channels), x);

        private static double[] Linear(double[] x, double[] weights, int inputs, int outputs)
        {
            var y = new double[x.Length / inputs * outputs];
            for (int i = 0; i < y.Length; i++)
            {
                for (int k = 0; k < inputs; k++)
                {
                    y[i] += weights[(i % outputs * inputs) + k] * x[(i / outputs * inputs) + k];
                }
            }

            return y;
        }
    }
}
