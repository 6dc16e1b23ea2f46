using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;
using Normalization.Tests.Oracles;

namespace Normalization.Tests.Support;

/// <summary>What the conformance tests have to know of a strategy: its oracle, and settings worth trying.</summary>
internal abstract class StrategyCase
{
    public abstract string Id { get; }

    /// <param name="shape">The activations; N may differ later.</param>
    /// <param name="settings">The options.</param>
    /// <param name="largest">The largest value the storage type holds; a batch with a greater statistic updates nothing.</param>
    public abstract Oracle CreateOracle(ActivationShape shape, StrategySettings settings, double largest = double.MaxValue);

    /// <summary>Settings that this shape (2 or more samples, even channel count) can carry, in the order of what they exercise.</summary>
    public abstract IEnumerable<StrategySettings> Configurations(ActivationShape shape);

    /// <summary>The settings that a general test runs with, changed where this strategy needs others for the shape.</summary>
    public virtual StrategySettings Adapt(StrategySettings settings, ActivationShape shape) => settings;

    /// <summary>Whether batches of this shape have statistics to take; false for (N, C) where they are taken over positions.</summary>
    public virtual bool Carries(ActivationShape shape) => true;

    /// <summary>Whether an instance is made for a number of channels and refuses others.</summary>
    public virtual bool KnowsChannels => true;

    /// <summary>Whether an instance is made for the lengths of the trailing axes, has a weight for each of their elements and refuses other lengths.</summary>
    public virtual bool FixesTrailingAxes => false;

    /// <summary>Whether the normalized values of -x are those of x with the other sign, before the affine.</summary>
    public virtual bool IsOdd => true;

    /// <summary>Whether some elements pass no gradient on, to the input or to some parameter.</summary>
    public virtual bool StopsGradients => false;

    /// <summary>Whether the accuracy holds at any mean and any scale of the input, constants and single outliers included.</summary>
    public virtual bool HoldsAtAnyMagnitude => true;

    /// <summary>Whether a training Forward's output depends on the running statistics before it.</summary>
    public virtual bool TrainingReadsState => false;

    /// <summary>Whether Backward mixes the gradients of a reduction set in training: the statistics of the batch are differentiated.</summary>
    public virtual bool DifferentiatesStatistics => true;

    /// <summary>What a training batch adds to a counter.</summary>
    public virtual long CountOf(string counter, ActivationShape batch) => 1;
    /// <summary>Whether it mixes the channels of groups by what their covariance says; its error then grows with a condition number.</summary>
    public virtual bool Whitens => false;

    /// <summary>Whether a sample's output in training depends on the others for any input, or for none; false where the input decides.</summary>
    public virtual bool ClaimsHowSamplesMix => true;

    /// <summary>The modes in which Forward differs: two where there are running statistics under some setting.</summary>
    public virtual int Modes => 2;

    /// <summary>
    /// The accuracy that is promised, relative to the scales of the oracle: float 5e-7 (whitening 1e-5); double 1e-12 (whitening
    /// 1e-10), which holds where neither the mean nor the condition number is extreme.
    /// </summary>
    public virtual double Tolerance<T>()
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => typeof(T) == typeof(float) ? 5e-7 : 1e-12;
}

/// <summary>The strategies under test: one line each.</summary>
internal static class StrategyCases
{
    public static IReadOnlyList<StrategyCase> All { get; } =
    [
        new BasicCase(TestData.BatchNorm),
        new BasicCase(TestData.LayerNorm),
        new BasicCase(TestData.InstanceNorm),
        new BasicCase(TestData.GroupNorm),
        new BasicCase(TestData.GhostBatchNorm),
        new SyncBatchNormCase(),
        new BasicCase(TestData.ZcaWhitening),
        new WhiteningCase(WhiteningCase.Pca),
        new WhiteningCase(WhiteningCase.Cholesky),
        new WhiteningCase(WhiteningCase.IterNorm),
        new RmsNormCase(),
        new FilterResponseCase(),
        new LocalResponseCase(),
        new EvoNormB0Case(),
        new EvoNormS0Case(),
        new SwitchableNormCase(),
        new AdaBatchNormCase(),
        new BatchRenormCase(),
    ];

    public static IReadOnlyList<string> Ids { get; } = [.. All.Select(one => one.Id)];

    public static StrategyCase Of(string id) => All.Single(one => one.Id == id);
}
