using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Support;

namespace Normalization.Tests.Bench;

[TestClass]
public sealed class ApplyCommandTests : IDisposable
{
    private static readonly ActivationShape Shape = new(6, 4, 5);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    [DataRow("none", "")]
    [DataRow("batch-norm", "--momentum none --running-variance population --epsilon 1e-3")]
    [DataRow("layer-norm", "--normalized-dims 1")]
    [DataRow("instance-norm", "--running-stats on")]
    [DataRow("group-norm", "--groups 2")]
    [DataRow("ghost-batch-norm", "--ghost-size 4 --ghost-remainder smaller-last --ghost-grouping strided --ghost-running sequential")]
    [DataRow("batch-renorm", "--r-max 1.5 --d-max 0.25")]
    [DataRow("zca-whitening", "--group-size 2 --shrinkage 0.25")]
    public void Train_EveryTensorInTheFile_WritesWhatTheLibraryComputes(string id, string options)
    {
        StrategySettings settings = Settings(id);
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(id, Shape, settings);
        StateDictionary file = File(normalizer);

        BenchResult result = Apply(id, file, options.Split(' ', StringSplitOptions.RemoveEmptyEntries));

        Assert.AreEqual("", result.Error);
        Assert.AreEqual(0, result.ExitCode);
        AssertSame(Compute(normalizer, file), StateDictionary.Load(_folder.File("out.safetensors")));
    }

    [TestMethod]
    [DataRow("batch-norm")]
    [DataRow("zca-whitening")]
    public void Inference_Double_UsesTheRunningStatisticsOfTheFile(string id)
    {
        INormalizer<double> normalizer = StrategyCatalog.Create<double>(id, Shape, new StrategySettings());
        normalizer.Training = false;
        StateDictionary file = File(normalizer);

        BenchResult result = Apply(id, file, "--mode", "inference");

        Assert.AreEqual(0, result.ExitCode, result.Error);
        StateDictionary written = StateDictionary.Load(_folder.File("out.safetensors"));
        AssertSame(Compute(normalizer, file), written);
        Assert.IsFalse(written.ContainsKey("running_mean"));
    }

    // A domain that has seen values is all that inference reads; one that has seen none leaves it to the source.
    [TestMethod]
    [DataRow("target.mean,target.var,target.count", "")]
    [DataRow("running_mean,running_var", "")]
    [DataRow("target.mean,target.count", "'target.var' of shape (2, 4)")]
    [DataRow("target.mean,target.var", "'target.count' is 0")]
    [DataRow("running_var", "'running_mean' of shape (4)")]
    public void Inference_AdaBatchNorm_NeedsTheStatisticsItReadsAlone(string present, string missing)
    {
        var layer = (AdaBatchNorm<double>)StrategyCatalog.Create<double>("ada-batch-norm", Shape, new StrategySettings());
        layer.Forward(Shape, Numbers<double>(7, Shape.Count), new double[Shape.Count]);
        layer.Domain = null;
        layer.Forward(Shape, Numbers<double>(8, Shape.Count), new double[Shape.Count]);
        StateDictionary file = Only(layer.GetState(), present.Split(','));
        file.Add("input", StateTensor.Create<double>(Numbers<double>(9, Shape.Count), Shape.ToArray()));

        BenchResult result = Apply("ada-batch-norm", file, "--mode", "inference");

        Assert.AreEqual(missing == "" ? 0 : 2, result.ExitCode, result.Error);
        StringAssert.Contains(result.Error, missing);
        if (missing == "")
        {
            layer.Domain = present.Contains("target") ? "target" : null;
            layer.Training = false;
            var expected = new double[Shape.Count];
            layer.Forward(Shape, file["input"].AsSpan<double>(), expected);
            CollectionAssert.AreEqual(expected, StateDictionary.Load(_folder.File("out.safetensors"))["output"].ToArray<double>());
        }
    }

    [TestMethod]
    public void Train_BiasAlone_TakesOnesForTheWeightAndWritesTheGradientOfTheBiasAlone()
    {
        StateDictionary file = Only(
            File(StrategyCatalog.Create<float>("batch-norm", Shape, new StrategySettings())), "input", "output_gradient", "bias");
        INormalizer<float> normalizer = StrategyCatalog.Create<float>("batch-norm", Shape, new StrategySettings());
        normalizer.LoadState(Only(file, "bias"), strict: false);

        BenchResult result = Apply("batch-norm", file);

        Assert.AreEqual(0, result.ExitCode, result.Error);
        StateDictionary written = StateDictionary.Load(_folder.File("out.safetensors"));
        CollectionAssert.AreEquivalent(
            new[] { "output", "input_gradient", "bias_gradient", "running_mean", "running_var", "num_batches_tracked" }, written.Keys.ToArray());
        var output = new float[Shape.Count];
        normalizer.Forward(Shape, file["input"].AsSpan<float>(), output);
        CollectionAssert.AreEqual(output, written["output"].ToArray<float>());
        Assert.AreEqual(1L, written["num_batches_tracked"].AsSpan<long>()[0]);
    }

