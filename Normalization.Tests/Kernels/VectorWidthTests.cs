using System.Diagnostics;
using System.Globalization;
using System.Runtime.Intrinsics;
using System.Text.RegularExpressions;
using Normalization.Tests.Conformance;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

/// <summary>
/// Runs the kernel tests at each vector width, in a process of its own with the wider instructions turned off, and holds the bits of every
/// strategy there against the ones here.
/// </summary>
[TestClass]
[DoNotParallelize]
public sealed partial class VectorWidthTests
{
    private const string WidthVariable = "NORMALIZATION_EXPECTED_VECTOR_BITS";

    // For a process that hangs: a slow machine takes a minute or two.
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(6);

    private static readonly Type[] Classes = [typeof(SimdTests), typeof(LoopsTests), typeof(ReadJobTests), typeof(ExponentialTests), typeof(StandardizerTests), typeof(EveryWidthTests), typeof(GoldenTests)];

    /// <summary>Bits, and the setting that leaves no more of them.</summary>
    public static IReadOnlyList<object?[]> Widths { get; } =
    [
        [512, null],
        [256, "DOTNET_EnableAVX512=0"],
        [256, "DOTNET_PreferredVectorBitWidth=256"], // the masks of 512 at hand
        [128, "DOTNET_EnableAVX2=0"],
        [0, "DOTNET_EnableHWIntrinsic=0"],
    ];

    // All at the first test, as many at a time as there are processors: a process's tests mostly run one after the other.
    private static readonly Lazy<(int ExitCode, string Output)[]> s_runs = new(() =>
    {
        using var folder = new TemporaryFolder();
        string digests = folder.File("digests.txt");
        File.WriteAllLines(digests, EveryWidthTests.Digests());
        var runs = new (int, string)[Widths.Count];
        Parallel.For(0, runs.Length, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
        {
            // No switch makes vectors wider than this process has them.
            int bits = Math.Min((int)Widths[i][0]!, Bits);
            runs[i] = Run(bits.ToString(CultureInfo.InvariantCulture), digests, (string?)Widths[i][1]);
        });
        return runs;
    });

    // 0: no vectors at all.
    private static int Bits =>
        Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : Vector128.IsHardwareAccelerated ? 128 : 0;

    /// <summary>Before any other test: a process that is to have a width has it.</summary>
    [AssemblyInitialize]
    public static void AssertWidth(TestContext context)
    {
        if (Environment.GetEnvironmentVariable(WidthVariable) is { } expected)
        {
            Assert.AreEqual(expected, Bits.ToString(CultureInfo.InvariantCulture), "bits of the widest accelerated vector");
        }
    }

    [TestMethod]
    [DynamicData(nameof(Widths))]
    public void KernelTests_ProcessOfThatWidth_PassWithTheBitsOfThisOne(int bits, string? setting)
    {
        (int exitCode, string output) = s_runs.Value[Widths.ToList().FindIndex(row => row.SequenceEqual([bits, setting]))];
        Assert.AreEqual(0, exitCode, output);
        Match passed = Passed().Match(output);
        Assert.IsTrue(passed.Success, output);
        Assert.IsGreaterThan(100, int.Parse(passed.Groups[1].Value, CultureInfo.InvariantCulture), output);
    }

    [TestMethod]
    public void KernelTests_ProcessOfAnotherWidthThanAsked_Fail()
    {
        (int exitCode, string output) = Run("384", "none", null);
        Assert.AreEqual(1, exitCode, output);
        Assert.Contains("bits of the widest accelerated vector", output);
    }

    private static (int ExitCode, string Output) Run(string expectedBits, string digests, string? setting)
    {
        string filter = string.Join('|', Classes.Select(type => $"FullyQualifiedName~{type.FullName}."));
        var start = new ProcessStartInfo("dotnet", ["vstest", typeof(VectorWidthTests).Assembly.Location, $"--TestCaseFilter:{filter}"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment[WidthVariable] = expectedBits;
        start.Environment[EveryWidthTests.DigestVariable] = digests;
        if (setting?.Split('=') is [string name, string value])
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(Limit))
        {
            process.Kill(entireProcessTree: true);
            return (-1, $"The process did not end within {Limit}.");
        }

        return (process.ExitCode, output.Result + error.Result);
    }

    [GeneratedRegex(@"Passed: +(\d+)")]
    private static partial Regex Passed();
}
