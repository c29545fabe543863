#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>

#include "foveal/error.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {

inline GuidedDecoding guided(GuidedDecoding::Kind kind, std::string text) {
  return {.kind = kind, .text = std::move(text), .choices = {}};
}
inline GuidedDecoding json_schema(std::string text) {
  return guided(GuidedDecoding::Kind::kJsonSchema, std::move(text));
}
inline GuidedDecoding regex(std::string text) {
  return guided(GuidedDecoding::Kind::kRegex, std::move(text));
}
inline GuidedDecoding grammar(std::string text) {
  return guided(GuidedDecoding::Kind::kGrammar, std::move(text));
}
inline GuidedDecoding choice(std::vector<std::string> choices) {
  return {.kind = GuidedDecoding::Kind::kChoice, .text = {}, .choices = std::move(choices)};
}

inline bool allows(std::span<const uint32_t> allowed, int32_t token) {
  const auto at = static_cast<size_t>(token) / 32;
  return at < allowed.size() && (allowed[at] >> (token % 32) & 1) != 0;
}

inline std::vector<int32_t> listed(std::span<const uint32_t> allowed) {
  std::vector<int32_t> out;
  for (size_t id = 0; id < allowed.size() * 32; ++id) {
    if (allows(allowed, static_cast<int32_t>(id))) out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

/// A model with no idea what it says: any allowed token. Now and then it takes the end or a closing
/// character where it may, so that texts end. Empty when the text did not end within `steps`.
inline std::string wander(const Tokenizer& tokenizer, Constraint& constraint, std::mt19937& random,
                          int steps = 4000) {
  const std::vector<int32_t>& ends = tokenizer.end_tokens();
  std::string text;
  for (int step = 0; step < steps; ++step) {
    const std::vector<int32_t> tokens = listed(constraint.allowed());
    EXPECT_FALSE(tokens.empty()) << text;
    if (tokens.empty()) return {};
    int32_t token = tokens[random() % tokens.size()];
    if (random() % 4 == 0) {
      for (const int32_t candidate : tokens) {
        const bool ends_text = std::count(ends.begin(), ends.end(), candidate) > 0;
        if (ends_text || std::string("\"]},").find(static_cast<char>(candidate)) < 4) {
          if (candidate < 256 || ends_text) token = candidate;
        }
      }
    }
    constraint.accept(token);
    if (std::count(ends.begin(), ends.end(), token) == 0) text += tokenizer.token_bytes(token);
    if (constraint.finished()) return text;
  }
  return {};
}

/// Compiles, and says how long it took.
struct Attempt {
  std::optional<Constraint> constraint;
  std::string error;
  double ms = 0;
};

inline Attempt attempt(const Tokenizer& tokenizer, const GuidedDecoding& what) {
  Attempt out;
  const auto start = std::chrono::steady_clock::now();
  try {
    out.constraint.emplace(tokenizer.make_constraint(what, tokenizer.end_tokens()));
  } catch (const Error& error) {
    out.error = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument) << error.what();
    EXPECT_EQ(out.error.find("[guided] got "), 0U) << error.what();
    EXPECT_NE(out.error.find("; need "), std::string::npos) << error.what();
    EXPECT_EQ(out.error.find('\n'), std::string::npos) << error.what();
  }
  out.ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return out;
}

}  // namespace foveal::tokenizer
