#include "control/machine_vm.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
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
  nlohmann::json cards = nlohmann::json::array();
  for (std::size_t i = 0; i < config.networks.size(); ++i) {
    const auto mac = config.networks[i].mac.value_or(std::array<std::uint8_t, 6>{});
    cards.push_back(
        {{"iface_id", "net" + std::to_string(i)}, {"guest_mac", fmt::format("{:02x}", fmt::join(mac, ":"))}});
  }
  nlohmann::json result{
      {"network-interfaces", std::move(cards)},
      {"machine-config", {{"vcpu_count", config.cpus}, {"mem_size_mib", config.memory_bytes >> 20}, {"smt", false}}},
      {"boot-source", std::move(boot_source)},
      {"engine", machine_.engine_name()}};
  if (machine_.engine_name() != "interp") result["code_cache_kib"] = config.translator.code_bytes >> 10;
  return result;
}

Result<void> MachineVm::snapshot(snapshot::CreateOptions options, snapshot::Snapshotter::Done done) {
  if (snapshotter_ == nullptr) {
    return Error{"this machine has no place for snapshots: set HOME or XDG_STATE_HOME when it is started"};
  }
  return snapshotter_->create(std::move(options), std::move(done));
}

snapshot::Snapshotter::Progress MachineVm::snapshot_progress() const {
  return snapshotter_ == nullptr ? snapshot::Snapshotter::Progress{} : snapshotter_->progress();
}

std::optional<nlohmann::json> MachineVm::describe_code(unsigned vcpu, std::uint64_t linear) {
  if (vcpu >= machine_.config().cpus) return std::nullopt;
  return machine_.describe_code(vcpu, linear);
}

void MachineVm::pause() {
  if (!std::exchange(paused_here_, true)) machine_.pause();
}

void MachineVm::resume() {
  if (std::exchange(paused_here_, false)) machine_.resume();
}

}  // namespace doppel::control
