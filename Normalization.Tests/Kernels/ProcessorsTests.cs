using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>Where a thread runs, and keeping it from there for a while; of Linux, with more than one processor.</summary>
[TestClass]
[DoNotParallelize]
public sealed class ProcessorsTests
{
    [TestMethod]
    public void KeepOff_TheProcessorItRunsOn_RunsOnAnotherUntilAllowed()
    {
        OnItsOwnThread(() =>
        {
            int before = Processors.Current;
            Assert.AreEqual(OperatingSystem.IsLinux(), before >= 0);
            if (!Processors.KeepOff(0, before))
            {
                Assert.IsTrue(!OperatingSystem.IsLinux() || Environment.ProcessorCount == 1);
                return;
            }

            for (int i = 0; i < 100; i++)
            {
                Assert.AreNotEqual(before, Processors.Current);
                Thread.Yield();
            }

            Assert.IsFalse(Processors.KeepOff(0, before), "it is kept off already");
            Processors.Allow(before);
            Assert.IsTrue(Processors.KeepOff(0, before), "it was allowed again");
            Processors.Allow(before);
        });
    }

    [TestMethod]
    public void KeepOff_TheOnlyProcessorLeft_ChangesNothing()
    {
        OnItsOwnThread(() =>
        {
            int current = Processors.Current;
            for (int other = 0; other < 1024; other++)
            {
                if (other != current)
                {
                    Processors.KeepOff(0, other);
                }
            }

            if (Processors.Current == current)
            {
                Assert.IsFalse(Processors.KeepOff(0, current));
                Assert.AreEqual(current, Processors.Current);
            }
        });
    }

    [TestMethod]
    [DataRow(-1)]
    [DataRow(1024)]
    [DataRow(int.MaxValue)]
    public void KeepOff_NoSuchProcessor_ChangesNothing(int processor)
    {
        Assert.IsFalse(Processors.KeepOff(0, processor));
        Processors.Allow(processor);
    }

    [TestMethod]
    public void KeepOff_NoSuchThread_ChangesNothing() => Assert.IsFalse(Processors.KeepOff(int.MaxValue, 0));

    // What it may run on ends with it.
    private static void OnItsOwnThread(Action work)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                work();
            }
            catch (Exception exception)
            {
                failure = exception;
            }
        });
        thread.Start();
        thread.Join();
        if (failure is not null)
        {
            throw new InvalidOperationException(failure.Message, failure);
        }
    }
}
