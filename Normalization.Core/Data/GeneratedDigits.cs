namespace Normalization.Core;

/// <summary>Handwriting-like digits drawn from a table of strokes, for runs without a data set.</summary>
/// <remarks>
/// Each image takes one form of its digit, bends it by a smooth random displacement, slants, turns and stretches it, and draws it
/// with a round pen of random width. Only +, -, *, / and square roots in double are used, which IEEE 754 fixes to the bit, so the
/// same seed gives the same bytes on every machine.
/// </remarks>
public static class GeneratedDigits
{
    /// <summary>H and W, in pixels, as MNIST's.</summary>
    public const int Size = 28;

    private const int PointsPerSpan = 8;
    private const int FieldSize = 5;

    // Bound of each grid vector's components, in glyph heights. With it the nearest class mean is right as often as on MNIST
    // (84 % and 81 %).
    private const double Displacement = 0.2;

    // Pixels from the middle of the stroke's edge to full ink or to paper.
    private const double Softness = 0.6;

    // digit, form, stroke, then x, y, x, y ... in percent of the glyph's height, y downwards. A stroke is a smooth curve
    // through its points; a corner is where two strokes meet.
    private static readonly int[][][][] Forms =
    [
        [
            [[52, 1, 24, 13, 12, 50, 24, 87, 50, 100, 76, 87, 88, 50, 77, 14, 48, 1]],
            [[60, 6, 36, 4, 17, 30, 18, 72, 40, 99, 68, 90, 83, 56, 74, 16, 44, 6]],
        ],
        [
            [[50, 0, 50, 50, 50, 100]],
            [[56, 0, 50, 50, 47, 100]],
            [[34, 20, 46, 12, 54, 0], [54, 0, 52, 50, 52, 100]],
            [[34, 20, 46, 12, 54, 0], [54, 0, 52, 50, 52, 100], [30, 100, 52, 99, 76, 100]],
        ],
        [
            [[12, 22, 28, 4, 58, 0, 80, 20, 68, 48, 40, 74, 10, 99], [10, 99, 50, 97, 90, 97]],
            [[14, 18, 38, 0, 70, 8, 76, 34, 54, 66, 28, 94, 10, 92, 14, 78, 34, 80, 60, 98, 92, 92]],
        ],
        [
            [[14, 12, 40, 0, 70, 8, 72, 32, 40, 46], [40, 46, 74, 54, 82, 78, 54, 100, 10, 90]],
            [[14, 4, 46, 3, 78, 2], [78, 2, 60, 20, 42, 40], [42, 40, 74, 48, 82, 76, 52, 99, 10, 90]],
            [[16, 10, 44, 0, 72, 12, 68, 34, 46, 46, 50, 48, 76, 58, 80, 82, 50, 100, 12, 88]],
        ],
        [
            [[22, 2, 16, 28, 18, 50], [18, 50, 50, 54, 90, 48], [76, 4, 70, 50, 66, 100]],
            [[64, 0, 36, 34, 8, 66], [8, 66, 50, 65, 92, 63], [64, 0, 64, 50, 63, 100]],
            [[26, 2, 16, 30, 22, 50, 48, 54, 74, 42], [78, 4, 74, 42, 70, 100]],
        ],
        [
            [[82, 2, 54, 3, 28, 4], [28, 4, 25, 22, 22, 44], [22, 44, 50, 36, 78, 50, 80, 80, 50, 100, 12, 92]],
            [[30, 2, 26, 24, 22, 42], [22, 42, 50, 38, 76, 54, 76, 82, 46, 100, 12, 90], [30, 3, 56, 4, 86, 0]],
        ],
        [
            [[72, 2, 42, 16, 20, 50, 20, 84, 46, 100, 74, 90, 78, 66, 54, 54, 28, 64, 20, 80]],
            [[58, 0, 34, 28, 22, 66, 32, 94, 56, 98, 74, 80, 66, 60, 44, 60, 26, 78]],
        ],
        [
            [[10, 6, 50, 5, 88, 4], [88, 4, 62, 46, 46, 100]],
            [[10, 6, 50, 5, 88, 4], [88, 4, 62, 46, 46, 100], [34, 54, 56, 52, 80, 50]],
            [[12, 22, 14, 10, 20, 4], [20, 4, 52, 6, 86, 2], [86, 2, 68, 44, 58, 100]],
        ],
        [
            [[74, 14, 48, 0, 24, 16, 46, 44, 76, 74, 52, 100, 22, 80, 46, 48, 72, 26, 70, 10]],
            [[48, 46, 24, 30, 28, 8, 52, 0, 74, 12, 72, 34, 48, 46, 22, 64, 22, 88, 50, 100, 78, 88, 76, 62, 48, 46]],
        ],
        [
            [[74, 16, 50, 0, 22, 16, 24, 44, 50, 50, 74, 20], [74, 20, 72, 60, 66, 100]],
            [[76, 14, 50, 0, 20, 18, 24, 46, 52, 48, 76, 18], [76, 18, 76, 62, 58, 94, 24, 94]],
            [[72, 8, 42, 2, 22, 26, 34, 48, 60, 40, 74, 10], [74, 10, 66, 52, 48, 100]],
        ],
    ];

