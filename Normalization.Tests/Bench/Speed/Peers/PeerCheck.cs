using System.Numerics.Tensors;
using Normalization.Bench.Speed;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Strategies;

namespace Normalization.Tests.Bench.Speed.Peers;

/// <summary>Holds a peer's results against our own strategies.</summary>
internal static class PeerCheck
{
    private const double Tolerance = 1e-5;

    private static readonly nint[][] Shapes =
    [
        [64, 128], [16, 768], [256, 128], [24, 192], // (N, C)
        [2, 64, 8, 8], [8, 64, 5, 7], [16, 32, 3, 3], [24, 96, 4, 6],
    ];

    /// <summary>Every cell of a strategy on small shapes, both memory orders.</summary>
    public static IEnumerable<SpeedCell> Cells(params string[] strategies) =>
        from strategy in strategies
        from lengths in Shapes
        from last in lengths.Length > 2 ? [false, true] : new[] { false }
        from direction in Enum.GetValues<Direction>()
        select new SpeedCell(strategy, new ActivationShape(lengths), last, direction);

    /// <summary>Checks every variant of every cell that the peer has.</summary>
    /// <returns>How many cells it has.</returns>
    public static int Check(IPeer peer, IEnumerable<SpeedCell> cells, params int[] threads)
    {
        int checkedCells = 0;
        foreach (SpeedCell cell in cells)
        {
            if (peer.Lacks(cell) is not null)
            {
                continue;
            }

            checkedCells++;
            var data = new CellData(cell, new RandomStream(3, cell.Strategy, cell.Shape.ToString()));
            (float[] result, float[] weight, float[] bias) = Ours(data);
            foreach (int count in threads)
            {
                foreach (ITimedCall call in peer.Prepare(data, count))
                {
                    using (call)
                    {
                        string where = $"{peer.Id}, {cell}, '{call.Variant}', {count} threads";

                        // Twice, since a call must not add to what the one before it left.
                        Assert.IsGreaterThan(0, call.Seconds(2), where);
                        var measured = new float[result.Length];
                        call.CopyResult(measured);
                        AssertClose(result, measured, Scale(result), where);
                        if (cell.Direction == Direction.Backward)
                        {
                            var measuredWeight = new float[weight.Length];
                            var measuredBias = new float[bias.Length];
                            call.CopyParameterGradients(measuredWeight, measuredBias);
                            AssertClose(weight, measuredWeight, Scale(weight), where + ", weight");
                            AssertClose(bias, measuredBias, Scale(bias), where + ", bias");
                        }
                    }
                }
            }
        }

        return checkedCells;
    }

    private static (float[] Result, float[] Weight, float[] Bias) Ours(CellData data)
    {
        SpeedCell cell = data.Cell;
        var settings = new StrategySettings
        {
            Groups = SpeedCell.Groups,
            GhostSize = SpeedCell.GhostSize,
            GhostRemainder = GhostRemainder.Balanced,
            Epsilon = data.Epsilon,
            Momentum = data.Momentum,
        };
        INormalizer<float> ours = StrategyCatalog.Create<float>(cell.Strategy, cell.Shape, settings);
        data.Weight.CopyTo(ours.Parameters.Single(parameter => parameter.Name == "weight").Values, 0);
        data.Bias.CopyTo(ours.Parameters.Single(parameter => parameter.Name == "bias").Values, 0);
        nint[] lengths = cell.Shape.ToArray();
        nint[] strides = Strides(lengths, cell.ChannelsLast);
        var x = new ReadOnlyTensorSpan<float>(data.Tensors.Input, lengths, strides);
        var result = new float[data.Tensors.Input.Length];
        var y = new TensorSpan<float>(result, lengths, strides);
        if (cell.Direction == Direction.Inference)
        {
            foreach (StateBuffer<float> buffer in ours.Buffers.Where(buffer => !buffer.IsCounter))
            {
                (buffer.Name == "running_mean" ? data.RunningMean : data.RunningVariance).CopyTo(buffer.Values, 0);
            }

            ours.OnStateChanged();
            ours.Training = false;
            ours.Forward(x, y);
            return (result, [], []);
        }

        ours.Forward(x, y);
        if (cell.Direction == Direction.Forward)
        {
            return (result, [], []);
        }

        ours.Backward(x, new ReadOnlyTensorSpan<float>(data.Tensors.Upstream, lengths, strides), y);
        return (result, ours.Parameters.Single(parameter => parameter.Name == "weight").Gradient, ours.Parameters.Single(parameter => parameter.Name == "bias").Gradient);
    }

    private static nint[] Strides(nint[] lengths, bool channelsLast)
    {
        var strides = new nint[lengths.Length];
        nint step = channelsLast ? lengths[1] : 1;
        for (int axis = lengths.Length - 1; axis >= 0; axis--)
        {
            bool innermost = channelsLast && axis == 1;
            strides[axis] = innermost ? 1 : step;
            step *= innermost ? 1 : lengths[axis];
        }

        return strides;
    }

    private static double Scale(float[] values) => values.Max(Math.Abs);

    private static void AssertClose(float[] expected, float[] actual, double scale, string where)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            double error = Math.Abs((double)expected[i] - actual[i]) / scale;
            Assert.IsTrue(error <= Tolerance, $"{where}: at {i} expected {expected[i]}, got {actual[i]}, off by {error:0.0e+0} of the largest value.");
        }
    }
}
