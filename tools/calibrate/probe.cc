#include "calibrate/probe.h"

#include <algorithm>

#include "base/check.h"
#include "eval/haystack.h"
#include "eval/speaker.h"
#include "measure/documents.h"

namespace foveal::calibrate {
namespace {

std::vector<int32_t> ids_of_file(const LLM& llm, const std::string& file) {
  std::vector<int32_t> out;
  for (const measure::Document& document : measure::read_documents(file)) {
    check_document(document);
    const std::vector<int32_t> ids = document.ids ? *document.ids : llm.encode(document.text);
    out.insert(out.end(), ids.begin(), ids.end());
  }
  return out;
}

std::vector<int32_t> generated_ids(const LLM& llm, size_t count, uint64_t seed) {
  measure::Random random(seed, "calibrate");
  const eval::Haystack haystack;
  std::vector<int32_t> out;
  while (out.size() < count) {
    const std::vector<int32_t> ids = llm.encode(eval::join(haystack.take(random, 64)) + "\n");
    out.insert(out.end(), ids.begin(), ids.end());
  }
  return out;
}

void add(const RequestOutput& output, Phase phase, Probe& into) {
  const LayerSparsity total = output.sparsity.total();
  into.sparsity.add(phase == Phase::kPrefill ? total.prefill : total.decode);
  const auto count = [&](double logprob) {
    into.loss -= logprob;
    into.predictions += 1;
  };
  if (phase == Phase::kPrefill) {
    for (const auto& token : output.prompt_logprobs) {
      if (token) count(token->logprob);
    }
    return;
  }
  for (const TokenLogprob& token : output.outputs.at(0).logprobs) count(token.logprob);
}

}  // namespace

std::vector<Texts> make_texts(const LLM& llm, const std::string& file,
                              const std::vector<int64_t>& lengths, int64_t count, uint64_t seed) {
  const int64_t most = *std::max_element(lengths.begin(), lengths.end());
  FOVEAL_CHECK(most <= llm.max_seq_len(), ErrorKind::kContextLength, "lengths",
               "got {}; need at most {}, {}", most, llm.max_seq_len(), eval::kLongestIs);
  const auto need = static_cast<size_t>(2 * count * most);
  const std::vector<int32_t> ids =
      file.empty() ? generated_ids(llm, need, seed) : ids_of_file(llm, file);
  FOVEAL_CHECK(ids.size() >= static_cast<size_t>(2 * most), ErrorKind::kInvalidArgument, "file",
               "got {} tokens in '{}'; need at least {}, for two texts of {}", ids.size(), file,
               2 * most, most);
  const std::vector<int32_t> begin =
      llm.has_tokenizer() ? llm.prompt_token_ids("") : std::vector<int32_t>{};
  std::vector<Texts> out;
  for (const int64_t length : lengths) {
    Texts texts{.length = length};
    for (int64_t at = 0; at + length <= std::ssize(ids) && at < 2 * count * length; at += length) {
      std::vector<int32_t> text = begin;
      text.insert(text.end(), ids.begin() + at, ids.begin() + at + length);
      text.resize(static_cast<size_t>(length));
      (at / length % 2 == 0 ? texts.fitted : texts.held_out).push_back(std::move(text));
    }
    out.push_back(std::move(texts));
  }
  return out;
}

Probe probe(LLM& llm, const std::vector<std::vector<int32_t>>& texts, Phase phase, double factor,
            int64_t decode_tokens) {
  SamplingParams sampling;
  sampling.max_tokens = 0;
  if (phase == Phase::kPrefill) sampling.prompt_logprobs = 0;
  if (phase == Phase::kDecode) sampling.logprobs = 0;
  Probe out;
  for (const std::vector<int32_t>& text : texts) {
    const auto tail = phase == Phase::kPrefill ? std::ptrdiff_t{0} : decode_tokens;
    const auto split = text.end() - std::min<std::ptrdiff_t>(tail, std::ssize(text) - 1);
    RequestOptions options{.forced_tokens = {split, text.end()}};
    options.sparse_attention =
        SparseOverride{.threshold_scale_factor = phase == Phase::kPrefill
                                                     ? PhaseValue{.prefill = factor, .decode = 0}
                                                     : PhaseValue{.prefill = 0, .decode = factor}};
    add(llm.generate({.token_ids = std::vector<int32_t>(text.begin(), split)}, sampling, options),
        phase, out);
  }
  if (out.predictions > 0) out.loss /= static_cast<double>(out.predictions);
  return out;
}

}  // namespace foveal::calibrate
