using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Normalization.Core.Kernels;

/// <summary>A sum spread over the work team: what reading memory costs, with next to no arithmetic.</summary>
internal unsafe struct ReadJob : IPieceJob
{
    private const nint PieceElements = 1 << 16;
    private float* _source;
    private float* _sums; // by piece
    private nint _count;

    /// <summary>The sum, in float, in an order of its own.</summary>
    public static float Run(float* source, nint count)
    {
        int pieces = checked((int)((count + PieceElements - 1) / PieceElements));
        float* sums = NativeScratch.Begin(pieces * sizeof(float)).Take<float>(pieces);
        var job = new ReadJob { _source = source, _sums = sums, _count = count };
        WorkTeam.Run(ref job, pieces, count);
        float total = 0;
        for (int piece = 0; piece < pieces; piece++)
        {
            total += sums[piece];
        }

        return total;
    }

    // Four sums at a time: one would wait for its own addition before memory.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Run(int piece)
    {
        const int Lanes = 16;
        nint start = piece * PieceElements;
        nint length = Math.Min(PieceElements, _count - start);
        float* x = _source + start;
        Vector512<float> a = default, b = default, c = default, d = default;
        nint i = 0;
        for (; i <= length - (4 * Lanes); i += 4 * Lanes)
        {
            a += Vector512.Load(x + i);
            b += Vector512.Load(x + i + Lanes);
            c += Vector512.Load(x + i + (2 * Lanes));
            d += Vector512.Load(x + i + (3 * Lanes));
        }

        float sum = Vector512.Sum((a + b) + (c + d));
        for (; i < length; i++)
        {
            sum += x[i];
        }

        _sums[piece] = sum;
    }
}
