#include "fuzz_isa/compare.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>

namespace doppel::fuzz_isa {

namespace {

constexpr std::array<const char*, 16> kNames{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr std::uint64_t kUserSpace = 0x0000'7FFF'FFFF'F000;

class Difference {
 public:
  template <class T>
  void check(std::string_view name, const T& native, const T& guest) {
    if (native != guest) text_ += fmt::format("  {}: native {:x}, guest {:x}\n", name, native, guest);
  }
  template <class T>
  void check(std::string_view name, std::size_t number, const T& native, const T& guest) {
    if (native != guest) check(fmt::format("{}{}", name, number), native, guest);
  }
  void check(std::size_t number, const x86::Ymm& native, const x86::Ymm& guest) {
    if (native.qword == guest.qword) return;
    text_ += fmt::format("  ymm{}: native {:016x}, guest {:016x}\n", number, fmt::join(native.qword, " "),
                         fmt::join(guest.qword, " "));
  }
  std::string text() const { return text_; }

 private:
  std::string text_;
};

/// Linux tells programs that every kernel address is present; and a jump to a random address may find a page of the
/// judging process there, which the guest does not have.
std::uint32_t page_fault_code(const Outcome& outcome) {
  const bool unknowable = outcome.address >= kUserSpace || (outcome.error_code & x86::pf::kFetch) != 0;
  return outcome.error_code | (unknowable ? x86::pf::kPresent : 0);
}

/// A null selector loses its RPL when the host's kernel returns to the program.
std::uint16_t visible(std::uint16_t selector) {
  return selector < 4 ? 0 : selector;
}

/// A call to where no code can be, perhaps one that was strayed to in the middle of another instruction: whether its
/// push has changed memory is the processor's business.
bool pushed_in_vain(const Case& made, const Outcome& outcome) {
  return outcome.vector == x86::vector::kGp &&
         std::any_of(made.instructions.begin(), made.instructions.end(),
                     [](const Instruction& instruction) { return instruction.mnemonic == ZYDIS_MNEMONIC_CALL; });
}

/// What nobody can judge, though it was executed.
bool out_of_court(const Case& made, const Outcome& native, const Outcome& guest) {
  using namespace x86::vector;
  const auto any = [&](std::uint8_t vector) { return native.vector == vector || guest.vector == vector; };
  if (native.kind == Outcome::Kind::SystemCall) return true;
  if (native.kind == Outcome::Kind::Endless && guest.kind == Outcome::Kind::Endless) return true;
  // The native side has memory there.
  if (guest.vector == kPf && guest.address - kUpperSp < kUpperSpReach) return true;
  // The first of several accesses may be a page fault, or another one beyond the segment or the canonical addresses.
  if (made.several_accesses && native.vector != guest.vector && (any(kPf) || any(kAc))) return true;
  // A pending single step may be delivered between two elements of a gather, instead of the fault of the second.
  if (made.gathers && native.vector == kDb && guest.vector != kDb) return true;
  // Operands in parts, of 16-bit addresses: AMD's processors let each part begin anew at the start of the segment.
  if (made.wraps && (guest.vector == kGp || guest.vector == kSs) && guest.error_code == 0) return true;
  // IRET and far RET: AMD's processors want room for the words of a change of privilege, too.
  if (made.looks_far_up && native.vector == kSs) return true;
  // AMD's processors make a far call's pushes to the stack as the called code sees it, in its mode; and count what a
  // far return releases so.
  const std::uint64_t rsp = made.start.gpr[x86::kRsp];
  const bool plain_stack = made.start.ss == kUserData && rsp >> 32 == 0 && rsp >= 4096;
  const auto elsewhere = [&made](const Outcome& outcome) {
    return outcome.kind == Outcome::Kind::Exception && outcome.end.cs != made.start.cs;
  };
  const bool other_stack =
      elsewhere(native) || elsewhere(guest) || guest.vector == kSs || native.kind == Outcome::Kind::Endless;
  if ((made.far_calls || made.looks_far_up) && !plain_stack && other_stack) return true;
  // A return to other code that ends there.
  if (native.kind == Outcome::Kind::Exception && native.end.rip == kWayOut && native.end.cs != kUserCode64) return true;
  // AMD's misaligned mode, which guests do not have.
  if ((native.end.fpu.mxcsr & 0x2'0000) != 0) return true;
  // A stray jump to INT1: a hypervisor that intercepts #DB may report another RIP.
  return native.vector == kDb && guest.vector == kDb && (native.end.rflags & x86::rflags::kTf) == 0;
}

}  // namespace

std::string differences(const Case& made, const Outcome& native, const Outcome& guest) {
  if (out_of_court(made, native, guest)) return {};
  Difference difference;
  difference.check("end", static_cast<unsigned>(native.kind), static_cast<unsigned>(guest.kind));
  difference.check("vector", native.vector, guest.vector);
  if (native.vector == x86::vector::kPf && guest.vector == x86::vector::kPf) {
    if (!made.several_accesses) {
      difference.check("error code", page_fault_code(native), page_fault_code(guest));
      difference.check("cr2", native.address, guest.address);
    }
  } else {
    difference.check("error code", native.error_code, guest.error_code);
  }
  const Image &n = native.end, &g = guest.end;
  difference.check("rip", n.rip, g.rip);
  // Whether a single step between two rounds of a string instruction sets RF differs between processors.
  const std::uint64_t open = made.undefined_flags | (native.vector == x86::vector::kDb ? x86::rflags::kRf : 0);
  difference.check("rflags", n.rflags & ~open, g.rflags & ~open);
  for (std::size_t i = 0; i < n.gpr.size(); ++i) {
    // The upper half of RSP is undefined after a switch to compatibility mode.
    const bool half = i == x86::kRsp && made.start.bits64() && n.cs != kUserCode64 && n.cs != 0;
    const std::uint64_t mask = half ? 0xFFFF'FFFF : ~std::uint64_t{0};
    if (n.gpr[i] != g.gpr[i]) difference.check(kNames[i], n.gpr[i] & mask, g.gpr[i] & mask);
  }
  difference.check("cs", n.cs, g.cs);
  difference.check("ss", visible(n.ss), visible(g.ss));
  difference.check("ds", visible(n.ds), visible(g.ds));
  difference.check("es", visible(n.es), visible(g.es));
  difference.check("fs", visible(n.fs), visible(g.fs));
  difference.check("gs", visible(n.gs), visible(g.gs));
  difference.check("fs base", n.fs_base, g.fs_base);
  difference.check("gs base", n.gs_base, g.gs_base);
  for (std::size_t i = 0; i < n.ymm.size(); ++i) difference.check(i, n.ymm[i], g.ymm[i]);
  difference.check("mxcsr", n.fpu.mxcsr, g.fpu.mxcsr);
  difference.check("fcw", n.fpu.fcw, g.fpu.fcw);
  difference.check("fsw", n.fpu.fsw, g.fpu.fsw);
  difference.check("ftw", n.fpu.ftw, g.fpu.ftw);
  for (std::size_t i = 0; i < n.fpu.st.size(); ++i) {
    difference.check("st", i, n.fpu.st[i].significand, g.fpu.st[i].significand);
    difference.check("exponent of st", i, n.fpu.st[i].sign_exponent, g.fpu.st[i].sign_exponent);
  }
  if (native.memory != guest.memory && !pushed_in_vain(made, native))
    difference.check("memory", native.memory, guest.memory);
  return difference.text();
}

std::string describe(const Case& made) {
  std::string text;
  const Image& start = made.start;
  std::uint64_t at = start.rip;
  constexpr std::array kZydisModes{ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_MACHINE_MODE_LEGACY_32,
                                   ZYDIS_MACHINE_MODE_LEGACY_16};
  constexpr std::array kBits{64, 32, 16};
  const auto mode = static_cast<std::size_t>(start.mode());
  for (const Instruction& instruction : made.instructions) {
    const auto bytes = std::span(instruction.bytes).first(instruction.length);
    ZydisDisassembledInstruction shown;
    ZydisDisassembleIntel(kZydisModes[mode], at, bytes.data(), bytes.size(), &shown);
    text += fmt::format("  {:x}: {:02x}  {}\n", at, fmt::join(bytes, " "), shown.text);
    at += instruction.length;
  }
  text += fmt::format("  from: {}-bit, rflags {:x}, mxcsr {:x}, fcw {:x}, fsw {:x}, ftw {:x}\n", kBits[mode],
                      start.rflags, start.fpu.mxcsr, start.fpu.fcw, start.fpu.fsw, start.fpu.ftw);
  if (mode != 0)
    text += fmt::format("  ss {:x}, ds {:x}, es {:x}, fs {:x}, gs {:x}\n", start.ss, start.ds, start.es, start.fs,
                        start.gs);
  for (std::size_t i = 0; i < kNames.size(); ++i)
    text += fmt::format("{}{} {:x}{}", i % 8 == 0 ? "  " : " ", kNames[i], start.gpr[i], i % 8 == 7 ? "\n" : ",");
  return text;
}

}  // namespace doppel::fuzz_isa
