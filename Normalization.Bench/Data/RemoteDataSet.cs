namespace Normalization.Bench.Data;

/// <summary>A file that a data set is made of.</summary>
/// <param name="Name">Its name, behind a mirror's address and in the folder.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="Sha256">Of its content, in lower-case hexadecimal.</param>
internal sealed record RemoteFile(string Name, long Bytes, string Sha256);

/// <summary>A data set that can be fetched: which files, and where from.</summary>
/// <param name="Id">The name on the command line.</param>
/// <param name="Files">All its files.</param>
/// <param name="Mirrors">Addresses to try in order; each ends with a slash.</param>
internal sealed record RemoteDataSet(string Id, IReadOnlyList<RemoteFile> Files, IReadOnlyList<Uri> Mirrors)
{
    /// <summary>LeCun, Cortes and Burges's handwritten digits: 60000 training and 10000 test images of 28 x 28.</summary>
    public static RemoteDataSet Mnist { get; } = new(
        "mnist",
        [
            new("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            new("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            new("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            new("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ],
        [new("https://ossci-datasets.s3.amazonaws.com/mnist/"), new("https://storage.googleapis.com/cvdf-datasets/mnist/")]);

    /// <summary>All of them.</summary>
    public static IReadOnlyList<RemoteDataSet> All { get; } = [Mnist];

    /// <summary>Where the set is kept unless the user says otherwise: a folder of the user's cache.</summary>
    public string CacheFolder => Path.Combine(CacheRoot, "normalization", Id);

    // The XDG base directory specification; elsewhere what the system has for it.
    private static string CacheRoot => Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } named && Path.IsPathFullyQualified(named)
        ? named
        : OperatingSystem.IsWindows()
            ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");

    /// <summary>The folder that <c>--data</c> means: the one named, or for a set's id, where no such folder is, the set's in the cache.</summary>
    /// <param name="named">What the user wrote.</param>
    /// <exception cref="UsageException">A set's id is named that was not fetched yet.</exception>
    public static string Resolve(string named)
    {
        if (Directory.Exists(named) || All.FirstOrDefault(set => set.Id == named) is not { } wanted)
        {
            return named;
        }

        return wanted.Files.All(file => File.Exists(Path.Combine(wanted.CacheFolder, file.Name)))
            ? wanted.CacheFolder
            : throw new UsageException($"there is no folder '{named}', and the set {wanted.Id} was not fetched into {wanted.CacheFolder} yet: data fetch {wanted.Id}");
    }
}
