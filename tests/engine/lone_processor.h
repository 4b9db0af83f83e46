#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "engine/engine.h"
#include "x86/fake_platform.h"

namespace doppel::engine::test {

/// A processor of an engine with RAM of its own, and no devices: what executes single cases is built on it.
class LoneProcessor {
 protected:
  LoneProcessor(std::unique_ptr<Engine> engine, std::uint64_t ram_size)
      : memory_(memory::GuestMemory::create(ram_size, memory::GuestMemory::Backing::Shareable).value()),
        engine_(std::move(engine)),
        vcpu_(engine_->create_vcpu({*memory_, io_, clock_, cpuid_, attention_})) {}

  std::unique_ptr<memory::GuestMemory> memory_;
  x86::test::FakeIo io_;
  time::VmClock clock_;
  x86::CpuidModel cpuid_ = x86::CpuidModel::for_host(1);
  x86::Attention attention_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<VcpuRunner> vcpu_;
  x86::CpuState state_;
};

}  // namespace doppel::engine::test
