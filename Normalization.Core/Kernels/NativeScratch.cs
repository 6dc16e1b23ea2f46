using System.Runtime.InteropServices;

namespace Normalization.Core.Kernels;

/// <summary>Working memory of the calling thread: native, 64-byte aligned, grown to the largest request and kept.</summary>
/// <remarks>
/// One block for each thread, shared by all its normalizers, since nothing in it outlives a call. Requests are carved off in
/// order after <see cref="Begin"/>; the memory is not cleared.
/// </remarks>
internal sealed unsafe class NativeScratch
{
    private const nuint Alignment = 64;

    [ThreadStatic]
    private static NativeScratch? t_current;

    private byte* _block;
    private nint _capacity;
    private nint _used;

    ~NativeScratch() => NativeMemory.AlignedFree(_block);

    /// <summary>Starts a call that will take at most the given number of bytes in all, over at most 32 requests.</summary>
    public static NativeScratch Begin(nint bytes)
    {
        NativeScratch scratch = t_current ??= new NativeScratch();
        nint needed = bytes + (32 * (nint)Alignment);
        if (needed > scratch._capacity)
        {
            NativeMemory.AlignedFree(scratch._block);
            scratch._block = null;
            scratch._capacity = 0;
            scratch._block = (byte*)NativeMemory.AlignedAlloc((nuint)needed, Alignment);
            scratch._capacity = needed;
        }

        scratch._used = 0;
        return scratch;
    }

    /// <summary>The next array of the call; null where it has no elements, so that a use of it shows.</summary>
    public T* Take<T>(nint count)
        where T : unmanaged
    {
        if (count == 0)
        {
            return null;
        }

        nint bytes = ((count * sizeof(T)) + (nint)Alignment - 1) & -(nint)Alignment;
        if (_used + bytes > _capacity)
        {
            throw new InvalidOperationException("A kernel asked for more working memory than it announced.");
        }

        T* taken = (T*)(_block + _used);
        _used += bytes;
        return taken;
    }
}
