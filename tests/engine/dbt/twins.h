#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "engine/dbt/runner.h"
#include "engine/guest_program.h"
#include "engine/lockstep/difference.h"
#include "engine/random_instructions.h"

namespace doppel::engine::test {

inline constexpr std::uint64_t kTwinRam = 4 << 20;

/// One processor with memory and platform of its own.
struct Side {
  explicit Side(std::unique_ptr<Engine> made)
      : engine(std::move(made)), vcpu(engine->create_vcpu({*memory, io, clock, cpuid, attention})) {}

  std::unique_ptr<memory::GuestMemory> memory =
      memory::GuestMemory::create(kTwinRam, memory::GuestMemory::Backing::Shareable).value();
  x86::test::FakeIo io;
  time::VmClock clock;
  x86::CpuidModel cpuid = x86::CpuidModel::for_host(1);
  x86::Attention attention;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<VcpuRunner> vcpu;
  CpuState state;
  Exit exit{};

  void run() {
    vcpu->load(state);
    exit = vcpu->run();
    vcpu->store(state);
  }
};

/// Direct64: as User64, for a translator that executes all such programs directly.
enum class TwinMode { User64, Direct64, Supervisor64, Protected32, UserCompatibility };
inline bool is_64(TwinMode mode) {
  return mode == TwinMode::User64 || mode == TwinMode::Direct64 || mode == TwinMode::Supervisor64;
}
inline bool is_user(TwinMode mode) {
  return mode == TwinMode::User64 || mode == TwinMode::Direct64 || mode == TwinMode::UserCompatibility;
}
inline std::unique_ptr<Engine> translator_for(TwinMode mode) {
  TranslatorOptions options;
  options.direct = mode == TwinMode::Direct64 ? DirectExecution::Always : DirectExecution::Never;
  return make_translator(options).value();
}

/// The same program on the interpreter and on the translator, from the same state: afterwards everything is the same.
///
/// The first 4 MiB of linear addresses are RAM at the same address, in 4 KiB pages; then comes what is no memory.
class Twins {
 public:
  explicit Twins(std::unique_ptr<Engine> translator = translator_for(TwinMode::User64))
      : right(std::move(translator)) {}

  Side left{make_interpreter()};
  Side right;
  CpuState state;  ///< that both start from

  // Pages with rights of their own; all others may be read, written and executed by everybody.
  static constexpr std::uint64_t kData = 0x30'0000, kDataPages = 8;
  static constexpr std::uint64_t kReadOnly = kData + 4 * 4096, kAbsent = kData + 5 * 4096,
                                 kSupervisor = kData + 6 * 4096;
  static constexpr std::uint64_t kMmio = 0x2000'0000;
  static constexpr std::uint64_t kTables = 0x1000, kGdt = 0x4000, kIdt = 0x5000, kPageTable = 0x10000, kTss = 0x7000,
                                 kKernelStack = 0x18'0000;

  void place(std::uint64_t address, std::span<const std::byte> bytes) {
    ASSERT_TRUE(left.memory->write(address, bytes));
    ASSERT_TRUE(right.memory->write(address, bytes));
  }
  template <class T>
  void poke(std::uint64_t address, T value) {
    place(address, std::as_bytes(std::span{&value, 1}));
  }
  void place_code(std::uint64_t address, const std::function<void(asmjit::x86::Assembler&)>& write) {
    place(address, assemble(address, write, state.code_64() ? asmjit::Arch::kX64 : asmjit::Arch::kX86));
  }
  /// The page table entry of a linear address below 4 MiB, for 64-bit and compatibility modes.
  static std::uint64_t entry_of(std::uint64_t address) { return kPageTable + 8 * (address >> 12); }

  void enter(TwinMode mode) {
    direct_ = mode == TwinMode::Direct64;
    state = CpuState{};
    state.reset(false, true);
    for (const Side* side : {&left, &right}) const_cast<Side*>(side)->io = {};
    mode == TwinMode::Protected32 ? paging_32() : paging_64();
    descriptors(mode);
    state.rip = kCodeAddress;
    state.gpr[x86::kRsp] = kStackTop;
  }

  void run() {
    for (Side* side : {&left, &right}) {
      side->state = state;
      side->state.activity = x86::Activity::Running;
      side->run();
    }
  }
  /// What differs after run(), a line each.
  std::string difference() const {
    std::string text;
    if (left.exit.reason != right.exit.reason)
      text += fmt::format("exit {} != {}\n", static_cast<int>(left.exit.reason), static_cast<int>(right.exit.reason));
    for (const std::string& line : lockstep::differences(left.state, right.state)) text += line + '\n';
    for (std::uint64_t page = 0; page < kTwinRam; page += memory::kPageSize) {
      const std::byte *a = left.memory->page(page), *b = right.memory->page(page);
      if (std::memcmp(a, b, memory::kPageSize) == 0) continue;
      for (std::uint64_t i = 0; i < memory::kPageSize; ++i) {
        const bool entry = page < kGdt || page == kPageTable || page == kPageTable + memory::kPageSize;
        const auto differing = static_cast<unsigned>(a[i] ^ b[i]);
        const bool early = entry && (differing & ~looked_up_early()) == 0;
        if (differing == 0 || early) continue;
        text += fmt::format("memory {:#x}: {:#x} != {:#x}\n", page + i, static_cast<unsigned>(a[i]),
                            static_cast<unsigned>(b[i]));
        break;
      }
    }
    if (left.io.mmio_writes != right.io.mmio_writes) text += "MMIO writes differ\n";
    if (left.io.mmio_reads != right.io.mmio_reads) text += "MMIO reads differ\n";
    return text;
  }
  /// Bits of page table entries that may differ, for processors do look up operands of instructions that fault: one
  /// that raises #MF for an earlier one, and the operand of CMPS that does not fault.
  unsigned looked_up_early() const {
    constexpr unsigned kAccessed = 0x20, kDirty = 0x40;
    if (exception() == x86::vector::kMf) return kAccessed | kDirty;
    return direct_ && exception() == x86::vector::kPf ? kAccessed : 0;
  }
  void run_and_compare(const std::string& what = "") {
    run();
    EXPECT_EQ(difference(), "") << what;
  }
  /// The exception that ended the program by a handler that halts.
  std::optional<unsigned> exception() const {
    const std::uint64_t rip = left.state.rip;
    if (rip <= kHandlers || rip > kHandlers + 256 * kHandlerSize) return std::nullopt;
    return static_cast<unsigned>((rip - 1 - kHandlers) / kHandlerSize);
  }

