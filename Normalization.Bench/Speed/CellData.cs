using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Speed;

/// <summary>What every contestant of a cell is given: the same values, in the cell's memory order.</summary>
/// <remarks>
/// Contestants of this process share the tensors, their results' too: where an allocation lies decides up to a sixth of a call's time on
/// tensors of a few megabytes, and is to decide it for all alike. Each finds its result overwritten once another was called.
/// </remarks>
internal sealed class CellData
{
    /// <summary>Draws the values: standard normal input and upstream gradient, weights near 1, biases near 0, running variances in [0.5, 1.5).</summary>
    /// <param name="cell">The cell; its direction is of no effect on the values.</param>
    /// <param name="stream">Where the values come from.</param>
    /// <param name="threads">How many threads the cell is timed on.</param>
    /// <exception cref="OverflowException">The tensor has more elements than an array can hold.</exception>
    public CellData(SpeedCell cell, RandomStream stream, int threads = 1)
    {
        Cell = cell;
        ActivationShape shape = cell.Shape;
        int parameters = cell.Strategy == "layer-norm" ? checked((int)(shape.Channels * shape.SpatialSize)) : shape.Channels;
        float[] input = SpeedTensors.Gaussians(checked((int)shape.Count), stream);
        Tensors = new SpeedTensors(new Workload(shape, cell.ChannelsLast, threads), input, SpeedTensors.Gaussians(input.Length, stream));
        Weight = Array.ConvertAll(SpeedTensors.Gaussians(parameters, stream), value => 1 + (0.2f * value));
        Bias = Array.ConvertAll(SpeedTensors.Gaussians(parameters, stream), value => 0.2f * value);
        RunningMean = Array.ConvertAll(SpeedTensors.Gaussians(shape.Channels, stream), value => 0.2f * value);
        RunningVariance = new float[shape.Channels];
        for (int channel = 0; channel < RunningVariance.Length; channel++)
        {
            RunningVariance[channel] = (float)(0.5 + stream.NextDouble());
        }
    }

    /// <summary>The same values for another direction of the same tensor and strategy.</summary>
    private CellData(CellData other, Direction direction)
    {
        Cell = other.Cell with { Direction = direction };
        Tensors = other.Tensors;
        Weight = other.Weight;
        Bias = other.Bias;
        RunningMean = other.RunningMean;
        RunningVariance = other.RunningVariance;
    }

    /// <summary>The cell.</summary>
    public SpeedCell Cell { get; }

    /// <summary>x, dL/dy and the results, N*C*S values each. Contestants never write the first two.</summary>
    public SpeedTensors Tensors { get; }

    /// <summary>Where a contestant of this process writes what the cell asks for: y, or of a backward pass dL/dx.</summary>
    public Memory<float> Result => Tensors.ResultMemory(Name(Cell.Direction));

    /// <summary>weight: C values; for layer-norm C*S values in channels-first order.</summary>
    public float[] Weight { get; }

    /// <summary>bias, as long as <see cref="Weight"/>.</summary>
    public float[] Bias { get; }

    /// <summary>C values, used by inference of batch-norm and ghost-batch-norm; where training updates them, a contestant takes a copy.</summary>
    public float[] RunningMean { get; }

    /// <summary>C variances above 0, used as <see cref="RunningMean"/> is.</summary>
    public float[] RunningVariance { get; }

    /// <summary>Added to the variance under the root.</summary>
    public double Epsilon { get; } = 1e-5;

    /// <summary>The weight of a new batch in the running statistics.</summary>
    public double Momentum { get; } = 0.1;

    /// <summary>The same values for another direction.</summary>
    public CellData With(Direction direction) => new(this, direction);

    /// <summary>A direction as <see cref="SpeedTensors"/> names it.</summary>
    public static string Name(Direction direction) => direction switch
    {
        Direction.Forward => SpeedTensors.Forward,
        Direction.Backward => SpeedTensors.Backward,
        _ => SpeedTensors.Inference,
    };
}
