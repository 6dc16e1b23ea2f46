namespace Normalization.Bench.Experiments;

/// <summary>The experiments, one line each.</summary>
internal static class ExperimentCatalog
{
    public static IReadOnlyList<Experiment> All { get; } =
    [
        new E1InternalShift(),
        new E2LearningRates(),
        new E3BatchSize(),
        new E4LargeBatches(),
        new E6ScaleInvariance(),
        new E7BiasDrift(),
        new E15BatchRenorm(),
        new E17Settings(),
        new E5LossLandscape(),
        new E6ScaleInvariance(),
        new E7BiasDrift(),
        new E8Placement(),
        new E11WhiteningNoise(),
        new E13WhiteningTraining(),
        new E16Initialization(),
    ];

    public static IReadOnlyList<string> Ids { get; } = [.. All.Select(experiment => experiment.Id)];
}
