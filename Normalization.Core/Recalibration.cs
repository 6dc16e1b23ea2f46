using System.Globalization;
using System.Numerics;

namespace Normalization.Core;

/// <summary>Which variance a recalibration stores.</summary>
public enum RecalibratedVariance
{
    /// <summary>
    /// The population variance (of whitening the covariance; divisor n) of all values of the pass, that between batches included: what the
    /// data have. A running whitening matrix becomes that of the pooled covariance. The default.
    /// </summary>
    Pooled,

    /// <summary>
    /// The plain average over batches of what each would bring into running statistics, every batch counting alike: what a pass with
    /// momentum null in PyTorch gives. It leaves out the variance between batches.
    /// </summary>
    AveragedOverBatches,
}

/// <summary>How much of a pass one layer took in.</summary>
/// <param name="Batches">Training Forwards of the layer that counted.</param>
/// <param name="Samples">Their samples.</param>
/// <param name="Skipped">Forwards left out because their statistics were not finite or did not fit the storage type.</param>
public readonly record struct RecalibrationCount(long Batches, long Samples, long Skipped);

/// <summary>Sets running statistics to those of a whole pass over data, with the weights as they are ("precise BN").</summary>
/// <remarks>
/// <para>Running averages lag: they are of activations under weights that have changed since, and after few steps still hold part of
/// their initial values. A pass without learning replaces them.</para>
/// <para>During the pass every layer is in training and normalizes by its batch, as it was trained; use the batch size of training. The
/// running statistics stay as they are until the pass is over. Pooled moments are merged in double by Chan's rule: the same, to
/// rounding, however the same input of a layer is cut into batches. Deeper layers do see inputs that earlier ones normalized by batch.</para>
/// <para>Source: Wu and Johnson 2021, arXiv:2105.07576, section 3; pycls PR 93 is where averaged batch variances gave way to pooled ones.</para>
/// </remarks>
public static class Recalibration
{
    /// <summary>Runs the pass and replaces the layers' running statistics and counters: all of them or, on any error, none.</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <typeparam name="TBatch">Whatever the model takes.</typeparam>
    /// <param name="layers">The normalizers to recalibrate; their switches are as before afterwards, whatever happens.</param>
    /// <param name="batches">Data like those of training, each batch once.</param>
    /// <param name="forward">The model's forward pass; it must call Forward of every layer and must not change switches or weights.</param>
    /// <param name="variance">Which variance is stored. Default pooled.</param>
    /// <returns>What each layer took in, in the order of <paramref name="layers"/>.</returns>
    /// <exception cref="ArgumentException">A layer is listed twice.</exception>
    /// <exception cref="InvalidOperationException">
    /// A layer keeps no running statistics, is frozen, holds its constants, is being recalibrated already, saw no batch that could be taken in, or has pooled a covariance that inference would refuse.
    /// </exception>
    public static IReadOnlyList<RecalibrationCount> Run<T, TBatch>(
        IReadOnlyList<Normalizer<T>> layers, IEnumerable<TBatch> batches, Action<TBatch> forward, RecalibratedVariance variance = RecalibratedVariance.Pooled)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(layers);
        ArgumentNullException.ThrowIfNull(batches);
        ArgumentNullException.ThrowIfNull(forward);
        RequireEachOnce(layers);
        RequireReady(layers);
        Switches[] switches = [.. layers.Select(layer => new Switches(layer.Training, layer.StatisticsSource, layer.UpdateRunningStatistics))];
        var counts = new RecalibrationCount[layers.Count];
        int begun = 0;
        bool done = false;
        try
        {
            for (; begun < layers.Count; begun++)
            {
                layers[begun].BeginPass(variance);
            }

            foreach (Normalizer<T> layer in layers)
            {
                layer.Training = true;
                layer.StatisticsSource = StatisticsSource.FollowTraining;
                layer.UpdateRunningStatistics = true;
            }

            foreach (TBatch batch in batches)
            {
                forward(batch);
            }

            for (int i = 0; i < layers.Count; i++)
            {
                if (layers[i].PassFault() is { } fault)
                {
                    throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"Layer {i} of the recalibration, {fault} Nothing was stored."));
                }
            }

            done = true;
        }
        finally
        {
            for (int i = 0; i < begun; i++)
            {
                counts[i] = layers[i].EndPass(keep: done);
                layers[i].StatisticsSource = switches[i].Source;
                layers[i].UpdateRunningStatistics = switches[i].Updates;
                layers[i].Training = switches[i].Training; // last: what inference applies is made of the new statistics
            }
        }

        return counts;
    }

    private static void RequireReady<T>(IReadOnlyList<Normalizer<T>> layers)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < layers.Count; i++)
        {
            if (layers[i].Frozen)
            {
                throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                    $"Layer {i} of the recalibration is frozen: its statistics are to stay. Unfreeze it, or leave it out."));
            }

            if (layers[i].HoldConstants)
            {
                throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                    $"Layer {i} of the recalibration holds its constants, and so takes no batch in. Set HoldConstants to false."));
            }
        }
    }

    internal static void RequireEachOnce<T>(IReadOnlyList<Normalizer<T>> layers)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        for (int i = 0; i < layers.Count; i++)
        {
            for (int j = 0; j < i; j++)
            {
                if (ReferenceEquals(layers[i], layers[j]))
                {
                    throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"Layers {j} and {i} are one and the same; list each once."), nameof(layers));
                }
            }
        }
    }

    private readonly record struct Switches(bool Training, StatisticsSource Source, bool Updates);
}
