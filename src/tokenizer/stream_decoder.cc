#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace foveal::tokenizer {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer),
      skip_special_(skip_special),
      strip_space_(tokenizer.strips_leading_space()) {}

std::string StreamDecoder::push(int32_t id) {
  std::string bytes = tokenizer_.token_bytes(id);
  if (skip_special_ && tokenizer_.is_special(id)) return {};
  if (strip_space_ && !bytes.empty()) {
    if (bytes.front() == ' ') bytes.erase(0, 1);
    strip_space_ = false;
  }
  pending_ += bytes;
  // A character that is not whole yet always starts at a boundary, so what comes before it reads
  // the same as in the whole text.
  const size_t keep = incomplete_suffix(pending_);
  std::string text = to_utf8(std::string_view(pending_).substr(0, pending_.size() - keep));
  pending_.erase(0, pending_.size() - keep);
  return text;
}

std::string StreamDecoder::flush() {
  std::string text = to_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace foveal::tokenizer
