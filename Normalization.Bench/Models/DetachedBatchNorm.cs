using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Bench.Models;

/// <summary>Batch norm whose gradient takes the batch's mean and variance for constants: what Ioffe and Szegedy 2015, section 2, warn of.</summary>
/// <remarks>
/// Training's output is batch norm's; dx = weight * dy / sqrt(populationVariance + epsilon) and nothing else. Inference normalizes by the
/// last batch's statistics.
/// </remarks>
internal sealed class DetachedBatchNorm<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private BatchNorm<T>? _normalizer;
    private Activations<T> _input = new();

    public override IEnumerable<Parameter<T>> Parameters => _normalizer?.Parameters ?? [];

    public override IEnumerable<INormalizer<T>> Normalizers => _normalizer is null ? [] : [_normalizer];

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        // Momentum 1 makes running statistics the batch's, and running statistics are constants to Backward.
        _normalizer ??= new BatchNorm<T>(input.Shape.Channels, new RunningStatisticsOptions { Momentum = 1, RunningVariance = RunningVariance.Population });
        _input = input;
        Output.Resize(input.Shape);
        _normalizer.Training = training;
        if (training)
        {
            _normalizer.StatisticsSource = StatisticsSource.Batch;
            _normalizer.UpdateRunningStatistics = true;
            _normalizer.Forward(input.AsInput(), Output.AsOutput());
        }

        _normalizer.StatisticsSource = StatisticsSource.Running;
        _normalizer.UpdateRunningStatistics = false;
        _normalizer.Forward(input.AsInput(), Output.AsOutput());
        return Output;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput)
    {
        _normalizer!.Backward(_input.AsInput(), outputGradient.AsInput(), InputGradient.Resize(_input.Shape).AsOutput());
        return InputGradient;
    }
}
