#include "attention/dsa/set_hook.h"

#include "base/check.h"

namespace foveal::attention::dsa {
namespace {

SetHook* installed = nullptr;

}  // namespace

InstalledSetHook::InstalledSetHook(SetHook& hook) {
  FOVEAL_INVARIANT(installed == nullptr);
  installed = &hook;
}

InstalledSetHook::~InstalledSetHook() { installed = nullptr; }

SetHook* set_hook() { return installed; }

}  // namespace foveal::attention::dsa
