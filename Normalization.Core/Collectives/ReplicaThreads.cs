using System.Runtime.ExceptionServices;

namespace Normalization.Core.Collectives;

/// <summary>Work of several replicas that wait for each other, so that each needs a thread of its own.</summary>
internal interface IReplicaJob
{
    /// <summary>Does one replica's work. One that throws must first let the others know, or they would wait for it.</summary>
    void Run(int replica);
}

/// <summary>Threads that are lent to replicas for a call and kept for the next, by whomever.</summary>
/// <remarks>
/// Unlike the pieces of <see cref="Kernels.WorkTeam"/>, replicas must run at the same time: a busy team cannot be replaced by the
/// caller, so there are as many threads as are ever wanted at once. A warm call allocates nothing.
/// </remarks>
internal static class ReplicaThreads
{
    private static readonly Lock Gate = new();
    private static Worker? s_idle;

    [ThreadStatic]
    private static int t_sharing;

    /// <summary>Replicas that run at the same time as what this thread does: they share the kernels' threads, or there would be more at work than processors.</summary>
    public static int Sharing => Math.Max(1, t_sharing);

    /// <summary>Runs replicas 0 to count - 1, the first on the caller's thread; returns when all are done, or throws what one has thrown.</summary>
    /// <param name="job">What they do.</param>
    /// <param name="count">How many there are.</param>
    /// <param name="busy">How many of them have work for the kernels, which share their threads.</param>
    public static void Run(IReplicaJob job, int count, int busy)
    {
        int sharing = Sharing * Math.Max(1, busy);
        Worker? workers = null;
        Exception? failure = null;
        try
        {
            for (int replica = 1; replica < count; replica++)
            {
                Worker worker = Take();
                worker.Next = workers;
                workers = worker;
            }

            int number = 1;
            for (Worker? worker = workers; worker is not null; worker = worker.Next)
            {
                worker.Start(job, number++, sharing);
            }

            failure = RunOne(job, 0, sharing);
            for (Worker? worker = workers; worker is not null; worker = worker.Next)
            {
                failure = Cause(failure, worker.Finish());
            }
        }
        finally
        {
            while (workers is not null)
            {
                Worker worker = workers;
                workers = worker.Next;
                GiveBack(worker);
            }
        }

        if (failure is not null)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
    }

    private static Exception? RunOne(IReplicaJob job, int replica, int sharing)
    {
        int before = t_sharing;
        t_sharing = sharing;
        try
        {
            job.Run(replica);
            return null;
        }
        catch (Exception failure)
        {
            return failure;
        }
        finally
        {
            t_sharing = before;
        }
    }

    // What went wrong on one replica is the cause of the others' having been left.
    private static Exception? Cause(Exception? first, Exception? second) => first is null or CollectiveException ? second ?? first : first;

    private static Worker Take()
    {
        lock (Gate)
        {
            if (s_idle is { } worker)
            {
                s_idle = worker.Next;
                return worker;
            }
        }

        return new Worker();
    }

    private static void GiveBack(Worker worker)
    {
        lock (Gate)
        {
            worker.Next = s_idle;
            s_idle = worker;
        }
    }

    private sealed class Worker
    {
        private const int SpinsBeforeSleep = 200;

        private readonly object _gate = new();
        private IReplicaJob? _job;
        private int _replica;
        private int _sharing;
        private Exception? _failure;
        private bool _busy;

        public Worker()
        {
            var thread = new Thread(Work) { IsBackground = true, Name = "Normalization replica" };
            thread.Start();
        }

        public Worker? Next { get; set; }

        public void Start(IReplicaJob job, int replica, int sharing)
        {
            lock (_gate)
            {
                _job = job;
                _replica = replica;
                _sharing = sharing;
                _failure = null;
                Volatile.Write(ref _busy, true);
                Monitor.PulseAll(_gate);
            }
        }

        public Exception? Finish()
        {
            Await(busy: false);
            _job = null;
            return _failure;
        }

        private void Work()
        {
            while (true)
            {
                Await(busy: true);
                _failure = RunOne(_job!, _replica, _sharing);
                lock (_gate)
                {
                    Volatile.Write(ref _busy, false);
                    Monitor.PulseAll(_gate);
                }
            }
        }

        private void Await(bool busy)
        {
            for (int spin = 0; spin < SpinsBeforeSleep; spin++)
            {
                if (Volatile.Read(ref _busy) == busy)
                {
                    return;
                }

                Thread.SpinWait(20);
            }

            lock (_gate)
            {
                while (_busy != busy)
                {
                    Monitor.Wait(_gate);
                }
            }
        }
    }
}
