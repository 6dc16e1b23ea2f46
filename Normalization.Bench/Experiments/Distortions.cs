namespace Normalization.Bench.Experiments;

/// <summary>Ways to change an image that leave its label true.</summary>
internal static class Distortions
{
    /// <summary>Turns an image about its centre and shifts it, each by an even draw, with bilinear interpolation; beyond the border its pixels go on.</summary>
    /// <param name="degrees">The largest angle either way.</param>
    /// <param name="pixels">The largest shift either way, along each axis.</param>
    /// <returns>A distortion with memory of its own: for one training.</returns>
    public static Distortion TurnAndShift(double degrees, double pixels)
    {
        float[] source = [];
        return (image, height, width, random) =>
        {
            double angle = Even(degrees) * Math.PI / 180;
            double down = Even(pixels);
            double right = Even(pixels);
            Array.Resize(ref source, image.Length);
            image.CopyTo(source);
            (double sine, double cosine) = Math.SinCos(angle);
            double middleRow = (height - 1) / 2.0;
            double middleColumn = (width - 1) / 2.0;
            for (int row = 0; row < height; row++)
            {
                for (int column = 0; column < width; column++)
                {
                    // Where the pixel comes from: the change undone.
                    double y = row - middleRow - down;
                    double x = column - middleColumn - right;
                    image[(row * width) + column] = Between(source, height, width, middleRow + (cosine * y) - (sine * x), middleColumn + (sine * y) + (cosine * x));
                }
            }

            double Even(double limit) => ((2 * random.NextDouble()) - 1) * limit;
        };
    }

    private static float Between(float[] image, int height, int width, double row, double column)
    {
        row = Math.Clamp(row, 0, height - 1);
        column = Math.Clamp(column, 0, width - 1);
        int top = (int)row;
        int left = (int)column;
        int bottom = Math.Min(top + 1, height - 1);
        int right = Math.Min(left + 1, width - 1);
        float upper = float.Lerp(image[(top * width) + left], image[(top * width) + right], (float)(column - left));
        float lower = float.Lerp(image[(bottom * width) + left], image[(bottom * width) + right], (float)(column - left));
        return float.Lerp(upper, lower, (float)(row - top));
    }
}
