using System.Buffers.Binary;
using System.Text;
using Normalization.Core;
using Normalization.Tests.Support;

namespace Normalization.Tests.State;

[TestClass]
public sealed class SafeTensorsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [TestMethod]
    public void Save_TinyState_WritesExactlyTheseBytes()
    {
        StateDictionary state = new() { { "a", StateTensor.Create<float>([1f], 1) }, { "n", StateTensor.Create<long>([258]) } };
        state.Metadata["by"] = "me";

        state.Save(_folder.File("tiny"));

        // The counter's 8-byte elements go first, though it was added last; the header is 134 letters and two spaces.
        const string Header =
            "{\"__metadata__\":{\"by\":\"me\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}  ";
        byte[] expected = [136, 0, 0, 0, 0, 0, 0, 0, .. Encoding.ASCII.GetBytes(Header), 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3F];
        CollectionAssert.AreEqual(expected, File.ReadAllBytes(_folder.File("tiny")));
    }

    [TestMethod]
    public void Save_AnyNameLength_PadsTheHeaderToEightBytes()
    {
        for (int length = 1; length <= 8; length++)
        {
            new StateDictionary { { new string('x', length), StateTensor.Create<float>([length], 1) } }.Save(_folder.File("f"));
            byte[] file = File.ReadAllBytes(_folder.File("f"));

            Assert.AreEqual(0UL, BinaryPrimitives.ReadUInt64LittleEndian(file) % 8);
            Assert.AreEqual((float)length, BitConverter.ToSingle(file, file.Length - 4));
        }
    }

    [TestMethod]
    public void Save_MixedTypes_AlignsEveryTensorToItsElement()
    {
        StateDictionary state = new()
        {
            { "a", StateTensor.Create<float>([1, 2, 3], 3) }, { "b", StateTensor.Create<double>([4], 1) },
            { "c", StateTensor.Create<float>([5], 1) }, { "d", StateTensor.Create<long>([6]) },
        };

        state.Save(_folder.File("f"));

        string header = Encoding.UTF8.GetString(File.ReadAllBytes(_folder.File("f")));
        StringAssert.Contains(header, "\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[16,28]}");
        StringAssert.Contains(header, "\"b\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}");
        StringAssert.Contains(header, "\"c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[28,32]}");
        StringAssert.Contains(header, "\"d\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[8,16]}");
    }

    [TestMethod]
    public void SaveAndLoad_AllTypesAndShapes_KeepsEverything()
    {
        StateDictionary state = new()
        {
            { "z.weight", StateTensor.Create<float>([1f, float.NaN, -0f, float.Epsilon, float.MaxValue, float.NegativeInfinity], 3, 2) },
            { "scalar", StateTensor.Create<double>([0.1]) },
            { "empty", StateTensor.Create<float>([], 4, 0, 2) },
            { "counter", StateTensor.Create<long>([long.MinValue, long.MaxValue], 2) },
            { "größe \"\\\n\u0001 数", StateTensor.Create<double>([2], 1, 1, 1) },
            { "", StateTensor.Create<double>([3], 1) },
        };
        state.Metadata["z"] = "später";
        state.Metadata["a"] = "";

        state.Save(_folder.File("f"));
        StateDictionary read = StateDictionary.Load(_folder.File("f"));

        CollectionAssert.AreEqual(state.Keys.ToArray(), read.Keys.ToArray());
        foreach ((string name, StateTensor tensor) in state)
        {
            Assert.AreEqual(tensor.ElementType, read[name].ElementType, name);
            CollectionAssert.AreEqual(tensor.Shape.ToArray(), read[name].Shape.ToArray(), name);
            CollectionAssert.AreEqual(tensor.Bytes.ToArray(), read[name].Bytes.ToArray(), name);
        }

        CollectionAssert.AreEqual(state.Metadata.ToArray(), read.Metadata.ToArray());
    }

    [TestMethod]
    public void Save_SameStateTwice_WritesTheSameBytes()
    {
        StateDictionary state = new() { { "b", StateTensor.Create<float>([1, 2], 2) }, { "a", StateTensor.Create<double>([3], 1) } };
        state.Save(_folder.File("1"));
        StateDictionary.Load(_folder.File("1")).Save(_folder.File("2"));

        CollectionAssert.AreEqual(File.ReadAllBytes(_folder.File("1")), File.ReadAllBytes(_folder.File("2")));
    }

    [TestMethod]
    public void SaveAndLoad_EmptyState_IsLegal()
    {
        new StateDictionary().Save(_folder.File("f"));

        Assert.AreEqual(0, StateDictionary.Load(_folder.File("f")).Count);
    }

    [TestMethod]
    public void Save_OverAnOldFile_ReplacesItAndLeavesNothingElse()
    {
        _folder.Write("f", new byte[5000]);

        new StateDictionary { { "a", StateTensor.Create<float>([7], 1) } }.Save(_folder.File("f"));

        Assert.AreEqual(7f, StateDictionary.Load(_folder.File("f"))["a"].ToArray<float>()[0]);
        Assert.AreEqual(1, Directory.GetFileSystemEntries(_folder.Path).Length);
    }

    [TestMethod]
    public void AtomicWrite_FailureHalfWay_LeavesTheOldFileAndNothingElse()
    {
        _folder.Write("f", 1, 2, 3);

        Assert.ThrowsExactly<NotSupportedException>(() => AtomicFile.Write(_folder.File("f"), stream =>
        {
            stream.Write(new byte[100_000]);
            throw new NotSupportedException("half way");
        }));

        CollectionAssert.AreEqual(new byte[] { 1, 2, 3 }, File.ReadAllBytes(_folder.File("f")));
        Assert.AreEqual(1, Directory.GetFileSystemEntries(_folder.Path).Length);
    }

    [TestMethod]
    public void Save_PathIsAFolder_ThrowsAndLeavesNothing()
    {
        Directory.CreateDirectory(_folder.File("f"));

        // Windows refuses it as a matter of permission, others as one of input and output.
        Exception error = Assert.Throws<SystemException>(() => new StateDictionary().Save(_folder.File("f")));

        Assert.IsTrue(error is IOException or UnauthorizedAccessException, error.ToString());
        Assert.AreEqual(1, Directory.GetFileSystemEntries(_folder.Path).Length);
    }

    [TestMethod]
    public void Save_MissingFolder_ThrowsAndNamesIt() => StringAssert.Contains(
        Assert.ThrowsExactly<DirectoryNotFoundException>(() => new StateDictionary().Save(_folder.File("none/f"))).Message, $"'{_folder.File("none")}'");

    [TestMethod]
    public void Load_MissingFile_Throws() =>
        Assert.ThrowsExactly<FileNotFoundException>(() => StateDictionary.Load(_folder.File("none")));

    [TestMethod]
    public void Load_HandWrittenFile_ReadsTensorsInHeaderOrderWhateverTheirOffsets()
    {
        string path = WriteFile(
            "{ \"b\" : {\"shape\":[2], \"data_offsets\":[4,12], \"dtype\":\"F32\"},\n \"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
            + "\"e\":{\"dtype\":\"I64\",\"shape\":[0,3],\"data_offsets\":[4,4]} }   ",
            [0, 0, 0x80, 0x3F, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40]);

        StateDictionary state = StateDictionary.Load(path);

        CollectionAssert.AreEqual(new[] { "b", "a", "e" }, state.Keys.ToArray());
        CollectionAssert.AreEqual(new[] { 2f, 3f }, state["b"].ToArray<float>());
        CollectionAssert.AreEqual(new[] { 1f }, state["a"].ToArray<float>());
        Assert.AreEqual(0, state["e"].Count);
    }

    [TestMethod]
    [DataRow(0)]
    [DataRow(1)]
    [DataRow(7)]
    public void Load_ShorterThanTheHeaderLength_Throws(int length) =>
        AssertRefused(_folder.Write("f", new byte[length]), $"{length} bytes in all");

    [TestMethod]
    [DataRow(9UL, "9 bytes long, but only 8 bytes follow")]
    [DataRow(100_000_000UL, "only 8 bytes follow")]
    [DataRow(100_000_001UL, "100000001 bytes long; the format allows 100000000")]
    [DataRow(ulong.MaxValue, "18446744073709551615 bytes long")]
    [DataRow(1UL << 63, "9223372036854775808 bytes long")]
    public void Load_FalseHeaderLength_Throws(ulong length, string expected)
    {
        var file = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(file, length);
        file.AsSpan(8).Fill((byte)' ');
        file[8] = (byte)'{';
        file[9] = (byte)'}';

        AssertRefused(_folder.Write("f", file), expected);
    }

    [TestMethod]
    public void Load_EveryTruncation_Throws()
    {
        StateDictionary state = new() { { "a", StateTensor.Create<float>([1, 2, 3], 3) }, { "n", StateTensor.Create<long>([4]) } };
        state.Save(_folder.File("whole"));
        byte[] whole = File.ReadAllBytes(_folder.File("whole"));

        for (int length = 0; length < whole.Length; length++)
        {
            string path = _folder.Write("cut", whole.AsSpan(0, length));
            Assert.ThrowsExactly<InvalidDataException>(() => StateDictionary.Load(path), $"{length} bytes");
        }
    }

    [TestMethod]
    public void Load_EveryHeaderByteChanged_ThrowsInvalidDataOrStillTilesTheFile()
    {
        StateDictionary state = new() { { "a", StateTensor.Create<float>([1, 2, 3], 3) }, { "n", StateTensor.Create<long>([4]) } };
        state.Metadata["k"] = "v";
        state.Save(_folder.File("whole"));
        byte[] whole = File.ReadAllBytes(_folder.File("whole"));
        int refused = 0;
        int headerEnd = whole.Length - 20;

        for (int index = 0; index < headerEnd; index++)
        {
            foreach (byte value in "\0\"{}[],:09- \u007F"u8.ToArray().Append((byte)0xFF))
            {
                byte[] changed = [.. whole];
                changed[index] = value;
                try
                {
                    StateDictionary read = StateDictionary.Load(_folder.Write("changed", changed));
                    Assert.AreEqual(20, read.Values.Sum(tensor => tensor.Bytes.Length));
                }
                catch (InvalidDataException)
                {
                    refused++;
                }
            }
        }

        Assert.IsTrue(refused > headerEnd * 8, $"{refused} of {headerEnd * 14} refused");
    }

    [TestMethod]
    [DataRow("", "is empty")]
    [DataRow(" {}", "0x20")]
    [DataRow("[]", "0x5B")]
    [DataRow("\uFEFF{}", "0xEF")]
    [DataRow("{", "not valid JSON")]
    [DataRow("{} x", "not valid JSON")]
    [DataRow("{'a':1}", "not valid JSON")]
    [DataRow("{\"a\":1,}", "not valid JSON")]
    [DataRow("{\"a\":7}", "'a' must be a JSON object; it is 7")]
    [DataRow("{\"a\":null}", "'a' must be a JSON object; it is null")]
    [DataRow("{\"\\ud800\":{}}", "not valid JSON")]
    [DataRow("{\"__metadata__\":[]}", "'__metadata__' must be a JSON object; it is []")]
    [DataRow("{\"__metadata__\":{\"k\":1}}", "'k' must be a string; it is 1")]
    [DataRow("{\"__metadata__\":{\"k\":null}}", "'k' must be a string; it is null")]
    [DataRow("{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}", "'k' stands twice")]
    [DataRow("{\"__metadata__\":{},\"__metadata__\":{}}", "'__metadata__' stands twice")]
    public void Load_HeaderThatIsNoTable_Throws(string header, string expected) => AssertRefused(WriteFile(header, []), expected);

    [TestMethod]
    public void Load_HeaderNotUtf8_Throws()
    {
        byte[] header = [.. "{\"__metadata__\":{\"k\":\""u8, 0xC3, 0x28, .. "\"}}"u8];

        AssertRefused(_folder.Write("f", [(byte)header.Length, 0, 0, 0, 0, 0, 0, 0, .. header]), "UTF-8");
    }

    [TestMethod]
    public void Load_DeeplyNestedHeader_Throws() =>
        AssertRefused(WriteFile("{\"a\":" + new string('[', 100_000), []), "not valid JSON");

    [TestMethod]
    public void Load_DuplicateTensor_Throws()
    {
        const string Entry = "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";

        AssertRefused(WriteFile($"{{{Entry},{Entry}}}", new byte[4]), "'a' stands twice");
        AssertRefused(WriteFile($"{{{Entry},{Entry.Replace("\"a\"", "\"\\u0061\"", StringComparison.Ordinal)}}}", new byte[4]), "'a' stands twice");
    }

    [TestMethod]
    [DataRow("\"shape\":[1],\"data_offsets\":[0,4]", "has no dtype")]
    [DataRow("\"dtype\":\"F32\",\"data_offsets\":[0,4]", "has no shape")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1]", "has no data_offsets")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"strides\":[1]", "has the field 'strides'")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":\"F32\"", "has the field 'dtype' twice")]
    [DataRow("\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]", "has the dtype \"BF16\"")]
    [DataRow("\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]", "has the dtype \"f32\"")]
    [DataRow("\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]", "has the dtype 32")]
    [DataRow("\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]", "has the shape 1;")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]", "has the shape [-1];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[-1,-1],\"data_offsets\":[0,4]", "has the shape [-1,-1];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]", "has the shape [1.0];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[0.5],\"data_offsets\":[0,4]", "has the shape [0.5];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]", "has the shape [\"1\"];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]", "has the shape [[1]];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,4]", "has the shape [9223372036854775808];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]", "overflows 64 bits")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[4294967297,4294967297,0],\"data_offsets\":[0,0]", "overflows 64 bits")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]", "takes 18446744073709551620 bytes")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]", "F32 of shape (2) takes 8 bytes, but its data_offsets [0, 4] span 4")]
    [DataRow("\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,4]", "F64 of shape () takes 8 bytes")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]", "takes 0 bytes")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]", "data_offsets [0, 8], but the file holds 4 bytes")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[500000000],\"data_offsets\":[0,2000000000]", "but the file holds 4 bytes")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]", "has the data_offsets [4,0];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]", "has the data_offsets [-4,0];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]", "has the data_offsets [0];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]", "has the data_offsets [0,4,8];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{}", "has the data_offsets {};")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]", "has the data_offsets [0,4.0];")]
    [DataRow("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,18446744073709551615]", "has the data_offsets [0,18446744073709551615];")]
    public void Load_FalseTensorEntry_ThrowsAndNamesTensorAndValue(string fields, string expected)
    {
        string path = WriteFile($"{{\"layer.weight\":{{{fields}}}}}", new byte[4]);

        AssertRefused(path, expected);
        AssertRefused(path, "'layer.weight'");
    }

    [TestMethod]
    [DataRow("[0,8]", "[4,12]", 12, "'b' overlaps 'a': it begins at data offset 4, which must be 8")]
    [DataRow("[0,8]", "[0,8]", 8, "'b' overlaps 'a'")]
    [DataRow("[0,8]", "[12,20]", 20, "'b' leaves a hole after 'a': it begins at data offset 12, which must be 8")]
    [DataRow("[4,12]", "[12,20]", 20, "'a' leaves a hole after the header")]
    [DataRow("[0,8]", "[8,16]", 19, "3 bytes of data follow 'b' at data offset 16")]
    [DataRow("[8,16]", "[0,8]", 17, "1 bytes of data follow 'a'")]
    public void Load_TensorsThatDoNotTileTheData_Throws(string offsetsOfA, string offsetsOfB, int dataLength, string expected)
    {
        string header = $"{{\"a\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{offsetsOfA}}},\"b\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{offsetsOfB}}}}}";

        AssertRefused(WriteFile(header, new byte[dataLength]), expected);
    }

    [TestMethod]
    public void Load_EmptyTensorInsideAnother_Throws() => AssertRefused(
        WriteFile(
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}", new byte[8]),
        "'e' overlaps 'a'");

    [TestMethod]
    public void Load_DataWithoutTensors_Throws() => AssertRefused(WriteFile("{}", new byte[5]), "5 bytes of data follow the header");

    [TestMethod]
    public void Load_HostileName_IsShownOnOneShortLine()
    {
        string path = WriteFile("{\"\\u001b[31m\\n" + new string('x', 5000) + "\":7}", []);

        string message = Assert.ThrowsExactly<InvalidDataException>(() => StateDictionary.Load(path)).Message;

        Assert.IsFalse(message.Any(char.IsControl), message);
        Assert.IsTrue(message.Length < path.Length + 200, message);
    }

    private static void AssertRefused(string path, string expected)
    {
        string message = Assert.ThrowsExactly<InvalidDataException>(() => StateDictionary.Load(path)).Message;

        StringAssert.StartsWith(message, path);
        StringAssert.Contains(message, expected);
    }

    private string WriteFile(string header, byte[] data)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        return _folder.Write("f", [.. length, .. json, .. data]);
    }
}
