using System.Globalization;
using System.Runtime.InteropServices;

namespace Normalization.Bench.Speed;

/// <summary>The part of oneDNN's C API, version 2, that normalization needs, and the thread count of the OpenMP it runs on.</summary>
/// <remarks>Descriptors are opaque here: the library fills them in and reads them back, only their size is known.</remarks>
internal sealed unsafe class OneDnn
{
    /// <summary>sizeof(dnnl_memory_desc_t) in version 2.</summary>
    public const int MemoryDescriptorSize = 696;

    /// <summary>sizeof(dnnl_batch_normalization_desc_t) and of dnnl_layer_normalization_desc_t in version 2.</summary>
    public const int NormalizationDescriptorSize = 3496;

    /// <summary>How long OpenMP's threads go on looking for work after the last; meanwhile they would slow whatever is timed next.</summary>
    public static readonly TimeSpan Spin = TimeSpan.FromMilliseconds(10);

    private const int Float32 = 3;
    private const int Cpu = 1;
    private const uint InOrder = 1;
    private const int RuntimeOpenMp = 2;

    private static readonly string[] LibraryNames = ["libdnnl.so.2", "libdnnl.so"];

    private readonly delegate* unmanaged[Cdecl]<byte*, int, long*, int, long*, int> _initMemoryDescriptor;
    private readonly delegate* unmanaged[Cdecl]<byte*, int, byte*, float, uint, int> _initBatchForward;
    private readonly delegate* unmanaged[Cdecl]<byte*, int, byte*, byte*, float, uint, int> _initBatchBackward;
    private readonly delegate* unmanaged[Cdecl]<byte*, int, byte*, byte*, float, uint, int> _initLayerForward;
    private readonly delegate* unmanaged[Cdecl]<byte*, int, byte*, byte*, byte*, float, uint, int> _initLayerBackward;
    private readonly delegate* unmanaged[Cdecl]<nint*, byte*, nint, nint, nint, int> _createPrimitiveDescriptor;
    private readonly delegate* unmanaged[Cdecl]<nint, int> _destroyPrimitiveDescriptor;
    private readonly delegate* unmanaged[Cdecl]<nint*, nint, int> _createPrimitive;
    private readonly delegate* unmanaged[Cdecl]<nint, int> _destroyPrimitive;
    private readonly delegate* unmanaged[Cdecl]<nint, nint, int, Argument*, int> _execute;
    private readonly delegate* unmanaged[Cdecl]<nint, int> _wait;
    private readonly delegate* unmanaged[Cdecl]<nint*, byte*, nint, void*, int> _createMemory;
    private readonly delegate* unmanaged[Cdecl]<nint, int> _destroyMemory;
    private readonly delegate* unmanaged[Cdecl]<nint, int> _destroyStream;
    private readonly delegate* unmanaged[Cdecl]<nint, int> _destroyEngine;
    private readonly delegate* unmanaged[Cdecl]<int, void> _setThreads;
    private readonly nint _engine;
    private readonly nint _stream;

