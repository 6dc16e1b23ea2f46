using System.CommandLine;
using System.Globalization;
using System.Reflection;
using Normalization.Strategies;

namespace Normalization.Bench;

/// <summary>An option and the setting it stands for; one that was not written leaves the setting's default.</summary>
internal sealed class SettingOption
{
    private readonly Action<StrategySettings, ParseResult> _set;

    private SettingOption(Option option, Action<StrategySettings, ParseResult> set)
    {
        Option = option;
        _set = set;
    }

    private enum Switch
    {
        On,
        Off,
    }

    /// <summary>Every setting that is marked as an option, those of all strategies first, then by strategy.</summary>
    public static IReadOnlyList<SettingOption> All { get; } =
    [
        Of(new Option<bool>("--no-affine") { Description = "No weight and no bias." }, (settings, value) =>
        {
            Set(settings, nameof(StrategySettings.Weight), !value);
            Set(settings, nameof(StrategySettings.Bias), !value);
        }),
        .. from property in typeof(StrategySettings).GetProperties()
           let setting = property.GetCustomAttribute<SettingAttribute>()
           where setting is not null
           orderby FirstReader(setting)
           select Of(property, setting),
    ];

    public Option Option { get; }

    /// <summary>The settings with this one changed, where the user wrote it.</summary>
    public StrategySettings Apply(StrategySettings settings, ParseResult parse)
    {
        if (!parse.Has(Option))
        {
            return settings;
        }

        StrategySettings changed = settings with { };
        _set(changed, parse);
        return changed;
    }

    // The place in the catalog of the strategy that the description begins with, -1 where it begins with none.
    private static int FirstReader(SettingAttribute setting) =>
        StrategyCatalog.Ids.ToList().FindIndex(id => setting.Description.StartsWith(id, StringComparison.Ordinal));

    private static SettingOption Of(PropertyInfo property, SettingAttribute setting)
    {
        Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        if (type == typeof(double))
        {
            bool canBeNone = property.GetValue(new StrategySettings()) is not null && property.PropertyType != type;
            Option<double> real = canBeNone
                ? Options.RealOrNone(setting.Option, $"{setting.Placeholder}|none", setting.Minimum, setting.Maximum, setting.Description)
                : Options.Real(setting.Option, setting.Placeholder, setting.Minimum, setting.Maximum, setting.Description);
            return Of(real, (settings, value) => property.SetValue(settings, double.IsNaN(value) ? null : value));
        }

        if (type == typeof(int))
        {
            Option<long> whole = Options.Whole(
                setting.Option, setting.Placeholder, (long)setting.Minimum, (long)Math.Min(int.MaxValue, setting.Maximum), setting.Description);
            return Of(whole, (settings, value) => property.SetValue(settings, (int)value));
        }

        if (type == typeof(bool))
        {
            return Of(Options.Choice<Switch>(setting.Option, setting.Description), (settings, value) => property.SetValue(settings, value == Switch.On));
        }

        if (type == typeof(IReadOnlyList<int>))
        {
            Option<IReadOnlyList<int>> list = Options.WholeList(setting.Option, setting.Placeholder, (int)setting.Minimum, setting.Description);
            return Of(list, (settings, value) => property.SetValue(settings, value));
        }

        if (type.IsEnum)
        {
            return (SettingOption)typeof(SettingOption)
                .GetMethod(nameof(OfChoice), BindingFlags.NonPublic | BindingFlags.Static)!
                .MakeGenericMethod(type)
                .Invoke(null, [property, setting])!;
        }

        throw new NotSupportedException(string.Create(CultureInfo.InvariantCulture,
            $"{property.Name} is a {type.Name}, which the command line has no way to write; a setting is a number, a switch, a choice or a list of whole numbers."));
    }

    private static SettingOption OfChoice<TEnum>(PropertyInfo property, SettingAttribute setting)
        where TEnum : struct, Enum =>
        Of(Options.Choice<TEnum>(setting.Option, setting.Description), (settings, value) => property.SetValue(settings, value));

    private static SettingOption Of<TValue>(Option<TValue> option, Action<StrategySettings, TValue> set) =>
        new(option, (settings, parse) => set(settings, parse.GetValue(option)!));

    private static void Set(StrategySettings settings, string name, bool value) => typeof(StrategySettings).GetProperty(name)!.SetValue(settings, value);
}
