#include "isa/disassembly.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

namespace doppel::isa {

DisassembledInsn disassemble_one(std::span<const std::byte> bytes, std::uint64_t address, bool code_64) {
  const ZydisMachineMode mode = code_64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32;
  ZydisDisassembledInstruction shown;
  if (!ZYAN_SUCCESS(ZydisDisassembleIntel(mode, address, bytes.data(), bytes.size(), &shown))) return {};
  return {shown.info.length, shown.text};
}

std::vector<std::string> disassemble(std::span<const std::byte> bytes, std::uint64_t address, bool code_64) {
  std::vector<std::string> lines;
  while (!bytes.empty()) {
    const DisassembledInsn insn = disassemble_one(bytes, address, code_64);
    lines.push_back(fmt::format("{:016x}  {}", address, insn.text));
    bytes = bytes.subspan(insn.length);
    address += insn.length;
  }
  return lines;
}

}  // namespace doppel::isa
