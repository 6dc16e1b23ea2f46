using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Normalization.Tests.Bench.Data;

/// <summary>A file server on loopback that answers a request with what a test gives it, byte for byte.</summary>
internal sealed class LoopbackServer : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Func<string, long, Answer> _answer;
    private readonly Task _serving;

    /// <param name="answer">Of a path and the first byte asked for (0 without a range).</param>
    public LoopbackServer(Func<string, long, Answer> answer)
    {
        _answer = answer;
        _listener.Start();
        Address = new Uri($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}/");
        _serving = ServeAsync();
    }

    /// <summary>What goes back.</summary>
    /// <param name="Status">The status line behind the version.</param>
    /// <param name="Announced">The content's length as the header has it.</param>
    /// <param name="Content">What is sent of it before the connection is closed.</param>
    /// <param name="Range">The Content-Range header; null for none.</param>
    /// <param name="Stalls">Whether the connection stays open, silent, behind the content.</param>
    public sealed record Answer(string Status, long Announced, ReadOnlyMemory<byte> Content, string? Range = null, bool Stalls = false)
    {
        public static Answer Of(byte[] file, long from) => from == 0
            ? new("200 OK", file.Length, file)
            : new("206 Partial Content", file.Length - from, file.AsMemory((int)from), $"bytes {from}-{file.Length - 1}/{file.Length}");
    }

    public Uri Address { get; }

    /// <summary>The requests so far: path and first byte.</summary>
    public List<(string Path, long From)> Requests { get; } = [];

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Stop();
        _serving.GetAwaiter().GetResult();
        _stop.Dispose();
    }

    private async Task ServeAsync()
    {
        while (true)
        {
            try
            {
                using TcpClient client = await _listener.AcceptTcpClientAsync(_stop.Token);
                await AnswerAsync(client.GetStream());
            }
            catch (Exception error) when (error is OperationCanceledException or IOException or SocketException or ObjectDisposedException)
            {
                if (_stop.IsCancellationRequested)
                {
                    return;
                }
            }
        }
    }

    private async Task AnswerAsync(NetworkStream stream)
    {
        using var reader = new StreamReader(stream, Encoding.ASCII, leaveOpen: true);
        string path = (await reader.ReadLineAsync(_stop.Token) ?? "").Split(' ').ElementAtOrDefault(1) ?? "";
        long from = 0;
        for (string? line; (line = await reader.ReadLineAsync(_stop.Token)) is { Length: > 0 };)
        {
            if (line.StartsWith("Range: bytes=", StringComparison.OrdinalIgnoreCase))
            {
                from = long.Parse(line["Range: bytes=".Length..].TrimEnd('-'));
            }
        }

        Requests.Add((path, from));
        Answer answer = _answer(path, from);
        string range = answer.Range is null ? "" : $"Content-Range: {answer.Range}\r\n";
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 {answer.Status}\r\nContent-Length: {answer.Announced}\r\n{range}Connection: close\r\n\r\n"), _stop.Token);
        await stream.WriteAsync(answer.Content, _stop.Token);
        if (answer.Stalls)
        {
            await Task.Delay(Timeout.Infinite, _stop.Token);
        }
    }
}
