using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Normalization.Core.Kernels;

/// <summary>Which processor a thread runs on, and keeping one off a processor; of Linux, elsewhere nothing is known and nothing done.</summary>
/// <remarks>
/// What a thread was allowed by others (taskset, a container) is only ever narrowed for a moment: where nothing would be left the system refuses,
/// and so do these.
/// </remarks>
internal static unsafe class Processors
{
    // 1024 processors, what the C library's own set has.
    private const int MaskBytes = 128;

    private static readonly delegate* unmanaged[Cdecl, SuppressGCTransition]<int> s_processor;
    private static readonly delegate* unmanaged[Cdecl]<int> s_thread;
    private static readonly delegate* unmanaged[Cdecl]<int, nint, byte*, int> s_getMask;
    private static readonly delegate* unmanaged[Cdecl]<int, nint, byte*, int> s_setMask;

    static Processors()
    {
        if (OperatingSystem.IsLinux()
            && NativeLibrary.TryLoad("libc.so.6", out nint library)
            && NativeLibrary.TryGetExport(library, "sched_getcpu", out nint processor)
            && NativeLibrary.TryGetExport(library, "gettid", out nint thread)
            && NativeLibrary.TryGetExport(library, "sched_getaffinity", out nint getMask)
            && NativeLibrary.TryGetExport(library, "sched_setaffinity", out nint setMask))
        {
            s_processor = (delegate* unmanaged[Cdecl, SuppressGCTransition]<int>)processor;
            s_thread = (delegate* unmanaged[Cdecl]<int>)thread;
            s_getMask = (delegate* unmanaged[Cdecl]<int, nint, byte*, int>)getMask;
            s_setMask = (delegate* unmanaged[Cdecl]<int, nint, byte*, int>)setMask;
        }
    }

    /// <summary>The processor that the calling thread runs on; -1 where that is not known.</summary>
    public static int Current => s_processor == null ? -1 : s_processor();

    /// <summary>The system's number of the calling thread; 0 where it is not known.</summary>
    public static int Thread => s_thread == null ? 0 : s_thread();

    /// <summary>Keeps a thread of this process off a processor until <see cref="Allow"/>; false where nothing changed.</summary>
    /// <param name="thread">Its <see cref="Thread"/>; 0 is the calling one.</param>
    /// <param name="processor">A <see cref="Current"/>.</param>
    [SkipLocalsInit]
    public static bool KeepOff(int thread, int processor)
    {
        byte* mask = stackalloc byte[MaskBytes];
        if (!Read(thread, processor, mask) || !Has(mask, processor))
        {
            return false;
        }

        mask[processor >> 3] &= (byte)~(1 << (processor & 7));
        return s_setMask(thread, MaskBytes, mask) == 0;
    }

    /// <summary>Lets the calling thread on a processor again that it was kept off.</summary>
    [SkipLocalsInit]
    public static void Allow(int processor)
    {
        byte* mask = stackalloc byte[MaskBytes];
        if (Read(0, processor, mask))
        {
            mask[processor >> 3] |= (byte)(1 << (processor & 7));
            _ = s_setMask(0, MaskBytes, mask);
        }
    }

    private static bool Has(byte* mask, int processor) => (mask[processor >> 3] & (1 << (processor & 7))) != 0;

    private static bool Read(int thread, int processor, byte* mask)
    {
        new Span<byte>(mask, MaskBytes).Clear();
        return s_getMask != null && processor >= 0 && processor < 8 * MaskBytes && s_getMask(thread, MaskBytes, mask) >= 0;
    }
}
