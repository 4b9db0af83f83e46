#pragma once

#include <memory>
#include <string>

#include "engine/engine.h"
#include "single_step/vectors.h"
#include "x86/fake_platform.h"

namespace doppel::single_step {

/// An engine's processor in real mode, with 16 MiB of RAM, that executes one instruction at a time.
class RealModeProcessor {
 public:
  /// `address_mask`: of the processor that the vectors come from, to whose width addresses wrap.
  RealModeProcessor(std::unique_ptr<engine::Engine> engine, std::uint32_t address_mask);

  /// What the instruction left that the vector does not say, one thing a line. `halts`: the vector ends behind a HLT
  /// that follows the instruction.
  std::string differences(const Vector& vector, bool halts);
  /// Of the last one: whether it went to the handler of this exception.
  bool took(std::uint8_t exception) const;

 private:
  void put(const Snapshot& snapshot);
  void step(const Vector& vector);
  std::uint32_t value(unsigned reg) const;

  std::unique_ptr<memory::GuestMemory> memory_;
  x86::test::FakeIo io_;
  time::VmClock clock_;
  x86::CpuidModel cpuid_ = x86::CpuidModel::for_host(1);
  x86::Attention attention_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<engine::VcpuRunner> vcpu_;
  x86::CpuState state_;
  std::uint32_t address_mask_;
  std::array<std::uint32_t, 32> handlers_{};  ///< the vector's interrupt table
};

}  // namespace doppel::single_step
