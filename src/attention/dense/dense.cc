#include "attention/dense/dense.h"

#include "attention/latent.h"
#include "attention/paged.h"

namespace foveal::attention {
namespace {

Capabilities dense_capabilities(DeviceKind device) {
  Capabilities out = paged_capabilities(device);
  out.latent = true;
  return out;
}

class Dense final : public AttentionMethod {
 public:
  Dense(DeviceKind device, bool checkpoint_asks)
      : capabilities_(dense_capabilities(device)), checkpoint_asks_(checkpoint_asks) {}

  std::string_view name() const override { return "dense"; }

  const Capabilities& capabilities() const override { return capabilities_; }

  bool active(Phase /*phase*/) const override { return false; }

  Resolution resolve(int32_t /*layer*/, Phase /*phase*/) const override {
    return {.method = "dense",
            .setting = "",
            .why = checkpoint_asks_ ? "the checkpoint's sparse_attention_config names no setting "
                                      "that this build applies by itself"
                                    : "no sparse method is configured"};
  }

  bool attends_to_all(Phase /*phase*/, int64_t /*max_kv_len*/) const override { return true; }

  void attend(int32_t /*layer*/, Phase phase, const AttendArgs& args, Stream& stream) override {
    if (args.heads != nullptr) return args.heads->attend(args, stream);
    if (args.kv.value_dim == 0) return attend_paged(phase, args, {}, stream);
    if (args.device_seqs != nullptr) return attend_latent_cuda(args, stream);
    attend_latent(args, /*sets=*/nullptr, stream);
  }

 private:
  Capabilities capabilities_;
  bool checkpoint_asks_;
};

}  // namespace

std::unique_ptr<AttentionMethod> make_dense(const SparseAttentionConfig* /*config*/,
                                            const MethodContext& context) {
  return std::make_unique<Dense>(context.device.kind, !context.checkpoint_sparse_json.empty());
}

std::vector<MethodExample> dense_examples() {
  return {{.name = "dense", .config = nullptr, .equals_dense = true}};
}

}  // namespace foveal::attention
