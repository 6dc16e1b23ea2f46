using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Normalization.Bench.Speed;

/// <summary>The process that runs PyTorch: one line of JSON asks, one line of JSON answers.</summary>
internal sealed class PyTorchWorker : IDisposable
{
    private const string Script = "pytorch_worker.py";

    // Importing torch from a cold disk takes long, an interpreter that hangs must not stop the benchmark.
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly StringBuilder _errors = new();
    private bool _disposed;

    private PyTorchWorker(string python)
    {
        var start = new ProcessStartInfo(python, ["-u", Path.Combine(AppContext.BaseDirectory, "Speed", "Peers", Script)])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardInputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false),
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
        };

        // Between samples its threads sleep; some systems wake them on one processor, where they wait for each other for milliseconds.
        start.Environment.TryAdd("OMP_PROC_BIND", "true");
        start.Environment.TryAdd("OMP_PLACES", "cores");

        // OpenMP's idle threads look for work for milliseconds on processors that OpenBLAS's want meanwhile.
        start.Environment.TryAdd("GOMP_SPINCOUNT", "1000");
        _process = new Process { StartInfo = start };
        _process.ErrorDataReceived += (_, line) =>
        {
            lock (_errors)
            {
                _errors.AppendLine(line.Data);
            }
        };
        _process.Start();
        _process.BeginErrorReadLine();
    }

    /// <summary>What the worker said of itself when it was ready: "version" and "blas".</summary>
    public JsonObject Greeting { get; private set; } = [];

    /// <summary>The optimized BLAS that it multiplies by; null where it has none.</summary>
    public string? Blas => (string?)Greeting["blas"];

    /// <summary>The name and version for people, such as "PyTorch 1.13.1, OpenBLAS".</summary>
    public string Version => $"PyTorch {(string?)Greeting["version"]}, {Blas ?? "no optimized BLAS"}";

    /// <summary>Starts a worker by the first interpreter that imports torch.</summary>
    /// <param name="python">The interpreter, and no other; null for the usual ones.</param>
    /// <param name="missing">Where null is returned: which were tried and the package that brings torch.</param>
    public static PyTorchWorker? Find(string? python, out string? missing)
    {
        string[] candidates = python is null ? ["python3", "/usr/bin/python3"] : [python];
        foreach (string candidate in candidates)
        {
            if (Start(candidate) is { } worker)
            {
                missing = null;
                return worker;
            }
        }

        missing = python is not null
            ? $"'{python}', which --python names, is no Python that can import torch (Debian: python3-torch). Name another, or leave --python out."
            : $"PyTorch is not installed: none of {string.Join(", ", candidates)} can import torch (Debian: python3-torch; elsewhere name an interpreter by --python PATH)";
        return null;
    }

    /// <summary>Starts a worker.</summary>
    /// <param name="python">The interpreter: a path, or a name to be found on PATH.</param>
    /// <returns>The worker; null where there is no such interpreter or it cannot import torch.</returns>
    public static PyTorchWorker? Start(string python)
    {
        PyTorchWorker worker;
        try
        {
            worker = new PyTorchWorker(python);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }

        using var limit = new CancellationTokenSource(StartLimit);
        try
        {
            string? line = worker._process.StandardOutput.ReadLineAsync(limit.Token).AsTask().GetAwaiter().GetResult();
            if (line is not null && JsonNode.Parse(line) is JsonObject greeting)
            {
                worker.Greeting = greeting;
                return worker;
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or JsonException)
        {
            // Not our worker's greeting: whatever it is, it is of no use.
        }

        worker.Dispose();
        return null;
    }

    /// <summary>Asks and waits for the answer.</summary>
    /// <param name="request">The request; its "operation" says what is asked.</param>
    /// <exception cref="InvalidOperationException">The worker failed or died; the message carries its traceback.</exception>
    public JsonObject Ask(JsonObject request)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        string? line = null;
        try
        {
            _process.StandardInput.WriteLine(request.ToJsonString());
            _process.StandardInput.Flush();
            line = _process.StandardOutput.ReadLine();
        }
        catch (IOException)
        {
            // The pipe is broken: the process ended, as the missing answer says.
        }

        JsonObject? answer = line is null ? null : JsonNode.Parse(line) as JsonObject;
        return answer is null ? throw new InvalidOperationException($"The PyTorch worker ended during '{request["operation"]}': {Errors()}")
            : answer["error"] is { } error ? throw new InvalidOperationException($"PyTorch failed in '{request["operation"]}': {((string?)error)?.Trim()}")
            : answer;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        try
        {
            _process.Kill();
        }
        catch (InvalidOperationException)
        {
            // It ended by itself.
        }

        _process.WaitForExit();
        _process.Dispose();
    }

    private string Errors()
    {
        if (_process.WaitForExit(TimeSpan.FromSeconds(5)))
        {
            // Without a limit it also waits for the last lines of standard error.
            _process.WaitForExit();
        }

        string status = _process.HasExited ? FormattableString.Invariant($"exit code {_process.ExitCode}") : "standard output closed";
        lock (_errors)
        {
            string said = _errors.ToString().Trim();
            return said.Length == 0 ? status + ", it said nothing." : $"{status}; it said: {said}";
        }
    }
}
