#include "debug/monitor.h"

#include <fmt/format.h>

#include <array>

namespace doppel::debug {
namespace {

using x86::CpuState;

std::string_view activity_name(x86::Activity activity) {
  switch (activity) {
    case x86::Activity::Running:
      return "running";
    case x86::Activity::Halted:
      return "halted";
    case x86::Activity::WaitForSipi:
      return "waiting for SIPI";
    case x86::Activity::Shutdown:
      return "shut down";
  }
  return "unknown";
}

std::string_view mode_name(const CpuState& state) {
  if (!state.protected_mode()) return "real mode";
  if (state.virtual_8086()) return "virtual-8086 mode";
  if (state.code_64()) return "64-bit mode";
  if (state.long_mode_active()) return "compatibility mode";
  return state.seg(x86::SegReg::Cs).default_32() ? "32-bit protected mode" : "16-bit protected mode";
}

constexpr std::array kGprNames = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                  "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
constexpr std::array kSegmentNames = {"ES ", "CS ", "SS ", "DS ", "FS ", "GS "};

std::string segment_line(std::string_view name, const x86::Segment& segment) {
  return fmt::format("{} {:04x} base {:016x} limit {:08x} attributes {:05x}\n", name, segment.selector, segment.base,
                     segment.limit, segment.attributes);
}

std::string table_line(std::string_view name, const x86::TableRegister& table) {
  return fmt::format("{}     base {:016x} limit {:04x}\n", name, table.base, table.limit);
}

std::string register_dump(const CpuState& state) {
  std::string text;
  for (std::size_t i = 0; i < kGprNames.size(); ++i)
    text += fmt::format("{} {:016x}{}", kGprNames[i], state.gpr[i], i % 4 == 3 ? '\n' : ' ');
  text += fmt::format("RIP {:016x} RFLAGS {:08x}\n", state.rip, state.rflags());
  for (std::size_t i = 0; i < kSegmentNames.size(); ++i) text += segment_line(kSegmentNames[i], state.segment[i]);
  text += segment_line("LDT", state.ldtr) + segment_line("TR ", state.tr);
  text += table_line("GDT", state.gdtr) + table_line("IDT", state.idtr);
  text += fmt::format("CR0 {:08x} CR2 {:016x} CR3 {:016x} CR4 {:08x}\n", state.cr0, state.cr2, state.cr3, state.cr4);
  text += fmt::format("DR0 {:016x} DR1 {:016x} DR2 {:016x} DR3 {:016x}\n", state.dr[0], state.dr[1], state.dr[2],
                      state.dr[3]);
  text += fmt::format("DR6 {:08x} DR7 {:08x} EFER {:08x} XCR0 {:08x}\n", state.dr6, state.dr7, state.efer, state.xcr0);
  return text;
}

struct Command {
  std::string_view name;
  std::string_view help;
  MonitorReply (*run)(DebugTarget& target, unsigned vcpu);
};

MonitorReply help(DebugTarget&, unsigned);

MonitorReply info_registers(DebugTarget& target, unsigned vcpu) {
  return {describe_vcpu(target, vcpu) + "\n" + register_dump(target.registers(vcpu))};
}

MonitorReply info_cpus(DebugTarget& target, unsigned vcpu) {
  std::string text;
  for (unsigned i = 0; i < target.vcpu_count(); ++i)
    text +=
        fmt::format("{} {}, RIP {:016x}\n", i == vcpu ? '*' : ' ', describe_vcpu(target, i), target.registers(i).rip);
  return {text};
}

MonitorReply reset(DebugTarget& target, unsigned) {
  target.reset();
  return {"The machine starts again when it is continued.\n"};
}

MonitorReply quit(DebugTarget&, unsigned) {
  return {"The machine ends.\n", true};
}

constexpr Command kCommands[] = {
    {"help", "this list", help},
    {"info registers", "all registers of the current processor", info_registers},
    {"info cpus", "what each processor is doing", info_cpus},
    {"reset", "press the reset button", reset},
    {"quit", "end the machine", quit},
};

MonitorReply help(DebugTarget&, unsigned) {
  std::string text;
  for (const Command& command : kCommands) text += fmt::format("{:<16}{}\n", command.name, command.help);
  return {text};
}

}  // namespace

std::string describe_vcpu(DebugTarget& target, unsigned vcpu) {
  const CpuState state = target.registers(vcpu);
  return fmt::format("CPU {}, {}, {}, CPL {}", vcpu, activity_name(state.activity), mode_name(state), state.cpl());
}

MonitorReply run_monitor_command(DebugTarget& target, unsigned vcpu, std::string_view command) {
  for (const Command& known : kCommands) {
    if (command == known.name) return known.run(target, vcpu);
  }
  return {"There is no such command; `monitor help` lists them.\n"};
}

}  // namespace doppel::debug
