using System.Collections;
using System.Diagnostics.CodeAnalysis;

namespace Normalization.Core;

/// <summary>Named tensors in the order they were added, and the text that a safetensors file carries along.</summary>
/// <remarks>Names are those of <see cref="Parameter{T}"/> and <see cref="StateBuffer{T}"/>, which are PyTorch's.</remarks>
public sealed class StateDictionary : IReadOnlyDictionary<string, StateTensor>
{
    private readonly OrderedDictionary<string, StateTensor> _tensors = new(StringComparer.Ordinal);

    /// <summary>The file's <c>__metadata__</c>: names to texts, in order.</summary>
    public IDictionary<string, string> Metadata { get; } = new OrderedDictionary<string, string>(StringComparer.Ordinal);

    /// <summary>The number of tensors.</summary>
    public int Count => _tensors.Count;

    /// <summary>The names in order.</summary>
    public IEnumerable<string> Keys => _tensors.Keys;

    /// <summary>The tensors in order.</summary>
    public IEnumerable<StateTensor> Values => _tensors.Values;

    /// <summary>The tensor of that name.</summary>
    /// <param name="key">An exact name.</param>
    /// <exception cref="KeyNotFoundException">There is none; the message lists those there are.</exception>
    public StateTensor this[string key] => _tensors.TryGetValue(key, out StateTensor? tensor)
        ? tensor
        : throw new KeyNotFoundException($"The state has no '{key}'; it has {(Count == 0 ? "no tensors" : string.Join(", ", Keys))}.");

    /// <summary>Adds a tensor at the end.</summary>
    /// <param name="name">A new name; any text but <c>__metadata__</c>.</param>
    /// <param name="tensor">The values.</param>
    /// <exception cref="ArgumentException">The name is taken or reserved.</exception>
    public void Add(string name, StateTensor tensor)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(tensor);
        if (name == SafeTensors.MetadataName)
        {
            throw new ArgumentException($"'{name}' is reserved for the file's texts; put them into Metadata.", nameof(name));
        }

        if (!_tensors.TryAdd(name, tensor))
        {
            throw new ArgumentException($"The state already has '{name}'; give each layer a prefix of its own.", nameof(name));
        }
    }

    /// <summary>Adds all tensors of another state at the end; texts are not taken over.</summary>
    /// <param name="other">A state whose names are new here, such as a layer's with a prefix.</param>
    /// <exception cref="ArgumentException">A name is taken; the tensors before it have been added.</exception>
    public void Add(StateDictionary other)
    {
        ArgumentNullException.ThrowIfNull(other);
        foreach ((string name, StateTensor tensor) in other)
        {
            Add(name, tensor);
        }
    }

    /// <summary>The same state with every F32 and F64 tensor as one of the two; counters (I64) and texts stay as they are.</summary>
    /// <param name="elementType">F32 or F64.</param>
    /// <exception cref="ArgumentException">I64 is asked for.</exception>
    /// <exception cref="OverflowException">A finite value is too large for F32.</exception>
    public StateDictionary ConvertTo(StateElementType elementType)
    {
        if (elementType == StateElementType.I64)
        {
            throw new ArgumentException("A state converts to F32 or F64; I64 is for counters.", nameof(elementType));
        }

        var converted = new StateDictionary();
        foreach ((string name, StateTensor tensor) in _tensors)
        {
            converted.Add(name, tensor.ElementType == StateElementType.I64 ? tensor : tensor.ConvertTo(elementType));
        }

        foreach ((string name, string text) in Metadata)
        {
            converted.Metadata.Add(name, text);
        }

        return converted;
    }

    /// <summary>Reads a safetensors file of F32, F64 and I64 tensors, in the order of its header.</summary>
    /// <param name="path">The file. It may be hostile: nothing is allocated by a number that was not held against the file's length.</param>
    /// <exception cref="InvalidDataException">The file breaks a rule of the format or has another dtype; the message names file, tensor and value.</exception>
    /// <exception cref="IOException">The file is missing or not readable.</exception>
    /// <exception cref="UnauthorizedAccessException">The path is a folder, or reading it is not allowed.</exception>
    public static StateDictionary Load(string path) => SafeTensors.Load(path);

    /// <summary>Writes a safetensors file: the same bytes for the same state, under a temporary name first, then renamed.</summary>
    /// <param name="path">The file to make or replace; its folder must exist. On failure an old file stays as it was.</param>
    /// <exception cref="IOException">The folder is missing or full, or the path is a folder.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder is not writable.</exception>
    public void Save(string path) => SafeTensors.Save(this, path);

    /// <inheritdoc/>
    public bool ContainsKey(string key) => _tensors.ContainsKey(key);

    /// <inheritdoc/>
    public bool TryGetValue(string key, [MaybeNullWhen(false)] out StateTensor value) => _tensors.TryGetValue(key, out value);

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, StateTensor>> GetEnumerator() => _tensors.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
