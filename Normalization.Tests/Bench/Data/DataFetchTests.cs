using System.Security.Cryptography;
using Normalization.Bench.Data;
using Normalization.Tests.Support;
using Answer = Normalization.Tests.Bench.Data.LoopbackServer.Answer;

namespace Normalization.Tests.Bench.Data;

[TestClass]
public sealed class DataFetchTests : IDisposable
{
    private static readonly byte[] First = [.. Enumerable.Range(0, 200_000).Select(i => (byte)(i * 7 / 3))];
    private static readonly byte[] Second = [1, 2, 3];

    private static readonly RemoteDataSet Set = new("made-up", [Of("first.gz", First), Of("second.gz", Second)], []);

    private readonly TemporaryFolder _folder = new();
    private readonly List<string> _said = [];

    public TestContext TestContext { get; set; } = null!;

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    public async Task RunAsync_EmptyFolder_BringsEveryFileAndTheSecondTimeNone()
    {
        using var server = new LoopbackServer((path, from) => Answer.Of(Content(path), from));
        await Fetch().RunAsync([server.Address], TestContext.CancellationToken);
        await Fetch().RunAsync([server.Address], TestContext.CancellationToken);
        CollectionAssert.AreEqual(First, File.ReadAllBytes(_folder.File("first.gz")));
        CollectionAssert.AreEqual(Second, File.ReadAllBytes(_folder.File("second.gz")));
        Assert.HasCount(2, server.Requests);
        Assert.HasCount(2, Directory.GetFiles(_folder.Path));
    }

    [TestMethod]
    public async Task RunAsync_ConnectionLost_KeepsThePartAndGoesOnFromThere()
    {
        const int Sent = 70_000;
        using (var failing = new LoopbackServer((path, _) => new("200 OK", Content(path).Length, Content(path).AsMemory(0, Sent))))
        {
            IOException error = await Assert.ThrowsAsync<IOException>(() => Fetch().RunAsync([failing.Address], TestContext.CancellationToken));
            StringAssert.Contains(error.Message, "first.gz");
            StringAssert.Contains(error.Message, $"{Sent} of its {First.Length} bytes are kept");
        }

        using var server = new LoopbackServer((path, from) => Answer.Of(Content(path), from));
        await Fetch().RunAsync([server.Address], TestContext.CancellationToken);
        Assert.AreEqual(("/first.gz", (long)Sent), server.Requests[0]);
        CollectionAssert.AreEqual(First, File.ReadAllBytes(_folder.File("first.gz")));
    }

    [TestMethod]
    public async Task RunAsync_ServerWithoutRanges_StartsAgain()
    {
        _folder.Write("first.gz.part", First.AsSpan(0, 1000));
        using var server = new LoopbackServer((path, _) => Answer.Of(Content(path), 0));
        await Fetch().RunAsync([server.Address], TestContext.CancellationToken);
        CollectionAssert.AreEqual(First, File.ReadAllBytes(_folder.File("first.gz")));
    }

    [TestMethod]
    public async Task RunAsync_PartOfAnotherFile_IsDroppedAndFetchedWhole()
    {
        _folder.Write("first.gz.part", new byte[1000]);
        using var server = new LoopbackServer((path, from) => Answer.Of(Content(path), from));
        await Fetch().RunAsync([server.Address], TestContext.CancellationToken);
        CollectionAssert.AreEqual(First, File.ReadAllBytes(_folder.File("first.gz")));
        CollectionAssert.AreEqual(new[] { 1000L, 0, 0 }, server.Requests.Select(request => request.From).ToArray());
    }

    [TestMethod]
    public async Task RunAsync_WrongContent_NamesBothHashesAndKeepsNothing()
    {
        using var server = new LoopbackServer((path, from) => Answer.Of(new byte[Content(path).Length], from));
        IOException error = await Assert.ThrowsAsync<IOException>(() => Fetch().RunAsync([server.Address], TestContext.CancellationToken));
        StringAssert.Contains(error.Message, Set.Files[0].Sha256);
        StringAssert.Contains(error.Message, Hash(new byte[First.Length]));
        Assert.IsEmpty(Directory.GetFiles(_folder.Path));
    }

