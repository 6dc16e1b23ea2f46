namespace Normalization.Core;

/// <summary>Properties that a strategy declares of its normalized output, each of which the harness measures.</summary>
/// <remarks>
/// The invariances hold before weight and bias, and the scale laws hold exactly when epsilon is scaled by the square of the
/// factor: f(a x + b; a^2 epsilon) = sign(a) f(x; epsilon).
/// </remarks>
[Flags]
public enum NormalizerClaims
{
    /// <summary>Nothing is claimed.</summary>
    None = 0,

    /// <summary>Adding one constant to every element changes nothing.</summary>
    ShiftInvariance = 1 << 0,

    /// <summary>Adding a constant of its own to each channel changes nothing.</summary>
    ChannelShiftInvariance = 1 << 1,

    /// <summary>Adding a constant of its own to each sample changes nothing.</summary>
    SampleShiftInvariance = 1 << 2,

    /// <summary>Multiplying every element by one positive factor changes nothing.</summary>
    ScaleInvariance = 1 << 3,

    /// <summary>Multiplying each channel by a positive factor of its own changes nothing (epsilon negligible).</summary>
    ChannelScaleInvariance = 1 << 4,

    /// <summary>Multiplying each sample by a positive factor of its own changes nothing (epsilon negligible).</summary>
    SampleScaleInvariance = 1 << 5,

    /// <summary>Rotating the channels by an orthogonal matrix Q rotates the output: f(Q x) = Q f(x).</summary>
    RotationEquivariance = 1 << 6,

    /// <summary>Permuting the samples of the batch permutes the output and does nothing else.</summary>
    BatchPermutationEquivariance = 1 << 7,

    /// <summary>In training a sample's output is bit for bit the same whatever the other samples are.</summary>
    SampleIndependence = 1 << 8,

    /// <summary>In training a sample's output depends on the other samples of its batch.</summary>
    BatchDependence = 1 << 9,

    /// <summary>The channels' covariance S becomes S (S + epsilon I)^-1: white but for epsilon, with nothing rotated.</summary>
    Whitening = 1 << 10,
}
