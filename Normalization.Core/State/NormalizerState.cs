using System.Numerics;

namespace Normalization.Core;

/// <summary>Taking a layer's state out and putting it back.</summary>
public static class NormalizerState
{
    /// <summary>Copies the parameters, then the buffers, of a layer; counters as I64 of shape [].</summary>
    /// <typeparam name="T">float gives F32, double gives F64.</typeparam>
    /// <param name="normalizer">The layer.</param>
    /// <param name="prefix">Put before every name, its dot included, such as <c>layer1.bn.</c>; one file can so hold a whole model.</param>
    /// <param name="convention">Whose names and divisor the state is to have; null is PyTorch's.</param>
    /// <exception cref="NotSupportedException">The convention has no name for one of the layer's arrays.</exception>
    public static StateDictionary GetState<T>(this INormalizer<T> normalizer, string prefix = "", StateConvention? convention = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        return StateEntries.Get(EntriesOf(normalizer, convention), prefix);
    }

    /// <summary>Puts a state into a layer: all of it or, on any error, nothing.</summary>
    /// <typeparam name="T">float needs F32, double F64; <see cref="StateDictionary.ConvertTo"/> is the way across.</typeparam>
    /// <param name="normalizer">The layer; its <see cref="INormalizer{T}.OnStateChanged"/> is called at the end.</param>
    /// <param name="state">Values by name. Counters are I64 of shape [] or, as some older writers have it, [1].</param>
    /// <param name="strict">True: the names must be exactly the layer's. False: names that are missing keep their values, unknown ones are let be.</param>
    /// <param name="prefix">Stands before every name, its dot included; names without it belong to other layers and are never surplus.</param>
    /// <param name="convention">Whose names and divisor the state has; null is PyTorch's. A counter that the convention does not know keeps its value.</param>
    /// <returns>What was missing and surplus, and let be.</returns>
    /// <exception cref="ArgumentException">
    /// Names every entry that is missing or surplus (strict), or misshapen, of the wrong type, or a counter below 0 (always).
    /// </exception>
    /// <exception cref="NotSupportedException">The convention has no name for one of the layer's arrays.</exception>
    public static StateMisfit LoadState<T>(
        this INormalizer<T> normalizer, StateDictionary state, bool strict = true, string prefix = "", StateConvention? convention = null)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(normalizer);
        return StateEntries.Load(EntriesOf(normalizer, convention), state, strict, prefix, StateEntries.NameOf<T>(normalizer), normalizer.OnStateChanged);
    }

    private static List<StateEntry<T>> EntriesOf<T>(INormalizer<T> normalizer, StateConvention? convention)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        convention ??= StateConvention.PyTorch;
        var entries = new List<StateEntry<T>>();
        foreach (Parameter<T> parameter in normalizer.Parameters)
        {
            entries.Add(new StateEntry<T>(Name(parameter.Name), parameter));
        }

        foreach (StateBuffer<T> buffer in normalizer.Buffers)
        {
            if (!buffer.IsCounter || convention.NameOf(buffer.Name) is not null)
            {
                entries.Add(new StateEntry<T>(Name(buffer.Name), buffer) { Factor = buffer.Name == StateConvention.PyTorch.RunningVariance ? convention.VarianceFactor : 1 });
            }
        }

        return entries;

        string Name(string ours) => convention.NameOf(ours) ?? throw new NotSupportedException(
            $"{convention.Name} has no name for '{ours}' of the {StateEntries.NameOf<T>(normalizer)}; it names {convention.Names}. Use StateConvention.PyTorch, or a convention of your own.");
    }
}
