using System.CommandLine;
using System.Globalization;
using Normalization.Bench.Sync;
using Normalization.Core.Collectives;

namespace Normalization.Bench;

/// <summary><c>sync-check</c>: shows that a batch spread over ranks is trained on as one process would.</summary>
internal static class SyncCheckCommand
{
    private const int DefaultReplicas = 4;

    private static readonly Option<long> Replicas = Options.Whole(
        "--replicas", "K", 1, 64, "Run in this process with K replicas, a thread each. Default, unless started by mpirun or srun, 4.");

    private static readonly Option<double> Deadline = Options.Real(
        "--deadline", "s", 0.1, 3600, "How long a rank waits for the others before the run is ended. Default 20.");

    private static readonly Option<Fault> Simulate = Options.Choice<Fault>(
        "--simulate", "Make one rank die or stall in the midst of training, or come with another shape, to see the run end. Default none.");

    private static readonly Option<long> SimulateRank = Options.Whole("--simulate-rank", "R", 0, int.MaxValue, "Which rank. Default the last.");

    public static Verb Create()
    {
        var command = new Command("sync-check", "Checks batches spread over ranks (MPI processes or threads) against one process.")
        {
            Replicas, Deadline, Simulate, SimulateRank,
        };
        command.SetAction(Run);
        return new Verb(
            command,
            $"""
            Spreads a batch unevenly over the ranks, one of four and more without any sample, and holds forward, backward and ten training
            steps of synchronized batch normalization against batch normalization of the whole batch in one process: float to 1e-5 of the
            largest value, double to 1e-12. Prints the errors, and bytes and time of every kind of collective.

            A rank that dies or does not come, or two that disagree on a shape, end the run with 1 and are named. Needs Open MPI to
            run over processes (Debian: openmpi-bin); docs/distributed.md has the launch lines.

            {ExitCodes.Legend}
            """,
            [
                "sync-check --replicas 4",
                "sync-check --replicas 3 --simulate shape",
            ]);
    }

    private static int Run(ParseResult parse)
    {
        TimeSpan deadline = TimeSpan.FromSeconds(parse.ValueOr(Deadline, MpiCollective.DefaultDeadline.TotalSeconds));
        if (!MpiCollective.IsLaunched)
        {
            return RunThreads((int)parse.ValueOr(Replicas, DefaultReplicas), deadline, parse);
        }

        return parse.Has(Replicas)
            ? throw new UsageException("--replicas runs in one process, but mpirun or srun has started several; leave out one of the two.")
            : RunProcesses(deadline, parse);
    }

    private static int RunThreads(int replicas, TimeSpan deadline, ParseResult parse)
    {
        int wrong = FaultyRank(parse, replicas);
        Console.WriteLine($"replicas of this process, a thread each{(parse.Has(Replicas) ? "" : "; mpirun makes them processes")}");
        IReadOnlyList<InProcessCollective> ranks = InProcessCollective.CreateGroup(replicas, deadline);
        var failures = new Exception?[replicas];
        bool passed = false;
        Thread[] threads = [.. ranks.Select(rank => new Thread(() => RunThread(rank)) { IsBackground = true })];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        // One that stalls is left behind: it is a background thread.
        for (int rank = 0; rank < replicas; rank++)
        {
            if (rank != wrong || parse.GetValue(Simulate) != Fault.Stall)
            {
                threads[rank].Join();
            }
        }

        // What went wrong on one rank is why the others were left.
        int cause = Array.FindIndex(failures, failure => failure is not null and not CollectiveException);
        cause = cause < 0 ? Array.FindIndex(failures, failure => failure is not null) : cause;
        if (cause >= 0)
        {
            string who = failures[cause] is CollectiveException ? "" : string.Create(CultureInfo.InvariantCulture, $"rank {cause}: ");
            Console.Error.WriteLine($"error: {who}{Text.OneLine(failures[cause]!.Message)}");
            return ExitCodes.Failed;
        }

        return passed ? ExitCodes.Success : ExitCodes.Failed;

        void RunThread(InProcessCollective collective)
        {
            try
            {
                bool agrees = new SyncCheck(collective, collective.Rank == wrong ? parse.GetValue(Simulate) : Fault.None, Console.WriteLine).Run();
                if (collective.Rank == 0)
                {
                    passed = agrees;
                }

            }
            catch (Exception failure)
            {
                failures[collective.Rank] = failure;
                collective.Leave(failure.Message);
            }
        }
    }

    private static int RunProcesses(TimeSpan deadline, ParseResult parse)
    {
        MpiCollective collective;
        try
        {
            collective = MpiCollective.Start(deadline);
        }
        catch (NotSupportedException missing)
        {
            throw new UsageException(missing.Message);
        }

        try
        {
            int wrong = FaultyRank(parse, collective.Size);
            if (collective.Rank == 0)
            {
                Console.WriteLine($"processes over {collective.Version}");
            }

            bool passed = new SyncCheck(collective, collective.Rank == wrong ? parse.GetValue(Simulate) : Fault.None, Console.WriteLine).Run();
            collective.Dispose();
            return passed ? ExitCodes.Success : ExitCodes.Failed;
        }
        catch (Exception failure) when (failure is CollectiveException or UsageException)
        {
            // The same on every rank: said once.
            if (collective.Rank == 0)
            {
                Console.Error.WriteLine($"error: {Text.OneLine(failure.Message)}");
            }

            collective.Dispose();
            return failure is UsageException ? ExitCodes.Usage : ExitCodes.Failed;
        }
        catch (Exception failure)
        {
            collective.Abort(Text.OneLine(failure.Message));
            return ExitCodes.Failed;
        }
    }

    private static int FaultyRank(ParseResult parse, int ranks)
    {
        long rank = parse.ValueOr(SimulateRank, ranks - 1);
        if (rank >= ranks)
        {
            throw new UsageException($"--simulate-rank must be one of the ranks 0 to {ranks - 1}; got '{rank}'");
        }

        return parse.Has(SimulateRank) && parse.GetValue(Simulate) == Fault.None
            ? throw new UsageException("--simulate-rank says which rank is to go wrong, and nothing is: give --simulate too.")
            : (int)rank;
    }
}