    [TestMethod]
    public async Task RunAsync_FirstMirrorMissesAndSecondSendsTooMuch_AsksTheThird()
    {
        using var missing = new LoopbackServer((_, _) => new("404 Not Found", 0, default));
        using var endless = new LoopbackServer((path, _) => new("200 OK", 2L * Content(path).Length, new byte[2 * Content(path).Length]));
        using var server = new LoopbackServer((path, from) => Answer.Of(Content(path), from));
        await Fetch().RunAsync([missing.Address, endless.Address, server.Address], TestContext.CancellationToken);
        CollectionAssert.AreEqual(First, File.ReadAllBytes(_folder.File("first.gz")));
        Assert.AreEqual(2, endless.Requests.Count);
    }

    [TestMethod]
    public async Task RunAsync_SilentServer_IsGivenUp()
    {
        using var server = new LoopbackServer((path, _) => new("200 OK", Content(path).Length, Content(path).AsMemory(0, 10), Stalls: true));
        IOException error = await Assert.ThrowsAsync<IOException>(() => Fetch(TimeSpan.FromSeconds(0.3)).RunAsync([server.Address], TestContext.CancellationToken));
        StringAssert.Contains(error.Message, "nothing came for 0.3 s");
    }

    [TestMethod]
    public async Task RunAsync_FileThatIsThereAndWrong_IsFetchedAgain()
    {
        _folder.Write("first.gz", 1, 2);
        using var server = new LoopbackServer((path, from) => Answer.Of(Content(path), from));
        await Fetch().RunAsync([server.Address], TestContext.CancellationToken);
        CollectionAssert.AreEqual(First, File.ReadAllBytes(_folder.File("first.gz")));
        StringAssert.Contains(_said[0], "another SHA-256");
    }

    [TestMethod]
    public void Fetch_FromTheCommandLine_ChecksNameAddressAndContent()
    {
        using var server = new LoopbackServer((_, _) => new("200 OK", 3, Second));
        BenchResult result = BenchProcess.Run(_folder.Path, "data", "fetch", "mnist", "--from", server.Address.ToString(), "--to", "here");
        Assert.AreEqual(2, result.ExitCode);
        StringAssert.Contains(result.Error, "train-images-idx3-ubyte.gz");
        Assert.AreEqual("/train-images-idx3-ubyte.gz", server.Requests[0].Path);
        Expect("did you mean 'mnist'", "data", "fetch", "mnists");
        Expect("http://", "data", "fetch", "mnist", "--from", "mirror");
        Expect("fetch", "data");

        void Expect(string part, params string[] arguments)
        {
            BenchResult wrong = BenchProcess.Run(_folder.Path, arguments);
            Assert.AreEqual(2, wrong.ExitCode, wrong.Error);
            StringAssert.Contains(wrong.Error, part);
        }
    }

    [TestMethod]
    public void Resolve_AFolderASetAndAnythingElse_IsTheFolderTheCacheOrItself()
    {
        string folder = Directory.CreateDirectory(_folder.File("mnist")).FullName;
        Assert.AreEqual(folder, RemoteDataSet.Resolve(folder));
        Assert.AreEqual("nowhere", RemoteDataSet.Resolve("nowhere"));
        StringAssert.EndsWith(RemoteDataSet.Mnist.CacheFolder, Path.Combine("normalization", "mnist"));
    }

    private static RemoteFile Of(string name, byte[] content) => new(name, content.Length, Hash(content));

    private static string Hash(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

    private static byte[] Content(string path) => path == "/first.gz" ? First : Second;

    private DataFetch Fetch(TimeSpan? patience = null) => new(Set, _folder.Path, _said.Add) { Patience = patience ?? TimeSpan.FromSeconds(20) };
}
