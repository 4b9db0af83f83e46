#include "x86/xstate.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "base/bits.h"
#include "x86/fpu_words.h"

namespace doppel::x86 {

namespace {

using St = FpuState::St;
using FxsaveImage = std::array<std::byte, kFxsaveSize>;

// Offsets in the legacy region; SDM vol. 1, table 10-2.
constexpr std::size_t kFcw = 0, kFsw = 2, kFtw = 4, kFop = 6, kFip = 8, kFdp = 16, kMxcsr = 24, kMxcsrMask = 28,
                      kSt = 32, kXmm = 160;
constexpr std::uint32_t kMxcsrInit = 0x1F80;

/// Registers that an instruction of the current mode can name.
unsigned vector_registers(const CpuState& state) {
  return state.code_64() ? 16 : 8;
}

/// FXSAVE and FXRSTOR; with alignment checking on, that has precedence (SDM vol. 2, FXRSTOR).
void check_fx_alignment(const Cpu& cpu, LinearAddress address) {
  if (address % 16 == 0) return;
  if (cpu.mmu.checks_alignment()) raise(vector::kAc, 0);
  raise_gp();
}

void check_alignment(LinearAddress address, std::uint64_t alignment) {
  if (address % alignment != 0) raise_gp();
}

void check_mxcsr(const Cpu& cpu, std::uint32_t value) {
  if ((value & ~cpu.ports.cpuid.mxcsr_mask()) != 0) raise_gp();
}

// --- The components, to and from their images ---

void put_x87(const FpuState& fpu, bool rex_w, std::byte* image) {
  store_le(image + kFcw, fpu.fcw);
  store_le(image + kFsw, fpu.fsw);
  store_le<std::uint16_t>(image + kFtw, fpu.ftw);
  store_le(image + kFop, fpu.fop);
  // Without REX.W the upper halves are FCS and FDS, which are deprecated: CPUID.7:EBX[13] says that they read 0.
  const std::uint64_t pointer_mask = rex_w ? ~std::uint64_t{0} : 0xFFFF'FFFF;
  store_le(image + kFip, fpu.fip & pointer_mask);
  store_le(image + kFdp, fpu.fdp & pointer_mask);
  for (std::size_t i = 0; i < 8; ++i) {
    store_le(image + kSt + 16 * i, fpu.st[i].significand);
    store_le<std::uint64_t>(image + kSt + 16 * i + 8, fpu.st[i].sign_exponent);
  }
}

void take_x87(FpuState& fpu, bool rex_w, const std::byte* image) {
  fpu.fcw = x87_control(load_le<std::uint16_t>(image + kFcw));
  fpu.fsw = load_le<std::uint16_t>(image + kFsw);
  fpu.ftw = load_le<std::uint8_t>(image + kFtw);
  fpu.fop = load_le<std::uint16_t>(image + kFop) & 0x7FF;
  const std::uint64_t pointer_mask = rex_w ? ~std::uint64_t{0} : 0xFFFF'FFFF;
  fpu.fip = load_le<std::uint64_t>(image + kFip) & pointer_mask;
  fpu.fdp = load_le<std::uint64_t>(image + kFdp) & pointer_mask;
  for (std::size_t i = 0; i < 8; ++i) {
    fpu.st[i].significand = load_le<std::uint64_t>(image + kSt + 16 * i);
    fpu.st[i].sign_exponent = load_le<std::uint16_t>(image + kSt + 16 * i + 8);
  }
  update_x87_summary(fpu);
}

void init_x87(FpuState& fpu) {
  const std::uint32_t mxcsr = fpu.mxcsr;
  fpu = FpuState{};
  fpu.mxcsr = mxcsr;
}

bool x87_is_initial(const FpuState& fpu) {
  const bool empty = std::all_of(fpu.st.begin(), fpu.st.end(),
                                 [](const St& st) { return st.significand == 0 && st.sign_exponent == 0; });
  return empty && fpu.fcw == 0x37F && fpu.fsw == 0 && fpu.ftw == 0 && fpu.fop == 0 && fpu.fip == 0 && fpu.fdp == 0;
}

/// XMM registers are the lower half of each Ymm (`half` 0), the AVX component their upper half (`half` 1).
void put_halves(const CpuState& state, std::size_t half, std::byte* image) {
  for (unsigned i = 0; i < vector_registers(state); ++i) {
    store_le(image + std::size_t{16} * i, state.ymm[i].qword[2 * half]);
    store_le(image + std::size_t{16} * i + 8, state.ymm[i].qword[2 * half + 1]);
  }
}

/// `image` null: the initial value.
void take_halves(CpuState& state, std::size_t half, const std::byte* image) {
  for (unsigned i = 0; i < vector_registers(state); ++i) {
    const std::byte* source = image == nullptr ? nullptr : image + std::size_t{16} * i;
    state.ymm[i].qword[2 * half] = source == nullptr ? 0 : load_le<std::uint64_t>(source);
    state.ymm[i].qword[2 * half + 1] = source == nullptr ? 0 : load_le<std::uint64_t>(source + 8);
  }
}

bool halves_are_initial(const CpuState& state, std::size_t half) {
  return std::all_of(state.ymm.begin(), state.ymm.end(),
                     [half](const Ymm& ymm) { return ymm.qword[2 * half] == 0 && ymm.qword[2 * half + 1] == 0; });
}

/// XINUSE; SDM vol. 1, 13.6.
std::uint64_t components_in_use(const CpuState& state) {
  return (x87_is_initial(state.fpu) ? 0 : xcr0::kX87) | (halves_are_initial(state, 0) ? 0 : xcr0::kSse) |
         (halves_are_initial(state, 1) ? 0 : xcr0::kAvx);
}

void put_mxcsr(const Cpu& cpu, std::byte* image) {
  store_le(image + kMxcsr, cpu.state.fpu.mxcsr);
  store_le(image + kMxcsrMask, static_cast<std::uint32_t>(cpu.ports.cpuid.mxcsr_mask()));
}

void write_range(Cpu& cpu, LinearAddress address, const std::byte* image, std::size_t from, std::size_t size) {
  cpu.mmu.write_bytes(address + from, {image + from, size}, cpu.mmu.data_view());
}

}  // namespace

void fxsave(Cpu& cpu, LinearAddress address, bool rex_w) {
  check_fx_alignment(cpu, address);
  FxsaveImage image{};
  put_x87(cpu.state.fpu, rex_w, image.data());
  put_mxcsr(cpu, image.data());
  put_halves(cpu.state, 0, image.data() + kXmm);
  cpu.mmu.probe(address, kFxsaveSize, Access::Write, cpu.mmu.data_view());
  write_range(cpu, address, image.data(), 0, kXmm + std::size_t{16} * vector_registers(cpu.state));
}

void fxrstor(Cpu& cpu, LinearAddress address, bool rex_w) {
  check_fx_alignment(cpu, address);
  FxsaveImage image;
  cpu.mmu.read_bytes(address, image, cpu.mmu.data_view());
  const auto mxcsr = load_le<std::uint32_t>(image.data() + kMxcsr);
  check_mxcsr(cpu, mxcsr);
  take_x87(cpu.state.fpu, rex_w, image.data());
  cpu.state.fpu.mxcsr = mxcsr;
  take_halves(cpu.state, 0, image.data() + kXmm);
}

// SDM vol. 1, 13.7 to 13.10.
void xsave(Cpu& cpu, LinearAddress address, std::uint64_t requested, XsaveKind kind, bool rex_w) {
  constexpr std::size_t kXstateBv = kFxsaveSize, kXcompBv = kFxsaveSize + 8;
  constexpr std::uint64_t kCompacted = bit(63);
  check_alignment(address, 64);
  const CpuState& state = cpu.state;
  const View view = cpu.mmu.data_view();
  const std::uint64_t components = requested & state.xcr0;
  std::uint64_t in_use = components_in_use(state);
  if (kind == XsaveKind::Xsavec && state.fpu.mxcsr != kMxcsrInit) in_use |= xcr0::kSse;
  const std::uint64_t stored = kind == XsaveKind::Xsave ? components : components & in_use;
  const std::uint64_t with_mxcsr =
      kind == XsaveKind::Xsavec ? stored & xcr0::kSse : components & (xcr0::kSse | xcr0::kAvx);

  std::array<std::byte, kXsaveSize> image{};
  put_x87(state.fpu, rex_w, image.data());
  put_mxcsr(cpu, image.data());
  put_halves(state, 0, image.data() + kXmm);
  put_halves(state, 1, image.data() + kXsaveAvxOffset);
  const std::size_t vector_bytes = std::size_t{16} * vector_registers(state);

  cpu.mmu.probe(address, xsave_area_size(components, kind == XsaveKind::Xsavec), Access::Write, view);
  if ((stored & xcr0::kX87) != 0) {
    write_range(cpu, address, image.data(), 0, kMxcsr);
    write_range(cpu, address, image.data(), kSt, kXmm - kSt);
  }
  if (with_mxcsr != 0) write_range(cpu, address, image.data(), kMxcsr, kSt - kMxcsr);
  if ((stored & xcr0::kSse) != 0) write_range(cpu, address, image.data(), kXmm, vector_bytes);
  if ((stored & xcr0::kAvx) != 0) write_range(cpu, address, image.data(), kXsaveAvxOffset, vector_bytes);

  if (kind == XsaveKind::Xsavec) {
    cpu.mmu.write<std::uint64_t>(address + kXstateBv, components & in_use, view);
    cpu.mmu.write<std::uint64_t>(address + kXcompBv, components | kCompacted, view);
  } else {
    const auto before = cpu.mmu.read<std::uint64_t>(address + kXstateBv, view);
    cpu.mmu.write<std::uint64_t>(address + kXstateBv, (before & ~components) | (components & in_use), view);
  }
}

namespace {

struct XsaveHeader {
  std::uint64_t xstate_bv;
  std::uint64_t xcomp_bv;
  bool compacted() const { return (xcomp_bv & bit(63)) != 0; }
};

/// SDM vol. 1, 13.8: #GP(0) for a header that XRSTOR refuses.
XsaveHeader check_header(const Cpu& cpu, const std::byte* header) {
  const XsaveHeader result{load_le<std::uint64_t>(header), load_le<std::uint64_t>(header + 8)};
  const bool compacted = result.compacted();
  if (compacted && !cpu.ports.cpuid.has(CpuidModel::Feature::Xsavec)) raise_gp();
  if (!compacted && result.xcomp_bv != 0) raise_gp();
  const std::uint64_t allowed = compacted ? result.xcomp_bv & ~bit(63) : cpu.state.xcr0;
  if ((allowed & ~cpu.state.xcr0) != 0 || (result.xstate_bv & ~allowed) != 0) raise_gp();
  const std::size_t reserved_end = compacted ? kXsaveHeaderSize : 24;
  if (std::any_of(header + 16, header + reserved_end, [](std::byte byte) { return byte != std::byte{0}; })) raise_gp();
  return result;
}

}  // namespace

void xrstor(Cpu& cpu, LinearAddress address, std::uint64_t requested, bool rex_w) {
  check_alignment(address, 64);
  CpuState& state = cpu.state;
  const std::uint64_t components = requested & state.xcr0;
  std::array<std::byte, kXsaveSize> image{};
  cpu.mmu.read_bytes(address, std::span{image}.first(xsave_area_size(components, false)), cpu.mmu.data_view());
  const XsaveHeader header = check_header(cpu, image.data() + kFxsaveSize);

  const bool takes_mxcsr =
      header.compacted() ? (components & xcr0::kSse) != 0 : (components & (xcr0::kSse | xcr0::kAvx)) != 0;
  std::uint32_t mxcsr = load_le<std::uint32_t>(image.data() + kMxcsr);
  if (header.compacted() && (header.xstate_bv & xcr0::kSse) == 0) mxcsr = kMxcsrInit;
  if (takes_mxcsr) {
    check_mxcsr(cpu, mxcsr);
    state.fpu.mxcsr = mxcsr;
  }
  if ((components & xcr0::kX87) != 0) {
    if ((header.xstate_bv & xcr0::kX87) != 0) {
      take_x87(state.fpu, rex_w, image.data());
    } else {
      init_x87(state.fpu);
    }
  }
  if ((components & xcr0::kSse) != 0)
    take_halves(state, 0, (header.xstate_bv & xcr0::kSse) != 0 ? image.data() + kXmm : nullptr);
  if ((components & xcr0::kAvx) != 0)
    take_halves(state, 1, (header.xstate_bv & xcr0::kAvx) != 0 ? image.data() + kXsaveAvxOffset : nullptr);
}

std::uint64_t read_xcr(Cpu& cpu, std::uint32_t index) {
  if (index == 0) return cpu.state.xcr0;
  if (index != 1 || !cpu.ports.cpuid.has(CpuidModel::Feature::Xgetbv1)) raise_gp();
  return cpu.state.xcr0 & components_in_use(cpu.state);
}

// AVX is the first component after the header, so it lies at the same offset in both formats.
std::uint32_t xsave_area_size(std::uint64_t components, bool /*compacted*/) {
  return (components & xcr0::kAvx) != 0 ? kXsaveSize : kXsaveAvxOffset;
}

void load_mxcsr(Cpu& cpu, std::uint32_t value) {
  check_mxcsr(cpu, value);
  cpu.state.fpu.mxcsr = value;
}

}  // namespace doppel::x86
