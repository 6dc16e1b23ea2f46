using Normalization.Core;
using Normalization.Core.Kernels;

namespace Normalization.Tests.Kernels;

/// <summary>Every element is read, whatever lengths are left over.</summary>
[TestClass]
[DoNotParallelize]
public sealed class ReadJobTests
{
    [TestMethod]
    [DataRow(0, 1)]
    [DataRow(1, 1)]
    [DataRow(63, 1)]
    [DataRow(64, 1)]
    [DataRow(65_536, 1)]
    [DataRow(200_003, 1)]
    [DataRow(200_003, 2)]
    public unsafe void Run_Lengths_SumEveryElementOnce(int count, int threads)
    {
        int before = KernelThreads.Count;
        KernelThreads.Count = threads;
        try
        {
            // Small whole numbers: float holds their sums in any order.
            float[] values = [.. Enumerable.Range(0, count + 1).Select(i => (float)(i % 7))];
            values[count] = float.NaN;
            fixed (float* source = values)
            {
                Assert.AreEqual(Enumerable.Range(0, count).Sum(i => i % 7), ReadJob.Run(source, count));
            }
        }
        finally
        {
            KernelThreads.Count = before;
        }
    }
}
