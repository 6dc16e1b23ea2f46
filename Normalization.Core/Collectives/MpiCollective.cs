using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Normalization.Core.Collectives;

/// <summary>The collectives of ranks that are processes which mpirun or srun started, over the system's Open MPI.</summary>
/// <remarks>
/// <para>MPI's collectives cannot be left: where a rank does not come, the others would wait in them forever. Here they are the
/// non-blocking ones, asked again and again until they are complete or the deadline has passed. Then the ranks that wait call a
/// roll, one of them says who did not answer, and the whole run ends by MPI_Abort with exit code 1.</para>
/// <para>One instance for each process, disposed at the end: MPI can be started once.</para>
/// </remarks>
public sealed unsafe class MpiCollective : ICollective, IDisposable
{
    /// <summary>How long a rank waits for the others unless told otherwise.</summary>
    public static readonly TimeSpan DefaultDeadline = TimeSpan.FromSeconds(20);

    private const int AbortCode = 1;
    private const int RollCallTag = 4711;

    // Most collectives are done while the processor is kept; then others may have it, which may be the ranks that are waited for.
    private static readonly TimeSpan Spinning = TimeSpan.FromMicroseconds(50);
    private static readonly TimeSpan Yielding = TimeSpan.FromMilliseconds(20);

    private static readonly TimeSpan RollCall = TimeSpan.FromSeconds(2);

    // Set by the launchers: Open MPI's own, and those that speak PMI or PMIx (srun).
    private static readonly string[] LaunchVariables = ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"];

    private readonly OpenMpi _mpi;
    private readonly TextWriter _log;
    private readonly nint _end; // a communicator of its own: a rank that has ended must not be taken for one at a collective
    private double[] _sent = [];
    private double[] _received = [];
    private bool _finished;

    private MpiCollective(OpenMpi mpi, TimeSpan deadline, TextWriter log)
    {
        _mpi = mpi;
        _log = log;
        Deadline = deadline;
        int value = 0;
        Require(mpi.SetErrorHandler(mpi.World, mpi.ErrorsReturn), "MPI_Comm_set_errhandler");
        Require(mpi.Rank(mpi.World, &value), "MPI_Comm_rank");
        Rank = value;
        Require(mpi.Size(mpi.World, &value), "MPI_Comm_size");
        Size = value;
        nint end = 0;
        Require(mpi.Duplicate(mpi.World, &end), "MPI_Comm_dup");
        _end = end;
    }

    /// <summary>Whether mpirun or srun has started this process.</summary>
    public static bool IsLaunched => Array.Exists(LaunchVariables, name => Environment.GetEnvironmentVariable(name) is not null);

    /// <inheritdoc/>
    public int Rank { get; }

    /// <inheritdoc/>
    public int Size { get; }

    /// <summary>How long a collective waits for the others before the run is aborted.</summary>
    public TimeSpan Deadline { get; }

    /// <summary>The library's name and version.</summary>
    public string Version => _mpi.Version;

    /// <summary>Loads Open MPI and joins the ranks that were started with this process.</summary>
    /// <param name="deadline">How long a collective waits for the others; null is <see cref="DefaultDeadline"/>.</param>
    /// <param name="log">Where the sentence goes that says why a run is aborted; null is the standard error stream.</param>
    /// <exception cref="ArgumentOutOfRangeException">The deadline is not above 0.</exception>
    /// <exception cref="NotSupportedException">Open MPI is not installed, or another one than is known.</exception>
    /// <exception cref="InvalidOperationException">MPI was started before, or does not start.</exception>
    public static MpiCollective Start(TimeSpan? deadline = null, TextWriter? log = null)
    {
        if (deadline is { } limit)
        {
            ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(limit, TimeSpan.Zero, nameof(deadline));
        }

        OpenMpi mpi = OpenMpi.Load(out string? missing) ?? throw new NotSupportedException(missing);
        int flag = 0;
        if (mpi.Initialized(&flag) != OpenMpi.Success || flag != 0)
        {
            throw new InvalidOperationException("MPI has been started in this process before; it can be once. Keep the first MpiCollective.");
        }

        int provided = 0;
        int code = mpi.InitThread(null, null, OpenMpi.ThreadSerialized, &provided);
        if (code != OpenMpi.Success)
        {
            throw new InvalidOperationException($"MPI_Init_thread failed: {mpi.ErrorText(code)}. Start the program by mpirun or srun.");
        }

        if (provided < OpenMpi.ThreadSerialized)
        {
            throw new NotSupportedException($"This {mpi.Version} was built without threads (level {provided}, {OpenMpi.ThreadSerialized} is needed), which .NET has.");
        }

        return new MpiCollective(mpi, deadline ?? DefaultDeadline, log ?? Console.Error);
    }

    /// <inheritdoc/>
    public void AllReduceSum(Span<double> values)
    {
        Reserve(ref _sent, values.Length);
        Reserve(ref _received, values.Length);
        values.CopyTo(_sent);
        nint request = 0;
        fixed (double* sent = _sent, received = _received)
        {
            Require(_mpi.AllReduce(sent, received, values.Length, _mpi.Double, _mpi.Sum, _mpi.World, &request), "MPI_Iallreduce");
        }

        Await(request, "an all-reduce");
        _received.AsSpan(0, values.Length).CopyTo(values);
    }

