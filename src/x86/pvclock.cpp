#include "x86/pvclock.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/bits.h"

namespace doppel::x86 {

namespace {

/// struct pvclock_vcpu_time_info after its version.
struct TimeInfo {
  std::uint32_t padding = 0;
  std::uint64_t tsc_timestamp = 0;
  std::uint64_t system_time = 0;
  std::uint32_t tsc_to_system_mul = 0;
  std::int8_t tsc_shift = 0;
  std::uint8_t flags = 0;
  std::uint16_t reserved = 0;
} __attribute__((packed));
static_assert(sizeof(TimeInfo) == 28);

/// struct pvclock_wall_clock after its version.
struct WallClock {
  std::uint32_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};

/// Replaces a structure under its version, which is odd meanwhile. What is not RAM stays alone.
template <class T>
void write_versioned(memory::GuestMemory& memory, memory::GuestPhysical address, const T& contents) {
  std::uint32_t version = 0;
  if (!memory.read_value(address, version)) return;
  const std::uint32_t odd = version | 1;
  if (!memory.write_value(address, odd)) return;
  // The host's processor stores in program order, as the guest's does; the compiler has to as well.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  memory.write_value(address + sizeof version, contents);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  memory.write_value(address, odd + 1);
}

}  // namespace

void update_system_time(Cpu& cpu, bool was_paused) {
  constexpr std::uint64_t kEnabled = 1;
  constexpr std::uint8_t kTscStable = 1, kGuestStopped = 2;
  if ((cpu.state.kvm_system_time & kEnabled) == 0) return;
  static_assert(time::kTscHz == 1'000'000'000);
  const auto now = static_cast<std::uint64_t>(cpu.ports.clock.now());
  TimeInfo info;
  info.tsc_timestamp = now + cpu.state.tsc_offset;
  info.system_time = now;
  // Nanoseconds are (ticks << 1) * 2^31 >> 32.
  info.tsc_to_system_mul = 0x8000'0000;
  info.tsc_shift = 1;
  // A guest may read any processor's structure with its own TSC, unless it has moved the TSCs apart.
  info.flags =
      static_cast<std::uint8_t>((cpu.state.tsc_offset == 0 ? kTscStable : 0) | (was_paused ? kGuestStopped : 0));
  write_versioned(cpu.ports.memory, cpu.state.kvm_system_time & ~kEnabled, info);
}

void update_wall_clock(Cpu& cpu) {
  constexpr std::int64_t kSecond = time::kSecond;
  if (cpu.state.kvm_wall_clock == 0) return;
  const std::int64_t base = cpu.ports.io.wall_clock_base();
  const WallClock wall{static_cast<std::uint32_t>(base / kSecond), static_cast<std::uint32_t>(base % kSecond)};
  write_versioned(cpu.ports.memory, cpu.state.kvm_wall_clock, wall);
}

}  // namespace doppel::x86
