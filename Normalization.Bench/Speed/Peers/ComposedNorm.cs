using Normalization.Core;

namespace Normalization.Bench.Speed;

/// <summary>A normalization layer composed of TensorPrimitives calls; scratch and saved statistics are reused from call to call.</summary>
/// <remarks>One instance belongs to one caller. Parameter gradients are those of the last backward pass, not a sum over passes.</remarks>
internal abstract class ComposedNorm : IDisposable
{
    private readonly ParallelOptions _parallel;

    protected ComposedNorm(CellData data, int threads)
    {
        Threads = threads;
        _parallel = new ParallelOptions { MaxDegreeOfParallelism = threads };
        Shape = data.Cell.Shape;
        Weight = data.Weight;
        Bias = data.Bias;
        WeightGradient = new float[data.Weight.Length];
        BiasGradient = new float[data.Bias.Length];
        RunningMean = [.. data.RunningMean];
        RunningVariance = [.. data.RunningVariance];
        Epsilon = data.Epsilon;
        Momentum = data.Momentum;
    }

    /// <summary>dL/dweight of the last backward pass.</summary>
    public float[] WeightGradient { get; }

    /// <summary>dL/dbias of the last backward pass.</summary>
    public float[] BiasGradient { get; }

    protected int Threads { get; }

    protected ActivationShape Shape { get; }

    protected float[] Weight { get; }

    protected float[] Bias { get; }

    protected float[] RunningMean { get; }

    protected float[] RunningVariance { get; }

    protected double Epsilon { get; }

    protected double Momentum { get; }

    /// <summary>The layer of a cell, as its memory order makes it natural.</summary>
    public static ComposedNorm Of(CellData data, int threads)
    {
        SpeedCell cell = data.Cell;
        return cell.Strategy == "layer-norm" || (cell.Strategy == "group-norm" && cell.Shape.SpatialSize == 1) ? new ComposedRows(data, threads)
            : PeerCells.ChannelsInnermost(cell) ? new ComposedChannels(data, threads)
            : new ComposedSlices(data, threads);
    }

    /// <summary>The forward pass in training: saves statistics and updates running ones.</summary>
    public abstract void Forward(ReadOnlyMemory<float> input, Memory<float> output);

    /// <summary>The backward pass by the statistics that the last <see cref="Forward"/> saved.</summary>
    public abstract void Backward(ReadOnlyMemory<float> input, ReadOnlyMemory<float> upstream, Memory<float> inputGradient);

    /// <summary>The forward pass outside training.</summary>
    public abstract void Inference(ReadOnlyMemory<float> input, Memory<float> output);

    /// <summary>Releases scratch.</summary>
    public abstract void Dispose();

    /// <summary>Runs independent pieces of work, on several threads where there are.</summary>
    protected void For(int pieces, Action<int> work)
    {
        if (Threads > 1 && pieces > 1)
        {
            Parallel.For(0, pieces, _parallel, work);
            return;
        }

        for (int piece = 0; piece < pieces; piece++)
        {
            work(piece);
        }
    }

    /// <summary>1 / sqrt(variance + epsilon).</summary>
    protected float InverseStd(double variance) => (float)(1 / Math.Sqrt(variance + Epsilon));

    /// <summary>Moves a channel's running statistics toward the mean of its sets' means and sample variances.</summary>
    /// <param name="channel">c.</param>
    /// <param name="mean">The batch's mean; of several ghosts their average.</param>
    /// <param name="variance">The population variance, averaged alike.</param>
    /// <param name="setSize">Values in a set; the running variance takes in the sample variance.</param>
    protected void UpdateRunning(int channel, double mean, double variance, double setSize)
    {
        RunningMean[channel] += (float)(Momentum * (mean - RunningMean[channel]));
        RunningVariance[channel] += (float)(Momentum * ((variance * setSize / (setSize - 1)) - RunningVariance[channel]));
    }
}
