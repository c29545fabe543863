#include "model/safetensors.h"

#include "model/safetensors_writer.h"
#include "model/test_files.h"

namespace foveal::model {
namespace {

std::string with_header(std::string_view header, std::string_view data = "") {
  FileBuilder file;
  return file.text(header).raw(data).bytes();
}

std::vector<SafetensorsTensor> parse(const ExactBytes& bytes) {
  return parse_safetensors(bytes.span(), "test.safetensors");
}

void expect_refused(ErrorKind kind, std::string_view part, const std::string& text) {
  const ExactBytes bytes(text);
  expect_error(kind, part, [&] { parse(bytes); });
}

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

TEST(Safetensors, ReadsWhatItWrites) {
  const TempFolder folder;
  const std::vector<float> matrix{1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> ids{7, -8};
  const std::vector<NamedTensor> tensors{
      {"z \"quoted\"", DType::kF32, {2, 3}, bytes_of(matrix)},
      {"a", DType::kI32, {2}, std::as_bytes(std::span(ids))},
      {"empty", DType::kF32, {0, 5}, {}},
      {"scalar", DType::kF32, {}, bytes_of(matrix).first(4)},
  };
  const std::string first = folder.path("first.safetensors");
  write_safetensors(first, tensors);
  write_safetensors(folder.path("second.safetensors"), tensors);
  const std::string text = read_all(first);
  EXPECT_EQ(text, read_all(folder.path("second.safetensors")));
  EXPECT_EQ(text.find("__metadata__"), std::string::npos);
  uint64_t header = 0;
  std::memcpy(&header, text.data(), sizeof header);
  EXPECT_EQ(header % 8, 0U);

  const ExactBytes bytes(text);
  const auto got = parse(bytes);
  ASSERT_EQ(got.size(), 4U);
  EXPECT_EQ(got[0].name, "z \"quoted\"");
  EXPECT_EQ(got[0].view.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(got[0].view.data, matrix.data(), 24), 0);
  EXPECT_EQ(got[1].view.dtype, DType::kI32);
  EXPECT_EQ(std::memcmp(got[1].view.data, ids.data(), 8), 0);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_EQ(entry.path().extension(), ".safetensors");
    ++files;
  }
  EXPECT_EQ(files, 2U);  // nothing temporary stays
}

TEST(SafetensorsWriter, RefusesWhatItCannotWrite) {
  const TempFolder folder;
  const std::vector<float> two{1, 2};
  const auto write = [&](std::vector<NamedTensor> tensors, const std::string& name = "x") {
    return [&folder, tensors, name] { write_safetensors(folder.path(name), tensors); };
  };
  expect_error(ErrorKind::kInvalidArgument, "got dtype f16",
               write({{"a", DType::kF16, {4}, bytes_of(two)}}));
  expect_error(ErrorKind::kInvalidArgument, "got 8 bytes",
               write({{"a", DType::kF32, {3}, bytes_of(two)}}));
  expect_error(ErrorKind::kInvalidArgument, "got 8 bytes",
               write({{"a", DType::kF32, {-2}, bytes_of(two)}}));
  expect_error(
      ErrorKind::kInvalidArgument, "twice",
      write({{"a", DType::kF32, {2}, bytes_of(two)}, {"a", DType::kF32, {2}, bytes_of(two)}}));
  expect_error(ErrorKind::kIo, "No such file",
               write({{"a", DType::kF32, {2}, bytes_of(two)}}, "absent/x"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));

  const NamedTensor tensor{"a", DType::kF32, {2}, bytes_of(two)};
  expect_error(ErrorKind::kIo, "[logits] got no write to '/dev/full' (No space",
               [&] { write_safetensors("/dev/full", {&tensor, 1}, "logits"); });
}

TEST(Safetensors, AcceptsMetadataAndEveryDType) {
  const ExactBytes bytes(
      with_header(R"({"__metadata__":{"format":"pt"},)"
                  R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},)"
                  R"("f":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[10,12]},)"
                  R"("d":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
                  R"("i":{"dtype":"BOOL","shape":[2,2],"data_offsets":[12,16]}} )",
                  std::string(16, 'x')));
  const auto got = parse(bytes);
  ASSERT_EQ(got.size(), 4U);  // in the order of their data
  EXPECT_EQ(got[0].name, "d");
  EXPECT_EQ(got[1].view.dtype, DType::kBF16);
  EXPECT_EQ(got[2].view.dtype, DType::kF8E4M3);
  EXPECT_EQ(got[3].view.data, bytes.span().data() + bytes.span().size() - 4);
}

