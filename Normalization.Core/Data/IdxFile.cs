using System.Buffers.Binary;
using System.IO.Compression;

namespace Normalization.Core;

/// <summary>An array of bytes read from an IDX file, the format of MNIST, gzipped or not.</summary>
/// <remarks>
/// The format: two zero bytes, a byte for the element type (0x08: unsigned byte, the only one read here), a byte for the number
/// of axes, each axis length as a big-endian 32-bit integer, the values row-major. Source: yann.lecun.com/exdb/mnist.
/// </remarks>
public sealed class IdxFile
{
    private readonly int[] _dimensions;

    private IdxFile(int[] dimensions, byte[] values)
    {
        _dimensions = dimensions;
        Values = values;
    }

    /// <summary>Axis lengths: (N) for labels, (N, H, W) for images.</summary>
    public ReadOnlySpan<int> Dimensions => _dimensions;

    /// <summary>The values, row-major; as many as the product of <see cref="Dimensions"/>.</summary>
    public byte[] Values { get; }

    /// <summary>Reads a file; whether it is gzipped is told by its first bytes, not by its name.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is not IDX of unsigned bytes, cut off, too long or damaged; the message names file, offset and value.</exception>
    /// <exception cref="IOException">The file is missing or not readable.</exception>
    /// <exception cref="UnauthorizedAccessException">The path is a folder, or reading it is not allowed.</exception>
    public static IdxFile Load(string path)
    {
        using FileStream file = File.OpenRead(path);
        Span<byte> start = stackalloc byte[2];
        bool compressed = file.ReadAtLeast(start, 2, throwOnEndOfStream: false) == 2 && start is [0x1F, 0x8B];
        file.Position = 0;
        if (!compressed)
        {
            return Read(new Source(path, file));
        }

        using var content = new GZipStream(file, CompressionMode.Decompress);
        return Read(new Source(path, content));
    }

    private static IdxFile Read(Source source)
    {
        Span<byte> magic = stackalloc byte[4];
        source.ReadAll(magic);
        if (magic is not [0, 0, _, > 0])
        {
            throw source.Error(0, $"the magic number is 0x{Convert.ToHexString(magic)}; an IDX file has 0x00000801 (labels) or 0x00000803 (images)");
        }

        if (magic[2] != 0x08)
        {
            throw source.Error(2, $"the element type is 0x{magic[2]:X2}; only 0x08, unsigned bytes, can be read");
        }

        Span<byte> length = stackalloc byte[sizeof(int)];
        var dimensions = new int[magic[3]];
        long count = 1;
        for (int axis = 0; axis < dimensions.Length; axis++)
        {
            source.ReadAll(length);
            uint value = BinaryPrimitives.ReadUInt32BigEndian(length);
            count *= value;
            if (value > int.MaxValue || count > Array.MaxLength)
            {
                throw source.Error(
                    source.Offset - sizeof(int), $"with the length {value} of axis {axis} the file would hold more than {Array.MaxLength} values, which is not supported");
            }

            dimensions[axis] = (int)value;
        }

        byte[] values = source.ReadGrowing((int)count);
        Span<byte> surplus = stackalloc byte[1];
        if (source.Read(surplus) > 0)
        {
            throw source.Error(source.Offset - 1, $"the header announces {count} values, which end here, but more bytes follow");
        }

        return new IdxFile(dimensions, values);
    }

    /// <summary>A stream that knows its file's name and how far it was read, for the messages.</summary>
    private sealed class Source(string path, Stream content)
    {
        /// <summary>Bytes read so far, after decompression.</summary>
        public long Offset { get; private set; }

        public InvalidDataException Error(long offset, string fault, Exception? cause = null) => new($"{path}, offset {offset}: {fault}.", cause);

        public int Read(Span<byte> destination)
        {
            int read;
            try
            {
                read = content.Read(destination);
            }
            catch (InvalidDataException exception)
            {
                throw Error(Offset, $"the gzip data is damaged or cut off ({exception.Message.TrimEnd('.')}); fetch the file again", exception);
            }

            Offset += read;
            return read;
        }

        public void ReadAll(Span<byte> destination)
        {
            int wanted = destination.Length;
            while (!destination.IsEmpty)
            {
                int read = Read(destination);
                if (read == 0)
                {
                    throw Error(Offset, $"the file ends here, {destination.Length} bytes short of the {wanted} that the header needs; it is cut off");
                }

                destination = destination[read..];
            }
        }

        /// <summary>Reads so many bytes into an array that grows as they come, so that a false count costs no memory.</summary>
        public byte[] ReadGrowing(int count)
        {
            var values = new byte[Math.Min(count, 1 << 20)];
            int filled = 0;
            while (filled < count)
            {
                if (filled == values.Length)
                {
                    Array.Resize(ref values, (int)Math.Min(count, 2L * filled));
                }

                int read = Read(values.AsSpan(filled));
                if (read == 0)
                {
                    throw Error(Offset, $"the file ends here, after {filled} of the {count} values that its header announces; it is cut off");
                }

                filled += read;
            }

            return values;
        }
    }
}
