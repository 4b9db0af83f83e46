#pragma once

#include <functional>
#include <mutex>

#include "debug/debug_target.h"
#include "machine/machine.h"

namespace doppel::debug {

/// A machine::Machine under a debugger. The machine outlives it.
class MachineTarget : public DebugTarget {
 public:
  explicit MachineTarget(machine::Machine& machine) : machine_(machine) {}
  ~MachineTarget() override;
  MachineTarget(const MachineTarget&) = delete;
  MachineTarget& operator=(const MachineTarget&) = delete;

  unsigned vcpu_count() const override;
  void set_stop_listener(std::function<void(const Stop&)> listener) override;
  void stop() override;
  void resume(std::span<const ResumeAction> actions, std::span<const StopPoint> points) override;
  x86::CpuState registers(unsigned vcpu) override;
  void set_registers(unsigned vcpu, const x86::CpuState& state) override;
  bool read_memory(unsigned vcpu, std::uint64_t address, std::span<std::byte> out) override;
  bool write_memory(unsigned vcpu, std::uint64_t address, std::span<const std::byte> bytes) override;
  void reset() override;
  void kill() override;

 private:
  void on_exit(unsigned vcpu, const engine::Exit& exit);

  machine::Machine& machine_;
  std::mutex mutex_;     ///< taken inside the machine's own lock around its listener, never the other way
  unsigned pauses_ = 0;  ///< levels of Machine::pause that are ours: one by stop(), one by each stop it reported
  std::function<void(const Stop&)> listener_;
};

}  // namespace doppel::debug
