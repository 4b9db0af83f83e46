#include "engine/interp/mode.h"

namespace doppel::engine::interp {

namespace {

using x86::CpuState;
using x86::Segment;
using x86::SegReg;

bool is_flat(const Segment& segment) {
  constexpr unsigned kWritableDataMask = 0xA, kWritableData = 0x2, kExpandDown = 0x4;
  return segment.base == 0 && segment.limit == 0xFFFF'FFFF && !segment.unusable() && segment.present() &&
         segment.code_or_data() && (segment.type() & (kWritableDataMask | kExpandDown)) == kWritableData;
}

std::uint32_t units(const CpuState& state) {
  constexpr std::uint64_t kAvxState = x86::xcr0::kSse | x86::xcr0::kAvx;
  const bool task_switched = (state.cr0 & x86::cr0::kTs) != 0;
  const bool emulated = (state.cr0 & x86::cr0::kEm) != 0;
  std::uint32_t key = 0;
  if (!task_switched && !emulated) {
    key |= Mode::kX87;
    if ((state.cr4 & x86::cr4::kOsfxsr) != 0) key |= Mode::kSse;
  }
  if (!task_switched && (state.cr4 & x86::cr4::kOsxsave) != 0 && (state.xcr0 & kAvxState) == kAvxState)
    key |= Mode::kAvx;
  return key;
}

}  // namespace

Mode Mode::of(const CpuState& state, bool single) {
  std::uint32_t key = units(state);
  if (single) key |= kSingle;
  if (state.cpl() == 3) key |= kUser;
  if (state.protected_mode() && !state.virtual_8086()) key |= kProtected;
  if (state.code_64()) return {key | static_cast<std::uint32_t>(isa::CodeSize::Bits64)};

  const isa::CodeSize size = state.seg(SegReg::Cs).default_32() ? isa::CodeSize::Bits32 : isa::CodeSize::Bits16;
  key |= static_cast<std::uint32_t>(size);
  if (is_flat(state.seg(SegReg::Es))) key |= kFlatEs;
  if (is_flat(state.seg(SegReg::Ss))) key |= kFlatSs;
  if (is_flat(state.seg(SegReg::Ds))) key |= kFlatDs;
  return {key};
}

}  // namespace doppel::engine::interp
