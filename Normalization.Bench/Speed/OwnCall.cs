using Normalization.Core;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Speed;

/// <summary>A strategy of ours on a case: the instances, their values taken from the case's data, and the tensors they work on.</summary>
internal sealed class OwnCall
{
    private readonly SpeedCase _case;
    private readonly CellData _data;
    private readonly Contestant _contestant;
    private readonly INormalizer<float> _normalizer;

    public OwnCall(SpeedCase planned, CellData data, Contestant contestant)
    {
        _case = planned;
        _data = data;
        _contestant = contestant;
        Tensors = new SpeedTensors(new Workload(planned.Shape, planned.ChannelsLast, planned.Threads), data.Input, data.Upstream);
        _normalizer = Create(values => values);
    }

    public SpeedTensors Tensors { get; }

    /// <summary>Bytes that a memory-bound implementation must move in a call.</summary>
    public double BytesMoved => _case.Passes.Sum(pass => Tensors.BytesMoved(_normalizer, Name(pass)));

    /// <summary>Managed bytes that a warm call allocates.</summary>
    public double Allocated => _case.Passes.Sum(pass => Tensors.Allocated(_normalizer, Name(pass)));

    /// <summary>Null, or what differs from the double instance. Afterwards the tensors hold the result of one call and the parameters its gradients.</summary>
    public string? Check(double limit)
    {
        INormalizer<double> reference = Create(values => Array.ConvertAll(values, value => (double)value));
        return _case.Passes.Select(pass => SpeedProbe.Check(Tensors, _normalizer, reference, Name(pass), limit)).FirstOrDefault(wrong => wrong is not null);
    }

    /// <summary>Seconds that a number of calls take.</summary>
    public double Seconds(int calls)
    {
        double seconds = 0;
        foreach (Direction pass in _case.Passes)
        {
            seconds += Tensors.Seconds(_normalizer, Name(pass), calls);
        }

        return seconds;
    }

    /// <summary>The largest difference between a peer's result and ours, over our largest value; of a backward call the parameters' gradients included.</summary>
    /// <param name="pass">The pass that the peer's call makes.</param>
    /// <param name="peer">A call that was made at least once.</param>
    public double DifferenceFrom(Direction pass, ITimedCall peer)
    {
        float[] ours = Tensors.Result(Name(pass));
        var theirs = new float[ours.Length];
        peer.CopyResult(theirs);
        double worst = Agreement.Difference(theirs, ours, 0);
        if (pass != Direction.Backward)
        {
            return worst;
        }

        var weight = new float[_data.Weight.Length];
        var bias = new float[_data.Bias.Length];
        peer.CopyParameterGradients(weight, bias);

        // A parameter's gradient adds up terms of the upstream gradient's size.
        double scale = Agreement.SumOfMagnitudes(_data.Upstream) / weight.Length;
        return Math.Max(worst, Math.Max(Agreement.Difference(weight, Gradient("weight"), scale), Agreement.Difference(bias, Gradient("bias"), scale)));
    }

    private float[] Gradient(string name) => _normalizer.Parameters.Single(parameter => parameter.Name == name).Gradient;

    private INormalizer<T> Create<T>(Func<float[], T[]> convert)
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
    {
        INormalizer<T> normalizer = _contestant.Create<T>(_case.Shape, _data.Epsilon);
        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            convert(parameter.Name == "weight" ? _data.Weight : _data.Bias).CopyTo(parameter.Values, 0);
        }

        foreach (StateBuffer<T> buffer in normalizer.Buffers.Where(buffer => buffer.Name is "running_mean" or "running_var"))
        {
            convert(buffer.Name == "running_mean" ? _data.RunningMean : _data.RunningVariance).CopyTo(buffer.Values, 0);
        }

        normalizer.OnStateChanged();
        normalizer.Training = _case.Direction != SpeedTensors.Inference;
        return normalizer;
    }

    private static string Name(Direction pass) => Text.Kebab(pass);
}
