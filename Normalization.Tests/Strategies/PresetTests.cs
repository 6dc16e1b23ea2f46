using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Tests.Strategies;

/// <summary>Measures what each preset's layers do, holds it against what the framework documents, and holds docs/differences.md against both.</summary>
[TestClass]
public sealed class PresetTests
{
    private static readonly ActivationShape Shape = new(6, 32, 5);

    /// <summary>What the frameworks' documentation and source say: epsilon of BN, LN, IN, GN, weight of the new batch, divisor, IN learns, groups.</summary>
    private static readonly (string Name, double[] Epsilon, double NewBatch, string Divisor, bool InstanceLearns, int? Groups)[] Documented =
    [
        ("PyTorch 2", [1e-5, 1e-5, 1e-5, 1e-5], 0.1, "m - 1", false, null),
        ("Keras 3", [1e-3, 1e-3, 1e-3, 1e-3], 1 - 0.99, "m", true, 32),
        ("Flax nnx", [1e-5, 1e-6, 1e-6, 1e-6], 1 - 0.99, "m", true, 32),
        ("ONNX", [1e-5, 1e-5, 1e-5, 1e-5], 1 - 0.9, "m", true, null),
    ];

    public static IEnumerable<object[]> Presets => Preset.All.Select(preset => new object[] { preset.Name });

    [TestMethod]
    [DynamicData(nameof(Presets))]
    public void Layers_OfPreset_MeasureAsTheFrameworkDocuments(string name)
    {
        Observed seen = Observe(Find(name));
        var (_, epsilon, newBatch, divisor, instanceLearns, groups) = Documented.Single(row => row.Name == name);
        for (int layer = 0; layer < epsilon.Length; layer++)
        {
            Assert.AreEqual(epsilon[layer], seen.Epsilon[layer], 1e-6 * epsilon[layer], $"epsilon of layer {layer}");
        }

        Assert.AreEqual(newBatch, seen.NewBatch, 1e-12);
        Assert.AreEqual(divisor, seen.Divisor);
        Assert.AreEqual(instanceLearns, seen.InstanceLearns);
        Assert.AreEqual(groups, seen.Groups);
    }

    [TestMethod]
    public void DifferencesPage_FromMeasuredPresets_IsUpToDate()
    {
        string path = Path.Combine(RepositoryRoot(), "docs", "differences.md");
        string expected = Page();
        if (Environment.GetEnvironmentVariable("UPDATE_DOCS") == "1")
        {
            File.WriteAllText(path, expected);
        }

        Assert.AreEqual(expected, File.ReadAllText(path).ReplaceLineEndings("\n"),
            "docs/differences.md is not what the presets measure. Run the tests once with UPDATE_DOCS=1 and review the diff.");
    }

    private static Preset Find(string name) => Preset.All.Single(preset => preset.Name == name);

    private static Observed Observe(Preset preset)
    {
        var batch = new BatchNorm<double>(Shape.Channels, preset.BatchNorm);
        var instance = new InstanceNorm<double>(Shape.Channels, preset.InstanceNorm);
        nint[] normalized = [Shape.Channels, Shape.SpatialSize];
        INormalizer<double>[] layers =
        [
            batch,
            new LayerNorm<double>(normalized, preset.LayerNorm),
            instance,
            new GroupNorm<double>(preset.Groups ?? 4, Shape.Channels, preset.GroupNorm),
        ];

        // Small variance, so that epsilon shows: xhat = (x - mean) / sqrt(v + epsilon) gives epsilon = v (v / (v + epsilon))^-1 - v.
        double[] epsilon = Array.ConvertAll(layers, layer => MeasureEpsilon(layer));

        double[] input = Input(scale: 1);
        double[] output = new double[input.Length];
        var fresh = new BatchNorm<double>(Shape.Channels, preset.BatchNorm);
        fresh.Forward(Shape, input, output);
        (double mean, double populationVariance, int count) = ChannelMoments(input, 0);
        double newBatch = fresh.Buffers[0].Values[0] / mean;
        double stored = (fresh.Buffers[1].Values[0] - (1 - newBatch)) / newBatch;
        double ratio = stored / populationVariance;
        string divisor = Math.Abs(ratio - 1) < 1e-9 ? "m" : Math.Abs(ratio - ((double)count / (count - 1))) < 1e-9 ? "m - 1" : "unknown";
        return new Observed(epsilon, newBatch, divisor, instance.Parameters.Count > 0, preset.Groups);
    }

