using Normalization.Bench.Experiments;
using Normalization.Core.Comparison;

namespace Normalization.Tests.Bench.Experiments;

[TestClass]
public sealed class DistortionsTests
{
    private const int Height = 20;
    private const int Width = 24;
    private const double Down = 3;
    private const double Right = -2;
    private const double MiddleRow = (Height - 1) / 2.0;
    private const double MiddleColumn = (Width - 1) / 2.0;

    // Bilinear interpolation is exact on a plane, so a turned and shifted plane is a plane: its slope turned, its value at the centre moved by the shift.
    [TestMethod]
    public void TurnAndShift_Plane_IsTurnedAndShiftedWithinTheLimits()
    {
        Distortion distortion = Distortions.TurnAndShift(15, 2);
        var random = new RandomStream(1, "plane");
        var angles = new List<double>();
        var centres = new List<double>();
        for (int draw = 0; draw < 40; draw++)
        {
            float[] image = Plane(Down, Right);
            distortion(image, Height, Width, random);
            double down = image[(11 * Width) + 12] - image[(10 * Width) + 12];
            double right = image[(10 * Width) + 13] - image[(10 * Width) + 12];
            Assert.AreEqual(Math.Sqrt((Down * Down) + (Right * Right)), Math.Sqrt((down * down) + (right * right)), 1e-4, "the slope's length stays");
            double angle = Math.Atan2(right, down) - Math.Atan2(Right, Down);
            double centre = image[(10 * Width) + 12] - ((10 - MiddleRow) * down) - ((12 - MiddleColumn) * right);
            for (int row = 6; row < Height - 6; row++)
            {
                for (int column = 6; column < Width - 6; column++)
                {
                    Assert.AreEqual(centre + ((row - MiddleRow) * down) + ((column - MiddleColumn) * right), image[(row * Width) + column], 1e-3, $"row {row}, column {column}");
                }
            }

            angles.Add(angle * 180 / Math.PI);
            centres.Add(centre);
        }

        Assert.IsTrue(angles.TrueForAll(angle => Math.Abs(angle) <= 15.01));
        Assert.IsGreaterThan(10, angles.Max());
        Assert.IsLessThan(-10, angles.Min());

        // The plane is 0 at the centre; a shift by up to 2 along both axes brings there what was up to 2 sqrt(2) away.
        double most = 2 * Math.Sqrt(2) * Math.Sqrt((Down * Down) + (Right * Right));
        Assert.IsTrue(centres.TrueForAll(centre => Math.Abs(centre) <= most));
        Assert.IsGreaterThan(most / 3, centres.Max());
        Assert.IsLessThan(-most / 3, centres.Min());
    }

    [TestMethod]
    public void TurnAndShift_LimitsOfZero_LeavesTheImage()
    {
        float[] image = Plane(1, 7);
        Distortions.TurnAndShift(0, 0)(image, Height, Width, new RandomStream(2, "none"));
        CollectionAssert.AreEqual(Plane(1, 7), image);
    }

    [TestMethod]
    public void TurnAndShift_ConstantImage_StaysConstantUpToTheBorder()
    {
        var image = new float[Height * Width];
        Array.Fill(image, -0.4f);
        Distortions.TurnAndShift(30, 4)(image, Height, Width, new RandomStream(3, "constant"));
        foreach (float pixel in image)
        {
            Assert.AreEqual(-0.4f, pixel, 1e-6f);
        }
    }

    private static float[] Plane(double down, double right) =>
        [.. from row in Enumerable.Range(0, Height) from column in Enumerable.Range(0, Width) select (float)(((row - MiddleRow) * down) + ((column - MiddleColumn) * right))];
}
