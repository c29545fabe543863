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

  void check(const EngineRequest& request) const;
  void run();
  bool wait_for_work();
  void take_inbox();
  void take_followers();
  void admit(std::unique_ptr<Running> running);
  void drop_cancelled();

  void step();
  void prepare(const scheduler::StepPlan& plan);
  void compute(const scheduler::StepPlan& plan);
  void account(const scheduler::StepPlan& plan);
  void compute_on_device(const scheduler::StepPlan& plan);
  void count_work();
  void publish(const scheduler::StepPlan& plan, std::span<const RowResult> rows);
  void publish_row(const LogitRow& row, const RowResult& result);
  void flush_events();
  void end(RequestId id, FinishReason reason, const std::optional<Error>& error = std::nullopt);
  void end_if_only_prompt(RequestId id);
  void end_prompts(const scheduler::StepPlan& plan);
  void fail_all(const scheduler::StepPlan& plan, const Error& error);
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
  Batch batch_;
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