    private static readonly Point[][][] Curves = [.. Forms.Select(forms => forms.Select(Flatten).ToArray())];

    /// <summary>Draws digits.</summary>
    /// <param name="count">N, at least 1.</param>
    /// <param name="seed">Image i depends on the seed and i alone, so a shorter set is the beginning of a longer one.</param>
    /// <returns>N images of 28 x 28 with labels that are random too, about a tenth of each.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The count is below 1, or the images exceed the largest array.</exception>
    public static DigitSet Generate(int count, int seed)
    {
        int largest = Array.MaxLength / (Size * Size);
        if (count < 1 || count > largest)
        {
            throw new ArgumentOutOfRangeException(nameof(count), count, $"The number of images must be 1 to {largest}; got {count}.");
        }

        var pixels = new byte[count * Size * Size];
        var labels = new byte[count];
        for (int i = 0; i < count; i++)
        {
            var random = new Stream64(seed, i);
            labels[i] = (byte)random.Below(Curves.Length);
            Point[][] forms = Curves[labels[i]];
            Point[] curve = Bend(forms[random.Below(forms.Length)], ref random);
            double penRadius = random.Between(0.85, 1.75);
            Place(curve, penRadius, ref random);
            Draw(curve, penRadius, pixels.AsSpan(i * Size * Size, Size * Size));
        }

        return new DigitSet(Size, Size, pixels, labels, $"drawn by the built-in digit generator, seed {seed}");
    }

    /// <summary>Points along smooth curves (Catmull-Rom) through the strokes' points, in glyph heights around the centre.</summary>
    private static Point[] Flatten(int[][] strokes)
    {
        var points = new List<Point>();
        foreach (int[] stroke in strokes)
        {
            int last = (stroke.Length / 2) - 1;
            for (int step = 0; step <= last * PointsPerSpan; step++)
            {
                int span = Math.Min(step / PointsPerSpan, last - 1);
                double t = ((double)step / PointsPerSpan) - span;
                points.Add(new Point(Along(0), Along(1), Starts: step == 0));

                double Along(int axis)
                {
                    double p0 = At(span - 1);
                    double p1 = At(span);
                    double p2 = At(span + 1);
                    double p3 = At(span + 2);
                    return p1 + (0.5 * t * (p2 - p0 + (t * ((2 * p0) - (5 * p1) + (4 * p2) - p3 + (t * ((3 * (p1 - p2)) + p3 - p0))))));

                    // Beyond an end the stroke is prolonged straight.
                    double At(int index) => index < 0 ? (2 * Value(0)) - Value(1) : index > last ? (2 * Value(last)) - Value(last - 1) : Value(index);

                    double Value(int index) => (stroke[(2 * index) + axis] - 50) / 100.0;
                }
            }
        }

        return [.. points];
    }

    /// <summary>A smooth random displacement, then a random slant, turn and width.</summary>
    private static Point[] Bend(Point[] curve, ref Stream64 random)
    {
        Span<double> field = stackalloc double[2 * FieldSize * FieldSize];
        foreach (ref double value in field)
        {
            value = random.Between(-Displacement, Displacement);
        }

        double slant = random.Between(-0.15, 0.4);
        double width = random.Between(0.7, 1.15);

        // A rotation without sine and cosine: (1 - t^2, 2t) / (1 + t^2) is the unit vector of the angle 2 atan t.
        double t = random.Between(-0.1, 0.1);
        double cosine = (1 - (t * t)) / (1 + (t * t));
        double sine = 2 * t / (1 + (t * t));

        var bent = new Point[curve.Length];
        for (int i = 0; i < curve.Length; i++)
        {
            (double dx, double dy) = DisplacementAt(field, curve[i].X, curve[i].Y);
            double x = (width * (curve[i].X + dx)) - (slant * (curve[i].Y + dy));
            double y = curve[i].Y + dy;
            bent[i] = curve[i] with { X = (cosine * x) - (sine * y), Y = (sine * x) + (cosine * y) };
        }

        return bent;
    }

    /// <summary>A uniform cubic B-spline over a grid of random vectors, two cells a side.</summary>
    private static (double X, double Y) DisplacementAt(ReadOnlySpan<double> field, double x, double y)
    {
        Span<double> weightsX = stackalloc double[4];
        Span<double> weightsY = stackalloc double[4];
        int column = SplineWeights(x, weightsX);
        int row = SplineWeights(y, weightsY);
        double dx = 0;
        double dy = 0;
        for (int j = 0; j < 4; j++)
        {
            for (int i = 0; i < 4; i++)
            {
                int node = 2 * (((row + j) * FieldSize) + column + i);
                dx += weightsX[i] * weightsY[j] * field[node];
                dy += weightsX[i] * weightsY[j] * field[node + 1];
            }
        }

        return (dx, dy);
    }

