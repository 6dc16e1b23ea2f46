using System.Numerics;
using System.Numerics.Tensors;

namespace Normalization.Core;

/// <summary>A normalization layer: forward, exact backward, parameters and state.</summary>
/// <typeparam name="T">The storage type, float or double. Statistics are taken in double either way.</typeparam>
/// <remarks>
/// <para>Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), as the tensors' lengths say. Memory is the caller's; dense
/// channels-first and dense channels-last (strides) run at full speed, other strides give the same values through a copy.</para>
/// <para>Only <see cref="Training"/>, <see cref="Forward"/> and <see cref="Backward"/> have to be written for a strategy of
/// one's own; the rest has defaults for a layer without parameters, state or claims.</para>
/// <para>Threads: a training instance belongs to one thread. While <see cref="Training"/> is false, Forward writes no field, so
/// one instance may serve many threads at once.</para>
/// </remarks>
public interface INormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>True: the batch's statistics normalize and running ones are updated. False: inference, nothing is written.</summary>
    bool Training { get; set; }

    /// <summary>What the strategy claims of itself; the harness measures every claim.</summary>
    NormalizerClaims Claims => NormalizerClaims.None;

    /// <summary>The learnable arrays, named as PyTorch names them.</summary>
    IReadOnlyList<Parameter<T>> Parameters => [];

    /// <summary>Running statistics and counters, named as PyTorch names them.</summary>
    IReadOnlyList<StateBuffer<T>> Buffers => [];

    /// <summary>Normalizes a batch.</summary>
    /// <param name="input">The activations x, shape (N, C, ...).</param>
    /// <param name="output">
    /// Receives y, of the input's shape. Must not overlap the input in training, since Backward reads the input again; in inference it may be exactly the
    /// input. Tensors overlap where the ranges of memory from their first to their last element do, even if no element is shared.
    /// </param>
    /// <exception cref="ArgumentException">Shapes disagree, or output overlaps input where it must not.</exception>
    /// <exception cref="InvalidOperationException">
    /// Statistics are taken of the batch and a reduction set holds a single value, or in training they are not finite, and the policy is to throw.
    /// </exception>
    /// <exception cref="DivideByZeroException">Epsilon is 0 and so is a variance that would be divided by.</exception>
    void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output);

    /// <summary>Takes the gradient of the loss with respect to the output back to the input and the parameters.</summary>
    /// <param name="input">The same activations that the last Forward saw.</param>
    /// <param name="outputGradient">dL/dy, of the input's shape.</param>
    /// <param name="inputGradient">Receives dL/dx. Parameter gradients are added to <see cref="Parameter{T}.Gradient"/>.</param>
    /// <exception cref="ArgumentException">Shapes disagree, or the input gradient overlaps the input, or the output gradient without being exactly that tensor.</exception>
    /// <exception cref="InvalidOperationException">No training Forward came before, or it had another shape.</exception>
    void Backward(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> outputGradient, in TensorSpan<T> inputGradient);

    /// <summary>Sets every parameter's gradient to zero.</summary>
    void ZeroGradients()
    {
        foreach (Parameter<T> parameter in Parameters)
        {
            Array.Clear(parameter.Gradient);
        }
    }

    /// <summary>Whether statistics are frozen: running ones normalize and none are updated, whatever <see cref="Training"/> says.</summary>
    bool Frozen => false;

    /// <summary>Freezes the statistics until <see cref="Unfreeze"/>; setting <see cref="Training"/> does not undo it.</summary>
    /// <exception cref="NotSupportedException">The strategy does not implement freezing.</exception>
    void Freeze() => throw new NotSupportedException($"{GetType().Name} does not implement Freeze.");

    /// <summary>Ends <see cref="Freeze"/>.</summary>
    void Unfreeze()
    {
    }

    /// <summary>
    /// While true, a training Forward keeps what Backward takes for constants by definition (a "stop gradient", such as batch
    /// renormalization's r and d) as the last Forward had it, and updates no running statistics: the function that Backward differentiates.
    /// Without such a Forward before, a strategy that has such constants throws <see cref="InvalidOperationException"/>.
    /// For whoever takes differences; a strategy without such constants need not look at it. Default false.
    /// </summary>
    bool HoldConstants
    {
        get => false;
        set { }
    }

    /// <summary>Tells the strategy that its buffers were written from outside, so that what it derives from them is made anew.</summary>
    void OnStateChanged()
    {
    }

    /// <summary>
    /// Whether an element's normalized value depends on other reduction sets than its own, as whitening's does on the other channels.
    /// The harness fails a strategy that names sets, says no here and mixes them all the same.
    /// </summary>
    bool MixesReductionSets => false;

    /// <summary>
    /// The reduction set of one element: elements with the same number share a mean and a variance. -1 where the strategy does
    /// not say; the harness then leaves the checks that need it as stated rows.
    /// </summary>
    /// <param name="shape">The shape of the whole batch.</param>
    /// <param name="sample">n, 0 to N - 1.</param>
    /// <param name="channel">c, 0 to C - 1.</param>
    /// <param name="position">s, 0 to S - 1, row-major over the spatial axes.</param>
    long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => -1;
}
