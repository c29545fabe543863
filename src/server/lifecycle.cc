#include "server/lifecycle.h"

#include "base/log.h"

namespace foveal::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kReportPeriod{10'000};
constexpr std::chrono::milliseconds kDrainPeriod{50};
constexpr std::chrono::milliseconds kCancelTime{5'000};  // for cancelled requests to be told so
constexpr std::chrono::milliseconds kLastWrites{200};

class Lifecycle {
 public:
  Lifecycle(HttpServer& http, Service& service, std::chrono::milliseconds timeout)
      : http_(http), service_(service), timeout_(timeout), last_(service.llm().stats()) {}

  void signal() {
    if (drain_begin_) {
      log_warn("stopping at once; {} requests are cut off", http_.num_requests());
      good_ = http_.num_requests() == 0;
      return http_.stop();
    }
    log_info("draining: {} requests have {} s to finish; another signal ends at once",
             http_.num_requests(), timeout_.count() / 1000);
    service_.drain();
    drain_begin_ = Clock::now();
  }

  void tick() {
    if (!drain_begin_) return;
    const auto now = Clock::now();
    // Those that are still being read count: they run once that is done.
    if (http_.num_requests() == 0) {
      // Their last bytes are still on the way.
      if (!idle_since_) idle_since_ = now;
      if (now - *idle_since_ > kLastWrites) http_.stop();
      return;
    }
    idle_since_.reset();
    if (now - *drain_begin_ < timeout_) return;
    if (good_) log_warn("cancelling {} requests", http_.num_requests());
    good_ = false;
    service_.cancel_all();
    if (now - *drain_begin_ > timeout_ + kCancelTime) http_.stop();
  }

  void report() {
    const EngineStats now = service_.llm().stats();
    if (now.running + now.waiting > 0 || now.steps != last_.steps) {
      log_info("{}",
               activity_line(last_, now, std::chrono::duration<double>(kReportPeriod).count()));
    }
    last_ = now;
  }

  bool good() const { return good_; }

 private:
  HttpServer& http_;
  Service& service_;
  std::chrono::milliseconds timeout_;
  EngineStats last_;
  std::optional<Clock::time_point> drain_begin_;
  std::optional<Clock::time_point> idle_since_;
  bool good_ = true;
};

double share(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

}  // namespace

std::string activity_line(const EngineStats& before, const EngineStats& after, double seconds) {
  const auto prompt = static_cast<double>(after.prompt_tokens - before.prompt_tokens);
  const auto cached = static_cast<double>(after.cached_tokens - before.cached_tokens);
  const auto generated = static_cast<double>(after.generated_tokens - before.generated_tokens);
  PhaseSparsity now;
  PhaseSparsity then;
  for (const auto& [report, sum] : {std::pair{&after.sparsity, &now}, {&before.sparsity, &then}}) {
    sum->add(report->total().prefill);
    sum->add(report->total().decode);
  }
  const PhaseSparsity work{.pairs = now.pairs - then.pairs,
                           .pairs_used = now.pairs_used - then.pairs_used,
                           .blocks = now.blocks - then.blocks,
                           .blocks_read = now.blocks_read - then.blocks_read};
  const auto read =
      static_cast<double>(after.sparsity.prompt_tokens - before.sparsity.prompt_tokens);
  const auto kept = static_cast<double>(after.sparsity.kept_tokens - before.sparsity.kept_tokens);
  return fmt::format(
      "running {}, waiting {}; prompt {:.1f} tok/s, generated {:.1f} tok/s; KV {:.1f} % used; "
      "prefix hits {:.1f} %; skipped {:.1f} % of attention, read {:.1f} % of blocks, kept {:.1f} % "
      "of prompts",
      after.running, after.waiting, (prompt - cached) / seconds, generated / seconds,
      share(static_cast<double>(after.kv_pages_used), static_cast<double>(after.kv_pages_total)),
      share(cached, prompt), 100 * work.skipped(), 100 * work.share_read(),
      read > 0 ? share(kept, read) : 100.0);
}

bool run_server(HttpServer& http, Service& service, std::chrono::milliseconds shutdown_timeout) {
  Lifecycle life(http, service, shutdown_timeout);
  http.on_signal([&life] { life.signal(); });
  http.every(kDrainPeriod, [&life] { life.tick(); });
  http.every(kReportPeriod, [&life] { life.report(); });
  http.run();
  http.join();
  service.clear();
  return life.good();
}

}  // namespace foveal::server
