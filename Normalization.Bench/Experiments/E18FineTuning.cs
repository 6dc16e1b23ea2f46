using Normalization.Bench.Models;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Reporting;
using Normalization.Strategies;

namespace Normalization.Bench.Experiments;

/// <summary>E18: what to do with running statistics when a trained network goes on learning on other images, in other batches.</summary>
internal sealed class E18FineTuning : Experiment
{
    private const string Kept = "statistics-kept";
    private const string Reset = "statistics-reset";
    private const string Frozen = "statistics-frozen";
    private const string Released = "frozen-then-released";
    private const double Rate = 0.05;
    private const double FineRateAt32 = 0.01;
    private const double Momentum = 0.9;
    private const int BatchSize = 64;
    private const int Epochs = 2;
    private const int Looks = 8;
    private static readonly int[] Sizes = [32, 4, 2];
    private static readonly DomainShift Shift = DomainShift.Noise;

    public override string Id => "E18";

    public override IReadOnlyList<(string Id, string Options)> Strategies =>
    [
        (Kept, "training goes on: batch statistics, running ones updated from where they were"), (Reset, "the same with running statistics put back to those of a new layer first"),
        (Frozen, "running statistics of the first training normalize throughout"), (Released, "frozen for the first half of the steps, then as kept"),
    ];

