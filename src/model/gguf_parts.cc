#include "model/gguf_parts.h"

#include "base/check.h"
#include "model/gguf_fields.h"

namespace foveal::model {
namespace {

constexpr int64_t kMostParts = 99999;  // what five digits can say

int64_t parts_of(const GgufFile& file, const std::string& path) {
  return GgufFields(file, "split.", path).integer("count", 0, kMostParts).value_or(1);
}

std::optional<int64_t> tensors_of_all(const GgufFile& file, const std::string& path) {
  return GgufFields(file, "split.", path).integer("tensors.count", 0, INT32_MAX);
}

/// A later part need not say these; one that says otherwise than the first is of another model.
void check_same_model(const GgufFile& first, const GgufFile& part, const std::string& path) {
  const auto need = tensors_of_all(first, path);
  const auto got = tensors_of_all(part, path);
  FOVEAL_CHECK(!need || !got || *got == *need, ErrorKind::kCorruptFile, path,
               "got split.tensors.count {}; need {}, as in the first part", got.value_or(0),
               need.value_or(0));
  const auto want = GgufFields(first, "general.", path).text("architecture").value_or("");
  const auto architecture = GgufFields(part, "general.", path).text("architecture").value_or(want);
  FOVEAL_CHECK(architecture == want, ErrorKind::kCorruptFile, path,
               "got general.architecture '{}'; need '{}', as in the first part", architecture,
               want);
}

}  // namespace

int64_t count_gguf_parts(const GgufFile& first, const std::string& path) {
  const int64_t count = parts_of(first, path);
  if (count <= 1) return 1;
  const int64_t index = GgufFields(first, "split.", path).integer("no", 0, kMostParts).value_or(0);
  FOVEAL_CHECK(index == 0, ErrorKind::kUnsupported, path,
               "got part {} of a model in {} files; need the first, which has its hyperparameters",
               index + 1, count);
  const auto part = gguf_part(path);
  FOVEAL_CHECK(part && part->number == 1 && part->count == count, ErrorKind::kCorruptFile, path,
               "got the first of {} files (split.count); need a name that ends in "
               "-00001-of-{:05}.gguf, and the others beside it",
               count, count);
  return count;
}

void add_gguf_part(GgufFile& to, const GgufFile& part, int64_t number, const std::string& path) {
  const int64_t index = GgufFields(part, "split.", path).integer("no", 0, kMostParts).value_or(-1);
  FOVEAL_CHECK(index == number - 1 && parts_of(part, path) == parts_of(to, path),
               ErrorKind::kCorruptFile, path, "got split.no {} of split.count {}; need {} of {}",
               index, parts_of(part, path), number - 1, parts_of(to, path));
  check_same_model(to, part, path);
  to.tensors.insert(to.tensors.end(), part.tensors.begin(), part.tensors.end());
}

void check_gguf_parts(const GgufFile& all, const std::string& path) {
  const auto need = tensors_of_all(all, path);
  FOVEAL_CHECK(!need || static_cast<size_t>(*need) == all.tensors.size(), ErrorKind::kCorruptFile,
               path, "got {} tensors in all parts; need {} (split.tensors.count)",
               all.tensors.size(), need.value_or(0));
}

}  // namespace foveal::model
