// Input: stop strings a line each, "%%text", then the bytes that a model's tokens spell. What
// clients are sent is UTF-8, and the same however the bytes are cut into tokens.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/test_vocab.h"
#include "tokenizer/utf8.h"

namespace tokenizer = foveal::tokenizer;

namespace {

std::vector<std::string> lines(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty() && out.size() < 16) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end != 0) out.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string shown(const std::vector<std::string>& stops, std::string_view text, size_t step) {
  tokenizer::StopMatcher matcher(stops, /*include_stop=*/step % 2 == 0);
  std::string out;
  for (size_t at = 0; at < text.size(); at += step) {
    const auto piece = matcher.push(text.substr(at, step));
    out += piece.text;
    if (piece.stopped) return out + "\x01" + (piece.stop.empty() ? "" : piece.stop);
  }
  return out + matcher.flush();
}

void check(bool good) {
  if (!good) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4 << 10) return 0;
  static const auto vocab = tokenizer::byte_level_vocab().load();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kMark = "%%text\n";
  const size_t mark = std::min(input.find(kMark), size);
  const std::string_view bytes = input.substr(std::min(mark + kMark.size(), size));

  tokenizer::StreamDecoder stream(*vocab, /*skip_special=*/false);
  std::string text;
  for (const char byte : bytes) {
    const std::string piece = stream.push(static_cast<unsigned char>(byte));  // ids are the bytes
    check(tokenizer::to_utf8(piece) == piece);
    text += piece;
  }
  text += stream.flush();
  check(text == tokenizer::to_utf8(bytes) && tokenizer::to_utf8(text) == text);

  const std::vector<std::string> stops = lines(input.substr(0, mark));
  check(shown(stops, text, 1) == shown(stops, text, 3));
  check(shown(stops, text, 2) == shown(stops, text, 64));
  if (stops.empty()) check(shown(stops, text, 1) == text);
  return 0;
}
