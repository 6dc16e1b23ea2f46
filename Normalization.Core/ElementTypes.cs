namespace Normalization.Core;

/// <summary>Storage types as C# names them, for messages.</summary>
internal static class ElementTypes
{
    /// <summary>Such as float, where the runtime says Single.</summary>
    public static string NameOf<T>() => typeof(T) == typeof(float) ? "float" : typeof(T) == typeof(double) ? "double" : typeof(T) == typeof(long) ? "long" : typeof(T).Name;
}
