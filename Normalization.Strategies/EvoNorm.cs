using System.Buffers;
using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>What the two EvoNorms share: their parameters, the switch of the nonlinearity, and what they refuse.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// Both divide x by a deviation without subtracting a mean, and are an activation at once: nothing like a ReLU follows them. Without the
/// nonlinearity the authors' layer normalizes nothing and is weight[c] * x + bias[c]. Source: Liu, Brock, Simonyan and Le 2020, arXiv:2004.02967.
/// </remarks>
public abstract class EvoNorm<T> : Normalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private protected EvoNorm(NormalizerOptions options, int channels, bool nonlinearity)
        : base(options)
    {
        if (options.SingleValue != SingleValuePolicy.Throw)
        {
            throw new ArgumentException(
                $"{Name} subtracts no mean, so that what one value with its variance of 0 becomes is neither the bias nor what running statistics give; " +
                $"got SingleValuePolicy.{options.SingleValue}. Choose Throw.", nameof(options));
        }

        Channels = channels;
        AddAffine(options, channels);
        V = nonlinearity ? AddParameter("v", [channels], 1) : null;
    }

    /// <summary>The learnable v of the paper, (C), initially 1; null where the nonlinearity is off.</summary>
    public Parameter<T>? V { get; }

    private protected int Channels { get; }

    /// <summary>Which elements share a variance, in words for messages.</summary>
    private protected abstract string SetName { get; }

    internal override void CheckShape(ActivationShape shape) => RequireChannels(shape, Channels);

    /// <summary>Throws where a set of so many values has no variance to take.</summary>
    private protected void RequireSetSize(ActivationShape shape, nint size)
    {
        if (size == 1)
        {
            throw new InvalidOperationException(
                $"{Name} needs more than 1 value per {SetName} to take a variance, got input {shape} (batch size {shape.Samples}) with 1. " +
                "Give it more positions, or normalize by other axes.");
        }
    }

    /// <summary>Throws where a variance may not be divided by, or, as far as the policy says so, is not finite.</summary>
    private protected void RequireVariances(ReadOnlySpan<double> variances, string setName)
    {
        for (int slot = 0; slot < variances.Length; slot++)
        {
            if (Epsilon == 0 && variances[slot] == 0)
            {
                throw new DivideByZeroException(
                    $"{Name}: with epsilon 0 every {setName} must vary, but one (number {slot}) is constant: its variance 0 would be divided by. Use an epsilon above 0.");
            }

            if (Training && NonFinite == NonFinitePolicy.Throw && !FitsStorage(variances[slot]))
            {
                throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture,
                    $"{Name}: a {setName} (number {slot}) has variance {variances[slot]}, which {ElementTypes.NameOf<T>()} cannot hold as a finite number. Nothing was updated. Mend the input, or choose NonFinitePolicy.SkipUpdate."));
            }
        }
    }

    private protected static bool FitsStorage(double value) => Simd.Fits<T>(value);

    private protected unsafe void ApplyAffine(ActivationShape shape, MemoryOrder order, T* x, T* y)
    {
        double[] rented = ArrayPool<double>.Shared.Rent(3 * Channels);
        fixed (double* memory = rented)
        fixed (T* weight = Weight?.Values, bias = Bias?.Values)
        {
            Standardizer.Apply(Layouts.PerGivenChannel(shape, order), x, y, weight, bias, Unit(memory));
        }

        ArrayPool<double>.Shared.Return(rented);
    }

    private protected unsafe void DifferentiateAffine(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx)
    {
        double[] rented = ArrayPool<double>.Shared.Rent(3 * Channels);
        fixed (double* memory = rented)
        fixed (T* weight = Weight?.Values)
        fixed (T* weightGradient = LearnParameters ? Weight?.Gradient : null, biasGradient = LearnParameters ? Bias?.Gradient : null)
        {
            Standardizer.Backward(
                Layouts.PerChannel(shape, order), x, g, dx, weight, Unit(memory), weightGradient, biasGradient, constantStatistics: true);
        }

        ArrayPool<double>.Shared.Return(rented);
    }

    /// <summary>Adds totals, by channel, to the gradient of a parameter that there is and that learns.</summary>
    private protected unsafe void AddGradient(Parameter<T>? parameter, double* totals)
    {
        if (parameter is null || !LearnParameters)
        {
            return;
        }

        fixed (T* gradient = parameter.Gradient)
        {
            Simd.AddTo(gradient, totals, Channels);
        }
    }

    // Mean 0, variance and deviation 1.
    private unsafe Statistics Unit(double* memory)
    {
        new Span<double>(memory, Channels).Clear();
        new Span<double>(memory + Channels, 2 * Channels).Fill(1);
        return new Statistics { Mean = memory, PopulationVariance = memory + Channels, InverseStd = memory + (2 * Channels) };
    }
}

/// <content>Options of <see cref="EvoNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>evonorm-b0, evonorm-s0: whether there is the nonlinearity, and with it the normalization.</summary>
    [Setting("--nonlinearity", "evonorm-b0, evonorm-s0: whether there is more than weight and bias. Default on.")]
    public bool Nonlinearity { get; init; } = true;
}
