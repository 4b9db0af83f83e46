#include "control/machine_vm.h"

#include <utility>

namespace doppel::control {

std::string MachineVm::name() const {
  return machine_.config().name;
}

std::string MachineVm::state() const {
  switch (machine_.state()) {
    case machine::Machine::State::Created:
      return "Not started";
    case machine::Machine::State::Running:
      return "Running";
    case machine::Machine::State::Paused:
      return "Paused";
    case machine::Machine::State::Ended:
      break;
  }
  return "Ended";
}

nlohmann::json MachineVm::config() const {
  const machine::MachineConfig& config = machine_.config();
  nlohmann::json boot_source{{"kernel_image_path", config.kernel.path}, {"boot_args", config.command_line}};
  if (!config.initrds.empty()) boot_source["initrd_path"] = config.initrds.front().path;
  return {
      {"machine-config", {{"vcpu_count", config.cpus}, {"mem_size_mib", config.memory_bytes >> 20}, {"smt", false}}},
      {"boot-source", std::move(boot_source)},
      {"engine", machine_.engine_name()}};
}

void MachineVm::pause() {
  if (!std::exchange(paused_here_, true)) machine_.pause();
}

void MachineVm::resume() {
  if (std::exchange(paused_here_, false)) machine_.resume();
}

}  // namespace doppel::control
