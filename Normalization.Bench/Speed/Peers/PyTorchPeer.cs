using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Normalization.Core.Comparison;

namespace Normalization.Bench.Speed;

/// <summary>PyTorch in a process of its own, which times itself around the calls alone.</summary>
/// <remarks>
/// What each cell calls is written in pytorch_worker.py. Tensors travel through temporary files that the worker maps. The aten operators of
/// normalization allocate their output afresh on every call; those that take an output of ours only copy into it, so a call into a reused
/// output exists where a cat ends it.
/// </remarks>
internal sealed class PyTorchPeer : IPeer
{
    private readonly PyTorchWorker _worker;
    private readonly string _folder;
    private readonly bool _hasFastBlas;
    private readonly WeakReference<SpeedTensors?> _lastTensors = new(null);
    private int _prepared;

    private PyTorchPeer(PyTorchWorker worker)
    {
        _worker = worker;
        _folder = Directory.CreateTempSubdirectory("normalization-pytorch-").FullName;
        _hasFastBlas = worker.Blas is not null;
    }

    /// <inheritdoc/>
    public string Id => "pytorch";

    /// <inheritdoc/>
    public string Version => _worker.Version;

    /// <summary>Starts the worker; see <see cref="PyTorchWorker.Find"/>.</summary>
    public static PyTorchPeer? Find(string? python, out string? missing) => PyTorchWorker.Find(python, out missing) is { } worker ? new PyTorchPeer(worker) : null;

    /// <inheritdoc/>
    public string? Lacks(SpeedCell cell) => cell.Strategy switch
    {
        "zca-whitening" when cell.Direction == Direction.Inference => "whitening in PyTorch is written here for training alone",
        "zca-whitening" when cell.ChannelsLast => "whitening in PyTorch is written here for channels-first memory alone",
        "zca-whitening" => _hasFastBlas ? null : "this PyTorch has no optimized BLAS to multiply by (Debian: libopenblas0-pthread)",
        _ => PeerCells.Refusal(cell),
    };

    /// <inheritdoc/>
    public IReadOnlyList<ITimedCall> Prepare(CellData data, int threads)
    {
        SpeedCell cell = data.Cell;
        if (Lacks(cell) is { } reason)
        {
            throw new NotSupportedException(reason);
        }

        int number = _prepared++;
        string? file = null;
        if (!_lastTensors.TryGetTarget(out SpeedTensors? last) || last != data.Tensors)
        {
            // The other directions of a cell have the same values.
            file = Path.Combine(_folder, "input");
            Write(file, data);
            _lastTensors.SetTarget(null);
        }

        JsonObject answer = _worker.Ask(new JsonObject
        {
            ["operation"] = "prepare",
            ["cell"] = number,
            ["file"] = file,
            ["strategy"] = cell.Strategy,
            ["direction"] = Text.Kebab(cell.Direction),
            ["shape"] = new JsonArray([.. cell.Shape.ToArray().Select(length => JsonValue.Create((long)length))]),
            ["channels_last"] = cell.ChannelsLast && cell.Shape.SpatialSize > 1,
            ["parameters"] = data.Weight.Length,
            ["threads"] = threads,
            ["epsilon"] = data.Epsilon,
            ["momentum"] = data.Momentum,
            ["groups"] = SpeedCell.Groups,
            ["ghost"] = PeerCells.GhostSize(cell),
        });
        _lastTensors.SetTarget(data.Tensors);
        if (file is not null)
        {
            File.Delete(file);
        }

        var variants = new List<ITimedCall>();
        var prepared = new Prepared(_worker, data, threads, number, Path.Combine(_folder, "result"));
        foreach (JsonNode? variant in (JsonArray)answer["variants"]!)
        {
            variants.Add(new Call(prepared, (string)variant!));
            prepared.Users++;
        }

        return variants;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _worker.Dispose();
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    private static void Write(string path, CellData data)
    {
        using FileStream stream = File.Create(path);
        stream.Write(MemoryMarshal.AsBytes(data.Tensors.Input));
        stream.Write(MemoryMarshal.AsBytes(data.Tensors.Upstream));
        foreach (float[] array in new[] { data.Weight, data.Bias, data.RunningMean, data.RunningVariance })
        {
            stream.Write(MemoryMarshal.AsBytes(array.AsSpan()));
        }
    }

    /// <summary>A cell whose tensors the worker holds, for as long as a variant is in use.</summary>
    private sealed class Prepared(PyTorchWorker worker, CellData data, int threads, int number, string resultFile)
    {
        public int Users { get; set; }

        public CellData Data => data;

        public int Threads => threads;

        public JsonObject Ask(string operation, string variant, int calls = 0) => worker.Ask(new JsonObject
        {
            ["operation"] = operation,
            ["cell"] = number,
            ["variant"] = variant,
            ["calls"] = calls,
            ["warm_up"] = threads > 1 ? SpeedBench.WarmUpSeconds(data.Cell.Shape, threads) : 0,
            ["file"] = resultFile,
        });

        public void Read(string variant, Span<float> result, Span<float> weight, Span<float> bias)
        {
            _ = Ask("result", variant);
            using (FileStream stream = File.OpenRead(resultFile))
            {
                stream.ReadExactly(MemoryMarshal.AsBytes(result));
                stream.ReadExactly(MemoryMarshal.AsBytes(weight));
                stream.ReadExactly(MemoryMarshal.AsBytes(bias));
            }

            File.Delete(resultFile);
        }
    }

    private sealed class Call(Prepared prepared, string variant) : ITimedCall
    {
        private float[]? _weightGradient;
        private float[]? _biasGradient;
        private bool _disposed;

        public string Variant => variant;

        public bool WarmsItself => prepared.Threads > 1;

        public double Seconds(int calls) => (double)prepared.Ask("time", variant, calls)["seconds"]!;

        public void CopyResult(Span<float> destination)
        {
            // All that a backward call computes comes with it.
            bool backward = prepared.Data.Cell.Direction == Direction.Backward;
            float[] weight = backward ? new float[prepared.Data.Weight.Length] : [];
            float[] bias = backward ? new float[prepared.Data.Bias.Length] : [];
            prepared.Read(variant, destination, weight, bias);
            (_weightGradient, _biasGradient) = (weight, bias);
        }

        public void CopyParameterGradients(Span<float> weight, Span<float> bias)
        {
            if (prepared.Data.Cell.Direction != Direction.Backward)
            {
                throw InProcessCall.NoGradients(prepared.Data.Cell.Direction);
            }

            if (_weightGradient is null)
            {
                CopyResult(new float[prepared.Data.Tensors.Input.Length]);
            }

            _weightGradient.CopyTo(weight);
            _biasGradient.CopyTo(bias);
        }

        public void Dispose()
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            if (--prepared.Users > 0)
            {
                return;
            }

            try
            {
                _ = prepared.Ask("release", variant);
            }
            catch (InvalidOperationException)
            {
                // The worker ended, and what it held with it.
            }
        }
    }
}
