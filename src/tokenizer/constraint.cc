#include "tokenizer/constraint.h"

#include <algorithm>

#include "tokenizer/constraint_inner.h"

namespace foveal::tokenizer {

Constraint::Constraint(std::unique_ptr<Inner> inner, std::vector<int32_t> end_tokens)
    : inner_(std::move(inner)), end_tokens_(std::move(end_tokens)) {
  int32_t num_ids = inner_->vocab_size;
  for (const int32_t token : end_tokens_) num_ids = std::max(num_ids, token + 1);
  words_.resize((static_cast<size_t>(num_ids) + 31) / 32);
}

Constraint::~Constraint() = default;
Constraint::Constraint(Constraint&&) noexcept = default;
Constraint& Constraint::operator=(Constraint&&) noexcept = default;

Constraint Constraint::fork() const {
  auto inner = std::make_unique<Inner>(Inner{
      bridged("guided", [&] { return text::guided_fork(*inner_->box); }), inner_->vocab_size});
  Constraint copy(std::move(inner), end_tokens_);
  copy.may_end_ = may_end_;
  copy.finished_ = finished_;
  return copy;
}

std::span<const uint32_t> Constraint::allowed() {
  may_end_ = bridged("guided", [&] {
    return text::guided_mask(*inner_->box, rust::Slice<uint32_t>(words_.data(), words_.size()));
  });
  if (may_end_) {
    for (const int32_t token : end_tokens_) {
      words_[static_cast<size_t>(token) / 32] |= uint32_t{1} << (token % 32);
    }
  }
  return words_;
}

void Constraint::accept(int32_t token) {
  const bool ends =
      may_end_ && std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end();
  finished_ = ends || bridged("guided", [&] { return text::guided_accept(*inner_->box, token); });
}

}  // namespace foveal::tokenizer
