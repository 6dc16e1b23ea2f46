using System.Runtime.InteropServices;
using System.Text;

namespace Normalization.Core.Collectives;

/// <summary>The part of Open MPI's C interface that the collectives need, resolved when it is asked for.</summary>
/// <remarks>
/// Handles are addresses here, as in Open MPI of every version whose library is libmpi.so.40 (3 to 5); its predefined ones are data
/// symbols, whose address is the handle. Other implementations of MPI number theirs and have another library name.
/// </remarks>
internal sealed unsafe class OpenMpi
{
    public const int Success = 0;
    public const int AnySource = -1;

    /// <summary>MPI_THREAD_SERIALIZED: any thread, one at a time.</summary>
    public const int ThreadSerialized = 2;

    /// <summary>The library of Open MPI 3 to 5.</summary>
    public const string LibraryName = "libmpi.so.40";

    private const int LongestText = 4096;

    public readonly delegate* unmanaged[Cdecl]<int*, byte***, int, int*, int> InitThread;
    public readonly delegate* unmanaged[Cdecl]<int*, int> Initialized;
    public readonly delegate* unmanaged[Cdecl]<int> Finish;
    public readonly delegate* unmanaged[Cdecl]<nint, int, int> Abort;
    public readonly delegate* unmanaged[Cdecl]<nint, int*, int> Rank;
    public readonly delegate* unmanaged[Cdecl]<nint, int*, int> Size;
    public readonly delegate* unmanaged[Cdecl]<nint, nint*, int> Duplicate;
    public readonly delegate* unmanaged[Cdecl]<nint, nint, int> SetErrorHandler;
    public readonly delegate* unmanaged[Cdecl]<void*, void*, int, nint, nint, nint, nint*, int> AllReduce;
    public readonly delegate* unmanaged[Cdecl]<void*, int, nint, void*, int, nint, nint, nint*, int> AllGather;
    public readonly delegate* unmanaged[Cdecl]<nint, nint*, int> Barrier;
    public readonly delegate* unmanaged[Cdecl]<void*, int, nint, int, int, nint, nint*, int> Send;
    public readonly delegate* unmanaged[Cdecl]<void*, int, nint, int, int, nint, nint*, int> Receive;
    public readonly delegate* unmanaged[Cdecl]<int, int, nint, int*, void*, int> Probe;
    public readonly delegate* unmanaged[Cdecl]<nint*, int*, void*, int> Test;
    private readonly delegate* unmanaged[Cdecl]<int, byte*, int*, int> _errorText;
    private readonly delegate* unmanaged[Cdecl]<byte*, int*, int> _libraryVersion;

    private OpenMpi(nint library)
    {
        World = NativeLibrary.GetExport(library, "ompi_mpi_comm_world");
        Double = NativeLibrary.GetExport(library, "ompi_mpi_double");
        Sum = NativeLibrary.GetExport(library, "ompi_mpi_op_sum");
        ErrorsReturn = NativeLibrary.GetExport(library, "ompi_mpi_errors_return");
        InitThread = (delegate* unmanaged[Cdecl]<int*, byte***, int, int*, int>)NativeLibrary.GetExport(library, "MPI_Init_thread");
        Initialized = (delegate* unmanaged[Cdecl]<int*, int>)NativeLibrary.GetExport(library, "MPI_Initialized");
        Finish = (delegate* unmanaged[Cdecl]<int>)NativeLibrary.GetExport(library, "MPI_Finalize");
        Abort = (delegate* unmanaged[Cdecl]<nint, int, int>)NativeLibrary.GetExport(library, "MPI_Abort");
        Rank = (delegate* unmanaged[Cdecl]<nint, int*, int>)NativeLibrary.GetExport(library, "MPI_Comm_rank");
        Size = (delegate* unmanaged[Cdecl]<nint, int*, int>)NativeLibrary.GetExport(library, "MPI_Comm_size");
        Duplicate = (delegate* unmanaged[Cdecl]<nint, nint*, int>)NativeLibrary.GetExport(library, "MPI_Comm_dup");
        SetErrorHandler = (delegate* unmanaged[Cdecl]<nint, nint, int>)NativeLibrary.GetExport(library, "MPI_Comm_set_errhandler");
        AllReduce = (delegate* unmanaged[Cdecl]<void*, void*, int, nint, nint, nint, nint*, int>)NativeLibrary.GetExport(library, "MPI_Iallreduce");
        AllGather = (delegate* unmanaged[Cdecl]<void*, int, nint, void*, int, nint, nint, nint*, int>)NativeLibrary.GetExport(library, "MPI_Iallgather");
        Barrier = (delegate* unmanaged[Cdecl]<nint, nint*, int>)NativeLibrary.GetExport(library, "MPI_Ibarrier");
        Send = (delegate* unmanaged[Cdecl]<void*, int, nint, int, int, nint, nint*, int>)NativeLibrary.GetExport(library, "MPI_Isend");
        Receive = (delegate* unmanaged[Cdecl]<void*, int, nint, int, int, nint, nint*, int>)NativeLibrary.GetExport(library, "MPI_Irecv");
        Probe = (delegate* unmanaged[Cdecl]<int, int, nint, int*, void*, int>)NativeLibrary.GetExport(library, "MPI_Iprobe");
        Test = (delegate* unmanaged[Cdecl]<nint*, int*, void*, int>)NativeLibrary.GetExport(library, "MPI_Test");
        _errorText = (delegate* unmanaged[Cdecl]<int, byte*, int*, int>)NativeLibrary.GetExport(library, "MPI_Error_string");
        _libraryVersion = (delegate* unmanaged[Cdecl]<byte*, int*, int>)NativeLibrary.GetExport(library, "MPI_Get_library_version");
    }

    /// <summary>MPI_COMM_WORLD.</summary>
    public nint World { get; }

    /// <summary>MPI_DOUBLE.</summary>
    public nint Double { get; }

    /// <summary>MPI_SUM.</summary>
    public nint Sum { get; }

    /// <summary>MPI_ERRORS_RETURN.</summary>
    public nint ErrorsReturn { get; }

    /// <summary>Loads the library.</summary>
    /// <param name="missing">Where null is returned: what is missing and the package that brings it.</param>
    /// <param name="name">The library's file name.</param>
    public static OpenMpi? Load(out string? missing, string name = LibraryName)
    {
        if (!NativeLibrary.TryLoad(name, out nint library))
        {
            missing = $"Open MPI is not installed: {name} was not found (Debian: apt-get install openmpi-bin; on a cluster: module load openmpi).";
            return null;
        }

        try
        {
            missing = null;
            return new OpenMpi(library);
        }
        catch (EntryPointNotFoundException error)
        {
            missing = $"{name} is not the Open MPI that is known here (3 to 5): {error.Message}";
            return null;
        }
    }

    /// <summary>The name and version, such as "Open MPI v4.1.4".</summary>
    public string Version
    {
        get
        {
            byte* text = stackalloc byte[LongestText];
            int length = 0;
            string version = _libraryVersion(text, &length) == Success ? Encoding.UTF8.GetString(text, length) : "Open MPI";
            return version.Split(',', '\0')[0];
        }
    }

    /// <summary>What an error code means, in the library's words.</summary>
    public string ErrorText(int code)
    {
        byte* text = stackalloc byte[LongestText];
        int length = 0;
        return _errorText(code, text, &length) == Success ? Encoding.UTF8.GetString(text, length).TrimEnd('\0') : $"error {code}";
    }
}
