namespace Normalization.Core.Reporting;

/// <summary>A training experiment as its run's header describes it: what a reader must know to judge it, and the claims it is to judge.</summary>
/// <param name="Id">E1 to E18.</param>
/// <param name="Title">A few words.</param>
/// <param name="Question">What the experiment asks, and the paper that made it famous.</param>
/// <param name="SetUp">Every choice that could have been made otherwise: network, data, learning rates, steps.</param>
/// <param name="Charts">What is drawn.</param>
/// <param name="Claims">What is to hold, written down before the runs.</param>
public sealed record ExperimentDescription(
    string Id, string Title, string Question, IReadOnlyList<string> SetUp, IReadOnlyList<ExperimentChart> Charts, IReadOnlyList<ExperimentClaim> Claims)
{
    /// <summary>What is trained, in report order.</summary>
    public IReadOnlyList<ExperimentVariant> Variants { get; init; } = [];
}

/// <summary>Something that an experiment trains beside the others.</summary>
/// <param name="Id">A strategy's id, or one with words added; what rows name as their strategy.</param>
/// <param name="Text">What it is, in words.</param>
public sealed record ExperimentVariant(string Id, string Text);

/// <summary>A chart of one metric over one parameter, a line for each strategy: the mean over seeds, and its 95 % interval.</summary>
/// <param name="Title">What it shows.</param>
/// <param name="Metric">The metric's id.</param>
/// <param name="X">The parameter that is the horizontal axis.</param>
/// <param name="XTitle">The horizontal axis's title, with the unit.</param>
/// <param name="LogX">Whether the horizontal axis is logarithmic.</param>
/// <param name="LogY">Whether the vertical axis is.</param>
/// <param name="Only">Parameters that a row must have to be drawn, such as one of two networks; null draws all rows of the metric.</param>
/// <param name="Line">The parameter that has a line for each value, where several strategies are points of one line; null has a line for each strategy.</param>
public sealed record ExperimentChart(
    string Title, string Metric, string X, string XTitle, bool LogX = false, bool LogY = false, IReadOnlyDictionary<string, object>? Only = null, string? Line = null);

/// <summary>The rows a claim speaks of: those of one strategy and metric that have all the given parameters.</summary>
/// <param name="Strategy">The strategy's id.</param>
/// <param name="Metric">The metric's id.</param>
/// <param name="Parameters">Parameters a row must have; null asks for none.</param>
public sealed record ClaimSide(string Strategy, string Metric, IReadOnlyDictionary<string, object>? Parameters = null);

/// <summary>How the two sides of a claim make a number.</summary>
public enum ClaimCombination
{
    /// <summary>Left, or left - right.</summary>
    Difference,

    /// <summary>Left / right.</summary>
    Ratio,
}

/// <summary>Which of several numbers of a seed counts, such as one for each step.</summary>
public enum ClaimOver
{
    /// <summary>The one that is worst for the claim: it is of every one of them.</summary>
    Worst,

    /// <summary>The least.</summary>
    Least,

    /// <summary>The greatest.</summary>
    Greatest,

    /// <summary>Their mean.</summary>
    Mean,
}

/// <summary>A sentence that the records hold up or not, by one rule (<see cref="ExperimentVerdict"/>).</summary>
public sealed record ExperimentClaim
{
    /// <summary>A few words, unique in the experiment; kebab case.</summary>
    public required string Id { get; init; }

    /// <summary>The sentence.</summary>
    public required string Text { get; init; }

    /// <summary>The rows the claim is about.</summary>
    public required ClaimSide Left { get; init; }

    /// <summary>The rows it is held against, pair by pair of equal parameters; null holds the left's values themselves to the threshold.</summary>
    public ClaimSide? Right { get; init; }

    /// <summary>How a pair makes a number.</summary>
    public ClaimCombination Combination { get; init; }

    /// <summary>Which of a seed's numbers counts.</summary>
    public ClaimOver Over { get; init; }

    /// <summary>Whether the number is claimed to lie above the threshold, else below it.</summary>
    public bool Above { get; init; } = true;

    /// <summary>Where the claimed side begins.</summary>
    public required double Threshold { get; init; }

    /// <summary>Whether the number has no randomness: one is enough, and it is held to the threshold itself.</summary>
    public bool Exact { get; init; }

    /// <summary>The published figure and what differs from it, in words; null where there is none.</summary>
    public string? Published { get; init; }
}
