using System.Numerics;
using System.Runtime.InteropServices;

namespace Normalization.Tests.Support;

/// <summary>Elements that end where memory ends, with guard values before them and, where a gap is asked for, behind them.</summary>
/// <remarks>
/// Without a gap the page behind the last element may not be touched (on Linux and macOS): an access beyond ends the process. Guard
/// values are NaN, so that what reads one by mistake and uses it shows that too.
/// </remarks>
internal sealed unsafe class GuardedMemory<T> : IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly Pages _pages;
    private readonly int _gap;

    /// <param name="values">What the elements hold to begin with, rounded to T.</param>
    /// <param name="gap">Guard values behind the elements: another gap is another alignment.</param>
    public GuardedMemory(ReadOnlySpan<double> values, int gap = 0)
    {
        _gap = gap;
        Count = values.Length;
        _pages = new Pages((Count + gap + 1) * sizeof(T));
        new Span<T>(_pages.Start, _pages.Bytes / sizeof(T)).Fill(T.NaN);
        Pointer = (T*)(_pages.Start + _pages.Bytes) - gap - Count;
        for (int i = 0; i < Count; i++)
        {
            Pointer[i] = T.CreateChecked(values[i]);
        }
    }

    /// <summary>The first element.</summary>
    public T* Pointer { get; }

    public int Count { get; }

    /// <summary>The elements; fails where a guard value was overwritten.</summary>
    public ReadOnlySpan<T> Read(string what)
    {
        AssertGuards((T*)_pages.Start, Pointer, what, "before");
        AssertGuards(Pointer + Count, Pointer + Count + _gap, what, "behind");
        return new ReadOnlySpan<T>(Pointer, Count);
    }

    public void Dispose() => _pages.Dispose();

    private static void AssertGuards(T* first, T* end, string what, string where)
    {
        for (T* guard = first; guard < end; guard++)
        {
            if (!T.IsNaN(*guard))
            {
                Assert.Fail($"{what}: {*guard} was written {where} the elements.");
            }
        }
    }
}

/// <summary>Whole pages of memory, and one behind them that may not be touched.</summary>
internal sealed unsafe partial class Pages : IDisposable
{
    private const int NoAccess = 0;
    private const int ReadWrite = 3;
    private readonly byte* _end;

    public Pages(int bytes)
    {
        int page = Environment.SystemPageSize;
        Bytes = (bytes + page - 1) / page * page;
        Start = (byte*)NativeMemory.AlignedAlloc((nuint)(Bytes + page), (nuint)page);
        _end = Start + Bytes;
        Protect(NoAccess);
    }

    public byte* Start { get; }

    public int Bytes { get; }

    public void Dispose()
    {
        Protect(ReadWrite);
        NativeMemory.AlignedFree(Start);
    }

    private void Protect(int access)
    {
        if (!OperatingSystem.IsWindows())
        {
            Assert.AreEqual(0, ChangeProtection(_end, (nuint)Environment.SystemPageSize, access), "mprotect");
        }
    }

    [LibraryImport("libc", EntryPoint = "mprotect")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int ChangeProtection(void* start, nuint bytes, int access);
}
