using Normalization.Core.Comparison;
using Normalization.Core.Reporting;

namespace Normalization.Bench.Experiments;

/// <summary>How much of an experiment to run.</summary>
/// <param name="Quick">A tenth or so of the steps.</param>
/// <param name="Seeds">How many seeds each variant is trained from.</param>
/// <param name="Seed">The first of them; where all randomness comes from.</param>
internal sealed record ExperimentScale(bool Quick, int Seeds, long Seed);

/// <summary>One training run: a record of its own.</summary>
/// <param name="Strategy">The variant, a strategy's id or one with a word added, as reports name it.</param>
/// <param name="Seed">Its seed.</param>
/// <param name="Cost">About how many seconds it takes on one core.</param>
/// <param name="Run">Trains and writes down what it sees.</param>
internal sealed record Trial(string Strategy, long Seed, double Cost, Action<TrialLog> Run);

/// <summary>An experiment of the literature: what it asks, its claims, its trials.</summary>
internal abstract class Experiment
{
    /// <summary>E1 to E18.</summary>
    public abstract string Id { get; }

    /// <summary>The variants, in report order: id, and what it is in words.</summary>
    public abstract IReadOnlyList<(string Id, string Options)> Strategies { get; }

    /// <summary>What the report says of it. Claims and thresholds are the specification's, written before the runs.</summary>
    public abstract ExperimentDescription Describe(ExperimentScale scale);

    /// <summary>Every run it takes.</summary>
    public abstract IEnumerable<Trial> Trials(DigitData data, ExperimentScale scale);

    /// <summary>The seeds of a scale.</summary>
    protected static IEnumerable<long> Seeds(ExperimentScale scale) => Enumerable.Range(0, scale.Seeds).Select(i => scale.Seed + i);

    /// <summary>Parameters that a claim's side asks for.</summary>
    protected static IReadOnlyDictionary<string, object> With(string name, object value) => new Dictionary<string, object>(StringComparer.Ordinal) { [name] = value };
}

/// <summary>Collects what a trial measures.</summary>
internal sealed class TrialLog(string experiment, string strategy, long seed, CancellationToken cancellation)
{
    private readonly List<Measurement> _rows = [];

    /// <summary>Ends the trial between two steps.</summary>
    public CancellationToken Cancellation { get; } = cancellation;

    public IReadOnlyList<Measurement> Rows => _rows;

    /// <summary>Adds a number.</summary>
    /// <param name="metric">A metric's id.</param>
    /// <param name="value">The value; null where it could not be formed, and the note says why.</param>
    /// <param name="parameters">What further identifies it, beside the seed.</param>
    /// <param name="note">What a reader must know beside it.</param>
    public void Add(string metric, double? value, string? note = null, params ReadOnlySpan<(string Name, object Value)> parameters)
    {
        var all = new Dictionary<string, object>(StringComparer.Ordinal);
        foreach ((string name, object of) in parameters)
        {
            all.Add(name, of);
        }

        all.Add("seed", seed);
        _rows.Add(new Measurement
        {
            Aspect = Aspects.Training,
            Strategy = strategy,
            Scenario = experiment,
            Metric = metric,
            Value = value,
            Unit = Metrics.Get(metric).Unit,
            Parameters = all,
            Note = note,
        });
    }
}
