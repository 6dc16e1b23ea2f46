using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>No normalization: output is input. The yardstick of every table.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
public sealed class Identity<T> : Normalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>A layer that copies.</summary>
    public Identity()
        : base(new NormalizerOptions { Weight = false, Bias = false })
    {
    }

    /// <inheritdoc/>
    public override NormalizerClaims Claims =>
        NormalizerClaims.RotationEquivariance | NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence;

    internal override void CheckShape(ActivationShape shape)
    {
    }

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y) => CopyJob<T>.Run(x, y, shape.Count);

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx) => CopyJob<T>.Run(g, dx, shape.Count);
}

/// <summary>The catalog's view of <see cref="Identity{T}"/>.</summary>
internal readonly struct IdentityStrategy : IStrategy
{
    public static string Id => "none";

    public static string Axes => "no statistics; output is input";

    public static IReadOnlyList<string> Tensors => [];

    public static bool ReadsEpsilon(StrategySettings settings) => false;

    public static string Options(StrategySettings settings) => "none";

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new Identity<T>();
}
