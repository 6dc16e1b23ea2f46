using System.Globalization;

namespace Normalization.Core.Reporting;

/// <summary>The machine and the program a run was made with.</summary>
public sealed partial record RunEnvironment
{
    /// <summary>When the run began, UTC, ISO 8601.</summary>
    public required string Started { get; init; }

    /// <summary>The processor's name.</summary>
    public required string Cpu { get; init; }

    /// <summary>The widest hardware-accelerated vector, in bits; 0 where none is.</summary>
    public required int SimdBits { get; init; }

    /// <summary>Logical processors the process may use.</summary>
    public required int Cores { get; init; }

    /// <summary>Operating system and architecture.</summary>
    public required string Os { get; init; }

    /// <summary>The .NET runtime.</summary>
    public required string Runtime { get; init; }

    /// <summary>Package name to version.</summary>
    public required IReadOnlyDictionary<string, string> Packages { get; init; }

    /// <summary>The product's version and, where known, commit.</summary>
    public required string Commit { get; init; }

    /// <summary>The command line, program name first.</summary>
    public required string CommandLine { get; init; }

    /// <summary>The command line's words after the program's name, from which a resumed run takes what it is not told; null where several runs were merged.</summary>
    public IReadOnlyList<string>? Arguments { get; init; }

    /// <summary>The seed every random stream is derived from.</summary>
    public required long Seed { get; init; }

    /// <summary>Threads the kernels use.</summary>
    public required int Threads { get; init; }

    /// <summary>What times depend on, beside the program: name and value.</summary>
    internal IReadOnlyList<(string Name, string Value)> Machine =>
    [
        .. Arithmetic, ("cores", Cores.ToString(CultureInfo.InvariantCulture)), ("system", Os),
    ];

    /// <summary>What the last bits of a result may depend on, beside the program: name and value.</summary>
    internal IReadOnlyList<(string Name, string Value)> Arithmetic =>
        [("cpu", Cpu), ("vector bits", SimdBits.ToString(CultureInfo.InvariantCulture)), ("runtime", Runtime)];

    /// <summary>The values that differ, a phrase each; null stands for one that was not set.</summary>
    internal static IReadOnlyList<string> Differences(IEnumerable<(string Name, string? First, string? Second)> values) =>
        [.. values.Where(value => value.First != value.Second).Select(value => $"{value.Name} was {value.First ?? "not set"} and is now {value.Second ?? "not set"}")];

    /// <summary>The same of two lists of the same names.</summary>
    internal static IReadOnlyList<string> Differences(IReadOnlyList<(string Name, string Value)> first, IReadOnlyList<(string Name, string Value)> second) =>
        Differences(first.Zip(second, (then, now) => (then.Name, (string?)then.Value, (string?)now.Value)));
}
