using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Normalization.Core.Kernels;

/// <summary>Copies of matrices with rows and columns exchanged.</summary>
internal static unsafe class Transposition
{
    /// <summary>destination (columns x rows) = source (rows x columns)^T.</summary>
    /// <param name="source">The matrix.</param>
    /// <param name="rows">Its rows.</param>
    /// <param name="columns">Its columns.</param>
    /// <param name="pitch">Elements from one of its rows to the next.</param>
    /// <param name="destination">Where the transposed matrix goes; apart from the source.</param>
    /// <param name="destinationPitch">Elements from one row of the transposed matrix to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Copy<T>(T* source, nint rows, nint columns, nint pitch, T* destination, nint destinationPitch)
        where T : unmanaged
    {
        nint row = 0;
        if (typeof(T) == typeof(float) && Avx.IsSupported)
        {
            for (; row <= rows - 8; row += 8)
            {
                T* from = source + (row * pitch);
                T* to = destination + row;
                nint column = 0;
                for (; column <= columns - 4; column += 4, from += 4, to += 4 * destinationPitch)
                {
                    EightByFour((float*)from, pitch, (float*)to, destinationPitch);
                }

                Rest(from, 8, columns - column, pitch, to, destinationPitch);
            }

            for (; row <= rows - 4 && columns >= 8; row += 4)
            {
                T* from = source + (row * pitch);
                T* to = destination + row;
                nint column = 0;
                for (; column <= columns - 8; column += 8, from += 8, to += 8 * destinationPitch)
                {
                    FourByEight((float*)from, pitch, (float*)to, destinationPitch);
                }

                Rest(from, 4, columns - column, pitch, to, destinationPitch);
            }
        }

        Rest(source + (row * pitch), rows - row, columns, pitch, destination + row, destinationPitch);
    }

    private static void Rest<T>(T* source, nint rows, nint columns, nint pitch, T* destination, nint destinationPitch)
        where T : unmanaged
    {
        nint row = 0;
        for (; row <= rows - 4; row += 4)
        {
            T* from = source + (row * pitch);
            T* to = destination + row;
            for (nint column = 0; column < columns; column++, from++, to += destinationPitch)
            {
                to[0] = from[0];
                to[1] = from[pitch];
                to[2] = from[2 * pitch];
                to[3] = from[3 * pitch];
            }
        }

        for (; row < rows; row++)
        {
            for (nint column = 0; column < columns; column++)
            {
                destination[(column * destinationPitch) + row] = source[(row * pitch) + column];
            }
        }
    }

    // Rows 0 to 3 in the lower halves of four vectors, rows 4 to 7 in the upper.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void EightByFour(float* source, nint pitch, float* destination, nint destinationPitch)
    {
        float* other = source + (4 * pitch);
        Vector256<float> a = Vector256.Create(Vector128.Load(source), Vector128.Load(other));
        Vector256<float> b = Vector256.Create(Vector128.Load(source + pitch), Vector128.Load(other + pitch));
        Vector256<float> c = Vector256.Create(Vector128.Load(source + (2 * pitch)), Vector128.Load(other + (2 * pitch)));
        Vector256<float> d = Vector256.Create(Vector128.Load(source + (3 * pitch)), Vector128.Load(other + (3 * pitch)));
        Exchange(ref a, ref b, ref c, ref d);
        a.Store(destination);
        b.Store(destination + destinationPitch);
        c.Store(destination + (2 * destinationPitch));
        d.Store(destination + (3 * destinationPitch));
    }

    // Columns 0 to 3 in the lower halves, columns 4 to 7 in the upper.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void FourByEight(float* source, nint pitch, float* destination, nint destinationPitch)
    {
        Vector256<float> a = Vector256.Load(source);
        Vector256<float> b = Vector256.Load(source + pitch);
        Vector256<float> c = Vector256.Load(source + (2 * pitch));
        Vector256<float> d = Vector256.Load(source + (3 * pitch));
        Exchange(ref a, ref b, ref c, ref d);
        float* other = destination + (4 * destinationPitch);
        a.GetLower().Store(destination);
        b.GetLower().Store(destination + destinationPitch);
        c.GetLower().Store(destination + (2 * destinationPitch));
        d.GetLower().Store(destination + (3 * destinationPitch));
        a.GetUpper().Store(other);
        b.GetUpper().Store(other + destinationPitch);
        c.GetUpper().Store(other + (2 * destinationPitch));
        d.GetUpper().Store(other + (3 * destinationPitch));
    }

    // Transposes the 4 x 4 matrix in the lower halves of four rows, and that in the upper.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Exchange(ref Vector256<float> a, ref Vector256<float> b, ref Vector256<float> c, ref Vector256<float> d)
    {
        Vector256<double> lower = Avx.UnpackLow(a, b).AsDouble();
        Vector256<double> upper = Avx.UnpackHigh(a, b).AsDouble();
        Vector256<double> otherLower = Avx.UnpackLow(c, d).AsDouble();
        Vector256<double> otherUpper = Avx.UnpackHigh(c, d).AsDouble();
        a = Avx.UnpackLow(lower, otherLower).AsSingle();
        b = Avx.UnpackHigh(lower, otherLower).AsSingle();
        c = Avx.UnpackLow(upper, otherUpper).AsSingle();
        d = Avx.UnpackHigh(upper, otherUpper).AsSingle();
    }
}
