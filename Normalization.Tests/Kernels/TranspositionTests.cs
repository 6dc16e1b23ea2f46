using Normalization.Core.Kernels;
using Normalization.Tests.Support;

namespace Normalization.Tests.Kernels;

[TestClass]
public sealed unsafe class TranspositionTests
{
    // Whole blocks of eight by four and four by eight, and every rest beside them.
    private static readonly int[] Sizes = [1, 3, 4, 5, 7, 8, 9, 12, 13, 18, 33];

    [TestMethod]
    public void Copy_AnySize_ExchangesRowsAndColumnsAndTouchesNothingElse()
    {
        foreach (int rows in Sizes)
        {
            foreach (int columns in Sizes)
            {
                Check<float>(rows, columns, pitch: columns, destinationPitch: rows);
                Check<float>(rows, columns, pitch: columns + 3, destinationPitch: rows + 5);
                Check<double>(rows, columns, pitch: columns + 1, destinationPitch: rows + 2);
            }
        }
    }

    private static void Check<T>(int rows, int columns, int pitch, int destinationPitch)
        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
    {
        string what = $"{typeof(T).Name}, {rows} x {columns}, pitches {pitch} and {destinationPitch}";
        double[] values = TestData.Normal(rows, rows * pitch);
        T[] source = Array.ConvertAll(values, value => T.CreateChecked(value));
        T[] destination = new T[columns * destinationPitch];
        destination.AsSpan().Fill(T.NaN);
        fixed (T* from = source, to = destination)
        {
            Transposition.Copy(from, rows, columns, pitch, to, destinationPitch);
        }

        for (int i = 0; i < destination.Length; i++)
        {
            int column = i / destinationPitch;
            int row = i % destinationPitch;
            T expected = row < rows ? source[(row * pitch) + column] : T.NaN;
            Assert.IsTrue(expected.Equals(destination[i]), $"{what}: [{column}, {row}] is {destination[i]}, not {expected}");
        }
    }
}
