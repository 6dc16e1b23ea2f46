using System.Globalization;
using System.Numerics;

namespace Normalization.Core;

/// <summary>Taking a layer's state out and putting it back.</summary>
public static class NormalizerState
{
    /// <summary>Copies the parameters, then the buffers, of a layer; counters as I64 of shape [].</summary>
    /// <typeparam name="T">float gives F32, double gives F64.</typeparam>
    /// <param name="normalizer">The layer.</param>
    /// <param name="prefix">Put before every name, its dot included, such as <c>layer1.bn.</c>; one file can so hold a whole model.</param>
    public static StateDictionary GetState<T>(this INormalizer<T> normalizer, string prefix = "")
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        ArgumentNullException.ThrowIfNull(prefix);
        var state = new StateDictionary();
        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            state.Add(prefix + parameter.Name, StateTensor.Create<T>(parameter.Values, parameter.Shape));
        }

        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            state.Add(
                prefix + buffer.Name, buffer.IsCounter ? StateTensor.Create<long>([buffer.Count]) : StateTensor.Create<T>(buffer.Values, buffer.Shape));
        }

        return state;
    }

    /// <summary>Puts a state into a layer: all of it or, on any error, nothing.</summary>
    /// <typeparam name="T">float needs F32, double F64; <see cref="StateDictionary.ConvertTo"/> is the way across.</typeparam>
    /// <param name="normalizer">The layer; its <see cref="INormalizer{T}.OnStateChanged"/> is called at the end.</param>
    /// <param name="state">Values by name. Counters are I64 of shape [] or, as some older writers have it, [1].</param>
    /// <param name="strict">True: the names must be exactly the layer's. False: names that are missing keep their values, unknown ones are let be.</param>
    /// <param name="prefix">Stands before every name, its dot included; names without it belong to other layers and are never surplus.</param>
    /// <exception cref="ArgumentException">
    /// Names every entry that is missing or surplus (strict), or misshapen, of the wrong type, or a counter below 0 (always).
    /// </exception>
    public static void LoadState<T>(this INormalizer<T> normalizer, StateDictionary state, bool strict = true, string prefix = "")
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(prefix);

        var faults = new List<string>();
        var arrays = new List<(T[] Destination, StateTensor Source)>();
        var counters = new List<(StateBuffer<T> Destination, long Source)>();
        HashSet<string> surplus = [.. state.Keys.Where(name => name.StartsWith(prefix, StringComparison.Ordinal))];
        var missing = new List<string>();

        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            if (Find(parameter.Name) is { } tensor && Fits<T>(prefix + parameter.Name, tensor, parameter.Shape, faults))
            {
                arrays.Add((parameter.Values, tensor));
            }
        }

        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            if (Find(buffer.Name) is not { } tensor)
            {
                continue;
            }

            if (!buffer.IsCounter && Fits<T>(prefix + buffer.Name, tensor, buffer.Shape, faults) && IsStatistic<T>(prefix, buffer.Name, tensor, faults))
            {
                arrays.Add((buffer.Values, tensor));
            }
            else if (buffer.IsCounter && FitsCounter(prefix + buffer.Name, tensor, faults))
            {
                counters.Add((buffer, tensor.AsSpan<long>()[0]));
            }
        }

        List<string> misnamed = !strict ? [] :
        [
            .. missing.Select(name => $"'{name}' is missing"),
            .. surplus.Select(name => $"'{name}' of shape {ActivationShape.Format(state[name].Shape)} is surplus"),
        ];
        if (misnamed.Count + faults.Count > 0)
        {
            throw new ArgumentException(
                $"The state does not fit the {Name(normalizer)}: {string.Join("; ", misnamed.Concat(faults))}. Nothing was loaded." +
                (misnamed.Count > 0 ? " With strict: false missing and surplus entries are let be." : ""), nameof(state));
        }

        Store(normalizer, arrays, counters);

        StateTensor? Find(string name)
        {
            surplus.Remove(prefix + name);
            if (state.TryGetValue(prefix + name, out StateTensor? tensor))
            {
                return tensor;
            }

            missing.Add(prefix + name);
            return null;
        }
    }

    private static bool Fits<T>(string name, StateTensor tensor, ReadOnlySpan<nint> shape, List<string> faults)
        where T : unmanaged
    {
        int before = faults.Count;
        if (!tensor.Shape.SequenceEqual(shape))
        {
            faults.Add($"'{name}' has the shape {ActivationShape.Format(tensor.Shape)}, not {ActivationShape.Format(shape)}");
        }

        StateElementType needed = StateTensor.ElementTypeOf<T>();
        if (tensor.ElementType != needed)
        {
            faults.Add(
                $"'{name}' is {tensor.ElementType}, but a layer of {typeof(T).Name} holds {needed}" +
                (tensor.ElementType == StateElementType.I64 ? "" : $" (state.ConvertTo(StateElementType.{needed}) converts)"));
        }

        return faults.Count == before;
    }

    // A running statistic was once a batch's: finite, and a variance at least 0.
    private static bool IsStatistic<T>(string prefix, string name, StateTensor tensor, List<string> faults)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ReadOnlySpan<T> values = tensor.AsSpan<T>();
        string? spread = name switch { "running_var" => "variance", "running_sigma" => "deviation", _ => null };
        for (int i = 0; i < values.Length; i++)
        {
            if (!T.IsFinite(values[i]) || (spread is not null && T.IsNegative(values[i]) && values[i] != T.Zero))
            {
                string rule = spread is not null ? $"a {spread} is finite and at least 0" : "a running statistic is finite";
                faults.Add(string.Create(CultureInfo.InvariantCulture, $"'{prefix}{name}' has {values[i]} at element {i}, but {rule}"));
                return false;
            }
        }

        return true;
    }

    private static bool FitsCounter(string name, StateTensor tensor, List<string> faults)
    {
        if (tensor.ElementType != StateElementType.I64 || tensor.Shape is not ([] or [1]))
        {
            faults.Add($"'{name}' is {tensor.ElementType} of shape {ActivationShape.Format(tensor.Shape)}, but a counter is I64 of shape ()");
            return false;
        }

        long count = tensor.AsSpan<long>()[0];
        if (count < 0)
        {
            faults.Add($"'{name}' is {count}, but a counter is at least 0");
            return false;
        }

        return true;
    }

    private static void Store<T>(
        INormalizer<T> normalizer, List<(T[] Destination, StateTensor Source)> arrays, List<(StateBuffer<T> Destination, long Source)> counters)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        // What the strategy derives from its buffers can fail (a covariance with no inverse root): then the old state returns.
        T[][] oldArrays = [.. arrays.Select(pair => pair.Destination.ToArray())];
        long[] oldCounts = [.. counters.Select(pair => pair.Destination.Count)];
        try
        {
            arrays.ForEach(pair => pair.Source.AsSpan<T>().CopyTo(pair.Destination));
            counters.ForEach(pair => pair.Destination.Count = pair.Source);
            normalizer.OnStateChanged();
        }
        catch
        {
            for (int i = 0; i < oldArrays.Length; i++)
            {
                oldArrays[i].CopyTo(arrays[i].Destination, 0);
            }

            for (int i = 0; i < oldCounts.Length; i++)
            {
                counters[i].Destination.Count = oldCounts[i];
            }

            normalizer.OnStateChanged();
            throw;
        }
    }

    private static string Name<T>(INormalizer<T> normalizer)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => $"{normalizer.GetType().Name.Split('`')[0]} of {typeof(T).Name}";
}
