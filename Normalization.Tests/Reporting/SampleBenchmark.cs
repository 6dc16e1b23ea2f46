using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Tests.Reporting;

/// <summary>A run of the speed benchmark that was never made: every kind of row, plausible numbers, the same ones each time.</summary>
internal sealed class SampleBenchmark
{
    public static readonly string[] Peers = ["speedup_vs_pytorch", "speedup_vs_onednn", "speedup_vs_tensorprimitives"];

    private static readonly string[] Strategies = ["none", "batch-norm", "layer-norm", "instance-norm", "group-norm", "ghost-batch-norm", "zca-whitening"];

    private static readonly int[][] Shapes =
        [[4096, 768], [512, 4096], [64, 128], [32, 64, 56, 56], [32, 256, 14, 14], [8, 128, 28, 28], [256, 512], [2, 64, 8, 8]];

    private readonly Random _random = new(11);
    private readonly List<CaseRecord> _cases = [];
    private readonly List<Measurement> _rows = [];
    private string _strategy = "";
    private Dictionary<string, object> _parameters = [];

    public static RunData Build() => new SampleBenchmark().Make();

    /// <summary>The same run with the cell of batch-norm forward on (32, 64, 56, 56), channels-first, one thread, changed in one metric.</summary>
    public static RunData Change(RunData run, string metric, Func<Measurement, Measurement> change) =>
        SampleRun.Map(run, row => row.Metric == metric && row.Strategy == "batch-norm" && Where(row) == "(32, 64, 56, 56) channels-first forward 1 interleaved" ? change(row) : row);

    /// <summary>A row's parameters, one after the other.</summary>
    public static string Where(Measurement row) => string.Join(' ', row.Parameters!.Values.Select(ReportText.Parameter));

    private RunData Make()
    {
        foreach (string strategy in Strategies)
        {
            foreach (string direction in Directions(strategy))
            {
                foreach (int[] shape in strategy == "zca-whitening" ? [[32, 16, 28, 28], [32, 64, 28, 28], [32, 256, 14, 14]] : Shapes)
                {
                    if (strategy == "instance-norm" && shape.Length == 2) continue;
                    if (strategy == "ghost-batch-norm" && shape[0] < 8) continue;
                    foreach (string layout in shape.Length == 2 || strategy == "zca-whitening" ? ["channels-first"] : new[] { "channels-first", "channels-last" })
                        Case(strategy, direction, shape, layout);
                }
            }
        }

        foreach (string strategy in new[] { "batch-norm", "layer-norm", "group-norm" })
        {
            foreach (string direction in new[] { "forward", "backward" })
            {
                Start(strategy);
                for (int power = 12; power <= 25; power++)
                    Times(direction, [1 << (power - 10), 64, 4, 4], "channels-first", 1, fraction: power < 15 ? 0.8 : 0.96, others: [("scaling", "elements")]);
                End($"{strategy}/{direction}/elements");
            }
        }

        Start("zca-whitening");
        for (int channels = 16; channels <= 512; channels *= 2)
            Times("forward", [8, channels, 32, 32], "channels-first", 1, fraction: 6.0 / (channels + channels * channels / 8192.0), others: [("scaling", "channels")]);
        foreach (var (part, fraction) in new[] { ("covariance", 0.2), ("decomposition", 0.05), ("products", 0.15) })
            Times("forward", [32, 256, 14, 14], "channels-first", 1, fraction: fraction, others: [("part", part)]);
        End("zca-whitening/forward/channels");

        Start("batch-norm");
        Times("forward", [32, 64, 56, 56], "channels-first", 1, fraction: 0.95, engine: "benchmarkdotnet");
        Times("backward", [32, 64, 56, 56], "channels-first", 1, fraction: 0.3, engine: "benchmarkdotnet");
        End("batch-norm/benchmarkdotnet");

        var header = SampleRun.Build().Header;
        return new RunData(
            header with
            {
                Settings = new Dictionary<string, string> { ["tier"] = "short", ["seed"] = "1", ["pytorch"] = "PyTorch 1.13.1", ["onednn"] = "oneDNN 2.6.0" },
                Scenarios = [],
                CaseCount = _cases.Count,
            },
            _cases);
    }

    private static string[] Directions(string strategy) => strategy switch
    {
        "none" => ["forward", "backward"],
        "zca-whitening" => ["forward", "backward", "forward+backward"],
        _ => ["forward", "backward", "inference"],
    };

    private void Case(string strategy, string direction, int[] shape, string layout)
    {
        Start(strategy);
        foreach (int threads in new[] { 1, 2 })
        {
            double fraction = strategy == "zca-whitening" ? 0.05 : shape.Aggregate(1, (product, length) => product * length) < 10000 ? Around(0.7) : Around(0.95);
            Times(direction, shape, layout, threads, fraction);
            Add("gigabytes_per_second", 25 * fraction);
            Add("fraction_of_copy", fraction);
            Add("bytes_allocated", 0);
            if (shape is [32, 64, 56, 56])
            {
                bool twice = strategy == "layer-norm";
                Add("fraction_of_bound", fraction * (twice ? 1.2 : 1));
                if (twice) Add("second_read_ns_per_element", direction == "backward" ? 0.2 : 0.08, note: direction == "backward" ? "x and dy" : "x");
            }

            if (strategy == "none") continue;
            bool slow = strategy == "layer-norm" && direction == "forward" && shape is [512, 4096];
            double?[] ratios =
            [
                Around(slow ? 1.4 : 4),
                strategy is "batch-norm" or "layer-norm" ? Around(slow ? 0.8 : 1.9) : null,
                Around(slow ? 1.2 : 2.5),
            ];
            for (int i = 0; i < Peers.Length; i++)
                Add(Peers[i], ratios[i], note: ratios[i] is null ? "oneDNN 2.6 has no such normalization" : i == 0 ? "PyTorch, reused output: 0.5 ns/element" : null);
            Add("speedup_vs_fastest_peer", ratios.Min(), note: $"{(ratios[1] is null ? "TensorPrimitives" : "oneDNN")}: 0.25 ns/element");
        }

        End($"{strategy}/{direction}/{string.Join('x', shape)}/{layout}");
    }

    private void Times(
        string direction, int[] shape, string layout, int threads, double fraction, (string, object)[]? others = null, string engine = "interleaved")
    {
        _parameters = new Dictionary<string, object>
        {
            ["shape"] = $"({string.Join(", ", shape)})",
            ["layout"] = layout,
            ["direction"] = direction,
            ["threads"] = (long)threads,
            ["engine"] = engine,
        };
        foreach (var (name, value) in others ?? []) _parameters[name] = value;
        double time = 0.3 / threads * (direction == "backward" ? 1.5 : 1) / fraction;
        Add("ns_per_element", time);
        if (others is [("scaling", _)]) Add("fraction_of_copy", fraction);
    }

    private void Start(string strategy)
    {
        _strategy = strategy;
        _rows.Clear();
    }

    private void End(string name) => _cases.Add(new CaseRecord { Case = name, Seconds = 0.5, Measurements = [.. _rows] });

    private double Around(double value) => value * (0.9 + 0.2 * _random.NextDouble());

    private void Add(string metric, double? value, string? note = null) => _rows.Add(new Measurement
    {
        Aspect = Aspects.Speed,
        Strategy = _strategy,
        Scenario = "speed",
        Metric = metric,
        Value = value,
        Unit = Metrics.Find(metric)?.Unit ?? "1",
        Spread = value is > 0 ? [value.Value * 0.98, value.Value * 1.03] : null,
        Parameters = _parameters,
        Note = note,
    });
}
