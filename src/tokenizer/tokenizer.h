#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "foveal/request.h"
#include "tokenizer/constraint.h"

namespace foveal::tokenizer {

/// The vocabulary inside a GGUF file (keys `tokenizer.ggml.*`), views into the mapped file.
struct GgufVocab {
  std::string model;  ///< "gpt2" (BPE) or "llama" (SentencePiece)
  std::string pre;    ///< names the pre-tokenizer: "smollm", "qwen2", ...
  std::vector<std::string_view> tokens;
  std::vector<float> scores;  ///< empty or one a token
  std::vector<int32_t>
      types;  ///< empty or one a token (1 normal, 2 unknown, 3 control, 4 user, 6 byte)
  std::vector<std::string_view> merges;  ///< "left right"
  std::optional<int32_t> bos, eos, eot, unk, pad;
  bool add_bos = false;
  bool add_space_prefix = true;
  std::string chat_template;
};

/// Text to token ids and back, exactly as the model's own tokenizer. Thread-safe: const methods may
/// run at once from many threads. Errors are foveal::Error; nothing panics.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// `path` is a tokenizer.json, or a folder with one beside tokenizer_config.json (from which
  /// begin and end tokens and the chat template come; chat_template.jinja wins if present).
  static std::unique_ptr<Tokenizer> from_file(const std::string& path);
  static std::unique_ptr<Tokenizer> from_gguf(const GgufVocab& vocab);

  /// Ids of `text` without begin or end tokens. Special tokens spelled out in the text are parsed
  /// only with `parse_special`; otherwise their spelling is ordinary text. Invalid UTF-8 is
  /// kInvalidArgument.
  virtual std::vector<int32_t> encode(std::string_view text, bool parse_special) const = 0;
  /// UTF-8 text of ids; invalid sequences become U+FFFD. Unknown ids are kInvalidArgument.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special) const = 0;
  /// The raw bytes one id stands for (may be part of a character).
  virtual std::string token_bytes(int32_t id) const = 0;

  virtual int32_t vocab_size() const = 0;
  virtual bool is_special(int32_t id) const = 0;
  virtual std::optional<int32_t> token_id(std::string_view token) const = 0;
  virtual std::optional<int32_t> bos() const = 0;
  /// Whether raw prompts of this model begin with bos.
  virtual bool adds_bos() const = 0;
  /// Whether decoding drops one leading space (SentencePiece vocabularies that put one in front).
  virtual bool strips_leading_space() const { return false; }
  /// Tokens that end a text: eos, and end-of-turn tokens the vocabulary names.
  virtual const std::vector<int32_t>& end_tokens() const = 0;
  /// Empty when the model has none.
  virtual const std::string& chat_template() const = 0;
  /// e.g. "BPE, 49152 tokens, pre-tokenizer smollm".
  virtual std::string describe() const = 0;

  /// What a text must look like, over this vocabulary. `end_tokens` may follow where it may end.
  /// The first call takes longer: tokens are sorted into a trie. Bounded in time and memory. Throws
  /// kInvalidArgument for what is malformed or takes too much work to compile.
  virtual Constraint make_constraint(const GuidedDecoding& guided,
                                     std::span<const int32_t> end_tokens) const = 0;
};

/// Turns a stream of ids into text pieces that never end inside a character: bytes are held back
/// until the character is whole. One a request, any thread.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  /// Text that became certain with this id; may be empty.
  std::string push(int32_t id);
  /// What is held back, with invalid bytes as U+FFFD.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool strip_space_;     ///< the text's first space is still to be dropped
  std::string pending_;  ///< begins a character
};

/// Watches a growing text for stop strings. Text that might begin one is held back.
class StopMatcher {
 public:
  StopMatcher(std::vector<std::string> stops, bool include_stop);
  struct Result {
    std::string text;       ///< safe to show
    bool stopped = false;   ///< a stop string was completed
    std::string stop = {};  ///< which one
  };
  Result push(std::string_view piece);
  /// What was held back when the text ended otherwise.
  std::string flush();

 private:
  std::vector<std::string> stops_;
  bool include_stop_;
  bool stopped_ = false;
  std::string held_;
};

struct RenderOptions {
  bool add_generation_prompt = true;
  std::string extra_json = "{}";  ///< further template variables (tools, enable_thinking, ...)
};

/// Renders `messages_json` (a JSON list of message objects) with a Jinja template as transformers
/// does: trim_blocks, lstrip_blocks, raise_exception, strftime_now, tojson. Bounded steps, output
/// and recursion; kInvalidArgument with the template's own message otherwise.
std::string render_chat(std::string_view chat_template, std::string_view messages_json,
                        std::string_view bos_token, std::string_view eos_token,
                        const RenderOptions& options);

/// Ids of a chat prompt: special tokens come only from the template's own text, never from a
/// message's content, whatever it spells.
std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, std::string_view messages_json,
                                 const RenderOptions& options);

}  // namespace foveal::tokenizer
