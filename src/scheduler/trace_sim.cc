#include "scheduler/trace_sim.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace foveal::scheduler {
namespace {

constexpr int32_t kVocab = 3;  // so few that prompts share beginnings by chance as well

/// One step of a 64-bit mixer (SplitMix64's finaliser): never 0, which is what a zeroed slot holds.
uint64_t mix(uint64_t state, uint64_t value) {
  uint64_t z = state + 0x9e3779b97f4a7c15U * (value + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return (z ^ (z >> 31)) | 1U;
}

bool ends_text(uint64_t state) { return (state >> 8) % 13 == 0; }

}  // namespace

TraceOptions random_options(std::mt19937& rng) {
  const auto draw = [&rng](int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(rng);
  };
  TraceOptions options;
  SchedulerConfig& config = options.config;
  config.page_size = draw(1, 6);
  config.chunk_multiple = draw(0, 1) == 0 ? 1 : draw(1, 7);
  config.prefill_chunk = config.chunk_multiple + draw(0, 12);
  config.max_step_tokens = config.chunk_multiple + draw(0, 24);
  config.max_batch_size = draw(1, 8);
  config.max_queue = draw(1, 20);
  options.num_pages = draw(1, 40);
  options.use_prefix_index = draw(0, 3) > 0;
  options.num_requests = draw(1, 24);
  options.max_prompt = draw(1, 40);
  options.max_new = draw(0, 64);
  const auto sometimes = [&](int32_t most) { return draw(0, 2) == 0 ? draw(1, most) : 0; };
  options.cancel_percent = sometimes(20);
  options.failure_percent = sometimes(20);
  options.compact_percent = sometimes(100);
  options.delay_percent = sometimes(60);
  return options;
}

TraceSim::TraceSim(const TraceOptions& options, uint32_t seed)
    : options_(options),
      rng_(seed),
      allocator_(options.num_pages),
      prefix_(allocator_, options.config.page_size),
      scheduler_(options.config, allocator_, options.use_prefix_index ? &prefix_ : nullptr),
      content_(static_cast<size_t>(options.num_pages * options.config.page_size), 0) {
  for (int32_t stem = 0; stem < 3; ++stem) {
    std::vector<int32_t> tokens(static_cast<size_t>(options.max_prompt));
    for (int32_t& token : tokens) token = draw(0, kVocab - 1);
    stems_.push_back(std::move(tokens));
  }
}

void TraceSim::run() {
  int32_t to_submit = options_.num_requests;
  // Far above what a trace needs: preemption costs a request at most its own work again for each
  // request that passes it.
  constexpr int64_t kMaxSteps = 200000;
  while (to_submit > 0 || !live_.empty()) {
    need(num_steps_ < kMaxSteps, "every request must end");
    while (to_submit > 0 && (live_.empty() || chance(40))) {
      submit();
      --to_submit;
    }
    if (!live_.empty() && chance(options_.cancel_percent)) {
      cancel(std::next(live_.begin(), draw(0, static_cast<int32_t>(live_.size()) - 1))->first);
    }
    step();
    scheduler_.check_integrity();
  }
  check_end();
}

void TraceSim::submit() {
  Request request;
  const auto& stem = stems_[static_cast<size_t>(draw(0, 2))];
  const int32_t shared = draw(0, options_.max_prompt);
  request.prompt_len = draw(std::max(1, shared), options_.max_prompt);
  request.text.assign(stem.begin(), stem.begin() + shared);
  while (static_cast<int32_t>(request.text.size()) < request.prompt_len) {
    request.text.push_back(draw(0, kVocab - 1));
  }
  request.max_new = draw(0, options_.max_new);
  request.root = static_cast<uint64_t>(draw(0, 1));
  request.reuse = draw(0, 4) > 0;
  request.known = request.prompt_len;
  request.kept = request.prompt_len;
  if (chance(options_.compact_percent)) {
    request.kept = draw(1, request.prompt_len);
    request.tail = draw(1, request.prompt_len + 2);
  }
  const RequestId id = next_id_++;
  const AddResult result = scheduler_.add({.id = id,
                                           .prompt = request.text,
                                           .max_new_tokens = request.max_new,
                                           .prefix_root = request.root,
                                           .reuse_prefix = request.reuse,
                                           .kept = request.kept,
                                           .tail = request.tail});
  need((result == AddResult::kNeverFits) == never_fits(request),
       "add must refuse exactly what never fits");
  if (result != AddResult::kQueued) return;
  uint64_t state = mix(7, request.root);
  for (size_t idx = 0; idx < request.text.size(); ++idx) {
    state = mix(state, static_cast<uint64_t>(request.text[idx]));
    request.state.push_back(state);
    const auto generated = static_cast<int32_t>(idx) + 1 - request.prompt_len;
    const bool more =
        generated >= 0 && generated < request.max_new && (generated == 0 || !ends_text(state));
    if (more) request.text.push_back(static_cast<int32_t>((state >> 20) % kVocab));
  }
  live_.emplace(id, std::move(request));
  queue_.push_back(id);
}

void TraceSim::step() {
  ++num_steps_;
  const StepPlan plan = scheduler_.next_step();
  check_plan(plan);
  std::set<RequestId> failed;
  if (!plan.work.empty() && chance(options_.failure_percent)) {
    const bool all = chance(30);
    for (const SeqWork& work : plan.work) {
      if (all || chance(50)) failed.insert(work.id);
    }
  }
  for (const RequestId id : failed) cancel(id);
  execute(plan);
  report_tokens();
}

void TraceSim::check_plan(const StepPlan& plan) {
  std::set<kv::PageId> fresh(plan.new_pages.begin(), plan.new_pages.end());
  need(fresh.size() == plan.new_pages.size(), "a page is taken once a step");
  for (const kv::PageId page : plan.new_pages) {
    const auto begin = content_.begin() + page * options_.config.page_size;
    std::fill(begin, begin + options_.config.page_size, 0);
  }
  for (const RequestId id : plan.preempted) {
    ++num_preempted_;
    Request& request = live_.at(id);
    need(request.running, "only running requests can be preempted");
    request.running = false;
    request.computed = 0;
    request.sample_due = 0;
    request.chosen.clear();
    queue_.push_front(id);
    need(scheduler_.page_table(id).empty(), "a preempted request holds no page");
  }
  for (const RequestId id : plan.admitted) {
    need(!queue_.empty() && queue_.front() == id, "the head of the queue starts first");
    queue_.pop_front();
    Request& request = live_.at(id);
    request.running = true;
    request.order = ++admissions_;
    request.computed = scheduler_.reused_tokens(id);
    num_reused_tokens_ += request.computed;
    need(request.computed < request.prompt_len, "one prompt token at least is computed");
    need(request.computed == 0 || (request.reuse && options_.use_prefix_index),
         "who does not share does not reuse");
    need(request.computed == 0 || request.computed <= request.prompt_len - request.tail,
         "the tail is computed");
    check_content(id, request, request.computed);
  }
  check_order(plan);
  for (const SeqWork& work : plan.work) check_work(work);
  check_progress(plan);
}

void TraceSim::check_order(const StepPlan& plan) const {
  int32_t rows = 0;
  int64_t last_order = 0;
  Phase phase = Phase::kPrefill;
  for (const SeqWork& work : plan.work) {
    rows += work.count;
    if (work.phase != phase) {
      need(work.phase == Phase::kDecode, "prefill comes first");
      phase = work.phase;
      last_order = 0;
    }
    const int64_t order = live_.at(work.id).order;
    need(order > last_order, "work is in admission order, one entry a request");
    last_order = order;
  }
  need(rows <= options_.config.max_step_tokens, "a step has at most max_step_tokens rows");
  const auto running = std::ranges::count_if(live_, [](auto& it) { return it.second.running; });
  need(running == scheduler_.num_running() && running <= options_.config.max_batch_size,
       "at most max_batch_size requests run");
  need(static_cast<int32_t>(queue_.size()) == scheduler_.num_waiting(), "the rest waits");
}

void TraceSim::check_work(const SeqWork& work) const {
  const Request& request = live_.at(work.id);
  const SchedulerConfig& config = options_.config;
  need(request.running && request.sample_due == 0, "only who is ready is planned");
  need(work.start == request.computed && work.count > 0, "positions follow each other");
  const int32_t end = work.start + work.count;
  need(scheduler_.evicted(work.id) == request.evicted(), "what is left behind is known");
  need(static_cast<size_t>(end - request.evicted()) <=
           scheduler_.page_table(work.id).size() * static_cast<size_t>(config.page_size),
       "every row has its page");
  if (work.phase == Phase::kPrefill) {
    need(end <= request.prompt_len && work.count <= config.prefill_chunk, "a chunk is in bounds");
    need(work.prompt_done == (end == request.prompt_len), "prompt_done is the prompt's end");
    need(work.prompt_done || end % config.chunk_multiple == 0, "chunks end at multiples");
    need(work.sample ==
             (work.prompt_done && request.known == request.prompt_len && request.max_new > 0),
         "the first token is sampled once");
  } else {
    need(work.count == 1 && work.start >= request.prompt_len && work.start < request.known,
         "a decode row is a known token");
    need(work.sample == (work.start == request.known - 1), "replayed rows do not sample");
    need(!work.prompt_done, "a decode row ends no prompt");
    need(request.known - request.prompt_len < request.max_new || !work.sample,
         "no more tokens than asked for");
  }
}

void TraceSim::check_progress(const StepPlan& plan) const {
  const bool delayed =
      std::ranges::any_of(live_, [](auto& it) { return it.second.sample_due > 0; });
  need(!plan.empty() || delayed || live_.empty(), "somebody goes on in every step");
  std::set<RequestId> planned;
  int32_t decodes = 0;
  int32_t prompt_rows = 0;
  for (const SeqWork& work : plan.work) {
    (work.phase == Phase::kDecode ? decodes : prompt_rows) += work.count;
    planned.insert(work.id);
  }
  int32_t rows_left = options_.config.max_step_tokens - decodes;
  if (decodes > 0) rows_left = std::min(rows_left, options_.config.prefill_chunk);
  rows_left -= prompt_rows;
  const int32_t pages_left =
      allocator_.num_free() + (options_.use_prefix_index ? prefix_.num_evictable() : 0);
  for (const auto& [id, request] : live_) {
    if (!request.running || planned.contains(id) || request.sample_due > 0) continue;
    need(request.computed < request.prompt_len || request.known == request.prompt_len,
         "every decode has a row in every step");
    const int32_t multiple = options_.config.chunk_multiple;
    const int32_t least =
        std::min(request.prompt_len, request.computed - request.computed % multiple + multiple);
    const auto held = static_cast<int32_t>(scheduler_.page_table(id).size());
    const bool ends = least == request.prompt_len && request.kept < request.prompt_len;
    const int32_t missing = pages_for(least) - held + (ends ? pages_for(request.kept) : 0);
    need(rows_left < least - request.computed || pages_left < missing,
         "a prompt goes on when rows and pages are left");
  }
}

void TraceSim::execute(const StepPlan& plan) {
  for (const SeqWork& work : plan.work) {
    const auto found = live_.find(work.id);
    if (found == live_.end()) continue;
    Request& request = found->second;
    for (int32_t row = 0; row < work.count; ++row) execute_row(work, request, work.start + row);
    request.computed = work.start + work.count;
    if (work.prompt_done && !compact(work.id, request)) {
      cancel(work.id);
      continue;
    }
    if (work.sample) request.sample_due = chance(options_.delay_percent) ? draw(1, 4) : 1;
    if (work.prompt_done && request.max_new == 0) finish(work.id);
  }
}

void TraceSim::execute_row(const SeqWork& work, Request& request, int32_t position) {
  const int32_t page_size = options_.config.page_size;
  const auto table = scheduler_.page_table(work.id);
  const int32_t idx = position - request.evicted();
  need(allocator_.refs(table[static_cast<size_t>(idx / page_size)]) == 1,
       "nobody else holds a page that is written");
  need(scheduler_.token(work.id, position) == request.text[static_cast<size_t>(position)],
       "the text is the one that was submitted and sampled");
  check_content(work.id, request, position);
  for (int32_t later = idx; later < (idx / page_size + 1) * page_size; ++later) {
    need(slot(table, later) == 0, "slots past the end are zero");
  }
  slot(table, idx) = request.state[static_cast<size_t>(position)];
}

void TraceSim::check_content(RequestId id, const Request& request, int32_t end) {
  const auto table = scheduler_.page_table(id);
  const int32_t num_slots = end - request.evicted();
  for (int32_t idx = 0; idx < num_slots; ++idx) {
    const bool moved = static_cast<size_t>(idx) < request.chosen.size();
    const int32_t position =
        moved ? request.chosen[static_cast<size_t>(idx)] : idx + request.evicted();
    need(slot(table, idx) == request.state[static_cast<size_t>(position)],
         "a request reads its own K and V");
  }
}

bool TraceSim::compact(RequestId id, Request& request) {
  const std::span<const kv::PageId> spare = scheduler_.spare_pages(id);
  const bool whole = request.kept == request.prompt_len;
  need(static_cast<int32_t>(spare.size()) == (whole ? 0 : pages_for(request.kept)),
       "the copy has its pages");
  if (whole) return true;
  std::vector<int32_t> positions(static_cast<size_t>(request.prompt_len));
  std::iota(positions.begin(), positions.end(), 0);
  std::ranges::shuffle(positions, rng_);
  positions.resize(static_cast<size_t>(request.kept));
  std::ranges::sort(positions);
  const auto table = scheduler_.page_table(id);
  for (int32_t idx = 0; idx < request.kept; ++idx) {
    if (chance(options_.failure_percent) && chance(10)) return false;
    need(slot(spare, idx) == 0, "the copy's pages are fresh");
    slot(spare, idx) = slot(table, positions[static_cast<size_t>(idx)]);
  }
  request.chosen = std::move(positions);
  scheduler_.compact(id);
  ++num_compacted_;
  need(scheduler_.spare_pages(id).empty(), "the spare pages are the page table");
  check_content(id, request, request.prompt_len);
  return true;
}

void TraceSim::report_tokens() {
  std::vector<RequestId> ended;
  for (auto& [id, request] : live_) {
    if (request.sample_due == 0) continue;
    request.sample_due -= 1;
    if (request.sample_due > 0) continue;
    scheduler_.append_token(id, request.text[static_cast<size_t>(request.known)]);
    ++request.known;
    if (request.known == static_cast<int32_t>(request.text.size())) ended.push_back(id);
  }
  for (const RequestId id : ended) finish(id);
}

void TraceSim::cancel(RequestId id) {
  need(scheduler_.cancel(id), "a live request can be cancelled");
  need(!scheduler_.cancel(id), "once");
  std::erase(queue_, id);
  live_.erase(id);
}

void TraceSim::finish(RequestId id) {
  scheduler_.finish(id);
  live_.erase(id);
  ++num_finished_;
}

void TraceSim::check_end() {
  need(scheduler_.idle(), "nothing is left to do");
  prefix_.evict(options_.num_pages);
  need(prefix_.num_pages() == 0, "an idle index can be emptied");
  need(allocator_.num_free() == options_.num_pages, "no page is lost");
}

int32_t TraceSim::pages_for(int32_t num_tokens) const {
  return (num_tokens + options_.config.page_size - 1) / options_.config.page_size;
}

bool TraceSim::never_fits(const Request& request) const {
  const bool whole = request.kept == request.prompt_len;
  const int32_t reading = pages_for(request.prompt_len) + (whole ? 0 : pages_for(request.kept));
  return std::max(reading, pages_for(request.kept + request.max_new)) > options_.num_pages;
}

uint64_t& TraceSim::slot(std::span<const kv::PageId> table, int32_t idx) {
  const int32_t page_size = options_.config.page_size;
  const kv::PageId page = table[static_cast<size_t>(idx / page_size)];
  return content_[static_cast<size_t>(page) * static_cast<size_t>(page_size) +
                  static_cast<size_t>(idx % page_size)];
}

bool TraceSim::chance(int32_t percent) { return draw(0, 99) < percent; }

int32_t TraceSim::draw(int32_t least, int32_t most) {
  return std::uniform_int_distribution<int32_t>(least, most)(rng_);
}

void TraceSim::need(bool good, const std::string& rule) const {
  if (!good) throw std::runtime_error("step " + std::to_string(num_steps_) + ": " + rule);
}

}  // namespace foveal::scheduler
