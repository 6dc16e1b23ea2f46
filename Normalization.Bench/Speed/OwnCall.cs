using System.Diagnostics;
using System.Numerics;
using Normalization.Core;
using Normalization.Core.Comparison;
using Normalization.Core.Kernels;
using Normalization.Strategies;

namespace Normalization.Bench.Speed;

/// <summary>What all directions of a strategy on a tensor share: the values, our arrays, the double instance's results.</summary>
internal sealed class CaseMaterial
{
    private readonly Contestant _contestant;
    private readonly ActivationShape _shape;

    public CaseMaterial(SpeedCase planned, RandomStream stream)
    {
        _contestant = StrategyCatalog.Contestant(planned.Strategy, planned.Settings);
        _shape = planned.Shape;
        Data = new CellData(planned.Cell(planned.Passes[0]), stream, planned.Threads);
        Reference = new SpeedReference(Tensors, () => Create<double>(values => Arithmetic.ToDouble(values))) { TrainsBeforeInference = false };
    }

    public CellData Data { get; }

    public SpeedTensors Tensors => Data.Tensors;

    public SpeedReference Reference { get; }

    /// <summary>A fresh instance in training mode, with the parameters and the running statistics that every contestant has.</summary>
    public INormalizer<float> Create() => Create(values => values);

    private INormalizer<T> Create<T>(Func<float[], T[]> convert)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        INormalizer<T> normalizer = _contestant.Create<T>(_shape, Data.Epsilon);
        foreach (Parameter<T> parameter in normalizer.Parameters.Where(parameter => parameter.Name is "weight" or "bias"))
        {
            convert(parameter.Name == "weight" ? Data.Weight : Data.Bias).CopyTo(parameter.Values, 0);
        }

        foreach (StateBuffer<T> buffer in normalizer.Buffers.Where(buffer => buffer.Name is "running_mean" or "running_var"))
        {
            convert(buffer.Name == "running_mean" ? Data.RunningMean : Data.RunningVariance).CopyTo(buffer.Values, 0);
        }

        normalizer.OnStateChanged();
        return normalizer;
    }
}

/// <summary>A strategy of ours on a case, ready to be checked and timed.</summary>
internal sealed class OwnCall
{
    private readonly SpeedCase _case;
    private readonly CaseMaterial _material;
    private readonly INormalizer<float> _normalizer;
    private readonly Dictionary<Direction, float[]> _results = [];

    public OwnCall(SpeedCase planned, CaseMaterial material)
    {
        _case = planned;
        _material = material;
        _normalizer = material.Create();
        _normalizer.Training = planned.Direction != SpeedTensors.Inference;
    }

    public SpeedTensors Tensors => _material.Tensors;

    /// <summary>Bytes that a memory-bound implementation must move in a call.</summary>
    public double BytesMoved => _case.Passes.Sum(pass => Tensors.BytesMoved(_normalizer, CellData.Name(pass)));

    /// <summary>Tensors that a call must read from memory a second time, however it is implemented: x, in a backward pass x and dy; 0 where nothing.</summary>
    public int TensorsReadTwice => _normalizer is not Normalizer<float> known ? 0 : _case.Passes.Sum(pass => known.TensorsReadTwice(
        _case.Shape, _case.ChannelsLast ? MemoryOrder.ChannelsLast : MemoryOrder.ChannelsFirst, pass == Direction.Backward, CacheSizes.SecondLevel));

    /// <summary>Managed bytes that a warm call allocates.</summary>
    public double Allocated => _case.Passes.Sum(pass => Tensors.Allocated(_normalizer, CellData.Name(pass)));

    /// <summary>Null, or what differs from the double instance. Afterwards the parameters hold the gradients of one call.</summary>
    public string? Check(double limit) => _case.Passes
        .Select(pass => SpeedProbe.Check(Tensors, _normalizer, _material.Reference, CellData.Name(pass), limit)).FirstOrDefault(wrong => wrong is not null);

    /// <summary>Keeps what a checked call left in the tensors, to hold peers against, who write there too.</summary>
    public void KeepResults()
    {
        foreach (Direction pass in _case.Passes)
        {
            _results[pass] = Tensors.Result(CellData.Name(pass)).ToArray();
        }
    }

    /// <summary><see cref="SpeedTensors.Blot"/> of every pass: a peer that leaves a value unwritten does not pass for one that agrees.</summary>
    public void BlotResults()
    {
        foreach (Direction pass in _case.Passes)
        {
            Tensors.Blot(CellData.Name(pass));
        }
    }

    /// <summary>Makes the call a number of times.</summary>
    public void Run(int calls)
    {
        foreach (Direction pass in _case.Passes)
        {
            Tensors.Run(_normalizer, CellData.Name(pass), calls);
        }
    }

    /// <summary>Seconds that a number of calls take.</summary>
    public double Seconds(int calls)
    {
        long began = Stopwatch.GetTimestamp();
        Run(calls);
        return Stopwatch.GetElapsedTime(began).TotalSeconds;
    }

    /// <summary>The largest difference between a peer's result and ours, over our largest value; of a backward call the parameters' gradients included.</summary>
    /// <param name="pass">The pass that the peer's call makes.</param>
    /// <param name="peer">A call that was made at least once, after <see cref="KeepResults"/>.</param>
    public double DifferenceFrom(Direction pass, ITimedCall peer)
    {
        float[] ours = _results[pass];
        float[] theirs = GC.AllocateUninitializedArray<float>(ours.Length);
        peer.CopyResult(theirs);
        double worst = Agreement.Difference(theirs, ours, 0);
        if (pass != Direction.Backward)
        {
            return worst;
        }

        var weight = new float[_material.Data.Weight.Length];
        var bias = new float[_material.Data.Bias.Length];
        peer.CopyParameterGradients(weight, bias);

        // A parameter's gradient adds up terms of the upstream gradient's size.
        double scale = Agreement.SumOfMagnitudes(Tensors.Upstream) / weight.Length;
        return Math.Max(worst, Math.Max(Agreement.Difference(weight, Gradient("weight"), scale), Agreement.Difference(bias, Gradient("bias"), scale)));
    }

    private float[] Gradient(string name) => _normalizer.Parameters.Single(parameter => parameter.Name == name).Gradient;
}
