using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

/// <summary>A run that was never made: every aspect, plausible numbers, the same ones each time.</summary>
internal sealed class SampleRun
{
    public static readonly string[] Strategies =
        ["none", "batch-norm", "layer-norm", "instance-norm", "group-norm", "ghost-batch-norm", "zca-whitening"];

    private static readonly ScenarioDescription[] Scenarios =
    [
        new("gaussian", "Gaussian", "(32, 16, 8, 8), independent standard normal values: the plain case."),
        new("correlated", "correlated channels", "(32, 16, 8, 8), channel covariance with condition number 1e4."),
        new("heavy-tails", "heavy tails", "(32, 16, 8, 8), Student t with 2.5 degrees of freedom."),
        new("large-mean", "large mean", "(32, 16, 8, 8), mean 1e4, unit variance: what float cancellation does."),
        new("dead-channel", "dead channel", "(32, 16, 8, 8), channel 3 constant."),
        new("features", "feature vectors", "(32, 16), no spatial axes."),
        new("activations", "real activations", "(32, 16, 26, 26), drawn digits through a fixed random 3 x 3 convolution."),
    ];

    private readonly Random _random = new(7);
    private readonly List<CaseRecord> _cases = [];
    private readonly List<Measurement> _rows = [];
    private string _aspect = "";
    private string _strategy = "";
    private string _scenario = "";

    public static RunData Build() => new SampleRun().Make();

    /// <summary>The same run with every row of two strategies exchanged.</summary>
    public static RunData Swap(RunData run, string one, string other) => Map(run, row => row with
    {
        Strategy = row.Strategy == one ? other : row.Strategy == other ? one : row.Strategy,
    });

    /// <summary>The same run with its rows changed; null leaves a row out.</summary>
    public static RunData Map(RunData run, Func<Measurement, Measurement?> change) => run with
    {
        Cases = [.. run.Cases.Select(record => record with { Measurements = [.. record.Measurements.Select(change).OfType<Measurement>()] })],
    };

    private RunData Make()
    {
        foreach (var scenario in Scenarios)
        {
            foreach (string strategy in Strategies)
            {
                Case(Aspects.Outputs, scenario.Id, strategy, Outputs);
                if (scenario.Id != "activations") Case(Aspects.Gradients, scenario.Id, strategy, Gradients);
            }
        }

        foreach (string scenario in new[] { "gaussian", "activations" })
        {
            foreach (string strategy in Strategies) Case(Aspects.BatchSize, scenario, strategy, BatchSize);
        }

        foreach (string strategy in Strategies) Case(Aspects.Speed, "gaussian", strategy, Speed);
        var header = new RunHeader
        {
            Environment = new RunEnvironment
            {
                Started = "2026-03-01T09:30:00Z",
                Cpu = "Example CPU 3.0 GHz",
                SimdBits = 512,
                Cores = 2,
                Os = "Example Linux 12 X64",
                Runtime = ".NET 10.0.1",
                Packages = new Dictionary<string, string> { ["System.Numerics.Tensors"] = "11.0.0", ["MathNet.Numerics"] = "5.0.0" },
                Commit = "0.1.0+0123456789abcdef",
                CommandLine = "Normalization.Bench compare --seed 1",
                Seed = 1,
                Threads = 2,
            },
            Settings = new Dictionary<string, string> { ["data"] = "generated digits", ["seed"] = "1", ["epsilon"] = "1e-5", ["thorough"] = "false" },
            Strategies = [.. Strategies.Select(id => new StrategyDescription(id, id == "none" ? "no statistics" : $"what {id} shares", "epsilon 1e-5, affine"))],
            Scenarios = Scenarios,
            CaseCount = _cases.Count,
        };
        return new RunData(header, _cases);
    }

    private void Case(string aspect, string scenario, string strategy, Action measure)
    {
        (_aspect, _scenario, _strategy) = (aspect, scenario, strategy);
        _rows.Clear();
        measure();
        _cases.Add(new CaseRecord { Case = $"{aspect}/{scenario}/{strategy}", Seconds = 0.125, Measurements = [.. _rows] });
    }

