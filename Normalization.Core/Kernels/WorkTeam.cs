using Normalization.Core.Collectives;

namespace Normalization.Core.Kernels;

/// <summary>Work cut into numbered pieces that may run in any order on any thread.</summary>
internal interface IPieceJob
{
    void Run(int piece);
}

/// <summary>A process-wide team of threads that runs pieces without allocating.</summary>
/// <remarks>
/// Parallel.For allocates on every call, which a warm normalizer must not. The caller takes part; when the team is busy with
/// another caller's job, the caller does all pieces itself, so concurrent inference never waits.
/// Some systems wake a worker on the caller's own processor, where it waits for milliseconds until another is found for it, while the caller does
/// its work, or waits for the piece it has begun. A worker that finds itself there leaves, and from then on workers are kept off the caller's
/// processor while they are woken.
/// </remarks>
internal static unsafe class WorkTeam
{
    // The state word: joined workers in the low 16 bits, then the open flag, then the generation. A worker joins by
    // compare-and-swap only while the job is open, so a late worker never touches a job whose caller has returned.
    private const long JoinedMask = 0xFFFF;
    private const long Open = 1L << 16;
    private const long Generation = 1L << 17;
    private const int SpinsBeforeSleep = 2000;
    private const int IntsPerLine = Simd.LineBytes / sizeof(int);

    private static readonly Lock StartGate = new();
    private static readonly object SleepGate = new();
    private static long s_state;
    private static int s_busy;
    private static int s_sleepers;
    private static int s_workers;
    private static int s_limit;
    private static int s_pieces;
    private static int s_caller = -1; // the processor it runs on
    private static bool s_wakesOnCaller; // whether a worker ever found itself there
    private static void* s_job;
    private static delegate*<void*, int, void> s_run;

    // By worker: its thread and, under the gate, whether it sleeps and the processor that it is kept off, plus 1.
    private static readonly int[] Threads = new int[KernelThreads.Maximum];
    private static readonly bool[] Asleep = new bool[KernelThreads.Maximum];
    private static readonly int[] KeptOff = new int[KernelThreads.Maximum];

    // By participant, the caller first: the next piece of its range, each in a cache line of its own.
    private static readonly int[] Next = new int[(KernelThreads.Maximum + 1) * IntsPerLine];

    // Below this many elements waking a thread costs more than it saves.
    private const nint SmallestSharedWork = 1 << 15;

    /// <summary>The threads that share a job: what is left of the kernels' where replicas run at the same time.</summary>
    public static int Participants => Math.Max(1, KernelThreads.Count / ReplicaThreads.Sharing);

    /// <summary>Runs pieces 0 to count - 1 of a job that reads the given number of elements; returns when all are done.</summary>
    public static void Run<TJob>(ref TJob job, int count, nint elements)
        where TJob : unmanaged, IPieceJob
    {
        int threads = elements < SmallestSharedWork ? 1 : Math.Min(Participants, count);
        if (threads <= 1 || Interlocked.CompareExchange(ref s_busy, 1, 0) != 0)
        {
            for (int piece = 0; piece < count; piece++)
            {
                job.Run(piece);
            }

            return;
        }

        fixed (TJob* pointer = &job)
        {
            try
            {
                EnsureWorkers(threads - 1);
                s_job = pointer;
                s_run = &Invoke<TJob>;
                s_pieces = count;
                Volatile.Write(ref s_limit, threads - 1);
                for (int range = 0; range < threads; range++)
                {
                    Volatile.Write(ref Next[range * IntsPerLine], FirstPiece(range, threads));
                }

                Volatile.Write(ref s_caller, Processors.Current);
                long opened = ((Volatile.Read(ref s_state) & ~(Generation - 1)) + Generation) | Open;
                Interlocked.Exchange(ref s_state, opened);
                Wake();
                Drain(0);
            }
            finally
            {
                // Workers read the job on this stack: none may be left when it goes.
                Interlocked.And(ref s_state, ~Open);
                var spinner = default(SpinWait);
                while ((Volatile.Read(ref s_state) & JoinedMask) != 0)
                {
                    spinner.SpinOnce(sleep1Threshold: -1);
                }

                Volatile.Write(ref s_busy, 0);
            }
        }
    }

