using System.Numerics;
using Normalization.Core;

namespace Normalization.Bench.Models;

/// <summary>A piece of a network: forward, exact backward, parameters.</summary>
/// <typeparam name="T">float to train in, double to check gradients in.</typeparam>
/// <remarks>
/// A layer keeps what it returns and what Backward needs of its last Forward, so that a warm step allocates nothing: what it
/// returned is good until its next call, and a layer belongs to one place of one network.
/// </remarks>
internal abstract class Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>What the optimizer moves.</summary>
    public virtual IEnumerable<Parameter<T>> Parameters => [];

    /// <summary>The normalizers inside, to set modes and to read statistics.</summary>
    public virtual IEnumerable<INormalizer<T>> Normalizers => [];

    /// <summary>What Forward returns.</summary>
    protected Activations<T> Output { get; } = new();

    /// <summary>What Backward returns.</summary>
    protected Activations<T> InputGradient { get; } = new();

    /// <summary>Computes the layer's output.</summary>
    /// <param name="input">The batch; must stay as it is until Backward.</param>
    /// <param name="training">Whether dropout drops and normalizers take the batch's statistics.</param>
    /// <returns>The output, which belongs to the layer.</returns>
    public abstract Activations<T> Forward(Activations<T> input, bool training);

    /// <summary>Adds to the parameters' gradients and computes the input's.</summary>
    /// <param name="outputGradient">dL/dy, of the last output's shape.</param>
    /// <param name="wantsInput">False where nothing before this layer learns; the result is then undefined.</param>
    /// <returns>dL/dx, which belongs to the layer.</returns>
    public abstract Activations<T> Backward(Activations<T> outputGradient, bool wantsInput);
}