    private OneDnn(nint library, nint openMp, Version version)
    {
        Version = version;
        _initMemoryDescriptor = (delegate* unmanaged[Cdecl]<byte*, int, long*, int, long*, int>)NativeLibrary.GetExport(library, "dnnl_memory_desc_init_by_strides");
        _initBatchForward = (delegate* unmanaged[Cdecl]<byte*, int, byte*, float, uint, int>)NativeLibrary.GetExport(library, "dnnl_batch_normalization_forward_desc_init");
        _initBatchBackward = (delegate* unmanaged[Cdecl]<byte*, int, byte*, byte*, float, uint, int>)NativeLibrary.GetExport(library, "dnnl_batch_normalization_backward_desc_init");
        _initLayerForward = (delegate* unmanaged[Cdecl]<byte*, int, byte*, byte*, float, uint, int>)NativeLibrary.GetExport(library, "dnnl_layer_normalization_forward_desc_init");
        _initLayerBackward = (delegate* unmanaged[Cdecl]<byte*, int, byte*, byte*, byte*, float, uint, int>)NativeLibrary.GetExport(library, "dnnl_layer_normalization_backward_desc_init");
        _createPrimitiveDescriptor = (delegate* unmanaged[Cdecl]<nint*, byte*, nint, nint, nint, int>)NativeLibrary.GetExport(library, "dnnl_primitive_desc_create");
        _destroyPrimitiveDescriptor = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "dnnl_primitive_desc_destroy");
        _createPrimitive = (delegate* unmanaged[Cdecl]<nint*, nint, int>)NativeLibrary.GetExport(library, "dnnl_primitive_create");
        _destroyPrimitive = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "dnnl_primitive_destroy");
        _execute = (delegate* unmanaged[Cdecl]<nint, nint, int, Argument*, int>)NativeLibrary.GetExport(library, "dnnl_primitive_execute");
        _wait = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "dnnl_stream_wait");
        _createMemory = (delegate* unmanaged[Cdecl]<nint*, byte*, nint, void*, int>)NativeLibrary.GetExport(library, "dnnl_memory_create");
        _destroyMemory = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "dnnl_memory_destroy");
        _destroyStream = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "dnnl_stream_destroy");
        _destroyEngine = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "dnnl_engine_destroy");
        _setThreads = (delegate* unmanaged[Cdecl]<int, void>)NativeLibrary.GetExport(openMp, "omp_set_num_threads");

        var createEngine = (delegate* unmanaged[Cdecl]<nint*, int, nuint, int>)NativeLibrary.GetExport(library, "dnnl_engine_create");
        var createStream = (delegate* unmanaged[Cdecl]<nint*, nint, uint, int>)NativeLibrary.GetExport(library, "dnnl_stream_create");
        nint engine;
        nint stream;
        Require(createEngine(&engine, Cpu, 0), "dnnl_engine_create");
        Require(createStream(&stream, engine, InOrder), "dnnl_stream_create");
        _engine = engine;
        _stream = stream;
    }

    /// <summary>An argument of an execution, dnnl_exec_arg_t.</summary>
    /// <param name="Index">Which argument, DNNL_ARG_*.</param>
    /// <param name="Memory">A dnnl_memory_t.</param>
    public readonly record struct Argument(int Index, nint Memory);

    /// <summary>The library's version.</summary>
    public Version Version { get; }

    /// <summary>Loads the library.</summary>
    /// <param name="missing">Where null is returned: what is missing and the package that brings it.</param>
    public static OneDnn? Load(out string? missing)
    {
        nint library = 0;
        if (!Array.Exists(LibraryNames, name => NativeLibrary.TryLoad(name, out library)))
        {
            missing = $"oneDNN is not installed: neither {string.Join(" nor ", LibraryNames)} was found (Debian: libdnnl2)";
            return null;
        }

        NativeVersion* native = ((delegate* unmanaged[Cdecl]<NativeVersion*>)NativeLibrary.GetExport(library, "dnnl_version"))();
        var version = new Version(native->Major, native->Minor, native->Patch);
        if (version < new Version(2, 4) || version.Major > 2)
        {
            missing = $"oneDNN {version} has another interface; 2.4 to 2.7 are known (Debian 12: libdnnl2)";
            return null;
        }

        if (native->CpuRuntime != RuntimeOpenMp || !NativeLibrary.TryLoad("libgomp.so.1", out nint openMp))
        {
            missing = string.Create(
                CultureInfo.InvariantCulture,
                $"this oneDNN does not run its threads by GNU OpenMP (runtime {native->CpuRuntime}), so their number cannot be set (Debian: libdnnl2 with libgomp1)");
            return null;
        }

        missing = null;
        return new OneDnn(library, openMp, version);
    }

    /// <summary>Sets how many threads the primitives made and executed by this thread use.</summary>
    public void SetThreads(int threads) => _setThreads(threads);

    /// <summary>Fills in a memory descriptor of floats.</summary>
    public void Describe(byte* descriptor, ReadOnlySpan<long> lengths, ReadOnlySpan<long> strides)
    {
        fixed (long* length = lengths, stride = strides)
        {
            Require(_initMemoryDescriptor(descriptor, lengths.Length, length, Float32, stride), "dnnl_memory_desc_init_by_strides");
        }
    }

    public void DescribeBatchForward(byte* descriptor, int kind, byte* data, float epsilon, uint flags) =>
        Require(_initBatchForward(descriptor, kind, data, epsilon, flags), "dnnl_batch_normalization_forward_desc_init");

    public void DescribeBatchBackward(byte* descriptor, int kind, byte* data, float epsilon, uint flags) =>
        Require(_initBatchBackward(descriptor, kind, data, data, epsilon, flags), "dnnl_batch_normalization_backward_desc_init");

    public void DescribeLayerForward(byte* descriptor, int kind, byte* data, byte* statistics, float epsilon, uint flags) =>
        Require(_initLayerForward(descriptor, kind, data, statistics, epsilon, flags), "dnnl_layer_normalization_forward_desc_init");

    public void DescribeLayerBackward(byte* descriptor, int kind, byte* data, byte* statistics, float epsilon, uint flags) =>
        Require(_initLayerBackward(descriptor, kind, data, data, statistics, epsilon, flags), "dnnl_layer_normalization_backward_desc_init");

    /// <summary>Chooses the implementation.</summary>
    /// <param name="descriptor">An operation descriptor.</param>
    /// <param name="hint">The forward pass's, for a backward pass; else 0.</param>
    public nint CreatePrimitiveDescriptor(byte* descriptor, nint hint)
    {
        nint result;
        Require(_createPrimitiveDescriptor(&result, descriptor, 0, _engine, hint), "dnnl_primitive_desc_create");
        return result;
    }

    public nint CreatePrimitive(nint primitiveDescriptor)
    {
        nint result;
        Require(_createPrimitive(&result, primitiveDescriptor), "dnnl_primitive_create");
        return result;
    }

    /// <summary>Makes the library's view of memory of ours.</summary>
    public nint CreateMemory(byte* descriptor, float* values)
    {
        nint result;
        Require(_createMemory(&result, descriptor, _engine, values), "dnnl_memory_create");
        return result;
    }

    /// <summary>Executes a primitive and waits for it.</summary>
    public void Execute(nint primitive, ReadOnlySpan<Argument> arguments)
    {
        fixed (Argument* first = arguments)
        {
            Require(_execute(primitive, _stream, arguments.Length, first), "dnnl_primitive_execute");
        }

        Require(_wait(_stream), "dnnl_stream_wait");
    }

    public void DestroyPrimitive(nint primitive) => _ = _destroyPrimitive(primitive);

    public void DestroyPrimitiveDescriptor(nint descriptor) => _ = _destroyPrimitiveDescriptor(descriptor);

    public void DestroyMemory(nint memory) => _ = _destroyMemory(memory);

    /// <summary>Gives back the engine and its stream; the library itself stays loaded.</summary>
    public void Close()
    {
        _ = _destroyStream(_stream);
        _ = _destroyEngine(_engine);
    }

    private static void Require(int status, string function)
    {
        if (status != 0)
        {
            string reason = status switch
            {
                1 => "out of memory",
                2 => "invalid arguments",
                3 => "unimplemented",
                5 => "run-time error",
                _ => string.Create(CultureInfo.InvariantCulture, $"status {status}"),
            };
            throw new InvalidOperationException($"oneDNN's {function} failed: {reason}.");
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct NativeVersion
    {
        public readonly int Major;
        public readonly int Minor;
        public readonly int Patch;
        public readonly nint Hash;
        public readonly uint CpuRuntime;
        public readonly uint GpuRuntime;
    }
}