    public override ExperimentDescription Describe(ExperimentScale scale) => new(
        Id, "Fine-tuning on shifted data in other batches",
        "A network trained in batches of 64 goes on learning on shifted images in batches of 32, 4 or 2: what becomes of it when its batch norms' statistics are kept, reset, frozen, or frozen and then released?",
        [
            $"pixels-128-128-128-10, batch norm (epsilon 1e-5, momentum 0.1) before each ReLU; pixels in [0, 1]; first {Examples(scale)} images, {FirstEpochs(scale)} epochs of batches of {BatchSize}, gradient descent with momentum {Momentum}, rate {Rate};",
            $"then {FineExamples(scale)} other images with noise, {Shift.Words}, {Epochs} epochs, rate {FineRateAt32} at N = 32 and in proportion to N; tested on {Tests(scale)} images with such noise.",
        ],
        [.. Sizes.Select(size => new ExperimentChart($"Accuracy on the shifted images, N = {size}", "test_accuracy", "progress", "share of the fine-tuning done", Only: With("batch_size", (long)size)))],
        [
            new ExperimentClaim
            {
                Id = "frozen-at-2",
                Text = "At N = 2 frozen statistics end more than 5 points above those of batches (kept)",
                Left = new(Frozen, "test_accuracy", At(2, 1)),
                Right = new(Kept, "test_accuracy", At(2, 1)),
                Threshold = 0.05,
                Published = "none; the threshold is E3's for the collapse at N = 2, where batch statistics leave the values +1 and -1 and pass no gradient",
            },
            new ExperimentClaim
            {
                Id = "kept-at-32",
                Text = "At N = 32 they do not: frozen statistics end less than 5 points above",
                Left = new(Frozen, "test_accuracy", At(32, 1)),
                Right = new(Kept, "test_accuracy", At(32, 1)),
                Above = false,
                Threshold = 0.05,
                Published = "none; the same threshold",
            },
            new ExperimentClaim
            {
                Id = "reset-at-once",
                Text = "Right after the reset inference is more than 20 points below what kept statistics give",
                Left = new(Kept, "test_accuracy", At(32, 0)),
                Right = new(Reset, "test_accuracy", At(32, 0)),
                Threshold = 0.2,
                Published = "none; inference by mean 0 and variance 1 is no longer the trained function",
            },
            new ExperimentClaim
            {
                Id = "reset-forgotten",
                Text = "After fine-tuning at N = 32 the reset is forgotten: kept statistics end less than 1 point above",
                Left = new(Kept, "test_accuracy", At(32, 1)),
                Right = new(Reset, "test_accuracy", At(32, 1)),
                Above = false,
                Threshold = 0.01,
                Published = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"none; training does not read running statistics, and after {Images(scale) / 32} steps 0.9^{Images(scale) / 32} = {Math.Pow(0.9, Images(scale) / 32):g1} is left of the reset"),
            },
            new ExperimentClaim
            {
                Id = "release-at-2",
                Text = "At N = 2 releasing frozen statistics loses: frozen ones end above",
                Left = new(Frozen, "test_accuracy", At(2, 1)),
                Right = new(Released, "test_accuracy", At(2, 1)),
                Threshold = 0,
                Published = "none; as at the first claim",
            },
        ]);

    // A trial has all batch sizes of a way and seed.
    public override IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale) =>
        from strategy in Strategies
        from seed in Seeds(scale)
        select new Trial(
            strategy.Id, seed, (Examples(scale) * FirstEpochs(scale) * 1e-5) + (Images(scale) * Sizes.Length * 4e-5), log => Run(data, strategy.Id, seed, scale, log));

    private static Dictionary<string, object> At(long size, double progress) => new(StringComparer.Ordinal) { ["batch_size"] = size, ["progress"] = progress };

    private static int Examples(ExperimentScale scale) => scale.Quick ? 4000 : 16_000;

    private static int FirstEpochs(ExperimentScale scale) => scale.Quick ? 4 : 5;

    private static int FineExamples(ExperimentScale scale) => scale.Quick ? 1024 : 4096;

    private static int Tests(ExperimentScale scale) => scale.Quick ? 1000 : 4000;

    private static long Images(ExperimentScale scale) => (long)FineExamples(scale) * Epochs;

    private void Run(DigitData data, string strategy, long seed, ExperimentScale scale, TrialLog log)
    {
        (Examples all, Examples test) = data.Raw;
        // A smaller set than asked for is shared out in the same proportion.
        int first = Math.Min(Examples(scale), (int)((long)all.Count * Examples(scale) / (Examples(scale) + FineExamples(scale))));
        Examples fine = Shift.Apply(all.Skip(first).Take(Math.Min(FineExamples(scale), all.Count - first)), new RandomStream(seed, Id, "noise", "train"));
        test = test.Take(Math.Min(test.Count, Tests(scale)));
        Examples shifted = Shift.Apply(test, new RandomStream(seed, Id, "noise", "test"));
        Sequential<float> network = Networks.Perceptron(
            all.Size, 128, 3, "batch-norm", new StrategySettings(), () => new Relu<float>(), new RandomStream(seed, Id, "weights"));
        var before = new Training(network, (all.Take(first), test), BatchSize, new RandomStream(seed, Id, "order"), new TrainingOptions { Momentum = Momentum });
        for (int step = 0; step < first / BatchSize * FirstEpochs(scale); step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            before.Step(Rate);
        }

        Normalizer<float>[] layers = [.. network.Normalizers.Cast<Normalizer<float>>()];
        float[][] trained = [.. Numbers(network).Select(numbers => (float[])numbers.Clone())];
        foreach (int size in Sizes)
        {
            foreach ((float[] numbers, float[] values) in Numbers(network).Zip(trained))
            {
                values.CopyTo(numbers, 0);
            }

            foreach (Normalizer<float> layer in layers)
            {
                layer.Unfreeze();
                layer.OnStateChanged();
                if (strategy == Reset)
                {
                    layer.ResetStatistics();
                }
                else if (strategy is Frozen or Released)
                {
                    layer.Freeze();
                }
            }

            FineTune(network, layers, strategy, size, (fine, shifted), new RandomStream(seed, Id, "fine-tuning order"), log);
            log.Add("source_accuracy", before.TestAccuracy(), before.Note, ("batch_size", (long)size));
        }
    }

    private static void FineTune(
        Sequential<float> network, Normalizer<float>[] layers, string strategy, int size, (Examples Train, Examples Test) examples, RandomStream order, TrialLog log)
    {
        var training = new Training(network, examples, size, order, new TrainingOptions { Momentum = Momentum });
        int steps = examples.Train.Count / size * Epochs;
        int looks = 0;
        for (int step = 0; step <= steps; step++)
        {
            log.Cancellation.ThrowIfCancellationRequested();
            if (step == looks * steps / Looks)
            {
                log.Add("test_accuracy", training.TestAccuracy(), training.Note, ("batch_size", (long)size), ("progress", looks / (double)Looks));
                looks++;
            }

            if (strategy == Released && step == steps / 2)
            {
                Array.ForEach(layers, layer => layer.Unfreeze());
            }

            if (step < steps)
            {
                training.Step(FineRateAt32 * size / 32);
            }
        }
    }

    // Everything that training moves: parameters, then running statistics. Counters have no values here, and no say where the momentum is fixed.
    private static IEnumerable<float[]> Numbers(Layer<float> network) =>
        network.Parameters.Select(parameter => parameter.Values).Concat(network.Normalizers.SelectMany(normalizer => normalizer.Buffers).Select(buffer => buffer.Values));
}
