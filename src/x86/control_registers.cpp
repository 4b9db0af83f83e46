#include "x86/control_registers.h"

#include <array>
#include <utility>
#include <vector>

#include "x86/paging_walk.h"

namespace doppel::x86 {

namespace {

using Feature = CpuidModel::Feature;

/// The PDPTEs that PAE paging would use with these registers; #GP(0) when one has a reserved bit set (SDM vol. 3,
/// 4.4.1).
std::array<std::uint64_t, 4> load_pdptes(const Cpu& cpu, std::uint64_t cr3) {
  constexpr std::uint64_t kTable = 0xFFFF'FFE0;
  std::array<std::uint64_t, 4> entries{};
  if (!cpu.ports.memory.read(cr3 & kTable, std::as_writable_bytes(std::span{entries}))) entries.fill(~std::uint64_t{0});
  const std::uint64_t reserved = pdpte_reserved_bits(cpu.ports.cpuid.physical_address_bits());
  for (const std::uint64_t entry : entries) {
    if ((entry & 1) != 0 && (entry & reserved) != 0) raise_gp();
  }
  return entries;
}

std::uint64_t allowed_cr4(const CpuidModel& cpuid) {
  std::uint64_t allowed = cr4::kTsd | cr4::kDe | cr4::kPse | cr4::kPae | cr4::kMce | cr4::kPge | cr4::kPce |
                          cr4::kOsfxsr | cr4::kOsxmmexcpt;
  constexpr std::array<std::pair<Feature, std::uint64_t>, 6> kByFeature{{
      {Feature::Umip, cr4::kUmip},
      {Feature::Fsgsbase, cr4::kFsgsbase},
      {Feature::Pcid, cr4::kPcide},
      {Feature::Xsave, cr4::kOsxsave},
      {Feature::Smep, cr4::kSmep},
      {Feature::Smap, cr4::kSmap},
  }};
  for (const auto& [feature, mask] : kByFeature) {
    if (cpuid.has(feature)) allowed |= mask;
  }
  return allowed;
}

/// SDM vol. 3, 9.8.5: what must hold when CR0.PG is set with EFER.LME.
void check_long_mode_activation(const CpuState& state) {
  constexpr unsigned kTss16Available = 1, kTss16Busy = 3;
  if ((state.cr4 & cr4::kPae) == 0 || state.seg(SegReg::Cs).long_mode()) raise_gp();
  if (state.tr.type() == kTss16Available || state.tr.type() == kTss16Busy) raise_gp();
}

}  // namespace

namespace {

/// One of DR0–DR3 with what DR7 says about it; SDM vol. 3, 17.2.4.
struct Breakpoint {
  enum Kind : std::uint8_t { Instruction, Write, Io, ReadWrite };
  bool enabled;
  Kind kind;
  std::uint64_t address, length;
};

Breakpoint breakpoint(const CpuState& state, unsigned number) {
  constexpr std::array<std::uint64_t, 4> kLengths{1, 2, 8, 4};
  const std::uint64_t length = kLengths[bits(state.dr7, 19 + 4 * number, 18 + 4 * number)];
  return {bits(state.dr7, 2 * number + 1, 2 * number) != 0,
          static_cast<Breakpoint::Kind>(bits(state.dr7, 17 + 4 * number, 16 + 4 * number)),
          align_down(state.dr[number], length), length};
}

}  // namespace

void refresh_debug_watches(Cpu& cpu) {
  std::vector<Mmu::Watch> watches;
  for (unsigned i = 0; i < 4; ++i) {
    const Breakpoint point = breakpoint(cpu.state, i);
    if (!point.enabled || (point.kind != Breakpoint::Write && point.kind != Breakpoint::ReadWrite)) continue;
    const bool on_read = point.kind == Breakpoint::ReadWrite;
    watches.push_back({point.address, point.length, on_read, true, static_cast<std::uint8_t>(1U << i)});
  }
  cpu.mmu.set_debug_register_watches(std::move(watches));
}

void note_port_access(Cpu& cpu, std::uint16_t port, unsigned size) {
  if ((cpu.state.cr4 & cr4::kDe) == 0) return;
  for (unsigned i = 0; i < 4; ++i) {
    const Breakpoint point = breakpoint(cpu.state, i);
    if (!point.enabled || point.kind != Breakpoint::Io) continue;
    if (point.address < std::uint64_t{port} + size && port < point.address + point.length)
      cpu.state.pending_debug |= bit(i);
  }
}

void write_cr0(Cpu& cpu, std::uint64_t value) {
  CpuState& state = cpu.state;
  constexpr std::uint64_t kWritable =
      cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs | cr0::kNe | cr0::kWp | cr0::kAm | cr0::kNw | cr0::kCd | cr0::kPg;
  if ((value >> 32) != 0) raise_gp();
  value = (value & kWritable) | cr0::kEt;
  const bool paging = (value & cr0::kPg) != 0, was_paging = (state.cr0 & cr0::kPg) != 0;
  if (paging && (value & cr0::kPe) == 0) raise_gp();
  if ((value & cr0::kNw) != 0 && (value & cr0::kCd) == 0) raise_gp();
  const bool long_mode = (state.efer & efer::kLme) != 0;
  if (paging && !was_paging && long_mode) check_long_mode_activation(state);
  if (!paging && was_paging && (state.code_64() || (state.cr4 & cr4::kPcide) != 0)) raise_gp();

  const std::uint64_t changed = value ^ state.cr0;
  if (paging && !long_mode && (state.cr4 & cr4::kPae) != 0 && (changed & (cr0::kPg | cr0::kCd | cr0::kNw)) != 0)
    state.pdpte = load_pdptes(cpu, state.cr3);
  state.cr0 = value;
  state.efer = paging && long_mode ? state.efer | efer::kLma : state.efer & ~efer::kLma;
  if ((changed & (cr0::kPg | cr0::kWp)) != 0) cpu.mmu.flush_all();
  if ((changed & (cr0::kPg | cr0::kPe | cr0::kAm)) != 0) cpu.mmu.refresh_view();
}

void write_cr3(Cpu& cpu, std::uint64_t value) {
  CpuState& state = cpu.state;
  // With PCIDs, bit 63 asks to keep the new PCID's translations; it is not stored, and we keep none to begin with.
  if ((state.cr4 & cr4::kPcide) != 0) value &= ~bit(63);
  if ((value & ~low_mask(cpu.ports.cpuid.physical_address_bits())) != 0) raise_gp();
  const bool pae = (state.cr0 & cr0::kPg) != 0 && (state.cr4 & cr4::kPae) != 0 && !state.long_mode_active();
  if (pae) state.pdpte = load_pdptes(cpu, value);
  state.cr3 = value;
  cpu.mmu.flush_non_global();
}

void write_cr4(Cpu& cpu, std::uint64_t value) {
  CpuState& state = cpu.state;
  if ((value & ~allowed_cr4(cpu.ports.cpuid)) != 0) raise_gp();
  const std::uint64_t changed = value ^ state.cr4;
  const bool pae = (value & cr4::kPae) != 0;
  if (state.long_mode_active() && !pae) raise_gp();
  if ((changed & value & cr4::kPcide) != 0 && (!state.long_mode_active() || (state.cr3 & low_mask(12)) != 0))
    raise_gp();

  constexpr std::uint64_t kReloadsPdptes = cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep;
  if ((state.cr0 & cr0::kPg) != 0 && pae && !state.long_mode_active() && (changed & kReloadsPdptes) != 0)
    state.pdpte = load_pdptes(cpu, state.cr3);
  state.cr4 = value;
  constexpr std::uint64_t kFlushes = cr4::kPse | cr4::kPae | cr4::kPge | cr4::kPcide | cr4::kSmep | cr4::kSmap;
  if ((changed & kFlushes) != 0) cpu.mmu.flush_all();
  if ((changed & cr4::kSmap) != 0) cpu.mmu.refresh_view();
}

void write_efer(Cpu& cpu, std::uint64_t value) {
  CpuState& state = cpu.state;
  value &= ~efer::kLma;  // read-only; follows LME and CR0.PG
  const std::uint64_t auto_ibrs = cpu.ports.cpuid.has(Feature::AutoIbrs) ? efer::kAibrse : 0;
  if ((value & ~(efer::kSce | efer::kLme | efer::kNxe | auto_ibrs)) != 0) raise_gp();
  const std::uint64_t changed = value ^ (state.efer & ~efer::kLma);
  if ((changed & efer::kLme) != 0 && (state.cr0 & cr0::kPg) != 0) raise_gp();
  state.efer = value | (state.efer & efer::kLma);
  if ((changed & efer::kNxe) != 0) cpu.mmu.flush_all();
}

void write_xcr0(Cpu& cpu, std::uint64_t value) {
  if ((value & ~cpu.ports.cpuid.supported_xcr0()) != 0 || (value & xcr0::kX87) == 0) raise_gp();
  if ((value & xcr0::kAvx) != 0 && (value & xcr0::kSse) == 0) raise_gp();
  cpu.state.xcr0 = value;
}

namespace {

constexpr std::uint64_t kDr6Bd = bit(13), kDr7Gd = bit(13);

/// DR4 and DR5 as DR6 and DR7, or #UD; then general detect.
unsigned check_debug_access(Cpu& cpu, unsigned index) {
  if (index > 7) raise_ud();
  if (index == 4 || index == 5) {
    if ((cpu.state.cr4 & cr4::kDe) != 0) raise_ud();
    index += 2;
  }
  if ((cpu.state.dr7 & kDr7Gd) != 0) {
    cpu.state.dr6 |= kDr6Bd;
    cpu.state.dr7 &= ~kDr7Gd;
    cpu.state.rflags_without_of |= rflags::kRf;  // as every fault but an instruction breakpoint saves it
    raise(vector::kDb);
  }
  return index;
}

}  // namespace

std::uint64_t read_debug_register(Cpu& cpu, unsigned index) {
  index = check_debug_access(cpu, index);
  return index == 6 ? cpu.state.dr6 : index == 7 ? cpu.state.dr7 : cpu.state.dr[index];
}

void write_debug_register(Cpu& cpu, unsigned index, std::uint64_t value) {
  constexpr std::uint64_t kDr6Writable = 0xE00F, kDr6Ones = 0xFFFF'0FF0, kDr7Writable = 0xFFFF'23FF, kDr7Ones = 0x400;
  index = check_debug_access(cpu, index);
  if (index >= 6 && (value >> 32) != 0) raise_gp();
  if (index == 6) {
    cpu.state.dr6 = (value & kDr6Writable) | kDr6Ones;
    return;
  }
  if (index == 7) {
    cpu.state.dr7 = (value & kDr7Writable) | kDr7Ones;
  } else {
    cpu.state.dr[index] = value;
  }
  refresh_debug_watches(cpu);
}

void invalidate_pcid(Cpu& cpu, std::uint64_t type, std::uint64_t descriptor_pcid, std::uint64_t descriptor_address) {
  constexpr std::uint64_t kIndividualAddress = 0, kSingleContext = 1, kAllWithGlobal = 2, kAllNonGlobal = 3;
  const bool pcids = (cpu.state.cr4 & cr4::kPcide) != 0;
  if (type > kAllNonGlobal || (descriptor_pcid >> 12) != 0) raise_gp();
  if (type <= kSingleContext && !pcids && descriptor_pcid != 0) raise_gp();
  if (type == kIndividualAddress && !is_canonical(descriptor_address)) raise_gp();

  // Only the current PCID's translations are ever cached.
  const bool current = descriptor_pcid == (pcids ? cpu.state.cr3 & low_mask(12) : 0);
  if (type == kIndividualAddress) {
    if (current) cpu.mmu.flush_page(descriptor_address);
  } else if (type == kAllWithGlobal) {
    cpu.mmu.flush_all();
  } else if (type == kAllNonGlobal || current) {
    cpu.mmu.flush_non_global();
  }
}

void state_replaced(Cpu& cpu) {
  // A loaded state is anybody's bytes; these bits would fault in the host's own FXRSTOR.
  cpu.state.fpu.mxcsr &= static_cast<std::uint32_t>(cpu.ports.cpuid.mxcsr_mask());
  refresh_debug_watches(cpu);
  cpu.mmu.refresh_view();
  cpu.mmu.flush_all();
  cpu.interrupt_waiting = true;
}

}  // namespace doppel::x86
