namespace Normalization.Strategies;

/// <summary>Makes a property of <see cref="StrategySettings"/> an option of the command line.</summary>
/// <remarks>
/// A number takes the range below, one that has a default and may be null the word none too, an enum its values in kebab case, a bool on or off, a list
/// whole numbers separated by commas. What is not written keeps the property's default.
/// </remarks>
/// <param name="option">The option, such as <c>--groups</c>.</param>
/// <param name="description">What it sets and its default; begins with the strategies that read it.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SettingAttribute(string option, string description) : Attribute
{
    /// <summary>The option's name, with its dashes.</summary>
    public string Option { get; } = option;

    /// <summary>One sentence or two for the help text.</summary>
    public string Description { get; } = description;

    /// <summary>What stands for the value in the help text; enums and switches need none.</summary>
    public string Placeholder { get; init; } = "X";

    /// <summary>The least value of a number. Default 0.</summary>
    public double Minimum { get; init; }

    /// <summary>The greatest value of a number. Default none.</summary>
    public double Maximum { get; init; } = double.PositiveInfinity;
}