    private bool PerSample => _strategy is "none" or "layer-norm" or "instance-norm" or "group-norm";

    private void Outputs()
    {
        if (_strategy == "instance-norm" && _scenario == "features")
        {
            const string Why = "Instance norm needs at least two values per channel and sample; (32, 16) has one.";
            foreach (string metric in new[] { "set_mean_error", "set_variance_error", "float_error", "train_inference_gap" }) Add(metric, null, note: Why);
            return;
        }

        double hard = _scenario == "large-mean" ? 8 : 1;
        if (_strategy != "none")
        {
            Add("set_mean_error", Around(2e-8 * hard));
            Add("set_variance_error", Around(6e-8 * hard));
        }

        Add("float_error", _strategy == "none" ? 0 : Around((_strategy == "group-norm" ? 4e-8 : _strategy == "zca-whitening" ? 2e-6 : 9e-8) * hard));
        for (int other = Array.IndexOf(Strategies, _strategy) + 1; other < Strategies.Length; other++)
        {
            bool features = _scenario == "features" && Strategies[other] == "instance-norm";
            Add("distance", features ? null : Around(_strategy == "none" && _scenario == "large-mean" ? 1e4 : 0.1 * other), parameters: [("other", Strategies[other])],
                note: features ? "instance-norm has no output here." : null);
        }

        bool correlated = _scenario == "correlated";
        Add("correlation_left", _strategy == "zca-whitening" ? Around(1e-6) : correlated ? 0.9 : Around(0.05));
        Add("condition_number_left", _scenario == "dead-channel" ? double.PositiveInfinity : _strategy == "zca-whitening" ? 1.002 : correlated ? _strategy == "none" ? 1e4 : Around(4200) : Around(1.4));
        if (_strategy == "zca-whitening") Add("whiteness_error", Around(3e-7), note: "S has rank 16.");
        if (_strategy != "none") Add("train_inference_gap", PerSample ? 0 : Around(_strategy == "ghost-batch-norm" ? 0.08 : 0.03));
        if (_strategy is "batch-norm" or "ghost-batch-norm") Add("input_recovery_error", Around(_strategy == "batch-norm" ? 3e-7 : 0.2));

        Claim("shift", _strategy != "none", _strategy == "none" ? 1 : Around(1e-9));
        Claim("channel-scale", _strategy is "batch-norm" or "instance-norm" or "ghost-batch-norm", _strategy is "none" or "layer-norm" or "group-norm" ? 0.6 : Around(1e-9));
        Claim("rotation", _strategy == "zca-whitening", _strategy is "zca-whitening" or "none" ? Around(1e-9) : 0.7);
        // The ghosts of a permuted batch are others: declared here all the same, so that something is refuted.
        Claim("batch-permutation", true, _strategy == "ghost-batch-norm" ? 0.21 : 0);
        Claim("sample-independence", PerSample, PerSample ? 0 : Around(0.3));
    }

    private void Gradients()
    {
        if (_strategy == "instance-norm" && _scenario == "features")
        {
            Add("gradient_error_input", null, note: "Instance norm needs at least two values per channel and sample; (32, 16) has one.");
            return;
        }

        Add("gradient_error_input", Around(4e-11));
        Add("gradient_error_parameter", Around(2e-11), parameters: [("parameter", "weight")]);
        Add("gradient_error_parameter", Around(1e-11), parameters: [("parameter", "bias")]);
        if (_strategy != "none") Add("gradient_sum_error", Around(1e-16));
        double gain = _scenario switch { "dead-channel" => _strategy is "layer-norm" or "group-norm" ? 1.4 : 79, "heavy-tails" => 1.05, _ => 0.98 };
        Add("gradient_gain", _strategy == "none" ? 1 : Around(gain));
        Add("bias_before_gradient", PerSample ? Around(0.02) : 0);
        Add("weight_scale_output_error", _strategy == "none" ? 3 : Around(1e-12), parameters: [("a", 4L)]);
        Add("weight_scale_gradient_error", _strategy == "none" ? double.NaN : Around(1e-12), parameters: [("a", 4L)]);
        if (_scenario != "gaussian" && _scenario != "correlated") return;
        double condition = _strategy == "none" ? 2.1 : Around(_strategy == "zca-whitening" ? 1.6 : 2.6);
        for (long index = 1; index <= 64; index++)
            Add("jacobian_singular_value", index > 60 && _strategy != "none" ? index > 62 ? 0 : 1e-17 : condition * Math.Exp(-index / 24.0), parameters: [("index", index)]);
        Add("jacobian_condition", condition);
    }

