#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace foveal::tokenizer {

/// One text's way through what `GuidedDecoding` asks for: which tokens may come next. Move-only,
/// and independent of the tokenizer that made it. One thread at a time. Every step is bounded; one
/// that would cost more throws kInvalidArgument, after which the constraint is of no more use.
class Constraint {
 public:
  /// What the crate text/ keeps of it.
  struct Inner;

  /// For Tokenizer::make_constraint.
  Constraint(std::unique_ptr<Inner> inner, std::vector<int32_t> end_tokens);
  ~Constraint();
  Constraint(Constraint&&) noexcept;
  Constraint& operator=(Constraint&&) noexcept;

  /// Another text that goes on from where this one is.
  Constraint fork() const;

  /// One bit a token id, lowest first; ids past the end are not allowed. End tokens are in it where
  /// the text may end. Valid until the next call.
  std::span<const uint32_t> allowed();
  /// Takes the token that was chosen. Throws kInvalidArgument for one that is not allowed.
  void accept(int32_t token);
  /// Nothing but an end can follow, or an end token was accepted.
  bool finished() const { return finished_; }

 private:
  std::unique_ptr<Inner> inner_;
  std::vector<int32_t> end_tokens_;
  std::vector<uint32_t> words_;
  bool may_end_ = false;
  bool finished_ = false;
};

}  // namespace foveal::tokenizer
