#include "device/cuda/cublaslt.h"

#include "base/error.h"
#include "device/cuda/library.h"

namespace foveal::cuda {
namespace {

CublasLt load() {
  void* library = open_library("libcublasLt.so.13");
  CublasLt table{};
  const auto get = [library](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
        library_symbol(library, name));
  };
  get(table.create, "cublasLtCreate");
  get(table.destroy, "cublasLtDestroy");
  get(table.get_version, "cublasLtGetVersion");
  get(table.get_status_name, "cublasLtGetStatusName");
  get(table.matmul, "cublasLtMatmul");
  get(table.matmul_desc_create, "cublasLtMatmulDescCreate");
  get(table.matmul_desc_destroy, "cublasLtMatmulDescDestroy");
  get(table.matmul_desc_set, "cublasLtMatmulDescSetAttribute");
  get(table.layout_create, "cublasLtMatrixLayoutCreate");
  get(table.layout_destroy, "cublasLtMatrixLayoutDestroy");
  get(table.layout_set, "cublasLtMatrixLayoutSetAttribute");
  get(table.preference_create, "cublasLtMatmulPreferenceCreate");
  get(table.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  get(table.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  get(table.algo_heuristic, "cublasLtMatmulAlgoGetHeuristic");
  get(table.algo_ids, "cublasLtMatmulAlgoGetIds");
  get(table.algo_init, "cublasLtMatmulAlgoInit");
  get(table.algo_check, "cublasLtMatmulAlgoCheck");
  get(table.algo_capability, "cublasLtMatmulAlgoCapGetAttribute");
  get(table.algo_config_set, "cublasLtMatmulAlgoConfigSetAttribute");
  get(table.algo_config_get, "cublasLtMatmulAlgoConfigGetAttribute");
  return table;
}

}  // namespace

const CublasLt& cublas_lt() {
  static const CublasLt kTable = load();
  return kTable;
}

void check(cublasStatus_t status, std::string_view call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::kOutOfMemory : ErrorKind::kInternal,
       "cublas", "got {} from {}; need success", cublas_lt().get_status_name(status), call);
}

}  // namespace foveal::cuda
