using System.Diagnostics;
using Normalization.Core.Comparison;

namespace Normalization.Bench;

/// <summary>Progress on stderr: on a terminal one line that is written over, elsewhere a line for each group of cases or ten seconds.</summary>
/// <remarks>Only carriage returns and spaces are used, so that there is nothing to leak into a file and nothing for NO_COLOR to forbid.</remarks>
internal sealed class Progress : IProgress<ComparisonProgress>, IDisposable
{
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(0.5);
    private static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(10);

    private readonly Lock _gate = new();
    private readonly bool _rewrites = !Console.IsErrorRedirected && Environment.GetEnvironmentVariable("TERM") != "dumb";
    private readonly long _began = Stopwatch.GetTimestamp();
    private readonly double[] _costs; // of each case to do, as a share of all
    private readonly Dictionary<string, string> _groups;
    private readonly Timer? _timer;
    private ComparisonProgress? _state;
    private string _group = "";
    private TimeSpan _lastLine;
    private int _width;

    public Progress(IReadOnlyList<PlannedCase> casesToDo)
    {
        double total = casesToDo.Sum(planned => planned.Cost);
        _costs = [.. casesToDo.Select(planned => planned.Cost / total)];
        _groups = casesToDo.ToDictionary(planned => planned.Id, planned => planned.Group, StringComparer.Ordinal);
        if (_rewrites)
        {
            _timer = new Timer(_ => Paint(), null, Tick, Tick);
        }
    }

    private static int Columns => Console.WindowWidth is > 1 and int width ? width - 1 : 79;

    public void Report(ComparisonProgress value)
    {
        lock (_gate)
        {
            _state = value;
            if (_rewrites)
            {
                Paint();
                return;
            }

            TimeSpan elapsed = Stopwatch.GetElapsedTime(_began);
            string? group = value.Case is null ? null : _groups[value.Case];
            if (group is not null && (group != _group || elapsed - _lastLine > LongestSilence))
            {
                Console.Error.WriteLine(Line(value, group));
                _lastLine = elapsed;
                _group = group;
            }
        }
    }

    /// <summary>Clears the line.</summary>
    public void Dispose()
    {
        _timer?.Dispose();
        lock (_gate)
        {
            _state = null;
            if (_width > 0)
            {
                // Two more than was written: the terminal shows ^C behind it.
                Console.Error.Write($"\r{new string(' ', Math.Min(_width + 2, Columns))}\r");
                _width = 0;
            }
        }
    }

    private void Paint()
    {
        lock (_gate)
        {
            if (_state is null)
            {
                return;
            }

            int columns = Columns;
            string line = Line(_state, _state.Case ?? "done");
            line = line.Length > columns ? line[..columns] : line;
            Console.Error.Write($"\r{line.PadRight(Math.Min(_width, columns))}");
            _width = line.Length;
        }
    }

    private string Line(ComparisonProgress state, string what)
    {
        TimeSpan elapsed = Stopwatch.GetElapsedTime(_began);
        double share = _costs.Take(_costs.Length - (state.Total - state.Finished)).Sum();
        string left = share is 0 or >= 1 - 1e-9 ? "" : $", about {Math.Ceiling(elapsed.TotalSeconds / share * (1 - share)):0} s left";
        return $"{state.Finished}/{state.Total} cases, {elapsed.TotalSeconds:0} s{left}: {what}";
    }
}
