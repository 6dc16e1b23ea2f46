using Normalization.Core.Collectives;

namespace Normalization.Tests.Support;

/// <summary>Ranks of this process, each on a thread of its own.</summary>
internal static class Ranks
{
    /// <summary>Runs one action for each rank.</summary>
    /// <returns>By rank: what it threw, or null.</returns>
    public static Exception?[] Run(int count, Action<InProcessCollective> action, TimeSpan? deadline = null)
    {
        IReadOnlyList<InProcessCollective> ranks = InProcessCollective.CreateGroup(count, deadline ?? TimeSpan.FromSeconds(20));
        var failures = new Exception?[count];
        Thread[] threads = [.. ranks.Select(rank => new Thread(() => RunOne(rank)) { IsBackground = true })];
        Array.ForEach(threads, thread => thread.Start());
        Assert.IsTrue(threads.All(thread => thread.Join(TimeSpan.FromSeconds(60))), "a rank did not end");
        return failures;

        void RunOne(InProcessCollective rank)
        {
            failures[rank.Rank] = Record(() => action(rank));
            if (failures[rank.Rank] is { } failure)
            {
                rank.Leave(failure.Message);
            }
        }
    }

    /// <summary>Runs one action for each rank and fails where one throws.</summary>
    public static void RunWell(int count, Action<InProcessCollective> action)
    {
        Exception? failure = Run(count, action).Where(each => each is not null).MinBy(each => each is CollectiveException);
        Assert.IsNull(failure, failure?.ToString());
    }

    public static Exception? Record(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (Exception failure)
        {
            return failure;
        }
    }
}
