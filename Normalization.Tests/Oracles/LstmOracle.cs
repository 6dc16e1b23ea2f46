namespace Normalization.Tests.Oracles;

/// <summary>
/// The LSTM cell from its definition: double, plain loops over steps, samples and units, the gradient written out by the chain rule. Shares
/// nothing with the cell. Arrays are indexed [t][n][unit]; gates are in the order i, f, g, o.
/// </summary>
internal sealed class LstmOracle(string normalization, int inputs, int hidden, int maximumSteps)
{
    private static readonly string[] Norms = ["norm_ih", "norm_hh", "norm_c"];
    private readonly Dictionary<string, double[][][]> _values = [];
    private readonly Dictionary<(string Norm, int Step), double[]> _inverseStd = [];
    private int _steps;
    private int _samples;
    private int _firstStep;

    public bool Training { get; set; } = true;

    /// <summary>In training too, the population's statistics normalize, as constants.</summary>
    public bool Frozen { get; set; }

    public double Epsilon { get; set; } = 1e-5;

    public double Momentum { get; set; } = 0.05;

    public bool StoresSampleVariance { get; set; }

    public Dictionary<string, double[]> Parameters { get; } = [];

    public Dictionary<string, double[]> Gradients { get; } = [];

    /// <summary>By norm and step: mean, variance and how often they were updated.</summary>
    public Dictionary<(string Norm, int Step), (double[] Mean, double[] Variance, int Count)> Population { get; } = [];

    /// <summary>After Forward the last h and c, after Backward the gradients of the first.</summary>
    public double[][] H { get; private set; } = [];

    public double[][] C { get; private set; } = [];

    public void StartPopulation()
    {
        foreach (string norm in normalization == "batch" ? Norms : [])
        {
            for (int t = 0; t < maximumSteps; t++)
            {
                Population[(norm, t)] = (new double[Width(norm)], [.. Enumerable.Repeat(1.0, Width(norm))], 0);
            }
        }
    }

    public double[][][] Forward(double[][][] x, bool[][] mask, double[][] h, double[][] c, int firstStep)
    {
        _steps = x.Length;
        _samples = h.Length;
        _firstStep = firstStep;
        foreach (string name in new[] { "x", "hPrevious", "cPrevious", "a", "aHat", "e", "eHat", "gates", "c", "cHat", "q", "active" })
        {
            _values[name] = [.. Enumerable.Range(0, _steps).Select(_ => new double[_samples][])];
        }

        h = Copy(h);
        c = Copy(c);
        var output = new double[_steps][][];
        for (int t = 0; t < _steps; t++)
        {
            int[] rows = [.. Enumerable.Range(0, _samples).Where(n => mask[t][n])];
            foreach (int n in rows)
            {
                Of("active", t)[n] = [1];
                Of("x", t)[n] = [.. x[t][n]];
                Of("hPrevious", t)[n] = [.. h[n]];
                Of("cPrevious", t)[n] = [.. c[n]];
                Of("a", t)[n] = Times("weight_hh", h[n]);
                Of("e", t)[n] = Times("weight_ih", x[t][n]);
            }

            Normalize("norm_hh", t, rows, "a", "aHat");
            Normalize("norm_ih", t, rows, "e", "eHat");
            foreach (int n in rows)
            {
                var gates = new double[4 * hidden];
                for (int k = 0; k < gates.Length; k++)
                {
                    double z = (Scale("norm_hh", k) * Of("aHat", t)[n][k]) + (Scale("norm_ih", k) * Of("eHat", t)[n][k]) + Parameters["bias"][k];
                    gates[k] = k >= 2 * hidden && k < 3 * hidden ? Math.Tanh(z) : 1 / (1 + Math.Exp(-z));
                }

                Of("gates", t)[n] = gates;
                Of("c", t)[n] = [.. Enumerable.Range(0, hidden).Select(j => (gates[hidden + j] * c[n][j]) + (gates[j] * gates[(2 * hidden) + j]))];
            }

            Normalize("norm_c", t, rows, "c", "cHat");
            foreach (int n in rows)
            {
                double[] shift = Parameters.GetValueOrDefault("norm_c.bias", new double[hidden]);
                Of("q", t)[n] = [.. Enumerable.Range(0, hidden).Select(j => Math.Tanh((Scale("norm_c", j) * Of("cHat", t)[n][j]) + shift[j]))];
                c[n] = [.. Of("c", t)[n]];
                h[n] = [.. Enumerable.Range(0, hidden).Select(j => Of("gates", t)[n][(3 * hidden) + j] * Of("q", t)[n][j])];
            }

            output[t] = Copy(h);
        }

        H = h;
        C = c;
        return output;
    }

