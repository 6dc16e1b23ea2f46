using System.Numerics;
using Normalization.Strategies;

namespace Normalization.Bench.Models;

/// <summary>Passes everything on and, between <see cref="Begin"/> and <see cref="End"/>, takes mean and variance of each channel of what goes through in inference.</summary>
internal sealed class ChannelMoments<T> : Layer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const string Seen = "seen";

    private AdaBatchNorm<T>? _moments;
    private bool _takes;

    /// <summary>Starts anew.</summary>
    public void Begin()
    {
        _moments = null;
        _takes = true;
    }

    /// <summary>Ends the pass.</summary>
    /// <returns>The moments of all values since <see cref="Begin"/>, whatever the batches.</returns>
    /// <exception cref="InvalidOperationException">Nothing went through.</exception>
    public DomainStatistics End()
    {
        _takes = false;
        return _moments?.GetDomain(Seen) ?? throw new InvalidOperationException("No batch went through since Begin: run the network in inference in between.");
    }

    public override Activations<T> Forward(Activations<T> input, bool training)
    {
        if (_takes && !training)
        {
            if (_moments is null)
            {
                _moments = new AdaBatchNorm<T>(input.Shape.Channels);
                _moments.AddDomain(Seen);
                _moments.Domain = Seen;
            }

            _moments.Adapt(input.AsInput());
        }

        return input;
    }

    public override Activations<T> Backward(Activations<T> outputGradient, bool wantsInput) => outputGradient;
}
