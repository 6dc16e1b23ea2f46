namespace Normalization.Core.Kernels;

/// <summary>A copy spread over the work team: the identity's kernel, and the speed of light of every other.</summary>
internal unsafe struct CopyJob<T> : IPieceJob
    where T : unmanaged
{
    private const nint PieceElements = 1 << 16;
    private T* _source;
    private T* _destination;
    private nint _count;

    public static void Run(T* source, T* destination, nint count)
    {
        var job = new CopyJob<T> { _source = source, _destination = destination, _count = count };
        WorkTeam.Run(ref job, checked((int)((count + PieceElements - 1) / PieceElements)), count);
    }

    public readonly void Run(int piece)
    {
        nint start = piece * PieceElements;
        int length = (int)Math.Min(PieceElements, _count - start);
        new ReadOnlySpan<T>(_source + start, length).CopyTo(new Span<T>(_destination + start, length));
    }
}
