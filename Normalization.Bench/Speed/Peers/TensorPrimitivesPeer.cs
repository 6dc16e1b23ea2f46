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

    /// <summary>Name and version, and that its tensors are arrays as the runtime places them, where all others' begin at a cache line.</summary>
    public string Version { get; } =
        $"System.Numerics.Tensors {typeof(TensorPrimitives).Assembly.GetName().Version?.ToString(3)}, plain arrays";

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
        private readonly float[] _result;

        public Call(CellData data, int threads)
        {
            _data = data;
            _result = new float[data.Input.Length];
            _norm = ComposedNorm.Of(data, threads);
            if (data.Cell.Direction == Direction.Backward)
            {
                // Saves the statistics; the output is of no further use.
                _norm.Forward(data.Input, _result);
            }
        }

        public override void CopyResult(Span<float> destination) => _result.CopyTo(destination);

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
                    _norm.Forward(_data.Input, _result);
                    break;
                case Direction.Backward:
                    _norm.Backward(_data.Input, _data.Upstream, _result);
                    break;
                default:
                    _norm.Inference(_data.Input, _result);
                    break;
            }
        }
    }
}
