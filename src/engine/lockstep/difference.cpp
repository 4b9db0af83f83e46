#include "engine/lockstep/difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "state/tree.h"

namespace doppel::engine::lockstep {

namespace {

using x86::CpuState;
using x86::FpuState;
using x86::Segment;

constexpr std::array<std::string_view, 16> kNames{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                                  "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

bool same_segment(const Segment& left, const Segment& right) {
  return left.base == right.base && left.limit == right.limit && left.attributes == right.attributes &&
         left.selector == right.selector;
}

bool same_fpu(const FpuState& left, const FpuState& right) {
  const auto same_register = [](const FpuState::St& a, const FpuState::St& b) {
    return a.significand == b.significand && a.sign_exponent == b.sign_exponent;
  };
  return left.fcw == right.fcw && left.fsw == right.fsw && left.ftw == right.ftw && left.mxcsr == right.mxcsr &&
         std::equal(left.st.begin(), left.st.end(), right.st.begin(), right.st.end(), same_register);
}

void compare(const state::Node& left, const state::Node& right, const std::string& path,
             std::vector<std::string>& lines) {
  if (left.kind == state::format::Kind::Record) {
    for (std::size_t i = 0; i < std::min(left.children.size(), right.children.size()); ++i) {
      const std::string& name = left.children[i].name;
      const bool element = path.empty() || name.starts_with('[');
      compare(left.children[i], right.children[i], element ? path + name : fmt::format("{}.{}", path, name), lines);
    }
    return;
  }
  if (left.bits != right.bits) lines.push_back(fmt::format("{}: {:#x} != {:#x}", path, left.bits, right.bits));
}

/// Without what may differ, and without the general registers, which have names of their own.
state::Node comparable(CpuState state) {
  state.gpr = {};
  state.fpu.fop = 0;
  state.fpu.fip = state.fpu.fdp = 0;
  return state::make_tree([&state](state::Visitor& visitor) { state.describe(visitor); });
}

}  // namespace

bool same(const CpuState& left, const CpuState& right) {
  const auto same_bytes = [](const auto& a, const auto& b) { return std::memcmp(&a, &b, sizeof a) == 0; };
  return same_bytes(left.gpr, right.gpr) && left.rip == right.rip && left.rflags() == right.rflags() &&
         same_bytes(left.ymm, right.ymm) && same_fpu(left.fpu, right.fpu) &&
         std::equal(left.segment.begin(), left.segment.end(), right.segment.begin(), right.segment.end(),
                    same_segment) &&
         left.cr0 == right.cr0 && left.cr2 == right.cr2 && left.cr3 == right.cr3 && left.cr4 == right.cr4 &&
         left.efer == right.efer && left.xcr0 == right.xcr0 && left.dr6 == right.dr6 && left.dr7 == right.dr7 &&
         left.activity == right.activity && left.sti_shadow == right.sti_shadow && left.ss_shadow == right.ss_shadow &&
         left.nmi_blocked == right.nmi_blocked && left.nmi_pending == right.nmi_pending &&
         left.pending_debug == right.pending_debug && left.ferr == right.ferr;
}

std::vector<std::string> differences(const CpuState& left, const CpuState& right) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (left.gpr[i] != right.gpr[i])
      lines.push_back(fmt::format("{}: {:#x} != {:#x}", kNames[i], left.gpr[i], right.gpr[i]));
  }
  compare(comparable(left), comparable(right), "", lines);
  return lines;
}

}  // namespace doppel::engine::lockstep