    private static double MeasureEpsilon(INormalizer<double> layer)
    {
        double[] input = Input(scale: 1e-2);
        double[] output = new double[input.Length];
        layer.Forward(Shape, input, output);
        long set = layer.ReductionSetOf(Shape, 0, 0, 0);
        double count = 0, sum = 0, squares = 0, outputSquares = 0;
        for (int i = 0; i < input.Length; i++)
        {
            int s = i % 5, c = i / 5 % 32, n = i / 160;
            if (layer.ReductionSetOf(Shape, n, c, s) == set)
            {
                count++;
                sum += input[i];
                squares += input[i] * input[i];
                outputSquares += output[i] * output[i];
            }
        }

        double variance = (squares / count) - (sum / count * (sum / count));
        return variance * ((count / outputSquares) - 1);
    }

    private static (double Mean, double PopulationVariance, int Count) ChannelMoments(double[] input, int channel)
    {
        var values = input.Where((_, i) => i / 5 % 32 == channel).ToArray();
        double mean = values.Average();
        return (mean, values.Average(value => (value - mean) * (value - mean)), values.Length);
    }

    private static double[] Input(double scale)
    {
        var random = new Random(11);
        var values = new double[Shape.Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = scale * ((3 * random.NextDouble()) - 1);
        }

        return values;
    }

    private static string Page()
    {
        var page = new StringBuilder();
        page.Append("# Same as, and different from, the frameworks\n\n");
        page.Append("Measured from `Preset.PyTorch`, `Preset.Keras`, `Preset.Flax` and `Preset.Onnx` by `PresetTests`, which fails when this page and the\n");
        page.Append("measurement disagree (`UPDATE_DOCS=1 dotnet test` writes it anew).\n\n");
        page.Append("## Defaults\n\n");
        page.Append("| | " + string.Join(" | ", Preset.All.Select(preset => preset.Name)) + " |\n");
        page.Append("|---|" + string.Concat(Preset.All.Select(_ => "---|")) + "\n");
        Observed[] seen = [.. Preset.All.Select(Observe)];
        string[] layers = ["batch norm", "layer norm", "instance norm", "group norm"];
        for (int layer = 0; layer < layers.Length; layer++)
        {
            Row($"epsilon, {layers[layer]}", observed => observed.Epsilon[layer].ToString("0e-0", CultureInfo.InvariantCulture));
        }

        Row("weight of the new batch (our `Momentum`)", observed => observed.NewBatch.ToString("0.##", CultureInfo.InvariantCulture));
        page.Append("| momentum as the framework writes it | " + string.Join(" | ", Preset.All.Select(preset => preset.MomentumAsWritten)) + " |\n");
        Row("divisor of the stored variance (m values)", observed => observed.Divisor);
        Row("instance norm has weight and bias", observed => observed.InstanceLearns ? "yes" : "no");
        Row("default number of groups", observed => observed.Groups?.ToString(CultureInfo.InvariantCulture) ?? "none, required");
        page.Append("\nThe batch itself is normalized by its population variance (divisor m) in all of them and here.\n\n");
        page.Append("## What is ours in every preset\n\n");
        Lines(OursAlways);
        page.Append("\n## Three axes, (B, T, D)\n\n");
        page.Append("Axis 1 is the channel axis in every strategy, whatever the memory's order. What this means for sequences of B samples, T steps and D features:\n\n");
        Lines(ThreeAxes);
        page.Append("\n## Strategies without a preset\n\n");
        page.Append("Presets are of batch, layer, instance and group norm. The others have one set of defaults; where implementations differ:\n\n");
        Lines(WithoutPreset);
        return page.ToString();

        void Lines(IEnumerable<string> lines) => page.AppendJoin("", lines.Select(line => $"- {line}\n"));

        void Row(string title, Func<Observed, string> cell) => page.Append("| " + title + " | " + string.Join(" | ", seen.Select(cell)) + " |\n");
    }

