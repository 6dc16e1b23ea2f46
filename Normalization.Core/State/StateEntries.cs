using System.Globalization;
using System.Numerics;

namespace Normalization.Core;

/// <summary>One array or counter that goes into a state and comes back, under the name it has there.</summary>
/// <typeparam name="T">float or double.</typeparam>
internal sealed class StateEntry<T>
    where T : unmanaged
{
    private readonly Parameter<T>? _parameter;
    private readonly StateBuffer<T>? _buffer;

    public StateEntry(string name, Parameter<T> parameter) => (Name, _parameter) = (name, parameter);

    public StateEntry(string name, StateBuffer<T> buffer) => (Name, _buffer) = (name, buffer);

    /// <summary>The name in the state, without the prefix.</summary>
    public string Name { get; }

    /// <summary>What the state's values are multiplied by on their way in, and divided by on their way out.</summary>
    public double Factor { get; init; } = 1;

    /// <summary>The running statistic or counter; null for a parameter.</summary>
    public StateBuffer<T>? Buffer => _buffer;

    public bool IsCounter => _buffer is { IsCounter: true };

    public T[] Values => _parameter?.Values ?? _buffer!.Values;

    public ReadOnlySpan<nint> Shape => _parameter is null ? _buffer!.Shape : _parameter.Shape;
}

/// <summary>State of anything that is made of named arrays and counters: a layer, or a companion that holds several.</summary>
internal static class StateEntries
{
    public static StateDictionary Get<T>(IReadOnlyList<StateEntry<T>> entries, string prefix)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(prefix);
        var state = new StateDictionary();
        foreach (StateEntry<T> entry in entries)
        {
            state.Add(prefix + entry.Name, entry.IsCounter
                ? StateTensor.Create<long>([entry.Buffer!.Count])
                : StateTensor.Create<T>(entry.Factor == 1 ? entry.Values : Scaled<T>(entry.Values, 1 / entry.Factor), entry.Shape));
        }

        return state;
    }

    /// <summary>All of the state or, on any error, nothing.</summary>
    /// <param name="entries">Where it goes.</param>
    /// <param name="state">Where it comes from.</param>
    /// <param name="strict">Whether missing and surplus names are errors.</param>
    /// <param name="prefix">Stands before every name in the state.</param>
    /// <param name="owner">Whose state it is, for messages.</param>
    /// <param name="onStateChanged">Called when all is stored; when it throws, the old values return and it is called again.</param>
    /// <returns>What did not fit and was let be.</returns>
    public static StateMisfit Load<T>(
        IReadOnlyList<StateEntry<T>> entries, StateDictionary state, bool strict, string prefix, string owner, Action onStateChanged)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(prefix);

        var faults = new List<string>();
        var arrays = new List<(T[] Destination, T[] Source)>();
        var counters = new List<(StateBuffer<T> Destination, long Source)>();
        HashSet<string> surplus = [.. state.Keys.Where(name => name.StartsWith(prefix, StringComparison.Ordinal))];
        var missing = new List<string>();

        foreach (StateEntry<T> entry in entries)
        {
            string name = prefix + entry.Name;
            surplus.Remove(name);
            if (!state.TryGetValue(name, out StateTensor? tensor))
            {
                missing.Add(name);
            }
            else if (entry.IsCounter)
            {
                if (FitsCounter(name, tensor, faults))
                {
                    counters.Add((entry.Buffer!, tensor.AsSpan<long>()[0]));
                }
            }
            else if (Fits<T>(name, tensor, entry.Shape, faults))
            {
                T[] values = entry.Factor == 1 ? tensor.ToArray<T>() : Scaled(tensor.AsSpan<T>(), entry.Factor);
                if (entry.Buffer is null || IsStatistic<T>(name, entry.Buffer.Name, values, faults))
                {
                    arrays.Add((entry.Values, values));
                }
            }
        }

        List<string> misnamed = !strict ? [] :
        [
            .. missing.Select(name => $"'{name}' is missing"),
            .. surplus.Select(name => $"'{name}' of shape {ActivationShape.Format(state[name].Shape)} is surplus"),
        ];
        bool nothingNamed = entries.Count > 0 && missing.Count == entries.Count;
        if (misnamed.Count + faults.Count > 0)
        {
            throw new ArgumentException(
                $"The state does not fit the {owner}: {string.Join("; ", misnamed.Concat(faults))}. Nothing was loaded." +
                (nothingNamed ? $"{Holds(state)} Check the prefix '{prefix}'." : misnamed.Count > 0 ? " With strict: false missing and surplus entries are let be." : ""), nameof(state));
        }

        Store(arrays, counters, onStateChanged);
        return new StateMisfit(missing, [.. surplus]);
    }

    // What a wrong prefix can be told by.
    private static string Holds(StateDictionary state)
    {
        const int Most = 8;
        return state.Count == 0
            ? " The state is empty."
            : $" The state holds {string.Join(", ", state.Keys.Take(Most).Select(name => $"'{name}'"))}{(state.Count > Most ? string.Create(CultureInfo.InvariantCulture, $" and {state.Count - Most} more") : "")}.";
    }

    /// <summary>An object's type as messages call it: BatchNorm of Single.</summary>
    public static string NameOf<T>(object owner) => $"{owner.GetType().Name.Split('`')[0]} of {ElementTypes.NameOf<T>()}";

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
                $"'{name}' is {tensor.ElementType}, but a layer of {ElementTypes.NameOf<T>()} holds {needed}" +
                (tensor.ElementType == StateElementType.I64 ? "" : $" (state.ConvertTo(StateElementType.{needed}) converts)"));
        }

        return faults.Count == before;
    }

    // A running statistic was once a batch's: finite, and a variance at least 0.
    private static bool IsStatistic<T>(string name, string kind, ReadOnlySpan<T> values, List<string> faults)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        string? spread = kind switch { "running_var" or "population_variance" => "variance", "running_sigma" => "deviation", _ => null };
        for (int i = 0; i < values.Length; i++)
        {
            if (!T.IsFinite(values[i]) || (spread is not null && T.IsNegative(values[i]) && values[i] != T.Zero))
            {
                string rule = spread is not null ? $"a {spread} is finite and at least 0" : "a running statistic is finite";
                faults.Add(string.Create(CultureInfo.InvariantCulture, $"'{name}' has {values[i]} at element {i}, but {rule}"));
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
        List<(T[] Destination, T[] Source)> arrays, List<(StateBuffer<T> Destination, long Source)> counters, Action onStateChanged)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        // What the owner derives from its buffers can fail (a covariance with no inverse root): then the old state returns.
        T[][] oldArrays = [.. arrays.Select(pair => pair.Destination.ToArray())];
        long[] oldCounts = [.. counters.Select(pair => pair.Destination.Count)];
        try
        {
            arrays.ForEach(pair => pair.Source.CopyTo(pair.Destination, 0));
            counters.ForEach(pair => pair.Destination.Count = pair.Source);
            onStateChanged();
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

            onStateChanged();
            throw;
        }
    }

    private static T[] Scaled<T>(ReadOnlySpan<T> values, double factor)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var scaled = new T[values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            scaled[i] = T.CreateTruncating(double.CreateTruncating(values[i]) * factor);
        }

        return scaled;
    }
}
