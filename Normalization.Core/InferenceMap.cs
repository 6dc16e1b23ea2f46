using System.Numerics;

namespace Normalization.Core;

/// <summary>What a normalizer with constant statistics computes at every position: y = Matrix (x - Center) + Shift, in double.</summary>
/// <param name="Group">d: channels are mapped in consecutive blocks of d, 1 where each is by itself.</param>
/// <param name="Matrix">By channel its row of d, the weight included: (C, d).</param>
/// <param name="Center">What is subtracted first, (C).</param>
/// <param name="Shift">The bias, (C); zeros where there is none.</param>
internal sealed record InferenceMap(int Group, double[] Matrix, double[] Center, double[] Shift)
{
    /// <summary>C.</summary>
    public int Channels => Center.Length;

    /// <summary>The map with a layer's weight and bias put in; empty spans stand for none.</summary>
    public static InferenceMap Create<T>(int group, double[] matrix, ReadOnlySpan<double> center, ReadOnlySpan<T> weight, ReadOnlySpan<T> bias)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var shift = new double[center.Length];
        for (int c = 0; c < shift.Length; c++)
        {
            shift[c] = bias.IsEmpty ? 0 : double.CreateTruncating(bias[c]);
            for (int k = 0; k < group && !weight.IsEmpty; k++)
            {
                matrix[(c * group) + k] *= double.CreateTruncating(weight[c]);
            }
        }

        return new InferenceMap(group, matrix, center.ToArray(), shift);
    }
}
