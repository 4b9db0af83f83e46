#include "x86/code_segment.h"

namespace doppel::x86 {

void check_code_offset(const CpuState& state, const Segment& code, std::uint64_t offset) {
  const bool to_64 = state.long_mode_active() && code.long_mode();
  if (to_64 ? !is_canonical(offset) : offset > code.limit) raise_gp(0);
}

void check_code_type(const CpuState& state, const Descriptor& descriptor) {
  const Segment& code = descriptor.segment;
  if (!code.is_code() || (state.long_mode_active() && code.long_mode() && code.default_32()))
    raise_gp(selector_error(code.selector));
}

void enter_code_segment(CpuState& state, const Segment& code, unsigned cpl, std::uint64_t rip) {
  Segment& cs = state.seg(SegReg::Cs);
  cs = code;
  cs.selector = static_cast<std::uint16_t>((code.selector & ~3U) | cpl);
  state.rip = rip;
}

}  // namespace doppel::x86
