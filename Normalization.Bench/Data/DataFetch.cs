using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace Normalization.Bench.Data;

/// <summary>Downloads a data set's files: each under a temporary name until its SHA-256 is right, going on where an earlier attempt ended.</summary>
/// <param name="set">Which files.</param>
/// <param name="folder">Where they go; made with its parents.</param>
/// <param name="say">Takes a line about each file.</param>
internal sealed class DataFetch(RemoteDataSet set, string folder, Action<string> say)
{
    private const string PartSuffix = ".part";
    private const int BufferBytes = 1 << 16;

    /// <summary>How long nothing may come before a mirror is given up.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Fetches what is not there yet; files that are there and right stay as they are.</summary>
    /// <param name="mirrors">Addresses to try in order; each ends with a slash.</param>
    /// <param name="cancellation">Ends it; what came is kept for the next time.</param>
    /// <exception cref="IOException">No mirror gave a file whole and right, or the folder cannot be written. What came so far is kept.</exception>
    public async Task RunAsync(IReadOnlyList<Uri> mirrors, CancellationToken cancellation = default)
    {
        Directory.CreateDirectory(folder);
        using var client = new HttpClient { Timeout = Timeout.InfiniteTimeSpan };
        foreach (RemoteFile file in set.Files)
        {
            string path = Path.Combine(folder, file.Name);
            if (File.Exists(path))
            {
                if (await HashAsync(path, cancellation).ConfigureAwait(false) == file.Sha256)
                {
                    say($"{file.Name}: is there, SHA-256 is right");
                    continue;
                }

                say($"{file.Name}: is there with another SHA-256; fetched again");
            }

            await FetchAsync(client, file, path, mirrors, cancellation).ConfigureAwait(false);
        }
    }

    private async Task FetchAsync(HttpClient client, RemoteFile file, string path, IReadOnlyList<Uri> mirrors, CancellationToken cancellation)
    {
        string part = path + PartSuffix;
        var faults = new List<string>();
        foreach (Uri mirror in mirrors)
        {
            // A part that turns out wrong may be an earlier attempt's fault: the same mirror is asked once more, from the start.
            for (bool resumed = true; resumed;)
            {
                try
                {
                    resumed = await DownloadAsync(client, new Uri(mirror, file.Name), file, part, cancellation).ConfigureAwait(false);
                    string found = await HashAsync(part, cancellation).ConfigureAwait(false);
                    if (found == file.Sha256)
                    {
                        File.Move(part, path, overwrite: true);
                        say($"{file.Name}: {file.Bytes.ToString("N0", CultureInfo.InvariantCulture)} bytes from {mirror}, SHA-256 is right");
                        return;
                    }

                    File.Delete(part);
                    if (!resumed)
                    {
                        faults.Add($"{mirror} sent content with SHA-256 {found}, not {file.Sha256}");
                    }
                }
                catch (Exception error) when (error is HttpRequestException or HttpIOException or TimeoutException or InvalidDataException or IOException { InnerException: SocketException })
                {
                    faults.Add($"{mirror}: {Text.OneLine(error.Message).TrimEnd('.')}");
                    break;
                }
            }
        }

        string kept = File.Exists(part) && new FileInfo(part).Length > 0 ? $" {new FileInfo(part).Length.ToString(CultureInfo.InvariantCulture)} of its {file.Bytes.ToString(CultureInfo.InvariantCulture)} bytes are kept: the next fetch goes on from there." : "";
        throw new IOException($"'{file.Name}' could not be fetched: {string.Join("; ", faults)}.{kept} Try again, name another mirror with --from URL, or put the file into {folder} yourself.");
    }

    // Whether it went on from an earlier part; the part is whole when this returns.
    private async Task<bool> DownloadAsync(HttpClient client, Uri address, RemoteFile file, string part, CancellationToken cancellation)
    {
        long have = File.Exists(part) ? new FileInfo(part).Length : 0;
        if (have >= file.Bytes)
        {
            return true; // to be checked, and dropped if wrong
        }

        using var request = new HttpRequestMessage(HttpMethod.Get, address);
        if (have > 0)
        {
            request.Headers.Range = new RangeHeaderValue(have, null);
        }

        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(Patience);
        try
        {
            using HttpResponseMessage response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token).ConfigureAwait(false);
            response.EnsureSuccessStatusCode();
            bool resumes = response.StatusCode == HttpStatusCode.PartialContent && response.Content.Headers.ContentRange?.From == have;
            if (response.StatusCode == HttpStatusCode.PartialContent && !resumes)
            {
                throw new InvalidDataException($"asked for the bytes from {have} on, the server sent {response.Content.Headers.ContentRange}");
            }

            say($"{file.Name}: {(resumes ? $"going on from byte {have.ToString(CultureInfo.InvariantCulture)}" : "fetching all")} of {file.Bytes.ToString("N0", CultureInfo.InvariantCulture)} bytes, {address}");
            using Stream content = await response.Content.ReadAsStreamAsync(patience.Token).ConfigureAwait(false);
            using var target = new FileStream(part, resumes ? FileMode.Append : FileMode.Create, FileAccess.Write, FileShare.Read, 0);
            byte[] buffer = new byte[BufferBytes];
            long total = resumes ? have : 0;
            for (int read; (read = await content.ReadAsync(buffer, patience.Token).ConfigureAwait(false)) > 0;)
            {
                total += read;
                if (total > file.Bytes)
                {
                    target.SetLength(0);
                    throw new InvalidDataException($"the server sent more than the {file.Bytes} bytes of the file");
                }

                await target.WriteAsync(buffer.AsMemory(0, read), patience.Token).ConfigureAwait(false);
                patience.CancelAfter(Patience);
            }

            return total == file.Bytes ? resumes : throw new InvalidDataException($"the connection ended after {total} of {file.Bytes} bytes");
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new TimeoutException(string.Create(CultureInfo.InvariantCulture, $"nothing came for {Patience.TotalSeconds:0.#} s"));
        }
    }

    private static async Task<string> HashAsync(string path, CancellationToken cancellation)
    {
        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexStringLower(await SHA256.HashDataAsync(stream, cancellation).ConfigureAwait(false));
    }
}