    public double[][][] Backward(double[][][] outputGradient, double[][] dh, double[][] dc)
    {
        foreach ((string name, double[] values) in Parameters)
        {
            Gradients[name] = new double[values.Length];
        }

        dh = Copy(dh);
        dc = Copy(dc);
        var dx = new double[_steps][][];
        for (int t = _steps - 1; t >= 0; t--)
        {
            dx[t] = [.. Enumerable.Range(0, _samples).Select(_ => new double[inputs])];
            var ds = new double[_samples][];
            var dz = new double[_samples][];
            int[] rows = [.. Enumerable.Range(0, _samples).Where(n => Of("active", t)[n] is not null)];
            for (int n = 0; n < _samples; n++)
            {
                for (int j = 0; j < hidden; j++)
                {
                    dh[n][j] += outputGradient[t][n][j];
                }
            }

            foreach (int n in rows)
            {
                ds[n] = new double[hidden];
                dz[n] = new double[4 * hidden];
                for (int j = 0; j < hidden; j++)
                {
                    double o = Of("gates", t)[n][(3 * hidden) + j];
                    double q = Of("q", t)[n][j];
                    ds[n][j] = dh[n][j] * o * (1 - (q * q));
                    dz[n][(3 * hidden) + j] = dh[n][j] * q * o * (1 - o);
                }
            }

            double[][] fromOutput = Differentiate("norm_c", t, rows, "cHat", ds);
            foreach (int n in rows)
            {
                for (int j = 0; j < hidden; j++)
                {
                    double[] gates = Of("gates", t)[n];
                    (double i, double f, double g) = (gates[j], gates[hidden + j], gates[(2 * hidden) + j]);
                    dc[n][j] += fromOutput[n][j];
                    dz[n][j] = dc[n][j] * g * i * (1 - i);
                    dz[n][hidden + j] = dc[n][j] * Of("cPrevious", t)[n][j] * f * (1 - f);
                    dz[n][(2 * hidden) + j] = dc[n][j] * i * (1 - (g * g));
                    dc[n][j] *= f;
                }

                for (int k = 0; k < 4 * hidden; k++)
                {
                    Gradients["bias"][k] += dz[n][k];
                }
            }

            double[][] da = Differentiate("norm_hh", t, rows, "aHat", dz);
            double[][] de = Differentiate("norm_ih", t, rows, "eHat", dz);
            foreach (int n in rows)
            {
                Array.Clear(dh[n]);
                for (int k = 0; k < 4 * hidden; k++)
                {
                    for (int j = 0; j < hidden; j++)
                    {
                        dh[n][j] += Parameters["weight_hh"][(k * hidden) + j] * da[n][k];
                        Gradients["weight_hh"][(k * hidden) + j] += da[n][k] * Of("hPrevious", t)[n][j];
                    }

                    for (int j = 0; j < inputs; j++)
                    {
                        dx[t][n][j] += Parameters["weight_ih"][(k * inputs) + j] * de[n][k];
                        Gradients["weight_ih"][(k * inputs) + j] += de[n][k] * Of("x", t)[n][j];
                    }
                }
            }
        }

        H = dh;
        C = dc;
        return dx;
    }

    private bool IsConstant => normalization == "batch" && (Frozen || !Training);

    private double[][] Of(string name, int t) => _values[name][t];

    private int Width(string norm) => norm == "norm_c" ? hidden : 4 * hidden;

    private double Scale(string norm, int unit) => normalization == "none" ? 1 : Parameters[norm + ".weight"][unit];

