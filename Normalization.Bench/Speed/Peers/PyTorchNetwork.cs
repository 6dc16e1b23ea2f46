using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Normalization.Core;

namespace Normalization.Bench.Speed;

/// <summary>PyTorch's training step of the same network from the same weights and batch, in the worker's process.</summary>
/// <remarks>Weights of convolutions travel as (outputs, k, k, channels) and images as (N, H, W, C), as our memory has them; the worker turns them.</remarks>
internal sealed class PyTorchNetwork : IDisposable
{
    private readonly PyTorchWorker _worker;
    private readonly string _folder = Directory.CreateTempSubdirectory("normalization-network-").FullName;

    /// <param name="worker">Where it runs.</param>
    /// <param name="planned">The case.</param>
    /// <param name="own">Our step, whose weights and batch it takes; not yet run.</param>
    /// <param name="rate">The learning rate of the steps that are timed.</param>
    /// <exception cref="InvalidOperationException">The worker failed.</exception>
    public PyTorchNetwork(PyTorchWorker worker, NetworkCase planned, NetworkStep own, double rate)
    {
        _worker = worker;
        string file = Path.Combine(_folder, "values");
        using (FileStream stream = File.Create(file))
        {
            stream.Write(MemoryMarshal.AsBytes(own.Input));
            stream.Write(MemoryMarshal.AsBytes<float>([.. own.Labels.Select(label => (float)label)]));
            foreach (Parameter<float> parameter in own.Parameters)
            {
                stream.Write(MemoryMarshal.AsBytes(parameter.Values.AsSpan()));
            }
        }

        JsonObject answer = Ask("network", "", new JsonObject
        {
            ["file"] = file,
            ["network"] = planned.Network,
            ["normalized"] = planned.Strategy != "none",
            ["shape"] = new JsonArray([.. planned.Shape.ToArray().Select(length => JsonValue.Create((long)length))]),
            ["parameters"] = own.Parameters.Sum(parameter => parameter.Values.Length),
            ["threads"] = planned.Threads,
            ["rate"] = rate,
        });
        Variants = [.. ((JsonArray)answer["variants"]!).Select(variant => (string)variant!)];
    }

    /// <summary>The ways in which a user would write it; the fastest counts.</summary>
    public IReadOnlyList<string> Variants { get; }

    /// <summary>Seconds that a number of steps take.</summary>
    public double Seconds(string variant, int steps) => (double)Ask("time", variant, new JsonObject { ["calls"] = steps })["seconds"]!;

    /// <summary>The parameters after one step of rate 1 from the first weights, in the order and shapes of ours.</summary>
    public float[][] AfterOneStep(string variant, IReadOnlyList<Parameter<float>> like)
    {
        string file = Path.Combine(_folder, "result");
        Ask("result", variant, new JsonObject { ["file"] = file });
        float[][] values = [.. like.Select(parameter => new float[parameter.Values.Length])];
        using FileStream stream = File.OpenRead(file);
        foreach (float[] array in values)
        {
            stream.ReadExactly(MemoryMarshal.AsBytes(array.AsSpan()));
        }

        return values;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            Ask("release", "", []);
        }
        catch (InvalidOperationException)
        {
            // The worker ended, and what it held with it.
        }

        Directory.Delete(_folder, recursive: true);
    }

    // One network at a time; cells are numbered from 0.
    private JsonObject Ask(string operation, string variant, JsonObject request)
    {
        request["operation"] = operation;
        request["cell"] = -1;
        request["variant"] = variant;
        return _worker.Ask(request);
    }
}
