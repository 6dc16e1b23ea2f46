using System.CommandLine;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Bench;

/// <summary><c>list</c>: what each strategy is.</summary>
internal static class ListCommand
{
    public static Verb Create()
    {
        var command = new Command("list", "Shows the strategies: which elements share statistics, options, parameters and state, claims.");
        command.SetAction(_ =>
        {
            foreach (string id in StrategyCatalog.Ids)
            {
                Describe(id);
            }

            return ExitCodes.Success;
        });
        return new Verb(command, "Shapes are those for input of shape (N, C, H, W).", ["list"]);
    }

    private static void Describe(string id)
    {
        string defaults = StrategyCatalog.Contestant(id, new StrategySettings()).Options;
        string comparison = StrategyCatalog.Contestant(id).Options;

        // Lengths that differ from each other, so that a shape tells which axes it is made of.
        (nint Length, string Axis)[] axes = [(8, "C"), (5, "H"), (7, "W")];
        INormalizer<float> normalizer = StrategyCatalog.Create<float>(id, new ActivationShape(3, 8, 5, 7), StrategyCatalog.ComparisonSettings);
        string[] state =
        [
            .. normalizer.Parameters.Select(parameter => $"{parameter.Name} {Axes(parameter.Shape)}"),
            .. normalizer.Buffers.Select(buffer => $"{buffer.Name} {Axes(buffer.Shape)}"),
        ];
        string[] claims =
        [
            .. Enum.GetValues<NormalizerClaims>()
                .Where(claim => claim != NormalizerClaims.None && normalizer.Claims.HasFlag(claim))
                .Select(Text.Kebab),
        ];

        Console.WriteLine(id);
        Console.WriteLine($"  statistics  {StrategyCatalog.Contestant(id).Axes}");
        Console.WriteLine($"  options     {defaults}{(comparison == defaults ? "" : $"; compare uses {comparison}")}");
        Console.WriteLine($"  state       {Join(state)}");
        Console.WriteLine($"  claims      {Join(claims)}");

        string Axes(ReadOnlySpan<nint> shape) =>
            $"({string.Join(", ", shape.ToArray().Select(length => Axis(length)))})";

        // A length that is no axis's is a number of the strategy's own.
        string Axis(nint length) => axes.FirstOrDefault(axis => axis.Length == length).Axis ?? FormattableString.Invariant($"{length}");

        static string Join(string[] words) => words.Length == 0 ? "none" : string.Join(", ", words);
    }
}
