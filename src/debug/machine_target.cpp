#include "debug/machine_target.h"

#include <utility>

namespace doppel::debug {
namespace {

Stop::Reason reason_of(engine::ExitReason reason) {
  switch (reason) {
    case engine::ExitReason::Stepped:
      return Stop::Reason::Stepped;
    case engine::ExitReason::Breakpoint:
      return Stop::Reason::Breakpoint;
    case engine::ExitReason::Watchpoint:
      return Stop::Reason::Watchpoint;
    case engine::ExitReason::Shutdown:
      return Stop::Reason::Shutdown;
    case engine::ExitReason::Stopped:
    case engine::ExitReason::Halted:
    case engine::ExitReason::Diverged:
      break;
  }
  return Stop::Reason::Interrupted;
}

/// Where the next instruction is, as breakpoints count.
std::uint64_t linear_rip(const x86::CpuState& state) {
  return state.code_64() ? state.rip : state.seg(x86::SegReg::Cs).base + state.rip;
}

engine::DebugRequest make_request(ResumeAction action, std::span<const StopPoint> points, std::uint64_t rip) {
  engine::DebugRequest request;
  request.single_step = action == ResumeAction::Step;
  for (const StopPoint& point : points) {
    if (!point.is_breakpoint()) {
      const bool reads = point.kind != StopPoint::Kind::WriteWatch, writes = point.kind != StopPoint::Kind::ReadWatch;
      request.watchpoints.push_back({point.address, point.length, reads, writes});
    } else if (action != ResumeAction::Step || point.address != rip) {
      // A step leaves the instruction that it starts from, whatever stands there.
      request.breakpoints.push_back(point.address);
    }
  }
  return request;
}

}  // namespace

MachineTarget::~MachineTarget() {
  machine_.set_debug_listener(nullptr);
}

unsigned MachineTarget::vcpu_count() const {
  return machine_.config().cpus;
}

void MachineTarget::set_stop_listener(std::function<void(const Stop&)> listener) {
  const bool wanted = static_cast<bool>(listener);
  {
    const std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
  }
  if (wanted)
    machine_.set_debug_listener([this](unsigned vcpu, const engine::Exit& exit) { on_exit(vcpu, exit); });
  else
    machine_.set_debug_listener(nullptr);
}

void MachineTarget::on_exit(unsigned vcpu, const engine::Exit& exit) {
  const std::lock_guard lock(mutex_);
  ++pauses_;
  if (!listener_) return;
  const std::uint64_t address =
      exit.reason == engine::ExitReason::Breakpoint ? linear_rip(machine_.cpu_state(vcpu)) : exit.address;
  listener_({reason_of(exit.reason), vcpu, address});
}

void MachineTarget::stop() {
  const std::lock_guard lock(mutex_);
  if (pauses_ != 0) return;
  machine_.pause();
  pauses_ = 1;
}

void MachineTarget::resume(std::span<const ResumeAction> actions, std::span<const StopPoint> points) {
  const std::lock_guard lock(mutex_);
  for (unsigned i = 0; i < actions.size(); ++i) {
    machine_.set_debug_request(i, make_request(actions[i], points, linear_rip(machine_.cpu_state(i))));
    machine_.hold(i, actions[i] == ResumeAction::Stay);
  }
  for (; pauses_ > 0; --pauses_) machine_.resume();
}

x86::CpuState MachineTarget::registers(unsigned vcpu) {
  return machine_.cpu_state(vcpu);
}

void MachineTarget::set_registers(unsigned vcpu, const x86::CpuState& state) {
  machine_.set_cpu_state(vcpu, state);
}

bool MachineTarget::read_memory(unsigned vcpu, std::uint64_t address, std::span<std::byte> out) {
  return machine_.read_linear(vcpu, address, out);
}

bool MachineTarget::write_memory(unsigned vcpu, std::uint64_t address, std::span<const std::byte> bytes) {
  return machine_.write_linear(vcpu, address, bytes);
}

void MachineTarget::reset() {
  machine_.reset();
}

void MachineTarget::kill() {
  machine_.stop();
}

}  // namespace doppel::debug
