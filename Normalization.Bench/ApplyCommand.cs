using System.CommandLine;
using System.Numerics;
using Normalization.Core;
using Normalization.Strategies;

namespace Normalization.Bench;

/// <summary><c>apply</c>: one strategy on tensors from a file, so that anyone can hold it against another framework.</summary>
internal static class ApplyCommand
{
    private const string InputName = "input";
    private const string OutputGradientName = "output_gradient";
    private const string RunningWhiteningName = "running_whitening";

    // The tensors that some strategy reads.
    private static readonly string[] KnownNames = [InputName, OutputGradientName, .. StrategyCatalog.TensorNames];

    // The library's messages speak to programs; these are the same ways out on the command line.
    private static readonly (string Program, string CommandLine)[] WaysOut =
    [
        (", switch to inference (Training = false), or choose SingleValuePolicy.UseRunning or BiasOnly", " or --mode inference"),
        (", or choose SingleValuePolicy.BiasOnly", ""),
        ("Choose a G that divides C", "Choose another --groups"),
        ("Choose a d that divides C", "Choose another --group-size"),
        ("Choose another size, or GhostRemainder.SmallerLast or Balanced", "Choose another --ghost-size, or --ghost-remainder smaller-last or balanced"),
        ("Use ZcaWhitening, which has none, a larger batch or smaller groups, or set GapClamp and accept a biased gradient",
            "Use zca-whitening, which has none, a larger batch or a smaller --group-size, or accept a biased gradient with --gap-clamp"),
    ];

    private static readonly Argument<string?> Strategy = new("STRATEGY")
    {
        HelpName = "STRATEGY",
        Description = $"One of {string.Join(", ", StrategyCatalog.Ids)}.",
        Arity = ArgumentArity.ZeroOrOne,
        CompletionSources = { StrategyCatalog.Ids.ToArray() },
    };

    private static readonly Option<string?> Input = Options.Path(
        "--input", "F.safetensors", "The tensors to read: input (F32 or F64) and what the description names.");

    private static readonly Option<string?> Output = Options.Path(
        "--output", "G.safetensors", "The file to write, whole or not at all; may be the input file, which then holds the results alone.");

    private static readonly Option<Mode> ModeOption = Options.Choice<Mode>(
        "--mode", "train: batch statistics, running ones are updated. inference: running statistics (a domain's own suffice), which must be in the file. Default train.");

    private enum Mode
    {
        Train,
        Inference,
    }

    public static Verb Create()
    {
        var command = new Command("apply", "Applies one strategy to tensors from a safetensors file.");
        command.Add(Strategy);
        command.Add(Input);
        command.Add(Output);
        command.Add(ModeOption);
        foreach (SettingOption setting in SettingOption.All)
        {
            command.Add(setting.Option);
        }

        command.SetAction(Run);
        return new Verb(
            command,
            """
            Reads input, of shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), and computes in its type, F32 or F64. Reads where
            present, in the same type: output_gradient, and the strategy's parameters and buffers by the names that 'list' shows, such as
            weight (else ones), bias (else zeros), running_mean, running_var; num_batches_tracked is I64, of shape [] or [1]. A tensor
            of another strategy is let be with a warning; any other name is an error.

            Writes output; with an output_gradient also input_gradient, and NAME_gradient for each parameter NAME that the file has;
            in training also the updated buffers.
            """,
            [
                "apply batch-norm --input in.safetensors --output out.safetensors --momentum 0.1",
                "apply layer-norm --input in.safetensors --output out.safetensors --normalized-dims 1",
                "apply zca-whitening --input in.safetensors --output out.safetensors --mode inference --group-size 8",
            ]);
    }

