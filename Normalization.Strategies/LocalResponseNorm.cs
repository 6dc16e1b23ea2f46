using System.Globalization;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Strategies;

/// <summary>Which channels a window of even size holds; with an odd one the two agree.</summary>
public enum ResponseWindowKind
{
    /// <summary>From c - size / 2: the window leans to the channels below. The default.</summary>
    Pytorch,

    /// <summary>From c - (size - 1) / 2: it leans to those above.</summary>
    Onnx,
}

/// <summary>Options of <see cref="LocalResponseNorm{T}"/>; there are no parameters and no epsilon, whatever the shared options say.</summary>
public sealed record LocalResponseNormOptions : NormalizerOptions
{
    /// <summary>The defaults.</summary>
    public LocalResponseNormOptions()
    {
    }

    /// <summary>The given options, with the defaults of this strategy's own.</summary>
    /// <param name="options">What every strategy has.</param>
    public LocalResponseNormOptions(NormalizerOptions options)
        : base(options)
    {
    }

    /// <summary>n, channels in a window, at least 1. Default 5.</summary>
    public int Size { get; init; } = 5;

    /// <summary>alpha, finite, at least 0. Default 1e-4.</summary>
    public double Alpha { get; init; } = 1e-4;

    /// <summary>beta, the exponent, finite, at least 0. Default 0.75.</summary>
    public double Beta { get; init; } = 0.75;

    /// <summary>k, above 0. Default 1; AlexNet had 2.</summary>
    public double K { get; init; } = 1;

    /// <summary>Which channels a window of even size holds. Default PyTorch's.</summary>
    public ResponseWindowKind Window { get; init; }

    /// <summary>Whether alpha is divided by the size, also where the border cuts the window. Default true, as PyTorch and ONNX; AlexNet did not.</summary>
    public bool DivideAlpha { get; init; } = true;
}

/// <summary>Local response normalization: each value over a power of the squares of its neighbouring channels.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>y[c] = x[c] / (k + alpha / n * sum of x[j]^2)^beta, j over the window of n channels around c at the same position, cut off at the first
/// and last channel.</para>
/// <para>dx[c] = g[c] d[c]^-beta - 2 alpha beta / n * x[c] * sum of g[j] x[j] d[j]^(-beta - 1), j over the channels whose window holds c.</para>
/// <para>Shapes: any number of channels. No parameters, no state; training and inference are the same.</para>
/// <para>Source: Krizhevsky, Sutskever and Hinton 2012 (AlexNet), section 3.3. Same as PyTorch's LocalResponseNorm; with the other window as ONNX LRN-13.</para>
/// <para>Speed: time grows with the window; beta in whole quarters up to 1.75 takes roots, other powers several times as long.</para>
/// </remarks>
public sealed class LocalResponseNorm<T> : Normalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly ResponseWindow _window;

    /// <summary>A layer for any number of channels.</summary>
    /// <param name="options">Null is the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public LocalResponseNorm(LocalResponseNormOptions? options = null)
        : base(options ?? new LocalResponseNormOptions())
    {
        options ??= new LocalResponseNormOptions();
        if (options.Size < 1)
        {
            throw new ArgumentException($"The window's size must be at least 1 channel; got {options.Size}.", nameof(options));
        }

        RequireAtLeastZero("Alpha", options.Alpha);
        RequireAtLeastZero("Beta", options.Beta);
        if (!(options.K > 0) || !double.IsFinite(options.K))
        {
            throw new ArgumentException(
                $"k is what keeps the divisor from 0 and must be finite and above 0; got {options.K.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }

        int above = options.Window == ResponseWindowKind.Onnx ? options.Size / 2 : (options.Size - 1) / 2;
        _window = new ResponseWindow(
            options.Size - 1 - above, above, options.DivideAlpha ? options.Alpha / options.Size : options.Alpha, options.Beta, options.K);
    }

    /// <inheritdoc/>
    public override NormalizerClaims Claims => NormalizerClaims.BatchPermutationEquivariance | NormalizerClaims.SampleIndependence;

    internal override void CheckShape(ActivationShape shape)
    {
    }

    internal override unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y) =>
        LocalResponse.Forward(shape, order, x, y, _window);

    internal override unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx) =>
        LocalResponse.Backward(shape, order, x, g, dx, _window);

    private static void RequireAtLeastZero(string name, double value)
    {
        if (!(value >= 0) || !double.IsFinite(value))
        {
            throw new ArgumentException($"{name} must be finite and at least 0; got {value.ToString(CultureInfo.InvariantCulture)}.");
        }
    }
}

/// <summary>The catalog's view of <see cref="LocalResponseNorm{T}"/>.</summary>
internal readonly struct LocalResponseNormStrategy : IStrategy
{
    public static string Id => "local-response-norm";

    public static string Axes => "a window of neighbouring channels at each position; no mean is subtracted";

    public static IReadOnlyList<string> Tensors => [];

    // What keeps the divisor from 0 is k.
    public static bool ReadsEpsilon(StrategySettings settings) => false;

    public static string Options(StrategySettings settings) => string.Create(
        CultureInfo.InvariantCulture,
        $"size {settings.WindowSize}, alpha {settings.Alpha}{(settings.DivideAlpha ? " divided by it" : "")}, beta {settings.Beta}, k {settings.K}, window {Words.Of(settings.Window)}");

    public static INormalizer<T> Create<T>(ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new LocalResponseNorm<T>(new LocalResponseNormOptions(settings.ToOptions())
        {
            Size = settings.WindowSize,
            Alpha = settings.Alpha,
            Beta = settings.Beta,
            K = settings.K,
            Window = settings.Window,
            DivideAlpha = settings.DivideAlpha,
        });
}

/// <content>Options of <see cref="LocalResponseNorm{T}"/>.</content>
public sealed partial record StrategySettings
{
    /// <summary>local-response-norm: channels in a window. Default 5.</summary>
    [Setting("--size", "local-response-norm: channels in a window. Default 5.", Placeholder = "n", Minimum = 1)]
    public int WindowSize { get; init; } = 5;

    /// <summary>local-response-norm: what the squares are multiplied by. Default 1e-4.</summary>
    [Setting("--alpha", "local-response-norm: factor of the squares. Default 1e-4.", Placeholder = "a")]
    public double Alpha { get; init; } = 1e-4;

    /// <summary>local-response-norm: the exponent. Default 0.75.</summary>
    [Setting("--beta", "local-response-norm: exponent. Default 0.75.", Placeholder = "b")]
    public double Beta { get; init; } = 0.75;

    /// <summary>local-response-norm: what is added to the squares, above 0. Default 1.</summary>
    [Setting("--k", "local-response-norm: added to the squares, above 0. Default 1.", Placeholder = "k")]
    public double K { get; init; } = 1;

    /// <summary>local-response-norm: which channels a window of even size holds.</summary>
    [Setting("--window", "local-response-norm: which way a window of even size leans. Default pytorch.")]
    public ResponseWindowKind Window { get; init; }

    /// <summary>local-response-norm: whether alpha is divided by the size.</summary>
    [Setting("--divide-alpha", "local-response-norm: whether alpha is divided by the size. Default on; AlexNet: off.")]
    public bool DivideAlpha { get; init; } = true;
}
