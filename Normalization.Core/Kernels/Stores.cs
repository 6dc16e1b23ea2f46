using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>How results leave, and whether what is read next is fetched meanwhile: a matter of the tensor's size.</summary>
internal interface IStore
{
    static abstract bool Streams { get; }

    static abstract bool Fetches { get; }
}

/// <summary>Ordinary stores, of tensors that are in a cache.</summary>
internal readonly struct CachedStore : IStore
{
    public static bool Streams => false;

    public static bool Fetches => false;
}

/// <summary>Ordinary stores, of tensors that have to come from memory.</summary>
internal readonly struct FetchingStore : IStore
{
    public static bool Streams => false;

    public static bool Fetches => true;
}

/// <summary>Stores past the caches: the result evicts nothing and its old lines are not read first.</summary>
internal readonly struct StreamingStore : IStore
{
    public static bool Streams => true;

    public static bool Fetches => true;
}

/// <summary>Which of the stores a pass takes.</summary>
internal enum StoreKind
{
    Cached,
    Fetching,
    Streaming,
}

/// <summary>A job whose pieces are compiled once for each way to store.</summary>
internal interface IStoringJob : IPieceJob
{
    void Run<TStore>(int piece)
        where TStore : struct, IStore;
}

/// <summary>Chooses a job's stores.</summary>
internal static class Stores
{
    internal static void Run<TJob>(ref TJob job, StoreKind store, int piece)
        where TJob : unmanaged, IStoringJob
    {
        switch (store)
        {
            case StoreKind.Cached:
                job.Run<CachedStore>(piece);
                break;
            case StoreKind.Fetching:
                job.Run<FetchingStore>(piece);
                break;
            default:
                job.Run<StreamingStore>(piece);
                break;
        }

        Finish(store);
    }

    /// <summary>Streaming stores are not ordered with others: whoever is told that a piece is done must see them.</summary>
    internal static void Finish(StoreKind store)
    {
        if (store == StoreKind.Streaming && Sse.IsSupported)
        {
            Sse.StoreFence();
        }
    }
}
