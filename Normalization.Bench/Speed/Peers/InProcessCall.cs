using System.Diagnostics;

namespace Normalization.Bench.Speed;

/// <summary>A call made in this process, timed by the runtime's monotonic clock.</summary>
internal abstract class InProcessCall : ITimedCall
{
    /// <inheritdoc/>
    public virtual string Variant => "";

    /// <inheritdoc/>
    public virtual bool WarmsItself => false;

    /// <inheritdoc/>
    public virtual double Seconds(int calls)
    {
        long began = Stopwatch.GetTimestamp();
        for (int call = 0; call < calls; call++)
        {
            Run();
        }

        return Stopwatch.GetElapsedTime(began).TotalSeconds;
    }

    /// <inheritdoc/>
    public abstract void CopyResult(Span<float> destination);

    /// <inheritdoc/>
    public abstract void CopyParameterGradients(Span<float> weight, Span<float> bias);

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>Makes the call once.</summary>
    protected abstract void Run();

    /// <summary>The error where parameter gradients are asked of a pass that has none.</summary>
    public static InvalidOperationException NoGradients(Direction direction) =>
        new($"Parameter gradients come from a backward pass; this call is {Text.Kebab(direction)}.");
}
