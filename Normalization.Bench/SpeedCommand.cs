using System.CommandLine;
using System.IO.Enumeration;
using Normalization.Bench.Speed;
using Normalization.Core;
using Normalization.Core.Reporting;

namespace Normalization.Bench;

/// <summary><c>speed</c>: times the strategies beside the memory copy and what people use today.</summary>
internal static class SpeedCommand
{
    private const string All = "all";

    private static readonly Option<TierName> Tier = Options.Choice<TierName>(
        "--tier", "How long: dry under a minute, short 10 to 15 minutes, full 70 minutes, each on 2 cores. Default dry.");

    private static readonly Option<IReadOnlyList<string>> PeersOption = Options.Names("--peers", "peer", [All, .. Peers.Ids],
        $"Beside whom: all, or some of {string.Join(", ", Peers.Ids)}. Default all that are installed; one that is named must be.");

    private static readonly Option<string?> Python = Options.Path(
        "--python", "PATH", "The Python interpreter that imports torch. Default the first of python3 and /usr/bin/python3 that does.");

    private static readonly Option<string?> Filter = Options.Pattern(
        "--filter", "GLOB", "Only cases whose id (strategy/direction/shape/layout/threads) matches; * stands for anything.");

    private static readonly Option<long> Threads = Options.Whole("--threads", "N", 1, KernelThreads.Maximum, "Times on this many threads alone. Default 1; short and full 1 and 2.");

    private static readonly Option<long> Seed = Options.Whole("--seed", "N", 0, long.MaxValue, "Where all randomness comes from. Default 1.");

    /// <summary>Finds a peer, or says why it is missing.</summary>
    internal delegate IPeer? FindPeer(string id, out string? missing);

    private enum TierName
    {
        Dry,
        Short,
        Full,
    }

    public static Verb Create()
    {
        var command = new Command("speed", "Times the strategies beside a memory copy, PyTorch, oneDNN and TensorPrimitives and writes a report.")
        {
            Tier, PeersOption, Python, Filter, Threads, Seed, RecordedRun.Out, RecordedRun.Resume,
        };
        command.SetAction(Run);
        return new Verb(
            command,
            $"""
            Every result is checked before it is timed; contestants take turns round by round. Prints which cells lose to the fastest
            peer and the path of index.html. PyTorch comes with Debian's python3-torch, oneDNN with libdnnl2.

            {ExitCodes.Legend}
            """,
            [
                "speed",
                "speed --tier short --out reports/speed",
                "speed --filter 'batch-norm/*/32x64x56x56/*' --peers pytorch,onednn",
                "speed --resume reports/speed",
            ]);
    }

    private static int Run(ParseResult parse)
    {
        var recorded = new RecordedRun(parse);
        SpeedTier tier = SpeedTier.All[(int)parse.ValueOr(Tier, TierName.Dry)];
        if (parse.Has(Threads))
        {
            tier = tier with { Threads = [(int)parse.GetValue(Threads)] };
        }

        string? filter = parse.GetValue(Filter);
        IReadOnlyList<SpeedCase> cases = Select(tier.Cases, filter);
        long seed = parse.ValueOr(Seed, 1);
        PeerSeat[] peers = Seat(
            parse.ValueOr(PeersOption, [All]),
            (string id, out string? missing) =>
            {
                IPeer? peer = Peers.Find(id, parse.GetValue(Python), out missing);
                return peer is null && id == Peers.PyTorch && parse.Has(Python) ? throw new UsageException(missing!) : peer;
            });
        try
        {
            var bench = new SpeedBench(tier, cases, peers, seed, Path.Combine(recorded.Directory, "benchmarkdotnet"));
            string[] commandLine = Environment.GetCommandLineArgs();
            RunHeader header = bench.Describe(
                RunEnvironment.Capture(commandLine[0], commandLine[1..], seed, tier.Threads.Max()), filter is null ? [] : [new("filter", filter)]);
            foreach (PeerSeat seat in peers.Where(seat => seat.Peer is null))
            {
                Console.Error.WriteLine(seat.Missing);
            }

            return recorded.Execute(header, [.. cases.Select(Plan)], $", {tier.Name} tier", bench.Run, (run, files) => Summary.Print(run, files, SpeedSummary.Lines(run)));
        }
        finally
        {
            foreach (PeerSeat seat in peers)
            {
                seat.Peer?.Dispose();
            }
        }
    }

    /// <summary>The cases whose id matches.</summary>
    internal static IReadOnlyList<SpeedCase> Select(IReadOnlyList<SpeedCase> cases, string? filter)
    {
        SpeedCase[] selected = [.. cases.Where(planned => filter is null || FileSystemName.MatchesSimpleExpression(filter, planned.Id, ignoreCase: false))];
        return selected.Length > 0 ? selected
            : throw new UsageException(
                $"--filter '{filter}' matches none of {cases.Count} cases; their ids are like {cases[0].Id}, {cases[cases.Count / 2].Id}, {cases[^1].Id}.");
    }

    /// <summary>The peers asked for: with all, those that are not installed are stated; one that is named must be there.</summary>
    internal static PeerSeat[] Seat(IReadOnlyList<string> named, FindPeer find)
    {
        bool all = named.Contains(All);
        var seats = new List<PeerSeat>();
        foreach (string id in Peers.Ids.Where(id => all || named.Contains(id)))
        {
            IPeer? peer = find(id, out string? missing);
            if (peer is null && !all)
            {
                seats.ForEach(seat => seat.Peer?.Dispose());
                throw new UsageException(missing!);
            }

            seats.Add(new PeerSeat(id, peer, missing));
        }

        return [.. seats];
    }

    private static PlannedCase Plan(SpeedCase planned)
    {
        string group = planned.IsCrossCheck ? "BenchmarkDotNet"
            : planned.Scaling is not null ? $"scaling {planned.Shape}"
            : $"{planned.Shape}, {planned.Threads} thread{(planned.Threads == 1 ? "" : "s")}";

        // About what a case takes: a part of its own, and its tensor's; BenchmarkDotNet builds a program.
        double cost = planned.IsCrossCheck ? 30 : 1 + (planned.Shape.Count * (planned.HasPeers ? 1e-6 : 3e-7));
        return new PlannedCase(planned.Id, group, cost);
    }
}