    private double[] Times(string weight, double[] vector)
    {
        var product = new double[4 * hidden];
        for (int k = 0; k < product.Length; k++)
        {
            for (int j = 0; j < vector.Length; j++)
            {
                product[k] += Parameters[weight][(k * vector.Length) + j] * vector[j];
            }
        }

        return product;
    }

    private void Normalize(string norm, int t, int[] rows, string source, string target)
    {
        int width = Width(norm);
        foreach (int n in rows)
        {
            Of(target, t)[n] = [.. Of(source, t)[n]];
        }

        if (normalization == "layer")
        {
            var inverse = new double[_samples];
            foreach (int n in rows)
            {
                double[] row = Of(target, t)[n];
                double mean = row.Sum() / width;
                double variance = row.Sum(value => (value - mean) * (value - mean)) / width;
                inverse[n] = 1 / Math.Sqrt(variance + Epsilon);
                for (int k = 0; k < width; k++)
                {
                    row[k] = (row[k] - mean) * inverse[n];
                }
            }

            _inverseStd[(norm, t)] = inverse;
        }
        else if (normalization == "batch" && rows.Length > 0)
        {
            int last = -1;
            for (int step = 0; step < maximumSteps; step++)
            {
                last = Population[(norm, step)].Count > 0 ? step : last;
            }

            (string, int) key = (norm, IsConstant ? Math.Min(_firstStep + t, Math.Max(last, 0)) : _firstStep + t);
            (double[] runningMean, double[] runningVariance, int count) = Population[key];
            var inverse = new double[width];
            for (int k = 0; k < width; k++)
            {
                double mean = runningMean[k];
                double variance = runningVariance[k];
                if (!IsConstant)
                {
                    mean = rows.Sum(n => Of(source, t)[n][k]) / rows.Length;
                    variance = rows.Sum(n => Math.Pow(Of(source, t)[n][k] - mean, 2)) / rows.Length;
                    double stored = StoresSampleVariance ? variance * rows.Length / (rows.Length - 1) : variance;
                    runningMean[k] = ((1 - Momentum) * runningMean[k]) + (Momentum * mean);
                    runningVariance[k] = ((1 - Momentum) * runningVariance[k]) + (Momentum * stored);
                }

                inverse[k] = 1 / Math.Sqrt(variance + Epsilon);
                foreach (int n in rows)
                {
                    Of(target, t)[n][k] = (Of(source, t)[n][k] - mean) * inverse[k];
                }
            }

            Population[key] = (runningMean, runningVariance, IsConstant ? count : count + 1);
            _inverseStd[(norm, t)] = inverse;
        }
    }

    // K* of the weighted gradient over the normalization's sets; adds to its weight's and bias's gradients.
    private double[][] Differentiate(string norm, int t, int[] rows, string normalized, double[][] gradient)
    {
        if (normalization == "none")
        {
            return gradient;
        }

        int width = Width(norm);
        var result = new double[_samples][];
        foreach (int n in rows)
        {
            result[n] = new double[width];
            for (int k = 0; k < width; k++)
            {
                Gradients[norm + ".weight"][k] += gradient[n][k] * Of(normalized, t)[n][k];
                if (norm == "norm_c")
                {
                    Gradients["norm_c.bias"][k] += gradient[n][k];
                }
            }
        }

        foreach (int n in rows)
        {
            for (int k = 0; k < width; k++)
            {
                double inverse = _inverseStd[(norm, t)][normalization == "layer" ? n : k];
                double own = Scale(norm, k) * gradient[n][k];
                if (IsConstant)
                {
                    result[n][k] = inverse * own;
                    continue;
                }

                double sum = 0, product = 0;
                int size = normalization == "layer" ? width : rows.Length;
                for (int i = 0; i < size; i++)
                {
                    (int row, int unit) = normalization == "layer" ? (n, i) : (rows[i], k);
                    double weighted = Scale(norm, unit) * gradient[row][unit];
                    sum += weighted / size;
                    product += weighted * Of(normalized, t)[row][unit] / size;
                }

                result[n][k] = inverse * (own - sum - (Of(normalized, t)[n][k] * product));
            }
        }

        return result;
    }

    private static double[][] Copy(double[][] rows) => Array.ConvertAll(rows, row => (double[])row.Clone());
}
