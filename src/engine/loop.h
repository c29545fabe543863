#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "attention/step.h"
#include "engine/batch.h"
#include "engine/device_step.h"
#include "engine/engine.h"
#include "engine/running.h"
#include "engine/setup.h"

namespace foveal::engine {

/// The engine thread and all that only it may touch: model, pool, scheduler, running requests.
class Engine::Loop {
 public:
  Loop(const LlmConfig& config, const model::Checkpoint& checkpoint);
  ~Loop();

  std::vector<std::shared_ptr<TokenStream>> submit(EngineRequest request);
  const EngineInfo& info() const { return info_; }
  EngineStats stats() const;
  void on_prefill(PrefillCallback callback);

 private:
  using RequestId = scheduler::RequestId;

  void warm_up();
  void check(const EngineRequest& request) const;
  void run();
  bool wait_for_work();
  void take_inbox();
  void take_followers();
  void admit(std::unique_ptr<Running> running);
  void drop_cancelled();
  void wait_for_device();

  /// A step that was planned: on a CPU one, on a device that runs behind the host up to two.
  struct Flight {
    scheduler::StepPlan plan;
    Batch batch;
    DeviceStep::Ticket ticket = 0;
    bool counted = false;
  };

  void step();
  void step_on_device();
  bool plan_next(Flight& flight);
  void prepare(Flight& flight);
  void compute(Flight& flight);
  Flight* issue(Flight* before);
  RowPlan plan_row(const LogitRow& row, std::vector<kernels::cuda::LogitEdit>& edits) const;
  bool may_run_ahead(const Flight& flight) const;
  void mark_pending(const Flight& flight);
  void note_gap(const Flight* before, Clock::time_point began);
  void count(Flight& flight);
  void count_work(const Batch& batch);
  void account(const scheduler::StepPlan& plan);
  void publish(Flight& flight, std::span<const RowResult> rows);
  void publish_row(const LogitRow& row, const RowResult& result);
  void flush_events();
  void end(RequestId id, FinishReason reason, const std::optional<Error>& error = std::nullopt);
  void end_if_only_prompt(RequestId id);
  void end_prompts(const Flight& flight);
  void fail_all(const Error& error);
  void note_stats();

  LlmConfig config_;
  ThreadPool pool_;
  Setup setup_;
  Stream stream_;
  std::unique_ptr<model::Model> model_;
  kv::KvStorage storage_;
  std::vector<KvLayerView> views_;  ///< [num_layers]
  kv::PageAllocator allocator_;
  std::unique_ptr<kv::PrefixIndex> prefix_;
  scheduler::Scheduler scheduler_;
  attention::AttentionStep attention_;
  std::unique_ptr<DeviceStep> device_step_;  ///< where the device runs behind the host
  std::vector<bool> page_used_;              ///< a page's first use needs no zeroing
  std::vector<kv::PageId> stale_;            ///< of this step: pages that need it
  Flight flights_[2];                        ///< on a device taken in turn
  Flight* flying_ = nullptr;                 ///< the step that the device works on
  int failed_steps_ = 0;                     ///< on the device, one after the other
  std::map<RequestId, std::unique_ptr<Running>> running_;
  /// By their leader: completions of one prompt that wait until it has been read once.
  std::map<RequestId, std::vector<std::unique_ptr<Running>>> followers_;
  EngineStats counted_;  ///< the engine thread's own, published now and then
  Clock::time_point stats_time_;
  std::optional<Clock::time_point> step_ended_;  ///< on a device, while requests go on
  RequestId traced_ = 0;                         ///< a traced request runs alone; 0: none
  EngineInfo info_;

  mutable std::mutex mutex_;  ///< guards what follows
  EngineStats stats_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Running>> inbox_;
  RequestId next_id_ = 1;
  PrefillCallback prefill_callback_;
  bool stopping_ = false;

  std::thread thread_;  ///< last: starts when all else is there
};

}  // namespace foveal::engine
