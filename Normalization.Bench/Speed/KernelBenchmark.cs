using BenchmarkDotNet.Attributes;
using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Speed;

/// <summary>One case of the speed benchmark as BenchmarkDotNet runs it: public because its generated program calls it.</summary>
public class KernelBenchmark
{
    private OwnCall _call = null!;

    /// <summary>The case's id, such as <c>benchmarkdotnet/batch-norm/forward/8x128x28x28/channels-first/1</c>.</summary>
    [ParamsSource(nameof(Selected))]
    public string Case { get; set; } = "";

    /// <summary>The one case of this run: whoever starts it says which.</summary>
    public static IReadOnlyList<string> Selected { get; internal set; } = [];

    /// <summary>Makes the tensors and the strategy, and checks its result.</summary>
    /// <exception cref="InvalidOperationException">The result is not that of the double instance.</exception>
    [GlobalSetup]
    public void Setup()
    {
        SpeedCase planned = SpeedTier.CrossChecked.Single(planned => planned.Id == Case);
        KernelThreads.Count = planned.Threads;
        _call = new OwnCall(planned, new CaseMaterial(planned, new RandomStream(1, "speed", planned.Strategy, planned.Shape.ToString())));
        if (_call.Check(Agreement.Limit) is { } wrong)
        {
            throw new InvalidOperationException(wrong);
        }
    }

    /// <summary>The call that is timed.</summary>
    [Benchmark]
    public void Call() => _call.Run(1);
}