    private static readonly string[] OursAlways =
    [
        "State is named as in PyTorch: `weight`, `bias`, `running_mean`, `running_var`, `num_batches_tracked`. Keras says `gamma`, `beta`, `moving_mean`, `moving_variance`; Flax `scale`, `bias`, `mean`, `var`; ONNX `scale`, `B`, `input_mean`, `input_var`.",
        "Momentum null is the cumulative average over batches, as PyTorch's None; Keras, Flax and ONNX have no such mode.",
        "One value per statistic is an error that counts values, not samples, so that (N, C, 1, 1) fails for instance norm whatever N is; `SingleValuePolicy` offers the running statistics or the bias instead.",
        "A batch whose statistics are NaN, infinite or too large for the storage type never reaches the running ones: the whole layer's update is skipped and counted in `SkippedUpdates`. PyTorch, Keras and Flax store it.",
        "An empty batch changes no state, the counter included.",
        "`Freeze()` holds against a later `Training = true`. PyTorch's `eval()` on a layer is undone by the parent's `train()`; Keras freezes through `trainable = False`.",
        "Which statistics normalize (`StatisticsSource`), whether running ones are updated (`UpdateRunningStatistics`) and whether weight and bias learn (`LearnParameters`) are three switches; in Keras `trainable` moves all three.",
        "Variance keeps its digits whatever the mean is: sums are in double, and where a subtraction would cost more than 10 of 53 bits they are taken about a value of the set. Flax's default E[x^2] - E[x]^2 in float loses the variance of data with a large mean.",
        "Group norm's weight and bias go by channel, as in the paper, PyTorch and ONNX opset 21; opset 18 had them by group.",
        "Group norm with one group is layer norm over (C, ...) but for the affine: (C) against (C, ...).",
        "Instance norm with running statistics counts `num_batches_tracked` and honours the cumulative average; PyTorch's leaves its counter at 0.",
        "Instance norm never reads (N, C) as an unbatched (C, L): it is an error.",
    ];

    private static readonly string[] ThreeAxes =
    [
        "`LayerNorm<T>(D)` and `RmsNorm<T>(D)` normalize each token over its D features: the usual choice, as in PyTorch, Keras and Flax.",
        "`BatchNorm<T>(T)` is what batch norm takes here: it has a statistic for each step, over samples and features. PyTorch's BatchNorm1d reads (B, T, D) the same way. Keras and Flax take the last axis for the channels. For a statistic of each feature make D axis 1: view the same memory as (B, D, T) by strides, which is channels-last and needs no copy, or as (B * T, D).",
        "`GroupNorm<T>(G, T)` groups steps and `InstanceNorm<T>(T)` has a statistic for each step of each sample, for the same reason. With (B, D, T) they group features, and normalize each feature over the steps.",
    ];

    private static readonly string[] WithoutPreset =
    [
        "RMS norm: epsilon is 1e-5 inside the root, as in ONNX. PyTorch's default is the machine epsilon of the type (1.2e-7 in float), inside; the authors' code has 1e-8 outside (`EpsilonPlacement.Outside`).",
        "Local response norm: alpha 1e-4 divided by the size, beta 0.75 and k 1, as PyTorch; the size, for which PyTorch asks, is 5. ONNX leans a window of even size the other way (`ResponseWindowKind.Onnx`); AlexNet has k 2 and does not divide alpha (`DivideAlpha` off).",
        "Filter response norm: epsilon is 1e-5, in the paper 1e-6. The learned eps is off; implementations that add |eps| alone are matched by epsilon 0 and `LearnedEpsilon`.",
        "EvoNorm-B0: the sample variance is stored, momentum 0.1 of the new batch; the authors store the population variance, and write 0.9 of the old value. timm's epsilon is 1e-3, ours 1e-5.",
        "EvoNorm-S0: the number of groups must divide the channels; the authors' code lowers it until it does.",
        "Switchable norm: population variances throughout, running variance from 1, momentum 0.1 of the new batch, always three statistics. The authors mix sample variances, start from 0, and have layer and batch norm alone for (N, C), which is refused here.",
        "Batch renormalization: limits 3 and 5 from the start unless a `Schedule` is given, momentum 0.1; the paper grows them over 40000 steps with 0.01. Keras limits nothing by default, and keeps a moving variance of its own for inference.",
        "Adaptive batch norm: a domain's moments are exact over all its values. PyTorch's idiom (reset, momentum None, one pass in training) averages sample variances of batches.",
        "Synchronized batch norm: as PyTorch's SyncBatchNorm, which runs on GPUs alone. In inference without running statistics PyTorch normalizes each rank's part by itself; here it is one batch still.",
        "Whitening: the running covariance is kept, and inference makes the matrix from it; the authors of IterNorm average the matrix (`WhiteningRunning.WhiteningMatrix`). A group size that does not divide the channels is an error; theirs is halved in silence.",
    ];

    private static string RepositoryRoot([CallerFilePath] string source = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(source)!, "..", ".."));

    private sealed record Observed(double[] Epsilon, double NewBatch, string Divisor, bool InstanceLearns, int? Groups);
}
