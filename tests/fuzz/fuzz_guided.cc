// Input: a letter for the kind (o JSON object, s schema, r regular expression, c choices a line
// each, g grammar), then its text. What compiles takes a few tokens.
#include <cstdint>
#include <string_view>

#include "foveal/error.h"
#include "tokenizer/test_vocab.h"

namespace {

using Kind = foveal::GuidedDecoding::Kind;

foveal::GuidedDecoding read(char kind, std::string_view text) {
  foveal::GuidedDecoding out{.kind = Kind::kGrammar, .text = std::string(text), .choices = {}};
  if (kind == 'o') out.kind = Kind::kJsonObject;
  if (kind == 's') out.kind = Kind::kJsonSchema;
  if (kind == 'r') out.kind = Kind::kRegex;
  if (kind != 'c') return out;
  out.kind = Kind::kChoice;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    out.choices.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer = foveal::tokenizer::byte_level_vocab().load();
  if (size == 0 || size > 64 << 10) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    foveal::tokenizer::Constraint constraint =
        tokenizer->make_constraint(read(input.front(), input.substr(1)), tokenizer->end_tokens());
    for (size_t step = 0; step < 16 && !constraint.finished(); ++step) {
      const std::span<const uint32_t> allowed = constraint.allowed();
      // The input decides where the search for an allowed token begins.
      int32_t token = static_cast<int32_t>(data[step % size] * 7 % (allowed.size() * 32));
      for (size_t tried = 0; tried < allowed.size() * 32; ++tried) {
        if (allowed[static_cast<size_t>(token) / 32] >> (token % 32) & 1) break;
        token = static_cast<int32_t>((static_cast<size_t>(token) + 1) % (allowed.size() * 32));
      }
      constraint.accept(token);
    }
  } catch (const foveal::Error&) {
    // Refusing is right; crashing, hanging and other exceptions are not.
  }
  return 0;
}
