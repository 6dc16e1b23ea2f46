using System.Numerics;
using System.Numerics.Tensors;
using Normalization.Core.Kernels;

namespace Normalization.Bench.Models;

/// <summary>The three products of a linear map from rows of K inputs to rows of O outputs, by the kernel that whitening uses.</summary>
/// <remarks>
/// Results come in whole blocks: O and K rounded up to <see cref="Pitch"/>, rows to a multiple of eight. Operands are read in whole
/// blocks too, so rows, gradients and weights need memory behind them that may be read (see <see cref="Activations{T}"/>).
/// </remarks>
internal static unsafe class RowProducts<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>Columns rounded up to whole blocks.</summary>
    public static nint Pitch(nint columns) => (columns + Product.Width<T>() - 1) / Product.Width<T>() * Product.Width<T>();

    /// <summary>Elements of a result with so many rows and columns.</summary>
    public static nint Size(nint rows, nint columns) => Product.PaddedRows(rows) * Pitch(columns);

    /// <summary>rows (count x K, pitch apart) times the weights' transpose (K x O, at <see cref="Pitch"/>): count x O at <see cref="Pitch"/>.</summary>
    public static void Outputs(T* rows, nint pitch, nint count, nint inputs, T* weightsByInput, nint outputs, T* result) =>
        Product.Set(result, Pitch(outputs), count, outputs, inputs, new LeftOperand<T>(rows, pitch, 1), weightsByInput, Pitch(outputs));

    /// <summary>rows (count x K, dense) times the weights' transpose (weights O x K, dense), plus the bias where there is one, into dense rows (count x O).</summary>
    /// <remarks>By way of the transposes, y^T = W x^T: nothing is read beyond the operands.</remarks>
    public static void OutputsOfTurned(T* rows, nint count, nint inputs, T* weights, nint outputs, T* bias, T* dense)
    {
        nint pitch = Pitch(count);
        NativeScratch scratch = NativeScratch.Begin(((inputs * pitch) + Size(outputs, count) + (Product.Rows * inputs)) * sizeof(T));
        T* turned = scratch.Take<T>(inputs * pitch);
        T* result = scratch.Take<T>(Size(outputs, count));
        T* rest = scratch.Take<T>(Product.Rows * inputs);
        Transposition.Copy(rows, count, inputs, inputs, turned, pitch);
        Product.ClearPadding(turned, inputs, count, pitch, 1, Product.Width<T>());

        // Weights have no memory behind them that may be read: the last of them are copied to where there is.
        nint whole = outputs / Product.Rows * Product.Rows;
        new ReadOnlySpan<T>(weights + (whole * inputs), (int)((outputs - whole) * inputs)).CopyTo(new Span<T>(rest, (int)(Product.Rows * inputs)));
        Product.ClearPadding(rest, outputs - whole, inputs, inputs, Product.Rows, 1);
        Product.Set(result, pitch, whole, count, inputs, new LeftOperand<T>(weights, inputs, 1), turned, pitch);
        Product.Set(result + (whole * pitch), pitch, outputs - whole, count, inputs, new LeftOperand<T>(rest, inputs, 1), turned, pitch);
        Transposition.Copy(result, outputs, count, pitch, dense, outputs);
        for (nint row = 0; row < count && bias != null; row++)
        {
            var sums = new Span<T>(dense + (row * outputs), (int)outputs);
            TensorPrimitives.Add(sums, new ReadOnlySpan<T>(bias, (int)outputs), sums);
        }
    }

    /// <summary>The weights' gradient g^T rows: O x K at <see cref="Pitch"/>, from gradients g (count x O, dense) and the rows.</summary>
    public static void WeightGradient(T* gradients, nint outputs, T* rows, nint pitch, nint count, nint inputs, T* result) =>
        Product.Set(result, Pitch(inputs), outputs, inputs, count, new LeftOperand<T>(gradients, 1, outputs), rows, pitch);

    /// <summary>The rows' gradient g W: count x K at <see cref="Pitch"/>, from gradients (count x O, dense) and weights (O x K, at <see cref="Pitch"/>).</summary>
    public static void InputGradient(T* gradients, nint outputs, nint count, T* weights, nint inputs, T* result) =>
        Product.Set(result, Pitch(inputs), count, inputs, outputs, new LeftOperand<T>(gradients, outputs, 1), weights, Pitch(inputs));

    /// <summary>Copies rows at <see cref="Pitch"/> into dense ones and adds the bias, where there is one.</summary>
    public static void Finish(T* padded, nint rows, int columns, T* bias, T* dense)
    {
        nint pitch = Pitch(columns);
        for (nint row = 0; row < rows; row++, padded += pitch, dense += columns)
        {
            var from = new ReadOnlySpan<T>(padded, columns);
            var to = new Span<T>(dense, columns);
            if (bias == null)
            {
                from.CopyTo(to);
            }
            else
            {
                TensorPrimitives.Add(from, new ReadOnlySpan<T>(bias, columns), to);
            }
        }
    }
}