    private static int Run(ParseResult parse)
    {
        string id = parse.GetValue(Strategy) ?? throw new UsageException($"apply needs a strategy: {string.Join(", ", StrategyCatalog.Ids)}. See 'apply --help'.");
        if (!StrategyCatalog.Ids.Contains(id))
        {
            throw new UsageException(Text.Unknown("strategy", id, StrategyCatalog.Ids));
        }

        string input = parse.GetValue(Input) ?? throw new UsageException("apply needs --input, the safetensors file to read. See 'apply --help'.");
        string output = parse.GetValue(Output) ?? throw new UsageException("apply needs --output, the safetensors file to write. See 'apply --help'.");
        RequireWritable(output);
        if (!File.Exists(input))
        {
            throw new UsageException($"--input: there is no file '{input}'.");
        }

        StateDictionary file = StateDictionary.Load(input);
        StrategySettings settings = SettingOption.All.Aggregate(new StrategySettings(), (chosen, setting) => setting.Apply(chosen, parse));
        WarnOfUnused(id, settings, parse);
        if (file.ContainsKey(RunningWhiteningName))
        {
            settings = settings with { WhiteningRunning = WhiteningRunning.WhiteningMatrix };
        }

        bool training = parse.GetValue(ModeOption) == Mode.Train;
        StateDictionary result = ElementType(input, file) == StateElementType.F32
            ? Apply<float>(id, settings, training, input, file)
            : Apply<double>(id, settings, training, input, file);
        result.Save(output);
        Console.WriteLine($"{output}: {string.Join(", ", result.Select(entry => $"{entry.Key} {Text.Shape(entry.Value.Shape)}"))}");
        return ExitCodes.Success;
    }