TEST(Safetensors, RefusesBrokenHeaders) {
  const auto kind = ErrorKind::kCorruptFile;
  const auto one = [](std::string_view entry, std::string_view data = "xxxx") {
    return with_header(R"({"a":)" + std::string(entry) + "}", data);
  };
  expect_refused(kind, "header length", "short");
  expect_refused(kind, "need at most 100000000", std::string(8, '\x7f'));
  expect_refused(kind, "for the header", FileBuilder().put<uint64_t>(99).raw("{}").bytes());
  expect_refused(kind, "need an object", with_header("[1]"));
  expect_refused(kind, "valid JSON", with_header("{"));
  expect_refused(kind, "levels deep", with_header("{\"a\":" + std::string(5000, '[')));
  expect_refused(kind, "key 'a' twice",
                 with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                             "xxxx"));
  expect_refused(kind, "else than an object", one("3"));
  expect_refused(kind, "no 'dtype'", one(R"({"shape":[1],"data_offsets":[0,4]})"));
  expect_refused(ErrorKind::kUnsupported, "got dtype 'F4'",
                 one(R"({"dtype":"F4","shape":[1],"data_offsets":[0,4]})"));
  expect_refused(kind, "no list 'shape'", one(R"({"dtype":"F32","data_offsets":[0,4]})"));
  expect_refused(kind, "need whole numbers",
                 one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"));
  expect_refused(kind, "need whole numbers",
                 one(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})"));
  expect_refused(kind, "below 2^63",
                 one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})"));
  expect_refused(kind, "need 4 bytes", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,5]})"));
  expect_refused(kind, "need 4 bytes", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"));
  expect_refused(kind, "is the file complete?",
                 one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"));
  expect_refused(kind, "by the header",
                 one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", "xxxxx"));
  expect_refused(kind, "right after",
                 with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                             "xxxxxx"));
}

const std::string& small_file() {
  static const std::string kText =
      with_header(R"({"__metadata__":{"format":"pt"},)"
                  R"("w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},)"
                  R"("v":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}})",
                  std::string(20, 'x'));
  return kText;
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string& good = small_file();
  EXPECT_EQ(parse(ExactBytes(good)).size(), 2U);
  for (size_t size = 0; size < good.size(); ++size) {
    expect_refused(ErrorKind::kCorruptFile, "test.safetensors", good.substr(0, size));
  }
}

TEST(Safetensors, EveryChangedHeaderByteLoadsOrIsRefused) {
  const std::string& good = small_file();
  for (size_t at = 0; at < good.size() - 20; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = good;
      changed[at] = static_cast<char>(value);
      const ExactBytes bytes(changed);
      loads_or_refuses([&] {
        for (const auto& tensor : parse(bytes)) {
          if (tensor.bytes == 0) continue;
          const volatile std::byte last = tensor.view.data[tensor.bytes - 1];
          static_cast<void>(last);
        }
      });
    }
  }
}

TEST(SafetensorsIndex, MapsTensorsToPlainFileNames) {
  const auto map = parse_safetensors_index(
      R"({"metadata":{"total_size":1},"weight_map":{"a":"m-1.safetensors"}})", "index");
  EXPECT_EQ(map.at("a"), "m-1.safetensors");
  for (const std::string_view bad :
       {"../x", "/etc/passwd", "a/b", "", "..", "a\\\\b", "x\\u0000"}) {
    expect_error(ErrorKind::kCorruptFile, "plain file name", [&] {
      parse_safetensors_index(R"({"weight_map":{"a":")" + std::string(bad) + R"("}})", "index");
    });
  }
  expect_error(ErrorKind::kCorruptFile, "weight_map",
               [&] { parse_safetensors_index("{}", "index"); });
}

}  // namespace
}  // namespace foveal::model
