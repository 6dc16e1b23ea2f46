using System.Diagnostics;
using System.Globalization;
using System.Numerics.Tensors;

namespace Normalization.Core.Collectives;

/// <summary>The collectives of ranks that are threads of this process: each rank's values lie where the others can read them.</summary>
/// <remarks>Sums are taken in rank order, so that every rank has the same bits, and in every run.</remarks>
public sealed class InProcessCollective : ICollective
{
    private readonly Group _group;

    private InProcessCollective(Group group, int rank)
    {
        _group = group;
        Rank = rank;
    }

    private enum Call
    {
        AllReduceSum,
        AllGather,
    }

    /// <inheritdoc/>
    public int Rank { get; }

    /// <inheritdoc/>
    public int Size => _group.Size;

    /// <summary>A group of ranks, each to be used by a thread of its own.</summary>
    /// <param name="size">How many, at least 1.</param>
    /// <param name="deadline">How long a call waits for the others; null waits until <see cref="Leave"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">The size is below 1 or the deadline is not above 0.</exception>
    public static IReadOnlyList<InProcessCollective> CreateGroup(int size, TimeSpan? deadline = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(size, 1);
        if (deadline is { } limit)
        {
            ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(limit, TimeSpan.Zero, nameof(deadline));
        }

        var group = new Group(size, deadline);
        return [.. Enumerable.Range(0, size).Select(rank => new InProcessCollective(group, rank))];
    }

    /// <inheritdoc/>
    public void AllReduceSum(Span<double> values)
    {
        Posting[] postings = Exchange(Call.AllReduceSum, values);
        values.Clear();
        foreach (Posting posting in postings)
        {
            TensorPrimitives.Add(values, posting.Values.AsSpan(0, values.Length), values);
        }
    }

    /// <inheritdoc/>
    public void AllGather(ReadOnlySpan<double> values, Span<double> gathered)
    {
        CollectiveArguments.RequireRoom(values, gathered, Size);
        Posting[] postings = Exchange(Call.AllGather, values);
        for (int rank = 0; rank < Size; rank++)
        {
            postings[rank].Values.AsSpan(0, values.Length).CopyTo(gathered[(rank * values.Length)..]);
        }
    }

    /// <summary>Says that this rank will not come any more: the others' present and later calls throw.</summary>
    /// <param name="reason">What happened, for their messages: "rank 2 left: reason".</param>
    public void Leave(string reason) => _group.Break(string.Create(CultureInfo.InvariantCulture, $"rank {Rank} left: {reason}"));

    // Two boards in turn: one is free again when everybody has come to the other, so that a call needs one meeting only.
    private Posting[] Exchange(Call call, ReadOnlySpan<double> values)
    {
        Posting[] board = _group.Post(Rank, call, values);
        _group.Meet(Rank);
        foreach (Posting posting in board)
        {
            if (posting.Call != call || posting.Count != values.Length)
            {
                throw new CollectiveException(string.Create(CultureInfo.InvariantCulture,
                    $"The ranks do not make the same call: rank {Rank} is at {call} of {values.Length} values, another at {posting.Call} of {posting.Count}."));
            }
        }

        return board;
    }

    /// <summary>What a rank has put up for the others.</summary>
    private sealed class Posting
    {
        public Call Call { get; set; }

        public int Count { get; set; }

        public double[] Values { get; set; } = [];
    }

    private sealed class Group
    {
        private const int SpinsBeforeSleep = 200;
        private static readonly TimeSpan LongestWait = TimeSpan.FromDays(1);

        private readonly object _gate = new();
        private readonly Posting[][] _boards;
        private readonly long[] _meetings; // by rank: how many it has come to
        private readonly TimeSpan? _deadline;
        private long _completed; // meetings that everybody has come to
        private int _present;
        private string? _broken;

        public Group(int size, TimeSpan? deadline)
        {
            Size = size;
            _deadline = deadline;
            _meetings = new long[size];
            _boards = [NewBoard(), NewBoard()];

            Posting[] NewBoard() => [.. Enumerable.Range(0, size).Select(_ => new Posting())];
        }

        public int Size { get; }

        public Posting[] Post(int rank, Call call, ReadOnlySpan<double> values)
        {
            Posting[] board = _boards[_meetings[rank] & 1];
            Posting posting = board[rank];
            if (posting.Values.Length < values.Length)
            {
                posting.Values = new double[values.Length];
            }

            posting.Call = call;
            posting.Count = values.Length;
            values.CopyTo(posting.Values);
            return board;
        }

        public void Meet(int rank)
        {
            long meeting = _meetings[rank];
            lock (_gate)
            {
                ThrowIfBroken();
                _meetings[rank]++;
                if (++_present == Size)
                {
                    _present = 0;
                    _completed++;
                    Monitor.PulseAll(_gate);
                    return;
                }
            }

            for (int spin = 0; spin < SpinsBeforeSleep; spin++)
            {
                if (Volatile.Read(ref _completed) > meeting)
                {
                    return;
                }

                Thread.SpinWait(20);
            }

            long start = Stopwatch.GetTimestamp();
            lock (_gate)
            {
                while (_completed <= meeting)
                {
                    ThrowIfBroken();
                    if (!Wait(start) && _completed <= meeting)
                    {
                        _broken ??= Absent(meeting);
                        Monitor.PulseAll(_gate);
                    }
                }
            }
        }

        public void Break(string reason)
        {
            lock (_gate)
            {
                _broken ??= reason;
                Monitor.PulseAll(_gate);
            }
        }

        // False where the deadline has passed. The system's wait takes 24 days at most: a longer one is made of several.
        private bool Wait(long start)
        {
            if (_deadline is not { } deadline)
            {
                return Monitor.Wait(_gate);
            }

            TimeSpan left = deadline - Stopwatch.GetElapsedTime(start);
            return left > TimeSpan.Zero && (Monitor.Wait(_gate, left < LongestWait ? left : LongestWait) || Stopwatch.GetElapsedTime(start) < deadline);
        }

        private void ThrowIfBroken()
        {
            if (_broken is not null)
            {
                throw new CollectiveException($"A collective cannot complete: {_broken}.");
            }
        }

        private string Absent(long meeting)
        {
            int[] absent = [.. Enumerable.Range(0, Size).Where(rank => _meetings[rank] <= meeting)];
            return string.Create(CultureInfo.InvariantCulture,
                $"{CollectiveArguments.Ranks(absent)} did not come within {_deadline!.Value.TotalSeconds:0.###} s");
        }
    }
}