    private static void Wake()
    {
        if (Volatile.Read(ref s_sleepers) == 0)
        {
            return;
        }

        lock (SleepGate)
        {
            for (int index = 0; index < s_limit && s_wakesOnCaller; index++)
            {
                // One that is kept off a processor still has not come to since it was woken before.
                if (Asleep[index] && KeptOff[index] == 0 && Processors.KeepOff(Threads[index], s_caller))
                {
                    KeptOff[index] = s_caller + 1;
                }
            }

            Monitor.PulseAll(SleepGate);
        }
    }

    private static void Invoke<TJob>(void* job, int piece)
        where TJob : unmanaged, IPieceJob => ((TJob*)job)->Run(piece);

    // Each takes the pieces of its own range in turn, which in the next call lie in its caches still; then what others have left of theirs.
    private static void Drain(int participant)
    {
        int threads = s_limit + 1;
        void* job = s_job;
        delegate*<void*, int, void> run = s_run;
        for (int i = 0; i < threads; i++)
        {
            int range = (participant + i) % threads;
            int end = FirstPiece(range + 1, threads);
            ref int next = ref Next[range * IntsPerLine];
            for (int piece = Interlocked.Increment(ref next) - 1; piece < end; piece = Interlocked.Increment(ref next) - 1)
            {
                run(job, piece);
            }
        }
    }

    private static int FirstPiece(int range, int threads) => (int)((long)s_pieces * range / threads);

    private static void EnsureWorkers(int count)
    {
        if (Volatile.Read(ref s_workers) >= count)
        {
            return;
        }

        lock (StartGate)
        {
            while (s_workers < count)
            {
                int index = s_workers;
                var thread = new Thread(() => Work(index)) { IsBackground = true, Name = $"Normalization kernel {index + 1}" };
                try
                {
                    thread.Start();
                }
                catch (OutOfMemoryException)
                {
                    // The system gives no more threads: the work is done by those there are.
                    return;
                }

                Volatile.Write(ref s_workers, index + 1);
            }
        }
    }

    private static void Work(int index)
    {
        Threads[index] = Processors.Thread;
        long seen = 0;
        while (true)
        {
            long state = WaitForJob(seen, index);
            LeaveCaller();
            seen = state & ~(Generation - 1);
            if (TryJoin(seen))
            {
                Drain(index + 1);
                Interlocked.Decrement(ref s_state);
            }
        }
    }

    private static void LeaveCaller()
    {
        int processor = Processors.Current;
        if (processor >= 0 && processor == Volatile.Read(ref s_caller) && Processors.KeepOff(0, processor))
        {
            Processors.Allow(processor);
            s_wakesOnCaller = true;
        }
    }

    private static long WaitForJob(long seen, int index)
    {
        for (int spin = 0; spin < SpinsBeforeSleep; spin++)
        {
            long state = Volatile.Read(ref s_state);
            if (IsWanted(state, seen, index))
            {
                return state;
            }

            Thread.SpinWait(8);
        }

        lock (SleepGate)
        {
            Interlocked.Increment(ref s_sleepers);
            long state = Interlocked.Read(ref s_state);
            Asleep[index] = true;
            while (!IsWanted(state, seen, index))
            {
                Monitor.Wait(SleepGate);
                if (KeptOff[index] != 0)
                {
                    Processors.Allow(KeptOff[index] - 1);
                    KeptOff[index] = 0;
                }

                state = Interlocked.Read(ref s_state);
            }

            Asleep[index] = false;
            Interlocked.Decrement(ref s_sleepers);
            return state;
        }
    }

    // A worker beyond the job's thread count must not join, or the caller would wait for it. The limit is read after the state: where
    // it is a later job's, so is the generation, and joining the earlier one fails.
    private static bool IsWanted(long state, long seen, int index) =>
        (state & Open) != 0 && (state & ~(Generation - 1)) != seen && index < Volatile.Read(ref s_limit);

    private static bool TryJoin(long generation)
    {
        long state = Volatile.Read(ref s_state);
        while ((state & Open) != 0 && (state & ~(Generation - 1)) == generation)
        {
            long before = Interlocked.CompareExchange(ref s_state, state + 1, state);
            if (before == state)
            {
                return true;
            }

            state = before;
        }

        return false;
    }
}