    [TestMethod]
    public void Train_RunningWhitening_IsUpdatedInPlaceOfTheCovariance()
    {
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(
            "zca-whitening", Shape, new StrategySettings { WhiteningRunning = WhiteningRunning.WhiteningMatrix });
        StateDictionary file = File(normalizer);

        BenchResult result = Apply("zca-whitening", file);

        Assert.AreEqual(0, result.ExitCode, result.Error);
        AssertSame(Compute(normalizer, file), StateDictionary.Load(_folder.File("out.safetensors")));
    }

    [TestMethod]
    public void Train_OutputIsTheInputFile_ReplacesIt()
    {
        StateDictionary file = Only(File(StrategyCatalog.Create<float>("layer-norm", Shape, new StrategySettings())), "input");
        string path = _folder.File("both.safetensors");
        file.Save(path);

        BenchResult result = BenchProcess.Run(_folder.Path, "apply", "layer-norm", "--input", path, "--output", path);

        Assert.AreEqual(0, result.ExitCode, result.Error);
        CollectionAssert.AreEqual(new[] { "output" }, StateDictionary.Load(path).Keys.ToArray());
    }

    [TestMethod]
    [DataRow("layer-norm", "--groups 2 --epsilon 0.1 --no-affine", "--groups")]
    [DataRow("none", "--epsilon 0.1 --no-affine", "--no-affine --epsilon")]
    [DataRow("local-response-norm", "--epsilon 0.1 --k 2 --no-affine", "--no-affine --epsilon")]
    [DataRow("local-response-norm", "--epsilon 1e-5", "")]
    [DataRow("evonorm-b0", "--epsilon 0.1 --no-affine", "")]
    [DataRow("evonorm-b0", "--epsilon 0.1 --nonlinearity off", "--epsilon")]
    [DataRow("rms-norm", "--epsilon 0.1 --no-affine", "")]
    public void Train_OptionThatTheStrategyDoesNotHave_WarnsAndGoesOn(string id, string options, string without)
    {
        StateDictionary file = Only(File(StrategyCatalog.Create<float>("layer-norm", Shape, new StrategySettings())), "input");

        BenchResult result = Apply(id, file, options.Split(' '));

        Assert.AreEqual(0, result.ExitCode);
        CollectionAssert.AreEquivalent(
            without.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(name => $"warning: {name} has no effect on {id} with these options.").ToArray(),
            result.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(line => $"{line.Split(';')[0]}.").ToArray());
        Assert.AreEqual(without.Contains("--groups", StringComparison.Ordinal), result.Error.Contains("group-norm", StringComparison.Ordinal), result.Error);
    }

    [TestMethod]
    public void TensorOfAnotherStrategy_IsLetBeWithAWarning()
    {
        var file = new StateDictionary
        {
            { "input", StateTensor.Create<float>([.. Numbers<float>(1, Shape.Count)], Shape.ToArray()) },
            { "running_mean", StateTensor.Create<float>([1, 2, 3, 4], 4) },
        };

        BenchResult result = Apply("layer-norm", file);

        Assert.AreEqual(0, result.ExitCode);
        StringAssert.StartsWith(result.Error, "warning: 'running_mean' is not used: layer-norm with these options reads input,");
    }

    [TestMethod]
    [DataRow("batch-norm", "--mode inference", "running_mean", "--running-stats off", DisplayName = "inference without running statistics")]
    [DataRow("batch-norm", "extra", "moving_mean", "running_mean", DisplayName = "unknown tensor")]
    [DataRow("layer-norm", "weight", "'weight'", "(4, 5)", DisplayName = "misshapen weight")]
    [DataRow("batch-norm", "double", "'bias' is F64", "F32", DisplayName = "mixed element types")]
    [DataRow("batch-norm", "gradient", "'output_gradient'", "(6, 4, 5)", DisplayName = "misshapen gradient")]
    [DataRow("batch-norm", "whole", "'output_gradient' is I64", "F32", DisplayName = "gradient of whole numbers")]
    [DataRow("group-norm", "", "C = 4, G = 32. Choose another --groups.", "--help", DisplayName = "groups that do not divide C")]
    [DataRow("iter-norm", "--group-size=3", "C = 4, d = 3. Choose another --group-size.", "--help", DisplayName = "groups of channels that do not divide C")]
    public void FileThatDoesNotFit_ExitsWith2AndWritesNothing(string id, string what, string value, string wayOut)
    {
        var file = new StateDictionary { { "input", StateTensor.Create<float>([.. Numbers<float>(1, Shape.Count)], Shape.ToArray()) } };
        if (what == "extra")
        {
            file.Add("moving_mean", StateTensor.Create<float>([1, 2, 3, 4], 4));
        }
        else if (what.EndsWith("weight", StringComparison.Ordinal))
        {
            file.Add("weight", StateTensor.Create<float>([1, 2, 3, 4], 4));
        }
        else if (what == "double")
        {
            file.Add("bias", StateTensor.Create<double>([1, 2, 3, 4], 4));
        }
        else if (what == "whole")
        {
            file.Add("output_gradient", StateTensor.Create(Enumerable.Range(0, (int)Shape.Count).Select(i => (long)i).ToArray(), Shape.ToArray()));
        }
        else if (what == "gradient")
        {
            file.Add("output_gradient", StateTensor.Create<float>([1, 2, 3, 4], 4));
        }

        BenchResult result = Apply(id, file, [.. what.Split(' ').Where(word => word.StartsWith('-') || word == "inference")]);

        Assert.AreEqual(2, result.ExitCode);
        Assert.AreEqual("", result.Output);
        Assert.HasCount(1, result.ErrorLines, result.Error);
        StringAssert.Contains(result.Error, value);
        StringAssert.Contains(result.Error, wayOut);
        Assert.IsFalse(System.IO.File.Exists(_folder.File("out.safetensors")));
    }

