#pragma once

#include <cublasLt.h>

#include <string_view>

namespace foveal::cuda {

/// The functions of libcublasLt.so.13 that we call. The library is half a gigabyte and only matrix
/// products on a GPU need it, so it is loaded at the first use instead of at start-up.
struct CublasLt {
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtGetVersion) get_version;
  decltype(&::cublasLtGetStatusName) get_status_name;
  decltype(&::cublasLtMatmul) matmul;
  decltype(&::cublasLtMatmulDescCreate) matmul_desc_create;
  decltype(&::cublasLtMatmulDescDestroy) matmul_desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) matmul_desc_set;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&::cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) algo_heuristic;
  decltype(&::cublasLtMatmulAlgoGetIds) algo_ids;
  decltype(&::cublasLtMatmulAlgoInit) algo_init;
  decltype(&::cublasLtMatmulAlgoCheck) algo_check;
  decltype(&::cublasLtMatmulAlgoCapGetAttribute) algo_capability;
  decltype(&::cublasLtMatmulAlgoConfigSetAttribute) algo_config_set;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) algo_config_get;
};

/// Loaded by the first call. Any thread. Throws kUnsupported, with every place it looked in.
const CublasLt& cublas_lt();

/// Throws kInternal (kOutOfMemory where memory ran out), naming the call, for anything but success.
void check(cublasStatus_t status, std::string_view call);

}  // namespace foveal::cuda
