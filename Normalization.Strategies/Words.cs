using System.Text;

namespace Normalization.Strategies;

/// <summary>Option values as the command line and reports spell them.</summary>
internal static class Words
{
    /// <summary>An enum value in kebab case: SmallerLast is smaller-last.</summary>
    public static string Of<TEnum>(TEnum value)
        where TEnum : struct, Enum
    {
        var words = new StringBuilder();
        foreach (char letter in value.ToString())
        {
            if (char.IsUpper(letter) && words.Length > 0)
            {
                words.Append('-');
            }

            words.Append(char.ToLowerInvariant(letter));
        }

        return words.ToString();
    }
}
