using System.CommandLine;
using Normalization.Bench.Data;

namespace Normalization.Bench;

/// <summary><c>data fetch</c>: downloads a data set for <c>--data</c>.</summary>
internal static class DataCommand
{
    private static readonly Argument<string?> Which = new("SET")
    {
        HelpName = "SET",
        Description = $"Which: {string.Join(", ", RemoteDataSet.All.Select(set => set.Id))}.",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private static readonly Option<string?> From = Options.Path("--from", "URL", "Fetch from this address, which the files' names are put behind. Default the public mirrors, one after the other.");

    private static readonly Option<string?> To = Options.Path("--to", "DIR", "The folder to put the files into. Default a folder of the user's cache, which --data then knows by the set's name.");

    public static IEnumerable<Verb> Create()
    {
        var fetch = new Command("fetch", "Downloads a data set and checks every file's SHA-256.") { Which, From, To };
        fetch.SetAction(Fetch);
        var data = new Command("data", "Brings data sets to train on.") { fetch };
        string details =
            $"""
            Files that are there and right are not fetched again; an interrupted download goes on where it ended. A file counts only with the
            right SHA-256. The folder is printed; hand it to --data, or write --data {RemoteDataSet.Mnist.Id} where it is the default one.

            {ExitCodes.Legend}
            """;
        string[] examples = [$"data fetch {RemoteDataSet.Mnist.Id}", $"data fetch {RemoteDataSet.Mnist.Id} --from http://mirror.example/mnist/ --to {RemoteDataSet.Mnist.Id}"];
        yield return new Verb(data, details, examples);
        yield return new Verb(fetch, details, examples);
    }

    private static int Fetch(ParseResult parse)
    {
        string[] known = [.. RemoteDataSet.All.Select(set => set.Id)];
        string name = parse.GetValue(Which) ?? throw new UsageException($"data fetch needs a data set: {string.Join(", ", known)}.");
        RemoteDataSet set = RemoteDataSet.All.FirstOrDefault(one => one.Id == name) ?? throw new UsageException(Text.Unknown("data set", name, known));
        IReadOnlyList<Uri> mirrors = parse.GetValue(From) is { } address ? [Mirror(address)] : set.Mirrors;
        string folder = parse.GetValue(To) ?? set.CacheFolder;
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"cannot write to '{folder}': {Text.OneLine(error.Message).TrimEnd('.')}. Name a folder that can be written with --to DIR.");
        }

        new DataFetch(set, folder, Console.Error.WriteLine).RunAsync(mirrors).GetAwaiter().GetResult();
        Console.WriteLine(folder);
        return ExitCodes.Success;
    }

    private static Uri Mirror(string address) =>
        Uri.TryCreate(address.EndsWith('/') ? address : address + "/", UriKind.Absolute, out Uri? mirror) && mirror.Scheme is "http" or "https"
            ? mirror
            : throw new UsageException($"--from must be an address beginning with http:// or https://; got '{address}'");
}
