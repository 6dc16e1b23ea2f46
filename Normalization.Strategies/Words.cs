using System.Text.Json;

namespace Normalization.Strategies;

/// <summary>Option values as the command line and reports spell them.</summary>
internal static class Words
{
    /// <summary>An enum value in kebab case: SmallerLast is smaller-last.</summary>
    public static string Of<TEnum>(TEnum value)
        where TEnum : struct, Enum => JsonNamingPolicy.KebabCaseLower.ConvertName(value.ToString());
}