    /// <summary>The cell (0 or 1) of a coordinate from -0.5 to 0.5, and the weights of the four nodes from there on.</summary>
    private static int SplineWeights(double coordinate, Span<double> weights)
    {
        double position = 2 * (coordinate + 0.5);
        int cell = position < 1 ? 0 : 1;
        double t = position - cell;
        double s = 1 - t;
        weights[0] = s * s * s / 6;
        weights[1] = ((3 * t * t * (t - 2)) + 4) / 6;
        weights[2] = ((3 * s * s * (s - 2)) + 4) / 6;
        weights[3] = t * t * t / 6;
        return cell;
    }

    /// <summary>To pixels, in place: the longer side fitted to about 19 pixels, the ink's centre near the image's, as MNIST has it.</summary>
    private static void Place(Point[] curve, double penRadius, ref Stream64 random)
    {
        double left = curve.Min(point => point.X);
        double right = curve.Max(point => point.X);
        double top = curve.Min(point => point.Y);
        double bottom = curve.Max(point => point.Y);
        double scale = (random.Between(17.5, 20.5) - (2 * penRadius)) / Math.Max(right - left, bottom - top);

        double length = 0;
        double sumX = 0;
        double sumY = 0;
        for (int i = 1; i < curve.Length; i++)
        {
            if (!curve[i].Starts)
            {
                double dx = curve[i].X - curve[i - 1].X;
                double dy = curve[i].Y - curve[i - 1].Y;
                double piece = Math.Sqrt((dx * dx) + (dy * dy));
                length += piece;
                sumX += piece * (curve[i].X + curve[i - 1].X) / 2;
                sumY += piece * (curve[i].Y + curve[i - 1].Y) / 2;
            }
        }

        double margin = penRadius + Softness;
        double shiftX = Shift(sumX / length, left, right, random.Between(-1.5, 1.5));
        double shiftY = Shift(sumY / length, top, bottom, random.Between(-1.5, 1.5));
        for (int i = 0; i < curve.Length; i++)
        {
            curve[i] = curve[i] with { X = (scale * curve[i].X) + shiftX, Y = (scale * curve[i].Y) + shiftY };
        }

        double Shift(double centre, double low, double high, double jitter) =>
            Math.Clamp((Size / 2.0) + jitter - (scale * centre), margin - (scale * low), Size - margin - (scale * high));
    }

    /// <summary>Ink by the distance of a pixel's centre from the curve, with a soft edge.</summary>
    private static void Draw(Point[] curve, double penRadius, Span<byte> image)
    {
        Span<double> distances = stackalloc double[Size * Size];
        distances.Fill(double.PositiveInfinity);
        double reach = penRadius + Softness;
        for (int i = 1; i < curve.Length; i++)
        {
            if (curve[i].Starts)
            {
                continue;
            }

            (double ax, double ay, _) = curve[i - 1];
            double dx = curve[i].X - ax;
            double dy = curve[i].Y - ay;
            double squaredLength = Math.Max((dx * dx) + (dy * dy), 1e-12);
            int lastRow = Math.Min(Size - 1, (int)(Math.Max(ay, ay + dy) + reach));
            int lastColumn = Math.Min(Size - 1, (int)(Math.Max(ax, ax + dx) + reach));
            int firstColumn = Math.Max(0, (int)(Math.Min(ax, ax + dx) - reach));
            for (int row = Math.Max(0, (int)(Math.Min(ay, ay + dy) - reach)); row <= lastRow; row++)
            {
                for (int column = firstColumn; column <= lastColumn; column++)
                {
                    double x = column + 0.5 - ax;
                    double y = row + 0.5 - ay;
                    double along = Math.Clamp(((x * dx) + (y * dy)) / squaredLength, 0, 1);
                    x -= along * dx;
                    y -= along * dy;
                    ref double distance = ref distances[(row * Size) + column];
                    distance = Math.Min(distance, (x * x) + (y * y));
                }
            }
        }

        for (int i = 0; i < image.Length; i++)
        {
            double coverage = (reach - Math.Sqrt(distances[i])) / (2 * Softness);
            image[i] = (byte)(255 * Math.Clamp(coverage, 0, 1));
        }
    }

    private readonly record struct Point(double X, double Y, bool Starts);

    /// <summary>SplitMix64: small, with a stream of its own for each pair of numbers.</summary>
    private struct Stream64(int seed, int index)
    {
        private ulong _state = Mix(Mix((uint)seed) + (uint)index);

        /// <summary>A number from low to high, high excluded.</summary>
        public double Between(double low, double high) => low + ((high - low) * (Next() >> 11) / (1UL << 53));

        /// <summary>A whole number from 0 to count - 1; for small counts the bias is below 2^-60.</summary>
        public int Below(int count) => (int)Math.BigMul(Next(), (ulong)count, out _);

        private static ulong Mix(ulong value)
        {
            value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
            value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
            return value ^ (value >> 31);
        }

        private ulong Next() => Mix(_state += 0x9E3779B97F4A7C15);
    }
}
