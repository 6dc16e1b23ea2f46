using System.Numerics.Tensors;

namespace Normalization.Bench.Speed;

/// <summary>What a .NET programmer writes today: TensorPrimitives calls composed over spans, Parallel.For where there are threads.</summary>
/// <remarks>
/// Three shapes of code, as memory lies: whole rows that are normalized together and have a weight for each element
/// (<see cref="ComposedRows"/>), slices of one channel's positions (<see cref="ComposedSlices"/>), and rows of channels
/// (<see cref="ComposedChannels"/>).
/// </remarks>
internal sealed class TensorPrimitivesPeer : IPeer
{
    /// <inheritdoc/>
    public string Id => "tensorprimitives";

    /// <inheritdoc/>
    public string Version { get; } = $"System.Numerics.Tensors {typeof(TensorPrimitives).Assembly.GetName().Version?.ToString(3)}";

    /// <inheritdoc/>
    public string? Lacks(SpeedCell cell) => cell.Strategy switch
    {
        "zca-whitening" => "TensorPrimitives has neither a matrix product nor an eigen-decomposition",
        _ => PeerCells.Refusal(cell),
    };

    /// <inheritdoc/>
    public IReadOnlyList<ITimedCall> Prepare(CellData data, int threads)
    {
        if (Lacks(data.Cell) is { } reason)
        {
            throw new NotSupportedException(reason);
        }

        return [new Call(data, threads)];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private sealed class Call : InProcessCall
    {
        private readonly CellData _data;
        private readonly ComposedNorm _norm;

        public Call(CellData data, int threads)
        {
            _data = data;
            _norm = ComposedNorm.Of(data, threads);
            if (data.Cell.Direction == Direction.Backward)
            {
                // Saves the statistics; the output is of no further use.
                _norm.Forward(data.Tensors.InputMemory, data.Result);
            }
        }

        public override void CopyResult(Span<float> destination) => _data.Result.Span.CopyTo(destination);

        public override void CopyParameterGradients(Span<float> weight, Span<float> bias)
        {
            if (_data.Cell.Direction != Direction.Backward)
            {
                throw NoGradients(_data.Cell.Direction);
            }

            _norm.WeightGradient.CopyTo(weight);
            _norm.BiasGradient.CopyTo(bias);
        }

        public override void Dispose() => _norm.Dispose();

        protected override void Run()
        {
            switch (_data.Cell.Direction)
            {
                case Direction.Forward:
                    _norm.Forward(_data.Tensors.InputMemory, _data.Result);
                    break;
                case Direction.Backward:
                    _norm.Backward(_data.Tensors.InputMemory, _data.Tensors.UpstreamMemory, _data.Result);
                    break;
                default:
                    _norm.Inference(_data.Tensors.InputMemory, _data.Result);
                    break;
            }
        }
    }
}