    private void BatchSize()
    {
        for (long n = 2; n <= 256; n *= 2)
        {
            if (_strategy == "zca-whitening" && _scenario == "gaussian" && n == 2)
            {
                foreach (string metric in new[] { "output_noise", "gradient_noise" })
                    Add(metric, null, parameters: [("n", n)], note: "M = 8 columns cannot fill a 16 x 16 covariance.");
                continue;
            }

            double scale = _strategy switch { "zca-whitening" => 1.9, "ghost-batch-norm" when n >= 8 => 0.75 * Math.Sqrt(n / 8.0), _ => 0.7 } / Math.Sqrt(n);
            double noise = PerSample ? 0 : Around(scale);
            Add("output_noise", noise, [noise * 0.8, noise * 1.25], [("n", n)]);
            Add("gradient_noise", noise * 1.4, [noise * 1.1, noise * 1.8], [("n", n)]);
            if (PerSample) continue;
            double mean = Around(0.35 / Math.Sqrt(n));
            Add("mean_estimate_error", mean, [mean * 0.9, mean * 1.1], [("n", n)]);
            Add("variance_estimate_error", mean * 1.5, [mean * 1.3, mean * 1.7], [("n", n)]);
            Add("batch_train_inference_gap", noise * 0.9, [noise * 0.7, noise], [("n", n)]);
        }

        if (!PerSample || _strategy == "none") return;
        for (long n = 2; n <= 256; n *= 2) Add("batch_train_inference_gap", 0, [0, 0], [("n", n)]);
    }

    private void Speed()
    {
        foreach (string shape in new[] { "(32, 64, 56, 56)", "(31, 64, 28, 28)", "(256, 512)" })
        {
            foreach (string direction in new[] { "forward", "backward", "inference" })
            {
                (string, object)[] parameters = [("shape", shape), ("layout", "channels-first"), ("direction", direction), ("threads", 2L)];
                if (_strategy == "instance-norm" && shape == "(256, 512)")
                {
                    Add("ns_per_element", null, parameters: parameters, note: "Instance norm needs at least two values per channel and sample; (256, 512) has one.");
                    continue;
                }

                double copy = 0.14, bytes = direction == "backward" ? 1.5 : 1;
                double fraction = Around(_strategy switch { "none" => 0.97, "zca-whitening" => 0.06, "layer-norm" => 0.52, "batch-norm" => 0.6, _ => 0.48 });
                double time = copy * bytes / fraction;
                Add("ns_per_element", time, [time * 0.97, time * 1.06], parameters);
                Add("gigabytes_per_second", 8 * bytes / time, [8 * bytes / time * 0.95, 8 * bytes / time * 1.03], parameters);
                Add("fraction_of_copy", fraction, null, parameters);
                Add("bytes_allocated", 0, null, parameters);
            }
        }
    }

    private void Claim(string claim, bool declared, double deviation)
    {
        bool holds = claim == "sample-independence" ? deviation == 0 : deviation < 1e-6;
        string verdict = declared ? holds ? "verified" : "refuted" : holds ? "holds undeclared" : "not claimed";
        Add("claim", deviation, parameters: [("claim", claim), ("declared", declared), ("verdict", verdict)]);
    }

    private double Around(double value) => value * (0.9 + 0.2 * _random.NextDouble());

    private void Add(string metric, double? value, double[]? spread = null, (string, object)[]? parameters = null, string? note = null) => _rows.Add(new Measurement
    {
        Aspect = _aspect,
        Strategy = _strategy,
        Scenario = _scenario,
        Metric = metric,
        Value = value,
        Unit = Metrics.Get(metric).Unit,
        Spread = spread,
        Parameters = parameters?.ToDictionary(pair => pair.Item1, pair => pair.Item2),
        Note = note,
    });
}
