namespace Normalization.Bench.Speed;

/// <summary>The peers the benchmark knows.</summary>
internal static class Peers
{
    /// <summary>The one that runs in a Python of its own.</summary>
    public const string PyTorch = "pytorch";

    /// <summary>Their ids in the order they are reported.</summary>
    public static IReadOnlyList<string> Ids { get; } = [PyTorch, "onednn", "tensorprimitives"];

    /// <summary>Finds a peer on this machine.</summary>
    /// <param name="id">One of <see cref="Ids"/>.</param>
    /// <param name="python">The Python interpreter, and no other; null for the usual ones.</param>
    /// <param name="missing">Where null is returned: what was looked for and the package that brings it, as one line.</param>
    /// <returns>The peer, to be disposed of; null where it is not installed.</returns>
    /// <exception cref="ArgumentException">The id is unknown.</exception>
    public static IPeer? Find(string id, string? python, out string? missing)
    {
        missing = null;
        switch (id)
        {
            case "tensorprimitives":
                return new TensorPrimitivesPeer();
            case "onednn":
                return OneDnnPeer.Find(out missing);
            case PyTorch:
                return PyTorchPeer.Find(python, out missing);
            default:
                throw new ArgumentException(Text.Unknown("peer", id, Ids), nameof(id));
        }
    }
}
