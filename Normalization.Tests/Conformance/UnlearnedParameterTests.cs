using System.Numerics.Tensors;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Conformance;

/// <summary>A backward pass that no parameter learns from gives the same input gradient and touches no other memory.</summary>
[TestClass]
public class UnlearnedParameterTests
{
    public static IEnumerable<object[]> Strategies => StrategyCases.Ids.Select(id => new object[] { id });

    [TestMethod]
    [DynamicData(nameof(Strategies))]
    public void Backward_ParametersNotLearned_GivesTheSameInputGradient(string strategy)
    {
        // Many channels on a thread of their own: working memory has just what the call announced.
        foreach (nint[] lengths in new nint[][] { [1, 2048, 2, 2], [8, 2048], [4, 600, 1, 5] })
        {
            if (!StrategyCases.Of(strategy).Carries(new ActivationShape(lengths)))
            {
                continue;
            }

            Exception? failure = null;
            var thread = new Thread(() => failure = Record(() => Compare(strategy, lengths)));
            thread.Start();
            thread.Join();
            Assert.IsNull(failure, $"{strategy} {string.Join("x", lengths)}: {failure}");
        }
    }

    private static Exception? Record(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (Exception exception)
        {
            return exception;
        }
    }

    private static void Compare(string strategy, nint[] lengths)
    {
        var shape = new ActivationShape(lengths);
        StrategySettings settings = StrategyCases.Of(strategy).Adapt(new() { Groups = 8, GhostSize = lengths[0] == 1 ? 1 : 4, GroupSize = 8 }, shape);
        float[] unlearned = Gradient(strategy, shape, settings, learns: false, out bool untouched);
        Assert.IsTrue(untouched, "a parameter's gradient changed");
        CollectionAssert.AreEqual(Gradient(strategy, shape, settings, learns: true, out _), unlearned);
        float[] plain = Gradient(strategy, shape, settings with { Weight = false, Bias = false }, learns: true, out _);
        Assert.IsTrue(plain.All(float.IsFinite), "no parameters at all");
    }

    private static float[] Gradient(string strategy, ActivationShape shape, StrategySettings settings, bool learns, out bool untouched)
    {
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(strategy, shape, settings);
        if (normalizer is Normalizer<float> switchable)
        {
            switchable.LearnParameters = learns;
        }

        float[] input = Values(shape, 1);
        float[] upstream = Values(shape, 2);
        var output = new float[input.Length];
        var gradient = new float[input.Length];
        nint[] lengths = shape.ToArray();
        normalizer.Forward(new ReadOnlyTensorSpan<float>(input, lengths), new TensorSpan<float>(output, lengths));
        normalizer.Backward(new ReadOnlyTensorSpan<float>(input, lengths), new ReadOnlyTensorSpan<float>(upstream, lengths), new TensorSpan<float>(gradient, lengths));
        untouched = normalizer.Parameters.All(parameter => parameter.Gradient.All(value => value == 0));
        return gradient;
    }

    private static float[] Values(ActivationShape shape, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, (int)shape.Count).Select(_ => (random.NextSingle() * 2) - 1)];
    }
}
