using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Speed;

/// <summary>What every contestant of a cell is given: the same values, in the cell's memory order.</summary>
internal sealed class CellData
{
    /// <summary>Draws the values: standard normal input and upstream gradient, weights near 1, biases near 0, running variances in [0.5, 1.5).</summary>
    /// <param name="cell">The cell; its direction is of no effect on the values.</param>
    /// <param name="stream">Where the values come from.</param>
    /// <exception cref="OverflowException">The tensor has more elements than an array can hold.</exception>
    public CellData(SpeedCell cell, RandomStream stream)
    {
        Cell = cell;
        ActivationShape shape = cell.Shape;
        int parameters = cell.Strategy == "layer-norm" ? checked((int)(shape.Channels * shape.SpatialSize)) : shape.Channels;
        Input = Gaussians(checked((int)shape.Count), stream);
        Upstream = Gaussians(checked((int)shape.Count), stream);
        Weight = Array.ConvertAll(Gaussians(parameters, stream), value => 1 + (0.2f * value));
        Bias = Array.ConvertAll(Gaussians(parameters, stream), value => 0.2f * value);
        RunningMean = Array.ConvertAll(Gaussians(shape.Channels, stream), value => 0.2f * value);
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
        Input = other.Input;
        Upstream = other.Upstream;
        Weight = other.Weight;
        Bias = other.Bias;
        RunningMean = other.RunningMean;
        RunningVariance = other.RunningVariance;
    }

    /// <summary>The cell.</summary>
    public SpeedCell Cell { get; }

    /// <summary>x, N*C*S values in the cell's memory order. Contestants read it and never write it.</summary>
    public float[] Input { get; }

    /// <summary>dL/dy, N*C*S values in the cell's memory order.</summary>
    public float[] Upstream { get; }

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

    // A block of random values over and over: its length shares no factor with the shapes, so that no two sets are alike.
    private static float[] Gaussians(int count, RandomStream stream)
    {
        var block = new double[Math.Min(count, 65521)];
        stream.FillGaussian(block);
        var values = new float[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (float)block[i % block.Length];
        }

        return values;
    }
}
