#pragma once

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "debug/debug_target.h"

namespace doppel::debug::test {

/// A machine that does nothing but remember what a debugger asked of it. RAM is one stretch of bytes.
class FakeTarget : public DebugTarget {
 public:
  static constexpr std::uint64_t kRamStart = 0xFFFF'8000'0000'0000, kRamSize = 8192;

  explicit FakeTarget(unsigned vcpus) : states(vcpus), ram(kRamSize) {
    for (x86::CpuState& state : states) {
      state.cr0 = x86::cr0::kPg | x86::cr0::kPe;
      state.efer = x86::efer::kLma | x86::efer::kLme;
      state.seg(x86::SegReg::Cs).attributes = x86::Segment::kL | x86::Segment::kP | x86::Segment::kS | 0xB;
    }
  }

  std::vector<x86::CpuState> states;
  std::vector<std::byte> ram;
  bool stopped = false;
  unsigned resumes = 0, resets = 0, kills = 0;
  std::vector<ResumeAction> last_actions;
  std::vector<StopPoint> last_points;
  std::function<void(const Stop&)> listener;
  /// What a resume does at once, as if the machine had stopped again immediately.
  std::function<void()> on_resume;

  unsigned vcpu_count() const override { return static_cast<unsigned>(states.size()); }
  void set_stop_listener(std::function<void(const Stop&)> new_listener) override { listener = std::move(new_listener); }
  void stop() override { stopped = true; }
  void resume(std::span<const ResumeAction> actions, std::span<const StopPoint> points) override {
    stopped = false;
    ++resumes;
    last_actions.assign(actions.begin(), actions.end());
    last_points.assign(points.begin(), points.end());
    if (on_resume) on_resume();
  }
  x86::CpuState registers(unsigned vcpu) override { return states[vcpu]; }
  void set_registers(unsigned vcpu, const x86::CpuState& state) override { states[vcpu] = state; }
  bool read_memory(unsigned, std::uint64_t address, std::span<std::byte> out) override {
    if (!inside(address, out.size())) return false;
    std::memcpy(out.data(), ram.data() + (address - kRamStart), out.size());
    return true;
  }
  bool write_memory(unsigned, std::uint64_t address, std::span<const std::byte> bytes) override {
    if (!inside(address, bytes.size())) return false;
    std::memcpy(ram.data() + (address - kRamStart), bytes.data(), bytes.size());
    return true;
  }
  void reset() override { ++resets; }
  void kill() override { ++kills; }

 private:
  static bool inside(std::uint64_t address, std::size_t size) {
    return address - kRamStart <= kRamSize && size <= kRamSize - (address - kRamStart);
  }
};

}  // namespace doppel::debug::test
