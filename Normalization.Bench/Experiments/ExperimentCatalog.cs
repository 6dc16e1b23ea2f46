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
        new E5LossLandscape(),
        new E6ScaleInvariance(),
        new E7BiasDrift(),
        new E8Placement(),
        new E9DropoutShift(),
        new E10DomainShift(),
        new E11WhiteningNoise(),
        new E12FoldingQuantization(),
        new E13WhiteningTraining(),
        new E14Recurrent(),
        new E15BatchRenorm(),
        new E16Initialization(),
        new E17Settings(),
        new E18FineTuning(),
    ];

    public static IReadOnlyList<string> Ids { get; } = [.. All.Select(experiment => experiment.Id)];
}