 private:
  bool direct_ = false;

  static constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80;

  static std::uint64_t rights(std::uint64_t address) {
    switch (address) {
      case kReadOnly:
        return kPresent | kUser;
      case kAbsent:
        return 0;
      case kSupervisor:
        return kPresent | kWritable;
      default:
        return kPresent | kWritable | kUser;
    }
  }

  void paging_64() {
    constexpr std::uint64_t kPdpt = kTables + 0x1000, kPd = kTables + 0x2000, kAll = kPresent | kWritable | kUser;
    poke(kTables, kPdpt | kAll);
    poke(kPdpt, kPd | kAll);
    for (std::uint64_t i = 0; i < 512; ++i) poke(kPd + 8 * i, i << 21 | kAll | kLarge);
    for (std::uint64_t i = 0; i < 2; ++i) poke(kPd + 8 * i, (kPageTable + i * 4096) | kAll);
    for (std::uint64_t address = 0; address < kTwinRam; address += 4096)
      poke(entry_of(address), address | rights(address));
    state.cr0 = x86::cr0::kPe | x86::cr0::kPg | x86::cr0::kEt | x86::cr0::kNe | x86::cr0::kWp | x86::cr0::kMp;
    state.cr3 = kTables;
    state.cr4 = x86::cr4::kPae | x86::cr4::kOsfxsr | x86::cr4::kOsxmmexcpt | x86::cr4::kOsxsave | x86::cr4::kPge;
    state.xcr0 = x86::xcr0::kX87 | x86::xcr0::kSse | x86::xcr0::kAvx;
    state.efer = x86::efer::kLme | x86::efer::kLma | x86::efer::kSce | x86::efer::kNxe;
  }
  void paging_32() {
    constexpr std::uint32_t kAll = kPresent | kWritable | kUser;
    poke(kTables, static_cast<std::uint32_t>(kPageTable | kAll));
    for (std::uint32_t i = 1; i < 1024; ++i) poke(kTables + 4 * i, i << 22 | kAll | static_cast<std::uint32_t>(kLarge));
    for (std::uint32_t i = 0; i < 1024; ++i)
      poke(kPageTable + 4 * i, i << 12 | static_cast<std::uint32_t>(rights(i << 12)));
    state.cr0 = x86::cr0::kPe | x86::cr0::kPg | x86::cr0::kEt | x86::cr0::kNe | x86::cr0::kWp | x86::cr0::kMp;
    state.cr3 = kTables;
    state.cr4 = x86::cr4::kPse | x86::cr4::kOsfxsr | x86::cr4::kOsxmmexcpt | x86::cr4::kOsxsave;
    state.xcr0 = x86::xcr0::kX87 | x86::xcr0::kSse | x86::xcr0::kAvx;
  }
  void descriptors(TwinMode mode) {
    constexpr std::uint64_t kCode64 = 0x00AF'9B00'0000'FFFF, kCode32 = 0x00CF'9B00'0000'FFFF,
                            kDataEntry = 0x00CF'9300'0000'FFFF, kDpl3 = std::uint64_t{3} << 45;
    const bool long_mode = mode != TwinMode::Protected32;
    poke(kGdt + 8, long_mode ? kCode64 : kCode32);
    poke(kGdt + 16, kDataEntry);
    poke(kGdt + 24, kDataEntry | kDpl3);
    poke(kGdt + 32, kCode64 | kDpl3);
    poke(kGdt + 40, kCode32 | kDpl3);
    for (std::uint64_t vector = 0; vector < 256; ++vector) {
      const std::uint64_t handler = kHandlers + vector * kHandlerSize;
      poke(handler, std::uint8_t{0xF4});
      const std::uint64_t gate = (handler & 0xFFFF) | 8 << 16 | std::uint64_t{0x8E00} << 32 | (handler >> 16) << 48;
      if (long_mode) {
        poke(kIdt + 16 * vector, gate);
        poke(kIdt + 16 * vector + 8, std::uint64_t{0});
      } else {
        poke(kIdt + 8 * vector, gate);
      }
    }
    state.gdtr = {kGdt, 47};
    state.idtr = {kIdt, static_cast<std::uint16_t>(long_mode ? 0xFFF : 0x7FF)};
    poke(kTss + 4, kKernelStack);
    state.tr = {kTss, 0x67, Segment::kP | 11, 0x30};
    const bool user = is_user(mode);
    const std::uint16_t rpl = user ? 3 : 0;
    const std::uint16_t code = !user ? 0x08 : is_64(mode) ? 0x20 : 0x28;
    state.seg(SegReg::Cs) = flat_segment(static_cast<std::uint16_t>(code | rpl), true, is_64(mode));
    for (const SegReg data : {SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs})
      state.seg(data) = flat_segment(static_cast<std::uint16_t>((user ? 0x18 : 0x10) | rpl), false, true);
    if (!user) return;
    for (Segment& segment : state.segment) segment.attributes |= 3U << 5;
  }
};

}  // namespace doppel::engine::test
