namespace Normalization.Bench.Experiments;

/// <summary>The experiments, one line each.</summary>
internal static class ExperimentCatalog
{
    public static IReadOnlyList<Experiment> All { get; } =
    [
        new E1InternalShift(),
        new E3BatchSize(),
        new E6ScaleInvariance(),
        new E7BiasDrift(),
    ];

    public static IReadOnlyList<string> Ids { get; } = [.. All.Select(experiment => experiment.Id)];
}
