using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Reporting;

public sealed partial record RunEnvironment
{
    private static readonly string[] PackageNames = ["System.Numerics.Tensors", "MathNet.Numerics"];

    /// <summary>Describes the machine and the program that runs on it. The moment is the one of the call.</summary>
    /// <param name="program">The program's name; of a path, the last part without its extension is kept.</param>
    /// <param name="arguments">The arguments as the user gave them.</param>
    /// <param name="seed">The seed every random stream is derived from.</param>
    /// <param name="threads">Threads the kernels use.</param>
    public static RunEnvironment Capture(string program, IReadOnlyList<string> arguments, long seed, int threads)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(program);
        ArgumentNullException.ThrowIfNull(arguments);
        return new RunEnvironment
        {
            Started = DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
            Cpu = CpuName(),
            SimdBits = Vector512.IsHardwareAccelerated ? 512
                : Vector256.IsHardwareAccelerated ? 256
                : Vector128.IsHardwareAccelerated ? 128 : 0,
            Cores = Environment.ProcessorCount,
            Os = $"{RuntimeInformation.OSDescription} {RuntimeInformation.OSArchitecture}",
            Runtime = RuntimeInformation.FrameworkDescription,
            Packages = PackageNames.ToDictionary(name => name, PackageVersion, StringComparer.Ordinal),
            Commit = InformationalVersion(typeof(RunEnvironment).Assembly),
            CommandLine = string.Join(' ', arguments.Select(Quote).Prepend(ProgramName(program))),
            Arguments = [.. arguments],
            Seed = seed,
            Threads = threads,
        };
    }

    private static string CpuName()
    {
        const string Key = "model name";
        string architecture = RuntimeInformation.ProcessArchitecture.ToString();
        if (!File.Exists("/proc/cpuinfo")) return architecture;
        try
        {
            string? line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith(Key, StringComparison.Ordinal));
            string name = line is null ? "" : line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
            return name.Length == 0 ? architecture : name;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return architecture;
        }
    }

    private static string PackageVersion(string name)
    {
        try
        {
            return InformationalVersion(Assembly.Load(name)).Split('+')[0];
        }
        catch (Exception error) when (error is IOException or BadImageFormatException)
        {
            return "not loaded";
        }
    }

    private static string InformationalVersion(Assembly assembly) =>
        assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion
        ?? assembly.GetName().Version?.ToString() ?? "unknown";

    // "dotnet exec /somewhere/Program.dll" is reported as Program.
    private static string ProgramName(string program)
    {
        string name = program[(program.AsSpan().LastIndexOfAny('/', '\\') + 1)..];
        return name.EndsWith(".dll", StringComparison.OrdinalIgnoreCase) || name.EndsWith(".exe", StringComparison.OrdinalIgnoreCase) ? name[..^4] : name;
    }

    private static string Quote(string argument) =>
        argument.Length > 0 && !argument.AsSpan().ContainsAny(" \t\"'") ? argument : "'" + argument.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
}