    private static StateDictionary Apply<T>(string id, StrategySettings settings, bool training, string path, StateDictionary file)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        try
        {
            StateTensor input = file[InputName];
            var shape = new ActivationShape(input.Shape);
            var normalizer = (Normalizer<T>)StrategyCatalog.Create<T>(id, shape, settings);
            normalizer.Training = training;
            RequireKnownNames(id, normalizer, path, file);
            normalizer.LoadState(StateOf(normalizer, file), strict: false);
            RequireRunning(id, normalizer, shape, settings, training, path, file);
            normalizer.WarningRaised = (_, text) => Console.Error.WriteLine($"warning: {Text.OneLine(text)}");

            var result = new StateDictionary();
            var values = new T[shape.Count];
            normalizer.Forward(shape, input.AsSpan<T>(), values);
            result.Add("output", StateTensor.Create<T>(values, input.Shape));
            if (file.TryGetValue(OutputGradientName, out StateTensor? gradient))
            {
                AddGradients(normalizer, shape, input, gradient, file, path, result);
            }

            if (training)
            {
                StateDictionary state = normalizer.GetState();
                foreach (StateBuffer<T> buffer in normalizer.Buffers)
                {
                    result.Add(buffer.Name, state[buffer.Name]);
                }
            }

            if (normalizer.SkippedUpdates > 0)
            {
                Console.Error.WriteLine("warning: the running statistics stay as they were, since this batch's are not finite or too large for the type.");
            }

            return result;
        }
        catch (Exception refusal) when (refusal is ArgumentException or InvalidOperationException or ArithmeticException or NotSupportedException)
        {
            string message = WaysOut.Aggregate(Text.OneLine(refusal.Message), (text, way) => text.Replace(way.Program, way.CommandLine, StringComparison.Ordinal));
            throw new UsageException($"{path}: {message} See 'apply --help' for the options.");
        }
    }

    private static void AddGradients<T>(
        INormalizer<T> normalizer, ActivationShape shape, StateTensor input, StateTensor gradient, StateDictionary file, string path, StateDictionary result)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (!gradient.Shape.SequenceEqual(input.Shape))
        {
            throw new UsageException(
                $"{path}: '{OutputGradientName}' has the shape {Text.Shape(gradient.Shape)}; it must be that of '{InputName}', {Text.Shape(input.Shape)}.");
        }

        var values = new T[shape.Count];
        normalizer.Backward(shape, input.AsSpan<T>(), gradient.AsSpan<T>(), values);
        result.Add("input_gradient", StateTensor.Create<T>(values, input.Shape));
        foreach (Parameter<T> parameter in normalizer.Parameters.Where(parameter => file.ContainsKey(parameter.Name)))
        {
            result.Add($"{parameter.Name}_gradient", StateTensor.Create<T>(parameter.Gradient, parameter.Shape));
        }
    }

    /// <summary>The type of the computation, which every tensor of the file but a counter must share.</summary>
    private static StateElementType ElementType(string path, StateDictionary file)
    {
        if (!file.TryGetValue(InputName, out StateTensor? input))
        {
            throw new UsageException($"{path}: there is no tensor '{InputName}'; the file has {(file.Count == 0 ? "none" : string.Join(", ", file.Keys))}.");
        }

        if (input.ElementType == StateElementType.I64)
        {
            throw new UsageException($"{path}: '{InputName}' is I64; it must be F32 or F64.");
        }

        foreach ((string name, StateTensor tensor) in file)
        {
            if (tensor.ElementType != input.ElementType && (tensor.ElementType != StateElementType.I64 || name == OutputGradientName))
            {
                throw new UsageException(
                    $"{path}: '{name}' is {tensor.ElementType} and '{InputName}' is {input.ElementType}; all must be of one type. Save '{name}' as {input.ElementType}.");
            }
        }

        return input.ElementType;
    }

    // A name that no strategy has is a mistake; one that this strategy has no use for is let be, and said.
    private static void RequireKnownNames<T>(string id, INormalizer<T> normalizer, string path, StateDictionary file)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        string[] read = [InputName, OutputGradientName, .. Names(normalizer)];
        foreach (string name in file.Keys.Where(name => !read.Contains(name)))
        {
            if (!KnownNames.Contains(name))
            {
                string wayOut = Text.Nearest(name, KnownNames) is { } nearest ? $"Did you mean '{nearest}'?" : "Remove it.";
                throw new UsageException($"{path}: no strategy reads '{name}'; {id} reads {string.Join(", ", read)}. {wayOut}");
            }

            Console.Error.WriteLine($"warning: '{name}' is not used: {id} with these options reads {string.Join(", ", read)}.");
        }
    }

    // After loading: which statistics inference reads may depend on a counter in the file.
    private static void RequireRunning<T>(
        string id, Normalizer<T> normalizer, ActivationShape shape, StrategySettings settings, bool training, string path, StateDictionary file)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (!training && normalizer.InferenceBuffers.FirstOrDefault(buffer => !file.ContainsKey(buffer.Name)) is { } missing)
        {
            throw new UsageException(
                $"{path}: inference of {id} needs '{missing.Name}' of shape {Text.Shape(missing.Shape)}, which the file does not have. " +
                (CanBeWithoutRunning<T>(id, shape, settings) ? "Add it, or normalize by the batch's own statistics with --running-stats off." : "Add it."));
        }
    }

    private static bool CanBeWithoutRunning<T>(string id, ActivationShape shape, StrategySettings settings)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        try
        {
            return StrategyCatalog.Create<T>(id, shape, settings with { RunningStatistics = false }).Buffers.Count == 0;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    private static StateDictionary StateOf<T>(INormalizer<T> normalizer, StateDictionary file)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var state = new StateDictionary();
        foreach (string name in Names(normalizer).Where(file.ContainsKey))
        {
            state.Add(name, file[name]);
        }

        return state;
    }

    private static IEnumerable<string> Names<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        normalizer.Parameters.Select(parameter => parameter.Name).Concat(normalizer.Buffers.Select(buffer => buffer.Name));

    // A strategy ignores settings it does not have; one that was written with its default value changes nothing anywhere.
    private static void WarnOfUnused(string id, StrategySettings settings, ParseResult parse)
    {
        foreach (SettingOption setting in SettingOption.All.Where(setting => parse.Has(setting.Option)))
        {
            StrategySettings without = SettingOption.All.Where(other => other != setting).Aggregate(new StrategySettings(), (chosen, other) => other.Apply(chosen, parse));
            if (without != settings && !StrategyCatalog.TellsApart(id, without, settings))
            {
                Console.Error.WriteLine($"warning: {setting.Option.Name} has no effect on {id} with these options; what it is for: {setting.Option.Description}");
            }
        }
    }

    private static void RequireWritable(string path)
    {
        string full = Path.GetFullPath(path);
        string folder = Path.GetDirectoryName(full) ?? full;
        if (Directory.Exists(full))
        {
            throw new UsageException($"--output: '{path}' is a folder; name a file in it.");
        }

        if (!Directory.Exists(folder))
        {
            throw new UsageException($"--output: there is no folder '{folder}'; make it first.");
        }

        try
        {
            using var probe = new FileStream(
                Path.Combine(folder, $".{Guid.NewGuid():N}.tmp"), FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"--output: cannot write into the folder '{folder}'; choose another one.");
        }
    }
}