    private BenchResult Apply(string id, StateDictionary file, params string[] options)
    {
        file.Save(_folder.File("in.safetensors"));
        return BenchProcess.Run(_folder.Path, ["apply", id, "--input", "in.safetensors", "--output", "out.safetensors", .. options]);
    }

    // What the options of the rows above say.
    private static StrategySettings Settings(string id) => id switch
    {
        "batch-norm" => new() { Momentum = null, RunningVariance = RunningVariance.Population, Epsilon = 1e-3 },
        "layer-norm" => new() { NormalizedDimensions = 1 },
        "instance-norm" => new() { RunningStatistics = true },
        "group-norm" => new() { Groups = 2 },
        "ghost-batch-norm" => new()
        {
            GhostSize = 4,
            GhostRemainder = GhostRemainder.SmallerLast,
            GhostGrouping = GhostGrouping.Strided,
            GhostRunning = GhostRunning.Sequential,
        },
        "batch-renorm" => new() { RMax = 1.5, DMax = 0.25 },
        "zca-whitening" => new() { GroupSize = 2, Shrinkage = 0.25 },
        _ => new(),
    };

    /// <summary>Input, output gradient and random state of a layer, which are also put into it.</summary>
    private static StateDictionary File<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int seed = 1;
        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            Numbers<T>(++seed, parameter.Values.Length).CopyTo(parameter.Values, 0);
        }

        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            buffer.Count = buffer.IsCounter ? 3 : 0;
            for (int i = 0; i < buffer.Values.Length; i++)
            {
                // The second term keeps a variance or a diagonal above 0 and a matrix symmetric.
                buffer.Values[i] += T.CreateChecked(0.25) * (buffer.Values[i] + (buffer.Name == "running_mean" ? T.CreateChecked(i) : T.Zero));
            }
        }

        normalizer.OnStateChanged();
        var file = new StateDictionary
        {
            { "input", StateTensor.Create<T>(Numbers<T>(100, Shape.Count), Shape.ToArray()) },
            { "output_gradient", StateTensor.Create<T>(Numbers<T>(101, Shape.Count), Shape.ToArray()) },
        };
        file.Add(normalizer.GetState());
        return file;
    }

    private static StateDictionary Compute<T>(INormalizer<T> normalizer, StateDictionary file)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var output = new T[Shape.Count];
        var gradient = new T[Shape.Count];
        normalizer.Forward(Shape, file["input"].AsSpan<T>(), output);
        normalizer.Backward(Shape, file["input"].AsSpan<T>(), file["output_gradient"].AsSpan<T>(), gradient);
        var result = new StateDictionary
        {
            { "output", StateTensor.Create<T>(output, Shape.ToArray()) },
            { "input_gradient", StateTensor.Create<T>(gradient, Shape.ToArray()) },
        };
        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            result.Add($"{parameter.Name}_gradient", StateTensor.Create<T>(parameter.Gradient, parameter.Shape));
        }

        if (normalizer.Training)
        {
            result.Add(Only(normalizer.GetState(), [.. normalizer.Buffers.Select(buffer => buffer.Name)]));
        }

        return result;
    }

    private static void AssertSame(StateDictionary expected, StateDictionary actual)
    {
        CollectionAssert.AreEquivalent(expected.Keys.ToArray(), actual.Keys.ToArray());
        foreach ((string name, StateTensor tensor) in expected)
        {
            Assert.AreEqual(tensor.ElementType, actual[name].ElementType, name);
            CollectionAssert.AreEqual(tensor.Shape.ToArray(), actual[name].Shape.ToArray(), name);
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), actual[name].Bytes.ToArray(), name);
        }
    }

    private static StateDictionary Only(StateDictionary state, params string[] names)
    {
        var chosen = new StateDictionary();
        foreach (string name in names)
        {
            chosen.Add(name, state[name]);
        }

        return chosen;
    }

    private static T[] Numbers<T>(int seed, long count)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => [.. TestData.Normal(seed, count, mean: 0.5).Select(T.CreateChecked)];
}
