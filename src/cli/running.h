#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "control/registry.h"

namespace doppel::cli {

/// This user's machines, in the runtime directory of the environment.
Result<std::vector<control::RunningVm>> list_running();
Result<control::RunningVm> find_running(const std::string& name);
/// False as well for one that does not answer.
bool is_paused(const control::RunningVm& vm);

}  // namespace doppel::cli
