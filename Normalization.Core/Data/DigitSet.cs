namespace Normalization.Core;

/// <summary>Grey images of the digits 0 to 9 with their labels.</summary>
public sealed class DigitSet
{
    private static readonly string[] Parts = ["train", "t10k"];

    private readonly byte[] _pixels;
    private readonly byte[] _labels;

    /// <summary>Makes a set of images in memory.</summary>
    /// <param name="height">H, at least 1.</param>
    /// <param name="width">W, at least 1.</param>
    /// <param name="pixels">(N, H, W), row-major; 0 is paper, 255 full ink. Kept, not copied.</param>
    /// <param name="labels">(N), each 0 to 9, or empty for images without labels. Kept, not copied.</param>
    /// <param name="source">Where the images come from, in a few words for reports.</param>
    /// <exception cref="ArgumentException">The lengths do not fit each other, or a label is above 9.</exception>
    public DigitSet(int height, int width, byte[] pixels, byte[] labels, string source)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(height);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);
        ArgumentNullException.ThrowIfNull(pixels);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentException.ThrowIfNullOrEmpty(source);
        Count = (int)(pixels.Length / ((long)height * width));
        if ((Int128)Count * height * width != pixels.Length || (labels.Length != 0 && labels.Length != Count))
        {
            throw new ArgumentException(
                $"{pixels.Length} pixels are not {(labels.Length == 0 ? "whole" : labels.Length)} images of {height} x {width}.", nameof(pixels));
        }

        int wrong = labels.AsSpan().IndexOfAnyExceptInRange((byte)0, (byte)9);
        if (wrong >= 0)
        {
            throw new ArgumentException($"Labels are the digits 0 to 9; label {wrong} is {labels[wrong]}.", nameof(labels));
        }

        Height = height;
        Width = width;
        Source = source;
        _pixels = pixels;
        _labels = labels;
    }

    /// <summary>N, the number of images.</summary>
    public int Count { get; }

    /// <summary>H, in pixels.</summary>
    public int Height { get; }

    /// <summary>W, in pixels.</summary>
    public int Width { get; }

    /// <summary>Where the images come from, in a few words for reports.</summary>
    public string Source { get; }

    /// <summary>All images, (N, H, W) row-major; 0 is paper, 255 full ink.</summary>
    public ReadOnlySpan<byte> Pixels => _pixels;

    /// <summary>The digits, (N), each 0 to 9; empty where there are no labels.</summary>
    public ReadOnlySpan<byte> Labels => _labels;

    /// <summary>One image, (H, W) row-major.</summary>
    /// <param name="index">0 to N - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such image.</exception>
    public ReadOnlySpan<byte> Image(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Count);
        return _pixels.AsSpan(index * Height * Width, Height * Width);
    }

    /// <summary>Reads MNIST's files: the training set, or where its images are missing the test set.</summary>
    /// <param name="directory">Holds <c>train-images-idx3-ubyte</c> and <c>train-labels-idx1-ubyte</c> (or <c>t10k-</c>), gzipped or
    /// not; <c>train-images.idx3-ubyte</c> and the like are read too.</param>
    /// <param name="needsLabels">Whether images without a file of labels beside them are refused. Labels that are there are read and checked either way.</param>
    /// <param name="part">train or t10k to read that set alone; null for the first that is there.</param>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="FileNotFoundException">The folder lacks the images or their labels; the message lists the names looked for.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, or images and labels do not belong together.</exception>
    public static DigitSet Load(string directory, bool needsLabels = true, string? part = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string[] parts = part is null ? Parts : [part];
        string[] looked = [.. parts.SelectMany(one => Names(one, "images", 3))];
        if (!Directory.Exists(directory))
        {
            throw new DirectoryNotFoundException($"There is no folder '{directory}'. It should hold MNIST's files, one of: {string.Join(", ", looked)}.");
        }

        foreach (string one in parts)
        {
            if (Find(directory, Names(one, "images", 3)) is not { } images)
            {
                continue;
            }

            IdxFile pixels = LoadImages(images);
            string[] labelNames = Names(one, "labels", 1);
            if (Find(directory, labelNames) is { } labels)
            {
                return Join(images, pixels, labels);
            }

            return needsLabels
                ? throw new FileNotFoundException($"'{images}' has no labels beside it; looked for {string.Join(", ", labelNames)}.")
                : new DigitSet(pixels.Dimensions[1], pixels.Dimensions[2], pixels.Values, [], Path.GetFileName(images));
        }

        throw new FileNotFoundException($"The folder '{directory}' holds no digit images; looked for {string.Join(", ", looked)}.");
    }

    private static IdxFile LoadImages(string path)
    {
        IdxFile images = IdxFile.Load(path);
        return images.Dimensions is [> 0, > 0, > 0]
            ? images
            : throw new InvalidDataException(
                $"{path}: images have three axes (N, H, W), none empty; this file has ({string.Join(", ", images.Dimensions.ToArray())}).");
    }

    private static DigitSet Join(string imagesPath, IdxFile images, string labelsPath)
    {
        IdxFile labels = IdxFile.Load(labelsPath);
        if (labels.Dimensions is not [int count] || count != images.Dimensions[0])
        {
            throw new InvalidDataException(
                $"{labelsPath} has labels of shape ({string.Join(", ", labels.Dimensions.ToArray())}) for the {images.Dimensions[0]} images of {imagesPath}; " +
                "there must be one for each. The two files are of different sets.");
        }

        int wrong = labels.Values.AsSpan().IndexOfAnyExceptInRange((byte)0, (byte)9);
        return wrong < 0
            ? new DigitSet(images.Dimensions[1], images.Dimensions[2], images.Values, labels.Values, Path.GetFileName(imagesPath))
            : throw new InvalidDataException($"{labelsPath}: labels are the digits 0 to 9; label {wrong} is {labels.Values[wrong]}.");
    }

    private static string[] Names(string part, string kind, int rank) =>
    [
        $"{part}-{kind}-idx{rank}-ubyte", $"{part}-{kind}-idx{rank}-ubyte.gz",
        $"{part}-{kind}.idx{rank}-ubyte", $"{part}-{kind}.idx{rank}-ubyte.gz",
    ];

    private static string? Find(string directory, string[] names) =>
        names.Select(name => Path.Combine(directory, name)).FirstOrDefault(File.Exists);
}