    /// <inheritdoc/>
    public void AllGather(ReadOnlySpan<double> values, Span<double> gathered)
    {
        CollectiveArguments.RequireRoom(values, gathered, Size);
        Reserve(ref _sent, values.Length);
        Reserve(ref _received, gathered.Length);
        values.CopyTo(_sent);
        nint request = 0;
        fixed (double* sent = _sent, received = _received)
        {
            Require(
                _mpi.AllGather(sent, values.Length, _mpi.Double, received, values.Length, _mpi.Double, _mpi.World, &request), "MPI_Iallgather");
        }

        Await(request, "an all-gather");
        _received.AsSpan(0, gathered.Length).CopyTo(gathered);
    }

    /// <summary>Ends the run on every rank, with exit code 1, after a sentence in the log that names this rank.</summary>
    /// <param name="reason">What happened here.</param>
    [DoesNotReturn]
    public void Abort(string reason)
    {
        _log.WriteLine(string.Create(CultureInfo.InvariantCulture, $"error: rank {Rank} ends the run: {reason}"));
        End();
    }

    /// <summary>Waits for all ranks to come to their end, then leaves MPI.</summary>
    public void Dispose()
    {
        if (_finished)
        {
            return;
        }

        _finished = true;
        nint request = 0;
        Require(_mpi.Barrier(_end, &request), "MPI_Ibarrier");
        Await(request, "the end of the run");
        Require(_mpi.Finish(), "MPI_Finalize");
    }

    // MPI writes after the call has returned: memory that is never moved.
    private static void Reserve(ref double[] values, int count)
    {
        if (values.Length < Math.Max(count, 1))
        {
            values = GC.AllocateUninitializedArray<double>(Math.Max(count, 1), pinned: true);
        }
    }

    private void Await(nint request, string what)
    {
        long start = Stopwatch.GetTimestamp();
        while (!IsComplete(ref request, what))
        {
            TimeSpan waited = Stopwatch.GetElapsedTime(start);
            if (waited < Spinning)
            {
                Thread.SpinWait(10);
            }
            else if (waited < Yielding)
            {
                Thread.Yield();
            }
            else if (waited >= Deadline || IsRollCalled())
            {
                // What was waited for may have come at the last moment here, but another rank has given the run up.
                EndWithoutAbsent(what);
            }
            else
            {
                Thread.Sleep(1);
            }
        }
    }

    private bool IsComplete(ref nint request, string what)
    {
        int done = 0;
        fixed (nint* pointer = &request)
        {
            Require(_mpi.Test(pointer, &done, null), what);
        }

        return done != 0;
    }

    // A rank whose deadline has passed sends a message to all others; those that wait too answer by sending theirs.
    private bool IsRollCalled()
    {
        int called = 0;
        Require(_mpi.Probe(OpenMpi.AnySource, RollCallTag, _mpi.World, &called, null), "MPI_Iprobe");
        return called != 0;
    }

    [DoesNotReturn]
    private void EndWithoutAbsent(string what)
    {
        int[] absent = CallRoll();
        int speaker = Enumerable.Range(0, Size).First(rank => !absent.Contains(rank));
        if (speaker == Rank)
        {
            string limit = Deadline.TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture);
            _log.WriteLine(absent.Length == 0
                ? $"error: {what} of {Size} ranks did not complete within {limit} s, though all of them came: they are not at the same call, or the network does not carry it."
                : $"error: {CollectiveArguments.Ranks(absent)} did not come to {what} within {limit} s: dead, stuck, or slower than the deadline allows. The run is ended.");
        }
        else
        {
            // The speaker ends the run; should it not come to that, so does this rank.
            Thread.Sleep(RollCall);
        }

        End();
    }

    private int[] CallRoll()
    {
        double[] notes = GC.AllocateArray<double>(Size + 1, pinned: true);
        nint[] answers = new nint[Size];
        fixed (double* note = notes)
        {
            for (int rank = 0; rank < Size; rank++)
            {
                nint request = 0;
                if (rank != Rank && _mpi.Send(note + Size, 1, _mpi.Double, rank, RollCallTag, _mpi.World, &request) == OpenMpi.Success
                    && _mpi.Receive(note + rank, 1, _mpi.Double, rank, RollCallTag, _mpi.World, &request) == OpenMpi.Success)
                {
                    answers[rank] = request;
                }
            }
        }

        bool[] present = new bool[Size];
        present[Rank] = true;
        long start = Stopwatch.GetTimestamp();
        while (present.Contains(false) && Stopwatch.GetElapsedTime(start) < RollCall)
        {
            for (int rank = 0; rank < Size; rank++)
            {
                int done = 0;
                fixed (nint* answer = &answers[rank])
                {
                    present[rank] |= *answer != 0 && _mpi.Test(answer, &done, null) == OpenMpi.Success && done != 0;
                }
            }

            Thread.Sleep(1);
        }

        return [.. Enumerable.Range(0, Size).Where(rank => !present[rank])];
    }

    [DoesNotReturn]
    private void End()
    {
        _log.Flush();
        _finished = true;
        _ = _mpi.Abort(_mpi.World, AbortCode);
        Environment.Exit(AbortCode); // MPI_Abort does not return
    }

    private void Require(int code, string what)
    {
        if (code != OpenMpi.Success)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"MPI failed on rank {Rank} in {what}: {_mpi.ErrorText(code)}."));
        }
    }
}
