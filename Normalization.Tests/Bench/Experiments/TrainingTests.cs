using Normalization.Bench.Experiments;
using Normalization.Bench.Models;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Bench.Experiments;

/// <summary>How batches are made, and what a step of several of them is.</summary>
[TestClass]
public sealed class TrainingTests
{
    private const int Count = 60;
    private const int BatchSize = 12;

    // Image i has pixels (i, 1) and label i mod 10.
    private static readonly Examples Numbered = new([.. Enumerable.Range(0, Count).SelectMany(i => new[] { i, 1f })], [.. Enumerable.Range(0, Count).Select(i => (byte)(i % 10))], 1, 2);

    [TestMethod]
    [DataRow((int)BatchComposition.Fresh, false)]
    [DataRow((int)BatchComposition.Fixed, true)]
    public void Step_TwoEpochs_HaveEveryExampleOnceEachAndTheSameBatchesOnlyWhereFixed(int composition, bool areSame)
    {
        Training training = Create(new TrainingOptions { Composition = (BatchComposition)composition });
        string[][] epochs = [Epoch(), Epoch()];
        Assert.AreEqual(areSame, epochs[0].Order(StringComparer.Ordinal).SequenceEqual(epochs[1].Order(StringComparer.Ordinal)));
        Assert.IsFalse(epochs[0].SequenceEqual(epochs[1]), "in another order");

        string[] Epoch()
        {
            int[][] batches = [.. Enumerable.Range(0, Count / BatchSize).Select(_ => Draw(training))];
            CollectionAssert.AreEqual(Enumerable.Range(0, Count).ToArray(), batches.SelectMany(batch => batch).Order().ToArray());
            return [.. batches.Select(batch => string.Join(' ', batch.Order()))];
        }
    }

    [TestMethod]
    public void Step_TwoClasses_HasHalfOfTheBatchOfEachAndOthersTheNextTime()
    {
        Training training = Create(new TrainingOptions { Composition = BatchComposition.TwoClasses });
        var pairs = new HashSet<string>();
        for (int step = 0; step < 20; step++)
        {
            int[] classes = [.. Draw(training).Select(image => image % 10)];
            CollectionAssert.AreEqual(classes, training.Batch.Labels.Select(label => (int)label).ToArray());
            Assert.HasCount(2, classes.Distinct().ToArray());
            Assert.AreEqual(BatchSize / 2, classes.Count(one => one == classes[0]));
            pairs.Add(string.Join(' ', classes.Distinct().Order()));
        }

        Assert.IsGreaterThan(10, pairs.Count);
    }

    // Without batch statistics, three micro-batches of 4 give the gradient of one batch of the same 12.
    [TestMethod]
    public void Gradients_MicroBatches_AreThoseOfTheWholeBatch()
    {
        (Layer<float> whole, Layer<float> parts) = (Network(), Network());
        double loss = Create(new TrainingOptions(), whole).Gradients();
        double mean = Create(new TrainingOptions { MicroBatches = 3 }, parts, BatchSize / 3).Gradients();
        Assert.AreEqual(loss, mean, 1e-6);
        foreach ((var left, var right) in whole.Parameters.Zip(parts.Parameters))
        {
            for (int i = 0; i < left.Gradient.Length; i++)
            {
                Assert.AreEqual(left.Gradient[i], right.Gradient[i], 1e-5f * (1 + Math.Abs(left.Gradient[i])), left.Name);
            }
        }
    }

    [TestMethod]
    public void Step_Distortion_ChangesTheBatchAndNotTheExamples()
    {
        float[] before = [.. Numbered.Pixels];
        Training training = Create(new TrainingOptions { Distortion = (image, _, _, _) => image[0] += 1000 });
        int[] drawn = Draw(training);
        Assert.IsTrue(Array.TrueForAll(drawn, image => image >= 1000));
        CollectionAssert.AreEqual(before, Numbered.Pixels);
    }

    [TestMethod]
    public void Step_RateThatOverflows_IsRecordedAndNothingMovesAfterwards()
    {
        Layer<float> network = Network();
        Training training = Create(new TrainingOptions(), network);
        for (int step = 0; step < 5; step++)
        {
            training.Step(1e38);
        }

        Assert.IsNotNull(training.DivergedAt);
        Assert.IsGreaterThan(1, training.DivergedAt.Value);
        StringAssert.Contains(training.Note, training.DivergedAt.ToString());
        Assert.AreEqual(0, training.TestAccuracy());
        float[] weights = [.. network.Parameters.First().Values];
        Assert.AreEqual(double.NaN, training.Step(0.1));
        CollectionAssert.AreEqual(weights, network.Parameters.First().Values);
    }

    // Every variant of E2 is held against its seed's baseline: the same whether that ran before or has to be trained for it.
    [TestMethod]
    public void Trial_WithoutTheBaselinesTrial_RecordsTheSame()
    {
        var data = DigitData.Generate(200, 100, 1);
        var scale = new ExperimentScale(Quick: true, Seeds: 1, Seed: 1);
        var experiment = new E2LearningRates();
        Measurement[] alone = Run(experiment.Trials(data, scale).Single(trial => trial.Strategy == "batch-norm-x5"));
        Trial[] all = [.. experiment.Trials(data, scale)];
        Measurement[] baseline = Run(all.Single(trial => trial.Strategy == "none"));
        Measurement[] after = Run(all.Single(trial => trial.Strategy == "batch-norm-x5"));
        CollectionAssert.AreEqual(Words(alone), Words(after));
        double best = baseline.Single(row => row.Metric == "best_accuracy").Value!.Value;
        Assert.IsGreaterThanOrEqualTo(baseline.Where(row => row.Parameters!.ContainsKey("step")).Max(row => row.Value!.Value), best);
        Assert.IsNull(baseline.Single(row => row.Metric == "steps_to_baseline").Note, "the baseline reaches its own best");
        bool reaches = after.Single(row => row.Metric == "best_accuracy").Value >= best;
        Measurement steps = after.Single(row => row.Metric == "steps_to_baseline");
        Assert.AreEqual(reaches, steps.Note is null, steps.Note);

        static Measurement[] Run(Trial trial)
        {
            var log = new TrialLog("E2", trial.Strategy, trial.Seed, CancellationToken.None);
            trial.Run(log);
            return [.. log.Rows];
        }

        static string[] Words(Measurement[] rows) => [.. rows.Select(row => $"{row.Metric} {string.Join(' ', row.Parameters!)} {row.Value:R} {row.Note}")];
    }

    private static Training Create(TrainingOptions options, Layer<float>? network = null, int batchSize = BatchSize) =>
        new(network ?? Network(), (Numbered, Numbered), batchSize, new RandomStream(7, "order"), options);

    private static Linear<float> Network() => new(2, 10, new RandomStream(7, "weights"), deviation: 0.01);

    private static int[] Draw(Training training)
    {
        training.Step(0);
        return [.. Enumerable.Range(0, training.Batch.Labels.Length).Select(i => (int)training.Batch.Images.Values[2 * i])];
    }
}
