namespace Normalization.Core.Comparison;

/// <summary>A small deterministic generator (xoshiro256**) whose state is derived from a seed and the names of a purpose.</summary>
/// <remarks>
/// Two streams of different purposes are independent, so leaving out one part of a comparison does not change the data of another.
/// Not for cryptography. Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", arXiv:1805.01407.
/// </remarks>
public sealed class RandomStream
{
    private readonly ulong[] _state = new ulong[4];
    private double _spareGaussian = double.NaN;

    /// <summary>Derives a stream.</summary>
    /// <param name="seed">The run's seed.</param>
    /// <param name="purpose">What the numbers are for, such as a scenario's id and "pool"; order matters.</param>
    public RandomStream(long seed, params ReadOnlySpan<string> purpose)
    {
        // FNV-1a over the names; the terminator keeps ("ab", "c") apart from ("a", "bc").
        ulong hash = 14695981039346656037UL;
        foreach (string name in purpose)
        {
            foreach (char letter in name)
            {
                hash = (hash ^ letter) * 1099511628211UL;
            }

            hash = (hash ^ 0xFFFF_FFFFUL) * 1099511628211UL;
        }

        ulong mixer = hash ^ unchecked((ulong)seed * 0x9E3779B97F4A7C15UL);
        for (int word = 0; word < _state.Length; word++)
        {
            // SplitMix64, the seeding that xoshiro's authors recommend: it never yields four zeros.
            mixer += 0x9E3779B97F4A7C15UL;
            ulong z = mixer;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
            _state[word] = z ^ (z >> 31);
        }
    }

    /// <summary>64 random bits.</summary>
    public ulong NextUInt64()
    {
        ulong result = ulong.RotateLeft(_state[1] * 5, 7) * 9;
        ulong shifted = _state[1] << 17;
        _state[2] ^= _state[0];
        _state[3] ^= _state[1];
        _state[1] ^= _state[2];
        _state[0] ^= _state[3];
        _state[2] ^= shifted;
        _state[3] = ulong.RotateLeft(_state[3], 45);
        return result;
    }

    /// <summary>A number uniform in [0, 1), a multiple of 2^-53.</summary>
    public double NextDouble() => (NextUInt64() >> 11) * (1.0 / (1UL << 53));

    /// <summary>An integer uniform in [0, limit).</summary>
    /// <param name="limit">At least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">The limit is below 1.</exception>
    public int NextInt32(int limit)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(limit, 1);
        return (int)Math.BigMul(NextUInt64(), (ulong)limit, out _);
    }

    /// <summary>A standard normal number (polar Box-Muller).</summary>
    public double NextGaussian()
    {
        if (!double.IsNaN(_spareGaussian))
        {
            double spare = _spareGaussian;
            _spareGaussian = double.NaN;
            return spare;
        }

        double u;
        double v;
        double square;
        do
        {
            u = (2 * NextDouble()) - 1;
            v = (2 * NextDouble()) - 1;
            square = (u * u) + (v * v);
        }
        while (square is >= 1 or 0);

        double factor = Math.Sqrt(-2 * Math.Log(square) / square);
        _spareGaussian = v * factor;
        return u * factor;
    }

    /// <summary>Fills a span with standard normal numbers.</summary>
    /// <param name="destination">Receives them.</param>
    public void FillGaussian(Span<double> destination)
    {
        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = NextGaussian();
        }
    }

    /// <summary>A random order of 0 to count - 1.</summary>
    /// <param name="count">At least 0.</param>
    public int[] NextPermutation(int count)
    {
        int[] order = [.. Enumerable.Range(0, count)];
        for (int last = count - 1; last > 0; last--)
        {
            int other = NextInt32(last + 1);
            (order[last], order[other]) = (order[other], order[last]);
        }

        return order;
    }

    /// <summary>A random orthogonal matrix, row-major.</summary>
    /// <param name="size">Rows and columns, at least 1.</param>
    public double[] NextOrthogonal(int size)
    {
        var matrix = new double[size * size];
        FillGaussian(matrix);
        for (int row = 0; row < size; row++)
        {
            Span<double> current = matrix.AsSpan(row * size, size);

            // Gram-Schmidt twice: once leaves errors that grow with the condition of the Gaussian matrix.
            for (int pass = 0; pass < 2; pass++)
            {
                for (int earlier = 0; earlier < row; earlier++)
                {
                    ReadOnlySpan<double> basis = matrix.AsSpan(earlier * size, size);
                    double dot = 0;
                    for (int i = 0; i < size; i++)
                    {
                        dot += basis[i] * current[i];
                    }

                    for (int i = 0; i < size; i++)
                    {
                        current[i] -= dot * basis[i];
                    }
                }
            }

            double norm = 0;
            foreach (double value in current)
            {
                norm += value * value;
            }

            norm = Math.Sqrt(norm);
            for (int i = 0; i < size; i++)
            {
                current[i] /= norm;
            }
        }

        return matrix;
    }
}
