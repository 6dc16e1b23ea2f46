using System.Globalization;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Normalization.Core.Kernels;

namespace Normalization.Core;

/// <summary>What the built-in strategies share: the door (shapes, memory, switches), affine parameters and warnings.</summary>
/// <typeparam name="T">The storage type, float or double.</typeparam>
/// <remarks>
/// <para>Three switches, each its own: <see cref="StatisticsSource"/> says which statistics normalize,
/// <see cref="UpdateRunningStatistics"/> whether running ones are updated in training, <see cref="LearnParameters"/> whether
/// weight and bias receive gradients. <see cref="Freeze"/> overrides the first two until <see cref="Unfreeze"/>.</para>
/// <para>Strategies of one's own implement <see cref="INormalizer{T}"/>; this class is not meant to be derived from outside.</para>
/// </remarks>
public abstract class Normalizer<T> : INormalizer<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly List<Parameter<T>> _parameters = [];
    private readonly List<StateBuffer<T>> _buffers = [];
    private bool _training = true;
    private ActivationShape _savedShape;
    private MemoryOrder _savedOrder;

    private protected Normalizer(NormalizerOptions options)
    {
        if (typeof(T) != typeof(float) && typeof(T) != typeof(double))
        {
            throw new NotSupportedException($"Normalizers store float or double; got {ElementTypes.NameOf<T>()}.");
        }

        ArgumentNullException.ThrowIfNull(options);
        if (!(options.Epsilon >= 0) || !double.IsFinite(options.Epsilon))
        {
            throw new ArgumentException(
                $"Epsilon is added to a variance and must be finite and at least 0; got {options.Epsilon.ToString(CultureInfo.InvariantCulture)}.", nameof(options));
        }

        Epsilon = options.Epsilon;
        SingleValue = options.SingleValue;
        NonFinite = options.NonFinite;
    }

    /// <summary>Added to the population variance under the root.</summary>
    public double Epsilon { get; }

    /// <summary>What a reduction set of one value does.</summary>
    public SingleValuePolicy SingleValue { get; }

    /// <summary>What non-finite batch statistics do in training.</summary>
    public NonFinitePolicy NonFinite { get; }

    /// <inheritdoc/>
    public abstract NormalizerClaims Claims { get; }

    /// <inheritdoc/>
    public IReadOnlyList<Parameter<T>> Parameters => _parameters;

    /// <inheritdoc/>
    public IReadOnlyList<StateBuffer<T>> Buffers => _buffers;

    /// <summary>The learnable scale (gamma), or null where it is off.</summary>
    public Parameter<T>? Weight { get; private set; }

    /// <summary>The learnable shift (beta), or null where it is off.</summary>
    public Parameter<T>? Bias { get; private set; }

    /// <inheritdoc/>
    public bool Training
    {
        get => _training;
        set
        {
            bool before = _training;
            _training = value;
            try
            {
                OnStateChanged();
            }
            catch
            {
                // What cannot be derived from the state (a covariance that is none) leaves the switch where it was.
                _training = before;
                throw;
            }
        }
    }

    /// <summary>Which statistics normalize. Default <see cref="StatisticsSource.FollowTraining"/>.</summary>
    /// <remarks>A strategy without running statistics uses the batch's whatever this says.</remarks>
    public StatisticsSource StatisticsSource { get; set; }

    /// <summary>Whether a training Forward updates running statistics. Default true.</summary>
    public bool UpdateRunningStatistics { get; set; } = true;

    /// <summary>Whether Backward adds to the gradients of weight and bias. Default true.</summary>
    public bool LearnParameters { get; set; } = true;

    /// <inheritdoc/>
    public bool Frozen { get; private set; }

    /// <summary>Running updates that were skipped because a batch's statistics were not finite or did not fit <typeparamref name="T"/>.</summary>
    public long SkippedUpdates { get; private protected set; }

    /// <summary>Everything <see cref="WarningRaised"/> has said so far.</summary>
    public NormalizerWarnings Warnings { get; private set; }

    /// <summary>Called with a sentence the first time each kind of warning occurs in training; null, the default, listens to none.</summary>
    /// <remarks>It is called in the middle of a Forward and must not throw: where a batch spans ranks, the others would wait for this one.</remarks>
    public Action<NormalizerWarnings, string>? WarningRaised { get; set; }

    /// <inheritdoc/>
    public void Freeze()
    {
        bool before = Frozen;
        Frozen = true;
        try
        {
            OnStateChanged();
        }
        catch
        {
            Frozen = before;
            throw;
        }
    }

    /// <inheritdoc/>
    public void Unfreeze() => Frozen = false;

    /// <inheritdoc/>
    public void ZeroGradients()
    {
        foreach (Parameter<T> parameter in _parameters)
        {
            Array.Clear(parameter.Gradient);
        }
    }

    /// <inheritdoc/>
    public bool HoldConstants { get; set; }

    /// <summary>Puts running statistics and counters back to where a new layer has them, as PyTorch's reset_running_stats; frozen or not.</summary>
    /// <remarks>Parameters, gradients, switches and <see cref="SkippedUpdates"/> stay as they are. A layer without state has nothing to reset.</remarks>
    public void ResetStatistics()
    {
        foreach (StateBuffer<T> buffer in _buffers)
        {
            buffer.Reset();
        }

        WriteInitialStatistics();
        OnStateChanged();
    }

    /// <inheritdoc/>
    public virtual void OnStateChanged()
    {
    }

    /// <inheritdoc/>
    public virtual bool MixesReductionSets => false;

    /// <inheritdoc/>
    public virtual long ReductionSetOf(ActivationShape shape, nint sample, int channel, nint position) => -1;

    /// <inheritdoc/>
    public void Forward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output)
    {
        try
        {
            CheckedForward(input, output);
        }
        catch when (SpansRanks)
        {
            OnRefused(input.Lengths);
            throw;
        }
    }

    private unsafe void CheckedForward(in ReadOnlyTensorSpan<T> input, in TensorSpan<T> output)
    {
        var shape = new ActivationShape(input.Lengths);
        RequireSameShape(shape, output.Lengths, "output");
        RequireDistinct(shape, output.Strides, "output");
        CheckShape(shape);
        CheckBatch(shape);
        Save(default, default); // a Forward that throws leaves nothing for Backward
        if (shape.Count == 0)
        {
            if (SpansRanks)
            {
                ForwardDense(shape, MemoryOrder.ChannelsFirst, null, null);
            }

            Save(shape, MemoryOrder.ChannelsFirst);
            return;
        }

        fixed (T* x = &TensorMarshal.GetReference(input))
        fixed (T* y = &TensorMarshal.GetReference(output))
        {
            bool inPlace = x == y && input.Strides.SequenceEqual(output.Strides);
            if (Overlap(shape, x, input.Strides, y, output.Strides) && (Training || !inPlace))
            {
                throw new ArgumentException(
                    "Output must not overlap input in training, since Backward reads the input again; in inference it may only be exactly the input. Give Forward another array.",
                    nameof(output));
            }

            MemoryOrder inputOrder = DenseTensor.OrderOf(shape, input.Strides);
            MemoryOrder outputOrder = DenseTensor.OrderOf(shape, output.Strides);
            MemoryOrder order = WorkingOrder(shape, inputOrder);
            if (inputOrder == order && outputOrder == order)
            {
                ForwardDense(shape, order, x, y);
            }
            else
            {
                ForwardOfCopies(shape, order, x, input.Strides, inputOrder, y, output.Strides, outputOrder);
            }

            Save(shape, order);
        }
    }

    private unsafe void ForwardOfCopies(
        ActivationShape shape, MemoryOrder order,
        T* x, ReadOnlySpan<nint> inputStrides, MemoryOrder inputOrder, T* y, ReadOnlySpan<nint> outputStrides, MemoryOrder outputOrder)
    {
        DenseOperand<T> source = default;
        DenseOperand<T> destination = default;
        try
        {
            source = DenseOperand<T>.Read(shape, x, inputStrides, inputOrder, order);
            destination = DenseOperand<T>.Write(shape, y, outputStrides, outputOrder, order);
            ForwardDense(shape, order, source.Pointer, destination.Pointer);
            destination.CopyOut();
        }
        finally
        {
            destination.Dispose();
            source.Dispose();
        }
    }

    /// <inheritdoc/>
    /// <remarks>The input gradient may be the output gradient's own memory, but must not overlap the input.</remarks>
    public void Backward(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> outputGradient, in TensorSpan<T> inputGradient)
    {
        try
        {
            CheckedBackward(input, outputGradient, inputGradient);
        }
        catch when (SpansRanks)
        {
            OnRefused(input.Lengths);
            throw;
        }
    }

    private unsafe void CheckedBackward(in ReadOnlyTensorSpan<T> input, in ReadOnlyTensorSpan<T> outputGradient, in TensorSpan<T> inputGradient)
    {
        var shape = new ActivationShape(input.Lengths);
        RequireSameShape(shape, outputGradient.Lengths, "outputGradient");
        RequireSameShape(shape, inputGradient.Lengths, "inputGradient");
        RequireDistinct(shape, inputGradient.Strides, "inputGradient");
        CheckShape(shape);
        if (Training)
        {
            RequireSaved(shape);
        }

        if (shape.Count == 0)
        {
            if (SpansRanks)
            {
                BackwardDense(shape, MemoryOrder.ChannelsFirst, null, null, null);
            }

            return;
        }

        fixed (T* x = &TensorMarshal.GetReference(input))
        fixed (T* g = &TensorMarshal.GetReference(outputGradient))
        fixed (T* dx = &TensorMarshal.GetReference(inputGradient))
        {
            bool inPlace = g == dx && outputGradient.Strides.SequenceEqual(inputGradient.Strides);
            if (Overlap(shape, x, input.Strides, dx, inputGradient.Strides)
                || (!inPlace && Overlap(shape, g, outputGradient.Strides, dx, inputGradient.Strides)))
            {
                throw new ArgumentException(
                    "The input gradient must not overlap the input, nor the output gradient unless it is exactly that tensor. Give Backward another array.",
                    nameof(inputGradient));
            }

            MemoryOrder inputOrder = DenseTensor.OrderOf(shape, input.Strides);
            MemoryOrder gradientOrder = DenseTensor.OrderOf(shape, outputGradient.Strides);
            MemoryOrder resultOrder = DenseTensor.OrderOf(shape, inputGradient.Strides);
            MemoryOrder order = Training ? _savedOrder : WorkingOrder(shape, inputOrder);
            if (inputOrder == order && gradientOrder == order && resultOrder == order)
            {
                BackwardDense(shape, order, x, g, dx);
            }
            else
            {
                BackwardOfCopies(
                    shape, order, x, input.Strides, inputOrder, g, outputGradient.Strides, gradientOrder, dx, inputGradient.Strides, resultOrder);
            }
        }
    }

    private unsafe void BackwardOfCopies(
        ActivationShape shape, MemoryOrder order,
        T* x, ReadOnlySpan<nint> inputStrides, MemoryOrder inputOrder, T* g, ReadOnlySpan<nint> gradientStrides, MemoryOrder gradientOrder,
        T* dx, ReadOnlySpan<nint> resultStrides, MemoryOrder resultOrder)
    {
        DenseOperand<T> source = default;
        DenseOperand<T> gradient = default;
        DenseOperand<T> result = default;
        try
        {
            source = DenseOperand<T>.Read(shape, x, inputStrides, inputOrder, order);
            gradient = DenseOperand<T>.Read(shape, g, gradientStrides, gradientOrder, order);
            result = DenseOperand<T>.Write(shape, dx, resultStrides, resultOrder, order);
            BackwardDense(shape, order, source.Pointer, gradient.Pointer, result.Pointer);
            result.CopyOut();
        }
        finally
        {
            result.Dispose();
            gradient.Dispose();
            source.Dispose();
        }
    }

    /// <summary>The strategy's name in messages.</summary>
    private protected string Name => GetType().Name.Split('`')[0];

    /// <summary>Whether this Forward or Backward normalizes by running statistics, for a strategy that has them.</summary>
    private protected bool UsesRunning => Frozen || StatisticsSource switch
    {
        StatisticsSource.Batch => false,
        StatisticsSource.Running => true,
        _ => !Training,
    };

    /// <summary>What inference computes at every position, where that is one affine map whatever the input; null where statistics are the input's own.</summary>
    internal virtual InferenceMap? InferenceMap => null;

    /// <summary>The buffers whose values inference reads as the counters now stand.</summary>
    internal virtual IEnumerable<StateBuffer<T>> InferenceBuffers => Buffers.Where(buffer => !buffer.IsCounter);

    /// <summary>Whether this Forward updates running statistics, for a strategy that has them.</summary>
    private protected bool UpdatesRunning => Training && UpdateRunningStatistics && !Frozen && !HoldConstants;

    /// <summary>The running statistics; null where none are kept, and for strategies that keep them otherwise.</summary>
    private protected virtual RunningStatistics<T>? Running => null;

    /// <summary>What is thrown where epsilon is 0 and so is a running variance that would be divided by.</summary>
    private protected DivideByZeroException RunningVarianceIsZero(int channel) => new(
        $"{Name}: with epsilon 0 every channel's running variance must be above 0, but that of channel {channel} is 0 and would be divided by. Use an epsilon above 0.");

    /// <summary>Skips an update that cannot be made, or throws, as the policy says.</summary>
    /// <param name="reason">What cannot be stored, without the strategy's name and the end of the sentence; null where all was stored.</param>
    private protected void Refuse(string? reason)
    {
        if (reason is not null && NonFinite == NonFinitePolicy.Throw)
        {
            throw new InvalidOperationException($"{Name}: {reason}. Nothing was updated. Mend the input, or choose NonFinitePolicy.SkipUpdate.");
        }

        SkippedUpdates += reason is null ? 0 : 1;
    }

    /// <summary>Writes what a new layer's buffers hold beside one value everywhere.</summary>
    private protected virtual void WriteInitialStatistics()
    {
    }

    /// <summary>From here on, training batches go into statistics of a whole pass: <see cref="Recalibration"/>.</summary>
    internal virtual void BeginPass(RecalibratedVariance variance)
    {
        if (Running is null)
        {
            throw new InvalidOperationException($"{Name} keeps no running statistics that a pass over data could set. Leave it out of the recalibration.");
        }

        Running.BeginPass(variance);
    }

    /// <summary>Name and reason where the pass has nothing that could be stored; else null.</summary>
    internal virtual string? PassFault() => Running?.PassFault() is { } fault ? $"{Name}, {fault}" : null;

    /// <summary>Ends the pass, and replaces the running statistics by it if told so.</summary>
    internal virtual RecalibrationCount EndPass(bool keep) => Running?.EndPass(keep) ?? default;

    internal abstract void CheckShape(ActivationShape shape);

    /// <summary>What a batch must fulfil beyond its shape for a Forward in the present mode.</summary>
    internal virtual void CheckBatch(ActivationShape shape)
    {
    }

    /// <summary>The dense order in which a tensor is worked on; where it is not the tensor's own, a copy is.</summary>
    internal virtual MemoryOrder WorkingOrder(ActivationShape shape, MemoryOrder present) =>
        present == MemoryOrder.Strided ? MemoryOrder.ChannelsFirst : present;

    /// <summary>Whether a batch is one rank's part of a larger one: an empty part then takes part too, with null for its memory.</summary>
    internal virtual bool SpansRanks => false;

    /// <summary>Called where a pass over a part has thrown, with the lengths it was given: the other ranks may be waiting for it.</summary>
    internal virtual void OnRefused(ReadOnlySpan<nint> lengths)
    {
    }

    /// <summary>How many tensors a pass in the present mode must read from memory a second time: x, in a backward pass x and dy; 0 where nothing, and for strategies that do not say.</summary>
    /// <param name="shape">The activations.</param>
    /// <param name="order">How they lie.</param>
    /// <param name="backward">Whether the pass is a backward one.</param>
    /// <param name="cacheBytes">Bytes of a core's second-level cache, beyond which nothing is taken to wait: <see cref="Kernels.SecondReads"/>.</param>
    internal virtual int TensorsReadTwice(ActivationShape shape, MemoryOrder order, bool backward, nint cacheBytes) => 0;

    internal abstract unsafe void ForwardDense(ActivationShape shape, MemoryOrder order, T* x, T* y);

    internal abstract unsafe void BackwardDense(ActivationShape shape, MemoryOrder order, T* x, T* g, T* dx);

    private protected void AddAffine(NormalizerOptions options, params ReadOnlySpan<nint> shape)
    {
        if (options.Weight)
        {
            _parameters.Add(Weight = new Parameter<T>("weight", shape, T.One));
        }

        if (options.Bias)
        {
            _parameters.Add(Bias = new Parameter<T>("bias", shape, T.Zero));
        }
    }

    /// <summary>A learnable array beyond weight and bias, by the name that PyTorch or the paper gives it.</summary>
    private protected Parameter<T> AddParameter(string name, ReadOnlySpan<nint> shape, double initialValue)
    {
        var parameter = new Parameter<T>(name, shape, T.CreateTruncating(initialValue));
        _parameters.Add(parameter);
        return parameter;
    }

    private protected void AddBuffer(StateBuffer<T> buffer) => _buffers.Add(buffer);

    /// <summary>Whether a warning would be the first of its kind: asked before its text is made, so that a warm call makes none.</summary>
    private protected bool IsNews(NormalizerWarnings warning) => Training && (Warnings & warning) == 0;

    private protected void Warn(NormalizerWarnings warning, string message)
    {
        Warnings |= warning;
        WarningRaised?.Invoke(warning, message);
    }

    private protected void RequireChannels(ActivationShape shape, int channels)
    {
        if (shape.Channels != channels)
        {
            throw new ArgumentException(
                $"{Name} was made for {channels} channels; got input {shape} with {shape.Channels}. Channels are the second axis, in channels-last memory too.");
        }
    }

    internal static void RequireSameShape(ActivationShape shape, ReadOnlySpan<nint> lengths, string name)
    {
        bool same = lengths.Length == shape.Rank;
        for (int axis = 0; same && axis < lengths.Length; axis++)
        {
            same = lengths[axis] == shape[axis];
        }

        if (!same)
        {
            throw new ArgumentException($"'{name}' must have the input's shape {shape}; got {ActivationShape.Format(lengths)}.", name);
        }
    }

    internal static void RequireDistinct(ActivationShape shape, ReadOnlySpan<nint> strides, string name)
    {
        for (int axis = 0; axis < shape.Rank; axis++)
        {
            if (strides[axis] == 0 && shape[axis] > 1 && shape.Count > 0)
            {
                throw new ArgumentException(
                    $"'{name}' has stride 0 along axis {axis} of {shape}: its elements would be written over each other. Give it memory of its own for each element.", name);
            }
        }
    }

    internal static unsafe bool Overlap(ActivationShape shape, T* a, ReadOnlySpan<nint> aStrides, T* b, ReadOnlySpan<nint> bStrides) =>
        a < b + DenseTensor.Extent(shape, bStrides) && b < a + DenseTensor.Extent(shape, aStrides);

    // Inference writes no field, so that one instance can serve many threads.
    private void Save(ActivationShape shape, MemoryOrder order)
    {
        if (Training)
        {
            _savedShape = shape;
            _savedOrder = order;
        }
    }

    private void RequireSaved(ActivationShape shape)
    {
        if (_savedShape.Rank == 0)
        {
            throw new InvalidOperationException($"{Name}.Backward in training needs a Forward in training before it: its statistics are used.");
        }

        if (_savedShape != shape)
        {
            throw new InvalidOperationException(
                $"{Name}.Backward got input {shape}, but the last Forward in training saw {_savedShape}. Call Backward with the tensors of that Forward.");
        }
    }
}
