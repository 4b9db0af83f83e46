#pragma once

#include <nlohmann/json.hpp>

#include "control/vm.h"
#include "machine/machine.h"

namespace doppel::control {

/// A Machine as the control socket sees it.
class MachineVm : public Vm {
 public:
  /// Without a snapshotter, the machine has nowhere to put a snapshot.
  MachineVm(machine::Machine& machine, snapshot::Snapshotter* snapshotter)
      : machine_(machine), snapshotter_(snapshotter) {}

  std::string name() const override;
  std::string state() const override;
  nlohmann::json config() const override;
  nlohmann::json inspect() override { return machine_.inspect(); }
  nlohmann::json stats() override { return machine_.stats(); }
  void set_counting(bool counting) override { machine_.set_counting(counting); }
  std::optional<nlohmann::json> describe_code(unsigned vcpu, std::uint64_t linear) override;
  void pause() override;
  void resume() override;
  void press_power_button() override { machine_.press_power_button(); }
  void send_ctrl_alt_del() override { machine_.send_ctrl_alt_del(); }
  void send_break() override { machine_.send_serial_break(0); }
  bool set_console_size(std::uint16_t columns, std::uint16_t rows) override {
    return machine_.set_console_size(columns, rows);
  }
  bool set_balloon(std::uint64_t bytes) override { return machine_.set_balloon(bytes); }
  void kill() override { machine_.stop(); }
  Result<void> snapshot(snapshot::CreateOptions options, snapshot::Snapshotter::Done done) override;
  snapshot::Snapshotter::Progress snapshot_progress() const override;
  Result<void> load(const LoadRequest& /*request*/) override {
    return Error{"the machine has been started already: doppel snapshot restore starts it anew from a snapshot"};
  }

 private:
  machine::Machine& machine_;
  snapshot::Snapshotter* const snapshotter_;
  /// Pauses nest, and a debugger has its own: this one is the control socket's.
  bool paused_here_ = false;
};

}  // namespace doppel::control
